//! Bits: logic, shifts, counts, fields, bytes, dot products of bytes.

use crate::forms::Kind::*;
use crate::forms::{case, check};
use crate::gpu::gpu;

fn u(x: u64) -> u32 {
    x as u32
}

#[test]
fn logic_and_shifts() {
    let Some(gpu) = gpu() else { return };
    check(
        &gpu,
        &[
            case("and.b32 %0, %1, %2;", W, &[W, W], |a, b, _| a & b),
            case("or.b64 %0, %1, %2;", D, &[D, D], |a, b, _| a | b),
            case("xor.b32 %0, %1, %2;", W, &[W, W], |a, b, _| a ^ b),
            case("xor.b16 %0, %1, %2;", H, &[H, H], |a, b, _| a ^ b),
            case("not.b32 %0, %1;", W, &[W], |a, _, _| !a),
            case("not.b64 %0, %1;", D, &[D], |a, _, _| !a),
            case("cnot.b32 %0, %1;", W, &[W], |a, _, _| (a == 0) as u64),
            case("shl.b32 %0, %1, %2;", W, &[W, W], |a, b, _| u(a).checked_shl(u(b)).unwrap_or(0) as u64),
            case("shl.b64 %0, %1, %2;", D, &[D, W], |a, b, _| a.checked_shl(u(b)).unwrap_or(0)),
            case("shr.u32 %0, %1, %2;", W, &[W, W], |a, b, _| u(a).checked_shr(u(b)).unwrap_or(0) as u64),
            case("shr.s32 %0, %1, %2;", W, &[W, W], |a, b, _| (a as i32 >> b.min(31)) as u64),
            case("shr.s64 %0, %1, %2;", D, &[D, W], |a, b, _| (a as i64 >> b.min(63)) as u64),
            case("shr.u16 %0, %1, %2;", H, &[H, W], |a, b, _| a.checked_shr(u(b)).unwrap_or(0)),
            case("shf.l.wrap.b32 %0, %1, %2, %3;", W, &[W, W, W], |a, b, c| {
                ((b << 32 | a) << (c & 31)) >> 32
            }),
            case("shf.r.wrap.b32 %0, %1, %2, %3;", W, &[W, W, W], |a, b, c| (b << 32 | a) >> (c & 31)),
            case("shf.l.clamp.b32 %0, %1, %2, %3;", W, &[W, W, W], |a, b, c| {
                ((b << 32 | a) << c.min(32)) >> 32
            }),
            case("shf.r.clamp.b32 %0, %1, %2, %3;", W, &[W, W, W], |a, b, c| (b << 32 | a) >> c.min(32)),
            case("lop3.b32 %0, %1, %2, %3, 0xe8;", W, &[W, W, W], |a, b, c| a & b | a & c | b & c),
            case("lop3.b32 %0, %1, %2, %3, 0x96;", W, &[W, W, W], |a, b, c| a ^ b ^ c),
            case("lop3.b32 %0, %1, %2, %3, 0x1a;", W, &[W, W, W], |a, b, c| (a & b | c) ^ a),
        ],
    );
}

#[test]
fn counts_and_fields() {
    let Some(gpu) = gpu() else { return };
    check(
        &gpu,
        &[
            case("popc.b32 %0, %1;", W, &[W], |a, _, _| a.count_ones() as u64),
            case("popc.b64 %0, %1;", W, &[D], |a, _, _| a.count_ones() as u64),
            case("clz.b32 %0, %1;", W, &[W], |a, _, _| u(a).leading_zeros() as u64),
            case("clz.b64 %0, %1;", W, &[D], |a, _, _| a.leading_zeros() as u64),
            case("brev.b32 %0, %1;", W, &[W], |a, _, _| u(a).reverse_bits() as u64),
            case("brev.b64 %0, %1;", D, &[D], |a, _, _| a.reverse_bits()),
            case("bfind.u32 %0, %1;", W, &[W], |a, _, _| 31u32.wrapping_sub(u(a).leading_zeros()) as u64),
            case("bfind.shiftamt.u32 %0, %1;", W, &[W], |a, _, _| {
                if a == 0 { u64::MAX } else { u(a).leading_zeros() as u64 }
            }),
            case("bfind.s32 %0, %1;", W, &[W], |a, _, _| {
                let a = if (a as i32) < 0 { !u(a) } else { u(a) };
                31u32.wrapping_sub(a.leading_zeros()) as u64
            }),
            case("bfe.u32 %0, %1, %2, %3;", W, &[W, W, W], |a, b, c| {
                let (from, count) = (b & 255, (c & 255).min(32));
                a.checked_shr(from as u32).unwrap_or(0) & ((1u64 << count) - 1)
            }),
            case("bfe.s32 %0, %1, %2, %3;", W, &[W, W, W], |a, b, c| {
                let (from, count) = ((b & 255) as i64, (c & 255) as i64);
                let sign = if count == 0 { 0 } else { (a >> (from + count - 1).min(31)) & 1 };
                (0..32).fold(0, |bits, k| {
                    let bit = if k < count && from + k <= 31 { (a >> (from + k)) & 1 } else { sign };
                    bits | bit << k
                })
            }),
            case("bfi.b32 %0, %1, %2, 5, 9;", W, &[W, W], |a, b, _| b & !(0x1ff << 5) | (a & 0x1ff) << 5),
            case("bfi.b64 %0, %1, %2, 30, 20;", D, &[D, D], |a, b, _| {
                b & !(0xf_ffff << 30) | (a & 0xf_ffff) << 30
            }),
            case("bmsk.clamp.b32 %0, 3, 7;", W, &[], |_, _, _| 0x7f << 3),
            case("szext.clamp.s32 %0, %1, 5;", W, &[W], |a, _, _| ((a as i32) << 27 >> 27) as u64),
            case("prmt.b32 %0, %1, %2, 0x7250;", W, &[W, W], |a, b, _| permute(a, b, 0x7250)),
            case("prmt.b32 %0, %1, %2, 0x8a4f;", W, &[W, W], |a, b, _| permute(a, b, 0x8a4f)),
            case("prmt.b32 %0, %1, %2, %3;", W, &[W, W, W], permute),
            case("prmt.b32.f4e %0, %1, %2, 1;", W, &[W, W], |a, b, _| (b << 32 | a) >> 8),
            case("prmt.b32.rc16 %0, %1, %2, 1;", W, &[W, W], |a, _, _| a >> 16 | a & 0xffff_0000),
            case("dp4a.s32.s32 %0, %1, %2, %3;", W, &[W, W, W], |a, b, c| {
                let byte = |x: u64, k: u64| (x >> (8 * k)) as i8 as i64;
                (0..4).fold(c as i64, |sum, k| sum.wrapping_add(byte(a, k) * byte(b, k))) as u64
            }),
            case("dp4a.u32.u32 %0, %1, %2, %3;", W, &[W, W, W], |a, b, c| {
                let byte = |x: u64, k: u64| (x >> (8 * k)) & 255;
                (0..4).fold(c, |sum, k| sum.wrapping_add(byte(a, k) * byte(b, k)))
            }),
            case("prmt.b32.b4e %0, %1, %2, 1;", W, &[W, W], |a, b, _| permute(a, b, 0x6701)),
            case("prmt.b32.rc8 %0, %1, %2, 2;", W, &[W, W], |a, b, _| permute(a, b, 0x2222)),
            case("prmt.b32.ecl %0, %1, %2, 1;", W, &[W, W], |a, b, _| permute(a, b, 0x3211)),
            case("prmt.b32.ecr %0, %1, %2, 2;", W, &[W, W], |a, b, _| permute(a, b, 0x2210)),
            case("bmsk.wrap.b32 %0, 3, 39;", W, &[], |_, _, _| 0x7f << 3),
            case("szext.wrap.u32 %0, %1, 37;", W, &[W], |a, _, _| a & 31),
            case("shl.b32 %0, %1, 5;", W, &[W], |a, _, _| a << 5),
            case("shl.b32 %0, %1, 32;", W, &[W], |_, _, _| 0),
            case("shl.b64 %0, %1, 40;", D, &[D], |a, _, _| a << 40),
            case("shr.u32 %0, %1, 31;", W, &[W], |a, _, _| a >> 31),
            case("shr.s32 %0, %1, 3;", W, &[W], |a, _, _| (a as i32 >> 3) as u64),
            case("shr.u64 %0, %1, 9;", D, &[D], |a, _, _| a >> 9),
            case("shr.s64 %0, %1, 63;", D, &[D], |a, _, _| (a as i64 >> 63) as u64),
            case("dp2a.hi.u32.u32 %0, %1, %2, %3;", W, &[W, W, W], |a, b, c| {
                let term = |k: u64| (a >> (16 * k) & 0xffff) * (b >> (8 * k + 16) & 255);
                c.wrapping_add(term(0)).wrapping_add(term(1))
            }),
            case("dp2a.lo.s32.s32 %0, %1, %2, %3;", W, &[W, W, W], |a, b, c| {
                let term = |k: u64| (a >> (16 * k)) as i16 as i64 * (b >> (8 * k)) as i8 as i64;
                (c as i64).wrapping_add(term(0)).wrapping_add(term(1)) as u64
            }),
        ],
    );
}

/// `prmt` in its general mode.
fn permute(a: u64, b: u64, selector: u64) -> u64 {
    let bytes = b << 32 | a & 0xffff_ffff;
    (0..4).fold(0, |word, k| {
        let nibble = selector >> (4 * k);
        let byte = bytes >> (8 * (nibble & 7)) & 255;
        let byte = if nibble & 8 != 0 { if byte & 128 != 0 { 255 } else { 0 } } else { byte };
        word | byte << (8 * k)
    })
}
