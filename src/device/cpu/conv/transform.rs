//! The matrices of F(4×4, 3×3), interpolation points 0, ±1, ±2 and infinity (Lavin & Gray 2016):
//! `y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A`.
//!
//! Each [`Axis`] transforms a line of six (or four, or three) values; applied to the columns and then to
//! the rows of a tile, it gives the two-dimensional transform. They are types, not closures: a closure that
//! the compiler does not inline loses the instruction set of its surroundings.

use crate::device::cpu::simd::Vector;
use crate::tensor::Real;

/// Results of a tile on each axis, its inputs, and the products of a tile.
pub(super) const OUT: usize = 4;
pub(super) const IN: usize = 6;
pub(super) const POINTS: usize = IN * IN;

/// A linear map of lines.
pub(super) trait Axis<E, const N: usize, const M: usize> {
    /// # Safety
    /// The instruction set of `E` must be there.
    unsafe fn apply(self, line: [E; N]) -> [E; M];
}

#[inline(always)]
unsafe fn times<V: Vector>(factor: f64, a: V, b: V) -> V {
    // SAFETY: the caller's.
    unsafe { a.mul_add(V::splat(V::Element::from_f64(factor)), b) }
}

/// `Bᵀ d`.
#[derive(Clone, Copy)]
pub(super) struct Input;

impl<V: Vector> Axis<V, 6, 6> for Input {
    #[inline(always)]
    unsafe fn apply(self, d: [V; 6]) -> [V; 6] {
        // SAFETY: the caller's, here and below.
        unsafe {
            let even = times(-4.0, d[2], d[4]);
            let odd = times(-4.0, d[1], d[3]);
            let (far, near) = (d[4].sub(d[2]), d[3].sub(d[1]));
            [
                times(4.0, d[0], times(-5.0, d[2], d[4])),
                even.add(odd),
                even.sub(odd),
                times(2.0, near, far),
                times(-2.0, near, far),
                times(4.0, d[1], times(-5.0, d[3], d[5])),
            ]
        }
    }
}

/// `Aᵀ m`.
#[derive(Clone, Copy)]
pub(super) struct Output;

impl<V: Vector> Axis<V, 6, 4> for Output {
    #[inline(always)]
    unsafe fn apply(self, m: [V; 6]) -> [V; 4] {
        unsafe {
            let (sum1, difference1) = (m[1].add(m[2]), m[1].sub(m[2]));
            let (sum2, difference2) = (m[3].add(m[4]), m[3].sub(m[4]));
            [
                m[0].add(sum1).add(sum2),
                times(2.0, difference2, difference1),
                times(4.0, sum2, sum1),
                times(8.0, difference2, difference1).add(m[5]),
            ]
        }
    }
}

/// `A y`, the transpose of [`Output`].
#[derive(Clone, Copy)]
pub(super) struct OutputTransposed;

impl<V: Vector> Axis<V, 4, 6> for OutputTransposed {
    #[inline(always)]
    unsafe fn apply(self, y: [V; 4]) -> [V; 6] {
        unsafe {
            let (even1, odd1) = (y[0].add(y[2]), y[1].add(y[3]));
            let even2 = times(4.0, y[2], y[0]);
            let twice = y[1].add(y[1]);
            let odd2 = times(8.0, y[3], twice);
            [y[0], even1.add(odd1), even1.sub(odd1), even2.add(odd2), even2.sub(odd2), y[3]]
        }
    }
}

/// `G g`.
#[derive(Clone, Copy)]
pub(super) struct Filter;

impl<T: Real> Axis<T, 3, 6> for Filter {
    #[inline(always)]
    unsafe fn apply(self, g: [T; 3]) -> [T; 6] {
        let f = T::from_f64;
        let (outer, middle) = (g[0] + g[2], g[1]);
        let (wide, half) = (f(1.0 / 24.0) * g[0] + f(1.0 / 6.0) * g[2], f(1.0 / 12.0) * g[1]);
        let sixth = f(-1.0 / 6.0);
        [f(0.25) * g[0], sixth * (outer + middle), sixth * (outer - middle), wide + half, wide - half, g[2]]
    }
}

/// `Gᵀ u`, the transpose of [`Filter`].
#[derive(Clone, Copy)]
pub(super) struct FilterTransposed;

impl<T: Real> Axis<T, 6, 3> for FilterTransposed {
    #[inline(always)]
    unsafe fn apply(self, u: [T; 6]) -> [T; 3] {
        let f = T::from_f64;
        let (near, far) = (u[1] + u[2], u[3] + u[4]);
        let sixth = f(-1.0 / 6.0) * near;
        [
            f(0.25) * u[0] + sixth + f(1.0 / 24.0) * far,
            f(-1.0 / 6.0) * (u[1] - u[2]) + f(1.0 / 12.0) * (u[3] - u[4]),
            sixth + f(1.0 / 6.0) * far + u[5],
        ]
    }
}

/// Both axes of a small tile: `axis` on every column, then on every row.
///
/// # Safety
/// The instruction set of `E` must be there.
#[inline(always)]
pub(super) unsafe fn both<E: Copy, A: Axis<E, N, M> + Copy, const N: usize, const M: usize>(
    axis: A,
    tile: [[E; N]; N],
    zero: E,
) -> [[E; M]; M] {
    // `half[j]` is the transformed column j.
    let mut half = [[zero; M]; N];
    for (j, half) in half.iter_mut().enumerate() {
        let mut column = [zero; N];
        for (i, value) in column.iter_mut().enumerate() {
            *value = tile[i][j];
        }
        // SAFETY: the caller's, here and below.
        *half = unsafe { axis.apply(column) };
    }
    let mut whole = [[zero; M]; M];
    for (i, row) in whole.iter_mut().enumerate() {
        let mut line = [zero; N];
        for (j, value) in line.iter_mut().enumerate() {
            *value = half[j][i];
        }
        *row = unsafe { axis.apply(line) };
    }
    whole
}
