//! ldmatrix, movmatrix, mma.sync: what a full warp does with small matrices.
//!
//! Lane `l` is in group `g = l / 4` at place `t = l % 4`, as in the PTX manual. Products are summed in f32 in the order
//! of `k`; the order and the rounding of the tensor cores are not modelled.

use super::Form;
use crate::exec::counters::Access;
use crate::exec::instruction::{Class, Instruction};
use crate::exec::warp::Warp;
use crate::half::*;
use crate::lower::Lowering;
use crate::ptx::ast::Space;
use crate::status::Status;
use crate::types::Type;
use Type::*;

type Lowered = Result<(), String>;

fn is_full(w: &mut Warp, m: u32) -> bool {
    if m == !0 {
        return true;
    }
    let name = &w.launch().program.origins[w.pc as usize].opcode;
    let text = format!("{name} needs all 32 lanes of the warp, not {m:#010x}");
    w.fault(m.trailing_zeros(), Status::LaunchFailed, text);
    false
}

// ---- 8x8 matrices of 16-bit elements ----

/// ldmatrix: lane `8 * n + r` gives the address of row `r` of matrix `n`.
pub fn load_matrix(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let count = [1, 2, 4][f.position(&["x1", "x2", "x4"])?];
    if f.ty()? != B16 {
        return f.no_such_form();
    }
    i.class = Class::Shared;
    i.space = Space::Shared;
    l.address(f.operand(1)?, i)?;
    i.list = Lowering::elements(f.operand(0)?).iter().map(|o| l.dest(o, B32)).collect::<Result<_, _>>()?;
    if i.list.len() != count {
        return f.no_such_form();
    }
    i.aux = f.has("trans") as u32;
    fn body(w: &mut Warp, i: &Instruction, m: u32) {
        if !is_full(w, m) {
            return;
        }
        let rows = 8 * i.list.len();
        let mut addresses = w.addresses(i);
        let lanes = if rows == 32 { !0 } else { (1 << rows) - 1 };
        if !w.check_shared(&mut addresses, 16, lanes)
            || w.is_shared_watched && !w.watch_shared(&addresses, 16, lanes, Access::Read)
        {
            return;
        }
        for (matrix, &slot) in i.list.iter().enumerate() {
            let mut elements = [[0u16; 8]; 8];
            for (row, elements) in elements.iter_mut().enumerate() {
                let start = addresses[matrix * 8 + row] as usize;
                let bytes = &w.block().shared[start..start + 16];
                for (column, pair) in bytes.chunks_exact(2).enumerate() {
                    elements[column] = u16::from_le_bytes([pair[0], pair[1]]);
                }
            }
            let out = distributed(&elements, i.aux != 0);
            w.set(slot, &out, m);
        }
    }
    i.op = crate::plain!(body);
    Ok(())
}

/// Each lane gets two neighbours of a row, or of a column.
fn distributed(elements: &[[u16; 8]; 8], is_transposed: bool) -> [u32; 32] {
    std::array::from_fn(|lane| {
        let (g, t) = (lane / 4, lane % 4);
        let at = |row: usize, column: usize| {
            if is_transposed { elements[column][row] as u32 } else { elements[row][column] as u32 }
        };
        at(g, 2 * t) | at(g, 2 * t + 1) << 16
    })
}

/// movmatrix: transposes an 8x8 matrix in registers.
pub fn transpose(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    if f.ty()? != B16 {
        return f.no_such_form();
    }
    i.class = Class::Warp;
    i.dst = l.dest(f.operand(0)?, B32)?;
    i.a = l.source(f.operand(1)?, B32)?;
    fn body(w: &mut Warp, i: &Instruction, m: u32) {
        if !is_full(w, m) {
            return;
        }
        let mut elements = [[0u16; 8]; 8];
        for (lane, &value) in w.get::<u32>(i.a).iter().enumerate() {
            let (g, t) = (lane / 4, lane % 4);
            elements[g][2 * t] = value as u16;
            elements[g][2 * t + 1] = (value >> 16) as u16;
        }
        w.set(i.dst, &distributed(&elements, true), m);
    }
    i.op = crate::plain!(body);
    Ok(())
}

// ---- mma.sync ----

/// The kinds of multiplication, `Instruction::aux & 15`.
const TF32: u32 = 0;
const F16S: u32 = 1;
const BF16S: u32 = 2;
/// Sums in f16, two to a register.
const HALF_SUMS: u32 = 16;

/// mma.sync.aligned.m16n8k{4,8,16}.row.col
pub fn multiply(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let [to, a, b, c] = f.types[..] else { return f.no_such_form() };
    let depth = [4, 8, 16][f.position(&["m16n8k4", "m16n8k8", "m16n8k16"])?];
    if a != b || to != c || !f.has("row") || !f.has("col") {
        return f.no_such_form();
    }
    let kind = match (a, depth, to) {
        (Tf32, 4 | 8, F32) => TF32,
        (F16, 8 | 16, F32) => F16S,
        (F16, 8 | 16, F16) => F16S | HALF_SUMS,
        (Bf16, 8 | 16, F32) => BF16S,
        _ => return f.no_such_form(),
    };
    i.class = Class::Matrix;
    i.aux = kind;
    i.imm = depth;
    let words = if kind & 15 == TF32 { depth } else { depth / 2 } as usize;
    let sums = if kind & HALF_SUMS != 0 { 2 } else { 4 };
    let lengths = [sums, words / 2, words / 4, sums];
    let mut list = Vec::new();
    for (index, length) in lengths.into_iter().enumerate() {
        let elements = Lowering::elements(f.operand(index)?);
        if elements.len() != length {
            return Err(format!("{} registers instead of {length}", elements.len()));
        }
        for element in elements {
            list.push(if index == 0 { l.dest(element, B32)? } else { l.source(element, B32)? });
        }
    }
    i.list = list.into();
    i.op = crate::compiled!(multiply_body);
    Ok(())
}

/// The left matrix, 16 rows of `k`, and the right one, `k` rows of 8.
struct Factors {
    a: [[f32; 16]; 16],
    b: [[f32; 8]; 16],
}

#[inline(always)]
fn multiply_body(w: &mut Warp, i: &Instruction, m: u32) {
    if !is_full(w, m) {
        return;
    }
    let depth = i.imm as usize;
    let is_half = i.aux & HALF_SUMS != 0;
    let sums = if is_half { 2 } else { 4 };
    let words = if i.aux & 15 == TF32 { depth } else { depth / 2 };
    let (a_start, b_start) = (sums, sums + words / 2);
    let c_start = b_start + words / 4;
    let mut factors = Factors { a: [[0.0; 16]; 16], b: [[0.0; 8]; 16] };
    for n in 0..words / 2 {
        let value = *w.get::<u32>(i.list[a_start + n]);
        for lane in 0..32 {
            let (g, t) = (lane / 4, lane % 4);
            // Registers alternate between the upper and the lower eight rows.
            let (row, step) = (g + 8 * (n % 2), n / 2);
            if i.aux & 15 == TF32 {
                factors.a[row][t + 4 * step] = tf32(value[lane]);
            } else {
                let column = 2 * t + 8 * step;
                factors.a[row][column] = short(value[lane], i.aux);
                factors.a[row][column + 1] = short(value[lane] >> 16, i.aux);
            }
        }
    }
    for n in 0..words / 4 {
        let value = *w.get::<u32>(i.list[b_start + n]);
        for lane in 0..32 {
            let (g, t) = (lane / 4, lane % 4);
            if i.aux & 15 == TF32 {
                factors.b[t + 4 * n][g] = tf32(value[lane]);
            } else {
                let row = 2 * t + 8 * n;
                factors.b[row][g] = short(value[lane], i.aux);
                factors.b[row + 1][g] = short(value[lane] >> 16, i.aux);
            }
        }
    }
    let mut product = [[0f32; 8]; 16];
    for row in 0..16 {
        for k in 0..depth {
            for column in 0..8 {
                product[row][column] += factors.a[row][k] * factors.b[k][column];
            }
        }
    }
    for n in 0..sums {
        let c = *w.get::<u32>(i.list[c_start + n]);
        let mut out = [0u32; 32];
        for lane in 0..32 {
            let (g, t) = (lane / 4, lane % 4);
            if is_half {
                let row = g + 8 * n;
                let low = f16_to_f32(c[lane] & 0xffff) + product[row][2 * t];
                let high = f16_to_f32(c[lane] >> 16) + product[row][2 * t + 1];
                out[lane] = f16_from_f32(low) | f16_from_f32(high) << 16;
            } else {
                let sum = f32::from_bits(c[lane]) + product[g + 8 * (n / 2)][2 * t + n % 2];
                out[lane] = sum.to_bits();
            }
        }
        w.set(i.list[n], &out, m);
    }
}

/// The hardware ignores the low 13 bits.
#[inline(always)]
fn tf32(bits: u32) -> f32 {
    f32::from_bits(bits & !0x1fff)
}

#[inline(always)]
fn short(bits: u32, kind: u32) -> f32 {
    if kind & 15 == BF16S { bf16_to_f32(bits & 0xffff) } else { f16_to_f32(bits & 0xffff) }
}
