//! Log-softmax, and the losses that are built from the closed set.

use super::example::{Example, index, real, real_in};
use super::{Op, Rules};
use crate::tape::{Kind, Node, Tape, Var};

/// `x [N, L] ↦ x − log Σ exp x`, row by row, without overflow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LogSoftmax;

impl Rules for LogSoftmax {
    fn name(&self) -> &'static str {
        "log_softmax"
    }

    /// `grad − softmax(x) · Σ grad`.
    fn vjp(&self, t: &mut Tape, node: &Node, out: Var, grad: Var, _: usize) -> Option<Var> {
        let p = t.exp(out);
        let total = t.sum_to(grad, [node.shape[0], 1]);
        let part = t.mul(p, total);
        Some(t.sub(grad, part))
    }

    /// `ẋ − Σ softmax(x) · ẋ`.
    fn jvp(&self, t: &mut Tape, node: &Node, out: Var, tangents: &[Option<Var>]) -> Option<Var> {
        let x = tangents[0]?;
        let p = t.exp(out);
        let weighted = t.mul(p, x);
        let mean = t.sum_to(weighted, [node.shape[0], 1]);
        Some(t.sub(x, mean))
    }

    fn flops(&self, _: &Tape, node: &Node) -> u64 {
        4 * node.shape.len() as u64
    }
}

impl Tape {
    /// Row-wise log-softmax of `[N, L]`.
    pub fn log_softmax(&mut self, x: Var) -> Var {
        let shape = self.shape(x);
        if !self.require("log_softmax", shape.rank() == 2 && shape[1] > 0, || {
            format!("expected [N, L], got {shape}")
        }) {
            return x;
        }
        self.push(Op::LogSoftmax(LogSoftmax), &[x], shape, Kind::Real)
    }

    /// Softmax cross-entropy of `logits [N, L]` with `labels` (`u32 [N]`, each below L), mean over the
    /// batch.
    pub fn cross_entropy(&mut self, logits: Var, labels: Var) -> Var {
        let log_p = self.log_softmax(logits);
        let picked = self.pick(log_p, labels);
        let mean = self.mean(picked);
        self.neg(mean)
    }

    /// Mean of `(a − b)²` over all elements.
    pub fn mean_squared_error(&mut self, a: Var, b: Var) -> Var {
        let difference = self.sub(a, b);
        let square = self.mul(difference, difference);
        self.mean(square)
    }

    /// Binary cross-entropy of `logits` with targets in `[0, 1]`, mean over all elements, as
    /// `softplus(x) − x · target`, which does not overflow.
    pub fn bce_with_logits(&mut self, logits: Var, targets: Var) -> Var {
        let soft = self.softplus(logits);
        let linear = self.mul(logits, targets);
        let loss = self.sub(soft, linear);
        self.mean(loss)
    }

    /// Batch normalisation of `x [..., C]` over all but the last dimension, with scale and shift `[C]`:
    /// a composite, so that every derivative follows from its parts (Ioffe & Szegedy 2015). Returns the
    /// result, the mean and the (biased) variance.
    pub fn batch_norm(&mut self, x: Var, scale: Var, shift: Var, epsilon: f64) -> (Var, Var, Var) {
        let mean = self.mean_over_leading(x);
        let centred = self.sub(x, mean);
        let square = self.mul(centred, centred);
        let variance = self.mean_over_leading(square);
        let padded = self.offset(variance, epsilon);
        let sd = self.sqrt(padded);
        let factor = self.div(scale, sd);
        let scaled = self.mul(centred, factor);
        (self.add(scaled, shift), mean, variance)
    }
}

pub(super) fn examples() -> Vec<Example> {
    fn log_softmax(row: &[f64]) -> impl Iterator<Item = f64> + '_ {
        let total: f64 = row.iter().map(|v| v.exp()).sum();
        row.iter().map(move |v| v - total.ln())
    }
    let mut all = Vec::new();
    for shape in [[4, 3], [1, 10], [70, 15]] {
        let [n, l] = shape;
        all.push(Example::new(
            format!("log_softmax {shape:?}"),
            vec![real_in(shape, -4.0, 4.0)],
            |t, v| t.log_softmax(v[0]),
            move |x| x[0].values.chunks(l).flat_map(log_softmax).collect(),
        ));
        all.push(Example::new(
            format!("cross_entropy {shape:?}"),
            vec![real_in(shape, -4.0, 4.0), index([n], Kind::U32, l as u32)],
            |t, v| t.cross_entropy(v[0], v[1]),
            move |x| {
                let rows = x[0].values.chunks(l).zip(&x[1].values);
                vec![-rows.filter_map(|(r, &y)| log_softmax(r).nth(y as usize)).sum::<f64>() / n as f64]
            },
        ));
    }
    all.push(Example::new(
        "mean_squared_error [5, 9]",
        vec![real([5, 9]), real([5, 9])],
        |t, v| t.mean_squared_error(v[0], v[1]),
        |x| vec![x[0].values.iter().zip(&x[1].values).map(|(a, b)| (a - b) * (a - b)).sum::<f64>() / 45.0],
    ));
    all.push(Example::new(
        "bce_with_logits [6, 4]",
        vec![real_in([6, 4], -3.0, 3.0), real_in([6, 4], 0.06, 0.95)],
        |t, v| t.bce_with_logits(v[0], v[1]),
        |x| {
            let terms = x[0].values.iter().zip(&x[1].values).map(|(x, z)| {
                let p = 1.0 / (1.0 + (-x).exp());
                -(z * p.ln() + (1.0 - z) * (1.0 - p).ln())
            });
            vec![terms.sum::<f64>() / 24.0]
        },
    ));
    all.push(Example::new(
        "batch_norm [3, 2, 4, 5]",
        vec![real([3, 2, 4, 5]), real_in([5], 0.5, 1.5), real([5])],
        |t, v| t.batch_norm(v[0], v[1], v[2], 1e-3).0,
        |x| {
            let channel = |c: usize| x[0].values.iter().skip(c).step_by(5);
            let mean: Vec<f64> = (0..5).map(|c| channel(c).sum::<f64>() / 24.0).collect();
            let var: Vec<f64> =
                (0..5).map(|c| channel(c).map(|v| (v - mean[c]).powi(2)).sum::<f64>() / 24.0).collect();
            let norm = |(i, v): (usize, &f64)| {
                let c = i % 5;
                (v - mean[c]) / (var[c] + 1e-3).sqrt() * x[1].values[c] + x[2].values[c]
            };
            x[0].values.iter().enumerate().map(norm).collect()
        },
    ));
    all
}
