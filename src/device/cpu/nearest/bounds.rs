//! What single precision can prove: bounds on scores and distances that hold whatever the rounding, and
//! bounds from an earlier pass carried over to moved centres (Hamerly 2010).

/// Bounds of groups that are carried over together.
pub const LANES: usize = 8;

/// Widens a non-negative single-precision result past the rounding of the few operations behind it.
const WIDER: f32 = 1.0 + 4.0 * f32::EPSILON;
const NARROWER: f32 = 1.0 - 4.0 * f32::EPSILON;

/// Bounds on the distance of a point to its own centre, and to every other one.
#[derive(Clone, Copy)]
pub struct Bounds {
    pub own: f32,
    pub others: f32,
}

impl Bounds {
    /// Nothing is known.
    pub const NONE: Bounds = Bounds { own: f32::INFINITY, others: f32::NEG_INFINITY };

    /// After the own centre moved by `own` and no other one by more than `others`.
    pub fn moved(self, own: f32, others: f32) -> Bounds {
        Bounds { own: farther(self.own, own), others: (self.others - others) * NARROWER }
    }

    /// Could measuring the own distance again settle the point? Where the last pass measured it, it has
    /// shrunk by no more than the own centre moved.
    pub fn within_reach(self, own_moved: f32) -> bool {
        self.own - 2.0 * own_moved < self.others
    }

    /// Is the own centre surely the nearest, and the only one?
    pub fn settled(self) -> bool {
        self.own < self.others
    }
}

/// A distance that may have grown.
#[inline(always)]
pub fn farther(distance: f32, moved: f32) -> f32 {
    (distance + moved) * WIDER
}

/// How far centres have moved since the start, at least and at most, so that a bound is stored once, beside the
/// drift of its time, and holds until it is measured anew.
pub struct Drift {
    sums: Vec<f64>,
    least: Vec<f32>,
    most: Vec<f32>,
}

impl Drift {
    pub fn new(many: usize) -> Self {
        Drift { sums: vec![0.0; many], least: vec![0.0; many], most: vec![0.0; many] }
    }

    pub fn add(&mut self, moved: &[f32]) {
        for (i, &moved) in moved.iter().enumerate() {
            self.sums[i] += f64::from(moved);
            (self.least[i], self.most[i]) = (self.sums[i] as f32 * NARROWER, self.sums[i] as f32 * WIDER);
        }
    }

    /// What to store of a lower bound on the distance to `group`.
    #[inline(always)]
    pub fn stored(&self, bound: f32, group: usize) -> f32 {
        (bound + self.least[group]) * NARROWER
    }

    /// Lower bounds now, in `now`, and the least of them. A bound that proves nothing is not a number, or
    /// below zero.
    #[inline(always)]
    pub fn carry(&self, stored: &[f32], now: &mut [f32]) -> f32 {
        let (stored, _) = stored.as_chunks::<LANES>();
        let (now, _) = now.as_chunks_mut::<LANES>();
        let (most, _) = self.most.as_chunks::<LANES>();
        let mut least = [f32::INFINITY; LANES];
        for ((now, stored), most) in now.iter_mut().zip(stored).zip(most) {
            for lane in 0..LANES {
                now[lane] = (stored[lane] - most[lane]) * NARROWER;
                // Keeps what is not a number.
                least[lane] = if least[lane] < now[lane] { least[lane] } else { now[lane] };
            }
        }
        least.into_iter().fold(f32::INFINITY, |a, b| if a < b { a } else { b })
    }
}

/// Errors of the scores of one pass.
#[derive(Clone, Copy)]
pub struct Rounding {
    /// Relative error of a sum of `d` products and an offset, of rounding its operands, and of the few
    /// operations that follow: `γ_n = n u / (1 − n u)` (Higham 2002, §3.1).
    unit: f32,
    /// Largest norm of a centre.
    largest: f32,
}

impl Rounding {
    pub fn new(d: usize, centres: &[f64]) -> Self {
        let n = (d as f64 + 16.0) * f64::from(f32::EPSILON) / 2.0;
        let squares = centres.chunks(d).map(|c| c.iter().map(|c| c * c).sum::<f64>());
        let largest = squares.fold(0.0, f64::max).sqrt() as f32 * WIDER;
        Rounding { unit: if n < 0.5 { (n / (1.0 - n)) as f32 } else { f32::INFINITY }, largest }
    }

    /// Twice the error of a score of a point with squared norm `square` (and of turning it into a squared
    /// distance): a difference of two scores beyond it is a true one. Infinite where sums could overflow.
    #[inline(always)]
    pub fn slack(self, square: f32) -> f32 {
        // Σ|terms| ≤ ‖x‖ ‖c‖ + ‖c‖²/2.
        let reach = self.largest * (square.sqrt() + 0.5 * self.largest) * 1.001;
        // What underflows is lost whatever the unit.
        let lost = f32::MIN_POSITIVE / self.unit;
        2.0 * self.unit * (reach + lost) + 4.0 * f32::EPSILON * square
    }
}

/// At least the distance that belongs to a score.
#[inline(always)]
pub fn farthest(square: f32, score: f32, slack: f32) -> f32 {
    let squared = square - 2.0 * score + slack;
    // What overflowed stays not a number, and proves nothing.
    if squared <= 0.0 { 0.0 } else { squared.sqrt() * WIDER }
}

/// At most the distance that belongs to a score.
#[inline(always)]
pub fn nearest(square: f32, score: f32, slack: f32) -> f32 {
    (square - 2.0 * score - slack).max(0.0).sqrt() * NARROWER
}
