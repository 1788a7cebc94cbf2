//! Tables of methods, seeds, tuning trials and settings.

use maud::{Markup, html};
use serde_json::{Map, Value};

use super::groups::{Group, seed_name};
use super::load::Run;
use super::numbers::{NONE, count, duration, of, p_value, percent, spread};
use super::verdict::{Judged, Standing, cell};

/// A table that scrolls sideways where it is too wide.
fn scroll(label: &str, table: Markup) -> Markup {
    html! { div.scroll tabindex="0" role="region" aria-label=(label) { (table) } }
}

/// One row a method; `winner` is the number of the best on validation.
pub fn methods(groups: &[Group], judged: &[Judged], winner: Option<usize>) -> Markup {
    let speed = |g: &Group| g.images_per_s().map_or(NONE.into(), |s| count(s.round() as u64));
    let has_baseline = groups.iter().any(Group::is_baseline);
    scroll(
        "Methods",
        html! {
            table {
                caption { "Methods: mean ± standard deviation over seeds" }
                thead {
                    tr {
                        th scope="col" { "method" }
                        th.number scope="col" { "validation" }
                        th.number scope="col" { "test" }
                        @if has_baseline { th.number scope="col" { "test against stl, points" } }
                        th.number scope="col" { "seeds" }
                        th.number scope="col" { "training time" }
                        th.number scope="col" { "images/s" }
                    }
                }
                tbody {
                    @for (i, g) in groups.iter().enumerate() {
                        tr.winner[winner == Some(i)] {
                            th scope="row" {
                                (g.label)
                                @if winner == Some(i) { " " span.badge { "best on validation" } }
                                @if g.unfinished() > 0 { " " span.muted { "(" (of(g.unfinished(), "run")) " without a result)" } }
                                @if !g.missing.is_empty() { " " span.muted { "(" (of(g.missing.len(), "run")) " not there)" } }
                            }
                            td.number { (spread(&g.validation())) }
                            td.number { (spread(&g.test())) }
                            @if has_baseline { (against(g, judged.iter().find(|j| j.group == i))) }
                            td.number { (g.runs.len() - g.unfinished()) }
                            td.number { (g.seconds().map_or(NONE.into(), duration)) }
                            td.number { (speed(g)) }
                        }
                    }
                }
            }
        },
    )
}

fn against(group: &Group, judged: Option<&Judged>) -> Markup {
    let Some(judged) = judged else {
        return html! { td.number.muted { (if group.is_baseline() { "the measure" } else { NONE }) } };
    };
    let (difference, detail) = cell(judged);
    let standing = match judged.standing {
        Standing::Better => "above",
        Standing::Worse => "below",
        Standing::Level | Standing::Open => "",
    };
    html! { td.number { strong class=(standing) { (difference) } br; small.muted { (detail) } } }
}

/// McNemar's test of each pair of runs of one seed.
pub fn seeds(groups: &[Group], judged: &[Judged]) -> Markup {
    let pairs = judged.iter().flat_map(|j| j.versus.images.iter().map(move |d| (j, d)));
    if judged.iter().all(|j| j.versus.images.is_empty()) {
        return html! { p.note { "No two runs of one seed have predictions for the same test images." } };
    }
    let table = html! {
        table {
            caption { "Test images on which a method and stl of the same seed disagree" }
            thead {
                tr {
                    th scope="col" { "method" }
                    th.number scope="col" { "seed" }
                    th.number scope="col" { "right here, wrong in stl" }
                    th.number scope="col" { "wrong here, right in stl" }
                    th.number scope="col" { "McNemar, mid-p" }
                }
            }
            tbody {
                @for (j, d) in pairs {
                    tr {
                        th scope="row" { (groups[j.group].label) }
                        td.number { (d.seed) }
                        td.number { (count(d.gained)) }
                        td.number { (count(d.lost)) }
                        td.number { (p_value(d.p)) }
                    }
                }
            }
        }
    };
    html! { details { summary { "Test images that changed sides" } (scroll("Discordant test images", table)) } }
}

/// All runs, one a row.
pub fn runs(groups: &[Group]) -> Markup {
    let selected = |r: &Run| r.outcome.as_ref().and_then(|o| o.selected_step);
    let steps = |r: &Run| r.outcome.as_ref().and_then(|o| o.steps).or_else(|| r.log.last_step());
    let table = html! {
        table {
            caption { "Runs" }
            thead {
                tr {
                    th scope="col" { "method" }
                    th scope="col" { "run" }
                    th.number scope="col" { "validation" }
                    th.number scope="col" { "test" }
                    th.number scope="col" { "steps" }
                    th.number scope="col" { "kept step" }
                    th.number scope="col" { "training time" }
                }
            }
            tbody {
                @for (g, r) in groups.iter().flat_map(|g| g.runs.iter().map(move |r| (g, r))) {
                    tr {
                        th scope="row" { (g.label) }
                        td { (seed_name(r)) @if r.outcome.is_none() { " (no result)" } }
                        td.number { (r.validation().map_or(NONE.into(), percent)) }
                        td.number { (r.test().map_or(NONE.into(), |t| percent(t.0))) }
                        td.number { (steps(r).map_or(NONE.into(), count)) }
                        td.number { (selected(r).map_or(NONE.into(), count)) }
                        td.number { (r.outcome.as_ref().and_then(|o| o.seconds).map_or(NONE.into(), duration)) }
                    }
                }
            }
        }
    };
    html! { details { summary { "All runs" } (scroll("Runs", table)) } }
}

/// What was tried for each method, and what was chosen.
pub fn trials(groups: &[Group]) -> Markup {
    let counts: Vec<usize> = groups.iter().map(|g| g.trials.len()).collect();
    if counts.iter().all(|&n| n == 0) {
        return html! { p { "No tuning trials were made." } };
    }
    let even = counts.windows(2).all(|w| w[0] == w[1]);
    html! {
        p {
            @if even {
                "Every method had " (of(counts[0], "trial")) "."
            } @else {
                "The methods had unequal numbers of trials: "
                (groups.iter().map(|g| format!("{} {}", g.label, g.trials.len())).collect::<Vec<_>>().join(", ")) "."
            }
        }
        @for g in groups.iter().filter(|g| !g.trials.is_empty()) { (trials_of(g)) }
    }
}

fn trials_of(group: &Group) -> Markup {
    let mut keys: Vec<&String> = group.trials.iter().flat_map(|t| t.settings.keys()).collect();
    keys.sort();
    keys.dedup();
    let chosen = |t: &Map<String, Value>| {
        group.chosen.as_ref().is_some_and(|c| t.iter().all(|(k, v)| c.get(k) == Some(v)))
    };
    let best = group.trials.iter().filter_map(|t| t.validation_accuracy).reduce(f64::max);
    html! {
        details {
            summary {
                (group.label)
                @if let Some(best) = best {
                    span.muted { " – best of " (of(group.trials.len(), "trial")) " " (percent(best)) }
                }
            }
            (scroll(&format!("Trials of {}", group.label), html! {
                table {
                    thead {
                        tr {
                            @for key in &keys { th.number scope="col" { (key) } }
                            th.number scope="col" { "validation" }
                            th scope="col" { }
                        }
                    }
                    tbody {
                        @for t in &group.trials {
                            tr.winner[chosen(&t.settings)] {
                                @for key in &keys { td.number { (t.settings.get(*key).map_or(NONE.into(), plain)) } }
                                td.number { (t.validation_accuracy.map_or(NONE.into(), percent)) }
                                td { @if chosen(&t.settings) { span.badge { "chosen" } } }
                            }
                        }
                    }
                }
            }))
        }
    }
}

/// A JSON value as people write it.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(map) => {
            map.iter().map(|(k, v)| format!("{k} {}", plain(v))).collect::<Vec<_>>().join(", ")
        }
        Value::Null => NONE.into(),
        other => other.to_string(),
    }
}

fn pairs(caption: &str, rows: &[(String, String)]) -> Markup {
    scroll(
        caption,
        html! {
            table.pairs {
                caption { (caption) }
                tbody { @for (key, value) in rows { tr { th scope="row" { (key) } td { (value) } } } }
            }
        },
    )
}

/// The configuration of a run.
pub fn configuration(run: &Run) -> Markup {
    if run.config.is_empty() {
        return html! { p.note { "There is no config.toml." } };
    }
    let rows: Vec<(String, String)> =
        run.config.keys().map(|k| (k.clone(), run.setting(k).unwrap_or_default())).collect();
    pairs("Configuration", &rows)
}

/// Where and how a run was made.
pub fn environment(run: &Run) -> Markup {
    let Some(object) = run.environment.as_object() else {
        return html! { p.note { "There is no environment.json." } };
    };
    let mut rows = Vec::new();
    for (key, value) in object.iter().filter(|(key, _)| *key != "command") {
        match value {
            Value::Object(inner) => {
                rows.extend(inner.iter().map(|(k, v)| (format!("{key}: {}", k.replace('_', " ")), plain(v))));
            }
            Value::Number(n) if key == "started" => {
                rows.push((key.clone(), n.as_f64().map_or(NONE.into(), moment)));
            }
            other => rows.push((key.clone(), plain(other))),
        }
    }
    pairs("Environment", &rows)
}

/// Seconds since 1970 as a date and a time (Howard Hinnant's civil-from-days).
fn moment(seconds: f64) -> String {
    let (days, second) = ((seconds / 86_400.0).floor() as i64, seconds.rem_euclid(86_400.0) as u64);
    let z = days + 719_468;
    let (era, day_of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (year, month) =
        (year_of_era + era * 400 + i64::from(month >= 10), if month < 10 { month + 3 } else { month - 9 });
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Settings of several methods: those that differ in columns, the common ones below.
pub fn settings(groups: &[Group]) -> Markup {
    let first: Vec<(&Group, &Run)> = groups.iter().filter_map(|g| Some((g, g.runs.first()?))).collect();
    let mut keys: Vec<&String> = first.iter().flat_map(|(_, r)| r.config.keys()).collect();
    keys.sort();
    keys.dedup();
    if keys.is_empty() {
        return html! { p.note { "The runs have no config.toml." } };
    }
    let keys = keys.into_iter().filter(|k| !["seed", "split-seed"].contains(&k.as_str()));
    let differs = |k: &&String| first.iter().any(|(_, r)| r.config.get(*k) != first[0].1.config.get(*k));
    let (different, common): (Vec<&String>, Vec<&String>) = keys.partition(differs);
    let rows: Vec<(String, String)> =
        common.iter().map(|k| ((*k).clone(), first[0].1.setting(k).unwrap_or_default())).collect();
    html! {
        @if !different.is_empty() {
            (scroll("Settings that differ", html! {
                table {
                    caption { "Settings that differ" }
                    thead { tr { th scope="col" { "setting" } @for (g, _) in &first { th scope="col" { (g.label) } } } }
                    tbody {
                        @for key in &different {
                            tr {
                                th scope="row" { (key) }
                                @for (_, r) in &first { td { (r.setting(key).unwrap_or(NONE.into())) } }
                            }
                        }
                    }
                }
            }))
        }
        details { summary { "Common settings" } (pairs("Common settings", &rows)) }
    }
}

/// The command line of a run, quoted for a shell.
pub fn command(run: &Run) -> Option<String> {
    let words = super::load::strings(run.about("/command"));
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    let quote = |w: &String| {
        if !w.is_empty() && w.chars().all(safe) {
            w.clone()
        } else {
            format!("'{}'", w.replace('\'', r"'\''"))
        }
    };
    (!words.is_empty()).then(|| words.iter().map(quote).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Python, `datetime.fromtimestamp(s, UTC)`.
    #[test]
    fn moments() {
        assert_eq!(moment(0.0), "1970-01-01 00:00:00 UTC");
        assert_eq!(moment(1_709_164_799.9), "2024-02-28 23:59:59 UTC");
        assert_eq!(moment(1_709_164_800.0), "2024-02-29 00:00:00 UTC");
        assert_eq!(moment(4_107_542_399.0), "2100-02-28 23:59:59 UTC");
    }
}
