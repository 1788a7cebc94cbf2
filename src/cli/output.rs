//! What a verb says on standard output: text for people, or one JSON object a line.
//!
//! Results go to standard output, progress and errors to standard error.

use std::fmt::Display;
use std::io::Write;

use serde_json::{Value, json};

use crate::error::Error;

pub struct Output {
    json: bool,
}

impl Output {
    pub fn new(json: bool) -> Self {
        Output { json }
    }

    pub fn is_json(&self) -> bool {
        self.json
    }

    /// One result: `object` with `--json`, otherwise `text`. A closed pipe ends the program quietly.
    pub fn result(&self, object: &Value, text: impl Display) {
        let mut out = std::io::stdout().lock();
        let done = if self.json { writeln!(out, "{object}") } else { writeln!(out, "{text}") };
        if done.and_then(|()| out.flush()).is_err() {
            std::process::exit(0);
        }
    }

    /// A line about what is going on, on standard error.
    pub fn note(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    pub fn error(&self, error: &Error) {
        if self.json {
            self.result(&json!({"error": error.to_string(), "exit_code": error.exit_code()}), "");
        }
        let _ = writeln!(std::io::stderr(), "tessera: {error}");
    }
}
