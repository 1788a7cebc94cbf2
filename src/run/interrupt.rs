//! Ctrl-C, `kill` and a closed terminal, as a flag that long jobs look at between steps: they then save
//! what they have and return [`Error::Interrupted`].

use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// From now on the first signal sets the flag and the second ends the process at once, with the exit
/// code of [`Error::Interrupted`]. Further calls change nothing.
///
/// Only jobs that look at [`requested`] should install this: it takes the usual effect away from Ctrl-C.
pub fn install() -> Result<()> {
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    let handle = || {
        if REQUESTED.swap(true, Ordering::SeqCst) {
            process::exit(Error::Interrupted(String::new()).exit_code().into());
        }
        eprintln!("\ntessera: finishing this step; once more ends at once, without saving");
    };
    let installed = INSTALLED.get_or_init(|| ctrlc::set_handler(handle).map_err(|e| e.to_string()));
    installed.clone().map_err(|e| Error::Device(format!("cannot listen for Ctrl-C: {e}")))
}

/// Has the user asked for an end?
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}
