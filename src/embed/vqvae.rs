//! The autoencoder with vector quantisation (METHODS §3.2, VQ-VAE; van den Oord et al. 2017): a dense layer
//! turns the encoder's output into ten blocks, each is replaced by the nearest row of a codebook, and two
//! dense layers make the code of them:
//!
//! `L = mean((x − x̂)²) + β mean((q − sg(e))²)`, `q` the blocks, `e` the rows chosen for them.
//!
//! Gradients pass from the chosen rows to the blocks as if they were the same. The codebook has no gradient:
//! each row is the mean of the blocks that chose it, from exponential averages of their sums and numbers,
//! which start at zero and are divided by the share of them that is filled. The nearest row is the one of
//! largest `q · e − ½ |e|²`: a matrix product and an argmax.

use super::program::{Network, Recorder};
use crate::nn::autoencoder::{decode, encode};
use crate::nn::dense::{affine, dense, into_code, over_code};
use crate::nn::{Initial, Layout, Parameter};
use crate::tape::{Tape, Var};
use crate::tensor::Shape;

/// Blocks that an image is cut into.
const BLOCKS: usize = 10;
/// Rows of the codebook.
const ROWS: usize = 1 << 14;
/// Units between blocks and code.
const HIDDEN: usize = 512;
/// β, the weight of the blocks' distance from what they chose.
const COMMITMENT: f64 = 10.0;
/// What remains of the averages at each step.
const DECAY: f64 = 0.999;
/// Added to the number of each row's blocks (Laplace).
const SMOOTHING: f64 = 1e-5;

/// The layers around the codebook, and the codebook.
struct Quantiser {
    network: Network,
    /// `[ROWS, d]`.
    codebook: Var,
}

impl Quantiser {
    fn new(r: &mut Recorder) -> Self {
        let (s, code) = (r.sizes(), r.sizes().code());
        let layers = [
            dense("blocks", code, BLOCKS * code, over_code(&s)),
            dense("hidden", BLOCKS * code, HIDDEN, Layout::Plain),
            dense("code", HIDDEN, code, into_code(&s, false)),
        ];
        let network = r.network(layers.concat());
        let bound = Initial::Uniform((3.0 / ROWS as f64).sqrt());
        let codebook = r.carried(Parameter::new("codebook", [ROWS, code], Layout::Plain, bound));
        Quantiser { network, codebook }
    }

    /// Blocks `[BLOCKS · B, d]` of the encoder's output, and which rows of the codebook are nearest.
    fn choose(&self, r: &mut Recorder, features: Var) -> (Var, Var) {
        let (rows, code) = (r.rows(features), r.sizes().code());
        let count = BLOCKS * r.batch();
        let t = &mut r.tape;
        let blocks = affine(t, rows, &self.network.values[..2]);
        let blocks = t.reshape(blocks, [count, code]);
        let products = t.matmul(blocks, self.codebook, false, true);
        let square = t.mul(self.codebook, self.codebook);
        let norms = t.sum_to(square, [ROWS, 1]);
        let norms = t.reshape(norms, [ROWS]);
        let half = t.scale(norms, 0.5);
        let scores = t.sub(products, half);
        let nearest = t.argmax(scores);
        (blocks, nearest)
    }

    /// The code of quantised blocks.
    fn code(&self, r: &mut Recorder, quantised: Var) -> Var {
        let rows = r.rows(quantised);
        let t = &mut r.tape;
        let active = t.relu(rows);
        let hidden = affine(t, active, &self.network.values[2..4]);
        let active = t.relu(hidden);
        let code = affine(t, active, &self.network.values[4..]);
        r.as_code(code)
    }

    /// Moves the rows of the codebook to the means of the blocks that chose them; a row that none ever chose
    /// goes to 0.
    fn learn(&self, r: &mut Recorder, blocks: Var, nearest: Var) {
        let shape = r.tape.shape(self.codebook);
        let mut state = |name: &str, shape: Shape| {
            r.carried(Parameter::new(format!("codebook.{name}"), shape, Layout::Plain, Initial::Zero))
        };
        let sums = state("sums", shape);
        let counts = state("counts", [ROWS, 1].into());
        let filled = state("filled", [1].into());
        let t = &mut r.tape;
        let one = t.constant(1.0, [1]);
        let each = t.constant(1.0, [t.shape(nearest).len(), 1]);
        let new_sums = t.scatter_rows(blocks, nearest, ROWS);
        let new_counts = t.scatter_rows(each, nearest, ROWS);
        let new_sums = average(t, sums, new_sums);
        let new_counts = average(t, counts, new_counts);
        let new_filled = average(t, filled, one);

        let sum = t.div(new_sums, new_filled);
        let count = t.div(new_counts, new_filled);
        let all = t.sum(count);
        let padded = t.offset(count, SMOOTHING);
        let total = t.offset(all, ROWS as f64 * SMOOTHING);
        let share = t.div(padded, total);
        let smooth = t.mul(share, all);
        let codebook = t.div(sum, smooth);
        for (state, value) in
            [(sums, new_sums), (counts, new_counts), (filled, new_filled), (self.codebook, codebook)]
        {
            t.assign(state, value);
        }
    }
}

pub(super) fn record(r: &mut Recorder) {
    let x = r.images();
    let (encoder, quantiser, decoder) = (r.encoder(), Quantiser::new(r), r.decoder());
    let features = encode(&mut r.tape, x, &encoder.values);
    let (blocks, nearest) = quantiser.choose(r, features);
    let t = &mut r.tape;
    let chosen = t.gather_rows(quantiser.codebook, nearest);
    let gap = t.sub(chosen, blocks);
    let fixed = t.stop_gradient(gap);
    let quantised = t.add(blocks, fixed);
    let code = quantiser.code(r, quantised);
    let restored = decode(&mut r.tape, code, &decoder.values);

    let t = &mut r.tape;
    let reconstruction = t.mean_squared_error(restored, x);
    let commitment = t.mean_squared_error(blocks, chosen);
    let weighted = t.scale(commitment, COMMITMENT);
    let loss = t.add(reconstruction, weighted);
    r.descend(loss, &[&encoder, &quantiser.network, &decoder]);
    quantiser.learn(r, blocks, nearest);
    r.probe(code);
    r.tape.output("loss", loss);
    r.tape.output("reconstruction", reconstruction);
    r.tape.output("commitment", commitment);
}

pub(super) fn code(r: &mut Recorder, x: Var) -> Var {
    let (encoder, quantiser) = (r.encoder(), Quantiser::new(r));
    let features = encode(&mut r.tape, x, &encoder.values);
    let (_, nearest) = quantiser.choose(r, features);
    let chosen = r.tape.gather_rows(quantiser.codebook, nearest);
    let code = quantiser.code(r, chosen);
    r.probe(code);
    code
}

fn average(t: &mut Tape, old: Var, new: Var) -> Var {
    let kept = t.scale(old, DECAY);
    let added = t.scale(new, 1.0 - DECAY);
    t.add(kept, added)
}
