//! Which centre is nearest to each point, and the sums of the points of each centre, in one pass over the
//! points: scores of a few points stay in registers, and the N×K table never exists.
//!
//! `‖x − c‖² = ‖x‖² − 2 (x·c − ‖c‖²/2)`, so the nearest centre has the largest score `x·c − ‖c‖²/2`. Scores
//! are computed in single precision ([`tile`]); wherever rounding could have decided, distances are computed
//! again in double precision, so that labels are those of exact arithmetic on any processor. The lowest
//! index wins. A point keeps its label without any score where bounds from the last pass prove it
//! ([`bounds`]).

mod bounds;
mod grouped;
mod groups;
mod pass;
mod runs;
mod seeding;
mod sums;
mod sweep;
mod tile;

use rayon::prelude::*;

pub use pass::{Outcome, Pass};
pub use runs::OnHost;

use super::simd::{self, Job, Vector};

/// Points of one task of a sum of distances: fixed, so that sums do not depend on the number of threads.
const SLAB: usize = 1024;

/// Points `[n, d]`, compared as `x ∘ weights` if there are weights.
#[derive(Clone, Copy)]
pub struct Points<'a> {
    pub values: &'a [f32],
    pub d: usize,
    pub weights: Option<&'a [f32]>,
}

impl Points<'_> {
    pub fn len(&self) -> usize {
        self.values.len() / self.d
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.d..(i + 1) * self.d]
    }

    pub(crate) fn weight(&self, j: usize) -> f64 {
        self.weights.map_or(1.0, |w| f64::from(w[j]))
    }

    /// Squared distance of point `i` to a centre in the weighted space, in double precision.
    #[inline(always)]
    pub fn distance(&self, i: usize, centre: &[f64]) -> f64 {
        squares(self.row(i), centre, self.weights)
    }

    /// Squared distances of all points to their centres, in double precision.
    pub fn distances(&self, centres: &[f64], labels: &[u32]) -> Vec<f64> {
        let mut all = vec![0.0; labels.len()];
        let slabs = all.par_chunks_mut(SLAB).zip(labels.par_chunks(SLAB)).enumerate();
        slabs.for_each(|(slab, (distances, labels))| {
            simd::dispatch(Distances { points: self, centres, first: slab * SLAB, labels, distances });
        });
        all
    }

    /// Sum of the squared distances of all points to their centres, added in fixed slabs.
    pub fn inertia(&self, centres: &[f64], labels: &[u32]) -> f64 {
        let slabs = self.distances(centres, labels);
        slabs.chunks(SLAB).map(|slab| slab.iter().sum::<f64>()).sum()
    }
}

/// `Σ (weight · x − c)²` in eight sums, so that the additions do not wait for each other.
#[inline(always)]
fn squares(row: &[f32], centre: &[f64], weights: Option<&[f32]>) -> f64 {
    const LANES: usize = 8;
    let (rows, row) = row.as_chunks::<LANES>();
    let (centres, centre) = centre.as_chunks::<LANES>();
    let (weights, weight) = weights.map_or((None, None), |w| {
        let (chunks, rest) = w.as_chunks::<LANES>();
        (Some(chunks), Some(rest))
    });
    let mut sums = [0.0; LANES];
    for (i, (x, c)) in rows.iter().zip(centres).enumerate() {
        let weights = weights.map_or(&[1.0; LANES], |w| &w[i]);
        for lane in 0..LANES {
            let difference = f64::from(x[lane]) * f64::from(weights[lane]) - c[lane];
            sums[lane] += difference * difference;
        }
    }
    let rest = row.iter().zip(centre).enumerate().map(|(j, (&x, &c))| {
        let difference = f64::from(x) * weight.map_or(1.0, |w| f64::from(w[j])) - c;
        difference * difference
    });
    sums.iter().sum::<f64>() + rest.sum::<f64>()
}

/// Compiled for every instruction set; the additions are the same in each.
struct Distances<'a> {
    points: &'a Points<'a>,
    centres: &'a [f64],
    first: usize,
    labels: &'a [u32],
    distances: &'a mut [f64],
}

impl Job<f32> for Distances<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Element = f32>>(self) {
        let d = self.points.d;
        for (i, (distance, &label)) in self.distances.iter_mut().zip(self.labels).enumerate() {
            *distance = self.points.distance(self.first + i, &self.centres[label as usize * d..][..d]);
        }
    }
}
