//! The instruction set: one table of opcodes, and one file a family that says what each does to a lane.
//!
//! To add an opcode, add a row to `OPCODES` with the modifiers it knows, and a lowering function to the file of its
//! family. A lowering function resolves operands to slots and chooses an operation; types and modifiers that it does
//! not know are errors, so nothing is ever executed wrongly in silence.

pub mod arithmetic;
pub mod atomics;
pub mod bits;
pub mod compare;
pub mod control;
pub mod convert;
pub mod copies;
pub mod float;
pub mod half;
pub mod matrix;
pub mod memory;
pub mod moves;
pub mod short;
pub mod warp;

use crate::exec::instruction::{Instruction, Special};
use crate::lower::Lowering;
use crate::ptx::ast::{Operand, Space};
use crate::types::Type;

pub type Lower = fn(&mut Lowering, &Form, &mut Instruction) -> Result<(), String>;

pub struct Opcode {
    pub name: &'static str,
    /// What may follow the name besides types, separated by blanks. Others are refused.
    pub modifiers: &'static str,
    lower: Lower,
}

impl Opcode {
    pub fn lower(&self, l: &mut Lowering, form: &Form, i: &mut Instruction) -> Result<(), String> {
        (self.lower)(l, form, i)
    }
}

const fn row(name: &'static str, modifiers: &'static str, lower: Lower) -> Opcode {
    Opcode { name, modifiers, lower }
}

const LOADS: &str = "global shared shared::cta local const param v2 v4 nc ca cg cs lu cv \
     volatile relaxed acquire weak cta gpu sys \
     L1::evict_normal L1::evict_unchanged L1::evict_first L1::evict_last L1::no_allocate \
     L2::64B L2::128B L2::256B L2::cache_hint";
const STORES: &str = "global shared shared::cta local param v2 v4 wb cg cs wt \
     volatile relaxed release weak cta gpu sys \
     L1::evict_normal L1::evict_unchanged L1::evict_first L1::evict_last L1::no_allocate L2::cache_hint";

pub const OPCODES: &[Opcode] = &[
    row("abs", "ftz", arithmetic::negate),
    row("activemask", "", warp::activemask),
    row("add", "rn rz rm rp ftz sat cc", arithmetic::add),
    row("addc", "cc", arithmetic::add_carry),
    row("and", "", bits::logic),
    row(
        "atom",
        "global shared shared::cta relaxed acquire release acq_rel cta gpu sys add min max and or xor exch cas \
         inc dec noftz",
        atomics::atomic,
    ),
    row("bar", "sync red arrive warp popc and or", control::barrier),
    row("barrier", "sync red arrive popc and or aligned", control::barrier),
    row("bfe", "", bits::extract),
    row("bfi", "", bits::insert),
    row("bfind", "shiftamt", bits::find),
    row("bmsk", "clamp wrap", bits::bit_mask),
    row("bra", "uni", control::branch),
    row("brev", "", bits::count),
    row("brx", "idx", control::branch_indexed),
    row("call", "uni", control::call),
    row("clz", "", bits::count),
    row("cnot", "", bits::logic_not),
    row("copysign", "", float::copysign),
    row("cos", "approx ftz", float::function),
    row(
        "cp",
        "async ca cg shared shared::cta global commit_group wait_group wait_all L2::64B L2::128B \
         L2::256B",
        copies::copy_async,
    ),
    row("cvt", "rn rz rm rp rna rni rzi rmi rpi ftz sat relu", convert::convert),
    row("cvta", "to global shared shared::cta local const param", moves::convert_address),
    row("div", "rn ftz approx full", arithmetic::divide),
    row("dp2a", "lo hi", bits::dot2),
    row("dp4a", "", bits::dot4),
    row("ex2", "approx ftz", float::function),
    row("exit", "", control::exit),
    row("fence", "sc acq_rel cta gpu sys", control::fence),
    row("fma", "rn rz rm rp ftz sat relu", float::fused),
    row("isspacep", "global shared shared::cta local", moves::is_space),
    row("ld", LOADS, memory::load),
    row("ldmatrix", "sync aligned m8n8 x1 x2 x4 trans shared shared::cta", matrix::load_matrix),
    row("lg2", "approx ftz", float::function),
    row("lop3", "", bits::lop3),
    row("mad", "lo hi wide sat cc rn rz rm rp ftz", arithmetic::multiply_add),
    row("mad24", "lo hi", arithmetic::multiply_add_24),
    row("madc", "lo hi cc", arithmetic::multiply_add_carry),
    row("match", "any all sync", warp::matches),
    row("max", "ftz NaN", arithmetic::extreme),
    row("membar", "cta gl sys", control::fence),
    row("min", "ftz NaN", arithmetic::extreme),
    row("mma", "sync aligned m16n8k4 m16n8k8 m16n8k16 row col", matrix::multiply),
    row("mov", "", moves::mov),
    row("movmatrix", "sync aligned m8n8 trans", matrix::transpose),
    row("mul", "lo hi wide rn rz rm rp ftz sat", arithmetic::multiply),
    row("mul24", "lo hi", arithmetic::multiply_24),
    row("nanosleep", "", control::nothing),
    row("neg", "ftz", arithmetic::negate),
    row("not", "", bits::logic_not),
    row("or", "", bits::logic),
    row("popc", "", bits::count),
    row("prefetch", "global L1 L2", control::nothing),
    row("prmt", "f4e b4e rc8 ecl ecr rc16", bits::permute),
    row("rcp", "rn approx ftz", float::function),
    row(
        "red",
        "global shared shared::cta relaxed release cta gpu sys add min max and or xor inc dec noftz",
        atomics::atomic,
    ),
    row("redux", "sync add min max and or xor", warp::reduce),
    row("rem", "", arithmetic::divide),
    row("ret", "uni", control::ret),
    row("rsqrt", "approx ftz", float::function),
    row("sad", "", arithmetic::absolute_difference),
    row("selp", "", compare::select),
    row(
        "set",
        "eq ne lt le gt ge lo ls hi hs equ neu ltu leu gtu geu num nan and or xor ftz",
        compare::set_value,
    ),
    row(
        "setp",
        "eq ne lt le gt ge lo ls hi hs equ neu ltu leu gtu geu num nan and or xor ftz",
        compare::set_predicate,
    ),
    row("shf", "l r wrap clamp", bits::funnel),
    row("shfl", "sync up down bfly idx", warp::shuffle),
    row("shl", "", bits::shift),
    row("shr", "", bits::shift),
    row("sin", "approx ftz", float::function),
    row("slct", "ftz", compare::select_by_sign),
    row("sqrt", "rn approx ftz", float::function),
    row("st", STORES, memory::store),
    row("sub", "rn rz rm rp ftz sat cc", arithmetic::add),
    row("subc", "cc", arithmetic::add_carry),
    row("szext", "clamp wrap", bits::extend),
    row("tanh", "approx", float::function),
    row("testp", "finite infinite number notanumber normal subnormal", float::test),
    row("trap", "", control::trap),
    row("vote", "sync all any uni ballot", warp::vote),
    row("xor", "", bits::logic),
];

/// An opcode with its modifiers and operands.
pub struct Form<'s> {
    pub opcode: &'static Opcode,
    pub base: &'s str,
    parts: Vec<&'s str>,
    pub types: Vec<Type>,
    pub operands: &'s [Operand],
}

impl<'s> Form<'s> {
    /// Refuses an opcode that is not in the table, and modifiers that its row does not list.
    pub fn new(text: &'s str, operands: &'s [Operand]) -> Result<Form<'s>, String> {
        let mut pieces = text.split('.');
        let base = pieces.next().unwrap_or("");
        let at = OPCODES.binary_search_by(|opcode| opcode.name.cmp(base)).map_err(|_| "an unknown opcode")?;
        let opcode = &OPCODES[at];
        let (mut parts, mut types) = (Vec::new(), Vec::new());
        for part in pieces {
            match Type::parse(part) {
                Some(ty) => types.push(ty),
                None if opcode.modifiers.split_ascii_whitespace().any(|known| known == part) => {
                    parts.push(part)
                }
                None => return Err(format!("the modifier .{part} is not known")),
            }
        }
        Ok(Form { opcode, base, parts, types, operands })
    }

    pub fn has(&self, part: &str) -> bool {
        self.parts.contains(&part)
    }

    /// The last type, which is that of the sources.
    pub fn ty(&self) -> Result<Type, String> {
        self.types.last().copied().ok_or_else(|| "no type".into())
    }

    pub fn operand(&self, index: usize) -> Result<&'s Operand, String> {
        self.operands.get(index).ok_or_else(|| format!("there is no operand {index}"))
    }

    /// Which of these modifiers it has.
    pub fn position(&self, names: &[&str]) -> Result<usize, String> {
        names.iter().position(|name| self.has(name)).ok_or_else(|| format!("none of {}", names.join(", ")))
    }

    pub fn space(&self) -> Space {
        for part in &self.parts {
            match *part {
                "global" => return Space::Global,
                "shared" | "shared::cta" => return Space::Shared,
                "local" => return Space::Local,
                "const" => return Space::Const,
                "param" => return Space::Param,
                _ => {}
            }
        }
        Space::Generic
    }

    /// Directed rounding: 0 nearest, 1 to zero, 2 down, 3 up.
    pub fn rounding(&self) -> u8 {
        if self.has("rz") {
            1
        } else if self.has("rm") {
            2
        } else if self.has("rp") {
            3
        } else {
            0
        }
    }

    pub fn no_such_form<T>(&self) -> Result<T, String> {
        Err("this form is not known".into())
    }

    /// Sets `dst`, `a`, `b`, `c` from as many operands as there are, all of one type.
    pub fn same_type(&self, l: &mut Lowering, i: &mut Instruction, ty: Type) -> Result<(), String> {
        for (index, operand) in self.operands.iter().enumerate() {
            let field = match index {
                0 => {
                    i.dst = l.dest(operand, ty)?;
                    continue;
                }
                1 => &mut i.a,
                2 => &mut i.b,
                3 => &mut i.c,
                _ => return Err("too many operands".into()),
            };
            *field = l.source(operand, ty)?;
        }
        Ok(())
    }
}

/// Registers that the hardware fills.
pub fn special(name: &str) -> Option<Special> {
    let (base, axis) = match name.rsplit_once('.') {
        Some((base, "x")) => (base, 0),
        Some((base, "y")) => (base, 1),
        Some((base, "z")) => (base, 2),
        _ => (name, 3),
    };
    if axis < 3 {
        return Some(match base {
            "%tid" => Special::Tid(axis),
            "%ntid" => Special::Ntid(axis),
            "%ctaid" => Special::Ctaid(axis),
            "%nctaid" => Special::Nctaid(axis),
            _ => return None,
        });
    }
    Some(match name {
        "%laneid" => Special::LaneId,
        "%warpid" => Special::WarpId,
        "%nwarpid" => Special::NumWarps,
        "%smid" => Special::SmId,
        "%nsmid" => Special::NumSms,
        "%gridid" => Special::GridId,
        "%lanemask_eq" => Special::LanemaskEq,
        "%lanemask_lt" => Special::LanemaskLt,
        "%lanemask_le" => Special::LanemaskLe,
        "%lanemask_gt" => Special::LanemaskGt,
        "%lanemask_ge" => Special::LanemaskGe,
        "%dynamic_smem_size" => Special::DynamicShared,
        "%total_smem_size" => Special::TotalShared,
        _ => return None,
    })
}

/// The list for the README.
pub fn list() -> String {
    let mut text = String::new();
    for opcode in OPCODES {
        let modifiers: Vec<String> =
            opcode.modifiers.split_ascii_whitespace().map(|part| format!(".{part}")).collect();
        text += &format!("{} {}\n", opcode.name, modifiers.join(" ")).replace(" \n", "\n");
    }
    text
}
