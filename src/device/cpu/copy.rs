//! Transfers between host slices and device memory, with conversion of floating-point elements.

use crate::device::{HostSlice, HostSliceMut};
use crate::error::{Error, Result};
use crate::tape::Kind;
use crate::tensor::Real;

fn mismatch(kind: Kind, have: usize, want: Kind, len: usize) -> Error {
    Error::Device(format!(
        "a buffer of {have} {kind:?} elements cannot be exchanged with {len} {want:?} elements"
    ))
}

pub(super) fn to_device<T: Real>(kind: Kind, bytes: &mut [u8], values: HostSlice<'_>) -> Result<()> {
    let size = match kind {
        Kind::Real => size_of::<T>(),
        Kind::U32 => 4,
        Kind::U8 => 1,
    };
    if kind != values.kind() || bytes.len() / size != values.len() {
        return Err(mismatch(kind, bytes.len() / size, values.kind(), values.len()));
    }
    match values {
        HostSlice::F32(v) => {
            let out: &mut [T] = bytemuck::cast_slice_mut(bytes);
            match bytemuck::try_cast_slice_mut::<T, f32>(out) {
                Ok(same) if size_of::<T>() == 4 => same.copy_from_slice(v),
                _ => convert(v, bytemuck::cast_slice_mut(bytes), |x| T::from_f64(f64::from(x))),
            }
        }
        HostSlice::F64(v) => convert(v, bytemuck::cast_slice_mut(bytes), T::from_f64),
        HostSlice::U32(v) => bytemuck::cast_slice_mut(bytes).copy_from_slice(v),
        HostSlice::U8(v) => bytes.copy_from_slice(v),
    }
    Ok(())
}

pub(super) fn to_host<T: Real>(kind: Kind, bytes: &[u8], values: HostSliceMut<'_>) -> Result<()> {
    let size = match kind {
        Kind::Real => size_of::<T>(),
        Kind::U32 => 4,
        Kind::U8 => 1,
    };
    if kind != values.kind() || bytes.len() / size != values.len() {
        return Err(mismatch(kind, bytes.len() / size, values.kind(), values.len()));
    }
    match values {
        HostSliceMut::F32(v) => convert(bytemuck::cast_slice::<u8, T>(bytes), v, |x| x.to_f64() as f32),
        HostSliceMut::F64(v) => convert(bytemuck::cast_slice::<u8, T>(bytes), v, Real::to_f64),
        HostSliceMut::U32(v) => v.copy_from_slice(bytemuck::cast_slice(bytes)),
        HostSliceMut::U8(v) => v.copy_from_slice(bytes),
    }
    Ok(())
}

fn convert<A: Copy, B>(from: &[A], to: &mut [B], f: impl Fn(A) -> B) {
    to.iter_mut().zip(from).for_each(|(t, &v)| *t = f(v));
}
