//! Axes of charts: which values they span, and where their ticks stand.

/// One axis from `low` to `high`.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    pub low: f64,
    pub high: f64,
    pub log: bool,
    pub ticks: Vec<f64>,
}

impl Axis {
    /// A linear axis over all finite values, with about `count` ticks at round numbers.
    pub fn linear(values: impl IntoIterator<Item = f64>, count: usize) -> Self {
        let finite: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        let (low, high) = widened(span(&finite).unwrap_or((0.0, 1.0)));
        let step = round_step((high - low) / count.max(1) as f64);
        let first = (low / step).ceil() as i64;
        // Multiples of the step, not sums of it, so that 0.3 is not 0.30000000000000004.
        let ticks = (first..).map(|i| i as f64 * step).take_while(|t| *t <= high + step * 1e-6);
        Axis { low, high, log: false, ticks: ticks.take(4 * count.max(1) + 4).collect() }
    }

    /// A linear axis over the bulk of the values: single values far outside do not squash the rest.
    pub fn robust(values: impl IntoIterator<Item = f64>, count: usize) -> Self {
        let mut finite: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        finite.sort_by(f64::total_cmp);
        let Some((low, high)) = span(&finite) else { return Axis::linear([], count) };
        let quantile = |q: f64| finite[((finite.len() - 1) as f64 * q).round() as usize];
        let (tenth, ninetieth) = (quantile(0.1), quantile(0.9));
        let reach = 2.0 * (ninetieth - tenth);
        if reach == 0.0 {
            return Axis::linear([low, high], count);
        }
        Axis::linear([low.max(tenth - reach), high.min(ninetieth + reach)], count)
    }

    /// A logarithmic axis over all finite values above 0, with ticks at powers of ten, and at 2 and 5 times
    /// them where there are few.
    pub fn log(values: impl IntoIterator<Item = f64>) -> Self {
        let finite: Vec<f64> = values.into_iter().filter(|v| v.is_finite() && *v > 0.0).collect();
        let (low, high) = span(&finite).unwrap_or((0.1, 1.0));
        let (low, high) = if low == high { (low / 2.0, high * 2.0) } else { (low, high) };
        let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
        let inside = |factors: &[f64], every: usize| -> Vec<f64> {
            let powers = decades.clone().filter(|d| d.rem_euclid(every as i32) == 0);
            let all = powers.flat_map(|d| factors.iter().map(move |f| f * 10f64.powi(d)));
            all.filter(|t| (low * (1.0 - 1e-9)..=high * (1.0 + 1e-9)).contains(t)).collect()
        };
        let candidates = [inside(&[1.0, 2.0, 5.0], 1), inside(&[1.0], 1), inside(&[1.0], 3)];
        let ticks = candidates.into_iter().find(|t| t.len() <= 7).unwrap_or_default();
        Axis { low, high, log: true, ticks }
    }

    /// Where a value stands, 0 at the low end and 1 at the high end; `None` of what cannot be drawn.
    pub fn place(&self, value: f64) -> Option<f64> {
        let at = if self.log {
            (value.ln() - self.low.ln()) / (self.high.ln() - self.low.ln())
        } else {
            (value - self.low) / (self.high - self.low)
        };
        at.is_finite().then_some(at)
    }

    /// Ticks on the axis with their places.
    pub fn ticks_inside(&self) -> impl Iterator<Item = (f64, f64)> {
        let placed = self.ticks.iter().filter_map(|&t| Some((t, self.place(t)?)));
        placed.filter(|(_, place)| (-1e-6..=1.0 + 1e-6).contains(place))
    }

    /// A tick's label: as many decimals as the ticks differ by.
    pub fn label(&self, tick: f64) -> String {
        if self.log {
            return if (1e-3..1e5).contains(&tick) {
                let decimals = (-tick.log10().floor()).max(0.0) as usize;
                format!("{tick:.decimals$}")
            } else {
                format!("{tick:.0e}")
            };
        }
        let step = self.ticks.get(1).map_or(1.0, |t| t - self.ticks[0]);
        let decimals = (-(step * 1.000_001).log10().floor()).clamp(0.0, 9.0) as usize;
        match tick {
            t if t.abs() >= 1e6 || (t != 0.0 && decimals > 6) => format!("{t:.1e}"),
            t if t.abs() >= 10_000.0 && decimals == 0 => format!("{}k", t / 1000.0),
            t => format!("{t:.decimals$}").replace('-', "\u{2212}"),
        }
    }
}

/// Least and largest value.
fn span(values: &[f64]) -> Option<(f64, f64)> {
    let low = values.iter().copied().reduce(f64::min)?;
    let high = values.iter().copied().reduce(f64::max)?;
    Some((low, high))
}

/// A span with some room, and never empty.
fn widened((low, high): (f64, f64)) -> (f64, f64) {
    let room = (high - low) * 0.04;
    if room > 0.0 && room.is_finite() {
        (low - room, high + room)
    } else {
        let half = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
        (low - half, low + half)
    }
}

/// 1, 2 or 5 times a power of ten, near `rough`.
fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let factors = [1.0, 2.0, 5.0];
    let factor = factors.into_iter().find(|f| f * power >= 0.7 * rough).unwrap_or(10.0);
    // Dividing by whole powers keeps 0.1 and its kin exact.
    if power < 1.0 { factor / 10f64.powf(-rough.log10().floor()) } else { factor * power }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_ticks_are_round_and_inside() {
        let axis = Axis::linear([0.0, 1.0], 5);
        assert_eq!(axis.ticks, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0].map(|t: f64| (t * 5.0).round() * 0.2));
        let labels: Vec<String> = axis.ticks.iter().map(|&t| axis.label(t)).collect();
        assert_eq!(labels, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        let axis = Axis::linear([87.3, 94.9], 4);
        assert_eq!(axis.ticks, [88.0, 90.0, 92.0, 94.0]);
        assert_eq!(axis.label(88.0), "88");
        let steps = Axis::linear([0.0, 50_000.0], 5);
        assert_eq!(steps.label(20_000.0), "20k");
        for (low, high) in [(-3.0, 5e-3), (1e-9, 2e-9), (-1e12, 1e12), (0.1, 0.1), (0.0, 0.0), (-5.0, -5.0)] {
            let axis = Axis::linear([low, high], 5);
            assert!((2..=12).contains(&axis.ticks.len()), "{axis:?}");
            assert!(axis.ticks.iter().all(|t| axis.place(*t).is_some_and(|p| (-1e-3..=1.001).contains(&p))));
            assert!(axis.low < axis.high);
        }
    }

    #[test]
    fn values_that_are_not_finite_do_not_count() {
        let axis = Axis::linear([f64::NAN, 1.0, f64::INFINITY, 3.0, f64::NEG_INFINITY], 4);
        assert_eq!(axis, Axis::linear([1.0, 3.0], 4));
        assert_eq!(axis.place(f64::NAN), None);
        assert_eq!(axis.place(f64::INFINITY), None);
        assert_eq!(Axis::linear([f64::NAN], 4), Axis::linear([], 4));
        let log = Axis::log([0.0, -1.0, f64::NAN, 0.01, 10.0]);
        assert_eq!((log.low, log.high), (0.01, 10.0));
        assert_eq!((log.place(0.0), log.place(-1.0)), (None, None));
    }

    #[test]
    fn log_ticks_at_powers_of_ten() {
        let axis = Axis::log([0.01, 10.0]);
        assert_eq!(axis.ticks, [0.01, 0.1, 1.0, 10.0]);
        assert!((axis.place(0.1).unwrap() - 1.0 / 3.0).abs() < 1e-12);
        let labels: Vec<String> = axis.ticks.iter().map(|&t| axis.label(t)).collect();
        assert_eq!(labels, ["0.01", "0.1", "1", "10"]);
        assert_eq!(Axis::log([0.1, 2.0]).ticks.len(), 5);
        assert!(Axis::log([1e-12, 1e12]).ticks.len() <= 9);
        assert!(Axis::log([0.5, 0.5]).low < 0.5);
    }

    #[test]
    fn a_robust_axis_leaves_single_outliers_outside() {
        let values = (0..100).map(|i| 90.0 + f64::from(i % 10) / 10.0).chain([10.0, 1e9]);
        let axis = Axis::robust(values, 5);
        assert!(axis.low > 85.0 && axis.high < 95.0, "{axis:?}");
        assert!(axis.place(10.0).unwrap() < 0.0 && axis.place(1e9).unwrap() > 1.0);
        let narrow = Axis::robust([5.0, 5.0, 5.0, 5.0, 7.0], 5);
        assert!(narrow.low < 5.0 && narrow.high > 7.0);
    }
}
