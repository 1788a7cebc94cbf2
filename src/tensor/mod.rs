//! Shapes, element types, and the one file format of the project: safetensors, memory-mapped.
//!
//! Nothing here knows about tapes, devices or data sets.

mod dtype;
mod file;
mod matrix;
mod shape;

pub use dtype::{DType, Real};
pub use file::{Entry, TensorFile, write_atomically, write_tensors};
pub use matrix::Matrix;
pub use shape::Shape;
