//! setp, set, selp, slct.

use super::Form;
use crate::compare;
use crate::exec::instruction::{Class, Instruction, NONE, Op};
use crate::exec::warp::Warp;
use crate::lower::Lowering;
use crate::ptx::ast::Operand;
use crate::types::Type;
use Type::*;

type Lowered = Result<(), String>;

const COMPARISONS: [&str; 18] = [
    "eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu", "ltu", "leu", "gtu", "geu",
    "num", "nan",
];

/// How the result joins with a predicate: `Instruction::aux`.
const AND: u32 = 1;
const OR: u32 = 2;
const XOR: u32 = 3;
const NEGATES: u32 = 8;
/// `set` writes all ones, or 1.0, instead of a predicate.
const WRITES_MASK: u32 = 16;
const WRITES_ONE: u32 = 32;

/// Writes the result of a comparison, joined with a predicate if there is one, and its complement.
#[inline(always)]
pub fn finish(w: &mut Warp, i: &Instruction, m: u32, bits: u32) {
    let (mut result, mut complement) = (bits, !bits);
    if i.psrc != NONE {
        let other = w.predicate(i.psrc);
        let other = if i.aux & NEGATES != 0 { !other } else { other };
        let join = |bits: u32| match i.aux & 7 {
            AND => bits & other,
            OR => bits | other,
            _ => bits ^ other,
        };
        (result, complement) = (join(result), join(complement));
    }
    if i.aux & (WRITES_MASK | WRITES_ONE) != 0 {
        let yes = if i.aux & WRITES_MASK != 0 { !0 } else { 1f32.to_bits() };
        let mut out = [0u32; 32];
        for (k, out) in out.iter_mut().enumerate() {
            *out = if result >> k & 1 != 0 { yes } else { 0 };
        }
        return w.set(i.dst, &out, m);
    }
    if i.pdst != NONE {
        w.set_predicate(i.pdst, result, m);
    }
    if i.pdst2 != NONE {
        w.set_predicate(i.pdst2, complement, m);
    }
}

macro_rules! floats {
    ($T:ty, $name:expr, $key:expr) => {
        match $name {
            "eq" => compare!($T, |x, y| $key(x) == $key(y)),
            "ne" => compare!($T, |x, y| $key(x) < $key(y) || $key(x) > $key(y)),
            "lt" => compare!($T, |x, y| $key(x) < $key(y)),
            "le" => compare!($T, |x, y| $key(x) <= $key(y)),
            "gt" => compare!($T, |x, y| $key(x) > $key(y)),
            "ge" => compare!($T, |x, y| $key(x) >= $key(y)),
            "equ" => compare!($T, |x, y| !($key(x) < $key(y) || $key(x) > $key(y))),
            "neu" => compare!($T, |x, y| $key(x) != $key(y)),
            "ltu" => compare!($T, |x, y| !($key(x) >= $key(y))),
            "leu" => compare!($T, |x, y| !($key(x) > $key(y))),
            "gtu" => compare!($T, |x, y| !($key(x) <= $key(y))),
            "geu" => compare!($T, |x, y| !($key(x) < $key(y))),
            "num" => compare!($T, |x, y| !$key(x).is_nan() && !$key(y).is_nan()),
            "nan" => compare!($T, |x, y| $key(x).is_nan() || $key(y).is_nan()),
            _ => return Err("this comparison of floating numbers is not known".into()),
        }
    };
}

macro_rules! integers {
    ($T:ty, $name:expr, $key:expr) => {
        match $name {
            "eq" => compare!($T, |x, y| $key(x) == $key(y)),
            "ne" => compare!($T, |x, y| $key(x) != $key(y)),
            "lt" | "lo" => compare!($T, |x, y| $key(x) < $key(y)),
            "le" | "ls" => compare!($T, |x, y| $key(x) <= $key(y)),
            "gt" | "hi" => compare!($T, |x, y| $key(x) > $key(y)),
            "ge" | "hs" => compare!($T, |x, y| $key(x) >= $key(y)),
            _ => return Err("this comparison of integers is not known".into()),
        }
    };
}

#[inline(always)]
fn same<T>(x: T) -> T {
    x
}

#[inline(always)]
fn s16(x: u32) -> i16 {
    x as i16
}

/// The f32 that a short float stands for.
#[inline(always)]
fn f16(x: u32) -> f32 {
    crate::half::f16_to_f32(x & 0xffff)
}

#[inline(always)]
fn bf16(x: u32) -> f32 {
    crate::half::bf16_to_f32(x & 0xffff)
}

#[allow(clippy::neg_cmp_op_on_partial_ord, reason = "a NaN must make the negated comparison true")]
fn comparison(f: &Form, ty: Type) -> Result<Op, String> {
    let name = COMPARISONS[f.position(&COMPARISONS)?];
    Ok(match ty {
        F32 => floats!(f32, name, same),
        F64 => floats!(f64, name, same),
        F16 => floats!(u32, name, f16),
        Bf16 => floats!(u32, name, bf16),
        S32 => integers!(i32, name, same),
        U32 | B32 | U16 | B16 => integers!(u32, name, same),
        S16 => integers!(u32, name, s16),
        S64 => integers!(i64, name, same),
        U64 | B64 => integers!(u64, name, same),
        _ => return f.no_such_form(),
    })
}

/// What follows the two operands: a predicate to join with.
fn joined(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let Some(operand) = f.operands.get(3) else { return Ok(()) };
    let (predicate, is_negated) = l.predicate_source(operand)?;
    i.psrc = predicate;
    i.aux |= match f.position(&["and", "or", "xor"])? {
        0 => AND,
        1 => OR,
        _ => XOR,
    };
    if is_negated {
        i.aux |= NEGATES;
    }
    Ok(())
}

fn class_of(ty: Type) -> Class {
    match ty {
        F32 => Class::F32,
        F64 => Class::F64,
        F16 | Bf16 => Class::Half,
        _ => Class::Integer,
    }
}

pub fn set_predicate(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    match f.operand(0)? {
        Operand::Pair(first, second) => {
            i.pdst = if first == "_" { NONE } else { l.predicate(first)? };
            i.pdst2 = if second == "_" { NONE } else { l.predicate(second)? };
        }
        single => i.pdst = l.predicate_dest(single)?,
    }
    i.a = l.source(f.operand(1)?, ty)?;
    i.b = l.source(f.operand(2)?, ty)?;
    joined(l, f, i)?;
    i.class = class_of(ty);
    i.op = comparison(f, ty)?;
    Ok(())
}

/// set: the result as a number.
pub fn set_value(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let [to, ty] = f.types[..] else { return f.no_such_form() };
    i.aux = match to {
        U32 | S32 => WRITES_MASK,
        F32 => WRITES_ONE,
        _ => return f.no_such_form(),
    };
    i.dst = l.dest(f.operand(0)?, to)?;
    i.a = l.source(f.operand(1)?, ty)?;
    i.b = l.source(f.operand(2)?, ty)?;
    joined(l, f, i)?;
    i.class = class_of(ty);
    i.op = comparison(f, ty)?;
    Ok(())
}

/// selp: one of two values, by a predicate.
pub fn select(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    i.dst = l.dest(f.operand(0)?, ty)?;
    let (x, y) = (l.source(f.operand(1)?, ty)?, l.source(f.operand(2)?, ty)?);
    let (predicate, is_negated) = l.predicate_source(f.operand(3)?)?;
    i.psrc = predicate;
    (i.a, i.b) = if is_negated { (y, x) } else { (x, y) };
    i.class = Class::Move;
    #[inline(always)]
    fn narrow(w: &mut Warp, i: &Instruction, m: u32) {
        let chosen = w.predicate(i.psrc);
        let (x, y) = (w.get::<u32>(i.a), w.get::<u32>(i.b));
        let mut out = [0u32; 32];
        for k in 0..32 {
            out[k] = if chosen & 1 << k != 0 { x[k] } else { y[k] };
        }
        w.set(i.dst, &out, m);
    }
    #[inline(always)]
    fn wide(w: &mut Warp, i: &Instruction, m: u32) {
        let chosen = w.predicate(i.psrc);
        let (x, y) = (w.get::<u64>(i.a), w.get::<u64>(i.b));
        let mut out = [0u64; 32];
        for k in 0..32 {
            out[k] = if chosen & 1 << k != 0 { x[k] } else { y[k] };
        }
        w.set(i.dst, &out, m);
    }
    i.op = if ty.is_wide() { crate::compiled!(wide) } else { crate::compiled!(narrow) };
    Ok(())
}

/// slct: the first value where the third operand is not negative.
pub fn select_by_sign(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let [ty, by] = f.types[..] else { return f.no_such_form() };
    i.dst = l.dest(f.operand(0)?, ty)?;
    i.a = l.source(f.operand(1)?, ty)?;
    i.b = l.source(f.operand(2)?, ty)?;
    i.c = l.source(f.operand(3)?, by)?;
    i.class = Class::Move;
    i.op = match (ty.is_wide(), by) {
        (false, S32) => crate::lanes!(u32, u32, i32 => u32, |x, y, s| if s >= 0 { x } else { y }),
        (true, S32) => crate::lanes!(u64, u64, i32 => u64, |x, y, s| if s >= 0 { x } else { y }),
        (false, F32) => crate::lanes!(u32, u32, f32 => u32, |x, y, s| if s >= 0.0 { x } else { y }),
        (true, F32) => crate::lanes!(u64, u64, f32 => u64, |x, y, s| if s >= 0.0 { x } else { y }),
        _ => return f.no_such_form(),
    };
    Ok(())
}
