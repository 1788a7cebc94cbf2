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
    /// Inner loss at the start, outer loss at the end.
    pub inner_loss: Var,
    pub outer_loss: Var,
}

/// What the inner steps left behind.
pub struct Trajectory {
    /// Before each step: the point ψ and the gradient there.
    steps: Vec<(Vec<Var>, Vec<Var>)>,
    /// ψ⁽ˢ⁾.
    end: Vec<Var>,
    shared: usize,
    inner: Inner,
    first_loss: Option<Var>,
}

impl Trajectory {
    /// φ⁽ˢ⁾, the decoder after the inner steps.
    pub fn decoder(&self) -> &[Var] {
        &self.end[self.shared..]
    }

    /// Sum over the inner steps of the gradients in φ: what line 8 of the algorithm applies.
    pub fn decoder_gradient(&self, t: &mut Tape) -> Vec<Var> {
        let mut sums: Vec<Var> = self.steps[0].1[self.shared..].to_vec();
        for (_, gradient) in &self.steps[1..] {
            for (sum, &g) in sums.iter_mut().zip(&gradient[self.shared..]) {
                *sum = t.add(*sum, g);
            }
        }
        sums
    }
}

/// Records the inner steps from (θ, φ).
pub fn inner_steps(t: &mut Tape, theta: &[Var], phi: &[Var], loss: Loss<'_>, inner: Inner) -> Trajectory {
    let shared = theta.len();
    let mut psi: Vec<Var> = theta.iter().chain(phi).copied().collect();
    let mut velocity: Option<Vec<Var>> = None;
    let mut steps: Vec<(Vec<Var>, Vec<Var>)> = Vec::new();
    let mut first_loss = None;
    for _ in 0..inner.steps {
        let value = loss(t, &psi[..shared], &psi[shared..]);
        first_loss.get_or_insert(value);
        let mut gradient = t.reverse(value, None, &psi);
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
        steps.push((std::mem::replace(&mut psi, next), gradient));
    }
    Trajectory { steps, end: psi, shared, inner, first_loss }
}

/// Records the outer loss behind the inner steps, with `decoder` as φ_0, and its gradient in θ. `through`
/// says that the decoder is φ⁽ˢ⁾ itself and is differentiated too.
pub fn outer_gradient(
    t: &mut Tape,
    trajectory: &Trajectory,
    decoder: &[Var],
    loss: Loss<'_>,
    order: Order,
    hessian: Hessian,
    through: bool,
) -> Gradient {
    let Trajectory { steps, end, shared, .. } = trajectory;
    let shared = *shared;
    let outer_loss = loss(t, &end[..shared], decoder);
    let wrt: Vec<Var> = end[..shared].iter().chain(decoder).copied().collect();
    let mut outer = t.reverse(outer_loss, None, &wrt);
    let outer_decoder = outer.split_off(shared);

    let mut adjoint: Vec<Option<Var>> = outer.iter().map(|&v| Some(v)).collect();
    if through {
        adjoint.extend(outer_decoder.iter().map(|&v| Some(v)));
    }
    // Any other decoder is a constant of the outer loss.
    adjoint.resize(end.len(), None);
    if order == Order::Second {
        adjoint = sweep(t, trajectory, adjoint, hessian, through);
    }
    Gradient {
        meta: adjoint[..shared].iter().zip(&outer).map(|(a, &o)| a.unwrap_or(o)).collect(),
        outer,
        outer_decoder,
        inner_decoder: trajectory.decoder_gradient(t),
        inner_theta: steps[0].1[..shared].to_vec(),
        inner_loss: trajectory.first_loss.unwrap_or(outer_loss),
        outer_loss,
    }
}

/// Records one episode in which decoders move by plain inner steps. `through` also differentiates the main
/// task's decoder path (φ_0 as a function of θ) when the inner task is the main task.
pub fn meta_gradient(
    t: &mut Tape,
    problem: &Problem<'_>,
    inner: Inner,
    order: Order,
    hessian: Hessian,
    through: bool,
) -> Gradient {
    let trajectory = inner_steps(t, problem.theta, problem.phi, problem.inner_loss, inner);
    let decoder: Vec<Var> = problem.main.unwrap_or(trajectory.decoder()).to_vec();
    let through = through && problem.main.is_none();
    outer_gradient(t, &trajectory, &decoder, problem.outer_loss, order, hessian, through)
}

/// The adjoint sweep over (λ, μ), from the last inner step to the first.
fn sweep(
    t: &mut Tape,
    trajectory: &Trajectory,
    mut adjoint: Vec<Option<Var>>,
    hessian: Hessian,
    through: bool,
) -> Vec<Option<Var>> {
    let (inner, shared) = (trajectory.inner, trajectory.shared);
    let whole = hessian == Hessian::Joint || through;
    let width = if whole { adjoint.len() } else { shared };
    // ν, the adjoint of the velocity.
    let mut momentum: Vec<Option<Var>> = vec![None; adjoint.len()];
    for (psi, gradient) in trajectory.steps.iter().rev() {
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
