//! Chains of elementwise operations as one step: a tiny register program that devices run over
//! blocks of elements, so that intermediate values never reach memory.

use std::fmt;

use super::Place;
use crate::ops::{Attribute, Pointwise};

/// Registers that an expression may use at once.
pub const REGISTERS: usize = 8;

/// Distinct operands that one expression may read.
pub const OPERANDS: usize = 16;

/// How element `i` of the result reads an operand: element `(i / (count·inner)) · inner + i % inner`,
/// which is what a `Repeat { outer, count, inner }` does; `count = 1` reads element `i` itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Access {
    pub count: usize,
    pub inner: usize,
}

impl Access {
    pub const DIRECT: Access = Access { count: 1, inner: 1 };

    pub fn index(&self, i: usize) -> usize {
        if self.count == 1 { i } else { i / (self.count * self.inner) * self.inner + i % self.inner }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Instruction {
    /// Read operand number `operand`.
    Load {
        to: u8,
        operand: u8,
        access: Access,
    },
    Constant {
        to: u8,
        value: Attribute,
    },
    /// `to = op(a, b)`; one-operand operations ignore `b`.
    Apply {
        to: u8,
        op: Pointwise,
        a: u8,
        b: u8,
    },
}

/// A register program; its result is in register 0.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Expression {
    pub len: usize,
    pub code: Vec<Instruction>,
}

impl Expression {
    /// Number of elementwise operations.
    pub fn operations(&self) -> usize {
        self.code.iter().filter(|i| matches!(i, Instruction::Apply { .. })).count()
    }

    /// Is `place` read element by element wherever it is read?
    pub(super) fn reads_in_place(&self, place: &Place, reads: &[Place]) -> bool {
        self.code.iter().all(|i| match i {
            Instruction::Load { operand, access, .. } => {
                reads[*operand as usize] != *place || *access == Access::DIRECT
            }
            _ => true,
        })
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", self.len)?;
        for i in &self.code {
            match i {
                Instruction::Load { to, operand, access } if *access == Access::DIRECT => {
                    write!(f, " r{to}=#{operand}")?;
                }
                Instruction::Load { to, operand, access } => {
                    write!(f, " r{to}=#{operand}/{}x{}", access.count, access.inner)?;
                }
                Instruction::Constant { to, value } => write!(f, " r{to}={value:?}")?,
                Instruction::Apply { to, op, a, b } => {
                    write!(f, " r{to}={}(r{a},r{b})", crate::ops::Op::Pointwise(*op).name())?;
                }
            }
        }
        Ok(())
    }
}
