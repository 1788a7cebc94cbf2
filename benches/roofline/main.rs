//! The least that each kernel of a step must do, and the least time that this takes on rated GPUs:
//!
//! ```text
//! cargo bench --bench roofline -- [--net cifarnet] [--rule paper] [--batch 100] [--precision f32] [--counters]
//! ```
//!
//! Arithmetic and bytes are the plan's. Beside them stand, with `--counters`, bytes by the counters of the simulated
//! GPU, and on a machine with an NVIDIA GPU the times that were measured there. A simulated GPU has no times.

#[path = "../../tests/cuda/harness.rs"]
mod harness;
mod table;
#[path = "../../tests/cuda/watched.rs"]
mod watched;
mod work;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use tessera::device::Precision;
use tessera::error::Result;

use table::Table;
use work::Machine;

#[derive(Parser)]
#[command(about = "Bounds of every kernel from rated peaks, beside counters or measured times")]
struct Arguments {
    /// Nets (cifarnet, mininet, mnistnet, omninet), autoencoders (acai16, acai64), kmeans.
    #[arg(long, value_delimiter = ',', default_value = "cifarnet,mnistnet,acai16,kmeans")]
    net: Vec<String>,
    /// Update rule of Meta-MTL.
    #[arg(long, default_value = "paper")]
    rule: String,
    /// Images of a batch [default: 100; autoencoders 64].
    #[arg(long)]
    batch: Option<usize>,
    /// Arithmetic of products: f32, tf32, bf16.
    #[arg(long, default_value = "f32")]
    precision: Precision,
    /// Count bytes on the simulated GPU, which takes minutes.
    #[arg(long)]
    counters: bool,
    /// Points of k-means at most, on the simulated GPU.
    #[arg(long, default_value_t = 50_000)]
    points: usize,
    /// Times that a step is measured on a real GPU.
    #[arg(long, default_value_t = 20)]
    repeats: usize,
    /// One JSON object a table.
    #[arg(long)]
    json: bool,
    /// Cargo says this to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("roofline: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let machine = Machine::find(arguments.counters);
    for net in &arguments.net {
        let tables = if net == "kmeans" {
            work::kmeans(arguments, &machine)?
        } else {
            vec![work::step(arguments, net, &machine)?]
        };
        tables.iter().for_each(|table| show(table, arguments.json));
    }
    Ok(())
}

/// A closed pipe ends the program quietly.
fn show(table: &Table, json: bool) {
    let mut out = std::io::stdout().lock();
    let done = if json { writeln!(out, "{}", table.json()) } else { writeln!(out, "{table}") };
    if done.is_err() {
        std::process::exit(0);
    }
}
