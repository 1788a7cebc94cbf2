//! The log of a run: one JSON object a line in `metrics.jsonl`, and the same figures in a TensorBoard
//! event file. A run that goes on cuts both back to where its checkpoint was written.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::tensorboard::EventFile;
use crate::error::{Error, Result};

/// Name of the log in a run folder.
pub const FILE: &str = "metrics.jsonl";

pub struct Log {
    path: PathBuf,
    lines: File,
    bytes: u64,
    events: EventFile,
    events_name: String,
}

/// How long the files were at a checkpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Position {
    pub lines: u64,
    pub events_name: String,
    pub events: u64,
}

/// Seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

impl Log {
    pub fn create(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let lines = File::create(&path).map_err(|e| Error::io(&path, "write", e))?;
        let (started, host) = (now(), super::environment::host());
        // TensorBoard takes files whose names have "tfevents" in them, the newest last.
        let events_name = format!("events.out.tfevents.{:010}.{host}", started as u64);
        let events = EventFile::create(folder.join(&events_name), started)?;
        Ok(Log { path, lines, bytes: 0, events, events_name })
    }

    /// Goes on from a position: what was written later is cut off.
    pub fn resume(folder: &Path, at: &Position) -> Result<Self> {
        let path = folder.join(FILE);
        let io = |action| {
            let path = path.clone();
            move |e| Error::io(path, action, e)
        };
        let mut lines = OpenOptions::new().write(true).open(&path).map_err(io("go on writing"))?;
        let found = lines.metadata().map_err(io("read its size"))?.len();
        if found < at.lines {
            let expected = format!("at least {} bytes, as when the checkpoint was written", at.lines);
            return Err(Error::format(&path, "content", expected, format!("{found} bytes")));
        }
        lines.set_len(at.lines).map_err(io("cut"))?;
        lines.seek(SeekFrom::End(0)).map_err(io("go on writing"))?;
        let events = EventFile::append(folder.join(&at.events_name), at.events)?;
        Ok(Log { path, lines, bytes: at.lines, events, events_name: at.events_name.clone() })
    }

    /// Writes one event: `fields` become scalars under `event/…` in TensorBoard.
    pub fn write(&mut self, event: &str, step: u64, fields: &[(&str, f64)], more: Value) -> Result<()> {
        let mut object = Map::new();
        object.insert("event".into(), json!(event));
        object.insert("step".into(), json!(step));
        let wall = now();
        for &(name, value) in fields {
            object.insert(name.into(), json!(value));
            self.events.scalar(&format!("{event}/{name}"), step, value as f32, wall)?;
        }
        if let Value::Object(more) = more {
            object.extend(more);
        }
        let mut line = Value::Object(object).to_string();
        line.push('\n');
        self.lines.write_all(line.as_bytes()).map_err(|e| Error::io(&self.path, "write", e))?;
        self.bytes += line.len() as u64;
        self.events.flush()
    }

    /// Makes everything durable and says how far it goes.
    pub fn position(&mut self) -> Result<Position> {
        self.lines.sync_data().map_err(|e| Error::io(&self.path, "write", e))?;
        self.events.sync()?;
        Ok(Position { lines: self.bytes, events_name: self.events_name.clone(), events: self.events.len() })
    }
}

/// Sums of an epoch's figures by name, for their means.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Means {
    sums: BTreeMap<String, (f64, u64)>,
}

impl Means {
    pub fn add(&mut self, name: &str, value: f64) {
        match self.sums.get_mut(name) {
            Some((sum, count)) => {
                *sum += value;
                *count += 1;
            }
            None => {
                self.sums.insert(name.to_string(), (value, 1));
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.sums.iter().map(|(name, (sum, count))| (name.as_str(), sum / *count as f64))
    }

    pub fn get(&self, name: &str) -> Option<f64> {
        self.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    pub fn clear(&mut self) {
        self.sums.clear();
    }
}
