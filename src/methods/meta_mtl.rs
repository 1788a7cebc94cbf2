//! Meta-MTL (METHODS §6): one episode is inner steps on a drawn task and a move of the shared layers
//! along the gradient of the main task's loss behind them. One program for the main task and one for
//! each number of auxiliary classes.

use super::{Batch, Recorder, Setup, StepProgram, by_classes};
use crate::meta::{Gradient, Hessian, Inner, inner_steps, outer_gradient};
use crate::nn::net::loss as task_loss;
use crate::tape::{Tape, Var};

pub(super) fn record(setup: &Setup) -> Vec<StepProgram> {
    by_classes(setup, |auxiliary, tasks| episode(setup, auxiliary, tasks))
}

/// `auxiliary`: classes of the inner task, or `None` if it is the main task.
fn episode(setup: &Setup, auxiliary: Option<usize>, tasks: Vec<usize>) -> StepProgram {
    let (rule, constants) = (setup.rule, &setup.constants);
    let mut r = Recorder::new(setup);
    // Labels of the main task are known for labelled images only.
    let source = if setup.unlabelled && auxiliary.is_some() { Batch::Pool } else { Batch::Labelled };
    let inner_batch = (r.images("inner.images", source), r.labels("inner.labels", source, None));
    let outer_batch =
        (r.images("outer.images", Batch::Fresh), r.labels("outer.labels", Batch::Fresh, Some(0)));
    let (alpha, beta) = (r.rate("alpha"), r.rate("beta"));
    // To the letter, a decoder moves by the inner rate.
    let decoder_rate = if rule.plain { alpha } else { r.rate("decoder_rate") };
    let shared = r.shared();
    let main = r.decoder(0, setup.classes);
    let task = auxiliary.map(|classes| r.task_decoder(classes));
    let net = setup.net;

    let images = setup.batch * 2;
    if rule.two_steps {
        two_steps(
            &mut r,
            inner_batch,
            outer_batch,
            [alpha, beta, decoder_rate],
            &shared,
            &main,
            task.as_ref(),
        );
        return r.finish(tasks, images);
    }

    let theta = r.values(&shared);
    let decoder = task.as_ref().unwrap_or(&main);
    let phi = r.values(decoder);
    let inner_loss =
        move |t: &mut Tape, theta: &[Var], phi: &[Var]| task_loss(t, net, inner_batch, theta, phi);
    let outer_loss =
        move |t: &mut Tape, theta: &[Var], phi: &[Var]| task_loss(t, net, outer_batch, theta, phi);
    let inner = Inner { steps: constants.inner_steps, alpha, momentum: 0.0, weight_decay: 0.0, clip: 0.0 };
    let trajectory = inner_steps(&mut r.tape, &theta, &phi, &inner_loss, inner);
    // The decoder's own step comes first (line 8 of the algorithm): when the main task was drawn, the
    // outer loss sees the stored decoder after it.
    let gradient = trajectory.decoder_gradient(&mut r.tape);
    let gradient = if rule.plain { gradient } else { r.clip(gradient) };
    r.sgd(&decoder.clone(), &gradient, decoder_rate, rule.plain);
    let stored = r.values(&main);
    let (order, hessian) = (rule.order, constants.hessian);
    let g = outer_gradient(&mut r.tape, &trajectory, &stored, &outer_loss, order, hessian, false);
    diagnostics(&mut r.tape, &g);
    if constants.train_main_decoder_on_meta {
        let gradient = if rule.plain { g.outer_decoder.clone() } else { r.clip(g.outer_decoder.clone()) };
        r.sgd(&main, &gradient, decoder_rate, rule.plain);
    }
    let meta = if rule.plain { g.meta.clone() } else { r.clip(g.meta.clone()) };
    r.sgd(&shared, &meta, beta, rule.plain);
    r.tape.output("inner_loss", g.inner_loss);
    r.tape.output("loss", g.outer_loss);
    r.finish(tasks, images)
}

fn norm(t: &mut Tape, a: &[Var]) -> Var {
    let square = dot(t, a, a);
    t.sqrt(square)
}

fn dot(t: &mut Tape, a: &[Var], b: &[Var]) -> Var {
    let zero = t.constant(0.0, []);
    a.iter().zip(b).fold(zero, |sum, (&a, &b)| {
        let product = t.mul(a, b);
        let part = t.sum(product);
        t.add(sum, part)
    })
}

/// Outputs that tell how much the second order matters: `hessian_ratio` = ‖αHv‖/‖v‖ and
/// `hessian_cosine` = the cosine between first-order and exact gradient; and `alignment`, the cosine
/// between the gradients of the inner and of the outer loss.
fn diagnostics(t: &mut Tape, g: &Gradient) {
    let floor = 1e-30;
    let outer = norm(t, &g.outer);
    let outer = t.offset(outer, floor);
    let cosine = |t: &mut Tape, other: &[Var]| {
        let size = norm(t, other);
        let size = t.offset(size, floor);
        let product = dot(t, &g.outer, other);
        let by_one = t.div(product, outer);
        t.div(by_one, size)
    };
    let change: Vec<Var> = g.meta.iter().zip(&g.outer).map(|(&m, &o)| t.sub(m, o)).collect();
    let change = norm(t, &change);
    let ratio = t.div(change, outer);
    let to_exact = cosine(t, &g.meta);
    let alignment = cosine(t, &g.inner_theta);
    t.output("hessian_ratio", ratio);
    t.output("hessian_cosine", to_exact);
    t.output("alignment", alignment);
}

/// The evident intention of the released program (METHODS §6.7): S inner steps of SGD with momentum,
/// decay and clipping on shared layers and decoder; then one step of the shared layers along the first
/// inner gradient and one along the main gradient at the look-ahead point, each with its own momentum.
/// Decoders of tasks that were not drawn rest; the released program lets them drift.
fn two_steps(
    r: &mut Recorder<'_>,
    inner_batch: (Var, Var),
    outer_batch: (Var, Var),
    [alpha, beta, decoder_rate]: [Var; 3],
    shared: &super::Group,
    main: &super::Group,
    task: Option<&super::Group>,
) {
    let (net, constants) = (r.setup.net, r.setup.constants);
    let parameters = net.parameters();
    let inner_buffers = r.buffers(&parameters, str::to_string, "inner_momentum");
    let auxiliary_buffers = r.buffers(&parameters, str::to_string, "auxiliary_momentum");
    let decoder = task.unwrap_or(main);
    let start = r.values(shared);

    // The look-ahead point moves away from θ and comes back: only its momentum stays.
    let lookahead = super::Group { values: shared.values.clone(), buffers: inner_buffers };
    let mut first: Option<Vec<Var>> = None;
    let mut inner_loss = None;
    for _ in 0..constants.inner_steps {
        let (theta, phi) = (r.values(&lookahead), r.values(decoder));
        let loss = task_loss(&mut r.tape, net, inner_batch, &theta, &phi);
        inner_loss.get_or_insert(loss);
        let wrt: Vec<Var> = theta.iter().chain(&phi).copied().collect();
        let gradient = r.tape.reverse(loss, None, &wrt);
        let mut gradient = r.clip(gradient);
        let rest = gradient.split_off(theta.len());
        r.sgd(&lookahead, &gradient, alpha, false);
        r.sgd(decoder, &rest, decoder_rate, false);
        first.get_or_insert(gradient);
    }
    let (theta, phi) = (r.values(&lookahead), r.values(main));
    let outer_loss = task_loss(&mut r.tape, net, outer_batch, &theta, &phi);
    let wrt: Vec<Var> = theta.iter().chain(&phi).copied().collect();
    let gradient = r.tape.reverse(outer_loss, None, &wrt);
    let mut gradient = r.clip(gradient);
    let main_decoder = gradient.split_off(theta.len());
    if constants.train_main_decoder_on_meta {
        r.sgd(main, &main_decoder, decoder_rate, false);
    }

    for (&state, &value) in shared.values.iter().zip(&start) {
        r.states[state].value = value;
    }
    let auxiliary = super::Group { values: shared.values.clone(), buffers: auxiliary_buffers };
    let first = first.unwrap_or_else(|| gradient.clone());
    r.sgd(&auxiliary, &first, alpha, false);
    r.sgd(shared, &gradient, beta, false);
    let alignment = {
        let t = &mut r.tape;
        let product = dot(t, &first, &gradient);
        let sizes = (norm(t, &first), norm(t, &gradient));
        let size = t.mul(sizes.0, sizes.1);
        let size = t.offset(size, 1e-30);
        t.div(product, size)
    };
    r.tape.output("alignment", alignment);
    r.tape.output("inner_loss", inner_loss.unwrap_or(outer_loss));
    r.tape.output("loss", outer_loss);
    debug_assert_ne!(constants.hessian, Hessian::Joint, "checked when the configuration is read");
}
