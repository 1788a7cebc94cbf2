//! Training runs: settings, the engine that steps a method, the trainer with its checkpoints, log and run
//! folder, and models that were trained.
//!
//! May call everything below it ([`crate::methods`], [`crate::data`], [`crate::cluster`], [`crate::device`]);
//! prints nothing: what is worth telling goes to a callback.

pub mod checkpoint;
pub mod engine;
pub mod environment;
pub mod evaluate;
mod feed;
pub mod folder;
pub mod gradient;
pub mod interrupt;
pub mod metrics;
pub mod model;
pub mod recipe;
pub mod settings;
pub mod study;
pub mod tensorboard;
pub mod trainer;
mod vary;

pub use engine::Engine;
pub use evaluate::{Evaluator, Predictions};
pub use model::Model;
pub use recipe::Recipe;
pub use settings::{Config, Settings, TaskSource};
pub use tensorboard::EventFile;
pub use trainer::{Outcome, Status, Trainer};
