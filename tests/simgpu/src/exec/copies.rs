//! cp.async: copies that are under way from global to shared memory, until their thread waits for their group.

use super::access::each_lane;
use super::counters::{Access, wavefronts};
use super::lanes::gather_bits;
use super::memory::each_word;
use super::warp::Warp;
use crate::status::Status;
use std::collections::VecDeque;

/// What one instruction copies.
pub struct Copy {
    /// Lanes whose bytes are still under way.
    pub lanes: u32,
    /// Where in the block's shared memory.
    pub to: [u64; 32],
    pub bytes: [[u8; 16]; 32],
    pub len: usize,
    /// The group of each lane's copy.
    group: [u32; 32],
}

impl Copy {
    pub fn new(lanes: u32, to: [u64; 32], len: usize) -> Copy {
        Copy { lanes, to, bytes: [[0; 16]; 32], len, group: [0; 32] }
    }
}

#[derive(Default)]
pub struct Copies {
    /// Oldest first.
    under_way: VecDeque<Copy>,
    /// Groups that each lane has committed.
    committed: [u32; 32],
}

impl Copies {
    pub fn clear(&mut self) {
        self.under_way.clear();
        self.committed = [0; 32];
    }

    pub fn begin(&mut self, mut copy: Copy) {
        copy.group = self.committed;
        self.under_way.push_back(copy);
    }

    /// Ends the group of copies that the lanes began since the last one.
    pub fn commit(&mut self, mask: u32) {
        for k in 0..32 {
            self.committed[k] += mask >> k & 1;
        }
    }
}

impl Warp {
    /// Does the copies of all but the newest `pending` groups of the lanes.
    pub fn finish_copies(&mut self, mask: u32, pending: u32) {
        let mut copies = std::mem::take(&mut self.copies);
        for copy in &mut copies.under_way {
            let mut due = [0; 32];
            for k in 0..32 {
                due[k] = if copy.group[k] + pending < copies.committed[k] { !0 } else { 0 };
            }
            let lanes = gather_bits(&due) & copy.lanes & mask;
            copy.lanes &= !lanes;
            self.finish_copy(copy, lanes);
        }
        while copies.under_way.front().is_some_and(|copy| copy.lanes == 0) {
            copies.under_way.pop_front();
        }
        self.copies = copies;
    }

    fn finish_copy(&mut self, copy: &Copy, lanes: u32) {
        if lanes == 0 {
            return;
        }
        let base = self.block().shared.as_ptr() as u64;
        for k in each_lane(lanes) {
            let (to, len) = ((copy.to[k] - base) as usize, copy.len);
            if self.is_shared_watched && !self.watch_copy_end(to as u64, len as u64, k) {
                return;
            }
            let (to, from) = (&mut self.block().shared[to..], &copy.bytes[k]);
            match len {
                16 => to[..16].copy_from_slice(from),
                8 => to[..8].copy_from_slice(&from[..8]),
                _ => to[..len].copy_from_slice(&from[..len]),
            }
        }
    }

    /// Notes that bytes of shared memory are about to be written, at some moment before the wait.
    #[cold]
    pub fn watch_copy_begin(&mut self, to: &[u64; 32], bytes: u64, mask: u32) -> bool {
        let checks = self.launch().checks;
        if checks.count {
            let (passes, ideal) = wavefronts(to, bytes, mask);
            self.counters.shared(Access::Write, passes, ideal);
        }
        for k in each_lane(mask) {
            if !self.check_under_way(to[k], bytes, k, "cp.async")
                || checks.race && !self.check_shared_race(to[k], bytes, k, Access::Write)
            {
                return false;
            }
            let under_way = &mut self.block().shared_under_way;
            if !under_way.is_empty() {
                each_word(to[k], bytes, |word, bits| {
                    under_way[word] |= bits;
                    true
                });
            }
        }
        true
    }

    fn watch_copy_end(&mut self, to: u64, bytes: u64, lane: usize) -> bool {
        let checks = self.launch().checks;
        let under_way = &mut self.block().shared_under_way;
        if !under_way.is_empty() {
            each_word(to, bytes, |word, bits| {
                under_way[word] &= !bits;
                true
            });
        }
        (!checks.init || self.check_shared_written(to, bytes, lane, Access::Write))
            && (!checks.race || self.check_shared_race(to, bytes, lane, Access::Write))
    }

    /// Reports an access to bytes that are still being copied.
    pub fn check_under_way(&mut self, offset: u64, bytes: u64, lane: usize, what: &str) -> bool {
        let under_way = &self.block().shared_under_way;
        if under_way.is_empty() || each_word(offset, bytes, |word, bits| under_way[word] & bits == 0) {
            return true;
        }
        let text = format!(
            "{what} of {bytes} bytes of shared memory at offset {offset} that a cp.async is still writing: \
             its thread has not waited for its group"
        );
        self.fault(lane as u32, Status::LaunchFailed, text);
        false
    }
}
