//! Branches, barriers, fences, ends, and instructions that have no effect on results.

use super::Form;
use crate::exec::block::barrier as kind;
use crate::exec::instruction::{Class, Flow, Instruction};
use crate::exec::warp::Warp;
use crate::lower::{Lowering, control};
use crate::ptx::ast::{Number, Operand};
use crate::types::Type::*;

type Lowered = Result<(), String>;

/// Hints: prefetches and sleeps.
pub fn nothing(_: &mut Lowering, _: &Form, i: &mut Instruction) -> Lowered {
    i.class = Class::Control;
    Ok(())
}

fn become_control(i: &mut Instruction, flow: Flow) {
    *i = Instruction { guard: i.guard, ..control(flow) };
}

fn label(operand: &Operand) -> Result<&str, String> {
    match operand {
        Operand::Name(name, 0) => Ok(name),
        _ => Err("a target that is no label".into()),
    }
}

pub fn branch(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    become_control(i, Flow::Branch);
    l.branch_to(label(f.operand(0)?)?, false);
    Ok(())
}

/// brx.idx: a jump table.
pub fn branch_indexed(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    if !f.has("idx") {
        return f.no_such_form();
    }
    become_control(i, Flow::BranchIndexed);
    i.a = l.source(f.operand(0)?, U32)?;
    l.branch_by(label(f.operand(1)?)?);
    Ok(())
}

/// Calls are lowered by `Lowering::call`, before they come here.
pub fn call(_: &mut Lowering, f: &Form, _: &mut Instruction) -> Lowered {
    f.no_such_form()
}

pub fn ret(l: &mut Lowering, _: &Form, i: &mut Instruction) -> Lowered {
    match l.return_label() {
        Some(end) => {
            become_control(i, Flow::Branch);
            l.branch_to(&end, true);
        }
        None => become_control(i, Flow::Exit),
    }
    Ok(())
}

pub fn exit(_: &mut Lowering, _: &Form, i: &mut Instruction) -> Lowered {
    become_control(i, Flow::Exit);
    Ok(())
}

pub fn trap(_: &mut Lowering, _: &Form, i: &mut Instruction) -> Lowered {
    become_control(i, Flow::Trap);
    Ok(())
}

/// bar and barrier: `a` or `imm` is the number of the barrier, `b` the count of threads.
pub fn barrier(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    if f.has("warp") {
        return sync_warp(l, f, i);
    }
    become_control(i, Flow::Barrier);
    let mut operands = f.operands;
    if f.has("red") {
        let reduction = f.position(&["popc", "and", "or"])?;
        i.aux = [kind::POPC, kind::AND, kind::OR][reduction];
        let [dest, middle @ .., predicate] = operands else { return f.no_such_form() };
        if reduction == 0 {
            i.dst = l.dest(dest, U32)?;
        } else {
            i.pdst = l.predicate_dest(dest)?;
            if i.pdst == crate::exec::instruction::NONE {
                return f.no_such_form();
            }
        }
        let (predicate, is_negated) = l.predicate_source(predicate)?;
        i.psrc = predicate;
        i.aux |= if is_negated { kind::NEGATED } else { 0 };
        operands = middle;
    } else if f.has("arrive") {
        i.aux = kind::ARRIVE;
    } else {
        i.aux = kind::SYNC;
    }
    match operands.first() {
        None => {}
        Some(Operand::Number(Number::Integer(number))) if *number < 16 => i.imm = *number as i64,
        Some(operand) => i.a = l.source(operand, U32)?,
    }
    if let Some(count) = operands.get(1) {
        i.b = l.source(count, U32)?;
    }
    if operands.len() > 2 || f.has("arrive") && operands.len() != 2 {
        return f.no_such_form();
    }
    Ok(())
}

/// bar.warp.sync: lanes reconverge by themselves; only absent ones are an error.
fn sync_warp(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    i.class = Class::Control;
    i.a = l.source(f.operand(0)?, B32)?;
    fn body(w: &mut Warp, i: &Instruction, m: u32) {
        super::warp::check_members(w, i.a, m);
    }
    i.op = crate::plain!(body);
    Ok(())
}

/// membar and fence. A fence for other blocks is what lets them see this block's writes.
pub fn fence(_: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    i.class = Class::Control;
    fn wide(w: &mut Warp, _: &Instruction, _: u32) {
        if let Some(races) = w.block().global_races.as_mut() {
            races.fence();
        }
    }
    if !f.has("cta") {
        i.op = crate::plain!(wide);
    }
    Ok(())
}
