//! Every example of every family of `ops::ALL`: values, adjoints, tangents and second derivatives against the
//! CPU device in double precision.

use tessera::device::cuda::Mode;
use tessera::device::{Cpu, CudaOptions, Device, Precision};
use tessera::error::Result;
use tessera::ops::example::HostTensor;
use tessera::ops::{self, Example};
use tessera::random::uniform_at;
use tessera::tape::gradcheck::{self, Point};
use tessera::tape::{Kind, Tape, Var};
use tessera::tensor::Shape;

use crate::harness;

fn examples() -> impl Iterator<Item = Example> {
    ops::ALL.iter().flat_map(|family| (family.examples)())
}

/// Value, adjoints in a random direction, tangent along random seeds, and the derivative of the adjoints along
/// them, of a smooth function of the example's value.
fn everything(t: &mut Tape, example: &Example, point: &Point, v: &[Var], extra: &[Var]) -> Vec<Var> {
    let y = (example.build)(t, v);
    let reals = point.reals();
    if t.node(y).kind != Kind::Real || reals.is_empty() {
        return vec![y];
    }
    let half = t.scale(y, 0.5);
    let e = t.exp(half);
    let loss = t.sum(e);
    let wrt: Vec<Var> = reals.iter().map(|&i| v[i]).collect();
    let grads = t.reverse(loss, None, &wrt);
    let seeds: Vec<(Var, Var)> = wrt.iter().copied().zip(extra.iter().copied()).collect();
    let mut targets = vec![y];
    targets.extend(&grads);
    let tangents = t.tangent(&seeds, &targets);
    targets.into_iter().chain(tangents.into_iter().flatten()).collect()
}

fn evaluate(device: &mut dyn Device, example: &Example, point: &Point) -> Result<Vec<Vec<f64>>> {
    let direction: Vec<HostTensor> = point
        .reals()
        .iter()
        .map(|&i| {
            let like = &point.values[i];
            let draw = |at: usize| 2.0 * uniform_at([9, i as u32, 0, 0], 0, at as u64) - 1.0;
            HostTensor { shape: like.shape, values: (0..like.len()).map(draw).collect() }
        })
        .collect();
    gradcheck::evaluate(device, point, &direction, |t, v, extra| everything(t, example, point, v, extra))
}

fn agree(options: CudaOptions, tolerance: f64, skip: impl Fn(&Example) -> bool) {
    if harness::gpu().is_none() {
        return;
    }
    let mut cuda = harness::open(options);
    let (mut count, mut failures) = (0, Vec::new());
    let mut worst: f64 = 0.0;
    for example in examples().filter(|e| !skip(e)) {
        count += 1;
        let point = Point::draw(&example.operands, 1);
        let exact = evaluate(&mut Cpu::<f64>::default(), &example, &point).unwrap();
        match evaluate(&mut cuda, &example, &point) {
            Err(e) => failures.push(format!("{}: {e}", example.name)),
            Ok(found) => {
                for (i, (f, e)) in found.iter().zip(&exact).enumerate() {
                    let off = gradcheck::deviation(f, e);
                    worst = worst.max(off);
                    if off.is_nan() || off >= tolerance {
                        failures.push(format!("{}, output {i}: off by {off:.2e}", example.name));
                    }
                }
            }
        }
    }
    assert!(count > 10, "only {count} examples");
    eprintln!("{count} examples, {options:?}: off by {worst:.1e} at most");
    assert!(failures.is_empty(), "{} of {count} failed:\n{}", failures.len(), failures.join("\n"));
}

fn products_only(example: &Example) -> bool {
    !example.name.contains("conv") && !example.name.contains("matmul")
}

#[test]
fn every_operation_agrees_in_single_precision() {
    agree(CudaOptions::default(), 3e-5, |_| false);
}

#[test]
fn every_operation_agrees_without_fusion() {
    agree(CudaOptions { fuse: false, mode: Mode::Steps, ..CudaOptions::default() }, 3e-5, |_| false);
}

/// TF32 keeps 10 bits of a factor's mantissa, BF16 keeps 7.
#[test]
fn products_agree_on_tensor_cores() {
    agree(CudaOptions { precision: Precision::Tf32, ..CudaOptions::default() }, 1e-2, products_only);
    agree(CudaOptions { precision: Precision::Bf16, ..CudaOptions::default() }, 8e-2, products_only);
}

/// One program on given operands, on both devices.
fn both(point: &Point, build: impl Fn(&mut Tape, &[Var]) -> Vec<Var>) -> [Vec<Vec<f64>>; 2] {
    let mut cuda = harness::open(CudaOptions::default());
    let found = gradcheck::evaluate(&mut cuda, point, &[], |t, v, _| build(t, v)).unwrap();
    let exact = gradcheck::evaluate(&mut Cpu::<f32>::default(), point, &[], |t, v, _| build(t, v)).unwrap();
    [found, exact]
}

fn tensor(shape: &[usize], seed: u32) -> HostTensor {
    let len = shape.iter().product::<usize>();
    let draw = |at| 2.0 * uniform_at([seed, 0, 0, 0], 0, at as u64) - 1.0;
    let values = (0..len).map(|at| f64::from(draw(at) as f32)).collect();
    HostTensor { shape: Shape::new(shape), values }
}

fn real_point(shapes: &[&[usize]]) -> Point {
    let values = shapes.iter().enumerate().map(|(i, s)| tensor(s, i as u32)).collect();
    Point { kinds: vec![Kind::Real; shapes.len()], values }
}

fn assert_close([found, exact]: [Vec<Vec<f64>>; 2], tolerance: f64, what: &str) {
    for (i, (f, e)) in found.iter().zip(&exact).enumerate() {
        let off = gradcheck::deviation(f, e);
        assert!(off < tolerance, "{what}, output {i}: off by {off:.2e}");
    }
}

/// Sums of every kind of path: short and long rows, few and many columns, several passes, tails.
#[test]
fn sums_of_every_shape_agree() {
    if harness::gpu().is_none() {
        return;
    }
    for (outer, count, inner) in [
        (1, 1, 1),
        (3, 10, 1),
        (100, 17, 1),
        (5, 1000, 1),
        (2, 1025, 1),
        (1, 30_011, 1),
        (1, 700, 3),
        (2, 333, 10),
        (1, 5000, 64),
        (3, 7, 256),
        (2, 70, 300),
        (1, 4001, 48),
    ] {
        let point = real_point(&[&[outer, count, inner]]);
        let results = both(&point, |t, v| vec![t.sum_to(v[0], [outer, 1, inner])]);
        assert_close(results, 2e-6, &format!("[{outer}, {count}, {inner}]"));
    }
}

/// Elementwise operations are those of the CPU, bit for bit where the function itself is.
#[test]
fn elementwise_arithmetic_is_exact() {
    if harness::gpu().is_none() {
        return;
    }
    for len in [1, 3, 4, 1023, 1024, 4099] {
        let point = real_point(&[&[len], &[len], &[]]);
        let [found, exact] = both(&point, |t, v| {
            let product = t.mul(v[0], v[1]);
            let sum = t.add(product, v[2]);
            let quotient = t.div(sum, v[1]);
            let leaky = t.leaky_relu(quotient, 0.2);
            let scaled = t.scale(leaky, 0.3);
            let root = t.mul(scaled, scaled);
            vec![t.sqrt(root), sum]
        });
        assert_eq!(found, exact, "{len} elements");
    }
}

#[test]
fn uniform_draws_are_those_of_the_cpu() {
    if harness::gpu().is_none() {
        return;
    }
    for len in [1, 5, 1000, 4097] {
        let values = vec![HostTensor { shape: [4].into(), values: vec![1.0, 4e9, 17.0, 3.0] }];
        let point = Point { kinds: vec![Kind::U32], values };
        let [found, exact] =
            both(&point, |t, v| vec![t.random_uniform(v[0], 5, [len]), t.random_normal(v[0], 6, [len])]);
        assert_eq!(found[0], exact[0], "{len} uniform draws");
        let near = |(f, e): (&f64, &f64)| (f - e).abs() <= e.abs() * f64::from(f32::EPSILON);
        assert!(found[1].iter().zip(&exact[1]).all(near), "{len} normal draws");
    }
}
