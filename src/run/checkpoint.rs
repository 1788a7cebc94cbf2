//! A moment of training as one file: every parameter and momentum buffer under PyTorch's names and in its
//! layout, the best parameters so far, and, as JSON in the metadata, the position. Random draws and the
//! order of images are functions of the seed and the step's number, so the step is the whole position of
//! generators and samplers.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::metrics::{Means, Position};
use super::model::{Stored, read_parameter};
use super::{Engine, settings::Config};
use crate::error::{Error, Result};
use crate::nn::Parameter;
use crate::tensor::{Entry, TensorFile, write_tensors};

/// Value of the metadata key `format`.
const FORMAT: &str = "tessera-checkpoint-1";

/// Prefix of the best parameters so far.
const BEST: &str = "best.";

/// Where training stands.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// Seconds of training so far, over all sessions.
    pub seconds: f64,
    /// Of the epoch under way.
    pub means: Means,
    pub task_steps: Vec<u64>,
    pub epoch_images: u64,
    pub epoch_seconds: f64,
    /// Images over all steps.
    pub images: u64,
    /// Best validation so far.
    pub best: Option<Best>,
    /// Validations since.
    pub stale: u64,
    /// Last validation.
    pub accuracy: Option<f64>,
    /// Dropout rate in front of each pseudo-task decoder; empty without dropout.
    #[serde(default)]
    pub dropout: Vec<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    pub step: u64,
    pub accuracy: f64,
}

/// The generator of all random numbers, for readers of the file.
#[derive(Serialize, Deserialize)]
struct Generator {
    algorithm: String,
    seed: u64,
    split_seed: u64,
}

/// Values of parameters, in the engine's order.
pub type Values = Vec<(Parameter, Vec<f32>)>;

pub fn write(
    path: &Path,
    engine: &Engine,
    config: &Config,
    progress: &Progress,
    best: Option<&Values>,
    position: &Position,
) -> Result<()> {
    let mut stored = Vec::new();
    for (name, parameter) in engine.states() {
        stored.push(Stored::new(name.clone(), parameter, &engine.session().read_f32(name)?));
    }
    for (parameter, values) in best.into_iter().flatten() {
        stored.push(Stored::new(format!("{BEST}{}", parameter.name), parameter, values));
    }
    let json = |e: serde_json::Error| Error::format(path, "metadata", "finite numbers", e.to_string());
    let generator = Generator {
        algorithm: "philox4x32-10, counters from purpose and step".into(),
        seed: config.seed,
        split_seed: config.split_seed,
    };
    let metadata = [
        ("format", FORMAT.to_string()),
        ("progress", serde_json::to_string(progress).map_err(json)?),
        ("log", serde_json::to_string(position).map_err(json)?),
        ("generator", serde_json::to_string(&generator).map_err(json)?),
        ("version", env!("CARGO_PKG_VERSION").to_string()),
    ];
    let entries: Vec<Entry<'_>> = stored.iter().map(Stored::entry).collect();
    write_tensors(path, &entries, &metadata)
}

/// Puts the engine where the file says.
pub fn read(path: &Path, engine: &mut Engine) -> Result<(Progress, Option<Values>, Position)> {
    let file = TensorFile::open(path)?;
    let key = |key: &str| {
        let place = format!("metadata key '{key}'");
        file.metadata(key)
            .ok_or_else(|| Error::format(path, place, "a value", "no such key; is this a checkpoint?"))
    };
    let format = key("format")?;
    if format != FORMAT {
        return Err(Error::format(path, "metadata key 'format'", FORMAT, format));
    }
    let wrong = |key: &str| {
        let place = format!("metadata key '{key}'");
        move |e: serde_json::Error| Error::format(path, place, "the state of a run", e.to_string())
    };
    let progress: Progress = serde_json::from_str(key("progress")?).map_err(wrong("progress"))?;
    let position: Position = serde_json::from_str(key("log")?).map_err(wrong("log"))?;
    for (name, parameter) in engine.states().to_vec() {
        let values = read_parameter(&file, &name, &parameter)?;
        engine.session_mut().write(&name, crate::device::HostSlice::F32(&values))?;
    }
    let mut best = None;
    if file.names().iter().any(|n| n.starts_with(BEST)) {
        let read = |p: &Parameter| Ok((p.clone(), read_parameter(&file, &format!("{BEST}{}", p.name), p)?));
        best = Some(engine.parameters().iter().map(read).collect::<Result<Values>>()?);
    }
    Ok((progress, best, position))
}
