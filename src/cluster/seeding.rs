//! The random numbers of greedy k-means++ (Arthur & Vassilvitskii 2007), with `2 + ⌊ln k⌋` candidates for each
//! centre. A device makes centres of them.

use crate::device::kmeans::Draws;
use crate::random::{Purpose, Stream};

/// The draws of one restart, for `k` of `n` points.
pub fn draws(n: usize, k: usize, seed: u64, restart: u64) -> Draws {
    let mut draw = Stream::new(seed, Purpose::KmeansSeeding, restart);
    let candidates = 2 + (k as f64).ln() as usize;
    let first = draw.below(n);
    let fractions = (0..(k - 1) * candidates).map(|_| draw.next_f64()).collect();
    Draws { first, fractions, candidates }
}
