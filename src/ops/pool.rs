//! Pooling over windows of `size × size` with stride `size`; incomplete windows at the lower and right
//! edge are dropped.
//!
//! Max-pooling is two operations: `max_pool_argmax` finds each window's position of the maximum, and
//! `pool_gather` picks it; `pool_scatter` is the transpose of the latter. With the positions held
//! fixed all three derivatives are linear, so max-pool needs no rule of its own. Average pooling is a
//! scaled `sum_pool`, whose transpose is `upsample` (nearest neighbour).

use super::example::{Example, HostTensor, distinct, index, real};
use super::{Op, Rules};
use crate::tape::{Kind, Node, Tape, Var};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Pool {
    /// `x [N, H, W, C] ↦` position of the maximum in each window, row-major, first of equals: `u8`
    /// `[N, H/size, W/size, C]`.
    MaxArgmax { size: usize },
    /// `(x, positions) ↦ [N, H/size, W/size, C]`.
    Gather { size: usize },
    /// `(p [N, Hp, Wp, C], positions) ↦ [N, height, width, C]`, zero where no position points.
    Scatter { size: usize, height: usize, width: usize },
    /// Sum of each window.
    Sum { size: usize },
    /// Copies each element over its window; zero in a dropped margin.
    Upsample { size: usize, height: usize, width: usize },
}

impl Rules for Pool {
    fn name(&self) -> &'static str {
        match self {
            Pool::MaxArgmax { .. } => "max_pool_argmax",
            Pool::Gather { .. } => "pool_gather",
            Pool::Scatter { .. } => "pool_scatter",
            Pool::Sum { .. } => "sum_pool",
            Pool::Upsample { .. } => "upsample",
        }
    }

    fn vjp(&self, t: &mut Tape, node: &Node, _: Var, grad: Var, input: usize) -> Option<Var> {
        if input > 0 {
            return None;
        }
        let of = t.shape(node.inputs[0]);
        match *self {
            Pool::MaxArgmax { .. } => None,
            Pool::Gather { size } => Some(t.pool_scatter(grad, node.inputs[1], size, of[1], of[2])),
            Pool::Scatter { size, .. } => Some(t.pool_gather(grad, node.inputs[1], size)),
            Pool::Sum { size } => Some(t.upsample_to(grad, size, of[1], of[2])),
            Pool::Upsample { size, .. } => Some(t.sum_pool(grad, size)),
        }
    }

    fn jvp(&self, t: &mut Tape, node: &Node, _: Var, tangents: &[Option<Var>]) -> Option<Var> {
        let x = tangents[0]?;
        match *self {
            Pool::MaxArgmax { .. } => None,
            Pool::Gather { size } => Some(t.pool_gather(x, node.inputs[1], size)),
            Pool::Scatter { size, height, width } => {
                Some(t.pool_scatter(x, node.inputs[1], size, height, width))
            }
            Pool::Sum { size } => Some(t.sum_pool(x, size)),
            Pool::Upsample { size, height, width } => Some(t.upsample_to(x, size, height, width)),
        }
    }

    fn flops(&self, t: &Tape, node: &Node) -> u64 {
        match self {
            Pool::MaxArgmax { .. } | Pool::Sum { .. } => t.shape(node.inputs[0]).len() as u64,
            _ => 0,
        }
    }
}

impl Tape {
    fn pooled(&mut self, op: Pool, x: Var, size: usize) -> Option<[usize; 4]> {
        let shape = self.shape(x);
        let name = op.name();
        match *shape.dims() {
            [n, h, w, c] if (1..=15).contains(&size) && h >= size && w >= size => {
                Some([n, h / size, w / size, c])
            }
            _ => {
                self.mistake(name, || format!("windows of {size}x{size} do not fit {shape}"));
                None
            }
        }
    }

    /// Positions (`u8`) of the maxima of `size × size` windows; see [`Pool::MaxArgmax`].
    pub fn max_pool_argmax(&mut self, x: Var, size: usize) -> Var {
        let op = Pool::MaxArgmax { size };
        match self.pooled(op, x, size) {
            Some(shape) => self.push(Op::Pool(op), &[x], shape, Kind::U8),
            None => x,
        }
    }

    /// Max-pooling: the value at each window's first maximum.
    pub fn max_pool(&mut self, x: Var, size: usize) -> Var {
        let positions = self.max_pool_argmax(x, size);
        self.pool_gather(x, positions, size)
    }

    pub fn pool_gather(&mut self, x: Var, positions: Var, size: usize) -> Var {
        let op = Pool::Gather { size };
        match self.pooled(op, x, size) {
            Some(shape) if self.shape(positions).dims() == shape && self.node(positions).kind == Kind::U8 => {
                self.push(Op::Pool(op), &[x, positions], shape, Kind::Real)
            }
            _ => {
                let (x, p) = (self.shape(x), self.shape(positions));
                self.mistake(op.name(), || format!("positions {p} do not fit {x} pooled by {size}"))
            }
        }
    }

    pub fn pool_scatter(&mut self, p: Var, positions: Var, size: usize, height: usize, width: usize) -> Var {
        let op = Pool::Scatter { size, height, width };
        let shape = self.shape(p);
        match *shape.dims() {
            [n, h, w, c] if shape == self.shape(positions) && height / size == h && width / size == w => {
                self.push(Op::Pool(op), &[p, positions], [n, height, width, c], Kind::Real)
            }
            _ => self.mistake(op.name(), || format!("{shape} does not come from {height}x{width} by {size}")),
        }
    }

    /// Sum over `size × size` windows.
    pub fn sum_pool(&mut self, x: Var, size: usize) -> Var {
        let op = Pool::Sum { size };
        match self.pooled(op, x, size) {
            Some(shape) => self.push(Op::Pool(op), &[x], shape, Kind::Real),
            None => x,
        }
    }

    /// Mean over `size × size` windows.
    pub fn avg_pool(&mut self, x: Var, size: usize) -> Var {
        let sum = self.sum_pool(x, size);
        self.scale(sum, 1.0 / (size * size) as f64)
    }

    /// Nearest-neighbour upsampling by `size` on both axes.
    pub fn upsample(&mut self, x: Var, size: usize) -> Var {
        match *self.shape(x).dims() {
            [_, h, w, _] => self.upsample_to(x, size, h * size, w * size),
            _ => {
                let shape = self.shape(x);
                self.mistake("upsample", || format!("expected [N, H, W, C], got {shape}"))
            }
        }
    }

    fn upsample_to(&mut self, x: Var, size: usize, height: usize, width: usize) -> Var {
        let op = Pool::Upsample { size, height, width };
        let shape = self.shape(x);
        match *shape.dims() {
            [n, h, w, c] if size > 0 && height / size == h && width / size == w => {
                self.push(Op::Pool(op), &[x], [n, height, width, c], Kind::Real)
            }
            _ => {
                self.mistake(op.name(), || format!("{shape} does not stretch to {height}x{width} by {size}"))
            }
        }
    }
}

/// Calls `visit(index in the large tensor, index in the pooled tensor, position in the window)`.
fn each_element(large: [usize; 4], size: usize, mut visit: impl FnMut(usize, usize, usize)) {
    let [n, h, w, c] = large;
    let (hp, wp) = (h / size, w / size);
    for b in 0..n {
        for (i, j) in (0..hp * size).flat_map(|i| (0..wp * size).map(move |j| (i, j))) {
            for k in 0..c {
                let inside = (i % size) * size + j % size;
                visit(((b * h + i) * w + j) * c + k, ((b * hp + i / size) * wp + j / size) * c + k, inside);
            }
        }
    }
}

fn four(x: &HostTensor) -> [usize; 4] {
    [x.shape[0], x.shape[1], x.shape[2], x.shape[3]]
}

fn argmax(x: &HostTensor, size: usize) -> Vec<f64> {
    let [n, h, w, c] = four(x);
    let len = n * (h / size) * (w / size) * c;
    let mut best = vec![(f64::NEG_INFINITY, 0.0); len];
    each_element(four(x), size, |large, pooled, inside| {
        if x.values[large] > best[pooled].0 {
            best[pooled] = (x.values[large], inside as f64);
        }
    });
    best.into_iter().map(|b| b.1).collect()
}

pub(super) fn examples() -> Vec<Example> {
    let mut all = Vec::new();
    for (shape, size) in [([2, 4, 6, 3], 2), ([1, 5, 7, 2], 2), ([2, 6, 6, 4], 3)] {
        let [n, h, w, c] = shape;
        let pooled = [n, h / size, w / size, c];
        let windows = (size * size) as u32;
        all.push(Example::new(
            format!("max_pool_argmax {shape:?} by {size}"),
            vec![distinct(shape)],
            move |t, v| t.max_pool_argmax(v[0], size),
            move |x| argmax(&x[0], size),
        ));
        all.push(Example::new(
            format!("max_pool {shape:?} by {size}"),
            vec![distinct(shape)],
            move |t, v| t.max_pool(v[0], size),
            move |x| {
                let positions = argmax(&x[0], size);
                let mut out = vec![0.0; positions.len()];
                each_element(shape, size, |large, p, inside| {
                    if positions[p] == inside as f64 {
                        out[p] = x[0].values[large];
                    }
                });
                out
            },
        ));
        all.push(Example::new(
            format!("pool_gather {shape:?} by {size}"),
            vec![real(shape), index(pooled, Kind::U8, windows)],
            move |t, v| t.pool_gather(v[0], v[1], size),
            move |x| {
                let mut out = vec![0.0; x[1].len()];
                each_element(shape, size, |large, p, inside| {
                    if x[1].values[p] == inside as f64 {
                        out[p] = x[0].values[large];
                    }
                });
                out
            },
        ));
        all.push(Example::new(
            format!("pool_scatter {shape:?} by {size}"),
            vec![real(pooled), index(pooled, Kind::U8, windows)],
            move |t, v| t.pool_scatter(v[0], v[1], size, h, w),
            move |x| {
                let mut out = vec![0.0; n * h * w * c];
                each_element(shape, size, |large, p, inside| {
                    if x[1].values[p] == inside as f64 {
                        out[large] = x[0].values[p];
                    }
                });
                out
            },
        ));
        all.push(Example::new(
            format!("avg_pool {shape:?} by {size}"),
            vec![real(shape)],
            move |t, v| t.avg_pool(v[0], size),
            move |x| {
                let mut out = vec![0.0; pooled.iter().product()];
                each_element(shape, size, |large, p, _| out[p] += x[0].values[large] / windows as f64);
                out
            },
        ));
        all.push(Example::new(
            format!("upsample {pooled:?} by {size} to {shape:?}"),
            vec![real(pooled)],
            move |t, v| t.upsample_to(v[0], size, h, w),
            move |x| {
                let mut out = vec![0.0; n * h * w * c];
                each_element(shape, size, |large, p, _| out[large] = x[0].values[p]);
                out
            },
        ));
    }
    all
}
