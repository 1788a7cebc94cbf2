//! Device memory: allocations, which of their bytes were ever written, and what has been freed.
//!
//! A device address is the host address of the same bytes. Allocations never touch each other, so an access past the
//! end of one falls into none.

use std::alloc::{Layout, alloc, dealloc};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

/// Distance between allocations, and their alignment (as that of the real driver).
const ALIGN: usize = 512;

/// What device memory holds before anything is written: NaN as f32, f16 and bf16.
const POISON: u8 = 0xff;

/// Freed bytes that are kept from reuse, so that a use after free is recognised.
const QUARANTINE: usize = 256 << 20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// The program that uses the driver.
    Program,
    /// A variable of a module.
    Module,
    /// Page-locked host memory, which kernels may address.
    Host,
    /// An allocation node of a graph.
    Graph,
}

pub struct Allocation {
    /// Counted from 1 in the order of allocation.
    pub number: u64,
    pub start: u64,
    pub size: usize,
    pub owner: Owner,
    /// A bit for each byte that was written, if uninitialised reads are looked for.
    written: Option<Box<[AtomicU32]>>,
}

// SAFETY: an allocation is raw memory that host and kernels share; whoever uses the driver orders the accesses, as with
// the real one. The struct itself is read only, apart from the atomic bits.
unsafe impl Send for Allocation {}
unsafe impl Sync for Allocation {}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: `start` came from `alloc` with this layout in `Memory::allocate`.
        unsafe { dealloc(self.start as *mut u8, layout(self.size)) };
    }
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size + ALIGN, ALIGN).expect("sizes are bounded by the size of device memory")
}

impl Allocation {
    pub fn end(&self) -> u64 {
        self.start + self.size as u64
    }

    pub fn contains(&self, address: u64, bytes: u64) -> bool {
        address >= self.start && address.checked_add(bytes).is_some_and(|end| end <= self.end())
    }

    pub fn describe(&self) -> String {
        let kind = match self.owner {
            Owner::Program => "allocation",
            Owner::Module => "module variable",
            Owner::Host => "pinned host memory",
            Owner::Graph => "graph allocation",
        };
        format!("{kind} #{} of {} bytes at {:#x}", self.number, self.size, self.start)
    }

    /// Notes that bytes were written.
    pub fn mark(&self, address: u64, bytes: u64) {
        let Some(written) = &self.written else { return };
        each_word(address - self.start, bytes, |word, bits| {
            written[word].fetch_or(bits, Relaxed);
            true
        });
    }

    /// Whether all of these bytes were written before.
    pub fn is_written(&self, address: u64, bytes: u64) -> bool {
        let Some(written) = &self.written else { return true };
        each_word(address - self.start, bytes, |word, bits| written[word].load(Relaxed) & bits == bits)
    }
}

/// Calls with the index of each word of 32 bits and the bits in it that stand for these bytes, while it returns true.
pub fn each_word(from: u64, bytes: u64, mut visit: impl FnMut(usize, u32) -> bool) -> bool {
    let (mut at, end) = (from, from + bytes);
    while at < end {
        let (word, first) = (at / 32, at % 32);
        let count = (32 - first).min(end - at);
        let bits = (((1u64 << count) - 1) << first) as u32;
        if !visit(word as usize, bits) {
            return false;
        }
        at += count;
    }
    true
}

/// An address range of one allocation, for quick checks.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub start: u64,
    pub end: u64,
}

impl Range {
    pub const NOWHERE: Range = Range { start: 1, end: 0 };
}

/// All live allocations at one moment, by address. A launch holds one.
pub type Snapshot = Arc<Vec<Arc<Allocation>>>;

#[derive(Default)]
pub struct Memory {
    live: BTreeMap<u64, Arc<Allocation>>,
    freed: VecDeque<Arc<Allocation>>,
    freed_bytes: usize,
    snapshot: Option<Snapshot>,
    count: u64,
    /// Bytes that count against the size of the device.
    pub used: usize,
    pub capacity: usize,
}

static STATE: Mutex<Option<Memory>> = Mutex::new(None);

/// The device's memory, locked.
pub struct Locked(MutexGuard<'static, Option<Memory>>);

impl std::ops::Deref for Locked {
    type Target = Memory;
    fn deref(&self) -> &Memory {
        self.0.as_ref().expect("filled by `lock`")
    }
}

impl std::ops::DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut Memory {
        self.0.as_mut().expect("filled by `lock`")
    }
}

pub fn lock() -> Locked {
    let mut guard = STATE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    guard.get_or_insert_with(|| Memory { capacity: crate::config::get().memory, ..Memory::default() });
    Locked(guard)
}

impl Memory {
    /// New memory, filled with `POISON`; None if the device has not that much left.
    pub fn allocate(&mut self, size: usize, owner: Owner, track_writes: bool) -> Option<Arc<Allocation>> {
        let counted = if owner == Owner::Host { 0 } else { size.next_multiple_of(ALIGN) };
        if size > 1 << 46 || self.used.checked_add(counted)? > self.capacity {
            return None;
        }
        // SAFETY: the layout has a size above zero.
        let start = unsafe { alloc(layout(size)) };
        if start.is_null() {
            return None;
        }
        // SAFETY: the memory was just allocated with at least this size.
        unsafe { start.write_bytes(POISON, size) };
        self.used += counted;
        self.count += 1;
        let written = track_writes.then(|| (0..size / 32 + 1).map(|_| AtomicU32::new(0)).collect());
        let allocation =
            Arc::new(Allocation { number: self.count, start: start as u64, size, owner, written });
        self.live.insert(allocation.start, allocation.clone());
        self.snapshot = None;
        Some(allocation)
    }

    /// Frees what starts at this address; false if nothing of this owner does.
    pub fn free(&mut self, address: u64, owner: Owner) -> bool {
        if !self.live.get(&address).is_some_and(|allocation| allocation.owner == owner) {
            return false;
        }
        let allocation = self.live.remove(&address).expect("just seen");
        if owner != Owner::Host {
            self.used -= allocation.size.next_multiple_of(ALIGN);
        }
        self.snapshot = None;
        self.freed_bytes += allocation.size;
        self.freed.push_back(allocation);
        while self.freed_bytes > QUARANTINE || self.freed.len() > 1 << 14 {
            match self.freed.pop_front() {
                Some(oldest) => self.freed_bytes -= oldest.size,
                None => break,
            }
        }
        true
    }

    pub fn snapshot(&mut self) -> Snapshot {
        let live = &self.live;
        self.snapshot.get_or_insert_with(|| Arc::new(live.values().cloned().collect())).clone()
    }

    /// The allocation that holds all of these bytes.
    pub fn find(&self, address: u64, bytes: u64) -> Option<&Arc<Allocation>> {
        let (_, allocation) = self.live.range(..=address).next_back()?;
        allocation.contains(address, bytes).then_some(allocation)
    }

    pub fn live(&self) -> impl Iterator<Item = &Arc<Allocation>> {
        self.live.values()
    }

    /// Says what an address that is not valid has to do with the allocations.
    pub fn explain(&self, address: u64, bytes: u64) -> String {
        if let Some(freed) = self.freed.iter().rev().find(|freed| freed.contains(address, bytes)) {
            return format!(
                "use after free: {} bytes into {}, which was freed",
                address - freed.start,
                freed.describe()
            );
        }
        let below = self.live.range(..=address).next_back().map(|(_, allocation)| allocation);
        let above = self.live.range(address.saturating_add(1)..).next().map(|(_, allocation)| allocation);
        let past = below.map(|a| (address.saturating_add(bytes).saturating_sub(a.end()), a));
        let before = above.map(|a| (a.start - address, a));
        match (past, before) {
            (Some((past, a)), Some((before, _))) if past <= before => past_end(past, a),
            (Some((past, a)), None) => past_end(past, a),
            (_, Some((before, a))) => format!("{before} bytes before the start of {}", a.describe()),
            (None, None) => "there are no allocations".into(),
        }
    }
}

fn past_end(bytes: u64, allocation: &Allocation) -> String {
    format!("it ends {bytes} bytes past the end of {}", allocation.describe())
}

/// Looks an address up in a snapshot.
pub fn find_in(snapshot: &Snapshot, address: u64) -> Option<&Arc<Allocation>> {
    let at = snapshot.partition_point(|allocation| allocation.start <= address);
    snapshot.get(at.checked_sub(1)?)
}
