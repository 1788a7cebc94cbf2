//! `tessera demo`: the whole job on data that the program draws itself. Images whose class is their
//! shape and colour, few of them labelled; an embedding of all of them; partitions of it, in which these and
//! texture and size can show, as auxiliary tasks; methods compared on held-out images; a report.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{DeviceArgs, Output, progress, study};
use crate::cluster::{self, Diversity, Embedding, tasks};
use crate::data::{Dataset, LabelBudget, synth};
use crate::embed::{self, train::Files};
use crate::error::{Error, Result};
use crate::report;
use crate::run::interrupt;
use crate::run::recipe::Recipe;
use crate::run::settings::Settings;
use crate::run::study::{Entrant, Request};

/// Sizes of the job.
struct Preset {
    name: &'static str,
    train: usize,
    test: usize,
    labels: usize,
    validation: usize,
    /// Images that the embedding's training looks at, and its networks.
    samples: u64,
    depth: usize,
    latent: usize,
    /// Images of a batch, of the embedding and of the methods.
    batches: [usize; 2],
    restarts: usize,
    protocol: Recipe,
    steps: u64,
    seeds: u64,
    methods: &'static [&'static str],
}

const PRESETS: &[Preset] = &[
    Preset {
        name: "full",
        train: 4000,
        test: 2000,
        labels: 200,
        validation: 400,
        samples: 1 << 15,
        depth: 8,
        latent: 8,
        batches: [64, 100],
        restarts: 5,
        protocol: Recipe::Tuned,
        steps: 300,
        seeds: 3,
        methods: &["stl", "mtl+", "mtl+=random:4:10", "meta-mtl:paper", "meta-mtl:released-intended+"],
    },
    Preset {
        name: "smoke",
        train: 200,
        test: 100,
        labels: 40,
        validation: 40,
        samples: 1 << 8,
        depth: 4,
        latent: 4,
        batches: [32, 32],
        restarts: 2,
        protocol: Recipe::Paper,
        steps: 10,
        seeds: 2,
        methods: &["stl", "mtl+", "meta-mtl:paper"],
    },
];

/// The classes: attributes that partitions of all images can show. Whether that helps is what the demo asks.
const MAIN: &str = "shape*colour";
const TASKS: usize = 4;
const CLUSTERS: usize = 10;

#[derive(Args, Default)]
pub struct Demo {
    /// Folder for everything that the demo makes [default: tessera-demo].
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// full, a few minutes; smoke, a few seconds, too short to learn much [default: full].
    #[arg(long, value_parser = preset_names())]
    preset: Option<String>,
    #[command(flatten)]
    device: DeviceArgs,
}

fn preset_names() -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(PRESETS.iter().map(|p| p.name))
}

pub fn run(d: Demo, output: &Output) -> Result<()> {
    let wanted = d.preset.as_deref().unwrap_or(PRESETS[0].name);
    let preset = PRESETS.iter().find(|p| p.name == wanted).unwrap_or(&PRESETS[0]);
    let out = d.out.unwrap_or_else(|| "tessera-demo".into());
    std::fs::create_dir_all(&out).map_err(|e| Error::io(&out, "create the folder", e))?;
    interrupt::install()?;
    let data = images(preset, &out, output)?;
    let embedding = embedding(preset, &out, &data, d.device, output)?;
    let tasks = partitions(preset, &out, &embedding, d.device, output)?;
    let entrants = preset.methods.iter().map(|m| m.parse::<Entrant>().map_err(Error::usage));
    let request = Request {
        folder: out.clone(),
        protocol: preset.protocol,
        entrants: entrants.collect::<Result<_>>()?,
        seeds: (1..=preset.seeds).collect(),
        common: Settings {
            data: Some(data),
            labels: Some(LabelBudget::Count(preset.labels)),
            validation: Some(preset.validation),
            steps: Some(preset.steps),
            batch: Some(preset.batches[1]),
            ..Settings::default()
        },
        tasks: Some(tasks.display().to_string()),
        tasks_unlabelled: None,
        trial_steps: Some(preset.steps / 3),
        trial_seeds: 2,
        device: d.device.choice(),
    };
    output.note(&format!(
        "methods: {} labelled images, {} for validation, {} steps; protocol {}",
        preset.labels, preset.validation, preset.steps, preset.protocol
    ));
    let summary = study::carry_out(&request)?;
    report::study(&out)?;
    output.result(&json!(summary), study::text(&summary));
    output.note(&format!("report: {}", out.join(report::FILE).display()));
    Ok(())
}

fn images(preset: &Preset, out: &Path, output: &Output) -> Result<PathBuf> {
    let path = out.join("data.safetensors");
    let options = synth::Options {
        train: preset.train,
        test: preset.test,
        main: MAIN.into(),
        ..synth::Options::default()
    };
    if !path.exists() {
        synth::draw(&options)?.write(&path)?;
    }
    let dataset = Dataset::open(&path)?;
    output.note(&format!(
        "images: {} for training, {} for testing, in {} classes ({MAIN}), of several textures and sizes",
        preset.train,
        preset.test,
        dataset.class_names().len()
    ));
    Ok(path)
}

fn embedding(
    preset: &Preset,
    out: &Path,
    data: &Path,
    device: DeviceArgs,
    output: &Output,
) -> Result<PathBuf> {
    let path = out.join("embedding.safetensors");
    let dataset = Dataset::open(data)?;
    let request = embed::Request {
        samples: preset.samples,
        depth: preset.depth,
        latent: preset.latent,
        batch: preset.batches[0],
        size: 16,
        rate: 1e-3,
        ..embed::Request::new(embed::Method::named("acai")?)
    };
    let files = Files { resume: true, ..Files::new(&path) };
    let bar = progress::Bar::with_rate("embed", preset.samples, 0, "images");
    let summary = embed::embed(&dataset, &request, &files, device.open()?, &mut |p| {
        if p.phase == embed::train::Phase::Training {
            bar.say(p.done, "");
        }
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish();
    let summary = summary?;
    output.note(&format!(
        "embedding: {} numbers for each of {} images, by ACAI, {:.0} s",
        summary.columns, summary.rows, summary.seconds
    ));
    Ok(path)
}

fn partitions(
    preset: &Preset,
    out: &Path,
    embedding: &Path,
    device: DeviceArgs,
    output: &Output,
) -> Result<PathBuf> {
    let path = out.join("tasks.safetensors");
    let embedding = Embedding::open(embedding)?;
    let request = cluster::partition::Request {
        tasks: TASKS,
        diversity: Diversity::Scale,
        settings: cluster::Settings {
            clusters: CLUSTERS,
            max_iterations: 400,
            tolerance: 1e-4,
            restarts: preset.restarts,
            seed: 1,
        },
        replacement: false,
        least_size: 0,
    };
    let found = cluster::partitions(device.open()?.as_mut(), &embedding, &request, None, |_, _| {})?;
    let metadata = [
        ("format", "tessera-tasks-1".to_string()),
        ("diversity", Diversity::Scale.to_string()),
        ("embedding", embedding.path().display().to_string()),
        ("version", env!("CARGO_PKG_VERSION").to_string()),
    ];
    tasks::write(&path, &found, embedding.columns(), &metadata)?;
    output.note(&format!("tasks: {TASKS} partitions into {CLUSTERS} clusters"));
    Ok(path)
}
