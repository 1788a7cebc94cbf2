//! Which sectors of global memory a launch touches at all: what it must fetch and what it must leave behind, however
//! often it comes back to them. A cache without limit would pass on this much.
//!
//! A sector that a launch writes and then reads counts for both.

use super::counters::Access;
use super::memory::Snapshot;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes that memory hands out at once.
const SECTOR: u64 = 32;

/// A bit for each sector of an allocation, made when the first one is touched.
type Bits = OnceLock<Box<[AtomicU64]>>;

/// By the place of an allocation in the snapshot.
pub struct Touched {
    read: Box<[Bits]>,
    written: Box<[Bits]>,
}

impl Touched {
    pub fn new(snapshot: &Snapshot) -> Touched {
        let none = || snapshot.iter().map(|_| OnceLock::new()).collect();
        Touched { read: none(), written: none() }
    }

    /// Notes an access of `bytes` at each address of the lanes of `mask`.
    pub fn mark(&self, snapshot: &Snapshot, addresses: &[u64; 32], bytes: u64, mask: u32, access: Access) {
        let (mut last, mut place) = (u64::MAX, usize::MAX);
        for (k, &address) in addresses.iter().enumerate() {
            let (first, end) = (address / SECTOR, (address + bytes - 1) / SECTOR);
            if mask >> k & 1 == 0 || (first == last && end == last) {
                continue;
            }
            last = end;
            if snapshot.get(place).is_none_or(|a| !a.contains(address, bytes)) {
                place = snapshot.partition_point(|a| a.start <= address).wrapping_sub(1);
            }
            let Some(allocation) = snapshot.get(place) else { continue };
            let words = allocation.size / (64 * SECTOR as usize) + 1;
            let mark = |bits: &Bits| {
                let bits = bits.get_or_init(|| (0..words).map(|_| AtomicU64::new(0)).collect());
                for sector in first..=end {
                    // Allocations begin at whole sectors.
                    let at = sector - allocation.start / SECTOR;
                    let (word, bit) = (&bits[at as usize / 64], 1 << (at % 64));
                    if word.load(Relaxed) & bit == 0 {
                        word.fetch_or(bit, Relaxed);
                    }
                }
            };
            if access != Access::Write {
                mark(&self.read[place]);
            }
            if access != Access::Read {
                mark(&self.written[place]);
            }
        }
    }

    /// Sectors that were read, and sectors that were written.
    pub fn count(&self) -> (u64, u64) {
        let sum = |all: &[Bits]| {
            let words = all.iter().filter_map(OnceLock::get).flat_map(|bits| bits.iter());
            words.map(|word| u64::from(word.load(Relaxed).count_ones())).sum()
        };
        (sum(&self.read), sum(&self.written))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::memory::{Owner, lock};

    #[test]
    fn a_sector_counts_once_for_reads_and_once_for_writes() {
        let mut memory = lock();
        let [a, b] = [1000, 4096].map(|bytes| memory.allocate(bytes, Owner::Program, false).unwrap());
        let snapshot = memory.snapshot();
        drop(memory);
        let touched = Touched::new(&snapshot);
        let mark = |from: u64, stride: u64, bytes, mask, access| {
            let addresses = std::array::from_fn(|k| from + stride * k as u64);
            touched.mark(&snapshot, &addresses, bytes, mask, access);
        };
        mark(a.start, 4, 4, !0, Access::Read);
        assert_eq!(touched.count(), (4, 0));
        mark(a.start, 4, 4, !0, Access::Read);
        mark(a.start + 96, 16, 16, 3, Access::Read);
        assert_eq!(touched.count(), (4, 0));
        mark(b.start, 128, 4, !0, Access::Write);
        assert_eq!(touched.count(), (4, 32));
        mark(b.start + 4064, 0, 4, 1, Access::Atomic);
        mark(a.start + 992, 0, 8, 1 << 31, Access::Read);
        assert_eq!(touched.count(), (6, 33));
        assert!(memory_is_freed([a.start, b.start]));
    }

    fn memory_is_freed(starts: [u64; 2]) -> bool {
        let mut memory = lock();
        starts.into_iter().all(|start| memory.free(start, Owner::Program))
    }
}
