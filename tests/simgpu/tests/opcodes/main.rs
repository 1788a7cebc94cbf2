//! Every family of opcode forms, through the real NVRTC and `cudarc`, against Rust.

mod atomics;
mod bits;
mod control;
mod conversions;
mod floats;
#[path = "../gpu/forms.rs"]
mod forms;
#[path = "../gpu/mod.rs"]
mod gpu;
mod integers;
mod matrices;
mod memory;
mod warps;

// `forms` names its sibling by `super`.
use gpu::{Draw, Gpu, shape};
