//! Training runs: the engine that steps a method, the trainer, checkpoints, metrics, evaluation.

pub mod engine;
pub mod tensorboard;

pub use engine::Engine;
pub use tensorboard::EventFile;
