//! A kernel ready to run: instructions with their operands resolved to register slots.

use super::warp::Warp;
use crate::exec::lanes::Lanes;
use crate::ptx::ast::{Place, Space};
use crate::types::Type;

/// What an instruction does to the lanes of `mask`.
///
/// It is `unsafe` to call because it may be compiled for instructions that not every CPU has; `lanes::pick` returns
/// only what this CPU can execute, so every `Op` inside an `Instruction` may be called.
pub type Op = unsafe fn(&mut Warp, &Instruction, mask: u32);

/// The slot or predicate that an instruction does not use.
pub const NONE: u32 = u32::MAX;

/// Marks a slot of `Instruction::list` as the first of two (a 64-bit value).
pub const WIDE: u32 = 1 << 31;

/// How control goes on after an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    Next,
    Branch,
    /// To one of `Program::tables[target]`, by the value of `a`.
    BranchIndexed,
    Exit,
    Barrier,
    Trap,
}

/// The classes that the counters tell apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    Integer,
    F32,
    F64,
    Half,
    /// Conversions and moves.
    Move,
    /// Approximate functions, square roots and divisions.
    Special,
    Control,
    Global,
    Shared,
    Local,
    Atomic,
    /// Shuffles, votes, matches.
    Warp,
    /// mma.
    Matrix,
}

pub const CLASSES: [&str; 13] = [
    "integer", "f32", "f64", "half", "move", "special", "control", "global", "shared", "local", "atomic",
    "warp", "matrix",
];

#[derive(Clone)]
pub struct Instruction {
    pub op: Op,
    pub flow: Flow,
    pub class: Class,
    /// Memory instructions: where, what, and whether the address register has 64 bits.
    pub space: Space,
    pub ty: Type,
    pub wide_address: bool,
    /// Volatile, relaxed, acquire and release accesses race with nothing but plain ones.
    pub strong: bool,
    /// Predicate that guards it, twice its number plus 1 if negated.
    pub guard: u32,
    /// Register slots.
    pub dst: u32,
    pub a: u32,
    pub b: u32,
    pub c: u32,
    pub list: Box<[u32]>,
    /// Predicates written and read.
    pub pdst: u32,
    pub pdst2: u32,
    pub psrc: u32,
    /// Address offset or whatever constant the operation needs.
    pub imm: i64,
    /// A second constant.
    pub aux: u32,
    pub target: u32,
}

impl Instruction {
    pub fn new(op: Op) -> Instruction {
        Instruction {
            op,
            flow: Flow::Next,
            class: Class::Integer,
            space: Space::Generic,
            ty: Type::B32,
            wide_address: true,
            strong: false,
            guard: NONE,
            dst: NONE,
            a: NONE,
            b: NONE,
            c: NONE,
            list: Box::new([]),
            pdst: NONE,
            pdst2: NONE,
            psrc: NONE,
            imm: 0,
            aux: 0,
            target: 0,
        }
    }
}

/// Where an instruction comes from, for messages.
#[derive(Clone, Debug)]
pub struct Origin {
    pub opcode: String,
    pub ptx_line: u32,
    pub place: Place,
}

/// Registers that hold a value before the first instruction runs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Preset {
    Constant(u64),
    /// The kernel parameter bytes at this offset, zero-extended.
    Param {
        offset: usize,
        size: usize,
    },
    Special(Special),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Special {
    Tid(usize),
    Ntid(usize),
    Ctaid(usize),
    Nctaid(usize),
    LaneId,
    WarpId,
    NumWarps,
    SmId,
    NumSms,
    GridId,
    LanemaskEq,
    LanemaskLt,
    LanemaskLe,
    LanemaskGt,
    LanemaskGe,
    DynamicShared,
    TotalShared,
}

#[derive(Clone, Copy, Debug)]
pub struct PresetSlot {
    pub slot: u32,
    pub is_wide: bool,
    pub preset: Preset,
}

#[derive(Clone, Copy, Debug)]
pub struct Param {
    pub offset: usize,
    pub size: usize,
}

pub struct Program {
    pub name: String,
    pub code: Vec<Instruction>,
    /// One for each instruction.
    pub origins: Vec<Origin>,
    pub presets: Vec<PresetSlot>,
    pub tables: Vec<Vec<u32>>,
    pub slots: usize,
    pub predicates: usize,
    pub params: Vec<Param>,
    pub param_bytes: usize,
    pub static_shared: usize,
    /// Bytes of local memory a thread.
    pub local: usize,
    pub max_threads: u32,
    /// 32-bit registers declared and used, an upper bound of what a compiler would allocate.
    pub registers: usize,
    /// Whether blocks can see each other: atomics outside shared memory, or strong accesses.
    pub communicates: bool,
    pub files: Vec<(u32, String)>,
}

impl Program {
    /// Checks every slot, predicate and target of every instruction, so that a warp need not.
    pub fn verify(&self) -> Result<(), String> {
        let slot = |slot: u32| {
            slot == NONE || ((slot & !WIDE) as usize) + ((slot & WIDE != 0) as usize) < self.slots
        };
        let predicate = |index: u32| index == NONE || (index as usize) < self.predicates;
        for (at, i) in self.code.iter().enumerate() {
            let fields = [i.dst, i.a, i.b, i.c].into_iter().all(|field| field == NONE || slot(field | WIDE));
            let listed = i.list.iter().all(|&item| slot(item));
            let guards = i.guard == NONE || predicate(i.guard >> 1);
            let predicates = [i.pdst, i.pdst2, i.psrc].into_iter().all(predicate);
            let target = match i.flow {
                Flow::Branch => (i.target as usize) < self.code.len(),
                Flow::BranchIndexed => self.tables.get(i.target as usize).is_some_and(|table| {
                    !table.is_empty() && table.iter().all(|&target| (target as usize) < self.code.len())
                }),
                _ => true,
            };
            if !(fields && listed && guards && predicates && target) {
                return Err(format!(
                    "instruction {at} ({}) names what is not there",
                    self.origins[at].opcode
                ));
            }
        }
        let ends = self.code.last().is_some_and(|i| i.flow == Flow::Exit && i.guard == NONE);
        let presets = self.presets.iter().all(|p| slot(p.slot | WIDE));
        if ends && presets && self.origins.len() == self.code.len() {
            Ok(())
        } else {
            Err("the program does not end".into())
        }
    }

    /// `file:line` of an instruction in the CUDA source, if the module was compiled with line information.
    pub fn source(&self, at: usize) -> Option<String> {
        let place = self.origins.get(at)?.place;
        let (_, file) = self.files.iter().find(|(number, _)| *number == place.file)?;
        Some(format!("{file}:{}", place.line))
    }

    /// A register file for one warp. One slot more than needed, so that a narrow slot may be read as a wide one.
    pub fn register_file(&self) -> Vec<Lanes> {
        vec![Lanes([0; 32]); self.slots + 1]
    }
}
