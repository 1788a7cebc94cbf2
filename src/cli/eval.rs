//! `tessera eval` and `tessera predict`: what a trained model says of a data set or of images.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{DeviceArgs, Output};
use crate::data::import::read_image;
use crate::data::{Dataset, Part};
use crate::device::{HostSlice, Session};
use crate::error::{Error, Result};
use crate::pixels::Pixels;
use crate::run::{Evaluator, Model, Predictions, folder, trainer};

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    Train,
    Test,
}

#[derive(Args)]
pub struct Eval {
    /// Folder of a run, or a weights file.
    run: PathBuf,
    /// Data set, a file made by `tessera data`, with the classes that the model was trained for.
    data: PathBuf,
    /// Which images.
    #[arg(long, default_value = "test")]
    part: Which,
    /// Also write probabilities, predictions and labels to this file.
    #[arg(short, long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Args)]
pub struct Predict {
    /// Folder of a run, or a weights file.
    run: PathBuf,
    /// PNG or JPEG images; they are resized to the size of the training images.
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// Classes to print for each image, the most probable first.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    top: u16,
    #[command(flatten)]
    device: DeviceArgs,
}

/// A model on a device.
struct Loaded {
    model: Model,
    session: Session,
    evaluator: Evaluator,
}

fn load(run: &Path, device: DeviceArgs) -> Result<Loaded> {
    let path = if run.is_dir() { run.join(folder::WEIGHTS) } else { run.to_path_buf() };
    if run.is_dir() && !path.exists() && run.join(folder::CONFIG).exists() {
        let advice = format!("`tessera train --run {} --resume` finishes it", run.display());
        return Err(Error::usage(format!("the run in {} is not finished: {advice}", run.display())));
    }
    let model = Model::open(&path)?;
    let mut session = Session::new(device.open()?);
    let evaluator = Evaluator::new(&mut session, model.net, model.classes.len())?;
    for (parameter, values) in &model.parameters {
        session.write(&parameter.name, HostSlice::F32(values))?;
    }
    Ok(Loaded { model, session, evaluator })
}

impl Loaded {
    fn predict(&mut self, pixels: &Pixels<'_>, rows: &[u32], labels: &[u32]) -> Result<Predictions> {
        let look = self.model.normalise.look(pixels.shape());
        let set = self.session.upload_images(pixels, &look)?;
        self.evaluator.predict(&mut self.session, (set, pixels), rows, labels)
    }
}

pub fn eval(e: Eval, output: &Output) -> Result<()> {
    let mut loaded = load(&e.run, e.device)?;
    let dataset = Dataset::open(&e.data)?;
    let (net, classes) = (loaded.model.net, loaded.model.classes.clone());
    if dataset.image_shape() != net.input {
        let expected = format!("images of {:?}, as the model was trained on", net.input);
        let found = format!("{:?}", dataset.image_shape());
        return Err(Error::format(&e.data, "tensor 'train.images'", expected, found));
    }
    if dataset.class_names() != classes {
        let expected = format!("the classes of the model: {}", classes.join(", "));
        return Err(Error::format(
            &e.data,
            "metadata key 'classes'",
            expected,
            dataset.class_names().join(", "),
        ));
    }
    let part = match e.part {
        Which::Train => Part::Train,
        Which::Test => Part::Test,
    };
    let images = dataset.part(part);
    if images.is_empty() {
        return Err(Error::usage(format!("{} has no {} images", e.data.display(), part.name())));
    }
    let rows: Vec<u32> = dataset.rows(part).collect();
    let found = loaded.predict(&dataset.pixels(), &rows, images.labels())?;
    if let Some(out) = &e.out {
        trainer::write_predictions(out, &found, images.labels(), dataset.class_names())?;
    }
    let mut counts = vec![[0usize; 2]; classes.len()];
    for (&label, &predicted) in images.labels().iter().zip(&found.predicted) {
        counts[label as usize][0] += 1;
        counts[label as usize][1] += usize::from(label == predicted);
    }
    let mut text = format!(
        "{} of {} {} images right: accuracy {:.2} %, loss {:.4}\n{:<24} {:>8} {:>8}",
        found.correct(),
        rows.len(),
        part.name(),
        found.accuracy() * 100.0,
        found.loss(),
        "class",
        "images",
        "recall"
    );
    for (name, [all, right]) in classes.iter().zip(&counts) {
        text += &match all {
            0 => format!("\n{name:<24} {all:>8} {:>8}", "none"),
            _ => format!("\n{name:<24} {all:>8} {:>6.2} %", 100.0 * *right as f64 / *all as f64),
        };
    }
    let by_class: Vec<_> = classes
        .iter()
        .zip(&counts)
        .map(|(name, [all, right])| json!({"class": name, "images": all, "right": right}))
        .collect();
    let object = json!({
        "part": part.name(), "images": rows.len(), "right": found.correct(), "accuracy": found.accuracy(),
        "loss": found.loss(), "classes": by_class,
    });
    output.result(&object, text);
    Ok(())
}

pub fn predict(p: Predict, output: &Output) -> Result<()> {
    let mut loaded = load(&p.run, p.device)?;
    let shape = loaded.model.net.input;
    let images = p.images.iter().map(|path| read_image(path, shape)).collect::<Result<Vec<_>>>()?.concat();
    let rows: Vec<u32> = (0..p.images.len() as u32).collect();
    let classes = loaded.model.classes.clone();
    let found = loaded.predict(&Pixels::new([&images, &[]], shape), &rows, &[])?;
    for (path, probabilities) in p.images.iter().zip(found.probabilities.chunks(found.classes)) {
        let mut order: Vec<usize> = (0..classes.len()).collect();
        order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]).then(a.cmp(&b)));
        order.truncate(usize::from(p.top));
        let text: Vec<String> =
            order.iter().map(|&i| format!("{} {:.2} %", classes[i], probabilities[i] * 100.0)).collect();
        let top: Vec<_> =
            order.iter().map(|&i| json!({"class": classes[i], "probability": probabilities[i]})).collect();
        let object = json!({"image": path.display().to_string(), "class": classes[order[0]], "top": top});
        output.result(&object, format!("{}: {}", path.display(), text.join(", ")));
    }
    Ok(())
}
