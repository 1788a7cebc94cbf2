//! Results in words, and the text of the last error of a kernel or module.

use super::{Out, put};
use crate::status::Status;
use std::ffi::{c_char, c_int};
use std::sync::Mutex;

static LAST: Mutex<String> = Mutex::new(String::new());

/// Says what went wrong, on stderr and for `simgpu_last_error_text`.
pub fn note(text: String) {
    eprintln!("simgpu: {text}");
    remember(text);
}

/// As `note`, for what programs expect to happen: not on stderr.
pub fn remember(text: String) {
    *LAST.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = text;
}

pub fn last() -> String {
    LAST.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
}

pub fn forget() {
    LAST.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clear();
}

super::api! {
    fn cuGetErrorName(code: c_int, out: Out<*const c_char>) {
        let status = Status::from_code(code).ok_or(Status::InvalidValue)?;
        put(out, status.name().as_ptr())
    }

    fn cuGetErrorString(code: c_int, out: Out<*const c_char>) {
        let status = Status::from_code(code).ok_or(Status::InvalidValue)?;
        put(out, status.text().as_ptr())
    }
}
