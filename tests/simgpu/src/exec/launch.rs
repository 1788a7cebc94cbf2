//! One launch of a kernel: its blocks, in order or permuted, on one thread or several.

use super::block::Worker;
use super::counters::Counters;
use super::instruction::Program;
use super::memory::Snapshot;
use super::touched::Touched;
use crate::config::Checks;
use crate::random::Random;
use crate::status::Status;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What went wrong in a launch.
#[derive(Clone, Debug)]
pub struct Fault {
    pub status: Status,
    pub text: String,
}

/// What to launch.
#[derive(Clone)]
pub struct Request {
    pub program: Arc<Program>,
    pub grid: [u32; 3],
    pub block_size: [u32; 3],
    pub dynamic_shared: usize,
    pub params: Vec<u8>,
}

pub struct Launch {
    pub program: Arc<Program>,
    pub grid: [u32; 3],
    pub block_size: [u32; 3],
    pub dynamic_shared: usize,
    pub params: Vec<u8>,
    pub checks: Checks,
    pub seed: u64,
    pub snapshot: Snapshot,
    /// If the counters want to know.
    pub touched: Option<Touched>,
    /// Launches of the process before this one.
    pub number: u64,
    threads: usize,
    deadline: Instant,
    /// The order of blocks, if it is not the natural one.
    order: Option<Vec<u32>>,
    /// The first position, in the order of blocks, that failed, and with what.
    failed_at: AtomicU64,
    fault: Mutex<Option<(u64, Fault)>>,
    counters: Mutex<Counters>,
}

/// A launch that has more work than this is worth other threads.
const WORTH_THREADS: Duration = Duration::from_micros(300);

impl Launch {
    pub fn new(request: &Request, snapshot: Snapshot, number: u64) -> Launch {
        let live = crate::config::live();
        let blocks = request.grid.iter().map(|&n| n as u64).product::<u64>();
        let order = (live.seed != 0 && blocks <= 1 << 24).then(|| {
            let mut order: Vec<u32> = (0..blocks as u32).collect();
            Random::new(live.seed, u64::MAX).shuffle(&mut order);
            order
        });
        let timeout = Duration::from_secs(crate::config::get().timeout_seconds);
        Launch {
            program: request.program.clone(),
            grid: request.grid,
            block_size: request.block_size,
            dynamic_shared: request.dynamic_shared,
            params: request.params.clone(),
            checks: live.checks,
            seed: live.seed,
            touched: live.checks.traffic.then(|| Touched::new(&snapshot)),
            snapshot,
            number,
            threads: live.threads,
            deadline: Instant::now() + timeout,
            order,
            failed_at: AtomicU64::new(u64::MAX),
            fault: Mutex::new(None),
            counters: Mutex::new(Counters::default()),
        }
    }

    pub fn blocks(&self) -> u64 {
        self.grid.iter().map(|&n| n as u64).product()
    }

    /// Threads a block.
    pub fn threads(&self) -> u32 {
        self.block_size.iter().product()
    }

    pub fn warps(&self) -> u32 {
        self.threads().div_ceil(32)
    }

    /// The lanes of a warp that exist.
    pub fn threads_of_warp(&self, warp: u32) -> u32 {
        let threads = self.threads() - warp * 32;
        if threads >= 32 { !0 } else { (1 << threads) - 1 }
    }

    pub fn linear_at(&self, position: u64) -> u64 {
        self.order.as_ref().map_or(position, |order| order[position as usize] as u64)
    }

    pub fn block_at(&self, linear: u64) -> [u32; 3] {
        let (x, y) = (self.grid[0] as u64, self.grid[1] as u64);
        [(linear % x) as u32, (linear / x % y) as u32, (linear / x / y) as u32]
    }

    pub fn linear_of(&self, [x, y, z]: [u32; 3]) -> u64 {
        x as u64 + self.grid[0] as u64 * (y as u64 + self.grid[1] as u64 * z as u64)
    }

    pub fn is_overdue(&self) -> bool {
        Instant::now() > self.deadline
    }

    pub fn has_failed_before(&self, position: u64) -> bool {
        self.failed_at.load(Relaxed) < position
    }

    /// Keeps the fault until `run_one` files it under the position of the block.
    pub fn fail(&self, fault: Fault) {
        FAULT.with(|slot| *slot.borrow_mut() = Some(fault));
    }

    pub fn add_counters(&self, counters: &Counters) {
        self.counters.lock().expect("no thread panics with it").add(counters);
    }

    /// Source place and PTX line of an instruction.
    pub fn instruction_place(&self, at: usize) -> String {
        let Some(origin) = self.program.origins.get(at) else { return "an unknown instruction".into() };
        let ptx = format!("PTX line {}, {}", origin.ptx_line, origin.opcode);
        match self.program.source(at) {
            Some(source) => format!("{source} ({ptx})"),
            None => ptx,
        }
    }

    /// Runs all blocks. The same launch has the same result whatever the number of threads.
    pub fn run(&self) -> Result<Counters, Fault> {
        let blocks = self.blocks();
        let next = AtomicU64::new(0);
        let may_share = self.threads > 1 && !self.checks.needs_one_thread() && !self.program.communicates;
        let mut worker = Worker::new(self);
        if may_share && blocks > 1 {
            let start = Instant::now();
            self.run_one(&mut worker, &next);
            if start.elapsed() * (blocks - 1).min(1 << 20) as u32 > WORTH_THREADS {
                let helpers = (self.threads as u64 - 1).min(blocks - 1);
                std::thread::scope(|scope| {
                    for _ in 0..helpers {
                        scope.spawn(|| self.work(&mut Worker::new(self), &next));
                    }
                    self.work(&mut worker, &next);
                });
            }
        }
        self.work(&mut worker, &next);
        drop(worker);
        match self.fault.lock().expect("no thread panics with it").take() {
            Some((_, fault)) => Err(fault),
            None => {
                let mut counters = self.counters.lock().expect("no thread panics with it").clone();
                counters.launches = 1;
                counters.blocks = blocks;
                if let Some(touched) = &self.touched {
                    (counters.global_distinct_read_sectors, counters.global_distinct_written_sectors) =
                        touched.count();
                }
                Ok(counters)
            }
        }
    }

    fn work(&self, worker: &mut Worker, next: &AtomicU64) {
        while self.run_one(worker, next) {}
    }

    /// Runs the next block, if there is one to run. Blocks before a failed one are all run, so that the same one is
    /// reported however many threads there are.
    fn run_one(&self, worker: &mut Worker, next: &AtomicU64) -> bool {
        let position = next.fetch_add(1, Relaxed);
        if position >= self.blocks() || self.has_failed_before(position) {
            return false;
        }
        worker.run(position);
        let Some(fault) = FAULT.with(|slot| slot.borrow_mut().take()) else { return true };
        self.failed_at.fetch_min(position, Relaxed);
        let mut first = self.fault.lock().expect("no thread panics with it");
        if first.as_ref().is_none_or(|(other, _)| position < *other) {
            *first = Some((position, fault));
        }
        false
    }
}

thread_local! {
    /// The fault of the block that this thread runs.
    static FAULT: std::cell::RefCell<Option<Fault>> = const { std::cell::RefCell::new(None) };
}

impl Fault {
    /// "kernel k, file.cu:12 (PTX line 80, ld.global.f32), block (0,0,0), thread (1,0,0)"
    pub fn place(launch: &Launch, at: usize, block: [u32; 3], thread: [u32; 3]) -> String {
        let triple = |[x, y, z]: [u32; 3]| format!("({x},{y},{z})");
        format!(
            "kernel {}, {}, block {}, thread {}",
            launch.program.name,
            launch.instruction_place(at),
            triple(block),
            triple(thread)
        )
    }
}
