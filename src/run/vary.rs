//! What keeps pseudo-task decoders apart between steps (METHODS §7.5, operators G, H, P): at every
//! validation the decoder of the lowest validation cost is found, copied over the others (G), and the
//! others' dropout rates (H) and weights (P) get normal noise.
//!
//! Without F the best decoder changes places with the first, so that what predicts is the best; with F the
//! first is the only one that learns, and stays.

use super::evaluate::{Evaluator, Predictions};
use super::settings::Config;
use super::{Engine, checkpoint::Progress};
use crate::device::HostSlice;
use crate::error::Result;
use crate::methods::{KEEP, Operators};
use crate::random::{Purpose, Stream};

pub struct Variation {
    operators: Operators,
    /// Standard deviations of the noise on weights and on dropout rates.
    noise: f64,
    dropout_noise: f64,
    seed: u64,
    /// One a decoder.
    evaluators: Vec<Evaluator>,
}

impl Variation {
    /// `None` if no operator acts between steps.
    pub fn new(config: &Config, engine: &mut Engine, main: &Evaluator) -> Result<Option<Variation>> {
        let operators = config.operators.unwrap_or_default();
        if !operators.vary() {
            return Ok(None);
        }
        let decoders = config.pseudo_tasks.unwrap_or(1);
        let evaluators = (0..decoders).map(|d| main.of_decoder(engine.session_mut(), d));
        Ok(Some(Variation {
            operators,
            noise: config.noise.unwrap_or(0.0),
            dropout_noise: config.dropout_noise.unwrap_or(0.0),
            seed: config.seed,
            evaluators: evaluators.collect::<Result<_>>()?,
        }))
    }

    /// Looks at all decoders through `predict`; says which one is best, the first among equals, and what
    /// the decoder predicts that stands first afterwards.
    pub fn choose(
        &self,
        engine: &mut Engine,
        progress: &mut Progress,
        mut predict: impl FnMut(&mut Engine, &Evaluator) -> Result<Predictions>,
    ) -> Result<(usize, Predictions)> {
        let mut all = Vec::new();
        for evaluator in &self.evaluators {
            all.push(predict(engine, evaluator)?);
        }
        let best = (1..all.len()).fold(0, |b, d| if all[d].loss() < all[b].loss() { d } else { b });
        if self.operators.freeze {
            return Ok((best, all.swap_remove(0)));
        }
        for name in names(engine, 0) {
            let other = of_decoder(&name, best);
            let (first, second) = (engine.session().read_f32(&name)?, engine.session().read_f32(&other)?);
            engine.session_mut().write(&name, HostSlice::F32(&second))?;
            engine.session_mut().write(&other, HostSlice::F32(&first))?;
        }
        if !progress.dropout.is_empty() {
            progress.dropout.swap(0, best);
        }
        Ok((0, all.swap_remove(best)))
    }

    /// Makes the decoders different again. The noise is a function of the seed and the step alone.
    pub fn vary(&self, engine: &mut Engine, progress: &mut Progress, best: usize) -> Result<()> {
        for d in (0..self.evaluators.len()).filter(|&d| d != best) {
            let index = progress.step * self.evaluators.len() as u64 + d as u64;
            let mut draw = Stream::new(self.seed, Purpose::Variation, index);
            for name in names(engine, best) {
                let own = of_decoder(&name, d);
                if self.operators.greedy {
                    let values = engine.session().read_f32(&name)?;
                    engine.session_mut().write(&own, HostSlice::F32(&values))?;
                }
                if self.operators.perturb && !name.ends_with(MOMENTUM) {
                    let mut values = engine.session().read_f32(&own)?;
                    values.iter_mut().for_each(|v| *v += (self.noise * draw.normal()) as f32);
                    engine.session_mut().write(&own, HostSlice::F32(&values))?;
                }
            }
            if self.operators.greedy && self.operators.dropout {
                progress.dropout[d] = progress.dropout[best];
            }
            if self.operators.hyper {
                let rate = progress.dropout[d] + self.dropout_noise * draw.normal();
                progress.dropout[d] = rate.clamp(0.0, 1.0);
            }
        }
        set_dropout(engine, progress)
    }
}

const MOMENTUM: &str = ".momentum";

/// Buffers of a decoder: those of the last one, which every program has, say whether there is momentum;
/// frozen decoders have none.
fn names(engine: &Engine, d: usize) -> Vec<String> {
    let last = engine.parameters().iter().filter(|p| p.name.starts_with("decoder.")).count() / 2 - 1;
    let parts = ["weight", "bias"].map(|p| format!("decoder.{last}.{p}"));
    let momentum = parts.clone().map(|p| format!("{p}{MOMENTUM}"));
    let there = parts.into_iter().chain(momentum).filter(|name| engine.session().contains(name));
    there.map(|name| of_decoder(&name, d)).collect()
}

/// The name of a decoder's buffer, for another decoder.
fn of_decoder(name: &str, d: usize) -> String {
    match name.splitn(3, '.').nth(2) {
        Some(rest) => format!("decoder.{d}.{rest}"),
        None => name.to_string(),
    }
}

/// Hands the dropout rates to the programs that read them.
pub fn set_dropout(engine: &mut Engine, progress: &Progress) -> Result<()> {
    for (d, rate) in progress.dropout.iter().enumerate() {
        engine.set_rate(&format!("{KEEP}{d}"), 1.0 - rate)?;
    }
    Ok(())
}
