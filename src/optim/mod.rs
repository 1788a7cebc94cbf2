//! Optimisers as programs: each appends the update of some state to a tape. Being made of ordinary
//! operations, they run on every device, are fused by the planner, and could be differentiated.

mod adam;
mod clip;
mod sgd;

pub use adam::{Adam, adam_rate};
pub use clip::{clip_factor, clip_global_norm};
pub use sgd::Sgd;

use crate::tape::{Tape, Var};

/// A value that lives from step to step: its leaf, and its value so far in this step.
#[derive(Clone, Copy, Debug)]
pub struct State {
    pub leaf: Var,
    pub value: Var,
}

impl State {
    /// A state of the given shape; its buffer is bound under `name`.
    pub fn new(t: &mut Tape, name: impl Into<String>, shape: impl Into<crate::tensor::Shape>) -> Self {
        let leaf = t.input(name, shape);
        State { leaf, value: leaf }
    }

    /// Stores the value at the end of the step, if the step changed it.
    pub fn store(&self, t: &mut Tape) {
        if self.value != self.leaf {
            t.assign(self.leaf, self.value);
        }
    }
}
