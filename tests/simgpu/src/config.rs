//! What the environment says, read once; the checks can be changed later by `simgpu_set_checks`.

use std::sync::{Mutex, OnceLock};

/// What to look for. Bounds, alignment and divergent barriers are always checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Checks {
    /// Reads of global or shared memory that was never written.
    pub init: bool,
    /// Races between the warps of a block on shared memory.
    pub race: bool,
    /// Races between the blocks of a launch on global memory.
    pub global_race: bool,
    /// Barriers that not all threads of the block reach.
    pub sync: bool,
    /// Allocations that are never freed.
    pub leak: bool,
    /// Count instructions, sectors, wavefronts.
    pub count: bool,
    /// Count what goes to and from global memory, and nothing else; part of `count`.
    pub traffic: bool,
}

impl Checks {
    pub fn parse(text: &str) -> Result<Checks, String> {
        let mut checks = Checks::default();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match name {
                "mem" => {}
                "init" => checks.init = true,
                "race" => checks.race = true,
                "global-race" => checks.global_race = true,
                "sync" => checks.sync = true,
                "leak" => checks.leak = true,
                "count" => (checks.count, checks.traffic) = (true, true),
                "traffic" => checks.traffic = true,
                "all" => {
                    let on = Checks { init: true, race: true, global_race: true, sync: true, ..checks };
                    checks = Checks { leak: true, ..on };
                }
                other => {
                    return Err(format!(
                        "no check is called {other}; there are mem, init, race, global-race, sync, leak, count, traffic, all"
                    ));
                }
            }
        }
        Ok(checks)
    }

    pub fn watches_accesses(&self) -> bool {
        self.init || self.race || self.global_race || self.traffic
    }

    pub fn watches_shared(&self) -> bool {
        self.init || self.race || self.count
    }

    /// Whether blocks must run one after another for the findings to be the same each time.
    pub fn needs_one_thread(&self) -> bool {
        self.init || self.race || self.global_race || self.sync
    }
}

pub struct Config {
    pub threads: usize,
    pub seed: u64,
    /// Bytes of device memory.
    pub memory: usize,
    /// Compute capability.
    pub arch: (u32, u32),
    pub driver_version: i32,
    /// Where to write the counters at the end of the process.
    pub stats: Option<String>,
    /// Where to write what was called and launched at the end of the process.
    pub coverage: Option<String>,
    pub timeout_seconds: u64,
    /// Launches return their own errors, as with the real driver.
    pub is_blocking: bool,
    pub trace: bool,
    /// A kernel whose launch of this number, counted from 0, goes wrong.
    pub fail: Option<(String, u64)>,
}

/// A setting as a number; a value that is none is reported and ignored.
fn number<T: std::str::FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.trim().parse().unwrap_or_else(|_| {
            eprintln!("simgpu: {name}={text} is not a number, ignored");
            default
        }),
        Err(_) => default,
    }
}

pub fn get() -> &'static Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    CONFIG.get_or_init(|| {
        let arch = std::env::var("SIMGPU_ARCH").unwrap_or_else(|_| "8.0".into());
        let (major, minor) = arch.split_once('.').unwrap_or((&arch, "0"));
        Config {
            threads: number("SIMGPU_THREADS", 2usize).max(1),
            seed: number("SIMGPU_SEED", 0),
            memory: number("SIMGPU_MEMORY", 8 << 30),
            arch: (major.parse().unwrap_or(8), minor.parse().unwrap_or(0)),
            driver_version: number("SIMGPU_DRIVER_VERSION", 12090),
            stats: std::env::var("SIMGPU_STATS").ok().filter(|path| !path.is_empty()),
            coverage: std::env::var("SIMGPU_COVERAGE").ok().filter(|path| !path.is_empty()),
            timeout_seconds: number("SIMGPU_TIMEOUT", 300),
            is_blocking: std::env::var("CUDA_LAUNCH_BLOCKING").is_ok_and(|value| value == "1"),
            trace: std::env::var("SIMGPU_TRACE").is_ok_and(|value| value == "1"),
            fail: std::env::var("SIMGPU_FAIL").ok().map(|text| {
                let (kernel, launch) = text.split_once(':').unwrap_or((&text, "0"));
                (kernel.to_string(), launch.parse().unwrap_or(0))
            }),
        }
    })
}

/// Checks, seed and threads can be changed between launches.
#[derive(Clone, Copy)]
pub struct Live {
    pub checks: Checks,
    pub seed: u64,
    pub threads: usize,
}

static LIVE: Mutex<Option<Live>> = Mutex::new(None);

fn with_live<T>(change: impl FnOnce(&mut Live) -> T) -> T {
    let mut live = LIVE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    change(live.get_or_insert_with(|| {
        let text = std::env::var("SIMGPU_CHECK").unwrap_or_default();
        let mut checks = Checks::parse(&text).unwrap_or_else(|error| {
            eprintln!("simgpu: SIMGPU_CHECK: {error}");
            Checks::default()
        });
        checks.count |= get().stats.is_some();
        checks.traffic |= checks.count;
        Live { checks, seed: get().seed, threads: get().threads }
    }))
}

pub fn live() -> Live {
    with_live(|live| *live)
}

pub fn change_live(change: impl FnOnce(&mut Live)) {
    with_live(change);
}
