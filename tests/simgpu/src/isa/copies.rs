//! cp.async: the copy is seen when its group is waited for, not before.

use super::Form;
use super::memory::read;
use super::short::Short;
use crate::exec::access::each_lane;
use crate::exec::copies::Copy;
use crate::exec::counters::Access;
use crate::exec::instruction::{Class, Instruction, NONE};
use crate::exec::warp::Warp;
use crate::lower::Lowering;
use crate::ptx::ast::{Number, Operand, Space};
use crate::types::Type::*;

type Lowered = Result<(), String>;

fn small_number(operand: &Operand) -> Result<u64, String> {
    match operand {
        Operand::Number(Number::Integer(value)) if *value <= 1 << 16 => Ok(*value),
        _ => Err("a number that is not a small constant".into()),
    }
}

pub fn copy_async(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    if !f.has("async") {
        return f.no_such_form();
    }
    i.class = Class::Global;
    i.space = Space::Shared;
    if f.has("commit_group") {
        fn commit(w: &mut Warp, _: &Instruction, m: u32) {
            w.copies.commit(m);
        }
        i.class = Class::Control;
        i.op = crate::plain!(commit);
        return Ok(());
    }
    if f.has("wait_group") || f.has("wait_all") {
        i.imm = if f.has("wait_all") { -1 } else { small_number(f.operand(0)?)? as i64 };
        fn wait(w: &mut Warp, i: &Instruction, m: u32) {
            if i.imm < 0 {
                w.copies.commit(m);
            }
            w.finish_copies(m, i.imm.max(0) as u32);
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
    i.op = crate::compiled!(copy);
    Ok(())
}

#[inline(always)]
fn copy(w: &mut Warp, i: &Instruction, m: u32) {
    let mut from = *w.get::<u64>(i.b);
    for k in 0..32 {
        from[k] = from[k].wrapping_add(i.target as i32 as u64);
    }
    // Lanes that copy all bytes, and lanes that copy some and fill up with zeros.
    let (mut whole, mut some) = (m, 0);
    if i.c != NONE {
        let sizes = w.get::<u32>(i.c);
        for k in each_lane(m) {
            if sizes[k] < i.aux {
                whole &= !(1 << k);
                some |= ((sizes[k] > 0) as u32) << k;
            }
        }
    }
    let to = Short::shared(w, i, m, i.aux as u64).filter(|_| some == 0);
    let Some(to) = to else { return copy_any(w, i, m, from, whole, some) };
    let mut copy = Copy::new(m, to.0, i.aux as usize);
    if whole != 0 {
        let Some(at) = Short::global(w, from, whole, i.aux as u64) else {
            return copy_any(w, i, m, from, whole, some);
        };
        for k in each_lane(whole) {
            // SAFETY: `aux` bytes at each address were checked, and are aligned to `aux`.
            unsafe { read_bytes(at.0[k], i.aux, &mut copy.bytes[k]) };
        }
    }
    w.copies.begin(copy);
}

/// # Safety
/// `len` bytes, 4, 8 or 16 of them, may be read from an address that is a multiple of `len`.
#[inline(always)]
unsafe fn read_bytes(from: u64, len: u32, into: &mut [u8; 16]) {
    // SAFETY: promised by the caller.
    unsafe {
        match len {
            16 => *into = read(from),
            8 => into[..8].copy_from_slice(&read::<[u8; 8]>(from)),
            _ => into[..4].copy_from_slice(&read::<[u8; 4]>(from)),
        }
    }
}

/// The general way, with all checks.
#[inline(never)]
fn copy_any(w: &mut Warp, i: &Instruction, m: u32, mut from: [u64; 32], whole: u32, some: u32) {
    let bytes = i.aux as u64;
    let mut to = w.addresses(i);
    if whole != 0 && !w.resolve(i, Space::Global, &mut from, bytes, whole, Access::Read) {
        return;
    }
    let sizes = if i.c == NONE { [i.aux; 32] } else { w.get::<u32>(i.c).map(|size| size.min(i.aux)) };
    // Where less is read than copied, the addresses are checked for what is read.
    for byte in 0..i.aux {
        let mut lanes = 0;
        for k in each_lane(some) {
            lanes |= ((byte < sizes[k]) as u32) << k;
        }
        let mut each = from.map(|address| address.wrapping_add(byte as u64));
        if lanes != 0 && !w.resolve(i, Space::Global, &mut each, 1, lanes, Access::Read) {
            return;
        }
    }
    if !w.check_shared(&mut to, bytes, m) || w.is_shared_watched && !w.watch_copy_begin(&to, bytes, m) {
        return;
    }
    let base = w.block().shared.as_ptr() as u64;
    let mut copy = Copy::new(m, to.map(|offset| offset.wrapping_add(base)), i.aux as usize);
    for k in each_lane(m) {
        for byte in 0..sizes[k] as usize {
            // SAFETY: these bytes were resolved above.
            copy.bytes[k][byte] = unsafe { read(from[k] + byte as u64) };
        }
    }
    w.copies.begin(copy);
}
