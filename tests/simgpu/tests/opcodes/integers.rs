//! Integer arithmetic.

use crate::forms::Kind::*;
use crate::forms::{case, check};
use crate::gpu::gpu;

fn s(x: u64) -> i32 {
    x as i32
}

fn u(x: u64) -> u32 {
    x as u32
}

fn l(x: i64) -> u64 {
    x as u64
}

#[test]
fn sums_and_products() {
    let Some(gpu) = gpu() else { return };
    check(
        &gpu,
        &[
            case("add.u32 %0, %1, %2;", W, &[W, W], |a, b, _| u(a).wrapping_add(u(b)) as u64),
            case("add.s64 %0, %1, %2;", D, &[D, D], |a, b, _| a.wrapping_add(b)),
            case("add.s16 %0, %1, %2;", H, &[H, H], |a, b, _| (a as u16).wrapping_add(b as u16) as u64),
            case("add.sat.s32 %0, %1, %2;", W, &[W, W], |a, b, _| s(a).saturating_add(s(b)) as u64),
            case("sub.s32 %0, %1, %2;", W, &[W, W], |a, b, _| u(a).wrapping_sub(u(b)) as u64),
            case("sub.sat.s32 %0, %1, %2;", W, &[W, W], |a, b, _| s(a).saturating_sub(s(b)) as u64),
            case("sub.u64 %0, %1, %2;", D, &[D, D], |a, b, _| a.wrapping_sub(b)),
            case("mul.lo.s32 %0, %1, %2;", W, &[W, W], |a, b, _| s(a).wrapping_mul(s(b)) as u64),
            case("mul.hi.s32 %0, %1, %2;", W, &[W, W], |a, b, _| ((s(a) as i64 * s(b) as i64) >> 32) as u64),
            case("mul.hi.u32 %0, %1, %2;", W, &[W, W], |a, b, _| (u(a) as u64 * u(b) as u64) >> 32),
            case("mul.wide.s32 %0, %1, %2;", D, &[W, W], |a, b, _| l(s(a) as i64 * s(b) as i64)),
            case("mul.wide.u32 %0, %1, %2;", D, &[W, W], |a, b, _| u(a) as u64 * u(b) as u64),
            case("mul.wide.s16 %0, %1, %2;", W, &[H, H], |a, b, _| {
                (a as i16 as i32 * b as i16 as i32) as u64
            }),
            case("mul.wide.u16 %0, %1, %2;", W, &[H, H], |a, b, _| a * b),
            case("mul.lo.s16 %0, %1, %2;", H, &[H, H], |a, b, _| (a as u16).wrapping_mul(b as u16) as u64),
            case("mul.lo.s64 %0, %1, %2;", D, &[D, D], |a, b, _| a.wrapping_mul(b)),
            case("mul.hi.u64 %0, %1, %2;", D, &[D, D], |a, b, _| ((a as u128 * b as u128) >> 64) as u64),
            case("mul.hi.s64 %0, %1, %2;", D, &[D, D], |a, b, _| {
                ((a as i64 as i128 * b as i64 as i128) >> 64) as u64
            }),
            case("mad.lo.s32 %0, %1, %2, %3;", W, &[W, W, W], |a, b, c| {
                s(a).wrapping_mul(s(b)).wrapping_add(s(c)) as u64
            }),
            case("mad.hi.u32 %0, %1, %2, %3;", W, &[W, W, W], |a, b, c| {
                ((u(a) as u64 * u(b) as u64) >> 32).wrapping_add(c)
            }),
            case("mad.wide.s32 %0, %1, %2, %3;", D, &[W, W, D], |a, b, c| {
                l((s(a) as i64 * s(b) as i64).wrapping_add(c as i64))
            }),
            case("mad.wide.u32 %0, %1, %2, %3;", D, &[W, W, D], |a, b, c| {
                (u(a) as u64 * u(b) as u64).wrapping_add(c)
            }),
            case("mad.lo.u64 %0, %1, %2, %3;", D, &[D, D, D], |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
            case("mul24.lo.s32 %0, %1, %2;", W, &[W, W], |a, b, _| {
                let cut = |x: u64| ((x as i32) << 8 >> 8) as i64;
                l(cut(a) * cut(b))
            }),
            case("mul24.hi.u32 %0, %1, %2;", W, &[W, W], |a, b, _| ((a & 0xff_ffff) * (b & 0xff_ffff)) >> 16),
            case("mad24.lo.u32 %0, %1, %2, %3;", W, &[W, W, W], |a, b, c| {
                ((a & 0xff_ffff) * (b & 0xff_ffff)).wrapping_add(c)
            }),
            case("mad24.hi.s32 %0, %1, %2, %3;", W, &[W, W, W], |a, b, c| {
                let cut = |x: u64| ((x as i32) << 8 >> 8) as i64;
                c.wrapping_add(((cut(a) * cut(b)) >> 16) as u64)
            }),
            case("mad.hi.sat.s32 %0, %1, %2, %3;", W, &[W, W, W], |a, b, c| {
                (((s(a) as i64 * s(b) as i64) >> 32) as i32).saturating_add(s(c)) as u64
            }),
            case("sad.s32 %0, %1, %2, %3;", W, &[W, W, W], |a, b, c| {
                c.wrapping_add((s(a) as i64 - s(b) as i64).unsigned_abs())
            }),
            case("sad.u32 %0, %1, %2, %3;", W, &[W, W, W], |a, b, c| c.wrapping_add(a.abs_diff(b))),
        ],
    );
}

#[test]
fn quotients_extremes_and_signs() {
    let Some(gpu) = gpu() else { return };
    check(
        &gpu,
        &[
            case("{ .reg .u32 d; or.b32 d, %2, 1; div.u32 %0, %1, d; }", W, &[W, W], |a, b, _| a / (b | 1)),
            case("{ .reg .u32 d; or.b32 d, %2, 1; rem.u32 %0, %1, d; }", W, &[W, W], |a, b, _| a % (b | 1)),
            case("{ .reg .s32 d; or.b32 d, %2, 1; div.s32 %0, %1, d; }", W, &[W, W], |a, b, _| {
                s(a).wrapping_div(s(b | 1)) as u64
            }),
            case("{ .reg .s32 d; or.b32 d, %2, 1; rem.s32 %0, %1, d; }", W, &[W, W], |a, b, _| {
                s(a).wrapping_rem(s(b | 1)) as u64
            }),
            case("{ .reg .u64 d; or.b64 d, %2, 1; div.u64 %0, %1, d; }", D, &[D, D], |a, b, _| a / (b | 1)),
            case("{ .reg .s64 d; or.b64 d, %2, 1; rem.s64 %0, %1, d; }", D, &[D, D], |a, b, _| {
                l((a as i64).wrapping_rem((b | 1) as i64))
            }),
            case("min.s32 %0, %1, %2;", W, &[W, W], |a, b, _| s(a).min(s(b)) as u64),
            case("max.s32 %0, %1, %2;", W, &[W, W], |a, b, _| s(a).max(s(b)) as u64),
            case("min.u32 %0, %1, %2;", W, &[W, W], |a, b, _| a.min(b)),
            case("max.u32 %0, %1, %2;", W, &[W, W], |a, b, _| a.max(b)),
            case("min.s64 %0, %1, %2;", D, &[D, D], |a, b, _| l((a as i64).min(b as i64))),
            case("max.u64 %0, %1, %2;", D, &[D, D], |a, b, _| a.max(b)),
            case("max.s16 %0, %1, %2;", H, &[H, H], |a, b, _| (a as i16).max(b as i16) as u64),
            case("min.u16 %0, %1, %2;", H, &[H, H], |a, b, _| a.min(b)),
            case("abs.s32 %0, %1;", W, &[W], |a, _, _| s(a).wrapping_abs() as u64),
            case("abs.s64 %0, %1;", D, &[D], |a, _, _| l((a as i64).wrapping_abs())),
            case("neg.s32 %0, %1;", W, &[W], |a, _, _| s(a).wrapping_neg() as u64),
            case("neg.s64 %0, %1;", D, &[D], |a, _, _| a.wrapping_neg()),
        ],
    );
}

#[test]
fn carries() {
    let Some(gpu) = gpu() else { return };
    const ADD: &str = "{ .reg .u32 a, b, c, d, x, y; mov.b64 {a, b}, %1; mov.b64 {c, d}, %2; \
                       add.cc.u32 x, a, c; addc.u32 y, b, d; mov.b64 %0, {x, y}; }";
    const SUB: &str = "{ .reg .u32 a, b, c, d, x, y; mov.b64 {a, b}, %1; mov.b64 {c, d}, %2; \
                       sub.cc.u32 x, a, c; subc.u32 y, b, d; mov.b64 %0, {x, y}; }";
    const MAD: &str =
        "{ .reg .u32 x, y; mad.lo.cc.u32 x, %1, %2, %3; madc.hi.u32 y, %1, %2, 0; mov.b64 %0, {x, y}; }";
    // Three words: a carry goes in and out of the one in the middle.
    const LONG: &str = "{ .reg .u32 x, y, z; add.cc.u32 x, %1, %2; addc.cc.u32 y, %2, %3; addc.u32 z, 0, 0; \
                        mov.b64 %0, {y, z}; }";
    const BORROW: &str = "{ .reg .u32 x, y, z; sub.cc.u32 x, %1, %2; subc.cc.u32 y, %2, %3; subc.u32 z, 0, 0; \
                          mov.b64 %0, {y, z}; }";
    const CHAIN: &str = "{ .reg .u32 x, y, z; add.cc.u32 x, %1, %2; madc.lo.cc.u32 y, %2, %3, %1; addc.u32 z, 0, 0; \
                         mov.b64 %0, {y, z}; }";
    check(
        &gpu,
        &[
            case(LONG, D, &[W, W, W], |a, b, c| b + c + ((a + b) >> 32)),
            case(BORROW, D, &[W, W, W], |a, b, c| b.wrapping_sub(c).wrapping_sub((a < b) as u64)),
            case(CHAIN, D, &[W, W, W], |a, b, c| ((b * c) & 0xffff_ffff) + a + ((a + b) >> 32)),
            case(ADD, D, &[D, D], |a, b, _| a.wrapping_add(b)),
            case(SUB, D, &[D, D], |a, b, _| a.wrapping_sub(b)),
            case(MAD, D, &[W, W, W], |a, b, c| a * b + c),
        ],
    );
}
