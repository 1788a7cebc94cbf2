//! The programs of an embedding method while they are recorded: data leaves, networks with their Adam
//! moments, losses, the probe.

use crate::nn::Parameter;
use crate::nn::autoencoder::{Sizes, decode, decoder_parameters, encode, encoder_parameters};
use crate::nn::dense::{affine, dense, over_code};
use crate::optim::{Adam, State};
use crate::tape::{Kind, Tape, Var};

/// Leaf of the batch `[B, size, size, colours]`, in [-1, 1].
pub const IMAGES: &str = "images";
/// Codes `[B, h, w, channels]`: the output of a program that encodes, the leaf of one that decodes.
pub const CODES: &str = "codes";
/// Leaf of the batch's classes, u32 `[B]`, for the probe.
pub const LABELS: &str = "labels";
/// Leaf of the random key: seed and step, two words each.
pub const KEY: &str = "key";
/// Leaf of the batch's positions in reversed order, u32 `[B]`.
pub const REVERSED: &str = "reversed";
/// Leaf of the step's rate with Adam's bias correction, see [`crate::optim::adam_rate`].
pub const RATE: &str = "rate";
/// The same for the probe.
pub const PROBE_RATE: &str = "probe_rate";
/// Suffixes of the leaves of Adam's first and second moments.
pub const MOMENTS: [&str; 2] = ["first", "second"];
/// Output of a reading program: the probe's logits `[B, classes]`.
pub const VERDICTS: &str = "verdicts";

/// What a step is recorded for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setup {
    pub sizes: Sizes,
    pub batch: usize,
    /// Classes that a probe learns to tell from codes; `None` without a probe.
    pub probe: Option<usize>,
}

/// A recorded training step.
pub struct StepProgram {
    pub tape: Tape,
    /// Of all networks, in order.
    pub parameters: Vec<Parameter>,
    /// What the step changes by rules of its own, not by Adam.
    pub carried: Vec<Parameter>,
}

/// A network: the values of its parameters, and where their states are.
pub struct Network {
    pub values: Vec<Var>,
    first: usize,
}

/// A parameter and, in a training step, its moments.
struct Trained {
    value: State,
    moments: Option<[State; 2]>,
}

/// A program under construction.
pub struct Recorder {
    pub tape: Tape,
    setup: Setup,
    parameters: Vec<Parameter>,
    carried: Vec<Parameter>,
    states: Vec<Trained>,
    /// `None` in a program that only reads the networks.
    adam: Option<Adam>,
    probe_loss: Option<Var>,
}

impl Recorder {
    /// For a training step.
    pub fn new(setup: Setup) -> Self {
        let mut recorder = Self::reading(setup);
        recorder.adam = Some(Adam::new(recorder.tape.input(RATE, [])));
        recorder
    }

    /// For a program that reads networks and changes nothing.
    pub fn reading(setup: Setup) -> Self {
        let (parameters, carried, states) = (Vec::new(), Vec::new(), Vec::new());
        Recorder { tape: Tape::new(), setup, parameters, carried, states, adam: None, probe_loss: None }
    }

    pub fn sizes(&self) -> Sizes {
        self.setup.sizes
    }

    pub fn batch(&self) -> usize {
        self.setup.batch
    }

    pub fn has_probe(&self) -> bool {
        self.setup.probe.is_some()
    }

    pub fn images(&mut self) -> Var {
        let Sizes { size, colours, .. } = self.setup.sizes;
        self.tape.input(IMAGES, [self.setup.batch, size, size, colours])
    }

    pub fn codes(&mut self) -> Var {
        let Sizes { latent, latent_size, .. } = self.setup.sizes;
        self.tape.input(CODES, [self.setup.batch, latent_size, latent_size, latent])
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
        let training = self.adam.is_some();
        for p in &parameters {
            let value = State::new(&mut self.tape, p.name.clone(), p.shape);
            let moments = training
                .then(|| MOMENTS.map(|m| State::new(&mut self.tape, format!("{}.{m}", p.name), p.shape)));
            self.states.push(Trained { value, moments });
        }
        self.parameters.extend(parameters);
        Network { values: self.states[first..].iter().map(|s| s.value.leaf).collect(), first }
    }

    /// The leaf of a value that the program itself assigns to, if it changes.
    pub fn carried(&mut self, state: Parameter) -> Var {
        let leaf = self.tape.input(state.name.clone(), state.shape);
        self.carried.push(state);
        leaf
    }

    /// `[B, …]` as rows, `[B, d]`.
    pub fn rows(&mut self, x: Var) -> Var {
        let (batch, len) = (self.setup.batch, self.tape.shape(x).len());
        self.tape.reshape(x, [batch, len / batch])
    }

    /// Rows `[B, d]` as codes, `[B, h, w, channels]`.
    pub fn as_code(&mut self, rows: Var) -> Var {
        let Sizes { latent, latent_size, .. } = self.setup.sizes;
        self.tape.reshape(rows, [self.setup.batch, latent_size, latent_size, latent])
    }

    /// One Adam update of a network by its gradients. Programs read the values from before the step
    /// everywhere, so the order of updates does not matter.
    pub fn update(&mut self, network: &Network, gradients: &[Var]) {
        if let Some(adam) = self.adam {
            self.update_with(adam, network, gradients);
        }
    }

    fn update_with(&mut self, adam: Adam, network: &Network, gradients: &[Var]) {
        for (state, &gradient) in self.states[network.first..].iter_mut().zip(gradients) {
            if let Some([first, second]) = &mut state.moments {
                adam.update(&mut self.tape, &mut state.value, first, second, gradient);
            }
        }
    }

    /// Updates networks by their gradients of a loss.
    pub fn descend(&mut self, loss: Var, networks: &[&Network]) {
        let wrt: Vec<Var> = networks.iter().flat_map(|n| n.values.iter().copied()).collect();
        let gradients = self.tape.reverse(loss, None, &wrt);
        let mut rest = &gradients[..];
        for network in networks {
            let (own, others) = rest.split_at(network.values.len());
            self.update(network, own);
            rest = others;
        }
    }

    /// The probe, if one was asked for (METHODS §3.3): a dense softmax layer that a training step teaches to
    /// tell classes from `code`, and whose logits a reading program puts out. The gradient is its own alone,
    /// so that nothing else learns from labels.
    pub fn probe(&mut self, code: Var) {
        let Some(classes) = self.setup.probe else { return };
        let rows = self.rows(code);
        let network = self.network(dense("probe", self.sizes().code(), classes, over_code(&self.sizes())));
        let logits = affine(&mut self.tape, rows, &network.values);
        if self.adam.is_none() {
            return self.tape.output(VERDICTS, logits);
        }
        let labels = self.tape.leaf(LABELS, Kind::U32, [self.setup.batch]);
        let loss = self.tape.cross_entropy(logits, labels);
        let gradients = self.tape.reverse(loss, None, &network.values);
        let adam = Adam::new(self.tape.input(PROBE_RATE, []));
        self.update_with(adam, &network, &gradients);
        self.probe_loss = Some(loss);
    }

    pub fn finish(mut self) -> StepProgram {
        if let Some(loss) = self.probe_loss {
            self.tape.output("probe_loss", loss);
        }
        for state in &self.states {
            let moments = state.moments.iter().flatten();
            [state.value].iter().chain(moments).for_each(|s| s.store(&mut self.tape));
        }
        StepProgram { tape: self.tape, parameters: self.parameters, carried: self.carried }
    }
}

/// Codes of images where the encoder's output is the code.
pub(super) fn code(r: &mut Recorder, x: Var) -> Var {
    let encoder = r.encoder();
    let z = encode(&mut r.tape, x, &encoder.values);
    r.probe(z);
    z
}

/// Images of codes where the decoder's output is the image.
pub(super) fn image(r: &mut Recorder, z: Var) -> Var {
    let decoder = r.decoder();
    decode(&mut r.tape, z, &decoder.values)
}
