//! Learning curves of one run or of several methods.

use maud::{Markup, html};

use super::chart::{COLOURS, Chart, Line, Unit, legend};
use super::groups::{Group, seed_name};
use super::load::Run;

/// A figure of the log and how it is drawn.
struct Curve {
    kind: &'static str,
    figure: &'static str,
    title: &'static str,
    about: &'static str,
    unit: Unit,
}

const LOSS: Curve = Curve {
    kind: "epoch",
    figure: "loss",
    title: "Training loss.",
    about: "Mean cross-entropy of the main task over an epoch, in nats.",
    unit: Unit::Plain,
};

const CURVES: [Curve; 5] = [
    LOSS,
    Curve {
        kind: "validation",
        figure: "accuracy",
        title: "Validation accuracy.",
        about: "Share of held-out training images classified correctly.",
        unit: Unit::Percent,
    },
    Curve {
        kind: "epoch",
        figure: "hessian_ratio",
        title: "Size of the second-order term.",
        about: "‖αHv‖ / ‖v‖, mean over an epoch.",
        unit: Unit::Plain,
    },
    Curve {
        kind: "epoch",
        figure: "hessian_cosine",
        title: "First order against exact.",
        about: "Cosine of the first-order and the exact meta-gradient, mean over an epoch.",
        unit: Unit::Plain,
    },
    Curve {
        kind: "epoch",
        figure: "alignment",
        title: "Alignment of the tasks.",
        about: "Cosine of the inner step's gradient and the main gradient, mean over an epoch.",
        unit: Unit::Plain,
    },
];

/// Losses that stand beside the main one in a single run.
const MORE_LOSSES: [(&str, &str); 2] =
    [("inner_loss", "task of the inner step"), ("joint_loss", "joint loss of all tasks")];

/// Colours of groups: the baseline has its own.
pub fn colours(groups: &[Group]) -> Vec<usize> {
    let mut others = 0;
    let mut next = || {
        others += 1;
        1 + (others - 1) % (COLOURS - 1)
    };
    groups.iter().map(|g| if g.is_baseline() { 0 } else { next() }).collect()
}

pub fn of_run(run: &Run) -> Markup {
    let selected = run.outcome.as_ref().and_then(|o| o.selected_step);
    let mut charts = Vec::new();
    let mut losses = Vec::new();
    for curve in &CURVES {
        let points = run.log.series(curve.kind, curve.figure);
        let mut lines = vec![Line { name: "main task".into(), colour: 1, thin: false, points }];
        if curve.figure == LOSS.figure && curve.kind == LOSS.kind {
            for (i, (figure, name)) in MORE_LOSSES.iter().enumerate() {
                let points = run.log.series("epoch", figure);
                if points.iter().any(|p| p.1.is_finite()) {
                    lines.push(Line { name: name.to_string(), colour: 2 + i, thin: false, points });
                }
            }
            losses = lines.iter().map(|l| (l.name.clone(), l.colour)).collect();
        } else {
            lines[0].name = curve.title.trim_end_matches('.').to_string();
        }
        let mark = selected.filter(|_| curve.kind == "validation").map(|s| (s as f64, "kept"));
        charts.extend(Chart { title: curve.title, about: curve.about, unit: curve.unit, lines, mark }.draw());
    }
    html! {
        @if losses.len() > 1 { (legend(&losses, false)) }
        (grid(charts, &[run]))
    }
}

pub fn of_groups(groups: &[Group]) -> Markup {
    let colours = colours(groups);
    let charts = CURVES.iter().filter_map(|curve| {
        let lines = groups.iter().zip(&colours).flat_map(|(g, &colour)| lines(g, colour, curve)).collect();
        Chart { title: curve.title, about: curve.about, unit: curve.unit, lines, mark: None }.draw()
    });
    let names: Vec<(String, usize)> =
        groups.iter().zip(&colours).map(|(g, &c)| (g.label.clone(), c)).collect();
    let seeds = groups.iter().any(|g| g.runs.len() > 1);
    let runs: Vec<&Run> = groups.iter().flat_map(|g| &g.runs).collect();
    html! {
        (legend(&names, seeds))
        (grid(charts.collect(), &runs))
    }
}

fn grid(charts: Vec<Markup>, runs: &[&Run]) -> Markup {
    let validated = runs.iter().any(|r| !r.log.series("validation", "accuracy").is_empty());
    let held_out = runs.iter().any(|r| r.about_number("/split/validation") != Some(0));
    html! {
        @if charts.is_empty() {
            p.note { "The log holds no figures to draw." }
        } @else if !validated {
            p.note {
                (if held_out { "The log holds no validation accuracy." }
                else { "No images were held out for validation, so there is no curve of validation accuracy." })
            }
        }
        div.charts { @for chart in charts { (chart) } }
    }
}

/// A thick line of a group, and a thin one of each seed if there are several.
fn lines(group: &Group, colour: usize, curve: &Curve) -> Vec<Line> {
    let series: Vec<(String, Vec<(f64, f64)>)> = group
        .runs
        .iter()
        .map(|r| (seed_name(r), r.log.series(curve.kind, curve.figure)))
        .filter(|(_, s)| !s.is_empty())
        .collect();
    let all: Vec<&[(f64, f64)]> = series.iter().map(|(_, s)| &s[..]).collect();
    let mut lines = vec![Line { name: group.label.clone(), colour, thin: false, points: mean_line(&all) }];
    if series.len() > 1 {
        lines.extend(series.into_iter().map(|(seed, points)| Line {
            name: format!("{}, {seed}", group.label),
            colour,
            thin: true,
            points,
        }));
    }
    lines
}

/// The mean at every step that all series have.
fn mean_line(series: &[&[(f64, f64)]]) -> Vec<(f64, f64)> {
    let Some((first, rest)) = series.split_first() else { return Vec::new() };
    let tables: Vec<std::collections::BTreeMap<u64, f64>> =
        rest.iter().map(|s| s.iter().map(|&(x, y)| (x as u64, y)).collect()).collect();
    let mean = |&(x, y): &(f64, f64)| {
        let others: Option<Vec<f64>> = tables.iter().map(|t| t.get(&(x as u64)).copied()).collect();
        Some((x, (y + others?.iter().sum::<f64>()) / series.len() as f64))
    };
    first.iter().filter_map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_taken_where_all_seeds_have_a_value() {
        let (a, b) = ([(1.0, 2.0), (2.0, 4.0), (3.0, 9.0)], [(1.0, 4.0), (2.0, 0.0)]);
        assert_eq!(mean_line(&[&a, &b]), [(1.0, 3.0), (2.0, 2.0)]);
        assert_eq!(mean_line(&[&a]), a);
        assert!(mean_line(&[]).is_empty());
    }
}
