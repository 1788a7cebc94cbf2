//! Data sets: one memory-mapped safetensors file each, importers that make them, splits and batches.
//!
//! May call [`crate::tensor`] and [`crate::random`]; knows nothing of tapes, devices or training.

pub mod batch;
pub mod dataset;
pub mod import;
pub mod split;
pub mod synth;

pub use crate::pixels::Augment;
pub use batch::EpochSampler;
pub use dataset::{Dataset, Images, Normalisation, Part};
pub use split::{LabelBudget, Split};
