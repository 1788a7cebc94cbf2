//! CIFAR-10 and CIFAR-100 in their binary form: records of one or two label bytes and 3 planes of 32×32.

use std::path::Path;

use serde_json::json;

use super::source::{self, Source};
use super::{checked, class_names};
use crate::data::dataset::{Contents, Normalisation, PartContents};
use crate::error::{Error, Result};

const SIZE: usize = 32;
const PIXELS: usize = SIZE * SIZE;

/// Which of CIFAR-100's two labels becomes the class; the other becomes an attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Labels {
    /// 100 classes.
    Fine,
    /// 20 superclasses.
    Coarse,
}

/// A folder with any of `data_batch_1.bin` … `data_batch_5.bin`, `test_batch.bin` and
/// `batches.meta.txt`; each plain, `.gz` or `.xz`.
pub fn cifar10(folder: &Path) -> Result<Contents> {
    source::check_folder(folder)?;
    let (mut train, mut sources) = (PartContents::default(), Vec::new());
    for number in 1..=5 {
        if let Some(source) = source::find(folder, &format!("data_batch_{number}.bin"))? {
            records(&source, &[10], 0, &mut train)?;
            sources.push(source.provenance);
        }
    }
    if train.labels.is_empty() {
        return Err(Error::format(folder, "data_batch_1.bin", "at least one of the five batches", "none"));
    }
    let mut test = PartContents::default();
    if let Some(source) = source::find(folder, "test_batch.bin")? {
        records(&source, &[10], 0, &mut test)?;
        sources.push(source.provenance);
    }
    let names = names(folder, "batches.meta.txt", 10)?;
    finish(folder, "cifar10", names, sources, train, test)
}

/// A folder with `train.bin`, and any of `test.bin`, `fine_label_names.txt`, `coarse_label_names.txt`.
pub fn cifar100(folder: &Path, labels: Labels) -> Result<Contents> {
    let source = source::required(folder, "train.bin")?;
    let (main, file, count) = match labels {
        Labels::Coarse => (0, "coarse_label_names.txt", 20),
        Labels::Fine => (1, "fine_label_names.txt", 100),
    };
    let (mut train, mut test) = (PartContents::default(), PartContents::default());
    records(&source, &[20, 100], main, &mut train)?;
    let mut sources = vec![source.provenance];
    if let Some(source) = source::find(folder, "test.bin")? {
        records(&source, &[20, 100], main, &mut test)?;
        sources.push(source.provenance);
    }
    let names = names(folder, file, count)?;
    finish(folder, "cifar100", names, sources, train, test)
}

fn names(folder: &Path, file: &str, count: usize) -> Result<Vec<String>> {
    let Some(source) = source::find(folder, file)? else {
        return Ok((0..count).map(|i| i.to_string()).collect());
    };
    let names = source.lines()?;
    if names.len() == count {
        return Ok(names);
    }
    Err(source.wrong("lines", format!("{count} class names"), format!("{} lines", names.len())))
}

fn finish(
    folder: &Path,
    name: &str,
    names: Vec<String>,
    sources: Vec<serde_json::Value>,
    train: PartContents,
    test: PartContents,
) -> Result<Contents> {
    checked(
        Contents {
            name: name.into(),
            classes: class_names(names, &[&train.labels, &test.labels]),
            // METHODS §8, both data sets.
            normalise: Normalisation { mean: vec![0.4914, 0.4822, 0.4465], sd: vec![0.2023, 0.1994, 0.2010] },
            source: json!({"format": name, "files": sources}),
            image_shape: [SIZE, SIZE, 3],
            train,
            test,
        },
        folder,
    )
}

/// Appends the records of a file; `classes` bounds each label byte, byte `main` is the label.
fn records(source: &Source, classes: &[u8], main: usize, part: &mut PartContents) -> Result<()> {
    let size = classes.len() + 3 * PIXELS;
    if !source.bytes.len().is_multiple_of(size) {
        let place = format!("byte {}", source.bytes.len() / size * size);
        let found = format!("{} bytes at the end", source.bytes.len() % size);
        return Err(source.wrong(place, format!("records of {size} bytes"), found));
    }
    if part.attributes.is_empty() && classes.len() == 2 {
        let name = if main == 0 { "fine" } else { "coarse" };
        part.attributes.push((name.to_string(), Vec::new()));
    }
    for (number, record) in source.bytes.chunks_exact(size).enumerate() {
        let (labels, planes) = record.split_at(classes.len());
        for (at, (&label, &bound)) in labels.iter().zip(classes).enumerate() {
            if label >= bound {
                let place = format!("byte {} (record {number})", number * size + at);
                return Err(source.wrong(place, format!("a label below {bound}"), label.to_string()));
            }
        }
        part.labels.push(labels[main].into());
        if let Some((_, values)) = part.attributes.first_mut() {
            values.push(labels[1 - main].into());
        }
        for pixel in 0..PIXELS {
            part.images.extend([planes[pixel], planes[PIXELS + pixel], planes[2 * PIXELS + pixel]]);
        }
    }
    Ok(())
}
