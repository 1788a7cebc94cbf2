//! Several methods on the same images, compared fairly: each chooses its settings in the same number of
//! trials on validation images (protocol `tuned`), or all take one small learning rate (protocol `paper`);
//! then each trains from several seeds and is looked at on the test images once.
//!
//! Every trial and run is a run folder of its own; what is finished is not done again, so a study that was
//! interrupted goes on when it is started again.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;
use serde_json::{Value, json};

use super::folder::{self, RunFolder};
use super::recipe::{self, Recipe};
use super::settings::{Config, Settings};
use super::trainer::{Outcome, Status, Trainer};
use crate::device::{self, Choice};
use crate::error::{Error, Result};
use crate::meta::Rule;
use crate::methods::{Method, Schedule};
use crate::tensor::write_atomically;

/// Name of the summary in the study's folder.
pub const FILE: &str = "study.json";

/// One method of a study, as `METHOD[:VARIANT][+][=TASKS]`: the variant is a rule of meta-mtl, a schedule of
/// mtl, or operators of pta and the number of its decoders, such as `f4`; `+` takes auxiliary batches from
/// images without labels (†), `TASKS` is a file or `random:T:K`.
#[derive(Clone, PartialEq, Debug)]
pub struct Entrant {
    pub method: String,
    /// What the variant says.
    pub variant: Settings,
    pub unlabelled: bool,
    pub tasks: Option<String>,
}

impl FromStr for Entrant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, tasks) = match text.split_once('=') {
            Some((rest, tasks)) if !tasks.is_empty() => (rest, Some(tasks.to_string())),
            Some(_) => return Err(format!("'{text}' has no tasks behind its '='")),
            None => (text, None),
        };
        let (rest, unlabelled) = rest.strip_suffix('+').map_or((rest, false), |rest| (rest, true));
        let (name, variant) = match rest.split_once(':') {
            Some((name, variant)) => (name, Some(variant)),
            None => (rest, None),
        };
        let method = Method::named(name).map_err(|e| e.to_string())?;
        let variant = variant.map_or(Ok(Settings::default()), |v| variant_of(method, v))?;
        Ok(Entrant { method: name.into(), variant, unlabelled, tasks })
    }
}

/// The settings that a variant of a method stands for.
fn variant_of(method: &Method, text: &str) -> Result<Settings, String> {
    if method.uses_rule {
        Rule::named(text).map_err(|e| e.to_string())?;
        return Ok(Settings { rule: Some(text.to_string()), ..Settings::default() });
    }
    if method.pseudo_tasks {
        let letters = text.trim_end_matches(|c: char| c.is_ascii_digit());
        let (operators, count) = (letters.parse()?, &text[letters.len()..]);
        let wrong = |_| format!("'{count}' in '{text}' is no number of decoders");
        let pseudo_tasks = (!count.is_empty()).then(|| count.parse().map_err(wrong)).transpose()?;
        return Ok(Settings { operators: Some(operators), pseudo_tasks, ..Settings::default() });
    }
    if method.name == "mtl" {
        let schedule = <Schedule as clap::ValueEnum>::from_str(text, false)
            .map_err(|_| format!("'{text}' is no schedule of mtl; known: joint, alternate"))?;
        return Ok(Settings { schedule: Some(schedule), ..Settings::default() });
    }
    Err(format!("{} has no variants, got '{text}'", method.name))
}

/// What is to be compared.
pub struct Request {
    pub folder: PathBuf,
    pub protocol: Recipe,
    pub entrants: Vec<Entrant>,
    pub seeds: Vec<u64>,
    /// Settings that all methods share: data, labels, validation, …
    pub common: Settings,
    /// Auxiliary tasks of entrants that name none, for labelled and for unlabelled batches; `{seed}` in a
    /// name stands for the seed.
    pub tasks: Option<String>,
    pub tasks_unlabelled: Option<String>,
    /// Length of a trial, if it is not that of a run.
    pub trial_steps: Option<u64>,
    /// Seeds of the trials, the first of `seeds`: settings count by their mean accuracy, and those that
    /// diverge at one seed lose.
    pub trial_seeds: usize,
    /// Where all runs compute.
    pub device: Choice,
}

/// What one method came to.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    pub label: String,
    pub method: String,
    pub rule: Option<String>,
    pub unlabelled: bool,
    pub trials: Vec<Value>,
    pub chosen: Value,
    /// Run folders, within the study's.
    pub runs: Vec<String>,
    pub validation_mean: Option<f64>,
    pub validation_sd: Option<f64>,
    pub test_mean: Option<f64>,
    pub test_sd: Option<f64>,
    /// Of the final runs, together.
    pub seconds: f64,
}

/// `study.json`.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub protocol: Recipe,
    pub methods: Vec<Standing>,
    /// Label of the method of the best mean validation accuracy.
    pub winner: Option<String>,
    /// Of training, trials included.
    pub seconds: f64,
}

/// A run of a study: its folder within the study's, its settings, whether it may look at test images.
struct Planned {
    name: String,
    config: Config,
    test: bool,
}

/// Where a study stands, told after each step.
pub struct Told<'a> {
    pub run: &'a str,
    pub step: u64,
    /// Steps of the whole study, as far as is known.
    pub steps: u64,
    pub status: &'a Status,
}

impl Request {
    /// The settings of an entrant for a seed, without its trial's.
    fn settings(&self, entrant: &Entrant, seed: u64) -> Settings {
        let tasks = entrant.tasks.clone().or_else(|| {
            let needs = Method::named(&entrant.method).is_ok_and(|m| m.needs_tasks);
            let own = if entrant.unlabelled { &self.tasks_unlabelled } else { &self.tasks };
            if needs { own.clone().or_else(|| self.tasks.clone()) } else { None }
        });
        let upper = Settings {
            method: Some(entrant.method.clone()),
            unlabelled: entrant.unlabelled.then_some(true),
            tasks: tasks.map(|t| t.replace("{seed}", &seed.to_string())),
            recipe: Some(self.protocol),
            seed: Some(seed),
            ..entrant.variant.clone()
        };
        upper.over(&self.common)
    }

    /// Runs everything. `resolve` completes settings to a configuration.
    pub fn run(
        &self,
        resolve: &dyn Fn(&Settings) -> Result<Config>,
        mut tell: impl FnMut(&Told<'_>),
    ) -> Result<Summary> {
        let tuned = self.protocol == Recipe::Tuned;
        let mut done = Done { steps: 0, total: self.total(resolve)?, seconds: 0.0 };
        let mut methods = Vec::new();
        for entrant in &self.entrants {
            let first = resolve(&self.settings(entrant, self.seeds[0]))?;
            let name = file_name(&first.label());
            let mut chosen = Settings::default();
            let mut trials = Vec::new();
            if tuned {
                let rule = first.rule()?;
                let grid = recipe::trials(Method::named(&entrant.method)?, rule);
                let mut best = f64::NEG_INFINITY;
                for (i, trial) in grid.iter().enumerate() {
                    let mut found = Vec::new();
                    for &seed in self.trial_seeds() {
                        let length = Settings { steps: self.trial_steps, ..Settings::default() };
                        let config = resolve(&length.over(&trial.over(&self.settings(entrant, seed))))?;
                        let name = format!("trials/{name}-{}-seed{seed}", i + 1);
                        let plan = Planned { name, config, test: false };
                        match self.one(&plan, &mut done, &mut tell) {
                            Ok(outcome) => found.extend(outcome.validation_accuracy),
                            Err(Error::Diverged(_)) => done.steps += plan.config.steps,
                            Err(e) => return Err(e),
                        }
                    }
                    let accuracy = (found.len() == self.trial_seeds().len()).then(|| mean_sd(&found).0);
                    if accuracy.is_some_and(|a| a > best) {
                        best = accuracy.unwrap_or(best);
                        chosen = trial.clone();
                    }
                    trials.push(json!({"settings": trial, "validation_accuracy": accuracy}));
                }
            }
            let mut outcomes = Vec::new();
            let mut runs = Vec::new();
            for &seed in &self.seeds {
                let config = resolve(&chosen.over(&self.settings(entrant, seed)))?;
                let plan = Planned { name: format!("runs/{name}-seed{seed}"), config, test: true };
                outcomes.push(self.one(&plan, &mut done, &mut tell)?);
                runs.push(plan.name);
            }
            let of = |figure: fn(&Outcome) -> Option<f64>| {
                let values: Option<Vec<f64>> = outcomes.iter().map(figure).collect();
                values.map(|v| mean_sd(&v))
            };
            let (validation, test) = (of(|o| o.validation_accuracy), of(|o| o.test_accuracy));
            methods.push(Standing {
                label: first.label(),
                method: entrant.method.clone(),
                rule: first.rule.clone(),
                unlabelled: entrant.unlabelled,
                trials,
                chosen: json!(chosen),
                runs,
                validation_mean: validation.map(|v| v.0),
                validation_sd: validation.map(|v| v.1),
                test_mean: test.map(|v| v.0),
                test_sd: test.map(|v| v.1),
                seconds: outcomes.iter().map(|o| o.seconds).sum(),
            });
            // After every method, so that what is there can be looked at.
            self.write(&summary(self.protocol, &methods, done.seconds))?;
        }
        Ok(summary(self.protocol, &methods, done.seconds))
    }

    fn trial_seeds(&self) -> &[u64] {
        &self.seeds[..self.trial_seeds.clamp(1, self.seeds.len())]
    }

    fn total(&self, resolve: &dyn Fn(&Settings) -> Result<Config>) -> Result<u64> {
        let tuned = self.protocol == Recipe::Tuned;
        let trials = if tuned { (recipe::TRIALS * self.trial_seeds().len()) as u64 } else { 0 };
        let steps = |e: &Entrant| {
            let of_run = resolve(&self.settings(e, self.seeds[0]))?.steps;
            Ok(of_run * self.seeds.len() as u64 + self.trial_steps.unwrap_or(of_run) * trials)
        };
        self.entrants.iter().map(steps).sum()
    }

    /// One run, unless it is finished already.
    fn one(&self, plan: &Planned, done: &mut Done, tell: &mut impl FnMut(&Told<'_>)) -> Result<Outcome> {
        let path = self.folder.join(&plan.name);
        let before = done.steps;
        let outcome = match finished(&path, &plan.config)? {
            Some(outcome) => outcome,
            None => {
                let started = path.join(folder::CONFIG).exists();
                let mut trainer = match started && Config::open(&path.join(folder::CONFIG))? == plan.config {
                    true => Trainer::resume(&path, None, device::open(&self.device)?)?,
                    false if started => {
                        let advice = "choose another folder, or remove it";
                        let what = format!("{} holds a run with other settings; {advice}", path.display());
                        return Err(Error::usage(what));
                    }
                    false => Trainer::create(plan.config.clone(), &path, device::open(&self.device)?)?,
                };
                trainer.test = plan.test;
                trainer.run(|status| {
                    let (step, steps) = (before + status.step, done.total);
                    tell(&Told { run: &plan.name, step, steps, status });
                })?
            }
        };
        done.steps = before + plan.config.steps;
        done.seconds += outcome.seconds;
        Ok(outcome)
    }

    fn write(&self, summary: &Summary) -> Result<()> {
        let path = self.folder.join(FILE);
        let text = serde_json::to_string_pretty(summary)
            .map_err(|e| Error::format(&path, "content", "figures", e.to_string()))?;
        write_atomically(&path, |f| f.write_all(text.as_bytes()))
    }
}

struct Done {
    steps: u64,
    total: u64,
    seconds: f64,
}

/// The outcome of a run that ended with this very configuration.
fn finished(path: &Path, config: &Config) -> Result<Option<Outcome>> {
    let result = path.join(folder::RESULT);
    if !result.exists() || Config::open(&path.join(folder::CONFIG))? != *config {
        return Ok(None);
    }
    let _alone = RunFolder::open(path)?;
    let text = std::fs::read_to_string(&result).map_err(|e| Error::io(&result, "read", e))?;
    let outcome = serde_json::from_str(&text)
        .map_err(|e| Error::format(&result, "content", "the result of a run", e.to_string()))?;
    Ok(Some(outcome))
}

fn summary(protocol: Recipe, methods: &[Standing], seconds: f64) -> Summary {
    let mut winner: Option<&Standing> = None;
    for standing in methods.iter().filter(|s| s.validation_mean.is_some()) {
        if winner.is_none_or(|w| standing.validation_mean > w.validation_mean) {
            winner = Some(standing);
        }
    }
    Summary { protocol, winner: winner.map(|w| w.label.clone()), methods: methods.to_vec(), seconds }
}

/// Mean and sample standard deviation (0 for one value).
fn mean_sd(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    (mean, if values.len() > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 })
}

/// A label as a file name: lower case, words joined by hyphens.
fn file_name(label: &str) -> String {
    let label = label.replace('†', "unlabelled").to_lowercase();
    let words = label.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
    words.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entrants_are_read() {
        let read = |text: &str| text.parse::<Entrant>();
        let variant = Settings::default();
        let plain = Entrant { method: "stl".into(), variant, unlabelled: false, tasks: None };
        assert_eq!(read("stl").unwrap(), plain);
        let full = read("meta-mtl:released-intended+=random:4:10").unwrap();
        assert_eq!(full.variant.rule.as_deref(), Some("released-intended"));
        assert!(full.unlabelled);
        assert_eq!(full.tasks.as_deref(), Some("random:4:10"));
        assert_eq!(read("mtl:alternate").unwrap().variant.schedule, Some(Schedule::Alternate));
        let pta = read("pta:pf12").unwrap().variant;
        assert_eq!((pta.operators.unwrap().to_string().as_str(), pta.pseudo_tasks), ("fp", Some(12)));
        for wrong in [
            "",
            "stll",
            "meta-mtl:papr",
            "mtl=",
            "mtl:both",
            "pta:x",
            "pta:4",
            "pta:f99999999999999999999",
            "stl:f",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn labels_become_file_names() {
        assert_eq!(file_name("Meta-MTL paper, k-means †"), "meta-mtl-paper-k-means-unlabelled");
    }

    #[test]
    fn means_and_deviations() {
        let (mean, sd) = mean_sd(&[1.0, 2.0, 4.0]);
        assert!((mean - 7.0 / 3.0).abs() < 1e-15 && (sd - 1.527_525_231_651_946_6).abs() < 1e-12);
        assert_eq!(mean_sd(&[0.5]), (0.5, 0.0));
    }
}
