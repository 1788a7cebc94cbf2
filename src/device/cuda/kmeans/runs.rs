//! Runs of k-means side by side: labels, ordered sums, new centres, and k-means++.

use std::cell::RefCell;
use std::sync::Arc;

use super::queue::{Array, Queue, Value};
use super::{PARTS, Points, Tile, WIDEST, blocks, padded};
use crate::device::cuda::driver::Context;
use crate::device::cuda::launch::Function;
use crate::device::kmeans::{Draws, Runs, Step};
use crate::error::Result;

/// What the host reads after a step, in one piece: `moved` f64 `[runs, k]`, then in 32 bits `changed [runs]`,
/// the lengths of the longest centres `[runs]`, the length of the list of open points, `counts [runs, k]`.
pub(super) struct Report {
    array: Array<u32>,
    runs: usize,
    k: usize,
}

impl Report {
    pub fn new(context: &Arc<Context>, runs: usize, k: usize) -> Result<Self> {
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
pub(super) struct SideBySide<'a, 'm> {
    pub points: &'a Points<'m>,
    pub k: usize,
    pub runs: usize,
    pub tile: Tile,
    pub assign: Function,
    pub recheck: Function,
    pub unit: f32,
    /// Runs that take part in a launch, and what is there now.
    pub active: Array<u32>,
    pub known: RefCell<Vec<usize>>,
    pub space: Array<u32>,
    pub weights: Array<f32>,
    pub norms: Array<f32>,
    pub centres: Array<f64>,
    pub flat: Array<f32>,
    pub offsets: Array<f32>,
    pub sums: Array<f64>,
    pub labels: Array<u32>,
    pub open: Array<u32>,
    pub report: Report,
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
