//! The closed set of operations: one file a family, each with its builder methods on
//! [`Tape`], shape rules, derivative rules and examples for the conformance tests.
//!
//! Every derivative rule is written in operations of this same set, so derivatives of any order and
//! in any mix of modes exist: the three convolutions are each other's transposes, `gather`/`scatter`,
//! `sum`/`repeat` and `sum_pool`/`upsample` are adjoint pairs, and pointwise products with masks are
//! linear in the masked value.
//!
//! [`ALL`] lists the families; tests, benches and `--help` iterate it. To add an operation, extend
//! the enum of its family (or add a family to [`Op`] and [`ALL`]) and give it an example.

pub mod argmax;
pub mod convolution;
pub mod example;
pub mod gather;
pub mod layout;
pub mod matmul;
pub mod pointwise;
pub mod pool;
pub mod random;
pub mod reduce;
pub mod softmax;

pub use argmax::Argmax;
pub use convolution::Convolution;
pub use example::Example;
pub use gather::Gather;
pub use layout::Layout;
pub use matmul::Matmul;
pub use pointwise::Pointwise;
pub use pool::Pool;
pub use random::Random;
pub use reduce::Reduce;
pub use softmax::LogSoftmax;

use crate::tape::{Kind, Node, Tape, Var};
use crate::tensor::Shape;

/// A constant attribute of an operation, compared by its bits so that operations can be hashed.
#[derive(Clone, Copy)]
pub struct Attribute(pub f64);

impl PartialEq for Attribute {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Attribute {}

impl std::hash::Hash for Attribute {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

impl std::fmt::Debug for Attribute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a node does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// A value from outside, by its number in [`Tape::leaves`].
    Leaf(u32),
    /// A tensor of one value.
    Constant(Attribute),
    Pointwise(Pointwise),
    Convolution(Convolution),
    Matmul(Matmul),
    Pool(Pool),
    Reduce(Reduce),
    LogSoftmax(LogSoftmax),
    Argmax(Argmax),
    Gather(Gather),
    Random(Random),
    Layout(Layout),
}

/// What every family must bring.
pub(crate) trait Rules {
    /// The name of the operation, as printed programs and reports show it.
    fn name(&self) -> &'static str;

    /// The adjoint of input number `input`, given the adjoint `grad` of the node's value `out`; `None`
    /// if the value does not depend differentiably on that input.
    fn vjp(&self, tape: &mut Tape, node: &Node, out: Var, grad: Var, input: usize) -> Option<Var>;

    /// The tangent of the node's value, given the tangents of its inputs (`None`: zero; at least one
    /// is not).
    fn jvp(&self, tape: &mut Tape, node: &Node, out: Var, tangents: &[Option<Var>]) -> Option<Var>;

    /// Floating-point operations, 2 for a multiply-add.
    fn flops(&self, tape: &Tape, node: &Node) -> u64;
}

impl Op {
    fn rules(&self) -> Option<&dyn Rules> {
        Some(match self {
            Op::Leaf(_) | Op::Constant(_) => return None,
            Op::Pointwise(op) => op,
            Op::Convolution(op) => op,
            Op::Matmul(op) => op,
            Op::Pool(op) => op,
            Op::Reduce(op) => op,
            Op::LogSoftmax(op) => op,
            Op::Argmax(op) => op,
            Op::Gather(op) => op,
            Op::Random(op) => op,
            Op::Layout(op) => op,
        })
    }

    pub fn name(&self) -> &'static str {
        match self {
            Op::Leaf(_) => "leaf",
            Op::Constant(_) => "constant",
            _ => self.rules().map_or("", Rules::name),
        }
    }

    pub(crate) fn vjp(&self, tape: &mut Tape, node: &Node, out: Var, grad: Var, input: usize) -> Option<Var> {
        self.rules()?.vjp(tape, node, out, grad, input)
    }

    pub(crate) fn jvp(
        &self,
        tape: &mut Tape,
        node: &Node,
        out: Var,
        tangents: &[Option<Var>],
    ) -> Option<Var> {
        self.rules()?.jvp(tape, node, out, tangents)
    }

    pub(crate) fn flops(&self, tape: &Tape, node: &Node) -> u64 {
        self.rules().map_or(0, |r| r.flops(tape, node))
    }
}

/// A family of operations, with examples that the conformance tests check.
pub struct Family {
    pub name: &'static str,
    pub examples: fn() -> Vec<Example>,
}

/// Every family of the closed set.
pub const ALL: &[Family] = &[
    Family { name: "pointwise", examples: pointwise::examples },
    Family { name: "convolution", examples: convolution::examples },
    Family { name: "matmul", examples: matmul::examples },
    Family { name: "pool", examples: pool::examples },
    Family { name: "reduce", examples: reduce::examples },
    Family { name: "softmax", examples: softmax::examples },
    Family { name: "argmax", examples: argmax::examples },
    Family { name: "gather", examples: gather::examples },
    Family { name: "random", examples: random::examples },
    Family { name: "layout", examples: layout::examples },
];

impl Tape {
    /// A tensor whose elements all have one value.
    pub fn constant(&mut self, value: f64, shape: impl Into<Shape>) -> Var {
        self.push(Op::Constant(Attribute(value)), &[], shape, Kind::Real)
    }

    /// The value of a constant node.
    pub(crate) fn constant_value(&self, var: Var) -> Option<f64> {
        match self.node(var).op {
            Op::Constant(Attribute(value)) => Some(value),
            _ => None,
        }
    }

    /// Checks a rule about operands; on failure the mistake is kept and `false` returned.
    pub(crate) fn require(&mut self, op: &'static str, rule: bool, detail: impl FnOnce() -> String) -> bool {
        if !rule {
            self.mistake(op, detail);
        }
        rule
    }
}

/// Applies an operation that is linear in each of two inputs to tangents, by the product rule.
pub(crate) fn product_rule(
    tape: &mut Tape,
    node: &Node,
    tangents: &[Option<Var>],
    apply: impl Fn(&mut Tape, Var, Var) -> Var,
) -> Option<Var> {
    let first = tangents[0].map(|t| apply(tape, t, node.inputs[1]));
    let second = tangents[1].map(|t| apply(tape, node.inputs[0], t));
    sum_present(tape, first, second)
}

/// `a + b`, where an absent term is a structural zero.
pub(crate) fn sum_present(tape: &mut Tape, a: Option<Var>, b: Option<Var>) -> Option<Var> {
    match (a, b) {
        (Some(a), Some(b)) => Some(tape.add(a, b)),
        (a, b) => a.or(b),
    }
}
