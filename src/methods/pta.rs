//! Pseudo-task augmentation (Meyerson & Miikkulainen 2018; METHODS §7.5): T decoders for the same main
//! labels, each with an initialisation of its own; SGD on the mean of their losses. Operators keep the
//! decoders apart: F and D are part of the step, H, G and P act between steps (`run::vary`).

use std::fmt;
use std::str::FromStr;

use super::{Batch, Recorder, Setup, StepProgram};
use crate::nn::net::decode;
use crate::tape::{Tape, Var};

/// What keeps the decoders apart besides their initialisation, as letters such as `f` or `hgd`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Operators {
    /// F: all decoders but the first keep their initial values.
    pub freeze: bool,
    /// D: dropout of the features in front of each decoder, with a mask of its own.
    pub dropout: bool,
    /// P: normal noise on all decoders but the best.
    pub perturb: bool,
    /// H: normal noise on the dropout rate of all decoders but the best.
    pub hyper: bool,
    /// G: the best decoder is copied over all others.
    pub greedy: bool,
}

impl Operators {
    /// Do some of them act between steps, by validation cost?
    pub fn vary(self) -> bool {
        self.perturb || self.hyper || self.greedy
    }

    fn letters(self) -> impl Iterator<Item = char> {
        let all = [
            (self.hyper, 'h'),
            (self.greedy, 'g'),
            (self.freeze, 'f'),
            (self.perturb, 'p'),
            (self.dropout, 'd'),
        ];
        all.into_iter().filter(|(on, _)| *on).map(|(_, letter)| letter)
    }
}

impl FromStr for Operators {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut operators = Operators::default();
        for letter in text.chars() {
            match letter.to_ascii_lowercase() {
                'i' => {}
                'f' => operators.freeze = true,
                'd' => operators.dropout = true,
                'p' => operators.perturb = true,
                'h' => operators.hyper = true,
                'g' => operators.greedy = true,
                other => {
                    return Err(format!(
                        "'{other}' in '{text}' is no operator; letters of ifdphg are, such as f, fp or hgd"
                    ));
                }
            }
        }
        match operators {
            _ if text.is_empty() => Err("no operators given; i stands for initialisation alone".into()),
            o if o.hyper && !o.dropout => {
                Err(format!("h of '{text}' varies the dropout rate and needs d, as in hd"))
            }
            o => Ok(o),
        }
    }
}

impl fmt::Display for Operators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters: String = self.letters().collect();
        f.write_str(if letters.is_empty() { "i" } else { &letters })
    }
}

/// Prefix of the leaves of the probability that a feature is kept in front of a decoder.
pub const KEEP: &str = "keep.";

/// Random stream of the first decoder's mask.
const MASKS: u32 = 16;

pub(super) fn record(setup: &Setup) -> Vec<StepProgram> {
    let operators = setup.constants.operators;
    let mut r = Recorder::new(setup);
    let images = r.images("images", Batch::Labelled);
    let labels = r.labels("labels.0", Batch::Labelled, Some(0));
    let rate = r.rate("rate");
    let shared = r.shared();
    let theta = r.values(&shared);
    let features = setup.net.record(&mut r.tape, images, &theta);
    let key = operators.dropout.then(|| r.key());

    let mut trained = vec![shared];
    let mut losses = Vec::new();
    for d in 0..=setup.tasks.len() {
        let frozen = operators.freeze && d > 0;
        let decoder = if frozen { r.frozen_decoder(d, setup.classes) } else { r.decoder(d, setup.classes) };
        let seen = match key {
            Some(key) => {
                let keep = r.rate(&format!("{KEEP}{d}"));
                masked(&mut r.tape, features, keep, key, MASKS + d as u32)
            }
            None => features,
        };
        let phi = r.values(&decoder);
        let logits = decode(&mut r.tape, seen, &phi);
        losses.push(r.tape.cross_entropy(logits, labels));
        if !frozen {
            trained.push(decoder);
        }
    }
    let loss = r.mean(&losses);
    r.descend(loss, &trained, rate);
    r.tape.output("loss", losses[0]);
    r.tape.output("joint_loss", loss);
    vec![r.finish(vec![0], setup.batch)]
}

/// Inverted dropout whose probability is a value, so that it may change from step to step. With 0 nothing
/// is kept, and the result is 0.
fn masked(t: &mut Tape, x: Var, keep: Var, key: Var, stream: u32) -> Var {
    let shape = t.shape(x);
    let draw = t.random_uniform(key, stream, shape);
    let gap = t.sub(keep, draw);
    let mask = t.step(gap);
    let padded = t.offset(keep, 1e-12);
    let one = t.constant(1.0, []);
    let grown = t.div(one, padded);
    let kept = t.mul(x, mask);
    t.mul(kept, grown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_read_and_written() {
        let read = |text: &str| text.parse::<Operators>();
        for (text, written) in [("f", "f"), ("PF", "fp"), ("dgh", "hgd"), ("i", "i"), ("gd", "gd")] {
            assert_eq!(read(text).unwrap().to_string(), written);
        }
        for wrong in ["", "x", "h", "hg"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
