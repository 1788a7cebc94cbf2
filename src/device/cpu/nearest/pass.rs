//! One pass over the points: labels, and the sums behind new centres.

use rayon::prelude::*;

use super::Points;
use super::bounds::{Bounds, Rounding};
use super::grouped::{self, Grouped};
use super::groups::Groups;
use super::sums::Sums;
use super::sweep::{Scratch, Shared, Sweep};
use super::tile::{Packed, WIDEST};
use crate::device::cpu::simd;

/// Parts that the points are cut into, each with sums of its own that are added in order: fixed, so that
/// results do not depend on the number of threads.
const PARTS: usize = 16;

/// Fewest centres that are cut into groups.
const MANY: usize = 48;

/// Labels of points, and the scratch memory and results of passes over them.
pub struct Pass<'a> {
    points: Points<'a>,
    k: usize,
    /// `‖w ∘ x‖²`, rounded from double precision.
    squares: Vec<f32>,
    labels: Vec<u32>,
    /// Points of a part.
    size: usize,
    parts: Vec<Part>,
    /// Centres of the last pass; empty before the first one.
    previous: Vec<f64>,
    /// `w ∘ c` in `[k, d]`, and `−‖c‖²/2`.
    flat: Vec<f32>,
    offsets: Vec<f32>,
    proof: Proof,
}

/// What spares scores.
enum Proof {
    /// One bound on all other centres.
    Single { bounds: Vec<Bounds>, packed: Packed },
    /// A bound on the own centre, and one for each group of centres `[n, pitch]`; groups are made of the first
    /// centres.
    Groups { own: Vec<f32>, stored: Vec<f32>, groups: Option<Groups> },
}

/// One of the parts.
pub struct Part {
    pub sums: Sums,
    pub outcome: Outcome,
    scratch: Scratch,
    grouped: grouped::Scratch,
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
        Self::with(points, k, k >= MANY)
    }

    fn with(points: Points<'a>, k: usize, groups: bool) -> Self {
        let (n, d) = (points.len(), points.d);
        let size = n.div_ceil(PARTS).next_multiple_of(WIDEST);
        let part = |i: usize| Part {
            sums: Sums::new((i * size).min(n)..((i + 1) * size).min(n), k, d),
            outcome: Outcome::default(),
            scratch: Scratch::new(d * simd::panel::<f32>()),
            grouped: grouped::Scratch::default(),
        };
        let proof = match groups {
            false => Proof::Single { bounds: vec![Bounds::NONE; n], packed: Packed::new(k, d) },
            true => Proof::Groups { own: vec![f32::INFINITY; n], stored: Vec::new(), groups: None },
        };
        let origin = vec![0.0; d];
        Pass {
            points,
            k,
            squares: points.distances(&origin, &vec![0; n]).into_par_iter().map(|s| s as f32).collect(),
            labels: vec![u32::MAX; n],
            size,
            parts: (0..PARTS).map(part).collect(),
            previous: Vec::new(),
            flat: vec![0.0; k * d],
            offsets: vec![0.0; k],
            proof,
        }
    }

    /// Forgets all labels.
    pub fn restart(&mut self) {
        self.labels.fill(u32::MAX);
        self.parts.iter_mut().for_each(|part| part.sums.restart());
        self.previous.clear();
        match &mut self.proof {
            Proof::Single { bounds, .. } => bounds.fill(Bounds::NONE),
            Proof::Groups { groups, .. } => *groups = None,
        }
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
        for (k, centre) in centres.chunks(d).enumerate() {
            self.offsets[k] = -(centre.iter().map(|c| c * c).sum::<f64>() / 2.0) as f32;
            let flat = self.flat[k * d..].iter_mut().zip(centre).enumerate();
            flat.for_each(|(j, (f, &c))| *f = (c * points.weight(j)) as f32);
        }
        let shared = Shared {
            points,
            centres,
            flat: &self.flat,
            offsets: &self.offsets,
            squares: &self.squares,
            rounding: Rounding::new(d, centres),
            moved: movements(d, &self.previous, centres),
            sum,
        };
        let (size, used) = (self.size, n.div_ceil(self.size.max(1)));
        let pieces = self.labels.par_chunks_mut(size).zip(&mut self.parts[..used]);
        match &mut self.proof {
            Proof::Single { bounds, packed } => {
                packed.pack(&self.flat, &self.offsets);
                let bounds = bounds.par_chunks_mut(size);
                pieces.zip(bounds).enumerate().for_each(|(i, ((labels, part), bounds))| {
                    let Part { sums, outcome, scratch, .. } = part;
                    let (first, changed) = (i * size, outcome.changed);
                    let sweep =
                        Sweep { shared: &shared, packed, first, labels, bounds, sums, changed, scratch };
                    *outcome = simd::dispatch(sweep);
                });
            }
            Proof::Groups { own, stored, groups } => {
                let groups = match groups {
                    Some(groups) => {
                        groups.moved(&shared.moved);
                        groups
                    }
                    none => none.insert(Groups::new(centres, d)),
                };
                groups.pack(&self.flat, &self.offsets);
                let pitch = groups.pitch();
                stored.resize(n * pitch, f32::NEG_INFINITY);
                let bounds = own.par_chunks_mut(size).zip(stored.par_chunks_mut(size * pitch));
                pieces.zip(bounds).enumerate().for_each(|(i, ((labels, part), (own, stored)))| {
                    let Part { sums, outcome, grouped, .. } = part;
                    let (first, changed, scratch) = (i * size, outcome.changed, grouped);
                    let sweep = Grouped {
                        shared: &shared,
                        groups,
                        first,
                        labels,
                        own,
                        stored,
                        sums,
                        changed,
                        scratch,
                    };
                    *outcome = simd::dispatch(sweep);
                });
            }
        }
        self.previous.clear();
        self.previous.extend_from_slice(centres);
        self.parts[..used].iter().fold(Outcome::default(), |all, part| Outcome {
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
                *count += part.sums.counts[k];
                sums.iter_mut().zip(&part.sums.values[k * d..]).for_each(|(s, p)| *s += p);
            }
        });
    }
}

/// How far each centre moved since the last pass, rounded up; nothing before the first.
fn movements(d: usize, before: &[f64], after: &[f64]) -> Vec<f32> {
    let distance = |(a, b): (&[f64], &[f64])| {
        let square = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        (square.sqrt() * (1.0 + 1e-6)) as f32
    };
    before.chunks(d).zip(after.chunks(d)).map(distance).collect()
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
