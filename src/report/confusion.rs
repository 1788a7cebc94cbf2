//! What a model confuses: a heat map of true against predicted classes, and its most confident mistakes.

use maud::{Markup, html};

use super::files::Reason;
use super::load::{Predictions, Run};
use super::numbers::{NONE, count, of, percent};
use super::picture::{Strip, scale};
use crate::data::{Dataset, Part};

/// Mistakes that are shown.
const MISTAKES: usize = 18;

/// Classes up to which every count is written out.
const WRITTEN: usize = 25;

/// Pairs that are named where counts are not written out.
const PAIRS: usize = 10;

pub fn section(run: &Run, data: &Result<Dataset, Reason>) -> Markup {
    let Some(predictions) = run.predictions.as_ref().filter(|p| p.len() > 0) else {
        let why = if run.outcome.is_some() {
            "The run has no predictions for test images; its data set may have no test part."
        } else {
            "The run has not finished, so there are no predictions for test images."
        };
        return html! { p { (why) } };
    };
    let names = run.classes(predictions.width);
    let matrix = Matrix::new(predictions);
    html! {
        p {
            (count(predictions.correct() as u64)) " of " (of(predictions.len(), "test image")) " are classified correctly. "
            "A row is a true class, a column a predicted one; shades are shares of the row."
        }
        @if names.len() <= WRITTEN { (matrix.table(&names)) } @else { (matrix.map(&names)) }
        h3 { "Most confident mistakes" }
        (mistakes(predictions, &names, data))
    }
}

/// Numbers of test images by true and predicted class.
struct Matrix {
    classes: usize,
    counts: Vec<u64>,
}

impl Matrix {
    fn new(predictions: &Predictions) -> Self {
        let classes = predictions.width;
        let mut counts = vec![0; classes * classes];
        for (&label, &predicted) in predictions.labels.iter().zip(&predictions.predicted) {
            counts[label as usize * classes + predicted as usize] += 1;
        }
        Matrix { classes, counts }
    }

    fn row(&self, class: usize) -> &[u64] {
        &self.counts[class * self.classes..(class + 1) * self.classes]
    }

    fn recall(&self, class: usize) -> Option<f64> {
        let total: u64 = self.row(class).iter().sum();
        (total > 0).then(|| self.row(class)[class] as f64 / total as f64)
    }

    fn share(&self, class: usize, predicted: usize) -> f64 {
        self.row(class)[predicted] as f64 / self.row(class).iter().sum::<u64>().max(1) as f64
    }

    fn table(&self, names: &[String]) -> Markup {
        html! {
            div.scroll tabindex="0" role="region" aria-label="Confusion matrix" {
                table.heat {
                    caption { "Test images by true class (rows) and predicted class (columns)" }
                    thead {
                        tr {
                            th scope="col" { "true \\ predicted" }
                            @for name in names { th scope="col" { (name) } }
                            th.apart scope="col" { "recall" }
                        }
                    }
                    tbody {
                        @for (class, name) in names.iter().enumerate() {
                            tr {
                                th scope="row" { (name) }
                                @for (predicted, n) in self.row(class).iter().enumerate() {
                                    (heat_cell(self.share(class, predicted), &count(*n)))
                                }
                                td.apart { (self.recall(class).map_or(NONE.to_string(), percent)) }
                            }
                        }
                    }
                }
            }
        }
    }

    /// For many classes: a picture of the shares, the commonest confusions and the recall of each class.
    fn map(&self, names: &[String]) -> Markup {
        let side = 520.0 / self.classes as f64;
        let mut pairs: Vec<(u64, usize, usize)> = (0..self.classes)
            .flat_map(|t| (0..self.classes).map(move |p| (t, p)))
            .filter(|(t, p)| t != p)
            .map(|(t, p)| (self.row(t)[p], t, p))
            .filter(|(n, ..)| *n > 0)
            .collect();
        pairs.sort_by_key(|&(n, t, p)| (std::cmp::Reverse(n), t, p));
        let cells = (0..self.classes * self.classes).filter(|&i| self.counts[i] > 0);
        html! {
            svg.map viewBox="0 0 520 520" role="img"
                aria-label="Heat map of true against predicted classes; the tables below name the figures." {
                rect.ground x="0" y="0" width="520" height="520" {}
                @for (t, p) in cells.map(|i| (i / self.classes, i % self.classes)) {
                    rect.cell x=(format!("{:.2}", p as f64 * side)) y=(format!("{:.2}", t as f64 * side))
                        width=(format!("{side:.2}")) height=(format!("{side:.2}"))
                        fill-opacity=(format!("{:.3}", self.share(t, p).sqrt())) {
                        title { (names[t]) " taken for " (names[p]) ": " (count(self.row(t)[p])) }
                    }
                }
            }
            div.scroll tabindex="0" role="region" aria-label="Commonest confusions" {
                table {
                    caption { "Commonest confusions" }
                    thead { tr { th scope="col" { "true" } th scope="col" { "taken for" } th.number scope="col" { "images" } } }
                    tbody {
                        @for (n, t, p) in pairs.iter().take(PAIRS) {
                            tr { td { (names[*t]) } td { (names[*p]) } td.number { (count(*n)) } }
                        }
                    }
                }
            }
            details {
                summary { "Recall of each class" }
                table {
                    thead { tr { th scope="col" { "class" } th.number scope="col" { "recall" } } }
                    tbody {
                        @for (class, name) in names.iter().enumerate() {
                            tr {
                                th scope="row" { (name) }
                                td.number { (self.recall(class).map_or(NONE.to_string(), percent)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A cell of a heat map, shaded by a share between 0 and 1.
pub fn heat_cell(share: f64, text: &str) -> Markup {
    html! { td style=(format!("--share:{:.3}", share.clamp(0.0, 1.0))) { (text) } }
}

/// A probability as per cent; one that is below 1 is never written as 100 %.
fn sure(probability: f64) -> String {
    if (0.9995..1.0).contains(&probability) {
        format!("over {}", percent(0.999))
    } else {
        percent(probability)
    }
}

fn mistakes(predictions: &Predictions, names: &[String], data: &Result<Dataset, Reason>) -> Markup {
    let mut wrong: Vec<usize> =
        (0..predictions.len()).filter(|&i| predictions.labels[i] != predictions.predicted[i]).collect();
    if wrong.is_empty() {
        return html! { p { "There are none." } };
    }
    let confidence = |i: usize| predictions.confidence[i];
    wrong.sort_by(|&a, &b| confidence(b).total_cmp(&confidence(a)).then(a.cmp(&b)));
    wrong.truncate(MISTAKES);
    let images = match data {
        Ok(data) if data.part(Part::Test).labels() == predictions.labels => Ok(data.part(Part::Test)),
        Ok(_) => Err("The data set's test images are not those of the predictions.".to_string()),
        Err(reason) => Err(reason.clone()),
    };
    html! {
        @if let Err(reason) = &images { p.note { (reason) " So the images cannot be shown." } }
        ul.mistakes {
            @for &i in &wrong {
                @let [label, predicted] = [predictions.labels[i], predictions.predicted[i]].map(|c| &names[c as usize]);
                li {
                    @if let Ok(images) = &images {
                        @let alt = format!("Test image {i}, {label}, taken for {predicted}");
                        (Strip::new(&[images.image(i)], images.shape(), 0).markup(&alt, scale(images.shape(), 84)))
                    } @else {
                        span.muted { "test image " (i) }
                    }
                    span { strong { (label) } br; "taken for " strong { (predicted) } }
                    span.muted { (sure(confidence(i).into())) " sure" }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearly_sure_is_not_sure() {
        let written = [0.9994, 0.9996, 1.0].map(|p| sure(p).replace('\u{a0}', " "));
        assert_eq!(written, ["99.9 %", "over 99.9 %", "100.0 %"]);
    }
}
