//! Images of a data set as PNG within the page.

use base64::Engine as _;
use image::{ExtendedColorType, ImageEncoder};
use maud::{Markup, html};

/// Longer sides are made smaller, by a whole factor.
const LONGEST: usize = 96;

/// Images side by side, `gap` empty pixels apart.
pub struct Strip {
    height: usize,
    width: usize,
    /// Channels of the picture: 1, 3, or 4 with a transparent gap.
    channels: usize,
    pixels: Vec<u8>,
}

impl Strip {
    /// A strip of images `[H, W, C]` of one shape. Images of one channel are grey; of other numbers than
    /// three, the first channel is shown.
    pub fn new(images: &[&[u8]], [height, width, channels]: [usize; 3], gap: usize) -> Self {
        let factor = height.max(width).div_ceil(LONGEST).max(1);
        let (h, w) = ((height / factor).max(1), (width / factor).max(1));
        let full = images.len() * w + images.len().saturating_sub(1) * gap;
        let mut pixels = vec![0u8; h * full * 4];
        for (number, image) in images.iter().enumerate() {
            for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
                let value = |c: usize| {
                    let c = if channels == 3 { c } else { 0 };
                    mean_of_block(image, (y * factor, x * factor, c), (height, width, channels), factor)
                };
                let at = (y * full + number * (w + gap) + x) * 4;
                pixels[at..at + 4].copy_from_slice(&[value(0), value(1), value(2), 255]);
            }
        }
        // Transparency costs a quarter of the bytes, so only gaps have it.
        let channels = match (gap > 0 && images.len() > 1, channels) {
            (true, _) => 4,
            (false, 3) => 3,
            (false, _) => 1,
        };
        let pixels = pixels.chunks(4).flat_map(|p| &p[..channels]).copied().collect();
        Strip { height: h, width: full, channels, pixels }
    }

    /// An `img` element `scale` times as large; nothing if the picture cannot be encoded.
    pub fn markup(&self, alt: &str, scale: usize) -> Markup {
        let Some(png) = self.png() else { return html! {} };
        let data = base64::engine::general_purpose::STANDARD.encode(png);
        html! {
            img alt=(alt) width=(self.width * scale) height=(self.height * scale)
                src=(format!("data:image/png;base64,{data}"));
        }
    }

    fn png(&self) -> Option<Vec<u8>> {
        let colour = match self.channels {
            1 => ExtendedColorType::L8,
            3 => ExtendedColorType::Rgb8,
            _ => ExtendedColorType::Rgba8,
        };
        let mut bytes = Vec::new();
        let encoder = image::codecs::png::PngEncoder::new_with_quality(
            &mut bytes,
            image::codecs::png::CompressionType::Best,
            image::codecs::png::FilterType::Adaptive,
        );
        encoder.write_image(&self.pixels, self.width as u32, self.height as u32, colour).ok()?;
        Some(bytes)
    }
}

/// By how much an image of this shape is enlarged on the page: small images to about `wanted` pixels.
pub fn scale([height, width, _]: [usize; 3], wanted: usize) -> usize {
    (wanted / height.max(width).clamp(1, wanted)).max(1)
}

fn mean_of_block(
    image: &[u8],
    (y, x, c): (usize, usize, usize),
    (height, width, channels): (usize, usize, usize),
    side: usize,
) -> u8 {
    let rows = y..(y + side).min(height);
    let (mut sum, mut n) = (0usize, 0usize);
    for (y, x) in rows.flat_map(|y| (x..(x + side).min(width)).map(move |x| (y, x))) {
        sum += usize::from(image[(y * width + x) * channels + c]);
        n += 1;
    }
    (sum / n.max(1)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(strip: &Strip) -> image::DynamicImage {
        image::load_from_memory(&strip.png().unwrap()).unwrap()
    }

    #[test]
    fn pixels_survive() {
        let grey: Vec<u8> = (0..20).collect();
        let one = decoded(&Strip::new(&[&grey], [4, 5, 1], 1));
        assert_eq!(one.to_luma8().into_raw(), grey);
        let colour: Vec<u8> = (0..60).collect();
        assert_eq!(decoded(&Strip::new(&[&colour], [4, 5, 3], 0)).to_rgb8().into_raw(), colour);
        let two = decoded(&Strip::new(&[&grey, &grey], [4, 5, 1], 2)).to_rgba8();
        assert_eq!((two.width(), two.height()), (12, 4));
        assert_eq!((two.get_pixel(5, 0).0[3], two.get_pixel(7, 1).0), (0, [5, 5, 5, 255]));
    }

    #[test]
    fn large_images_are_made_smaller() {
        let flat = vec![200u8; 300 * 200 * 3];
        let small = decoded(&Strip::new(&[&flat], [300, 200, 3], 0)).to_rgb8();
        assert_eq!((small.width(), small.height()), (50, 75));
        assert!(small.into_raw().iter().all(|&v| v == 200));
        assert_eq!([scale([28, 28, 1], 84), scale([300, 200, 3], 84), scale([16, 16, 3], 84)], [3, 1, 5]);
    }
}
