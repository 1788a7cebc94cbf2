//! Step programs of the methods in f64, against the same steps written out: gradients from the tape,
//! clipping, decay and momentum by hand.

use tessera::device::{Cpu, HostSlice};
use tessera::meta::{Hessian, Rule};
use tessera::methods::{Batch, Constants, Feed, Method, Schedule, Setup};
use tessera::nn::{NETS, Net, net};
use tessera::random::uniform_at;
use tessera::run::Engine;
use tessera::tape::{Kind, Tape, Var};

const BATCH: usize = 4;
const CLASSES: usize = 3;
const INPUT: [usize; 3] = [8, 9, 2];
const DECAY: f64 = 5e-4;
const MOMENTUM: f64 = 0.9;

fn setup(rule: &str, tasks: &[usize], clip: f64, inner_steps: usize, on_meta: bool) -> Setup {
    Setup {
        net: Net::new(NETS[0], INPUT).unwrap(),
        batch: BATCH,
        classes: CLASSES,
        tasks: tasks.to_vec(),
        rule: Rule::named(rule).unwrap(),
        constants: Constants {
            momentum: MOMENTUM,
            weight_decay: DECAY,
            clip,
            inner_steps,
            hessian: Hessian::ThetaOnly,
            train_main_decoder_on_meta: on_meta,
            ..Constants::default()
        },
        unlabelled: false,
    }
}

fn engine(method: &str, setup: &Setup) -> Engine {
    Engine::new(Box::new(Cpu::<f64>::default()), Method::named(method).unwrap(), setup, 5).unwrap()
}

fn pixels(batch: Batch, step: u64) -> Vec<f64> {
    let stream = 10 * step as u32 + batch as u32;
    let size: usize = INPUT.iter().product();
    (0..BATCH * size).map(|i| 2.0 * uniform_at([1, 2, 3, 4], stream, i as u64) - 1.0).collect()
}

fn labels(batch: Batch, task: usize, classes: usize, step: u64) -> Vec<u32> {
    (0..BATCH).map(|i| ((i * 5 + batch as usize * 3 + task * 2 + step as usize) % classes) as u32).collect()
}

fn classes(setup: &Setup, task: usize) -> usize {
    if task == 0 { setup.classes } else { setup.tasks[task - 1] }
}

/// One step of the engine on a task.
fn step(engine: &mut Engine, setup: &Setup, task: usize, step: u64) {
    for (name, feed) in engine.feeds(task).to_vec() {
        match feed {
            Feed::Images(b) => engine.session_mut().write(&name, HostSlice::F64(&pixels(b, step))).unwrap(),
            Feed::Labels(b, of) => {
                let of = of.unwrap_or(task);
                let values = labels(b, of, classes(setup, of), step);
                engine.session_mut().write(&name, HostSlice::U32(&values)).unwrap();
            }
            Feed::Key => engine.session_mut().write(&name, HostSlice::U32(&[5, 0, step as u32, 0])).unwrap(),
        }
    }
    engine.step(task).unwrap();
}

/// Values of all parameters by name, in the engine's order.
fn values(engine: &Engine) -> Vec<(String, Vec<f64>)> {
    let read = |p: &tessera::nn::Parameter| (p.name.clone(), engine.session().read_f64(&p.name).unwrap());
    engine.parameters().iter().map(read).collect()
}

/// Parameters with momentum buffers by name of use.
struct Emulation<'a> {
    setup: &'a Setup,
    values: Vec<(String, Vec<f64>)>,
    buffers: std::collections::HashMap<String, Vec<f64>>,
}

type Group = Vec<(String, Vec<f64>)>;

impl<'a> Emulation<'a> {
    fn new(engine: &Engine, setup: &'a Setup) -> Self {
        Emulation { setup, values: values(engine), buffers: Default::default() }
    }

    fn copy(&self) -> Self {
        Emulation { setup: self.setup, values: self.values.clone(), buffers: self.buffers.clone() }
    }

    fn get(&self, name: &str) -> Vec<f64> {
        self.values.iter().find(|(n, _)| n == name).unwrap().1.clone()
    }

    fn group(&self, names: &[String]) -> Group {
        names.iter().map(|n| (n.clone(), self.get(n))).collect()
    }

    fn shared(&self) -> Vec<String> {
        self.setup.net.parameters().iter().map(|p| p.name.clone()).collect()
    }

    fn decoder(task: usize) -> Vec<String> {
        vec![format!("decoder.{task}.weight"), format!("decoder.{task}.bias")]
    }

    /// Gradient of a task's loss at given shared and decoder values.
    fn gradient(&self, shared: &Group, decoder: &Group, batch: Batch, task: usize, at: u64) -> Group {
        let count = classes(self.setup, task);
        let mut tape = Tape::new();
        let [h, w, c] = INPUT;
        let x = tape.input("x", [BATCH, h, w, c]);
        let y = tape.leaf("y", Kind::U32, [BATCH]);
        let shapes = self.setup.net.parameters().into_iter().chain(self.setup.net.decoder(0, count));
        let leaves: Vec<Var> =
            shapes.enumerate().map(|(i, p)| tape.input(format!("p{i}"), p.shape)).collect();
        let (theta, phi) = leaves.split_at(shared.len());
        let loss = net::loss(&mut tape, self.setup.net, (x, y), theta, phi);
        let gradients = tape.reverse(loss, None, &leaves);
        for (i, g) in gradients.iter().enumerate() {
            tape.output(format!("g{i}"), *g);
        }
        let mut session = tessera::device::Session::new(Box::new(Cpu::<f64>::default()));
        let program = session.prepare(&tape).unwrap();
        let bound = session.bind(program, str::to_string).unwrap();
        session.write("x", HostSlice::F64(&pixels(batch, at))).unwrap();
        session.write("y", HostSlice::U32(&labels(batch, task, count, at))).unwrap();
        for (i, (_, v)) in shared.iter().chain(decoder).enumerate() {
            session.write(&format!("p{i}"), HostSlice::F64(v)).unwrap();
        }
        session.run(&bound).unwrap();
        let read = |(i, (name, v)): (usize, &(String, Vec<f64>))| {
            (name.clone(), session.output_f64(&bound, &format!("g{i}"), v.len()).unwrap())
        };
        shared.iter().chain(decoder).enumerate().map(read).collect()
    }

    /// One step of SGD with decay and momentum; `use_name` tells apart buffers of one parameter.
    fn sgd(&mut self, values: &mut Group, gradients: &Group, rate: f64, use_name: &str) {
        for ((name, v), (_, g)) in values.iter_mut().zip(gradients) {
            let buffer =
                self.buffers.entry(format!("{name} {use_name}")).or_insert_with(|| vec![0.0; v.len()]);
            for ((v, g), b) in v.iter_mut().zip(g).zip(buffer) {
                *b = MOMENTUM * *b + g + DECAY * *v;
                *v -= rate * *b;
            }
        }
    }

    fn store(&mut self, group: &Group) {
        for (name, v) in group {
            self.values.iter_mut().find(|(n, _)| n == name).unwrap().1 = v.clone();
        }
    }

    fn assert_close(&self, engine: &Engine) {
        self.assert_within("", engine, 1e-11);
    }

    fn assert_within(&self, rule: &str, engine: &Engine, tolerance: f64) {
        for ((name, found), (_, expected)) in values(engine).iter().zip(&self.values) {
            let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < tolerance, "{rule} {name} is off by {worst:.2e}");
        }
    }
}

/// `values += factor · direction`.
fn along(values: &mut Group, direction: &[(String, Vec<f64>)], factor: f64) {
    for ((_, v), (_, d)) in values.iter_mut().zip(direction) {
        v.iter_mut().zip(d).for_each(|(v, d)| *v += factor * d);
    }
}

fn clip(gradients: &mut Group, bound: f64) {
    let norm = gradients.iter().flat_map(|(_, g)| g).map(|g| g * g).sum::<f64>().sqrt();
    let factor = (bound / (norm + 1e-6)).min(1.0);
    gradients.iter_mut().flat_map(|(_, g)| g).for_each(|g| *g *= factor);
}

/// METHODS §15.2, item 5.
#[test]
fn joint_training_without_tasks_is_single_task_training() {
    let plain = setup("paper", &[], 0.0, 1, false);
    let (mut stl, mut mtl) = (engine("stl", &plain), engine("mtl", &plain));
    for engine in [&mut stl, &mut mtl] {
        engine.set_rate("rate", 0.1).unwrap();
        (0..3).for_each(|i| step(engine, &plain, 0, i));
    }
    assert_eq!(values(&stl), values(&mtl));
}

#[test]
fn single_task_steps_are_sgd_with_momentum_and_decay() {
    let setup = setup("paper", &[], 0.0, 1, false);
    let mut engine = engine("stl", &setup);
    engine.set_rate("rate", 0.1).unwrap();
    let mut by_hand = Emulation::new(&engine, &setup);
    for i in 0..3 {
        step(&mut engine, &setup, 0, i);
        let (mut theta, mut phi) = (by_hand.group(&by_hand.shared()), by_hand.group(&Emulation::decoder(0)));
        let mut g = by_hand.gradient(&theta, &phi, Batch::Labelled, 0, i);
        let rest = g.split_off(theta.len());
        by_hand.sgd(&mut theta, &g, 0.1, "");
        by_hand.sgd(&mut phi, &rest, 0.1, "");
        by_hand.store(&theta);
        by_hand.store(&phi);
        by_hand.assert_close(&engine);
    }
}

/// METHODS §7.4, `alternate`: a step lowers the loss of its task alone; other decoders rest.
#[test]
fn alternate_steps_are_sgd_on_the_drawn_task() {
    let mut setup = setup("paper", &[5, 4, 5], 0.0, 1, false);
    setup.constants.schedule = Schedule::Alternate;
    let mut engine = engine("mtl", &setup);
    assert_eq!(engine.tasks(), 4);
    engine.set_rate("rate", 0.1).unwrap();
    let mut by_hand = Emulation::new(&engine, &setup);
    for (i, task) in [1, 0, 3, 2, 1].into_iter().enumerate() {
        let i = i as u64;
        step(&mut engine, &setup, task, i);
        let decoder = Emulation::decoder(task);
        let (mut theta, mut phi) = (by_hand.group(&by_hand.shared()), by_hand.group(&decoder));
        let mut g = by_hand.gradient(&theta, &phi, Batch::Labelled, task, i);
        let rest = g.split_off(theta.len());
        by_hand.sgd(&mut theta, &g, 0.1, "");
        by_hand.sgd(&mut phi, &rest, 0.1, "");
        by_hand.store(&theta);
        by_hand.store(&phi);
        by_hand.assert_close(&engine);
    }
}

fn pseudo_tasks(operators: &str, decoders: usize) -> Setup {
    let mut setup = setup("paper", &vec![CLASSES; decoders - 1], 0.0, 1, false);
    setup.constants.operators = operators.parse().unwrap();
    setup
}

/// METHODS §15.2, item 5.
#[test]
fn one_pseudo_task_is_single_task_training() {
    for operators in ["f", "i"] {
        let one = pseudo_tasks(operators, 1);
        let (mut stl, mut pta) = (engine("stl", &one), engine("pta", &one));
        for engine in [&mut stl, &mut pta] {
            engine.set_rate("rate", 0.1).unwrap();
            (0..3).for_each(|i| step(engine, &one, 0, i));
        }
        assert_eq!(values(&stl), values(&pta), "{operators}");
    }
}

/// METHODS §7.5: the mean loss of all decoders moves F and, with operator F, the first decoder alone.
#[test]
fn frozen_pseudo_tasks_keep_their_bits_and_teach_the_shared_layers() {
    for frozen in [true, false] {
        let setup = pseudo_tasks(if frozen { "f" } else { "i" }, 4);
        let mut engine = engine("pta", &setup);
        engine.set_rate("rate", 0.1).unwrap();
        let start = values(&engine);
        let mut by_hand = Emulation::new(&engine, &setup);
        for i in 0..3 {
            step(&mut engine, &setup, 0, i);
            let mut theta = by_hand.group(&by_hand.shared());
            let mut sum: Group = theta.iter().map(|(n, v)| (n.clone(), vec![0.0; v.len()])).collect();
            for d in 0..4 {
                let mut phi = by_hand.group(&Emulation::decoder(d));
                let g = by_hand.gradient(&theta, &phi, Batch::Labelled, 0, i);
                along(&mut sum, &g[..theta.len()], 0.25);
                if d == 0 || !frozen {
                    let mut own = g[theta.len()..].to_vec();
                    own.iter_mut().flat_map(|(_, g)| g).for_each(|g| *g *= 0.25);
                    by_hand.sgd(&mut phi, &own, 0.1, "");
                    by_hand.store(&phi);
                }
            }
            by_hand.sgd(&mut theta, &sum, 0.1, "");
            by_hand.store(&theta);
            by_hand.assert_close(&engine);
        }
        for ((name, before), (_, after)) in start.iter().zip(&values(&engine)) {
            let rests = frozen && ["decoder.1", "decoder.2", "decoder.3"].iter().any(|d| name.starts_with(d));
            assert_eq!(before == after, rests, "{name}");
        }
        let states: Vec<&str> = engine.states().iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(states.contains(&"decoder.1.weight.momentum"), !frozen);
    }
}

/// Operator D: inverted dropout of a rate that may change between steps, another mask for each decoder.
#[test]
fn dropout_stands_in_front_of_each_pseudo_task() {
    let run = |operators: &str, keep: [f64; 2]| {
        let setup = pseudo_tasks(operators, 2);
        let mut engine = engine("pta", &setup);
        engine.set_rate("rate", 0.1).unwrap();
        for (d, keep) in keep.into_iter().enumerate() {
            engine.set_rate(&format!("keep.{d}"), keep).unwrap();
        }
        step(&mut engine, &setup, 0, 0);
        values(&engine)
    };
    let (plain, none) = (run("i", [1.0, 1.0]), run("d", [1.0, 1.0]));
    for ((name, a), (_, b)) in plain.iter().zip(&none) {
        let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-12, "{name} is off by {worst:e} where nothing is dropped");
    }
    // A decoder's weight moves only where its features were kept; the masks differ.
    let found = run("d", [0.5, 0.5]);
    let setup = pseudo_tasks("d", 2);
    let start = values(&engine("pta", &setup));
    let moved = |name: &str| -> Vec<bool> {
        let of = |all: &[(String, Vec<f64>)]| all.iter().find(|(n, _)| n == name).unwrap().1.clone();
        let decayed = |(a, b): (&f64, &f64)| (a - b - 0.1 * DECAY * a).abs() > 1e-15;
        of(&start).iter().zip(&of(&found)).map(decayed).collect()
    };
    let (first, second) = (moved("decoder.0.weight"), moved("decoder.1.weight"));
    let share = |m: &[bool]| m.iter().filter(|&&m| m).count() as f64 / m.len() as f64;
    let full: Vec<bool> = {
        let of =
            |all: &[(String, Vec<f64>)]| all.iter().find(|(n, _)| n == "decoder.0.weight").unwrap().1.clone();
        of(&start).iter().zip(&of(&plain)).map(|(a, b)| (a - b - 0.1 * DECAY * a).abs() > 1e-15).collect()
    };
    assert!(share(&first) < share(&full) && share(&first) > 0.2, "{} of {}", share(&first), share(&full));
    assert_ne!(first, second);
    // All dropped: the features say nothing, and nothing becomes infinite.
    assert!(run("d", [0.0, 0.0]).iter().flat_map(|(_, v)| v).all(|v| v.is_finite()));
}

/// METHODS §6.7 with its evident intention; decoders that were not drawn rest.
#[test]
fn released_intended_steps_are_those_of_the_specification() {
    for on_meta in [false, true] {
        // A bound that clips, so that its scope matters.
        let bound = 0.3;
        let setup = setup("released-intended", &[5, 4], bound, 3, on_meta);
        let mut engine = engine("meta-mtl", &setup);
        let (alpha, beta, rate) = (0.05, 0.03, 0.04);
        for (name, value) in [("alpha", alpha), ("beta", beta), ("decoder_rate", rate)] {
            engine.set_rate(name, value).unwrap();
        }
        let mut by_hand = Emulation::new(&engine, &setup);
        for (i, task) in [1, 0, 2, 1].into_iter().enumerate() {
            let i = i as u64;
            step(&mut engine, &setup, task, i);
            let start = by_hand.group(&by_hand.shared());
            let (mut ahead, mut phi) = (start.clone(), by_hand.group(&Emulation::decoder(task)));
            let mut first = None;
            for _ in 0..3 {
                let mut g = by_hand.gradient(&ahead, &phi, Batch::Labelled, task, i);
                clip(&mut g, bound);
                let rest = g.split_off(ahead.len());
                by_hand.sgd(&mut ahead, &g, alpha, "inner");
                by_hand.sgd(&mut phi, &rest, rate, "");
                first.get_or_insert(g);
            }
            by_hand.store(&phi);
            let mut main = by_hand.group(&Emulation::decoder(0));
            let mut g = by_hand.gradient(&ahead, &main, Batch::Fresh, 0, i);
            clip(&mut g, bound);
            let rest = g.split_off(ahead.len());
            if on_meta {
                by_hand.sgd(&mut main, &rest, rate, "");
                by_hand.store(&main);
            }
            let mut theta = start;
            by_hand.sgd(&mut theta, &first.unwrap(), alpha, "auxiliary");
            by_hand.sgd(&mut theta, &g, beta, "outer");
            by_hand.store(&theta);
            by_hand.assert_close(&engine);
        }
    }
}

/// Eq. 6 under the rules of one step: without the Hessian term, with it, and to the letter. The Hessian's
/// product comes from differences of gradients, so two of them agree less closely.
#[test]
fn steps_through_one_inner_step_are_those_of_equation_6() {
    for (rule, second_order, plain, tolerance) in
        [("first-order", false, false, 1e-11), ("paper", true, false, 1e-8), ("literal", true, true, 1e-8)]
    {
        let bound = 0.3;
        let setup = setup(rule, &[5], bound, 1, true);
        let mut engine = engine("meta-mtl", &setup);
        let (alpha, beta, rate) = (0.5, 0.1, 0.2);
        for (name, value) in [("alpha", alpha), ("beta", beta), ("decoder_rate", rate)] {
            engine.set_rate(name, value).unwrap();
        }
        // To the letter, decoders move by the inner rate.
        let rate = if plain { alpha } else { rate };
        let mut by_hand = Emulation::new(&engine, &setup);
        let update = |by_hand: &mut Emulation<'_>, values: &mut Group, mut gradients: Group, rate: f64| {
            if plain {
                along(values, &gradients, -rate);
            } else {
                clip(&mut gradients, bound);
                by_hand.sgd(values, &gradients, rate, "");
            }
        };
        for (i, task) in [1, 0, 1].into_iter().enumerate() {
            let i = i as u64;
            step(&mut engine, &setup, task, i);
            let mut theta = by_hand.group(&by_hand.shared());
            let start = by_hand.group(&Emulation::decoder(task));
            let inner = |at: &Group| by_hand.gradient(at, &start, Batch::Labelled, task, i);
            let mut g = inner(&theta);
            let rest = g.split_off(theta.len());
            let mut ahead = theta.clone();
            along(&mut ahead, &g, -alpha);
            // The outer loss sees the stored main decoder: after its step, if the main task was drawn.
            let mut phi = start.clone();
            update(&mut by_hand.copy(), &mut phi, rest.clone(), rate);
            let stored = if task == 0 { phi } else { by_hand.group(&Emulation::decoder(0)) };
            let mut meta = by_hand.gradient(&ahead, &stored, Batch::Fresh, 0, i);
            let outer_decoder = meta.split_off(ahead.len());
            if second_order {
                let (small, v) = (1e-5, meta.clone());
                for sign in [1.0, -1.0] {
                    let mut near = theta.clone();
                    along(&mut near, &v, sign * small);
                    let g = inner(&near);
                    along(&mut meta, &g[..v.len()], -alpha * sign / (2.0 * small));
                }
            }
            let mut phi = start;
            update(&mut by_hand, &mut phi, rest, rate);
            by_hand.store(&phi);
            let mut main = by_hand.group(&Emulation::decoder(0));
            update(&mut by_hand, &mut main, outer_decoder, rate);
            by_hand.store(&main);
            update(&mut by_hand, &mut theta, meta, beta);
            by_hand.store(&theta);
            by_hand.assert_within(rule, &engine, tolerance);
            // Differences must not pile up from step to step.
            by_hand.values = values(&engine);
        }
    }
}
