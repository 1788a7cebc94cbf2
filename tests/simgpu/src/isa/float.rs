//! f32 and f64: add, mul, fma, div, min, max, and the functions of the special unit.
//!
//! `.ftz` is accepted and not modelled: subnormal numbers are kept. Approximate functions are as exact as the host's.

use super::Form;
use crate::compare;
use crate::exec::instruction::{Class, Instruction};
use crate::lanes;
use crate::lower::Lowering;
use crate::types::Type::*;

type Lowered = Result<(), String>;

/// Rounds the exact value `sum + error` to f32, where `error` is tiny. 1 to zero, 2 down, 3 up.
#[inline(always)]
fn directed(sum: f64, error: f64, rounding: u8) -> f32 {
    let nearest = sum as f32;
    if !sum.is_finite() {
        return nearest;
    }
    let difference = nearest as f64 - sum;
    let is_above = difference > 0.0 || (difference == 0.0 && error < 0.0);
    let is_below = difference < 0.0 || (difference == 0.0 && error > 0.0);
    let down = if is_above { nearest.next_down() } else { nearest };
    let up = if is_below { nearest.next_up() } else { nearest };
    match rounding {
        1 if sum > 0.0 => down,
        1 => up,
        2 => down,
        3 => up,
        _ => nearest,
    }
}

/// `a + b` and what its rounding lost.
#[inline(always)]
fn exact_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_part = sum - a;
    (sum, (a - (sum - b_part)) + (b - b_part))
}

#[inline(always)]
fn sum_directed(a: f64, b: f64, rounding: u8) -> f32 {
    let (sum, error) = exact_sum(a, b);
    if sum == 0.0 && rounding == 2 && a.is_sign_negative() != b.is_sign_negative() {
        // What cancels is -0 when rounded down.
        return -0.0;
    }
    directed(sum, error, rounding)
}

#[inline(always)]
fn add_directed(x: f32, y: f32, rounding: u8) -> f32 {
    sum_directed(x as f64, y as f64, rounding)
}

#[inline(always)]
fn fma_directed(x: f32, y: f32, z: f32, rounding: u8) -> f32 {
    sum_directed(x as f64 * y as f64, z as f64, rounding)
}

#[inline(always)]
fn saturate(x: f32) -> f32 {
    // NaN becomes 0, as on the hardware.
    if x > 0.0 { if x < 1.0 { x } else { 1.0 } } else { 0.0 }
}

/// The smaller number; a NaN loses; -0 is smaller than +0.
#[inline(always)]
fn smaller(x: f32, y: f32) -> f32 {
    let first = x < y || (x == y && x.is_sign_negative());
    if y.is_nan() || first { x } else { y }
}

#[inline(always)]
fn larger(x: f32, y: f32) -> f32 {
    let first = x > y || (x == y && x.is_sign_positive());
    if y.is_nan() || first { x } else { y }
}

#[inline(always)]
fn smaller64(x: f64, y: f64) -> f64 {
    let first = x < y || (x == y && x.is_sign_negative());
    if y.is_nan() || first { x } else { y }
}

#[inline(always)]
fn larger64(x: f64, y: f64) -> f64 {
    let first = x > y || (x == y && x.is_sign_positive());
    if y.is_nan() || first { x } else { y }
}

fn class(i: &mut Instruction, ty: crate::types::Type) {
    i.class = if ty == F64 { Class::F64 } else { Class::F32 };
}

/// add and sub.
pub fn add(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    f.same_type(l, i, ty)?;
    class(i, ty);
    i.op = match (f.base, ty, f.rounding(), f.has("sat")) {
        ("add", F32, 0, false) => lanes!(f32, f32 => f32, |x, y| x + y),
        ("sub", F32, 0, false) => lanes!(f32, f32 => f32, |x, y| x - y),
        ("add", F32, 0, true) => lanes!(f32, f32 => f32, |x, y| saturate(x + y)),
        ("sub", F32, 0, true) => lanes!(f32, f32 => f32, |x, y| saturate(x - y)),
        ("add", F32, 1, false) => lanes!(f32, f32 => f32, |x, y| add_directed(x, y, 1)),
        ("add", F32, 2, false) => lanes!(f32, f32 => f32, |x, y| add_directed(x, y, 2)),
        ("add", F32, 3, false) => lanes!(f32, f32 => f32, |x, y| add_directed(x, y, 3)),
        ("sub", F32, 1, false) => lanes!(f32, f32 => f32, |x, y| add_directed(x, -y, 1)),
        ("sub", F32, 2, false) => lanes!(f32, f32 => f32, |x, y| add_directed(x, -y, 2)),
        ("sub", F32, 3, false) => lanes!(f32, f32 => f32, |x, y| add_directed(x, -y, 3)),
        ("add", F64, 0, false) => lanes!(f64, f64 => f64, |x, y| x + y),
        ("sub", F64, 0, false) => lanes!(f64, f64 => f64, |x, y| x - y),
        _ => return f.no_such_form(),
    };
    Ok(())
}

pub fn multiply(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    f.same_type(l, i, ty)?;
    class(i, ty);
    i.op = match (ty, f.rounding(), f.has("sat")) {
        (F32, 0, false) => lanes!(f32, f32 => f32, |x, y| x * y),
        (F32, 0, true) => lanes!(f32, f32 => f32, |x, y| saturate(x * y)),
        (F32, 1, false) => lanes!(f32, f32 => f32, |x, y| directed(x as f64 * y as f64, 0.0, 1)),
        (F32, 2, false) => lanes!(f32, f32 => f32, |x, y| directed(x as f64 * y as f64, 0.0, 2)),
        (F32, 3, false) => lanes!(f32, f32 => f32, |x, y| directed(x as f64 * y as f64, 0.0, 3)),
        (F64, 0, false) => lanes!(f64, f64 => f64, |x, y| x * y),
        _ => return f.no_such_form(),
    };
    Ok(())
}

/// fma, and mad of floating types, which is the same.
pub fn fused(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    if ty.is_half() {
        return super::half::arithmetic(l, f, i);
    }
    f.same_type(l, i, ty)?;
    class(i, ty);
    i.op = match (ty, f.rounding(), f.has("sat")) {
        _ if f.has("relu") => return f.no_such_form(),
        (F32, 0, false) => lanes!(f32, f32, f32 => f32, |x, y, z| x.mul_add(y, z)),
        (F32, 0, true) => lanes!(f32, f32, f32 => f32, |x, y, z| saturate(x.mul_add(y, z))),
        (F32, 1, false) => lanes!(f32, f32, f32 => f32, |x, y, z| fma_directed(x, y, z, 1)),
        (F32, 2, false) => lanes!(f32, f32, f32 => f32, |x, y, z| fma_directed(x, y, z, 2)),
        (F32, 3, false) => lanes!(f32, f32, f32 => f32, |x, y, z| fma_directed(x, y, z, 3)),
        (F64, 0, false) => lanes!(f64, f64, f64 => f64, |x, y, z| x.mul_add(y, z)),
        _ => return f.no_such_form(),
    };
    Ok(())
}

pub fn divide(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    f.same_type(l, i, ty)?;
    i.class = Class::Special;
    i.op = match (ty, f.rounding(), f.has("sat")) {
        (F32, 0, false) => lanes!(f32, f32 => f32, |x, y| x / y),
        (F64, 0, false) => lanes!(f64, f64 => f64, |x, y| x / y),
        _ => return f.no_such_form(),
    };
    Ok(())
}

/// min and max.
pub fn extreme(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    f.same_type(l, i, ty)?;
    class(i, ty);
    if f.operands.len() != 3 {
        return f.no_such_form();
    }
    i.op = match (f.base, ty, f.has("NaN")) {
        ("min", F32, false) => lanes!(f32, f32 => f32, |x, y| smaller(x, y)),
        ("max", F32, false) => lanes!(f32, f32 => f32, |x, y| larger(x, y)),
        ("min", F32, true) => {
            lanes!(f32, f32 => f32, |x, y| if x.is_nan() || y.is_nan() { f32::NAN } else { smaller(x, y) })
        }
        ("max", F32, true) => {
            lanes!(f32, f32 => f32, |x, y| if x.is_nan() || y.is_nan() { f32::NAN } else { larger(x, y) })
        }
        ("min", F64, false) => lanes!(f64, f64 => f64, |x, y| smaller64(x, y)),
        ("max", F64, false) => lanes!(f64, f64 => f64, |x, y| larger64(x, y)),
        _ => return f.no_such_form(),
    };
    Ok(())
}

/// `copysign d, a, b`: the sign of a, the magnitude of b.
pub fn copysign(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    f.same_type(l, i, ty)?;
    class(i, ty);
    i.op = match ty {
        F32 => lanes!(f32, f32 => f32, |x, y| y.copysign(x)),
        F64 => lanes!(f64, f64 => f64, |x, y| y.copysign(x)),
        _ => return f.no_such_form(),
    };
    Ok(())
}

/// rcp, sqrt, rsqrt, ex2, lg2, sin, cos, tanh.
pub fn function(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    if ty.is_half() {
        return super::half::function(l, f, i);
    }
    f.same_type(l, i, ty)?;
    i.class = Class::Special;
    i.op = match (f.base, ty) {
        ("rcp", F32) => lanes!(f32 => f32, |x| 1.0 / x),
        ("rcp", F64) => lanes!(f64 => f64, |x| 1.0 / x),
        ("sqrt", F32) => lanes!(f32 => f32, |x| x.sqrt()),
        ("sqrt", F64) => lanes!(f64 => f64, |x| x.sqrt()),
        ("rsqrt", F32) => lanes!(f32 => f32, |x| (1.0 / (x as f64).sqrt()) as f32),
        ("rsqrt", F64) => lanes!(f64 => f64, |x| 1.0 / x.sqrt()),
        ("ex2", F32) => lanes!(f32 => f32, |x| x.exp2()),
        ("lg2", F32) => lanes!(f32 => f32, |x| x.log2()),
        ("sin", F32) => lanes!(f32 => f32, |x| x.sin()),
        ("cos", F32) => lanes!(f32 => f32, |x| x.cos()),
        ("tanh", F32) => lanes!(f32 => f32, |x| x.tanh()),
        _ => return f.no_such_form(),
    };
    Ok(())
}

/// testp: a predicate on the kind of number.
pub fn test(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    i.pdst = l.predicate_dest(f.operand(0)?)?;
    i.a = l.source(f.operand(1)?, ty)?;
    i.b = i.a;
    class(i, ty);
    let kind = f.position(&["finite", "infinite", "number", "notanumber", "normal", "subnormal"])?;
    i.op = match (kind, ty) {
        (0, F32) => compare!(f32, |x, _y| x.is_finite()),
        (1, F32) => compare!(f32, |x, _y| x.is_infinite()),
        (2, F32) => compare!(f32, |x, _y| !x.is_nan()),
        (3, F32) => compare!(f32, |x, _y| x.is_nan()),
        (4, F32) => compare!(f32, |x, _y| x.is_normal()),
        (5, F32) => compare!(f32, |x, _y| x.is_subnormal()),
        (0, F64) => compare!(f64, |x, _y| x.is_finite()),
        (1, F64) => compare!(f64, |x, _y| x.is_infinite()),
        (2, F64) => compare!(f64, |x, _y| !x.is_nan()),
        (3, F64) => compare!(f64, |x, _y| x.is_nan()),
        (4, F64) => compare!(f64, |x, _y| x.is_normal()),
        (5, F64) => compare!(f64, |x, _y| x.is_subnormal()),
        _ => return f.no_such_form(),
    };
    Ok(())
}
