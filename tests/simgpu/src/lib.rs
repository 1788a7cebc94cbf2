//! A stand-in for libcuda: the CUDA driver API, with PTX executed on the CPU.
//!
//! Nothing here is a GPU and no time that it takes says anything about one. What it gives is that kernels which the
//! real NVRTC compiled run, to the bit where arithmetic is exact, on machines without a GPU; with every access checked
//! and counted. `README.md` says how to read the sources.

#![allow(clippy::needless_range_loop)]

pub mod config;
pub mod coverage;
pub mod driver;
pub mod exec;
pub mod half;
pub mod isa;
pub mod lower;
pub mod ptx;
pub mod random;
pub mod status;
pub mod types;
