//! Pictures of what trained networks make of codes (METHODS §3.4): restored images, mixtures of two images'
//! codes, images of normal codes. From the weights that a run kept.

use std::path::{Path, PathBuf};

use image::{ExtendedColorType, ImageEncoder};

use super::{Engine, Method, Pictures, Request, checkpoint};
use crate::data::{Dataset, Part};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::random::{Purpose, Stream};
use crate::tensor::{TensorFile, write_atomically};

/// Images that are encoded and decoded at once.
const BATCH: usize = 64;
/// Pairs of images that are mixed, and steps from one to the other.
const PAIRS: usize = 16;
const STEPS: usize = 16;
/// Pixels between images, and their value.
const GAP: usize = 2;
const GREY: u8 = 128;

/// Writes the pictures into a folder, and returns their paths.
pub fn write(
    weights: &Path,
    dataset: &Dataset,
    device: Box<dyn Device>,
    seed: u64,
    folder: &Path,
) -> Result<Vec<PathBuf>> {
    let file = TensorFile::open(weights)?;
    let request = request(&file)?;
    let pictures = Pictures::on_canvas(dataset, request.latent_width, request.size)?;
    let setup = request.setup(pictures.shape(), 0);
    let mut engine = Engine::new(device, request.method, &setup, request.seed)?;
    checkpoint::read_weights(&file, &mut engine)?;
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "make", e))?;

    let rows = chosen(dataset, seed)?;
    let (shape, size) = (pictures.shape(), pictures.shape().iter().product::<usize>());
    let mut originals = vec![0.0; rows.len() * size];
    pictures.fill(&rows, &mut originals);
    let (half, code) = (PAIRS * size, setup.sizes.code());
    engine.load(&[&originals[..], &originals].concat())?;
    engine.encode()?;
    let codes = engine.codes()?[..rows.len() * code].to_vec();
    let restored = decode(&mut engine, &codes, code)?;
    let restorations =
        [&originals[..half], &restored[..half], &originals[half..], &restored[half..]].concat();

    let mixtures = |mix: fn(&[f32], &[f32], f64) -> Vec<f32>| -> Vec<f32> {
        let pair = |p: usize| (&codes[2 * p * code..][..code], &codes[(2 * p + 1) * code..][..code]);
        let places = (0..PAIRS * STEPS).map(|i| (i / STEPS, (i % STEPS) as f64 / (STEPS - 1) as f64));
        places.flat_map(|(p, at)| mix(pair(p).0, pair(p).1, at)).collect()
    };
    let (straight, round) = (mixtures(linear), mixtures(slerp));
    let mut draw = Stream::new(seed, Purpose::Samples, 1);
    let normal: Vec<f32> = (0..BATCH * code).map(|_| draw.normal() as f32).collect();
    let pages = [
        ("reconstructions", restorations),
        ("interpolation-linear", decode(&mut engine, &straight, code)?),
        ("interpolation-spherical", decode(&mut engine, &round, code)?),
        ("samples", decode(&mut engine, &normal, code)?),
    ];
    pages
        .into_iter()
        .map(|(name, images)| {
            let path = folder.join(format!("{name}.png"));
            sheet(&path, &images, shape).map(|()| path)
        })
        .collect()
}

/// What the networks were made for, from the metadata of their weights.
fn request(file: &TensorFile) -> Result<Request> {
    let wrong = |key: &str, expected: &str, found: &str| {
        Error::format(file.path(), format!("metadata key '{key}'"), expected, found)
    };
    let text =
        |key: &str| file.metadata(key).ok_or_else(|| wrong(key, "a setting of the run", "no such key"));
    let number = |key: &str| -> Result<usize> {
        let found = text(key)?;
        found.parse().map_err(|_| wrong(key, "a number", found))
    };
    let request = Request {
        depth: number("depth")?,
        latent: number("latent")?,
        latent_width: number("latent-width")?,
        size: number("size")?,
        batch: BATCH,
        ..Request::new(Method::named(text("method")?)?)
    };
    request.check()?;
    Ok(request)
}

/// Test images, or training images if there are none: different ones if there are enough.
fn chosen(dataset: &Dataset, seed: u64) -> Result<Vec<u32>> {
    let part = if dataset.part(Part::Test).is_empty() { Part::Train } else { Part::Test };
    let rows: Vec<u32> = dataset.rows(part).collect();
    if rows.is_empty() {
        return Err(Error::usage(format!("{} has no images", dataset.path().display())));
    }
    let mut draw = Stream::new(seed, Purpose::Samples, 0);
    let places = if rows.len() >= 2 * PAIRS {
        draw.sample_without_replacement(rows.len(), 2 * PAIRS)
    } else {
        (0..2 * PAIRS).map(|_| draw.below(rows.len())).collect()
    };
    Ok(places.into_iter().map(|i| rows[i]).collect())
}

/// Images of any number of codes.
fn decode(engine: &mut Engine, codes: &[f32], code: usize) -> Result<Vec<f32>> {
    let mut images = Vec::new();
    for batch in codes.chunks(BATCH * code) {
        let mut full = batch.to_vec();
        full.resize(BATCH * code, 0.0);
        let found = engine.decode(&full)?;
        images.extend(&found[..found.len() / BATCH * (batch.len() / code)]);
    }
    Ok(images)
}

fn linear(a: &[f32], b: &[f32], at: f64) -> Vec<f32> {
    mixture(a, b, 1.0 - at, at)
}

/// Along the great circle between the directions of two codes (Shoemake 1985).
fn slerp(a: &[f32], b: &[f32], at: f64) -> Vec<f32> {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
    let angle = (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()).clamp(-1.0, 1.0).acos();
    let sine = angle.sin();
    // Codes of one direction, or of opposite ones, or a zero: there is no one circle.
    if sine.is_nan() || sine < 1e-6 {
        return linear(a, b, at);
    }
    mixture(a, b, ((1.0 - at) * angle).sin() / sine, (at * angle).sin() / sine)
}

fn mixture(a: &[f32], b: &[f32], of_a: f64, of_b: f64) -> Vec<f32> {
    a.iter().zip(b).map(|(&a, &b)| (of_a * f64::from(a) + of_b * f64::from(b)) as f32).collect()
}

/// Images in [-1, 1] of one shape, [`STEPS`] a row, as a PNG. Of other numbers of channels than one and three
/// the first is shown.
fn sheet(path: &Path, images: &[f32], [height, width, channels]: [usize; 3]) -> Result<()> {
    let shown = if channels == 3 { 3 } else { 1 };
    let rows = (images.len() / (height * width * channels)).div_ceil(STEPS);
    let (full, tall) = (STEPS * (width + GAP) - GAP, rows * (height + GAP) - GAP);
    let mut pixels = vec![GREY; tall * full * shown];
    for (number, image) in images.chunks_exact(height * width * channels).enumerate() {
        let (top, left) = (number / STEPS * (height + GAP), number % STEPS * (width + GAP));
        for (place, colours) in image.chunks_exact(channels).enumerate() {
            let at = ((top + place / width) * full + left + place % width) * shown;
            let byte = |v: &f32| ((v + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8;
            pixels[at..at + shown].iter_mut().zip(colours).for_each(|(p, v)| *p = byte(v));
        }
    }
    let colour = if shown == 3 { ExtendedColorType::Rgb8 } else { ExtendedColorType::L8 };
    let mut bytes = Vec::new();
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(&pixels, full as u32, tall as u32, colour)
        .map_err(|e| Error::io(path, "make", std::io::Error::other(e)))?;
    write_atomically(path, |file| file.write_all(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spherical_mixtures_stay_on_the_sphere() {
        let (a, b) = ([3.0, 0.0, 0.0], [0.0, 3.0, 0.0]);
        assert_eq!(slerp(&a, &b, 0.0), a);
        for (at, angle) in [(0.5, 45.0f64), (1.0 / 3.0, 30.0)] {
            let (found, (sine, cosine)) = (slerp(&a, &b, at), angle.to_radians().sin_cos());
            let expected = [3.0 * cosine, 3.0 * sine, 0.0];
            assert!(found.iter().zip(expected).all(|(&f, e)| (f64::from(f) - e).abs() < 1e-6), "{found:?}");
        }
        // Where there is no circle, along the line.
        assert_eq!(slerp(&a, &[6.0, 0.0, 0.0], 0.5), [4.5, 0.0, 0.0]);
        assert_eq!(slerp(&a, &[0.0; 3], 0.5), [1.5, 0.0, 0.0]);
    }

    #[test]
    fn sheets_have_images_in_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        // Image number i is white if i is 17, else black; 2×3 pixels, 18 of them: two rows.
        let images: Vec<f32> = (0..18 * 6).map(|i| if i / 6 == 17 { 1.0 } else { -1.0 }).collect();
        sheet(&path, &images, [2, 3, 1]).unwrap();
        let png = image::open(&path).unwrap().to_luma8();
        assert_eq!(png.dimensions(), (16 * 5 - 2, 6));
        let at = |x, y| png.get_pixel(x, y).0[0];
        assert_eq!((at(0, 0), at(3, 0), at(0, 4), at(5, 4), at(7, 5), at(8, 5)), (0, 128, 0, 255, 255, 128));
    }
}
