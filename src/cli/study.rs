//! `tessera study`: several methods compared under one protocol.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{DeviceArgs, Output, progress, train};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::report;
use crate::run::interrupt;
use crate::run::recipe::Recipe;
use crate::run::settings::Settings;
use crate::run::study::{Entrant, Request, Summary};

#[derive(Args)]
pub struct Study {
    /// Data set, a file made by `tessera data`.
    data: PathBuf,
    /// Folder of the study.
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// paper: one small learning rate for all; tuned: each method's rates are chosen on validation images, in
    /// equally many trials.
    #[arg(long, default_value = "tuned")]
    protocol: Recipe,
    /// Methods, each METHOD[:VARIANT][+][=TASKS]. Variants: a rule of meta-mtl, a schedule of mtl (alternate),
    /// operators and decoders of pta (f4); + takes auxiliary batches from images without labels.
    #[arg(long, value_delimiter = ',', required = true, value_name = "METHODS")]
    methods: Vec<Entrant>,
    /// Seeds of the final runs: 1 to N.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Tasks of methods with +, where they differ; in both names, {seed} stands for the seed.
    #[arg(long, value_name = "TASKS")]
    tasks_unlabelled: Option<String>,
    /// Steps of a trial [default: as many as a run has].
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    trial_steps: Option<u64>,
    /// Seeds of each trial, whose mean accuracy counts: one seed favours rates at the edge of divergence.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    trial_seeds: u16,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    settings: Settings,
}

pub fn run(s: Study, output: &Output) -> Result<()> {
    for (given, flag, advice) in [
        (s.settings.method.is_some(), "--method", "--methods"),
        (s.settings.rule.is_some(), "--rule", "METHOD:VARIANT in --methods"),
        (s.settings.schedule.is_some(), "--schedule", "METHOD:VARIANT in --methods"),
        (s.settings.operators.is_some(), "--operators", "METHOD:VARIANT in --methods"),
        (s.settings.pseudo_tasks.is_some(), "--pseudo-tasks", "METHOD:VARIANT in --methods"),
        (s.settings.recipe.is_some(), "--recipe", "--protocol"),
        (s.settings.seed.is_some(), "--seed", "--seeds"),
        (s.settings.unlabelled.is_some(), "--unlabelled", "METHOD+ in --methods"),
    ] {
        if given {
            return Err(Error::usage(format!("a study takes {advice} instead of {flag}")));
        }
    }
    let validation = match s.settings.validation {
        Some(count) => count,
        None => Dataset::open(&s.data)?.held_out_count(),
    };
    let tasks = s.settings.tasks.clone();
    let request = Request {
        folder: s.out,
        protocol: s.protocol,
        entrants: s.methods,
        seeds: (1..=s.seeds).collect(),
        common: Settings { data: Some(s.data), tasks: None, ..s.settings },
        tasks,
        tasks_unlabelled: s.tasks_unlabelled,
        trial_steps: s.trial_steps,
        trial_seeds: s.trial_seeds.into(),
        device: s.device.choice(),
    };
    if s.protocol == Recipe::Tuned && validation == 0 {
        return Err(Error::usage(
            "the tuned protocol chooses on validation images: give --validation IMAGES",
        ));
    }
    let summary = carry_out(&request)?;
    report::study(&request.folder)?;
    output.result(&json!(summary), text(&summary));
    Ok(())
}

/// Runs a study with progress.
pub fn carry_out(request: &Request) -> Result<Summary> {
    interrupt::install()?;
    let mut bar: Option<progress::Bar> = None;
    let resolve = |s: &Settings| train::resolve(s);
    let summary = request.run(&resolve, |told| {
        let bar = bar.get_or_insert_with(|| progress::Bar::new("study", told.steps));
        bar.say(told.step, &format!("{}: {}", told.run, train::message(told.status)));
    });
    if let Some(bar) = &bar {
        bar.finish();
    }
    summary
}

/// The table of methods.
pub fn text(summary: &Summary) -> String {
    let figure = |mean: Option<f64>, sd: Option<f64>| match (mean, sd) {
        (Some(mean), Some(sd)) => format!("{:.2} ± {:.2} %", mean * 100.0, sd * 100.0),
        _ => "none".to_string(),
    };
    let width = summary.methods.iter().map(|m| m.label.chars().count()).max().unwrap_or(6).max(6);
    let mut text =
        format!("{:<width$} {:>5} {:>17} {:>17} {:>9}", "method", "seeds", "validation", "test", "seconds");
    for m in &summary.methods {
        let mark = if summary.winner.as_ref() == Some(&m.label) { "  <- best by validation" } else { "" };
        text += &format!(
            "\n{:<width$} {:>5} {:>17} {:>17} {:>9.1}{mark}",
            m.label,
            m.runs.len(),
            figure(m.validation_mean, m.validation_sd),
            figure(m.test_mean, m.test_sd),
            m.seconds,
        );
    }
    text
}
