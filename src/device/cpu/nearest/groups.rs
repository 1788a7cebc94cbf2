//! Groups of neighbouring centres, each as wide as the lanes of a tile: a point keeps one lower bound for each
//! group, and only groups that a bound does not rule out are scored (Yinyang k-means, Ding et al. 2015).

use super::bounds::{Drift, LANES};
use crate::device::cpu::simd::Vector;

/// Centres of a group at most.
pub const WIDTH: usize = 16;

/// Points of one call of [`Groups::best_two`] at most.
pub const BATCH: usize = 48;

const NONE: u32 = u32::MAX;

pub struct Groups {
    d: usize,
    /// Centre in each place `[groups][WIDTH]`; [`NONE`] where there is none.
    centres: Vec<u32>,
    /// Place of each centre.
    places: Vec<u32>,
    /// `w ∘ c` in `[groups][d][WIDTH]`; zeros where there is no centre.
    values: Vec<f32>,
    /// `−‖c‖²/2`; a value that never wins where there is no centre.
    offsets: Vec<f32>,
    /// How far the centres of each group have moved, at most.
    pub drift: Drift,
}

impl Groups {
    /// Groups for centres `[k, d]`: neighbours now, which they stay more or less when they move.
    pub fn new(centres: &[f64], d: usize) -> Self {
        let k = centres.len() / d;
        let mut all = Vec::new();
        split(centres, d, (0..k as u32).collect(), &mut all);
        let mut groups = Groups {
            d,
            centres: vec![NONE; all.len() * WIDTH],
            places: vec![0; k],
            values: vec![0.0; all.len() * d * WIDTH],
            offsets: vec![f32::NEG_INFINITY; all.len() * WIDTH],
            drift: Drift::new(all.len().next_multiple_of(LANES)),
        };
        for (g, members) in all.iter().enumerate() {
            for (lane, &k) in members.iter().enumerate() {
                groups.centres[g * WIDTH + lane] = k;
                groups.places[k as usize] = (g * WIDTH + lane) as u32;
            }
        }
        groups
    }

    pub fn len(&self) -> usize {
        self.offsets.len() / WIDTH
    }

    /// Bounds of a point, with those of no group behind the last.
    pub fn pitch(&self) -> usize {
        self.len().next_multiple_of(LANES)
    }

    pub fn of(&self, centre: u32) -> usize {
        self.places[centre as usize] as usize / WIDTH
    }

    /// The centre in a place.
    pub fn centre(&self, place: usize) -> u32 {
        self.centres[place]
    }

    /// Takes centres `w ∘ c` `[k, d]` and `−‖c‖²/2`.
    pub fn pack(&mut self, flat: &[f32], offsets: &[f32]) {
        let d = self.d;
        for ((row, &offset), &place) in flat.chunks(d).zip(offsets).zip(&self.places) {
            let (group, lane) = (place as usize / WIDTH, place as usize % WIDTH);
            self.offsets[place as usize] = offset;
            for (j, &value) in row.iter().enumerate() {
                self.values[(group * d + j) * WIDTH + lane] = value;
            }
        }
    }

    /// Adds how far each centre moved to the drift of its group.
    pub fn moved(&mut self, each: &[f32]) {
        let mut most = vec![0.0f32; self.len()];
        for (&moved, &place) in each.iter().zip(&self.places) {
            let most = &mut most[place as usize / WIDTH];
            // What is not a number stays so, and proves nothing.
            *most = if moved <= *most { *most } else { moved };
        }
        self.drift.add(&most);
    }

    /// The two best scores in a group of each of some points, and the lane of the best.
    ///
    /// # Safety
    /// The instruction set of `V` must be there, and every row have `d` elements.
    #[inline(always)]
    pub unsafe fn best_two<V: Vector<Element = f32>>(
        &self,
        group: usize,
        rows: &[*const f32],
        found: &mut Found,
    ) {
        // SAFETY: the caller's; `WIDTH` is 16.
        unsafe {
            match V::LANES {
                16 => self.scores::<V, 12, 1>(group, rows, found),
                8 => self.scores::<V, 6, 2>(group, rows, found),
                _ => self.scores::<V, 3, 4>(group, rows, found),
            }
            found.reduce::<V>(rows.len());
        }
    }

    #[inline(always)]
    unsafe fn scores<V: Vector<Element = f32>, const R: usize, const COLUMNS: usize>(
        &self,
        group: usize,
        rows: &[*const f32],
        found: &mut Found,
    ) {
        assert!(rows.len() <= BATCH && BATCH.is_multiple_of(R) && COLUMNS * V::LANES == WIDTH);
        let values = &self.values[group * self.d * WIDTH..][..self.d * WIDTH];
        let offsets = &self.offsets[group * WIDTH..][..WIDTH];
        for (rows, scores) in rows.chunks(R).zip(found.scores.chunks_exact_mut(R * WIDTH)) {
            // Places behind the last point score it again.
            let rows: [*const f32; R] = std::array::from_fn(|r| rows[r.min(rows.len() - 1)]);
            // SAFETY: rows have `d` elements, `values` has `d` times `WIDTH`, `scores` `R` times.
            unsafe {
                let mut sums = [[V::splat(0.0); COLUMNS]; R];
                for column in 0..COLUMNS {
                    let offset = V::load(offsets.as_ptr().add(column * V::LANES));
                    sums.iter_mut().for_each(|sums| sums[column] = offset);
                }
                let mut c = values.as_ptr();
                for j in 0..self.d {
                    let mut lanes = [V::splat(0.0); COLUMNS];
                    for (column, lanes) in lanes.iter_mut().enumerate() {
                        *lanes = V::load(c.add(column * V::LANES));
                    }
                    for (sums, row) in sums.iter_mut().zip(rows) {
                        let x = V::splat(*row.add(j));
                        for (sum, lanes) in sums.iter_mut().zip(lanes) {
                            *sum = x.mul_add(lanes, *sum);
                        }
                    }
                    c = c.add(WIDTH);
                }
                for (r, sums) in sums.iter().enumerate() {
                    for (column, sum) in sums.iter().enumerate() {
                        sum.store(scores.as_mut_ptr().add(r * WIDTH + column * V::LANES));
                    }
                }
            }
        }
    }
}

/// What [`Groups::best_two`] found for each point of a batch.
pub struct Found {
    scores: [f32; BATCH * WIDTH],
    pub best: [f32; BATCH],
    pub second: [f32; BATCH],
    /// Lane of the best.
    pub lane: [f32; BATCH],
}

impl Found {
    pub fn new() -> Self {
        let none = [0.0; BATCH];
        Found { scores: [0.0; BATCH * WIDTH], best: none, second: none, lane: none }
    }

    /// The two best of each point's scores, with points in the lanes.
    #[inline(always)]
    unsafe fn reduce<V: Vector<Element = f32>>(&mut self, many: usize) {
        const TURN: usize = 16;
        const { assert!(TURN == WIDTH && BATCH.is_multiple_of(TURN)) };
        let mut turned = [0.0f32; WIDTH * TURN];
        for first in (0..many).step_by(TURN) {
            // SAFETY: the caller's instructions; the scores of 16 points follow `first`.
            unsafe {
                let from = self.scores.as_ptr().add(first * WIDTH);
                for (i, j) in [(0, 0), (0, 8), (8, 0), (8, 8)] {
                    let rows = std::array::from_fn(|r| from.add((i + r) * WIDTH + j));
                    V::transpose8(rows, turned.as_mut_ptr().add(j * TURN + i), TURN);
                }
                for at in (0..TURN).step_by(V::LANES) {
                    let lowest = V::splat(f32::NEG_INFINITY);
                    let (mut best, mut second, mut lane) = (lowest, lowest, V::splat(0.0));
                    for k in 0..WIDTH {
                        let score = V::load(turned.as_ptr().add(k * TURN + at));
                        lane = score.where_greater(best, V::splat(k as f32), lane);
                        second = second.max(best.min(score));
                        best = best.max(score);
                    }
                    best.store(self.best.as_mut_ptr().add(first + at));
                    second.store(self.second.as_mut_ptr().add(first + at));
                    lane.store(self.lane.as_mut_ptr().add(first + at));
                }
            }
        }
    }
}

/// Cuts centres into groups of at most [`WIDTH`], as full as possible: in two, across the line from the
/// centre that is farthest from their mean to the one that is farthest from it, and so on.
fn split(centres: &[f64], d: usize, mut members: Vec<u32>, groups: &mut Vec<Vec<u32>>) {
    let parts = members.len().div_ceil(WIDTH);
    if parts <= 1 {
        return groups.push(members);
    }
    let row = |k: u32| &centres[k as usize * d..][..d];
    let square = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
    let farthest = |from: &[f64]| {
        let far =
            |&&a: &&u32, &&b: &&u32| square(row(a), from).total_cmp(&square(row(b), from)).then(b.cmp(&a));
        row(members.iter().max_by(far).copied().unwrap_or(0))
    };
    let mean: Vec<f64> =
        (0..d).map(|j| members.iter().map(|&k| row(k)[j]).sum::<f64>() / members.len() as f64).collect();
    let one = farthest(&mean);
    let other = farthest(one);
    let along = |k: u32| row(k).iter().zip(one.iter().zip(other)).map(|(c, (a, b))| c * (b - a)).sum::<f64>();
    let mut places: Vec<(f64, u32)> = members.iter().map(|&k| (along(k), k)).collect();
    places.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    members.clear();
    members.extend(places.iter().map(|&(_, k)| k));
    let rest = members.split_off(members.len() * (parts / 2) / parts);
    split(centres, d, members, groups);
    split(centres, d, rest, groups);
}
