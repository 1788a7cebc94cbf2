//! K-means on the CUDA device is the CPU's bit for bit: labels, iterations, centres, inertia and chosen points.

use tessera::cluster::kmeans::{Fit, Question, Settings, fit_all};
use tessera::cluster::partition::{Diversity, Request, partitions};
use tessera::cluster::{Embedding, embedding, seeding};
use tessera::device::cuda::compile::{Compiler, Image, Unit};
use tessera::device::cuda::kmeans::functions;
use tessera::device::kmeans::{Draws, Loaded};
use tessera::device::{Cpu, CudaOptions, Device};
use tessera::random::{Purpose, Stream};

use crate::harness::{gpu, open};

/// What is odd about the points of a case.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Odd {
    Nothing,
    /// Columns have weights, some of them 0.
    Weights,
    /// Integers, with many exact ties.
    Grid,
    /// Every point is there four times.
    Copies,
    /// Three different points.
    Few,
    /// Some points are far away.
    Far,
    /// The mean is a hundred thousand times the spread.
    Offset,
    /// Scores overflow, or vanish, in single precision.
    Scale(f32),
    /// Starting centres: every second one is far from everything, others are there twice.
    Start,
}

struct Case {
    n: usize,
    d: usize,
    k: usize,
    odd: Odd,
}

const fn case(n: usize, d: usize, k: usize, odd: Odd) -> Case {
    Case { n, d, k, odd }
}

const CASES: &[Case] = &[
    case(1, 1, 1, Odd::Nothing),
    case(1333, 1, 3, Odd::Nothing),
    case(130, 3, 1, Odd::Nothing),
    case(257, 64, 2, Odd::Weights),
    case(600, 33, 15, Odd::Weights),
    case(401, 257, 15, Odd::Nothing),
    case(433, 24, 100, Odd::Nothing),
    case(300, 20, 70, Odd::Nothing),
    case(50, 3, 50, Odd::Nothing),
    case(900, 2, 7, Odd::Grid),
    case(600, 3, 33, Odd::Grid),
    case(400, 5, 30, Odd::Copies),
    case(60, 1, 7, Odd::Few),
    case(800, 4, 9, Odd::Far),
    case(900, 8, 6, Odd::Offset),
    case(200, 6, 5, Odd::Scale(1e25)),
    case(200, 6, 5, Odd::Scale(1e-30)),
    case(500, 3, 8, Odd::Start),
];

impl Case {
    fn values(&self) -> Vec<f32> {
        let Case { n, d, odd, .. } = *self;
        let mut draw = Stream::new(7, Purpose::Synthetic, n as u64);
        let mut values: Vec<f32> =
            (0..n * d).map(|i| (draw.normal() + 3.0 * (i / d * 7 % 5 * (i % d % 3)) as f64) as f32).collect();
        match odd {
            Odd::Grid => values.iter_mut().for_each(|v| *v = v.round()),
            Odd::Copies => (1..4).for_each(|copy| values.copy_within(..n / 4 * d, copy * (n / 4) * d)),
            Odd::Few => values.iter_mut().enumerate().for_each(|(i, v)| *v = (i / d % 3) as f32),
            Odd::Far => values[70 * d..75 * d].iter_mut().for_each(|v| *v *= 1e6),
            Odd::Offset => values.iter_mut().for_each(|v| *v = *v * 0.01 + 1000.0),
            Odd::Scale(scale) => values.iter_mut().for_each(|v| *v *= scale),
            Odd::Nothing | Odd::Weights | Odd::Start => {}
        }
        values
    }

    fn weights(&self) -> Option<Vec<f32>> {
        let mut draw = Stream::new(8, Purpose::Synthetic, 0);
        let mut weight = |j: usize| if j % 5 == 4 { 0.0 } else { draw.next_f32() };
        (self.odd == Odd::Weights).then(|| (0..self.d).map(&mut weight).collect())
    }

    fn start(&self, values: &[f32]) -> Option<Vec<f64>> {
        let centre = |i: usize| match i / self.d {
            k if k % 2 == 1 => 1e5 * (1 + k) as f64,
            k => f64::from(values[k / 4 * self.d + i % self.d]),
        };
        (self.odd == Odd::Start).then(|| (0..self.k * self.d).map(centre).collect())
    }

    fn settings(&self) -> Settings {
        Settings { clusters: self.k, max_iterations: 300, tolerance: 1e-4, restarts: 2, seed: 0 }
    }
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[track_caller]
fn assert_same(a: &Fit, b: &Fit, about: &str) {
    assert_eq!(a.labels, b.labels, "{about}");
    assert_eq!((a.iterations, a.converged), (b.iterations, b.converged), "{about}");
    assert_eq!(bits(&a.centres), bits(&b.centres), "{about}");
    assert_eq!(a.inertia.to_bits(), b.inertia.to_bits(), "{about}: {} and {}", a.inertia, b.inertia);
}

/// Two questions with other weights and seeds in one launch, and one alone: the CPU's answers, twice.
#[test]
fn fits_are_those_of_the_cpu_bit_for_bit() {
    let Some(_) = gpu() else { return };
    let mut cuda = open(CudaOptions::default());
    for case in CASES {
        let about = format!("{} points, d = {}, k = {}, {:?}", case.n, case.d, case.k, case.odd);
        let (values, weights, settings) = (case.values(), case.weights(), case.settings());
        let start = case.start(&values);
        let question = |weights, seed| Question { weights, seed, start: start.as_deref() };
        let both = [question(weights.as_deref(), 5), question(None, 9)];
        let fit = |points: &dyn Loaded, of: &[Question<'_>]| {
            fit_all(points, case.n, of, &settings, &mut |_, _| {}).unwrap()
        };
        let mut cpu = Cpu::<f32>::default();
        let expected = fit(cpu.load_points(&values, case.d).unwrap().as_ref(), &both);
        let points = cuda.load_points(&values, case.d).unwrap();
        let found = fit(points.as_ref(), &both);
        assert_eq!(found.len(), 2);
        let alone = fit(points.as_ref(), &both[1..]);
        assert_same(&found[0], &expected[0], &about);
        assert_same(&found[1], &expected[1], &about);
        assert_same(&alone[0], &expected[1], &about);
    }
}

#[test]
fn chosen_points_and_moments_are_those_of_the_cpu() {
    let Some(_) = gpu() else { return };
    let mut cuda = open(CudaOptions::default());
    for case in CASES.iter().filter(|c| c.odd != Odd::Start) {
        let (values, weights) = (case.values(), case.weights());
        let weights = [None, weights.as_deref()];
        let mut cpu = Cpu::<f32>::default();
        let host = cpu.load_points(&values, case.d).unwrap();
        let points = cuda.load_points(&values, case.d).unwrap();
        assert_eq!(points.moments().unwrap(), host.moments().unwrap());
        let draws: Vec<Draws> = (0..3).map(|r| seeding::draws(case.n, case.k, 4, r)).collect();
        let together = points.runs(&weights, &[1, 0, 1], case.k).unwrap().seed(&draws).unwrap();
        for (run, space) in [1, 0, 1].into_iter().enumerate() {
            let own = &draws[run..=run];
            let mut alone = host.runs(&weights, &[space], case.k).unwrap();
            assert_eq!(together[run..=run], alone.seed(own).unwrap()[..], "k = {}", case.k);
        }
    }
}

#[test]
fn partitions_are_those_of_the_cpu() {
    let Some(_) = gpu() else { return };
    let mut cuda = open(CudaOptions::default());
    let case = case(300, 7, 6, Odd::Copies);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("embedding.safetensors");
    let rows: Vec<u32> = (0..300).step_by(2).collect();
    for fitted in [None, Some(&rows[..])] {
        embedding::write(&path, &case.values(), case.d, fitted, &[]).unwrap();
        let embedding = Embedding::open(&path).unwrap();
        for diversity in [Diversity::Scale, Diversity::Half, Diversity::Grow] {
            let request = Request {
                tasks: 3,
                diversity,
                settings: Settings { restarts: 2, ..case.settings() },
                replacement: true,
                least_size: 12,
            };
            let of =
                |device: &mut dyn Device| partitions(device, &embedding, &request, None, |_, _| {}).unwrap();
            let (expected, found) = (of(&mut Cpu::<f32>::default()), of(&mut cuda));
            for (a, b) in expected.iter().zip(&found) {
                assert_eq!((&a.labels, &a.metric, &a.centres), (&b.labels, &b.metric, &b.centres));
                assert_eq!((a.clusters, a.iterations), (b.clusters, b.iterations));
                assert_eq!(a.inertia.to_bits(), b.inertia.to_bits());
            }
        }
    }
}

/// A limit on iterations, none at all, and a tolerance that is never met.
#[test]
fn limits_stop_as_on_the_cpu() {
    let Some(_) = gpu() else { return };
    let mut cuda = open(CudaOptions::default());
    let case = case(400, 5, 6, Odd::Nothing);
    let values = case.values();
    let points = cuda.load_points(&values, case.d).unwrap();
    let mut cpu = Cpu::<f32>::default();
    let host = cpu.load_points(&values, case.d).unwrap();
    for (max_iterations, tolerance) in [(0, 1e-4), (1, 1e-4), (3, 0.0), (300, 0.0), (300, 10.0)] {
        let settings = Settings { max_iterations, tolerance, ..case.settings() };
        let question = [Question { weights: None, seed: 3, start: None }];
        let of = |points: &dyn Loaded| {
            fit_all(points, case.n, &question, &settings, &mut |_, _| {}).unwrap().remove(0)
        };
        let (expected, found) = (of(host.as_ref()), of(points.as_ref()));
        assert!(found.iterations <= max_iterations);
        assert_same(
            &found,
            &expected,
            &format!("at most {max_iterations} iterations, tolerance {tolerance}"),
        );
    }
}

/// Numbers that are not finite do not hang or corrupt anything.
#[test]
fn points_that_are_not_finite_are_labelled_as_on_the_cpu() {
    let Some(_) = gpu() else { return };
    let mut cuda = open(CudaOptions::default());
    let (d, k) = (3, 4);
    let mut values = case(200, d, k, Odd::Nothing).values();
    (values[10], values[31], values[62]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
    let start: Vec<f64> = values[300..300 + k * d].iter().map(|&v| v.into()).collect();
    let of = |device: &mut dyn Device| {
        let points = device.load_points(&values, d).unwrap();
        let mut runs = points.runs(&[None], &[0], k).unwrap();
        runs.start(&[&start]).unwrap();
        runs.assign(&[0]).unwrap();
        runs.labels(0).unwrap()
    };
    assert_eq!(of(&mut cuda), of(&mut Cpu::<f32>::default()));
}

/// Every kernel in every variant keeps what it has in registers.
#[test]
fn nothing_is_spilled() {
    let Some(gpu) = gpu().filter(|gpu| gpu.is_simulated()) else { return };
    let ptxas = gpu.nvrtc.join("../../bin/ptxas");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kernels.ptx");
    for architecture in [80, 90, 100] {
        let compiler = Compiler::new(architecture).unwrap();
        let mut units: Vec<Unit> = functions().iter().map(Unit::of).collect();
        units.dedup();
        for unit in units {
            let ptx = compiler.image(&unit, Image::Ptx).unwrap();
            std::fs::write(&path, ptx.strip_suffix(&[0]).unwrap_or(&ptx)).unwrap();
            let mut command = std::process::Command::new(&ptxas);
            command.args(["-v", "-o", "/dev/null", &format!("--gpu-name=sm_{architecture}")]).arg(&path);
            let output = command.output().unwrap();
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{text}");
            let spills: Vec<&str> = text.lines().filter(|l| l.contains("bytes spill stores")).collect();
            assert!(!spills.is_empty(), "{text}");
            let clean = |line: &&str| line.contains(" 0 bytes spill stores, 0 bytes spill loads");
            assert!(spills.iter().all(clean), "{} for sm_{architecture}: {text}", unit.name());
        }
    }
}
