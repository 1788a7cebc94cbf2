//! Which images a step looks at.

use crate::random::{Purpose, Stream};

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
