//! Memory accesses of a warp: addresses → checks and counters → host addresses.

use super::counters::{Access, sectors, wavefronts};
use super::instruction::Instruction;
use super::memory::{self, Allocation, Range, each_word, find_in};
use super::races::Conflict;
use super::warp::Warp;
use crate::ptx::ast::Space;
use crate::status::Status;

/// Generic addresses of shared memory: this plus the offset. No host address has these bits.
pub const SHARED_WINDOW: u64 = 1 << 56;

/// Generic addresses of a thread's local memory.
pub const LOCAL_WINDOW: u64 = 2 << 56;

pub const WINDOW_BITS: u64 = 3 << 56;

/// Lanes of a mask.
pub fn each_lane(mask: u32) -> impl Iterator<Item = usize> {
    (0..32).filter(move |k| mask >> k & 1 != 0)
}

impl Warp {
    /// The addresses of `[a + imm]`.
    #[inline(always)]
    pub fn addresses(&self, i: &Instruction) -> [u64; 32] {
        let mut addresses = [0; 32];
        if i.wide_address {
            let base = self.get::<u64>(i.a);
            for k in 0..32 {
                addresses[k] = base[k].wrapping_add(i.imm as u64);
            }
        } else {
            let base = self.get::<u32>(i.a);
            for k in 0..32 {
                addresses[k] = (base[k] as u64).wrapping_add(i.imm as u64);
            }
        }
        addresses
    }

    /// Turns addresses into host addresses, after all checks. False: the launch has failed.
    pub fn resolve(
        &mut self,
        i: &Instruction,
        space: Space,
        addresses: &mut [u64; 32],
        bytes: u64,
        mask: u32,
        access: Access,
    ) -> bool {
        let access = if i.strong { Access::Atomic } else { access };
        match space {
            Space::Global | Space::Const => self.resolve_global(addresses, bytes, mask, access),
            Space::Shared => self.resolve_shared(addresses, bytes, mask, access),
            Space::Local => self.resolve_local(addresses, bytes, mask),
            Space::Param => self.resolve_param(addresses, bytes, mask),
            Space::Generic => {
                let (mut shared, mut local) = (0, 0);
                for k in 0..32 {
                    shared |= ((addresses[k] & WINDOW_BITS == SHARED_WINDOW) as u32) << k;
                    local |= ((addresses[k] & WINDOW_BITS == LOCAL_WINDOW) as u32) << k;
                }
                let (shared, local) = (shared & mask, local & mask);
                let mut rest = mask & !shared & !local;
                let params = self.param_lanes(addresses, rest);
                rest &= !params;
                (shared == 0 || self.resolve_shared(addresses, bytes, shared, access))
                    && (local == 0 || self.resolve_local(addresses, bytes, local))
                    && (params == 0 || self.resolve_param(addresses, bytes, params))
                    && (rest == 0 || self.resolve_global(addresses, bytes, rest, access))
            }
        }
    }

    fn misaligned(&mut self, address: u64, bytes: u64, lane: usize, what: &str) -> bool {
        let text = format!("misaligned {what} access: address {address:#x} is not a multiple of {bytes}");
        self.fault(lane as u32, Status::MisalignedAddress, text);
        false
    }

    // ---- global memory ----

    /// Whether one live allocation holds all of `start..end`.
    #[inline(always)]
    pub fn is_mapped(&mut self, start: u64, end: u64) -> bool {
        for range in &self.recent {
            if start >= range.start && end <= range.end {
                return true;
            }
        }
        self.look_up(start, end)
    }

    #[cold]
    fn look_up(&mut self, start: u64, end: u64) -> bool {
        let Some(found) = find_in(&self.launch().snapshot, start) else { return false };
        if end < start || end > found.end() {
            return false;
        }
        self.recent[self.recent_at] = Range { start: found.start, end: found.end() };
        self.recent_at = (self.recent_at + 1) % self.recent.len();
        true
    }

    fn resolve_global(&mut self, addresses: &[u64; 32], bytes: u64, mask: u32, access: Access) -> bool {
        let (mut lowest, mut highest, mut low_bits) = (u64::MAX, 0, 0);
        for k in 0..32 {
            if mask >> k & 1 != 0 {
                lowest = lowest.min(addresses[k]);
                highest = highest.max(addresses[k]);
                low_bits |= addresses[k];
            }
        }
        if low_bits & (bytes - 1) != 0 || !self.is_mapped(lowest, highest.saturating_add(bytes)) {
            for k in each_lane(mask) {
                let address = addresses[k];
                if !self.is_mapped(address, address.saturating_add(bytes)) {
                    self.out_of_bounds(address, bytes, k, access);
                    return false;
                }
                if address & (bytes - 1) != 0 {
                    return self.misaligned(address, bytes, k, "global");
                }
            }
        }
        !self.is_watched || self.watch_global(addresses, bytes, mask, access)
    }

    #[cold]
    fn out_of_bounds(&mut self, address: u64, bytes: u64, lane: usize, access: Access) {
        let what = access.name();
        let text = if address & WINDOW_BITS != 0 {
            format!("invalid global {what} of {bytes} bytes at {address:#x}: this is not a global address")
        } else {
            let why = memory::lock().explain(address, bytes);
            format!("invalid global {what} of {bytes} bytes at {address:#x}: {why}")
        };
        self.fault(lane as u32, Status::IllegalAddress, text);
    }

    /// Checks and counters that look at every access.
    #[cold]
    fn watch_global(&mut self, addresses: &[u64; 32], bytes: u64, mask: u32, access: Access) -> bool {
        let launch = self.launch();
        let checks = launch.checks;
        if let Some(all) = &launch.touched {
            let (touched, ideal) = sectors(addresses, bytes, mask);
            self.counters.global(access, touched, ideal, bytes * mask.count_ones() as u64);
            all.mark(&launch.snapshot, addresses, bytes, mask, access);
        }
        if checks.init && !self.check_written(addresses, bytes, mask, access) {
            return false;
        }
        if checks.global_race {
            for k in each_lane(mask) {
                let at = self.pc as usize;
                let Some(races) = self.block().global_races.as_mut() else { return true };
                if access == Access::Atomic {
                    races.synchronise(addresses[k]);
                }
                if let Some(conflict) = races.access(addresses[k], bytes, access, at) {
                    self.report_global_race(conflict, k);
                    return false;
                }
            }
        }
        true
    }

    fn check_written(&mut self, addresses: &[u64; 32], bytes: u64, mask: u32, access: Access) -> bool {
        let snapshot = self.launch().snapshot.clone();
        let mut allocation: Option<&Allocation> = None;
        for k in each_lane(mask) {
            let address = addresses[k];
            if !allocation.is_some_and(|a| a.contains(address, bytes)) {
                allocation = find_in(&snapshot, address).map(|found| &**found);
            }
            let Some(allocation) = allocation else { continue };
            if access != Access::Write && !allocation.is_written(address, bytes) {
                let text = format!(
                    "read of uninitialised global memory: {bytes} bytes at offset {} of {}",
                    address - allocation.start,
                    allocation.describe()
                );
                self.fault(k as u32, Status::LaunchFailed, text);
                return false;
            }
            if access != Access::Read {
                allocation.mark(address, bytes);
            }
        }
        true
    }

    fn report_global_race(&mut self, conflict: Conflict, lane: usize) {
        let launch = self.launch();
        let other = match conflict.other {
            Some(block) => {
                let [x, y, z] = launch.block_at(block as u64);
                format!("block ({x},{y},{z})")
            }
            None => "several blocks".into(),
        };
        let place = match find_in(&launch.snapshot, conflict.address) {
            Some(found) => format!("offset {} of {}", conflict.address - found.start, found.describe()),
            None => format!("{:#x}", conflict.address),
        };
        let text = format!(
            "race between blocks on global memory ({}) at {place}; the other access: {other}, {}",
            conflict.what,
            launch.instruction_place(conflict.at)
        );
        self.fault(lane as u32, Status::LaunchFailed, text);
    }

    // ---- shared memory ----

    fn resolve_shared(&mut self, addresses: &mut [u64; 32], bytes: u64, mask: u32, access: Access) -> bool {
        if !self.check_shared(addresses, bytes, mask)
            || self.is_shared_watched && !self.watch_shared(addresses, bytes, mask, access)
        {
            return false;
        }
        let base = self.block().shared.as_mut_ptr() as u64;
        for k in 0..32 {
            if mask >> k & 1 != 0 {
                addresses[k] = addresses[k].wrapping_add(base);
            }
        }
        true
    }

    /// Turns addresses into offsets within the block's shared memory, if they are valid.
    pub fn check_shared(&mut self, addresses: &mut [u64; 32], bytes: u64, mask: u32) -> bool {
        let size = self.block().shared.len() as u64;
        let mut is_bad = false;
        for k in 0..32 {
            if mask >> k & 1 == 0 {
                continue;
            }
            if addresses[k] & WINDOW_BITS == SHARED_WINDOW {
                addresses[k] -= SHARED_WINDOW;
            }
            is_bad |= addresses[k].saturating_add(bytes) > size || addresses[k] & (bytes - 1) != 0;
        }
        !is_bad || self.bad_shared(addresses, bytes, mask)
    }

    #[cold]
    fn bad_shared(&mut self, offsets: &[u64; 32], bytes: u64, mask: u32) -> bool {
        let size = self.block().shared.len() as u64;
        for k in each_lane(mask) {
            if offsets[k].saturating_add(bytes) > size {
                let text = format!(
                    "invalid shared access of {bytes} bytes at offset {}: the block has {size} bytes",
                    offsets[k] as i64
                );
                self.fault(k as u32, Status::IllegalAddress, text);
                return false;
            }
            if offsets[k] & (bytes - 1) != 0 {
                return self.misaligned(offsets[k], bytes, k, "shared");
            }
        }
        true
    }

    #[cold]
    pub fn watch_shared(&mut self, offsets: &[u64; 32], bytes: u64, mask: u32, access: Access) -> bool {
        let checks = self.launch().checks;
        if checks.count {
            let (passes, ideal) = wavefronts(offsets, bytes, mask);
            self.counters.shared(access, passes, ideal);
        }
        for k in each_lane(mask) {
            if !self.check_under_way(offsets[k], bytes, k, access.name()) {
                return false;
            }
            if checks.init && !self.check_shared_written(offsets[k], bytes, k, access) {
                return false;
            }
            if checks.race && !self.check_shared_race(offsets[k], bytes, k, access) {
                return false;
            }
        }
        true
    }

    pub fn check_shared_written(&mut self, offset: u64, bytes: u64, lane: usize, access: Access) -> bool {
        let written = &mut self.block().shared_written;
        if access != Access::Write && !each_word(offset, bytes, |word, bits| written[word] & bits == bits) {
            let text = format!("read of uninitialised shared memory: {bytes} bytes at offset {offset}");
            self.fault(lane as u32, Status::LaunchFailed, text);
            return false;
        }
        if access != Access::Read {
            each_word(offset, bytes, |word, bits| {
                written[word] |= bits;
                true
            });
        }
        true
    }

    pub fn check_shared_race(&mut self, offset: u64, bytes: u64, lane: usize, access: Access) -> bool {
        let (warp, at) = (self.id, self.pc as usize);
        let Some(races) = self.block().shared_races.as_mut() else { return true };
        let Some(conflict) = races.access(offset, bytes, access, warp, at) else { return true };
        let other = conflict.other.map_or("several warps".into(), |warp| format!("warp {warp}"));
        let text = format!(
            "race between warps on shared memory ({}) at offset {}, no barrier between; the other access: {other}, {}",
            conflict.what,
            conflict.address,
            self.launch().instruction_place(conflict.at)
        );
        self.fault(lane as u32, Status::LaunchFailed, text);
        false
    }

    // ---- local memory and parameters ----

    fn resolve_local(&mut self, addresses: &mut [u64; 32], bytes: u64, mask: u32) -> bool {
        let frame = self.launch().program.local as u64;
        self.counters.local_requests += 1;
        let base = self.local.as_mut_ptr() as u64;
        for k in each_lane(mask) {
            let offset = addresses[k] & !WINDOW_BITS;
            if offset.saturating_add(bytes) > frame {
                let text = format!(
                    "invalid local access of {bytes} bytes at offset {}: the thread has {frame} bytes",
                    offset as i64
                );
                self.fault(k as u32, Status::IllegalAddress, text);
                return false;
            }
            if offset & (bytes - 1) != 0 {
                return self.misaligned(offset, bytes, k, "local");
            }
            addresses[k] = base + k as u64 * frame + offset;
        }
        true
    }

    fn param_lanes(&self, addresses: &[u64; 32], mask: u32) -> u32 {
        let params = &self.launch().params;
        let start = params.as_ptr() as u64;
        let mut lanes = 0;
        for k in 0..32 {
            lanes |= ((addresses[k].wrapping_sub(start) < params.len() as u64) as u32) << k;
        }
        lanes & mask
    }

    fn resolve_param(&mut self, addresses: &[u64; 32], bytes: u64, mask: u32) -> bool {
        let params = &self.launch().params;
        let (start, len) = (params.as_ptr() as u64, params.len() as u64);
        for k in each_lane(mask) {
            let offset = addresses[k].wrapping_sub(start);
            if offset.saturating_add(bytes) > len {
                let text = format!(
                    "read of {bytes} bytes at {} of the kernel's {len} bytes of parameters",
                    offset as i64
                );
                self.fault(k as u32, Status::IllegalAddress, text);
                return false;
            }
        }
        true
    }
}
