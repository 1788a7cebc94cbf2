//! `cvt` between all kinds of numbers.

use crate::forms::Kind::*;
use crate::forms::{case, check};
use crate::gpu::gpu;
use cuda::half::{bf16_from_f32, bf16_to_f32, f16_from_f32, f16_to_f32, tf32_nearest_away};

fn f(x: u64) -> f32 {
    f32::from_bits(x as u32)
}

fn b(x: f32) -> u64 {
    x.to_bits() as u64
}

#[test]
fn between_integers() {
    let Some(gpu) = gpu() else { return };
    check(
        &gpu,
        &[
            case("cvt.s64.s32 %0, %1;", D, &[W], |x, _, _| x as i32 as i64 as u64),
            case("cvt.u64.u32 %0, %1;", D, &[W], |x, _, _| x),
            case("cvt.u32.u64 %0, %1;", W, &[D], |x, _, _| x),
            case("cvt.s32.s8 %0, %1;", W, &[W], |x, _, _| x as i8 as u64),
            case("cvt.u32.u8 %0, %1;", W, &[W], |x, _, _| x & 255),
            case("cvt.s32.s16 %0, %1;", W, &[H], |x, _, _| x as i16 as u64),
            case("cvt.u32.u16 %0, %1;", W, &[H], |x, _, _| x),
            case("cvt.u16.u32 %0, %1;", H, &[W], |x, _, _| x),
            case("cvt.sat.u8.s32 %0, %1;", W, &[W], |x, _, _| (x as i32).clamp(0, 255) as u64),
            case("cvt.sat.s16.s32 %0, %1;", H, &[W], |x, _, _| (x as i32).clamp(-32768, 32767) as u64),
        ],
    );
}

#[test]
fn to_and_from_floats() {
    let Some(gpu) = gpu() else { return };
    check(
        &gpu,
        &[
            case("cvt.rn.f32.s32 %0, %1;", F, &[W], |x, _, _| b(x as i32 as f32)),
            case("cvt.rn.f32.u32 %0, %1;", F, &[W], |x, _, _| b(x as u32 as f32)),
            case("cvt.rn.f32.s64 %0, %1;", F, &[D], |x, _, _| b(x as i64 as f32)),
            case("cvt.rn.f64.u64 %0, %1;", G, &[D], |x, _, _| (x as f64).to_bits()),
            case("cvt.rn.f64.s32 %0, %1;", G, &[W], |x, _, _| (x as i32 as f64).to_bits()),
            case("cvt.f64.f32 %0, %1;", G, &[F], |x, _, _| (f(x) as f64).to_bits()),
            case("cvt.rn.f32.f64 %0, %1;", F, &[G], |x, _, _| b(f64::from_bits(x) as f32)),
            case("cvt.rzi.s32.f32 %0, %1;", W, &[F], |x, _, _| f(x) as i32 as u64),
            case("cvt.rzi.u32.f32 %0, %1;", W, &[F], |x, _, _| f(x) as u32 as u64),
            case("cvt.rni.s32.f32 %0, %1;", W, &[F], |x, _, _| f(x).round_ties_even() as i32 as u64),
            case("cvt.rmi.s32.f32 %0, %1;", W, &[F], |x, _, _| f(x).floor() as i32 as u64),
            case("cvt.rpi.s32.f32 %0, %1;", W, &[F], |x, _, _| f(x).ceil() as i32 as u64),
            case("cvt.rzi.f32.f32 %0, %1;", F, &[F], |x, _, _| b(f(x).trunc())),
            case("cvt.rni.f32.f32 %0, %1;", F, &[F], |x, _, _| b(f(x).round_ties_even())),
            case("cvt.rmi.f32.f32 %0, %1;", F, &[F], |x, _, _| b(f(x).floor())),
            case("cvt.rpi.f64.f64 %0, %1;", G, &[G], |x, _, _| f64::from_bits(x).ceil().to_bits()),
            case("cvt.sat.f32.f32 %0, %1;", F, &[F], |x, _, _| if f(x) > 0.0 { b(f(x).min(1.0)) } else { 0 }),
        ],
    );
}

#[test]
fn to_and_from_short_floats() {
    let Some(gpu) = gpu() else { return };
    const PAIR: &str = "{ .reg .b16 l, h; .reg .b32 p; cvt.rn.bf16x2.f32 p, %1, %2; mov.b32 %0, p; }";
    const HALVES: &str = "cvt.rn.f16x2.f32 %0, %1, %2;";
    check(
        &gpu,
        &[
            case("cvt.rn.f16.f32 %0, %1;", X, &[F], |x, _, _| f16_from_f32(f(x)) as u64),
            case("cvt.f32.f16 %0, %1;", F, &[X], |x, _, _| b(f16_to_f32(x as u32))),
            case("cvt.rn.f16.s32 %0, %1;", X, &[W], |x, _, _| {
                cuda::half::f16_from_f64(x as i32 as f64) as u64
            }),
            case("{ .reg .b16 t; cvt.rn.bf16.f32 t, %1; cvt.f32.bf16 %0, t; }", F, &[F], |x, _, _| {
                b(bf16_to_f32(bf16_from_f32(f(x))))
            }),
            case("cvt.rna.tf32.f32 %0, %1;", F, &[F], |x, _, _| tf32_nearest_away(x as u32) as u64),
            case(PAIR, W, &[W, W], |x, y, _| {
                // Integers as bits of f32 include NaNs, whose payload is not compared.
                let one = |x: u64| bf16_from_f32(f(x)) as u64;
                one(x) << 16 | one(y)
            }),
            case(HALVES, W, &[W, W], |x, y, _| {
                let one = |x: u64| f16_from_f32(f(x)) as u64;
                one(x) << 16 | one(y)
            }),
        ],
    );
}
