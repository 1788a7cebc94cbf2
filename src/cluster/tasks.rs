//! The tasks file: for each auxiliary task t = 1 … T, `labels.t` u32 `[N]`, `centers.t` f32 `[K, d]` (in the
//! partition's own space), `weights.t` f32 `[d]` or `columns.t` u32, `inertia.t` f64 and `iterations.t` u32.

use std::path::{Path, PathBuf};

use super::partition::{Metric, Partition};
use crate::error::Result;
use crate::random::{Purpose, Stream};
use crate::tensor::{DType, Entry, TensorFile, write_tensors};

/// Labels of auxiliary tasks for every image, training images first.
#[derive(Clone, Debug)]
pub struct Tasks {
    pub labels: Vec<Vec<u32>>,
    /// Classes of each task.
    pub classes: Vec<usize>,
    pub path: Option<PathBuf>,
}

impl Tasks {
    /// Opens a tasks file. It needs `labels.1`, `labels.2`, … of equal length; everything else is optional.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = TensorFile::open(path)?;
        let mut tasks = Tasks { labels: Vec::new(), classes: Vec::new(), path: Some(path.to_path_buf()) };
        while file.contains(&format!("labels.{}", tasks.labels.len() + 1)) {
            let number = tasks.labels.len() + 1;
            let key = format!("labels.{number}");
            let labels = file.to_u32(&key)?;
            if let Some(first) = tasks.labels.first()
                && first.len() != labels.len()
            {
                let expected = format!("{} labels as in labels.1", first.len());
                return Err(file.wrong(&key, expected, labels.len().to_string()));
            }
            let most = labels.iter().max().map_or(0, |&m| m as usize + 1);
            let centres = format!("centers.{number}");
            let classes = if file.contains(&centres) {
                file.shape(&centres)?.dims().first().copied().unwrap_or(0)
            } else {
                most
            };
            if labels.is_empty() || most > classes {
                let expected = format!("labels below {classes}, the number of centres");
                return Err(file.wrong(
                    &key,
                    expected,
                    format!("{} labels up to {}", labels.len(), most.max(1) - 1),
                ));
            }
            tasks.labels.push(labels);
            tasks.classes.push(classes);
        }
        if tasks.labels.is_empty() {
            return Err(file.wrong("labels.1", "labels of the first task", "no such tensor"));
        }
        Ok(tasks)
    }

    /// `tasks` tasks of random labels, each i.i.d. uniform over `classes` values and fixed for ever.
    pub fn random(images: usize, tasks: usize, classes: usize, seed: u64) -> Self {
        let of = |task: usize| {
            let mut draw = Stream::new(seed, Purpose::RandomLabels, task as u64);
            (0..images).map(|_| draw.below(classes) as u32).collect()
        };
        Tasks { labels: (1..=tasks).map(of).collect(), classes: vec![classes; tasks], path: None }
    }

    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Images that have labels.
    pub fn images(&self) -> usize {
        self.labels.first().map_or(0, Vec::len)
    }
}

/// Writes partitions of an embedding of `d` columns.
pub fn write(path: &Path, partitions: &[Partition], d: usize, metadata: &[(&str, String)]) -> Result<()> {
    let numbers: Vec<([f64; 1], [u32; 1])> =
        partitions.iter().map(|p| ([p.inertia], [p.iterations as u32])).collect();
    let mut entries = Vec::new();
    for (i, (p, (inertia, iterations))) in partitions.iter().zip(&numbers).enumerate() {
        let key = |what: &str| format!("{what}.{}", i + 1);
        let width = match &p.metric {
            Metric::Columns(columns) => columns.len(),
            _ => d,
        };
        entries.push(Entry::new(key("labels"), DType::U32, [p.labels.len()], &p.labels));
        entries.push(Entry::new(key("centers"), DType::F32, [p.clusters, width], &p.centres));
        entries.push(Entry::new(key("inertia"), DType::F64, [1], inertia));
        entries.push(Entry::new(key("iterations"), DType::U32, [1], iterations));
        match &p.metric {
            Metric::Plain => {}
            Metric::Weights(w) => entries.push(Entry::new(key("weights"), DType::F32, [w.len()], w)),
            Metric::Columns(c) => entries.push(Entry::new(key("columns"), DType::U32, [c.len()], c)),
        }
    }
    write_tensors(path, &entries, metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// METHODS §15.2, item 8: χ² of 10 classes over 60,000 labels, 9 degrees of freedom.
    #[test]
    fn random_labels_are_uniform_and_fixed() {
        let tasks = Tasks::random(60_000, 3, 10, 5);
        for labels in &tasks.labels {
            let sizes = super::super::metrics::sizes(labels, 10);
            let chi: f64 = sizes.iter().map(|&s| (s as f64 - 6000.0).powi(2) / 6000.0).sum();
            assert!(chi < 27.9, "χ² = {chi} is beyond the 99.9 % point");
        }
        assert_ne!(tasks.labels[0], tasks.labels[1]);
        assert_eq!(tasks.labels, Tasks::random(60_000, 3, 10, 5).labels);
    }
}
