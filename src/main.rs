//! The `tessera` binary: everything it can do is in the library; this file only turns the outcome
//! into an exit code.

use std::process::ExitCode;

/// Counts allocations for `tessera bench`; the cost is one relaxed addition each.
#[global_allocator]
static ALLOCATOR: tessera::bench::allocations::Counting = tessera::bench::allocations::Counting;

fn main() -> ExitCode {
    tessera::cli::main()
}
