//! Sums over dimensions and their transposes, repeats. Both see a tensor as `[outer, count, inner]`
//! and sum over, or repeat along, the middle: numpy's broadcasting is built from such repeats.

use super::example::{Example, real};
use super::{Op, Rules};
use crate::tape::{Kind, Node, Tape, Var};
use crate::tensor::Shape;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reduce {
    /// `[outer, count, inner] ↦ [outer, inner]`.
    Sum { outer: usize, count: usize, inner: usize },
    /// `[outer, inner] ↦ [outer, count, inner]`.
    Repeat { outer: usize, count: usize, inner: usize },
}

impl Rules for Reduce {
    fn name(&self) -> &'static str {
        match self {
            Reduce::Sum { .. } => "sum",
            Reduce::Repeat { .. } => "repeat",
        }
    }

    fn vjp(&self, t: &mut Tape, node: &Node, _: Var, grad: Var, _: usize) -> Option<Var> {
        let shape = t.shape(node.inputs[0]);
        Some(t.reduce(self.transposed(), grad, shape))
    }

    fn jvp(&self, t: &mut Tape, node: &Node, _: Var, tangents: &[Option<Var>]) -> Option<Var> {
        Some(t.reduce(*self, tangents[0]?, node.shape))
    }

    fn flops(&self, t: &Tape, node: &Node) -> u64 {
        match self {
            Reduce::Sum { .. } => t.shape(node.inputs[0]).len() as u64,
            Reduce::Repeat { .. } => 0,
        }
    }
}

impl Reduce {
    fn transposed(self) -> Self {
        match self {
            Reduce::Sum { outer, count, inner } => Reduce::Repeat { outer, count, inner },
            Reduce::Repeat { outer, count, inner } => Reduce::Sum { outer, count, inner },
        }
    }
}

/// The runs of dimensions in which `small` (aligned at the last dimension of `large`) is 1 or absent
/// and `large` is not, as `start..end` over the dimensions of `large`; `None` if the shapes do not fit.
fn stretched_runs(small: Shape, large: Shape) -> Option<Vec<std::ops::Range<usize>>> {
    let lead = large.rank().checked_sub(small.rank())?;
    let stretched = (0..large.rank()).map(|d| match d.checked_sub(lead).map(|i| small[i]) {
        None => Some(true),
        Some(s) if s == large[d] => Some(false),
        Some(1) => Some(true),
        Some(_) => None,
    });
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for (d, is) in stretched.enumerate() {
        if is? {
            match runs.last_mut() {
                Some(run) if run.end == d => run.end = d + 1,
                _ => runs.push(d..d + 1),
            }
        }
    }
    Some(runs)
}

impl Tape {
    fn reduce(&mut self, op: Reduce, x: Var, shape: Shape) -> Var {
        match op {
            Reduce::Sum { count: 1, .. } | Reduce::Repeat { count: 1, .. } => self.reshape(x, shape),
            _ => match (op, self.constant_value(x)) {
                (Reduce::Repeat { .. }, Some(value)) => self.constant(value, shape),
                _ => self.push(Op::Reduce(op), &[x], shape, Kind::Real),
            },
        }
    }

    /// Repeats `x` along new or unit dimensions, as numpy does, to `shape`.
    pub fn broadcast_to(&mut self, x: Var, shape: impl Into<Shape>) -> Var {
        let (from, to) = (self.shape(x), shape.into());
        if from == to {
            return x;
        }
        let Some(runs) = stretched_runs(from, to) else {
            return self.mistake("broadcast_to", || format!("{from} does not broadcast to {to}"));
        };
        // From the last run to the first, so that what follows a run has its final size already.
        let mut dims: Vec<usize> = to.dims().to_vec();
        for run in &runs {
            dims[run.clone()].fill(1);
        }
        let mut value = x;
        for run in runs.iter().rev() {
            dims[run.clone()].copy_from_slice(&to[run.clone()]);
            let op = Reduce::Repeat {
                outer: dims[..run.start].iter().product(),
                count: to[run.clone()].iter().product(),
                inner: dims[run.end..].iter().product(),
            };
            value = self.reduce(op, value, Shape::new(&dims));
        }
        self.reshape(value, to)
    }

    /// Sums `x` over the dimensions that [`Tape::broadcast_to`] would have stretched from `shape`.
    pub fn sum_to(&mut self, x: Var, shape: impl Into<Shape>) -> Var {
        let (from, to) = (self.shape(x), shape.into());
        if from == to {
            return x;
        }
        let Some(runs) = stretched_runs(to, from) else {
            return self.mistake("sum_to", || format!("{from} does not sum to {to}"));
        };
        let mut dims: Vec<usize> = from.dims().to_vec();
        let mut value = x;
        for run in &runs {
            let op = Reduce::Sum {
                outer: dims[..run.start].iter().product(),
                count: dims[run.clone()].iter().product(),
                inner: dims[run.end..].iter().product(),
            };
            dims[run.clone()].fill(1);
            value = self.reduce(op, value, Shape::new(&dims));
        }
        self.reshape(value, to)
    }

    /// Sum of all elements, a scalar.
    pub fn sum(&mut self, x: Var) -> Var {
        self.sum_to(x, Shape::SCALAR)
    }

    /// Mean of all elements, a scalar.
    pub fn mean(&mut self, x: Var) -> Var {
        let count = self.shape(x).len();
        let sum = self.sum(x);
        self.scale(sum, 1.0 / count as f64)
    }

    /// Mean over the leading dimensions, `[…, C] ↦ [C]`.
    pub fn mean_over_leading(&mut self, x: Var) -> Var {
        let shape = self.shape(x);
        let channels = shape.last();
        let sum = self.sum_to(x, [channels]);
        self.scale(sum, channels as f64 / shape.len() as f64)
    }
}

pub(super) fn examples() -> Vec<Example> {
    let mut all = Vec::new();
    let pairs: [(&[usize], &[usize]); 7] = [
        (&[], &[4, 3, 5]),
        (&[5], &[4, 3, 5]),
        (&[4, 1, 1], &[4, 3, 5]),
        (&[4, 1, 5], &[4, 3, 5]),
        (&[1, 3, 1], &[4, 3, 5]),
        (&[17], &[613, 17]),
        (&[300, 1], &[300, 33]),
    ];
    for (small, large) in pairs {
        let (small, large) = (Shape::new(small), Shape::new(large));
        // Index into the small tensor of an index into the large one.
        let project = move |mut i: usize| {
            let (mut at, mut step) = (0, 1);
            for d in (0..large.rank()).rev() {
                let place = i % large[d];
                i /= large[d];
                if let Some(s) = d.checked_sub(large.rank() - small.rank()) {
                    at += if small[s] == 1 { 0 } else { place * step };
                    step *= small[s];
                }
            }
            at
        };
        all.push(Example::new(
            format!("broadcast {small} to {large}"),
            vec![real(small)],
            move |t, v| t.broadcast_to(v[0], large),
            move |x| (0..large.len()).map(|i| x[0].values[project(i)]).collect(),
        ));
        all.push(Example::new(
            format!("sum {large} to {small}"),
            vec![real(large)],
            move |t, v| t.sum_to(v[0], small),
            move |x| {
                let mut out = vec![0.0; small.len()];
                (0..large.len()).for_each(|i| out[project(i)] += x[0].values[i]);
                out
            },
        ));
    }
    all
}
