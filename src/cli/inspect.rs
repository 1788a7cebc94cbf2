//! `tessera inspect`: how good an embedding is.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{DeviceArgs, Output, progress};
use crate::cluster::accuracy::{Labelled, agreement};
use crate::cluster::{Embedding, Settings};
use crate::data::{Dataset, Part};
use crate::embed::{checkpoint, gallery};
use crate::error::{Error, Result};

#[derive(Args)]
pub struct Inspect {
    /// Embedding [N, d] of all images, training images first: of `tessera embed`, or a .npy file.
    emb: PathBuf,
    /// Data set that it describes: a file of `tessera data`.
    data: PathBuf,
    /// Clusters to compare with the classes [default: as many as classes].
    #[arg(long, value_name = "K")]
    clusters: Option<usize>,
    /// Starts from other random images, of which the one of least inertia is kept.
    #[arg(long, default_value_t = 20)]
    restarts: usize,
    #[arg(long, default_value_t = 1000)]
    max_iter: usize,
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Also write pictures into this folder: images restored, mixed and drawn by the networks whose weights
    /// `tessera embed --keep-weights` left beside the embedding.
    #[arg(long, value_name = "FOLDER")]
    pictures: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(i: Inspect, output: &Output) -> Result<()> {
    if i.restarts == 0 || i.max_iter == 0 {
        return Err(Error::usage("--restarts and --max-iter must be at least 1"));
    }
    let (embedding, dataset) = (Embedding::open(&i.emb)?, Dataset::open(&i.data)?);
    let labels = [Part::Train, Part::Test].map(|part| dataset.part(part).labels()).concat();
    if embedding.rows() != labels.len() {
        let expected = format!("{} rows, one for each image of {}", labels.len(), i.data.display());
        return Err(Error::format(&i.emb, "the embedding", expected, embedding.rows().to_string()));
    }
    let weights = checkpoint::beside(&i.emb, "weights");
    if i.pictures.is_some() && !weights.exists() {
        return Err(Error::usage(format!(
            "there is no {}; pictures need what `tessera embed --keep-weights` keeps",
            weights.display()
        )));
    }
    let train: Vec<u32> = dataset.rows(Part::Train).collect();
    let fit = embedding.fit_rows().unwrap_or(&train);
    let test: Vec<u32> = dataset.rows(Part::Test).collect();
    let judged = if test.is_empty() { fit } else { &test };
    let classes = dataset.class_names().len();
    let settings = Settings {
        clusters: i.clusters.unwrap_or(classes),
        max_iterations: i.max_iter,
        tolerance: 1e-4,
        restarts: i.restarts,
        seed: i.seed,
    };
    let all = Labelled { codes: embedding.values(), d: embedding.columns(), labels: &labels, classes };
    let bar = progress::Bar::new("cluster", i.restarts as u64);
    let mut device = i.device.open()?;
    let found =
        agreement(device.as_mut(), all, (fit, judged), &settings, &mut |ended| bar.say(ended as u64, ""));
    bar.finish();
    let found = found?;
    let pictures = match &i.pictures {
        Some(folder) => gallery::write(&weights, &dataset, device, i.seed, folder)?,
        None => Vec::new(),
    };
    let part = if test.is_empty() { "training" } else { "test" };
    let mut text = format!(
        "{} clusters of whitened codes: {:.2} % of {} {part} images in the cluster of their class, {:.2} % of the \
         {} that were clustered; best of {} starts, {} after {} iterations",
        settings.clusters,
        100.0 * found.evaluated,
        judged.len(),
        100.0 * found.fitted,
        fit.len(),
        settings.restarts,
        if found.converged { "converged" } else { "stopped" },
        found.iterations,
    );
    for path in &pictures {
        text += &format!("\n{}", path.display());
    }
    let object = json!({
        "accuracy": found.evaluated, "part": part, "images": judged.len(), "clustered_accuracy": found.fitted,
        "clustered_images": fit.len(), "clusters": settings.clusters, "restarts": settings.restarts,
        "inertia": found.inertia, "iterations": found.iterations, "converged": found.converged,
        "pictures": pictures.iter().map(|p| p.display().to_string()).collect::<Vec<_>>(),
    });
    output.result(&object, text);
    Ok(())
}
