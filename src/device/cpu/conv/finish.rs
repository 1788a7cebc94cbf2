//! The way of a block of sums to memory: pooling, bias, activation.

use super::{Activation, Epilogue, Pool};
use crate::device::cpu::simd::{self, Job, Vector};
use crate::device::cpu::slots::Shared;
use crate::tensor::Real;

enum Positions<'a> {
    None,
    Found(Shared<u8>),
    Given(&'a [u8]),
}

/// Stores blocks of a result.
pub(super) struct Finish<'a, T> {
    positions: Positions<'a>,
    bias: Option<&'a [T]>,
    activation: Activation<'a, T>,
    /// Rows, columns and channels before pooling.
    shape: [usize; 3],
    y: Shared<T>,
    len: usize,
}

/// A block of sums `[rows, columns, pitch]` for `channels` channels; what exceeds the result is ignored.
/// With pooling, rows and columns are even.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub image: usize,
    pub row: usize,
    pub column: usize,
    pub rows: usize,
    pub columns: usize,
    pub channel: usize,
    pub channels: usize,
    pub pitch: usize,
}

struct Store<'a, 'b, T> {
    finish: &'b Finish<'a, T>,
    block: Block,
    sums: &'b [T],
}

impl<T: Real> Job<T> for Store<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Element = T>>(self) {
        // SAFETY: the promise of `Finish::store`.
        unsafe {
            match self.finish.positions {
                Positions::None => self.dense(),
                _ => self.pooled(),
            }
        }
    }
}

impl<'a, T: Real> Finish<'a, T> {
    pub fn new(epilogue: Epilogue<'a, T>, shape: [usize; 3], y: &mut [T]) -> Self {
        let Epilogue { pool, bias, activation } = epilogue;
        let positions = match pool {
            Pool::None => Positions::None,
            Pool::Max { argmax } => {
                assert_eq!(argmax.len(), y.len(), "a position for every result");
                Positions::Found(Shared::new(argmax))
            }
            Pool::Gather { argmax } => Positions::Given(argmax),
        };
        Finish { positions, bias, activation, shape, y: Shared::new(y), len: y.len() }
    }

    pub fn is_pooled(&self) -> bool {
        !matches!(self.positions, Positions::None)
    }

    /// Stores a block.
    ///
    /// # Safety
    /// No other thread may store the same results.
    pub unsafe fn store(&self, block: Block, sums: &[T]) {
        simd::dispatch(Store { finish: self, block, sums });
    }
}

impl<T: Real> Store<'_, '_, T> {
    #[inline(always)]
    unsafe fn dense(&self) {
        let (b, [ho, wo, k]) = (&self.block, self.finish.shape);
        for i in 0..b.rows.min(ho.saturating_sub(b.row)) {
            for j in 0..b.columns.min(wo.saturating_sub(b.column)) {
                let at = ((b.image * ho + b.row + i) * wo + b.column + j) * k + b.channel;
                let sums = &self.sums[(i * b.columns + j) * b.pitch..][..b.channels];
                // SAFETY: the caller's.
                unsafe { self.run_of(at, |c| sums[c]) };
            }
        }
    }

    #[inline(always)]
    unsafe fn pooled(&self) {
        let (b, [ho, wo, k]) = (&self.block, self.finish.shape);
        let (hp, wp) = (ho / 2, wo / 2);
        for i in 0..(b.rows / 2).min(hp.saturating_sub(b.row / 2)) {
            for j in 0..(b.columns / 2).min(wp.saturating_sub(b.column / 2)) {
                let at = ((b.image * hp + b.row / 2 + i) * wp + b.column / 2 + j) * k + b.channel;
                let four: [&[T]; 4] = std::array::from_fn(|p| {
                    let pixel = (2 * i + p / 2) * b.columns + 2 * j + p % 2;
                    &self.sums[pixel * b.pitch..][..b.channels]
                });
                match &self.finish.positions {
                    Positions::Given(argmax) => {
                        let argmax = &argmax[at..at + b.channels];
                        let pick = |c: usize| {
                            let low = if argmax[c] & 1 == 0 { four[0][c] } else { four[1][c] };
                            let high = if argmax[c] & 1 == 0 { four[2][c] } else { four[3][c] };
                            if argmax[c] & 2 == 0 { low } else { high }
                        };
                        // SAFETY: the caller's.
                        unsafe { self.run_of(at, pick) };
                    }
                    Positions::Found(shared) => {
                        assert!(at + b.channels <= self.finish.len);
                        // SAFETY: as many positions as results, the same disjoint parts.
                        let found = unsafe { shared.part(at, b.channels) };
                        let mut best = [T::ZERO; CHUNK];
                        for (chunk, found) in found.chunks_mut(CHUNK).enumerate() {
                            let four = four.map(|f| &f[chunk * CHUNK..][..found.len()]);
                            let best = &mut best[..found.len()];
                            maximum(four, best, found);
                            let bias = self.finish.bias.map(|b| &b[self.block.channel + chunk * CHUNK..]);
                            // SAFETY: the caller's.
                            unsafe { self.part_of(at + chunk * CHUNK, best.len(), bias, |c| best[c]) };
                        }
                    }
                    Positions::None => {}
                }
            }
        }
    }

    /// Stores `channels` neighbouring results from `at`.
    #[inline(always)]
    unsafe fn run_of(&self, at: usize, value: impl Fn(usize) -> T) {
        let bias = self.finish.bias.map(|b| &b[self.block.channel..]);
        // SAFETY: the caller's.
        unsafe { self.part_of(at, self.block.channels, bias, value) }
    }

    #[inline(always)]
    unsafe fn part_of(&self, at: usize, count: usize, bias: Option<&[T]>, value: impl Fn(usize) -> T) {
        assert!(at + count <= self.finish.len);
        // SAFETY: within the result, see the assertion; disjoint by the promise of `store`.
        let out = unsafe { self.finish.y.part(at, count) };
        match bias {
            Some(bias) => {
                let bias = &bias[..count];
                self.activated(at, out, |c| value(c) + bias[c]);
            }
            None => self.activated(at, out, value),
        }
    }

    #[inline(always)]
    fn activated(&self, at: usize, out: &mut [T], value: impl Fn(usize) -> T) {
        let out = out.iter_mut().enumerate();
        match self.finish.activation {
            Activation::Identity => out.for_each(|(c, out)| *out = value(c)),
            Activation::Relu => out.for_each(|(c, out)| {
                let v = value(c);
                *out = if v > T::ZERO { v } else { T::ZERO };
            }),
            Activation::LeakyRelu(slope) => out.for_each(|(c, out)| {
                let v = value(c);
                *out = if v > T::ZERO { v } else { v * slope };
            }),
            Activation::Mask { by, slope } => {
                let by = &by[at..at + out.len()];
                out.for_each(|(c, out)| {
                    let v = value(c);
                    *out = if by[c] > T::ZERO { v } else { v * slope };
                });
            }
        }
    }
}

/// Channels whose maxima are found together.
const CHUNK: usize = 64;

/// Greatest of four and its position, the first of equals; not a number wins, so that it is seen.
#[inline(always)]
fn maximum<T: Real>(four: [&[T]; 4], best: &mut [T], found: &mut [u8]) {
    for (c, (best, found)) in best.iter_mut().zip(found).enumerate() {
        let (mut value, mut position) = (four[0][c], 0);
        for (p, four) in four.iter().enumerate().skip(1) {
            let other = four[c];
            let wins = other > value || other.partial_cmp(&other).is_none();
            value = if wins { other } else { value };
            position = if wins { p as u8 } else { position };
        }
        (*best, *found) = (value, position);
    }
}
