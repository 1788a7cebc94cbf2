//! K-means on CUDA: the points twice (as they are, and as seen from their mean), and many runs side by side,
//! `kernels/nearest.cu`, `kmeans.cu` and `seeding.cu`.
//!
//! A step of all runs is five launches and one small copy to the host (numbers of points, changed labels and
//! movements): Lloyd's loop, which decides when a run stops, is the host's. Greedy k-means++ runs to its end on
//! the device, with random numbers that the host drew.

use std::cell::RefCell;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::Arc;

use super::driver::{Context, Memory, Stream};
use super::launch::{Function, Source};
use super::modules::Modules;
use crate::device::kmeans::{Draws, Loaded, Runs, Step};
use crate::error::{Error, Result};

/// As in the kernels: points that are summed together, and parts of ordered sums.
const SLAB: usize = 1024;
const PARTS: usize = 16;

/// A part is a multiple of this, as on the CPU.
const WIDEST: usize = 64;

/// Rows of numbers for [`Shape::assign`] are multiples of a sector of memory.
const PITCH: usize = 8;

/// Runs side by side at most; more would not make a GPU faster.
const MOST_RUNS: usize = 64;

/// How `assign` is cut: points and centres of a tile, its warps along both, steps in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tile {
    pub points: usize,
    pub centres: usize,
    pub warps: [usize; 2],
    pub stages: usize,
}

/// Every way to cut it, and the share of the arithmetic peak that it can reach, in percent (an estimate that
/// orders them). A thread has 32 sums, which leaves registers for the search; as many blocks as registers
/// allow find shared memory on any architecture.
pub const TILES: [(Tile, usize); 3] = [
    (Tile { points: 256, centres: 16, warps: [4, 1], stages: 2 }, 50),
    (Tile { points: 128, centres: 32, warps: [4, 1], stages: 3 }, 70),
    (Tile { points: 128, centres: 64, warps: [4, 2], stages: 3 }, 90),
];

/// Columns of a step.
const DEPTH: usize = 16;

impl Tile {
    /// The tile for `k` centres: the least padded arithmetic over what it reaches.
    pub fn of(k: usize) -> Tile {
        let cost = |&(tile, worth): &(Tile, usize)| k.next_multiple_of(tile.centres) * 1000 / worth;
        TILES.iter().min_by_key(|t| cost(t)).map_or(TILES[2].0, |t| t.0)
    }

    fn defines(self) -> Vec<String> {
        let values = [
            ("PRECISION", 0),
            ("TILE_M", self.points),
            ("TILE_N", self.centres),
            ("WARPS_M", self.warps[0]),
            ("WARPS_N", self.warps[1]),
            ("DEPTH", DEPTH),
            ("STAGES", self.stages),
        ];
        values.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    fn threads(self) -> u32 {
        32 * (self.warps[0] * self.warps[1]) as u32
    }

    fn assign(self) -> Function {
        let shared = self.stages * DEPTH * (self.points + self.centres) * size_of::<f32>();
        function("nearest", "assign", self.defines(), shared as u32)
    }

    fn recheck(self) -> Function {
        function("nearest", "recheck", self.defines(), 0)
    }
}

/// Centres with those that fill the last tile, whatever the tile.
fn padded(k: usize) -> usize {
    k.next_multiple_of(64)
}

/// Every function that k-means launches, in every variant.
pub fn functions() -> Vec<Function> {
    let plain = |file, entries: &[&'static str]| -> Vec<Function> {
        entries.iter().map(|entry| function(file, entry, Vec::new(), 0)).collect()
    };
    let mut all = plain(
        "kmeans",
        &[
            "forget",
            "moments",
            "fold",
            "centre",
            "lengths",
            "prepare",
            "totals",
            "relocate",
            "average",
            "distances",
        ],
    );
    all.extend(plain("seeding", &["lower", "choose", "start"]));
    all.extend(TILES.iter().flat_map(|(tile, _)| [tile.assign(), tile.recheck()]));
    all
}

fn function(file: &'static str, entry: &'static str, defines: Vec<String>, dynamic_shared: u32) -> Function {
    Function { source: Source::File(file), defines, entry: entry.into(), dynamic_shared }
}

/// An argument of a launch.
#[derive(Clone, Copy)]
enum Value {
    Address(u64),
    U32(u32),
    U64(u64),
    F32(f32),
}

impl Value {
    fn pointer(&mut self) -> *mut c_void {
        match self {
            Value::Address(v) | Value::U64(v) => std::ptr::from_mut(v).cast(),
            Value::U32(v) => std::ptr::from_mut(v).cast(),
            Value::F32(v) => std::ptr::from_mut(v).cast(),
        }
    }
}

impl From<usize> for Value {
    /// Sizes are within 32 bits: [`Points::new`] and [`Points::runs`] see to it.
    fn from(value: usize) -> Self {
        Value::U32(value as u32)
    }
}

/// Elements on the device.
struct Array<T> {
    memory: Memory,
    of: PhantomData<T>,
}

impl<T: bytemuck::Pod> Array<T> {
    fn new(context: &Arc<Context>, len: usize) -> Result<Self> {
        let memory = Memory::new(context, len * size_of::<T>(), "k-means")?;
        Ok(Array { memory, of: PhantomData })
    }

    fn at(&self, index: usize) -> Value {
        Value::Address(self.memory.address() + (index * size_of::<T>()) as u64)
    }
}

impl<T> From<&Array<T>> for Value {
    fn from(array: &Array<T>) -> Self {
        Value::Address(array.memory.address())
    }
}

/// A stream of its own, and the functions that are launched on it.
struct Queue<'a> {
    stream: Stream,
    modules: RefCell<&'a mut Modules>,
}

impl Queue<'_> {
    fn context(&self) -> &Arc<Context> {
        self.stream.context()
    }

    fn launch(&self, function: &Function, grid: [usize; 3], threads: u32, values: &[Value]) -> Result<()> {
        let compiled = self.modules.borrow_mut().one(function)?;
        let mut values = values.to_vec();
        let mut pointers: Vec<*mut c_void> = values.iter_mut().map(Value::pointer).collect();
        // SAFETY: each caller below passes what its kernel declares; arrays have the sizes that the kernels
        // name and live until the stream is synchronised: freeing memory waits for it.
        unsafe { self.stream.launch(&compiled, grid.map(|g| g as u32), [threads, 1, 1], &mut pointers) }
    }

    /// A launch of a function without definitions.
    fn plain(
        &self,
        file: &'static str,
        entry: &'static str,
        grid: [usize; 3],
        threads: u32,
        values: &[Value],
    ) -> Result<()> {
        self.launch(&function(file, entry, Vec::new(), 0), grid, threads, values)
    }

    fn upload<T: bytemuck::Pod>(&self, values: &[T]) -> Result<Array<T>> {
        let array = Array::new(self.context(), values.len())?;
        self.write(&array, 0, values)?;
        Ok(array)
    }

    fn write<T: bytemuck::Pod>(&self, array: &Array<T>, at: usize, values: &[T]) -> Result<()> {
        let begin = at * size_of::<T>();
        assert!(begin + size_of_val(values) <= array.memory.bytes());
        self.stream.upload(array.memory.address() + begin as u64, bytemuck::cast_slice(values))
    }

    fn read<T: bytemuck::Pod>(&self, array: &Array<T>, at: usize, len: usize) -> Result<Vec<T>> {
        let mut values = vec![T::zeroed(); len];
        let begin = at * size_of::<T>();
        assert!(begin + size_of_val(&values[..]) <= array.memory.bytes());
        self.stream.download(bytemuck::cast_slice_mut(&mut values), array.memory.address() + begin as u64)?;
        Ok(values)
    }
}

/// Points on the device.
pub struct Points<'a> {
    queue: Queue<'a>,
    n: usize,
    d: usize,
    pitch: usize,
    /// `[n, d]`, as they are.
    values: Array<f32>,
    /// `[n, pitch]`, as seen from the mean.
    centred: Array<f32>,
    mean: Array<f32>,
    moments: Vec<[f64; 2]>,
}

impl<'a> Points<'a> {
    pub fn new(context: &Arc<Context>, modules: &'a mut Modules, values: &[f32], d: usize) -> Result<Self> {
        let (n, pitch) = (values.len() / d, d.next_multiple_of(PITCH));
        // Grids have at most 65535 rows, and points are counted in 32 bits.
        if n > 65535 * SLAB || d > 65535 * 128 {
            return Err(Error::Device(format!("k-means on CUDA cannot take {n} points of {d} numbers")));
        }
        let queue = Queue { stream: Stream::new(context)?, modules: RefCell::new(modules) };
        let slabs = n.div_ceil(SLAB);
        let values = queue.upload(&values[..n * d])?;
        let (parts, sums) = (Array::<f64>::new(context, slabs * d * 2)?, Array::<f64>::new(context, d * 2)?);
        let columns = d.div_ceil(128);
        let given = [n.into(), d.into(), (&values).into(), (&parts).into()];
        queue.plain("kmeans", "moments", [columns, slabs, 1], 128, &given)?;
        let given = [slabs.into(), d.into(), (&parts).into(), (&sums).into()];
        queue.plain("kmeans", "fold", [columns, 1, 1], 128, &given)?;
        let moments: Vec<[f64; 2]> =
            queue.read(&sums, 0, d * 2)?.chunks(2).map(|pair| [pair[0], pair[1]]).collect();
        let mean: Vec<f32> = moments.iter().map(|m| (m[0] / n as f64) as f32).collect();
        let mean = queue.upload(&mean)?;
        let centred = Array::new(context, n * pitch)?;
        let given = [n.into(), d.into(), pitch.into(), (&values).into(), (&mean).into(), (&centred).into()];
        queue.plain("kmeans", "centre", [blocks(n * pitch), 1, 1], 256, &given)?;
        Ok(Points { queue, n, d, pitch, values, centred, mean, moments })
    }

    fn slabs(&self) -> usize {
        self.n.div_ceil(SLAB)
    }

    /// Bytes of a run while it is seeded, and of weights of its own.
    fn bytes(&self, k: usize) -> usize {
        let candidates = 2 + (k as f64).ln() as usize;
        let trial = 2 * candidates * (4 * self.n + 8 * self.slabs());
        let points = 12 * self.n + 4 * self.d;
        trial + points + k * (16 * self.d + 4 * self.pitch + 20 + 8 * candidates)
    }
}

/// Blocks of 256 threads for elements that they share: few enough to be all there at once.
fn blocks(elements: usize) -> usize {
    elements.div_ceil(256).clamp(1, 1024)
}

impl Loaded for Points<'_> {
    fn moments(&self) -> Result<Vec<[f64; 2]>> {
        Ok(self.moments.clone())
    }

    fn most_runs(&self, k: usize) -> usize {
        let free = self.queue.context().memory().map_or(0, |(free, _)| free);
        let numbered = (u32::MAX as usize / self.n.max(1)).min(MOST_RUNS);
        (free / 2 / self.bytes(k)).clamp(1, numbered)
    }

    fn runs<'b>(
        &'b self,
        weights: &[Option<&'b [f32]>],
        spaces: &[usize],
        k: usize,
    ) -> Result<Box<dyn Runs + 'b>> {
        let (n, d, runs, queue) = (self.n, self.d, spaces.len(), &self.queue);
        let context = queue.context();
        assert!(
            runs > 0 && runs * n <= u32::MAX as usize && k > 0 && k <= n,
            "as many runs as were announced"
        );
        // Weights that no run uses stay on the host.
        let used: Vec<usize> = (0..weights.len()).filter(|s| spaces.contains(s)).collect();
        let space: Vec<u32> =
            spaces.iter().map(|s| used.iter().position(|u| u == s).unwrap_or(0) as u32).collect();
        let factors: Vec<f32> =
            used.iter().flat_map(|&s| weights[s].map_or_else(|| vec![1.0; d], <[f32]>::to_vec)).collect();
        let factors = queue.upload(&factors)?;
        let norms = Array::new(context, used.len() * n)?;
        let given = [
            n.into(),
            d.into(),
            self.pitch.into(),
            (&self.centred).into(),
            (&factors).into(),
            (&norms).into(),
        ];
        queue.plain("kmeans", "lengths", [n.div_ceil(8), used.len(), 1], 256, &given)?;
        // γ of `Rounding`, src/device/cpu/nearest/bounds.rs.
        let terms = (d as f64 + 16.0) * f64::from(f32::EPSILON) / 2.0;
        Ok(Box::new(SideBySide {
            points: self,
            k,
            runs,
            tile: Tile::of(k),
            assign: Tile::of(k).assign(),
            recheck: Tile::of(k).recheck(),
            unit: if terms < 0.5 { (terms / (1.0 - terms)) as f32 } else { f32::INFINITY },
            active: Array::new(context, runs)?,
            known: RefCell::default(),
            space: queue.upload(&space)?,
            weights: factors,
            norms,
            centres: Array::new(context, runs * k * d)?,
            flat: Array::new(context, runs * k * self.pitch)?,
            offsets: queue.upload(&vec![f32::NEG_INFINITY; runs * padded(k)])?,
            sums: Array::new(context, runs * k * d)?,
            labels: Array::new(context, runs * n)?,
            open: Array::new(context, runs * n)?,
            report: Report::new(context, runs, k)?,
        }))
    }
}

/// What the host reads after a step, in one piece: `moved` f64 `[runs, k]`, then in 32 bits `changed [runs]`,
/// the lengths of the longest centres `[runs]`, the length of the list of open points, `counts [runs, k]`.
struct Report {
    array: Array<u32>,
    runs: usize,
    k: usize,
}

impl Report {
    fn new(context: &Arc<Context>, runs: usize, k: usize) -> Result<Self> {
        let array = Array::new(context, 3 * runs * k + 2 * runs + 1)?;
        Ok(Report { array, runs, k })
    }

    fn moved(&self) -> Value {
        self.array.at(0)
    }

    fn changed(&self) -> Value {
        self.array.at(2 * self.runs * self.k)
    }

    fn longest(&self) -> Value {
        self.array.at(2 * self.runs * self.k + self.runs)
    }

    fn opened(&self) -> Value {
        self.array.at(2 * self.runs * self.k + 2 * self.runs)
    }

    fn counts(&self) -> Value {
        self.array.at(2 * self.runs * self.k + 2 * self.runs + 1)
    }

    fn read(&self, queue: &Queue<'_>) -> Result<Found> {
        let all = self.runs * self.k;
        let words = queue.read(&self.array, 0, 3 * all + 2 * self.runs + 1)?;
        let (moved, words) = words.split_at(2 * all);
        let double = |pair: &[u32]| f64::from_bits(u64::from(pair[1]) << 32 | u64::from(pair[0]));
        Ok(Found {
            moved: moved.chunks(2).map(double).collect(),
            changed: words[..self.runs].to_vec(),
            counts: words[2 * self.runs + 1..].to_vec(),
        })
    }
}

struct Found {
    moved: Vec<f64>,
    changed: Vec<u32>,
    counts: Vec<u32>,
}

/// Runs on the device; kernels name the arrays' shapes.
struct SideBySide<'a, 'm> {
    points: &'a Points<'m>,
    k: usize,
    runs: usize,
    tile: Tile,
    assign: Function,
    recheck: Function,
    unit: f32,
    /// Runs that take part in a launch, and what is there now.
    active: Array<u32>,
    known: RefCell<Vec<usize>>,
    space: Array<u32>,
    weights: Array<f32>,
    norms: Array<f32>,
    centres: Array<f64>,
    flat: Array<f32>,
    offsets: Array<f32>,
    sums: Array<f64>,
    labels: Array<u32>,
    open: Array<u32>,
    report: Report,
}

impl<'m> SideBySide<'_, 'm> {
    fn queue(&self) -> &Queue<'m> {
        &self.points.queue
    }

    /// Says which runs take part from now on.
    fn activate(&self, runs: &[usize]) -> Result<()> {
        if *self.known.borrow() != runs {
            let numbers: Vec<u32> = runs.iter().map(|&r| r as u32).collect();
            self.queue().write(&self.active, 0, &numbers)?;
            *self.known.borrow_mut() = runs.to_vec();
        }
        Ok(())
    }

    fn forget(&self) -> Result<()> {
        let many = self.runs * self.points.n;
        let given = [Value::U64(many as u64), (&self.labels).into()];
        self.queue().plain("kmeans", "forget", [blocks(many), 1, 1], 256, &given)
    }

    /// Labels of the nearest centres, and a cleared report but for what belongs to them.
    fn label(&self, runs: &[usize]) -> Result<()> {
        let Points { n, d, pitch, .. } = *self.points;
        let (k, queue, report) = (self.k, self.queue(), &self.report);
        self.activate(runs)?;
        queue.stream.zero(&report.array.memory)?;
        let given = [
            d.into(),
            pitch.into(),
            k.into(),
            padded(k).into(),
            (&self.active).into(),
            (&self.space).into(),
            (&self.weights).into(),
            (&self.points.mean).into(),
            (&self.centres).into(),
            (&self.flat).into(),
            (&self.offsets).into(),
            report.longest(),
        ];
        queue.plain("kmeans", "prepare", [k, runs.len(), 1], 128, &given)?;
        let given = [
            n.into(),
            pitch.into(),
            k.into(),
            padded(k).into(),
            Value::F32(self.unit),
            runs.len().into(),
            (&self.active).into(),
            (&self.space).into(),
            (&self.points.centred).into(),
            (&self.norms).into(),
            (&self.flat).into(),
            (&self.offsets).into(),
            report.longest(),
            (&self.labels).into(),
            report.changed(),
            (&self.open).into(),
            report.opened(),
        ];
        let tiles = n.div_ceil(self.tile.points) * runs.len();
        queue.launch(&self.assign, [tiles, 1, 1], self.tile.threads(), &given)?;
        let given = [
            n.into(),
            d.into(),
            k.into(),
            (&self.space).into(),
            (&self.points.values).into(),
            (&self.weights).into(),
            (&self.centres).into(),
            (&self.labels).into(),
            report.changed(),
            (&self.open).into(),
            report.opened(),
        ];
        // A warp for each open point, if there are few.
        let blocks = (n * runs.len()).div_ceil(8).min(512);
        queue.launch(&self.recheck, [blocks, 1, 1], 256, &given)
    }

    fn add_up(&self, runs: &[usize]) -> Result<()> {
        let Points { n, d, .. } = *self.points;
        let part = n.div_ceil(PARTS).next_multiple_of(WIDEST);
        let given = [
            n.into(),
            d.into(),
            self.k.into(),
            part.into(),
            (&self.active).into(),
            (&self.points.values).into(),
            (&self.labels).into(),
            (&self.sums).into(),
            self.report.counts(),
        ];
        let grid = [self.k, d.div_ceil(128), runs.len()];
        self.queue().plain("kmeans", "totals", grid, 32 * PARTS as u32, &given)
    }

    fn move_centres(&self, runs: &[usize], always: bool) -> Result<()> {
        self.activate(runs)?;
        let given = [
            self.points.n.into(),
            self.points.d.into(),
            self.k.into(),
            usize::from(always).into(),
            (&self.active).into(),
            (&self.space).into(),
            (&self.weights).into(),
            (&self.sums).into(),
            self.report.counts(),
            (&self.centres).into(),
            self.report.moved(),
        ];
        self.queue().plain("kmeans", "average", [self.k.div_ceil(4), runs.len(), 1], 128, &given)
    }

    /// Sums of the squared distances in slabs; also each of them, if there is room for it.
    fn measure(&self, runs: &[usize], each: Option<&Array<f64>>) -> Result<Vec<f64>> {
        self.activate(runs)?;
        let slabs = self.points.slabs();
        let sums = Array::<f64>::new(self.queue().context(), runs.len() * slabs)?;
        let given = [
            self.points.n.into(),
            self.points.d.into(),
            self.k.into(),
            (&self.active).into(),
            (&self.space).into(),
            (&self.points.values).into(),
            (&self.weights).into(),
            (&self.centres).into(),
            (&self.labels).into(),
            each.map_or(Value::Address(0), Value::from),
            (&sums).into(),
        ];
        self.queue().plain("kmeans", "distances", [slabs, runs.len(), 1], 256, &given)?;
        self.queue().read(&sums, 0, runs.len() * slabs)
    }
}

impl Runs for SideBySide<'_, '_> {
    fn start(&mut self, centres: &[&[f64]]) -> Result<()> {
        self.forget()?;
        let size = self.k * self.points.d;
        for (run, centres) in centres.iter().enumerate() {
            assert!(centres.len() == size, "as many numbers as centres have");
            self.queue().write(&self.centres, run * size, centres)?;
        }
        Ok(())
    }

    fn seed(&mut self, draws: &[Draws]) -> Result<Vec<Vec<u32>>> {
        self.forget()?;
        let Points { n, d, .. } = *self.points;
        let (k, runs, queue, slabs) = (self.k, self.runs, self.queue(), self.points.slabs());
        let context = queue.context();
        assert!(draws.len() == runs, "draws for each run");
        let most = draws[0].candidates;
        assert!((1..=32).contains(&most), "a warp for each candidate");
        let fractions: Vec<f64> = draws.iter().flat_map(|d| d.fractions.iter().copied()).collect();
        assert!(fractions.len() == runs * (k - 1) * most, "a fraction for each candidate");
        let fractions = queue.upload(&fractions)?;
        let mut first = vec![0_u32; runs * most];
        first.iter_mut().step_by(most).zip(draws).for_each(|(f, d)| *f = d.first as u32);
        let drawn = queue.upload(&first)?;
        let trials = [Array::<f32>::new(context, runs * most * n)?, Array::new(context, runs * most * n)?];
        let totals = Array::<f64>::new(context, runs * slabs * most)?;
        let chosen = Array::<u32>::new(context, runs * k)?;
        let best = Array::<u32>::new(context, runs)?;
        for step in 0..k {
            let (now, trial, before) =
                (if step == 0 { 1 } else { most }, &trials[step % 2], &trials[1 - step % 2]);
            let given = [
                n.into(),
                d.into(),
                usize::from(step == 0).into(),
                now.into(),
                most.into(),
                (&self.space).into(),
                (&self.points.values).into(),
                (&self.weights).into(),
                (&drawn).into(),
                (&best).into(),
                before.into(),
                trial.into(),
                (&totals).into(),
            ];
            queue.plain("seeding", "lower", [slabs, runs, 1], 256, &given)?;
            let given = [
                n.into(),
                k.into(),
                (step + 1).into(),
                now.into(),
                most.into(),
                (&totals).into(),
                trial.into(),
                (&fractions).into(),
                (&drawn).into(),
                (&chosen).into(),
                (&best).into(),
            ];
            queue.plain("seeding", "choose", [runs, 1, 1], 32 * most as u32, &given)?;
        }
        let given = [
            d.into(),
            k.into(),
            (&self.space).into(),
            (&self.points.values).into(),
            (&self.weights).into(),
            (&chosen).into(),
            (&self.centres).into(),
        ];
        queue.plain("seeding", "start", [k, runs, 1], 128, &given)?;
        Ok(queue.read(&chosen, 0, runs * k)?.chunks(k).map(<[u32]>::to_vec).collect())
    }

    fn step(&mut self, runs: &[usize]) -> Result<Vec<Step>> {
        self.label(runs)?;
        self.add_up(runs)?;
        self.move_centres(runs, false)?;
        let found = self.report.read(self.queue())?;
        let step = |&run: &usize| {
            let own = run * self.k..(run + 1) * self.k;
            Step {
                changed: found.changed[run] as usize,
                counts: found.counts[own.clone()].iter().map(|&c| c.into()).collect(),
                moved: found.moved[own].iter().sum(),
            }
        };
        Ok(runs.iter().map(step).collect())
    }

    fn distances(&mut self, run: usize) -> Result<Vec<f64>> {
        let each = Array::new(self.queue().context(), self.points.n)?;
        self.measure(&[run], Some(&each))?;
        self.queue().read(&each, 0, self.points.n)
    }

    fn relocate(&mut self, run: usize, empty: &[usize], points: &[usize]) -> Result<()> {
        let Points { n, d, .. } = *self.points;
        let numbers = |all: &[usize]| all.iter().map(|&i| i as u32).collect::<Vec<_>>();
        let many = empty.len().min(points.len());
        let (empty, points) = (self.queue().upload(&numbers(empty))?, self.queue().upload(&numbers(points))?);
        let given = [
            n.into(),
            d.into(),
            self.k.into(),
            run.into(),
            many.into(),
            (&empty).into(),
            (&points).into(),
            (&self.points.values).into(),
            (&self.labels).into(),
            (&self.sums).into(),
            self.report.counts(),
        ];
        self.queue().plain("kmeans", "relocate", [d.div_ceil(128), 1, 1], 128, &given)
    }

    fn average(&mut self, run: usize) -> Result<f64> {
        self.move_centres(&[run], true)?;
        let found = self.report.read(self.queue())?;
        Ok(found.moved[run * self.k..(run + 1) * self.k].iter().sum())
    }

    fn assign(&mut self, runs: &[usize]) -> Result<()> {
        self.label(runs)
    }

    fn inertia(&mut self, runs: &[usize]) -> Result<Vec<f64>> {
        let slabs = self.measure(runs, None)?;
        Ok(slabs.chunks(self.points.slabs()).map(|slabs| slabs.iter().sum()).collect())
    }

    fn centres(&self, run: usize) -> Result<Vec<f64>> {
        let size = self.k * self.points.d;
        self.queue().read(&self.centres, run * size, size)
    }

    fn labels(&self, run: usize) -> Result<Vec<u32>> {
        self.queue().read(&self.labels, run * self.points.n, self.points.n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_waste_little_arithmetic() {
        let columns = |k: usize| k.next_multiple_of(Tile::of(k).centres);
        assert_eq!(
            [1, 10, 16, 17, 32, 60, 64, 100, 128].map(columns),
            [16, 16, 16, 32, 32, 64, 64, 128, 128]
        );
        for k in 1..2000 {
            assert!(columns(k) <= padded(k) && columns(k) < k + 64);
        }
    }

    #[test]
    fn every_function_is_listed_once() {
        let all = functions();
        for (i, function) in all.iter().enumerate() {
            assert!(!all[..i].contains(function), "{function:?}");
        }
        assert!(all.iter().all(|f| f.dynamic_shared <= 48 << 10));
    }
}
