//! f32, f64 and f16 arithmetic, comparisons and the special unit.

use crate::forms::Kind::*;
use crate::forms::{case, check, near};
use crate::gpu::gpu;
use cuda::half::{f16_from_f64, f16_to_f32};

fn f(x: u64) -> f32 {
    f32::from_bits(x as u32)
}

fn b(x: f32) -> u64 {
    x.to_bits() as u64
}

fn g(x: u64) -> f64 {
    f64::from_bits(x)
}

fn h(x: u64) -> f64 {
    f16_to_f32(x as u32) as f64
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
            case("add.rz.f32 %0, %1, %2;", F, &[F, F], |x, y, _| {
                b(toward_zero(f(x) as f64 + f(y) as f64, x, y))
            }),
        ],
    );
}

/// The sum of two f32 rounded to zero. The operands are within 2^40 of each other, so f64 holds it nearly exactly.
fn toward_zero(sum: f64, x: u64, y: u64) -> f32 {
    let near = sum as f32;
    if !near.is_finite() {
        return near;
    }
    // Recompute exactly what f64 may have lost.
    let (a, c) = (f(x) as f64, f(y) as f64);
    let part = sum - a;
    let lost = (a - (sum - part)) + (c - part);
    let above = near as f64 > sum || (near as f64 == sum && lost < 0.0);
    let below = (near as f64) < sum || (near as f64 == sum && lost > 0.0);
    match sum > 0.0 {
        true if above => near.next_down(),
        false if below => near.next_up(),
        _ => near,
    }
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

#[test]
fn half_precision() {
    let Some(gpu) = gpu() else { return };
    check(
        &gpu,
        &[
            case("add.f16 %0, %1, %2;", X, &[X, X], |x, y, _| f16_from_f64(h(x) + h(y)) as u64),
            case("sub.f16 %0, %1, %2;", X, &[X, X], |x, y, _| f16_from_f64(h(x) - h(y)) as u64),
            case("mul.f16 %0, %1, %2;", X, &[X, X], |x, y, _| f16_from_f64(h(x) * h(y)) as u64),
            case("fma.rn.f16 %0, %1, %2, %3;", X, &[X, X, X], |x, y, z| {
                f16_from_f64(h(x) * h(y) + h(z)) as u64
            }),
            case(
                "{ .reg .b32 a, b, c; mov.b32 a, {%1, %2}; add.f16x2 b, a, a; .reg .b16 l, u; mov.b32 {l, u}, b; \
                  mov.b16 %0, u; }",
                X,
                &[X, X],
                |_, y, _| f16_from_f64(2.0 * h(y)) as u64,
            ),
        ],
    );
}

#[test]
fn comparisons() {
    let Some(gpu) = gpu() else { return };
    let bit = |x: bool| x as u64;
    let _ = bit;
    check(
        &gpu,
        &[
            case("{ .reg .pred p; setp.lt.f32 p, %1, %2; selp.u32 %0, 1, 0, p; }", W, &[F, F], |x, y, _| {
                (f(x) < f(y)) as u64
            }),
            case("{ .reg .pred p; setp.geu.f32 p, %1, %2; selp.u32 %0, 1, 0, p; }", W, &[F, F], |x, y, _| {
                (f(x) >= f(y) || f(x).is_nan() || f(y).is_nan()) as u64
            }),
            case("{ .reg .pred p; setp.num.f32 p, %1, %2; selp.u32 %0, 1, 0, p; }", W, &[F, F], |x, y, _| {
                (!f(x).is_nan() && !f(y).is_nan()) as u64
            }),
            case("{ .reg .pred p; setp.nan.f32 p, %1, %2; selp.u32 %0, 1, 0, p; }", W, &[F, F], |x, y, _| {
                (f(x).is_nan() || f(y).is_nan()) as u64
            }),
            case("{ .reg .pred p; setp.eq.f64 p, %1, %2; selp.u32 %0, 1, 0, p; }", W, &[G, G], |x, y, _| {
                (g(x) == g(y)) as u64
            }),
            case("{ .reg .pred p; setp.lt.s32 p, %1, %2; selp.u32 %0, 1, 0, p; }", W, &[W, W], |x, y, _| {
                ((x as i32) < y as i32) as u64
            }),
            case("{ .reg .pred p; setp.lo.u32 p, %1, %2; selp.u32 %0, 1, 0, p; }", W, &[W, W], |x, y, _| {
                (x < y) as u64
            }),
            case("{ .reg .pred p; setp.ge.s64 p, %1, %2; selp.u32 %0, 1, 0, p; }", W, &[D, D], |x, y, _| {
                (x as i64 >= y as i64) as u64
            }),
            case(
                "{ .reg .pred p, q; setp.gt.u32 q, %3, 100; setp.ne.and.u32 p, %1, %2, q; selp.u32 %0, 1, 0, p; }",
                W,
                &[W, W, W],
                |x, y, z| (x != y && z > 100) as u64,
            ),
            case(
                "{ .reg .pred p, q; setp.gt.u32 p|q, %1, %2; selp.u32 %0, 2, 3, q; }",
                W,
                &[W, W],
                |x, y, _| {
                    if x > y { 3 } else { 2 }
                },
            ),
            case(
                "set.lt.u32.f32 %0, %1, %2;",
                W,
                &[F, F],
                |x, y, _| if f(x) < f(y) { 0xffff_ffff } else { 0 },
            ),
            case("set.gt.f32.s32 %0, %1, %2;", F, &[W, W], |x, y, _| b(((x as i32) > y as i32) as u8 as f32)),
            case("slct.f32.s32 %0, %1, %2, %3;", F, &[F, F, W], |x, y, z| if z as i32 >= 0 { x } else { y }),
            case("{ .reg .pred p; testp.finite.f32 p, %1; selp.u32 %0, 1, 0, p; }", W, &[F], |x, _, _| {
                f(x).is_finite() as u64
            }),
            case("{ .reg .pred p; testp.subnormal.f32 p, %1; selp.u32 %0, 1, 0, p; }", W, &[F], |x, _, _| {
                f(x).is_subnormal() as u64
            }),
        ],
    );
}
