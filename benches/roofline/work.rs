//! What the bench looks at: training steps and iterations of k-means, by plan and on the machine that there is.

use tessera::bench;
use tessera::device::cuda::cost::{self, Cost};
use tessera::device::cuda::kmeans::cost::iteration;
use tessera::device::cuda::launch::{Function, Source};
use tessera::device::{Cuda, Device, Precision};
use tessera::error::Result;

use super::Arguments;
use super::harness;
use super::table::{Row, Table};
use super::watched::{self, Observed, Prepared};

/// What runs kernels here.
pub enum Machine {
    /// Nothing, and why.
    None(String),
    Simulated,
    Real,
}

impl Machine {
    /// A real GPU if there is one, else, if they are wanted, the counters of the simulated one.
    pub fn find(counters: bool) -> Machine {
        let wanted = std::env::var_os("TESSERA_GPU").is_some_and(|v| v == "real");
        let real = wanted || has_real_driver();
        if !real && !counters {
            return Machine::None("NO COUNTERS: they were not asked for (--counters)".into());
        }
        // SAFETY: nothing else runs yet.
        unsafe {
            std::env::set_var("SIMGPU_CHECK", "traffic");
            if real {
                std::env::set_var("TESSERA_GPU", "real");
            }
        }
        match harness::gpu() {
            Some(gpu) if gpu.is_simulated() => Machine::Simulated,
            Some(_) => match Cuda::open(watched::options(Precision::F32)) {
                // By whatever way it was found: no time of a simulation is a time.
                Ok(device) if device.describe().contains("not a GPU") => {
                    Machine::None("NO COUNTERS, NO TIMES: the machine's driver is a simulated one".into())
                }
                Ok(_) => Machine::Real,
                Err(error) => Machine::None(format!("NO COUNTERS, NO TIMES: {error}")),
            },
            None => Machine::None("NO COUNTERS: the simulated GPU or NVRTC cannot be had, see above".into()),
        }
    }

    fn name(&self, device: Option<&Cuda>) -> String {
        match self {
            Machine::None(why) => why.clone(),
            Machine::Simulated => "counters of the SIMULATED GPU: bytes, no times".into(),
            Machine::Real => device.map_or_else(String::new, |d| format!("measured on {}", d.describe())),
        }
    }
}

/// Is there an NVIDIA driver, and is it not the simulated one?
fn has_real_driver() -> bool {
    // SAFETY: the driver's initialisers may run; it stays loaded.
    unsafe {
        let library = libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL);
        !library.is_null() && libc::dlsym(library, c"simgpu_counters_json".as_ptr()).is_null()
    }
}

/// A step of a net.
pub fn step(arguments: &Arguments, net: &str, machine: &Machine) -> Result<Table> {
    let precision = arguments.precision;
    let batch = arguments.batch.unwrap_or_else(|| bench::step::usual_batch(net));
    let tape = watched::step(net, &arguments.rule, batch)?;
    let (plan, tasks) = watched::plan(&tape, precision)?;
    let launches = tasks.iter().flat_map(|task| {
        task.launches.iter().map(|l| name(&l.function)).zip(cost::of_task(&plan, task, precision))
    });
    let (runs, name) = match machine {
        Machine::None(_) => (Vec::new(), machine.name(None)),
        _ => {
            let mut device = Cuda::open(watched::options(precision))?;
            let prepared = Prepared::new(&mut device, &tape)?;
            let runs = repeats(arguments, machine);
            let runs: Result<Vec<_>> = (0..runs).map(|_| prepared.observe(&mut device)).collect();
            (runs?, machine.name(Some(&device)))
        }
    };
    let rule = if net.starts_with("acai") { "" } else { &arguments.rule };
    let title = format!("{net} {rule} batch {batch}, {precision}");
    Ok(table(title, name, launches, machine, &runs))
}

/// N, d and k of the sizes that the project's figures are about.
const SIZES: [(usize, usize, usize); 4] =
    [(50_000, 256, 15), (50_000, 256, 100), (60_000, 32, 10), (1_000_000, 64, 256)];

/// An iteration of one run for each size.
pub fn kmeans(arguments: &Arguments, machine: &Machine) -> Result<Vec<Table>> {
    // On the simulated GPU, which takes long, of fewer points where there are many.
    let most = if matches!(machine, Machine::Simulated) { arguments.points } else { usize::MAX };
    let one = |(all, d, k): (usize, usize, usize)| {
        let n = all.min(most);
        let (runs, name) = match machine {
            Machine::None(_) => (Vec::new(), machine.name(None)),
            _ => {
                let mut device = Cuda::open(watched::options(arguments.precision))?;
                let runs = iterations(&mut device, (n, d, k), repeats(arguments, machine))?;
                (runs, machine.name(Some(&device)))
            }
        };
        let launches = iteration(n, d, k).into_iter().map(|(entry, cost)| (entry.to_string(), cost));
        let of = if n < all { format!(" (instead of {all})") } else { String::new() };
        let title = format!("k-means iteration, N {n}{of} d {d} k {k}");
        Ok(table(title, name, launches, machine, &runs))
    };
    SIZES.into_iter().map(one).collect()
}

/// The launches of the later ones of `count + 1` steps, in the order of [`iteration`].
fn iterations(
    device: &mut Cuda,
    (n, d, k): (usize, usize, usize),
    count: usize,
) -> Result<Vec<Vec<Observed>>> {
    let values = bench::kmeans::blobs(n, d);
    let start = bench::kmeans::rows(&values, d, k);
    let ((), seen) = watched::observe(device, |device| {
        let points = device.load_points(&values, d)?;
        let mut runs = points.runs(&[None], &[0], k)?;
        runs.start(&[&start])?;
        (0..=count).try_for_each(|_| runs.step(&[0]).map(|_| ()))
    })?;
    let launches = iteration(n, d, k).len();
    Ok(seen[seen.len() - count * launches..].chunks(launches).map(<[Observed]>::to_vec).collect())
}

fn repeats(arguments: &Arguments, machine: &Machine) -> usize {
    if matches!(machine, Machine::Real) { arguments.repeats.max(1) } else { 1 }
}

/// Rows of equal functions, from launches in the order in which `runs` saw them.
fn table(
    title: String,
    machine: String,
    launches: impl Iterator<Item = (String, Cost)>,
    kind: &Machine,
    runs: &[Vec<Observed>],
) -> Table {
    let mut table = Table::new(title, machine);
    for (number, (name, cost)) in launches.enumerate() {
        let mut row = Row::new(name, cost);
        let seen: Vec<&Observed> = runs.iter().filter_map(|run| run.get(number)).collect();
        if let Machine::Real = kind {
            let mut times: Vec<f32> = seen.iter().map(|o| o.milliseconds).collect();
            times.sort_by(f32::total_cmp);
            row.measured = times.get(times.len() / 2).map(|ms| f64::from(*ms) * 1e-3);
        }
        row.traffic = seen.first().and_then(|o| o.traffic);
        table.add(row);
    }
    table
}

/// A function in few words: its entry, and what its variant computes.
fn name(function: &Function) -> String {
    let value = |name: &str| {
        let found = function.defines.iter().find_map(|d| d.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_default()
    };
    let mut text = match function.source {
        Source::File(_) => function.entry.to_string(),
        Source::Generated(_) => format!("pointwise {}", function.entry),
    };
    match value("DIRECTION") {
        "0" => text.push_str(" forward"),
        "1" => text.push_str(" input grad"),
        "2" => text.push_str(" weight grad"),
        _ => {}
    }
    if value("UNPOOL") == "1" {
        text.push_str(" un-pooled");
    }
    for (name, word) in [("TRANSPOSE_A", " T"), ("TRANSPOSE_B", "T")] {
        match value(name) {
            "0" => text.push_str(&word.replace('T', "N")),
            "1" => text.push_str(word),
            _ => {}
        }
    }
    if !value("TILE_M").is_empty() {
        text.push_str(&format!(" {}x{}", value("TILE_M"), value("TILE_N")));
        if value("WIDTH_A") == "1" || value("WIDTH_B") == "1" {
            text.push_str(&format!(" narrow {}{}", value("WIDTH_A"), value("WIDTH_B")));
        }
    }
    text
}
