//! Unsupervised embeddings: a row of numbers for each image, learned without labels, in which partitions
//! find what images have in common.
//!
//! An embedding method is a step program ([`program`]) over an encoder, a decoder and whatever else it
//! needs, and what makes codes of images and images of codes; the [`engine`] runs them, [`train`] feeds
//! them, and the trained encoder then describes every image. To add a method: write its file here, with a
//! function that records its step, and list it in [`ALL`].
//!
//! May call [`crate::tape`], [`crate::nn`], [`crate::optim`], [`crate::device`], [`crate::data`] and the
//! embedding file of [`crate::cluster`]; nothing below may call this.

mod aae;
mod acai;
mod baseline;
pub mod checkpoint;
mod denoising;
mod dropout;
pub mod engine;
pub mod gallery;
pub mod pictures;
pub mod program;
pub mod request;
pub mod train;
mod vae;
mod vqvae;

pub use engine::Engine;
pub use pictures::Pictures;
pub use program::{Recorder, Setup, StepProgram};
pub use request::{Pool, Request};
pub use train::{Progress, Summary, embed};

use crate::error::{Error, Result};
use crate::tape::{Tape, Var};

/// A way to describe images by numbers.
pub struct Method {
    pub name: &'static str,
    pub about: &'static str,
    /// `None` if there is nothing to train.
    programs: Option<Programs>,
}

/// What a method records.
#[derive(Clone, Copy)]
struct Programs {
    /// A training step.
    step: fn(&mut Recorder),
    /// Codes `[B, h, w, channels]` of images, without chance.
    code: fn(&mut Recorder, Var) -> Var,
    /// Images of codes.
    image: fn(&mut Recorder, Var) -> Var,
}

impl Programs {
    /// For a method whose code is the encoder's output and whose image is the decoder's.
    const fn plain(step: fn(&mut Recorder)) -> Option<Self> {
        Some(Programs { step, code: program::code, image: program::image })
    }
}

/// Every method that `--method` knows.
pub const ALL: &[Method] = &[
    Method {
        name: "acai",
        about: "an autoencoder whose decoded mixtures of codes a critic must not recognise",
        programs: Programs::plain(acai::record),
    },
    Method {
        name: "baseline",
        about: "an autoencoder trained on the squared error alone",
        programs: Programs::plain(baseline::record),
    },
    Method {
        name: "dropout",
        about: "the same with half of the code's numbers dropped at random",
        programs: Programs::plain(dropout::record),
    },
    Method {
        name: "denoising",
        about: "the same on images with noise, restored without it",
        programs: Programs::plain(denoising::record),
    },
    Method {
        name: "vae",
        about: "a variational autoencoder; an image's numbers are the mean of its codes",
        programs: Some(Programs { step: vae::record, code: vae::code, image: vae::image }),
    },
    Method {
        name: "aae",
        about: "an autoencoder whose codes an adversary must not tell from normal ones",
        programs: Programs::plain(aae::record),
    },
    Method {
        name: "vqvae",
        about: "an autoencoder whose codes are made of rows of a codebook",
        programs: Some(Programs { step: vqvae::record, code: vqvae::code, image: program::image }),
    },
    Method {
        name: "pixels",
        about: "the pixels themselves, without training, for comparison",
        programs: None,
    },
];

impl Method {
    pub fn named(name: &str) -> Result<&'static Method> {
        ALL.iter().find(|m| m.name == name).ok_or_else(|| {
            let known: Vec<&str> = ALL.iter().map(|m| m.name).collect();
            Error::usage(format!("unknown embedding method '{name}'; known: {}", known.join(", ")))
        })
    }

    /// Does it have networks to train?
    pub fn is_trained(&self) -> bool {
        self.programs.is_some()
    }

    fn programs(&self, setup: &Setup) -> Result<Programs> {
        setup.sizes.check()?;
        self.programs.ok_or_else(|| Error::usage(format!("{} has no networks", self.name)))
    }

    /// The method's training step.
    pub fn record(&self, setup: &Setup) -> Result<StepProgram> {
        let programs = self.programs(setup)?;
        let mut recorder = Recorder::new(*setup);
        (programs.step)(&mut recorder);
        let program = recorder.finish();
        program.tape.check()?;
        Ok(program)
    }

    /// From the leaf [`program::IMAGES`] to the output `codes`.
    pub(crate) fn encoder(&self, setup: &Setup) -> Result<Tape> {
        let programs = self.programs(setup)?;
        let mut recorder = Recorder::reading(*setup);
        let images = recorder.images();
        let codes = (programs.code)(&mut recorder, images);
        recorder.tape.output(program::CODES, codes);
        Ok(recorder.tape)
    }

    /// From the leaf [`program::CODES`] to the output `images`.
    pub(crate) fn decoder(&self, setup: &Setup) -> Result<Tape> {
        let programs = self.programs(setup)?;
        let mut recorder = Recorder::reading(*setup);
        let codes = recorder.codes();
        let images = (programs.image)(&mut recorder, codes);
        recorder.tape.output(program::IMAGES, images);
        Ok(recorder.tape)
    }
}
