//! Training steps run launch by launch, and what each launch did: counters of a simulated GPU, times of a real
//! one. The roofline bench includes this file by its path.

#![allow(dead_code)]

use std::ffi::{CStr, c_char, c_void};
use std::sync::{Arc, Mutex};

use tessera::device::cuda::lower::{self, Task};
use tessera::device::cuda::{Launched, Mode};
use tessera::device::{Buffer, Cuda, CudaOptions, Device, HostSlice, Precision};
use tessera::embed;
use tessera::embed::program::REVERSED;
use tessera::error::Result;
use tessera::meta::{Hessian, Rule};
use tessera::methods::{Constants, Method, Setup};
use tessera::nn::autoencoder::Sizes;
use tessera::nn::{Architecture, Net};
use tessera::tape::plan::Plan;
use tessera::tape::{Kind, Tape};

/// The program of a training step: of Meta-MTL on an auxiliary task, or, for `acai16` and `acai64`, of ACAI.
/// Sizes are those of `tessera bench step`.
pub fn step(net: &str, rule: &str, batch: usize) -> Result<Tape> {
    let autoencoder = match net {
        "acai16" => Some((1, 16, 2)),
        "acai64" => Some((3, 64, 16)),
        _ => None,
    };
    if let Some((colours, depth, latent)) = autoencoder {
        let sizes = Sizes { size: 32, colours, depth, latent, latent_size: 4 };
        return Ok(embed::Method::named("acai")?.record(&embed::Setup { sizes, batch, probe: None })?.tape);
    }
    let input = match net {
        "mnistnet" => [28, 28, 1],
        "omninet" => [105, 105, 1],
        "mininet" => [64, 64, 3],
        _ => [32, 32, 3],
    };
    let setup = Setup {
        net: Net::new(Architecture::named(net)?, input)?,
        batch,
        classes: 10,
        tasks: vec![15; 4],
        rule: Rule::named(rule)?,
        constants: Constants {
            momentum: 0.9,
            weight_decay: 5e-4,
            clip: 5.0,
            inner_steps: 1,
            hessian: Hessian::ThetaOnly,
            train_main_decoder_on_meta: false,
            ..Constants::default()
        },
        unlabelled: false,
    };
    let programs = Method::named("meta-mtl")?.record(&setup)?;
    let auxiliary = programs.into_iter().next_back();
    auxiliary
        .map(|program| program.tape)
        .ok_or_else(|| tessera::error::Error::Device("the method records no program".into()))
}

/// What the CUDA device runs for a program, without one.
pub fn plan(tape: &Tape, precision: Precision) -> Result<(Plan, Vec<Task>)> {
    let plan = lower::plan(tape, precision, true)?;
    let tasks = lower::tasks(&plan, precision);
    Ok((plan, tasks))
}

/// What one launch did.
#[derive(Clone, Debug)]
pub struct Observed {
    pub entry: String,
    pub milliseconds: f32,
    pub traffic: Option<Traffic>,
}

/// Bytes in sectors of 32, by the counters of the simulated GPU.
#[derive(Clone, Copy, Default, Debug)]
pub struct Traffic {
    /// Of distinct sectors: what memory would see of the launch behind a cache without limit.
    pub read: u64,
    pub written: u64,
    /// Of all requests: what passes between L1 and L2 if L1 keeps nothing.
    pub requested: u64,
}

impl Traffic {
    pub fn distinct(&self) -> u64 {
        self.read + self.written
    }
}

/// Functions of the simulated driver; `None` with a real one.
struct Simulator {
    counters: Counters,
    reset: Reset,
}

type Counters = extern "C" fn() -> *const c_char;
type Reset = extern "C" fn();

impl Simulator {
    fn find() -> Option<Self> {
        // SAFETY: symbols are looked up by name; a real driver has none of these.
        let symbol = |name: &CStr| unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        let (counters, reset) = (symbol(c"simgpu_counters_json"), symbol(c"simgpu_reset_counters"));
        if counters.is_null() || reset.is_null() {
            return None;
        }
        // SAFETY: the simulator's functions have these types.
        unsafe {
            let counters = std::mem::transmute::<*mut c_void, Counters>(counters);
            Some(Simulator { counters, reset: std::mem::transmute::<*mut c_void, Reset>(reset) })
        }
    }

    /// What was counted since the last call; `None` if the simulator does not count.
    fn take(&self) -> Option<Traffic> {
        // SAFETY: a text that stays valid until the next call.
        let text = unsafe { CStr::from_ptr((self.counters)()) }.to_string_lossy();
        let kernels: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).ok()?;
        (self.reset)();
        let mut all = Traffic::default();
        for kernel in kernels.values() {
            let bytes = |name: &str| kernel[name].as_u64().map(|sectors| 32 * sectors);
            all.read += bytes("global_distinct_read_sectors")?;
            all.written += bytes("global_distinct_written_sectors")?;
            for kind in ["load", "store", "atomic"] {
                all.requested += bytes(&format!("global_{kind}_sectors"))?;
            }
        }
        (!kernels.is_empty()).then_some(all)
    }
}

/// Runs `work`, with every launch in between observed.
pub fn observe<T>(
    device: &mut Cuda,
    work: impl FnOnce(&mut Cuda) -> Result<T>,
) -> Result<(T, Vec<Observed>)> {
    let seen: Arc<Mutex<Vec<Observed>>> = Arc::default();
    let (to, simulator) = (seen.clone(), Simulator::find());
    if let Some(simulator) = &simulator {
        (simulator.reset)();
    }
    device.watch(Some(Box::new(move |launched: &Launched<'_>| {
        let traffic = simulator.as_ref().and_then(Simulator::take);
        let (entry, milliseconds) = (launched.entry.to_string(), launched.milliseconds);
        if let Ok(mut seen) = to.lock() {
            seen.push(Observed { entry, milliseconds, traffic });
        }
    })))?;
    let done = work(device);
    device.watch(None)?;
    let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    Ok((done?, seen))
}

pub fn options(precision: Precision) -> CudaOptions {
    CudaOptions { precision, mode: Mode::Steps, ..CudaOptions::default() }
}

/// A program with buffers of small positive numbers, labels 0 and 1, and a batch in reverse.
pub struct Prepared {
    program: tessera::device::Program,
    leaves: Vec<Buffer>,
}

impl Prepared {
    pub fn new(device: &mut Cuda, tape: &Tape) -> Result<Self> {
        let program = device.prepare(tape)?;
        let bindings = device.plan(program).bindings.clone();
        let mut leaves = Vec::with_capacity(bindings.len());
        for binding in bindings {
            let buffer = device.allocate(binding.kind, binding.len)?;
            match binding.kind {
                Kind::Real => {
                    let value = |i: usize| 0.01 + (i * 37 % 101) as f32 * 1e-3;
                    let values: Vec<f32> = (0..binding.len).map(value).collect();
                    device.write(buffer, HostSlice::F32(&values))?;
                }
                Kind::U32 => {
                    let reversed = binding.name == REVERSED;
                    let value = |i: usize| if reversed { binding.len - 1 - i } else { i % 2 };
                    let values: Vec<u32> = (0..binding.len).map(|i| value(i) as u32).collect();
                    device.write(buffer, HostSlice::U32(&values))?;
                }
                Kind::U8 => {}
            }
            leaves.push(buffer);
        }
        Ok(Prepared { program, leaves })
    }

    /// Runs the program once; what each launch did, in the order of its tasks.
    pub fn observe(&self, device: &mut Cuda) -> Result<Vec<Observed>> {
        let ((), mut seen) = observe(device, |device| device.run(self.program, &self.leaves))?;
        // Small values go to the device before the first run.
        seen.retain(|launch| launch.entry != "deliver");
        Ok(seen)
    }
}
