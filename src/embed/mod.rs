//! Unsupervised embeddings: a row of numbers for each image, learned without labels, in which partitions
//! find what images have in common.
//!
//! An embedding method is a step program ([`program`]) over an encoder, a decoder and whatever else it
//! needs; the [`engine`] runs it, [`train`] feeds it, and the trained encoder then describes every image.
//! To add a method: write its file here, with a function that records its step, and list it in [`ALL`].
//!
//! May call [`crate::tape`], [`crate::nn`], [`crate::optim`], [`crate::device`], [`crate::data`] and the
//! embedding file of [`crate::cluster`]; nothing below may call this.

mod acai;
mod baseline;
pub mod checkpoint;
pub mod engine;
pub mod pictures;
pub mod program;
pub mod request;
pub mod train;

pub use engine::Engine;
pub use pictures::Pictures;
pub use program::{Recorder, Setup, StepProgram};
pub use request::{Pool, Request};
pub use train::{Progress, Summary, embed};

use crate::error::{Error, Result};

/// A way to describe images by numbers.
pub struct Method {
    pub name: &'static str,
    pub about: &'static str,
    /// Records a training step; `None` if there is nothing to train.
    record: Option<fn(&mut Recorder)>,
}

/// Every method that `--method` knows.
pub const ALL: &[Method] = &[
    Method {
        name: "acai",
        about: "an autoencoder whose decoded mixtures of codes a critic must not recognise",
        record: Some(acai::record),
    },
    Method {
        name: "baseline",
        about: "an autoencoder trained on the squared error alone",
        record: Some(baseline::record),
    },
    Method { name: "pixels", about: "the pixels themselves, without training, for comparison", record: None },
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
        self.record.is_some()
    }

    /// The method's training step.
    pub fn record(&self, setup: &Setup) -> Result<StepProgram> {
        setup.sizes.check()?;
        let record =
            self.record.ok_or_else(|| Error::usage(format!("{} has no training step", self.name)))?;
        let mut recorder = Recorder::new(*setup);
        record(&mut recorder);
        let program = recorder.finish();
        program.tape.check()?;
        Ok(program)
    }
}
