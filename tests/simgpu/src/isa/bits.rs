//! Logic, shifts, bit fields and byte permutations.

use super::Form;
use crate::exec::instruction::Instruction;
use crate::exec::warp::Warp;
use crate::lanes;
use crate::lower::Lowering;
use crate::ptx::ast::{Number, Operand};
use crate::types::Type::*;

type Lowered = Result<(), String>;

/// and, or, xor, of numbers and of predicates.
pub fn logic(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    if ty == Pred {
        return predicate_logic(l, f, i);
    }
    f.same_type(l, i, ty)?;
    i.op = match (f.base, ty) {
        ("and", B32 | B16) => lanes!(u32, u32 => u32, |x, y| x & y),
        ("or", B32 | B16) => lanes!(u32, u32 => u32, |x, y| x | y),
        ("xor", B32 | B16) => lanes!(u32, u32 => u32, |x, y| x ^ y),
        ("and", B64) => lanes!(u64, u64 => u64, |x, y| x & y),
        ("or", B64) => lanes!(u64, u64 => u64, |x, y| x | y),
        ("xor", B64) => lanes!(u64, u64 => u64, |x, y| x ^ y),
        _ => return f.no_such_form(),
    };
    Ok(())
}

fn predicate_logic(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    i.pdst = l.predicate_dest(f.operand(0)?)?;
    let (x, x_negated) = l.predicate_source(f.operand(1)?)?;
    let (y, y_negated) = match f.operands.get(2) {
        Some(operand) => l.predicate_source(operand)?,
        None => (x, x_negated),
    };
    (i.psrc, i.pdst2) = (x, y);
    let operation = match f.base {
        "and" => 0,
        "or" => 1,
        "xor" => 2,
        "not" => 3,
        _ => 4,
    };
    i.aux = operation | (x_negated as u32) << 4 | (y_negated as u32) << 5;
    fn body(w: &mut Warp, i: &Instruction, m: u32) {
        let flip = |bit: u32| if i.aux >> bit & 1 != 0 { !0 } else { 0 };
        // The second source stands in `pdst2`; this instruction writes one predicate only.
        let (x, y) = (w.predicate(i.psrc) ^ flip(4), w.predicate(i.pdst2) ^ flip(5));
        let bits = match i.aux & 15 {
            0 => x & y,
            1 => x | y,
            2 => x ^ y,
            3 => !x,
            _ => x,
        };
        w.set_predicate(i.pdst, bits, m);
    }
    i.op = crate::plain!(body);
    Ok(())
}

/// A predicate moved to another.
pub fn move_predicate(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    if let Operand::Number(number) = f.operand(1)? {
        i.pdst = l.predicate_dest(f.operand(0)?)?;
        i.imm = (Lowering::literal(*number, B32) != 0) as i64;
        fn body(w: &mut Warp, i: &Instruction, m: u32) {
            w.set_predicate(i.pdst, (i.imm as u32).wrapping_neg(), m);
        }
        i.op = crate::plain!(body);
        return Ok(());
    }
    predicate_logic(l, f, i)
}

/// not and cnot.
pub fn logic_not(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    if ty == Pred {
        return predicate_logic(l, f, i);
    }
    f.same_type(l, i, ty)?;
    i.op = match (f.base, ty) {
        ("not", B32) => lanes!(u32 => u32, |x| !x),
        ("not", B16) => lanes!(u32 => u32, |x| !x & 0xffff),
        ("not", B64) => lanes!(u64 => u64, |x| !x),
        ("cnot", B32 | B16) => lanes!(u32 => u32, |x| (x == 0) as u32),
        ("cnot", B64) => lanes!(u64 => u64, |x| (x == 0) as u64),
        _ => return f.no_such_form(),
    };
    Ok(())
}

/// lop3: any function of three bits, given by its table.
pub fn lop3(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    i.dst = l.dest(f.operand(0)?, B32)?;
    i.a = l.source(f.operand(1)?, B32)?;
    i.b = l.source(f.operand(2)?, B32)?;
    i.c = l.source(f.operand(3)?, B32)?;
    let Operand::Number(Number::Integer(table)) = f.operand(4)? else { return f.no_such_form() };
    i.imm = *table as i64;
    #[inline(always)]
    fn body(w: &mut Warp, i: &Instruction, m: u32) {
        let (x, y, z) = (*w.get::<u32>(i.a), *w.get::<u32>(i.b), *w.get::<u32>(i.c));
        let mut out = [0u32; 32];
        for case in 0..8 {
            if i.imm >> case & 1 != 0 {
                let flip = |bit: u32| if case >> bit & 1 != 0 { 0 } else { !0u32 };
                let (fx, fy, fz) = (flip(2), flip(1), flip(0));
                for k in 0..32 {
                    out[k] |= (x[k] ^ fx) & (y[k] ^ fy) & (z[k] ^ fz);
                }
            }
        }
        w.set(i.dst, &out, m);
    }
    i.op = crate::compiled!(body);
    Ok(())
}

/// shl and shr; a shift by the width or more leaves nothing, or the sign.
pub fn shift(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    i.dst = l.dest(f.operand(0)?, ty)?;
    i.a = l.source(f.operand(1)?, ty)?;
    if let Operand::Number(Number::Integer(count)) = f.operand(2)?
        && *count < 8 * ty.size() as u64
        && ty.size() >= 4
    {
        i.imm = *count as i64;
        i.op = match (f.base, ty) {
            ("shl", B32) => lanes!(u32, imm => u32, |x, n| x << (n & 31)),
            ("shl", B64) => lanes!(u64, imm => u64, |x, n| x << (n & 63)),
            ("shr", U32 | B32) => lanes!(u32, imm => u32, |x, n| x >> (n & 31)),
            ("shr", U64 | B64) => lanes!(u64, imm => u64, |x, n| x >> (n & 63)),
            ("shr", S32) => lanes!(i32, imm => i32, |x, n| x >> (n & 31)),
            ("shr", S64) => lanes!(i64, imm => i64, |x, n| x >> (n & 63)),
            _ => return f.no_such_form(),
        };
        return Ok(());
    }
    i.b = l.source(f.operand(2)?, U32)?;
    i.op = match (f.base, ty) {
        ("shl", B32) => lanes!(u32, u32 => u32, |x, n| if n > 31 { 0 } else { x << n }),
        ("shl", B64) => lanes!(u64, u32 => u64, |x, n| if n > 63 { 0 } else { x << n }),
        ("shl", B16) => lanes!(u32, u32 => u32, |x, n| if n > 15 { 0 } else { x << n & 0xffff }),
        ("shr", U32 | B32) => lanes!(u32, u32 => u32, |x, n| if n > 31 { 0 } else { x >> n }),
        ("shr", U64 | B64) => lanes!(u64, u32 => u64, |x, n| if n > 63 { 0 } else { x >> n }),
        ("shr", U16 | B16) => lanes!(u32, u32 => u32, |x, n| if n > 15 { 0 } else { x >> n }),
        ("shr", S32) => lanes!(i32, u32 => i32, |x, n| x >> n.min(31)),
        ("shr", S64) => lanes!(i64, u32 => i64, |x, n| x >> n.min(63)),
        ("shr", S16) => lanes!(u32, u32 => u32, |x, n| (x as u16 as i16 >> n.min(15)) as u16 as u32),
        _ => return f.no_such_form(),
    };
    Ok(())
}

/// shf: a shift of two registers as one of 64 bits.
pub fn funnel(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    i.dst = l.dest(f.operand(0)?, B32)?;
    i.a = l.source(f.operand(1)?, B32)?;
    i.b = l.source(f.operand(2)?, B32)?;
    i.c = l.source(f.operand(3)?, U32)?;
    #[inline(always)]
    fn joined(low: u32, high: u32) -> u64 {
        (high as u64) << 32 | low as u64
    }
    i.op = match (f.has("l"), f.has("wrap")) {
        (true, true) => lanes!(u32, u32, u32 => u32, |x, y, n| ((joined(x, y) << (n & 31)) >> 32) as u32),
        (false, true) => lanes!(u32, u32, u32 => u32, |x, y, n| (joined(x, y) >> (n & 31)) as u32),
        (true, false) => lanes!(u32, u32, u32 => u32, |x, y, n| ((joined(x, y) << n.min(32)) >> 32) as u32),
        (false, false) => lanes!(u32, u32, u32 => u32, |x, y, n| (joined(x, y) >> n.min(32)) as u32),
    };
    Ok(())
}

/// popc, clz, brev.
pub fn count(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    i.dst = l.dest(f.operand(0)?, if f.base == "brev" { ty } else { U32 })?;
    i.a = l.source(f.operand(1)?, ty)?;
    i.op = match (f.base, ty) {
        ("popc", B32) => lanes!(u32 => u32, |x| x.count_ones()),
        ("popc", B64) => lanes!(u64 => u32, |x| x.count_ones()),
        ("clz", B32) => lanes!(u32 => u32, |x| x.leading_zeros()),
        ("clz", B64) => lanes!(u64 => u32, |x| x.leading_zeros()),
        ("brev", B32) => lanes!(u32 => u32, |x| x.reverse_bits()),
        ("brev", B64) => lanes!(u64 => u64, |x| x.reverse_bits()),
        _ => return f.no_such_form(),
    };
    Ok(())
}

/// bfind: the position of the highest bit that differs from the sign, or all ones.
pub fn find(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    i.dst = l.dest(f.operand(0)?, U32)?;
    i.a = l.source(f.operand(1)?, ty)?;
    #[inline(always)]
    fn find(zeros: u32, width: u32, shift_amount: bool) -> u32 {
        if zeros == width {
            u32::MAX
        } else if shift_amount {
            zeros
        } else {
            width - 1 - zeros
        }
    }
    #[inline(always)]
    fn magnitude32(x: i32) -> u32 {
        (if x < 0 { !x } else { x }) as u32
    }
    #[inline(always)]
    fn magnitude64(x: i64) -> u64 {
        (if x < 0 { !x } else { x }) as u64
    }
    i.op = match (ty, f.has("shiftamt")) {
        (U32 | B32, false) => lanes!(u32 => u32, |x| find(x.leading_zeros(), 32, false)),
        (U32 | B32, true) => lanes!(u32 => u32, |x| find(x.leading_zeros(), 32, true)),
        (U64 | B64, false) => lanes!(u64 => u32, |x| find(x.leading_zeros(), 64, false)),
        (U64 | B64, true) => lanes!(u64 => u32, |x| find(x.leading_zeros(), 64, true)),
        (S32, false) => lanes!(i32 => u32, |x| find(magnitude32(x).leading_zeros(), 32, false)),
        (S32, true) => lanes!(i32 => u32, |x| find(magnitude32(x).leading_zeros(), 32, true)),
        (S64, false) => lanes!(i64 => u32, |x| find(magnitude64(x).leading_zeros(), 64, false)),
        (S64, true) => lanes!(i64 => u32, |x| find(magnitude64(x).leading_zeros(), 64, true)),
        _ => return f.no_such_form(),
    };
    Ok(())
}

#[inline(always)]
fn low_bits(count: u32) -> u64 {
    if count >= 64 { !0 } else { (1 << count) - 1 }
}

/// A field of a number of `width` bits. Bits beyond its end are zero, or copies of the sign.
#[inline(always)]
fn field(value: u64, position: u32, length: u32, width: u32, is_signed: bool) -> u64 {
    let (position, length) = (position & 255, length & 255);
    if length == 0 {
        return 0;
    }
    let last = (position + length - 1).min(width - 1);
    let sign = if is_signed && value >> last & 1 != 0 { !0 } else { 0 };
    if position >= width {
        return sign;
    }
    let mask = low_bits(length.min(width - position));
    (value >> position & mask) | (sign & !mask)
}

/// bfe
pub fn extract(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    i.dst = l.dest(f.operand(0)?, ty)?;
    i.a = l.source(f.operand(1)?, ty)?;
    i.b = l.source(f.operand(2)?, U32)?;
    i.c = l.source(f.operand(3)?, U32)?;
    i.op = match ty {
        U32 => lanes!(u32, u32, u32 => u32, |x, p, n| field(x as u64, p, n, 32, false) as u32),
        S32 => lanes!(u32, u32, u32 => u32, |x, p, n| field(x as u64, p, n, 32, true) as u32),
        U64 => lanes!(u64, u32, u32 => u64, |x, p, n| field(x, p, n, 64, false)),
        S64 => lanes!(u64, u32, u32 => u64, |x, p, n| field(x, p, n, 64, true)),
        _ => return f.no_such_form(),
    };
    Ok(())
}

/// bfi: `insert d, field, into, position, length`
pub fn insert(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    i.dst = l.dest(f.operand(0)?, ty)?;
    i.a = l.source(f.operand(1)?, ty)?;
    i.b = l.source(f.operand(2)?, ty)?;
    i.c = l.source(f.operand(3)?, U32)?;
    i.list = Box::new([l.source(f.operand(4)?, U32)?]);
    #[inline(always)]
    fn put(x: u64, y: u64, position: u32, length: u32) -> u64 {
        let (position, length) = (position & 255, length & 255);
        if position > 63 {
            return y;
        }
        let mask = low_bits(length) << position;
        (y & !mask) | (x << position & mask)
    }
    fn narrow(w: &mut Warp, i: &Instruction, m: u32) {
        let (x, y) = (w.get::<u32>(i.a), w.get::<u32>(i.b));
        let (position, length) = (w.get::<u32>(i.c), w.get::<u32>(i.list[0]));
        let mut out = [0u32; 32];
        for k in 0..32 {
            out[k] = put(x[k] as u64, y[k] as u64, position[k], length[k]) as u32;
        }
        w.set(i.dst, &out, m);
    }
    fn wide(w: &mut Warp, i: &Instruction, m: u32) {
        let (x, y) = (w.get::<u64>(i.a), w.get::<u64>(i.b));
        let (position, length) = (w.get::<u32>(i.c), w.get::<u32>(i.list[0]));
        let mut out = [0u64; 32];
        for k in 0..32 {
            out[k] = put(x[k], y[k], position[k], length[k]);
        }
        w.set(i.dst, &out, m);
    }
    i.op = match ty {
        B32 => crate::plain!(narrow),
        B64 => crate::plain!(wide),
        _ => return f.no_such_form(),
    };
    Ok(())
}

/// bmsk: ones from a position on.
pub fn bit_mask(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    i.dst = l.dest(f.operand(0)?, B32)?;
    i.a = l.source(f.operand(1)?, U32)?;
    i.b = l.source(f.operand(2)?, U32)?;
    i.op = if f.has("wrap") {
        lanes!(u32, u32 => u32, |p, n| (low_bits(n & 31) << (p & 31)) as u32)
    } else {
        lanes!(u32, u32 => u32, |p, n| if p > 31 { 0 } else { (low_bits(n.min(32)) << p) as u32 })
    };
    Ok(())
}

/// szext: the low bits, extended by zeros or the sign.
pub fn extend(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let ty = f.ty()?;
    i.dst = l.dest(f.operand(0)?, B32)?;
    i.a = l.source(f.operand(1)?, B32)?;
    i.b = l.source(f.operand(2)?, U32)?;
    #[inline(always)]
    fn extended(x: u32, n: u32, is_signed: bool) -> u32 {
        if n >= 32 { x } else { field(x as u64, 0, n, 32, is_signed) as u32 }
    }
    i.op = match (ty, f.has("wrap")) {
        (U32, false) => lanes!(u32, u32 => u32, |x, n| extended(x, n, false)),
        (S32, false) => lanes!(u32, u32 => u32, |x, n| extended(x, n, true)),
        (U32, true) => lanes!(u32, u32 => u32, |x, n| extended(x, n & 31, false)),
        (S32, true) => lanes!(u32, u32 => u32, |x, n| extended(x, n & 31, true)),
        _ => return f.no_such_form(),
    };
    Ok(())
}

/// prmt: picks four of eight bytes, or copies of their signs.
pub fn permute(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    i.dst = l.dest(f.operand(0)?, B32)?;
    i.a = l.source(f.operand(1)?, B32)?;
    i.b = l.source(f.operand(2)?, B32)?;
    i.c = l.source(f.operand(3)?, B32)?;
    #[inline(always)]
    fn picked(x: u32, y: u32, selectors: u32) -> u32 {
        let bytes = (y as u64) << 32 | x as u64;
        let mut out = 0;
        for position in 0..4 {
            let selector = selectors >> (4 * position) & 15;
            let byte = (bytes >> (8 * (selector & 7))) as u8;
            let byte = if selector & 8 != 0 { (byte as i8 >> 7) as u8 } else { byte };
            out |= (byte as u32) << (8 * position);
        }
        out
    }
    // The named modes are selectors that follow from the two low bits of `c`.
    #[inline(always)]
    fn selectors(c: u32, table: [u32; 4]) -> u32 {
        table[(c & 3) as usize]
    }
    i.op = match f.position(&["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"]) {
        Err(_) => lanes!(u32, u32, u32 => u32, |x, y, z| picked(x, y, z)),
        Ok(0) => {
            lanes!(u32, u32, u32 => u32, |x, y, z| picked(x, y, selectors(z, [0x3210, 0x4321, 0x5432, 0x6543])))
        }
        Ok(1) => {
            lanes!(u32, u32, u32 => u32, |x, y, z| picked(x, y, selectors(z, [0x5670, 0x6701, 0x7012, 0x0123])))
        }
        Ok(2) => {
            lanes!(u32, u32, u32 => u32, |x, y, z| picked(x, y, selectors(z, [0x0000, 0x1111, 0x2222, 0x3333])))
        }
        Ok(3) => {
            lanes!(u32, u32, u32 => u32, |x, y, z| picked(x, y, selectors(z, [0x3210, 0x3211, 0x3222, 0x3333])))
        }
        Ok(4) => {
            lanes!(u32, u32, u32 => u32, |x, y, z| picked(x, y, selectors(z, [0x0000, 0x1110, 0x2210, 0x3210])))
        }
        Ok(_) => {
            lanes!(u32, u32, u32 => u32, |x, y, z| picked(x, y, selectors(z, [0x1010, 0x3232, 0x1010, 0x3232])))
        }
    };
    Ok(())
}

fn is_signed(ty: crate::types::Type) -> Result<bool, String> {
    match ty {
        S32 => Ok(true),
        U32 => Ok(false),
        _ => Err("a type other than .u32 and .s32".into()),
    }
}

/// dp4a: a dot product of four bytes, added.
pub fn dot4(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let [first, second] = f.types[..] else { return f.no_such_form() };
    f.same_type(l, i, U32)?;
    i.aux = is_signed(first)? as u32 | (is_signed(second)? as u32) << 1;
    fn body(w: &mut Warp, i: &Instruction, m: u32) {
        let (x, y, z) = (w.get::<u32>(i.a), w.get::<u32>(i.b), w.get::<u32>(i.c));
        let byte = |word: u32, n: u32, signed: bool| {
            let byte = (word >> (8 * n)) as u8;
            if signed { byte as i8 as i32 } else { byte as i32 }
        };
        let mut out = *z;
        for k in 0..32 {
            for n in 0..4 {
                let product = byte(x[k], n, i.aux & 1 != 0) * byte(y[k], n, i.aux & 2 != 0);
                out[k] = out[k].wrapping_add(product as u32);
            }
        }
        w.set(i.dst, &out, m);
    }
    i.op = crate::plain!(body);
    Ok(())
}

/// dp2a: a dot product of two 16-bit numbers with two bytes, added.
pub fn dot2(l: &mut Lowering, f: &Form, i: &mut Instruction) -> Lowered {
    let [first, second] = f.types[..] else { return f.no_such_form() };
    f.same_type(l, i, U32)?;
    i.aux = is_signed(first)? as u32 | (is_signed(second)? as u32) << 1 | (f.has("hi") as u32) << 2;
    fn body(w: &mut Warp, i: &Instruction, m: u32) {
        let (x, y, z) = (w.get::<u32>(i.a), w.get::<u32>(i.b), w.get::<u32>(i.c));
        let mut out = *z;
        for k in 0..32 {
            for n in 0..2 {
                let word = (x[k] >> (16 * n)) as u16;
                let byte = (y[k] >> (8 * (n + if i.aux & 4 != 0 { 2 } else { 0 }))) as u8;
                let a = if i.aux & 1 != 0 { word as i16 as i32 } else { word as i32 };
                let b = if i.aux & 2 != 0 { byte as i8 as i32 } else { byte as i32 };
                out[k] = out[k].wrapping_add((a * b) as u32);
            }
        }
        w.set(i.dst, &out, m);
    }
    i.op = crate::plain!(body);
    Ok(())
}
