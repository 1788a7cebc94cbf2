//! What a kernel did, counted by kernel name over all its launches.

use super::instruction::CLASSES;
use std::collections::BTreeMap;
use std::sync::Mutex;

macro_rules! counters {
    ($($(#[$about:meta])* $name:ident,)*) => {
        #[derive(Clone, Default, Debug)]
        pub struct Counters {
            /// Warp instructions by class, in the order of `CLASSES`.
            pub instructions: [u64; CLASSES.len()],
            $($(#[$about])* pub $name: u64,)*
        }

        impl Counters {
            pub fn add(&mut self, other: &Counters) {
                for (sum, term) in self.instructions.iter_mut().zip(other.instructions) {
                    *sum += term;
                }
                $(self.$name += other.$name;)*
            }

            fn json(&self) -> String {
                let classes: Vec<String> = CLASSES
                    .iter()
                    .zip(self.instructions)
                    .map(|(name, count)| format!("\"{name}\": {count}"))
                    .collect();
                let total: u64 = self.instructions.iter().sum();
                let mut fields = vec![
                    format!("\"warp_instructions\": {total}"),
                    format!("\"classes\": {{{}}}", classes.join(", ")),
                ];
                $(fields.push(format!("\"{}\": {}", stringify!($name), self.$name));)*
                format!("{{{}}}", fields.join(", "))
            }
        }
    };
}

counters! {
    launches,
    blocks,
    /// Sum over instructions of the lanes that were active.
    lanes,
    /// Warp instructions that access global memory.
    global_load_requests,
    global_store_requests,
    global_atomic_requests,
    /// 32-byte sectors that these accesses touch.
    global_load_sectors,
    global_store_sectors,
    global_atomic_sectors,
    /// Sectors that a launch touches at all, summed over launches; an atomic access reads and writes.
    global_distinct_read_sectors,
    global_distinct_written_sectors,
    /// Sectors that the distinct bytes of the accesses would fill.
    global_load_ideal_sectors,
    global_store_ideal_sectors,
    global_atomic_ideal_sectors,
    /// Bytes that lanes asked for.
    global_bytes_read,
    global_bytes_written,
    shared_load_requests,
    shared_store_requests,
    shared_atomic_requests,
    /// Passes over the 32 banks that these accesses need.
    shared_load_wavefronts,
    shared_store_wavefronts,
    shared_atomic_wavefronts,
    /// Passes that accesses of that width need without a conflict.
    shared_load_ideal_wavefronts,
    shared_store_ideal_wavefronts,
    shared_atomic_ideal_wavefronts,
    local_requests,
    divergent_branches,
    /// Barriers, counted for each warp.
    barriers,
}

/// What an access does to memory, and so to which counters it adds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    Read,
    Write,
    Atomic,
}

impl Access {
    pub fn name(self) -> &'static str {
        match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::Atomic => "atomic or volatile access",
        }
    }
}

impl Counters {
    pub fn global(&mut self, access: Access, sectors: u64, ideal: u64, bytes: u64) {
        let (requests, touched, least) = match access {
            Access::Read => (
                &mut self.global_load_requests,
                &mut self.global_load_sectors,
                &mut self.global_load_ideal_sectors,
            ),
            Access::Write => (
                &mut self.global_store_requests,
                &mut self.global_store_sectors,
                &mut self.global_store_ideal_sectors,
            ),
            Access::Atomic => (
                &mut self.global_atomic_requests,
                &mut self.global_atomic_sectors,
                &mut self.global_atomic_ideal_sectors,
            ),
        };
        *requests += 1;
        *touched += sectors;
        *least += ideal;
        if access != Access::Write {
            self.global_bytes_read += bytes;
        }
        if access != Access::Read {
            self.global_bytes_written += bytes;
        }
    }

    pub fn shared(&mut self, access: Access, wavefronts: u64, ideal: u64) {
        let (requests, passes, least) = match access {
            Access::Read => (
                &mut self.shared_load_requests,
                &mut self.shared_load_wavefronts,
                &mut self.shared_load_ideal_wavefronts,
            ),
            Access::Write => (
                &mut self.shared_store_requests,
                &mut self.shared_store_wavefronts,
                &mut self.shared_store_ideal_wavefronts,
            ),
            Access::Atomic => (
                &mut self.shared_atomic_requests,
                &mut self.shared_atomic_wavefronts,
                &mut self.shared_atomic_ideal_wavefronts,
            ),
        };
        *requests += 1;
        *passes += wavefronts;
        *least += ideal;
    }
}

/// Distinct sectors that the lanes of `mask` touch, and how many their distinct elements would fill at best.
pub fn sectors(addresses: &[u64; 32], bytes: u64, mask: u32) -> (u64, u64) {
    let mut sorted = [u64::MAX; 32];
    let mut count = 0;
    for (k, &address) in addresses.iter().enumerate() {
        if mask >> k & 1 != 0 {
            sorted[count] = address;
            count += 1;
        }
    }
    let sorted = &mut sorted[..count];
    sorted.sort_unstable();
    let (mut touched, mut distinct) = (0, 0);
    let (mut next_sector, mut last) = (0, None);
    for &address in sorted.iter() {
        if last != Some(address) {
            distinct += 1;
            last = Some(address);
        }
        let first = (address / 32).max(next_sector);
        let end = (address + bytes - 1) / 32 + 1;
        if end > first {
            touched += end - first;
            next_sector = end;
        }
    }
    (touched, (distinct * bytes).div_ceil(32))
}

/// Passes over the banks that the lanes of `mask` need, and how many accesses of this width need at best.
///
/// Lanes go in groups that ask for 128 bytes together; in a group, each bank serves one distinct word a pass.
pub fn wavefronts(offsets: &[u64; 32], bytes: u64, mask: u32) -> (u64, u64) {
    let group = (128 / bytes.max(4)) as usize;
    let (mut passes, mut ideal) = (0, 0);
    for first in (0..32).step_by(group) {
        let mut words = [[0u64; 32]; 32];
        let mut counts = [0usize; 32];
        for k in first..first + group {
            if mask >> k & 1 == 0 {
                continue;
            }
            for word in offsets[k] / 4..=(offsets[k] + bytes - 1) / 4 {
                let bank = (word % 32) as usize;
                if !words[bank][..counts[bank]].contains(&word) {
                    words[bank][counts[bank]] = word;
                    counts[bank] += 1;
                }
            }
        }
        let most = counts.into_iter().max().unwrap_or(0) as u64;
        passes += most;
        ideal += (most > 0) as u64;
    }
    (passes, ideal)
}

static TOTALS: Mutex<BTreeMap<String, Counters>> = Mutex::new(BTreeMap::new());

pub fn record(kernel: &str, counters: &Counters) {
    let mut totals = TOTALS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    totals.entry(kernel.to_string()).or_default().add(counters);
}

pub fn reset() {
    TOTALS.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clear();
}

/// An object with a member for each kernel.
pub fn json() -> String {
    let totals = TOTALS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let kernels: Vec<String> =
        totals.iter().map(|(name, counters)| format!("  \"{name}\": {}", counters.json())).collect();
    format!("{{\n{}\n}}\n", kernels.join(",\n"))
}
