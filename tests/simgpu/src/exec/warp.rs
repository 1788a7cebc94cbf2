//! A warp: 32 lanes in lock-step.
//!
//! Every lane has a program counter. The lanes with the lowest one run; when they reach the place where others wait,
//! they merge with them. This needs no analysis of the control flow, reconverges after `if` and after loops, and lets
//! lanes of different branches run to a common `shfl` or barrier.

use super::block::Block;
use super::copies::Copies;
use super::counters::Counters;
use super::instruction::{Flow, Instruction, NONE};
use super::lanes::{Lane, Lanes};
use super::launch::{Fault, Launch};
use super::memory::Range;
use crate::status::Status;
use std::collections::HashMap;

/// Why a warp returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// It waits at the barrier instruction at its pc.
    Barrier,
    Done,
    /// It has run for long without a barrier: others may have to move before it can.
    Slice,
    Fault,
}

/// Branches that a warp may take before it gives way to the other warps of its block.
const SLICE: u32 = 1 << 16;

pub struct Warp {
    registers: Vec<Lanes>,
    predicates: Vec<u32>,
    /// Lanes that exist.
    pub threads: u32,
    /// Lanes that have not exited.
    pub alive: u32,
    /// Lanes that run now, and where.
    pub mask: u32,
    pub pc: u32,
    /// Where each lane that does not run waits.
    pub(super) pcs: [u32; 32],
    /// The lowest of those.
    pub(super) next_wait: u32,
    /// Lanes that have arrived at a barrier before other lanes of the warp, and where.
    pub(super) held: u32,
    pub(super) held_at: u32,
    /// For a barrier and an instruction: whether who is there has gone past the barrier.
    pub(super) passed: HashMap<(u32, u32), bool>,
    pub id: u32,
    pub block: *mut Block,
    pub launch: *const Launch,
    pub local: Vec<u8>,
    /// The allocations that the last accesses fell into.
    pub recent: [Range; 4],
    pub recent_at: usize,
    pub counters: Counters,
    pub has_fault: bool,
    /// Whether any check or counter wants to see every access.
    pub is_watched: bool,
    /// The same for shared memory alone.
    pub is_shared_watched: bool,
    /// Instructions executed, for `%clock`.
    pub clock: u64,
    branches: u32,
    pub copies: Copies,
}

impl Warp {
    pub fn new(launch: &Launch, block: *mut Block, id: u32) -> Warp {
        let program = &launch.program;
        Warp {
            registers: program.register_file(),
            predicates: vec![0; program.predicates],
            threads: 0,
            alive: 0,
            mask: 0,
            pc: 0,
            pcs: [0; 32],
            next_wait: u32::MAX,
            held: 0,
            held_at: 0,
            passed: HashMap::new(),
            id,
            block,
            launch,
            local: vec![0; program.local * 32],
            recent: [Range::NOWHERE; 4],
            recent_at: 0,
            counters: Counters::default(),
            has_fault: false,
            is_watched: launch.checks.watches_accesses(),
            is_shared_watched: launch.checks.watches_shared(),
            clock: 0,
            branches: 0,
            copies: Copies::default(),
        }
    }

    /// Puts all lanes that exist at the start of the program.
    pub fn restart(&mut self, threads: u32) {
        self.threads = if threads >= 32 { !0 } else { (1 << threads) - 1 };
        (self.alive, self.mask, self.held) = (self.threads, self.threads, 0);
        self.pc = 0;
        self.next_wait = u32::MAX;
        self.copies.clear();
    }

    #[inline(always)]
    pub fn launch<'l>(&self) -> &'l Launch {
        // SAFETY: a launch outlives its warps; `Launch::run` returns only when all are dropped.
        unsafe { &*self.launch }
    }

    #[inline(always)]
    pub fn block(&mut self) -> &mut Block {
        // SAFETY: the block of a worker outlives its warps, and a worker runs one warp at a time.
        unsafe { &mut *self.block }
    }

    /// A register of all lanes.
    #[inline(always)]
    pub fn get<T: Lane>(&self, slot: u32) -> &[T; 32] {
        debug_assert!((slot as usize) + size_of::<T>() / 4 <= self.registers.len());
        // SAFETY: `Program::verify` has seen that the slot, and one more, lie in the register file. `Lane` types have
        // 4 or 8 bytes, any bits are a value of them, and `Lanes` is aligned to 64.
        unsafe { &*self.registers.as_ptr().add(slot as usize).cast() }
    }

    /// Where a register of all lanes stands.
    #[inline(always)]
    pub fn place(&mut self, slot: u32) -> *mut [u32; 32] {
        debug_assert!((slot as usize) < self.registers.len());
        // SAFETY: `Program::verify` has seen that the slot lies in the register file.
        unsafe { self.registers.as_mut_ptr().add(slot as usize).cast() }
    }

    /// Writes the lanes of `mask`.
    #[inline(always)]
    pub fn set<T: Lane>(&mut self, slot: u32, values: &[T; 32], mask: u32) {
        debug_assert!((slot as usize) + size_of::<T>() / 4 <= self.registers.len());
        // SAFETY: as in `get`; the borrow is unique because `self` is.
        let register: &mut [T; 32] = unsafe { &mut *self.registers.as_mut_ptr().add(slot as usize).cast() };
        if mask == self.alive {
            // Lanes that have exited or never were may hold anything.
            *register = *values;
        } else {
            for k in 0..32 {
                register[k] = if mask >> k & 1 != 0 { values[k] } else { register[k] };
            }
        }
    }

    #[inline(always)]
    pub fn predicate(&self, index: u32) -> u32 {
        debug_assert!((index as usize) < self.predicates.len());
        // SAFETY: `Program::verify` has checked the index.
        unsafe { *self.predicates.get_unchecked(index as usize) }
    }

    #[inline(always)]
    pub fn set_predicate(&mut self, index: u32, bits: u32, mask: u32) {
        debug_assert!((index as usize) < self.predicates.len());
        // SAFETY: `Program::verify` has checked the index.
        let predicate = unsafe { self.predicates.get_unchecked_mut(index as usize) };
        *predicate = (*predicate & !mask) | (bits & mask);
    }

    /// Ends the launch with an error at this lane of the current instruction.
    #[cold]
    pub fn fault(&mut self, lane: u32, status: Status, message: String) {
        self.has_fault = true;
        let launch = self.launch();
        let [x, y, _] = launch.block_size;
        let thread = self.id * 32 + lane;
        let block = self.block().index;
        let place =
            Fault::place(launch, self.pc as usize, block, [thread % x, thread / x % y, thread / x / y]);
        launch.fail(Fault { status, text: format!("{message}\n    {place}") });
    }

    /// Runs until a barrier, the end, an error, or for a slice.
    pub fn run(&mut self, code: &[Instruction]) -> Stop {
        if self.launch().checks.count {
            self.run_counting::<true>(code)
        } else {
            self.run_counting::<false>(code)
        }
    }

    fn run_counting<const COUNT: bool>(&mut self, code: &[Instruction]) -> Stop {
        self.branches = 0;
        loop {
            if self.pc >= self.next_wait {
                self.park(self.mask, self.pc);
                self.reschedule();
            }
            // Up to where other lanes wait, nothing but control changes the mask or the order.
            let mut limit = self.next_wait;
            if self.held != 0 {
                if !self.may_still_end() {
                    return Stop::Fault;
                }
                limit = limit.min(self.pc + 1);
            }
            let straight = &code[..code.len().min(limit as usize)];
            let mut pc = self.pc;
            while let Some(i) = straight.get(pc as usize) {
                if i.flow != Flow::Next {
                    break;
                }
                let mask = self.guarded::<COUNT>(i);
                if mask != 0 {
                    self.pc = pc;
                    // SAFETY: `lanes::pick` chose an operation that this CPU can execute.
                    unsafe { (i.op)(self, i, mask) };
                    if self.has_fault {
                        return Stop::Fault;
                    }
                }
                pc += 1;
            }
            self.pc = pc;
            if pc < limit {
                let i = &code[pc as usize];
                let mask = self.guarded::<COUNT>(i);
                if let Some(stop) = self.flow(i, mask) {
                    return stop;
                }
            }
        }
    }

    /// The lanes that execute an instruction.
    #[inline(always)]
    fn guarded<const COUNT: bool>(&mut self, i: &Instruction) -> u32 {
        let mut mask = self.mask;
        if i.guard != NONE {
            let guard = self.predicate(i.guard >> 1);
            mask &= if i.guard & 1 != 0 { !guard } else { guard };
        }
        self.clock += 1;
        if COUNT {
            self.counters.instructions[i.class as usize] += 1;
            self.counters.lanes += mask.count_ones() as u64;
        }
        mask
    }

    /// Branches, barriers and ends.
    fn flow(&mut self, i: &Instruction, mask: u32) -> Option<Stop> {
        match i.flow {
            Flow::Next => unreachable!("handled by the loop"),
            Flow::Branch => {
                let stay = self.mask & !mask;
                if mask == 0 {
                    self.pc += 1;
                } else if stay == 0 {
                    self.pc = i.target;
                } else {
                    self.counters.divergent_branches += 1;
                    self.park(mask, i.target);
                    self.park(stay, self.pc + 1);
                    self.reschedule();
                }
                return self.slice();
            }
            Flow::BranchIndexed => {
                let table = &self.launch().program.tables[i.target as usize];
                let index = *self.get::<u32>(i.a);
                self.park(self.mask & !mask, self.pc + 1);
                for k in 0..32 {
                    if mask >> k & 1 != 0 {
                        self.pcs[k] = table[(index[k] as usize).min(table.len() - 1)];
                    }
                }
                let before = self.mask;
                self.reschedule();
                self.counters.divergent_branches += (self.mask & before != before) as u64;
                return self.slice();
            }
            Flow::Exit => {
                self.copies.commit(mask);
                self.finish_copies(mask, 0);
                self.alive &= !mask;
                if self.alive == 0 {
                    return Some(Stop::Done);
                }
                self.mask &= !mask;
                if self.mask == 0 {
                    self.reschedule();
                } else {
                    self.pc += 1;
                }
            }
            Flow::Barrier if mask == 0 => self.pc += 1,
            Flow::Barrier => {
                if mask != self.alive {
                    return self.hold(mask);
                }
                self.counters.barriers += 1;
                return Some(Stop::Barrier);
            }
            Flow::Trap if mask == 0 => self.pc += 1,
            Flow::Trap => {
                self.fault(mask.trailing_zeros(), Status::LaunchFailed, "trap executed".into());
                return Some(Stop::Fault);
            }
        }
        None
    }

    fn slice(&mut self) -> Option<Stop> {
        self.branches += 1;
        if self.branches < SLICE { None } else { Some(Stop::Slice) }
    }
}
