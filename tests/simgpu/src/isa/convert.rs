//! cvt: between all number types, with all roundings.

use super::Form;
use crate::exec::instruction::{Class, Instruction, WIDE};
use crate::exec::warp::Warp;
use crate::half::*;
use crate::lanes;
use crate::lower::Lowering;
use crate::types::Type;
use Type::*;

type Lowered = Result<(), String>;

/// To which neighbour a value goes that the target cannot hold.
#[derive(Clone, Copy, PartialEq)]
enum Rounding {
    Nearest,
    Zero,
    Down,
    Up,
}

/// Everything that the general conversion needs, packed into `Instruction::imm`.
#[derive(Clone, Copy)]
struct Plan {
    to: Type,
    from: Type,
    rounding: Rounding,
    /// Rounds to a whole number, though the result is floating.
    is_whole: bool,
    saturates: bool,
    relu: bool,
    /// Whether the registers have 64 bits, which those of small integers may.
    in_wide: bool,
    to_wide: bool,
}

pub fn convert(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    i.class = Class::Move;
    let [to, from] = f.types[..] else { return f.no_such_form() };
    match to {
        F16x2 | Bf16x2 => return pair(l, f, i, to, from),
        Tf32 => return tf32(l, f, i, from),
        Pred | B8 | B16 | B32 | B64 => return f.no_such_form(),
        _ => {}
    }
    if matches!(from, Pred | F16x2 | Bf16x2 | Tf32) || f.has("rna") {
        return f.no_such_form();
    }
    let (rounding, is_whole) = rounding(f);
    let (saturates, relu) = (f.has("sat"), f.has("relu"));
    let mut plan = Plan { to, from, rounding, is_whole, saturates, relu, in_wide: false, to_wide: false };
    let d = l.dest_any(f.operand(0)?, to)?;
    let s = l.source_any(f.operand(1)?, from)?;
    (i.dst, i.a) = (d & !WIDE, s & !WIDE);
    let (wide_d, wide_s) = (d & WIDE != 0, s & WIDE != 0);
    plan.in_wide = wide_s;
    plan.to_wide = wide_d;
    if to.is_wide() && !wide_d || from.is_wide() && !wide_s {
        return Err("registers narrower than their types".into());
    }
    if to.is_wide() != wide_d || from.is_wide() != wide_s {
        // A small integer in a register that is wider than it.
        if from.is_float() || to.is_float() {
            return Err("registers of unusual width".into());
        }
        i.op = general(i, plan)?;
        return Ok(());
    }
    i.op = match quick(plan) {
        Some(op) => op,
        None => general(i, plan)?,
    };
    Ok(())
}

fn rounding(f: &Form) -> (Rounding, bool) {
    for (name, rounding, is_whole) in [
        ("rn", Rounding::Nearest, false),
        ("rz", Rounding::Zero, false),
        ("rm", Rounding::Down, false),
        ("rp", Rounding::Up, false),
        ("rni", Rounding::Nearest, true),
        ("rzi", Rounding::Zero, true),
        ("rmi", Rounding::Down, true),
        ("rpi", Rounding::Up, true),
    ] {
        if f.has(name) {
            return (rounding, is_whole);
        }
    }
    (Rounding::Nearest, false)
}

/// Conversions that kernels use in inner loops.
fn quick(plan: Plan) -> Option<crate::exec::instruction::Op> {
    if plan.saturates || plan.relu || plan.is_whole && plan.to.is_float() {
        return None;
    }
    let nearest = plan.rounding == Rounding::Nearest;
    let to_zero = plan.rounding == Rounding::Zero;
    Some(match (plan.to, plan.from) {
        (S64, S32) => lanes!(i32 => i64, |x| x as i64),
        (U64 | S64, U32) | (U64, B32) => lanes!(u32 => u64, |x| x as u64),
        (U64, S32) => lanes!(i32 => u64, |x| x as u64),
        (U32 | S32, U64 | S64) => lanes!(u64 => u32, |x| x as u32),
        (U32 | S32, U32 | S32) => lanes!(u32 => u32, |x| x),
        (U32 | S32, U16) => lanes!(u32 => u32, |x| x & 0xffff),
        (U32 | S32, S16) => lanes!(u32 => u32, |x| x as i16 as i32 as u32),
        (U16 | S16, U32 | S32) => lanes!(u32 => u32, |x| x & 0xffff),
        (U32 | S32 | U16 | S16, U8) => lanes!(u32 => u32, |x| x & 0xff),
        (F32, S32) if nearest => lanes!(i32 => f32, |x| x as f32),
        (F32, U32) if nearest => lanes!(u32 => f32, |x| x as f32),
        (S32, F32) if to_zero => lanes!(f32 => i32, |x| x as i32),
        (U32, F32) if to_zero => lanes!(f32 => u32, |x| x as u32),
        (F32, F16) => lanes!(u32 => f32, |x| f16_to_f32(x & 0xffff)),
        (F32, Bf16) => lanes!(u32 => f32, |x| bf16_to_f32(x & 0xffff)),
        (F16, F32) if nearest => lanes!(f32 => u32, |x| f16_from_f32(x)),
        (Bf16, F32) if nearest => lanes!(f32 => u32, |x| bf16_from_f32(x)),
        (F64, F32) => lanes!(f32 => f64, |x| x as f64),
        (F32, F64) if nearest => lanes!(f64 => f32, |x| x as f32),
        (F64, S32) => lanes!(i32 => f64, |x| x as f64),
        (F64, U32) => lanes!(u32 => f64, |x| x as f64),
        _ => return None,
    })
}

fn whole(x: f64, rounding: Rounding) -> f64 {
    match rounding {
        Rounding::Nearest => x.round_ties_even(),
        Rounding::Zero => x.trunc(),
        Rounding::Down => x.floor(),
        Rounding::Up => x.ceil(),
    }
}

fn to_f32(x: f64, rounding: Rounding) -> f32 {
    let nearest = x as f32;
    let (above, below) = ((nearest as f64) > x, (nearest as f64) < x);
    match rounding {
        _ if x.is_infinite() => nearest,
        Rounding::Down if above => nearest.next_down(),
        Rounding::Up if below => nearest.next_up(),
        Rounding::Zero if above && x > 0.0 => nearest.next_down(),
        Rounding::Zero if below && x < 0.0 => nearest.next_up(),
        _ => nearest,
    }
}

/// Rounds to f16 or bf16 in a direction: the nearest, or the neighbour on the other side.
fn to_half(x: f64, rounding: Rounding, is_bf16: bool) -> u32 {
    if x.is_nan() {
        return 0x7fff;
    }
    let nearest = if is_bf16 { bf16_from_f64(x) } else { f16_from_f64(x) };
    let value = if is_bf16 { bf16_to_f32(nearest) } else { f16_to_f32(nearest) } as f64;
    if rounding == Rounding::Zero && value.abs() > x.abs() { nearest - 1 } else { nearest }
}

fn from_float(x: f64, plan: Plan) -> u64 {
    if plan.to.is_float() {
        let mut y = if plan.is_whole { whole(x, plan.rounding) } else { x };
        if plan.saturates {
            y = if y > 0.0 { y.min(1.0) } else { 0.0 };
        }
        if plan.relu && y <= 0.0 {
            y = 0.0;
        }
        return match plan.to {
            F16 => to_half(y, plan.rounding, false) as u64,
            Bf16 => to_half(y, plan.rounding, true) as u64,
            F32 => to_f32(y, if plan.is_whole { Rounding::Nearest } else { plan.rounding }).to_bits() as u64,
            _ => y.to_bits(),
        };
    }
    let y = whole(x, plan.rounding);
    match plan.to {
        // The hardware gives the most negative number for a NaN in 64 bits, and 0 in fewer.
        S64 | U64 if x.is_nan() => 1 << 63,
        S8 => y as i8 as u64,
        U8 => y as u8 as u64,
        S16 => y as i16 as u64,
        U16 => y as u16 as u64,
        S32 => y as i32 as u64,
        U32 => y as u32 as u64,
        S64 => y as i64 as u64,
        _ => y as u64,
    }
}

fn from_integer(value: i128, plan: Plan) -> u64 {
    match plan.to {
        F16 => to_half(value as f64, plan.rounding, false) as u64,
        Bf16 => to_half(value as f64, plan.rounding, true) as u64,
        F32 if plan.rounding == Rounding::Nearest => (value as f32).to_bits() as u64,
        F32 => to_f32(value as f64, plan.rounding).to_bits() as u64,
        F64 => (value as f64).to_bits(),
        _ => {
            let bits = plan.to.size() as u32 * 8;
            let (least, most) = if plan.to.is_signed() {
                (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)
            } else {
                (0, (1i128 << bits) - 1)
            };
            let value = if plan.saturates { value.clamp(least, most) } else { value };
            match plan.to {
                S8 => value as i8 as u64,
                U8 => value as u8 as u64,
                S16 => value as i16 as u64,
                U16 => value as u16 as u64,
                S32 => value as i32 as u64,
                U32 => value as u32 as u64,
                _ => value as u64,
            }
        }
    }
}

fn one(raw: u64, plan: Plan) -> u64 {
    match plan.from {
        F16 => from_float(f16_to_f32(raw as u32 & 0xffff) as f64, plan),
        Bf16 => from_float(bf16_to_f32(raw as u32 & 0xffff) as f64, plan),
        F32 => from_float(f32::from_bits(raw as u32) as f64, plan),
        F64 => from_float(f64::from_bits(raw), plan),
        S8 => from_integer(raw as i8 as i128, plan),
        U8 | B8 => from_integer(raw as u8 as i128, plan),
        S16 => from_integer(raw as i16 as i128, plan),
        U16 | B16 => from_integer(raw as u16 as i128, plan),
        S32 => from_integer(raw as i32 as i128, plan),
        U32 | B32 => from_integer(raw as u32 as i128, plan),
        S64 => from_integer(raw as i64 as i128, plan),
        _ => from_integer(raw as i128, plan),
    }
}

const TYPES: [Type; 16] = [U8, S8, U16, S16, U32, S32, U64, S64, F16, Bf16, F32, F64, B8, B16, B32, B64];
const ROUNDINGS: [Rounding; 4] = [Rounding::Nearest, Rounding::Zero, Rounding::Down, Rounding::Up];

impl Plan {
    fn pack(self) -> Result<i64, String> {
        let index =
            |ty: Type| TYPES.iter().position(|&known| known == ty).ok_or("a type that cvt does not know");
        let rounding = ROUNDINGS.iter().position(|&known| known == self.rounding).unwrap_or(0);
        let flags = (self.is_whole as i64) << 24 | (self.saturates as i64) << 25 | (self.relu as i64) << 26;
        let flags = flags | (self.in_wide as i64) << 27 | (self.to_wide as i64) << 28;
        Ok(index(self.to)? as i64 | (index(self.from)? as i64) << 8 | (rounding as i64) << 16 | flags)
    }

    fn unpack(imm: i64) -> Plan {
        Plan {
            to: TYPES[(imm & 255) as usize],
            from: TYPES[(imm >> 8 & 255) as usize],
            rounding: ROUNDINGS[(imm >> 16 & 255) as usize],
            is_whole: imm >> 24 & 1 != 0,
            saturates: imm >> 25 & 1 != 0,
            relu: imm >> 26 & 1 != 0,
            in_wide: imm >> 27 & 1 != 0,
            to_wide: imm >> 28 & 1 != 0,
        }
    }
}

fn general(i: &mut Instruction, plan: Plan) -> Result<crate::exec::instruction::Op, String> {
    let directed = matches!(plan.rounding, Rounding::Down | Rounding::Up) && !plan.is_whole;
    if directed && matches!(plan.to, F16 | Bf16 | F64) || plan.to == F64 && plan.from == S64 && directed {
        return Err("this rounding is not known".into());
    }
    i.imm = plan.pack()?;
    fn body(w: &mut Warp, i: &Instruction, m: u32) {
        let plan = Plan::unpack(i.imm);
        let mut out = [0u64; 32];
        for (k, out) in out.iter_mut().enumerate() {
            let raw = if plan.in_wide { w.get::<u64>(i.a)[k] } else { w.get::<u32>(i.a)[k] as u64 };
            *out = one(raw, plan);
        }
        if plan.to_wide {
            return w.set(i.dst, &out, m);
        }
        let mask = if plan.to.size() == 2 { 0xffff } else { !0 };
        w.set(i.dst, &out.map(|value| value as u32 & mask), m);
    }
    Ok(crate::plain!(body))
}

/// Two f32 to a pair; the first operand becomes the upper half.
fn pair(l: &mut Lowering, f: &Form, i: &mut Instruction, to: Type, from: Type) -> Lowered {
    if from != F32 || f.has("rna") || f.operands.len() != 3 {
        return f.no_such_form();
    }
    i.dst = l.dest(f.operand(0)?, B32)?;
    i.a = l.source(f.operand(1)?, F32)?;
    i.b = l.source(f.operand(2)?, F32)?;
    i.op = match (to, f.has("rz"), f.has("relu")) {
        (F16x2, false, false) => lanes!(f32, f32 => u32, |x, y| f16_from_f32(x) << 16 | f16_from_f32(y)),
        (Bf16x2, false, false) => lanes!(f32, f32 => u32, |x, y| bf16_from_f32(x) << 16 | bf16_from_f32(y)),
        (F16x2, false, true) => {
            lanes!(f32, f32 => u32, |x, y| f16_from_f32(positive(x)) << 16 | f16_from_f32(positive(y)))
        }
        (Bf16x2, false, true) => {
            lanes!(f32, f32 => u32, |x, y| bf16_from_f32(positive(x)) << 16 | bf16_from_f32(positive(y)))
        }
        (Bf16x2, true, false) => {
            lanes!(f32, f32 => u32, |x, y| x.to_bits() & 0xffff_0000 | y.to_bits() >> 16)
        }
        (F16x2, true, false) => lanes!(f32, f32 => u32, |x, y| {
            to_half(x as f64, Rounding::Zero, false) << 16 | to_half(y as f64, Rounding::Zero, false)
        }),
        _ => return f.no_such_form(),
    };
    Ok(())
}

#[inline(always)]
fn positive(x: f32) -> f32 {
    if x <= 0.0 { 0.0 } else { x }
}

fn tf32(l: &mut Lowering, f: &Form, i: &mut Instruction, from: Type) -> Lowered {
    if from != F32 || f.has("relu") {
        return f.no_such_form();
    }
    i.dst = l.dest(f.operand(0)?, B32)?;
    i.a = l.source(f.operand(1)?, F32)?;
    i.op = match f.position(&["rna", "rn", "rz"])? {
        0 => lanes!(u32 => u32, |x| tf32_nearest_away(x)),
        1 => lanes!(u32 => u32, |x| tf32_nearest_even(x)),
        _ => lanes!(u32 => u32, |x| x & !0x1fff),
    };
    Ok(())
}
