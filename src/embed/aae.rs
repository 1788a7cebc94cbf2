//! The adversarial autoencoder (METHODS §3.2, AAE; Makhzani et al. 2016): an adversary learns to tell codes
//! of images from normal ones, the encoder to make codes that it takes for normal:
//!
//! `L_ae = mean((x − x̂)²) + BCE(a(z), 1)`, `L_adversary = BCE(a(p), 1) + BCE(a(z), 0)`, `p ~ N(0, I)`.
//!
//! Both gradients are taken at the parameters from before the step, then both are updated.

use super::program::Recorder;
use crate::nn::autoencoder::{SLOPE, decode, encode};
use crate::nn::dense::{affine, dense, over_code};
use crate::nn::{Layout, Parameter};
use crate::tape::{Tape, Var};

/// Units of the adversary's two hidden layers.
const HIDDEN: usize = 100;
/// Random stream of the normal codes.
const PRIOR: u32 = 2;

pub(super) fn record(r: &mut Recorder) {
    let (x, key) = (r.images(), r.key());
    let (encoder, decoder) = (r.encoder(), r.decoder());
    let adversary = r.network(adversary_parameters(r));

    let z = encode(&mut r.tape, x, &encoder.values);
    let restored = decode(&mut r.tape, z, &decoder.values);
    let codes = r.rows(z);
    let t = &mut r.tape;
    let shape = t.shape(codes);
    let normal = t.random_normal(key, PRIOR, shape);
    let of_codes = judge(t, codes, &adversary.values);
    let of_normal = judge(t, normal, &adversary.values);

    let reconstruction = t.mean_squared_error(restored, x);
    let disguise = cross_entropy(t, of_codes, true);
    let loss = t.add(reconstruction, disguise);
    let miss = cross_entropy(t, of_normal, true);
    let false_alarm = cross_entropy(t, of_codes, false);
    let adversary_loss = t.add(miss, false_alarm);

    r.descend(loss, &[&encoder, &decoder]);
    r.descend(adversary_loss, &[&adversary]);
    r.probe(z);
    r.tape.output("loss", loss);
    r.tape.output("reconstruction", reconstruction);
    r.tape.output("adversary_loss", adversary_loss);
}

fn adversary_parameters(r: &Recorder) -> Vec<Parameter> {
    let s = r.sizes();
    [
        dense("adversary.0", s.code(), HIDDEN, over_code(&s)),
        dense("adversary.1", HIDDEN, HIDDEN, Layout::Plain),
        dense("adversary.2", HIDDEN, 1, Layout::Plain),
    ]
    .concat()
}

/// Logits `[B, 1]` of codes being normal ones.
fn judge(t: &mut Tape, codes: Var, adversary: &[Var]) -> Var {
    let first = affine(t, codes, &adversary[..2]);
    let first = t.leaky_relu(first, SLOPE);
    let second = affine(t, first, &adversary[2..4]);
    let second = t.leaky_relu(second, SLOPE);
    affine(t, second, &adversary[4..])
}

/// Mean binary cross-entropy of logits with one answer for all: `softplus(∓logit)`.
fn cross_entropy(t: &mut Tape, logits: Var, normal: bool) -> Var {
    let against = if normal { t.neg(logits) } else { logits };
    let terms = t.softplus(against);
    t.mean(terms)
}
