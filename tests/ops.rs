//! Every operation of `ops::ALL`: forward against a naive f64 reference, derivatives of first and
//! second order against differences and against each other, fused against unfused, one thread against
//! two, and no write outside an operand.

use tessera::device::cpu::Algorithm;
use tessera::device::{Cpu, CpuOptions, Device};
use tessera::ops::{self, Example};
use tessera::tape::Kind;
use tessera::tape::gradcheck::{self, Point};
use tessera::tensor::Real;

fn examples() -> impl Iterator<Item = Example> {
    ops::ALL.iter().flat_map(|family| (family.examples)())
}

fn cpu<T: Real>(options: CpuOptions) -> Cpu<T> {
    Cpu::new(options)
}

fn fenced() -> CpuOptions {
    CpuOptions { fence: 256, ..CpuOptions::default() }
}

/// Examples whose value is real and depends on a real operand.
fn differentiable() -> impl Iterator<Item = Example> {
    examples().filter(|e| !e.name.contains("argmax") && e.operands.iter().any(|o| o.kind == Kind::Real))
}

fn check_all(
    examples: impl Iterator<Item = Example>,
    check: impl Fn(&Example, &Point) -> Result<(), String>,
) {
    let mut count = 0;
    let failures: Vec<String> = examples
        .filter_map(|example| {
            count += 1;
            let point = Point::draw(&example.operands, 1);
            check(&example, &point).err().map(|e| format!("{}: {e}", example.name))
        })
        .collect();
    assert!(count > 10, "only {count} examples");
    assert!(failures.is_empty(), "{} of {count} failed:\n{}", failures.len(), failures.join("\n"));
}

fn below(what: &str, value: f64, tolerance: f64) -> Result<(), String> {
    // A comparison that also fails for a value that is not a number.
    if value < tolerance { Ok(()) } else { Err(format!("{what}: {value:.3e} is not below {tolerance:.0e}")) }
}

/// Rounding of F(4x4, 3x3) in single precision, whose matrices have elements up to 8, against that of
/// plain sums; in double precision it agrees to 1e-13 (unit tests of the CPU device).
const WINOGRAD: f64 = 1e-5;

fn direct() -> CpuOptions {
    CpuOptions { algorithm: Algorithm::Direct, ..fenced() }
}

fn forward_matches<T: Real>(options: CpuOptions, tolerance: f64) {
    check_all(examples(), |example, point| {
        let found = gradcheck::forward(&mut cpu::<T>(options), example, point).map_err(|e| e.to_string())?;
        let expected = (example.reference)(&point.values);
        below("forward", gradcheck::deviation(&found, &expected), tolerance)
    });
}

#[test]
fn forward_agrees_with_the_naive_reference_in_f64() {
    forward_matches::<f64>(fenced(), 1e-13);
}

#[test]
fn forward_agrees_with_the_naive_reference_in_f32() {
    forward_matches::<f32>(direct(), 3e-6);
    forward_matches::<f32>(fenced(), WINOGRAD);
}

#[test]
fn forward_agrees_without_fusion() {
    forward_matches::<f64>(CpuOptions { fuse: false, ..fenced() }, 1e-13);
    forward_matches::<f32>(CpuOptions { fuse: false, ..direct() }, 3e-6);
    forward_matches::<f32>(CpuOptions { fuse: false, ..fenced() }, WINOGRAD);
}

#[test]
fn adjoints_agree_with_differences() {
    check_all(differentiable(), |example, point| {
        let worst = gradcheck::vjp_against_differences(&mut cpu::<f64>(fenced()), &example.build, point);
        below("vjp", worst.map_err(|e| e.to_string())?, 1e-7)
    });
}

#[test]
fn tangents_are_the_transpose_of_adjoints() {
    check_all(differentiable(), |example, point| {
        for fuse in [true, false] {
            let mut device = cpu::<f64>(CpuOptions { fuse, ..fenced() });
            let worst = gradcheck::transpose(&mut device, &example.build, point);
            below("transpose", worst.map_err(|e| e.to_string())?, 1e-12)?;
        }
        Ok(())
    });
}

#[test]
fn second_derivatives_agree_three_ways() {
    check_all(differentiable(), |example, point| {
        let worst = gradcheck::second_order(&mut cpu::<f64>(fenced()), &example.build, point);
        let [reverse, forward, each_other] = worst.map_err(|e| e.to_string())?;
        below("reverse over reverse", reverse, 1e-6)?;
        below("forward over reverse", forward, 1e-6)?;
        below("the two", each_other, 1e-11)
    });
}

#[test]
fn second_derivatives_in_f32_agree_with_f64() {
    // The whole second-order program of each example, on the fast kernels.
    check_all(differentiable(), |example, point| {
        let program = |device: &mut dyn Device| {
            gradcheck::evaluate(device, point, &[], |t, v, _| {
                let y = (example.build)(t, v);
                let half = t.scale(y, 0.5);
                let e = t.exp(half);
                let loss = t.sum(e);
                let wrt: Vec<_> = point.reals().iter().map(|&i| v[i]).collect();
                let grads = t.reverse(loss, None, &wrt);
                let seeds: Vec<_> = wrt.iter().copied().zip(grads.iter().copied()).collect();
                let tangents = t.tangent(&seeds, &grads);
                grads.iter().copied().chain(tangents.into_iter().flatten()).collect()
            })
        };
        let exact = program(&mut cpu::<f64>(fenced())).map_err(|e| e.to_string())?;
        let fast = program(&mut cpu::<f32>(fenced())).map_err(|e| e.to_string())?;
        for (f, e) in fast.iter().zip(&exact) {
            below("f32", gradcheck::deviation(f, e), 3e-5)?;
        }
        Ok(())
    });
}

#[test]
fn threads_and_repetition_do_not_change_a_bit() {
    check_all(examples(), |example, point| {
        let with = |threads: usize| -> Result<Vec<f64>, String> {
            let pool =
                rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|e| e.to_string())?;
            pool.install(|| gradcheck::forward(&mut cpu::<f32>(CpuOptions::default()), example, point))
                .map_err(|e| e.to_string())
        };
        let (one, two, again) = (with(1)?, with(2)?, with(2)?);
        let bits = |v: &[f64]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        if bits(&one) != bits(&two) || bits(&two) != bits(&again) {
            Err("bits differ".into())
        } else {
            Ok(())
        }
    });
}

/// Trees of elementwise operations of every shape, with more operands than one expression may read.
#[test]
fn expressions_of_many_operands_are_split() {
    use tessera::ops::example::HostTensor;
    for shape in 0..40u32 {
        let count = 12 + shape as usize;
        let leaf = |i: usize| HostTensor {
            shape: [3].into(),
            values: (0..3).map(|j| 1.0 + ((i * 7 + j) % 11) as f64 / 10.0).collect(),
        };
        let point = Point { kinds: vec![Kind::Real; count], values: (0..count).map(leaf).collect() };
        let with = |fuse: bool| {
            let mut device = cpu::<f64>(CpuOptions { fuse, ..fenced() });
            let found = gradcheck::evaluate(&mut device, &point, &[], |t, v, _| {
                // Joins two neighbours at a drawn place until one is left.
                let mut values = v.to_vec();
                let mut round = 0;
                while values.len() > 1 {
                    let draw = tessera::random::uniform_at([shape, 0, 0, 0], 0, round);
                    let at = (draw * (values.len() - 1) as f64) as usize;
                    let joined = match round % 3 {
                        0 => t.add(values[at], values[at + 1]),
                        1 => t.sub(values[at], values[at + 1]),
                        _ => t.div(values[at], values[at + 1]),
                    };
                    values.splice(at..at + 2, [joined]);
                    round += 1;
                }
                values
            });
            found.unwrap().remove(0)
        };
        let (fused, plain) = (with(true), with(false));
        assert!(gradcheck::deviation(&fused, &plain) < 1e-12, "{count} operands: {fused:?} {plain:?}");
    }
}
