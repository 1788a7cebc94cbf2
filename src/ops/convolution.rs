//! Convolution and its two transposes. `y = conv2d(x, w)` is linear in each operand, and so are
//! `dx = conv2d_input_grad(dy, w)` and `dw = conv2d_weight_grad(x, dy)`: the three are each other's
//! transposes, which closes the set under differentiation.
//!
//! Activations are `[N, H, W, C]`, filters `[K, R, S, C]`, outputs `[N, Ho, Wo, K]` (cross-correlation,
//! as every deep-learning framework calls convolution).

use super::example::{Example, HostTensor, real};
use super::{Op, Rules, product_rule};
use crate::tape::{Kind, Node, Tape, Var};
use crate::tensor::Shape;

/// Sizes of a two-dimensional convolution, with equal stride and zero padding on both axes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Geometry {
    /// Images.
    pub n: usize,
    /// Input rows, columns and channels.
    pub h: usize,
    pub w: usize,
    pub c: usize,
    /// Output channels, filter rows and columns.
    pub k: usize,
    pub r: usize,
    pub s: usize,
    pub stride: usize,
    pub pad: usize,
    /// Output rows and columns.
    pub ho: usize,
    pub wo: usize,
}

impl Geometry {
    /// Geometry of an input `[N, H, W, C]` and a filter `[K, R, S, C]`, or what does not fit.
    pub fn new(input: Shape, filter: Shape, stride: usize, pad: usize) -> Result<Self, String> {
        let (&[n, h, w, c], &[k, r, s, cw]) = (input.dims(), filter.dims()) else {
            return Err(format!(
                "expected an input [N, H, W, C] and a filter [K, R, S, C], got {input} and {filter}"
            ));
        };
        if c != cw {
            return Err(format!("the input has {c} channels, the filter expects {cw}"));
        }
        if stride == 0 || r == 0 || s == 0 || h + 2 * pad < r || w + 2 * pad < s {
            return Err(format!(
                "a {r}x{s} filter with stride {stride} and padding {pad} does not fit {h}x{w}"
            ));
        }
        let (ho, wo) = ((h + 2 * pad - r) / stride + 1, (w + 2 * pad - s) / stride + 1);
        Ok(Geometry { n, h, w, c, k, r, s, stride, pad, ho, wo })
    }

    pub fn input(&self) -> Shape {
        Shape::new(&[self.n, self.h, self.w, self.c])
    }

    pub fn filter(&self) -> Shape {
        Shape::new(&[self.k, self.r, self.s, self.c])
    }

    pub fn output(&self) -> Shape {
        Shape::new(&[self.n, self.ho, self.wo, self.k])
    }

    /// Floating-point operations of one of the three convolutions, 2 for a multiply-add, counting the
    /// products with padding.
    pub fn flops(&self) -> u64 {
        2 * (self.output().len() * self.r * self.s * self.c) as u64
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    /// `(x, w) ↦ y`.
    Forward,
    /// `(dy, w) ↦ dx`.
    InputGrad,
    /// `(x, dy) ↦ dw`.
    WeightGrad,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Convolution {
    pub direction: Direction,
    pub geometry: Geometry,
}

impl Rules for Convolution {
    fn name(&self) -> &'static str {
        match self.direction {
            Direction::Forward => "conv2d",
            Direction::InputGrad => "conv2d_input_grad",
            Direction::WeightGrad => "conv2d_weight_grad",
        }
    }

    fn vjp(&self, t: &mut Tape, node: &Node, _: Var, grad: Var, input: usize) -> Option<Var> {
        let (g, a, b) = (self.geometry, node.inputs[0], node.inputs[1]);
        Some(match (self.direction, input) {
            (Direction::Forward, 0) => t.convolution(Direction::InputGrad, g, grad, b),
            (Direction::Forward, _) => t.convolution(Direction::WeightGrad, g, a, grad),
            (Direction::InputGrad, 0) => t.convolution(Direction::Forward, g, grad, b),
            (Direction::InputGrad, _) => t.convolution(Direction::WeightGrad, g, grad, a),
            (Direction::WeightGrad, 0) => t.convolution(Direction::InputGrad, g, b, grad),
            (Direction::WeightGrad, _) => t.convolution(Direction::Forward, g, a, grad),
        })
    }

    fn jvp(&self, t: &mut Tape, node: &Node, _: Var, tangents: &[Option<Var>]) -> Option<Var> {
        product_rule(t, node, tangents, |t, a, b| t.convolution(self.direction, self.geometry, a, b))
    }

    fn flops(&self, _: &Tape, _: &Node) -> u64 {
        self.geometry.flops()
    }
}

impl Tape {
    /// Convolution of `x [N, H, W, C]` with filters `w [K, R, S, C]`: `[N, Ho, Wo, K]`.
    pub fn conv2d(&mut self, x: Var, w: Var, stride: usize, pad: usize) -> Var {
        match Geometry::new(self.shape(x), self.shape(w), stride, pad) {
            Ok(g) => self.convolution(Direction::Forward, g, x, w),
            Err(detail) => self.mistake("conv2d", || detail),
        }
    }

    /// The transpose of [`Tape::conv2d`] in `x`: `dy [N, Ho, Wo, K]` and `w` give `[N, H, W, C]`.
    pub fn conv2d_input_grad(&mut self, dy: Var, w: Var, geometry: Geometry) -> Var {
        self.convolution(Direction::InputGrad, geometry, dy, w)
    }

    /// The transpose of [`Tape::conv2d`] in `w`: `x` and `dy [N, Ho, Wo, K]` give `[K, R, S, C]`.
    pub fn conv2d_weight_grad(&mut self, x: Var, dy: Var, geometry: Geometry) -> Var {
        self.convolution(Direction::WeightGrad, geometry, x, dy)
    }

    fn convolution(&mut self, direction: Direction, g: Geometry, a: Var, b: Var) -> Var {
        let (sa, sb, out) = match direction {
            Direction::Forward => (g.input(), g.filter(), g.output()),
            Direction::InputGrad => (g.output(), g.filter(), g.input()),
            Direction::WeightGrad => (g.input(), g.output(), g.filter()),
        };
        let op = Convolution { direction, geometry: g };
        let (fa, fb) = (self.shape(a), self.shape(b));
        if !self
            .require(op.name(), fa == sa && fb == sb, || format!("expected {sa} and {sb}, got {fa} and {fb}"))
        {
            return a;
        }
        self.push(Op::Convolution(op), &[a, b], out, Kind::Real)
    }
}

/// Every product of a convolution: calls `visit(input index, filter index, output index)`.
fn each_product(g: &Geometry, mut visit: impl FnMut(usize, usize, usize)) {
    for n in 0..g.n {
        for (i, j) in (0..g.ho).flat_map(|i| (0..g.wo).map(move |j| (i, j))) {
            for (r, s) in (0..g.r).flat_map(|r| (0..g.s).map(move |s| (r, s))) {
                let (Some(h), Some(w)) =
                    ((i * g.stride + r).checked_sub(g.pad), (j * g.stride + s).checked_sub(g.pad))
                else {
                    continue;
                };
                if h >= g.h || w >= g.w {
                    continue;
                }
                for k in 0..g.k {
                    for c in 0..g.c {
                        visit(
                            ((n * g.h + h) * g.w + w) * g.c + c,
                            ((k * g.r + r) * g.s + s) * g.c + c,
                            ((n * g.ho + i) * g.wo + j) * g.k + k,
                        );
                    }
                }
            }
        }
    }
}

fn reference(direction: Direction, g: &Geometry, x: &[HostTensor]) -> Vec<f64> {
    let (a, b) = (&x[0].values, &x[1].values);
    let len = match direction {
        Direction::Forward => g.output().len(),
        Direction::InputGrad => g.input().len(),
        Direction::WeightGrad => g.filter().len(),
    };
    let mut out = vec![0.0; len];
    each_product(g, |input, filter, output| match direction {
        Direction::Forward => out[output] += a[input] * b[filter],
        Direction::InputGrad => out[input] += a[output] * b[filter],
        Direction::WeightGrad => out[filter] += a[input] * b[output],
    });
    out
}

pub(super) fn examples() -> Vec<Example> {
    // [N, H, W, C], [K, R, S], stride, padding.
    let sizes = [
        ([2, 5, 6, 3], [4, 3, 3], 1, 1),
        ([1, 4, 4, 16], [17, 3, 3], 1, 1),
        ([3, 7, 5, 2], [5, 1, 1], 1, 0),
        ([2, 9, 8, 4], [3, 3, 3], 2, 1),
        ([1, 6, 7, 1], [2, 5, 3], 1, 2),
        ([2, 8, 8, 5], [16, 2, 2], 2, 0),
        ([1, 3, 3, 2], [3, 3, 3], 1, 0),
    ];
    let mut all = Vec::new();
    for ([n, h, w, c], [k, r, s], stride, pad) in sizes {
        let Ok(g) = Geometry::new([n, h, w, c].into(), [k, r, s, c].into(), stride, pad) else {
            continue;
        };
        for direction in [Direction::Forward, Direction::InputGrad, Direction::WeightGrad] {
            let (a, b) = match direction {
                Direction::Forward => (g.input(), g.filter()),
                Direction::InputGrad => (g.output(), g.filter()),
                Direction::WeightGrad => (g.input(), g.output()),
            };
            let op = Convolution { direction, geometry: g };
            all.push(Example::new(
                format!("{} {} with {} stride {stride} pad {pad}", op.name(), g.input(), g.filter()),
                vec![real(a), real(b)],
                move |t, v| t.convolution(direction, g, v[0], v[1]),
                move |x| reference(direction, &g, x),
            ));
        }
    }
    all
}
