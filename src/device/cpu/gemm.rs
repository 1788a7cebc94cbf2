//! Matrix products.

use rayon::prelude::*;

use crate::tensor::Real;

pub fn workspace<T: Real>(_m: usize, _n: usize, _k: usize, _ta: bool, _tb: bool) -> usize {
    0
}

pub fn matmul<T: Real>(
    a: &[T],
    b: &[T],
    c: &mut [T],
    (m, n, k): (usize, usize, usize),
    (ta, tb): (bool, bool),
    _workspace: &mut [T],
) {
    c.par_chunks_mut(n).enumerate().for_each(|(i, row)| {
        for (j, out) in row.iter_mut().enumerate() {
            let mut sum = T::ZERO;
            for l in 0..k {
                sum += a[if ta { l * m + i } else { i * k + l }] * b[if tb { j * k + l } else { l * n + j }];
            }
            *out = sum;
        }
    });
}
