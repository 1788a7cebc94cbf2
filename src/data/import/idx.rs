//! IDX files, as MNIST and its relatives come: big-endian u32 magic, counts, bytes.

use std::path::Path;

use serde_json::json;

use super::source::{self, Source};
use super::{checked, class_names};
use crate::data::dataset::{Contents, Normalisation, PartContents};
use crate::error::{Error, Result};

const IMAGES: u32 = 0x0803;
const LABELS: u32 = 0x0801;

/// A folder with `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and, if there is a test part,
/// `t10k-images-idx3-ubyte`, `t10k-labels-idx1-ubyte`; each plain, `.gz` or `.xz`. Grey images; no
/// normalisation beyond `x / 255` (METHODS §8).
pub fn idx(folder: &Path) -> Result<Contents> {
    let images = source::required(folder, "train-images-idx3-ubyte")?;
    let labels = source::required(folder, "train-labels-idx1-ubyte")?;
    let (shape, train) = pair(&images, &labels)?;
    let mut sources = vec![images.provenance, labels.provenance];
    let mut test = PartContents::default();
    let test_names = ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];
    if let (Some(images), Some(labels)) = {
        let [images, labels] = test_names.map(|name| source::find(folder, name));
        let pair = (images?, labels?);
        if pair.0.is_some() != pair.1.is_some() {
            let (there, missing) = if pair.0.is_some() { (0, 1) } else { (1, 0) };
            let found = format!("only {}", test_names[there]);
            return Err(Error::format(folder, test_names[missing], "both files of the test part", found));
        }
        pair
    } {
        let (test_shape, part) = pair(&images, &labels)?;
        if test_shape != shape {
            let (found, expected) =
                (format!("{test_shape:?}"), format!("images of {shape:?}, as in training"));
            return Err(images.wrong("bytes 8 to 16", expected, found));
        }
        test = part;
        sources.extend([images.provenance, labels.provenance]);
    }
    let name = folder.file_name().map_or("idx".into(), |n| n.to_string_lossy().into_owned());
    checked(
        Contents {
            name,
            classes: class_names(Vec::new(), &[&train.labels, &test.labels]),
            value_names: Default::default(),
            normalise: Normalisation::none(1),
            source: json!({"format": "idx", "files": sources}),
            image_shape: [shape[0], shape[1], 1],
            train,
            test,
        },
        folder,
    )
}

fn word(source: &Source, offset: usize, what: &str) -> Result<u32> {
    match source.bytes.get(offset..offset + 4) {
        Some(b) => Ok(u32::from_be_bytes([b[0], b[1], b[2], b[3]])),
        None => {
            let found = format!("the end of the file at byte {}", source.bytes.len());
            Err(source.wrong(format!("byte {offset}"), what, found))
        }
    }
}

fn check_magic(source: &Source, magic: u32, what: &str) -> Result<()> {
    let found = word(source, 0, "the magic number")?;
    if found == magic {
        return Ok(());
    }
    Err(source.wrong("byte 0", format!("magic number {magic:#010x} ({what})"), format!("{found:#010x}")))
}

fn check_length(source: &Source, header: usize, content: u64, what: &str) -> Result<()> {
    let found = (source.bytes.len() - header) as u64;
    if found == content {
        return Ok(());
    }
    let problem = if found < content { "it is cut off" } else { "there is more" };
    let expected = format!("{content} bytes ({what}) after the header");
    Err(source.wrong(format!("byte {}", source.bytes.len()), expected, format!("{found} bytes: {problem}")))
}

fn pair(images: &Source, labels: &Source) -> Result<([usize; 2], PartContents)> {
    check_magic(images, IMAGES, "unsigned bytes, 3 dimensions")?;
    check_magic(labels, LABELS, "unsigned bytes, 1 dimension")?;
    let count = word(images, 4, "the number of images")?;
    let [rows, columns] = [(8, "the number of rows"), (12, "the number of columns")]
        .map(|(offset, what)| word(images, offset, what));
    let (rows, columns) = (rows?, columns?);
    if rows == 0 || columns == 0 || rows > 1 << 14 || columns > 1 << 14 {
        return Err(images.wrong(
            "byte 8",
            "rows and columns between 1 and 16384",
            format!("{rows} x {columns}"),
        ));
    }
    let size = u64::from(rows) * u64::from(columns);
    check_length(images, 16, u64::from(count) * size, &format!("{count} images of {rows} x {columns}"))?;
    let number = word(labels, 4, "the number of labels")?;
    check_length(labels, 8, u64::from(number), &format!("{number} labels"))?;
    if number != count {
        let expected = format!("{count} labels, one for each image of {}", images.path.display());
        return Err(labels.wrong("byte 4", expected, number.to_string()));
    }
    let part = PartContents {
        images: images.bytes[16..].to_vec(),
        labels: labels.bytes[8..].iter().map(|&l| u32::from(l)).collect(),
        attributes: Vec::new(),
    };
    Ok(([rows as usize, columns as usize], part))
}
