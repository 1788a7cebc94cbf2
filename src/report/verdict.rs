//! Whether the auxiliary methods beat single-task training, in words that follow from the numbers.

use super::groups::{Group, Versus, baseline_of, versus};
use super::numbers::{of, p_value, points};
use super::statistics::holm;

/// Adjusted p below which a difference counts as more than noise.
pub const LEVEL: f64 = 0.05;

/// Seeds that both methods need for a judgement.
pub const SEEDS: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    Better,
    Worse,
    /// No difference beyond the noise.
    Level,
    /// Too few seeds to tell.
    Open,
}

/// A method measured by the baseline.
pub struct Judged {
    /// Number of its group.
    pub group: usize,
    pub versus: Versus,
    /// p of the paired test, adjusted for the number of methods tested.
    pub adjusted: Option<f64>,
    pub standing: Standing,
}

/// Judges every method but the baseline.
pub fn judge(groups: &[Group]) -> Vec<Judged> {
    let mut all: Vec<Judged> = (0..groups.len())
        .filter(|&i| !groups[i].is_baseline())
        .filter_map(|group| {
            let baseline = baseline_of(groups, &groups[group])?;
            let versus = versus(&groups[group], &groups[baseline]);
            Some(Judged { group, versus, adjusted: None, standing: Standing::Open })
        })
        .collect();
    let tested: Vec<usize> =
        (0..all.len()).filter(|&i| all[i].versus.seeds >= SEEDS && all[i].versus.paired.is_some()).collect();
    let p: Vec<f64> = tested.iter().filter_map(|&i| Some(all[i].versus.paired?.p)).collect();
    for (&i, adjusted) in tested.iter().zip(holm(&p)) {
        let up = all[i].versus.difference.is_some_and(|d| d > 0.0);
        all[i].adjusted = Some(adjusted);
        all[i].standing = match (adjusted < LEVEL, up) {
            (true, true) => Standing::Better,
            (true, false) => Standing::Worse,
            (false, _) => Standing::Level,
        };
    }
    all
}

/// The answer in one or two sentences.
pub fn summary(groups: &[Group], judged: &[Judged]) -> String {
    if judged.is_empty() {
        return if groups.iter().any(Group::is_baseline) {
            "All runs here are single-task training, so there is no auxiliary method to judge.".into()
        } else {
            "No run of single-task training (stl) is here to measure the methods by.".into()
        };
    }
    let with = |standing: Standing| -> Vec<String> {
        let chosen = judged.iter().filter(|j| j.standing == standing);
        chosen.map(|j| format!("{} ({} points)", groups[j.group].label, difference(j))).collect()
    };
    let (better, worse) = (with(Standing::Better), with(Standing::Worse));
    let (level, open) = (with(Standing::Level), with(Standing::Open));
    if open.len() == judged.len() {
        return format!(
            "There are too few seeds to tell whether an auxiliary method beats single-task training: \
             a judgement takes at least {SEEDS} seeds that both have."
        );
    }
    let mut sentences = vec![match better.len() {
        0 => "No auxiliary method beats single-task training beyond the noise of the seeds.".to_string(),
        1 => format!("Beyond the noise of the seeds, {} beats single-task training.", better[0]),
        _ => format!("Beyond the noise of the seeds, {} beat single-task training.", list(&better)),
    }];
    let more = [
        (&level, "does not differ from it beyond the noise", "do not differ from it beyond the noise"),
        (&worse, "falls behind it", "fall behind it"),
        (&open, "has too few seeds to tell", "have too few seeds to tell"),
    ];
    for (names, one, many) in more.into_iter().filter(|(names, ..)| !names.is_empty()) {
        sentences.push(format!("{} {}.", list(names), if names.len() == 1 { one } else { many }));
    }
    sentences.join(" ")
}

fn difference(judged: &Judged) -> String {
    judged.versus.difference.map_or("unknown".into(), points)
}

/// `a`, `a and b`, `a, b and c`; semicolons where a name has a comma.
pub fn list(names: &[String]) -> String {
    let comma = if names.iter().any(|n| n.contains(',')) { "; " } else { ", " };
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(comma)),
    }
}

/// One method's difference to the baseline in a table cell: points, interval, p.
pub fn cell(judged: &Judged) -> (String, String) {
    let versus = &judged.versus;
    let detail = match (versus.paired, versus.seeds) {
        (Some(t), seeds) => format!(
            "95\u{a0}% {} to {}; {} over {}",
            points(t.interval.0),
            points(t.interval.1),
            p_value(t.p),
            of(seeds, "seed")
        ),
        (None, 0) => "no seed in common".into(),
        (None, _) => "one seed in common".into(),
    };
    (difference(judged), detail)
}

/// How the judgement is made.
pub fn explanation(judged: &[Judged]) -> String {
    let tested = judged.iter().filter(|j| j.adjusted.is_some()).count();
    let adjusted = match tested {
        0 | 1 => String::new(),
        n => format!(", with p values adjusted for {n} methods (Holm)"),
    };
    format!(
        "The difference is that of test accuracies in percentage points, paired over the seeds that a method \
         shares with single-task training. It counts as more than noise if a two-sided paired t test over at \
         least {SEEDS} seeds has p below {LEVEL}{adjusted}. McNemar's test, below, asks another question: whether \
         two trained models differ on these test images, whatever another seed would have given."
    )
}

#[cfg(test)]
mod tests {
    use super::super::load::{Outcome, Run};
    use super::*;

    fn run(seed: u64, test: f64) -> Run {
        let outcome = Outcome { seed: Some(seed), test_accuracy: Some(test), ..Outcome::default() };
        Run {
            folder: Default::default(),
            config: Default::default(),
            environment: Default::default(),
            log: Default::default(),
            outcome: Some(outcome),
            predictions: None,
        }
    }

    fn group(label: &str, tests: &[f64]) -> Group {
        let runs = tests.iter().zip(1..).map(|(&t, seed)| run(seed, t)).collect();
        Group { label: label.into(), method: Some(label.into()), runs, ..Group::default() }
    }

    fn words(groups: &[Group]) -> String {
        summary(groups, &judge(groups))
    }

    const STL: [f64; 4] = [0.80, 0.82, 0.81, 0.79];

    #[test]
    fn better_worse_and_level_are_told_apart() {
        let groups = [
            group("stl", &STL),
            group("up", &[0.90, 0.921, 0.911, 0.889]),
            group("down", &[0.70, 0.721, 0.709, 0.69]),
            group("same", &[0.81, 0.80, 0.82, 0.79]),
            group("short", &[0.95]),
        ];
        let standings: Vec<Standing> = judge(&groups).iter().map(|j| j.standing).collect();
        assert_eq!(standings, [Standing::Better, Standing::Worse, Standing::Level, Standing::Open]);
        assert_eq!(
            words(&groups),
            "Beyond the noise of the seeds, up (+10.0 points) beats single-task training. same (0.0 points) does \
             not differ from it beyond the noise. down (−10.0 points) falls behind it. short (+15.0 points) has too \
             few seeds to tell."
        );
        assert!(words(&groups[2..4]).starts_with("No run of single-task training"));
        assert!(words(&groups[..1]).starts_with("All runs here are single-task"));
        let few = [group("stl", &STL[..2]), group("up", &[0.9, 0.92])];
        assert!(words(&few).starts_with("There are too few seeds"));
        assert!(words(&[group("stl", &STL), group("same", &STL)]).starts_with("No auxiliary method beats"));
    }

    /// p = 0.029 for one method alone, by scipy; five like it are five chances.
    #[test]
    fn many_methods_need_stronger_evidence() {
        let gains = [0.01, 0.02, 0.012, 0.03];
        let up: Vec<f64> = STL.iter().zip(gains).map(|(s, g)| s + g).collect();
        let with = |n: usize| -> Vec<Group> {
            let others = (0..n).map(|i| group(&format!("m{i}"), &up));
            std::iter::once(group("stl", &STL)).chain(others).collect()
        };
        assert_eq!(judge(&with(1))[0].standing, Standing::Better);
        assert!(judge(&with(5)).iter().all(|j| j.standing == Standing::Level));
    }
}
