//! Convolution and its two transposes, with what the plan fused into them.
//!
//! * [`gather`](gather): copies windows of an image, padded, dilated or un-pooled, so that kernels see
//!   plain memory;
//! * [`finish`](finish): pooling, bias and activation of a block of results, and its way to memory;
//! * [`direct`](direct), [`weights`](weights): any size, by the panel kernel on padded rows;
//! * [`winograd`](winograd), [`winograd_weights`](winograd_weights), [`transform`](transform):
//!   3×3 filters of stride 1 with a quarter of the multiplications.

mod direct;
mod finish;
mod gather;
#[cfg(test)]
mod tests;
mod transform;
mod weights;
mod winograd;
mod winograd_weights;

use crate::ops::convolution::{Direction, Geometry};
use crate::tape::plan::{ConvolutionCall, PoolStage};
use crate::tensor::{DType, Real};

/// How 3×3 convolutions of stride 1 in single precision are computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Algorithm {
    /// Multiply-adds as in the definition.
    Direct,
    /// F(4×4, 3×3) of Lavin & Gray (2016) where there are at least 16 channels on both sides; direct
    /// otherwise, and always in double precision.
    #[default]
    Winograd,
}

/// Fewest channels for which the transforms cost less than they save.
const WINOGRAD_CHANNELS: usize = 16;

impl Algorithm {
    fn is_winograd<T: Real>(self, g: &Geometry) -> bool {
        self == Algorithm::Winograd
            && T::DTYPE == DType::F32
            && (g.r, g.s, g.stride) == (3, 3, 1)
            && g.pad <= 2
            && g.c.min(g.k) >= WINOGRAD_CHANNELS
    }
}

/// The gradient `dy` of a convolution's result: dense, or pooled values with their positions, of which
/// the dense gradient is the scatter into 2×2 windows.
#[derive(Clone, Copy)]
pub enum Upstream<'a, T> {
    Dense(&'a [T]),
    Unpool { pooled: &'a [T], argmax: &'a [u8] },
}

/// 2×2 max-pooling behind a convolution; a position is `2·row + column` within the window.
pub enum Pool<'a> {
    None,
    /// Finds the positions and writes them.
    Max {
        argmax: &'a mut [u8],
    },
    /// Picks at given positions.
    Gather {
        argmax: &'a [u8],
    },
}

#[derive(Clone, Copy)]
pub enum Activation<'a, T> {
    Identity,
    Relu,
    LeakyRelu(T),
    /// Multiplies by 1 where `by` is positive and by `slope` elsewhere.
    Mask {
        by: &'a [T],
        slope: T,
    },
}

/// What happens to sums before they are stored: pooling, then bias, then activation.
pub struct Epilogue<'a, T> {
    pub pool: Pool<'a>,
    pub bias: Option<&'a [T]>,
    pub activation: Activation<'a, T>,
}

/// A convolution `y = x * w` of any of the directions that slide a filter: the input gradient is one too,
/// over a dilated `dy` with the filters turned.
#[derive(Clone, Copy, Debug)]
struct Sliding {
    n: usize,
    /// Source rows, columns, channels, and the distance that its elements are spread to.
    h: usize,
    w: usize,
    c: usize,
    dilation: usize,
    r: usize,
    s: usize,
    stride: usize,
    pad: [isize; 2],
    /// Result rows, columns, channels.
    ho: usize,
    wo: usize,
    k: usize,
}

impl Sliding {
    fn forward(g: &Geometry) -> Self {
        let &Geometry { n, h, w, c, k, r, s, stride, pad, ho, wo } = g;
        Sliding { n, h, w, c, dilation: 1, r, s, stride, pad: [pad as isize; 2], ho, wo, k }
    }

    fn input_grad(g: &Geometry) -> Self {
        let pad = [g.r, g.s].map(|size| size as isize - 1 - g.pad as isize);
        let (h, w, c, k) = (g.ho, g.wo, g.k, g.c);
        Sliding { n: g.n, h, w, c, dilation: g.stride, r: g.r, s: g.s, stride: 1, pad, ho: g.h, wo: g.w, k }
    }
}

/// The filters `[K, R, S, C]` as a sliding convolution sees them.
#[derive(Clone, Copy)]
struct Filters<'a, T> {
    w: &'a [T],
    /// As stored: output channels, rows, columns, input channels.
    shape: [usize; 4],
    /// Rows and columns reversed, the channels exchanged.
    turned: bool,
}

impl<'a, T: Real> Filters<'a, T> {
    fn new(g: &Geometry, w: &'a [T], turned: bool) -> Self {
        Filters { w, shape: [g.k, g.r, g.s, g.c], turned }
    }

    /// The weight from channel `c` of the source to channel `k` of the result.
    #[inline(always)]
    fn at(&self, k: usize, r: usize, s: usize, c: usize) -> T {
        let [_, rows, columns, channels] = self.shape;
        if self.turned {
            self.w[((c * rows + rows - 1 - r) * columns + columns - 1 - s) * channels + k]
        } else {
            self.w[((k * rows + r) * columns + s) * channels + c]
        }
    }
}

/// Scratch elements that a call needs.
pub fn workspace<T: Real>(call: &ConvolutionCall, algorithm: Algorithm) -> usize {
    let g = &call.geometry;
    let pooled = call.pool != PoolStage::None;
    match (call.direction, algorithm.is_winograd::<T>(g)) {
        (Direction::WeightGrad, true) => winograd_weights::workspace::<T>(g),
        (Direction::WeightGrad, false) => weights::workspace::<T>(g),
        (direction, winograd) => {
            let sliding = match direction {
                Direction::Forward => Sliding::forward(g),
                _ => Sliding::input_grad(g),
            };
            if winograd {
                winograd::workspace::<T>(&sliding, call.sources, pooled)
            } else {
                direct::workspace::<T>(&sliding, call.sources, pooled)
            }
        }
    }
}

/// `y = epilogue(Σ x_i * w_i)`.
pub fn forward<T: Real>(
    g: &Geometry,
    sources: &[(&[T], &[T])],
    epilogue: Epilogue<'_, T>,
    y: &mut [T],
    workspace: &mut [T],
    algorithm: Algorithm,
) {
    let sliding = Sliding::forward(g);
    let finish = finish::Finish::new(epilogue, [g.ho, g.wo, g.k], y);
    let source = |i: usize| (Upstream::Dense(sources[i].0), Filters::new(g, sources[i].1, false));
    slide(&sliding, source, sources.len(), &finish, workspace, algorithm.is_winograd::<T>(g));
}

/// `dx = activation(Σ transpose of (· * w_i) applied to dy_i)`.
pub fn input_grad<T: Real>(
    g: &Geometry,
    sources: &[(Upstream<'_, T>, &[T])],
    activation: Activation<'_, T>,
    dx: &mut [T],
    workspace: &mut [T],
    algorithm: Algorithm,
) {
    let sliding = Sliding::input_grad(g);
    let epilogue = Epilogue { pool: Pool::None, bias: None, activation };
    let finish = finish::Finish::new(epilogue, [g.h, g.w, g.c], dx);
    let source = |i: usize| (sources[i].0, Filters::new(g, sources[i].1, true));
    slide(&sliding, source, sources.len(), &finish, workspace, algorithm.is_winograd::<T>(g));
}

fn slide<'a, T: Real>(
    sliding: &Sliding,
    source: impl Fn(usize) -> (Upstream<'a, T>, Filters<'a, T>),
    count: usize,
    finish: &finish::Finish<'_, T>,
    workspace: &mut [T],
    winograd: bool,
) {
    let pair = [source(0), source(count - 1)];
    if winograd {
        winograd::run(sliding, &pair[..count], finish, workspace);
    } else {
        direct::run(sliding, &pair[..count], finish, workspace);
    }
}

/// `dw = Σ transpose of (x_i * ·) applied to dy_i`.
pub fn weight_grad<T: Real>(
    g: &Geometry,
    sources: &[(&[T], Upstream<'_, T>)],
    dw: &mut [T],
    workspace: &mut [T],
    algorithm: Algorithm,
) {
    if algorithm.is_winograd::<T>(g) {
        winograd_weights::run(g, sources, dw, workspace);
    } else {
        weights::run(g, sources, dw, workspace);
    }
}
