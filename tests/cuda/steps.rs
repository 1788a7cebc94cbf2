//! Whole training steps against the CPU, against themselves, and replayed against kernel by kernel.

use tessera::device::cuda::Mode;
use tessera::device::{Cpu, CudaOptions, Device, HostSlice};
use tessera::embed;
use tessera::meta::{Hessian, Rule};
use tessera::methods::{Constants, Feed, Method, Setup};
use tessera::nn::autoencoder::Sizes;
use tessera::nn::{Architecture, Net};
use tessera::random::{Purpose, Stream};
use tessera::run::Engine;

use crate::harness;

const STEPS: u64 = 20;
const BATCH: usize = 6;
const CLASSES: usize = 5;
const TASK: usize = 4;

fn meta_setup(size: [usize; 3]) -> Setup {
    Setup {
        net: Net::new(Architecture::named("mnistnet").unwrap(), size).unwrap(),
        batch: BATCH,
        classes: CLASSES,
        tasks: vec![TASK, TASK],
        rule: Rule::named("paper").unwrap(),
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
    }
}

/// Losses of each step, then all parameters.
type Course = (Vec<Vec<f64>>, Vec<f32>);

fn meta_course(device: Box<dyn Device>) -> Course {
    let size = [9, 11, 2];
    let setup = meta_setup(size);
    let mut engine = Engine::new(device, Method::named("meta-mtl").unwrap(), &setup, 3).unwrap();
    for rate in ["alpha", "beta", "decoder_rate"] {
        engine.set_rate(rate, 0.05).unwrap();
    }
    let mut losses = Vec::new();
    for step in 0..STEPS {
        let task = step as usize % engine.tasks();
        for (number, (name, feed)) in engine.feeds(task).to_vec().into_iter().enumerate() {
            let mut draw = Stream::new(step, Purpose::Synthetic, number as u64);
            match feed {
                Feed::Images(_) => {
                    let len = BATCH * size.iter().product::<usize>();
                    let pixels: Vec<f32> = (0..len).map(|_| draw.normal() as f32).collect();
                    engine.session_mut().write(&name, HostSlice::F32(&pixels)).unwrap();
                }
                Feed::Labels(_, of) => {
                    let classes = if of.unwrap_or(task) == 0 { CLASSES } else { TASK };
                    let labels: Vec<u32> = (0..BATCH).map(|_| draw.below(classes) as u32).collect();
                    engine.session_mut().write(&name, HostSlice::U32(&labels)).unwrap();
                }
                other => panic!("{name} wants {other:?}, which the method of this test does not need"),
            }
        }
        engine.step(task).unwrap();
        losses.push(engine.scalars(task).unwrap().into_iter().map(|(_, v)| v).collect());
    }
    let read = |p: &tessera::nn::Parameter| engine.session().read_f32(&p.name).unwrap();
    (losses, engine.parameters().iter().flat_map(read).collect())
}

fn acai_course(device: Box<dyn Device>) -> Course {
    let sizes = Sizes { size: 8, colours: 1, depth: 4, latent: 3, latent_size: 4 };
    let setup = embed::Setup { sizes, batch: BATCH, probe: None };
    let method = embed::Method::named("acai").unwrap();
    let mut engine = embed::Engine::new(device, method, &setup, 3).unwrap();
    let mut losses = Vec::new();
    for step in 0..STEPS {
        let mut draw = Stream::new(step, Purpose::Synthetic, 0);
        let images: Vec<f32> = (0..BATCH * 64).map(|_| 2.0 * draw.next_f32() - 1.0).collect();
        engine.load(&images).unwrap();
        engine.step(step, 1e-3).unwrap();
        losses.push(engine.losses().unwrap().into_iter().map(|(_, v)| v).collect());
    }
    let read = |p: &tessera::nn::Parameter| engine.session().read_f32(&p.name).unwrap();
    (losses, engine.parameters().iter().flat_map(read).collect())
}

/// Losses within 1e-4 of the CPU's, the same bits each time, and the same kernel by kernel.
fn check(name: &str, course: fn(Box<dyn Device>) -> Course) {
    if harness::gpu().is_none() {
        return;
    }
    let cuda = |mode| course(Box::new(harness::open(CudaOptions { mode, ..CudaOptions::default() })));
    let (exact, _) = course(Box::<Cpu<f32>>::default());
    let (losses, parameters) = cuda(Mode::Graph);
    let mut worst: f64 = 0.0;
    for (step, (found, exact)) in losses.iter().zip(&exact).enumerate() {
        for (f, e) in found.iter().zip(exact) {
            let off = (f - e).abs() / e.abs();
            assert!(off < 1e-4, "{name}, step {step}: {found:?} instead of {exact:?}");
            worst = worst.max(off);
        }
    }
    eprintln!("{name}: losses of {STEPS} steps off by {worst:.1e} at most");
    for mode in [Mode::Graph, Mode::Steps] {
        let again = cuda(mode);
        assert!(again.0 == losses && again.1 == parameters, "{name}: other bits, {mode:?}");
    }
}

#[test]
fn meta_mtl_learns_as_on_the_cpu() {
    check("Meta-MTL", meta_course);
}

#[test]
fn acai_learns_as_on_the_cpu() {
    check("ACAI", acai_course);
}
