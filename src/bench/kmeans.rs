//! Lloyd iterations from given centres, for a fixed number of iterations.

use std::time::Instant;

use serde::Serialize;

use crate::cluster::kmeans::{Question, Settings, fit_all};
use crate::device::Device;
use crate::error::Result;
use crate::random::{Purpose, Stream};

#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    pub n: usize,
    pub d: usize,
    pub k: usize,
    pub iterations: usize,
    /// A whole fit, with its last assignment and its inertia, divided by its iterations.
    pub ms_per_iteration: f64,
    /// What one more iteration costs: the difference to a fit of half as many.
    pub marginal_ms_per_iteration: f64,
    pub inertia: f64,
    pub device: String,
}

/// Overlapping Gaussian blobs in 24 dimensions with noise in all `d`.
pub fn blobs(n: usize, d: usize) -> Vec<f32> {
    const INNER: usize = 24;
    const BLOBS: usize = 60;
    let mut draw = Stream::new(1, Purpose::Synthetic, 7);
    let mut normal =
        |n: usize, scale: f64| (0..n).map(|_| (scale * draw.normal()) as f32).collect::<Vec<f32>>();
    let (map, centres) = (normal(INNER * d, 0.2), normal(BLOBS * INNER, 1.2));
    let mut values = vec![0.0; n * d];
    use rayon::prelude::*;
    values.par_chunks_mut(d).enumerate().for_each(|(i, row)| {
        let mut draw = Stream::new(2, Purpose::Synthetic, i as u64);
        let blob = draw.below(BLOBS);
        row.iter_mut().for_each(|v| *v = 0.3 * draw.normal() as f32);
        for (inner, map) in map.chunks(d).enumerate() {
            let place = centres[blob * INNER + inner] + 0.9 * draw.normal() as f32;
            row.iter_mut().zip(map).for_each(|(v, m)| *v += place * m);
        }
    });
    values
}

/// `k` different random rows, as starting centres.
pub fn rows(values: &[f32], d: usize, k: usize) -> Vec<f64> {
    let chosen = Stream::new(3, Purpose::Synthetic, 0).sample_without_replacement(values.len() / d, k);
    chosen.iter().flat_map(|&i| &values[i * d..(i + 1) * d]).map(|&v| v.into()).collect()
}

/// Times fits on a device (the CPU: on this thread's rayon pool) that has loaded the points.
pub fn measure(
    device: &mut dyn Device,
    values: &[f32],
    d: usize,
    start: &[f64],
    iterations: usize,
) -> Result<Figures> {
    let (n, k, described) = (values.len() / d, start.len() / d, device.describe());
    let points = device.load_points(values, d)?;
    let question = Question { weights: None, seed: 1, start: Some(start) };
    let run = |iterations: usize| {
        let settings =
            Settings { clusters: k, max_iterations: iterations, tolerance: 0.0, restarts: 1, seed: 1 };
        let begin = Instant::now();
        let found = fit_all(points.as_ref(), n, &[question], &settings, &mut |_, _| {})?.remove(0);
        Ok((begin.elapsed().as_secs_f64() * 1e3, found))
    };
    run(2)?;
    let half = iterations / 2;
    let (short, fewer) = run(half.max(1))?;
    let (long, found) = run(iterations)?;
    let more = (found.iterations - fewer.iterations).max(1);
    Ok(Figures {
        n,
        d,
        k,
        iterations: found.iterations,
        ms_per_iteration: long / found.iterations as f64,
        marginal_ms_per_iteration: (long - short) / more as f64,
        inertia: found.inertia,
        device: described,
    })
}
