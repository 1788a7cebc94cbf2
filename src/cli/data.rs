//! `tessera data`: data sets in, one file out.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::Output;
use crate::data::dataset::Contents;
use crate::data::{Dataset, Part, import, synth};
use crate::error::{Error, Result};

#[derive(Args)]
pub struct Data {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// MNIST and relatives: train-images-idx3-ubyte and so on.
    Idx,
    /// data_batch_1.bin … and test_batch.bin.
    Cifar10,
    /// train.bin and test.bin.
    Cifar100,
    /// Class folders with PNG or JPEG images, below train and test if there are such folders.
    Folder,
}

#[derive(Clone, Copy, ValueEnum)]
enum Labels {
    Fine,
    Coarse,
}

#[derive(Subcommand)]
enum What {
    /// Read a data set's official files (plain, .gz or .xz) and write one file.
    Import {
        format: Format,
        /// Folder that holds the files.
        src: PathBuf,
        /// File to write.
        #[arg(short, long)]
        out: PathBuf,
        /// Which labels of CIFAR-100 become the classes.
        #[arg(long, default_value = "coarse")]
        labels: Labels,
        /// Resize images of a folder, rows by columns.
        #[arg(long, value_name = "HxW")]
        size: Option<String>,
    },
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
        What::Import { format, src, out, labels, size } => {
            let size = size.map(|s| parse_size(&s)).transpose()?;
            if size.is_some() && !matches!(format, Format::Folder) {
                return Err(Error::usage("--size is for folders of images"));
            }
            let contents = match format {
                Format::Idx => import::idx(&src)?,
                Format::Cifar10 => import::cifar10(&src)?,
                Format::Cifar100 => {
                    let labels = match labels {
                        Labels::Fine => import::Labels::Fine,
                        Labels::Coarse => import::Labels::Coarse,
                    };
                    import::cifar100(&src, labels)?
                }
                Format::Folder => import::folder(&src, size)?,
            };
            written(&contents, &out, output)
        }
        What::Synth { out, train, test, size, seed, main } => {
            let contents = synth::draw(&synth::Options { train, test, size, seed, main })?;
            written(&contents, &out, output)
        }
        What::Info { file } => info(&Dataset::open(file)?, output),
    }
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

fn written(contents: &Contents, out: &PathBuf, output: &Output) -> Result<()> {
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
    let attributes = dataset.attribute_names(Part::Train);
    let mut text = format!(
        "{}: {} training and {} test images of {h}x{w}x{c}, {} classes\n",
        dataset.name(),
        train.iter().sum::<usize>(),
        test.iter().sum::<usize>(),
        train.len()
    );
    text += &format!("normalisation: mean {:?}, standard deviation {:?}\n", n.mean, n.sd);
    text += &format!(
        "attributes: {}\n",
        if attributes.is_empty() { "none".into() } else { attributes.join(", ") }
    );
    text += &format!("fingerprint: {}\nsource: {}\n", dataset.fingerprint(), dataset.source());
    text += &format!("{:<24} {:>8} {:>8}", "class", "train", "test");
    for ((name, train), test) in dataset.class_names().iter().zip(&train).zip(&test) {
        text += &format!("\n{name:<24} {train:>8} {test:>8}");
    }
    let source: serde_json::Value = serde_json::from_str(dataset.source()).unwrap_or_default();
    let object = json!({
        "name": dataset.name(), "image_shape": [h, w, c], "classes": dataset.class_names(), "train": train,
        "test": test, "normalisation": n, "attributes": attributes, "fingerprint": dataset.fingerprint(),
        "source": source,
    });
    output.result(&object, text);
    Ok(())
}
