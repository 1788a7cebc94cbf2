//! A study: `study.json` and the runs that it names.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::load::{self, Run};
use crate::error::{Error, Result};

/// `study.json`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Study {
    pub protocol: Option<String>,
    pub methods: Vec<StudyMethod>,
    pub winner: Option<String>,
    pub seconds: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct StudyMethod {
    pub label: Option<String>,
    pub method: Option<String>,
    pub rule: Option<String>,
    pub unlabelled: bool,
    pub trials: Vec<Trial>,
    pub chosen: Option<Map<String, Value>>,
    /// Folders, from the study's folder.
    pub runs: Vec<String>,
}

/// A tuning run: what was tried, and how well it did on the validation images.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Trial {
    pub settings: Map<String, Value>,
    pub validation_accuracy: Option<f64>,
}

pub const FILE: &str = "study.json";

impl Study {
    /// `None` if the folder has no such file.
    pub fn open(folder: &Path) -> Result<Option<Study>> {
        let path = folder.join(FILE);
        load::read(&path)?.map(|text| load::parse_json(&path, &text)).transpose()
    }
}

/// The finished and unfinished runs below a folder's `runs`, in the order of their names.
pub fn runs_below(folder: &Path) -> Result<Vec<Run>> {
    let runs = folder.join("runs");
    let entries = std::fs::read_dir(&runs).map_err(|e| Error::io(&runs, "list", e))?;
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::io(&runs, "list", e))?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    folders.iter().map(|f| Run::open(f)).collect()
}

/// Is this a study, finished or under way?
pub fn is_study(folder: &Path) -> bool {
    folder.join(FILE).exists() || (folder.join("runs").is_dir() && !folder.join("config.toml").exists())
}
