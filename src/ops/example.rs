//! Examples of operations: operands, a program that uses them, and a naive reference in f64.
//!
//! The conformance tests check each example forward against the reference, and its derivatives
//! against differences and against each other; the benches time them.

use crate::tape::{Kind, Tape, Var};
use crate::tensor::Shape;

/// Values of one operand on the host, in f64 whatever the device computes in.
#[derive(Clone, Debug)]
pub struct HostTensor {
    pub shape: Shape,
    pub values: Vec<f64>,
}

impl HostTensor {
    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// How an operand's values are drawn.
#[derive(Clone, Copy, Debug)]
pub enum Draw {
    /// Uniform in `[low, high)`, never closer than 0.05 to 0 (where piecewise operations bend).
    Uniform(f64, f64),
    /// Distinct values at least 0.01 apart, in random order, so that maxima are unique.
    Distinct,
    /// Integers below the bound.
    Below(u32),
}

pub struct Operand {
    pub shape: Shape,
    pub kind: Kind,
    pub draw: Draw,
}

type Build = Box<dyn Fn(&mut Tape, &[Var]) -> Var + Send + Sync>;
type Reference = Box<dyn Fn(&[HostTensor]) -> Vec<f64> + Send + Sync>;

/// One use of an operation that can be checked.
pub struct Example {
    pub name: String,
    pub operands: Vec<Operand>,
    pub build: Build,
    pub reference: Reference,
}

impl Example {
    pub fn new(
        name: impl Into<String>,
        operands: Vec<Operand>,
        build: impl Fn(&mut Tape, &[Var]) -> Var + Send + Sync + 'static,
        reference: impl Fn(&[HostTensor]) -> Vec<f64> + Send + Sync + 'static,
    ) -> Self {
        Example { name: name.into(), operands, build: Box::new(build), reference: Box::new(reference) }
    }
}

/// A real operand with values in `[-1, 1)`.
pub fn real(shape: impl Into<Shape>) -> Operand {
    Operand { shape: shape.into(), kind: Kind::Real, draw: Draw::Uniform(-1.0, 1.0) }
}

/// A real operand with values in `[low, high)`.
pub fn real_in(shape: impl Into<Shape>, low: f64, high: f64) -> Operand {
    Operand { shape: shape.into(), kind: Kind::Real, draw: Draw::Uniform(low, high) }
}

/// A real operand whose values all differ.
pub fn distinct(shape: impl Into<Shape>) -> Operand {
    Operand { shape: shape.into(), kind: Kind::Real, draw: Draw::Distinct }
}

/// An operand of integers below `bound`.
pub fn index(shape: impl Into<Shape>, kind: Kind, bound: u32) -> Operand {
    Operand { shape: shape.into(), kind, draw: Draw::Below(bound) }
}
