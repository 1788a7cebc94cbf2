//! `tessera embed`: a row of numbers for each image, for `tessera cluster`.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Map, json};

use super::{DeviceArgs, Output, progress};
use crate::data::{Dataset, LabelBudget};
use crate::embed::engine::RATE_OF_PROBE;
use crate::embed::train::{Files, Phase, Summary};
use crate::embed::{self, Engine, Method, Pictures, Pool, Request};
use crate::error::{Error, Result};
use crate::run::interrupt;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PoolName {
    /// All training images.
    Train,
    /// Training and test images.
    #[value(name = "train+test")]
    TrainAndTest,
    /// The labelled images of the split that --labels, --validation and --split-seed name.
    Labelled,
}

#[derive(Args)]
pub struct Embed {
    /// Data set: a file of `tessera data`.
    data: PathBuf,
    /// Embedding to write.
    #[arg(short, long)]
    out: PathBuf,
    #[arg(long, default_value = "acai", help = methods())]
    method: String,
    /// Images that training looks at, with repetition; `2^18` and `262144` are the same.
    #[arg(long, value_name = "N", default_value = "2^18", value_parser = count)]
    samples: u64,
    /// Channels of the first scale; each further scale has twice as many.
    #[arg(long, value_name = "D", default_value_t = 16)]
    depth: usize,
    /// Channels of the code: an image gets L times W times W numbers.
    #[arg(long, value_name = "L", default_value_t = 16)]
    latent: usize,
    /// Height and width of the code.
    #[arg(long, value_name = "W", default_value_t = 4)]
    latent_width: usize,
    /// Largest side of the images that the networks see: W times a power of two. Smaller images get a
    /// black margin up to the next such size, larger ones are shrunk.
    #[arg(long, value_name = "PIXELS", default_value_t = 32)]
    size: usize,
    /// Images that train the networks, and that partitions will be fitted on. All images are embedded.
    #[arg(long, default_value = "train")]
    pool: PoolName,
    /// Labelled images of --pool labelled, as for `tessera train`: all, 1%, 600 or 60/class.
    #[arg(long)]
    labels: Option<LabelBudget>,
    /// Validation images of --pool labelled, as for `tessera train`.
    #[arg(long, value_name = "N")]
    validation: Option<usize>,
    /// Seed of the split of --pool labelled, as for `tessera train` [default: the seed].
    #[arg(long, value_name = "S")]
    split_seed: Option<u64>,
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Rate of Adam.
    #[arg(long, default_value_t = 1e-4)]
    rate: f64,
    /// Also train a probe, a dense softmax layer on the codes that the networks do not learn from, and say how
    /// many test images it tells right.
    #[arg(long)]
    probe: bool,
    /// Rate of the probe's Adam.
    #[arg(long, value_name = "RATE", requires = "probe", default_value_t = RATE_OF_PROBE)]
    probe_rate: f64,
    /// Go on with an interrupted run.
    #[arg(long)]
    resume: bool,
    /// Keep the networks' weights beside the embedding.
    #[arg(long)]
    keep_weights: bool,
    /// Seconds between checkpoints; 0 writes one after every step.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    checkpoint_every: u64,
    /// Print what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

fn methods() -> String {
    let lines: Vec<String> = embed::ALL.iter().map(|m| format!("{}: {}", m.name, m.about)).collect();
    format!("How: {}", lines.join("; "))
}

/// A count, plain or as a power such as `2^18`.
fn count(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is not a count: write 262144 or 2^18");
    let value = match text.split_once('^') {
        Some((base, power)) => {
            let (base, power): (u64, u32) =
                (base.parse().map_err(|_| wrong())?, power.parse().map_err(|_| wrong())?);
            base.checked_pow(power)
        }
        None => text.parse().ok(),
    };
    value.filter(|&n| n > 0 && n < 1 << 48).ok_or_else(wrong)
}

impl Embed {
    fn request(&self) -> Result<Request> {
        let for_labelled = self.labels.is_some() || self.validation.is_some() || self.split_seed.is_some();
        let pool = match (self.pool, self.labels) {
            (PoolName::Labelled, Some(labels)) => Pool::Labelled {
                labels,
                validation: self.validation.unwrap_or(0),
                seed: self.split_seed.unwrap_or(self.seed),
            },
            (PoolName::Labelled, None) => {
                return Err(Error::usage("--pool labelled needs --labels, such as --labels 1%"));
            }
            _ if for_labelled => {
                return Err(Error::usage("--labels, --validation and --split-seed are for --pool labelled"));
            }
            (PoolName::Train, _) => Pool::Train,
            (PoolName::TrainAndTest, _) => Pool::TrainAndTest,
        };
        let request = Request {
            method: Method::named(&self.method)?,
            samples: self.samples,
            depth: self.depth,
            latent: self.latent,
            latent_width: self.latent_width,
            size: self.size,
            batch: self.batch,
            rate: self.rate,
            seed: self.seed,
            pool,
            probe: self.probe.then_some(self.probe_rate),
        };
        request.check()?;
        Ok(request)
    }
}

pub fn run(e: Embed, output: &Output) -> Result<()> {
    let mut request = e.request()?;
    let dataset = Dataset::open(&e.data)?;
    if let (Pool::Labelled { validation, .. }, None) = (&mut request.pool, e.validation) {
        *validation = dataset.held_out_count();
    }
    if e.dry_run {
        return plan(&request, &dataset, e.device, output);
    }
    let files = Files {
        embedding: e.out.clone(),
        every: Duration::from_secs(e.checkpoint_every),
        resume: e.resume,
        keep_weights: e.keep_weights,
    };
    interrupt::install()?;
    let mut bar: Option<(Phase, progress::Bar)> = None;
    let summary = embed::embed(&dataset, &request, &files, e.device.open()?, &mut |p| {
        if bar.as_ref().is_none_or(|(phase, _)| *phase != p.phase) {
            let name = if p.phase == Phase::Training { request.method.name } else { "encode" };
            let first = p.done.saturating_sub(request.batch as u64);
            bar = Some((p.phase, progress::Bar::with_rate(name, p.total, first, "images")));
        }
        if let Some((_, bar)) = &bar {
            let losses: Vec<String> =
                p.losses.iter().map(|(name, v)| format!("{} {v:.4}", name.replace('_', " "))).collect();
            bar.say(
                p.done,
                if p.phase == Phase::Training { losses.join(", ") } else { String::new() }.as_str(),
            );
            if p.done == p.total {
                bar.finish();
            }
        }
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if let Some((_, bar)) = &bar {
        bar.finish();
    }
    report(&summary?, &e, &dataset, output);
    Ok(())
}

fn report(s: &Summary, e: &Embed, dataset: &Dataset, output: &Output) {
    let losses: Map<String, serde_json::Value> =
        s.losses.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let object = json!({
        "file": e.out.display().to_string(), "method": e.method, "rows": s.rows, "d": s.columns, "pool": s.pool,
        "steps": s.steps, "losses": losses, "seconds": s.seconds, "images_per_s": s.images_per_s,
        "probe": s.probe.map(|p| json!({"pool": p.pool, "test": p.test})),
        "fingerprint": s.fingerprint, "data_fingerprint": dataset.fingerprint(),
    });
    let mut text = format!("{}: {} images, {} numbers each", e.out.display(), s.rows, s.columns);
    if s.complete_before {
        text += "; it was complete already";
    } else if s.steps > 0 {
        let losses: Vec<String> =
            s.losses.iter().map(|(name, v)| format!("{} {v:.5}", name.replace('_', " "))).collect();
        text += &format!(
            "; {} on {} images, {} steps, {}, {:.1} s, {:.0} images/s",
            e.method,
            s.pool,
            s.steps,
            losses.join(", "),
            s.seconds,
            s.images_per_s
        );
    }
    if let Some(probe) = s.probe {
        text += &format!("; the probe tells {:.2} % of the pool", 100.0 * probe.pool);
        if let Some(test) = probe.test {
            text += &format!(" and {:.2} % of the test images", 100.0 * test);
        }
    }
    output.result(&object, text);
}

/// What a run would do.
fn plan(request: &Request, dataset: &Dataset, device: DeviceArgs, output: &Output) -> Result<()> {
    let pool = request.pool.rows(dataset)?.len();
    if !request.method.is_trained() {
        let [h, w, c] = Pictures::plain(dataset, request.size).shape();
        let text = format!("{}: nothing to train, {} numbers an image", request.method.name, h * w * c);
        output.result(&json!({"method": request.method.name, "d": h * w * c, "pool": pool}), text);
        return Ok(());
    }
    let pictures = Pictures::on_canvas(dataset, request.latent_width, request.size)?;
    let [size, _, colours] = pictures.shape();
    let setup = request.setup(pictures.shape(), dataset.class_names().len());
    let engine = Engine::new(device.open()?, request.method, &setup, request.seed)?;
    let parameters: usize = engine.parameters().iter().map(|p| p.len()).sum();
    let (plan, bytes) = (engine.plan(), engine.session().allocated_bytes());
    let (steps, code) = (request.steps(), setup.sizes.code());
    let text = format!(
        "{plan}{}: {pool} images of {size}x{size}x{colours} for training, {code} numbers an image\n\
         {parameters} parameters, {steps} steps of {} images\n\
         {:.3} GFLOP a step, {:.1} MB on the device",
        request.method.name,
        request.batch,
        engine.flops() as f64 * 1e-9,
        bytes as f64 * 1e-6,
    );
    let object = json!({
        "method": request.method.name, "pool": pool, "image_shape": pictures.shape(), "d": code,
        "parameters": parameters, "steps": steps, "batch": request.batch, "flops_per_step": engine.flops(),
        "bytes_moved_per_step": plan.bytes_moved(), "device_bytes": bytes, "plan_steps": plan.steps.len(),
    });
    output.result(&object, text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        embed: Embed,
    }

    /// The request that arguments make, or the message that refuses them.
    fn request(arguments: &str) -> Result<Request, String> {
        let words = ["embed", "data", "-o", "emb"].into_iter().chain(arguments.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|e| e.to_string())?;
        line.embed.request().map_err(|e| {
            assert_eq!(e.exit_code(), 2, "{e}");
            e.to_string()
        })
    }

    #[test]
    fn good_arguments_are_understood() {
        let plain = request("").unwrap();
        assert_eq!((plain.samples, plain.depth, plain.latent, plain.latent_width), (1 << 18, 16, 16, 4));
        assert_eq!((plain.method.name, plain.pool, plain.steps()), ("acai", Pool::Train, 4096));
        assert_eq!(request("--samples 100 --batch 64").unwrap().steps(), 2);
        assert_eq!(request("--pool train+test").unwrap().pool, Pool::TrainAndTest);
        let labelled = request("--pool labelled --labels 1% --validation 20 --seed 7").unwrap().pool;
        assert_eq!(labelled, Pool::Labelled { labels: LabelBudget::Fraction(0.01), validation: 20, seed: 7 });
        let other = request("--pool labelled --labels 60/class --split-seed 3 --seed 7").unwrap().pool;
        assert_eq!(other, Pool::Labelled { labels: LabelBudget::PerClass(60), validation: 0, seed: 3 });
    }

    #[test]
    fn malformed_arguments_are_refused_with_a_reason() {
        for (arguments, reason) in [
            ("--method vae2", "acai, baseline, dropout"),
            ("--probe --pool train+test", "--probe"),
            ("--probe --method pixels", "pixels"),
            ("--probe --probe-rate 0", "--probe-rate"),
            ("--probe-rate 0.1", "--probe"),
            ("--samples 0", "'0' is not a count"),
            ("--samples 2^64", "not a count"),
            ("--samples many", "not a count"),
            ("--depth 0", "--depth"),
            ("--latent 0", "--latent"),
            ("--latent-width 0", "--latent-width"),
            ("--batch 0", "--batch"),
            ("--batch 100000", "65536"),
            ("--size 100000", "4096"),
            ("--rate 0", "--rate"),
            ("--rate nan", "--rate"),
            ("--rate -1", "-1"),
            ("--pool labelled", "--labels"),
            ("--labels 1%", "--pool labelled"),
            ("--validation 3", "--pool labelled"),
            ("--split-seed 3 --pool train+test", "--pool labelled"),
            ("--pool labelled --labels 0%", "not a label budget"),
            ("--pool test", "train+test"),
        ] {
            match request(arguments) {
                Ok(_) => panic!("'{arguments}' was accepted"),
                Err(message) => assert!(message.contains(reason), "'{arguments}': {message}"),
            }
        }
    }
}
