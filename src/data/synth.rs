//! Drawn images with independent attributes: shape, colour, texture and size of one object. The main
//! label is one attribute or a product of some; the others are what partitions of the images can find.

use rayon::prelude::*;
use serde_json::json;

use super::dataset::{Contents, PartContents};
use super::import::measure_normalisation;
use crate::error::{Error, Result};
use crate::random::{Purpose, Stream};

/// An attribute and its values.
pub struct Attribute {
    pub name: &'static str,
    pub values: &'static [&'static str],
}

/// All attributes, in the order of [`Drawn`].
pub const ATTRIBUTES: [Attribute; 4] = [
    Attribute { name: "shape", values: &["disc", "square", "triangle", "cross", "ring"] },
    Attribute { name: "colour", values: &["red", "green", "blue", "yellow"] },
    Attribute { name: "texture", values: &["plain", "stripes", "checker", "dots"] },
    Attribute { name: "size", values: &["small", "large"] },
];

#[derive(Clone, Debug)]
pub struct Options {
    pub train: usize,
    pub test: usize,
    /// Rows and columns, at least 8.
    pub size: usize,
    pub seed: u64,
    /// Names of attributes joined by `*`.
    pub main: String,
}

impl Default for Options {
    fn default() -> Self {
        Options { train: 4000, test: 2000, size: 16, seed: 1, main: "shape".into() }
    }
}

/// Draws the data set; the same bytes for the same options, whatever the number of threads.
pub fn draw(options: &Options) -> Result<Contents> {
    if !(8..=1024).contains(&options.size) || options.train == 0 {
        return Err(Error::usage(
            "a drawn data set needs images of 8 to 1024 pixels, at least one for training",
        ));
    }
    let main = main_attributes(&options.main)?;
    let classes = main.iter().fold(vec![String::new()], |names, &a| {
        let values = ATTRIBUTES[a].values.iter();
        let join = |name: &String, value: &str| {
            if name.is_empty() { value.into() } else { format!("{name} {value}") }
        };
        values.flat_map(|value| names.iter().map(move |n| join(n, value))).collect()
    });
    let train = part(options, &main, 0, options.train);
    Ok(Contents {
        name: format!("synth-{}", options.main),
        classes,
        value_names: ATTRIBUTES
            .iter()
            .map(|a| (a.name.to_string(), a.values.iter().map(ToString::to_string).collect()))
            .collect(),
        normalise: measure_normalisation(&train.images, 3),
        source: json!({"format": "synth", "seed": options.seed, "main": options.main}),
        image_shape: [options.size, options.size, 3],
        test: part(options, &main, 1, options.test),
        train,
    })
}

fn main_attributes(text: &str) -> Result<Vec<usize>> {
    let of = |name: &str| {
        ATTRIBUTES.iter().position(|a| a.name == name).ok_or_else(|| {
            let known: Vec<&str> = ATTRIBUTES.iter().map(|a| a.name).collect();
            Error::usage(format!(
                "unknown attribute '{name}'; known: {}, or some joined by '*'",
                known.join(", ")
            ))
        })
    };
    let attributes = text.split('*').map(of).collect::<Result<Vec<_>>>()?;
    if (1..attributes.len()).any(|i| attributes[..i].contains(&attributes[i])) {
        return Err(Error::usage(format!("'{text}' names an attribute twice")));
    }
    Ok(attributes)
}

fn part(options: &Options, main: &[usize], number: u64, count: usize) -> PartContents {
    let bytes = options.size * options.size * 3;
    let mut images = vec![0; count * bytes];
    let drawn: Vec<Drawn> = images
        .par_chunks_mut(bytes)
        .enumerate()
        .map(|(i, out)| {
            let mut random = Stream::new(options.seed, Purpose::Synthetic, number << 40 | i as u64);
            let drawn = Drawn(ATTRIBUTES.each_ref().map(|a| random.below(a.values.len())));
            drawn.render(options.size, &mut random, out);
            drawn
        })
        .collect();
    let mut scale = 1;
    let mut labels = vec![0; count];
    for &a in main.iter() {
        labels.iter_mut().zip(&drawn).for_each(|(label, d)| *label += (d.0[a] * scale) as u32);
        scale *= ATTRIBUTES[a].values.len();
    }
    let attributes = ATTRIBUTES.iter().enumerate();
    let attributes = attributes
        .map(|(a, attribute)| (attribute.name.to_string(), drawn.iter().map(|d| d.0[a] as u32).collect()))
        .collect();
    PartContents { images, labels, attributes }
}

/// Values of the attributes of one image.
struct Drawn([usize; 4]);

/// Samples of a pixel on each axis, for smooth edges.
const SAMPLES: usize = 3;

impl Drawn {
    fn render(&self, size: usize, random: &mut Stream, out: &mut [u8]) {
        let [shape, colour, texture, large] = self.0;
        let mut between = |low: f64, high: f64| low + (high - low) * random.next_f64();
        // The picture is the square from -1 to 1.
        let radius = if large == 1 { between(0.7, 0.8) } else { between(0.5, 0.6) };
        let slack = 0.9 * (0.95 - radius);
        let centre = [between(-slack, slack), between(-slack, slack)];
        let turn = between(-0.5, 0.5);
        let hue = [0.0, 0.33, 0.62, 0.16][colour] + between(-0.05, 0.05);
        let bright = rgb(hue, between(0.45, 0.9), between(0.7, 1.0));
        let dark = bright.map(|c| c * 0.5);
        let phase = between(0.0, 1.0);
        let ground = rgb(between(0.0, 1.0), between(0.0, 0.5), between(0.05, 0.12));
        let slope = [between(-0.25, 0.25), between(-0.25, 0.25)];
        let noise = between(0.02, 0.08);
        let (sin, cos) = turn.sin_cos();
        for (at, pixel) in out.chunks_exact_mut(3).enumerate() {
            let (row, column) = (at / size, at % size);
            let mut sum = [0.0; 3];
            for sample in 0..SAMPLES * SAMPLES {
                let place = |pixel: usize, s: usize| {
                    2.0 * (pixel as f64 + (s as f64 + 0.5) / SAMPLES as f64) / size as f64 - 1.0
                };
                let (x, y) = (place(column, sample % SAMPLES), place(row, sample / SAMPLES));
                let (dx, dy) = ((x - centre[0]) / radius, (y - centre[1]) / radius);
                let (u, v) = (dx * cos + dy * sin, dy * cos - dx * sin);
                let light = 1.0 + slope[0] * x + slope[1] * y;
                let colour = if inside(shape, u, v) {
                    if is_dark(texture, u, v, phase) { dark } else { bright }
                } else {
                    ground.map(|c| c * light)
                };
                sum.iter_mut().zip(colour).for_each(|(sum, c)| *sum += c);
            }
            for (byte, sum) in pixel.iter_mut().zip(sum) {
                let value = sum / (SAMPLES * SAMPLES) as f64 + noise * random.normal();
                *byte = (value * 255.0).round().clamp(0.0, 255.0) as u8;
            }
        }
    }
}

/// Is a point of the object's own square within its shape?
fn inside(shape: usize, u: f64, v: f64) -> bool {
    let distance = u.hypot(v);
    match shape {
        0 => distance < 0.95,
        1 => u.abs().max(v.abs()) < 0.82,
        2 => v < 0.7 && v > 2.0 * u.abs() - 1.0,
        3 => u.abs().min(v.abs()) < 0.32 && u.abs().max(v.abs()) < 0.98,
        _ => distance < 1.0 && distance > 0.55,
    }
}

/// Is a point of the object on the dark part of its texture?
fn is_dark(texture: usize, u: f64, v: f64, phase: f64) -> bool {
    let wave = |t: f64| (t * 1.4 + phase).rem_euclid(1.0) < 0.5;
    match texture {
        0 => false,
        1 => wave(u + v),
        2 => wave(u) != wave(v),
        _ => {
            let cell = |t: f64| (t * 1.6 + phase).rem_euclid(1.0) - 0.5;
            cell(u).hypot(cell(v)) < 0.3
        }
    }
}

/// Red, green and blue of a hue in turns, saturation and value from 0 to 1.
fn rgb(hue: f64, saturation: f64, value: f64) -> [f64; 3] {
    [5.0, 3.0, 1.0].map(|n: f64| {
        let k = (n + hue.rem_euclid(1.0) * 6.0) % 6.0;
        value * (1.0 - saturation * k.min(4.0 - k).clamp(0.0, 1.0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_depend_on_the_seed_alone() {
        let options = Options { train: 50, test: 20, ..Options::default() };
        let one = draw(&options).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        assert_eq!(one.fingerprint(), pool.install(|| draw(&options)).unwrap().fingerprint());
        let other = draw(&Options { seed: 2, ..options }).unwrap();
        assert_ne!(one.fingerprint(), other.fingerprint());
        assert_ne!(one.train.images[..300], one.test.images[..300]);
    }

    #[test]
    fn product_labels_are_the_attributes() {
        let options = Options { train: 200, test: 1, main: "texture*size".into(), ..Options::default() };
        let contents = draw(&options).unwrap();
        assert_eq!(contents.classes.len(), 8);
        let attribute = |name: &str| &contents.train.attributes.iter().find(|(n, _)| n == name).unwrap().1;
        for (i, &label) in contents.train.labels.iter().enumerate() {
            assert_eq!(label, attribute("texture")[i] + 4 * attribute("size")[i]);
            let texture = ATTRIBUTES[2].values[attribute("texture")[i] as usize];
            let size = ATTRIBUTES[3].values[attribute("size")[i] as usize];
            assert_eq!(contents.classes[label as usize], format!("{texture} {size}"));
        }
    }

    #[test]
    fn unknown_attributes_are_refused() {
        for main in ["", "form", "shape*shape", "shape*"] {
            assert!(draw(&Options { main: main.into(), ..Options::default() }).is_err(), "{main}");
        }
    }
}
