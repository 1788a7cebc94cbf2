//! Greedy k-means++ (Arthur & Vassilvitskii 2007): each new centre is the best of `2 + ⌊ln k⌋` points drawn
//! with probability proportional to their squared distance from the centres so far.

use rayon::prelude::*;

use crate::device::cpu::nearest::Points;
use crate::random::{Purpose, Stream};

/// Points whose distances one task computes and adds up.
const SLAB: usize = 1024;

/// Starting centres `[k, d]` in the weighted space.
pub(super) fn seed(points: &Points<'_>, k: usize, seed: u64, restart: u64) -> Vec<f64> {
    let (n, d) = (points.len(), points.d);
    let mut draw = Stream::new(seed, Purpose::KmeansSeeding, restart);
    let candidates = 2 + (k as f64).ln() as usize;
    let first = draw.below(n);
    let mut chosen = vec![first];
    let mut nearest = vec![f32::INFINITY; n];
    let mut potential = lower(points, first, &mut nearest);
    let mut trial: Vec<Vec<f32>> = (0..candidates).map(|_| vec![0.0; n]).collect();
    while chosen.len() < k {
        let mut best: Option<(usize, usize, Vec<f64>)> = None;
        for (slot, trial) in trial.iter_mut().enumerate() {
            let point = pick(&nearest, &potential, draw.next_f64());
            trial.copy_from_slice(&nearest);
            let total = lower(points, point, trial);
            let better = best.as_ref().is_none_or(|(_, _, b)| total.iter().sum::<f64>() < b.iter().sum());
            if better {
                best = Some((slot, point, total));
            }
        }
        let Some((slot, point, total)) = best else { break };
        std::mem::swap(&mut nearest, &mut trial[slot]);
        potential = total;
        chosen.push(point);
    }
    let weight = |j: usize| points.weights.map_or(1.0, |w| f64::from(w[j]));
    chosen.iter().flat_map(|&i| (0..d).map(move |j| f64::from(points.row(i)[j]) * weight(j))).collect()
}

/// Lowers each distance to that from a point; sums of slabs.
fn lower(points: &Points<'_>, to: usize, nearest: &mut [f32]) -> Vec<f64> {
    let (d, centre) = (points.d, points.row(to));
    nearest
        .par_chunks_mut(SLAB)
        .enumerate()
        .map(|(slab, nearest)| {
            let mut sum = 0.0;
            for (i, nearest) in nearest.iter_mut().enumerate() {
                let row = points.row(slab * SLAB + i);
                let distance = match points.weights {
                    None => squared(row, centre, |_| 1.0),
                    Some(weights) => squared(row, centre, |j| weights[j]),
                };
                *nearest = nearest.min(distance);
                sum += f64::from(*nearest);
            }
            debug_assert_eq!(centre.len(), d);
            sum
        })
        .collect()
}

/// Squared distance in sixteen sums.
#[inline(always)]
fn squared(a: &[f32], b: &[f32], weight: impl Fn(usize) -> f32) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0f32; LANES];
    let whole = a.len() / LANES * LANES;
    for first in (0..whole).step_by(LANES) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            let difference = (a[first + lane] - b[first + lane]) * weight(first + lane);
            *sum += difference * difference;
        }
    }
    let rest = (whole..a.len()).map(|j| ((a[j] - b[j]) * weight(j)).powi(2));
    sums.iter().sum::<f32>() + rest.sum::<f32>()
}

/// The point at a fraction of the total potential.
fn pick(nearest: &[f32], potential: &[f64], fraction: f64) -> usize {
    let mut left = fraction * potential.iter().sum::<f64>();
    let mut slab = 0;
    while slab + 1 < potential.len() && left >= potential[slab] {
        left -= potential[slab];
        slab += 1;
    }
    let first = slab * SLAB;
    let end = nearest.len().min(first + SLAB);
    for (i, &distance) in nearest[first..end].iter().enumerate() {
        left -= f64::from(distance);
        if left < 0.0 {
            return first + i;
        }
    }
    end - 1
}
