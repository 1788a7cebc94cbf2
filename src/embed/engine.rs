//! A method's networks on a device: training steps, and codes of images.

use super::program::{IMAGES, KEY, MOMENTS, RATE, REVERSED};
use super::{Method, Pictures, Setup};
use crate::device::{Bound, Device, HostSlice, ImageSet, Session};
use crate::error::Result;
use crate::nn::Parameter;
use crate::nn::autoencoder::{encode, encoder_parameters};
use crate::optim::adam_rate;
use crate::pixels::Visit;
use crate::tape::Tape;
use crate::tape::plan::Plan;

/// Output of the encoder.
const CODES: &str = "codes";

pub struct Engine {
    session: Session,
    setup: Setup,
    parameters: Vec<Parameter>,
    step: Bound,
    /// The encoder alone.
    encoder: Bound,
    /// Of a step, and of the encoder.
    flops: [u64; 2],
    seed: u64,
    /// The images of [`Engine::show`] on the device.
    images: Option<ImageSet>,
}

impl Engine {
    /// Records and prepares the method's step, and sets every parameter to its initial value.
    pub fn new(device: Box<dyn Device>, method: &Method, setup: &Setup, seed: u64) -> Result<Self> {
        let program = method.record(setup)?;
        let mut session = Session::new(device);
        let prepared = session.prepare(&program.tape)?;
        let step = session.bind(prepared, str::to_string)?;
        let tape = encoder_program(setup);
        let prepared = session.prepare(&tape)?;
        let encoder = session.bind(prepared, str::to_string)?;
        for p in &program.parameters {
            session.write(&p.name, HostSlice::F32(&p.initial_values(seed)))?;
        }
        if session.contains(REVERSED) {
            let reversed: Vec<u32> = (0..setup.batch as u32).rev().collect();
            session.write(REVERSED, HostSlice::U32(&reversed))?;
        }
        let flops = [program.tape.flops(), tape.flops()];
        let parameters = program.parameters;
        Ok(Engine { session, setup: *setup, parameters, step, encoder, flops, seed, images: None })
    }

    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    pub fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Floating-point operations of a step.
    pub fn flops(&self) -> u64 {
        self.flops[0]
    }

    /// Floating-point operations of encoding a batch.
    pub fn encoder_flops(&self) -> u64 {
        self.flops[1]
    }

    pub fn plan(&self) -> &Plan {
        self.session.plan(&self.step)
    }

    /// Names of the buffers that a parameter's state is in: its values, then Adam's moments.
    pub fn state_names(parameter: &Parameter) -> [String; 3] {
        let [first, second] = MOMENTS.map(|m| format!("{}.{m}", parameter.name));
        [parameter.name.clone(), first, second]
    }

    /// Hands over the images of the next step or encoding, `[B, size, size, colours]`.
    pub fn load(&mut self, images: &[f32]) -> Result<()> {
        self.session.write(IMAGES, HostSlice::F32(images))
    }

    /// Loads the pictures of the given rows. An engine is shown pictures of one data set only.
    pub fn show(&mut self, pictures: &Pictures<'_>, rows: &[u32]) -> Result<()> {
        let pixels = pictures.pixels();
        let set = match self.images {
            Some(set) => set,
            None => *self.images.insert(self.session.upload_images(&pixels, &pictures.look())?),
        };
        self.session.fill(IMAGES, set, &pixels, rows, &Visit::default())
    }

    /// Training step number `number` (the first is 0) on the loaded images. What it does depends on the
    /// parameters, their moments, the images, the seed and the number alone.
    pub fn step(&mut self, number: u64, rate: f64) -> Result<()> {
        self.session.write_scalar(RATE, adam_rate(rate, number + 1))?;
        if self.session.contains(KEY) {
            let words = [self.seed, number].map(|v| [v as u32, (v >> 32) as u32]);
            self.session.write(KEY, HostSlice::U32(words.as_flattened()))?;
        }
        self.session.run(&self.step)
    }

    /// Losses of the last step, by name.
    pub fn losses(&self) -> Result<Vec<(&str, f64)>> {
        self.session.scalars(&self.step)
    }

    /// Runs the encoder on the loaded images.
    pub fn encode(&mut self) -> Result<()> {
        self.session.run(&self.encoder)
    }

    /// Codes of the images that were encoded last, each in the order channel, row, column, as PyTorch
    /// would flatten it.
    pub fn codes(&self) -> Result<Vec<f32>> {
        let (channels, code) = (self.setup.sizes.latent, self.setup.sizes.code());
        let mut found = vec![0.0; self.setup.batch * code];
        self.session.output(&self.encoder, CODES, &mut found)?;
        let places = code / channels;
        let ordered = |code: &[f32]| -> Vec<f32> {
            (0..channels).flat_map(|c| (0..places).map(move |p| p * channels + c)).map(|i| code[i]).collect()
        };
        Ok(found.chunks_exact(code).flat_map(ordered).collect())
    }
}

fn encoder_program(setup: &Setup) -> Tape {
    let mut t = Tape::new();
    let s = &setup.sizes;
    let x = t.input(IMAGES, [setup.batch, s.size, s.size, s.colours]);
    let parameters: Vec<_> =
        encoder_parameters("encoder", s).iter().map(|p| t.input(p.name.clone(), p.shape)).collect();
    let codes = encode(&mut t, x, &parameters);
    t.output(CODES, codes);
    t
}
