//! What each data leaf of a step gets: the images of its batch and their labels. Which images a step sees
//! is a function of the seed and the step's number alone, so a position in training is a number.

use crate::cluster::Tasks;
use crate::data::batch::{self, EpochSampler};
use crate::data::{Dataset, Part, Split};
use crate::device::{HostSlice, ImageSet};
use crate::error::Result;
use crate::methods::{Batch, Feed};
use crate::pixels::{Augment, Visit};
use crate::random::{Purpose, Stream};
use crate::run::Engine;

/// Streams of the samplers, and numbers of a step's batches for augmentation.
const LABELLED: u64 = 0;
const POOL: u64 = 1;
const FRESH: u64 = 2;
const BATCHES: u64 = 4;

pub struct Feeder {
    labelled: EpochSampler,
    pool: EpochSampler,
    labelled_images: Vec<u32>,
    seed: u64,
    augment: Augment,
    batch: usize,
    rows: Vec<u32>,
    labels: Vec<u32>,
}

impl Feeder {
    /// Auxiliary batches of the whole pool come from labelled and unlabelled images; images held out for
    /// validation are never seen.
    pub fn new(split: &Split, batch: usize, seed: u64, augment: Augment) -> Self {
        let mut pool: Vec<u32> = split.labelled.iter().chain(&split.unlabelled).copied().collect();
        pool.sort_unstable();
        Feeder {
            labelled: EpochSampler::new(split.labelled.clone(), batch, seed, LABELLED),
            pool: EpochSampler::new(pool, batch, seed, POOL),
            labelled_images: split.labelled.clone(),
            seed,
            augment,
            batch,
            rows: Vec::new(),
            labels: Vec::new(),
        }
    }

    /// The task of a step, uniform over `tasks`.
    pub fn task(&self, step: u64, tasks: usize) -> usize {
        Stream::new(self.seed, Purpose::TaskChoice, step).below(tasks)
    }

    /// Writes every data leaf of a step on `task`. `set` are the data set's images on the device.
    pub fn feed(
        &mut self,
        engine: &mut Engine,
        (dataset, set): (&Dataset, ImageSet),
        tasks: Option<&Tasks>,
        step: u64,
        task: usize,
    ) -> Result<()> {
        let (images, pixels) = (dataset.part(Part::Train), dataset.pixels());
        let feeds = engine.feeds(task).to_vec();
        let mut at = None;
        for (name, feed) in feeds {
            if let Feed::Images(from) | Feed::Labels(from, _) = feed
                && at != Some(from)
            {
                self.choose(from, step);
                at = Some(from);
            }
            match feed {
                Feed::Images(from) => {
                    let number = match from {
                        Batch::Labelled => LABELLED,
                        Batch::Pool => POOL,
                        Batch::Fresh => FRESH,
                    };
                    let visit =
                        Visit { augment: self.augment, seed: self.seed, visit: step * BATCHES + number };
                    engine.session_mut().fill(&name, set, &pixels, &self.rows, &visit)?;
                }
                Feed::Labels(_, of) => {
                    let of = of.unwrap_or(task);
                    let all = match (of, tasks) {
                        (t, Some(tasks)) if t > 0 => &tasks.labels[t - 1][..],
                        _ => images.labels(),
                    };
                    self.labels.clear();
                    self.labels.extend(self.rows.iter().map(|&r| all[r as usize]));
                    engine.session_mut().write(&name, HostSlice::U32(&self.labels))?;
                }
                Feed::Key => {
                    let words = [self.seed, step].map(|v| [v as u32, (v >> 32) as u32]);
                    engine.session_mut().write(&name, HostSlice::U32(words.as_flattened()))?;
                }
            }
        }
        Ok(())
    }

    fn choose(&mut self, from: Batch, step: u64) {
        match from {
            Batch::Labelled => self.labelled.batch(step, &mut self.rows),
            Batch::Pool => self.pool.batch(step, &mut self.rows),
            Batch::Fresh => {
                batch::fresh(&self.labelled_images, self.batch, self.seed, step, &mut self.rows);
            }
        }
    }
}
