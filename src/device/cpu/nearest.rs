//! Which centre is nearest to each point, and the sums of the points of each centre, in one pass over the
//! points: scores of a block of points stay in the cache, and the N×K table never exists.
//!
//! `‖x − c‖² = ‖x‖² + 2 (‖c‖²/2 − x·c)`, so the nearest centre has the least score `‖c‖²/2 − x·c`. Scores are
//! computed in single precision; wherever rounding could have decided, distances are computed again in
//! double precision, so that labels are those of exact arithmetic on any processor. The lowest index wins.

use rayon::prelude::*;

use super::micro::Panel;
use super::simd::{self, Job, Vector};

/// Points of a block.
const BLOCK: usize = 48;

/// Registers' worth of scores that are compared together.
const LANES: usize = 16;

/// Parts that the points are cut into, each with sums of its own that are added in order: fixed, so that
/// results do not depend on the number of threads.
const PARTS: usize = 16;

/// Points `[n, d]`, compared as `x ∘ weights` if there are weights.
#[derive(Clone, Copy)]
pub struct Points<'a> {
    pub values: &'a [f32],
    pub d: usize,
    pub weights: Option<&'a [f32]>,
}

impl Points<'_> {
    pub fn len(&self) -> usize {
        self.values.len() / self.d
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.d..(i + 1) * self.d]
    }

    fn weight(&self, j: usize) -> f64 {
        self.weights.map_or(1.0, |w| f64::from(w[j]))
    }

    /// Squared distance of point `i` to a centre in the weighted space, in double precision.
    pub fn distance(&self, i: usize, centre: &[f64]) -> f64 {
        let row = self.row(i);
        let term = |j: usize| {
            let difference = f64::from(row[j]) * self.weight(j) - centre[j];
            difference * difference
        };
        // Eight sums, so that the additions do not wait for each other.
        let mut sums = [0.0; 8];
        let whole = self.d / 8 * 8;
        for first in (0..whole).step_by(8) {
            for (lane, sum) in sums.iter_mut().enumerate() {
                *sum += term(first + lane);
            }
        }
        sums.iter().sum::<f64>() + (whole..self.d).map(term).sum::<f64>()
    }
}

/// Scratch memory and results of passes over the points.
pub struct Pass {
    k: usize,
    d: usize,
    panel: usize,
    /// `w ∘ (c − shift)` in panels `[panels][d][panel]`.
    packed: Vec<f32>,
    /// `‖c‖²/2` of each centre, padded with a value that never wins.
    half_norms: Vec<f32>,
    parts: Vec<Part>,
}

struct Part {
    sums: Vec<f64>,
    counts: Vec<u64>,
    scores: Vec<f32>,
    changed: usize,
    rechecked: usize,
}

/// What one pass found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Points whose label changed.
    pub changed: usize,
    /// Points whose nearest centre was decided in double precision.
    pub rechecked: usize,
}

impl Pass {
    pub fn new(k: usize, d: usize) -> Self {
        let panel = simd::panel::<f32>().min(k.next_multiple_of(LANES));
        let padded = k.div_ceil(panel) * panel;
        let part = || Part {
            sums: vec![0.0; k * d],
            counts: vec![0; k],
            scores: vec![0.0; BLOCK * padded],
            changed: 0,
            rechecked: 0,
        };
        Pass {
            k,
            d,
            panel,
            packed: vec![0.0; padded * d],
            half_norms: vec![f32::MAX; padded.next_multiple_of(LANES)],
            parts: (0..PARTS).map(|_| part()).collect(),
        }
    }

    /// Sets `labels` to the nearest of `centres [k, d]` (in the weighted space), and sums the points of
    /// each centre if `sum` says so.
    pub fn assign(&mut self, points: &Points<'_>, centres: &[f64], labels: &mut [u32], sum: bool) -> Outcome {
        assert!(centres.len() == self.k * self.d && labels.len() == points.len() && points.d == self.d);
        self.pack(points, centres);
        let largest = largest_norm(centres, self.d);
        let widest = points.weights.map_or(1.0, |w| w.iter().fold(0.0f32, |m, &w| m.max(w.abs())));
        let Pass { k, d, panel, packed, half_norms, parts, .. } = self;
        let shared = Shared {
            points,
            centres,
            packed,
            half_norms,
            k: *k,
            d: *d,
            panel: *panel,
            // A sum of d products in single precision is off by less than (d + 2) ε Σ|terms|, and
            // Σ|terms| ≤ ‖x‖ max(w) ‖c‖.
            slack: (*d as f32 + 8.0) * f32::EPSILON * largest * widest,
            largest,
        };
        // Parts are whole blocks.
        let n = labels.len();
        let size = n.div_ceil(PARTS).next_multiple_of(BLOCK);
        labels.par_chunks_mut(size).zip(parts.par_iter_mut()).enumerate().for_each(|(i, (labels, part))| {
            (part.changed, part.rechecked) = (0, 0);
            part.sums.fill(0.0);
            part.counts.fill(0);
            simd::dispatch(Sweep { shared: &shared, first: i * size, labels, part, sum });
        });
        let used = n.div_ceil(size.max(1));
        parts[used..].iter_mut().for_each(|part| {
            part.sums.fill(0.0);
            part.counts.fill(0);
            (part.changed, part.rechecked) = (0, 0);
        });
        Outcome {
            changed: parts.iter().map(|p| p.changed).sum(),
            rechecked: parts.iter().map(|p| p.rechecked).sum(),
        }
    }

    /// Sums `[k, d]` of the unweighted points of each centre in the last pass, and their numbers.
    pub fn totals(&self, sums: &mut [f64], counts: &mut [u64]) {
        sums.par_chunks_mut(self.d).zip(counts.par_iter_mut()).enumerate().for_each(|(k, (sums, count))| {
            sums.fill(0.0);
            *count = 0;
            for part in &self.parts {
                *count += part.counts[k];
                sums.iter_mut().zip(&part.sums[k * self.d..]).for_each(|(s, p)| *s += p);
            }
        });
    }

    fn pack(&mut self, points: &Points<'_>, centres: &[f64]) {
        for k in 0..self.k {
            let centre = &centres[k * self.d..(k + 1) * self.d];
            self.half_norms[k] = (centre.iter().map(|c| c * c).sum::<f64>() / 2.0) as f32;
            let (panel, column) = (k / self.panel, k % self.panel);
            for (j, &c) in centre.iter().enumerate() {
                self.packed[(panel * self.d + j) * self.panel + column] = (c * points.weight(j)) as f32;
            }
        }
    }
}

fn largest_norm(centres: &[f64], d: usize) -> f32 {
    let squares = centres.chunks(d).map(|c| c.iter().map(|c| c * c).sum::<f64>());
    squares.fold(0.0f64, f64::max).sqrt() as f32
}

struct Shared<'a> {
    points: &'a Points<'a>,
    centres: &'a [f64],
    packed: &'a [f32],
    half_norms: &'a [f32],
    k: usize,
    d: usize,
    panel: usize,
    slack: f32,
    largest: f32,
}

struct Sweep<'a> {
    shared: &'a Shared<'a>,
    first: usize,
    labels: &'a mut [u32],
    part: &'a mut Part,
    sum: bool,
}

impl Job<f32> for Sweep<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Element = f32>>(self) {
        let Sweep { shared, first, labels, part, sum } = self;
        let (d, k) = (shared.d, shared.k);
        let pitch = k.div_ceil(shared.panel) * shared.panel;
        for (block, labels) in labels.chunks_mut(BLOCK).enumerate() {
            let first = first + block * BLOCK;
            for panel in 0..k.div_ceil(shared.panel) {
                let call = Panel {
                    a: shared.points.values[first * d..].as_ptr(),
                    a_row: d,
                    a_step: 1,
                    a_segment: 0,
                    b: shared.packed[panel * d * shared.panel..].as_ptr(),
                    b_step: shared.panel,
                    b_segment: 0,
                    c: part.scores[panel * shared.panel..].as_mut_ptr(),
                    c_row: pitch,
                    rows: labels.len(),
                    columns: shared.panel.min((k - panel * shared.panel).next_multiple_of(LANES)),
                    depth: d,
                    segments: 1,
                    accumulate: false,
                };
                // SAFETY: the block's points exist, panels are padded, and there are scores for a whole
                // block of padded rows.
                unsafe { call.run() };
            }
            for (i, label) in labels.iter_mut().enumerate() {
                let row = shared.points.row(first + i);
                let scores = &mut part.scores[i * pitch..][..k.next_multiple_of(LANES)];
                let (nearest, exact) = shared.nearest(first + i, row, scores);
                part.rechecked += usize::from(exact);
                part.changed += usize::from(*label != nearest);
                *label = nearest;
                if sum {
                    part.counts[nearest as usize] += 1;
                    let sums = &mut part.sums[nearest as usize * d..][..d];
                    sums.iter_mut().zip(row).for_each(|(s, &x)| *s += f64::from(x));
                }
            }
        }
    }
}

impl Shared<'_> {
    /// The nearest centre of a point, and whether that took double precision. `scores` come as `x·c`.
    #[inline(always)]
    fn nearest(&self, point: usize, row: &[f32], scores: &mut [f32]) -> (u32, bool) {
        let mut least = [f32::MAX; LANES];
        let halves = self.half_norms.as_chunks::<LANES>().0;
        for (scores, halves) in scores.as_chunks_mut::<LANES>().0.iter_mut().zip(halves) {
            for lane in 0..LANES {
                let score = halves[lane] - scores[lane];
                scores[lane] = score;
                least[lane] = if score < least[lane] { score } else { least[lane] };
            }
        }
        let best = least.iter().fold(f32::MAX, |m, &s| if s < m { s } else { m });
        let mut square = [0.0f32; LANES];
        let (chunks, rest) = row.as_chunks::<LANES>();
        for chunk in chunks {
            for lane in 0..LANES {
                square[lane] += chunk[lane] * chunk[lane];
            }
        }
        let square = square.iter().sum::<f32>() + rest.iter().map(|x| x * x).sum::<f32>();
        // Errors of two scores, and of rounding the norms and packed centres.
        let slack = 2.0 * self.slack * (square.sqrt() * 1.001 + self.largest);
        let limit = best + slack;
        let (mut close, mut found) = (0, 0);
        for (chunk, scores) in scores.as_chunks::<LANES>().0.iter().enumerate() {
            let mut within = 0u32;
            for &score in scores {
                within += u32::from(score <= limit);
            }
            if within > 0 {
                close += within;
                if close == within {
                    found = chunk * LANES + scores.iter().position(|&s| s <= limit).unwrap_or(0);
                }
            }
        }
        if close == 1 {
            return (found as u32, false);
        }
        // Not a number, or a near tie.
        let (mut label, mut distance) = (0, f64::INFINITY);
        for k in (0..self.k).filter(|&k| close == 0 || scores[k] <= limit) {
            let exact = self.points.distance(point, &self.centres[k * self.d..(k + 1) * self.d]);
            if exact < distance {
                (label, distance) = (k as u32, exact);
            }
        }
        (label, true)
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

    #[test]
    fn labels_are_those_of_exact_distances() {
        for (n, d, k) in [(1, 1, 1), (100, 3, 2), (1000, 7, 5), (777, 32, 17), (500, 20, 130)] {
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
                let (mut pass, mut labels) = (Pass::new(k, d), vec![u32::MAX; n]);
                let outcome = pass.assign(&points, &centres, &mut labels, true);
                assert_eq!(outcome.changed, n);
                let (mut sums, mut counts) = (vec![0.0; k * d], vec![0; k]);
                pass.totals(&mut sums, &mut counts);
                let (mut expected, mut numbers) = (vec![0.0; k * d], vec![0u64; k]);
                for (i, &label) in labels.iter().enumerate() {
                    let distance = |k: usize| points.distance(i, &centres[k * d..(k + 1) * d]);
                    let nearest =
                        (0..k).fold(0, |best, k| if distance(k) < distance(best) { k } else { best });
                    assert_eq!(label as usize, nearest);
                    numbers[nearest] += 1;
                    (0..d).for_each(|j| expected[nearest * d + j] += f64::from(points.row(i)[j]));
                }
                assert_eq!(counts, numbers);
                assert!(sums.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-9 * (1.0 + b.abs())));
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
                let (mut pass, mut labels) = (Pass::new(k, d), vec![0; 5000]);
                pass.assign(&points, &centres, &mut labels, true);
                let (mut sums, mut counts) = (vec![0.0; k * d], vec![0; k]);
                pass.totals(&mut sums, &mut counts);
                (labels, sums, counts)
            })
        };
        assert_eq!(run(1), run(2));
        assert_eq!(run(1), run(5));
    }
}
