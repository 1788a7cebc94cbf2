//! Settings that a method starts from when nothing is said: one table, so that what each protocol means
//! can be read in one place.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::settings::Settings;
use crate::meta::Rule;
use crate::methods::Method;

/// Where values come from that were not given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Recipe {
    /// One small learning rate for all methods, as the paper trains.
    Paper,
    /// Rates that did well for each method in trials on validation images.
    #[default]
    Tuned,
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Recipe::Paper => "paper",
            Recipe::Tuned => "tuned",
        })
    }
}

/// Number of settings that [`trials`] gives for every method: equal effort.
pub const TRIALS: usize = 6;

/// Settings to choose from on validation images, under the protocol where each method has its own rates:
/// as many for every method.
pub fn trials(method: &Method, rule: Rule) -> [Settings; TRIALS] {
    let joint = |(rate, weight_decay): (f64, f64)| Settings {
        rate: Some(rate),
        weight_decay: Some(weight_decay),
        ..Settings::default()
    };
    let meta = |(alpha, beta, decoder_rate): (f64, f64, f64)| Settings {
        alpha: Some(alpha),
        beta: Some(beta),
        decoder_rate: Some(decoder_rate),
        ..Settings::default()
    };
    match method.name {
        "meta-mtl" if rule.two_steps => [
            (0.01, 0.03, 0.03),
            (0.03, 0.03, 0.03),
            (0.03, 0.05, 0.05),
            (0.05, 0.05, 0.05),
            (0.05, 0.1, 0.1),
            (0.1, 0.1, 0.1),
        ]
        .map(meta),
        "meta-mtl" => [
            (0.1, 0.03, 0.1),
            (0.1, 0.05, 0.1),
            (0.1, 0.1, 0.1),
            (0.3, 0.05, 0.1),
            (0.3, 0.1, 0.1),
            (0.3, 0.2, 0.1),
        ]
        .map(meta),
        "mtl" => [(0.1, 5e-4), (0.2, 5e-4), (0.3, 5e-4), (0.5, 5e-4), (0.2, 5e-3), (0.3, 5e-3)].map(joint),
        _ => [(0.03, 5e-4), (0.05, 5e-4), (0.1, 5e-4), (0.2, 5e-4), (0.05, 5e-3), (0.1, 5e-3)].map(joint),
    }
}

/// The recipe's values for a method.
pub fn settings(recipe: Recipe, method: &Method, rule: Rule, unlabelled: bool) -> Settings {
    let joint = |rate: f64| Settings { rate: Some(rate), ..Settings::default() };
    let meta = |alpha: f64, beta: f64, decoder_rate: f64, on_meta: bool| Settings {
        alpha: Some(alpha),
        beta: Some(beta),
        decoder_rate: Some(decoder_rate),
        train_main_decoder_on_meta: Some(on_meta),
        ..Settings::default()
    };
    let rates = match (recipe, method.name) {
        (Recipe::Paper, "meta-mtl") if rule.two_steps => meta(0.01, 0.01, 0.03, false),
        (Recipe::Paper, "meta-mtl") if rule.plain => meta(0.03, 0.03, 0.03, false),
        (Recipe::Paper, "meta-mtl") => meta(0.1, 0.01, 0.03, false),
        (Recipe::Paper, _) => joint(0.01),
        (Recipe::Tuned, "meta-mtl") if rule.two_steps => meta(0.03, 0.03, 0.03, false),
        (Recipe::Tuned, "meta-mtl") if rule.plain => meta(0.1, 0.1, 0.1, true),
        (Recipe::Tuned, "meta-mtl") => meta(0.3, 0.1, 0.1, true),
        (Recipe::Tuned, "mtl") => joint(0.3),
        (Recipe::Tuned, _) => joint(0.1),
    };
    let steps = match (recipe, unlabelled) {
        (Recipe::Paper, _) => 1000,
        (Recipe::Tuned, false) => 600,
        (Recipe::Tuned, true) => 1500,
    };
    Settings { steps: Some(steps), ..rates }
}
