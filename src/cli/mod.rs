//! The command line: one file a verb; this one parses, runs and reports errors.

mod output;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use output::Output;

use crate::error::Result;

/// Image classifiers from few labels, with k-means tasks and second-order meta-gradients.
#[derive(Parser)]
#[command(name = "tessera", version, propagate_version = true, arg_required_else_help = false)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,

    /// Print one JSON object a line on standard output instead of text.
    #[arg(long, global = true)]
    json: bool,

    /// Worker threads [default: all cores]. Results do not depend on it.
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

#[derive(Subcommand)]
enum Verb {}

pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.json);
    if let Some(threads) = cli.threads {
        // Fails only if a pool exists already; this is the first use.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build_global();
    }
    match run(cli.verb, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(verb: Option<Verb>, _output: &Output) -> Result<()> {
    match verb {
        None => Ok(()),
        Some(verb) => match verb {},
    }
}
