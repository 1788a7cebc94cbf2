//! atom and red. Lanes take effect one after another, from the lowest.

use super::Form;
use crate::exec::access::each_lane;
use crate::exec::counters::Access;
use crate::exec::instruction::{Class, Instruction, NONE};
use crate::exec::warp::Warp;
use crate::half::*;
use crate::lower::Lowering;
use crate::ptx::ast::Space;
use crate::types::Type;
use Type::*;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

type Lowered = Result<(), String>;

const OPERATIONS: [&str; 10] = ["add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec"];
const ADD: u32 = 0;
const MIN: u32 = 1;
const MAX: u32 = 2;
const AND: u32 = 3;
const OR: u32 = 4;
const XOR: u32 = 5;
const EXCH: u32 = 6;
const CAS: u32 = 7;
const INC: u32 = 8;

pub fn atomic(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    i.ty = ty;
    i.class = Class::Atomic;
    i.space = f.space();
    i.aux = f.position(&OPERATIONS)? as u32;
    let is_known = match ty {
        F32 | F64 => i.aux == ADD,
        F16 | Bf16 | F16x2 | Bf16x2 => i.aux == ADD,
        U32 | S32 | U64 | S64 => matches!(i.aux, ADD | MIN | MAX | INC..),
        B32 | B64 => matches!(i.aux, AND | OR | XOR | EXCH | CAS),
        B16 => i.aux == CAS,
        _ => false,
    };
    let is_red = f.base == "red";
    let sources = &f.operands[if is_red { 1 } else { 2 }.min(f.operands.len())..];
    let expected = if i.aux == CAS { 2 } else { 1 };
    if !is_known || sources.len() != expected {
        return f.no_such_form();
    }
    if !is_red {
        i.dst = l.dest(f.operand(0)?, ty)?;
    }
    l.address(f.operand(if is_red { 0 } else { 1 })?, i)?;
    i.b = l.source(&sources[0], ty)?;
    if let Some(swap) = sources.get(1) {
        i.c = l.source(swap, ty)?;
    }
    i.op = match ty.size() {
        2 => crate::plain!(body16),
        4 => crate::plain!(body32),
        _ => crate::plain!(body64),
    };
    Ok(())
}

fn resolved(w: &mut Warp, i: &Instruction, m: u32) -> Option<[u64; 32]> {
    let mut addresses = w.addresses(i);
    let space = if i.space == Space::Const { Space::Global } else { i.space };
    w.resolve(i, space, &mut addresses, i.ty.size() as u64, m, Access::Atomic).then_some(addresses)
}

fn new32(i: &Instruction, old: u32, x: u32, swap: u32) -> u32 {
    match (i.aux, i.ty) {
        (ADD, F32) => (f32::from_bits(old) + f32::from_bits(x)).to_bits(),
        (ADD, F16x2 | Bf16x2) => add_half(i.ty, old, x) | add_half(i.ty, old >> 16, x >> 16) << 16,
        (ADD, _) => old.wrapping_add(x),
        (MIN, S32) => (old as i32).min(x as i32) as u32,
        (MAX, S32) => (old as i32).max(x as i32) as u32,
        (MIN, _) => old.min(x),
        (MAX, _) => old.max(x),
        (AND, _) => old & x,
        (OR, _) => old | x,
        (XOR, _) => old ^ x,
        (EXCH, _) => x,
        (CAS, _) => {
            if old == x {
                swap
            } else {
                old
            }
        }
        (INC, _) => {
            if old >= x {
                0
            } else {
                old + 1
            }
        }
        _ => {
            if old == 0 || old > x {
                x
            } else {
                old - 1
            }
        }
    }
}

fn new64(i: &Instruction, old: u64, x: u64, swap: u64) -> u64 {
    match (i.aux, i.ty) {
        (ADD, F64) => (f64::from_bits(old) + f64::from_bits(x)).to_bits(),
        (ADD, _) => old.wrapping_add(x),
        (MIN, S64) => (old as i64).min(x as i64) as u64,
        (MAX, S64) => (old as i64).max(x as i64) as u64,
        (MIN, _) => old.min(x),
        (MAX, _) => old.max(x),
        (AND, _) => old & x,
        (OR, _) => old | x,
        (XOR, _) => old ^ x,
        (EXCH, _) => x,
        (CAS, _) => {
            if old == x {
                swap
            } else {
                old
            }
        }
        (INC, _) => {
            if old >= x {
                0
            } else {
                old + 1
            }
        }
        _ => {
            if old == 0 || old > x {
                x
            } else {
                old - 1
            }
        }
    }
}

fn add_half(ty: Type, x: u32, y: u32) -> u32 {
    let (x, y) = (x & 0xffff, y & 0xffff);
    if matches!(ty, Bf16 | Bf16x2) {
        bf16_from_f64(bf16_to_f32(x) as f64 + bf16_to_f32(y) as f64)
    } else {
        f16_from_f64(f16_to_f32(x) as f64 + f16_to_f32(y) as f64)
    }
}

fn body32(w: &mut Warp, i: &Instruction, m: u32) {
    let Some(addresses) = resolved(w, i, m) else { return };
    let x = *w.get::<u32>(i.b);
    let swap = if i.c == NONE { x } else { *w.get::<u32>(i.c) };
    let mut old = [0u32; 32];
    for k in each_lane(m) {
        // SAFETY: the address was resolved for 4 aligned bytes; other threads reach it through atomics too.
        let place = unsafe { AtomicU32::from_ptr(addresses[k] as *mut u32) };
        let change = |old| Some(new32(i, old, x[k], swap[k]));
        old[k] = place.fetch_update(Relaxed, Relaxed, change).unwrap_or_else(|old| old);
    }
    if i.dst != NONE {
        w.set(i.dst, &old, m);
    }
}

fn body64(w: &mut Warp, i: &Instruction, m: u32) {
    let Some(addresses) = resolved(w, i, m) else { return };
    let x = *w.get::<u64>(i.b);
    let swap = if i.c == NONE { x } else { *w.get::<u64>(i.c) };
    let mut old = [0u64; 32];
    for k in each_lane(m) {
        // SAFETY: the address was resolved for 8 aligned bytes; other threads reach it through atomics too.
        let place = unsafe { AtomicU64::from_ptr(addresses[k] as *mut u64) };
        let change = |old| Some(new64(i, old, x[k], swap[k]));
        old[k] = place.fetch_update(Relaxed, Relaxed, change).unwrap_or_else(|old| old);
    }
    if i.dst != NONE {
        w.set(i.dst, &old, m);
    }
}

fn body16(w: &mut Warp, i: &Instruction, m: u32) {
    let Some(addresses) = resolved(w, i, m) else { return };
    let x = *w.get::<u32>(i.b);
    let swap = if i.c == NONE { x } else { *w.get::<u32>(i.c) };
    let mut old = [0u32; 32];
    for k in each_lane(m) {
        // SAFETY: the address was resolved for 2 aligned bytes; other threads reach it through atomics too.
        let place = unsafe { AtomicU16::from_ptr(addresses[k] as *mut u16) };
        let change = |old: u16| {
            Some(match i.aux {
                ADD => add_half(i.ty, old as u32, x[k]) as u16,
                _ if old == x[k] as u16 => swap[k] as u16,
                _ => old,
            })
        };
        old[k] = place.fetch_update(Relaxed, Relaxed, change).unwrap_or_else(|old| old) as u32;
    }
    if i.dst != NONE {
        w.set(i.dst, &old, m);
    }
}
