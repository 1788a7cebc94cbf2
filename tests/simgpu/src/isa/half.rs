//! f16 and bf16, single and in pairs: computed in f64, rounded once.

use super::Form;
use crate::exec::instruction::{Class, Instruction};
use crate::exec::warp::Warp;
use crate::half::{bf16_from_f64, bf16_to_f32, f16_from_f64, f16_to_f32};
use crate::lower::Lowering;
use crate::types::Type::*;

type Lowered = Result<(), String>;

const OPERATIONS: [&str; 6] = ["add", "sub", "mul", "fma", "min", "max"];
const FUNCTIONS: [&str; 2] = ["ex2", "tanh"];

/// `Instruction::aux`: the number of the operation, and these.
const IS_BF16: u32 = 1 << 8;
const IS_PAIR: u32 = 1 << 9;
const RELU: u32 = 1 << 10;
const KEEPS_NAN: u32 = 1 << 11;
const SATURATES: u32 = 1 << 12;

fn widen(bits: u32, aux: u32) -> f64 {
    let value = if aux & IS_BF16 != 0 { bf16_to_f32(bits & 0xffff) } else { f16_to_f32(bits & 0xffff) };
    value as f64
}

fn narrow(value: f64, aux: u32) -> u32 {
    if value.is_nan() {
        return 0x7fff;
    }
    if aux & IS_BF16 != 0 { bf16_from_f64(value) } else { f16_from_f64(value) }
}

fn flags(f: &Form) -> Result<u32, String> {
    let ty = f.ty()?;
    let mut flags = 0;
    for (condition, flag) in [
        (matches!(ty, Bf16 | Bf16x2), IS_BF16),
        (matches!(ty, F16x2 | Bf16x2), IS_PAIR),
        (f.has("relu"), RELU),
        (f.has("NaN"), KEEPS_NAN),
        (f.has("sat"), SATURATES),
    ] {
        flags |= if condition { flag } else { 0 };
    }
    Ok(flags)
}

fn extreme(x: f64, y: f64, is_max: bool, keeps_nan: bool) -> f64 {
    if x.is_nan() || y.is_nan() {
        return if keeps_nan || (x.is_nan() && y.is_nan()) {
            f64::NAN
        } else if x.is_nan() {
            y
        } else {
            x
        };
    }
    let first = if x == y { x.is_sign_negative() != is_max } else { (x < y) != is_max };
    if first { x } else { y }
}

/// add, sub, mul, fma, min, max.
pub fn arithmetic(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    f.same_type(l, i, ty)?;
    let operation = OPERATIONS.iter().position(|name| *name == f.base);
    let Some(operation) = operation else { return f.no_such_form() };
    if f.rounding() != 0 || f.has("cc") {
        return f.no_such_form();
    }
    i.class = Class::Half;
    i.aux = operation as u32 | flags(f)?;
    if f.operands.len() == 3 {
        i.c = i.b;
    }
    fn one(x: u32, y: u32, z: u32, aux: u32) -> u32 {
        let (x, y, z) = (widen(x, aux), widen(y, aux), widen(z, aux));
        let value = match aux & 0xff {
            0 => x + y,
            1 => x - y,
            2 => x * y,
            3 => x.mul_add(y, z),
            4 => extreme(x, y, false, aux & KEEPS_NAN != 0),
            _ => extreme(x, y, true, aux & KEEPS_NAN != 0),
        };
        if aux & RELU != 0 && value <= 0.0 {
            return 0;
        }
        if aux & SATURATES != 0 {
            return narrow(if value > 0.0 { value.min(1.0) } else { 0.0 }, aux);
        }
        narrow(value, aux)
    }
    fn body(w: &mut Warp, i: &Instruction, m: u32) {
        let (x, y, z) = (w.get::<u32>(i.a), w.get::<u32>(i.b), w.get::<u32>(i.c));
        let mut out = [0u32; 32];
        for k in 0..32 {
            out[k] = one(x[k], y[k], z[k], i.aux);
            if i.aux & IS_PAIR != 0 {
                out[k] |= one(x[k] >> 16, y[k] >> 16, z[k] >> 16, i.aux) << 16;
            }
        }
        w.set(i.dst, &out, m);
    }
    i.op = crate::plain!(body);
    Ok(())
}

/// neg and abs.
pub fn sign(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    f.same_type(l, i, ty)?;
    i.class = Class::Half;
    i.op = match (f.base, matches!(ty, F16x2 | Bf16x2)) {
        ("neg", false) => crate::lanes!(u32 => u32, |x| x ^ 0x8000),
        ("neg", true) => crate::lanes!(u32 => u32, |x| x ^ 0x8000_8000),
        ("abs", false) => crate::lanes!(u32 => u32, |x| x & 0x7fff),
        _ => crate::lanes!(u32 => u32, |x| x & 0x7fff_7fff),
    };
    Ok(())
}

/// ex2 and tanh.
pub fn function(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    f.same_type(l, i, ty)?;
    let function = FUNCTIONS.iter().position(|name| *name == f.base);
    let Some(function) = function else { return f.no_such_form() };
    i.class = Class::Special;
    i.aux = function as u32 | flags(f)?;
    fn one(x: u32, aux: u32) -> u32 {
        let x = widen(x, aux);
        narrow(if aux & 0xff == 0 { x.exp2() } else { x.tanh() }, aux)
    }
    fn body(w: &mut Warp, i: &Instruction, m: u32) {
        let mut out = *w.get::<u32>(i.a);
        for value in &mut out {
            let high = if i.aux & IS_PAIR != 0 { one(*value >> 16, i.aux) << 16 } else { 0 };
            *value = one(*value, i.aux) | high;
        }
        w.set(i.dst, &out, m);
    }
    i.op = crate::plain!(body);
    Ok(())
}
