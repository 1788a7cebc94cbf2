//! Lloyd's k-means as scikit-learn runs it: stop when no label changes or the centres move less than
//! `tolerance` times the mean variance of a feature; keep the restart of least inertia.

use rayon::prelude::*;

use super::seeding;
use crate::device::cpu::nearest::{Pass, Points};

#[derive(Clone, Debug)]
pub struct Settings {
    pub clusters: usize,
    pub max_iterations: usize,
    /// Of the squared movement of the centres, relative to the mean variance of a feature.
    pub tolerance: f64,
    pub restarts: usize,
    pub seed: u64,
}

/// A finished clustering.
#[derive(Clone, Debug)]
pub struct Fit {
    /// `[k, d]` in the weighted space.
    pub centres: Vec<f64>,
    pub labels: Vec<u32>,
    /// Sum of squared distances to the nearest centre.
    pub inertia: f64,
    pub iterations: usize,
    /// Did it stop by itself, before `max_iterations`?
    pub converged: bool,
}

/// Clusters the points; `start` gives the centres to start from `[k, d]` in the weighted space, and then
/// there is one restart. `progress` is told the restart and the iteration.
///
/// # Panics
/// If there are no points, no clusters, or more clusters than points.
pub fn fit(
    points: &Points<'_>,
    settings: &Settings,
    start: Option<&[f64]>,
    mut progress: impl FnMut(usize, usize),
) -> Fit {
    assert!(settings.clusters > 0 && settings.clusters <= points.len(), "as many points as clusters");
    let variance = if settings.tolerance > 0.0 { mean_variance(points) } else { 0.0 };
    let limit = settings.tolerance * variance;
    let mut pass = Pass::new(*points, settings.clusters);
    let mut best: Option<Fit> = None;
    let restarts = if start.is_some() { 1 } else { settings.restarts.max(1) };
    for restart in 0..restarts {
        let centres = match start {
            Some(start) => start.to_vec(),
            None => seeding::seed(points, settings.clusters, settings.seed, restart as u64),
        };
        let found =
            lloyd(points, centres, settings.max_iterations, limit, &mut pass, |i| progress(restart, i));
        if best.as_ref().is_none_or(|b| found.inertia < b.inertia) {
            best = Some(found);
        }
    }
    best.unwrap_or_else(|| unreachable!("there is at least one restart"))
}

fn lloyd(
    points: &Points<'_>,
    mut centres: Vec<f64>,
    max_iterations: usize,
    limit: f64,
    pass: &mut Pass<'_>,
    mut progress: impl FnMut(usize),
) -> Fit {
    pass.restart();
    let (mut sums, mut counts) = (vec![0.0; centres.len()], vec![0; centres.len() / points.d]);
    let (mut iterations, mut converged, mut settled) = (0, false, false);
    while iterations < max_iterations && !converged {
        progress(iterations);
        let outcome = pass.assign(&centres, true);
        pass.totals(&mut sums, &mut counts);
        if counts.contains(&0) {
            relocate(points, &centres, pass.labels(), &mut sums, &mut counts);
        }
        let moved = average(points, &sums, &counts, &mut centres);
        iterations += 1;
        // Labels that did not change are already those of the new centres.
        settled = outcome.changed == 0;
        converged = settled || moved <= limit;
    }
    if !settled {
        pass.assign(&centres, false);
    }
    let labels = pass.labels().to_vec();
    let inertia = points.inertia(&centres, &labels);
    Fit { centres, labels, inertia, iterations, converged }
}

/// New centres from sums; the sum of the squared movements.
fn average(points: &Points<'_>, sums: &[f64], counts: &[u64], centres: &mut [f64]) -> f64 {
    let d = points.d;
    let largest = (0..counts.len()).rev().max_by_key(|&k| counts[k]).unwrap_or(0);
    let total = counts.iter().sum::<u64>() as f64;
    let mut moved = 0.0;
    for (k, centre) in centres.chunks_mut(d).enumerate() {
        for (j, c) in centre.iter_mut().enumerate() {
            let mean = |k: usize| sums[k * d + j] / counts[k] as f64;
            let new = match counts[k] {
                // Where scikit-learn puts a cluster that stays empty, so that the next labels are the same:
                // at the largest one or, before that, at its sum as seen from the mean of all points.
                0 if k > largest => mean(largest),
                0 => {
                    let all = (0..counts.len()).map(|k| sums[k * d + j]).sum::<f64>() / total;
                    all + (mean(largest) - all) * counts[largest] as f64
                }
                _ => mean(k),
            } * points.weight(j);
            moved += (new - *c) * (new - *c);
            *c = new;
        }
    }
    moved
}

/// Gives each empty cluster the point that is farthest from its own centre, taken out of its cluster; the
/// farthest point goes to the first empty cluster. If all points lie on their centres, nothing changes.
fn relocate(points: &Points<'_>, centres: &[f64], labels: &[u32], sums: &mut [f64], counts: &mut [u64]) {
    let d = points.d;
    let distances = points.distances(centres, labels);
    if distances.iter().all(|&distance| distance == 0.0) {
        return;
    }
    let mut far: Vec<usize> = (0..labels.len()).collect();
    let empty: Vec<usize> = (0..counts.len()).filter(|&k| counts[k] == 0).collect();
    let order = |&a: &usize, &b: &usize| distances[b].total_cmp(&distances[a]).then(a.cmp(&b));
    if empty.len() < far.len() {
        far.select_nth_unstable_by(empty.len(), order);
        far.truncate(empty.len());
    }
    far.sort_unstable_by(order);
    for (&cluster, &point) in empty.iter().zip(&far) {
        let from = labels[point] as usize;
        for (j, &x) in points.row(point).iter().enumerate() {
            sums[from * d + j] -= f64::from(x);
            sums[cluster * d + j] = f64::from(x);
        }
        counts[from] -= 1;
        counts[cluster] = 1;
    }
}

/// Mean over features of the variance of the weighted points.
fn mean_variance(points: &Points<'_>) -> f64 {
    let d = points.d;
    let slabs: Vec<Vec<(f64, f64)>> = points
        .values
        .par_chunks(d * 1024)
        .map(|rows| {
            let mut sums = vec![(0.0, 0.0); d];
            for row in rows.chunks_exact(d) {
                for (sum, &x) in sums.iter_mut().zip(row) {
                    let x = f64::from(x);
                    *sum = (sum.0 + x, sum.1 + x * x);
                }
            }
            sums
        })
        .collect();
    let n = points.len() as f64;
    let feature = |j: usize| {
        let (sum, squares) = slabs.iter().fold((0.0, 0.0), |a, s| (a.0 + s[j].0, a.1 + s[j].1));
        let weight = points.weight(j);
        (squares / n - (sum / n) * (sum / n)).max(0.0) * weight * weight
    };
    (0..d).map(feature).sum::<f64>() / d as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    fn blobs(n: usize, d: usize, k: usize, apart: f64, seed: u64) -> Vec<f32> {
        let mut draw = Stream::new(seed, Purpose::KmeansSeeding, 99);
        let centres: Vec<f64> = (0..k * d).map(|_| apart * draw.normal()).collect();
        (0..n * d).map(|i| (centres[(i / d * 7 % k) * d + i % d] + draw.normal()) as f32).collect()
    }

    fn settings(clusters: usize) -> Settings {
        Settings { clusters, max_iterations: 300, tolerance: 1e-4, restarts: 3, seed: 1 }
    }

    #[test]
    fn more_iterations_never_raise_the_inertia() {
        let (n, d) = (700, 6);
        let values = blobs(n, d, 5, 4.0, 3);
        let points = Points { values: &values, d, weights: None };
        let start: Vec<f64> = values[..8 * d].iter().map(|&v| v.into()).collect();
        let mut last = f64::INFINITY;
        for max_iterations in 1..15 {
            let limits = Settings { max_iterations, tolerance: 0.0, ..settings(8) };
            let found = fit(&points, &limits, Some(&start), |_, _| {});
            assert!(found.inertia <= last * (1.0 + 1e-12));
            last = found.inertia;
        }
    }

    #[test]
    fn weights_of_one_are_no_weights() {
        let (n, d) = (500, 9);
        let values = blobs(n, d, 4, 4.0, 8);
        let ones = vec![1.0; d];
        let run = |weights| fit(&Points { values: &values, d, weights }, &settings(6), None, |_, _| {});
        let (plain, weighted) = (run(None), run(Some(&ones[..])));
        assert_eq!(plain.labels, weighted.labels);
        assert_eq!(plain.centres, weighted.centres);
        assert_eq!(plain.inertia, weighted.inertia);
    }

    #[test]
    fn separated_blobs_are_found() {
        let (n, d, k) = (600, 5, 4);
        let values = blobs(n, d, k, 20.0, 2);
        let found = fit(&Points { values: &values, d, weights: None }, &settings(k), None, |_, _| {});
        let truth: Vec<u32> = (0..n).map(|i| (i * 7 % k) as u32).collect();
        assert_eq!(super::super::metrics::adjusted_rand_index(&found.labels, &truth), 1.0);
    }

    #[test]
    fn no_cluster_stays_empty() {
        let values: Vec<f32> = (0..40).map(|i| (i / 10 * 100 + i % 10) as f32).collect();
        let points = Points { values: &values, d: 1, weights: None };
        // Three of the four starting centres are far from everything.
        let found = fit(&points, &settings(4), Some(&[5.0, 1e6, 2e6, 3e6]), |_, _| {});
        let mut counts = [0; 4];
        found.labels.iter().for_each(|&l| counts[l as usize] += 1);
        assert!(counts.iter().all(|&c| c > 0), "{counts:?}");
    }

    #[test]
    fn as_many_clusters_as_points_cost_nothing() {
        let values: Vec<f32> = (0..7).map(|i| (i * i) as f32).collect();
        let found = fit(&Points { values: &values, d: 1, weights: None }, &settings(7), None, |_, _| {});
        assert_eq!(found.inertia, 0.0);
    }
}
