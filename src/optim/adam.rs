//! Adam (Kingma & Ba 2015), with the bias correction folded into the rate: `m ← β₁ m + (1−β₁) g`,
//! `v ← β₂ v + (1−β₂) g²`, `p ← p − η_t m / (√v + ε)`, `η_t = η √(1−β₂ᵗ) / (1−β₁ᵗ)`.

use super::State;
use crate::tape::{Tape, Var};

#[derive(Clone, Copy, Debug)]
pub struct Adam {
    /// η_t of this step, a scalar; see [`adam_rate`].
    pub rate: Var,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
}

impl Adam {
    /// β₁ 0.9, β₂ 0.999, ε 10⁻⁸.
    pub fn new(rate: Var) -> Self {
        Adam { rate, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }

    pub fn update(
        &self,
        t: &mut Tape,
        parameter: &mut State,
        first: &mut State,
        second: &mut State,
        gradient: Var,
    ) {
        let blend = |t: &mut Tape, old: Var, new: Var, beta: f64| {
            let kept = t.scale(old, beta);
            let added = t.scale(new, 1.0 - beta);
            t.add(kept, added)
        };
        let square = t.mul(gradient, gradient);
        first.value = blend(t, first.value, gradient, self.beta1);
        second.value = blend(t, second.value, square, self.beta2);
        let root = t.sqrt(second.value);
        let padded = t.offset(root, self.epsilon);
        let direction = t.div(first.value, padded);
        let step = t.mul(direction, self.rate);
        parameter.value = t.sub(parameter.value, step);
    }
}

/// η_t for step `t` (the first is 1) of a run with rate η, for the default β₁, β₂.
pub fn adam_rate(rate: f64, t: u64) -> f64 {
    let power = |beta: f64| beta.powf(t as f64);
    rate * (1.0 - power(0.999)).sqrt() / (1.0 - power(0.9))
}
