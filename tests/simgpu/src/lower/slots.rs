//! Which virtual registers may share a slot: liveness over the control flow, then a linear scan.
//!
//! NVRTC emits static single assignments with hundreds of registers of which a few are alive at a time. Sharing keeps
//! the register file of a warp within the first cache. Lanes take different ways through the program, but each follows
//! the control flow and writes only itself, so the liveness of one thread is right for all.

use crate::exec::instruction::{Flow, Instruction, NONE, WIDE};
use std::collections::HashSet;

/// Virtual registers that an instruction reads and writes.
#[derive(Clone, Default, Debug)]
pub struct Touched {
    pub uses: Vec<u32>,
    pub defs: Vec<u32>,
}

pub struct Shared {
    pub slot_of: Vec<u32>,
    pub slots: usize,
}

/// A set of registers.
#[derive(Clone, PartialEq)]
struct Set(Vec<u64>);

impl Set {
    fn new(size: usize) -> Set {
        Set(vec![0; size.div_ceil(64)])
    }

    fn insert(&mut self, item: u32) {
        self.0[item as usize / 64] |= 1 << (item % 64);
    }

    fn contains(&self, item: u32) -> bool {
        self.0[item as usize / 64] >> (item % 64) & 1 != 0
    }

    fn each(&self, mut visit: impl FnMut(u32)) {
        for (word, &bits) in self.0.iter().enumerate() {
            let mut bits = bits;
            while bits != 0 {
                visit(word as u32 * 64 + bits.trailing_zeros());
                bits &= bits - 1;
            }
        }
    }
}

/// A stretch of instructions with one way in and one way out.
struct Stretch {
    start: usize,
    end: usize,
    next: Vec<usize>,
    /// Read before any certain write.
    needs: Set,
    /// Certainly written.
    writes: Set,
    live_in: Set,
    live_out: Set,
}

/// Replaces virtual registers by slots in all instructions. `pinned` ones keep a slot of their own.
pub fn share(
    code: &mut [Instruction],
    tables: &[Vec<u32>],
    touched: &[Touched],
    wide: &[bool],
    pinned: &HashSet<u32>,
) -> Shared {
    let stretches = live(code, tables, touched, wide.len());
    let intervals = intervals(&stretches, touched, wide.len());
    let shared = scan(&intervals, wide, pinned);
    for i in code {
        for field in [&mut i.dst, &mut i.a, &mut i.b, &mut i.c] {
            if *field != NONE {
                *field = shared.slot_of[*field as usize];
            }
        }
        for item in i.list.iter_mut() {
            *item = shared.slot_of[(*item & !WIDE) as usize] | *item & WIDE;
        }
    }
    shared
}

fn live(code: &[Instruction], tables: &[Vec<u32>], touched: &[Touched], registers: usize) -> Vec<Stretch> {
    let mut is_start = vec![false; code.len() + 1];
    is_start[0] = true;
    for (at, i) in code.iter().enumerate() {
        match i.flow {
            Flow::Branch => {
                is_start[i.target as usize] = true;
                is_start[at + 1] = true;
            }
            Flow::BranchIndexed => {
                for &target in &tables[i.target as usize] {
                    is_start[target as usize] = true;
                }
                is_start[at + 1] = true;
            }
            Flow::Exit | Flow::Trap => is_start[at + 1] = true,
            _ => {}
        }
    }
    let starts: Vec<usize> = (0..code.len()).filter(|&at| is_start[at]).collect();
    let index_of = |at: usize| starts.binary_search(&at).expect("targets start a stretch");
    let mut stretches: Vec<Stretch> = Vec::new();
    for (number, &start) in starts.iter().enumerate() {
        let end = starts.get(number + 1).copied().unwrap_or(code.len());
        let last = &code[end - 1];
        let mut next: Vec<usize> = match last.flow {
            Flow::Branch => vec![index_of(last.target as usize)],
            Flow::BranchIndexed => {
                tables[last.target as usize].iter().map(|&t| index_of(t as usize)).collect()
            }
            _ => vec![],
        };
        let goes_on =
            last.guard != NONE || !matches!(last.flow, Flow::Branch | Flow::BranchIndexed | Flow::Exit);
        if goes_on && end < code.len() {
            next.push(number + 1);
        }
        let (mut needs, mut writes) = (Set::new(registers), Set::new(registers));
        for at in start..end {
            for &register in &touched[at].uses {
                if !writes.contains(register) {
                    needs.insert(register);
                }
            }
            // A guarded write leaves some lanes as they were.
            for &register in &touched[at].defs {
                if code[at].guard == NONE {
                    writes.insert(register);
                } else if !writes.contains(register) {
                    needs.insert(register);
                }
            }
        }
        let (live_in, live_out) = (needs.clone(), Set::new(registers));
        stretches.push(Stretch { start, end, next, needs, writes, live_in, live_out });
    }
    loop {
        let mut changed = false;
        for number in (0..stretches.len()).rev() {
            let mut out = Set::new(registers);
            for &next in &stretches[number].next {
                for (word, &bits) in stretches[next].live_in.0.iter().enumerate() {
                    out.0[word] |= bits;
                }
            }
            let stretch = &mut stretches[number];
            for word in 0..out.0.len() {
                let bits = stretch.needs.0[word] | out.0[word] & !stretch.writes.0[word];
                changed |= bits != stretch.live_in.0[word];
                stretch.live_in.0[word] = bits;
            }
            stretch.live_out = out;
        }
        if !changed {
            return stretches;
        }
    }
}

/// First and last moment of each register; instruction `n` reads at `2n` and writes at `2n + 1`.
fn intervals(stretches: &[Stretch], touched: &[Touched], registers: usize) -> Vec<Option<(usize, usize)>> {
    let mut intervals: Vec<Option<(usize, usize)>> = vec![None; registers];
    let mut extend = |register: u32, moment: usize| {
        let interval = intervals[register as usize].get_or_insert((moment, moment));
        *interval = (interval.0.min(moment), interval.1.max(moment));
    };
    for stretch in stretches {
        stretch.live_in.each(|register| extend(register, 2 * stretch.start));
        stretch.live_out.each(|register| extend(register, 2 * stretch.end));
        for (at, touched) in touched.iter().enumerate().take(stretch.end).skip(stretch.start) {
            // With several results, an operand may still be read after the first result is written.
            let last_read = 2 * at + (touched.defs.len() > 1) as usize;
            for &register in &touched.uses {
                extend(register, last_read);
            }
            for &register in &touched.defs {
                extend(register, 2 * at + 1);
            }
        }
    }
    intervals
}

fn scan(intervals: &[Option<(usize, usize)>], wide: &[bool], pinned: &HashSet<u32>) -> Shared {
    let mut slots = 0u32;
    let mut slot_of = vec![0u32; wide.len()];
    let fresh = |slots: &mut u32, is_wide: bool| {
        let slot = *slots;
        *slots += 1 + is_wide as u32;
        slot
    };
    let mut order: Vec<u32> = Vec::new();
    for register in 0..wide.len() as u32 {
        if pinned.contains(&register) || intervals[register as usize].is_none() {
            slot_of[register as usize] = fresh(&mut slots, wide[register as usize]);
        } else {
            order.push(register);
        }
    }
    order.sort_by_key(|&register| intervals[register as usize]);
    let mut active: Vec<(usize, u32, bool)> = Vec::new();
    let mut free = [Vec::new(), Vec::new()];
    for register in order {
        let (start, end) = intervals[register as usize].expect("filtered above");
        active.retain(|&(last, slot, is_wide)| {
            let is_over = last < start;
            if is_over {
                free[is_wide as usize].push(slot);
            }
            !is_over
        });
        let is_wide = wide[register as usize];
        let slot = free[is_wide as usize].pop().unwrap_or_else(|| fresh(&mut slots, is_wide));
        slot_of[register as usize] = slot;
        active.push((end, slot, is_wide));
    }
    Shared { slot_of, slots: slots as usize + 1 }
}
