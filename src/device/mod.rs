//! Where programs run. The contract is small; the CPU device is complete.

pub mod cpu;
