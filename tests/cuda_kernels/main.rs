//! Kernels one by one: what they compute against the CPU device, what they compile to and what they do to memory
//! against `tests/budgets`.

#[path = "../cuda/harness.rs"]
mod harness;

mod budgets;
mod compiled;
mod convolutions;
mod counters;
mod gpu;
mod nets;
mod products;
mod streams;
mod toolkit;
mod values;
mod variants;
