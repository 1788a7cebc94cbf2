//! The meta-gradient fixtures of METHODS §15.1, the properties of §15.2, and differences on every net.

use tessera::device::{Buffer, Cpu, CpuOptions, Device, HostSlice, HostSliceMut};
use tessera::meta::{Hessian, Inner, Order, Problem, meta_gradient};
use tessera::nn::{NETS, Net, net};
use tessera::random::uniform_at;
use tessera::tape::{Kind, Tape, Var};

const W: [f64; 6] = [0.5, -0.3, 0.2, 0.4, 0.1, 0.05];
const MAIN: [f64; 6] = [0.6, -0.2, -0.1, 0.3, 0.0, 0.1];
const AUXILIARY: [f64; 9] = [0.3, 0.5, -0.4, 0.2, 0.1, -0.6, 0.05, -0.05, 0.0];

/// Leaves with values, and a device to run on.
struct Bench {
    tape: Tape,
    values: Vec<(Kind, Vec<f64>)>,
}

impl Bench {
    fn new() -> Self {
        Bench { tape: Tape::new(), values: Vec::new() }
    }

    fn leaf(&mut self, kind: Kind, shape: &[usize], values: &[f64]) -> Var {
        self.values.push((kind, values.to_vec()));
        let name = format!("leaf{}", self.values.len());
        self.tape.leaf(name, kind, shape)
    }

    fn real(&mut self, shape: &[usize], values: &[f64]) -> Var {
        self.leaf(Kind::Real, shape, values)
    }

    fn run(&mut self, outputs: &[Var]) -> Vec<Vec<f64>> {
        self.run_on(&mut Cpu::<f64>::new(CpuOptions { fence: 128, ..CpuOptions::default() }), outputs)
    }

    fn run_on(&mut self, device: &mut dyn Device, outputs: &[Var]) -> Vec<Vec<f64>> {
        for (i, v) in outputs.iter().enumerate() {
            self.tape.output(format!("{i}"), *v);
        }
        let program = device.prepare(&self.tape).unwrap();
        let mut buffers: Vec<Buffer> = Vec::new();
        for (kind, values) in &self.values {
            let buffer = device.allocate(*kind, values.len()).unwrap();
            match kind {
                Kind::Real => device.write(buffer, HostSlice::F64(values)).unwrap(),
                _ => {
                    let labels: Vec<u32> = values.iter().map(|&v| v as u32).collect();
                    device.write(buffer, HostSlice::U32(&labels)).unwrap();
                }
            }
            buffers.push(buffer);
        }
        device.run(program, &buffers).unwrap();
        let read = |(i, v): (usize, &Var)| {
            let mut values = vec![0.0; self.tape.shape(*v).len()];
            device.read_output(program, i, HostSliceMut::F64(&mut values)).unwrap();
            values
        };
        outputs.iter().enumerate().map(read).collect()
    }
}

/// θ = (W, b) of the fixture's shared layer, a decoder, and batches.
struct Fixture {
    bench: Bench,
    theta: Vec<Var>,
    auxiliary: Vec<Var>,
    main: Vec<Var>,
    inner: (Var, Var, Var),
    outer: (Var, Var),
    alpha: Var,
}

fn fixture(theta: &[f64; 6], alpha: f64) -> Fixture {
    let mut bench = Bench::new();
    let theta = vec![bench.real(&[2, 2], &theta[..4]), bench.real(&[2], &theta[4..])];
    let auxiliary = vec![bench.real(&[3, 2], &AUXILIARY[..6]), bench.real(&[3], &AUXILIARY[6..])];
    let main = vec![bench.real(&[2, 2], &MAIN[..4]), bench.real(&[2], &MAIN[4..])];
    let x = bench.real(&[2, 2], &[1.0, 0.5, 0.8, -0.4]);
    let labels = |b: &mut Bench, v: &[f64]| b.leaf(Kind::U32, &[2], v);
    let (aux_labels, main_labels) = (labels(&mut bench, &[2.0, 0.0]), labels(&mut bench, &[1.0, 0.0]));
    let meta = bench.real(&[2, 2], &[0.7, 1.0, 1.2, 0.3]);
    let meta_labels = labels(&mut bench, &[0.0, 1.0]);
    let alpha = bench.real(&[], &[alpha]);
    Fixture {
        bench,
        theta,
        auxiliary,
        main,
        inner: (x, aux_labels, main_labels),
        outer: (meta, meta_labels),
        alpha,
    }
}

fn loss(t: &mut Tape, x: Var, labels: Var, theta: &[Var], phi: &[Var]) -> Var {
    let affine = t.matmul(x, theta[0], false, true);
    let shifted = t.add(affine, theta[1]);
    let h = t.relu(shifted);
    let logits = net::decode(t, h, phi);
    t.cross_entropy(logits, labels)
}

#[derive(Clone, Copy)]
struct Mode {
    main: bool,
    steps: usize,
    order: Order,
    hessian: Hessian,
    through: bool,
    momentum: f64,
}

const FIRST: Mode = Mode {
    main: false,
    steps: 1,
    order: Order::First,
    hessian: Hessian::ThetaOnly,
    through: false,
    momentum: 0.0,
};
const SECOND: Mode = Mode { order: Order::Second, ..FIRST };
const JOINT: Mode = Mode { hessian: Hessian::Joint, ..SECOND };

/// Outer loss, meta-gradient, gradient of the inner loss in the decoder.
fn episode(mode: Mode, theta: &[f64; 6], alpha: f64) -> (f64, Vec<f64>, Vec<f64>) {
    let mut f = fixture(theta, alpha);
    let (x, aux_labels, main_labels) = f.inner;
    let (meta, meta_labels) = f.outer;
    let labels = if mode.main { main_labels } else { aux_labels };
    let problem = Problem {
        theta: &f.theta,
        phi: if mode.main { &f.main } else { &f.auxiliary },
        main: (!mode.main).then_some(&f.main[..]),
        inner_loss: &move |t, theta, phi| loss(t, x, labels, theta, phi),
        outer_loss: &move |t, theta, phi| loss(t, meta, meta_labels, theta, phi),
    };
    let inner =
        Inner { steps: mode.steps, alpha: f.alpha, momentum: mode.momentum, weight_decay: 0.0, clip: 0.0 };
    let g = meta_gradient(&mut f.bench.tape, &problem, inner, mode.order, mode.hessian, mode.through);
    let mut outputs = vec![g.outer_loss];
    outputs.extend(g.meta);
    outputs.extend(g.inner_decoder);
    let values = f.bench.run(&outputs);
    (values[0][0], values[1..3].concat(), values[3..].concat())
}

fn close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= tolerance, "{found:?}\nis not {expected:?}\nwithin {tolerance:e}");
    }
}

#[test]
fn fixtures_of_the_specification() {
    let through = Mode { main: true, hessian: Hessian::Joint, through: true, ..SECOND };
    let main = Mode { main: true, ..SECOND };
    let table: &[(Mode, f64, [f64; 6])] = &[
        (
            FIRST,
            0.8019813617,
            [0.0894947931, -0.1398959929, -0.0639248522, 0.0999257092, -0.0073753952, 0.0052681394],
        ),
        (
            SECOND,
            0.8019813617,
            [0.0891557655, -0.1397673172, -0.0631518587, 0.0996104246, -0.0077889702, 0.0062165783],
        ),
        (
            JOINT,
            0.8019813617,
            [0.0891557655, -0.1397673172, -0.0631518587, 0.0996104246, -0.0077889702, 0.0062165783],
        ),
        (
            Mode { steps: 2, ..FIRST },
            0.8020290993,
            [0.0959987589, -0.1354986025, -0.0685705421, 0.0967847160, -0.0005557272, 0.0003969480],
        ),
        (
            Mode { steps: 2, ..SECOND },
            0.8020290993,
            [0.0951554144, -0.1352649746, -0.0667812710, 0.0961967995, -0.0015628969, 0.0025568572],
        ),
        (
            Mode { steps: 2, ..JOINT },
            0.8020290993,
            [0.0951311416, -0.1353864219, -0.0668583811, 0.0962728280, -0.0015598419, 0.0024511011],
        ),
        (
            Mode { steps: 3, ..SECOND },
            0.8024080424,
            [0.1006893057, -0.1309769507, -0.0699855026, 0.0929605701, 0.0041774312, -0.0006579219],
        ),
        (
            Mode { steps: 3, ..JOINT },
            0.8024080424,
            [0.1006439656, -0.1313199193, -0.0702488556, 0.0931644345, 0.0042121657, -0.0010051602],
        ),
        (
            Mode { steps: 2, momentum: 0.9, ..JOINT },
            0.8024544311,
            [0.1007013118, -0.1311459738, -0.0700275073, 0.0930605573, 0.0042221711, -0.0007223006],
        ),
        (
            Mode { main: true, ..FIRST },
            0.8068989812,
            [0.0776619417, -0.1496005385, -0.0574051521, 0.1105797960, -0.0206433435, 0.0152588803],
        ),
        (
            main,
            0.8068989812,
            [0.0770875387, -0.1491469250, -0.0569948642, 0.1102557864, -0.0214029502, 0.0158014566],
        ),
        (
            through,
            0.8068989812,
            [0.0747469434, -0.1537743104, -0.0556158606, 0.1127900998, -0.0228792735, 0.0167192574],
        ),
        (
            Mode { steps: 2, ..main },
            0.8120526983,
            [0.0721626107, -0.1538895635, -0.0550677244, 0.1174098033, -0.0277822205, 0.0211493350],
        ),
        (
            Mode { steps: 2, ..through },
            0.8120526983,
            [0.0682948970, -0.1630648075, -0.0526696142, 0.1229617880, -0.0298395875, 0.0224592127],
        ),
    ];
    for (mode, outer_loss, gradient) in table {
        let (found_loss, found, _) = episode(*mode, &W, 0.1);
        close(&[found_loss], &[*outer_loss], 1e-10);
        close(&found, gradient, 1e-10);
    }
}

#[test]
fn losses_gradients_and_hessian_product_of_the_fixture() {
    let mut f = fixture(&W, 0.1);
    let t = &mut f.bench.tape;
    let auxiliary = loss(t, f.inner.0, f.inner.1, &f.theta, &f.auxiliary);
    let main = loss(t, f.inner.0, f.inner.2, &f.theta, &f.main);
    let meta = loss(t, f.outer.0, f.outer.1, &f.theta, &f.main);
    let wrt: Vec<Var> = f.theta.iter().chain(&f.auxiliary).copied().collect();
    let gradient = t.reverse(auxiliary, None, &wrt);
    let v = [f.bench.real(&[2, 2], &[1.0, -1.0, 0.5, 2.0]), f.bench.real(&[2], &[0.25, -0.5])];
    let t = &mut f.bench.tape;
    let product = t.tangent(&[(f.theta[0], v[0]), (f.theta[1], v[1])], &gradient[..2]);
    let outputs = [
        auxiliary,
        main,
        meta,
        gradient[0],
        gradient[1],
        gradient[2],
        gradient[3],
        product[0].unwrap(),
        product[1].unwrap(),
    ];
    let values = f.bench.run(&outputs);
    close(&values[..3].concat(), &[1.1221524060, 0.6193474019, 0.8023147881], 1e-10);
    let theta = [-0.1159597684, 0.0369832724, 0.1939000012, 0.2736349214, -0.1397005575, 0.1497287710];
    close(&values[3..5].concat(), &theta, 1e-10);
    let decoder = [
        -0.0725630094,
        0.0923285431,
        0.1370646396,
        0.0676987624,
        -0.0645016302,
        -0.1600273055,
        -0.0519662824,
        0.2586146021,
        -0.2066483197,
    ];
    close(&values[5..7].concat(), &decoder, 1e-10);
    let hessian = [0.0821970356, 0.0040360197, 0.0378105282, 0.0909638079, 0.0914626601, 0.0197958922];
    close(&values[7..9].concat(), &hessian, 1e-10);
}

#[test]
fn without_inner_rate_all_orders_are_the_plain_gradient() {
    let first = episode(FIRST, &W, 0.0).1;
    for mode in [SECOND, JOINT, Mode { steps: 3, ..JOINT }] {
        close(&episode(mode, &W, 0.0).1, &first, 1e-15);
    }
}

/// `∇[L_0 − α g_0·g_t]`, the first terms of the meta-gradient in α.
fn expansion(alpha: f64) -> Vec<f64> {
    let mut f = fixture(&W, alpha);
    let t = &mut f.bench.tape;
    let main = loss(t, f.outer.0, f.outer.1, &f.theta, &f.main);
    let auxiliary = loss(t, f.inner.0, f.inner.1, &f.theta, &f.auxiliary);
    let (g0, gt) = (t.reverse(main, None, &f.theta), t.reverse(auxiliary, None, &f.theta));
    let mut total = main;
    for (a, b) in g0.into_iter().zip(gt) {
        let product = t.mul(a, b);
        let sum = t.sum(product);
        let scaled = t.mul(sum, f.alpha);
        total = t.sub(total, scaled);
    }
    let gradient = t.reverse(total, None, &f.theta);
    f.bench.run(&gradient).concat()
}

#[test]
fn small_inner_rates_reward_alignment() {
    // METHODS §15.2 item 2: the difference is of second order in α, with these sizes.
    for (alpha, expected) in [(1e-2, 1.70e-6), (1e-3, 1.70e-8)] {
        let (exact, linear) = (episode(SECOND, &W, alpha).1, expansion(alpha));
        let worst = exact.iter().zip(&linear).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!((worst / expected - 1.0).abs() < 0.02, "α {alpha}: {worst:.3e}, expected {expected:.2e}");
    }
}

#[test]
fn joint_gradient_agrees_with_differences_of_the_outer_loss() {
    for mode in [
        Mode { steps: 2, ..JOINT },
        Mode { steps: 3, momentum: 0.5, ..JOINT },
        Mode { main: true, steps: 2, through: true, ..JOINT },
    ] {
        let (_, gradient, _) = episode(mode, &W, 0.1);
        let mut difference = Vec::new();
        for i in 0..6 {
            let at = |step: f64| {
                let mut theta = W;
                theta[i] += step;
                episode(mode, &theta, 0.1).0
            };
            difference.push((at(1e-5) - at(-1e-5)) / 2e-5);
        }
        close(&gradient, &difference, 1e-9);
    }
}

/// A small problem on a real net: parameters, decoders and batches with drawn values.
struct NetProblem {
    net: Net,
    bench: Bench,
    theta: Vec<Var>,
    auxiliary: Vec<Var>,
    main: Vec<Var>,
    batches: [(Var, Var); 2],
    alpha: Var,
}

fn draw(len: usize, stream: u32, scale: f64) -> Vec<f64> {
    (0..len).map(|i| scale * (2.0 * uniform_at([5, 0, 0, 0], stream, i as u64) - 1.0)).collect()
}

/// `moved`: step along the direction of stream 77 in θ.
fn net_problem(net: Net, moved: f64) -> NetProblem {
    let mut bench = Bench::new();
    let [h, w, c] = net.input;
    let (images, classes) = (3, [4, 5]);
    let mut theta = Vec::new();
    for (i, p) in net.parameters().iter().enumerate() {
        let mut values: Vec<f64> = p.initial_values(3).iter().map(|&v| f64::from(v) * 2.0).collect();
        let direction = draw(values.len(), 77 + i as u32, 1.0);
        values.iter_mut().zip(direction).for_each(|(v, d)| *v += moved * d);
        theta.push(bench.real(p.shape.dims(), &values));
    }
    let decoder = |bench: &mut Bench, task: usize| {
        let leaf = |p: &tessera::nn::Parameter| {
            let values: Vec<f64> = p.initial_values(4).iter().map(|&v| f64::from(v) * 3.0).collect();
            (p.shape, values)
        };
        net.decoder(task, classes[task])
            .iter()
            .map(leaf)
            .map(|(s, v)| bench.real(s.dims(), &v))
            .collect::<Vec<_>>()
    };
    let (main, auxiliary) = (decoder(&mut bench, 0), decoder(&mut bench, 1));
    let mut batch = |stream: u32, classes: usize| {
        let x = bench.real(&[images, h, w, c], &draw(images * h * w * c, stream, 1.0));
        let labels: Vec<f64> = (0..images).map(|i| ((i * 7 + stream as usize) % classes) as f64).collect();
        (x, bench.leaf(Kind::U32, &[images], &labels))
    };
    let batches = [batch(1, classes[1]), batch(2, classes[0])];
    let alpha = bench.real(&[], &[0.05]);
    NetProblem { net, bench, theta, auxiliary, main, batches, alpha }
}

impl NetProblem {
    /// Outer loss and meta-gradient.
    fn solve(&mut self, device: &mut dyn Device, steps: usize) -> Vec<Vec<f64>> {
        let (net, [inner, outer]) = (self.net, self.batches);
        let loss = move |t: &mut Tape, (x, labels): (Var, Var), theta: &[Var], phi: &[Var]| {
            let h = net.record(t, x, theta);
            let logits = net::decode(t, h, phi);
            t.cross_entropy(logits, labels)
        };
        let problem = Problem {
            theta: &self.theta,
            phi: &self.auxiliary,
            main: Some(&self.main),
            inner_loss: &move |t, theta, phi| loss(t, inner, theta, phi),
            outer_loss: &move |t, theta, phi| loss(t, outer, theta, phi),
        };
        let inner = Inner { steps, alpha: self.alpha, momentum: 0.0, weight_decay: 0.0, clip: 0.0 };
        let g = meta_gradient(&mut self.bench.tape, &problem, inner, Order::Second, Hessian::Joint, false);
        let outputs: Vec<Var> = std::iter::once(g.outer_loss).chain(g.meta).collect();
        self.bench.run_on(device, &outputs)
    }
}

/// Every net of the specification at a size that keeps its tails: odd sizes, floors in the pooling.
fn small_nets() -> impl Iterator<Item = Net> {
    NETS.iter().map(|&a| {
        let input =
            if a.channels.len() > 2 { [19, 17, if a.name == "omninet" { 1 } else { 3 }] } else { [9, 11, 3] };
        Net::new(a, input).unwrap()
    })
}

#[test]
fn every_net_agrees_with_differences() {
    for net in small_nets() {
        for steps in [1, 2] {
            let device = || Cpu::<f64>::default();
            let values = net_problem(net, 0.0).solve(&mut device(), steps);
            let along: f64 = values[1..]
                .iter()
                .enumerate()
                .map(|(i, g)| {
                    g.iter().zip(draw(g.len(), 77 + i as u32, 1.0)).map(|(g, d)| g * d).sum::<f64>()
                })
                .sum();
            let at = |step: f64| net_problem(net, step).solve(&mut device(), steps)[0][0];
            // Small, so that no ReLU or maximum changes side between the two points: there the inner
            // gradient, and with it the outer loss, would jump.
            let difference = (at(1e-8) - at(-1e-8)) / 2e-8;
            let name = net.architecture.name;
            assert!(
                (along - difference).abs() < 1e-6 * along.abs().max(1.0),
                "{name} S={steps}: {along} {difference}"
            );
        }
    }
}

#[test]
fn fast_kernels_agree_with_f64_on_every_net() {
    for net in small_nets() {
        let exact = net_problem(net, 0.0).solve(&mut Cpu::<f64>::default(), 1)[1..].concat();
        let fast = net_problem(net, 0.0).solve(&mut Cpu::<f32>::default(), 1)[1..].concat();
        let norm = exact.iter().map(|v| v * v).sum::<f64>().sqrt();
        let apart = exact.iter().zip(&fast).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
        assert!(apart / norm < 1e-4, "{}: relative deviation {:.2e}", net.architecture.name, apart / norm);
    }
}
