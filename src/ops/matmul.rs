//! Matrix products NN, NT and TN. The derivatives of each are again among the three.

use super::example::{Example, real};
use super::{Op, Rules, product_rule};
use crate::tape::{Kind, Node, Tape, Var};
use crate::tensor::Shape;

/// `C [m, n] = op(A) · op(B)` with `op(A) [m, k]`, `op(B) [k, n]`; at most one side is transposed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Matmul {
    pub transpose_a: bool,
    pub transpose_b: bool,
}

impl Matmul {
    /// `(m, n, k)` for operands of the given shapes, if they fit.
    pub fn sizes(&self, a: Shape, b: Shape) -> Option<(usize, usize, usize)> {
        let (&[a0, a1], &[b0, b1]) = (a.dims(), b.dims()) else {
            return None;
        };
        let (m, ka) = if self.transpose_a { (a1, a0) } else { (a0, a1) };
        let (kb, n) = if self.transpose_b { (b1, b0) } else { (b0, b1) };
        (ka == kb && !(self.transpose_a && self.transpose_b)).then_some((m, n, ka))
    }
}

impl Rules for Matmul {
    fn name(&self) -> &'static str {
        match (self.transpose_a, self.transpose_b) {
            (false, false) => "matmul_nn",
            (false, true) => "matmul_nt",
            _ => "matmul_tn",
        }
    }

    fn vjp(&self, t: &mut Tape, node: &Node, _: Var, grad: Var, input: usize) -> Option<Var> {
        let (a, b) = (node.inputs[0], node.inputs[1]);
        Some(match (input, self.transpose_a, self.transpose_b) {
            (0, false, tb) => t.matmul(grad, b, false, !tb),
            (0, true, _) => t.matmul(b, grad, false, true),
            (_, ta, false) => t.matmul(a, grad, !ta, false),
            (_, _, true) => t.matmul(grad, a, true, false),
        })
    }

    fn jvp(&self, t: &mut Tape, node: &Node, _: Var, tangents: &[Option<Var>]) -> Option<Var> {
        product_rule(t, node, tangents, |t, a, b| t.matmul(a, b, self.transpose_a, self.transpose_b))
    }

    fn flops(&self, t: &Tape, node: &Node) -> u64 {
        let sizes = self.sizes(t.shape(node.inputs[0]), t.shape(node.inputs[1]));
        sizes.map_or(0, |(m, n, k)| 2 * (m * n * k) as u64)
    }
}

impl Tape {
    /// `op(a) · op(b)`, where `op` transposes if the flag is set. Both flags at once are not supported.
    pub fn matmul(&mut self, a: Var, b: Var, transpose_a: bool, transpose_b: bool) -> Var {
        let op = Matmul { transpose_a, transpose_b };
        match op.sizes(self.shape(a), self.shape(b)) {
            Some((m, n, _)) => self.push(Op::Matmul(op), &[a, b], [m, n], Kind::Real),
            None => {
                let (a, b) = (self.shape(a), self.shape(b));
                self.mistake(op.name(), || format!("operands {a} and {b} do not fit"))
            }
        }
    }
}

pub(super) fn examples() -> Vec<Example> {
    let mut all = Vec::new();
    for (m, n, k) in [(3, 4, 5), (1, 17, 33), (20, 1, 7), (18, 35, 64)] {
        for (ta, tb) in [(false, false), (false, true), (true, false)] {
            let op = Matmul { transpose_a: ta, transpose_b: tb };
            all.push(Example::new(
                format!("{} m {m} n {n} k {k}", op.name()),
                vec![real(if ta { [k, m] } else { [m, k] }), real(if tb { [n, k] } else { [k, n] })],
                move |t, v| t.matmul(v[0], v[1], ta, tb),
                move |x| {
                    let a = |i, l| x[0].values[if ta { l * m + i } else { i * k + l }];
                    let b = |l, j| x[1].values[if tb { j * k + l } else { l * n + j }];
                    (0..m * n).map(|p| (0..k).map(|l| a(p / n, l) * b(l, p % n)).sum()).collect()
                },
            ));
        }
    }
    all
}
