//! The command line: one file a verb; this one parses, runs and reports errors.

mod bench;
mod cluster;
mod data;
mod demo;
mod device;
mod doctor;
mod embed;
mod eval;
mod gradient;
mod inspect;
mod output;
mod progress;
mod report;
mod study;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use device::DeviceArgs;
pub use output::Output;

use crate::error::{Error, Result};

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
enum Verb {
    /// The whole job on images that the program draws itself; what no argument at all does.
    Demo(demo::Demo),
    /// Import, draw or describe data sets.
    Data(data::Data),
    /// Describe every image by numbers, learned without labels.
    Embed(embed::Embed),
    /// How good an embedding is: clusters against classes, and pictures of codes.
    Inspect(inspect::Inspect),
    /// Cluster an embedding with k-means, several times.
    Cluster(cluster::Cluster),
    /// Train a classifier: one run of a method.
    Train(train::Train),
    /// Compare methods under one protocol: trials on validation images, then several seeds.
    Study(study::Study),
    /// Accuracy of a trained model on a data set.
    Eval(eval::Eval),
    /// Classes of images.
    Predict(eval::Predict),
    /// The meta-gradient of given parameters on given batches, for checks against other frameworks.
    Gradient(gradient::Gradient),
    /// Write a report on runs, or on a study.
    Report(report::Report),
    /// What this machine offers, what is used of it, and what is missing.
    Doctor,
    /// Measure steps, k-means iterations and convolutions.
    Bench(bench::Bench),
}

pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.json);
    match in_pool(cli.threads, || run(cli.verb, &output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Runs everything on a worker thread: work that is started from outside a pool goes through a queue,
/// which costs time and memory at every step.
fn in_pool(threads: Option<u16>, work: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0).into()).build();
    pool.map_err(|e| Error::Device(format!("cannot start worker threads: {e}")))?.install(work)
}

fn run(verb: Option<Verb>, output: &Output) -> Result<()> {
    match verb {
        None => demo::run(demo::Demo::default(), output),
        Some(Verb::Demo(demo)) => demo::run(demo, output),
        Some(Verb::Data(data)) => data::run(data, output),
        Some(Verb::Embed(embed)) => embed::run(embed, output),
        Some(Verb::Inspect(inspect)) => inspect::run(inspect, output),
        Some(Verb::Cluster(cluster)) => cluster::run(cluster, output),
        Some(Verb::Train(train)) => train::run(train, output),
        Some(Verb::Study(study)) => study::run(study, output),
        Some(Verb::Eval(eval)) => eval::eval(eval, output),
        Some(Verb::Predict(predict)) => eval::predict(predict, output),
        Some(Verb::Gradient(gradient)) => gradient::run(gradient, output),
        Some(Verb::Report(report)) => report::run(report, output),
        Some(Verb::Doctor) => doctor::run(output),
        Some(Verb::Bench(bench)) => bench::run(bench, output),
    }
}
