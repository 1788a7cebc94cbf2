//! What a planned step becomes on a GPU: launches of compiled functions, with everything but addresses
//! fixed. Choosing them needs no driver, so that tests, budgets and roofline bounds can look at them on
//! any machine.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// CUDA C++ text to compile.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Source {
    /// A file of `kernels/`, by its name without the ending.
    File(&'static str),
    /// Text that was made for a plan (pointwise expressions).
    Generated(String),
}

/// A function of a source, compiled with some definitions: a variant.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Function {
    pub source: Source,
    /// `NAME=VALUE`, in a fixed order; equal sources and definitions are one module.
    pub defines: Vec<String>,
    pub entry: Cow<'static, str>,
    /// Dynamic shared memory that a launch may ask for, in bytes; above 48 KiB the function must be told.
    pub dynamic_shared: u32,
}

/// An argument of a launch, in the order of the function's parameters.
#[derive(Clone, PartialEq, Debug)]
pub enum Argument {
    /// Address of the step's read number so and so.
    Read(usize),
    /// Address of the step's write number so and so.
    Write(usize),
    /// Address within the step's workspace, in real elements.
    Workspace(usize),
    /// A null pointer, for an operand that this variant has not.
    Null,
    U32(u32),
    U64(u64),
    F32(f32),
    /// A structure, passed by value; as the kernel lays it out.
    Bytes(Vec<u8>),
    /// Address of a table of 8-byte values: [`Argument::Read`], [`Argument::Write`], [`Argument::U64`].
    Table(Vec<Argument>),
}

/// One launch.
#[derive(Clone, PartialEq, Debug)]
pub struct Launch {
    pub function: Function,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub arguments: Vec<Argument>,
}

/// How products of convolutions and matrices are computed. Sums are in single precision always.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Precision {
    /// Single-precision multiply-adds.
    #[default]
    F32,
    /// Tensor cores, operands rounded to TF32 (10 bits of mantissa).
    Tf32,
    /// Tensor cores, operands rounded to BF16 (7 bits of mantissa).
    Bf16,
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Precision::F32),
            "tf32" => Ok(Precision::Tf32),
            "bf16" => Ok(Precision::Bf16),
            _ => Err(format!("'{text}' is not f32, tf32 or bf16")),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
        })
    }
}
