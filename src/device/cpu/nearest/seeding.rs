//! Greedy k-means++ (Arthur & Vassilvitskii 2007): each new centre is the best of a few points drawn with
//! probability proportional to their squared distance from the centres so far.

use rayon::prelude::*;

use super::{Points, SLAB};
use crate::device::cpu::simd::{self, Job, Vector};
use crate::device::kmeans::Draws;

/// The points chosen as `k` starting centres.
pub fn choose(points: &Points<'_>, k: usize, draws: &Draws) -> Vec<u32> {
    let n = points.len();
    let candidates = draws.candidates;
    let mut fractions = draws.fractions.chunks(candidates.max(1));
    let mut chosen = Vec::new();
    let mut nearest = vec![f32::INFINITY; n];
    let mut potential: Vec<f64> = Vec::new();
    // Distances with each candidate, `[slabs][candidates][SLAB]`.
    let mut trial = vec![0.0; n.div_ceil(SLAB) * candidates.max(1) * SLAB];
    while chosen.len() < k {
        let drawn: Vec<usize> = match chosen.len() {
            0 => vec![draws.first],
            _ => fractions.next().unwrap_or(&[]).iter().map(|&f| pick(&nearest, &potential, f)).collect(),
        };
        let totals = lower(points, &drawn, &nearest, &mut trial);
        let sum = |c: usize| totals.iter().map(|slab| slab[c]).sum::<f64>();
        let best = (1..drawn.len()).fold(0, |best, c| if sum(c) < sum(best) { c } else { best });
        let slabs = nearest.par_chunks_mut(SLAB).zip(trial.par_chunks(drawn.len() * SLAB));
        slabs.for_each(|(nearest, trial)| nearest.copy_from_slice(&trial[best * SLAB..][..nearest.len()]));
        potential = totals.iter().map(|slab| slab[best]).collect();
        chosen.push(drawn[best] as u32);
    }
    chosen
}

/// What each distance becomes with each new centre, in one pass over the points; its sums `[slabs][to]`.
fn lower(points: &Points<'_>, to: &[usize], nearest: &[f32], trial: &mut [f32]) -> Vec<Vec<f64>> {
    let slabs = trial.par_chunks_mut(to.len() * SLAB).zip(nearest.par_chunks(SLAB)).enumerate();
    slabs
        .map(|(slab, (trial, nearest))| {
            simd::dispatch(Lower { points, to, first: slab * SLAB, nearest, trial })
        })
        .collect()
}

/// One slab of [`lower`], compiled for every instruction set; the additions are the same in each.
struct Lower<'a> {
    points: &'a Points<'a>,
    to: &'a [usize],
    first: usize,
    nearest: &'a [f32],
    trial: &'a mut [f32],
}

impl Job<f32> for Lower<'_> {
    type Output = Vec<f64>;

    #[inline(always)]
    unsafe fn run<V: Vector<Element = f32>>(self) -> Vec<f64> {
        let mut sums = vec![0.0; self.to.len()];
        for (i, &nearest) in self.nearest.iter().enumerate() {
            let row = self.points.row(self.first + i);
            for (c, (sum, &to)) in sums.iter_mut().zip(self.to).enumerate() {
                let distance = squared(row, self.points.row(to), self.points.weights);
                let lowered = nearest.min(distance);
                self.trial[c * SLAB + i] = lowered;
                *sum += f64::from(lowered);
            }
        }
        sums
    }
}

/// Squared distance in sixteen sums.
#[inline(always)]
fn squared(a: &[f32], b: &[f32], weights: Option<&[f32]>) -> f32 {
    const LANES: usize = 16;
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0f32; LANES];
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        let weights = weights.map_or(&[1.0; LANES], |w| &w.as_chunks::<LANES>().0[i]);
        for lane in 0..LANES {
            let difference = (a[lane] - b[lane]) * weights[lane];
            sums[lane] += difference * difference;
        }
    }
    let weight = |j: usize| weights.map_or(1.0, |w| w[a.len() * LANES + j]);
    let rest = a_rest.iter().zip(b_rest).enumerate().map(|(j, (a, b))| ((a - b) * weight(j)).powi(2));
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
