//! Importers: official files of a data set in, one [`Contents`] out. A malformed input gives one error
//! that names the file, the place, what was expected and what was found.

mod archive;
mod cifar;
mod folder;
mod idx;
mod omniglot;
mod picture;
mod source;

pub use cifar::{Labels, cifar10, cifar100};
pub use folder::folder;
pub use idx::idx;
pub use omniglot::Omniglot;
pub use picture::read_image;

use rayon::prelude::*;

use super::dataset::{Contents, Normalisation};

/// Mean and standard deviation of each channel of `x / 255` over all images `[N, H, W, C]`, from exact
/// integer sums.
pub fn measure_normalisation(images: &[u8], channels: usize) -> Normalisation {
    let pixels = (images.len() / channels).max(1) as f64;
    let sums = images
        .par_chunks(channels << 16)
        .map(|part| {
            let mut sums = vec![(0u64, 0u64); channels];
            for pixel in part.chunks_exact(channels) {
                for (sum, &byte) in sums.iter_mut().zip(pixel) {
                    sum.0 += u64::from(byte);
                    sum.1 += u64::from(byte) * u64::from(byte);
                }
            }
            sums
        })
        .reduce(
            || vec![(0, 0); channels],
            |a, b| a.iter().zip(&b).map(|(a, b)| (a.0 + b.0, a.1 + b.1)).collect(),
        );
    let (mut mean, mut sd) = (Vec::new(), Vec::new());
    for (sum, squares) in sums {
        let average = sum as f64 / pixels;
        let variance = (squares as f64 / pixels - average * average).max(0.0);
        mean.push((average / 255.0) as f32);
        // A constant channel is only shifted.
        sd.push(if variance == 0.0 { 1.0 } else { (variance.sqrt() / 255.0) as f32 });
    }
    Normalisation { mean, sd }
}

/// The largest number of classes that a label can name.
fn class_names(known: Vec<String>, labels: &[&[u32]]) -> Vec<String> {
    if !known.is_empty() {
        return known;
    }
    let count = labels.iter().flat_map(|l| l.iter()).max().map_or(0, |&m| m as usize + 1);
    (0..count).map(|i| i.to_string()).collect()
}

/// Checks what every importer owes: at least one training image of at least one class.
fn checked(contents: Contents, from: &std::path::Path) -> crate::error::Result<Contents> {
    if contents.train.labels.is_empty() {
        return Err(crate::error::Error::format(from, "training part", "at least one image", "none"));
    }
    Ok(contents)
}
