//! Who touched which byte last: the evidence for races between warps (shared memory) and blocks (global memory).

use super::counters::Access;
use std::collections::{HashMap, HashSet};

/// The last to write, read and atomically change one byte, and by which instruction.
#[derive(Clone, Copy, Default)]
struct Cell {
    who: [u32; 3],
    at: [u16; 3],
}

const WRITE: usize = 0;
const READ: usize = 1;
const ATOMIC: usize = 2;

/// Two accesses that nothing orders.
#[derive(Debug, PartialEq, Eq)]
pub struct Conflict {
    pub what: &'static str,
    /// The other warp or block, unless there are several.
    pub other: Option<u32>,
    /// The instruction of the other access.
    pub at: usize,
    pub address: u64,
}

impl Cell {
    /// Notes an access, or returns the index of what conflicts with it. `is_other` says whether a stamp belongs to
    /// someone whose access is not ordered before this one.
    fn access(
        &mut self,
        access: Access,
        me: u32,
        many: u32,
        at: usize,
        is_other: impl Fn(u32) -> bool,
    ) -> Option<(usize, &'static str)> {
        let other = |index: usize, what| is_other(self.who[index]).then_some((index, what));
        let found = match access {
            Access::Write => other(WRITE, "write after write")
                .or_else(|| other(READ, "write after read"))
                .or_else(|| other(ATOMIC, "write after atomic")),
            Access::Read => other(WRITE, "read after write").or_else(|| other(ATOMIC, "read after atomic")),
            Access::Atomic => other(WRITE, "atomic after write").or_else(|| other(READ, "atomic after read")),
        };
        let mine = match access {
            Access::Write => WRITE,
            Access::Read => READ,
            Access::Atomic => ATOMIC,
        };
        if found.is_none() {
            self.who[mine] = if is_other(self.who[mine]) && mine != WRITE { many } else { me };
            self.at[mine] = at.min(u16::MAX as usize) as u16;
        }
        found
    }
}

/// Shared memory of one block. A stamp is `epoch * 64 + warp + 1`; barriers end an epoch.
pub struct SharedRaces {
    cells: Vec<Cell>,
    epoch: u32,
}

const STAMPS: u32 = 64;

impl SharedRaces {
    pub fn new(bytes: usize) -> SharedRaces {
        SharedRaces { cells: vec![Cell::default(); bytes], epoch: 1 }
    }

    /// Everything before is ordered before everything after.
    pub fn order(&mut self) {
        self.epoch += 1;
        if self.epoch == u32::MAX / STAMPS {
            self.cells.fill(Cell::default());
            self.epoch = 1;
        }
    }

    pub fn access(
        &mut self,
        offset: u64,
        bytes: u64,
        access: Access,
        warp: u32,
        at: usize,
    ) -> Option<Conflict> {
        let (epoch, me) = (self.epoch, self.epoch * STAMPS + warp + 1);
        let many = epoch * STAMPS + STAMPS - 1;
        for address in offset..offset + bytes {
            let cell = &mut self.cells[address as usize];
            let is_other = |stamp: u32| stamp / STAMPS == epoch && stamp != me;
            if let Some((index, what)) = cell.access(access, me, many, at, is_other) {
                let other = (cell.who[index] != many).then_some(cell.who[index] % STAMPS - 1);
                return Some(Conflict { what, other, at: cell.at[index] as usize, address });
            }
        }
        None
    }
}

const PAGE: u64 = 1024;
const MANY_BLOCKS: u32 = u32::MAX;

/// Global memory during one launch, whose blocks run one after another.
///
/// A block that fences and then changes an atomic hands its writes to each block that changes the same atomic later;
/// that is how "the last block adds up" is written, and no race.
#[derive(Default)]
pub struct GlobalRaces {
    pages: HashMap<u64, Box<[Cell; PAGE as usize]>>,
    /// For each atomic, the blocks whose writes are visible to whom acquires it.
    released: HashMap<u64, HashSet<u32>>,
    /// Blocks whose writes the present block may see.
    ordered: HashSet<u32>,
    has_fenced: bool,
    blocks_run: usize,
    block: u32,
}

impl GlobalRaces {
    pub fn start_block(&mut self, block: u32) {
        self.block = block + 1;
        self.blocks_run += 1;
        self.ordered.clear();
        self.has_fenced = false;
    }

    pub fn fence(&mut self) {
        self.has_fenced = true;
    }

    /// An atomic or strong access to this address.
    pub fn synchronise(&mut self, address: u64) {
        if let Some(released) = self.released.get(&address) {
            self.ordered.extend(released);
        }
        if self.has_fenced {
            let released = self.released.entry(address).or_default();
            released.insert(self.block);
            released.extend(&self.ordered);
        }
    }

    pub fn access(&mut self, address: u64, bytes: u64, access: Access, at: usize) -> Option<Conflict> {
        let (me, ordered) = (self.block, &self.ordered);
        let sees_all = ordered.iter().filter(|&&block| block != me).count() + 1 >= self.blocks_run;
        for address in address..address + bytes {
            let page = self
                .pages
                .entry(address / PAGE)
                .or_insert_with(|| Box::new([Cell::default(); PAGE as usize]));
            let cell = &mut page[(address % PAGE) as usize];
            let is_other = |block: u32| block != 0 && block != me && !sees_all && !ordered.contains(&block);
            if let Some((index, what)) = cell.access(access, me, MANY_BLOCKS, at, is_other) {
                let other = (cell.who[index] != MANY_BLOCKS).then(|| cell.who[index] - 1);
                return Some(Conflict { what, other, at: cell.at[index] as usize, address });
            }
        }
        None
    }
}
