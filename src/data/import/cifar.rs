//! CIFAR-10 and CIFAR-100 in their binary form: records of one or two label bytes and 3 planes of 32×32.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::source::{self, Place, Source};
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
/// `batches.meta.txt`, each plain, `.gz` or `.xz`; or the archive `cifar-10-binary.tar.gz`, or a folder with it.
pub fn cifar10(from: &Path) -> Result<Contents> {
    let batches = [1, 2, 3, 4, 5].map(|number| format!("data_batch_{number}.bin"));
    let others = ["test_batch.bin", "batches.meta.txt"];
    let all: Vec<&str> = batches.iter().map(String::as_str).chain(others).collect();
    let mut place = Place::open(from, "cifar-10-binary", &all)?;
    let (mut train, mut sources) = (PartContents::default(), Vec::from_iter(place.provenance()));
    for batch in &batches {
        if let Some(source) = place.find(batch)? {
            records(&source, &[10], 0, &mut train)?;
            sources.push(source.provenance);
        }
    }
    if train.labels.is_empty() {
        let expected = "at least one of the five batches";
        return Err(Error::format(place.path(), "data_batch_1.bin", expected, "none"));
    }
    let mut test = PartContents::default();
    if let Some(source) = place.find("test_batch.bin")? {
        records(&source, &[10], 0, &mut test)?;
        sources.push(source.provenance);
    }
    let names = names(&mut place, "batches.meta.txt", 10)?;
    finish(from, "cifar10", names, BTreeMap::new(), sources, train, test)
}

/// A folder with `train.bin`, and any of `test.bin`, `fine_label_names.txt`, `coarse_label_names.txt`; or the
/// archive `cifar-100-binary.tar.gz`, or a folder with it.
pub fn cifar100(from: &Path, labels: Labels) -> Result<Contents> {
    let all = ["train.bin", "test.bin", "coarse_label_names.txt", "fine_label_names.txt"];
    let mut place = Place::open(from, "cifar-100-binary", &all)?;
    let main = match labels {
        Labels::Coarse => 0,
        Labels::Fine => 1,
    };
    let source = place.find("train.bin")?;
    let source = source.ok_or_else(|| source::missing(place.path(), "train.bin"))?;
    let (mut train, mut test) = (PartContents::default(), PartContents::default());
    records(&source, &[20, 100], main, &mut train)?;
    let mut sources = Vec::from_iter(place.provenance());
    sources.push(source.provenance);
    if let Some(source) = place.find("test.bin")? {
        records(&source, &[20, 100], main, &mut test)?;
        sources.push(source.provenance);
    }
    let coarse = names(&mut place, "coarse_label_names.txt", 20)?;
    let fine = names(&mut place, "fine_label_names.txt", 100)?;
    let (names, other, others) = if main == 0 { (coarse, "fine", fine) } else { (fine, "coarse", coarse) };
    let value_names = BTreeMap::from([(other.to_string(), others)]);
    finish(from, "cifar100", names, value_names, sources, train, test)
}

fn names(place: &mut Place, file: &str, count: usize) -> Result<Vec<String>> {
    let Some(source) = place.find(file)? else {
        return Ok((0..count).map(|i| i.to_string()).collect());
    };
    let names = source.lines()?;
    if names.len() == count {
        return Ok(names);
    }
    Err(source.wrong("lines", format!("{count} class names"), format!("{} lines", names.len())))
}

fn finish(
    from: &Path,
    name: &str,
    names: Vec<String>,
    value_names: BTreeMap<String, Vec<String>>,
    sources: Vec<serde_json::Value>,
    train: PartContents,
    test: PartContents,
) -> Result<Contents> {
    checked(
        Contents {
            name: name.into(),
            classes: class_names(names, &[&train.labels, &test.labels]),
            value_names,
            normalise: Normalisation::natural(),
            source: json!({"format": name, "files": sources}),
            image_shape: [SIZE, SIZE, 3],
            train,
            test,
        },
        from,
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
