//! `tessera train`: one run of a method, from settings to a report.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{DeviceArgs, Output, progress};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::run::settings::{Config, Settings};
use crate::run::{Outcome, Status, Trainer, interrupt, trainer};

#[derive(Args)]
pub struct Train {
    /// Data set, a file made by `tessera data`. Not needed with --resume or where --config names it.
    data: Option<PathBuf>,
    /// Folder of the run: configuration, log, checkpoints, weights, report.
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Go on with the run in the folder, from its last checkpoint.
    #[arg(long, requires = "run", conflicts_with = "config")]
    resume: bool,
    /// Settings in TOML, such as the config.toml of another run; the command line goes above them.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the configuration and the plan of every step program, and train nothing.
    #[arg(long)]
    dry_run: bool,
    /// Seconds between checkpoints; 0 writes one after every step.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    checkpoint_every: u64,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    settings: Settings,
}

pub fn run(t: Train, output: &Output) -> Result<()> {
    if t.resume {
        return resume(t, output);
    }
    let file = t.config.as_deref().map(Settings::open).transpose()?.unwrap_or_default();
    let mut settings = t.settings.over(&file);
    if let Some(data) = t.data {
        settings.data = Some(data);
    }
    let config = resolve(&settings)?;
    if t.dry_run {
        return plan(&config, t.device, output);
    }
    let folder = t.run.ok_or_else(|| Error::usage("no folder given for the run: --run DIR"))?;
    let mut trainer = Trainer::create(config, &folder, t.device.open()?)?;
    trainer.checkpoint_every = Duration::from_secs(t.checkpoint_every);
    finish(trainer, &folder, output)
}

/// Completes settings by what the data say.
pub fn resolve(settings: &Settings) -> Result<Config> {
    let path = settings.data.clone().ok_or_else(|| Error::usage("no data set given"))?;
    let dataset = Dataset::open(&path)?;
    let absolute = std::path::absolute(&path).map_err(|e| Error::io(&path, "find", e))?;
    let validation = settings.validation.unwrap_or_else(|| dataset.held_out_count());
    let settings = Settings { data: Some(absolute), validation: Some(validation), ..settings.clone() };
    Config::resolve(&settings, trainer::net_for(dataset.image_shape()), |s| {
        let split = crate::data::split::of(
            &dataset,
            s.labels.unwrap_or(crate::data::LabelBudget::All),
            validation,
            s.split_seed.or(s.seed).unwrap_or(1),
        )?;
        let batch = s.batch.unwrap_or(100);
        Ok(trainer::epoch_steps(&split, batch, s.unlabelled.unwrap_or(false)))
    })
}

fn resume(t: Train, output: &Output) -> Result<()> {
    let folder = t.run.ok_or_else(|| Error::usage("--resume needs --run DIR"))?;
    let only_length = Settings { steps: None, epochs: None, ..t.settings.clone() };
    let given = only_length.given();
    if t.data.is_some() || !given.is_empty() {
        let names: Vec<String> = given.iter().map(|(k, _)| format!("--{k}")).collect();
        let found = if names.is_empty() { "a data set".to_string() } else { names.join(", ") };
        return Err(Error::usage(format!(
            "a run is resumed with the settings it was started with; leave out {found} (only --steps may change)"
        )));
    }
    if t.settings.epochs.is_some() {
        return Err(Error::usage("say the new length of a resumed run in --steps"));
    }
    let mut trainer = Trainer::resume(&folder, t.settings.steps, t.device.open()?)?;
    trainer.checkpoint_every = Duration::from_secs(t.checkpoint_every);
    finish(trainer, &folder, output)
}

fn finish(mut trainer: Trainer, folder: &std::path::Path, output: &Output) -> Result<()> {
    interrupt::install()?;
    let bar = progress::Bar::new("train", trainer.config().steps);
    let done = trainer.run(|status| bar.say(status.step, &message(status)));
    bar.finish();
    let outcome = done?;
    crate::report::run(folder)?;
    output.result(&json!(outcome), text(&outcome, folder));
    Ok(())
}

/// What a progress bar shows beside the steps.
pub fn message(status: &Status) -> String {
    let accuracy = status.accuracy.map_or(String::new(), |a| format!(", validation {:.2} %", a * 100.0));
    format!("loss {:.4}{accuracy}, {:.0} images/s", status.loss, status.images_per_s)
}

fn text(o: &Outcome, folder: &std::path::Path) -> String {
    let percent = |a: Option<f64>| a.map_or("none".to_string(), |a| format!("{:.2} %", a * 100.0));
    format!(
        "{}: test accuracy {}, validation {}, {} steps in {:.1} s ({:.0} images/s), parameters of step {}\nwritten to {}",
        o.label,
        percent(o.test_accuracy),
        percent(o.validation_accuracy),
        o.steps,
        o.seconds,
        o.images_per_s,
        o.selected_step,
        folder.display(),
    )
}

fn plan(config: &Config, device: DeviceArgs, output: &Output) -> Result<()> {
    let prepared = trainer::prepare(config, device.open()?)?;
    let engine = &prepared.engine;
    let count: usize = engine.parameters().iter().map(crate::nn::Parameter::len).sum();
    let mut text = format!("{}\n", config.to_toml()?);
    let split = &prepared.split;
    text += &format!(
        "{} parameters; {} labelled, {} validation, {} unlabelled images; {} bytes on the device\n",
        count,
        split.labelled.len(),
        split.validation.len(),
        split.unlabelled.len(),
        engine.session().allocated_bytes(),
    );
    let mut programs = Vec::new();
    for (program, tasks) in engine.programs() {
        let task = tasks[0];
        let plan = engine.plan(task);
        text += &format!("\nprogram {program}, tasks {tasks:?}:\n{plan}");
        programs.push(json!({
            "tasks": tasks, "steps": plan.steps.len(), "gflop": plan.flops() as f64 * 1e-9,
            "bytes_moved": plan.bytes_moved(), "arena_bytes": plan.arena_bytes, "images": engine.images(task),
        }));
    }
    let object = json!({
        "config": config, "parameters": count, "device_bytes": engine.session().allocated_bytes(),
        "labelled": split.labelled.len(), "validation": split.validation.len(),
        "unlabelled": split.unlabelled.len(), "programs": programs,
    });
    output.result(&object, text.trim_end());
    Ok(())
}
