//! Measurements of whole steps, k-means iterations and single convolutions, as `tessera bench` prints
//! them.

pub mod allocations;
pub mod conv;
pub mod kmeans;
pub mod step;

use std::time::Instant;

/// Times of repeated work, in milliseconds.
#[derive(Clone, Debug)]
pub struct Times(Vec<f64>);

impl Times {
    /// Runs `work` a few times unmeasured, then `repeats` times.
    pub fn of<E>(repeats: usize, mut work: impl FnMut() -> Result<(), E>) -> Result<Times, E> {
        for _ in 0..2 {
            work()?;
        }
        let mut times = Vec::with_capacity(repeats);
        for _ in 0..repeats {
            let start = Instant::now();
            work()?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        Ok(Times(times))
    }

    /// Runs `work` once, cold.
    pub fn first<E>(mut work: impl FnMut() -> Result<(), E>) -> Result<Times, E> {
        let start = Instant::now();
        work()?;
        Ok(Times(vec![start.elapsed().as_secs_f64() * 1e3]))
    }

    /// The value below which a fraction of the times lies.
    pub fn quantile(&self, fraction: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get((last as f64 * fraction).round() as usize).copied().unwrap_or(f64::NAN)
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

/// Most memory that this process has held, in bytes; 0 where the system does not say.
pub fn peak_bytes() -> u64 {
    // SAFETY: `getrusage` fills the structure that it is given; all zeros is a valid one.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        if libc::getrusage(libc::RUSAGE_SELF, &mut usage) != 0 {
            return 0;
        }
        usage.ru_maxrss as u64 * 1024
    }
}
