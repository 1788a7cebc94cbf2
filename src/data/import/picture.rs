//! PNG and JPEG images to bytes.

use std::path::Path;

use image::imageops::FilterType;

use crate::error::{Error, Result};

/// Largest side of an image, in pixels.
const LARGEST: u32 = 1 << 14;

/// A decoded image.
pub(super) struct Picture {
    pub rows: usize,
    pub columns: usize,
    /// Whether the file has no colours.
    pub grey: bool,
    /// Bytes `[rows, columns, 3]`.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// Decodes a file's content, and resizes it (rows, columns) where it has another size, with a triangle
    /// filter: bilinear, and each pixel an average of all that it covers where the image shrinks.
    pub fn decode(path: &Path, bytes: &[u8], size: Option<(usize, usize)>) -> Result<Picture> {
        let wrong = |e: String| Error::format(path, "content", "a PNG or JPEG image", e);
        let cursor = std::io::Cursor::new(bytes);
        let mut reader =
            image::ImageReader::new(cursor).with_guessed_format().map_err(|e| wrong(e.to_string()))?;
        let mut limits = image::Limits::default();
        (limits.max_image_width, limits.max_image_height) = (Some(LARGEST), Some(LARGEST));
        reader.limits(limits);
        let mut image = reader.decode().map_err(|e| wrong(e.to_string()))?;
        if let Some((rows, columns)) = size
            && (rows as u32, columns as u32) != (image.height(), image.width())
        {
            image = image.resize_exact(columns as u32, rows as u32, FilterType::Triangle);
        }
        let grey = !image.color().has_color();
        let rgb = image.into_rgb8();
        Ok(Picture { rows: rgb.height() as usize, columns: rgb.width() as usize, grey, rgb: rgb.into_raw() })
    }

    pub fn read(path: &Path, size: Option<(usize, usize)>) -> Result<Picture> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read", e))?;
        Picture::decode(path, &bytes, size)
    }

    /// One byte a pixel: the grey value, or the luma of a colour.
    pub fn into_grey(self) -> Vec<u8> {
        let grey = self.grey;
        self.rgb.chunks_exact(3).map(|pixel| if grey { pixel[0] } else { luma(pixel) }).collect()
    }
}

/// One PNG or JPEG image as bytes of a shape (rows, columns, 1 or 3 channels), resized with a triangle
/// filter where it has another size. Colours become luma where one channel is wanted.
pub fn read_image(path: &Path, [rows, columns, channels]: [usize; 3]) -> Result<Vec<u8>> {
    let picture = Picture::read(path, Some((rows, columns)))?;
    Ok(if channels == 3 { picture.rgb } else { picture.into_grey() })
}

/// Brightness of a pixel (ITU-R BT.601).
fn luma(pixel: &[u8]) -> u8 {
    let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(f32::from);
    (0.299 * r + 0.587 * g + 0.114 * b).round().min(255.0) as u8
}
