//! Random tensors: each element is a pure function of key and position.

use rayon::prelude::*;

use crate::ops::Random;
use crate::tensor::Real;

/// Elements that one task draws at least.
const SERIAL: usize = 1 << 12;

pub(super) fn fill<T: Real>(op: Random, key: &[u32], out: &mut [T]) {
    let key = [key[0], key[1], key[2], key[3]];
    out.par_iter_mut()
        .with_min_len(SERIAL)
        .enumerate()
        .for_each(|(i, v)| *v = T::from_f64(op.at(key, i as u64)));
}
