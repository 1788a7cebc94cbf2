//! Several partitions of one embedding that differ: the diversity devices of METHODS §4.2.

use std::fmt;
use std::str::FromStr;

use super::kmeans::{self, Fit, Question, Settings};
use super::{Embedding, metrics};
use crate::device::Device;
use crate::device::cpu::nearest::Points;
use crate::device::kmeans::Loaded;
use crate::error::{Error, Result};
use crate::random::{Purpose, Stream};
use crate::tensor::Matrix;

/// What makes the partitions differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Diversity {
    /// The first partition sees the embedding as it is, each other one with columns scaled by U[0, 1).
    Scale,
    /// Each partition sees a random half of the columns.
    Half,
    /// Partition t has 5(t−1) clusters, the first has 2.
    Grow,
    /// Only the seeds differ.
    None,
}

impl fmt::Display for Diversity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Diversity::Scale => "scale",
            Diversity::Half => "half",
            Diversity::Grow => "grow",
            Diversity::None => "none",
        })
    }
}

impl FromStr for Diversity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Diversity::Scale, Diversity::Half, Diversity::Grow, Diversity::None]
            .into_iter()
            .find(|d| d.to_string() == text)
            .ok_or_else(|| "known: scale, half, grow, none".to_string())
    }
}

/// What partitions are wanted.
#[derive(Clone, Debug)]
pub struct Request {
    pub tasks: usize,
    pub diversity: Diversity,
    /// Clusters of each partition, where the device does not say.
    pub settings: Settings,
    /// Draw the halves of columns with replacement, as the released partitions did.
    pub replacement: bool,
    /// Merge clusters with fewer fitted points into the nearest other centre.
    pub least_size: usize,
}

/// One partition.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Of every row of the embedding.
    pub labels: Vec<u32>,
    pub clusters: usize,
    /// `[clusters, d_t]` in the partition's own space.
    pub centres: Vec<f32>,
    pub metric: Metric,
    /// Over the fitted rows.
    pub inertia: f64,
    pub iterations: usize,
    pub converged: bool,
}

/// The space of a partition.
#[derive(Clone, Debug, PartialEq)]
pub enum Metric {
    Plain,
    /// Factors of the columns.
    Weights(Vec<f32>),
    /// Columns that are seen; one may be there twice.
    Columns(Vec<u32>),
}

/// Makes the partitions on a device; `start` gives centres `[k, d]` for every partition. `progress` is told how
/// many restarts of all partitions have ended, and the iteration of those under way.
pub fn partitions(
    device: &mut dyn Device,
    embedding: &Embedding,
    request: &Request,
    start: Option<&Matrix>,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<Partition>> {
    let d = embedding.columns();
    let gathered: Option<Vec<f32>> = embedding.fit_rows().map(|rows| {
        rows.iter()
            .flat_map(|&r| &embedding.values()[r as usize * d..(r as usize + 1) * d])
            .copied()
            .collect()
    });
    let values = gathered.as_deref().unwrap_or(embedding.values());
    let plans = (1..=request.tasks)
        .map(|task| Wanted::new(request, start, d, values.len() / d, task))
        .collect::<Result<Vec<_>>>()?;
    let loaded = device.load_points(values, d)?;
    let mut fits = Vec::new();
    // Partitions of as many clusters are fitted together.
    for group in plans.chunk_by(|a, b| a.clusters == b.clusters) {
        let questions: Vec<Question<'_>> = group.iter().map(Wanted::question).collect();
        let settings = Settings { clusters: group[0].clusters, ..request.settings.clone() };
        // Given centres are started from once.
        let restarts = if start.is_some() { 1 } else { settings.restarts.max(1) };
        let before = fits.len() * restarts;
        let mut told = |ended, iteration| progress(before + ended, iteration);
        fits.extend(kmeans::fit_all(loaded.as_ref(), values.len() / d, &questions, &settings, &mut told)?);
    }
    for (wanted, fit) in plans.iter().zip(&mut fits) {
        let points = Points { values, d, weights: wanted.weights.as_deref() };
        merge_small(&points, loaded.as_ref(), fit, request.least_size)?;
    }
    drop(loaded);
    if gathered.is_none() {
        return Ok(plans.into_iter().zip(fits).map(|(wanted, fit)| finish(fit, wanted, d)).collect());
    }
    // The other rows go to the nearest centres.
    let loaded = device.load_points(embedding.values(), d)?;
    let mut all = Vec::new();
    for (wanted, mut fit) in plans.into_iter().zip(fits) {
        let clusters = fit.centres.len() / d;
        let mut labels = kmeans::nearest(loaded.as_ref(), wanted.weights.as_deref(), clusters, &fit.centres)?;
        for (&row, &label) in embedding.fit_rows().unwrap_or(&[]).iter().zip(&fit.labels) {
            labels[row as usize] = label;
        }
        fit.labels = labels;
        all.push(finish(fit, wanted, d));
    }
    Ok(all)
}

/// A partition before it is fitted.
struct Wanted {
    clusters: usize,
    seed: u64,
    metric: Metric,
    weights: Option<Vec<f32>>,
    start: Option<Vec<f64>>,
}

impl Wanted {
    /// Partition number `task` of `n` points.
    fn new(request: &Request, start: Option<&Matrix>, d: usize, n: usize, task: usize) -> Result<Self> {
        let clusters = match request.diversity {
            Diversity::Grow if task == 1 => 2,
            Diversity::Grow => 5 * (task - 1),
            _ => request.settings.clusters,
        };
        if clusters == 0 || clusters > n {
            return Err(Error::usage(format!(
                "partition {task} wants {clusters} clusters of {n} images; it needs at least one and at most as many"
            )));
        }
        let metric = metric(request, d, task);
        let weights = match &metric {
            Metric::Plain => None,
            Metric::Weights(w) => Some(w.clone()),
            Metric::Columns(columns) => Some(multiplicity(columns, d)),
        };
        let start = start.map(|s| expand(s, &metric, clusters, d, weights.as_deref())).transpose()?;
        let seed = request.settings.seed.wrapping_add((task as u64) << 32);
        Ok(Wanted { clusters, seed, metric, weights, start })
    }

    fn question(&self) -> Question<'_> {
        Question { weights: self.weights.as_deref(), seed: self.seed, start: self.start.as_deref() }
    }
}

fn metric(request: &Request, d: usize, task: usize) -> Metric {
    let mut draw = Stream::new(request.settings.seed, Purpose::Diversity, task as u64);
    match request.diversity {
        Diversity::Scale if task > 1 => Metric::Weights((0..d).map(|_| draw.next_f32()).collect()),
        Diversity::Half => {
            let half = d.div_ceil(2);
            let mut columns: Vec<u32> = if request.replacement {
                (0..half).map(|_| draw.below(d) as u32).collect()
            } else {
                draw.sample_without_replacement(d, half).into_iter().map(|c| c as u32).collect()
            };
            columns.sort_unstable();
            Metric::Columns(columns)
        }
        _ => Metric::Plain,
    }
}

/// Columns as weights: distances count a column as often as it is there.
fn multiplicity(columns: &[u32], d: usize) -> Vec<f32> {
    let mut counts = vec![0.0f32; d];
    columns.iter().for_each(|&c| counts[c as usize] += 1.0);
    counts.iter().map(|c| c.sqrt()).collect()
}

/// Given centres, in the space of all weighted columns.
fn expand(
    start: &Matrix,
    metric: &Metric,
    clusters: usize,
    d: usize,
    weights: Option<&[f32]>,
) -> Result<Vec<f64>> {
    let width = match metric {
        Metric::Columns(columns) => columns.len(),
        _ => d,
    };
    if (start.rows(), start.columns()) != (clusters, width) {
        return Err(Error::shape(
            "starting centres",
            format!("expected [{clusters}, {width}], found [{}, {}]", start.rows(), start.columns()),
        ));
    }
    let Metric::Columns(columns) = metric else {
        return Ok(start.values().iter().map(|&v| v.into()).collect());
    };
    let mut all = vec![0.0; clusters * d];
    for (row, values) in start.values().chunks(width).enumerate() {
        for (&column, &value) in columns.iter().zip(values) {
            let column = column as usize;
            all[row * d + column] = f64::from(value) * weights.map_or(1.0, |w| f64::from(w[column]));
        }
    }
    Ok(all)
}

/// Merges clusters of fewer than `least` points into the nearest other centre, smallest first.
fn merge_small(points: &Points<'_>, loaded: &dyn Loaded, fit: &mut Fit, least: usize) -> Result<()> {
    let d = points.d;
    loop {
        let clusters = fit.centres.len() / d;
        let sizes = metrics::sizes(&fit.labels, clusters);
        let smallest = (0..clusters).min_by_key(|&k| sizes[k]);
        let Some(k) = smallest.filter(|&k| sizes[k] < least && clusters > 1) else { return Ok(()) };
        fit.centres.drain(k * d..(k + 1) * d);
        let nearest = kmeans::nearest(loaded, points.weights, clusters - 1, &fit.centres)?;
        // Only the points of the merged cluster move.
        for (label, nearest) in fit.labels.iter_mut().zip(nearest) {
            *label = match (*label as usize).cmp(&k) {
                std::cmp::Ordering::Equal => nearest,
                std::cmp::Ordering::Less => *label,
                std::cmp::Ordering::Greater => *label - 1,
            };
        }
        fit.inertia = points.inertia(&fit.centres, &fit.labels);
    }
}

/// Centres as the file stores them.
fn finish(fit: Fit, wanted: Wanted, d: usize) -> Partition {
    let Wanted { metric, weights, .. } = wanted;
    let clusters = fit.centres.len() / d;
    let centres = match &metric {
        Metric::Columns(columns) => {
            let value = |row: &[f64], c: u32| {
                let weight = weights.as_ref().map_or(1.0, |w| f64::from(w[c as usize]));
                (row[c as usize] / weight) as f32
            };
            fit.centres.chunks(d).flat_map(|row| columns.iter().map(move |&c| value(row, c))).collect()
        }
        _ => fit.centres.iter().map(|&c| c as f32).collect(),
    };
    let Fit { labels, inertia, iterations, converged, .. } = fit;
    Partition { labels, clusters, centres, metric, inertia, iterations, converged }
}
