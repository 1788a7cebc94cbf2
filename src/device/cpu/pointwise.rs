//! Elementwise expressions, run over blocks of elements whose intermediate values stay in the first
//! cache level.

use rayon::prelude::*;

use super::simd::{self, Level};
use crate::ops::Pointwise;
use crate::tape::plan::Expression;
use crate::tape::plan::expression::{Access, Instruction, OPERANDS, REGISTERS};
use crate::tensor::Real;

/// Elements of a block: eight registers of it fit half of a 32 KiB cache in f32.
const BLOCK: usize = 512;

/// Elements below which one thread does all: waking another costs more.
const SERIAL: usize = 1 << 14;

/// Intermediate values of a block. They are reused from block to block, because clearing them takes longer
/// than a short expression does; every instruction writes its register before another reads it.
type Registers<T> = [[T; BLOCK]; REGISTERS];

fn no_registers<T: Real>() -> Registers<T> {
    [[T::ZERO; BLOCK]; REGISTERS]
}

#[derive(Clone, Copy)]
struct Pointers<T> {
    operands: [*const T; OPERANDS],
    out: *mut T,
}

// SAFETY: blocks write disjoint ranges of `out`, and operands that overlap `out` are read only at the
// positions that the same block writes.
unsafe impl<T> Send for Pointers<T> {}
unsafe impl<T> Sync for Pointers<T> {}

/// # Safety
/// Each operand must hold the elements that the expression's accesses name, `out` the expression's
/// length; an operand that overlaps `out` must be the same range, accessed element by element.
pub(super) unsafe fn run<T: Real>(expression: &Expression, operands: &[*const T; OPERANDS], out: *mut T) {
    let at = Pointers { operands: *operands, out };
    let blocks = expression.len.div_ceil(BLOCK);
    let level = simd::level();
    let block = |registers: &mut Registers<T>, b: usize| {
        let (start, at) = (b * BLOCK, &at);
        let len = BLOCK.min(expression.len - start);
        // SAFETY: the level was detected on this processor; the rest is the caller's promise.
        unsafe {
            match level {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => block_avx512(expression, at, start, len, registers),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => block_avx2(expression, at, start, len, registers),
                _ => run_block(expression, at, start, len, registers),
            }
        }
    };
    if expression.len < SERIAL {
        let mut registers = no_registers();
        (0..blocks).for_each(|b| block(&mut registers, b));
    } else {
        let some = (0..blocks).into_par_iter().with_min_len(SERIAL / BLOCK / 2);
        some.for_each_init(no_registers, block);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
unsafe fn block_avx512<T: Real>(
    expression: &Expression,
    at: &Pointers<T>,
    start: usize,
    len: usize,
    registers: &mut Registers<T>,
) {
    // SAFETY: the caller's promise, passed on.
    unsafe { run_block(expression, at, start, len, registers) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn block_avx2<T: Real>(
    expression: &Expression,
    at: &Pointers<T>,
    start: usize,
    len: usize,
    registers: &mut Registers<T>,
) {
    // SAFETY: the caller's promise, passed on.
    unsafe { run_block(expression, at, start, len, registers) }
}

#[inline(always)]
unsafe fn run_block<T: Real>(
    expression: &Expression,
    at: &Pointers<T>,
    start: usize,
    len: usize,
    registers: &mut Registers<T>,
) {
    for instruction in &expression.code {
        match *instruction {
            Instruction::Load { to, operand, access } => {
                // SAFETY: the caller's promise, passed on.
                unsafe {
                    load(&mut registers[to as usize][..len], at.operands[operand as usize], access, start)
                }
            }
            Instruction::Constant { to, value } => registers[to as usize][..len].fill(T::from_f64(value.0)),
            Instruction::Apply { to, op, a, b } => {
                let (low, high) = registers.split_at_mut(to as usize + 1);
                let first = &mut low[to as usize][..len];
                match (high.first(), a == to) {
                    (Some(second), true) => apply(op, first, &second[..len]),
                    (Some(second), false) => apply_swapped(op, first, &second[..len]),
                    (None, _) => apply(op, first, &[]),
                }
                debug_assert!(a == to || b == to);
            }
        }
    }
    // SAFETY: `start + len` is at most the expression's length.
    unsafe { std::ptr::copy_nonoverlapping(registers[0].as_ptr(), at.out.add(start), len) }
}

#[inline(always)]
unsafe fn load<T: Real>(to: &mut [T], from: *const T, access: Access, start: usize) {
    let Access { count, inner } = access;
    if count == 1 {
        // SAFETY: the operand has as many elements as the result.
        unsafe { std::ptr::copy_nonoverlapping(from.add(start), to.as_mut_ptr(), to.len()) };
        return;
    }
    let mut done = 0;
    while done < to.len() {
        let i = start + done;
        // SAFETY: `Access::index` stays within the operand.
        if inner == 1 {
            let run = (count - i % count).min(to.len() - done);
            to[done..done + run].fill(unsafe { *from.add(i / count) });
            done += run;
        } else {
            let run = (inner - i % inner).min(to.len() - done);
            unsafe { std::ptr::copy_nonoverlapping(from.add(access.index(i)), to[done..].as_mut_ptr(), run) };
            done += run;
        }
    }
}

/// `x[i] = op(x[i], y[i])`.
#[inline(always)]
fn apply<T: Real>(op: Pointwise, x: &mut [T], y: &[T]) {
    #[inline(always)]
    fn each<T: Copy>(x: &mut [T], f: impl Fn(T) -> T) {
        x.iter_mut().for_each(|v| *v = f(*v));
    }
    let (zero, one) = (T::ZERO, T::ONE);
    match op {
        Pointwise::Add => pairs(x, y, |a, b| a + b),
        Pointwise::Sub => pairs(x, y, |a, b| a - b),
        Pointwise::Mul => pairs(x, y, |a, b| a * b),
        Pointwise::Div => pairs(x, y, |a, b| a / b),
        Pointwise::MulStep { slope } => {
            let slope = T::from_f64(slope.0);
            pairs(x, y, |a, b| a * if b > zero { one } else { slope });
        }
        Pointwise::Step => each(x, |a| if a > zero { one } else { zero }),
        Pointwise::Neg => each(x, |a| -a),
        Pointwise::Exp => each(x, Real::exp),
        Pointwise::Log => each(x, Real::ln),
        Pointwise::Sqrt => each(x, Real::sqrt),
        Pointwise::Tanh => each(x, Real::tanh),
        Pointwise::Sigmoid => each(x, sigmoid),
        Pointwise::Softplus => each(x, |a| {
            let positive = if a > zero { a } else { zero };
            positive + (one + (-a.abs()).exp()).ln()
        }),
        Pointwise::Relu => each(x, |a| if a > zero { a } else { zero }),
        Pointwise::LeakyRelu { slope } => {
            let slope = T::from_f64(slope.0);
            each(x, |a| if a > zero { a } else { slope * a });
        }
        Pointwise::Scale(c) => {
            let c = T::from_f64(c.0);
            each(x, |a| a * c);
        }
        Pointwise::Offset(c) => {
            let c = T::from_f64(c.0);
            each(x, |a| a + c);
        }
    }
}

/// `x[i] = op(y[i], x[i])`, for operations of two operands.
#[inline(always)]
fn apply_swapped<T: Real>(op: Pointwise, x: &mut [T], y: &[T]) {
    let (zero, one) = (T::ZERO, T::ONE);
    match op {
        Pointwise::Sub => pairs(x, y, |b, a| a - b),
        Pointwise::Div => pairs(x, y, |b, a| a / b),
        Pointwise::MulStep { slope } => {
            let slope = T::from_f64(slope.0);
            pairs(x, y, |b, a| a * if b > zero { one } else { slope });
        }
        // Commutative.
        _ => apply(op, x, y),
    }
}

#[inline(always)]
fn pairs<T: Copy>(x: &mut [T], y: &[T], f: impl Fn(T, T) -> T) {
    x.iter_mut().zip(y).for_each(|(a, &b)| *a = f(*a, b));
}

/// `1 / (1 + e⁻ˣ)`, without overflow on either side.
#[inline(always)]
fn sigmoid<T: Real>(x: T) -> T {
    let small = (-x.abs()).exp();
    let positive = T::ONE / (T::ONE + small);
    if x > T::ZERO { positive } else { small * positive }
}
