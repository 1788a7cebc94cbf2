//! Single convolutions in each direction.

use serde::Serialize;

use super::Times;
use crate::device::{self, Choice, HostSlice, Session};
use crate::error::{Error, Result};
use crate::ops::convolution::Geometry;
use crate::tape::Tape;
use crate::tensor::Shape;

#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    pub layer: String,
    pub batch: usize,
    pub direction: &'static str,
    pub median_ms: f64,
    pub gflop: f64,
    /// By the definition of the operation; a fast algorithm does fewer.
    pub gflop_per_s: f64,
    pub device: String,
}

/// Layers `(channels in, channels out, rows and columns)` that the nets of the project have.
pub const LAYERS: &[(usize, usize, usize)] =
    &[(3, 64, 32), (64, 128, 16), (3, 32, 64), (32, 32, 32), (32, 32, 16), (64, 64, 32), (128, 128, 16)];

/// Forward, input gradient and weight gradient of a 3×3 convolution with padding 1.
pub fn measure(
    (c, k, size): (usize, usize, usize),
    batch: usize,
    repeats: usize,
    device: &Choice,
) -> Result<Vec<Figures>> {
    let geometry = Geometry::new(Shape::new(&[batch, size, size, c]), Shape::new(&[k, 3, 3, c]), 1, 1)
        .map_err(|e| Error::shape("conv2d", e))?;
    let mut all = Vec::new();
    for direction in ["forward", "input_grad", "weight_grad"] {
        let mut tape = Tape::new();
        let x = tape.input("x", geometry.input());
        let w = tape.input("w", geometry.filter());
        let dy = tape.input("dy", geometry.output());
        let result = match direction {
            "forward" => tape.conv2d(x, w, 1, 1),
            "input_grad" => {
                let y = tape.conv2d(x, w, 1, 1);
                tape.reverse(y, Some(dy), &[x])[0]
            }
            _ => {
                let y = tape.conv2d(x, w, 1, 1);
                tape.reverse(y, Some(dy), &[w])[0]
            }
        };
        tape.output("result", result);
        let mut session = Session::new(device::open(device)?);
        let program = session.prepare(&tape)?;
        let bound = session.bind(program, str::to_string)?;
        for (name, len) in
            [("x", geometry.input().len()), ("w", geometry.filter().len()), ("dy", geometry.output().len())]
        {
            if session.contains(name) {
                let values: Vec<f32> = (0..len).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
                session.write(name, HostSlice::F32(&values))?;
            }
        }
        let times = Times::of(repeats, || session.run(&bound))?;
        let gflop = geometry.flops() as f64 / 1e9;
        all.push(Figures {
            layer: format!("{c}->{k} @{size}"),
            batch,
            direction,
            median_ms: times.median(),
            gflop,
            gflop_per_s: gflop / times.median() * 1e3,
            device: session.device().describe(),
        });
    }
    Ok(all)
}
