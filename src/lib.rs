//! `tessera` makes image classifiers better when labels are few: it clusters an unsupervised
//! embedding of the images with k-means in several ways, makes each partition an auxiliary task, and
//! trains shared convolutional layers with an exact second-order meta-gradient.
//!
//! Data flows one way, and so do the imports:
//!
//! [`data`] (memory-mapped images) → [`tape`] (a program of [`ops`], its `reverse` and `tangent`
//! programs, its plan) → [`device`] (kernels) → [`meta`] step → [`methods`] → [`run`] (episodes,
//! checkpoints, metrics) → [`report`].
//!
//! Beside it, on the same floors, [`embed`] learns to describe images without labels, and [`cluster`]
//! makes partitions of what it finds: the auxiliary tasks.

pub mod bench;
pub mod cli;
pub mod cluster;
pub mod data;
pub mod device;
pub mod embed;
pub mod error;
pub mod meta;
pub mod methods;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod pixels;
pub mod random;
pub mod report;
pub mod run;
pub mod tape;
pub mod tensor;

pub use error::{Error, Result};
