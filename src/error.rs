//! The one error type of the crate, and the exit code of each kind of failure.
//!
//! A message says what was found, what was expected, where (file, byte offset or key), and, where it
//! is not obvious, what to do next. Nothing that a user can cause panics.

use std::io;
use std::path::{Path, PathBuf};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line, or a configuration file, asks for something that does not exist or does not
    /// fit together.
    #[error("{0}")]
    Usage(String),

    /// The operating system refused: not found, no permission, disk full, a directory where a file
    /// was expected.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io { path: PathBuf, action: &'static str, source: io::Error },

    /// A file was read, but its content is not what its format demands. `place` is a byte offset, a
    /// key, a line or an entry name.
    #[error("{}: {place}: expected {expected}, found {found}", path.display())]
    Format { path: PathBuf, place: String, expected: String, found: String },

    /// Operands of an operation do not fit.
    #[error("{op}: {detail}")]
    Shape { op: &'static str, detail: String },

    /// A device that was asked for cannot be had, or failed.
    #[error("{0}")]
    Device(String),

    /// Training produced a value that is not finite.
    #[error("{0}")]
    Diverged(String),

    /// The user interrupted a long job; its state was saved first.
    #[error("interrupted{0}")]
    Interrupted(String),
}

impl Error {
    pub fn usage(message: impl Into<String>) -> Self {
        Error::Usage(message.into())
    }

    pub fn io(path: impl AsRef<Path>, action: &'static str, source: io::Error) -> Self {
        Error::Io { path: path.as_ref().to_path_buf(), action, source }
    }

    pub fn format(
        path: impl AsRef<Path>,
        place: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Error::Format {
            path: path.as_ref().to_path_buf(),
            place: place.into(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    pub fn shape(op: &'static str, detail: impl Into<String>) -> Self {
        Error::Shape { op, detail: detail.into() }
    }

    /// Process exit code: 2 usage, 3 input/output, 4 malformed data or shapes, 5 device, 6 diverged,
    /// 130 interrupted (as a shell reports Ctrl-C).
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) => 2,
            Error::Io { .. } => 3,
            Error::Format { .. } | Error::Shape { .. } => 4,
            Error::Device(_) => 5,
            Error::Diverged(_) => 6,
            Error::Interrupted(_) => 130,
        }
    }
}
