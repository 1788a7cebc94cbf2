//! The folder of a run: its files' names, and a lock so that two processes do not write into one folder.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::tensor::write_atomically;

pub const CONFIG: &str = "config.toml";
pub const ENVIRONMENT: &str = "environment.json";
pub const CHECKPOINT: &str = "checkpoint.safetensors";
pub const WEIGHTS: &str = "weights.safetensors";
pub const PREDICTIONS: &str = "predictions.safetensors";
pub const RESULT: &str = "result.json";
const LOCK: &str = ".lock";

pub struct RunFolder {
    path: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// A folder for a new run; it must not hold one already.
    pub fn create(path: &Path) -> Result<Self> {
        if path.join(CONFIG).exists() {
            let advice = "--resume goes on with it; otherwise choose another folder";
            return Err(Error::usage(format!("{} holds a run already: {advice}", path.display())));
        }
        std::fs::create_dir_all(path).map_err(|e| Error::io(path, "create the run folder", e))?;
        Self::lock(path)
    }

    /// The folder of a run that was started before.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.join(CONFIG).exists() {
            let what = format!("{} holds no run to resume ({CONFIG} is missing)", path.display());
            return Err(Error::usage(what));
        }
        Self::lock(path)
    }

    fn lock(path: &Path) -> Result<Self> {
        let name = path.join(LOCK);
        let lock = File::create(&name).map_err(|e| Error::io(&name, "create", e))?;
        match lock.try_lock() {
            Ok(()) => Ok(RunFolder { path: path.to_path_buf(), _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                Err(Error::usage(format!("another process is training in {}", path.display())))
            }
            // A file system without locks: nothing to hold on to.
            Err(TryLockError::Error(_)) => Ok(RunFolder { path: path.to_path_buf(), _lock: lock }),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a small text file, whole or not at all.
    pub fn write_text(&self, name: &str, text: &str) -> Result<()> {
        write_atomically(self.file(name), |f| f.write_all(text.as_bytes()))
    }
}
