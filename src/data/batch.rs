//! Which images a step looks at, and their pixels as floating-point numbers.

use rayon::prelude::*;

use super::{Images, Normalisation};
use crate::random::{Purpose, Stream};

/// Random changes of training images, drawn anew for every visit (METHODS §8, ‡).
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Augment {
    /// Probability of a horizontal flip.
    pub flip: f32,
    /// Probability of replacing the colours by their luma (images of three channels only).
    pub grey: f32,
}

/// Images below which one thread does all.
const SERIAL: usize = 64;

/// Writes images as `(x / 255 − mean) / sd`, `[B, H, W, C]`. Draws of augmentation are keyed by `seed`,
/// `visit` (a number that never repeats, such as the step) and the position in the batch.
///
/// # Panics
/// If `out` has not the size of the batch, or an index is out of range.
pub fn fill(
    images: Images<'_>,
    indices: &[u32],
    normalise: &Normalisation,
    augment: Augment,
    (seed, visit): (u64, u64),
    out: &mut [f32],
) {
    let [_, width, channels] = images.shape();
    let size: usize = images.shape().iter().product();
    assert_eq!(out.len(), indices.len() * size, "room for the batch");
    let table = Table::new(normalise);
    let one = |(position, (out, &index)): (usize, (&mut [f32], &u32))| {
        let pixels = images.image(index as usize);
        let (flip, grey) = match augment {
            Augment { flip: 0.0, grey: 0.0 } => (false, false),
            Augment { flip, grey } => {
                let mut draw =
                    Stream::new(seed, Purpose::Augment, visit.wrapping_mul(1 << 20) + position as u64);
                (draw.next_f32() < flip, draw.next_f32() < grey && channels == 3)
            }
        };
        for (row_out, row) in out.chunks_mut(width * channels).zip(pixels.chunks(width * channels)) {
            for (x, out) in row_out.chunks_mut(channels).enumerate() {
                let from = if flip { width - 1 - x } else { x } * channels;
                table.pixel(&row[from..from + channels], grey, out);
            }
        }
    };
    let batch = out.par_chunks_mut(size).zip(indices).with_min_len(SERIAL.div_ceil(2));
    batch.enumerate().for_each(one);
}

/// Normalised value of each byte in each channel.
struct Table {
    values: Vec<[f32; 256]>,
}

impl Table {
    fn new(normalise: &Normalisation) -> Self {
        let channel =
            |(&mean, &sd): (&f32, &f32)| std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / sd);
        Table { values: normalise.mean.iter().zip(&normalise.sd).map(channel).collect() }
    }

    fn pixel(&self, bytes: &[u8], grey: bool, out: &mut [f32]) {
        if grey {
            let luma =
                0.299 * f32::from(bytes[0]) + 0.587 * f32::from(bytes[1]) + 0.114 * f32::from(bytes[2]);
            let byte = luma.round().min(255.0) as usize;
            out.iter_mut().zip(&self.values).for_each(|(o, v)| *o = v[byte]);
        } else {
            out.iter_mut().zip(bytes).zip(&self.values).for_each(|((o, &b), v)| *o = v[b as usize]);
        }
    }
}

/// Passes over a set of images in shuffled order, in whole batches; what is left over at the end of a
/// pass is dropped, and a set smaller than a batch is repeated within it. The order is a function of
/// seed and epoch alone, so a position in training is a number.
#[derive(Clone, Debug)]
pub struct EpochSampler {
    pool: Vec<u32>,
    batch: usize,
    seed: u64,
    /// Tells apart samplers of one run.
    stream: u64,
    epoch: Option<u64>,
    order: Vec<u32>,
}

impl EpochSampler {
    /// # Panics
    /// If the pool or the batch is empty.
    pub fn new(pool: Vec<u32>, batch: usize, seed: u64, stream: u64) -> Self {
        assert!(!pool.is_empty() && batch > 0, "a sampler needs images and a batch size");
        EpochSampler { pool, batch, seed, stream, epoch: None, order: Vec::new() }
    }

    /// Steps of one pass.
    pub fn steps_per_epoch(&self) -> u64 {
        (self.pool.len() / self.batch).max(1) as u64
    }

    /// Image numbers of step `step`, counted from 0.
    pub fn batch(&mut self, step: u64, out: &mut Vec<u32>) {
        let (epoch, place) = (step / self.steps_per_epoch(), (step % self.steps_per_epoch()) as usize);
        if self.epoch != Some(epoch) {
            self.order.clone_from(&self.pool);
            Stream::new(self.seed, Purpose::Shuffle, self.stream << 40 | epoch).shuffle(&mut self.order);
            self.epoch = Some(epoch);
        }
        out.clear();
        out.extend((0..self.batch).map(|i| self.order[(place * self.batch + i) % self.order.len()]));
    }
}

/// `count` images of `pool`, uniform without replacement (with repetition only if the pool is smaller),
/// as a function of seed and step alone.
pub fn fresh(pool: &[u32], count: usize, seed: u64, step: u64, out: &mut Vec<u32>) {
    let mut draw = Stream::new(seed, Purpose::MetaBatch, step);
    out.clear();
    while out.len() < count {
        let more = draw.sample_without_replacement(pool.len(), pool.len().min(count - out.len()));
        out.extend(more.into_iter().map(|i| pool[i]));
    }
}
