//! Operations that move nothing: another shape for the same elements, and a barrier to derivatives.

use super::example::{Example, real};
use super::{Op, Rules};
use crate::tape::{Node, Tape, Var};
use crate::tensor::Shape;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Layout {
    Reshape,
    /// The identity, with derivative zero.
    StopGradient,
}

impl Rules for Layout {
    fn name(&self) -> &'static str {
        match self {
            Layout::Reshape => "reshape",
            Layout::StopGradient => "stop_gradient",
        }
    }

    fn vjp(&self, t: &mut Tape, node: &Node, _: Var, grad: Var, _: usize) -> Option<Var> {
        let shape = t.shape(node.inputs[0]);
        (*self == Layout::Reshape).then(|| t.reshape(grad, shape))
    }

    fn jvp(&self, t: &mut Tape, node: &Node, _: Var, tangents: &[Option<Var>]) -> Option<Var> {
        let x = tangents[0]?;
        (*self == Layout::Reshape).then(|| t.reshape(x, node.shape))
    }

    fn flops(&self, _: &Tape, _: &Node) -> u64 {
        0
    }
}

impl Tape {
    /// The same elements in the same order, with another shape.
    pub fn reshape(&mut self, x: Var, shape: impl Into<Shape>) -> Var {
        let (node, to) = (self.node(x), shape.into());
        if node.shape == to {
            return x;
        }
        if node.shape.len() != to.len() {
            return self.mistake("reshape", || format!("{} has not as many elements as {to}", node.shape));
        }
        match node.op {
            Op::Constant(value) => self.constant(value.0, to),
            Op::Layout(Layout::Reshape) => self.reshape(node.inputs[0], to),
            _ => self.push(Op::Layout(Layout::Reshape), &[x], to, node.kind),
        }
    }

    /// `x`, taken as a constant by every derivative.
    pub fn stop_gradient(&mut self, x: Var) -> Var {
        let node = self.node(x);
        self.push(Op::Layout(Layout::StopGradient), &[x], node.shape, node.kind)
    }
}

pub(super) fn examples() -> Vec<Example> {
    vec![
        Example::new(
            "reshape [2, 6] to [3, 4], doubled",
            vec![real([2, 6])],
            |t, v| {
                let y = t.reshape(v[0], [3, 4]);
                t.scale(y, 2.0)
            },
            |x| x[0].values.iter().map(|v| 2.0 * v).collect(),
        ),
        Example::new(
            "reshape of an operand, as an output",
            vec![real([2, 6])],
            |t, v| t.reshape(v[0], [12]),
            |x| x[0].values.clone(),
        ),
    ]
}
