//! Clipping of the global gradient norm.

use crate::tape::{Tape, Var};

/// Scales all gradients by [`clip_factor`].
pub fn clip_global_norm(t: &mut Tape, gradients: &[Var], bound: f64) -> Vec<Var> {
    let factor = clip_factor(t, gradients, bound);
    gradients.iter().map(|&g| t.mul(g, factor)).collect()
}

/// `min(1, bound / (‖g‖₂ + 10⁻⁶))`, with the norm over all gradients together (PyTorch's
/// `clip_grad_norm_`).
pub fn clip_factor(t: &mut Tape, gradients: &[Var], bound: f64) -> Var {
    let zero = t.constant(0.0, []);
    let square = gradients.iter().fold(zero, |sum, &g| {
        let square = t.mul(g, g);
        let part = t.sum(square);
        t.add(sum, part)
    });
    let norm = t.sqrt(square);
    let padded = t.offset(norm, 1e-6);
    let bound = t.constant(bound, []);
    let ratio = t.div(bound, padded);
    t.at_most(ratio, 1.0)
}
