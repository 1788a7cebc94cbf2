//! Directed roundings, saturation, `.ftz` (which keeps subnormal numbers here), NaN, ReLU, and short floats.

use crate::forms::Kind::*;
use crate::forms::{Case, case, check, near};
use crate::gpu::gpu;
use cuda::half::*;

fn f(x: u64) -> f32 {
    f32::from_bits(x as u32)
}

fn b(x: f32) -> u64 {
    x.to_bits() as u64
}

fn h(x: u64) -> f64 {
    f16_to_f32(x as u32) as f64
}

fn bf(x: u64) -> f64 {
    bf16_to_f32(x as u32) as f64
}

/// The neighbour of the nearest number that a direction asks for; `rest` has the sign of what the nearest one lacks.
fn directed(name: &str, nearest: f32, rest: f64) -> f32 {
    match (name, rest.partial_cmp(&0.0)) {
        ("rz", Some(std::cmp::Ordering::Less)) if nearest > 0.0 => nearest.next_down(),
        ("rz", Some(std::cmp::Ordering::Greater)) if nearest < 0.0 => nearest.next_up(),
        ("rm", Some(std::cmp::Ordering::Less)) => nearest.next_down(),
        ("rp", Some(std::cmp::Ordering::Greater)) => nearest.next_up(),
        _ => nearest,
    }
}

/// `x y + z` rounded in a direction. The product of two f32 is exact in f64; what is left of a sum is found in two steps.
fn fused(name: &str, x: f32, y: f32, z: f32) -> u64 {
    let product = x as f64 * y as f64;
    let nearest = x.mul_add(y, z);
    if name == "rm"
        && z.is_finite()
        && product == -z as f64
        && product.is_sign_negative() != z.is_sign_negative()
    {
        return b(-0.0);
    }
    let sum = product + z as f64;
    let part = sum - product;
    let lost = (product - (sum - part)) + (z as f64 - part);
    b(directed(name, nearest, (sum - nearest as f64) + lost))
}

#[test]
fn directions() {
    let Some(gpu) = gpu() else { return };
    let mut cases: Vec<Case> = Vec::new();
    for name in ["rn", "rz", "rm", "rp"] {
        for ftz in ["", ".ftz"] {
            let text = |op: &str, rest: &str| format!("{op}.{name}{ftz}.f32 %0, %1, %2{rest};");
            cases.push(case(text("add", ""), F, &[F, F], move |x, y, _| fused(name, f(x), 1.0, f(y))));
            cases.push(case(text("sub", ""), F, &[F, F], move |x, y, _| fused(name, f(x), 1.0, -f(y))));
            cases.push(case(text("mul", ""), F, &[F, F], move |x, y, _| {
                let nearest = f(x) * f(y);
                b(directed(name, nearest, f(x) as f64 * f(y) as f64 - nearest as f64))
            }));
            for op in ["fma", "mad"] {
                let reference = move |x, y, z| fused(name, f(x), f(y), f(z));
                cases.push(case(text(op, ", %3"), F, &[F, F, F], reference));
            }
        }
    }
    for name in ["rz", "rm", "rp"] {
        cases.push(case(format!("cvt.{name}.f32.f64 %0, %1;"), F, &[G], move |x, _, _| {
            let x = f64::from_bits(x);
            b(directed(name, x as f32, x - x as f32 as f64))
        }));
        cases.push(case(format!("cvt.{name}.f32.s32 %0, %1;"), F, &[W], move |x, _, _| {
            let x = x as i32;
            b(directed(name, x as f32, x as f64 - x as f32 as f64))
        }));
    }
    check(&gpu, &cases);
}

fn saturated(x: f32) -> u64 {
    if x > 0.0 { b(x.min(1.0)) } else { 0 }
}

fn keeps_nan(x: f32, y: f32, smaller: bool) -> u64 {
    let first = if x == y { x.is_sign_negative() == smaller } else { (x < y) == smaller };
    if x.is_nan() || y.is_nan() { b(f32::NAN) } else { b(if first { x } else { y }) }
}

fn loses_nan(x: f32, y: f32, smaller: bool) -> u64 {
    match (x.is_nan(), y.is_nan()) {
        (true, _) => b(y),
        (_, true) => b(x),
        _ => keeps_nan(x, y, smaller),
    }
}

#[test]
fn limits() {
    let Some(gpu) = gpu() else { return };
    check(
        &gpu,
        &[
            case("sub.sat.f32 %0, %1, %2;", F, &[F, F], |x, y, _| saturated(f(x) - f(y))),
            case("mul.sat.f32 %0, %1, %2;", F, &[F, F], |x, y, _| saturated(f(x) * f(y))),
            case("fma.rn.sat.f32 %0, %1, %2, %3;", F, &[F, F, F], |x, y, z| {
                saturated(f(x).mul_add(f(y), f(z)))
            }),
            case("mad.rn.sat.f32 %0, %1, %2, %3;", F, &[F, F, F], |x, y, z| {
                saturated(f(x).mul_add(f(y), f(z)))
            }),
            case("min.NaN.f32 %0, %1, %2;", F, &[F, F], |x, y, _| keeps_nan(f(x), f(y), true)),
            case("max.NaN.f32 %0, %1, %2;", F, &[F, F], |x, y, _| keeps_nan(f(x), f(y), false)),
            case("min.ftz.f32 %0, %1, %2;", F, &[F, F], |x, y, _| loses_nan(f(x), f(y), true)),
            case("max.ftz.f32 %0, %1, %2;", F, &[F, F], |x, y, _| loses_nan(f(x), f(y), false)),
            case("abs.ftz.f32 %0, %1;", F, &[F], |x, _, _| b(f(x).abs())),
            case("neg.ftz.f32 %0, %1;", F, &[F], |x, _, _| b(-f(x))),
            case("cvt.ftz.f32.f16 %0, %1;", F, &[X], |x, _, _| b(h(x) as f32)),
            near(case("lg2.approx.ftz.f32 %0, %1;", F, &[F], |x, _, _| b(f(x).log2())), 1e-6),
            near(case("sin.approx.ftz.f32 %0, %1;", F, &[F], |x, _, _| b((f(x) as f64).sin() as f32)), 1e-5),
            near(case("cos.approx.ftz.f32 %0, %1;", F, &[F], |x, _, _| b((f(x) as f64).cos() as f32)), 1e-5),
            near(
                case("rsqrt.approx.ftz.f32 %0, %1;", F, &[F], |x, _, _| {
                    b((1.0 / (f(x) as f64).sqrt()) as f32)
                }),
                1e-6,
            ),
            near(case("rcp.approx.ftz.f32 %0, %1;", F, &[F], |x, _, _| b(1.0 / f(x))), 1e-6),
            near(case("sqrt.approx.ftz.f32 %0, %1;", F, &[F], |x, _, _| b(f(x).sqrt())), 1e-6),
            near(case("div.approx.ftz.f32 %0, %1, %2;", F, &[F, F], |x, y, _| b(f(x) / f(y))), 1e-6),
            near(
                case("rsqrt.approx.f64 %0, %1;", G, &[G], |x, _, _| {
                    (1.0 / f64::from_bits(x).sqrt()).to_bits()
                }),
                1e-6,
            ),
        ],
    );
}

/// The bits of a short float, single or as the upper half of a pair whose lower half is its negative.
#[test]
fn short_floats() {
    let Some(gpu) = gpu() else { return };
    type Format = (&'static str, fn(u64) -> f64, fn(f64) -> u32);
    let formats: [Format; 2] = [("f16", h, f16_from_f64), ("bf16", bf, bf16_from_f64)];
    let mut cases: Vec<Case> = Vec::new();
    for (ty, wide, short) in formats {
        let bits = move |value: f64| if value.is_nan() { 0x7fff } else { short(value) as u64 };
        let add = |cases: &mut Vec<Case>, op: &str, value: fn(f64, f64, f64) -> f64, operands: usize| {
            let places = ["", ", %1", ", %1, %2", ", %1, %2, %3"][operands];
            let text = format!("{op}.{ty} %0{places};");
            let reference = move |x, y, z| bits(value(wide(x), wide(y), wide(z)));
            cases.push(case(text, H, &[X, X, X][..operands], reference));
            // The upper half of a pair; the lower half holds the first operand throughout.
            let mut text = "{ .reg .b32 a, b, c, d; .reg .b16 l, u; mov.b32 a, {%1, %1}; ".to_string();
            text += ["", "", "mov.b32 b, {%1, %2}; ", "mov.b32 b, {%1, %2}; mov.b32 c, {%1, %3}; "][operands];
            text += &format!("{op}.{ty}x2 d{}; ", ["", ", a", ", a, b", ", a, b, c"][operands]);
            text += "mov.b32 {l, u}, d; mov.b16 %0, u; }";
            cases.push(case(text, H, &[X, X, X][..operands], reference));
        };
        add(&mut cases, "add", |x, y, _| x + y, 2);
        add(&mut cases, "sub", |x, y, _| x - y, 2);
        add(&mut cases, "mul", |x, y, _| x * y, 2);
        add(&mut cases, "fma.rn", |x, y, z| x.mul_add(y, z), 3);
        add(&mut cases, "fma.rn.relu", |x, y, z| relu(x.mul_add(y, z)), 3);
        add(&mut cases, "min", |x, y, _| extreme(x, y, true), 2);
        add(&mut cases, "max", |x, y, _| extreme(x, y, false), 2);
        let relu_text = format!("cvt.rn.relu.{ty}.f32 %0, %1;");
        cases.push(case(relu_text, H, &[F], move |x, _, _| bits(relu(f(x) as f64))));
        for (op, mask) in [("neg", 0x8000u64), ("abs", 0)] {
            let reference = move |x: u64, _, _| if mask == 0 { x & 0x7fff } else { x ^ mask };
            cases.push(case(format!("{op}.{ty} %0, %1;"), H, &[X], reference));
        }
    }
    let saturated = |x: f64| if x > 0.0 { f16_from_f64(x.min(1.0)) as u64 } else { 0 };
    for (op, value) in [("add", (|x, y| x + y) as fn(f64, f64) -> f64), ("mul", |x, y| x * y)] {
        cases.push(case(format!("{op}.sat.f16 %0, %1, %2;"), H, &[X, X], move |x, y, _| {
            saturated(value(h(x), h(y)))
        }));
    }
    let toward_zero = |x: u64| {
        let (x, short) = (f(x) as f64, f16_from_f64(f(x) as f64));
        if x.is_nan() { 0x7fff } else { (short - (h(short as u64).abs() > x.abs()) as u32) as u64 }
    };
    cases.push(case("cvt.rz.f16.f32 %0, %1;", H, &[F], move |x, _, _| toward_zero(x)));
    cases.push(case("cvt.rz.bf16x2.f32 %0, %1, %2;", W, &[W, W], |x, y, _| x & 0xffff_0000 | y >> 16));
    for (op, value) in [("ex2", f64::exp2 as fn(f64) -> f64), ("tanh", f64::tanh)] {
        cases.push(near(
            case(format!("{op}.approx.f16 %0, %1;"), X, &[X], move |x, _, _| {
                f16_from_f64(value(h(x))) as u64
            }),
            1e-3,
        ));
    }
    cases.push(case("cvt.rn.tf32.f32 %0, %1;", W, &[W], |x, _, _| tf32_nearest_even(x as u32) as u64));
    check(&gpu, &cases);
}

/// A zero of either sign becomes +0.
fn relu(x: f64) -> f64 {
    if x <= 0.0 { 0.0 } else { x }
}

fn extreme(x: f64, y: f64, smaller: bool) -> f64 {
    match (x.is_nan(), y.is_nan()) {
        (true, _) => y,
        (_, true) => x,
        _ if x == y => {
            if x.is_sign_negative() == smaller {
                x
            } else {
                y
            }
        }
        _ => {
            if (x < y) == smaller {
                x
            } else {
                y
            }
        }
    }
}
