//! What the parser makes of a module: plain data, nothing resolved.

use crate::types::Type;
use std::collections::HashMap;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Space {
    Global,
    Const,
    Shared,
    Local,
    Param,
    Generic,
}

/// A literal, still without the type that its place will give it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Number {
    /// Two's complement in 64 bits.
    Integer(u64),
    F32(f32),
    F64(f64),
}

#[derive(Clone, PartialEq, Debug)]
pub enum Operand {
    /// A register, symbol or label, with a byte offset for a symbol.
    Name(String, i64),
    Number(Number),
    /// `!%p`
    Not(String),
    /// `%p|%q` or `%r|%p`
    Pair(String, String),
    /// `{a, b}`
    Vector(Vec<Operand>),
    /// `[base+offset]`
    Address(Box<Operand>, i64),
    /// `(a, b)` of a call
    Group(Vec<Operand>),
}

/// One piece of an initialiser.
#[derive(Clone, PartialEq, Debug)]
pub enum Initial {
    Number(Number),
    /// The address of a variable plus an offset.
    Address(String, i64),
}

#[derive(Clone, PartialEq, Debug)]
pub struct Variable {
    pub space: Space,
    pub ty: Type,
    pub name: String,
    pub align: usize,
    /// Bytes; 0 for an array of open length.
    pub size: usize,
    pub is_extern: bool,
    pub initial: Vec<Initial>,
}

/// A place in the source that NVRTC compiled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Place {
    pub file: u32,
    pub line: u32,
}

#[derive(Clone, Debug)]
pub struct Instruction {
    /// The predicate that guards it, and whether it is negated.
    pub guard: Option<(String, bool)>,
    pub opcode: String,
    pub operands: Vec<Operand>,
    pub ptx_line: u32,
    pub place: Place,
}

#[derive(Clone, Debug)]
pub enum Statement {
    Open,
    Close,
    /// `.reg .b32 %r<count>` or, without a count, a single name.
    Register {
        ty: Type,
        name: String,
        count: Option<u32>,
    },
    Variable(Variable),
    Label(String),
    /// `name: .branchtargets a, b;`
    Targets(String, Vec<String>),
    Instruction(Instruction),
}

#[derive(Clone, Debug)]
pub struct Function {
    pub name: String,
    pub is_entry: bool,
    pub results: Vec<Variable>,
    pub params: Vec<Variable>,
    /// None for a declaration.
    pub body: Option<Vec<Statement>>,
    pub max_threads: u32,
}

#[derive(Debug, Default)]
pub struct Module {
    /// The PTX version, times ten.
    pub version: u32,
    /// The architecture in `.target sm_NN`.
    pub target: u32,
    pub files: HashMap<u32, String>,
    pub variables: Vec<Variable>,
    pub functions: Vec<Function>,
}
