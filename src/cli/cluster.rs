//! `tessera cluster`: partitions of an embedding, as auxiliary tasks.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{DeviceArgs, Output, progress};
use crate::cluster::{self, Diversity, Embedding, Settings, metrics, partition, tasks};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::tensor::Matrix;

#[derive(Args)]
pub struct Cluster {
    /// Embedding [N, d]: a safetensors file with `embedding`, or a .npy file.
    emb: PathBuf,
    /// Tasks file to write.
    #[arg(short, long)]
    out: PathBuf,
    /// Partitions.
    #[arg(long, default_value_t = 4)]
    tasks: usize,
    /// Clusters of each partition.
    #[arg(long, default_value_t = 10)]
    clusters: usize,
    /// What makes the partitions differ: scale, half, grow or none.
    #[arg(long, default_value_t = Diversity::Scale)]
    diversity: Diversity,
    /// Starting centres [K, d] (.npy or safetensors) for every partition; then one restart, no seeding.
    #[arg(long)]
    init: Option<PathBuf>,
    #[arg(long, default_value_t = 400)]
    max_iter: usize,
    /// Stop when the squared movement of the centres falls below this times the mean variance.
    #[arg(long, default_value_t = 1e-4)]
    tol: f64,
    /// Starts from other seeds, of which the one of least inertia is kept.
    #[arg(long, default_value_t = 10)]
    restarts: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Draw the columns of --diversity half with replacement.
    #[arg(long)]
    replacement: bool,
    /// Merge clusters of fewer images into the nearest other cluster.
    #[arg(long, default_value_t = 0)]
    min_cluster_size: usize,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(c: Cluster, output: &Output) -> Result<()> {
    if c.tasks == 0 || c.max_iter == 0 || c.tol.is_nan() || c.tol < 0.0 {
        return Err(Error::usage("--tasks and --max-iter must be at least 1, --tol at least 0"));
    }
    let mut device = c.device.open()?;
    let embedding = Embedding::open(&c.emb)?;
    let start = c.init.as_deref().map(|p| Matrix::open(p, "centers")).transpose()?;
    let settings = Settings {
        clusters: start.as_ref().map_or(c.clusters, Matrix::rows),
        max_iterations: c.max_iter,
        tolerance: c.tol,
        restarts: c.restarts,
        seed: c.seed,
    };
    let request = partition::Request {
        tasks: c.tasks,
        diversity: c.diversity,
        settings,
        replacement: c.replacement,
        least_size: c.min_cluster_size,
    };
    let restarts = if start.is_some() { 1 } else { c.restarts.max(1) };
    let bar = progress::Bar::new("cluster", c.tasks as u64 * restarts as u64);
    let found =
        cluster::partitions(device.as_mut(), &embedding, &request, start.as_ref(), |ended, iteration| {
            bar.say(ended as u64, &format!("iteration {}", iteration + 1))
        })?;
    bar.finish();
    let metadata = [
        ("format", "tessera-tasks-1".to_string()),
        ("diversity", c.diversity.to_string()),
        ("seed", c.seed.to_string()),
        ("embedding", c.emb.display().to_string()),
        ("version", env!("CARGO_PKG_VERSION").to_string()),
    ];
    tasks::write(&c.out, &found, embedding.columns(), &metadata)?;
    for (i, p) in found.iter().enumerate() {
        let sizes = metrics::sizes(&p.labels, p.clusters);
        let (least, most) = (sizes.iter().min().unwrap_or(&0), sizes.iter().max().unwrap_or(&0));
        let entropy = metrics::entropy(&p.labels);
        let stopped = if p.converged { "converged" } else { "stopped" };
        let text = format!(
            "task {}: {} clusters of {least} to {most} images, inertia {:.6e}, {stopped} after {} iterations, entropy {entropy:.3} nats",
            i + 1,
            p.clusters,
            p.inertia,
            p.iterations,
        );
        let object = json!({
            "task": i + 1, "clusters": p.clusters, "sizes": sizes, "inertia": p.inertia,
            "iterations": p.iterations, "converged": p.converged, "entropy": entropy,
        });
        output.result(&object, text);
    }
    let pairs: Vec<f64> = (0..found.len())
        .flat_map(|i| (0..i).map(move |j| (i, j)))
        .map(|(i, j)| metrics::adjusted_rand_index(&found[i].labels, &found[j].labels))
        .collect();
    if !pairs.is_empty() {
        let mean = pairs.iter().sum::<f64>() / pairs.len() as f64;
        let text =
            format!("mean adjusted Rand index between partitions {mean:.3}; written to {}", c.out.display());
        output.result(&json!({"mean_pairwise_ari": mean, "file": c.out.display().to_string()}), text);
    }
    Ok(())
}

/// One fit of random or given data for a number of iterations, timed.
pub fn bench(
    (n, d, k, iterations): (usize, usize, usize, usize),
    data: Option<PathBuf>,
    init: Option<PathBuf>,
    device: &mut dyn Device,
    output: &Output,
) -> Result<()> {
    let matrix = data.as_deref().map(|p| Matrix::open(p, "embedding")).transpose()?;
    let drawn = if matrix.is_none() { crate::bench::kmeans::blobs(n, d) } else { Vec::new() };
    let (values, d) = matrix.as_ref().map_or((&drawn[..], d), |m| (m.values(), m.columns()));
    let start = init.as_deref().map(|p| Matrix::open(p, "centers")).transpose()?;
    let k = start.as_ref().map_or(k, Matrix::rows);
    if values.len() / d < k || start.as_ref().is_some_and(|s| s.columns() != d) {
        return Err(Error::shape(
            "k-means",
            format!("{k} centres, {} points of {d} numbers", values.len() / d),
        ));
    }
    let start: Vec<f64> = match &start {
        Some(start) => start.values().iter().map(|&v| v.into()).collect(),
        None => crate::bench::kmeans::rows(values, d, k),
    };
    let f = crate::bench::kmeans::measure(device, values, d, &start, iterations)?;
    let text = format!(
        "{} points, {d} numbers, {k} clusters: {:.2} ms an iteration ({} iterations), {:.2} ms one more, inertia {:.6e}, {}",
        values.len() / d,
        f.ms_per_iteration,
        f.iterations,
        f.marginal_ms_per_iteration,
        f.inertia,
        f.device,
    );
    output.result(&json!(f), text);
    Ok(())
}
