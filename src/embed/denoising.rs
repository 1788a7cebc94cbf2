//! A denoising autoencoder (METHODS §3.2, Denoising): the mean squared error of `dec(enc(x + n))` from `x`,
//! `n` standard normal for each pixel. Codes are taken without noise, and the probe sees such codes too.

use super::program::Recorder;
use crate::nn::autoencoder::{decode, encode};

/// Random stream of the noise.
const NOISE: u32 = 2;

pub(super) fn record(r: &mut Recorder) {
    let (x, key) = (r.images(), r.key());
    let (encoder, decoder) = (r.encoder(), r.decoder());
    let shape = r.tape.shape(x);
    let noise = r.tape.random_normal(key, NOISE, shape);
    let noisy = r.tape.add(x, noise);
    let z = encode(&mut r.tape, noisy, &encoder.values);
    let restored = decode(&mut r.tape, z, &decoder.values);
    let loss = r.tape.mean_squared_error(restored, x);
    r.descend(loss, &[&encoder, &decoder]);
    if r.has_probe() {
        let clean = encode(&mut r.tape, x, &encoder.values);
        r.probe(clean);
    }
    r.tape.output("loss", loss);
}
