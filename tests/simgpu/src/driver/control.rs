//! What programs can ask of the simulator itself, and what it does at the end of the process.

use super::{Entry, errors};
use crate::config::{self, Checks};
use crate::exec::counters;
use crate::exec::memory::{self, Owner};
use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int};
use std::sync::Once;

/// All functions of the driver API that are there, by name.
pub fn all_functions() -> Vec<Entry> {
    [
        super::context::entries(),
        super::device::entries(),
        super::errors::entries(),
        super::event::entries(),
        super::graph::entries(),
        super::launch::entries(),
        super::memory::entries(),
        super::module::entries(),
        super::occupancy::entries(),
        super::pool::entries(),
        super::stream::entries(),
    ]
    .concat()
}

unsafe extern "C" {
    fn atexit(function: extern "C" fn()) -> c_int;
}

/// Sees to it that counters and leaks are reported when the process ends.
pub fn at_exit() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: C's own function; what it will call only takes locks and writes.
        unsafe { atexit(finish) };
    });
}

extern "C" fn finish() {
    report_leaks();
    crate::coverage::write();
    if let Some(path) = &config::get().stats
        && let Err(error) = std::fs::write(path, counters::json())
    {
        eprintln!("simgpu: cannot write {path}: {error}");
    }
}

/// Says which allocations of the program are still there.
pub fn report_leaks() {
    if !config::live().checks.leak {
        return;
    }
    let memory = memory::lock();
    let leaks: Vec<String> = memory
        .live()
        .filter(|a| matches!(a.owner, Owner::Program | Owner::Host))
        .map(|a| a.describe())
        .collect();
    drop(memory);
    if !leaks.is_empty() {
        errors::note(format!("leak: never freed: {}", leaks.join("; ")));
    }
}

/// Hands a text out; it stays valid until the next text of the same thread.
fn lend(text: String) -> *const c_char {
    thread_local! {
        static LENT: RefCell<CString> = RefCell::default();
    }
    let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
    LENT.with_borrow_mut(|lent| {
        *lent = text;
        lent.as_ptr()
    })
}

/// The text of the last error of a kernel, launch or module; empty if there was none.
#[unsafe(no_mangle)]
pub extern "C" fn simgpu_last_error_text() -> *const c_char {
    lend(errors::last())
}

/// Forgets a kernel's error, so that a test can go on in the same process.
#[unsafe(no_mangle)]
pub extern "C" fn simgpu_reset_error() {
    super::lock().sticky = None;
    errors::forget();
}

/// Sets the checks, as `SIMGPU_CHECK` does; 1 if there is no such check.
///
/// # Safety
///
/// `names` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simgpu_set_checks(names: *const c_char) -> c_int {
    // SAFETY: promised by the caller.
    let Ok(names) = (unsafe { super::module::text(names) }) else { return 1 };
    match Checks::parse(&names.to_string_lossy()) {
        Ok(checks) => {
            config::change_live(|live| live.checks = checks);
            0
        }
        Err(error) => {
            errors::note(error);
            1
        }
    }
}

/// Sets the seed of the orders of blocks, warps and graph nodes; 0 is the natural order.
#[unsafe(no_mangle)]
pub extern "C" fn simgpu_set_seed(seed: u64) {
    config::change_live(|live| live.seed = seed);
}

/// Sets how many threads a launch may use; 0 counts as 1.
#[unsafe(no_mangle)]
pub extern "C" fn simgpu_set_threads(threads: usize) {
    config::change_live(|live| live.threads = threads.max(1));
}

/// The counters of all launches so far, by kernel, as JSON.
#[unsafe(no_mangle)]
pub extern "C" fn simgpu_counters_json() -> *const c_char {
    lend(counters::json())
}

#[unsafe(no_mangle)]
pub extern "C" fn simgpu_reset_counters() {
    counters::reset();
}
