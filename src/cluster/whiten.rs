//! Whitening: points are moved and stretched so that the given ones have mean 0, variance 1 along every axis
//! and no correlation.
//!
//! With the covariance `C = L Lᵀ` (Cholesky), a point becomes `L⁻¹ (z − mean)`. Distances are those of any
//! other whitening, such as by singular vectors: `|x − y|² = (x − y)ᵀ C⁻¹ (x − y)`. All sums are in double
//! precision and in order.

use rayon::prelude::*;

pub struct Whitening {
    mean: Vec<f64>,
    /// Row `i` has `i + 1` elements; one that ends with 0 is a direction without variance.
    lower: Vec<Vec<f64>>,
}

/// Variance that is left of a column, of what it had, if it is a mixture of those before.
const NOTHING: f64 = 1e-10;

impl Whitening {
    /// For points `[n, d]`.
    ///
    /// # Panics
    /// If there are no points.
    pub fn of(points: &[f32], d: usize) -> Self {
        let n = points.len() / d;
        assert!(n > 0, "points to whiten by");
        let mut mean = vec![0.0; d];
        for point in points.chunks_exact(d) {
            mean.iter_mut().zip(point).for_each(|(m, &v)| *m += f64::from(v));
        }
        mean.iter_mut().for_each(|m| *m /= n as f64);
        let covariances = |i: usize| {
            let mut row = vec![0.0; i + 1];
            for point in points.chunks_exact(d) {
                let own = f64::from(point[i]) - mean[i];
                let others = point.iter().zip(&mean);
                row.iter_mut().zip(others).for_each(|(c, (&v, m))| *c += own * (f64::from(v) - m));
            }
            row.iter_mut().for_each(|c| *c /= n as f64);
            row
        };
        let mut lower: Vec<Vec<f64>> = (0..d).into_par_iter().map(covariances).collect();
        for i in 0..d {
            let (before, rest) = lower.split_at_mut(i);
            let row = &mut rest[0];
            let variance = row[i];
            for (j, other) in before.iter().enumerate() {
                let left = row[j] - dot(&row[..j], &other[..j]);
                row[j] = if other[j] > 0.0 { left / other[j] } else { 0.0 };
            }
            let left = variance - dot(&row[..i], &row[..i]);
            row[i] = if left > NOTHING * variance { left.sqrt() } else { 0.0 };
        }
        Whitening { mean, lower }
    }

    /// Points `[n, d]` whitened; directions without variance become 0.
    pub fn apply(&self, points: &[f32]) -> Vec<f32> {
        let d = self.mean.len();
        let mut out = vec![0.0; points.len()];
        out.par_chunks_mut(d).zip(points.par_chunks(d)).for_each(|(out, point)| {
            let mut white = Vec::with_capacity(d);
            for (i, row) in self.lower.iter().enumerate() {
                let left = f64::from(point[i]) - self.mean[i] - dot(&row[..i], &white);
                white.push(if row[i] > 0.0 { left / row[i] } else { 0.0 });
            }
            out.iter_mut().zip(white).for_each(|(o, w)| *o = w as f32);
        });
        out
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    #[test]
    fn white_points_have_the_identity_as_covariance() {
        let (n, d) = (4000, 5);
        let mut draw = Stream::new(2, Purpose::Synthetic, 6);
        let mut points = Vec::new();
        for _ in 0..n {
            let [a, b, c] = [0; 3].map(|_| draw.normal());
            // The third is a mixture of the first two, the fourth does not vary.
            let point = [100.0 * a + 7.0, 0.01 * b + a, 3.0 * a - 2.0 * (0.01 * b + a), 4.0, 5.0 * c + b];
            points.extend(point.map(|v| v as f32));
        }
        let whitening = Whitening::of(&points, d);
        let white = whitening.apply(&points);
        for i in 0..d {
            for j in 0..=i {
                let mean: f64 =
                    white.chunks(d).map(|w| f64::from(w[i]) * f64::from(w[j])).sum::<f64>() / n as f64;
                let expected = f64::from(i == j && ![2, 3].contains(&i));
                // Single precision keeps little of a small difference of large numbers.
                assert!((mean - expected).abs() < 2e-3, "{i} {j}: {mean}");
            }
        }
    }
}
