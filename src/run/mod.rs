//! Training runs: the engine that steps a method, the trainer, checkpoints, metrics, evaluation.

pub mod engine;
pub mod interrupt;

pub use engine::Engine;
