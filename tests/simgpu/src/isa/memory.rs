//! ld, st, cp.async.
//!
//! Cache operators and hints change nothing here. Elements of 4 bytes accessed by a full warp take a short way through
//! the checks; it falls back to the general one whenever something is unusual or watched.

use super::Form;
use crate::exec::access::each_lane;
use crate::exec::counters::Access;
use crate::exec::instruction::{Class, Instruction, NONE, WIDE};
use crate::exec::warp::{Copy, Warp};
use crate::lanes;
use crate::lower::Lowering;
use crate::ptx::ast::{Number, Operand, Space};
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
        Space::Shared if is_short(i) && !i.strong => crate::compiled!(load_shared_short),
        Space::Global if is_short(i) && i.wide_address && !i.strong => crate::compiled!(load_global_short),
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
        Space::Shared if is_short(i) && !i.strong => crate::compiled!(store_shared_short),
        Space::Global if is_short(i) && i.wide_address && !i.strong => crate::compiled!(store_global_short),
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
unsafe fn read<T: std::marker::Copy>(address: u64) -> T {
    // SAFETY: promised by the caller.
    unsafe { *(address as *const T) }
}

/// # Safety
/// `address` was resolved: it is mapped and aligned for `T`.
#[inline(always)]
unsafe fn write<T>(address: u64, value: T) {
    // SAFETY: promised by the caller.
    unsafe { *(address as *mut T) = value }
}

// ---- the general way ----

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
fn load_any(w: &mut Warp, i: &Instruction, m: u32) {
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
fn store_any(w: &mut Warp, i: &Instruction, m: u32) {
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

// ---- the short way ----

/// Addresses of a full warp that passed all checks, as offsets from a base.
struct Short {
    base: u64,
    offsets: [u32; 32],
    /// Each lane accesses the 4 bytes after those of the lane before.
    is_row: bool,
    is_same: bool,
}

#[inline(always)]
fn shared_short(w: &mut Warp, i: &Instruction, m: u32) -> Option<Short> {
    if m != !0 || w.is_shared_watched {
        return None;
    }
    let bytes = 4 * i.list.len() as u32;
    let mut offsets = [0u32; 32];
    let mut high = 0u64;
    if i.wide_address {
        let a = w.get::<u64>(i.a);
        for k in 0..32 {
            let address = a[k].wrapping_add(i.imm as u64);
            high |= address >> 32;
            offsets[k] = address as u32;
        }
    } else {
        let a = w.get::<u32>(i.a);
        for k in 0..32 {
            offsets[k] = a[k].wrapping_add(i.imm as u32);
        }
    }
    let first = offsets[0];
    let (mut most, mut bits, mut differs, mut no_row) = (0u32, 0u32, 0u32, 0u32);
    for k in 0..32 {
        most = most.max(offsets[k]);
        bits |= offsets[k];
        differs |= offsets[k] ^ first;
        no_row |= offsets[k].wrapping_sub(4 * k as u32) ^ first;
    }
    let shared = &mut w.block().shared;
    if high != 0 || bits & (bytes - 1) != 0 || most as usize + bytes as usize > shared.len() {
        return None;
    }
    Some(Short { base: shared.as_mut_ptr() as u64, offsets, is_row: no_row == 0, is_same: differs == 0 })
}

#[inline(always)]
fn global_short(w: &mut Warp, i: &Instruction, m: u32) -> Option<Short> {
    if m != !0 || w.is_watched {
        return None;
    }
    let bytes = 4 * i.list.len() as u64;
    let a = *w.get::<u64>(i.a);
    let first = a[0];
    let (mut least, mut most, mut bits, mut no_row) = (i64::MAX, i64::MIN, i.imm as u64, 0u64);
    for k in 0..32 {
        least = least.min(a[k] as i64);
        most = most.max(a[k] as i64);
        bits |= a[k];
        no_row |= a[k].wrapping_sub(4 * k as u64) ^ first;
    }
    let start = (least as u64).wrapping_add(i.imm as u64);
    let end = (most as u64).wrapping_add(i.imm as u64).wrapping_add(bytes);
    if least < 0 || bits & (bytes - 1) != 0 || !w.is_mapped(start, end) || end - start > u32::MAX as u64 {
        return None;
    }
    let mut offsets = [0u32; 32];
    for k in 0..32 {
        offsets[k] = (a[k] - least as u64) as u32;
    }
    Some(Short { base: start, offsets, is_row: no_row == 0, is_same: least == most })
}

#[inline(always)]
fn load_short(w: &mut Warp, i: &Instruction, m: u32, at: &Short) {
    if at.is_same {
        for (index, &slot) in i.list.iter().enumerate() {
            // SAFETY: all addresses of the access were checked.
            let value: u32 = unsafe { read(at.base + at.offsets[0] as u64 + 4 * index as u64) };
            w.set(slot, &[value; 32], m);
        }
    } else if at.is_row && i.list.len() == 1 {
        let row = (at.base + at.offsets[0] as u64) as *const [u32; 32];
        // SAFETY: the lanes' words follow each other from here, and all were checked; alignment is that of a word.
        let values = unsafe { row.read_unaligned() };
        w.set(i.list[0], &values, m);
    } else {
        for (index, &slot) in i.list.iter().enumerate() {
            let mut values = [0u32; 32];
            for k in 0..32 {
                // SAFETY: all addresses of the access were checked.
                values[k] = unsafe { read(at.base + at.offsets[k] as u64 + 4 * index as u64) };
            }
            w.set(slot, &values, m);
        }
    }
}

#[inline(always)]
fn store_short(w: &mut Warp, i: &Instruction, at: &Short) {
    if at.is_row && i.list.len() == 1 {
        let row = (at.base + at.offsets[0] as u64) as *mut [u32; 32];
        // SAFETY: the lanes' words follow each other from here, and all were checked; alignment is that of a word.
        unsafe { row.write_unaligned(*w.get::<u32>(i.list[0])) };
        return;
    }
    for (index, &slot) in i.list.iter().enumerate() {
        let values = w.get::<u32>(slot);
        for k in 0..32 {
            // SAFETY: all addresses of the access were checked.
            unsafe { write(at.base + at.offsets[k] as u64 + 4 * index as u64, values[k]) };
        }
    }
}

#[inline(always)]
fn load_shared_short(w: &mut Warp, i: &Instruction, m: u32) {
    match shared_short(w, i, m) {
        Some(at) => load_short(w, i, m, &at),
        None => load_any(w, i, m),
    }
}

#[inline(always)]
fn load_global_short(w: &mut Warp, i: &Instruction, m: u32) {
    match global_short(w, i, m) {
        Some(at) => load_short(w, i, m, &at),
        None => load_any(w, i, m),
    }
}

#[inline(always)]
fn store_shared_short(w: &mut Warp, i: &Instruction, m: u32) {
    match shared_short(w, i, m) {
        Some(at) => store_short(w, i, &at),
        None => store_any(w, i, m),
    }
}

#[inline(always)]
fn store_global_short(w: &mut Warp, i: &Instruction, m: u32) {
    match global_short(w, i, m) {
        Some(at) => store_short(w, i, &at),
        None => store_any(w, i, m),
    }
}

// ---- cp.async ----

fn small_number(operand: &Operand) -> Result<u64, String> {
    match operand {
        Operand::Number(Number::Integer(value)) if *value <= 1 << 16 => Ok(*value),
        _ => Err("a number that is not a small constant".into()),
    }
}

/// cp.async: the copy is seen when its group is waited for, not before.
pub fn copy_async(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    if !f.has("async") || f.has("bulk") || f.has("prefetch") {
        return f.no_such_form();
    }
    i.class = Class::Global;
    i.space = Space::Shared;
    if f.has("commit_group") {
        fn commit(w: &mut Warp, _: &Instruction, _: u32) {
            w.commit_copies();
        }
        i.class = Class::Control;
        i.op = crate::plain!(commit);
        return Ok(());
    }
    if f.has("wait_group") || f.has("wait_all") {
        i.imm = if f.has("wait_all") { -1 } else { small_number(f.operand(0)?)? as i64 };
        fn wait(w: &mut Warp, i: &Instruction, _: u32) {
            if i.imm < 0 {
                w.commit_copies();
            }
            w.finish_copies(i.imm.max(0) as usize);
        }
        i.class = Class::Control;
        i.op = crate::plain!(wait);
        return Ok(());
    }
    let bytes = small_number(f.operand(2)?)?;
    if !matches!(bytes, 4 | 8 | 16) || f.has("cg") && bytes != 16 || f.operands.len() > 4 {
        return f.no_such_form();
    }
    l.address(f.operand(0)?, i)?;
    let (from, is_wide, offset) = l.address_parts(f.operand(1)?)?;
    if !is_wide {
        return f.no_such_form();
    }
    i.b = from;
    i.target = offset as i32 as u32;
    if offset != offset as i32 as i64 {
        return Err("an offset beyond 2 GiB".into());
    }
    i.aux = bytes as u32;
    if let Some(size) = f.operands.get(3) {
        i.c = l.source(size, U32)?;
    }
    i.op = crate::plain!(copy);
    Ok(())
}

fn copy(w: &mut Warp, i: &Instruction, m: u32) {
    let bytes = i.aux as u64;
    let mut to = w.addresses(i);
    let mut from = w.get::<u64>(i.b).map(|address| address.wrapping_add(i.target as i32 as u64));
    let sizes = if i.c == NONE { [i.aux; 32] } else { w.get::<u32>(i.c).map(|size| size.min(i.aux)) };
    let mut reads = 0;
    for k in 0..32 {
        reads |= ((sizes[k] > 0) as u32) << k;
    }
    // Where less is read than copied, the addresses are checked for what is read.
    for size in 1..=i.aux {
        let mut lanes = 0;
        for k in each_lane(m & reads) {
            lanes |= ((sizes[k] == size) as u32) << k;
        }
        if lanes == 0 {
            continue;
        }
        if size == i.aux {
            if !w.resolve(i, Space::Global, &mut from, bytes, lanes, Access::Read) {
                return;
            }
        } else {
            for byte in 0..size as u64 {
                let mut each = from.map(|address| address + byte);
                if !w.resolve(i, Space::Global, &mut each, 1, lanes, Access::Read) {
                    return;
                }
            }
        }
    }
    if !w.check_shared(&mut to, bytes, m, Access::Write) {
        return;
    }
    for k in each_lane(m) {
        let mut copy = Copy { to: to[k], bytes: [0; 16], len: bytes as u8, lane: k as u8 };
        for byte in 0..sizes[k] as usize {
            // SAFETY: these bytes were resolved above.
            copy.bytes[byte] = unsafe { read(from[k] + byte as u64) };
        }
        w.open_copies.push(copy);
    }
}
