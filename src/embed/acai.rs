//! Adversarially constrained autoencoder interpolation (METHODS §3.2, ACAI; Berthelot et al. 2019).
//!
//! A critic looks at decoded mixtures of two codes and says how much of the one is in them; the
//! autoencoder learns to decode mixtures for which it says 0, as it does for images:
//!
//! `L_critic = mean((c(x̂_α) − α)²) + mean(c(x̂ + γ(x − x̂))²)`,
//! `L_ae = mean((x − x̂)²) + λ mean(c(x̂_α)²)`.
//!
//! Both gradients are taken at the parameters from before the step, then both networks are updated.

use super::program::Recorder;
use crate::nn::autoencoder::{criticise, decode, encode, encoder_parameters};
use crate::tape::{Tape, Var};

/// λ, the weight of the critic's verdict in the autoencoder's loss.
const LAMBDA: f64 = 0.5;
/// γ, how far reconstructions are moved towards their images before the critic sees them as real.
const GAMMA: f64 = 0.2;
/// Random stream of the mixing weights.
const MIXING: u32 = 2;

pub(super) fn record(r: &mut Recorder) {
    let (x, key, reversed) = (r.images(), r.key(), r.reversed());
    let (encoder, decoder) = (r.encoder(), r.decoder());
    let critic = r.network(encoder_parameters("critic", &r.sizes()));

    let z = encode(&mut r.tape, x, &encoder.values);
    let restored = decode(&mut r.tape, z, &decoder.values);
    let batch = r.batch();
    let alpha = mixing_weights(&mut r.tape, key, batch);
    let mixed = mix(&mut r.tape, z, alpha, reversed);
    let between = decode(&mut r.tape, mixed, &decoder.values);

    let verdict = criticise(&mut r.tape, between, &critic.values);
    let error = r.tape.sub(x, restored);
    let part = r.tape.scale(error, GAMMA);
    let real = r.tape.add(restored, part);
    let verdict_on_real = criticise(&mut r.tape, real, &critic.values);

    let reconstruction = mean_square(&mut r.tape, error);
    let disguise = mean_square(&mut r.tape, verdict);
    let weighted = r.tape.scale(disguise, LAMBDA);
    let loss = r.tape.add(reconstruction, weighted);

    let miss = r.tape.mean_squared_error(verdict, alpha);
    let false_alarm = mean_square(&mut r.tape, verdict_on_real);
    let critic_loss = r.tape.add(miss, false_alarm);

    let wrt = [&encoder.values[..], &decoder.values].concat();
    let gradients = r.tape.reverse(loss, None, &wrt);
    let (of_encoder, of_decoder) = gradients.split_at(encoder.values.len());
    let of_critic = r.tape.reverse(critic_loss, None, &critic.values);
    r.update(&encoder, of_encoder);
    r.update(&decoder, of_decoder);
    r.update(&critic, &of_critic);
    r.probe(z);
    r.tape.output("loss", loss);
    r.tape.output("reconstruction", reconstruction);
    r.tape.output("critic_loss", critic_loss);
}

/// α `[B, 1]`, uniform in [0, 0.5]: `u ~ U(0, 1)` folded at a half, `min(u, 1 − u) = u − relu(2u − 1)`.
fn mixing_weights(t: &mut Tape, key: Var, batch: usize) -> Var {
    let u = t.random_uniform(key, MIXING, [batch, 1]);
    let double = t.scale(u, 2.0);
    let excess = t.offset(double, -1.0);
    let excess = t.relu(excess);
    t.sub(u, excess)
}

/// `α z + (1 − α) z'`, where `z'` is the batch in reversed order.
fn mix(t: &mut Tape, z: Var, alpha: Var, reversed: Var) -> Var {
    let shape = t.shape(z);
    let batch = shape[0];
    let codes = t.reshape(z, [batch, shape.len() / batch]);
    let partners = t.gather_rows(codes, reversed);
    let own = t.mul(codes, alpha);
    let minus = t.neg(alpha);
    let rest = t.offset(minus, 1.0);
    let other = t.mul(partners, rest);
    let mixed = t.add(own, other);
    t.reshape(mixed, shape)
}

fn mean_square(t: &mut Tape, x: Var) -> Var {
    let square = t.mul(x, x);
    t.mean(square)
}
