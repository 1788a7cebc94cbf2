//! mov, packing and unpacking, cvta, isspacep, and clocks.

use super::Form;
use crate::exec::access::{LOCAL_WINDOW, SHARED_WINDOW, WINDOW_BITS};
use crate::exec::instruction::{Class, Instruction};
use crate::exec::warp::Warp;
use crate::lanes;
use crate::lower::Lowering;
use crate::ptx::ast::{Operand, Space};
use crate::types::Type;
use Type::*;

type Lowered = Result<(), String>;

pub fn mov(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    i.class = Class::Move;
    if ty == Pred {
        return super::bits::move_predicate(l, f, i);
    }
    match (f.operand(0)?, f.operand(1)?) {
        (Operand::Vector(parts), source) => return unpack(l, i, parts, source, ty),
        (dest, Operand::Vector(parts)) => return pack(l, i, dest, parts, ty),
        (dest, Operand::Name(name, offset)) => {
            if let Some(param) = l.kernel_param(name).filter(|_| ty.is_wide() && l.register(name).is_none()) {
                return param_address(l, i, dest, param.offset as i64 + offset);
            }
            if is_clock(name) {
                return clock(l, i, dest, name, ty);
            }
        }
        _ => {}
    }
    i.dst = l.dest(f.operand(0)?, ty)?;
    i.a = l.source(f.operand(1)?, ty)?;
    i.op = if ty.is_wide() { lanes!(u64 => u64, |x| x) } else { lanes!(u32 => u32, |x| x) };
    Ok(())
}

fn part_type(whole: Type, parts: usize) -> Result<Type, String> {
    match (whole.size(), parts) {
        (8, 2) => Ok(B32),
        (8, 4) | (4, 2) => Ok(B16),
        (4, 4) | (2, 2) => Ok(B8),
        _ => Err("a vector of this length".into()),
    }
}

/// A register to its parts, lowest first.
fn unpack(l: &mut Lowering, i: &mut Instruction, parts: &[Operand], source: &Operand, ty: Type) -> Lowered {
    let part = part_type(ty, parts.len())?;
    i.a = l.source(source, ty)?;
    i.list = parts.iter().map(|operand| l.dest(operand, part)).collect::<Result<_, _>>()?;
    i.aux = part.size() as u32 * 8;
    fn wide(w: &mut Warp, i: &Instruction, m: u32) {
        let value = *w.get::<u64>(i.a);
        split(w, i, &value, m);
    }
    fn narrow(w: &mut Warp, i: &Instruction, m: u32) {
        let value = w.get::<u32>(i.a).map(u64::from);
        split(w, i, &value, m);
    }
    fn split(w: &mut Warp, i: &Instruction, value: &[u64; 32], m: u32) {
        for (index, &slot) in i.list.iter().enumerate() {
            let shift = i.aux * index as u32;
            let mask = ((1u64 << i.aux) - 1) as u32;
            w.set(slot, &value.map(|value| (value >> shift) as u32 & mask), m);
        }
    }
    i.op = if ty.is_wide() { crate::plain!(wide) } else { crate::plain!(narrow) };
    Ok(())
}

fn pack(l: &mut Lowering, i: &mut Instruction, dest: &Operand, parts: &[Operand], ty: Type) -> Lowered {
    let part = part_type(ty, parts.len())?;
    i.dst = l.dest(dest, ty)?;
    i.list = parts.iter().map(|operand| l.source(operand, part)).collect::<Result<_, _>>()?;
    i.aux = part.size() as u32 * 8;
    fn join(w: &Warp, i: &Instruction) -> [u64; 32] {
        let mut value = [0u64; 32];
        for (index, &slot) in i.list.iter().enumerate() {
            let shift = i.aux * index as u32;
            let mask = (1u64 << i.aux) - 1;
            for (value, &part) in value.iter_mut().zip(w.get::<u32>(slot)) {
                *value |= (part as u64 & mask) << shift;
            }
        }
        value
    }
    fn wide(w: &mut Warp, i: &Instruction, m: u32) {
        let value = join(w, i);
        w.set(i.dst, &value, m);
    }
    fn narrow(w: &mut Warp, i: &Instruction, m: u32) {
        let value = join(w, i).map(|value| value as u32);
        w.set(i.dst, &value, m);
    }
    i.op = if ty.is_wide() { crate::plain!(wide) } else { crate::plain!(narrow) };
    Ok(())
}

/// The address of a kernel parameter.
fn param_address(l: &mut Lowering, i: &mut Instruction, dest: &Operand, offset: i64) -> Lowered {
    i.dst = l.dest(dest, U64)?;
    i.imm = offset;
    fn body(w: &mut Warp, i: &Instruction, m: u32) {
        let address = (w.launch().params.as_ptr() as u64).wrapping_add(i.imm as u64);
        w.set(i.dst, &[address; 32], m);
    }
    i.op = crate::plain!(body);
    Ok(())
}

fn is_clock(name: &str) -> bool {
    matches!(
        name,
        "%clock" | "%clock_hi" | "%clock64" | "%globaltimer" | "%globaltimer_lo" | "%globaltimer_hi"
    )
}

/// Clocks count the instructions of the warp, so that they are the same in each run.
fn clock(l: &mut Lowering, i: &mut Instruction, dest: &Operand, name: &str, ty: Type) -> Lowered {
    i.dst = l.dest(dest, ty)?;
    i.aux = if name.ends_with("_hi") { 32 } else { 0 };
    fn wide(w: &mut Warp, i: &Instruction, m: u32) {
        let now = w.clock;
        w.set(i.dst, &[now; 32], m);
    }
    fn narrow(w: &mut Warp, i: &Instruction, m: u32) {
        let now = (w.clock >> i.aux) as u32;
        w.set(i.dst, &[now; 32], m);
    }
    i.op = if ty.is_wide() { crate::plain!(wide) } else { crate::plain!(narrow) };
    Ok(())
}

/// cvta: between an address in a space and a generic one.
pub fn convert_address(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    if ty.size() != 8 {
        return f.no_such_form();
    }
    i.class = Class::Move;
    if let (Operand::Name(name, offset), Space::Param) = (f.operand(1)?, f.space())
        && let Some(param) = l.kernel_param(name)
    {
        return param_address(l, i, f.operand(0)?, param.offset as i64 + offset);
    }
    i.dst = l.dest(f.operand(0)?, ty)?;
    i.a = l.source(f.operand(1)?, ty)?;
    i.op = match (f.space(), f.has("to")) {
        (Space::Shared, false) => lanes!(u64 => u64, |x| x.wrapping_add(SHARED_WINDOW)),
        (Space::Shared, true) => lanes!(u64 => u64, |x| x.wrapping_sub(SHARED_WINDOW)),
        (Space::Local, false) => lanes!(u64 => u64, |x| x.wrapping_add(LOCAL_WINDOW)),
        (Space::Local, true) => lanes!(u64 => u64, |x| x.wrapping_sub(LOCAL_WINDOW)),
        (Space::Generic, _) => return f.no_such_form(),
        _ => lanes!(u64 => u64, |x| x),
    };
    Ok(())
}

/// isspacep: whether a generic address lies in a space.
pub fn is_space(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    i.pdst = l.predicate_dest(f.operand(0)?)?;
    i.a = l.source(f.operand(1)?, U64)?;
    i.space = f.space();
    i.class = Class::Integer;
    fn body(w: &mut Warp, i: &Instruction, m: u32) {
        let mut bits = 0;
        for (k, &address) in w.get::<u64>(i.a).iter().enumerate() {
            // The windows of constants and parameters are parts of that of global memory.
            let space = match address & WINDOW_BITS {
                SHARED_WINDOW => Space::Shared,
                LOCAL_WINDOW => Space::Local,
                _ => Space::Global,
            };
            bits |= ((space == i.space) as u32) << k;
        }
        w.set_predicate(i.pdst, bits, m);
    }
    i.op = crate::plain!(body);
    Ok(())
}
