//! K-means on CUDA: the points twice (as they are, and as seen from their mean), and many runs side by side,
//! `kernels/nearest.cu`, `kmeans.cu` and `seeding.cu`.
//!
//! A step of all runs is five launches and one small copy to the host (numbers of points, changed labels and
//! movements): Lloyd's loop, which decides when a run stops, is the host's. Greedy k-means++ runs to its end on
//! the device, with random numbers that the host drew.

pub mod cost;
mod queue;
mod runs;

use std::cell::RefCell;
use std::sync::Arc;

use super::driver::{Context, Stream};
use super::launch::{Function, Source};
use super::modules::Modules;
use crate::device::kmeans::{Loaded, Runs};
use crate::error::{Error, Result};
use queue::{Array, Queue};
use runs::{Report, SideBySide};

/// As in the kernels: points that are summed together, and parts of ordered sums.
const SLAB: usize = 1024;
const PARTS: usize = 16;

/// A part is a multiple of this, as on the CPU.
const WIDEST: usize = 64;

/// Rows of centred points and of centres are multiples of a sector of memory.
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
