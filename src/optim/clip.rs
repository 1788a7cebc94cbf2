//! Clipping of the global gradient norm.

use crate::tape::{Tape, Var};

/// Scales all gradients by `min(1, bound / (‖g‖₂ + 10⁻⁶))`, with the norm over all of them together
/// (PyTorch's `clip_grad_norm_`).
pub fn clip_global_norm(t: &mut Tape, gradients: &[Var], bound: f64) -> Vec<Var> {
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
    let factor = t.at_most(ratio, 1.0);
    gradients.iter().map(|&g| t.mul(g, factor)).collect()
}
