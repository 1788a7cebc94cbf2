//! How numbers are written in a report.

use super::statistics::{deviation, mean};

/// A share as per cent with one decimal, such as `94.1 %`.
pub fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1}\u{a0}%", share * 100.0) } else { "not finite".into() }
}

/// Mean and standard deviation of shares, such as `94.1 ± 0.4 %`; an en dash for none.
pub fn spread(shares: &[f64]) -> String {
    match (mean(shares), deviation(shares)) {
        (Some(mean), Some(sd)) => format!("{:.1}\u{a0}±\u{a0}{:.1}\u{a0}%", mean * 100.0, sd * 100.0),
        (Some(mean), None) => percent(mean),
        _ => NONE.into(),
    }
}

/// A difference of shares in percentage points, with its sign.
pub fn points(difference: f64) -> String {
    let rounded = (difference * 1000.0).round() / 10.0;
    match rounded {
        0.0 => "0.0".into(),
        r if r > 0.0 => format!("+{r:.1}"),
        r => format!("\u{2212}{:.1}", -r),
    }
}

/// What stands in a table for a figure that does not exist.
pub const NONE: &str = "–";

/// A whole number with its thousands apart.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|g| std::str::from_utf8(g).ok()).collect();
    groups.join(",")
}

/// `count` and the noun, with an s unless it is one.
pub fn of(n: usize, noun: &str) -> String {
    format!("{}\u{a0}{noun}{}", count(n as u64), if n == 1 { "" } else { "s" })
}

pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        _ if !seconds.is_finite() || seconds < 0.0 => NONE.into(),
        0..=9 => format!("{seconds:.1}\u{a0}s"),
        10..=119 => format!("{whole}\u{a0}s"),
        120..=7199 => format!("{}\u{a0}min\u{a0}{:02}\u{a0}s", whole / 60, whole % 60),
        _ => format!("{}\u{a0}h\u{a0}{:02}\u{a0}min", whole / 3600, whole / 60 % 60),
    }
}

/// A probability of a test.
pub fn p_value(p: f64) -> String {
    if p < 0.001 { "p\u{a0}<\u{a0}0.001".into() } else { format!("p\u{a0}=\u{a0}{p:.3}") }
}

/// Any figure, to about four digits.
pub fn figure(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "not finite".into(),
        0.0 => "0".into(),
        size if !(1e-3..1e5).contains(&size) => format!("{value:.2e}"),
        size => {
            let decimals = (3 - size.log10().floor() as i32).clamp(0, 6) as usize;
            format!("{value:.decimals$}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_people_write_them() {
        assert_eq!([count(7), count(1000), count(1_234_567)], ["7", "1,000", "1,234,567"]);
        assert_eq!([points(0.0151), points(-0.0004), points(-0.02)], ["+1.5", "0.0", "−2.0"]);
        assert_eq!([percent(0.94026), percent(f64::NAN)], ["94.0\u{a0}%", "not finite"]);
        assert_eq!([spread(&[]), spread(&[0.5])], ["–", "50.0\u{a0}%"]);
        assert_eq!(spread(&[0.5, 0.6]), "55.0\u{a0}±\u{a0}7.1\u{a0}%");
        assert_eq!([duration(3.25), duration(125.2)], ["3.2\u{a0}s", "2\u{a0}min\u{a0}05\u{a0}s"]);
        assert_eq!([figure(0.123_456), figure(1234.5), figure(2.5e-7)], ["0.1235", "1234", "2.50e-7"]);
        assert_eq!([of(1, "image"), of(2000, "image")], ["1\u{a0}image", "2,000\u{a0}images"]);
    }
}
