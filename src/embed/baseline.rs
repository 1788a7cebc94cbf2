//! The plain autoencoder (METHODS §3.2, Baseline): the mean squared error of `dec(enc(x))`.

use super::program::Recorder;
use crate::nn::autoencoder::{decode, encode};

pub(super) fn record(r: &mut Recorder) {
    let x = r.images();
    let (encoder, decoder) = (r.encoder(), r.decoder());
    let z = encode(&mut r.tape, x, &encoder.values);
    let restored = decode(&mut r.tape, z, &decoder.values);
    let loss = r.tape.mean_squared_error(restored, x);
    r.descend(loss, &[&encoder, &decoder]);
    r.probe(z);
    r.tape.output("loss", loss);
}
