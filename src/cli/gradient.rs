//! `tessera gradient`: the meta-gradient of given parameters on given batches.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{DeviceArgs, Output};
use crate::error::Result;
use crate::meta::{Hessian, Rule};
use crate::run::gradient::{Request, compute};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Precision {
    F32,
    F64,
}

#[derive(Args)]
pub struct Gradient {
    /// mnistnet, cifarnet, mininet or omninet.
    #[arg(long)]
    net: String,
    /// Parameters, safetensors with PyTorch's names and layout: layers.0.weight [K, C, R, S], layers.0.bias, …,
    /// decoder.0.weight [L, d], decoder.0.bias, and the decoder of the inner task.
    #[arg(long, value_name = "P")]
    params: PathBuf,
    /// Batches, safetensors: inner_images [N, C, H, W], inner_labels [N], outer_images, outer_labels, and the
    /// numbers task (0 for the main task), alpha, inner_steps.
    #[arg(long, value_name = "B")]
    batch: PathBuf,
    /// paper, literal, first-order or released-intended.
    #[arg(long, default_value = "paper")]
    rule: String,
    /// Gradients to write.
    #[arg(short, long, value_name = "G")]
    out: PathBuf,
    /// Part of the Hessian that several inner steps use.
    #[arg(long, default_value = "theta-only")]
    hessian: Hessian,
    /// With task 0, also differentiate the main decoder's own inner steps.
    #[arg(long)]
    through: bool,
    /// Arithmetic and stored gradients.
    #[arg(long, default_value = "f32")]
    dtype: Precision,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(g: Gradient, output: &Output) -> Result<()> {
    let request = Request {
        net: &g.net,
        rule: Rule::named(&g.rule)?,
        hessian: g.hessian,
        through: g.through,
        double: g.dtype == Precision::F64,
        device: g.device.choice(),
    };
    let losses = compute(&request, &g.params, &g.batch, &g.out)?;
    let text = format!(
        "inner loss {:.6}, outer loss {:.6} after {} inner steps on task {}; written to {}",
        losses.inner_loss,
        losses.outer_loss,
        losses.inner_steps,
        losses.task,
        g.out.display()
    );
    let mut object = json!(losses);
    object["file"] = json!(g.out.display().to_string());
    output.result(&object, text);
    Ok(())
}
