//! The CUDA device: kernels of `kernels/`, compiled by NVRTC and launched through the driver, both loaded at
//! run time if they are there.

pub mod conv;
pub mod gemm;
pub mod launch;
mod tile;
