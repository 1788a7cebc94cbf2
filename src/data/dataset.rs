//! The data-set file: `train.images` u8 `[N, H, W, C]`, `train.labels` u32 `[N]`, the same for `test`
//! (which may be absent), optional `train.attributes.NAME` u32 `[N]`; names and provenance in the
//! metadata. The attribute [`HELD_OUT`] is 1 for training images that the data set itself sets aside for
//! validation. Every invariant is checked when a file is opened.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::pixels::{Look, Pixels};
use crate::tensor::{DType, Entry, TensorFile, write_tensors};

/// Value of the metadata key `format`.
pub const FORMAT: &str = "tessera-dataset-1";

/// Attribute of the training part that marks validation images.
pub const HELD_OUT: &str = "validation";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    Train,
    Test,
}

impl Part {
    pub fn name(self) -> &'static str {
        match self {
            Part::Train => "train",
            Part::Test => "test",
        }
    }
}

/// Mean and standard deviation of each channel of `x / 255`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalisation {
    pub mean: Vec<f32>,
    pub sd: Vec<f32>,
}

impl Normalisation {
    /// Leaves `x / 255` as it is.
    pub fn none(channels: usize) -> Self {
        Normalisation { mean: vec![0.0; channels], sd: vec![1.0; channels] }
    }

    /// Of CIFAR-10, for CIFAR-100 and miniImageNet too (METHODS §8).
    pub fn natural() -> Self {
        Normalisation { mean: vec![0.4914, 0.4822, 0.4465], sd: vec![0.2023, 0.1994, 0.2010] }
    }

    /// How images of a shape look: `(x / 255 − mean) / sd`, without margins.
    pub fn look(&self, [height, width, _]: [usize; 3]) -> Look {
        let channel =
            |(&mean, &sd): (&f32, &f32)| std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / sd);
        let table = self.mean.iter().zip(&self.sd).map(channel).collect();
        Look { canvas: [height, width], margin: 0.0, table }
    }
}

/// A data set in memory, on its way to a file.
#[derive(Clone, Debug)]
pub struct Contents {
    pub name: String,
    pub classes: Vec<String>,
    /// What the values of attributes mean, for those that have names.
    pub value_names: BTreeMap<String, Vec<String>>,
    pub normalise: Normalisation,
    /// Where the images came from, as JSON.
    pub source: serde_json::Value,
    /// Height, width, channels.
    pub image_shape: [usize; 3],
    pub train: PartContents,
    pub test: PartContents,
}

#[derive(Clone, Debug, Default)]
pub struct PartContents {
    pub images: Vec<u8>,
    pub labels: Vec<u32>,
    pub attributes: Vec<(String, Vec<u32>)>,
}

impl Contents {
    /// SHA-256 over shapes, images and labels, in hexadecimal.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("{:?}", self.image_shape));
        for part in [&self.train, &self.test] {
            hash.update(format!("{}", part.labels.len()));
            hash.update(&part.images);
            hash.update(bytemuck::cast_slice::<u32, u8>(&part.labels));
        }
        hex(&hash.finalize())
    }

    /// Writes the file, whole or not at all.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let [h, w, c] = self.image_shape;
        let mut entries = Vec::new();
        for (part, contents) in [(Part::Train, &self.train), (Part::Test, &self.test)] {
            let (n, name) = (contents.labels.len(), part.name());
            if n == 0 && part == Part::Test {
                continue;
            }
            entries.push(Entry::new(format!("{name}.images"), DType::U8, [n, h, w, c], &contents.images));
            entries.push(Entry::new(format!("{name}.labels"), DType::U32, [n], &contents.labels));
            for (attribute, values) in &contents.attributes {
                entries.push(Entry::new(format!("{name}.attributes.{attribute}"), DType::U32, [n], values));
            }
        }
        let as_json =
            |e: serde_json::Error| Error::format(path, "metadata", "names that can be stored", e.to_string());
        let metadata = [
            ("format", FORMAT.to_string()),
            ("name", self.name.clone()),
            ("classes", serde_json::to_string(&self.classes).map_err(as_json)?),
            ("values", serde_json::to_string(&self.value_names).map_err(as_json)?),
            ("normalise", serde_json::to_string(&self.normalise).map_err(as_json)?),
            ("source", self.source.to_string()),
            ("fingerprint", self.fingerprint()),
        ];
        write_tensors(path, &entries, &metadata)
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The images of one part, in place.
#[derive(Clone, Copy)]
pub struct Images<'a> {
    shape: [usize; 3],
    bytes: &'a [u8],
    labels: &'a [u32],
}

impl<'a> Images<'a> {
    /// Images `[N, H, W, C]` with a label each.
    ///
    /// # Panics
    /// If the bytes are not those of as many images as there are labels.
    pub fn new(shape: [usize; 3], bytes: &'a [u8], labels: &'a [u32]) -> Self {
        assert_eq!(bytes.len(), labels.len() * shape.iter().product::<usize>(), "bytes of every image");
        Images { shape, bytes, labels }
    }

    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Height, width, channels.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Bytes `[H, W, C]` of an image.
    ///
    /// # Panics
    /// If there is no such image.
    pub fn image(&self, i: usize) -> &'a [u8] {
        let size = self.shape.iter().product::<usize>();
        &self.bytes[i * size..(i + 1) * size]
    }

    pub fn labels(&self) -> &'a [u32] {
        self.labels
    }

    /// Bytes of all images.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// An open data set.
pub struct Dataset {
    file: TensorFile,
    name: String,
    classes: Vec<String>,
    value_names: BTreeMap<String, Vec<String>>,
    normalise: Normalisation,
    image_shape: [usize; 3],
}

impl Dataset {
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let file = TensorFile::open(path)?;
        let metadata = |key: &str, what: &str| {
            file.metadata(key).ok_or_else(|| {
                Error::format(
                    file.path(),
                    format!("metadata key '{key}'"),
                    what,
                    "no such key; is this a data set?",
                )
            })
        };
        let format = metadata("format", FORMAT)?;
        if format != FORMAT {
            return Err(Error::format(file.path(), "metadata key 'format'", FORMAT, format));
        }
        let name = metadata("name", "the name of the data set")?.to_string();
        let classes: Vec<String> = parse(&file, "classes", metadata("classes", "class names")?)?;
        let value_names = match file.metadata("values") {
            Some(text) => parse(&file, "values", text)?,
            None => BTreeMap::new(),
        };
        let normalise: Normalisation = parse(&file, "normalise", metadata("normalise", "mean and sd")?)?;
        let shape = file.shape("train.images")?;
        let &[_, h, w, c] = shape.dims() else {
            return Err(file.wrong("train.images", "shape [N, H, W, C]", shape.to_string()));
        };
        let sizes = |v: &Vec<f32>| v.len() == c && v.iter().all(|x| x.is_finite());
        if !sizes(&normalise.mean) || !sizes(&normalise.sd) || normalise.sd.contains(&0.0) {
            let found = format!("{normalise:?}");
            return Err(Error::format(
                file.path(),
                "metadata key 'normalise'",
                format!("{c} means and deviations"),
                found,
            ));
        }
        let dataset = Dataset { name, classes, value_names, normalise, image_shape: [h, w, c], file };
        dataset.check_part(Part::Train)?;
        if dataset.has(Part::Test) {
            dataset.check_part(Part::Test)?;
        }
        Ok(dataset)
    }

    fn has(&self, part: Part) -> bool {
        self.file.contains(&format!("{}.images", part.name()))
    }

    fn check_part(&self, part: Part) -> Result<()> {
        let [images, labels] = ["images", "labels"].map(|what| format!("{}.{what}", part.name()));
        let shape = self.file.shape(&images)?;
        let count = self.file.slice::<u32>(&labels, DType::U32)?.len();
        self.file.slice::<u8>(&images, DType::U8)?;
        if shape.dims() != [count, self.image_shape[0], self.image_shape[1], self.image_shape[2]] {
            let expected = format!("{count} images (one a label) of {:?}", self.image_shape);
            return Err(self.file.wrong(&images, expected, shape.to_string()));
        }
        if count == 0 || shape.is_empty() {
            return Err(self.file.wrong(
                &images,
                "at least one image of at least one pixel",
                shape.to_string(),
            ));
        }
        let values = self.file.slice::<u32>(&labels, DType::U32)?;
        if let Some(i) = values.iter().position(|&l| l as usize >= self.classes.len()) {
            let expected = format!("labels below {} (the number of class names)", self.classes.len());
            return Err(self.file.wrong(&labels, expected, format!("{} at image {i}", values[i])));
        }
        for name in self.attribute_names(part) {
            let key = format!("{}.attributes.{name}", part.name());
            let values = self.file.slice::<u32>(&key, DType::U32)?;
            if values.len() != count {
                return Err(self.file.wrong(&key, format!("{count} values"), values.len().to_string()));
            }
            let bound = match self.value_names.get(&name) {
                Some(names) => names.len(),
                None if name == HELD_OUT => 2,
                None => continue,
            };
            if let Some(i) = values.iter().position(|&v| v as usize >= bound) {
                let found = format!("{} at image {i}", values[i]);
                return Err(self.file.wrong(&key, format!("values below {bound}"), found));
            }
        }
        Ok(())
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn class_names(&self) -> &[String] {
        &self.classes
    }

    /// Height, width, channels.
    pub fn image_shape(&self) -> [usize; 3] {
        self.image_shape
    }

    pub fn normalisation(&self) -> &Normalisation {
        &self.normalise
    }

    /// SHA-256 of the contents, as computed when the file was made.
    pub fn fingerprint(&self) -> &str {
        self.file.metadata("fingerprint").unwrap_or("")
    }

    /// Where the images came from, as JSON.
    pub fn source(&self) -> &str {
        self.file.metadata("source").unwrap_or("{}")
    }

    /// The images and labels of a part; the test part may be empty.
    pub fn part(&self, part: Part) -> Images<'_> {
        let key = |what: &str| format!("{}.{what}", part.name());
        // Present parts were checked at opening.
        let bytes = self.file.bytes(&key("images")).unwrap_or(&[]);
        let labels = self.file.slice(&key("labels"), DType::U32).unwrap_or(&[]);
        Images { shape: self.image_shape, bytes, labels }
    }

    /// Bytes of all images, the test images after the training images.
    pub fn pixels(&self) -> Pixels<'_> {
        Pixels::new([Part::Train, Part::Test].map(|p| self.part(p).bytes), self.image_shape)
    }

    /// Numbers of a part's images among [`Dataset::pixels`].
    pub fn rows(&self, part: Part) -> std::ops::Range<u32> {
        let train = self.part(Part::Train).len() as u32;
        match part {
            Part::Train => 0..train,
            Part::Test => train..train + self.part(Part::Test).len() as u32,
        }
    }

    pub fn attribute_names(&self, part: Part) -> Vec<String> {
        let prefix = format!("{}.attributes.", part.name());
        self.file.names().iter().filter_map(|n| n.strip_prefix(&prefix).map(str::to_string)).collect()
    }

    /// Names of an attribute's values, if they have some.
    pub fn value_names(&self, attribute: &str) -> Option<&[String]> {
        self.value_names.get(attribute).map(Vec::as_slice)
    }

    /// For each training image, 1 if the data set itself sets it aside for validation; `None` if it sets
    /// none aside.
    pub fn held_out(&self) -> Option<&[u32]> {
        self.attribute(Part::Train, HELD_OUT).filter(|marks| marks.contains(&1))
    }

    /// Number of validation images that the data set itself sets aside.
    pub fn held_out_count(&self) -> usize {
        self.held_out().map_or(0, |marks| marks.iter().filter(|&&m| m == 1).count())
    }

    /// Values of an attribute, if the data set has it.
    pub fn attribute(&self, part: Part, name: &str) -> Option<&[u32]> {
        self.file.slice(&format!("{}.attributes.{name}", part.name()), DType::U32).ok()
    }
}

fn parse<T: serde::de::DeserializeOwned>(file: &TensorFile, key: &str, text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|e| Error::format(file.path(), format!("metadata key '{key}'"), "valid JSON", e.to_string()))
}
