//! Log-softmax of rows.

use rayon::prelude::*;

use crate::tensor::Real;

/// Elements that one task does at least.
const SERIAL: usize = 1 << 12;

pub(super) fn log_softmax<T: Real>(x: &[T], out: &mut [T], columns: usize) {
    let min = SERIAL.div_ceil(columns);
    out.par_chunks_mut(columns).zip(x.par_chunks(columns)).with_min_len(min).for_each(|(out, x)| {
        let max = x.iter().copied().fold(x[0], |m, v| if v > m { v } else { m });
        // In f64: a row is short, and the sum decides the accuracy of everything behind it.
        let total: f64 = x.iter().map(|&v| (v.to_f64() - max.to_f64()).exp()).sum();
        let shift = T::from_f64(max.to_f64() + total.ln());
        out.iter_mut().zip(x).for_each(|(o, &v)| *o = v - shift);
    });
}
