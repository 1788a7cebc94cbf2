//! Training: steps of a method on drawn tasks, figures of each epoch, validation, checkpoints, and at the
//! end one look at the test images.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::checkpoint::{self, Best, Progress, Values};
use super::evaluate::{Evaluator, Predictions};
use super::feed::Feeder;
use super::folder::{self, RunFolder};
use super::metrics::Log;
use super::settings::{Config, Selection, TaskSource};
use super::vary::{self, Variation};
use super::{Engine, environment, interrupt, model};
use crate::cluster::Tasks;
use crate::data::{Augment, Dataset, Part, Split, split};
use crate::device::{Device, HostSlice, ImageSet};
use crate::error::{Error, Result};
use crate::methods::{Method, Setup};
use crate::nn::{Architecture, Net};
use crate::tensor::{DType, Entry, write_tensors};

/// Rates that programs read, by leaf name.
fn rates(config: &Config) -> [(&'static str, f64); 4] {
    [
        ("rate", config.rate),
        ("alpha", config.alpha),
        ("beta", config.beta),
        ("decoder_rate", config.decoder_rate),
    ]
}

/// What is told of training under way.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    pub step: u64,
    pub steps: u64,
    /// Of the last step: on its main batch, or on that of its task if it has no other.
    pub loss: f64,
    pub images_per_s: f64,
    /// Last validation.
    pub accuracy: Option<f64>,
}

/// What a run came to; `result.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub method: String,
    pub rule: Option<String>,
    pub label: String,
    pub protocol: String,
    pub seed: u64,
    pub steps: u64,
    pub epochs: u64,
    /// The step whose parameters were kept.
    pub selected_step: u64,
    pub validation_accuracy: Option<f64>,
    pub test_accuracy: Option<f64>,
    pub test_loss: Option<f64>,
    pub seconds: f64,
    pub images_per_s: f64,
    pub parameters: usize,
    /// `budget` or `patience`.
    pub stopped: String,
}

/// The net for images of a size, if none was named.
pub fn net_for([height, width, _]: [usize; 3]) -> &'static str {
    match height.min(width) {
        0..=28 => "mnistnet",
        29..=48 => "cifarnet",
        49..=96 => "mininet",
        _ => "omninet",
    }
}

/// Opens auxiliary tasks and checks that they are for these images.
pub fn open_tasks(source: &TaskSource, dataset: &Dataset, seed: u64) -> Result<Tasks> {
    let (train, test) = (dataset.part(Part::Train).len(), dataset.part(Part::Test).len());
    match source {
        TaskSource::Random { tasks, classes } => Ok(Tasks::random(train, *tasks, *classes, seed)),
        TaskSource::File(path) => {
            let tasks = Tasks::open(path)?;
            if ![train, train + test].contains(&tasks.images()) {
                let expected = format!("{} labels, or {train} without test images", train + test);
                let found = format!("{}; the tasks belong to another data set", tasks.images());
                return Err(Error::format(path, "tensor 'labels.1'", expected, found));
            }
            Ok(tasks)
        }
    }
}

/// Which images are labelled, held out, unlabelled.
pub fn split_of(config: &Config, dataset: &Dataset) -> Result<Split> {
    split::of(dataset, config.labels, config.validation, config.split_seed)
}

pub struct Trainer {
    config: Config,
    folder: RunFolder,
    dataset: Dataset,
    tasks: Option<Tasks>,
    split: Split,
    net: Net,
    engine: Engine,
    /// The images of the data set on the device.
    images: ImageSet,
    evaluator: Evaluator,
    /// Of pseudo-task decoders, between steps.
    variation: Option<Variation>,
    feeder: Feeder,
    log: Log,
    progress: Progress,
    best: Option<Values>,
    /// Steps of an epoch.
    epoch: u64,
    /// Time between checkpoints.
    pub checkpoint_every: Duration,
    /// Whether the test images are looked at in the end; trials that choose settings must not.
    pub test: bool,
}

/// Everything of a run but its log: what can be looked at without training.
pub struct Prepared {
    pub dataset: Dataset,
    pub tasks: Option<Tasks>,
    pub split: Split,
    pub net: Net,
    pub engine: Engine,
}

/// Opens data and tasks, records and plans the programs.
pub fn prepare(config: &Config, device: Box<dyn Device>) -> Result<Prepared> {
    let dataset = Dataset::open(&config.data)?;
    let tasks = config.tasks.as_ref().map(|s| open_tasks(s, &dataset, config.seed)).transpose()?;
    let split = split_of(config, &dataset)?;
    let net = Net::new(Architecture::named(&config.net)?, dataset.image_shape())?;
    let classes = dataset.class_names().len();
    let pseudo_tasks = vec![classes; config.pseudo_tasks.unwrap_or(1) - 1];
    let setup = Setup {
        net,
        batch: config.batch,
        classes,
        tasks: tasks.as_ref().map_or(pseudo_tasks, |t| t.classes.clone()),
        rule: config.rule()?,
        constants: config.constants(),
        unlabelled: config.unlabelled,
    };
    let method = Method::named(&config.method)?;
    let mut engine = Engine::new(device, method, &setup, config.seed)?;
    for (name, value) in rates(config) {
        engine.set_rate(name, value)?;
    }
    Ok(Prepared { dataset, tasks, split, net, engine })
}

impl Trainer {
    /// A new run in an empty folder.
    pub fn create(config: Config, folder: &Path, device: Box<dyn Device>) -> Result<Self> {
        let prepared = prepare(&config, device)?;
        let folder = RunFolder::create(folder)?;
        let Prepared { dataset, tasks, split, engine, .. } = &prepared;
        let device = engine.session().device().describe();
        let parameters = engine.parameters().iter().map(crate::nn::Parameter::len).sum();
        let about = environment::describe(&config, dataset, tasks.as_ref(), split, &device, parameters)?;
        folder.write_text(folder::ENVIRONMENT, &format!("{about:#}\n"))?;
        folder.write_text(folder::CONFIG, &config.to_toml()?)?;
        let log = Log::create(folder.path())?;
        Self::assemble(config, folder, prepared, log, Progress::default(), None)
    }

    /// Goes on with a run from its last checkpoint; `steps` changes how far it goes. The device may be another
    /// one than before: what is stored does not depend on it, but the bits of what follows do.
    pub fn resume(folder: &Path, steps: Option<u64>, device: Box<dyn Device>) -> Result<Self> {
        let folder = RunFolder::open(folder)?;
        let mut config = Config::open(&folder.file(folder::CONFIG))?;
        if let Some(steps) = steps.filter(|&s| s != config.steps) {
            config.steps = steps;
            folder.write_text(folder::CONFIG, &config.to_toml()?)?;
        }
        let mut prepared = prepare(&config, device)?;
        let path = folder.file(folder::CHECKPOINT);
        if !path.exists() {
            // Killed before the first checkpoint: from the start.
            let log = Log::create(folder.path())?;
            return Self::assemble(config, folder, prepared, log, Progress::default(), None);
        }
        let (progress, best, position) = checkpoint::read(&path, &mut prepared.engine)?;
        if progress.step > config.steps {
            let what =
                format!("the run has done {} steps already, more than {}", progress.step, config.steps);
            return Err(Error::usage(what));
        }
        let log = Log::resume(folder.path(), &position)?;
        Self::assemble(config, folder, prepared, log, progress, best)
    }

    fn assemble(
        config: Config,
        folder: RunFolder,
        prepared: Prepared,
        log: Log,
        mut progress: Progress,
        best: Option<Values>,
    ) -> Result<Self> {
        let Prepared { dataset, tasks, split, net, mut engine } = prepared;
        let look = dataset.normalisation().look(dataset.image_shape());
        let images = engine.session_mut().upload_images(&dataset.pixels(), &look)?;
        let evaluator = Evaluator::new(engine.session_mut(), net, dataset.class_names().len())?;
        let augment = Augment { flip: config.flip, grey: config.grey };
        let feeder = Feeder::new(&split, config.batch, config.seed, augment);
        let variation = Variation::new(&config, &mut engine, &evaluator)?;
        if config.operators.is_some_and(|o| o.dropout) {
            progress.dropout.resize(config.pseudo_tasks.unwrap_or(1), config.dropout.unwrap_or(0.0));
            vary::set_dropout(&mut engine, &progress)?;
        }
        progress.task_steps.resize(engine.tasks(), 0);
        let epoch = epoch_steps(&split, config.batch, config.unlabelled);
        let checkpoint_every = Duration::from_secs(30);
        Ok(Trainer {
            config,
            folder,
            dataset,
            tasks,
            split,
            net,
            engine,
            images,
            evaluator,
            variation,
            feeder,
            log,
            progress,
            best,
            epoch,
            checkpoint_every,
            test: true,
        })
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.progress.step
    }

    /// Trains to the end and writes the results. When an interruption is requested, finishes the step,
    /// writes a checkpoint and returns [`Error::Interrupted`].
    pub fn run(&mut self, mut tell: impl FnMut(&Status)) -> Result<Outcome> {
        let mut saved = Instant::now();
        let mut patient = true;
        while self.progress.step < self.config.steps && patient {
            let status = self.one_step()?;
            tell(&status);
            let last = self.progress.step == self.config.steps;
            if self.progress.step.is_multiple_of(self.epoch) || last {
                self.end_epoch()?;
            }
            if !self.split.validation.is_empty()
                && (self.progress.step.is_multiple_of(self.config.evaluate_every) || last)
            {
                patient = self.validate()?;
            }
            if interrupt::requested() {
                self.save()?;
                let at = format!("{} of {} steps", self.progress.step, self.config.steps);
                let advice = format!("--run {} --resume goes on", self.folder.path().display());
                return Err(Error::Interrupted(format!(" after {at}; {advice}")));
            }
            if saved.elapsed() >= self.checkpoint_every {
                self.save()?;
                saved = Instant::now();
            }
        }
        self.save()?;
        self.finish(if patient { "budget" } else { "patience" })
    }

    fn one_step(&mut self) -> Result<Status> {
        let begin = Instant::now();
        let step = self.progress.step;
        let task = self.feeder.task(step, self.engine.tasks());
        let data = (&self.dataset, self.images);
        self.feeder.feed(&mut self.engine, data, self.tasks.as_ref(), step, task)?;
        self.engine.step(task)?;
        let mut loss = None;
        for (name, value) in self.engine.scalars(task)? {
            if !value.is_finite() {
                let advice = "a smaller learning rate may help; the last checkpoint is kept";
                return Err(Error::Diverged(format!("step {}: {name} became {value}; {advice}", step + 1)));
            }
            // A step on an auxiliary task alone has no main loss.
            if name == "loss" || loss.is_none() {
                loss = Some(value);
            }
            self.progress.means.add(name, value);
        }
        let (seconds, images) = (begin.elapsed().as_secs_f64(), self.engine.images(task) as u64);
        let p = &mut self.progress;
        p.step += 1;
        p.task_steps[task] += 1;
        p.seconds += seconds;
        p.epoch_seconds += seconds;
        p.images += images;
        p.epoch_images += images;
        let images_per_s = p.images as f64 / p.seconds;
        let loss = loss.unwrap_or(f64::NAN);
        Ok(Status { step: p.step, steps: self.config.steps, loss, images_per_s, accuracy: p.accuracy })
    }

    fn end_epoch(&mut self) -> Result<()> {
        let p = &mut self.progress;
        let speed = p.epoch_images as f64 / p.epoch_seconds.max(1e-9);
        let mut fields: Vec<(&str, f64)> = p.means.iter().collect();
        fields.push(("images_per_s", speed));
        let more = json!({
            "epoch": p.step.div_ceil(self.epoch), "tasks": p.task_steps, "seconds": p.seconds,
            "rule": self.config.rule,
        });
        self.log.write("epoch", p.step, &fields, more)?;
        p.means.clear();
        p.task_steps.fill(0);
        (p.epoch_images, p.epoch_seconds) = (0, 0.0);
        Ok(())
    }

    /// Whether to go on.
    fn validate(&mut self) -> Result<bool> {
        let all = self.dataset.part(Part::Train).labels();
        let rows = self.split.validation.clone();
        let labels: Vec<u32> = rows.iter().map(|&row| all[row as usize]).collect();
        let mut place = 0;
        let found = match &self.variation {
            None => self.predict(&rows, &labels)?,
            Some(variation) => {
                let (images, pixels) = (self.images, self.dataset.pixels());
                let found = variation.choose(&mut self.engine, &mut self.progress, |engine, evaluator| {
                    evaluator.predict(engine.session_mut(), (images, &pixels), &rows, &labels)
                })?;
                place = found.0;
                found.1
            }
        };
        let (accuracy, step) = (found.accuracy(), self.progress.step);
        let better = self.progress.best.as_ref().is_none_or(|b| accuracy >= b.accuracy);
        if better {
            self.progress.best = Some(Best { step, accuracy });
            self.progress.stale = 0;
            if self.config.select == Selection::Validation {
                self.best = Some(self.values()?);
            }
        } else {
            self.progress.stale += 1;
        }
        if let Some(variation) = &self.variation {
            variation.vary(&mut self.engine, &mut self.progress, place)?;
        }
        self.progress.accuracy = Some(accuracy);
        let fields = [("accuracy", accuracy), ("loss", found.loss())];
        let more = json!({"epoch": step.div_ceil(self.epoch), "best": better});
        self.log.write("validation", step, &fields, more)?;
        Ok(self.config.patience == 0 || self.progress.stale < self.config.patience)
    }

    /// Predictions for images of the data set, by number among all of them.
    fn predict(&mut self, rows: &[u32], labels: &[u32]) -> Result<Predictions> {
        let (session, pixels) = (self.engine.session_mut(), self.dataset.pixels());
        self.evaluator.predict(session, (self.images, &pixels), rows, labels)
    }

    fn values(&self) -> Result<Values> {
        let read = |p: &crate::nn::Parameter| Ok((p.clone(), self.engine.session().read_f32(&p.name)?));
        self.engine.parameters().iter().map(read).collect()
    }

    fn save(&mut self) -> Result<()> {
        let position = self.log.position()?;
        let path = self.folder.file(folder::CHECKPOINT);
        let best = self.best.as_ref();
        checkpoint::write(&path, &self.engine, &self.config, &self.progress, best, &position)
    }

    fn finish(&mut self, stopped: &str) -> Result<Outcome> {
        let chosen = match (self.config.select, &self.progress.best) {
            (Selection::Validation, Some(best)) => (best.step, Some(best.accuracy)),
            _ => (self.progress.step, self.progress.accuracy),
        };
        if let Some(best) = self.best.take() {
            for (parameter, values) in &best {
                self.engine.session_mut().write(&parameter.name, HostSlice::F32(values))?;
            }
        }
        let path = self.folder.file(folder::WEIGHTS);
        let (classes, normalise) = (self.dataset.class_names(), self.dataset.normalisation());
        let more = [
            ("step", chosen.0.to_string()),
            ("data", self.dataset.fingerprint().to_string()),
            ("version", env!("CARGO_PKG_VERSION").to_string()),
        ];
        model::write(&path, &self.net, classes, normalise, &self.values()?, &more)?;
        let rows: Vec<u32> = self.dataset.rows(Part::Test).collect();
        let labels = self.dataset.part(Part::Test).labels().to_vec();
        let test = if rows.is_empty() || !self.test { None } else { Some(self.predict(&rows, &labels)?) };
        if let Some(test) = &test {
            let labels = self.dataset.part(Part::Test).labels();
            write_predictions(
                &self.folder.file(folder::PREDICTIONS),
                test,
                labels,
                self.dataset.class_names(),
            )?;
            let fields = [("accuracy", test.accuracy()), ("loss", test.loss())];
            self.log.write("test", chosen.0, &fields, json!({}))?;
        }
        self.log.position()?;
        let p = &self.progress;
        let outcome = Outcome {
            method: self.config.method.clone(),
            rule: self.config.rule.clone(),
            label: self.config.label(),
            protocol: self.config.recipe.to_string(),
            seed: self.config.seed,
            steps: p.step,
            epochs: p.step.div_ceil(self.epoch),
            selected_step: chosen.0,
            validation_accuracy: chosen.1,
            test_accuracy: test.as_ref().map(Predictions::accuracy),
            test_loss: test.as_ref().map(Predictions::loss),
            seconds: p.seconds,
            images_per_s: p.images as f64 / p.seconds.max(1e-9),
            parameters: self.engine.parameters().iter().map(crate::nn::Parameter::len).sum(),
            stopped: stopped.to_string(),
        };
        let text = serde_json::to_string_pretty(&outcome)
            .map_err(|e| Error::format(self.folder.path(), folder::RESULT, "figures", e.to_string()))?;
        self.folder.write_text(folder::RESULT, &(text + "\n"))?;
        Ok(outcome)
    }
}

/// Steps of a pass over the images that batches of tasks come from.
pub fn epoch_steps(split: &Split, batch: usize, unlabelled: bool) -> u64 {
    let images = split.labelled.len() + if unlabelled { split.unlabelled.len() } else { 0 };
    (images / batch.max(1)).max(1) as u64
}

/// `probabilities` f32 `[N, C]`, `labels` and `predicted` u32 `[N]`.
pub fn write_predictions(path: &Path, found: &Predictions, labels: &[u32], classes: &[String]) -> Result<()> {
    let n = found.predicted.len();
    let entries = [
        Entry::new("probabilities", DType::F32, [n, found.classes], &found.probabilities),
        Entry::new("predicted", DType::U32, [n], &found.predicted),
        Entry::new("labels", DType::U32, [n], labels),
    ];
    let names = serde_json::to_string(classes)
        .map_err(|e| Error::format(path, "metadata key 'classes'", "names", e.to_string()))?;
    let metadata = [("format", "tessera-predictions-1".to_string()), ("classes", names)];
    write_tensors(path, &entries, &metadata)
}
