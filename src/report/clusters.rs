//! What the auxiliary tasks are: images of each partition's clusters, how pure the clusters are, and how much
//! the partitions agree.

use maud::{Markup, html};

use super::confusion::heat_cell;
use super::files::{self, Reason, TaskSource, TasksFile};
use super::load::Run;
use super::numbers::{count, of, percent};
use super::picture::{Strip, scale};
use crate::cluster::metrics;
use crate::data::{Dataset, Images, Part};

/// Clusters of a partition that are shown, the largest ones, and images of each.
const CLUSTERS: usize = 10;
const IMAGES: usize = 8;

/// Partitions of which images are shown.
const PARTITIONS: usize = 12;

pub fn section(run: &Run, data: &Result<Dataset, Reason>) -> Markup {
    match files::task_source(run) {
        TaskSource::None => html! { p { "The run has no auxiliary tasks." } },
        TaskSource::Random(text) => html! {
            p {
                (random(&text))
                " Each image keeps its random label throughout, so there are no clusters to look at; such tasks show \
                 what auxiliary tasks do that know nothing of the images."
            }
        },
        TaskSource::File(path) => match (files::tasks(run, &path), data) {
            (Err(reason), _) => html! { p.note { (reason) " So the clusters cannot be shown." } },
            (Ok(_), Err(reason)) => {
                html! { p.note { (reason) " So the images of the clusters cannot be shown." } }
            }
            (Ok(file), Ok(data)) => of_file(&file, data),
        },
    }
}

fn random(text: &str) -> String {
    let numbers: Vec<Option<usize>> = text.split(':').skip(1).map(|n| n.parse().ok()).collect();
    match numbers[..] {
        [Some(tasks), Some(classes)] => {
            let (be, noun) = if tasks == 1 { ("is", "auxiliary task") } else { ("are", "auxiliary task") };
            format!("The {} {be} random: {classes} labels each, drawn uniformly.", of(tasks, noun))
        }
        _ => format!("The auxiliary tasks are random ({text})."),
    }
}

fn of_file(file: &TasksFile, data: &Dataset) -> Markup {
    let images = data.part(Part::Train);
    let n = images.len();
    if file.tasks.images() < n {
        let have = of(file.tasks.images(), "image");
        return html! {
            p.note { "The tasks file labels " (have) ", the data set has " (count(n as u64)) " for training: they do not belong together." }
        };
    }
    // Training images come first; test images are in no task's batches.
    let labels: Vec<&[u32]> = file.tasks.labels.iter().map(|l| &l[..n]).collect();
    let shown = labels.len().min(PARTITIONS);
    let base = metrics::purity(&vec![0; n], images.labels());
    html! {
        p {
            (of(labels.len(), "partition")) " of the " (count(n as u64)) " training images, each an auxiliary task. Purity is the share of \
             images whose true class is the commonest of their cluster (" (percent(base)) " if all were in one); true labels are \
             used here only, never by the partitions. "
            @match &file.embedding {
                Ok(_) => "The images of a cluster are those nearest to its centre, the nearest first.",
                Err(_) => "The images of a cluster are its first ones in the data set.",
            }
            @if file.tasks.classes.iter().any(|&k| k > CLUSTERS) { " Of each partition the " (CLUSTERS) " largest clusters are shown." }
        }
        @if let Err(reason) = &file.embedding { p.note { (reason) " So nearness to the centres is unknown." } }
        (agreement(&labels, &truths(data)))
        @for task in 0..shown { (partition(file, task, labels[task], &images, data.class_names())) }
        @if shown < labels.len() { p.note { "Images of the other " (of(labels.len() - shown, "partition")) " are left out." } }
    }
}

/// What partitions can agree with: the true classes, and attributes if the data set has them.
fn truths(data: &Dataset) -> Vec<(String, &[u32])> {
    let attributes = data.attribute_names(Part::Train);
    let named = attributes.into_iter().filter_map(|name| {
        let values = data.attribute(Part::Train, &name)?;
        Some((name, values))
    });
    std::iter::once(("true classes".to_string(), data.part(Part::Train).labels())).chain(named).collect()
}

/// Adjusted Rand indices between partitions, and with what is true of the images.
fn agreement(labels: &[&[u32]], truths: &[(String, &[u32])]) -> Markup {
    let ari = |a: &[u32], b: &[u32]| {
        let value = metrics::adjusted_rand_index(a, b);
        heat_cell(value, &format!("{value:.2}").replace('-', "\u{2212}"))
    };
    html! {
        div.scroll tabindex="0" role="region" aria-label="Agreement of the partitions" {
            table.heat {
                caption { "Adjusted Rand index of the partitions with each other and with what is true of the images: 1 if equal, about 0 if independent" }
                thead {
                    tr {
                        th scope="col" { "task" }
                        @for i in 0..labels.len() { th scope="col" { (i + 1) } }
                        td.gap {}
                        @for (name, _) in truths { th scope="col" { (name) } }
                    }
                }
                tbody {
                    @for (i, a) in labels.iter().enumerate() {
                        tr {
                            th scope="row" { (i + 1) }
                            @for b in labels { (ari(a, b)) }
                            td.gap {}
                            @for (_, b) in truths { (ari(a, b)) }
                        }
                    }
                }
            }
        }
    }
}

fn partition(
    file: &TasksFile,
    task: usize,
    labels: &[u32],
    images: &Images<'_>,
    classes: &[String],
) -> Markup {
    let clusters = file.tasks.classes[task];
    let sizes = metrics::sizes(labels, clusters);
    let mut order: Vec<usize> = (0..clusters).filter(|&k| sizes[k] > 0).collect();
    order.sort_by_key(|&k| (std::cmp::Reverse(sizes[k]), k));
    order.truncate(CLUSTERS);
    let members = Members::new(file, task, labels);
    let truth = images.labels();
    let scale = scale(images.shape(), 56);
    html! {
        h3 { "Task " (task + 1) }
        p.muted {
            (of(clusters, "cluster")) ", purity " (percent(metrics::purity(labels, truth)))
            @if let (Err(reason), Ok(_)) = (&members.distances, &file.embedding) { ". " (reason) }
        }
        ul.clusters {
            @for &k in &order {
                @let (class, share) = commonest(labels, truth, k as u32, classes);
                li {
                    @let shown: Vec<&[u8]> = members.nearest(k, IMAGES).into_iter().map(|i| images.image(i)).collect();
                    @let alt = format!("{} of cluster {k} of task {}", of(shown.len(), "image"), task + 1);
                    (Strip::new(&shown, images.shape(), 2).markup(&alt, scale))
                    span { strong { (of(sizes[k], "image")) } span.muted { ", " (percent(share)) " " (class) } }
                }
            }
        }
    }
}

/// The commonest true class of a cluster, and its share.
fn commonest<'a>(labels: &[u32], truth: &[u32], cluster: u32, classes: &'a [String]) -> (&'a str, f64) {
    let mut counts = vec![0usize; classes.len()];
    labels.iter().zip(truth).filter(|(l, _)| **l == cluster).for_each(|(_, &t)| counts[t as usize] += 1);
    let best = (0..counts.len()).fold(0, |b, i| if counts[i] > counts[b] { i } else { b });
    let total = counts.iter().sum::<usize>().max(1);
    (classes.get(best).map_or("", String::as_str), counts.get(best).map_or(0.0, |&c| c as f64 / total as f64))
}

/// Members of a task's clusters with their squared distances to the centre.
struct Members<'a> {
    labels: &'a [u32],
    distances: Result<Vec<f64>, Reason>,
}

impl<'a> Members<'a> {
    fn new(file: &TasksFile, task: usize, labels: &'a [u32]) -> Self {
        Members { labels, distances: distances(file, task, labels) }
    }

    /// Images of a cluster: nearest to the centre first, or in the order of the data set.
    fn nearest(&self, cluster: usize, most: usize) -> Vec<usize> {
        let mut all: Vec<usize> =
            (0..self.labels.len()).filter(|&i| self.labels[i] as usize == cluster).collect();
        if let Ok(distances) = &self.distances {
            all.sort_by(|&a, &b| distances[a].total_cmp(&distances[b]));
        }
        all.truncate(most);
        all
    }
}

/// Squared distance of each image to the centre of its cluster, in the partition's own space.
fn distances(file: &TasksFile, task: usize, labels: &[u32]) -> Result<Vec<f64>, Reason> {
    let embedding = file.embedding.as_ref().map_err(Clone::clone)?;
    let key = |what: &str| format!("{what}.{}", task + 1);
    let read = |name: &str| file.tensors.to_f32(name).map_err(|e| format!("{e}."));
    let d = embedding.columns();
    let mut weights = vec![1.0f32; d];
    let mut columns: Vec<u32> = (0..d as u32).collect();
    if file.tensors.contains(&key("weights")) {
        weights = read(&key("weights"))?;
    }
    if file.tensors.contains(&key("columns")) {
        columns = file.tensors.to_u32(&key("columns")).map_err(|e| format!("{e}."))?;
    }
    if !file.tensors.contains(&key("centers")) {
        return Err("The tasks file has no centres, so nearness to them is unknown.".into());
    }
    let centres = read(&key("centers"))?;
    let width = columns.len();
    let fits = weights.len() == d
        && columns.iter().all(|&c| (c as usize) < d)
        && centres.len() == file.tasks.classes[task] * width;
    if !fits {
        return Err("The embedding does not fit the tasks, so nearness to the centres is unknown.".into());
    }
    let distance = |(row, &label): (&[f32], &u32)| {
        let centre = &centres[label as usize * width..(label as usize + 1) * width];
        let part = |(&c, &centre): (&u32, &f32)| {
            let value = row[c as usize] * weights[c as usize];
            f64::from(value - centre).powi(2)
        };
        columns.iter().zip(centre).map(part).sum()
    };
    Ok(embedding.values().chunks(d).zip(labels).map(distance).collect())
}
