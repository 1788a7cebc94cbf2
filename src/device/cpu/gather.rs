//! Reading and adding by index.

use rayon::prelude::*;

use crate::ops::Gather;
use crate::tensor::Real;

/// An index out of range reads nothing and adds nothing: data is checked where it enters, and a device
/// must not read foreign memory whatever happens.
pub(super) fn run<T: Real>(op: Gather, x: &[T], index: &[u32], out: &mut [T], rows: usize, columns: usize) {
    match op {
        Gather::Pick => {
            for ((out, row), &i) in out.iter_mut().zip(x.chunks(columns)).zip(index) {
                *out = row.get(i as usize).copied().unwrap_or_else(|| T::from_f64(f64::NAN));
            }
        }
        Gather::Place { .. } => {
            out.fill(T::ZERO);
            for ((row, &value), &i) in out.chunks_mut(columns).zip(x).zip(index) {
                if let Some(slot) = row.get_mut(i as usize) {
                    *slot = value;
                }
            }
        }
        Gather::Rows => {
            out.par_chunks_mut(columns).zip(index).with_min_len(16).for_each(|(out, &i)| {
                match (i as usize) < rows {
                    true => out.copy_from_slice(&x[i as usize * columns..(i as usize + 1) * columns]),
                    false => out.fill(T::from_f64(f64::NAN)),
                }
            });
        }
        Gather::ScatterRows { .. } => scatter_rows(x, index, out, rows, columns),
    }
}

/// Each output row adds its sources in the order of their numbers.
fn scatter_rows<T: Real>(x: &[T], index: &[u32], out: &mut [T], rows: usize, columns: usize) {
    debug_assert_eq!(out.len(), rows * columns);
    out.fill(T::ZERO);
    for (source, &i) in x.chunks(columns).zip(index) {
        if (i as usize) < rows {
            let out = &mut out[i as usize * columns..(i as usize + 1) * columns];
            out.iter_mut().zip(source).for_each(|(o, &v)| *o += v);
        }
    }
}
