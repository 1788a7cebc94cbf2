//! `tessera bench`: how fast steps, k-means and convolutions are here.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{DeviceArgs, Output};
use crate::bench;
use crate::device;
use crate::error::Result;

#[derive(Args)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Subcommand)]
enum What {
    /// One training step on random images.
    Step {
        /// cifarnet, mininet, mnistnet, omninet, or the autoencoders acai16 and acai64.
        #[arg(long, default_value = "cifarnet")]
        net: String,
        /// forward, sgd, mtl, or an update rule of Meta-MTL: paper, literal, first-order, released-intended.
        /// Autoencoders: forward, or paper for their training step.
        #[arg(long, default_value = "paper")]
        rule: String,
        /// Channels of each block, such as 32,64, instead of the net's own.
        #[arg(long, value_name = "C,…", value_delimiter = ',')]
        channels: Vec<usize>,
        /// Images of a batch [default: 100; autoencoders 64].
        #[arg(long)]
        batch: Option<usize>,
        /// Inner steps of a Meta-MTL episode.
        #[arg(long, default_value_t = 1)]
        inner_steps: usize,
        /// Auxiliary tasks.
        #[arg(long, default_value_t = 4)]
        tasks: usize,
        /// Measured steps, after others; 0 measures the first one alone.
        #[arg(long, default_value_t = 20)]
        repeats: usize,
    },
    /// Lloyd's k-means for a fixed number of iterations from given or drawn centres.
    Kmeans {
        /// Points.
        #[arg(long, default_value_t = 50_000)]
        n: usize,
        /// Numbers of a point.
        #[arg(long, default_value_t = 256)]
        d: usize,
        /// Clusters.
        #[arg(long, default_value_t = 15)]
        k: usize,
        #[arg(long, default_value_t = 20)]
        iters: usize,
        /// Points [N, d], .npy or safetensors, instead of drawn ones.
        #[arg(long)]
        data: Option<PathBuf>,
        /// Starting centres [K, d], .npy or safetensors.
        #[arg(long)]
        init: Option<PathBuf>,
    },
    /// Single 3×3 convolutions of the project's nets, in each direction.
    Conv {
        #[arg(long, default_value_t = 100)]
        batch: usize,
        #[arg(long, default_value_t = 10)]
        repeats: usize,
    },
}

pub fn run(bench: Bench, output: &Output) -> Result<()> {
    let device = bench.device.choice();
    match bench.what {
        What::Step { net, rule, channels, batch, inner_steps, tasks, repeats } => {
            let batch = batch.unwrap_or_else(|| bench::step::usual_batch(&net));
            let request =
                bench::step::Request { net, rule, channels, batch, inner_steps, tasks, repeats, device };
            let f = bench::step::measure(&request)?;
            let text = format!(
                "{} {} batch {}: median {:.2} ms (p10 {:.2}, p90 {:.2}), {:.1} GFLOP, {:.0} GFLOP/s, {:.0} images/s\n\
                 peak {:.0} MiB, on the device {:.0} MiB, {} allocations in {} steps, {}",
                f.net,
                f.rule,
                f.batch,
                f.median_ms,
                f.p10_ms,
                f.p90_ms,
                f.gflop,
                f.gflop_per_s,
                f.images_per_s,
                mib(f.peak_bytes as usize),
                mib(f.device_bytes),
                f.allocations,
                f.repeats,
                f.device,
            );
            output.result(&json!(f), text);
        }
        What::Kmeans { n, d, k, iters, data, init } => {
            let mut device = device::open(&device)?;
            super::cluster::bench((n, d, k, iters), data, init, device.as_mut(), output)?;
        }
        What::Conv { batch, repeats } => {
            for &layer in bench::conv::LAYERS {
                for f in bench::conv::measure(layer, batch, repeats, &device)? {
                    let text = format!(
                        "{:>13} {:<12} {:>8.2} ms {:>7.0} GFLOP/s, {}",
                        f.layer, f.direction, f.median_ms, f.gflop_per_s, f.device
                    );
                    output.result(&json!(f), text);
                }
            }
        }
    }
    Ok(())
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / (1 << 20) as f64
}
