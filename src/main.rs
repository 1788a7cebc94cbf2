//! The `tessera` binary: everything it can do is in the library; this file only turns the outcome
//! into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    tessera::cli::main()
}
