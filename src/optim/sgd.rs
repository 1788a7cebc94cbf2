//! Stochastic gradient descent with momentum and weight decay, in PyTorch's form:
//! `g ← g + ω p`, `v ← ρ v + g`, `p ← p − η v`.

use super::State;
use crate::tape::{Tape, Var};

#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    /// η, a scalar.
    pub rate: Var,
    /// ρ; with 0 no buffer is read or written.
    pub momentum: f64,
    /// ω.
    pub weight_decay: f64,
}

impl Sgd {
    /// Appends one update of `parameter`, and of its momentum buffer if there is momentum.
    pub fn update(&self, t: &mut Tape, parameter: &mut State, buffer: &mut State, gradient: Var) {
        let decayed = if self.weight_decay == 0.0 {
            gradient
        } else {
            let decay = t.scale(parameter.value, self.weight_decay);
            t.add(gradient, decay)
        };
        let velocity = if self.momentum == 0.0 {
            decayed
        } else {
            let kept = t.scale(buffer.value, self.momentum);
            buffer.value = t.add(kept, decayed);
            buffer.value
        };
        let step = t.mul(velocity, self.rate);
        parameter.value = t.sub(parameter.value, step);
    }
}
