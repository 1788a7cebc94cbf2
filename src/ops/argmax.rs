//! Where rows are largest. Positions are data, not differentiable.

use super::example::{Example, distinct};
use super::{Op, Rules};
use crate::tape::{Kind, Node, Tape, Var};

/// `x [N, L] ↦ [N]`, u32: the position of the largest element of each row, the first of equal ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Argmax;

impl Rules for Argmax {
    fn name(&self) -> &'static str {
        "argmax"
    }

    fn vjp(&self, _: &mut Tape, _: &Node, _: Var, _: Var, _: usize) -> Option<Var> {
        None
    }

    fn jvp(&self, _: &mut Tape, _: &Node, _: Var, _: &[Option<Var>]) -> Option<Var> {
        None
    }

    fn flops(&self, t: &Tape, node: &Node) -> u64 {
        t.shape(node.inputs[0]).len() as u64
    }
}

impl Tape {
    /// Positions `[N]` of the largest elements of the rows of `[N, L]`.
    pub fn argmax(&mut self, x: Var) -> Var {
        let node = self.node(x);
        let fits = node.kind == Kind::Real && node.shape.rank() == 2 && node.shape[1] > 0;
        if !self
            .require("argmax", fits, || format!("expected real [N, L], got {:?} {}", node.kind, node.shape))
        {
            return x;
        }
        self.push(Op::Argmax(Argmax), &[x], [node.shape[0]], Kind::U32)
    }
}

fn reference(row: &[f64]) -> f64 {
    (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best }) as f64
}

pub(super) fn examples() -> Vec<Example> {
    let mut all = Vec::new();
    for [rows, columns] in [[6, 4], [1, 1], [3, 257], [2, 1031]] {
        all.push(Example::new(
            format!("argmax [{rows}, {columns}]"),
            vec![distinct([rows, columns])],
            |t, v| t.argmax(v[0]),
            move |x| x[0].values.chunks(columns).map(reference).collect(),
        ));
    }
    all.push(Example::new(
        "argmax [5, 600] with equal elements",
        vec![distinct([5, 600])],
        |t, v| {
            let ones = t.step(v[0]);
            t.argmax(ones)
        },
        |x| {
            let above = |row: &[f64]| row.iter().map(|&v| f64::from(v > 0.0)).collect::<Vec<_>>();
            x[0].values.chunks(600).map(|row| reference(&above(row))).collect()
        },
    ));
    all
}
