//! The second-order meta-gradient of METHODS §6.3–6.4.
//!
//! Inner steps `ψ⁽ˢ⁺¹⁾ = ψ⁽ˢ⁾ − α ∇L_t(ψ⁽ˢ⁾)` on `ψ = (θ, φ)`; outer loss `L_0(θ⁽ˢ⁾, φ_0)`; the adjoint
//! sweep `λ_s = λ_{s+1} − α ∇²L_t(ψ⁽ˢ⁾) λ_{s+1}` with one Hessian–vector product an inner step, each
//! recorded as the tangent of the gradient program (forward over reverse; Pearlmutter 1994).

use serde::{Deserialize, Serialize};

use crate::optim::clip_factor;
use crate::tape::{Tape, Var};

/// A loss as a function of shared parameters θ and a decoder φ, recorded on the batch that it is for.
pub type Loss<'a> = &'a dyn Fn(&mut Tape, &[Var], &[Var]) -> Var;

/// With or without the Hessian terms.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// `λ_S` itself.
    First,
    /// The exact derivative.
    Second,
}

/// Which part of the Hessian the sweep uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Hessian {
    /// Only ∂²/∂θ²: the decoder's path is not differentiated (eq. 6 to the letter). With one inner
    /// step the same as `joint`.
    ThetaOnly,
    /// The whole Hessian in (θ, φ): the exact gradient of the S-step program.
    Joint,
}

/// The inner steps.
#[derive(Clone, Copy, Debug)]
pub struct Inner {
    /// S ≥ 1.
    pub steps: usize,
    /// α, a scalar.
    pub alpha: Var,
    /// ρ of inner momentum, starting from zero.
    pub momentum: f64,
    /// ω of inner weight decay.
    pub weight_decay: f64,
    /// Bound of the norm of each inner gradient, 0 for none. The sweep takes the factor as a constant.
    pub clip: f64,
}

/// What is differentiated.
pub struct Problem<'a> {
    /// θ at the start.
    pub theta: &'a [Var],
    /// φ_t at the start.
    pub phi: &'a [Var],
    /// φ_0 in the outer loss; `None` if the inner task is the main task, whose decoder after the inner
    /// steps is then used.
    pub main: Option<&'a [Var]>,
    /// L_t on the inner batch.
    pub inner_loss: Loss<'a>,
    /// L_0 on the meta batch.
    pub outer_loss: Loss<'a>,
}

/// Everything that the rules need from one episode.
pub struct Gradient {
    /// Meta-gradient in θ.
    pub meta: Vec<Var>,
    /// λ_S, the gradient of the outer loss at θ⁽ˢ⁾: the first-order meta-gradient.
    pub outer: Vec<Var>,
    /// Gradient of the outer loss in the decoder that it used, at the end of the inner steps.
    pub outer_decoder: Vec<Var>,
    /// Sum over the inner steps of the gradients in φ: what line 8 of the algorithm applies.
    pub inner_decoder: Vec<Var>,
    /// Gradient of the inner loss in θ at the start.
    pub inner_theta: Vec<Var>,
    /// The decoder that the outer loss used.
    pub decoder: Vec<Var>,
    /// Inner loss at the start, outer loss at the end.
    pub inner_loss: Var,
    pub outer_loss: Var,
}

/// Records one episode. `through` also differentiates the main task's decoder path (φ_0 as a function
/// of θ) when the inner task is the main task.
pub fn meta_gradient(
    t: &mut Tape,
    problem: &Problem<'_>,
    inner: Inner,
    order: Order,
    hessian: Hessian,
    through: bool,
) -> Gradient {
    let shared = problem.theta.len();
    let mut psi: Vec<Var> = problem.theta.iter().chain(problem.phi).copied().collect();
    let mut velocity: Option<Vec<Var>> = None;
    let mut trajectory: Vec<(Vec<Var>, Vec<Var>)> = Vec::new();
    let mut first_loss = None;
    for _ in 0..inner.steps {
        let loss = (problem.inner_loss)(t, &psi[..shared], &psi[shared..]);
        first_loss.get_or_insert(loss);
        let mut gradient = t.reverse(loss, None, &psi);
        if inner.clip != 0.0 {
            let factor = clip_factor(t, &gradient, inner.clip);
            let factor = t.stop_gradient(factor);
            gradient.iter_mut().for_each(|g| *g = t.mul(*g, factor));
        }
        if inner.weight_decay != 0.0 {
            for (g, &p) in gradient.iter_mut().zip(&psi) {
                let decay = t.scale(p, inner.weight_decay);
                *g = t.add(*g, decay);
            }
        }
        let step: Vec<Var> = match &velocity {
            Some(old) if inner.momentum != 0.0 => {
                let pairs = old.iter().zip(&gradient);
                pairs
                    .map(|(&m, &g)| {
                        let kept = t.scale(m, inner.momentum);
                        t.add(kept, g)
                    })
                    .collect()
            }
            _ => gradient.clone(),
        };
        let next = psi.iter().zip(&step).map(|(&p, &g)| {
            let move_by = t.mul(g, inner.alpha);
            t.sub(p, move_by)
        });
        let next = next.collect();
        velocity = Some(step);
        trajectory.push((std::mem::replace(&mut psi, next), gradient));
    }

    let decoder: Vec<Var> = problem.main.unwrap_or(&psi[shared..]).to_vec();
    let outer_loss = (problem.outer_loss)(t, &psi[..shared], &decoder);
    let wrt: Vec<Var> = psi[..shared].iter().chain(&decoder).copied().collect();
    let mut outer = t.reverse(outer_loss, None, &wrt);
    let outer_decoder = outer.split_off(shared);

    let mut adjoint: Vec<Option<Var>> = outer.iter().map(|&v| Some(v)).collect();
    adjoint.extend(outer_decoder.iter().map(|&v| (problem.main.is_none() && through).then_some(v)));
    // A decoder of another task plays no part in the outer loss.
    adjoint.resize(shared + problem.phi.len(), None);
    if order == Order::Second {
        adjoint = sweep(t, &trajectory, adjoint, shared, inner, hessian, through);
    }

    let mut inner_decoder: Vec<Var> = trajectory[0].1[shared..].to_vec();
    for (_, gradient) in &trajectory[1..] {
        for (sum, &g) in inner_decoder.iter_mut().zip(&gradient[shared..]) {
            *sum = t.add(*sum, g);
        }
    }
    Gradient {
        meta: adjoint[..shared].iter().zip(&outer).map(|(a, &o)| a.unwrap_or(o)).collect(),
        outer,
        outer_decoder,
        inner_decoder,
        inner_theta: trajectory[0].1[..shared].to_vec(),
        decoder,
        inner_loss: first_loss.unwrap_or(outer_loss),
        outer_loss,
    }
}

/// The adjoint sweep over (λ, μ), from the last inner step to the first.
fn sweep(
    t: &mut Tape,
    trajectory: &[(Vec<Var>, Vec<Var>)],
    mut adjoint: Vec<Option<Var>>,
    shared: usize,
    inner: Inner,
    hessian: Hessian,
    through: bool,
) -> Vec<Option<Var>> {
    let whole = hessian == Hessian::Joint || through;
    let width = if whole { adjoint.len() } else { shared };
    // ν, the adjoint of the velocity.
    let mut momentum: Vec<Option<Var>> = vec![None; adjoint.len()];
    for (psi, gradient) in trajectory.iter().rev() {
        for i in 0..width {
            let pushed = adjoint[i].map(|a| {
                let scaled = t.mul(a, inner.alpha);
                t.neg(scaled)
            });
            momentum[i] = match (momentum[i], inner.momentum != 0.0, pushed) {
                (Some(m), true, Some(p)) => {
                    let kept = t.scale(m, inner.momentum);
                    Some(t.add(kept, p))
                }
                (Some(m), true, None) => Some(t.scale(m, inner.momentum)),
                (_, _, p) => p,
            };
        }
        let seeds: Vec<(Var, Var)> =
            (0..width).filter_map(|i| momentum[i].map(|direction| (psi[i], direction))).collect();
        let products = t.tangent(&seeds, &gradient[..width]);
        for (a, product) in adjoint.iter_mut().zip(products) {
            *a = match (*a, product) {
                (Some(a), Some(p)) => Some(t.add(a, p)),
                (a, p) => a.or(p),
            };
        }
    }
    adjoint
}
