//! Sums over the middle of `[outer, count, inner]`, in slabs of fixed size that are added in fixed
//! order.

use rayon::prelude::*;

use crate::tensor::Real;

/// Summed positions of one slab. Fixed, so that results do not depend on the number of threads.
const SLAB: usize = 256;

/// Rows longer than this are summed by their own task.
const SERIAL: usize = 1 << 14;

/// Independent partial sums of a contiguous run.
const LANES: usize = 16;

/// Scratch elements: one partial result a slab if there are several.
pub(super) fn workspace(outer: usize, count: usize, inner: usize) -> usize {
    let slabs = count.div_ceil(SLAB);
    if slabs > 1 && inner > 1 { outer * slabs * inner } else { 0 }
}

pub(super) fn sum<T: Real>(
    x: &[T],
    out: &mut [T],
    (outer, count, inner): (usize, usize, usize),
    partial: &mut [T],
) {
    if inner == 1 {
        let rows = |(row, out): (usize, &mut T)| *out = sum_run(&x[row * count..(row + 1) * count]);
        if outer * count < SERIAL || outer == 1 {
            out.iter_mut().enumerate().for_each(rows);
        } else {
            out.par_iter_mut().with_min_len(SERIAL.div_ceil(count)).enumerate().for_each(rows);
        }
        return;
    }
    let slabs = count.div_ceil(SLAB);
    if slabs <= 1 {
        out.chunks_mut(inner).zip(x.chunks(count * inner)).for_each(|(out, x)| sum_rows(x, out));
        return;
    }
    debug_assert_eq!(partial.len(), outer * slabs * inner);
    partial.par_chunks_mut(inner).with_min_len(4).enumerate().for_each(|(i, partial)| {
        let (o, slab) = (i / slabs, i % slabs);
        let rows = slab * SLAB..count.min((slab + 1) * SLAB);
        sum_rows(&x[(o * count + rows.start) * inner..(o * count + rows.end) * inner], partial);
    });
    for (out, partial) in out.chunks_mut(inner).zip(partial.chunks(slabs * inner)) {
        for (k, out) in out.iter_mut().enumerate() {
            let total: f64 = partial[k..].iter().step_by(inner).map(|v| v.to_f64()).sum();
            *out = T::from_f64(total);
        }
    }
}

/// Adds up rows of the length of `out`.
fn sum_rows<T: Real>(x: &[T], out: &mut [T]) {
    out.fill(T::ZERO);
    for row in x.chunks_exact(out.len()) {
        out.iter_mut().zip(row).for_each(|(o, &v)| *o += v);
    }
}

/// Sum of a contiguous run: lanes within a slab, f64 across slabs.
fn sum_run<T: Real>(x: &[T]) -> T {
    let mut total = 0.0;
    for slab in x.chunks(SLAB * LANES) {
        let mut lanes = [T::ZERO; LANES];
        let (whole, rest) = slab.as_chunks::<LANES>();
        for chunk in whole {
            lanes.iter_mut().zip(chunk).for_each(|(l, &v)| *l += v);
        }
        total += lanes.iter().chain(rest).map(|v| v.to_f64()).sum::<f64>();
    }
    T::from_f64(total)
}
