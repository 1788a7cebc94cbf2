//! From the bytes of images to the numbers that networks see: the one definition that data sets, embeddings
//! and devices share.

use rayon::prelude::*;

use crate::random::{Purpose, Stream};

/// Bytes of images of one shape, one after the other, in up to two places: training and test images.
#[derive(Clone, Copy, Debug)]
pub struct Pixels<'a> {
    parts: [&'a [u8]; 2],
    shape: [usize; 3],
}

impl<'a> Pixels<'a> {
    /// Images `[N, H, W, C]`.
    ///
    /// # Panics
    /// If the bytes are not those of whole images.
    pub fn new(parts: [&'a [u8]; 2], shape: [usize; 3]) -> Self {
        let size = shape.iter().product::<usize>();
        assert!(size > 0 && parts.iter().all(|p| p.len().is_multiple_of(size)), "bytes of whole images");
        Pixels { parts, shape }
    }

    /// Height, width, channels.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    pub fn parts(&self) -> [&'a [u8]; 2] {
        self.parts
    }

    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|p| p.len()).sum()
    }

    pub fn len(&self) -> usize {
        self.bytes() / self.size()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    /// Bytes of an image.
    pub fn size(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes `[H, W, C]` of an image.
    ///
    /// # Panics
    /// If there is no such image.
    pub fn image(&self, i: usize) -> &'a [u8] {
        let (start, first) = (i * self.size(), self.parts[0].len());
        match start.checked_sub(first) {
            None => &self.parts[0][start..start + self.size()],
            Some(start) => &self.parts[1][start..start + self.size()],
        }
    }
}

/// How images look to a network: on a canvas, each byte as a number.
#[derive(Clone, PartialEq, Debug)]
pub struct Look {
    /// Height and width; the image stands in the middle, half a pixel up and left if a margin is odd.
    pub canvas: [usize; 2],
    /// What stands around the image.
    pub margin: f32,
    /// The number for each byte, by channel.
    pub table: Vec<[f32; 256]>,
}

impl Look {
    /// Rows above the image, and columns to the left of it.
    pub fn offset(&self, [height, width, _]: [usize; 3]) -> [usize; 2] {
        [(self.canvas[0] - height) / 2, (self.canvas[1] - width) / 2]
    }

    /// Height, width and channels with margins.
    pub fn shape(&self) -> [usize; 3] {
        [self.canvas[0], self.canvas[1], self.table.len()]
    }
}

/// Random changes of training images, drawn anew for every visit (METHODS §8, ‡).
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Augment {
    /// Probability of a horizontal flip.
    pub flip: f32,
    /// Probability of replacing the colours by their luma (images of three channels only).
    pub grey: f32,
}

/// What is done to one image.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Change {
    pub mirrored: bool,
    pub grey: bool,
}

/// Draws of augmentation: keyed by the seed, the visit (a number that never repeats, such as the step) and
/// the position in the batch.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Visit {
    pub augment: Augment,
    pub seed: u64,
    pub visit: u64,
}

impl Visit {
    /// What is done to the image at a position of the batch.
    pub fn change(&self, position: usize, channels: usize) -> Change {
        let Augment { flip, grey } = self.augment;
        if flip == 0.0 && grey == 0.0 {
            return Change::default();
        }
        let number = self.visit.wrapping_mul(1 << 20) + position as u64;
        let mut draw = Stream::new(self.seed, Purpose::Augment, number);
        Change { mirrored: draw.next_f32() < flip, grey: draw.next_f32() < grey && channels == 3 }
    }
}

/// Images below which one thread does all.
const SERIAL: usize = 32;

/// Writes the images of the given rows, `[B, H, W, C]` with margins.
///
/// # Panics
/// If `out` has not the size of the batch, or a row is out of range.
pub fn fill(pixels: &Pixels<'_>, look: &Look, rows: &[u32], visit: &Visit, out: &mut [f32]) {
    let [height, width, channels] = pixels.shape();
    let [above, left] = look.offset(pixels.shape());
    let wide = look.canvas[1] * channels;
    let size = look.canvas[0] * wide;
    assert_eq!(out.len(), rows.len() * size, "room for the batch");
    let one = |(position, (out, &row)): (usize, (&mut [f32], &u32))| {
        let change = visit.change(position, channels);
        if look.canvas != [height, width] {
            out.fill(look.margin);
        }
        let lines = out.chunks_exact_mut(wide).skip(above);
        for (line, from) in lines.zip(pixels.image(row as usize).chunks_exact(width * channels)) {
            let line = &mut line[left * channels..][..width * channels];
            match (change == Change::default(), &look.table[..]) {
                (true, [table]) => {
                    line.iter_mut().zip(from).for_each(|(to, &byte)| *to = table[usize::from(byte)]);
                }
                _ => fill_line(line, from, &look.table, change),
            }
        }
    };
    out.par_chunks_mut(size).zip(rows).with_min_len(SERIAL).enumerate().for_each(one);
}

fn fill_line(line: &mut [f32], from: &[u8], table: &[[f32; 256]], change: Change) {
    let channels = table.len();
    let width = line.len() / channels;
    for (x, out) in line.chunks_exact_mut(channels).enumerate() {
        let x = if change.mirrored { width - 1 - x } else { x };
        let bytes = &from[x * channels..(x + 1) * channels];
        if change.grey {
            let grey = usize::from(luma(bytes));
            out.iter_mut().zip(table).for_each(|(o, t)| *o = t[grey]);
        } else {
            out.iter_mut().zip(bytes).zip(table).for_each(|((o, &b), t)| *o = t[usize::from(b)]);
        }
    }
}

/// Luma of ITU-R BT.601.
fn luma(rgb: &[u8]) -> u8 {
    let sum = 0.299 * f32::from(rgb[0]) + 0.587 * f32::from(rgb[1]) + 0.114 * f32::from(rgb[2]);
    sum.round().min(255.0) as u8
}
