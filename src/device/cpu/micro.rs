//! The innermost kernel of matrix products and convolutions: some rows of a strided left operand times
//! one panel of packed columns, with the results in registers.

use super::simd::{self, Job, Vector};
use crate::tensor::Real;

/// Rows that are computed together: 6 rows × 4 registers of 16 floats leave 8 registers for operands.
const ROWS: usize = 6;

/// `c[i][j] (+)= Σ_segment Σ_l a[segment·a_segment + i·a_row + l·a_step] · b[segment·b_segment + l·b_step + j]`
/// for `i < rows`, `j < columns`, `l < depth`.
///
/// A segment is a filter row of a convolution; a matrix product has one.
#[derive(Clone, Copy)]
pub struct Panel<T> {
    pub a: *const T,
    pub a_row: usize,
    pub a_step: usize,
    pub a_segment: usize,
    pub b: *const T,
    /// At least the columns, rounded up to whole registers; what lies behind the columns is read.
    pub b_step: usize,
    pub b_segment: usize,
    pub c: *mut T,
    pub c_row: usize,
    pub rows: usize,
    /// At most [`simd::panel`].
    pub columns: usize,
    pub depth: usize,
    pub segments: usize,
    /// Add to `c` instead of overwriting it.
    pub accumulate: bool,
}

impl<T: Real> Panel<T> {
    /// # Safety
    /// Every element that the formula names must lie within memory that may be read (`a`, `b`) or
    /// written by this thread alone (`c`).
    pub unsafe fn run(self) {
        simd::dispatch(self);
    }
}

impl<T: Real> Job<T> for Panel<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Element = T>>(self) {
        // SAFETY: the caller of `Panel::run` vouches for the operands, `dispatch` for the instructions.
        unsafe {
            match self.columns.div_ceil(V::LANES) {
                0 => {}
                1 => self.all_rows::<V, 1>(),
                2 => self.all_rows::<V, 2>(),
                3 => self.all_rows::<V, 3>(),
                _ => self.all_rows::<V, 4>(),
            }
        }
    }
}

impl<T: Real> Panel<T> {
    #[inline(always)]
    unsafe fn all_rows<V: Vector<Element = T>, const COLUMNS: usize>(mut self) {
        // SAFETY: the rows named are those of the caller.
        unsafe {
            while self.rows >= ROWS {
                self.block::<V, ROWS, COLUMNS>();
                self.a = self.a.add(ROWS * self.a_row);
                self.c = self.c.add(ROWS * self.c_row);
                self.rows -= ROWS;
            }
            match self.rows {
                1 => self.block::<V, 1, COLUMNS>(),
                2 => self.block::<V, 2, COLUMNS>(),
                3 => self.block::<V, 3, COLUMNS>(),
                4 => self.block::<V, 4, COLUMNS>(),
                5 => self.block::<V, 5, COLUMNS>(),
                _ => {}
            }
        }
    }

    #[inline(always)]
    unsafe fn block<V: Vector<Element = T>, const R: usize, const COLUMNS: usize>(&self) {
        // SAFETY: the caller's.
        unsafe {
            let mut sum = [[V::splat(T::ZERO); COLUMNS]; R];
            for segment in 0..self.segments {
                let mut a = self.a.add(segment * self.a_segment);
                let mut b = self.b.add(segment * self.b_segment);
                for _ in 0..self.depth {
                    let mut columns = [V::splat(T::ZERO); COLUMNS];
                    for (j, column) in columns.iter_mut().enumerate() {
                        *column = V::load(b.add(j * V::LANES));
                    }
                    for (i, sums) in sum.iter_mut().enumerate() {
                        let value = V::splat(*a.add(i * self.a_row));
                        for (sum, column) in sums.iter_mut().zip(columns) {
                            *sum = value.mul_add(column, *sum);
                        }
                    }
                    a = a.add(self.a_step);
                    b = b.add(self.b_step);
                }
            }
            let last = self.columns - (COLUMNS - 1) * V::LANES;
            for (i, sums) in sum.iter().enumerate() {
                for (j, sum) in sums.iter().enumerate() {
                    let c = self.c.add(i * self.c_row + j * V::LANES);
                    if j + 1 < COLUMNS || last == V::LANES {
                        let sum = if self.accumulate { V::load(c).add(*sum) } else { *sum };
                        sum.store(c);
                    } else {
                        let sum = if self.accumulate { V::load_first(c, last).add(*sum) } else { *sum };
                        sum.store_first(c, last);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    /// Every number of rows and columns, both layouts of the left operand, against plain sums.
    fn agrees<T: Real>(tolerance: f64) {
        let mut draw = Stream::new(3, Purpose::Shuffle, 0);
        let panel = simd::panel::<T>();
        for rows in 1..15 {
            for columns in [1, 3, panel / 2, panel - 1, panel] {
                let (depth, segments) = (7, 2);
                for (a_row, a_step) in [(depth, 1), (1, rows)] {
                    let mut random =
                        |n: usize| (0..n).map(|_| T::from_f64(draw.normal())).collect::<Vec<_>>();
                    let (a, b) = (random(rows * depth * segments), random(depth * panel * segments));
                    let before = random(rows * columns);
                    for accumulate in [false, true] {
                        let mut c = before.clone();
                        let call = Panel {
                            a: a.as_ptr(),
                            a_row,
                            a_step,
                            a_segment: rows * depth,
                            b: b.as_ptr(),
                            b_step: panel,
                            b_segment: depth * panel,
                            c: c.as_mut_ptr(),
                            c_row: columns,
                            rows,
                            columns,
                            depth,
                            segments,
                            accumulate,
                        };
                        // SAFETY: the operands have exactly the elements that the call names.
                        unsafe { call.run() };
                        for i in 0..rows {
                            for j in 0..columns {
                                let mut sum = if accumulate { before[i * columns + j].to_f64() } else { 0.0 };
                                for s in 0..segments {
                                    for l in 0..depth {
                                        sum += a[s * rows * depth + i * a_row + l * a_step].to_f64()
                                            * b[(s * depth + l) * panel + j].to_f64();
                                    }
                                }
                                assert!((c[i * columns + j].to_f64() - sum).abs() < tolerance);
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_shape_agrees_with_plain_sums() {
        agrees::<f32>(1e-4);
        agrees::<f64>(1e-12);
    }
}
