//! The variational autoencoder (METHODS §3.2, VAE; Kingma & Welling 2014) with Bernoulli pixels: two dense
//! heads over the encoder's output give μ and log σ² of a code `z = μ + σ ε`, and the decoder's output are
//! the logits of `(x + 1) / 2`. Sums over pixels and code, means over the batch:
//!
//! `L = −log p(x | z) + ½ Σ (σ² − 1 − log σ² + μ²)`.
//!
//! The code of an image is μ, so that it is the same each time; the probe reads the encoder's output, as
//! Berthelot et al. (2019) have it.

use super::program::{Network, Recorder};
use crate::nn::autoencoder::{decode, encode};
use crate::nn::dense::{affine, dense, into_code};
use crate::tape::Var;

/// Random stream of ε.
const NOISE: u32 = 2;

pub(super) fn record(r: &mut Recorder) {
    let (x, key) = (r.images(), r.key());
    let (encoder, heads, decoder) = (r.encoder(), heads(r), r.decoder());
    let features = encode(&mut r.tape, x, &encoder.values);
    let rows = r.rows(features);
    let mean = affine(&mut r.tape, rows, &heads.values[..2]);
    let log_variance = affine(&mut r.tape, rows, &heads.values[2..]);

    let t = &mut r.tape;
    let shape = t.shape(mean);
    let half = t.scale(log_variance, 0.5);
    let sd = t.exp(half);
    let noise = t.random_normal(key, NOISE, shape);
    let spread = t.mul(sd, noise);
    let drawn = t.add(mean, spread);
    let z = r.as_code(drawn);
    let logits = decode(&mut r.tape, z, &decoder.values);

    let t = &mut r.tape;
    let shifted = t.offset(x, 1.0);
    let pixels = t.scale(shifted, 0.5);
    let of_a_pixel = t.bce_with_logits(logits, pixels);
    let (batch, elements) = (shape[0] as f64, t.shape(x).len() as f64);
    let reconstruction = t.scale(of_a_pixel, elements / batch);

    let variance = t.exp(log_variance);
    let square = t.mul(mean, mean);
    let excess = t.sub(variance, log_variance);
    let excess = t.offset(excess, -1.0);
    let terms = t.add(excess, square);
    let total = t.sum(terms);
    let divergence = t.scale(total, 0.5 / batch);
    let loss = t.add(reconstruction, divergence);

    r.descend(loss, &[&encoder, &heads, &decoder]);
    r.probe(features);
    r.tape.output("loss", loss);
    r.tape.output("reconstruction", reconstruction);
    r.tape.output("divergence", divergence);
}

/// μ, then log σ².
fn heads(r: &mut Recorder) -> Network {
    let (s, code) = (r.sizes(), r.sizes().code());
    let head = |name: &str| dense(name, code, code, into_code(&s, true));
    r.network([head("mean"), head("log_variance")].concat())
}

/// μ of images.
pub(super) fn code(r: &mut Recorder, x: Var) -> Var {
    let (encoder, heads) = (r.encoder(), heads(r));
    let features = encode(&mut r.tape, x, &encoder.values);
    r.probe(features);
    let rows = r.rows(features);
    let mean = affine(&mut r.tape, rows, &heads.values[..2]);
    r.as_code(mean)
}

/// Expected pixels of codes: `2 sigmoid(logits) − 1`.
pub(super) fn image(r: &mut Recorder, z: Var) -> Var {
    let logits = super::program::image(r, z);
    let expected = r.tape.sigmoid(logits);
    let double = r.tape.scale(expected, 2.0);
    r.tape.offset(double, -1.0)
}
