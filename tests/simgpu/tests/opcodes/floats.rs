//! f32 and f64 arithmetic and the special unit.

use crate::forms::Kind::*;
use crate::forms::{case, check, near};
use crate::gpu::gpu;

fn f(x: u64) -> f32 {
    f32::from_bits(x as u32)
}

fn b(x: f32) -> u64 {
    x.to_bits() as u64
}

fn g(x: u64) -> f64 {
    f64::from_bits(x)
}

fn min(x: f32, y: f32) -> f32 {
    if x.is_nan() || y < x || (x == y && y.is_sign_negative()) { y } else { x }
}

#[test]
fn single_precision() {
    let Some(gpu) = gpu() else { return };
    check(
        &gpu,
        &[
            case("add.f32 %0, %1, %2;", F, &[F, F], |x, y, _| b(f(x) + f(y))),
            case("add.rn.f32 %0, %1, %2;", F, &[F, F], |x, y, _| b(f(x) + f(y))),
            case("sub.f32 %0, %1, %2;", F, &[F, F], |x, y, _| b(f(x) - f(y))),
            case("mul.rn.f32 %0, %1, %2;", F, &[F, F], |x, y, _| b(f(x) * f(y))),
            case("fma.rn.f32 %0, %1, %2, %3;", F, &[F, F, F], |x, y, z| b(f(x).mul_add(f(y), f(z)))),
            case("mad.rn.f32 %0, %1, %2, %3;", F, &[F, F, F], |x, y, z| b(f(x).mul_add(f(y), f(z)))),
            case("div.rn.f32 %0, %1, %2;", F, &[F, F], |x, y, _| b(f(x) / f(y))),
            case("sqrt.rn.f32 %0, %1;", F, &[F], |x, _, _| b(f(x).sqrt())),
            case("rcp.rn.f32 %0, %1;", F, &[F], |x, _, _| b(1.0 / f(x))),
            case("neg.f32 %0, %1;", F, &[F], |x, _, _| b(-f(x))),
            case("abs.f32 %0, %1;", F, &[F], |x, _, _| b(f(x).abs())),
            case("min.f32 %0, %1, %2;", F, &[F, F], |x, y, _| b(min(f(x), f(y)))),
            case("max.f32 %0, %1, %2;", F, &[F, F], |x, y, _| b(-min(-f(x), -f(y)))),
            case("add.sat.f32 %0, %1, %2;", F, &[F, F], |x, y, _| {
                let sum = f(x) + f(y);
                if sum > 0.0 { b(sum.min(1.0)) } else { 0 }
            }),
            case("copysign.f32 %0, %1, %2;", F, &[F, F], |x, y, _| x & 0x8000_0000 | y & 0x7fff_ffff),
        ],
    );
}

#[test]
fn the_special_unit() {
    let Some(gpu) = gpu() else { return };
    check(
        &gpu,
        &[
            near(case("ex2.approx.f32 %0, %1;", F, &[F], |x, _, _| b(f(x).exp2())), 1e-6),
            near(case("ex2.approx.ftz.f32 %0, %1;", F, &[F], |x, _, _| b(f(x).exp2())), 1e-6),
            near(case("lg2.approx.f32 %0, %1;", F, &[F], |x, _, _| b(f(x).log2())), 1e-6),
            near(case("sin.approx.f32 %0, %1;", F, &[F], |x, _, _| b((f(x) as f64).sin() as f32)), 1e-5),
            near(case("cos.approx.f32 %0, %1;", F, &[F], |x, _, _| b((f(x) as f64).cos() as f32)), 1e-5),
            near(case("tanh.approx.f32 %0, %1;", F, &[F], |x, _, _| b(f(x).tanh())), 1e-6),
            near(
                case("rsqrt.approx.f32 %0, %1;", F, &[F], |x, _, _| b((1.0 / (f(x) as f64).sqrt()) as f32)),
                1e-6,
            ),
            near(case("rcp.approx.f32 %0, %1;", F, &[F], |x, _, _| b(1.0 / f(x))), 1e-6),
            near(case("sqrt.approx.f32 %0, %1;", F, &[F], |x, _, _| b(f(x).sqrt())), 1e-6),
            near(case("div.full.f32 %0, %1, %2;", F, &[F, F], |x, y, _| b(f(x) / f(y))), 1e-6),
            near(case("div.approx.f32 %0, %1, %2;", F, &[F, F], |x, y, _| b(f(x) / f(y))), 1e-6),
        ],
    );
}

#[test]
fn double_precision() {
    let Some(gpu) = gpu() else { return };
    check(
        &gpu,
        &[
            case("add.f64 %0, %1, %2;", G, &[G, G], |x, y, _| (g(x) + g(y)).to_bits()),
            case("sub.rn.f64 %0, %1, %2;", G, &[G, G], |x, y, _| (g(x) - g(y)).to_bits()),
            case("mul.f64 %0, %1, %2;", G, &[G, G], |x, y, _| (g(x) * g(y)).to_bits()),
            case("fma.rn.f64 %0, %1, %2, %3;", G, &[G, G, G], |x, y, z| g(x).mul_add(g(y), g(z)).to_bits()),
            case("div.rn.f64 %0, %1, %2;", G, &[G, G], |x, y, _| (g(x) / g(y)).to_bits()),
            case("sqrt.rn.f64 %0, %1;", G, &[G], |x, _, _| g(x).sqrt().to_bits()),
            case("rcp.rn.f64 %0, %1;", G, &[G], |x, _, _| (1.0 / g(x)).to_bits()),
            case("neg.f64 %0, %1;", G, &[G], |x, _, _| (-g(x)).to_bits()),
            case("abs.f64 %0, %1;", G, &[G], |x, _, _| g(x).abs().to_bits()),
            case("max.f64 %0, %1, %2;", G, &[G, G], |x, y, _| {
                let (x, y) = (g(x), g(y));
                let first = y.is_nan() || x > y || (x == y && x.is_sign_positive());
                if first { x.to_bits() } else { y.to_bits() }
            }),
        ],
    );
}
