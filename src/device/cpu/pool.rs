//! Pooling over `size × size` windows, one output row at a time.

use rayon::prelude::*;

use crate::tensor::Real;

/// Rows of pooled output that one task does at least.
const ROWS: usize = 4;

/// For pooled row `row` of all images: the index of the first element of its first input row.
fn first_of(row: usize, [_, h, w, c]: [usize; 4], size: usize) -> usize {
    let pooled = h / size;
    ((row / pooled) * h + (row % pooled) * size) * w * c
}

pub(super) fn argmax<T: Real>(x: &[T], large: [usize; 4], size: usize, out: &mut [u8]) {
    let [_, _, w, c] = large;
    let wide = (w / size) * c;
    out.par_chunks_mut(wide).with_min_len(ROWS).enumerate().for_each(|(row, out)| {
        let first = first_of(row, large, size);
        for (j, out) in out.chunks_mut(c).enumerate() {
            for (k, out) in out.iter_mut().enumerate() {
                let at = |p: usize| x[first + (p / size) * w * c + (j * size + p % size) * c + k];
                let mut best = at(0);
                *out = 0;
                for p in 1..size * size {
                    let value = at(p);
                    // Not a number wins, as in every framework, so that it is seen.
                    if value > best || value.partial_cmp(&value).is_none() {
                        (best, *out) = (value, p as u8);
                    }
                }
            }
        }
    });
}

pub(super) fn gather<T: Real>(x: &[T], positions: &[u8], large: [usize; 4], size: usize, out: &mut [T]) {
    let [_, _, w, c] = large;
    let wide = (w / size) * c;
    let rows = out.par_chunks_mut(wide).zip(positions.par_chunks(wide));
    rows.with_min_len(ROWS).enumerate().for_each(|(row, (out, positions))| {
        let first = first_of(row, large, size);
        for (i, (out, &p)) in out.iter_mut().zip(positions).enumerate() {
            let (p, j, k) = (p as usize, i / c, i % c);
            *out = x[first + (p / size) * w * c + (j * size + p % size) * c + k];
        }
    });
}

pub(super) fn scatter<T: Real>(p: &[T], positions: &[u8], large: [usize; 4], size: usize, out: &mut [T]) {
    let [_, h, w, c] = large;
    let (hp, wp) = (h / size, w / size);
    out.par_chunks_mut(h * w * c).enumerate().for_each(|(n, out)| {
        out.fill(T::ZERO);
        let pooled = n * hp * wp * c..(n + 1) * hp * wp * c;
        for (i, (&value, &at)) in p[pooled.clone()].iter().zip(&positions[pooled]).enumerate() {
            let (row, j, k) = (i / (wp * c), i / c % wp, i % c);
            let at = at as usize;
            out[((row * size + at / size) * w + j * size + at % size) * c + k] = value;
        }
    });
}

pub(super) fn sum<T: Real>(x: &[T], large: [usize; 4], size: usize, out: &mut [T]) {
    let [_, _, w, c] = large;
    let wide = (w / size) * c;
    out.par_chunks_mut(wide).with_min_len(ROWS).enumerate().for_each(|(row, out)| {
        let first = first_of(row, large, size);
        for (j, out) in out.chunks_mut(c).enumerate() {
            for p in 0..size * size {
                let start = first + (p / size) * w * c + (j * size + p % size) * c;
                let from = &x[start..start + c];
                if p == 0 {
                    out.copy_from_slice(from);
                } else {
                    out.iter_mut().zip(from).for_each(|(o, &v)| *o += v);
                }
            }
        }
    });
}

pub(super) fn upsample<T: Real>(p: &[T], large: [usize; 4], size: usize, out: &mut [T]) {
    let [_, h, w, c] = large;
    let (hp, wp) = (h / size, w / size);
    out.par_chunks_mut(w * c).with_min_len(ROWS * size).enumerate().for_each(|(row, out)| {
        let (n, i) = (row / h, row % h);
        if i >= hp * size {
            out.fill(T::ZERO);
            return;
        }
        let from = &p[(n * hp + i / size) * wp * c..][..wp * c];
        let (inside, margin) = out.split_at_mut(wp * size * c);
        for (out, from) in inside.chunks_mut(size * c).zip(from.chunks(c)) {
            out.chunks_mut(c).for_each(|o| o.copy_from_slice(from));
        }
        margin.fill(T::ZERO);
    });
}
