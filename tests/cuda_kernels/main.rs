//! The kernels of convolutions and matrix products: executed on a simulated GPU against the CPU device, and
//! held to budgets as compiled code.
//!
//! `TESSERA_CUDA_TOOLKIT` is a folder with `nvrtc/lib/libnvrtc.so.12` and `bin/{ptxas,cuobjdump,nvdisasm}`,
//! `TESSERA_SIMGPU` the simulated driver. What needs one of them says so and passes if it is not there.

mod budgets;
mod convolutions;
mod counters;
mod gpu;
mod nets;
mod products;
mod toolkit;
mod values;
