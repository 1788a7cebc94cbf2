//! Random tensors from the counter-based generator: a pure function of the key and the position, so
//! that results do not depend on threads, devices or order.

use super::example::{Draw, Example, Operand};
use super::{Op, Rules};
use crate::random::{normal_at, uniform_at};
use crate::tape::{Kind, Node, Tape, Var};
use crate::tensor::Shape;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Distribution {
    /// Uniform in [0, 1).
    Uniform,
    /// Standard normal.
    Normal,
}

/// Draws keyed by a `u32 [4]` leaf (seed, step) and a stream number that tells apart the random
/// tensors of one program.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Random {
    pub distribution: Distribution,
    pub stream: u32,
}

impl Random {
    /// Draw number `index`, in f64.
    pub fn at(&self, key: [u32; 4], index: u64) -> f64 {
        match self.distribution {
            Distribution::Uniform => uniform_at(key, self.stream, index),
            Distribution::Normal => normal_at(key, self.stream, index),
        }
    }
}

impl Rules for Random {
    fn name(&self) -> &'static str {
        match self.distribution {
            Distribution::Uniform => "random_uniform",
            Distribution::Normal => "random_normal",
        }
    }

    fn vjp(&self, _: &mut Tape, _: &Node, _: Var, _: Var, _: usize) -> Option<Var> {
        None
    }

    fn jvp(&self, _: &mut Tape, _: &Node, _: Var, _: &[Option<Var>]) -> Option<Var> {
        None
    }

    fn flops(&self, _: &Tape, _: &Node) -> u64 {
        0
    }
}

impl Tape {
    fn random(&mut self, distribution: Distribution, key: Var, stream: u32, shape: impl Into<Shape>) -> Var {
        let op = Random { distribution, stream };
        let node = self.node(key);
        let fits = node.kind == Kind::U32 && node.shape.len() == 4;
        if !self.require(op.name(), fits, || format!("a key is u32 [4], got {:?} {}", node.kind, node.shape))
        {
            return key;
        }
        self.push(Op::Random(op), &[key], shape, Kind::Real)
    }

    /// Uniform draws in [0, 1). Each random tensor of a program needs a `stream` of its own.
    pub fn random_uniform(&mut self, key: Var, stream: u32, shape: impl Into<Shape>) -> Var {
        self.random(Distribution::Uniform, key, stream, shape)
    }

    /// Standard normal draws.
    pub fn random_normal(&mut self, key: Var, stream: u32, shape: impl Into<Shape>) -> Var {
        self.random(Distribution::Normal, key, stream, shape)
    }

    /// Inverted dropout: each element is kept with probability `keep` and divided by it, else 0.
    pub fn dropout(&mut self, x: Var, keep: f64, key: Var, stream: u32) -> Var {
        let shape = self.shape(x);
        let u = self.random_uniform(key, stream, shape);
        let minus = self.neg(u);
        let gap = self.offset(minus, keep);
        let mask = self.step(gap);
        let kept = self.mul(x, mask);
        self.scale(kept, 1.0 / keep)
    }
}

fn key() -> Operand {
    Operand { shape: [4].into(), kind: Kind::U32, draw: Draw::Below(u32::MAX) }
}

pub(super) fn examples() -> Vec<Example> {
    let four = |v: &[f64]| [v[0] as u32, v[1] as u32, v[2] as u32, v[3] as u32];
    let mut all = Vec::new();
    for distribution in [Distribution::Uniform, Distribution::Normal] {
        let op = Random { distribution, stream: 7 };
        all.push(Example::new(
            format!("{} [3, 1001]", op.name()),
            vec![key()],
            move |t, v| t.random(distribution, v[0], 7, [3, 1001]),
            move |x| (0..3003).map(|i| op.at(four(&x[0].values), i)).collect(),
        ));
    }
    all.push(Example::new(
        "dropout [40, 25], keep 0.7",
        vec![super::example::real([40, 25]), key()],
        |t, v| t.dropout(v[0], 0.7, v[1], 3),
        move |x| {
            let draw = Random { distribution: Distribution::Uniform, stream: 3 };
            let kept = |i: usize| {
                if draw.at(four(&x[1].values), i as u64) < 0.7 { 1.0 / 0.7 } else { 0.0 }
            };
            x[0].values.iter().enumerate().map(|(i, v)| v * kept(i)).collect()
        },
    ));
    all
}
