//! Lloyd's k-means as scikit-learn runs it: stop when no label changes or the centres move less than
//! `tolerance` times the mean variance of a feature; keep the restart of least inertia.

use super::seeding;
use crate::device::cpu::nearest::{OnHost, Points};
use crate::device::kmeans::{Loaded, Runs, Step};
use crate::error::Result;

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

/// One of several clusterings of the same points.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Points are compared as `x ∘ weights`, if there are weights.
    pub weights: Option<&'a [f32]>,
    pub seed: u64,
    /// Centres to start from `[k, d]` in the weighted space; then there is one restart.
    pub start: Option<&'a [f64]>,
}

/// Clusters the points on the CPU; `start` gives the centres to start from `[k, d]` in the weighted space, and
/// then there is one restart.
///
/// # Panics
/// If there are no points, no clusters, or more clusters than points.
pub fn fit(points: &Points<'_>, settings: &Settings, start: Option<&[f64]>) -> Fit {
    let question = Question { weights: points.weights, seed: settings.seed, start };
    let loaded = OnHost::new(points.values, points.d);
    let fits = fit_all(&loaded, points.len(), &[question], settings, &mut |_, _| {});
    fits.ok().and_then(|mut fits| fits.pop()).unwrap_or_else(|| unreachable!("the CPU does not fail"))
}

/// Answers all questions about `n` points with the settings (but the seed), as many runs at once as the device
/// takes. `progress` is told how many restarts of all questions have ended, and the iteration of the others.
///
/// # Panics
/// If there are no points, no clusters, or more clusters than points.
pub fn fit_all(
    points: &dyn Loaded,
    n: usize,
    questions: &[Question<'_>],
    settings: &Settings,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Fit>> {
    let k = settings.clusters;
    assert!(k > 0 && k <= n, "as many points as clusters");
    let weights: Vec<Option<&[f32]>> = questions.iter().map(|q| q.weights).collect();
    let limits: Vec<f64> = if settings.tolerance > 0.0 {
        let moments = points.moments()?;
        weights.iter().map(|w| settings.tolerance * mean_variance(&moments, n, *w)).collect()
    } else {
        vec![0.0; questions.len()]
    };
    let restarts = |q: &Question<'_>| if q.start.is_some() { 1 } else { settings.restarts.max(1) };
    let all: Vec<(usize, usize)> =
        questions.iter().enumerate().flat_map(|(q, of)| (0..restarts(of)).map(move |r| (q, r))).collect();
    let mut best: Vec<Option<Fit>> = vec![None; questions.len()];
    let mut before: Option<(Vec<usize>, Box<dyn Runs + '_>)> = None;
    let mut ended = 0;
    for batch in all.chunks(points.most_runs(k).max(1)) {
        let spaces: Vec<usize> = batch.iter().map(|&(q, _)| q).collect();
        // Memory of other runs is given back first.
        let mut runs = match before.take().filter(|(of, _)| *of == spaces) {
            Some((_, runs)) => runs,
            None => points.runs(&weights, &spaces, k)?,
        };
        let starts: Vec<&[f64]> = batch.iter().filter_map(|&(q, _)| questions[q].start).collect();
        if starts.len() == batch.len() {
            runs.start(&starts)?;
        } else {
            assert!(starts.is_empty(), "all questions have starting centres or none has");
            let draws = batch.iter().map(|&(q, r)| seeding::draws(n, k, questions[q].seed, r as u64));
            runs.seed(&draws.collect::<Vec<_>>())?;
        }
        let limits: Vec<f64> = spaces.iter().map(|&q| limits[q]).collect();
        let ends = lloyd(runs.as_mut(), settings.max_iterations, &limits, &mut |now, iteration| {
            progress(ended + now, iteration)
        })?;
        ended += batch.len();
        for (run, (&(question, _), end)) in batch.iter().zip(&ends).enumerate() {
            let best = &mut best[question];
            if best.as_ref().is_none_or(|b| end.inertia < b.inertia) {
                *best = Some(Fit {
                    centres: runs.centres(run)?,
                    labels: runs.labels(run)?,
                    inertia: end.inertia,
                    iterations: end.iterations,
                    converged: end.converged,
                });
            }
        }
        before = Some((spaces, runs));
    }
    Ok(best.into_iter().flatten().collect())
}

/// The labels of the nearest of `centres [k, d]`, in the space of the weights.
pub(super) fn nearest(
    points: &dyn Loaded,
    weights: Option<&[f32]>,
    k: usize,
    centres: &[f64],
) -> Result<Vec<u32>> {
    let mut runs = points.runs(&[weights], &[0], k)?;
    runs.start(&[centres])?;
    runs.assign(&[0])?;
    runs.labels(0)
}

/// How a run ended.
#[derive(Clone, Copy, Debug, Default)]
struct End {
    iterations: usize,
    converged: bool,
    inertia: f64,
}

/// Lloyd's iterations of runs side by side, each until it stops by itself or reaches `most`. `progress` is told
/// how many have ended, and the iteration of the others.
fn lloyd(
    runs: &mut dyn Runs,
    most: usize,
    limits: &[f64],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<End>> {
    let mut ends = vec![End::default(); limits.len()];
    let mut open: Vec<usize> = (0..limits.len()).collect();
    // Runs whose labels are not yet those of their centres.
    let mut unsettled = Vec::new();
    for iteration in 0..most {
        if open.is_empty() {
            break;
        }
        progress(limits.len() - open.len(), iteration);
        let steps = runs.step(&open)?;
        let mut still = Vec::new();
        for (&run, mut step) in open.iter().zip(steps) {
            if step.counts.contains(&0) {
                relocate(runs, run, &step)?;
                step.moved = runs.average(run)?;
            }
            // Labels that did not change are already those of the new centres.
            let settled = step.changed == 0;
            ends[run].iterations += 1;
            ends[run].converged = settled || step.moved <= limits[run];
            match (settled, ends[run].converged) {
                (true, _) => {}
                (false, true) => unsettled.push(run),
                (false, false) => still.push(run),
            }
        }
        open = still;
    }
    unsettled.extend(open);
    if !unsettled.is_empty() {
        runs.assign(&unsettled)?;
    }
    let all: Vec<usize> = (0..limits.len()).collect();
    ends.iter_mut().zip(runs.inertia(&all)?).for_each(|(end, inertia)| end.inertia = inertia);
    Ok(ends)
}

/// Gives each empty cluster the point that is farthest from its own centre, taken out of its cluster; the
/// farthest point goes to the first empty cluster. If all points lie on their centres, nothing changes.
fn relocate(runs: &mut dyn Runs, run: usize, step: &Step) -> Result<()> {
    let distances = runs.distances(run)?;
    if distances.iter().all(|&distance| distance == 0.0) {
        return Ok(());
    }
    let mut far: Vec<usize> = (0..distances.len()).collect();
    let empty: Vec<usize> = (0..step.counts.len()).filter(|&k| step.counts[k] == 0).collect();
    let order = |&a: &usize, &b: &usize| distances[b].total_cmp(&distances[a]).then(a.cmp(&b));
    if empty.len() < far.len() {
        far.select_nth_unstable_by(empty.len(), order);
        far.truncate(empty.len());
    }
    far.sort_unstable_by(order);
    runs.relocate(run, &empty, &far)
}

/// Mean over features of the variance of the weighted points.
fn mean_variance(moments: &[[f64; 2]], n: usize, weights: Option<&[f32]>) -> f64 {
    let n = n as f64;
    let feature = |(j, &[sum, squares]): (usize, &[f64; 2])| {
        let weight = weights.map_or(1.0, |w| f64::from(w[j]));
        (squares / n - (sum / n) * (sum / n)).max(0.0) * weight * weight
    };
    moments.iter().enumerate().map(feature).sum::<f64>() / moments.len() as f64
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
            let found = fit(&points, &limits, Some(&start));
            assert!(found.inertia <= last * (1.0 + 1e-12));
            last = found.inertia;
        }
    }

    #[test]
    fn weights_of_one_are_no_weights() {
        let (n, d) = (500, 9);
        let values = blobs(n, d, 4, 4.0, 8);
        let ones = vec![1.0; d];
        let run = |weights| fit(&Points { values: &values, d, weights }, &settings(6), None);
        let (plain, weighted) = (run(None), run(Some(&ones[..])));
        assert_eq!(plain.labels, weighted.labels);
        assert_eq!(plain.centres, weighted.centres);
        assert_eq!(plain.inertia, weighted.inertia);
    }

    #[test]
    fn separated_blobs_are_found() {
        let (n, d, k) = (600, 5, 4);
        let values = blobs(n, d, k, 20.0, 2);
        let found = fit(&Points { values: &values, d, weights: None }, &settings(k), None);
        let truth: Vec<u32> = (0..n).map(|i| (i * 7 % k) as u32).collect();
        assert_eq!(super::super::metrics::adjusted_rand_index(&found.labels, &truth), 1.0);
    }

    #[test]
    fn no_cluster_stays_empty() {
        let values: Vec<f32> = (0..40).map(|i| (i / 10 * 100 + i % 10) as f32).collect();
        let points = Points { values: &values, d: 1, weights: None };
        // Three of the four starting centres are far from everything.
        let found = fit(&points, &settings(4), Some(&[5.0, 1e6, 2e6, 3e6]));
        let mut counts = [0; 4];
        found.labels.iter().for_each(|&l| counts[l as usize] += 1);
        assert!(counts.iter().all(|&c| c > 0), "{counts:?}");
    }

    #[test]
    fn as_many_clusters_as_points_cost_nothing() {
        let values: Vec<f32> = (0..7).map(|i| (i * i) as f32).collect();
        let found = fit(&Points { values: &values, d: 1, weights: None }, &settings(7), None);
        assert_eq!(found.inertia, 0.0);
    }
}
