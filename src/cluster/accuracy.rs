//! How well clusters of an embedding agree with classes (METHODS §3.4): k-means from random points on whitened
//! codes, the best of several restarts, and the best assignment of clusters to classes.

use super::assignment;
use super::kmeans::{self, Question, Settings};
use super::whiten::Whitening;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::random::{Purpose, Stream};

/// Restarts whose results are kept at once.
const AT_ONCE: usize = 16;

/// Codes of all images with their classes.
#[derive(Clone, Copy)]
pub struct Labelled<'a> {
    /// `[N, d]`.
    pub codes: &'a [f32],
    pub d: usize,
    pub labels: &'a [u32],
    pub classes: usize,
}

/// What was found.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Agreement {
    /// Of the restart that was kept, on whitened codes.
    pub inertia: f64,
    pub iterations: usize,
    pub converged: bool,
    /// Share of the images that were clustered whose cluster is that of their class.
    pub fitted: f64,
    /// Of the evaluated images, with an assignment of their own.
    pub evaluated: f64,
}

/// Clusters the images of rows `fit` and judges them and those of rows `evaluated`. `progress` is told how many
/// restarts have ended.
pub fn agreement(
    device: &mut dyn Device,
    all: Labelled<'_>,
    (fit, evaluated): (&[u32], &[u32]),
    settings: &Settings,
    progress: &mut dyn FnMut(usize),
) -> Result<Agreement> {
    let (d, k) = (all.d, settings.clusters);
    if k < all.classes || k > fit.len() || evaluated.is_empty() {
        return Err(Error::usage(format!(
            "{k} clusters of {} images cannot be given to {} classes and judged on {} images",
            fit.len(),
            all.classes,
            evaluated.len()
        )));
    }
    let rows = |of: &[u32]| -> Vec<f32> {
        of.iter().flat_map(|&r| &all.codes[r as usize * d..(r as usize + 1) * d]).copied().collect()
    };
    let codes = rows(fit);
    let whitening = Whitening::of(&codes, d);
    let points = whitening.apply(&codes);
    drop(codes);

    let restarts = settings.restarts.max(1);
    let loaded = device.load_points(&points, d)?;
    let mut best: Option<kmeans::Fit> = None;
    for first in (0..restarts).step_by(AT_ONCE) {
        let starts: Vec<Vec<f64>> = (first..restarts.min(first + AT_ONCE))
            .map(|restart| random_points(&points, d, k, settings.seed, restart as u64))
            .collect();
        let questions: Vec<Question<'_>> =
            starts.iter().map(|start| Question { weights: None, seed: 0, start: Some(start) }).collect();
        let mut told = |ended: usize, _| progress(first + ended);
        for found in kmeans::fit_all(loaded.as_ref(), fit.len(), &questions, settings, &mut told)? {
            if best.as_ref().is_none_or(|b| found.inertia < b.inertia) {
                best = Some(found);
            }
        }
    }
    drop(loaded);
    progress(restarts);
    let Some(best) = best else { return Err(Error::usage("there is nothing to cluster")) };
    let judged = whitening.apply(&rows(evaluated));
    let clusters = kmeans::nearest(device.load_points(&judged, d)?.as_ref(), None, k, &best.centres)?;
    let labels = |of: &[u32]| -> Vec<u32> { of.iter().map(|&r| all.labels[r as usize]).collect() };
    Ok(Agreement {
        inertia: best.inertia,
        iterations: best.iterations,
        converged: best.converged,
        fitted: matched(&best.labels, &labels(fit), k, all.classes),
        evaluated: matched(&clusters, &labels(evaluated), k, all.classes),
    })
}

/// `k` different points, as centres.
fn random_points(points: &[f32], d: usize, k: usize, seed: u64, restart: u64) -> Vec<f64> {
    let mut draw = Stream::new(seed, Purpose::RandomStarts, restart);
    let chosen = draw.sample_without_replacement(points.len() / d, k);
    chosen.into_iter().flat_map(|i| &points[i * d..(i + 1) * d]).map(|&v| v.into()).collect()
}

/// Share of images whose cluster is the one that was assigned to their class, under the assignment that makes
/// it largest. With more clusters than classes some get none.
pub fn matched(clusters: &[u32], labels: &[u32], k: usize, classes: usize) -> f64 {
    let mut counts = vec![0.0; classes * k];
    clusters.iter().zip(labels).for_each(|(&c, &l)| counts[l as usize * k + c as usize] += 1.0);
    let right: f64 = assignment::best(&counts, classes, k)
        .iter()
        .enumerate()
        .map(|(class, &c)| counts[class * k + c])
        .sum();
    right / labels.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Cpu;

    fn settings(restarts: usize) -> Settings {
        Settings { clusters: 3, max_iterations: 100, tolerance: 1e-4, restarts, seed: 1 }
    }

    #[test]
    fn clusters_by_other_names_agree() {
        assert_eq!(matched(&[2, 2, 0, 1, 1], &[0, 0, 1, 2, 2], 3, 3), 1.0);
        // The third cluster has no class.
        assert_eq!(matched(&[2, 0, 0, 1], &[0, 0, 0, 1], 3, 2), 0.75);
    }

    #[test]
    fn whitening_finds_classes_that_a_loud_column_hides() {
        let mut draw = Stream::new(4, Purpose::Synthetic, 1);
        let labels: Vec<u32> = (0..600).map(|i| i % 3).collect();
        let mut codes = Vec::new();
        for &label in &labels {
            let place = [[0.0, 1.0], [1.0, -1.0], [-1.0, -1.0]][label as usize];
            codes.extend([
                (place[0] + 0.02 * draw.normal()) as f32,
                (place[1] + 0.02 * draw.normal()) as f32,
                (1000.0 * draw.next_f64()) as f32,
            ]);
        }
        let all = Labelled { codes: &codes, d: 3, labels: &labels, classes: 3 };
        let (fit, test): (Vec<u32>, Vec<u32>) = ((0..400).collect(), (400..600).collect());
        let mut ended = 0;
        let found =
            agreement(&mut Cpu::<f32>::default(), all, (&fit, &test), &settings(20), &mut |n| ended = n);
        let found = found.unwrap();
        assert_eq!((found.fitted, found.evaluated, ended), (1.0, 1.0, 20));
        let points = crate::device::cpu::nearest::Points { values: &codes, d: 3, weights: None };
        let raw = kmeans::fit(&points, &settings(5), None);
        assert!(matched(&raw.labels, &labels, 3, 3) < 0.6);
        let few = agreement(&mut Cpu::<f32>::default(), all, (&fit[..2], &test), &settings(1), &mut |_| {});
        assert_eq!(few.unwrap_err().exit_code(), 2);
    }
}
