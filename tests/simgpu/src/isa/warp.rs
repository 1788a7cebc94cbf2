//! shfl, vote, match, redux, activemask: what the lanes of a warp do together.

use super::Form;
use crate::exec::access::each_lane;
use crate::exec::instruction::{Class, Instruction, NONE, WIDE};
use crate::exec::warp::Warp;
use crate::lower::Lowering;
use crate::ptx::ast::Operand;
use crate::status::Status;
use crate::types::Type::*;

type Lowered = Result<(), String>;

/// The lanes named by a member mask, or None after reporting that not all of them are here.
fn members(w: &mut Warp, mask_slot: u32, m: u32) -> Option<u32> {
    let masks = *w.get::<u32>(mask_slot);
    let members = masks[(m.trailing_zeros() & 31) as usize];
    if members & w.alive & !m != 0 {
        w.let_exit();
    }
    let missing = members & w.alive & !m;
    if missing != 0 {
        report(w, m, format!("waits for lanes {members:#010x}, of which {missing:#010x} did not arrive"));
        return None;
    }
    Some(members)
}

/// Ends the launch at the first of these lanes.
#[cold]
fn report(w: &mut Warp, lanes: u32, text: String) {
    let name = &w.launch().program.origins[w.pc as usize].opcode;
    w.fault(lanes.trailing_zeros(), Status::LaunchFailed, format!("{name} {text}"));
}

/// Reports lanes that a member mask names and that are not here.
pub fn check_members(w: &mut Warp, mask_slot: u32, m: u32) {
    members(w, mask_slot, m);
}

/// shfl.sync: `list` holds clamp and member mask.
pub fn shuffle(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    i.class = Class::Warp;
    match f.operand(0)? {
        Operand::Pair(value, found) => {
            i.dst = l.dest(&Operand::Name(value.clone(), 0), B32)?;
            i.pdst = if found == "_" { NONE } else { l.predicate(found)? };
        }
        value => i.dst = l.dest(value, B32)?,
    }
    i.a = l.source(f.operand(1)?, B32)?;
    i.b = l.source(f.operand(2)?, B32)?;
    i.c = l.source(f.operand(3)?, B32)?;
    i.list = Box::new([l.source(f.operand(4)?, B32)?]);
    i.aux = f.position(&["up", "down", "bfly", "idx"])? as u32;
    #[inline(always)]
    fn body(w: &mut Warp, i: &Instruction, m: u32) {
        let Some(members) = members(w, i.list[0], m) else { return };
        let exited = members & w.threads & !w.alive;
        if exited != 0 {
            return report(w, m, format!("names lanes {exited:#010x}, which have exited"));
        }
        let (values, b, c) = (*w.get::<u32>(i.a), *w.get::<u32>(i.b), *w.get::<u32>(i.c));
        let (mut out, mut found, mut absent) = ([0u32; 32], 0u32, 0u32);
        for k in 0..32u32 {
            let (by, clamp) = (b[k as usize] & 31, c[k as usize] & 31);
            let segment = c[k as usize] >> 8 & 31;
            let least = k & segment;
            let most = least | (clamp & !segment);
            let (from, is_in) = match i.aux {
                0 => (k as i32 - by as i32, k as i32 - by as i32 >= most as i32),
                1 => ((k + by) as i32, k + by <= most),
                2 => ((k ^ by) as i32, k ^ by <= most),
                _ => ((least | (by & !segment)) as i32, least | (by & !segment) <= most),
            };
            let from = if is_in { from as u32 & 31 } else { k };
            out[k as usize] = values[from as usize];
            found |= (is_in as u32) << k;
            absent |= (!m >> from & 1) << k;
        }
        if absent & m != 0 {
            return report(w, absent & m, "reads a lane that does not take part".into());
        }
        w.set(i.dst, &out, m);
        if i.pdst != NONE {
            w.set_predicate(i.pdst, found, m);
        }
    }
    i.op = crate::compiled!(body);
    Ok(())
}

const BALLOT: u32 = 0;
const ANY: u32 = 1;
const ALL: u32 = 2;
const NEGATES: u32 = 16;

/// vote.sync
pub fn vote(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    i.class = Class::Warp;
    let (predicate, is_negated) = match f.operand(1)? {
        Operand::Number(_) => return f.no_such_form(),
        operand => l.predicate_source(operand)?,
    };
    i.psrc = predicate;
    i.a = l.source(f.operand(2)?, B32)?;
    let kind = f.position(&["ballot", "any", "all", "uni"])? as u32;
    if kind == BALLOT {
        i.dst = l.dest(f.operand(0)?, B32)?;
    } else {
        i.pdst = l.predicate_dest(f.operand(0)?)?;
        if i.pdst == NONE {
            return f.no_such_form();
        }
    }
    i.aux = kind | if is_negated { NEGATES } else { 0 };
    fn body(w: &mut Warp, i: &Instruction, m: u32) {
        let Some(members) = members(w, i.a, m) else { return };
        let bits = w.predicate(i.psrc);
        let bits = if i.aux & NEGATES != 0 { !bits } else { bits };
        let (all, bits) = (members & m, bits & members & m);
        let result = match i.aux & 15 {
            BALLOT => return w.set(i.dst, &[bits; 32], m),
            ANY => bits != 0,
            ALL => bits == all,
            _ => bits == 0 || bits == all,
        };
        w.set_predicate(i.pdst, if result { !0 } else { 0 }, m);
    }
    i.op = crate::plain!(body);
    Ok(())
}

/// match.any and match.all: which lanes hold the same value.
pub fn matches(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    if !matches!(ty, B32 | B64) {
        return f.no_such_form();
    }
    i.class = Class::Warp;
    match f.operand(0)? {
        Operand::Pair(value, same) if f.has("all") => {
            i.dst = l.dest(&Operand::Name(value.clone(), 0), B32)?;
            i.pdst = if same == "_" { NONE } else { l.predicate(same)? };
        }
        value => i.dst = l.dest(value, B32)?,
    }
    let value = l.source(f.operand(1)?, ty)?;
    i.list = Box::new([value | if ty.is_wide() { WIDE } else { 0 }]);
    i.b = l.source(f.operand(2)?, B32)?;
    i.aux = f.has("all") as u32;
    fn body(w: &mut Warp, i: &Instruction, m: u32) {
        let Some(members) = members(w, i.b, m) else { return };
        let slot = i.list[0];
        let values =
            if slot & WIDE != 0 { *w.get::<u64>(slot & !WIDE) } else { w.get::<u32>(slot).map(u64::from) };
        let mut out = [0u32; 32];
        for k in each_lane(m) {
            for other in each_lane(members & m) {
                out[k] |= ((values[other] == values[k]) as u32) << other;
            }
        }
        if i.aux == 1 {
            let is_same = each_lane(m).all(|k| out[k] == members & m);
            out = [if is_same { members & m } else { 0 }; 32];
            if i.pdst != NONE {
                w.set_predicate(i.pdst, if is_same { !0 } else { 0 }, m);
            }
        }
        w.set(i.dst, &out, m);
    }
    i.op = crate::plain!(body);
    Ok(())
}

/// redux.sync: one value from all members.
pub fn reduce(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    if !matches!(ty, U32 | S32 | B32) {
        return f.no_such_form();
    }
    i.class = Class::Warp;
    i.ty = ty;
    i.dst = l.dest(f.operand(0)?, ty)?;
    i.a = l.source(f.operand(1)?, ty)?;
    i.b = l.source(f.operand(2)?, B32)?;
    i.aux = f.position(&["add", "min", "max", "and", "or", "xor"])? as u32;
    fn body(w: &mut Warp, i: &Instruction, m: u32) {
        let Some(members) = members(w, i.b, m) else { return };
        let values = *w.get::<u32>(i.a);
        let join = |x: u32, y: u32| match (i.aux, i.ty) {
            (0, _) => x.wrapping_add(y),
            (1, S32) => (x as i32).min(y as i32) as u32,
            (2, S32) => (x as i32).max(y as i32) as u32,
            (1, _) => x.min(y),
            (2, _) => x.max(y),
            (3, _) => x & y,
            (4, _) => x | y,
            _ => x ^ y,
        };
        let result = each_lane(members & m).map(|k| values[k]).reduce(join).unwrap_or(0);
        w.set(i.dst, &[result; 32], m);
    }
    i.op = crate::plain!(body);
    Ok(())
}

pub fn activemask(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    i.class = Class::Warp;
    i.dst = l.dest(f.operand(0)?, B32)?;
    fn body(w: &mut Warp, i: &Instruction, m: u32) {
        w.set(i.dst, &[m; 32], m);
    }
    i.op = crate::plain!(body);
    Ok(())
}
