//! Whole training steps on random images.

use serde::Serialize;

use super::{Times, allocations, peak_bytes};
use crate::device::{self, Choice, Cpu, Device, HostSlice, Session};
use crate::embed;
use crate::error::{Error, Result};
use crate::meta::{Hessian, Rule};
use crate::methods::{Constants, Feed, Method, Setup};
use crate::nn::autoencoder::Sizes;
use crate::nn::{Architecture, Net};
use crate::random::{Purpose, Stream};
use crate::run::Engine;
use crate::tape::Tape;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Request {
    pub net: String,
    /// `forward`, `sgd`, `mtl` for the joint step, or an update rule.
    pub rule: String,
    /// Channels of each block, instead of the net's own.
    pub channels: Vec<usize>,
    pub batch: usize,
    pub inner_steps: usize,
    pub tasks: usize,
    /// Measured steps; 0 measures the first one alone, cold.
    pub repeats: usize,
    pub device: Choice,
}

#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    pub net: String,
    pub rule: String,
    pub batch: usize,
    pub median_ms: f64,
    pub p10_ms: f64,
    pub p90_ms: f64,
    /// Floating-point operations of a step by the definition of its operations.
    pub gflop: f64,
    pub gflop_per_s: f64,
    pub images_per_s: f64,
    /// Most memory that the process held.
    pub peak_bytes: u64,
    /// What the device holds: parameters, data, and the arena of values.
    pub device_bytes: usize,
    /// Allocations during the measured steps.
    pub allocations: u64,
    pub repeats: usize,
    pub device: String,
}

/// Classes of main and auxiliary tasks in the publications.
fn classes(net: &str) -> (usize, usize) {
    if net == "mininet" { (100, 100) } else { (10, 15) }
}

fn input(net: &str) -> [usize; 3] {
    match net {
        "mnistnet" => [28, 28, 1],
        "omninet" => [105, 105, 1],
        "mininet" => [64, 64, 3],
        _ => [32, 32, 3],
    }
}

fn noise(len: usize) -> Vec<f32> {
    let mut draw = Stream::new(1, Purpose::Synthetic, len as u64);
    (0..len).map(|_| draw.normal() as f32).collect()
}

/// Autoencoders that are measured as nets: name, colours, depth and latent channels, for 32×32 images.
const AUTOENCODERS: &[(&str, usize, usize, usize)] = &[("acai16", 1, 16, 2), ("acai64", 3, 64, 16)];

/// Images of a batch in the publications.
pub fn usual_batch(net: &str) -> usize {
    if AUTOENCODERS.iter().any(|a| a.0 == net) { 64 } else { 100 }
}

/// Measures on this thread's rayon pool.
pub fn measure(request: &Request) -> Result<Figures> {
    if let Some(&(_, colours, depth, latent)) = AUTOENCODERS.iter().find(|a| a.0 == request.net) {
        return autoencoder(request, Sizes { size: 32, colours, depth, latent, latent_size: 4 });
    }
    let mut architecture = Architecture::named(&request.net)?;
    if request.channels.contains(&0) {
        return Err(Error::usage("a block needs at least one channel"));
    }
    if !request.channels.is_empty() {
        // Nets name constants; this one stays for the rest of the process.
        architecture.channels = request.channels.clone().leak();
    }
    let net = Net::new(architecture, input(&request.net))?;
    let classes = classes(&request.net);
    if request.rule == "forward" {
        return forward(request, net, classes.0);
    }
    let (method, rule) = match request.rule.as_str() {
        "sgd" => (Method::named("stl")?, Rule::named("paper")?),
        "mtl" => (Method::named("mtl")?, Rule::named("paper")?),
        rule => (Method::named("meta-mtl")?, Rule::named(rule)?),
    };
    let constants = Constants {
        momentum: 0.9,
        weight_decay: 5e-4,
        clip: if request.rule == "sgd" { 0.0 } else { 5.0 },
        inner_steps: request.inner_steps,
        hessian: Hessian::ThetaOnly,
        train_main_decoder_on_meta: false,
        ..Constants::default()
    };
    let setup = Setup {
        net,
        batch: request.batch,
        classes: classes.0,
        tasks: vec![classes.1; request.tasks],
        rule,
        constants,
        unlabelled: false,
    };
    let mut engine = Engine::new(device::open(&request.device)?, method, &setup, 1)?;
    for rate in ["rate", "alpha", "beta", "decoder_rate"] {
        engine.set_rate(rate, 1e-3)?;
    }
    let task = engine.tasks() - 1;
    let image = noise(request.batch * net.input.iter().product::<usize>());
    fill(&mut engine, task, &image, request.batch, classes.0)?;
    let (gflop, images) = (engine.flops(task) as f64 / 1e9, engine.images(task));
    let (times, allocated) = timed(request.repeats, || engine.step(task))?;
    if let Some((name, value)) = engine.scalars(task)?.into_iter().find(|(_, v)| !v.is_finite()) {
        return Err(Error::Diverged(format!("the measured step gave {name} = {value}")));
    }
    Ok(figures(request, engine.session(), times, gflop, images, allocated))
}

/// How far one exact second-order step of a small net is off in single precision: the distance of the
/// parameters from those of double precision, relative to how far they moved.
pub fn precision() -> Result<f64> {
    precision_of(Box::new(Cpu::<f32>::default()))
}

/// The same for another device, against double precision on the CPU.
pub fn precision_of(device: Box<dyn Device>) -> Result<f64> {
    let f32s = after_a_step(device)?;
    let f64s = after_a_step(Box::new(Cpu::<f64>::default()))?;
    let (mut apart, mut moved) = (0.0, 0.0);
    for ((start, exact), (_, found)) in f64s.iter().zip(&f32s) {
        apart += (exact - found) * (exact - found);
        moved += (exact - start) * (exact - start);
    }
    Ok((apart / moved).sqrt())
}

/// Values of all parameters before and after an episode on an auxiliary task.
fn after_a_step(device: Box<dyn Device>) -> Result<Vec<(f64, f64)>> {
    let (batch, classes) = (8, 10);
    let setup = Setup {
        net: Net::new(Architecture::named("mnistnet")?, [14, 13, 1])?,
        batch,
        classes,
        tasks: vec![7],
        rule: Rule::named("paper")?,
        constants: Constants {
            momentum: 0.9,
            weight_decay: 5e-4,
            clip: 5.0,
            inner_steps: 1,
            hessian: Hessian::ThetaOnly,
            train_main_decoder_on_meta: true,
            ..Constants::default()
        },
        unlabelled: false,
    };
    let mut engine = Engine::new(device, Method::named("meta-mtl")?, &setup, 1)?;
    for rate in ["alpha", "beta", "decoder_rate"] {
        engine.set_rate(rate, 0.1)?;
    }
    fill(&mut engine, 1, &noise(batch * 14 * 13), batch, 7)?;
    let all = |engine: &Engine| -> Result<Vec<f64>> {
        let read = |p: &crate::nn::Parameter| engine.session().read_f64(&p.name);
        Ok(engine.parameters().iter().map(read).collect::<Result<Vec<_>>>()?.concat())
    };
    let before = all(&engine)?;
    engine.step(1)?;
    Ok(before.into_iter().zip(all(&engine)?).collect())
}

/// The same images and labels for every data leaf of a step.
fn fill(engine: &mut Engine, task: usize, image: &[f32], batch: usize, classes: usize) -> Result<()> {
    let labels: Vec<u32> = (0..batch).map(|i| (i % classes) as u32).collect();
    for (name, feed) in engine.feeds(task).to_vec() {
        match feed {
            Feed::Images(_) => engine.session_mut().write(&name, HostSlice::F32(image))?,
            Feed::Labels(..) => engine.session_mut().write(&name, HostSlice::U32(&labels))?,
            Feed::Key => engine.session_mut().write(&name, HostSlice::U32(&[1, 0, 0, 0]))?,
        }
    }
    Ok(())
}

fn timed(repeats: usize, mut work: impl FnMut() -> Result<()>) -> Result<(Times, u64)> {
    if repeats == 0 {
        let before = allocations::count();
        return Ok((Times::first(work)?, allocations::count() - before));
    }
    work()?;
    work()?;
    let before = allocations::count();
    let mut within = 0;
    let times = Times::of(repeats, || {
        let done = work();
        within = allocations::count() - before;
        done
    })?;
    // The list of times itself is one allocation.
    Ok((times, within.saturating_sub(1)))
}

/// A training step of ACAI, or its encoder alone.
fn autoencoder(request: &Request, sizes: Sizes) -> Result<Figures> {
    if !request.channels.is_empty() {
        return Err(Error::usage(format!("{} has channels of its own", request.net)));
    }
    let setup = embed::Setup { sizes, batch: request.batch, probe: None };
    let method = embed::Method::named("acai")?;
    let mut engine = embed::Engine::new(device::open(&request.device)?, method, &setup, 1)?;
    let images = noise(request.batch * sizes.size * sizes.size * sizes.colours);
    engine.load(&images.iter().map(|v| v.clamp(-1.0, 1.0)).collect::<Vec<_>>())?;
    if request.rule == "forward" {
        let flops = engine.encoder_flops();
        let (times, allocated) = timed(request.repeats, || engine.encode())?;
        return Ok(figures(request, engine.session(), times, flops as f64 / 1e9, request.batch, allocated));
    }
    if !["paper", "sgd"].contains(&request.rule.as_str()) {
        return Err(Error::usage(format!(
            "{} has the rules paper (its training step) and forward",
            request.net
        )));
    }
    let (gflop, mut number) = (engine.flops() as f64 / 1e9, 0);
    let (times, allocated) = timed(request.repeats, || {
        number += 1;
        engine.step(number - 1, 1e-4)
    })?;
    if let Some((name, value)) = engine.losses()?.into_iter().find(|(_, v)| !v.is_finite()) {
        return Err(Error::Diverged(format!("the measured step gave {name} = {value}")));
    }
    Ok(figures(request, engine.session(), times, gflop, request.batch, allocated))
}

fn forward(request: &Request, net: Net, classes: usize) -> Result<Figures> {
    let mut tape = Tape::new();
    let [h, w, c] = net.input;
    let x = tape.input("images", [request.batch, h, w, c]);
    let parameters = net.parameters();
    let theta: Vec<_> = parameters.iter().map(|p| tape.input(p.name.clone(), p.shape)).collect();
    let decoder = net.decoder(0, classes);
    let phi: Vec<_> = decoder.iter().map(|p| tape.input(p.name.clone(), p.shape)).collect();
    let features = net.record(&mut tape, x, &theta);
    let logits = crate::nn::net::decode(&mut tape, features, &phi);
    tape.output("logits", logits);
    let mut session = Session::new(device::open(&request.device)?);
    let program = session.prepare(&tape)?;
    let bound = session.bind(program, str::to_string)?;
    for parameter in parameters.iter().chain(&decoder) {
        session.write(&parameter.name, HostSlice::F32(&parameter.initial_values(1)))?;
    }
    session.write("images", HostSlice::F32(&noise(request.batch * h * w * c)))?;
    let (times, allocated) = timed(request.repeats, || session.run(&bound))?;
    Ok(figures(request, &session, times, tape.flops() as f64 / 1e9, request.batch, allocated))
}

fn figures(
    request: &Request,
    session: &Session,
    times: Times,
    gflop: f64,
    images: usize,
    allocations: u64,
) -> Figures {
    let median = times.median();
    Figures {
        net: request.net.clone(),
        rule: request.rule.clone(),
        batch: request.batch,
        median_ms: median,
        p10_ms: times.quantile(0.1),
        p90_ms: times.quantile(0.9),
        gflop,
        gflop_per_s: gflop / median * 1e3,
        images_per_s: images as f64 / median * 1e3,
        peak_bytes: peak_bytes(),
        device_bytes: session.allocated_bytes(),
        allocations,
        repeats: request.repeats.max(1),
        device: session.device().describe(),
    }
}
