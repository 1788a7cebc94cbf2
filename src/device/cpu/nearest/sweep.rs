//! A pass over a part of the points with one bound a point on all centres but its own (Hamerly 2010).

use super::Points;
use super::bounds::{self, Bounds, Rounding};
use super::pass::Outcome;
use super::sums::{How, Sums};
use super::tile::{self, Found, Packed, WIDEST};
use crate::device::cpu::simd::{Job, Vector};

/// Bytes of the points of a block, which stay in the cache from their scores to their sums.
const BLOCK: usize = 1 << 17;

/// What all parts of a pass see.
pub struct Shared<'a> {
    pub points: &'a Points<'a>,
    pub centres: &'a [f64],
    pub flat: &'a [f32],
    pub offsets: &'a [f32],
    pub squares: &'a [f32],
    pub rounding: Rounding,
    /// How far each centre moved; nothing in the first pass.
    pub moved: Vec<f32>,
    /// Are sums wanted?
    pub sum: bool,
}

pub struct Sweep<'a> {
    pub shared: &'a Shared<'a>,
    pub packed: &'a Packed,
    pub first: usize,
    pub labels: &'a mut [u32],
    pub bounds: &'a mut [Bounds],
    pub sums: &'a mut Sums,
    /// Points that changed their label in the last pass.
    pub changed: usize,
    pub scratch: &'a mut Scratch,
}

pub struct Scratch {
    tile: Vec<f32>,
    /// Points that the carried bounds do not settle.
    unsettled: Vec<usize>,
    /// Points that need scores.
    open: Vec<usize>,
}

impl Scratch {
    pub fn new(tile: usize) -> Self {
        Scratch { tile: vec![0.0; tile], unsettled: Vec::new(), open: Vec::new() }
    }
}

impl Job<f32> for Sweep<'_> {
    type Output = Outcome;

    #[inline(always)]
    unsafe fn run<V: Vector<Element = f32>>(self) -> Outcome {
        let Sweep { shared, packed, first, labels, bounds, sums, changed, scratch } = self;
        let Scratch { tile, unsettled, open } = scratch;
        let (d, n) = (shared.points.d, labels.len());
        let how = sums.begin(shared.points, shared.sum, changed);
        let block = (BLOCK / (4 * d)).clamp(WIDEST, 16 * WIDEST).next_multiple_of(WIDEST);
        let most = Most::new(&shared.moved);
        let (mut found, mut outcome) = (Found::new(), Outcome { kept: n, ..Outcome::default() });
        open.clear();
        for begin in (0..n).step_by(block) {
            let end = n.min(begin + block);
            unsettled.clear();
            if shared.moved.is_empty() {
                open.extend(first + begin..first + end);
            } else {
                for (i, (&label, bounds)) in
                    (begin..).zip(labels[begin..end].iter().zip(&mut bounds[begin..end]))
                {
                    let label = label as usize;
                    *bounds = bounds.moved(shared.moved[label], most.other_than(label));
                    if !bounds.settled() {
                        unsettled.push(i);
                    }
                }
            }
            for &i in unsettled.iter() {
                let (label, bounds) = (labels[i] as usize, &mut bounds[i]);
                // SAFETY: the instructions are there, here and below.
                if !unsafe { shared.measured::<V>(first + i, label, bounds) } {
                    open.push(first + i);
                }
            }
            // Tiles are full unless the sums of the block wait for them.
            let whole =
                if how == How::Anew || end == n { open.len() } else { open.len() / V::PANEL * V::PANEL };
            let mut chunks = open[..whole].chunks(V::PANEL).peekable();
            while let Some(rows) = chunks.next() {
                unsafe {
                    tile::gather::<V>(shared.points, rows, tile);
                    let next = chunks.peek().copied().unwrap_or(&[]);
                    tile::best_two::<V>(packed, tile, shared.points, next, &mut found);
                }
                for (lane, &row) in rows.iter().enumerate() {
                    let two = (found.best[lane], found.second[lane], found.centre[lane]);
                    let (label, bound, exact) = unsafe { shared.resolve::<V>(row, two) };
                    let i = row - first;
                    outcome.rechecked += usize::from(exact);
                    if labels[i] != label {
                        outcome.changed += 1;
                        if how == How::Moved {
                            sums.change(shared.points.row(row), labels[i], label);
                        }
                    }
                    (labels[i], bounds[i]) = (label, bound);
                }
            }
            outcome.kept -= whole;
            open.drain(..whole);
            if how == How::Anew {
                for (i, &label) in (begin..end).zip(&labels[begin..end]) {
                    sums.add(shared.points.row(first + i), label);
                }
            }
        }
        sums.end(d, labels);
        outcome
    }
}

/// The centre that moved most, how far it moved, and how far any other one did.
struct Most(usize, f32, f32);

impl Most {
    fn new(moved: &[f32]) -> Self {
        let mut most = Most(usize::MAX, 0.0, 0.0);
        for (k, &moved) in moved.iter().enumerate() {
            if moved > most.1 {
                most = Most(k, moved, most.1);
            } else if moved > most.2 {
                most.2 = moved;
            }
        }
        most
    }

    fn other_than(&self, k: usize) -> f32 {
        if k == self.0 { self.2 } else { self.1 }
    }
}

impl Shared<'_> {
    /// Measures the distance of a point to its own centre again, if that could settle it; did it?
    #[inline(always)]
    unsafe fn measured<V: Vector<Element = f32>>(
        &self,
        point: usize,
        own: usize,
        bounds: &mut Bounds,
    ) -> bool {
        if bounds.within_reach(self.moved[own]) {
            // SAFETY: the caller's.
            let score = unsafe { self.score::<V>(point, own) };
            let square = self.squares[point];
            let distance = bounds::farthest(square, score, self.rounding.slack(square));
            // Not a number where it overflowed.
            if distance < bounds.own {
                bounds.own = distance;
            }
        }
        bounds.settled()
    }

    /// The label of a point from its two best scores, its bounds, and whether that took double precision.
    #[inline(always)]
    unsafe fn resolve<V: Vector<Element = f32>>(
        &self,
        point: usize,
        (best, second, centre): (f32, f32, f32),
    ) -> (u32, Bounds, bool) {
        let square = self.squares[point];
        let slack = self.rounding.slack(square);
        let own = bounds::farthest(square, best, slack);
        if best - second > slack {
            let others = bounds::nearest(square, second, slack);
            return (centre as u32, Bounds { own, others }, false);
        }
        // SAFETY: the caller's.
        let label = unsafe { self.exactly::<V>(point, best - slack) };
        (label, Bounds { own, others: bounds::nearest(square, best, slack) }, true)
    }

    /// The nearest of the centres whose score is not below a limit, by distances in double precision. Where the
    /// best score is not a number, or a near tie, any centre may be as near as the limit says.
    #[inline(always)]
    pub unsafe fn exactly<V: Vector<Element = f32>>(&self, point: usize, limit: f32) -> u32 {
        let (mut label, mut least) = (0, f64::INFINITY);
        for (k, exact) in self.centres.chunks(self.points.d).enumerate() {
            // SAFETY: the caller's.
            if unsafe { self.score::<V>(point, k) } < limit {
                continue;
            }
            let distance = self.points.distance(point, exact);
            if distance < least {
                (label, least) = (k as u32, distance);
            }
        }
        label
    }

    /// Score of one point and one centre.
    #[inline(always)]
    pub unsafe fn score<V: Vector<Element = f32>>(&self, point: usize, k: usize) -> f32 {
        const REGISTERS: usize = 4;
        let d = self.points.d;
        let (row, centre) = (self.points.row(point), &self.flat[k * d..][..d]);
        let step = REGISTERS * V::LANES;
        let whole = d / step * step;
        let mut lanes = [0.0; 16];
        assert!(V::LANES <= lanes.len());
        // SAFETY: both rows have `d` elements, and `lanes` at least those of a register.
        unsafe {
            let mut sums = [V::splat(0.0); REGISTERS];
            for first in (0..whole).step_by(step) {
                for (r, sum) in sums.iter_mut().enumerate() {
                    let at = first + r * V::LANES;
                    *sum = V::load(row.as_ptr().add(at)).mul_add(V::load(centre.as_ptr().add(at)), *sum);
                }
            }
            sums[0].add(sums[1]).add(sums[2].add(sums[3])).store(lanes.as_mut_ptr());
        }
        let rest: f32 = row[whole..].iter().zip(&centre[whole..]).map(|(x, c)| x * c).sum();
        lanes.iter().sum::<f32>() + rest + self.offsets[k]
    }
}
