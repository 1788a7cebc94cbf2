//! Execution: a launch runs blocks, a block runs warps, a warp runs instructions on 32 lanes at once.

pub mod access;
pub mod block;
pub mod copies;
pub mod counters;
pub mod instruction;
pub mod lanes;
pub mod launch;
pub mod memory;
pub mod races;
pub mod schedule;
pub mod text;
pub mod touched;
pub mod warp;
