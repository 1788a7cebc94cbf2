//! Convolutions and their transposes: `kernels/conv.cu`.

use super::launch::{Argument, Launch, Precision};
use super::tile::{Along, Cut, Finish, Operand, Product, Stages};
use crate::ops::convolution::Direction;
use crate::tape::plan::{ActivationStage, ConvolutionCall, PoolStage};

/// `Divisor` of `kernels/divide.cuh`: `n / divisor = (high(n · factor) + n) >> shift`, after Granlund and
/// Montgomery.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Divisor {
    divisor: u32,
    factor: u32,
    shift: u32,
}

impl Divisor {
    fn new(divisor: usize) -> Self {
        let divisor = divisor.max(1) as u64;
        let shift = divisor.next_power_of_two().ilog2();
        let factor = ((1_u64 << 32) * ((1 << shift) - divisor)) / divisor + 1;
        Divisor { divisor: divisor as u32, factor: factor as u32, shift }
    }
}

/// `Geometry` of `kernels/images.cuh`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Geometry {
    rows: u32,
    columns: u32,
    terms: u32,
    steps: u32,
    sources: u32,
    filters: u32,
    taps: u32,
    height: u32,
    width: u32,
    stride: u32,
    pad: u32,
    channels: Divisor,
    filter_width: Divisor,
    grid_width: Divisor,
    grid_height: Divisor,
    stages: Stages,
}

/// Rows, columns and channels of the images that are gathered from, rows and columns of the grid of pixels
/// that are enumerated, or of pooling windows.
fn images(call: &ConvolutionCall) -> ([usize; 3], [usize; 2]) {
    let g = &call.geometry;
    match call.direction {
        Direction::Forward if call.pool != PoolStage::None => ([g.h, g.w, g.c], [g.ho / 2, g.wo / 2]),
        Direction::Forward | Direction::WeightGrad => ([g.h, g.w, g.c], [g.ho, g.wo]),
        Direction::InputGrad => ([g.ho, g.wo, g.k], [g.h, g.w]),
    }
}

fn cut(call: &ConvolutionCall, precision: Precision) -> Cut {
    let g = &call.geometry;
    let taps = g.r * g.s;
    let (_, [height, width]) = images(call);
    let pixels = g.n * height * width;
    // A pixel of a patch takes registers for its image and place; its value and position, un-pooled, too.
    let unpool = call.unpool[..call.sources].contains(&true);
    let patch =
        |channels| Operand { registers: if unpool { 4 } else { 2 }, ..Operand::new(Along::Terms, channels) };
    let (rows, columns, terms, a, b) = match call.direction {
        Direction::Forward => {
            let rows = if call.pool == PoolStage::None { pixels } else { 4 * pixels };
            (rows, g.k, taps * g.c, patch(g.c), Operand::new(Along::Terms, taps * g.c))
        }
        Direction::InputGrad => (pixels, g.c, taps * g.k, patch(g.k), Operand::new(Along::Lines, g.c)),
        Direction::WeightGrad => {
            let (dy, x) = (Operand::new(Along::Lines, g.k), Operand::new(Along::Lines, g.c));
            (g.k, taps * g.c, pixels, dy, x)
        }
    };
    Product { rows, columns, terms, sources: call.sources, a, b, precision }.cut()
}

/// Real elements of scratch memory that [`launches`] use.
pub fn workspace(call: &ConvolutionCall, precision: Precision) -> usize {
    cut(call, precision).workspace()
}

/// The launches of a call, in order. Operands have fewer than 2³¹ elements each, images fewer than 2¹⁵ rows
/// and columns.
pub fn launches(call: &ConvolutionCall, precision: Precision) -> Vec<Launch> {
    let g = &call.geometry;
    let cut = cut(call, precision);
    let ([height, width, channels], grid) = images(call);
    let (rows, columns, terms) = cut.sizes();
    if rows * columns == 0 {
        return Vec::new();
    }
    let mut reads = (0..).map(Argument::Read);
    let mut next = || reads.next().unwrap_or(Argument::Null);
    let mut sources = [const { [Argument::Null, Argument::Null, Argument::Null] }; 2];
    for (source, &unpool) in sources.iter_mut().zip(&call.unpool).take(call.sources) {
        *source = match call.direction {
            Direction::Forward => [next(), Argument::Null, next()],
            Direction::InputGrad => [next(), if unpool { next() } else { Argument::Null }, next()],
            Direction::WeightGrad => {
                let x = next();
                let (dy, positions) = (next(), if unpool { next() } else { Argument::Null });
                [dy, positions, x]
            }
        };
    }
    let (pool, given, found) = match call.pool {
        PoolStage::None => (0, Argument::Null, Argument::Null),
        PoolStage::Max => (1, Argument::Null, Argument::Write(1)),
        PoolStage::Gather => (2, next(), Argument::Null),
    };
    let bias = if call.bias { next() } else { Argument::Null };
    let (activation, slope, mask) = match call.activation {
        ActivationStage::Identity => (0, 0.0, Argument::Null),
        ActivationStage::Relu => (1, 0.0, Argument::Null),
        ActivationStage::LeakyRelu(slope) => (2, slope.0, Argument::Null),
        ActivationStage::Mask(slope) => (3, slope.0, next()),
    };
    let finish =
        Finish { stages: Stages { pool, activation, slope: slope as f32 }, given, bias, mask, found };
    let geometry = Geometry {
        rows: rows as u32,
        columns: columns as u32,
        terms: terms as u32,
        steps: cut.steps as u32,
        sources: call.sources as u32,
        filters: g.k as u32,
        taps: (g.r * g.s) as u32,
        height: height as u32,
        width: width as u32,
        stride: g.stride as u32,
        pad: g.pad as u32,
        channels: Divisor::new(channels),
        filter_width: Divisor::new(g.s),
        grid_width: Divisor::new(grid[1]),
        grid_height: Divisor::new(grid[0]),
        stages: finish.stages,
    };
    let mut arguments = vec![Argument::Bytes(bytemuck::bytes_of(&geometry).to_vec())];
    arguments.extend(sources.into_iter().flatten());
    arguments.extend([&finish.given, &finish.bias, &finish.mask].map(Argument::clone));
    arguments.extend([Argument::Write(0), finish.found.clone(), cut.parts()]);
    let direction = match call.direction {
        Direction::Forward => 0,
        Direction::InputGrad => 1,
        Direction::WeightGrad => 2,
    };
    let unpool = call.unpool[..call.sources].contains(&true);
    let variant = [("DIRECTION", direction), ("UNPOOL", usize::from(unpool))];
    let mut all = vec![cut.launch("conv", "convolution", &variant, arguments)];
    all.extend(cut.finish(&finish));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn division_by_multiplication_is_exact() {
        for divisor in (1..300).chain([1000, 1023, 1024, 1025, 65_535, 1 << 20, (1 << 30) + 1]) {
            let d = Divisor::new(divisor);
            let near = (1..40_u64).flat_map(|q| [q * divisor as u64 - 1, q * divisor as u64]);
            let far = [(1 << 31) - 1, (1 << 31) - 2, 1 << 30, 123_456_789];
            for n in near.chain(far).filter(|&n| n < 1 << 31) {
                let high = (n * u64::from(d.factor)) >> 32;
                assert!(high + n < 1 << 32, "the sum must not overflow");
                assert_eq!((high + n) >> d.shift, n / divisor as u64, "{n} / {divisor}");
            }
        }
    }
}
