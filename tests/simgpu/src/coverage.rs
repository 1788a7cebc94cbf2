//! With `SIMGPU_COVERAGE`: which functions of the API were called and which opcode forms launched, so that tests can
//! tell what no test touches.

use crate::exec::instruction::Program;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::{Mutex, MutexGuard};

static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// What was seen, if somebody wants to know.
fn seen() -> Option<MutexGuard<'static, BTreeSet<String>>> {
    crate::config::get().coverage.as_ref()?;
    Some(SEEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

pub fn note_call(name: &str) {
    if let Some(mut seen) = seen() {
        seen.insert(name.to_string());
    }
}

pub fn note_launch(program: &Program) {
    if let Some(mut seen) = seen() {
        seen.extend(program.origins.iter().map(|origin| origin.opcode.clone()));
    }
}

/// Adds the names, one a line, to the file that the variable names.
pub fn write() {
    let (Some(path), Some(seen)) = (&crate::config::get().coverage, seen()) else { return };
    let lines: String = seen.iter().map(|name| format!("{name}\n")).collect();
    let file = OpenOptions::new().create(true).append(true).open(path);
    if let Err(error) = file.and_then(|mut file| file.write_all(lines.as_bytes())) {
        eprintln!("simgpu: cannot write {path}: {error}");
    }
}
