//! A block: its shared memory, and its warps run in turns between barriers.

use super::instruction::{NONE, Preset, Special};
use super::launch::Launch;
use super::races::{GlobalRaces, SharedRaces};
use super::warp::{Stop, Warp};
use crate::random::Random;
use crate::status::Status;

pub struct Block {
    pub index: [u32; 3],
    pub shared: Vec<u8>,
    /// A bit for each byte of shared memory that was written.
    pub shared_written: Vec<u32>,
    /// A bit for each byte of shared memory that a cp.async is writing; empty if neither reads nor races are looked at.
    pub shared_under_way: Vec<u32>,
    pub shared_races: Option<SharedRaces>,
    /// Kept over all blocks of a launch.
    pub global_races: Option<GlobalRaces>,
}

impl Block {
    pub fn new(launch: &Launch) -> Block {
        let bytes = launch.program.static_shared + launch.dynamic_shared;
        let checks = launch.checks;
        Block {
            index: [0; 3],
            shared: vec![0; bytes],
            shared_written: if checks.init { vec![0; bytes / 32 + 1] } else { Vec::new() },
            shared_under_way: if checks.init || checks.race { vec![0; bytes / 32 + 1] } else { Vec::new() },
            shared_races: checks.race.then(|| SharedRaces::new(bytes)),
            global_races: checks.global_race.then(GlobalRaces::default),
        }
    }
}

/// What a barrier instruction does; `Instruction::aux` holds it.
pub mod barrier {
    pub const SYNC: u32 = 0;
    pub const ARRIVE: u32 = 1;
    pub const POPC: u32 = 2;
    pub const AND: u32 = 3;
    pub const OR: u32 = 4;
    pub const KIND: u32 = 15;
    pub const NEGATED: u32 = 16;
}

/// One of the 16 barriers of a block.
#[derive(Clone, Default)]
struct Barrier {
    waiting: Vec<usize>,
    /// Threads that arrived without waiting.
    arrived: u32,
    /// Threads that it waits for, if the instruction said so.
    needed: Option<u32>,
    trues: u32,
    falses: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Waiting,
    Done,
}

/// The warps of one block at a time. A worker keeps them from block to block.
pub struct Worker<'l> {
    launch: &'l Launch,
    block: Box<Block>,
    warps: Vec<Warp>,
}

impl<'l> Worker<'l> {
    pub fn new(launch: &'l Launch) -> Worker<'l> {
        let mut block = Box::new(Block::new(launch));
        let place: *mut Block = &mut *block;
        let warps = (0..launch.warps()).map(|id| Warp::new(launch, place, id)).collect();
        let mut worker = Worker { launch, block, warps };
        worker.set_presets();
        worker
    }

    /// Constants and parameters, the same for all blocks.
    fn set_presets(&mut self) {
        for warp in &mut self.warps {
            warp.alive = !0;
            for preset in &self.launch.program.presets {
                let value = match preset.preset {
                    Preset::Constant(value) => value,
                    Preset::Param { offset, size } => {
                        let mut bytes = [0; 8];
                        bytes[..size].copy_from_slice(&self.launch.params[offset..offset + size]);
                        u64::from_le_bytes(bytes)
                    }
                    Preset::Special(_) => continue,
                };
                if preset.is_wide {
                    warp.set(preset.slot, &[value; 32], !0);
                } else {
                    warp.set(preset.slot, &[value as u32; 32], !0);
                }
            }
        }
    }

    /// Runs the block at a position of the launch's order. Stops early when the launch has failed before it.
    pub fn run(&mut self, position: u64) {
        let launch = self.launch;
        let linear = launch.linear_at(position);
        self.block.index = launch.block_at(linear);
        self.block.shared.fill(0xff);
        self.block.shared_written.fill(0);
        self.block.shared_under_way.fill(0);
        if let Some(races) = &mut self.block.shared_races {
            races.order();
        }
        if let Some(races) = &mut self.block.global_races {
            races.start_block(linear as u32);
        }
        for warp in &mut self.warps {
            start(warp, launch, self.block.index);
        }
        let mut random = Random::new(launch.seed, linear);
        let mut order: Vec<usize> = (0..self.warps.len()).collect();
        let mut states = vec![State::Ready; self.warps.len()];
        let mut barriers = vec![Barrier::default(); 16];
        let code = &launch.program.code;
        loop {
            if launch.seed != 0 {
                random.shuffle(&mut order);
            }
            for &w in &order {
                if states[w] != State::Ready {
                    continue;
                }
                match self.warps[w].run(code) {
                    Stop::Fault => return,
                    Stop::Done => states[w] = State::Done,
                    Stop::Slice if launch.is_overdue() => {
                        let text = "the launch runs longer than SIMGPU_TIMEOUT allows".to_string();
                        self.warps[w].fault(0, Status::LaunchTimeout, text);
                        return;
                    }
                    Stop::Slice => {}
                    Stop::Barrier => {
                        if !self.arrive(w, &mut states, &mut barriers) {
                            return;
                        }
                    }
                }
            }
            if launch.has_failed_before(position) || states.iter().all(|&state| state == State::Done) {
                return;
            }
            match self.release(&mut states, &mut barriers) {
                Some(true) => {}
                Some(false) if states.contains(&State::Ready) => {}
                Some(false) => return self.deadlock(&states),
                None => return,
            }
        }
    }

    /// Lets a warp arrive at the barrier at its pc.
    fn arrive(&mut self, w: usize, states: &mut [State], barriers: &mut [Barrier]) -> bool {
        let warp = &mut self.warps[w];
        let i = &self.launch.program.code[warp.pc as usize];
        let lane = warp.mask.trailing_zeros();
        let id = if i.a == NONE { i.imm as u32 } else { warp.get::<u32>(i.a)[lane as usize] };
        let Some(barrier) = barriers.get_mut(id as usize) else {
            warp.fault(lane, Status::LaunchFailed, format!("there is no barrier {id}"));
            return false;
        };
        if i.b != NONE {
            barrier.needed = Some(warp.get::<u32>(i.b)[lane as usize]);
        }
        if i.psrc != NONE {
            let bits = warp.predicate(i.psrc);
            let bits = if i.aux & barrier::NEGATED != 0 { !bits } else { bits } & warp.mask;
            barrier.trues += bits.count_ones();
            barrier.falses += (warp.mask & !bits).count_ones();
        }
        if i.aux & barrier::KIND == barrier::ARRIVE {
            barrier.arrived += 32;
            warp.pc += 1;
        } else {
            barrier.waiting.push(w);
            states[w] = State::Waiting;
        }
        true
    }

    /// Releases the barriers that are complete. None: the launch has failed.
    fn release(&mut self, states: &mut [State], barriers: &mut [Barrier]) -> Option<bool> {
        let live = states.iter().filter(|&&state| state != State::Done).count() as u32 * 32;
        let mut any = false;
        for barrier in barriers.iter_mut() {
            let arrived = barrier.arrived + barrier.waiting.len() as u32 * 32;
            if barrier.waiting.is_empty() || arrived < barrier.needed.unwrap_or(live) {
                continue;
            }
            if self.launch.checks.sync && barrier.needed.is_none() && !self.is_uniform(barrier, states) {
                return None;
            }
            for w in std::mem::take(&mut barrier.waiting) {
                self.leave(w, barrier);
                states[w] = State::Ready;
            }
            *barrier = Barrier::default();
            any = true;
        }
        if any && let Some(races) = &mut self.block.shared_races {
            races.order();
        }
        Some(any)
    }

    /// Gives a warp the barrier's result and lets it go on.
    fn leave(&mut self, w: usize, barrier: &Barrier) {
        let warp = &mut self.warps[w];
        let i = &self.launch.program.code[warp.pc as usize];
        let mask = warp.mask;
        let all = |condition: bool| if condition { !0 } else { 0 };
        match i.aux & barrier::KIND {
            barrier::POPC => warp.set(i.dst, &[barrier.trues; 32], mask),
            barrier::AND => warp.set_predicate(i.pdst, all(barrier.falses == 0), mask),
            barrier::OR => warp.set_predicate(i.pdst, all(barrier.trues > 0), mask),
            _ => {}
        }
        warp.pc += 1;
    }

    /// Whether all warps that have not ended wait at one and the same instruction; else reports.
    fn is_uniform(&mut self, barrier: &Barrier, states: &[State]) -> bool {
        let first = barrier.waiting[0];
        let pc = self.warps[first].pc;
        let stray = (0..states.len()).find(|&w| states[w] != State::Done && self.warps[w].pc != pc);
        let Some(w) = stray else { return true };
        let other = self.launch.instruction_place(self.warps[w].pc as usize);
        let text = format!("divergent barrier: warp {w} waits at another barrier, {other}");
        let lane = self.warps[first].mask.trailing_zeros();
        self.warps[first].fault(lane, Status::LaunchFailed, text);
        false
    }

    fn deadlock(&mut self, states: &[State]) {
        let waiting = states.iter().position(|&state| state == State::Waiting).unwrap_or(0);
        let text = "divergent barrier: it waits for threads that never arrive".to_string();
        let lane = self.warps[waiting].mask.trailing_zeros();
        self.warps[waiting].fault(lane, Status::LaunchFailed, text);
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        for warp in &self.warps {
            self.launch.add_counters(&warp.counters);
        }
    }
}

/// Puts a warp at the start of a block.
fn start(warp: &mut Warp, launch: &Launch, index: [u32; 3]) {
    warp.alive = !0;
    let [width, height, _] = launch.block_size;
    for preset in &launch.program.presets {
        let Preset::Special(special) = preset.preset else { continue };
        let mut values = [0u32; 32];
        for (k, value) in values.iter_mut().enumerate() {
            let lane = k as u32;
            let thread = warp.id * 32 + lane;
            *value = match special {
                Special::Tid(0) => thread % width,
                Special::Tid(1) => thread / width % height,
                Special::Tid(_) => thread / width / height,
                Special::Ntid(axis) => launch.block_size[axis],
                Special::Ctaid(axis) => index[axis],
                Special::Nctaid(axis) => launch.grid[axis],
                Special::LaneId => lane,
                Special::WarpId => warp.id,
                Special::NumWarps => launch.warps(),
                // Blocks are dealt to the multiprocessors in turn.
                Special::SmId => (launch.linear_of(index) % 108) as u32,
                Special::NumSms => 108,
                Special::GridId => launch.number as u32,
                Special::LanemaskEq => 1 << lane,
                Special::LanemaskLt => (1 << lane) - 1,
                Special::LanemaskLe => !0 >> (31 - lane),
                Special::LanemaskGt => !(!0 >> (31 - lane)),
                Special::LanemaskGe => !((1 << lane) - 1),
                Special::DynamicShared => launch.dynamic_shared as u32,
                Special::TotalShared => (launch.program.static_shared + launch.dynamic_shared) as u32,
            };
        }
        if preset.is_wide {
            warp.set(preset.slot, &values.map(u64::from), !0);
        } else {
            warp.set(preset.slot, &values, !0);
        }
    }
    warp.restart(launch.threads() - warp.id * 32);
}
