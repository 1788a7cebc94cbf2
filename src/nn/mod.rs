//! Networks: parameters with their names, layouts and initial values, and the programs of their
//! forward passes. Derivatives, optimisers and training know nothing of what stands here.

pub mod autoencoder;
pub mod dense;
pub mod net;
mod parameter;

pub use net::{Architecture, NETS, Net};
pub use parameter::{Initial, Layout, Parameter};
