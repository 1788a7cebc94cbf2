//! `tessera data`: data sets in, one file out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::Output;
use crate::data::dataset::{Contents, HELD_OUT};
use crate::data::import::Omniglot;
use crate::data::{Dataset, Part, import, synth};
use crate::error::{Error, Result};

/// Values of an attribute that a table shows.
const MOST_VALUES: usize = 120;

#[derive(Args)]
pub struct Data {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// MNIST and relatives: train-images-idx3-ubyte and so on.
    Idx,
    /// data_batch_1.bin … and test_batch.bin, or cifar-10-binary.tar.gz.
    Cifar10,
    /// train.bin and test.bin, or cifar-100-binary.tar.gz.
    Cifar100,
    /// images_background and images_evaluation, folders or .zip; ink becomes 1, paper 0. Of each character 10
    /// drawings train, 4 validate (`train --validation` takes them by itself) and 6 test.
    Omniglot,
    /// Class folders with PNG or JPEG images, below train and test if there are such folders.
    Folder,
}

#[derive(Clone, Copy, ValueEnum)]
enum Labels {
    Fine,
    Coarse,
}

const EXAMPLES: &str = "\
Examples:
  tessera data import idx mnist/ -o mnist.safetensors
  tessera data import cifar10 cifar-10-binary.tar.gz -o cifar10.safetensors
  tessera data import omniglot omniglot/ --alphabet Greek -o greek.safetensors
  tessera data import omniglot omniglot/ --each-alphabet -o alphabets/";

#[derive(Args)]
struct Import {
    format: Format,
    /// Folder that holds the files, or the archive of a data set that comes as one.
    src: PathBuf,
    /// File to write; a folder with --each-alphabet.
    #[arg(short, long)]
    out: PathBuf,
    /// Which labels of CIFAR-100 become the classes [default: coarse].
    #[arg(long)]
    labels: Option<Labels>,
    /// Resize images of a folder, rows by columns.
    #[arg(long, value_name = "HxW")]
    size: Option<String>,
    /// One alphabet of Omniglot instead of all.
    #[arg(long, value_name = "NAME")]
    alphabet: Option<String>,
    /// A file for each alphabet of Omniglot, ALPHABET.safetensors in the folder --out.
    #[arg(long, conflicts_with = "alphabet")]
    each_alphabet: bool,
    /// Seed of the choice of Omniglot's drawings for training, validation and test [default: 1].
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Subcommand)]
enum What {
    /// Read a data set's official files (plain, .gz, .xz or in their archive) and write one file.
    #[command(after_help = EXAMPLES)]
    Import(Import),
    /// Draw images with independent attributes: shape, colour, texture, size.
    Synth {
        /// File to write.
        #[arg(short, long)]
        out: PathBuf,
        /// Training images.
        #[arg(long, default_value_t = synth::Options::default().train)]
        train: usize,
        /// Test images.
        #[arg(long, default_value_t = synth::Options::default().test)]
        test: usize,
        /// Rows and columns.
        #[arg(long, default_value_t = synth::Options::default().size)]
        size: usize,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Attribute that is the main label, or several joined by '*'.
        #[arg(long, default_value = "shape")]
        main: String,
    },
    /// Say what a data-set file holds.
    Info { file: PathBuf },
}

pub fn run(data: Data, output: &Output) -> Result<()> {
    match data.what {
        What::Import(import) => run_import(import, output),
        What::Synth { out, train, test, size, seed, main } => {
            let contents = synth::draw(&synth::Options { train, test, size, seed, main })?;
            written(&contents, &out, output)
        }
        What::Info { file } => info(&Dataset::open(file)?, output),
    }
}

fn run_import(i: Import, output: &Output) -> Result<()> {
    for (given, flag, what, formats) in [
        (i.labels.is_some(), "--labels", "CIFAR-100", &[Format::Cifar100][..]),
        (i.size.is_some(), "--size", "folders of images", &[Format::Folder]),
        (i.alphabet.is_some(), "--alphabet", "Omniglot", &[Format::Omniglot]),
        (i.each_alphabet, "--each-alphabet", "Omniglot", &[Format::Omniglot]),
        (i.seed.is_some(), "--seed", "Omniglot", &[Format::Omniglot]),
    ] {
        if given && !formats.contains(&i.format) {
            return Err(Error::usage(format!("{flag} is for {what}")));
        }
    }
    let size = i.size.as_deref().map(parse_size).transpose()?;
    let contents = match i.format {
        Format::Idx => import::idx(&i.src)?,
        Format::Cifar10 => import::cifar10(&i.src)?,
        Format::Cifar100 => {
            let labels = match i.labels {
                Some(Labels::Fine) => import::Labels::Fine,
                Some(Labels::Coarse) | None => import::Labels::Coarse,
            };
            import::cifar100(&i.src, labels)?
        }
        Format::Omniglot => {
            let omniglot = Omniglot::open(&i.src, i.seed.unwrap_or(1))?;
            if i.each_alphabet {
                return each_alphabet(&omniglot, &i.out, output);
            }
            omniglot.contents(i.alphabet.as_deref())?
        }
        Format::Folder => import::folder(&i.src, size)?,
    };
    written(&contents, &i.out, output)
}

fn each_alphabet(omniglot: &Omniglot, folder: &Path, output: &Output) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "create", e))?;
    for alphabet in omniglot.alphabets() {
        let contents = omniglot.contents(Some(alphabet))?;
        written(&contents, &folder.join(format!("{alphabet}.safetensors")), output)?;
    }
    Ok(())
}

fn parse_size(text: &str) -> Result<(usize, usize)> {
    let sides = text.split_once('x').and_then(|(h, w)| Some((h.parse().ok()?, w.parse().ok()?)));
    match sides {
        Some((h, w)) if (1..=4096).contains(&h) && (1..=4096).contains(&w) => Ok((h, w)),
        _ => Err(Error::usage(format!(
            "--size takes rows x columns such as 64x64, each up to 4096; got '{text}'"
        ))),
    }
}

fn written(contents: &Contents, out: &Path, output: &Output) -> Result<()> {
    contents.write(out)?;
    let [h, w, c] = contents.image_shape;
    let (train, test) = (contents.train.labels.len(), contents.test.labels.len());
    let text = format!(
        "{}: {train} training and {test} test images of {h}x{w}x{c}, {} classes",
        out.display(),
        contents.classes.len()
    );
    let object = json!({
        "file": out.display().to_string(), "train": train, "test": test, "image_shape": contents.image_shape,
        "classes": contents.classes, "fingerprint": contents.fingerprint(),
    });
    output.result(&object, text);
    Ok(())
}

fn info(dataset: &Dataset, output: &Output) -> Result<()> {
    let count = |part: Part| {
        let mut counts = vec![0usize; dataset.class_names().len()];
        dataset.part(part).labels().iter().for_each(|&l| counts[l as usize] += 1);
        counts
    };
    let (train, test) = (count(Part::Train), count(Part::Test));
    let [h, w, c] = dataset.image_shape();
    let n = dataset.normalisation();
    let names = dataset.attribute_names(Part::Train);
    let attributes: Vec<Attribute> = names.iter().map(|name| Attribute::of(dataset, name)).collect();
    let mut text = format!(
        "{}: {} training and {} test images of {h}x{w}x{c}, {} classes\n",
        dataset.name(),
        train.iter().sum::<usize>(),
        test.iter().sum::<usize>(),
        train.len()
    );
    text += &format!("normalisation: mean {:?}, standard deviation {:?}\n", n.mean, n.sd);
    if dataset.held_out_count() > 0 {
        let count = dataset.held_out_count();
        text += &format!("validation: {count} training images that the data set itself sets aside\n");
    }
    text += &format!("attributes: {}\n", if names.is_empty() { "none".into() } else { names.join(", ") });
    text += &format!("fingerprint: {}\nsource: {}\n", dataset.fingerprint(), dataset.source());
    for attribute in &attributes {
        text += &attribute.table();
    }
    text += &format!("{:<24} {:>8} {:>8}", "class", "train", "test");
    for ((name, train), test) in dataset.class_names().iter().zip(&train).zip(&test) {
        text += &format!("\n{name:<24} {train:>8} {test:>8}");
    }
    let source: serde_json::Value = serde_json::from_str(dataset.source()).unwrap_or_default();
    let object = json!({
        "name": dataset.name(), "image_shape": [h, w, c], "classes": dataset.class_names(), "train": train,
        "test": test, "normalisation": n, "attributes": names, "validation": dataset.held_out_count(),
        "values": attributes.iter().map(Attribute::json).collect::<Vec<_>>(), "fingerprint": dataset.fingerprint(),
        "source": source,
    });
    output.result(&object, text);
    Ok(())
}

/// How often each value of an attribute occurs.
struct Attribute {
    name: String,
    /// Value, its name, training images, test images.
    values: Vec<(u32, String, usize, usize)>,
}

impl Attribute {
    fn of(dataset: &Dataset, name: &str) -> Attribute {
        let mut counts: BTreeMap<u32, [usize; 2]> = BTreeMap::new();
        for (at, part) in [Part::Train, Part::Test].into_iter().enumerate() {
            for &value in dataset.attribute(part, name).unwrap_or(&[]) {
                counts.entry(value).or_default()[at] += 1;
            }
        }
        let names = dataset.value_names(name).unwrap_or(&[]);
        let of = |v: u32| names.get(v as usize).cloned().unwrap_or_else(|| v.to_string());
        let values = counts.into_iter().map(|(v, [train, test])| (v, of(v), train, test)).collect();
        Attribute { name: name.to_string(), values }
    }

    /// A table; that of the marks of validation images would say nothing new, and one of very many values
    /// nothing that can be read.
    fn table(&self) -> String {
        if self.name == HELD_OUT {
            return String::new();
        }
        let mut text = format!("{:<24} {:>8} {:>8}\n", self.name, "train", "test");
        if self.values.len() > MOST_VALUES {
            return text + &format!("  {} values\n", self.values.len());
        }
        for (_, name, train, test) in &self.values {
            text += &format!("  {name:<22} {train:>8} {test:>8}\n");
        }
        text
    }

    fn json(&self) -> serde_json::Value {
        let value = |(value, name, train, test): &(u32, String, usize, usize)| json!({"value": value, "name": name, "train": train, "test": test});
        json!({"attribute": self.name, "values": self.values.iter().map(value).collect::<Vec<_>>()})
    }
}
