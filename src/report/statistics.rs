//! How sure a difference is: intervals and paired tests.

/// Mean; `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Standard deviation of a sample (divisor n − 1); `None` of fewer than two values.
pub fn deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| values.len() > 1)?;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// 95 % interval of a share of which `successes` in `n` were seen (Wilson 1927). `successes` may be a mean
/// over several looks at the same `n`.
pub fn wilson(successes: f64, n: f64) -> (f64, f64) {
    const Z: f64 = 1.959_963_984_540_054;
    let (share, z) = (successes / n, Z * Z / n);
    let centre = (share + z / 2.0) / (1.0 + z);
    let half = (z * (share * (1.0 - share) + z / 4.0)).sqrt() / (1.0 + z);
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

/// McNemar's test by mid-p (Fagerland, Lydersen & Laake 2013): how likely a split at least as uneven as
/// `b` to `c` is, if each of the images that exactly one of two models got right is a toss of a coin.
pub fn mcnemar(b: u64, c: u64) -> f64 {
    let (few, n) = (b.min(c), b + c);
    // Logarithms of binomial coefficients over 2^n, from the one of 0.
    let mut log = -(n as f64) * std::f64::consts::LN_2;
    let (mut below, mut at) = (0.0, log.exp());
    for k in 1..=few {
        below += at;
        log += ((n - k + 1) as f64 / k as f64).ln();
        at = log.exp();
    }
    (2.0 * below + at).min(1.0)
}

/// A test of whether paired differences have mean 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Paired {
    pub mean: f64,
    /// 95 % interval of the mean.
    pub interval: (f64, f64),
    pub p: f64,
}

/// Student's paired t test, two-sided; `None` for fewer than two differences.
pub fn paired(differences: &[f64]) -> Option<Paired> {
    let (mean, deviation) = (mean(differences)?, deviation(differences)?);
    let freedom = differences.len() as u64 - 1;
    let error = deviation / (differences.len() as f64).sqrt();
    let p = match mean.abs() / error {
        // All differences are 0.
        t if t.is_nan() => 1.0,
        t => two_sided(t, freedom),
    };
    let half = error * t_of_p(0.05, freedom);
    Some(Paired { mean, interval: (mean - half, mean + half), p })
}

/// Probability that |T| exceeds `t` ≥ 0, for a whole number of degrees of freedom (Abramowitz & Stegun,
/// 26.7.3 and 26.7.4).
fn two_sided(t: f64, freedom: u64) -> f64 {
    let angle = (t / (freedom as f64).sqrt()).atan();
    let (sine, square) = (angle.sin(), angle.cos().powi(2));
    let odd = freedom % 2 == 1;
    // Terms of the series, each of the one before.
    let mut term = if odd { angle.cos() } else { 1.0 };
    let mut sum = if freedom == 1 { 0.0 } else { term };
    let mut k = if odd { 3 } else { 2 };
    while k < freedom {
        term *= square * (k - 1) as f64 / k as f64;
        sum += term;
        k += 2;
    }
    let inside = if odd { std::f64::consts::FRAC_2_PI * (angle + sine * sum) } else { sine * sum };
    (1.0 - inside).clamp(0.0, 1.0)
}

/// The t that |T| exceeds with probability `p`, by bisection.
fn t_of_p(p: f64, freedom: u64) -> f64 {
    let (mut low, mut high) = (0.0, 1e4);
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if two_sided(middle, freedom) > p { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

/// Adjusts p values for their number (Holm 1979), so that the chance of any false claim stays bounded.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut least = 0.0f64;
    for (rank, &i) in order.iter().enumerate() {
        least = least.max(p[i] * (p.len() - rank) as f64).min(1.0);
        adjusted[i] = least;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;

    /// statsmodels 0.14, `proportion_confint(method="wilson")`.
    #[test]
    fn wilson_intervals() {
        for (k, n, low, high) in [
            (9402.0, 10_000.0, 0.935_381_395_955_549_9, 0.944_680_531_878_906_4),
            (0.0, 20.0, 0.0, 0.161_125_158_052_819_4),
            (20.0, 20.0, 0.838_874_841_947_180_4, 1.0),
            (1.0, 3.0, 0.061_491_944_720_396_26, 0.792_340_399_197_952_3),
        ] {
            let found = wilson(k, n);
            assert_relative_eq!(found.0, low, epsilon = 1e-12);
            assert_relative_eq!(found.1, high, epsilon = 1e-12);
        }
    }

    /// scipy 1.17, `2 * binom.cdf(min, n, 1/2) - binom.pmf(min, n, 1/2)`.
    #[test]
    fn mcnemar_by_mid_p() {
        for (b, c, p) in [
            (3, 9, 0.092_285_156_25),
            (41, 63, 0.031_301_784_575_539_87),
            (7, 7, 1.0),
            (0, 5, 0.031_25),
            (1, 0, 0.5),
            (610, 700, 0.012_901_516_180_195_773),
            (0, 0, 1.0),
        ] {
            assert_relative_eq!(mcnemar(b, c), p, max_relative = 1e-9);
            assert_eq!(mcnemar(b, c), mcnemar(c, b));
        }
    }

    /// scipy, `ttest_1samp(differences, 0)` with its `confidence_interval()`.
    #[test]
    fn paired_t_tests() {
        let cases: [(&[f64], f64, f64, f64, f64); 4] = [
            (
                &[0.012, 0.004, 0.021],
                0.012_333_333_333_333_335,
                0.128_627_477_996_894_72,
                -0.008_794_010_852_926_14,
                0.033_460_677_519_592_81,
            ),
            (
                &[0.01, -0.02, 0.005, 0.001],
                -0.001,
                0.889_109_120_974_322_2,
                -0.021_989_674_965_125_248,
                0.019_989_674_965_125_246,
            ),
            (
                &[0.5, 0.25],
                0.375,
                0.204_832_764_699_133_45,
                -1.213_275_592_021_836_8,
                1.963_275_592_021_836_8,
            ),
            (
                &[1.0, 2.0, 3.5, 4.0, -1.0, 0.5],
                1.666_666_666_666_666_7,
                0.083_009_729_842_753_58,
                -0.315_257_670_641_030_6,
                3.648_591_003_974_364,
            ),
        ];
        for (differences, mean, p, low, high) in cases {
            let found = paired(differences).unwrap();
            assert_relative_eq!(found.mean, mean, epsilon = 1e-12);
            assert_relative_eq!(found.p, p, epsilon = 1e-12);
            assert_relative_eq!(found.interval.0, low, epsilon = 1e-9);
            assert_relative_eq!(found.interval.1, high, epsilon = 1e-9);
        }
        assert_eq!(paired(&[0.1]), None);
        assert_eq!(paired(&[0.0, 0.0, 0.0]).unwrap().p, 1.0);
    }

    /// scipy, `2 * t.sf(t, df)`.
    #[test]
    fn tails_of_student() {
        for (t, freedom, p) in [
            (2.0, 1, 0.295_167_235_300_866_5),
            (2.0, 2, 0.183_503_419_072_273_97),
            (2.0, 7, 0.085_619_328_562_976_05),
            (0.5, 10, 0.627_893_605_742_973),
            (12.0, 3, 0.001_245_015_800_789_336_2),
            (1.3, 4, 0.263_451_596_471_224_1),
        ] {
            assert_relative_eq!(two_sided(t, freedom), p, epsilon = 1e-12);
        }
    }

    #[test]
    fn means_deviations_and_adjusted_p() {
        assert_eq!((mean(&[]), deviation(&[1.0])), (None, None));
        assert_relative_eq!(
            deviation(&[0.012, 0.004, 0.021]).unwrap(),
            0.008_504_900_548_115_384,
            epsilon = 1e-15
        );
        // statsmodels, `multipletests(method="holm")`.
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.5]);
        for (found, expected) in adjusted.iter().zip([0.04, 0.09, 0.09, 0.5]) {
            assert_relative_eq!(*found, expected, epsilon = 1e-12);
        }
    }
}
