//! What the main task's decoder says of images: class probabilities, accuracy, loss.

use crate::device::{Bound, ImageSet, Program, Session};
use crate::error::Result;
use crate::nn::{Net, net};
use crate::pixels::{Pixels, Visit};
use crate::tape::Tape;

/// Images that are looked at together; the results do not depend on it.
const BATCH: usize = 100;

/// Leaf of the images.
const IMAGES: &str = "evaluation.images";

/// The forward program, bound to the parameters of a session.
pub struct Evaluator {
    program: Program,
    bound: Bound,
    classes: usize,
}

/// Predictions for some images.
#[derive(Clone, Debug)]
pub struct Predictions {
    pub classes: usize,
    /// `[N, classes]`, rows sum to 1.
    pub probabilities: Vec<f32>,
    /// Most probable class of each image, the lowest among equals.
    pub predicted: Vec<u32>,
    /// Natural logarithms of the probabilities of the true classes, 0 where no label is known.
    log_likelihood: Vec<f64>,
    correct: usize,
}

impl Predictions {
    /// Images with the right class, of all.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.predicted.len().max(1) as f64
    }

    pub fn correct(&self) -> usize {
        self.correct
    }

    /// Mean cross-entropy, in nats.
    pub fn loss(&self) -> f64 {
        -self.log_likelihood.iter().sum::<f64>() / self.predicted.len().max(1) as f64
    }
}

impl Evaluator {
    /// Parameters are those that the session holds under their names.
    pub fn new(session: &mut Session, net: Net, classes: usize) -> Result<Self> {
        let mut tape = Tape::new();
        let [h, w, c] = net.input;
        let x = tape.input(IMAGES, [BATCH, h, w, c]);
        let theta: Vec<_> = net.parameters().iter().map(|p| tape.input(p.name.clone(), p.shape)).collect();
        let phi: Vec<_> =
            net.decoder(0, classes).iter().map(|p| tape.input(p.name.clone(), p.shape)).collect();
        let features = net.record(&mut tape, x, &theta);
        let logits = net::decode(&mut tape, features, &phi);
        tape.output("logits", logits);
        let program = session.prepare(&tape)?;
        let bound = session.bind(program, str::to_string)?;
        Ok(Evaluator { program, bound, classes })
    }

    /// The same for another decoder of as many classes.
    pub fn of_decoder(&self, session: &mut Session, task: usize) -> Result<Self> {
        let rename = |leaf: &str| leaf.replacen("decoder.0.", &format!("decoder.{task}."), 1);
        let bound = session.bind(self.program, rename)?;
        Ok(Evaluator { program: self.program, bound, classes: self.classes })
    }

    /// Predictions for images of a set, by their numbers in it; `labels` are theirs, or none at all.
    pub fn predict(
        &self,
        session: &mut Session,
        (set, pixels): (ImageSet, &Pixels<'_>),
        rows: &[u32],
        labels: &[u32],
    ) -> Result<Predictions> {
        let mut result = Predictions {
            classes: self.classes,
            probabilities: Vec::with_capacity(rows.len() * self.classes),
            predicted: Vec::with_capacity(rows.len()),
            log_likelihood: Vec::with_capacity(rows.len()),
            correct: 0,
        };
        let mut labels = labels.iter();
        let mut logits = vec![0.0; BATCH * self.classes];
        for rows in rows.chunks(BATCH) {
            // The last batch is filled up with its last image.
            let filled: Vec<u32> = (0..BATCH).map(|i| rows[i.min(rows.len() - 1)]).collect();
            session.fill(IMAGES, set, pixels, &filled, &Visit::default())?;
            session.run(&self.bound)?;
            session.output(&self.bound, "logits", &mut logits)?;
            for logits in logits.chunks(self.classes).take(rows.len()) {
                result.add(logits, labels.next().copied());
            }
        }
        Ok(result)
    }
}

impl Predictions {
    fn add(&mut self, logits: &[f32], label: Option<u32>) {
        let best = (1..logits.len()).fold(0, |b, i| if logits[i] > logits[b] { i } else { b });
        let top = f64::from(logits[best]);
        let total: f64 = logits.iter().map(|&l| (f64::from(l) - top).exp()).sum();
        let log = |l: f32| f64::from(l) - top - total.ln();
        self.probabilities.extend(logits.iter().map(|&l| log(l).exp() as f32));
        self.predicted.push(best as u32);
        self.correct += usize::from(label == Some(best as u32));
        self.log_likelihood.push(label.map_or(0.0, |l| log(logits[l as usize])));
    }
}
