//! add, sub, mul, mad, div, rem, min, max, abs, neg: integers here, floating types in `float` and `half`.
//!
//! A 16-bit integer lies zero-extended in a 32-bit register.

use super::{Form, float, half};
use crate::exec::instruction::{Class, Instruction, Op};
use crate::exec::warp::Warp;
use crate::lanes;
use crate::lower::{CARRY, Lowering};
use crate::types::Type;
use Type::*;

type Lowered = Result<(), String>;

#[inline(always)]
fn s16(x: u32) -> i32 {
    x as u16 as i16 as i32
}

pub fn add(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    if ty.is_half() {
        return half::arithmetic(l, f, i);
    }
    if ty.is_float() {
        return float::add(l, f, i);
    }
    if f.has("cc") {
        return add_carry(l, f, i);
    }
    f.same_type(l, i, ty)?;
    i.op = match (f.base, ty) {
        ("add", S32) if f.has("sat") => lanes!(i32, i32 => i32, |x, y| x.saturating_add(y)),
        ("sub", S32) if f.has("sat") => lanes!(i32, i32 => i32, |x, y| x.saturating_sub(y)),
        _ if f.has("sat") => return f.no_such_form(),
        ("add", U32 | S32 | B32) => lanes!(u32, u32 => u32, |x, y| x.wrapping_add(y)),
        ("sub", U32 | S32 | B32) => lanes!(u32, u32 => u32, |x, y| x.wrapping_sub(y)),
        ("add", U64 | S64 | B64) => lanes!(u64, u64 => u64, |x, y| x.wrapping_add(y)),
        ("sub", U64 | S64 | B64) => lanes!(u64, u64 => u64, |x, y| x.wrapping_sub(y)),
        ("add", U16 | S16) => lanes!(u32, u32 => u32, |x, y| x.wrapping_add(y) & 0xffff),
        ("sub", U16 | S16) => lanes!(u32, u32 => u32, |x, y| x.wrapping_sub(y) & 0xffff),
        _ => return f.no_such_form(),
    };
    Ok(())
}

/// The sum and the carry out, of `x + y + carry`.
#[inline(always)]
fn full_add(x: u64, y: u64, carry: u64, is_wide: bool) -> (u64, bool) {
    if is_wide {
        let (sum, first) = x.overflowing_add(y);
        let (sum, second) = sum.overflowing_add(carry);
        (sum, first | second)
    } else {
        let sum = x + y + carry;
        (sum & 0xffff_ffff, sum >> 32 != 0)
    }
}

const READS_CARRY: u32 = 1;
const WRITES_CARRY: u32 = 2;
const SUBTRACTS: u32 = 4;
const IS_WIDE: u32 = 8;
const IS_HIGH: u32 = 16;
const IS_SIGNED: u32 = 32;

/// add.cc, addc, sub.cc, subc, in 32 and 64 bits.
pub fn add_carry(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    if !matches!(ty, U32 | S32 | B32 | U64 | S64 | B64) {
        return f.no_such_form();
    }
    f.same_type(l, i, ty)?;
    i.aux = carry_flags(f, ty) | if f.base.starts_with("sub") { SUBTRACTS } else { 0 };
    i.psrc = CARRY;
    fn body(w: &mut Warp, i: &Instruction, m: u32) {
        let is_wide = i.aux & IS_WIDE != 0;
        let value = |w: &Warp, slot: u32, k: usize| {
            if is_wide { w.get::<u64>(slot)[k] } else { w.get::<u32>(slot)[k] as u64 }
        };
        let carries = w.predicate(CARRY);
        let (mut out, mut carry_out) = ([0u64; 32], 0u32);
        for (k, out) in out.iter_mut().enumerate() {
            let (x, y) = (value(w, i.a, k), value(w, i.b, k));
            let carry = if i.aux & READS_CARRY != 0 { (carries >> k & 1) as u64 } else { 0 };
            let bit;
            if i.aux & SUBTRACTS != 0 {
                let total = x as i128 - y as i128 - carry as i128;
                (*out, bit) = (total as u64, total < 0);
            } else {
                (*out, bit) = full_add(x, y, carry, is_wide);
            }
            carry_out |= (bit as u32) << k;
        }
        write_with_carry(w, i, &out, carry_out, m);
    }
    i.op = crate::plain!(body);
    Ok(())
}

fn carry_flags(f: &Form, ty: Type) -> u32 {
    let mut flags = 0;
    if f.base.ends_with('c') {
        flags |= READS_CARRY;
    }
    if f.has("cc") {
        flags |= WRITES_CARRY;
    }
    if ty.is_wide() {
        flags |= IS_WIDE;
    }
    if f.has("hi") {
        flags |= IS_HIGH;
    }
    if ty.is_signed() {
        flags |= IS_SIGNED;
    }
    flags
}

fn write_with_carry(w: &mut Warp, i: &Instruction, out: &[u64; 32], carries: u32, m: u32) {
    if i.aux & IS_WIDE != 0 {
        w.set(i.dst, out, m);
    } else {
        w.set(i.dst, &out.map(|value| value as u32), m);
    }
    if i.aux & WRITES_CARRY != 0 {
        w.set_predicate(CARRY, carries, m);
    }
}

/// mad.cc and madc: one half of the product, plus the addend, plus the carry.
pub fn multiply_add_carry(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    if !matches!(ty, U32 | S32 | U64 | S64) || !(f.has("lo") || f.has("hi")) {
        return f.no_such_form();
    }
    f.same_type(l, i, ty)?;
    i.aux = carry_flags(f, ty);
    i.psrc = CARRY;
    fn body(w: &mut Warp, i: &Instruction, m: u32) {
        let is_wide = i.aux & IS_WIDE != 0;
        let value = |w: &Warp, slot: u32, k: usize| {
            if is_wide { w.get::<u64>(slot)[k] } else { w.get::<u32>(slot)[k] as u64 }
        };
        let carries = w.predicate(CARRY);
        let (mut out, mut carry_out) = ([0u64; 32], 0u32);
        for (k, out) in out.iter_mut().enumerate() {
            let (x, y, z) = (value(w, i.a, k), value(w, i.b, k), value(w, i.c, k));
            let product = match (i.aux & IS_SIGNED != 0, is_wide) {
                (false, _) => x as u128 * y as u128,
                (true, true) => (x as i64 as i128 * y as i64 as i128) as u128,
                (true, false) => (x as i32 as i128 * y as i32 as i128) as u128,
            };
            let half = match (i.aux & IS_HIGH != 0, is_wide) {
                (false, true) => product as u64,
                (true, true) => (product >> 64) as u64,
                (false, false) => product as u32 as u64,
                (true, false) => (product >> 32) as u32 as u64,
            };
            let carry = if i.aux & READS_CARRY != 0 { (carries >> k & 1) as u64 } else { 0 };
            let (sum, bit) = full_add(half, z, carry, is_wide);
            *out = sum;
            carry_out |= (bit as u32) << k;
        }
        write_with_carry(w, i, &out, carry_out, m);
    }
    i.op = crate::plain!(body);
    Ok(())
}

pub fn multiply(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    if ty.is_half() {
        return half::arithmetic(l, f, i);
    }
    if ty.is_float() {
        return float::multiply(l, f, i);
    }
    if f.has("wide") {
        i.dst = l.dest(f.operand(0)?, if ty.size() == 4 { B64 } else { B32 })?;
        i.a = l.source(f.operand(1)?, ty)?;
        i.b = l.source(f.operand(2)?, ty)?;
        i.op = match ty {
            S32 => lanes!(i32, i32 => i64, |x, y| x as i64 * y as i64),
            U32 => lanes!(u32, u32 => u64, |x, y| x as u64 * y as u64),
            S16 => lanes!(u32, u32 => i32, |x, y| s16(x) * s16(y)),
            U16 => lanes!(u32, u32 => u32, |x, y| (x & 0xffff) * (y & 0xffff)),
            _ => return f.no_such_form(),
        };
        return Ok(());
    }
    f.same_type(l, i, ty)?;
    i.op = match (ty, f.has("hi")) {
        (U32 | S32, false) => lanes!(u32, u32 => u32, |x, y| x.wrapping_mul(y)),
        (U64 | S64, false) => lanes!(u64, u64 => u64, |x, y| x.wrapping_mul(y)),
        (U16 | S16, false) => lanes!(u32, u32 => u32, |x, y| x.wrapping_mul(y) & 0xffff),
        (U32, true) => lanes!(u32, u32 => u32, |x, y| ((x as u64 * y as u64) >> 32) as u32),
        (S32, true) => lanes!(i32, i32 => i32, |x, y| ((x as i64 * y as i64) >> 32) as i32),
        (U64, true) => lanes!(u64, u64 => u64, |x, y| ((x as u128 * y as u128) >> 64) as u64),
        (S64, true) => lanes!(i64, i64 => i64, |x, y| ((x as i128 * y as i128) >> 64) as i64),
        (U16, true) => lanes!(u32, u32 => u32, |x, y| ((x & 0xffff) * (y & 0xffff)) >> 16),
        (S16, true) => lanes!(u32, u32 => u32, |x, y| (s16(x) * s16(y)) as u32 >> 16),
        _ => return f.no_such_form(),
    };
    Ok(())
}

pub fn multiply_add(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    if ty.is_float() {
        return float::fused(l, f, i);
    }
    if f.has("cc") {
        return multiply_add_carry(l, f, i);
    }
    if f.has("wide") {
        let wide = if ty.size() == 4 { B64 } else { B32 };
        i.dst = l.dest(f.operand(0)?, wide)?;
        i.a = l.source(f.operand(1)?, ty)?;
        i.b = l.source(f.operand(2)?, ty)?;
        i.c = l.source(f.operand(3)?, wide)?;
        i.op = match ty {
            S32 => lanes!(i32, i32, i64 => i64, |x, y, z| (x as i64 * y as i64).wrapping_add(z)),
            U32 => lanes!(u32, u32, u64 => u64, |x, y, z| (x as u64 * y as u64).wrapping_add(z)),
            S16 => lanes!(u32, u32, i32 => i32, |x, y, z| (s16(x) * s16(y)).wrapping_add(z)),
            U16 => lanes!(u32, u32, u32 => u32, |x, y, z| ((x & 0xffff) * (y & 0xffff)).wrapping_add(z)),
            _ => return f.no_such_form(),
        };
        return Ok(());
    }
    f.same_type(l, i, ty)?;
    i.op = match (ty, f.has("hi")) {
        (S32, true) if f.has("sat") => {
            lanes!(i32, i32, i32 => i32, |x, y, z| (((x as i64 * y as i64) >> 32) as i32).saturating_add(z))
        }
        _ if f.has("sat") => return f.no_such_form(),
        (U32 | S32, false) => lanes!(u32, u32, u32 => u32, |x, y, z| x.wrapping_mul(y).wrapping_add(z)),
        (U64 | S64, false) => lanes!(u64, u64, u64 => u64, |x, y, z| x.wrapping_mul(y).wrapping_add(z)),
        (U16 | S16, false) => {
            lanes!(u32, u32, u32 => u32, |x, y, z| x.wrapping_mul(y).wrapping_add(z) & 0xffff)
        }
        (U32, true) => {
            lanes!(u32, u32, u32 => u32, |x, y, z| (((x as u64 * y as u64) >> 32) as u32).wrapping_add(z))
        }
        (S32, true) => {
            lanes!(i32, i32, i32 => i32, |x, y, z| (((x as i64 * y as i64) >> 32) as i32).wrapping_add(z))
        }
        (U64, true) => {
            lanes!(u64, u64, u64 => u64, |x, y, z| (((x as u128 * y as u128) >> 64) as u64).wrapping_add(z))
        }
        (S64, true) => {
            lanes!(i64, i64, i64 => i64, |x, y, z| (((x as i128 * y as i128) >> 64) as i64).wrapping_add(z))
        }
        _ => return f.no_such_form(),
    };
    Ok(())
}

#[inline(always)]
fn signed24(x: u32) -> i64 {
    ((x << 8) as i32 >> 8) as i64
}

#[inline(always)]
fn unsigned24(x: u32) -> u64 {
    (x & 0xff_ffff) as u64
}

/// The low 32 bits, or the upper 32 of the 48, of a product of 24-bit numbers.
fn multiply_24_op(f: &Form, ty: Type) -> Result<[Op; 2], String> {
    Ok(match (ty, f.has("hi")) {
        (U32, false) => [
            lanes!(u32, u32 => u32, |x, y| (unsigned24(x) * unsigned24(y)) as u32),
            lanes!(u32, u32, u32 => u32, |x, y, z| ((unsigned24(x) * unsigned24(y)) as u32).wrapping_add(z)),
        ],
        (S32, false) => [
            lanes!(u32, u32 => u32, |x, y| (signed24(x) * signed24(y)) as u32),
            lanes!(u32, u32, u32 => u32, |x, y, z| ((signed24(x) * signed24(y)) as u32).wrapping_add(z)),
        ],
        (U32, true) => [
            lanes!(u32, u32 => u32, |x, y| ((unsigned24(x) * unsigned24(y)) >> 16) as u32),
            lanes!(u32, u32, u32 => u32, |x, y, z| (((unsigned24(x) * unsigned24(y)) >> 16) as u32).wrapping_add(z)),
        ],
        (S32, true) => [
            lanes!(u32, u32 => u32, |x, y| ((signed24(x) * signed24(y)) >> 16) as u32),
            lanes!(u32, u32, u32 => u32, |x, y, z| (((signed24(x) * signed24(y)) >> 16) as u32).wrapping_add(z)),
        ],
        _ => return f.no_such_form(),
    })
}

pub fn multiply_24(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    f.same_type(l, i, f.ty()?)?;
    i.op = multiply_24_op(f, f.ty()?)?[0];
    Ok(())
}

pub fn multiply_add_24(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    f.same_type(l, i, f.ty()?)?;
    i.op = multiply_24_op(f, f.ty()?)?[1];
    Ok(())
}

/// div and rem. Division by zero gives all ones, and its remainder the dividend, as on the hardware.
pub fn divide(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    if ty.is_float() {
        return float::divide(l, f, i);
    }
    f.same_type(l, i, ty)?;
    i.op = match (f.base, ty) {
        ("div", S32) => lanes!(i32, i32 => i32, |x, y| if y == 0 { -1 } else { x.wrapping_div(y) }),
        ("div", U32) => lanes!(u32, u32 => u32, |x, y| x.checked_div(y).unwrap_or(!0)),
        ("div", S64) => lanes!(i64, i64 => i64, |x, y| if y == 0 { -1 } else { x.wrapping_div(y) }),
        ("div", U64) => lanes!(u64, u64 => u64, |x, y| x.checked_div(y).unwrap_or(!0)),
        ("div", S16) => {
            lanes!(u32, u32 => u32, |x, y| if y == 0 { 0xffff } else { (s16(x) / s16(y)) as u32 & 0xffff })
        }
        ("div", U16) => lanes!(u32, u32 => u32, |x, y| x.checked_div(y).unwrap_or(0xffff)),
        ("rem", S32) => lanes!(i32, i32 => i32, |x, y| if y == 0 { x } else { x.wrapping_rem(y) }),
        ("rem", U32) => lanes!(u32, u32 => u32, |x, y| if y == 0 { x } else { x % y }),
        ("rem", S64) => lanes!(i64, i64 => i64, |x, y| if y == 0 { x } else { x.wrapping_rem(y) }),
        ("rem", U64) => lanes!(u64, u64 => u64, |x, y| if y == 0 { x } else { x % y }),
        ("rem", S16) => {
            lanes!(u32, u32 => u32, |x, y| if y == 0 { x } else { (s16(x) % s16(y)) as u32 & 0xffff })
        }
        ("rem", U16) => lanes!(u32, u32 => u32, |x, y| if y == 0 { x } else { x % y }),
        _ => return f.no_such_form(),
    };
    Ok(())
}

/// min and max.
pub fn extreme(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    if ty.is_half() {
        return half::arithmetic(l, f, i);
    }
    if ty.is_float() {
        return float::extreme(l, f, i);
    }
    f.same_type(l, i, ty)?;
    i.op = match (f.base, ty) {
        ("min", S32) => lanes!(i32, i32 => i32, |x, y| x.min(y)),
        ("max", S32) => lanes!(i32, i32 => i32, |x, y| x.max(y)),
        ("min", U32 | U16) => lanes!(u32, u32 => u32, |x, y| x.min(y)),
        ("max", U32 | U16) => lanes!(u32, u32 => u32, |x, y| x.max(y)),
        ("min", S64) => lanes!(i64, i64 => i64, |x, y| x.min(y)),
        ("max", S64) => lanes!(i64, i64 => i64, |x, y| x.max(y)),
        ("min", U64) => lanes!(u64, u64 => u64, |x, y| x.min(y)),
        ("max", U64) => lanes!(u64, u64 => u64, |x, y| x.max(y)),
        ("min", S16) => lanes!(u32, u32 => u32, |x, y| s16(x).min(s16(y)) as u32 & 0xffff),
        ("max", S16) => lanes!(u32, u32 => u32, |x, y| s16(x).max(s16(y)) as u32 & 0xffff),
        _ => return f.no_such_form(),
    };
    Ok(())
}

/// abs and neg.
pub fn negate(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    if ty.is_half() {
        return half::sign(l, f, i);
    }
    f.same_type(l, i, ty)?;
    i.class = match ty {
        F32 => Class::F32,
        F64 => Class::F64,
        _ => Class::Integer,
    };
    i.op = match (f.base, ty) {
        ("neg", F32) => lanes!(u32 => u32, |x| x ^ 1 << 31),
        ("abs", F32) => lanes!(u32 => u32, |x| x & !(1 << 31)),
        ("neg", F64) => lanes!(u64 => u64, |x| x ^ 1 << 63),
        ("abs", F64) => lanes!(u64 => u64, |x| x & !(1 << 63)),
        ("neg", S32) => lanes!(i32 => i32, |x| x.wrapping_neg()),
        ("abs", S32) => lanes!(i32 => i32, |x| x.wrapping_abs()),
        ("neg", S64) => lanes!(i64 => i64, |x| x.wrapping_neg()),
        ("abs", S64) => lanes!(i64 => i64, |x| x.wrapping_abs()),
        ("neg", S16) => lanes!(u32 => u32, |x| x.wrapping_neg() & 0xffff),
        ("abs", S16) => lanes!(u32 => u32, |x| s16(x).wrapping_abs() as u32 & 0xffff),
        _ => return f.no_such_form(),
    };
    Ok(())
}

/// sad: the addend plus the absolute difference.
pub fn absolute_difference(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    f.same_type(l, i, ty)?;
    i.op = match ty {
        S32 => lanes!(i32, i32, u32 => u32, |x, y, z| x.abs_diff(y).wrapping_add(z)),
        U32 => lanes!(u32, u32, u32 => u32, |x, y, z| x.abs_diff(y).wrapping_add(z)),
        S64 => lanes!(i64, i64, u64 => u64, |x, y, z| x.abs_diff(y).wrapping_add(z)),
        U64 => lanes!(u64, u64, u64 => u64, |x, y, z| x.abs_diff(y).wrapping_add(z)),
        S16 => lanes!(u32, u32, u32 => u32, |x, y, z| s16(x).abs_diff(s16(y)).wrapping_add(z) & 0xffff),
        U16 => lanes!(u32, u32, u32 => u32, |x, y, z| x.abs_diff(y).wrapping_add(z) & 0xffff),
        _ => return f.no_such_form(),
    };
    Ok(())
}
