//! The CUDA device against the CPU device, on a simulated GPU where there is no real one.

mod batches;
mod harness;
mod kmeans;
mod messages;
mod operations;
mod runs;
mod steps;
mod traffic;
mod watched;
