//! An embedding run: train on the pool, with checkpoints, then describe every image.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::request::FORMAT;
use super::{Engine, Pictures, Request, checkpoint};
use crate::cluster::embedding;
use crate::data::dataset::hex;
use crate::data::{Dataset, EpochSampler, Part};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::tensor::TensorFile;

/// What a run does with its files.
#[derive(Clone)]
pub struct Files {
    pub embedding: PathBuf,
    /// Time between checkpoints.
    pub every: Duration,
    /// Go on from the checkpoint, if there is one.
    pub resume: bool,
    /// Keep the weights at the end, beside the embedding.
    pub keep_weights: bool,
}

impl Files {
    pub fn new(embedding: impl Into<PathBuf>) -> Self {
        let every = Duration::from_secs(60);
        Files { embedding: embedding.into(), every, resume: false, keep_weights: false }
    }

    pub fn checkpoint(&self) -> PathBuf {
        checkpoint::beside(&self.embedding, "checkpoint")
    }

    pub fn weights(&self) -> PathBuf {
        checkpoint::beside(&self.embedding, "weights")
    }

    /// Finds out before hours of work whether the result can be written.
    fn check(&self) -> Result<()> {
        let path = &self.embedding;
        if path.extension().is_some_and(|e| e == "npy") {
            return Err(Error::usage(format!(
                "{}: an embedding is written as safetensors; give another name",
                path.display()
            )));
        }
        if path.is_dir() {
            return Err(Error::format(path, "the path", "a file to write", "a directory"));
        }
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        tempfile::tempfile_in(folder).map(drop).map_err(|e| Error::io(folder, "write to", e))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    Training,
    /// Writing codes of all images.
    Encoding,
}

/// How far a run is.
pub struct Progress<'a> {
    pub phase: Phase,
    /// Images that were looked at in this phase, of how many; those before a resumption count.
    pub done: u64,
    pub total: u64,
    /// Running means of the losses, over about the last hundred steps.
    pub losses: &'a [(String, f64)],
}

/// Told how far the run is after every step; `Break` ends the run, which can be resumed.
pub type Watch<'a> = &'a mut dyn FnMut(&Progress<'_>) -> ControlFlow<()>;

/// Shares of images whose class the probe tells.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Probe {
    /// Of the pool that it learned from.
    pub pool: f64,
    /// Of the test images, if there are any.
    pub test: Option<f64>,
}

/// What a run found.
#[derive(Clone, Debug)]
pub struct Summary {
    pub rows: usize,
    pub columns: usize,
    /// Images of the pool.
    pub pool: usize,
    pub steps: u64,
    /// Running means at the end; empty if nothing was trained now.
    pub losses: Vec<(String, f64)>,
    /// Of this process, training alone.
    pub seconds: f64,
    pub images_per_s: f64,
    pub probe: Option<Probe>,
    /// SHA-256 of the numbers of the embedding.
    pub fingerprint: String,
    /// The embedding was there already, made with the same settings.
    pub complete_before: bool,
}

/// Trains on a device and writes the embedding of all images.
///
/// A run that was interrupted leaves a checkpoint; with [`Files::resume`] it goes on and ends with the
/// same bits as an uninterrupted one.
pub fn embed(
    dataset: &Dataset,
    request: &Request,
    files: &Files,
    device: Box<dyn Device>,
    watch: Watch<'_>,
) -> Result<Summary> {
    request.check()?;
    files.check()?;
    let rows = request.pool.rows(dataset)?;
    if !request.method.is_trained() {
        let pictures = Pictures::plain(dataset, request.size);
        let columns = pictures.shape().iter().product();
        let mut values = vec![0.0; pictures.len() * columns];
        let all: Vec<u32> = (0..pictures.len() as u32).collect();
        pictures.fill(&all, &mut values);
        let summary = Summary::new(&values, columns, &rows);
        write(dataset, request, files, &values, columns, &rows, &summary)?;
        return Ok(summary);
    }
    let pictures = Pictures::on_canvas(dataset, request.latent_width, request.size)?;
    let mut run = Run::new(dataset, request, files, &pictures, rows, device)?;
    if let Some(summary) = run.already_complete() {
        return Ok(summary);
    }
    run.start()?;
    run.train(watch)?;
    run.finish(dataset, watch)
}

struct Run<'a> {
    request: &'a Request,
    files: &'a Files,
    settings: Vec<(&'static str, String)>,
    pictures: &'a Pictures<'a>,
    rows: Vec<u32>,
    /// Classes of all images, training images first.
    labels: Vec<u32>,
    engine: Engine,
    done: u64,
    means: Means,
    seconds: f64,
    trained: u64,
}

impl<'a> Run<'a> {
    fn new(
        dataset: &Dataset,
        request: &'a Request,
        files: &'a Files,
        pictures: &'a Pictures<'a>,
        rows: Vec<u32>,
        device: Box<dyn Device>,
    ) -> Result<Self> {
        let setup = request.setup(pictures.shape(), dataset.class_names().len());
        let mut engine = Engine::new(device, request.method, &setup, request.seed)?;
        if let Some(rate) = request.probe {
            engine.set_probe_rate(rate);
        }
        let labels = [Part::Train, Part::Test].map(|part| dataset.part(part).labels()).concat();
        Ok(Run {
            request,
            files,
            settings: request.settings(dataset),
            pictures,
            rows,
            labels,
            engine,
            done: 0,
            means: Means::default(),
            seconds: 0.0,
            trained: 0,
        })
    }

    /// The summary of an embedding that stands where the result goes, if this run resumes and made it.
    fn already_complete(&self) -> Option<Summary> {
        if !self.files.resume || self.files.checkpoint().exists() {
            return None;
        }
        let file = TensorFile::open(&self.files.embedding).ok()?;
        let same = |(key, value): &(&str, String)| file.metadata(key) == Some(value);
        if file.metadata("format") != Some(FORMAT) || !self.settings.iter().all(same) {
            return None;
        }
        let found = crate::cluster::Embedding::open(&self.files.embedding).ok()?;
        let complete = Summary::new(found.values(), found.columns(), &self.rows);
        let probe = Probe::read(&file);
        Some(Summary { complete_before: true, steps: self.request.steps(), probe, ..complete })
    }

    /// Goes on from the checkpoint, or makes sure that none is lost.
    fn start(&mut self) -> Result<()> {
        let path = self.files.checkpoint();
        match (self.files.resume, path.exists()) {
            (_, false) => Ok(()),
            (true, true) => {
                self.done = checkpoint::read(&path, &mut self.engine, &self.settings)?;
                if self.done > self.request.steps() {
                    let (done, batch) = (self.done, self.request.batch as u64);
                    return Err(Error::usage(format!(
                        "{} is the state after {} samples already; ask for at least as many",
                        path.display(),
                        done * batch
                    )));
                }
                Ok(())
            }
            (false, true) => Err(Error::usage(format!(
                "{} is the state of an interrupted run; add --resume to go on, or remove the file",
                path.display()
            ))),
        }
    }

    fn train(&mut self, watch: Watch<'_>) -> Result<()> {
        let (batch, steps) = (self.request.batch, self.request.steps());
        let mut sampler = EpochSampler::new(self.rows.clone(), batch, self.request.seed, 0);
        let mut chosen = Vec::new();
        let (start, mut saved, first) = (Instant::now(), Instant::now(), self.done);
        while self.done < steps {
            sampler.batch(self.done, &mut chosen);
            self.engine.show(self.pictures, &chosen)?;
            if self.request.probe.is_some() {
                let labels: Vec<u32> = chosen.iter().map(|&row| self.labels[row as usize]).collect();
                self.engine.label(&labels)?;
            }
            self.engine.step(self.done, self.request.rate)?;
            self.done += 1;
            self.note_losses()?;
            let progress = Progress {
                phase: Phase::Training,
                done: self.done * batch as u64,
                total: steps * batch as u64,
                losses: &self.means.values(),
            };
            if watch(&progress).is_break() {
                return Err(self.interrupted());
            }
            if saved.elapsed() >= self.files.every {
                self.save()?;
                saved = Instant::now();
            }
        }
        self.seconds = start.elapsed().as_secs_f64();
        self.trained = (self.done - first) * batch as u64;
        // Encoding all images takes a while too, and can be interrupted.
        if self.trained > 0 { self.save() } else { Ok(()) }
    }

    fn note_losses(&mut self) -> Result<()> {
        for (name, value) in self.engine.losses()? {
            if !value.is_finite() {
                let step = self.done;
                return Err(Error::Diverged(format!(
                    "{name} is {value} at step {step}; a --rate below {} may help (the last checkpoint stays)",
                    self.request.rate
                )));
            }
            self.means.add(name, value);
        }
        Ok(())
    }

    fn save(&self) -> Result<()> {
        checkpoint::write(&self.files.checkpoint(), &self.engine, &self.settings, self.done)
    }

    /// Saves the state; the error that tells the user so, or why it could not be saved.
    fn interrupted(&self) -> Error {
        match self.save() {
            Ok(()) => Error::Interrupted(format!(
                " after step {} of {}; saved in {}. The same command with --resume goes on",
                self.done,
                self.request.steps(),
                self.files.checkpoint().display()
            )),
            Err(error) => error,
        }
    }

    /// Codes of all images, and the classes that the probe gives them, if there is one.
    fn codes(&mut self, watch: Watch<'_>) -> Result<(Vec<f32>, Vec<u32>)> {
        let (batch, count) = (self.request.batch, self.pictures.len());
        let columns = self.engine.setup().sizes.code();
        let mut values = Vec::with_capacity((count + batch) * columns);
        let mut told = Vec::new();
        let losses = self.means.values();
        for first in (0..count).step_by(batch) {
            // The last batch is filled up with its last image.
            let chosen: Vec<u32> = (first..first + batch).map(|row| row.min(count - 1) as u32).collect();
            self.engine.show(self.pictures, &chosen)?;
            self.engine.encode()?;
            values.extend(self.engine.codes()?);
            if let Some(classes) = self.engine.setup().probe {
                told.extend(self.engine.verdicts(classes)?.chunks_exact(classes).map(largest));
            }
            let done = (first + batch).min(count) as u64;
            let progress = Progress { phase: Phase::Encoding, done, total: count as u64, losses: &losses };
            if watch(&progress).is_break() {
                return Err(self.interrupted());
            }
        }
        values.truncate(count * columns);
        match values.iter().position(|v| !v.is_finite()) {
            Some(i) => Err(Error::Diverged(format!("the code of image {} is not finite", i / columns))),
            None => Ok((values, told)),
        }
    }

    fn finish(mut self, dataset: &Dataset, watch: Watch<'_>) -> Result<Summary> {
        let (values, told) = self.codes(watch)?;
        let columns = self.engine.setup().sizes.code();
        let summary = Summary {
            steps: self.done,
            losses: self.means.values(),
            seconds: self.seconds,
            images_per_s: if self.seconds > 0.0 { self.trained as f64 / self.seconds } else { 0.0 },
            probe: self.request.probe.map(|_| self.judge(dataset, &told)),
            ..Summary::new(&values, columns, &self.rows)
        };
        if self.files.keep_weights {
            checkpoint::write_weights(&self.files.weights(), &self.engine, &self.settings, self.done)?;
        }
        write(dataset, self.request, self.files, &values, columns, &self.rows, &summary)?;
        checkpoint::remove(&self.files.checkpoint())?;
        Ok(summary)
    }
}

impl Run<'_> {
    fn judge(&self, dataset: &Dataset, told: &[u32]) -> Probe {
        let right = |rows: &mut dyn Iterator<Item = u32>| {
            let (mut right, mut all) = (0, 0);
            for row in rows {
                all += 1;
                right += usize::from(told[row as usize] == self.labels[row as usize]);
            }
            (all > 0).then(|| right as f64 / all as f64)
        };
        let pool = right(&mut self.rows.iter().copied()).unwrap_or(0.0);
        Probe { pool, test: right(&mut dataset.rows(Part::Test)) }
    }
}

/// The position of the largest number, the first of equals.
fn largest(row: &[f32]) -> u32 {
    let better = |best: usize, i: usize| if row[i] > row[best] { i } else { best };
    (1..row.len()).fold(0, better) as u32
}

/// Metadata of a probe's accuracies.
const PROBE_KEYS: [&str; 2] = ["probe-pool-accuracy", "probe-test-accuracy"];

impl Probe {
    fn read(file: &TensorFile) -> Option<Probe> {
        let [pool, test] = PROBE_KEYS.map(|key| file.metadata(key)?.parse().ok());
        pool.map(|pool| Probe { pool, test })
    }
}

impl Summary {
    fn new(values: &[f32], columns: usize, pool: &[u32]) -> Self {
        Summary {
            rows: values.len() / columns.max(1),
            columns,
            pool: pool.len(),
            steps: 0,
            losses: Vec::new(),
            seconds: 0.0,
            images_per_s: 0.0,
            probe: None,
            fingerprint: hex(&Sha256::digest(bytemuck::cast_slice::<f32, u8>(values))),
            complete_before: false,
        }
    }
}

fn write(
    dataset: &Dataset,
    request: &Request,
    files: &Files,
    values: &[f32],
    columns: usize,
    pool: &[u32],
    summary: &Summary,
) -> Result<()> {
    let mut metadata = request.settings(dataset);
    metadata.push(("format", FORMAT.to_string()));
    metadata.push(("fingerprint", summary.fingerprint.clone()));
    metadata.push(("version", env!("CARGO_PKG_VERSION").to_string()));
    if let Some(probe) = summary.probe {
        let [pool, test] = PROBE_KEYS;
        metadata.push((pool, probe.pool.to_string()));
        metadata.extend(probe.test.map(|accuracy| (test, accuracy.to_string())));
    }
    // A pool of all images needs no list.
    let fit_rows = (pool.len() < summary.rows).then_some(pool);
    embedding::write(&files.embedding, values, columns, fit_rows, &metadata)
}

/// Exponential means of named figures, in the order in which they were first seen.
#[derive(Default)]
struct Means {
    sums: Vec<(String, f64, f64)>,
}

impl Means {
    /// What remains of the past at each step.
    const KEEP: f64 = 0.99;

    fn add(&mut self, name: &str, value: f64) {
        let (keep, new) = (Self::KEEP, 1.0 - Self::KEEP);
        match self.sums.iter_mut().find(|(n, ..)| n == name) {
            Some((_, sum, weight)) => {
                (*sum, *weight) = (keep * *sum + new * value, keep * *weight + new);
            }
            None => self.sums.push((name.to_string(), new * value, new)),
        }
    }

    fn values(&self) -> Vec<(String, f64)> {
        self.sums.iter().map(|(name, sum, weight)| (name.clone(), sum / weight)).collect()
    }
}
