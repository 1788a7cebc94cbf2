//! The report of several runs, or of a study.

use std::path::PathBuf;

use maud::{Markup, html};

use super::dots::{Row, dots};
use super::files::{TaskSource, task_source};
use super::groups::{Group, seed_name, winner};
use super::load::Run;
use super::numbers::{count, duration, of, percent, spread};
use super::page::{Section, Tile, page};
use super::statistics::{mean, wilson};
use super::verdict::{explanation, judge, list, summary};
use super::{clusters, confusion, curves, files, headline, tables};

/// What is compared.
pub struct Comparison {
    pub groups: Vec<Group>,
    /// Of a study: its protocol, if it says one, and its time.
    pub study: Option<(Option<String>, Option<f64>)>,
    /// Something to say first, such as that a study is not finished.
    pub notes: Vec<String>,
}

impl Comparison {
    pub fn render(&self) -> String {
        let groups = &self.groups;
        let (judged, best) = (judge(groups), winner(groups));
        let conclusion = summary(groups, &judged);
        let shown = best.and_then(|b| groups[b].runs.iter().find(|r| r.predictions.is_some()));
        let shown = shown.or_else(|| groups.iter().flat_map(|g| &g.runs).find(|r| r.predictions.is_some()));
        let shown = shown.or_else(|| groups.iter().flat_map(|g| &g.runs).next());
        let notes: Vec<String> = self.notes.iter().cloned().chain(differences(groups)).collect();
        let head = html! {
            @if let Some(b) = best { p.lead { (best_sentence(&groups[b])) } }
            @else { p.lead { "No run has a validation accuracy, so no method is named the best." } }
            p { (conclusion) }
            @if let Some(run) = shown { p { (headline::data(run)) } }
            @for note in &notes { p.note { (note) } }
        };
        let mut sections = vec![Section::new("methods", "Methods", self.methods(&judged, best, &conclusion))];
        if self.study.is_some() {
            sections.push(Section::new("protocol", "Protocol and tuning", self.protocol()));
        }
        sections.push(Section::new("curves", "Learning curves", curves::of_groups(groups)));
        if let Some(run) = shown {
            let of = format!("{}, {}", run_label(groups, run), seed_name(run));
            let data = files::dataset(run);
            let body = html! { p.muted { "Shown for " (of) "." } (confusion::section(run, &data)) };
            sections.push(Section::new("confusion", "What it confuses", body));
        }
        sections.push(Section::new("clusters", "Auxiliary tasks", self.clusters()));
        sections.push(Section::new("settings", "Settings and environment", self.settings()));
        page(&self.title(), head, &self.tiles(best), &sections)
    }

    fn title(&self) -> String {
        let mut names: Vec<String> = self.runs().filter_map(headline::data_name).collect();
        names.sort();
        names.dedup();
        let methods = of(self.groups.len(), "method");
        match &names[..] {
            [] => format!("Comparison of {methods}"),
            names => format!("{methods} on {}", list(names)),
        }
    }

    fn runs(&self) -> impl Iterator<Item = &Run> {
        self.groups.iter().flat_map(|g| &g.runs)
    }

    fn tiles(&self, best: Option<usize>) -> Vec<Tile> {
        let mut tiles = Vec::new();
        if let Some(group) = best.map(|b| &self.groups[b])
            && let Some(accuracy) = mean(&group.test())
        {
            tiles.push(Tile {
                name: "test, best on validation",
                value: percent(accuracy),
                detail: group.label.clone(),
            });
        }
        let baseline = self.groups.iter().find(|g| g.is_baseline());
        if let Some((group, accuracy)) = baseline.and_then(|g| Some((g, mean(&g.test())?))) {
            tiles.push(Tile {
                name: "test, single task",
                value: percent(accuracy),
                detail: group.label.clone(),
            });
        }
        if let Some(labelled) = self.runs().find_map(|r| r.about_number("/split/labelled")) {
            let all = self.runs().find_map(|r| r.about_number("/data/train"));
            let detail = all.map_or(String::new(), |n| format!("of {} images", count(n)));
            tiles.push(Tile { name: "labels", value: count(labelled), detail });
        }
        let total = || {
            Some(self.runs().filter_map(|r| r.outcome.as_ref()?.seconds).sum::<f64>()).filter(|&s| s > 0.0)
        };
        if let Some(seconds) = self.study.as_ref().and_then(|s| s.1).or_else(total) {
            let detail = of(self.runs().count(), "run");
            tiles.push(Tile { name: "time", value: duration(seconds), detail });
        }
        tiles
    }

    fn methods(&self, judged: &[super::verdict::Judged], best: Option<usize>, conclusion: &str) -> Markup {
        let colours = curves::colours(&self.groups);
        let rows: Vec<Row> = self
            .groups
            .iter()
            .zip(colours)
            .map(|(g, colour)| Row { name: g.label.clone(), colour, shares: g.named_test() })
            .collect();
        html! {
            (tables::methods(&self.groups, judged, best))
            p { strong { (conclusion) } }
            @if !judged.is_empty() { p.muted { (explanation(judged)) } }
            @if self.groups.iter().any(|g| g.label.contains('†') || g.runs.iter().any(Run::unlabelled)) {
                p.muted { "† auxiliary batches come from all training images, also those without labels." }
            }
            @if let Some(chart) = dots("Test accuracy.", &rows) { (chart) }
            @if !judged.is_empty() { (tables::seeds(&self.groups, judged)) }
            (tables::runs(&self.groups))
        }
    }

    fn protocol(&self) -> Markup {
        let words = match self.study.as_ref().and_then(|s| s.0.as_deref()) {
            Some("paper") => {
                "Protocol paper: all methods share one small learning rate and the constants of the paper; \
                 nothing is tuned. It shows the methods as they were published, and is unfair to those that \
                 would gain from a larger rate."
            }
            Some("tuned") => {
                "Protocol tuned: the rates of each method were chosen by accuracy on the validation images, \
                 with equal numbers of trials; test images were looked at once, at the end."
            }
            Some(_) => "The study names a protocol that this version does not know.",
            None => "The study does not name its protocol.",
        };
        html! { p { (words) } (tables::trials(&self.groups)) }
    }

    /// The tasks of each source, once; of a method with partitions for each seed, those of its first run.
    fn clusters(&self) -> Markup {
        let mut sources: Vec<(String, &Run)> = Vec::new();
        for run in self.groups.iter().filter_map(|g| g.runs.first()) {
            let name = match task_source(run) {
                TaskSource::None => continue,
                TaskSource::Random(text) => text,
                TaskSource::File(path) => path.display().to_string(),
            };
            if sources.iter().all(|(n, _)| *n != name) {
                sources.push((name, run));
            }
        }
        html! {
            @if sources.is_empty() { p { "No run here has auxiliary tasks." } }
            @for (name, run) in &sources {
                @if sources.len() > 1 { p { strong { (name) } } }
                (clusters::section(run, &files::dataset(run)))
            }
        }
    }

    fn settings(&self) -> Markup {
        let commands: Vec<(PathBuf, String)> =
            self.runs().filter_map(|r| Some((r.folder.clone(), tables::command(r)?))).collect();
        let mut distinct: Vec<&str> = commands.iter().map(|(_, c)| c.as_str()).collect();
        distinct.dedup();
        html! {
            (tables::settings(&self.groups))
            @if distinct.is_empty() { p.note { "The command lines were not stored." } }
            @else if distinct.len() == 1 {
                p { "This command repeats everything:" }
                pre { code { (distinct[0]) } }
            } @else {
                details {
                    summary { "Command lines" }
                    @for (folder, command) in &commands {
                        p.muted { (folder.display()) }
                        pre { code { (command) } }
                    }
                }
            }
            @if let Some(run) = self.runs().next() {
                details { summary { "Environment of the first run" } (tables::environment(run)) }
            }
        }
    }
}

fn run_label(groups: &[Group], run: &Run) -> String {
    let group = groups.iter().find(|g| g.runs.iter().any(|r| std::ptr::eq(r, run)));
    group.map_or_else(|| run.label(), |g| g.label.clone())
}

fn best_sentence(group: &Group) -> String {
    let images = group.runs.iter().find_map(|r| r.test()?.1);
    let test = match (mean(&group.test()), images) {
        (Some(accuracy), Some(n)) => {
            let (low, high) = wilson(accuracy * n, n);
            format!(
                "it classifies {} of {} test images correctly ({}; 95\u{a0}% interval for these images alone {} to {})",
                spread(&group.test()),
                count(n as u64),
                of(group.test().len(), "seed"),
                percent(low),
                percent(high)
            )
        }
        (Some(_), None) => format!("it classifies {} of the test images correctly", spread(&group.test())),
        (None, _) => "there is no test result".into(),
    };
    format!("{} does best on validation images ({}); {test}.", group.label, spread(&group.validation()))
}

/// Notes on runs that are not of one experiment.
fn differences(groups: &[Group]) -> Vec<String> {
    let runs: Vec<&Run> = groups.iter().flat_map(|g| &g.runs).collect();
    let check = |what: &str, value: &dyn Fn(&Run) -> Option<String>| {
        let mut found: Vec<String> = runs.iter().filter_map(|r| value(r)).collect();
        found.sort();
        found.dedup();
        (found.len() > 1).then(|| {
            format!("The runs differ in {what} ({}), so they are not strictly comparable.", found.join(", "))
        })
    };
    let number = |pointer: &'static str| move |r: &Run| r.about_number(pointer).map(count);
    [
        check("their data sets", &|r| {
            r.about_text("/data/fingerprint").map(|f| f.chars().take(12).collect())
        }),
        check("their numbers of labels", &number("/split/labelled")),
        check("their numbers of validation images", &number("/split/validation")),
    ]
    .into_iter()
    .flatten()
    .collect()
}
