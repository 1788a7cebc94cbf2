//! A method's networks on a device: training steps, and codes of images.

use super::program::{
    CODES, IMAGES, KEY, LABELS, MOMENTS, PROBE_RATE, RATE, REVERSED, StepProgram, VERDICTS,
};
use super::{Method, Pictures, Setup};
use crate::device::{Bound, Device, HostSlice, ImageSet, Session};
use crate::error::Result;
use crate::nn::Parameter;
use crate::optim::adam_rate;
use crate::pixels::Visit;
use crate::tape::plan::Plan;

/// The probe's rate of Adam (METHODS §3.3).
pub const RATE_OF_PROBE: f64 = 1e-4;

pub struct Engine {
    session: Session,
    method: &'static Method,
    setup: Setup,
    parameters: Vec<Parameter>,
    carried: Vec<Parameter>,
    step: Bound,
    /// The encoder alone.
    encoder: Bound,
    /// The decoder alone, once it was needed.
    decoder: Option<Bound>,
    probe_rate: f64,
    /// Of a step, and of the encoder.
    flops: [u64; 2],
    seed: u64,
    /// The images of [`Engine::show`] on the device.
    images: Option<ImageSet>,
}

impl Engine {
    /// Records and prepares the method's step, and sets every parameter to its initial value.
    pub fn new(device: Box<dyn Device>, method: &'static Method, setup: &Setup, seed: u64) -> Result<Self> {
        let StepProgram { tape: step, parameters, carried } = method.record(setup)?;
        let encoder = method.encoder(setup)?;
        let flops = [step.flops(), encoder.flops()];
        let mut session = Session::new(device);
        let [step, encoder] = [step, encoder].map(|tape| {
            let prepared = session.prepare(&tape)?;
            session.bind(prepared, str::to_string)
        });
        let mut engine = Engine {
            session,
            method,
            setup: *setup,
            parameters,
            carried,
            step: step?,
            encoder: encoder?,
            decoder: None,
            probe_rate: RATE_OF_PROBE,
            flops,
            seed,
            images: None,
        };
        engine.initialise()?;
        Ok(engine)
    }

    fn initialise(&mut self) -> Result<()> {
        for p in self.parameters.iter().chain(&self.carried) {
            self.session.write(&p.name, HostSlice::F32(&p.initial_values(self.seed)))?;
        }
        if self.session.contains(REVERSED) {
            let reversed: Vec<u32> = (0..self.setup.batch as u32).rev().collect();
            self.session.write(REVERSED, HostSlice::U32(&reversed))?;
        }
        Ok(())
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

    /// Every tensor that describes the networks, with the name of its buffer.
    pub fn weights(&self) -> Vec<(&Parameter, String)> {
        self.parameters.iter().chain(&self.carried).map(|p| (p, p.name.clone())).collect()
    }

    /// Every tensor that the rest of a run depends on, with the name of its buffer.
    pub fn states(&self) -> Vec<(&Parameter, String)> {
        let of = |p| Engine::state_names(p).map(|name| (p, name));
        let carried = self.carried.iter().map(|p| (p, p.name.clone()));
        self.parameters.iter().flat_map(of).chain(carried).collect()
    }

    /// Rate of the probe in the steps to come.
    pub fn set_probe_rate(&mut self, rate: f64) {
        self.probe_rate = rate;
    }

    /// Hands over the classes of the images of the next step.
    pub fn label(&mut self, labels: &[u32]) -> Result<()> {
        self.session.write(LABELS, HostSlice::U32(labels))
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
        if self.session.contains(PROBE_RATE) {
            self.session.write_scalar(PROBE_RATE, adam_rate(self.probe_rate, number + 1))?;
        }
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
        let code = self.setup.sizes.code();
        let mut found = vec![0.0; self.setup.batch * code];
        self.session.output(&self.encoder, CODES, &mut found)?;
        let order = self.code_order();
        Ok(found.chunks_exact(code).flat_map(|code| order.iter().map(|&i| code[i])).collect())
    }

    /// For each number of a code in the order channel, row, column, its position on the device.
    fn code_order(&self) -> Vec<usize> {
        let (channels, places) = (self.setup.sizes.latent, self.setup.sizes.latent_size.pow(2));
        (0..channels).flat_map(|c| (0..places).map(move |p| p * channels + c)).collect()
    }

    /// The probe's logits `[B, classes]` for the images that were encoded last.
    pub fn verdicts(&self, classes: usize) -> Result<Vec<f32>> {
        let mut found = vec![0.0; self.setup.batch * classes];
        self.session.output(&self.encoder, VERDICTS, &mut found)?;
        Ok(found)
    }

    /// Images `[B, size, size, colours]` of a batch of codes in the order of [`Engine::codes`].
    pub fn decode(&mut self, codes: &[f32]) -> Result<Vec<f32>> {
        let decoder = match self.decoder.take() {
            Some(decoder) => decoder,
            None => {
                let prepared = self.session.prepare(&self.method.decoder(&self.setup)?)?;
                self.session.bind(prepared, str::to_string)?
            }
        };
        let order = self.code_order();
        let mut placed = vec![0.0; codes.len()];
        for (to, from) in placed.chunks_exact_mut(order.len()).zip(codes.chunks_exact(order.len())) {
            order.iter().zip(from).for_each(|(&i, &v)| to[i] = v);
        }
        self.session.write(CODES, HostSlice::F32(&placed))?;
        self.session.run(&decoder)?;
        let s = &self.setup.sizes;
        let mut images = vec![0.0; self.setup.batch * s.size * s.size * s.colours];
        self.session.output(&decoder, IMAGES, &mut images)?;
        self.decoder = Some(decoder);
        Ok(images)
    }
}
