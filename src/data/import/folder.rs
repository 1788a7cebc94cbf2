//! A folder of class folders with PNG or JPEG images, with or without `train` and `test` above them.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::json;

use super::picture::Picture;
use super::{checked, measure_normalisation};
use crate::data::dataset::{Contents, PartContents};
use crate::error::{Error, Result};

/// `SRC/CLASS/*.png|jpg|jpeg`, or `SRC/train/CLASS/…` with an optional `SRC/test/CLASS/…`. Classes and images
/// in alphabetic order. All grey images give one channel, anything else three. `size` (rows, columns)
/// resizes with a triangle filter; without it all images must have one size.
pub fn folder(from: &Path, size: Option<(usize, usize)>) -> Result<Contents> {
    let train_folder = from.join("train");
    let (train_folder, test_folder) = if train_folder.is_dir() {
        (train_folder, Some(from.join("test")))
    } else {
        (from.to_path_buf(), None)
    };
    let classes = folders(&train_folder)?;
    if classes.is_empty() {
        return Err(Error::format(&train_folder, "the folder", "a folder for each class", "no folders"));
    }
    let train = files(&train_folder, &classes)?;
    let test = match test_folder {
        Some(test) if test.is_dir() => {
            if let Some(extra) = folders(&test)?.into_iter().find(|c| !classes.contains(c)) {
                return Err(Error::format(
                    &test,
                    &extra,
                    "the classes of the training part",
                    "another class",
                ));
            }
            files(&test, &classes)?
        }
        _ => Vec::new(),
    };
    let decoded: Vec<Result<Picture>> =
        train.par_iter().chain(&test).map(|(path, _)| Picture::read(path, size)).collect();
    let decoded = decoded.into_iter().collect::<Result<Vec<_>>>()?;
    let Some(first) = decoded.first() else {
        return Err(Error::format(&train_folder, "class folders", "PNG or JPEG images", "none"));
    };
    let shape = (first.rows, first.columns);
    if let Some(i) = decoded.iter().position(|d| (d.rows, d.columns) != shape) {
        let (other, one) = (&decoded[i], train.iter().chain(&test).nth(i));
        let path = one.map_or(from, |(path, _)| path.as_path());
        let expected = format!("{} x {} pixels as in the first image (or --size HxW)", shape.0, shape.1);
        return Err(Error::format(
            path,
            "image size",
            expected,
            format!("{} x {}", other.rows, other.columns),
        ));
    }
    let channels = if decoded.iter().all(|d| d.grey) { 1 } else { 3 };
    let mut parts = [PartContents::default(), PartContents::default()];
    for (i, (image, (_, label))) in decoded.iter().zip(train.iter().chain(&test)).enumerate() {
        let part = &mut parts[usize::from(i >= train.len())];
        part.labels.push(*label);
        part.images.extend(image.rgb.chunks_exact(3).flat_map(|pixel| &pixel[..channels]));
    }
    let [train_part, test_part] = parts;
    let name = from.file_name().map_or("folder".into(), |n| n.to_string_lossy().into_owned());
    checked(
        Contents {
            name,
            classes,
            value_names: Default::default(),
            normalise: measure_normalisation(&train_part.images, channels),
            source: json!({"format": "folder", "files": train.len() + test.len()}),
            image_shape: [shape.0, shape.1, channels],
            train: train_part,
            test: test_part,
        },
        from,
    )
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = std::fs::read_dir(folder).map_err(|e| Error::io(folder, "list", e))?;
    let mut paths = Vec::new();
    for entry in list {
        paths.push(entry.map_err(|e| Error::io(folder, "list", e))?.path());
    }
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn folders(folder: &Path) -> Result<Vec<String>> {
    Ok(entries(folder)?
        .iter()
        .filter(|p| p.is_dir())
        .map(|p| name(p))
        .filter(|n| !n.starts_with('.'))
        .collect())
}

/// Images of each class and the class's number.
fn files(folder: &Path, classes: &[String]) -> Result<Vec<(PathBuf, u32)>> {
    let mut files = Vec::new();
    for (number, class) in classes.iter().enumerate() {
        let folder = folder.join(class);
        if !folder.is_dir() {
            continue;
        }
        for path in entries(&folder)? {
            let suffix = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
            if matches!(suffix.as_str(), "png" | "jpg" | "jpeg") && !name(&path).starts_with('.') {
                files.push((path, number as u32));
            }
        }
    }
    Ok(files)
}
