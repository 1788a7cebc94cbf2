//! Which lanes of a warp run next, and what becomes of those that reach a barrier before the others.

use super::instruction::{Flow, NONE, Program};
use super::warp::{Stop, Warp};
use crate::status::Status;

impl Warp {
    /// Chooses the lanes with the lowest program counter, those at a barrier last.
    #[cold]
    pub(super) fn reschedule(&mut self) {
        if self.alive & !self.held == 0 {
            self.park(self.held, self.held_at);
            self.held = 0;
        }
        let ready = self.alive & !self.held;
        let mut lowest = u32::MAX;
        for k in 0..32 {
            if ready >> k & 1 != 0 {
                lowest = lowest.min(self.pcs[k]);
            }
        }
        (self.mask, self.next_wait) = (0, u32::MAX);
        for k in 0..32 {
            if ready >> k & 1 != 0 {
                if self.pcs[k] == lowest {
                    self.mask |= 1 << k;
                } else {
                    self.next_wait = self.next_wait.min(self.pcs[k]);
                }
            }
        }
        self.pc = lowest;
    }

    /// Lets lanes wait at a place.
    pub(super) fn park(&mut self, mask: u32, pc: u32) {
        for k in 0..32 {
            if mask >> k & 1 != 0 {
                self.pcs[k] = pc;
            }
        }
    }

    /// Keeps lanes at the barrier at `pc` while the others of the warp run on. Those may end, for a barrier does not
    /// wait for threads that have exited, or come to the same instruction; anything else is an error.
    pub(super) fn hold(&mut self, mask: u32) -> Option<Stop> {
        if self.held != 0 && self.held_at != self.pc {
            self.report_divergence(mask, self.pc);
            return Some(Stop::Fault);
        }
        let passed = self.mask & !mask;
        self.park(passed, self.pc + 1);
        (self.held, self.held_at) = (self.held | mask, self.pc);
        self.reschedule();
        None
    }

    /// While lanes are held: whether the running ones are on a way to the end, or to the barrier, that none of the held
    /// lanes must take. Else they have gone past the barrier, which is reported.
    #[cold]
    pub(super) fn may_still_end(&mut self) -> bool {
        let (barrier, pc) = (self.held_at, self.pc);
        if pc == barrier {
            return true;
        }
        let program = &self.launch().program;
        let next = &program.code[pc as usize];
        let is_passed = *self
            .passed
            .entry((barrier, pc))
            .or_insert_with(|| next.flow != Flow::Exit && must_pass(program, barrier, pc));
        if is_passed {
            self.report_divergence(self.mask, pc);
        }
        !is_passed
    }

    fn report_divergence(&mut self, others: u32, pc: u32) {
        let place = self.launch().instruction_place(pc as usize);
        let text = format!(
            "divergent barrier: lanes {:#010x} of warp {} arrived, lanes {others:#010x} went on to {place}",
            self.held, self.id
        );
        self.pc = self.held_at;
        self.fault(self.held.trailing_zeros(), Status::LaunchFailed, text);
    }

    /// Ends lanes that have only the end before them, so that nobody waits for them.
    pub fn let_exit(&mut self) {
        let code = &self.launch().program.code;
        for k in 0..32 {
            let bit = 1 << k;
            if self.alive & !self.mask & bit != 0 {
                let next = &code[self.pcs[k] as usize];
                if next.flow == Flow::Exit && next.guard == NONE {
                    self.alive &= !bit;
                }
            }
        }
        self.next_wait = u32::MAX;
        for k in 0..32 {
            if (self.alive & !self.mask & !self.held) >> k & 1 != 0 {
                self.next_wait = self.next_wait.min(self.pcs[k]);
            }
        }
    }
}

/// Whether all ways from the instruction after `from` to an end go through `pc`.
fn must_pass(program: &Program, from: u32, pc: u32) -> bool {
    !reaches_end(program, from + 1, Some(pc)) && reaches_end(program, from + 1, None)
}

fn reaches_end(program: &Program, from: u32, without: Option<u32>) -> bool {
    let mut seen = vec![false; program.code.len()];
    let mut todo = vec![from];
    while let Some(at) = todo.pop() {
        if Some(at) == without || std::mem::replace(&mut seen[at as usize], true) {
            continue;
        }
        let i = &program.code[at as usize];
        match i.flow {
            Flow::Exit => return true,
            Flow::Branch => todo.push(i.target),
            Flow::BranchIndexed => todo.extend(&program.tables[i.target as usize]),
            _ => {}
        }
        if i.guard != NONE || !matches!(i.flow, Flow::Branch | Flow::BranchIndexed | Flow::Trap) {
            todo.push(at + 1);
        }
    }
    false
}
