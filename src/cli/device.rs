//! `--device` and `--precision`, the same for every verb that computes.

use clap::Args;

use crate::device::{self, Choice, Device, Precision, Target};
use crate::error::Result;

#[derive(Args, Clone, Copy, Debug, Default)]
pub struct DeviceArgs {
    /// Where to compute: auto (the first CUDA device if one can be had, else the CPU), cpu, cuda or cuda:N.
    #[arg(long, global = true, value_name = "auto|cpu|cuda[:N]", default_value_t)]
    device: Target,
    /// Arithmetic of products on a CUDA device: f32, or tensor cores with operands rounded to tf32 or bf16.
    #[arg(long, global = true, value_name = "f32|tf32|bf16", default_value_t)]
    precision: Precision,
}

impl DeviceArgs {
    pub fn choice(&self) -> Choice {
        Choice { target: self.device, precision: self.precision }
    }

    pub fn open(&self) -> Result<Box<dyn Device>> {
        device::open(&self.choice())
    }
}
