//! Partitions of an embedding: k-means with greedy k-means++, the devices that make several partitions
//! differ, their file, and figures that describe them.
//!
//! May call [`crate::tensor`], [`crate::random`] and the kernels of [`crate::device`].

pub mod accuracy;
pub mod assignment;
pub mod embedding;
pub mod kmeans;
pub mod metrics;
pub mod partition;
pub mod seeding;
pub mod tasks;
pub mod whiten;

pub use embedding::Embedding;
pub use kmeans::{Fit, Settings, fit};
pub use partition::{Diversity, Partition, partitions};
pub use tasks::Tasks;
