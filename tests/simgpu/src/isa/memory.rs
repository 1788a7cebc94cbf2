//! ld and st.
//!
//! Cache operators and hints change nothing here. Elements of 4 bytes take the short way of `short.rs`; it falls back to
//! the general one here whenever something is unusual or watched.

use super::{Form, short};
use crate::exec::access::each_lane;
use crate::exec::counters::Access;
use crate::exec::instruction::{Class, Instruction, WIDE};
use crate::exec::warp::Warp;
use crate::lanes;
use crate::lower::Lowering;
use crate::ptx::ast::{Operand, Space};
use crate::types::Type;
use Type::*;

type Lowered = Result<(), String>;

fn class_of(space: Space) -> Class {
    match space {
        Space::Shared => Class::Shared,
        Space::Local => Class::Local,
        Space::Param => Class::Move,
        _ => Class::Global,
    }
}

fn is_strong(f: &Form) -> bool {
    ["volatile", "relaxed", "acquire", "release", "mmio"].iter().any(|part| f.has(part))
}

/// Whether all values are 4-byte elements in narrow registers, so that the short way may be tried.
fn is_short(i: &Instruction) -> bool {
    i.ty.size() == 4 && i.list.iter().all(|slot| slot & WIDE == 0)
}

/// One vector operand or as many elements as `.v2` or `.v4` say.
fn checked_elements<'o>(f: &Form, operand: &'o Operand) -> Result<&'o [Operand], String> {
    let elements = Lowering::elements(operand);
    let expected = if f.has("v2") {
        2
    } else if f.has("v4") {
        4
    } else {
        1
    };
    if elements.len() == expected { Ok(elements) } else { Err(format!("{expected} elements were announced")) }
}

pub fn load(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    i.space = f.space();
    i.ty = ty;
    i.class = class_of(i.space);
    i.strong = is_strong(f);
    let elements = checked_elements(f, f.operand(0)?)?;
    if i.space == Space::Param {
        return load_param(l, f, i, elements, ty);
    }
    if f.operands.len() > 3 {
        return f.no_such_form();
    }
    l.address(f.operand(1)?, i)?;
    i.list = elements.iter().map(|operand| l.dest_any(operand, ty)).collect::<Result<_, _>>()?;
    i.op = match i.space {
        Space::Shared if is_short(i) && !i.strong => short::load_shared(),
        Space::Global if is_short(i) && i.wide_address && !i.strong => short::load_global(),
        _ => crate::compiled!(load_any),
    };
    Ok(())
}

/// Parameters of the kernel stand in registers already; those of a call are registers.
fn load_param(l: &mut Lowering, f: &Form, i: &mut Instruction, elements: &[Operand], ty: Type) -> Lowered {
    let Operand::Address(base, offset) = f.operand(1)? else { return f.no_such_form() };
    let Operand::Name(name, _) = &**base else { return f.no_such_form() };
    if l.register(name).is_some() {
        l.address(f.operand(1)?, i)?;
        i.list = elements.iter().map(|operand| l.dest_any(operand, ty)).collect::<Result<_, _>>()?;
        i.op = crate::compiled!(load_any);
        return Ok(());
    }
    let mut list = Vec::new();
    for (index, element) in elements.iter().enumerate() {
        let at = offset + (index * ty.size()) as i64;
        let source = if let Some(param) = l.kernel_param(name) {
            if at < 0 || at as usize + ty.size() > param.size {
                return Err(format!("bytes outside of the parameter {name}"));
            }
            l.param_value(param.offset + at as usize, ty.size())
        } else {
            l.call_slot(name, at, ty, false)?
        };
        let dest = l.dest_any(element, ty)?;
        list.push(source | if ty.is_wide() { WIDE } else { 0 });
        list.push(dest);
    }
    i.list = list.into();
    i.space = Space::Generic;
    if let [source, dest] = i.list[..] {
        (i.a, i.dst, i.list) = (source & !WIDE, dest & !WIDE, Box::new([]));
        i.op = match (ty, source & WIDE != 0, dest & WIDE != 0) {
            (_, true, true) => lanes!(u64 => u64, |x| x),
            (S8, false, false) => lanes!(u32 => u32, |x| x as i8 as i32 as u32),
            (S16, false, false) => lanes!(u32 => u32, |x| x as i16 as i32 as u32),
            (_, false, false) => lanes!(u32 => u32, |x| x),
            (S32, false, true) => lanes!(i32 => i64, |x| x as i64),
            (U32 | B32, false, true) => lanes!(u32 => u64, |x| x as u64),
            _ => return f.no_such_form(),
        };
        return Ok(());
    }
    if i.list.chunks(2).any(|pair| (pair[0] ^ pair[1]) & WIDE != 0) || matches!(ty, S8 | S16) {
        return f.no_such_form();
    }
    fn body(w: &mut Warp, i: &Instruction, m: u32) {
        for pair in i.list.chunks(2) {
            if pair[0] & WIDE != 0 {
                let value = *w.get::<u64>(pair[0] & !WIDE);
                w.set(pair[1] & !WIDE, &value, m);
            } else {
                let value = *w.get::<u32>(pair[0]);
                w.set(pair[1], &value, m);
            }
        }
    }
    i.op = crate::plain!(body);
    Ok(())
}

pub fn store(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    i.space = f.space();
    i.ty = ty;
    i.class = class_of(i.space);
    i.strong = is_strong(f);
    let elements = checked_elements(f, f.operand(1)?)?;
    if i.space == Space::Param {
        return store_param(l, f, i, elements, ty);
    }
    if i.space == Space::Const || f.has("nc") || f.operands.len() > 3 {
        return f.no_such_form();
    }
    l.address(f.operand(0)?, i)?;
    i.list = elements.iter().map(|operand| l.source_any(operand, ty)).collect::<Result<_, _>>()?;
    i.op = match i.space {
        Space::Shared if is_short(i) && !i.strong => short::store_shared(),
        Space::Global if is_short(i) && i.wide_address && !i.strong => short::store_global(),
        _ => crate::compiled!(store_any),
    };
    Ok(())
}

/// A parameter of a call that is about to be made; `list` holds pairs of source and place.
fn store_param(l: &mut Lowering, f: &Form, i: &mut Instruction, elements: &[Operand], ty: Type) -> Lowered {
    let Operand::Address(base, offset) = f.operand(0)? else { return f.no_such_form() };
    let Operand::Name(name, _) = &**base else { return f.no_such_form() };
    i.space = Space::Generic;
    let mut list = Vec::new();
    for (index, element) in elements.iter().enumerate() {
        let source = l.source_any(element, ty)?;
        if (source & WIDE != 0) != ty.is_wide() {
            return f.no_such_form();
        }
        list.push(source);
        list.push(l.call_slot(name, offset + (index * ty.size()) as i64, ty, true)?);
    }
    if let [source, dest] = list[..] {
        (i.a, i.dst) = (source & !WIDE, dest);
        i.op = if ty.is_wide() { lanes!(u64 => u64, |x| x) } else { lanes!(u32 => u32, |x| x) };
        return Ok(());
    }
    i.list = list.into();
    fn body(w: &mut Warp, i: &Instruction, m: u32) {
        for pair in i.list.chunks_exact(2) {
            if pair[0] & WIDE != 0 {
                let value = *w.get::<u64>(pair[0] & !WIDE);
                w.set(pair[1], &value, m);
            } else {
                let value = *w.get::<u32>(pair[0]);
                w.set(pair[1], &value, m);
            }
        }
    }
    i.op = crate::plain!(body);
    Ok(())
}

/// # Safety
/// `address` was resolved: it is mapped and aligned for `T`.
#[inline(always)]
pub unsafe fn read<T: std::marker::Copy>(address: u64) -> T {
    // SAFETY: promised by the caller.
    unsafe { *(address as *const T) }
}

/// # Safety
/// `address` was resolved: it is mapped and aligned for `T`.
#[inline(always)]
pub unsafe fn write<T>(address: u64, value: T) {
    // SAFETY: promised by the caller.
    unsafe { *(address as *mut T) = value }
}

/// `load_elements!(w, i, addresses, m, u8)`: each element of each lane, extended to the width of its register.
macro_rules! load_elements {
    ($w:expr, $i:expr, $addresses:expr, $m:expr, $T:ty) => {
        for (index, &slot) in $i.list.iter().enumerate() {
            let offset = (index * size_of::<$T>()) as u64;
            let mut out = [0u64; 32];
            for k in each_lane($m) {
                // SAFETY: `resolve` has accepted the addresses of these lanes, for all elements.
                out[k] = unsafe { read::<$T>($addresses[k] + offset) } as u64;
            }
            if slot & WIDE != 0 {
                $w.set(slot & !WIDE, &out, $m);
            } else {
                $w.set(slot, &out.map(|value| value as u32), $m);
            }
        }
    };
}

#[inline(always)]
pub fn load_any(w: &mut Warp, i: &Instruction, m: u32) {
    let mut addresses = w.addresses(i);
    let bytes = (i.ty.size() * i.list.len()) as u64;
    if !w.resolve(i, i.space, &mut addresses, bytes, m, Access::Read) {
        return;
    }
    match (i.ty.size(), i.ty.is_signed()) {
        (1, false) => load_elements!(w, i, addresses, m, u8),
        (1, true) => load_elements!(w, i, addresses, m, i8),
        (2, false) => load_elements!(w, i, addresses, m, u16),
        (2, true) => load_elements!(w, i, addresses, m, i16),
        (4, false) => load_elements!(w, i, addresses, m, u32),
        (4, true) => load_elements!(w, i, addresses, m, i32),
        _ => load_elements!(w, i, addresses, m, u64),
    }
}

macro_rules! store_elements {
    ($w:expr, $i:expr, $addresses:expr, $m:expr, $T:ty) => {
        for (index, &slot) in $i.list.iter().enumerate() {
            let offset = (index * size_of::<$T>()) as u64;
            for k in each_lane($m) {
                let value = if slot & WIDE != 0 {
                    $w.get::<u64>(slot & !WIDE)[k] as $T
                } else {
                    $w.get::<u32>(slot)[k] as $T
                };
                // SAFETY: `resolve` has accepted the addresses of these lanes, for all elements.
                unsafe { write::<$T>($addresses[k] + offset, value) };
            }
        }
    };
}

#[inline(always)]
pub fn store_any(w: &mut Warp, i: &Instruction, m: u32) {
    let mut addresses = w.addresses(i);
    let bytes = (i.ty.size() * i.list.len()) as u64;
    if !w.resolve(i, i.space, &mut addresses, bytes, m, Access::Write) {
        return;
    }
    match i.ty.size() {
        1 => store_elements!(w, i, addresses, m, u8),
        2 => store_elements!(w, i, addresses, m, u16),
        4 => store_elements!(w, i, addresses, m, u32),
        _ => store_elements!(w, i, addresses, m, u64),
    }
}
