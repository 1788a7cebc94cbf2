//! What a run folder holds. Every file may be missing; one that is there must be well formed.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::log::Log;
use crate::error::{Error, Result};
use crate::tensor::{DType, TensorFile};

/// A run, finished or not.
pub struct Run {
    pub folder: PathBuf,
    /// `config.toml`; empty if there is none.
    pub config: toml::Table,
    /// `environment.json`; null if there is none.
    pub environment: Value,
    pub log: Log,
    /// `None`: interrupted, or still going on.
    pub outcome: Option<Outcome>,
    pub predictions: Option<Predictions>,
}

/// `result.json`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Outcome {
    pub label: Option<String>,
    pub method: Option<String>,
    pub rule: Option<String>,
    pub protocol: Option<String>,
    pub seed: Option<u64>,
    pub steps: Option<u64>,
    pub selected_step: Option<u64>,
    pub validation_accuracy: Option<f64>,
    pub test_accuracy: Option<f64>,
    pub test_loss: Option<f64>,
    pub seconds: Option<f64>,
    pub images_per_s: Option<f64>,
    pub parameters: Option<u64>,
    pub stopped: Option<String>,
}

/// `predictions.safetensors`: what the finished model says of the test images.
pub struct Predictions {
    /// Empty if the file does not name them.
    pub classes: Vec<String>,
    pub labels: Vec<u32>,
    pub predicted: Vec<u32>,
    /// Probability of the predicted class.
    pub confidence: Vec<f32>,
    /// Classes, named or not.
    pub width: usize,
}

impl Predictions {
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn correct(&self) -> usize {
        self.labels.iter().zip(&self.predicted).filter(|(l, p)| l == p).count()
    }
}

impl Run {
    pub fn open(folder: &Path) -> Result<Run> {
        if !folder.is_dir() {
            // Says whether it is missing, forbidden or a file.
            let found = fs::read_dir(folder).err().map(|e| Error::io(folder, "open the run folder", e));
            return Err(found.unwrap_or_else(|| {
                Error::format(folder, "the path", "a run folder", "something that is not a folder")
            }));
        }
        let [config, environment, log, outcome] =
            ["config.toml", "environment.json", "metrics.jsonl", "result.json"].map(|n| folder.join(n));
        let [config_text, environment_text, log_text, outcome_text] =
            [read(&config)?, read(&environment)?, read(&log)?, read(&outcome)?];
        if [&config_text, &environment_text, &log_text, &outcome_text].iter().all(|f| f.is_none()) {
            let expected = "a run (config.toml, metrics.jsonl, …) or a study (study.json)";
            return Err(Error::format(folder, "the folder", expected, "neither"));
        }
        Ok(Run {
            folder: folder.to_path_buf(),
            config: config_text.map(|t| parse_toml(&config, &t)).transpose()?.unwrap_or_default(),
            environment: environment_text
                .map(|t| parse_json(&environment, &t))
                .transpose()?
                .unwrap_or_default(),
            log: log_text.map(|t| Log::parse(&log, &t)).transpose()?.unwrap_or_default(),
            outcome: outcome_text.map(|t| parse_json(&outcome, &t)).transpose()?,
            predictions: open_predictions(&folder.join("predictions.safetensors"))?,
        })
    }

    /// A value of the environment by its JSON pointer.
    pub fn about(&self, pointer: &str) -> Option<&Value> {
        self.environment.pointer(pointer).filter(|v| !v.is_null())
    }

    pub fn about_text(&self, pointer: &str) -> Option<&str> {
        self.about(pointer)?.as_str()
    }

    pub fn about_number(&self, pointer: &str) -> Option<u64> {
        self.about(pointer)?.as_u64()
    }

    /// A configured value as text, without quotes.
    pub fn setting(&self, key: &str) -> Option<String> {
        Some(match self.config.get(key)? {
            toml::Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    }

    pub fn method(&self) -> Option<String> {
        self.outcome.as_ref().and_then(|o| o.method.clone()).or_else(|| self.setting("method"))
    }

    pub fn rule(&self) -> Option<String> {
        self.outcome.as_ref().and_then(|o| o.rule.clone()).or_else(|| self.setting("rule"))
    }

    pub fn protocol(&self) -> Option<String> {
        self.outcome.as_ref().and_then(|o| o.protocol.clone()).or_else(|| self.setting("recipe"))
    }

    pub fn unlabelled(&self) -> bool {
        self.config.get("unlabelled").and_then(toml::Value::as_bool).unwrap_or(false)
    }

    /// Short name of the method as trained here.
    pub fn label(&self) -> String {
        let stored = self.outcome.as_ref().and_then(|o| o.label.clone());
        stored.unwrap_or_else(|| {
            let parts = [self.method(), self.rule(), self.unlabelled().then(|| "†".to_string())];
            let parts: Vec<String> = parts.into_iter().flatten().collect();
            if parts.is_empty() { self.name() } else { parts.join(" ") }
        })
    }

    pub fn seed(&self) -> Option<u64> {
        let configured = || self.config.get("seed")?.as_integer()?.try_into().ok();
        self.outcome.as_ref().and_then(|o| o.seed).or_else(configured)
    }

    /// Name of the folder.
    pub fn name(&self) -> String {
        let named = self.folder.file_name().map(|n| n.to_string_lossy().into_owned());
        named.unwrap_or_else(|| self.folder.display().to_string())
    }

    /// A finished run's accuracy on the test images, and their number where it is known.
    pub fn test(&self) -> Option<(f64, Option<f64>)> {
        let outcome = self.outcome.as_ref()?;
        if let Some(p) = self.predictions.as_ref().filter(|p| p.len() > 0) {
            return Some((p.correct() as f64 / p.len() as f64, Some(p.len() as f64)));
        }
        let accuracy = outcome.test_accuracy?;
        Some((accuracy, self.about_number("/data/test").filter(|&n| n > 0).map(|n| n as f64)))
    }

    /// Accuracy on the validation images of the parameters that were kept.
    pub fn validation(&self) -> Option<f64> {
        self.outcome.as_ref()?.validation_accuracy
    }

    /// Names of the classes, or their numbers.
    pub fn classes(&self, count: usize) -> Vec<String> {
        let predicted = self.predictions.as_ref().map(|p| p.classes.clone()).unwrap_or_default();
        let names = if predicted.is_empty() { strings(self.about("/data/classes")) } else { predicted };
        (0..count.max(names.len())).map(|i| names.get(i).cloned().unwrap_or_else(|| i.to_string())).collect()
    }
}

/// The strings of a JSON list.
pub fn strings(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or(&[]);
    list.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_string)).collect()
}

/// A file's bytes; `None` if there is no such file.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(path, "read", e)),
    }
}

pub fn parse_json<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| {
        let text = e.to_string();
        // The place is said once, in front.
        let what = text.split(" at line ").next().unwrap_or(&text);
        let place = format!("line {}, column {}", e.line(), e.column());
        Error::format(path, place, "JSON of the documented form", what)
    })
}

fn parse_toml(path: &Path, bytes: &[u8]) -> Result<toml::Table> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        Error::format(path, format!("byte {}", e.valid_up_to()), "text in UTF-8", "something else")
    })?;
    text.parse().map_err(|e: toml::de::Error| {
        let before = e.span().and_then(|s| text.get(..s.start)).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        Error::format(path, format!("line {line}"), "TOML", e.message())
    })
}

fn open_predictions(path: &Path) -> Result<Option<Predictions>> {
    if !path.exists() {
        return Ok(None);
    }
    let file = TensorFile::open(path)?;
    let shape = file.shape("probabilities")?;
    let &[count, width] = shape.dims() else {
        return Err(file.wrong("probabilities", "a matrix [N, classes]", shape.to_string()));
    };
    let probabilities = file.slice::<f32>("probabilities", DType::F32)?;
    let classes = match file.metadata("classes") {
        Some(text) => serde_json::from_str::<Vec<String>>(text).map_err(|e| {
            Error::format(path, "metadata key 'classes'", "a JSON list of names", e.to_string())
        })?,
        None => Vec::new(),
    };
    if !classes.is_empty() && classes.len() != width {
        let expected = format!("{width} names, one a column of 'probabilities'");
        return Err(Error::format(path, "metadata key 'classes'", expected, classes.len().to_string()));
    }
    let numbers = |name: &str| -> Result<Vec<u32>> {
        let values = file.to_u32(name)?;
        if values.len() != count {
            return Err(file.wrong(name, format!("{count} values"), values.len().to_string()));
        }
        match values.iter().find(|&&v| v as usize >= width) {
            Some(v) => Err(file.wrong(name, format!("classes below {width}"), v.to_string())),
            None => Ok(values),
        }
    };
    let (labels, predicted) = (numbers("labels")?, numbers("predicted")?);
    let confidence =
        predicted.iter().enumerate().map(|(i, &p)| probabilities[i * width + p as usize]).collect();
    Ok(Some(Predictions { classes, labels, predicted, confidence, width }))
}
