//! Runs of one method, and methods against each other.

use std::path::Path;

use serde_json::{Map, Value};

use super::load::Run;
use super::statistics::{self, Paired, mean};
use super::study::{Study, Trial};
use crate::error::Result;

/// Runs that differ by their seed only.
#[derive(Default)]
pub struct Group {
    pub label: String,
    pub method: Option<String>,
    pub protocol: Option<String>,
    pub runs: Vec<Run>,
    /// Runs that a study names but that are not there.
    pub missing: Vec<String>,
    pub trials: Vec<Trial>,
    pub chosen: Option<Map<String, Value>>,
}

impl Group {
    /// Single-task training, which the others are measured by.
    pub fn is_baseline(&self) -> bool {
        self.method.as_deref() == Some("stl")
    }

    pub fn validation(&self) -> Vec<f64> {
        self.runs.iter().filter_map(Run::validation).collect()
    }

    pub fn test(&self) -> Vec<f64> {
        self.runs.iter().filter_map(|r| Some(r.test()?.0)).collect()
    }

    /// Test accuracies with the names of their runs.
    pub fn named_test(&self) -> Vec<(String, f64)> {
        self.runs.iter().filter_map(|r| Some((seed_name(r), r.test()?.0))).collect()
    }

    pub fn seconds(&self) -> Option<f64> {
        mean(&self.runs.iter().filter_map(|r| r.outcome.as_ref()?.seconds).collect::<Vec<_>>())
    }

    pub fn images_per_s(&self) -> Option<f64> {
        mean(&self.runs.iter().filter_map(|r| r.outcome.as_ref()?.images_per_s).collect::<Vec<_>>())
    }

    pub fn unfinished(&self) -> usize {
        self.runs.iter().filter(|r| r.outcome.is_none()).count()
    }
}

pub fn seed_name(run: &Run) -> String {
    run.seed().map_or_else(|| run.name(), |s| format!("seed {s}"))
}

/// Keys in which runs of one method may differ. Partitions may be made anew for each seed.
const FREE: [&str; 4] = ["seed", "split-seed", "data", "tasks"];

/// The settings that make a run belong to its group.
fn fixed(run: &Run) -> toml::Table {
    let mut table = run.config.clone();
    let random = table.get("tasks").and_then(toml::Value::as_str).is_some_and(|t| t.starts_with("random"));
    table.retain(|key, _| !FREE.contains(&key) || (key == "tasks" && random));
    table
}

/// Puts runs of one method and equal settings together, in the order of their first run. Methods of equal
/// names get what they differ by appended.
pub fn by_method(runs: Vec<Run>) -> Vec<Group> {
    let mut groups: Vec<(toml::Table, Group)> = Vec::new();
    for run in runs {
        let (label, settings) = (run.label(), fixed(&run));
        match groups.iter_mut().find(|(s, g)| g.label == label && *s == settings) {
            Some((_, group)) => group.runs.push(run),
            None => {
                let (method, protocol) = (run.method(), run.protocol());
                groups
                    .push((settings, Group { label, method, protocol, runs: vec![run], ..Group::default() }));
            }
        }
    }
    let labels: Vec<String> = (0..groups.len())
        .map(|i| {
            let (settings, group) = &groups[i];
            let namesakes: Vec<&toml::Table> = groups
                .iter()
                .filter(|(s, g)| g.label == group.label && s != settings)
                .map(|g| &g.0)
                .collect();
            let differs = |key: &str| namesakes.iter().any(|s| s.get(key) != settings.get(key));
            let parts: Vec<String> =
                settings.iter().filter(|(k, _)| differs(k)).map(|(k, v)| format!("{k} {v}")).collect();
            if parts.is_empty() {
                group.label.clone()
            } else {
                format!("{} ({})", group.label, parts.join(", "))
            }
        })
        .collect();
    groups.into_iter().zip(labels).map(|((_, group), label)| Group { label, ..group }).collect()
}

/// The methods of a study with the runs that are there.
pub fn of_study(folder: &Path, study: &Study) -> Result<Vec<Group>> {
    let group = |m: &super::study::StudyMethod| {
        let mut group = Group {
            label: m.label.clone().or_else(|| m.method.clone()).unwrap_or_else(|| "unnamed".into()),
            method: m.method.clone(),
            protocol: study.protocol.clone(),
            trials: m.trials.clone(),
            chosen: m.chosen.clone(),
            ..Group::default()
        };
        for name in &m.runs {
            let path = folder.join(name);
            if path.is_dir() { group.runs.push(Run::open(&path)?) } else { group.missing.push(name.clone()) }
        }
        Ok(group)
    };
    study.methods.iter().map(group).collect()
}

/// The group of the best mean validation accuracy, the first among equals.
pub fn winner(groups: &[Group]) -> Option<usize> {
    let scores: Vec<Option<f64>> = groups.iter().map(|g| mean(&g.validation())).collect();
    (0..groups.len())
        .filter(|&i| scores[i].is_some())
        .reduce(|best, i| if scores[i] > scores[best] { i } else { best })
}

/// The single-task group that a group is measured by: of its own protocol, if there is one.
pub fn baseline_of(groups: &[Group], group: &Group) -> Option<usize> {
    let all: Vec<usize> = (0..groups.len()).filter(|&i| groups[i].is_baseline()).collect();
    let own = all.iter().copied().find(|&i| groups[i].protocol == group.protocol);
    own.or(all.first().copied())
}

/// A method against the baseline.
#[derive(Clone, Debug)]
pub struct Versus {
    /// Difference of mean test accuracies: over seeds that both have, else over all.
    pub difference: Option<f64>,
    /// Seeds that both have.
    pub seeds: usize,
    /// Over those seeds, at least two.
    pub paired: Option<Paired>,
    pub images: Vec<Discordant>,
}

/// Test images on which two runs of one seed disagree.
#[derive(Clone, Debug)]
pub struct Discordant {
    pub seed: u64,
    /// Right in the method's run only.
    pub gained: u64,
    /// Right in the baseline's run only.
    pub lost: u64,
    /// McNemar's test.
    pub p: f64,
}

pub fn versus(group: &Group, baseline: &Group) -> Versus {
    let mut seeds: Vec<u64> = Vec::new();
    let (mut differences, mut images) = (Vec::new(), Vec::new());
    for run in &group.runs {
        let Some(seed) = run.seed().filter(|s| !seeds.contains(s)) else { continue };
        let Some(other) = baseline.runs.iter().find(|r| r.seed() == Some(seed)) else { continue };
        if let (Some(a), Some(b)) = (run.test(), other.test()) {
            seeds.push(seed);
            differences.push(a.0 - b.0);
            images.extend(discordant(seed, run, other));
        }
    }
    let overall = || Some(mean(&group.test())? - mean(&baseline.test())?);
    Versus {
        difference: mean(&differences).or_else(overall),
        seeds: seeds.len(),
        paired: statistics::paired(&differences),
        images,
    }
}

/// `None` if a run has no predictions, or they are not of the same images.
fn discordant(seed: u64, run: &Run, other: &Run) -> Option<Discordant> {
    let (a, b) = (run.predictions.as_ref()?, other.predictions.as_ref()?);
    if a.labels != b.labels {
        return None;
    }
    let (mut gained, mut lost) = (0, 0);
    for ((label, a), b) in a.labels.iter().zip(&a.predicted).zip(&b.predicted) {
        match (a == label, b == label) {
            (true, false) => gained += 1,
            (false, true) => lost += 1,
            _ => {}
        }
    }
    Some(Discordant { seed, gained, lost, p: statistics::mcnemar(gained, lost) })
}

#[cfg(test)]
mod tests {
    use super::super::load::{Outcome, Predictions};
    use super::*;

    fn run(label: &str, seed: u64, predicted: &[u32], config: &str) -> Run {
        let outcome = Outcome { label: Some(label.into()), seed: Some(seed), ..Outcome::default() };
        let labels = vec![1; predicted.len()];
        let confidence = vec![1.0; predicted.len()];
        Run {
            folder: format!("{label}-{seed}").into(),
            config: config.parse().unwrap(),
            environment: Value::Null,
            log: Default::default(),
            outcome: Some(outcome),
            predictions: Some(Predictions {
                classes: Vec::new(),
                labels,
                predicted: predicted.to_vec(),
                confidence,
                width: 2,
            }),
        }
    }

    #[test]
    fn runs_are_paired_by_seed() {
        let group = |runs| Group { runs, ..Group::default() };
        let stl = group(vec![run("stl", 1, &[1, 1, 0, 0], ""), run("stl", 2, &[1, 0, 0, 0], "")]);
        let mtl = group(vec![run("mtl", 2, &[0, 1, 1, 1], ""), run("mtl", 9, &[1, 1, 1, 1], "")]);
        let found = versus(&mtl, &stl);
        assert_eq!((found.seeds, found.difference, found.paired), (1, Some(0.5), None));
        let d = &found.images[0];
        assert_eq!((found.images.len(), d.seed, d.gained, d.lost, d.p), (1, 2, 3, 1, 0.375));
        let other = group(vec![run("mtl", 9, &[1, 1, 1, 1], "")]);
        assert_eq!((versus(&other, &stl).seeds, versus(&other, &stl).difference), (0, Some(0.625)));
        let shorter = group(vec![run("mtl", 1, &[1, 1], "")]);
        assert!(versus(&shorter, &stl).images.is_empty(), "other images");
    }

    #[test]
    fn seeds_go_together_and_settings_apart() {
        let runs = vec![
            run("a", 1, &[1], "seed = 1\nrate = 0.1\ntasks = \"one\""),
            run("a", 1, &[1], "seed = 1\nrate = 0.3\ntasks = \"one\""),
            run("a", 2, &[1], "seed = 2\nrate = 0.1\ntasks = \"two\""),
            run("b", 1, &[1], "seed = 1\nrate = 0.1"),
        ];
        let groups = by_method(runs);
        let labels: Vec<&str> = groups.iter().map(|g| g.label.as_str()).collect();
        assert_eq!(labels, ["a (rate 0.1)", "a (rate 0.3)", "b"]);
        assert_eq!(groups[0].runs.len(), 2);
    }

    #[test]
    fn the_winner_has_the_best_mean_validation() {
        let with = |scores: &[f64]| {
            let mut group = Group::default();
            for &score in scores {
                let mut run = run("a", 1, &[1], "");
                run.outcome = Some(Outcome { validation_accuracy: Some(score), ..Outcome::default() });
                group.runs.push(run);
            }
            group
        };
        assert_eq!(winner(&[with(&[0.9, 0.5]), with(&[0.8]), with(&[0.8]), with(&[])]), Some(1));
        assert_eq!(winner(&[with(&[])]), None);
    }
}
