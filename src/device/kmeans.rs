//! What k-means asks of a device: points in its memory, and runs over them that it may keep side by side.
//!
//! Any device gives the same bits. Labels are those of exact distances, the lowest index wins; sums of
//! points, movements and distances are in double precision and in a fixed order; k-means++ adds the same
//! single-precision distances in the same order. So restarts, partitions and whole programs do not depend on
//! the device.

use crate::error::Result;

/// Points `[n, d]` that a device has loaded.
pub trait Loaded {
    /// Sums of the columns and of their squares, in slabs of 1024 points that are added in order.
    fn moments(&self) -> Result<Vec<[f64; 2]>>;

    /// Runs of `k` centres that the device takes at once, at most.
    fn most_runs(&self, k: usize) -> usize;

    /// Runs of `k` centres each; run `r` compares points as `x ∘ weights[spaces[r]]`, if there are weights.
    fn runs<'a>(
        &'a self,
        weights: &[Option<&'a [f32]>],
        spaces: &[usize],
        k: usize,
    ) -> Result<Box<dyn Runs + 'a>>;
}

/// Runs of k-means, named by their numbers, each with centres `[k, d]` (in its weighted space) and labels of
/// its own.
pub trait Runs {
    /// Starts every run anew, from given centres.
    fn start(&mut self, centres: &[&[f64]]) -> Result<()>;

    /// Starts every run anew, from points that greedy k-means++ chooses; the points.
    fn seed(&mut self, draws: &[Draws]) -> Result<Vec<Vec<u32>>>;

    /// Sets the labels to the nearest centres, sums the points of each centre, and, unless a centre has
    /// none, moves each centre to the mean of its points.
    fn step(&mut self, runs: &[usize]) -> Result<Vec<Step>>;

    /// Squared distances of all points of a run to the centres of their labels.
    fn distances(&mut self, run: usize) -> Result<Vec<f64>>;

    /// Before the centres are moved: takes each of the points out of its cluster, and makes it the only one
    /// of an empty cluster.
    fn relocate(&mut self, run: usize, empty: &[usize], points: &[usize]) -> Result<()>;

    /// Moves the centres of a run to the means of their points, empty ones as scikit-learn does; returns how
    /// far, as [`Step::moved`].
    fn average(&mut self, run: usize) -> Result<f64>;

    /// Sets the labels to the nearest centres.
    fn assign(&mut self, runs: &[usize]) -> Result<()>;

    /// Sums of the squared distances of all points to the centres of their labels, in slabs of 1024 points
    /// that are added in order.
    fn inertia(&mut self, runs: &[usize]) -> Result<Vec<f64>>;

    fn centres(&self, run: usize) -> Result<Vec<f64>>;

    fn labels(&self, run: usize) -> Result<Vec<u32>>;
}

/// What one step of a run found.
#[derive(Clone, Debug)]
pub struct Step {
    /// Points whose label changed.
    pub changed: usize,
    /// Points of each centre.
    pub counts: Vec<u64>,
    /// Sum of the squared movements of the centres, if they were moved: of each centre in [`STRANDS`] sums
    /// over every so many columns, added in order.
    pub moved: f64,
}

/// Sums that the squared movement of a centre is added in.
pub const STRANDS: usize = 32;

/// The random numbers of one greedy k-means++.
#[derive(Clone, Debug)]
pub struct Draws {
    /// The first centre.
    pub first: usize,
    /// For each later centre, the candidates' places: fractions of the sum of all distances.
    pub fractions: Vec<f64>,
    /// Candidates for each later centre.
    pub candidates: usize,
}
