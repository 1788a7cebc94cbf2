//! Several partitions of one embedding that differ: the diversity devices of METHODS §4.2.

use std::fmt;
use std::str::FromStr;

use super::kmeans::{self, Fit, Settings};
use super::{Embedding, metrics};
use crate::device::cpu::nearest::{Pass, Points};
use crate::error::{Error, Result};
use crate::random::{Purpose, Stream};

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

/// Makes the partitions; `start` gives centres `[k, d]` for every partition. `progress` is told the
/// partition, the restart and the iteration.
pub fn partitions(
    embedding: &Embedding,
    request: &Request,
    start: Option<&crate::tensor::Matrix>,
    mut progress: impl FnMut(usize, usize, usize),
) -> Result<Vec<Partition>> {
    let d = embedding.columns();
    let gathered: Option<Vec<f32>> = embedding.fit_rows().map(|rows| {
        rows.iter()
            .flat_map(|&r| &embedding.values()[r as usize * d..(r as usize + 1) * d])
            .copied()
            .collect()
    });
    let fit_values = gathered.as_deref().unwrap_or(embedding.values());
    let mut all = Vec::new();
    for task in 1..=request.tasks {
        let mut settings = request.settings.clone();
        settings.seed = settings.seed.wrapping_add((task as u64) << 32);
        if request.diversity == Diversity::Grow {
            settings.clusters = if task == 1 { 2 } else { 5 * (task - 1) };
        }
        if settings.clusters == 0 || settings.clusters > fit_values.len() / d {
            return Err(Error::usage(format!(
                "partition {task} wants {} clusters of {} images; it needs at least one and at most as many",
                settings.clusters,
                fit_values.len() / d
            )));
        }
        let metric = metric(request, d, task);
        let weights = match &metric {
            Metric::Plain => None,
            Metric::Weights(w) => Some(w.clone()),
            Metric::Columns(columns) => Some(multiplicity(columns, d)),
        };
        let points = Points { values: fit_values, d, weights: weights.as_deref() };
        let start = start.map(|s| expand(s, &metric, &settings, d, weights.as_deref())).transpose()?;
        let fit = kmeans::fit(&points, &settings, start.as_deref(), |r, i| progress(task, r, i));
        let fit = merge_small(&points, fit, request.least_size);
        all.push(finish(embedding, gathered.is_some(), fit, metric, weights.as_deref()));
    }
    Ok(all)
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
    start: &crate::tensor::Matrix,
    metric: &Metric,
    settings: &Settings,
    d: usize,
    weights: Option<&[f32]>,
) -> Result<Vec<f64>> {
    let width = match metric {
        Metric::Columns(columns) => columns.len(),
        _ => d,
    };
    if (start.rows(), start.columns()) != (settings.clusters, width) {
        return Err(Error::shape(
            "starting centres",
            format!(
                "expected [{}, {width}], found [{}, {}]",
                settings.clusters,
                start.rows(),
                start.columns()
            ),
        ));
    }
    let Metric::Columns(columns) = metric else {
        return Ok(start.values().iter().map(|&v| v.into()).collect());
    };
    let mut all = vec![0.0; settings.clusters * d];
    for (row, values) in start.values().chunks(width).enumerate() {
        for (&column, &value) in columns.iter().zip(values) {
            let column = column as usize;
            all[row * d + column] = f64::from(value) * weights.map_or(1.0, |w| f64::from(w[column]));
        }
    }
    Ok(all)
}

/// Merges clusters of fewer than `least` points into the nearest other centre, smallest first.
fn merge_small(points: &Points<'_>, mut fit: Fit, least: usize) -> Fit {
    let d = points.d;
    loop {
        let clusters = fit.centres.len() / d;
        let sizes = metrics::sizes(&fit.labels, clusters);
        let smallest = (0..clusters).min_by_key(|&k| sizes[k]);
        let Some(k) = smallest.filter(|&k| sizes[k] < least && clusters > 1) else { return fit };
        fit.centres.drain(k * d..(k + 1) * d);
        let mut pass = Pass::new(*points, clusters - 1);
        pass.assign(&fit.centres, false);
        // Only the points of the merged cluster move.
        for (label, &nearest) in fit.labels.iter_mut().zip(pass.labels()) {
            *label = match (*label as usize).cmp(&k) {
                std::cmp::Ordering::Equal => nearest,
                std::cmp::Ordering::Less => *label,
                std::cmp::Ordering::Greater => *label - 1,
            };
        }
        fit.inertia = points.inertia(&fit.centres, &fit.labels);
    }
}

/// Labels for every row, and centres as the file stores them.
fn finish(
    embedding: &Embedding,
    subset: bool,
    fit: Fit,
    metric: Metric,
    weights: Option<&[f32]>,
) -> Partition {
    let d = embedding.columns();
    let clusters = fit.centres.len() / d;
    let labels = if subset {
        let mut pass = Pass::new(Points { values: embedding.values(), d, weights }, clusters);
        pass.assign(&fit.centres, false);
        let mut labels = pass.labels().to_vec();
        for (&row, &label) in embedding.fit_rows().unwrap_or(&[]).iter().zip(&fit.labels) {
            labels[row as usize] = label;
        }
        labels
    } else {
        fit.labels
    };
    let centres = match &metric {
        Metric::Columns(columns) => {
            let value = |row: &[f64], c: u32| {
                let weight = weights.map_or(1.0, |w| f64::from(w[c as usize]));
                (row[c as usize] / weight) as f32
            };
            fit.centres.chunks(d).flat_map(|row| columns.iter().map(move |&c| value(row, c))).collect()
        }
        _ => fit.centres.iter().map(|&c| c as f32).collect(),
    };
    let Fit { inertia, iterations, converged, .. } = fit;
    Partition { labels, clusters, centres, metric, inertia, iterations, converged }
}
