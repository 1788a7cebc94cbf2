//! The step program of an embedding method while it is recorded: data leaves, networks with their Adam
//! moments, losses.

use crate::nn::Parameter;
use crate::nn::autoencoder::{Sizes, decoder_parameters, encoder_parameters};
use crate::optim::{Adam, State};
use crate::tape::{Kind, Tape, Var};

/// Leaf of the batch `[B, size, size, colours]`, in [-1, 1].
pub const IMAGES: &str = "images";
/// Leaf of the random key: seed and step, two words each.
pub const KEY: &str = "key";
/// Leaf of the batch's positions in reversed order, u32 `[B]`.
pub const REVERSED: &str = "reversed";
/// Leaf of the step's rate with Adam's bias correction, see [`crate::optim::adam_rate`].
pub const RATE: &str = "rate";
/// Suffixes of the leaves of Adam's first and second moments.
pub const MOMENTS: [&str; 2] = ["first", "second"];

/// What a step is recorded for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setup {
    pub sizes: Sizes,
    pub batch: usize,
}

/// A recorded training step.
pub struct StepProgram {
    pub tape: Tape,
    /// Of all networks, in order.
    pub parameters: Vec<Parameter>,
}

/// A network that is being trained: the values of its parameters, and where their states are.
pub struct Network {
    pub values: Vec<Var>,
    first: usize,
}

/// A parameter and its moments.
struct Trained {
    value: State,
    moments: [State; 2],
}

/// A step program under construction.
pub struct Recorder {
    pub tape: Tape,
    setup: Setup,
    parameters: Vec<Parameter>,
    states: Vec<Trained>,
    adam: Adam,
}

impl Recorder {
    pub fn new(setup: Setup) -> Self {
        let mut tape = Tape::new();
        let adam = Adam::new(tape.input(RATE, []));
        Recorder { tape, setup, parameters: Vec::new(), states: Vec::new(), adam }
    }

    pub fn sizes(&self) -> Sizes {
        self.setup.sizes
    }

    pub fn batch(&self) -> usize {
        self.setup.batch
    }

    pub fn images(&mut self) -> Var {
        let Sizes { size, colours, .. } = self.setup.sizes;
        self.tape.input(IMAGES, [self.setup.batch, size, size, colours])
    }

    pub fn key(&mut self) -> Var {
        self.tape.leaf(KEY, Kind::U32, [4])
    }

    pub fn reversed(&mut self) -> Var {
        self.tape.leaf(REVERSED, Kind::U32, [self.setup.batch])
    }

    pub fn encoder(&mut self) -> Network {
        self.network(encoder_parameters("encoder", &self.setup.sizes))
    }

    pub fn decoder(&mut self) -> Network {
        self.network(decoder_parameters("decoder", &self.setup.sizes))
    }

    pub fn network(&mut self, parameters: Vec<Parameter>) -> Network {
        let first = self.states.len();
        for p in &parameters {
            let value = State::new(&mut self.tape, p.name.clone(), p.shape);
            let moments = MOMENTS.map(|m| State::new(&mut self.tape, format!("{}.{m}", p.name), p.shape));
            self.states.push(Trained { value, moments });
        }
        self.parameters.extend(parameters);
        Network { values: self.states[first..].iter().map(|s| s.value.leaf).collect(), first }
    }

    /// One Adam update of a network by its gradients. Programs read the values from before the step
    /// everywhere, so the order of updates does not matter.
    pub fn update(&mut self, network: &Network, gradients: &[Var]) {
        for (state, &gradient) in self.states[network.first..].iter_mut().zip(gradients) {
            let [first, second] = &mut state.moments;
            self.adam.update(&mut self.tape, &mut state.value, first, second, gradient);
        }
    }

    pub fn finish(mut self) -> StepProgram {
        for state in self.states.iter().flat_map(|s| [s.value].into_iter().chain(s.moments)) {
            state.store(&mut self.tape);
        }
        StepProgram { tape: self.tape, parameters: self.parameters }
    }
}
