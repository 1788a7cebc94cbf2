//! Accuracies of several methods as dots, a row a method.

use maud::{Markup, html};

use super::axis::Axis;
use super::chart::{COLOURS, WIDTH, short};
use super::numbers::percent;
use super::statistics::mean;

/// A row of [`dots`]: name, colour and one share a seed.
pub struct Row {
    pub name: String,
    pub colour: usize,
    pub shares: Vec<(String, f64)>,
}

/// Shares of each method as dots, their mean as a bar.
pub fn dots(title: &str, rows: &[Row]) -> Option<Markup> {
    const STEP: f64 = 48.0;
    let all: Vec<f64> = rows.iter().flat_map(|r| &r.shares).map(|s| s.1 * 100.0).collect();
    if !all.iter().any(|v| v.is_finite()) {
        return None;
    }
    let axis = Axis::linear(all, 5);
    let rows: Vec<&Row> = rows.iter().filter(|r| !r.shares.is_empty()).collect();
    let (edge, bottom) = (10.0, 8.0 + STEP * rows.len() as f64);
    let place = |share: f64| axis.place(share * 100.0).map(|p| short(edge + p * (WIDTH - 2.0 * edge)));
    let value = |row: &Row| {
        let shares: Vec<f64> = row.shares.iter().map(|s| s.1).collect();
        mean(&shares)
    };
    let means: Vec<String> =
        rows.iter().filter_map(|r| Some(format!("{} {}", r.name, percent(value(r)?)))).collect();
    Some(html! {
        figure.chart.wide {
            figcaption { strong { (title) } " " span.muted { "A dot a seed, a bar for their mean." } }
            svg viewBox=(format!("0 0 {WIDTH} {}", bottom + 26.0)) role="img"
                aria-label=(format!("Dot chart. {title} Means: {}.", means.join("; "))) {
                @for (tick, x) in axis.ticks.iter().filter_map(|t| Some((t, place(t / 100.0)?))) {
                    line.grid x1=(x) x2=(x) y1="4" y2=(bottom) {}
                    text x=(x) y=(bottom + 18.0) text-anchor="middle" { (axis.label(*tick)) "%" }
                }
                @for (i, row) in rows.iter().enumerate() {
                    @let y = 8.0 + STEP * i as f64;
                    text.name x=(edge) y=(y + 14.0) { (row.name) }
                    @if let Some(x) = value(row).and_then(place) {
                        line class=(format!("bar c{}", row.colour % COLOURS)) x1=(x) x2=(x) y1=(y + 20.0) y2=(y + 38.0) {}
                    }
                    @for (name, share) in &row.shares {
                        @if let Some(x) = place(*share) {
                            circle class=(format!("dot c{}", row.colour % COLOURS)) cx=(x) cy=(y + 29.0) r="5" {
                                title { (name) ": " (percent(*share)) }
                            }
                        }
                    }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_show_every_seed_and_the_mean() {
        let rows = [Row {
            name: "stl & co".into(),
            colour: 0,
            shares: vec![("seed 1".into(), 0.9), ("seed 2".into(), 0.92)],
        }];
        let svg = dots("Test.", &rows).unwrap().into_string();
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains("seed 2: 92.0") && svg.contains("stl &amp; co 91.0"));
        assert!(dots("Test.", &[]).is_none());
    }
}
