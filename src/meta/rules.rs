//! The update rules of METHODS §6.6, as data.

use crate::error::{Error, Result};
use crate::meta::Order;

/// How an episode changes the parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    pub name: &'static str,
    pub order: Order,
    /// Decoders and shared layers move by plain gradient steps, without momentum, decay or clipping.
    pub plain: bool,
    /// The released program's scheme: inner steps with momentum, decay and clipping, then one step
    /// along the auxiliary gradient and one along the main gradient.
    pub two_steps: bool,
    pub about: &'static str,
}

/// Every rule that `--rule` knows.
pub const RULES: &[Rule] = &[
    Rule {
        name: "paper",
        order: Order::Second,
        plain: false,
        two_steps: false,
        about: "exact second-order gradient through one plain inner step; SGD with momentum, decay and clipping outside",
    },
    Rule {
        name: "literal",
        order: Order::Second,
        plain: true,
        two_steps: false,
        about: "equations 5 and 6 to the letter: plain gradient steps everywhere",
    },
    Rule {
        name: "first-order",
        order: Order::First,
        plain: false,
        two_steps: false,
        about: "as paper, without the Hessian term",
    },
    Rule {
        name: "released-intended",
        order: Order::First,
        plain: false,
        two_steps: true,
        about: "a step along the auxiliary gradient, then one along the main gradient at the look-ahead point",
    },
];

impl Rule {
    pub fn named(name: &str) -> Result<Rule> {
        RULES.iter().copied().find(|r| r.name == name).ok_or_else(|| {
            let known: Vec<&str> = RULES.iter().map(|r| r.name).collect();
            Error::usage(format!("unknown rule '{name}'; known: {}", known.join(", ")))
        })
    }
}
