//! Images as the networks see them: in [-1, 1], on a square canvas.
//!
//! The canvas is the smallest `w·2^k` (`w` the width of the code) that holds the image, but at most the
//! largest side that was asked for. A larger image is first shrunk with Catmull–Rom bicubic
//! interpolation until its longer side fits, its proportions kept. The image then stands in the middle
//! (half a pixel up and left if the margins are odd), and what is left around it is −1, the value of
//! black. So 28×28 stands on 32×32 with two pixels on each side, 16×16 and 32×32 are taken as they are,
//! and 84×84 becomes 32×32.

use std::borrow::Cow;

use image::imageops::{self, FilterType};
use image::{GrayImage, ImageBuffer};
use rayon::prelude::*;

use crate::data::{Dataset, Images, Part};
use crate::error::{Error, Result};
use crate::pixels::{self, Look, Pixels, Visit};

/// What stands around an image.
const MARGIN: f32 = -1.0;

/// Height and width of the canvas for images of the given height and width, or `None` if there is no
/// `code·2^k` up to `largest`.
pub fn canvas(height: usize, width: usize, code: usize, largest: usize) -> Option<usize> {
    if code == 0 || code > largest {
        return None;
    }
    let mut side = code;
    while side < height.max(width) && side * 2 <= largest {
        side *= 2;
    }
    Some(side)
}

/// All images of a data set: training images first, then test images.
pub struct Pictures<'a> {
    parts: [Images<'a>; 2],
    /// Bytes of all images, one after the other, if they had to be shrunk.
    shrunk: Option<Vec<u8>>,
    /// Height, width and channels before margins.
    inner: [usize; 3],
    /// Height and width with margins.
    outer: [usize; 2],
}

impl<'a> Pictures<'a> {
    /// On a square canvas that encoders with codes `code` wide can halve down.
    pub fn on_canvas(dataset: &'a Dataset, code: usize, largest: usize) -> Result<Self> {
        let [h, w, _] = dataset.image_shape();
        let side = canvas(h, w, code, largest).ok_or_else(|| {
            Error::usage(format!("a code {code} wide needs images of at least {code} pixels, not {largest}"))
        })?;
        Ok(Self::shrunk_to(dataset, side, [side; 2]))
    }

    /// Without margins; sides longer than `largest` are shrunk.
    pub fn plain(dataset: &'a Dataset, largest: usize) -> Self {
        let mut pictures = Self::shrunk_to(dataset, largest, [0; 2]);
        pictures.outer = [pictures.inner[0], pictures.inner[1]];
        pictures
    }

    fn shrunk_to(dataset: &'a Dataset, longest: usize, outer: [usize; 2]) -> Self {
        let parts = [Part::Train, Part::Test].map(|p| dataset.part(p));
        let [h, w, channels] = dataset.image_shape();
        let long = h.max(w);
        if long <= longest {
            return Pictures { parts, shrunk: None, inner: [h, w, channels], outer };
        }
        let scaled = |side: usize| ((side * longest + long / 2) / long).max(1);
        let inner = [scaled(h), scaled(w), channels];
        let count = parts[0].len() + parts[1].len();
        let size = inner.iter().product::<usize>();
        let mut bytes = vec![0; count * size];
        bytes.par_chunks_mut(size).enumerate().for_each(|(row, out)| {
            let [first, second] = &parts;
            let image = if row < first.len() { first.image(row) } else { second.image(row - first.len()) };
            shrink(image, [h, w, channels], inner, out);
        });
        Pictures { parts, shrunk: Some(bytes), inner, outer }
    }

    pub fn len(&self) -> usize {
        self.parts[0].len() + self.parts[1].len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Height, width and channels of each, with margins.
    pub fn shape(&self) -> [usize; 3] {
        [self.outer[0], self.outer[1], self.inner[2]]
    }

    /// Bytes of all images before margins.
    pub fn pixels(&self) -> Pixels<'_> {
        match &self.shrunk {
            Some(bytes) => Pixels::new([bytes, &[]], self.inner),
            None => Pixels::new(self.parts.map(|p| p.bytes()), self.inner),
        }
    }

    /// Each byte as `2·byte/255 − 1`, with margins.
    pub fn look(&self) -> Look {
        let value = std::array::from_fn(|byte| (2.0 * byte as f64 / 255.0 - 1.0) as f32);
        Look { canvas: self.outer, margin: MARGIN, table: vec![value; self.inner[2]] }
    }

    /// Writes the images of the given rows, `[rows, H, W, C]`, each value `2·byte/255 − 1`.
    ///
    /// # Panics
    /// If `out` has not their size, or a row is out of range.
    pub fn fill(&self, rows: &[u32], out: &mut [f32]) {
        pixels::fill(&self.pixels(), &self.look(), rows, &Visit::default(), out);
    }
}

/// Shrinks an image channel by channel.
fn shrink(image: &[u8], [h, w, channels]: [usize; 3], to: [usize; 3], out: &mut [u8]) {
    for channel in 0..channels {
        let plane: Cow<'_, [u8]> = match channels {
            1 => image.into(),
            _ => image.iter().skip(channel).step_by(channels).copied().collect::<Vec<u8>>().into(),
        };
        let plane = ImageBuffer::<image::Luma<u8>, _>::from_raw(w as u32, h as u32, plane);
        let Some(plane) = plane else { continue };
        let small: GrayImage = imageops::resize(&plane, to[1] as u32, to[0] as u32, FilterType::CatmullRom);
        out.iter_mut().skip(channel).step_by(channels).zip(small.as_raw()).for_each(|(o, &b)| *o = b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::{Contents, Normalisation, PartContents};

    /// A data set of one training and one test image with the given bytes.
    fn dataset(shape: [usize; 3], bytes: impl Fn(usize) -> u8) -> (tempfile::TempDir, Dataset) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.safetensors");
        let size = shape.iter().product::<usize>();
        let part = |first: usize| PartContents {
            images: (first..first + size).map(&bytes).collect(),
            labels: vec![0],
            attributes: Vec::new(),
        };
        let contents = Contents {
            name: "tiny".into(),
            value_names: Default::default(),
            classes: vec!["one".into()],
            normalise: Normalisation::none(shape[2]),
            source: serde_json::json!({}),
            image_shape: shape,
            train: part(0),
            test: part(size),
        };
        contents.write(&path).unwrap();
        (folder, Dataset::open(&path).unwrap())
    }

    #[test]
    fn canvases_are_the_smallest_that_hold_the_image() {
        for (h, w, side) in [(28, 28, 32), (16, 16, 16), (32, 32, 32), (84, 84, 32), (17, 9, 32), (3, 2, 4)] {
            assert_eq!(canvas(h, w, 4, 32), Some(side), "{h}x{w}");
        }
        assert_eq!(canvas(84, 84, 4, 64), Some(64));
        assert_eq!(canvas(28, 28, 7, 32), Some(28));
        assert_eq!(canvas(28, 28, 0, 32), None);
        assert_eq!(canvas(28, 28, 33, 32), None);
    }

    #[test]
    fn small_images_stand_in_the_middle_of_black() {
        let (_folder, data) = dataset([2, 3, 2], |i| 10 * i as u8);
        let pictures = Pictures::on_canvas(&data, 4, 32).unwrap();
        assert_eq!((pictures.shape(), pictures.len()), ([4, 4, 2], 2));
        let mut out = vec![0.0; 2 * 32];
        pictures.fill(&[1, 0], &mut out);
        for (image, first) in [(0, 12), (1, 0)] {
            for y in 0..4 {
                for x in 0..4 {
                    for c in 0..2 {
                        let inside = (1..3).contains(&y) && x < 3;
                        let byte = if inside { 10 * (first + ((y - 1) * 3 + x) * 2 + c) } else { 0 };
                        let expected = (2.0 * byte as f64 / 255.0 - 1.0) as f32;
                        assert_eq!(out[image * 32 + (y * 4 + x) * 2 + c], expected, "{image} {y} {x} {c}");
                    }
                }
            }
        }
    }

    #[test]
    fn large_images_are_shrunk_in_proportion() {
        // A ramp along each axis in its own channel stays one; Catmull–Rom keeps straight lines.
        let (_folder, data) = dataset([64, 32, 2], |i| {
            let (pixel, channel) = (i / 2 % (64 * 32), i % 2);
            if channel == 0 { 2 * (pixel / 32) as u8 } else { 4 * (pixel % 32) as u8 }
        });
        let pictures = Pictures::on_canvas(&data, 4, 16).unwrap();
        assert_eq!(pictures.shape(), [16, 16, 2]);
        let mut out = vec![0.0; 512];
        pictures.fill(&[0], &mut out);
        let byte = |y: usize, x: usize, c: usize| (out[(y * 16 + x) * 2 + c] + 1.0) * 255.0 / 2.0;
        for y in 0..16 {
            for x in [0, 3, 12, 15] {
                assert_eq!(byte(y, x, 0), 0.0, "margin at {y} {x}");
            }
            // Away from the edges, the middle of four source pixels.
            if (2..14).contains(&y) {
                assert!((byte(y, 8, 0) - 2.0 * (4 * y) as f32 - 3.0).abs() <= 1.0, "{}", byte(y, 8, 0));
            }
        }
        for x in 6..10 {
            assert!((byte(8, x, 1) - 4.0 * (4 * (x - 4)) as f32 - 6.0).abs() <= 1.0, "{}", byte(8, x, 1));
        }
        let plain = Pictures::plain(&data, 16);
        assert_eq!(plain.shape(), [16, 8, 2]);
        let mut bare = vec![0.0; 256];
        plain.fill(&[0], &mut bare);
        assert_eq!(bare[..16], out[8..24]);
    }
}
