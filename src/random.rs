//! Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy
//! as 1, 2, 3"). A draw is a pure function of key and counter, so results depend neither on threads
//! nor on order, and a generator's state is a number.

/// One block of four draws.
pub fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
        }
        let a = u64::from(counter[0]) * 0xD251_1F53;
        let b = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
    }
    counter
}

fn block_at(key: [u32; 4], stream: u32, block: u64) -> [u32; 4] {
    let counter = [block as u32, (block >> 32) as u32 ^ key[3], stream, key[2]];
    philox4x32_10(counter, [key[0], key[1]])
}

/// Uniform draw number `index` in [0, 1) of a stream.
pub fn uniform_at(key: [u32; 4], stream: u32, index: u64) -> f64 {
    let word = block_at(key, stream, index / 4)[(index % 4) as usize];
    f64::from(word >> 8) / f64::from(1u32 << 24)
}

/// Standard normal draw number `index` of a stream (Box & Muller 1958).
pub fn normal_at(key: [u32; 4], stream: u32, index: u64) -> f64 {
    let words = block_at(key, stream, index / 4);
    let pair = (index % 4) as usize / 2 * 2;
    let unit = |w: u32| (f64::from(w) + 0.5) / 4294967296.0;
    let radius = (-2.0 * unit(words[pair]).ln()).sqrt();
    let angle = std::f64::consts::TAU * unit(words[pair + 1]);
    if index.is_multiple_of(2) { radius * angle.cos() } else { radius * angle.sin() }
}

/// What random numbers are for. Each use has its own streams, so that adding draws in one place
/// changes nothing elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Purpose {
    Split = 1,
    Shuffle,
    MetaBatch,
    TaskChoice,
    Augment,
    KmeansSeeding,
    Diversity,
    RandomLabels,
    Synthetic,
    /// Which drawings of an Omniglot character are for training, validation and test.
    Drawings,
    Variation,
    RandomStarts,
    Samples,
}

/// A sequence of draws for one purpose.
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u32; 2],
    counter: [u32; 4],
    words: [u32; 4],
    used: usize,
}

impl Stream {
    /// The stream number `index` of a purpose.
    pub fn new(seed: u64, purpose: Purpose, index: u64) -> Self {
        // The top bit keeps these counters apart from those of tensors.
        let counter = [0, purpose as u32 | 1 << 31, index as u32, (index >> 32) as u32];
        Stream { key: [seed as u32, (seed >> 32) as u32], counter, words: [0; 4], used: 4 }
    }

    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.words = philox4x32_10(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.words[self.used - 1]
    }

    /// Uniform in [0, 1), 24 bits.
    pub fn next_f32(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 / (1 << 24) as f32
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn next_f64(&mut self) -> f64 {
        let high = u64::from(self.next_u32() >> 5);
        let low = u64::from(self.next_u32() >> 6);
        (high << 26 | low) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `0..bound`, without bias (Lemire 2019).
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0 && u32::try_from(bound).is_ok(), "a bound between 1 and 2^32 - 1");
        let bound = bound as u32;
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u64::from(self.next_u32()) * u64::from(bound);
            if product as u32 >= threshold {
                return (product >> 32) as usize;
            }
        }
    }

    /// Standard normal.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.next_f64()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.next_f64()).cos()
    }

    /// Uniform random order (Fisher & Yates).
    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for i in (1..values.len()).rev() {
            values.swap(i, self.below(i + 1));
        }
    }

    /// `count` distinct numbers below `n`, in the order drawn.
    ///
    /// # Panics
    /// If `count` is larger than `n`.
    pub fn sample_without_replacement(&mut self, n: usize, count: usize) -> Vec<usize> {
        assert!(count <= n, "{count} distinct numbers below {n}");
        // Floyd's algorithm, then shuffled: cost follows the count, not n.
        let mut taken = std::collections::HashSet::with_capacity(count);
        let mut drawn = Vec::with_capacity(count);
        for top in n - count..n {
            let candidate = self.below(top + 1);
            let value = if taken.insert(candidate) { candidate } else { top };
            taken.insert(value);
            drawn.push(value);
        }
        self.shuffle(&mut drawn);
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_random123() {
        assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox4x32_10([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32_10([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn draws_are_uniform_and_normal() {
        let n = 200_000;
        let mean = |f: &dyn Fn(u64) -> f64| (0..n).map(f).sum::<f64>() / n as f64;
        let key = [3, 4, 5, 6];
        let tolerance = 5.0 / (n as f64).sqrt();
        assert!((mean(&|i| uniform_at(key, 1, i)) - 0.5).abs() < tolerance);
        assert!((mean(&|i| uniform_at(key, 1, i).powi(2)) - 1.0 / 3.0).abs() < tolerance);
        assert!(mean(&|i| normal_at(key, 1, i)).abs() < tolerance);
        assert!((mean(&|i| normal_at(key, 1, i).powi(2)) - 1.0).abs() < 2.0 * tolerance);
        assert!((mean(&|i| normal_at(key, 1, i).powi(4)) - 3.0).abs() < 12.0 * tolerance);
        assert!(mean(&|i| normal_at(key, 1, 2 * i) * normal_at(key, 1, 2 * i + 1)).abs() < tolerance);
        let mut stream = Stream::new(1, Purpose::Split, 0);
        let mut counts = [0; 7];
        (0..70_000).for_each(|_| counts[stream.below(7)] += 1);
        assert!(counts.iter().all(|&c| (c - 10_000i32).abs() < 500), "{counts:?}");
    }

    #[test]
    fn samples_are_distinct_and_cover_everything() {
        let mut stream = Stream::new(9, Purpose::MetaBatch, 3);
        for (n, k) in [(10, 10), (100, 7), (5, 0), (1, 1)] {
            let mut sample = stream.sample_without_replacement(n, k);
            assert_eq!(sample.len(), k);
            sample.sort_unstable();
            sample.dedup();
            assert_eq!(sample.len(), k);
            assert!(sample.iter().all(|&i| i < n));
        }
    }
}
