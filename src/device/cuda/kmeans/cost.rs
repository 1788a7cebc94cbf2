//! What an iteration of one run costs at least, launch by launch, in the order of `Runs::step`.

use super::PITCH;
use crate::device::cuda::cost::Cost;
use crate::device::cuda::rates::Unit;

/// Entries of the kernels and their costs, for `n` points `[d]` and `k` centres.
///
/// Distances take a multiply-add a number of a point and a centre. Points that are decided again in double
/// precision are left out, since data decides how many there are; arithmetic in double precision is counted
/// like any other. Both make the bound smaller.
pub fn iteration(n: usize, d: usize, k: usize) -> [(&'static str, Cost); 5] {
    let [n, d, k] = [n, d, k].map(|size| size as u64);
    let pitch = d.next_multiple_of(PITCH as u64);
    let cost = |flops, read, written| Cost { flops, unit: Unit::Fma, read, written };
    [
        // Weights, mean, centres in double precision ↦ centres in single precision, their offsets.
        ("prepare", cost(3 * k * d, 8 * d + 8 * k * d, 4 * k * pitch + 4 * k)),
        // Centred points, their lengths, old labels, centres ↦ new labels.
        ("assign", cost(2 * n * k * d, 4 * n * pitch + 8 * n + 4 * k * pitch + 4 * k, 4 * n)),
        ("recheck", cost(0, 4, 0)),
        // Points and labels ↦ sums and sizes.
        ("totals", cost(n * d, 4 * n * d + 4 * n, 8 * k * d + 4 * k)),
        // Sums, sizes and old centres ↦ new centres, how far they moved.
        ("average", cost(4 * k * d, 16 * k * d + 4 * k, 8 * k * d + 8 * k)),
    ]
}
