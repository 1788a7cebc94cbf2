//! What a training run can be told, and how the layers of telling combine: a recipe's values, under those
//! of a configuration file, under those of the command line. [`Settings`] is one layer, each value given
//! or not; [`Config`] is the outcome, with every value, as a run folder stores it. Their keys are the same,
//! so the `config.toml` of a run can be given to another one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::recipe::{self, Recipe};
use crate::data::LabelBudget;
use crate::error::{Error, Result};
use crate::meta::{Hessian, Rule};
use crate::methods::{Constants, Method, Operators, Schedule};

/// Which parameters a run ends with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Selection {
    /// Those of the last step.
    Last,
    /// Those of the best validation accuracy, the latest among equals.
    Validation,
}

/// One layer of settings. Rates: `rate` for all methods without rules; `alpha`, `beta` and
/// `decoder-rate` for Meta-MTL.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Data set, a file made by `tessera data`.
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// How to train: stl, mtl, pta or meta-mtl.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Auxiliary tasks: a file made by `tessera cluster`, or random:T:K for T tasks of K random labels.
    #[arg(long, value_name = "TASKS|random:T:K")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<String>,
    /// Update rule of meta-mtl: paper, literal, first-order or released-intended.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Where rates come from that are not given: paper (one small rate for all) or tuned.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipe: Option<Recipe>,
    /// Shared layers: mnistnet, cifarnet, mininet or omninet [default: by the size of the images].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net: Option<String>,
    /// Training images that keep their labels: all, 1%, 600 or 60/class [default: all].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<LabelBudget>,
    /// Training images held out for validation, with their labels [default: those that the data set itself
    /// sets aside, else 0].
    #[arg(long, value_name = "IMAGES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<usize>,
    /// Seed of the split alone [default: the run's seed].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_seed: Option<u64>,
    /// Take auxiliary batches from all training images, also those without labels (†).
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlabelled: Option<bool>,
    /// Steps of training.
    #[arg(long, conflicts_with = "epochs")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Passes over the images instead of steps.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// Images of a batch [default: 100].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// Seed of everything that is drawn [default: 1].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Rate of stl, mtl and pta.
    #[arg(long, allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Rate of the inner step.
    #[arg(long, allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Rate of the shared layers.
    #[arg(long, allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta: Option<f64>,
    /// Rate of the decoders.
    #[arg(long, allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoder_rate: Option<f64>,
    #[arg(long, allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    #[arg(long, allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Bound of the gradient norm in meta-mtl; 0 for none.
    #[arg(long, allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// Inner steps of a meta-mtl episode.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inner_steps: Option<usize>,
    /// Part of the Hessian that several inner steps use.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hessian: Option<Hessian>,
    /// Also train the main decoder on the meta batch.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_main_decoder_on_meta: Option<bool>,
    /// What a step of mtl lowers: the mean loss of all tasks, or that of one drawn task [default: joint].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Decoders of pta, the trained one included [default: 4].
    #[arg(long, value_name = "T")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pseudo_tasks: Option<usize>,
    /// What keeps the decoders of pta apart, as letters: f freezes all but the first; d gives each a dropout
    /// mask; at every validation g copies the best over the others, h puts noise on dropout rates, p on
    /// weights; i for none of them [default: f].
    #[arg(long, value_name = "LETTERS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operators: Option<Operators>,
    /// Share of the features that operator d drops, at first [default: 0.5].
    #[arg(long, value_name = "P")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// Standard deviation of operator p on weights [default: 0.01].
    #[arg(long, value_name = "SD", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise: Option<f64>,
    /// Standard deviation of operator h on dropout rates [default: 0.1].
    #[arg(long, value_name = "SD", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout_noise: Option<f64>,
    /// Probability of flipping a training image left to right [default: 0].
    #[arg(long, value_name = "P")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flip: Option<f32>,
    /// Probability of taking the colours out of a training image [default: 0].
    #[arg(long, value_name = "P")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grey: Option<f32>,
    /// Parameters to end with [default: validation if images are held out, else last].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub select: Option<Selection>,
    /// Stop after so many validations without a better one; 0 never stops early [default: 0].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
    /// Steps between validations [default: an epoch, at least 50].
    #[arg(long, value_name = "STEPS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluate_every: Option<u64>,
}

impl Settings {
    /// Reads a configuration file.
    pub fn open(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, "read", e))?;
        toml::from_str(&text).map_err(|e| {
            let line = e.span().map_or(1, |s| text[..s.start.min(text.len())].matches('\n').count() + 1);
            Error::format(path, format!("line {line}"), "known settings of the right kind", e.message())
        })
    }

    /// These settings, and `lower`'s where they say nothing.
    pub fn over(&self, lower: &Settings) -> Settings {
        let (mut table, upper) = (lower.table(), self.table());
        // Steps and epochs are two ways to say the same thing.
        if upper.contains_key("steps") || upper.contains_key("epochs") {
            table.remove("steps");
            table.remove("epochs");
        }
        table.extend(upper);
        // Both tables came from this type.
        table.try_into().unwrap_or_default()
    }

    fn table(&self) -> toml::Table {
        toml::Table::try_from(self).unwrap_or_default()
    }

    /// The given values as `key = value`, in the order of the keys.
    pub fn given(&self) -> Vec<(String, String)> {
        self.table().into_iter().map(|(k, v)| (k, v.to_string())).collect()
    }
}

/// All settings of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    pub data: PathBuf,
    pub method: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<TaskSource>,
    /// The update rule, for methods that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    pub recipe: Recipe,
    pub net: String,
    pub labels: LabelBudget,
    pub validation: usize,
    pub split_seed: u64,
    pub unlabelled: bool,
    pub steps: u64,
    pub batch: usize,
    pub seed: u64,
    pub rate: f64,
    pub alpha: f64,
    pub beta: f64,
    pub decoder_rate: f64,
    pub momentum: f64,
    pub weight_decay: f64,
    pub clip: f64,
    pub inner_steps: usize,
    pub hessian: Hessian,
    pub train_main_decoder_on_meta: bool,
    /// Of joint training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Of pseudo-task augmentation: decoders, operators, and what operators need.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pseudo_tasks: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operators: Option<Operators>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout_noise: Option<f64>,
    pub flip: f32,
    pub grey: f32,
    pub select: Selection,
    pub patience: u64,
    pub evaluate_every: u64,
}

/// Where auxiliary tasks come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TaskSource {
    File(PathBuf),
    Random { tasks: usize, classes: usize },
}

impl FromStr for TaskSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("random:") else {
            return Ok(TaskSource::File(PathBuf::from(text)));
        };
        let sizes = rest.split_once(':').and_then(|(t, k)| Some((t.parse().ok()?, k.parse().ok()?)));
        match sizes {
            Some((tasks, classes)) if (1..=1000).contains(&tasks) && (2..=100_000).contains(&classes) => {
                Ok(TaskSource::Random { tasks, classes })
            }
            _ => Err(format!(
                "'{text}' is not random:T:K with 1 to 1000 tasks of 2 to 100000 labels, such as random:4:10"
            )),
        }
    }
}

impl fmt::Display for TaskSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskSource::File(path) => write!(f, "{}", path.display()),
            TaskSource::Random { tasks, classes } => write!(f, "random:{tasks}:{classes}"),
        }
    }
}

/// Text forms of the types that have one.
macro_rules! as_text {
    ($($kind:ty),*) => {$(
        impl Serialize for $kind {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
as_text!(TaskSource, LabelBudget, Operators);

impl Config {
    /// Completes the settings from their recipe and checks that they fit together. What depends on the
    /// data ([`Config::net`], epochs) is resolved by the caller through `net` and `epoch`: the name of the
    /// net for these images, and the steps of an epoch for a batch size and the use of unlabelled images.
    pub fn resolve(
        settings: &Settings,
        net: &str,
        epoch: impl FnOnce(&Settings) -> Result<u64>,
    ) -> Result<Config> {
        let missing = |what: &str| Error::usage(format!("no {what} given"));
        let method = Method::named(settings.method.as_deref().ok_or_else(|| missing("--method"))?)?;
        let rule = Rule::named(settings.rule.as_deref().unwrap_or("paper"))?;
        if settings.rule.is_some() && !method.uses_rule {
            return Err(Error::usage(format!("--rule is for meta-mtl; {} has no rules", method.name)));
        }
        let recipe = settings.recipe.unwrap_or_default();
        let unlabelled = settings.unlabelled.unwrap_or(false);
        let s = settings.over(&recipe::settings(recipe, method, rule, unlabelled));
        let tasks = s.tasks.as_deref().map(str::parse::<TaskSource>).transpose().map_err(Error::usage)?;
        if method.needs_tasks && tasks.is_none() {
            let advice = "give --tasks FILE (made by `tessera cluster`) or --tasks random:T:K";
            return Err(Error::usage(format!("{} needs auxiliary tasks: {advice}", method.name)));
        }
        if !method.needs_tasks && (settings.tasks.is_some() || unlabelled) {
            let what = if unlabelled { "unlabelled images" } else { "auxiliary tasks" };
            return Err(Error::usage(format!("{} has no use for {what}", method.name)));
        }
        let given = [
            ("schedule", s.schedule.is_some(), method.name == "mtl", "mtl"),
            ("pseudo-tasks", s.pseudo_tasks.is_some(), method.pseudo_tasks, "pta"),
            ("operators", s.operators.is_some(), method.pseudo_tasks, "pta"),
            ("dropout", s.dropout.is_some(), method.pseudo_tasks, "pta"),
            ("noise", s.noise.is_some(), method.pseudo_tasks, "pta"),
            ("dropout-noise", s.dropout_noise.is_some(), method.pseudo_tasks, "pta"),
        ];
        if let Some((name, .., of)) = given.iter().find(|(_, given, used, _)| *given && !used) {
            return Err(Error::usage(format!("--{name} is for {of}; {} has no use for it", method.name)));
        }
        let operators = method
            .pseudo_tasks
            .then(|| s.operators.unwrap_or(Operators { freeze: true, ..Operators::default() }));
        let with = |used: fn(Operators) -> bool| operators.is_some_and(used);
        let validation = s.validation.unwrap_or(0);
        let steps_of_epoch = epoch(&s)?;
        let selection = if validation > 0 { Selection::Validation } else { Selection::Last };
        let config = Config {
            data: s.data.clone().ok_or_else(|| missing("data set"))?,
            method: method.name.to_string(),
            tasks,
            rule: method.uses_rule.then(|| rule.name.to_string()),
            recipe,
            net: s.net.clone().unwrap_or_else(|| net.to_string()),
            labels: s.labels.unwrap_or(LabelBudget::All),
            validation,
            split_seed: s.split_seed.or(s.seed).unwrap_or(1),
            unlabelled,
            steps: s.epochs.map_or(s.steps.unwrap_or(1000), |e| e.saturating_mul(steps_of_epoch)),
            batch: s.batch.unwrap_or(100),
            seed: s.seed.unwrap_or(1),
            rate: s.rate.unwrap_or(0.0),
            alpha: s.alpha.unwrap_or(0.0),
            beta: s.beta.unwrap_or(0.0),
            decoder_rate: s.decoder_rate.unwrap_or(0.0),
            momentum: s.momentum.unwrap_or(0.9),
            weight_decay: s.weight_decay.unwrap_or(5e-4),
            clip: s.clip.unwrap_or(if method.uses_rule { 5.0 } else { 0.0 }),
            inner_steps: s.inner_steps.unwrap_or(1),
            hessian: s.hessian.unwrap_or(Hessian::ThetaOnly),
            train_main_decoder_on_meta: s.train_main_decoder_on_meta.unwrap_or(false),
            schedule: (method.name == "mtl").then(|| s.schedule.unwrap_or_default()),
            pseudo_tasks: method.pseudo_tasks.then(|| s.pseudo_tasks.unwrap_or(4)),
            operators,
            dropout: with(|o| o.dropout).then(|| s.dropout.unwrap_or(0.5)),
            noise: with(|o| o.perturb).then(|| s.noise.unwrap_or(0.01)),
            dropout_noise: with(|o| o.hyper).then(|| s.dropout_noise.unwrap_or(0.1)),
            flip: s.flip.unwrap_or(0.0),
            grey: s.grey.unwrap_or(0.0),
            select: s.select.unwrap_or(selection),
            patience: s.patience.unwrap_or(0),
            evaluate_every: s.evaluate_every.unwrap_or(steps_of_epoch.max(50)),
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::usage(what));
        let rates = [
            ("rate", self.rate),
            ("alpha", self.alpha),
            ("beta", self.beta),
            ("decoder-rate", self.decoder_rate),
            ("weight-decay", self.weight_decay),
            ("clip", self.clip),
            ("noise", self.noise.unwrap_or(0.0)),
            ("dropout-noise", self.dropout_noise.unwrap_or(0.0)),
        ];
        if let Some((name, value)) = rates.iter().find(|(_, v)| !(v.is_finite() && *v >= 0.0)) {
            return wrong(format!("{name} must be a number of at least 0, got {value}"));
        }
        if !(0.0..1.0).contains(&self.momentum) {
            return wrong(format!("momentum must be at least 0 and below 1, got {}", self.momentum));
        }
        let dropout = self.dropout.unwrap_or(0.0) as f32;
        for (name, p) in [("flip", self.flip), ("grey", self.grey), ("dropout", dropout)] {
            if !(0.0..=1.0).contains(&p) {
                return wrong(format!("{name} is a probability from 0 to 1, got {p}"));
            }
        }
        for (name, count) in [
            ("steps", self.steps),
            ("batch", self.batch as u64),
            ("inner-steps", self.inner_steps as u64),
            ("pseudo-tasks", self.pseudo_tasks.unwrap_or(1) as u64),
            ("evaluate-every", self.evaluate_every),
        ] {
            if count == 0 || count > 1 << 40 {
                return wrong(format!("{name} must be at least 1, got {count}"));
            }
        }
        if self.select == Selection::Validation && self.validation == 0 {
            return wrong("selection by validation needs --validation IMAGES".into());
        }
        if self.patience > 0 && self.validation == 0 {
            return wrong("--patience needs --validation IMAGES".into());
        }
        if self.pseudo_tasks.is_some_and(|t| t > 1000) {
            return wrong(format!(
                "pseudo-tasks must be at most 1000, got {}",
                self.pseudo_tasks.unwrap_or(0)
            ));
        }
        if self.validation == 0 && self.operators.is_some_and(Operators::vary) {
            return wrong(
                "operators g, h and p choose by validation cost and need --validation IMAGES".into(),
            );
        }
        let rule = self.rule()?;
        if rule.two_steps && self.hessian == Hessian::Joint {
            return wrong(format!("rule {} has no second order; leave --hessian out", rule.name));
        }
        Ok(())
    }

    /// Reads the configuration of a run folder.
    pub fn open(path: &Path) -> Result<Config> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, "read", e))?;
        let config: Config = toml::from_str(&text)
            .map_err(|e| Error::format(path, "content", "the configuration of a run", e.message()))?;
        config.check()?;
        Ok(config)
    }

    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::usage(format!("the configuration cannot be written: {e}")))
    }

    /// All settings as a layer, to compare with or to change.
    pub fn settings(&self) -> Settings {
        self.to_toml().ok().and_then(|t| toml::from_str(&t).ok()).unwrap_or_default()
    }

    /// The update rule; `paper` for methods that have none.
    pub fn rule(&self) -> Result<Rule> {
        Rule::named(self.rule.as_deref().unwrap_or("paper"))
    }

    pub fn constants(&self) -> Constants {
        Constants {
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            clip: self.clip,
            inner_steps: self.inner_steps,
            hessian: self.hessian,
            train_main_decoder_on_meta: self.train_main_decoder_on_meta,
            schedule: self.schedule.unwrap_or_default(),
            operators: self.operators.unwrap_or_default(),
        }
    }

    /// A short name for tables: method, rule, kind of tasks, † for unlabelled images.
    pub fn label(&self) -> String {
        let mut label = match self.method.as_str() {
            "stl" => "STL".to_string(),
            "mtl" if self.schedule == Some(Schedule::Alternate) => "MTL alternate".to_string(),
            "mtl" => "MTL".to_string(),
            "pta" => {
                let operators = self.operators.unwrap_or_default().to_string().to_uppercase();
                format!("PTA-{operators}, T = {}", self.pseudo_tasks.unwrap_or(1))
            }
            "meta-mtl" => format!("Meta-MTL {}", self.rule.as_deref().unwrap_or("paper")),
            other => other.to_string(),
        };
        match &self.tasks {
            Some(TaskSource::Random { .. }) => label += ", random labels",
            Some(TaskSource::File(_)) => label += ", k-means",
            None => {}
        }
        if self.unlabelled {
            label += " †";
        }
        label
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(settings: Settings) -> Result<Config> {
        Config::resolve(&settings, "mnistnet", |_| Ok(6))
    }

    fn base(method: &str) -> Settings {
        Settings { data: Some("d".into()), method: Some(method.into()), ..Settings::default() }
    }

    #[test]
    fn a_stored_configuration_resolves_to_itself() {
        let tasks = Some("random:4:10".to_string());
        let labels = Some(LabelBudget::Fraction(0.01));
        let config = resolve(Settings { tasks, labels, seed: Some(7), ..base("meta-mtl") }).unwrap();
        for config in [&config, &resolve(base("stl")).unwrap()] {
            let again: Settings = toml::from_str(&config.to_toml().unwrap()).unwrap();
            assert_eq!(&resolve(again).unwrap(), config);
        }
        assert_eq!(config.split_seed, 7);
        assert_eq!(config.label(), "Meta-MTL paper, random labels");
    }

    #[test]
    fn upper_layers_win_and_steps_replace_epochs() {
        let file = Settings { epochs: Some(3), rate: Some(0.5), ..base("stl") };
        let line = Settings { steps: Some(11), ..Settings::default() };
        let config = resolve(line.over(&file)).unwrap();
        assert_eq!((config.steps, config.rate), (11, 0.5));
        assert_eq!(resolve(file).unwrap().steps, 18);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let with = |change: fn(&mut Settings)| {
            let mut settings = base("meta-mtl");
            settings.tasks = Some("random:2:5".into());
            change(&mut settings);
            resolve(settings).unwrap_err().to_string()
        };
        assert!(with(|s| s.tasks = None).contains("needs auxiliary tasks"));
        assert!(with(|s| s.tasks = Some("random:0:5".into())).contains("random:T:K"));
        assert!(with(|s| s.method = Some("stl".into())).contains("no use for auxiliary tasks"));
        assert!(with(|s| s.rule = Some("papr".into())).contains("known: paper"));
        assert!(with(|s| s.alpha = Some(f64::NAN)).contains("alpha"));
        assert!(with(|s| s.momentum = Some(1.0)).contains("momentum"));
        assert!(with(|s| s.flip = Some(1.5)).contains("flip"));
        assert!(with(|s| s.batch = Some(0)).contains("batch"));
        assert!(with(|s| s.select = Some(Selection::Validation)).contains("--validation"));
    }

    #[test]
    fn unknown_keys_are_refused_with_their_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(&path, "method = \"stl\"\nrat = 0.1\n").unwrap();
        let message = Settings::open(&path).unwrap_err().to_string();
        assert!(message.contains("line 2") && message.contains("rat"), "{message}");
    }
}
