//! What to embed and how: the settings of a run, as its files record them, and the images it learns
//! from.

use std::fmt;

use super::{Method, Setup};
use crate::data::{Dataset, LabelBudget, Part, split};
use crate::error::{Error, Result};
use crate::nn::autoencoder::Sizes;

/// Value of the metadata key `format` of an embedding.
pub const FORMAT: &str = "tessera-embedding-1";

/// The images that train the networks, and that partitions are fitted on.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pool {
    /// All training images.
    Train,
    /// Training and test images.
    TrainAndTest,
    /// The labelled images of the stratified split that a training run with the same label budget,
    /// number of validation images and split seed makes.
    Labelled { labels: LabelBudget, validation: usize, seed: u64 },
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pool::Train => write!(f, "train"),
            Pool::TrainAndTest => write!(f, "train+test"),
            Pool::Labelled { labels, validation, seed } => {
                write!(f, "labelled {labels}, validation {validation}, split seed {seed}")
            }
        }
    }
}

impl Pool {
    /// Rows of the pool in ascending order: training images count from 0, test images from there on.
    pub fn rows(&self, dataset: &Dataset) -> Result<Vec<u32>> {
        let train = dataset.part(Part::Train);
        let all = train.len() + dataset.part(Part::Test).len();
        match *self {
            Pool::Train => Ok((0..train.len() as u32).collect()),
            Pool::TrainAndTest => Ok((0..all as u32).collect()),
            Pool::Labelled { labels, validation, seed } => {
                Ok(split::of(dataset, labels, validation, seed)?.labelled)
            }
        }
    }
}

/// A run.
#[derive(Clone)]
pub struct Request {
    pub method: &'static Method,
    /// Images that training looks at, rounded up to whole batches.
    pub samples: u64,
    /// Channels of the first scale.
    pub depth: usize,
    /// Channels of the code.
    pub latent: usize,
    /// Height and width of the code.
    pub latent_width: usize,
    /// Largest side of the images that the networks see.
    pub size: usize,
    pub batch: usize,
    pub rate: f64,
    pub seed: u64,
    pub pool: Pool,
    /// Rate of a probe that learns, beside the networks, to tell classes from codes; `None` for no probe.
    pub probe: Option<f64>,
}

impl Request {
    /// The method with its defaults.
    pub fn new(method: &'static Method) -> Self {
        Request {
            method,
            samples: 1 << 18,
            depth: 16,
            latent: 16,
            latent_width: 4,
            size: 32,
            batch: 64,
            rate: 1e-4,
            seed: 1,
            pool: Pool::Train,
            probe: None,
        }
    }

    pub fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::usage(what));
        if self.samples == 0 || self.batch == 0 {
            return wrong("--samples and --batch must be at least 1");
        }
        if self.batch > 1 << 16 || self.size > 1 << 12 || self.depth > 1 << 12 || self.latent > 1 << 12 {
            return wrong("--batch goes up to 65536; --size, --depth and --latent up to 4096");
        }
        if !(self.rate > 0.0 && self.rate.is_finite()) {
            return wrong("--rate must be a positive number");
        }
        if let Some(rate) = self.probe {
            if !(rate > 0.0 && rate.is_finite()) {
                return wrong("--probe-rate must be a positive number");
            }
            if !self.method.is_trained() {
                return wrong("a probe learns while networks do, and pixels have none");
            }
            if self.pool == Pool::TrainAndTest {
                return wrong("--probe would learn the test images' classes; it needs another --pool");
            }
        }
        if self.method.is_trained() && (self.depth == 0 || self.latent == 0 || self.latent_width == 0) {
            return wrong("--depth, --latent and --latent-width must be at least 1");
        }
        Ok(())
    }

    pub fn steps(&self) -> u64 {
        self.samples.div_ceil(self.batch as u64)
    }

    /// What the step is recorded for, if images have the given shape and are of so many classes.
    pub fn setup(&self, [size, _, colours]: [usize; 3], classes: usize) -> Setup {
        let sizes =
            Sizes { size, colours, depth: self.depth, latent: self.latent, latent_size: self.latent_width };
        Setup { sizes, batch: self.batch, probe: self.probe.map(|_| classes) }
    }

    /// Everything that the result depends on, as the metadata of checkpoint and embedding.
    pub fn settings(&self, dataset: &Dataset) -> Vec<(&'static str, String)> {
        let mut all = vec![
            ("method", self.method.name.to_string()),
            ("pool", self.pool.to_string()),
            ("seed", self.seed.to_string()),
            ("size", self.size.to_string()),
            ("data", dataset.name().to_string()),
            ("data-fingerprint", dataset.fingerprint().to_string()),
        ];
        if self.method.is_trained() {
            all.extend([
                ("samples", self.samples.to_string()),
                ("depth", self.depth.to_string()),
                ("latent", self.latent.to_string()),
                ("latent-width", self.latent_width.to_string()),
                ("batch", self.batch.to_string()),
                ("rate", self.rate.to_string()),
                ("probe", self.probe.map_or("none".to_string(), |rate| rate.to_string())),
            ]);
        }
        all
    }
}
