//! One pass over the points: labels, and the sums behind new centres.

use rayon::prelude::*;

use super::Points;
use super::bounds::{self, Bounds, Rounding};
use super::tile::{self, Found, Packed, WIDEST};
use crate::device::cpu::simd::{self, Job, Vector};

/// Parts that the points are cut into, each with sums of its own that are added in order: fixed, so that
/// results do not depend on the number of threads.
const PARTS: usize = 16;

/// Bytes of the points of a block, which stay in the cache from their scores to their sums.
const BLOCK: usize = 1 << 16;

/// Labels of points, and the scratch memory and results of passes over them.
pub struct Pass<'a> {
    points: Points<'a>,
    k: usize,
    /// `‖w ∘ x‖²`, rounded from double precision.
    squares: Vec<f32>,
    labels: Vec<u32>,
    bounds: Vec<Bounds>,
    /// Centres of the last pass; empty before the first one.
    previous: Vec<f64>,
    packed: Packed,
    /// `w ∘ c` in `[k, d]`, and `−‖c‖²/2`.
    flat: Vec<f32>,
    offsets: Vec<f32>,
    parts: Vec<Part>,
}

struct Part {
    sums: Vec<f64>,
    counts: Vec<u64>,
    tile: Vec<f32>,
    /// Points of the block that need scores.
    open: Vec<usize>,
    outcome: Outcome,
}

/// What one pass found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Points whose label changed.
    pub changed: usize,
    /// Points whose nearest centre was decided in double precision.
    pub rechecked: usize,
    /// Points that kept their label without scores.
    pub kept: usize,
}

impl<'a> Pass<'a> {
    pub fn new(points: Points<'a>, k: usize) -> Self {
        let (n, d) = (points.len(), points.d);
        let part = || Part {
            sums: vec![0.0; k * d],
            counts: vec![0; k],
            tile: vec![0.0; d * simd::panel::<f32>()],
            open: Vec::new(),
            outcome: Outcome::default(),
        };
        let origin = vec![0.0; d];
        Pass {
            points,
            k,
            squares: points.distances(&origin, &vec![0; n]).into_par_iter().map(|s| s as f32).collect(),
            labels: vec![u32::MAX; n],
            bounds: vec![Bounds::NONE; n],
            previous: Vec::new(),
            packed: Packed::new(k, d),
            flat: vec![0.0; k * d],
            offsets: vec![0.0; k],
            parts: (0..PARTS).map(|_| part()).collect(),
        }
    }

    /// Forgets all labels.
    pub fn restart(&mut self) {
        self.labels.fill(u32::MAX);
        self.bounds.fill(Bounds::NONE);
        self.previous.clear();
    }

    /// Labels of the last pass; `u32::MAX` before the first one.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Sets the labels to the nearest of `centres [k, d]` (in the weighted space), and sums the points of
    /// each centre if `sum` says so.
    pub fn assign(&mut self, centres: &[f64], sum: bool) -> Outcome {
        let (points, d, n) = (&self.points, self.points.d, self.labels.len());
        assert!(centres.len() == self.k * d);
        self.packed.pack(points, centres);
        for (k, centre) in centres.chunks(d).enumerate() {
            self.offsets[k] = -(centre.iter().map(|c| c * c).sum::<f64>() / 2.0) as f32;
            let flat = self.flat[k * d..].iter_mut().zip(centre).enumerate();
            flat.for_each(|(j, (f, &c))| *f = (c * points.weight(j)) as f32);
        }
        let shared = Shared {
            points,
            centres,
            packed: &self.packed,
            flat: &self.flat,
            offsets: &self.offsets,
            squares: &self.squares,
            rounding: Rounding::new(d, centres),
            moved: Moved::new(d, &self.previous, centres),
            block: (BLOCK / (4 * d)).clamp(WIDEST, 16 * WIDEST).next_multiple_of(WIDEST),
        };
        let size = n.div_ceil(PARTS).next_multiple_of(WIDEST);
        let used = n.div_ceil(size.max(1));
        for part in &mut self.parts {
            part.sums.fill(0.0);
            part.counts.fill(0);
            part.outcome = Outcome::default();
        }
        let pieces = self.labels.par_chunks_mut(size).zip(self.bounds.par_chunks_mut(size));
        pieces.zip(&mut self.parts[..used]).enumerate().for_each(|(i, ((labels, bounds), part))| {
            simd::dispatch(Sweep { shared: &shared, first: i * size, labels, bounds, part, sum });
        });
        self.previous.clear();
        self.previous.extend_from_slice(centres);
        self.parts.iter().fold(Outcome::default(), |all, part| Outcome {
            changed: all.changed + part.outcome.changed,
            rechecked: all.rechecked + part.outcome.rechecked,
            kept: all.kept + part.outcome.kept,
        })
    }

    /// Sums `[k, d]` of the unweighted points of each centre in the last pass, and their numbers.
    pub fn totals(&self, sums: &mut [f64], counts: &mut [u64]) {
        let d = self.points.d;
        sums.par_chunks_mut(d).zip(counts.par_iter_mut()).enumerate().for_each(|(k, (sums, count))| {
            sums.fill(0.0);
            *count = 0;
            for part in &self.parts {
                *count += part.counts[k];
                sums.iter_mut().zip(&part.sums[k * d..]).for_each(|(s, p)| *s += p);
            }
        });
    }
}

/// How far each centre moved since the last pass, rounded up.
struct Moved {
    each: Vec<f32>,
    /// The centre that moved most, how far it moved, and how far any other one did.
    most: (usize, f32, f32),
}

impl Moved {
    fn new(d: usize, before: &[f64], after: &[f64]) -> Self {
        let distance = |(a, b): (&[f64], &[f64])| {
            let square = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
            (square.sqrt() * (1.0 + 1e-6)) as f32
        };
        let each: Vec<f32> = before.chunks(d).zip(after.chunks(d)).map(distance).collect();
        let mut most = (usize::MAX, 0.0, 0.0);
        for (k, &moved) in each.iter().enumerate() {
            if moved > most.1 {
                most = (k, moved, most.1);
            } else if moved > most.2 {
                most.2 = moved;
            }
        }
        Moved { each, most }
    }

    fn other_than(&self, k: usize) -> f32 {
        if k == self.most.0 { self.most.2 } else { self.most.1 }
    }
}

struct Shared<'a> {
    points: &'a Points<'a>,
    centres: &'a [f64],
    packed: &'a Packed,
    flat: &'a [f32],
    offsets: &'a [f32],
    squares: &'a [f32],
    rounding: Rounding,
    moved: Moved,
    block: usize,
}

struct Sweep<'a> {
    shared: &'a Shared<'a>,
    first: usize,
    labels: &'a mut [u32],
    bounds: &'a mut [Bounds],
    part: &'a mut Part,
    sum: bool,
}

impl Job<f32> for Sweep<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Element = f32>>(self) {
        let Sweep { shared, first, labels, bounds, part, sum } = self;
        let (d, n) = (shared.points.d, labels.len());
        let mut found = Found::new();
        for begin in (0..n).step_by(shared.block) {
            let end = n.min(begin + shared.block);
            part.open.clear();
            for i in begin..end {
                // SAFETY: the instructions are there, here and below.
                let kept = unsafe { shared.keeps::<V>(first + i, labels[i], &mut bounds[i]) };
                if !kept {
                    part.open.push(first + i);
                }
            }
            part.outcome.kept += end - begin - part.open.len();
            for rows in part.open.chunks(V::PANEL) {
                let after = rows.last().map_or(0, |&row| row + 1);
                let next = shared.points.values.as_ptr().wrapping_add(after * d);
                unsafe {
                    tile::gather::<V>(shared.points, rows, &mut part.tile);
                    tile::best_two::<V>(shared.packed, &part.tile, next, &mut found);
                }
                for (lane, &row) in rows.iter().enumerate() {
                    let two = (found.best[lane], found.second[lane], found.centre[lane]);
                    let (label, bound, exact) = unsafe { shared.resolve::<V>(row, two) };
                    let i = row - first;
                    part.outcome.rechecked += usize::from(exact);
                    part.outcome.changed += usize::from(labels[i] != label);
                    (labels[i], bounds[i]) = (label, bound);
                }
            }
            if sum {
                for (i, &label) in (begin..end).zip(&labels[begin..end]) {
                    part.counts[label as usize] += 1;
                    let sums = &mut part.sums[label as usize * d..][..d];
                    sums.iter_mut().zip(shared.points.row(first + i)).for_each(|(s, &x)| *s += f64::from(x));
                }
            }
        }
    }
}

impl Shared<'_> {
    /// Carries the bounds of a point over to this pass; does it surely keep its label?
    #[inline(always)]
    unsafe fn keeps<V: Vector<Element = f32>>(&self, point: usize, label: u32, bounds: &mut Bounds) -> bool {
        let own = label as usize;
        let Some(&moved) = self.moved.each.get(own) else { return false };
        *bounds = bounds.moved(moved, self.moved.other_than(own));
        if !bounds.settled() && bounds.within_reach(moved) {
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
        // Not a number, or a near tie, where any other centre may be as near as the best score says.
        let limit = best - slack;
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
        (label, Bounds { own, others: bounds::nearest(square, best, slack) }, true)
    }

    /// Score of one point and one centre.
    #[inline(always)]
    unsafe fn score<V: Vector<Element = f32>>(&self, point: usize, k: usize) -> f32 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    fn random(n: usize, seed: u64) -> Vec<f32> {
        let mut draw = Stream::new(seed, Purpose::KmeansSeeding, 0);
        (0..n).map(|_| draw.normal() as f32 + 3.0).collect()
    }

    /// Labels, sums and numbers of one pass, against plain loops in double precision.
    fn check(points: Points<'_>, centres: &[f64], pass: &mut Pass<'_>) {
        let (n, d, k) = (points.len(), points.d, centres.len() / points.d);
        let before = pass.labels().to_vec();
        let outcome = pass.assign(centres, true);
        let (mut sums, mut counts) = (vec![0.0; k * d], vec![0; k]);
        pass.totals(&mut sums, &mut counts);
        let (mut expected, mut numbers) = (vec![0.0; k * d], vec![0u64; k]);
        for (i, &label) in pass.labels().iter().enumerate() {
            let distance = |k: usize| {
                let term = |j: usize| f64::from(points.row(i)[j]) * points.weight(j) - centres[k * d + j];
                (0..d).map(|j| term(j) * term(j)).sum::<f64>()
            };
            let nearest = (0..k).fold(0, |best, k| if distance(k) < distance(best) { k } else { best });
            assert_eq!(label as usize, nearest, "point {i} of {n}, d = {d}, k = {k}");
            numbers[nearest] += 1;
            (0..d).for_each(|j| expected[nearest * d + j] += f64::from(points.row(i)[j]));
        }
        assert_eq!(counts, numbers);
        assert!(sums.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-9 * (1.0 + b.abs())));
        let changed = before.iter().zip(pass.labels()).filter(|(a, b)| a != b).count();
        assert_eq!(outcome.changed, changed);
    }

    #[test]
    fn labels_are_those_of_exact_distances() {
        for (n, d, k) in [(1, 1, 1), (100, 3, 2), (1000, 7, 5), (777, 32, 17), (500, 20, 130), (300, 70, 6)] {
            let values = random(n * d, 5);
            let weights = random(d, 6);
            for weights in [None, Some(&weights[..])] {
                let points = Points { values: &values, d, weights };
                let mut centres: Vec<f64> =
                    (0..k * d).map(|i| f64::from(values[i % (n * d)]) * points.weight(i % d)).collect();
                // Exact ties go to the lowest index.
                if k > 2 {
                    centres.copy_within(0..d, d);
                }
                check(points, &centres, &mut Pass::new(points, k));
            }
        }
    }

    /// Centres that move by different lengths, down to nothing: what the bounds keep must be right, and
    /// they must keep something.
    #[test]
    fn labels_stay_exact_while_centres_move() {
        for (d, k) in [(1, 3), (5, 12), (40, 7)] {
            let n = 900;
            let mut values = random(n * d, 7);
            // Copies and far-away points.
            values.copy_within(0..20 * d, 50 * d);
            values[70 * d..75 * d].iter_mut().for_each(|v| *v *= 1e4);
            let points = Points { values: &values, d, weights: None };
            let mut centres: Vec<f64> = values[..k * d].iter().map(|&v| v.into()).collect();
            let mut pass = Pass::new(points, k);
            let mut draw = Stream::new(8, Purpose::KmeansSeeding, 0);
            let mut kept = 0;
            for step in 0..12 {
                check(points, &centres, &mut pass);
                kept = pass.assign(&centres, false).kept.max(kept);
                let size = 0.5f64.powi(step * 2);
                centres.iter_mut().step_by(1 + step as usize % 3).for_each(|c| *c += size * draw.normal());
            }
            assert!(kept > n / 2, "only {kept} points were kept");
            pass.restart();
            check(points, &centres, &mut pass);
        }
    }

    /// Sums that overflow, vanish or cancel in single precision leave the labels right.
    #[test]
    fn labels_are_exact_at_any_scale() {
        for scale in [1e-30f32, 1e-20, 1e-3, 1e15, 1e25] {
            for offset in [0.0f32, 1e3] {
                let (n, d, k) = (200, 6, 5);
                let values: Vec<f32> = random(n * d, 9).iter().map(|v| (v + offset) * scale).collect();
                let points = Points { values: &values, d, weights: None };
                let centres: Vec<f64> = values[..k * d].iter().map(|&v| v.into()).collect();
                let mut pass = Pass::new(points, k);
                check(points, &centres, &mut pass);
                let moved: Vec<f64> = centres.iter().map(|c| c * 1.01).collect();
                check(points, &moved, &mut pass);
            }
        }
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        let (d, k) = (24, 9);
        let values = random(5000 * d, 1);
        let points = Points { values: &values, d, weights: None };
        let centres: Vec<f64> = values[..k * d].iter().map(|&v| v.into()).collect();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut pass = Pass::new(points, k);
                pass.assign(&centres, true);
                let (mut sums, mut counts) = (vec![0.0; k * d], vec![0; k]);
                pass.totals(&mut sums, &mut counts);
                (pass.labels().to_vec(), sums, counts)
            })
        };
        assert_eq!(run(1), run(2));
        assert_eq!(run(1), run(5));
    }
}
