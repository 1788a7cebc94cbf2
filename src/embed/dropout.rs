//! An autoencoder with dropout on the code (METHODS §3.2, Dropout): the mean squared error of
//! `dec(drop(enc(x)))`. Codes are taken without dropout.

use super::program::Recorder;
use crate::nn::autoencoder::{decode, encode};

/// Probability of keeping an element of the code.
const KEEP: f64 = 0.5;
/// Random stream of the mask.
const MASK: u32 = 2;

pub(super) fn record(r: &mut Recorder) {
    let (x, key) = (r.images(), r.key());
    let (encoder, decoder) = (r.encoder(), r.decoder());
    let z = encode(&mut r.tape, x, &encoder.values);
    let thinned = r.tape.dropout(z, KEEP, key, MASK);
    let restored = decode(&mut r.tape, thinned, &decoder.values);
    let loss = r.tape.mean_squared_error(restored, x);
    r.descend(loss, &[&encoder, &decoder]);
    r.probe(z);
    r.tape.output("loss", loss);
}
