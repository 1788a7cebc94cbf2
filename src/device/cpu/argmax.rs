//! Where rows are largest.

use rayon::prelude::*;

use crate::tensor::Real;

/// Elements that one task looks at, at least.
const SERIAL: usize = 1 << 14;

/// Maxima that are kept side by side.
const LANES: usize = 16;

pub(super) fn argmax<T: Real>(x: &[T], out: &mut [u32], columns: usize) {
    let min = SERIAL.div_ceil(columns);
    let rows = x.par_chunks(columns).with_min_len(min);
    out.par_iter_mut().with_min_len(min).zip(rows).for_each(|(out, row)| *out = position(row));
}

/// Of equal elements the first; what is not a number is larger than nothing.
fn position<T: Real>(row: &[T]) -> u32 {
    let mut lanes = [row[0]; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    let raise = |to: &mut T, v: T| {
        if v > *to {
            *to = v;
        }
    };
    for chunk in whole {
        lanes.iter_mut().zip(chunk).for_each(|(l, &v)| raise(l, v));
    }
    let mut most = row[0];
    lanes.iter().chain(rest).for_each(|&v| raise(&mut most, v));
    row.iter().position(|&v| v == most).unwrap_or(0) as u32
}
