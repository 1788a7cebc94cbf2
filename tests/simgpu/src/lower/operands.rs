//! Operands: registers, constants, parameters, special registers and addresses, as slots.

use super::{Lowering, Register};
use crate::exec::instruction::*;
use crate::isa;
use crate::ptx::ast::{Number, Operand};
use crate::types::Type;

impl Lowering<'_> {
    pub(super) fn scratch(&mut self, is_wide: bool) -> u32 {
        self.wide.push(is_wide);
        self.wide.len() as u32 - 1
    }

    fn preset(&mut self, is_wide: bool, preset: Preset) -> u32 {
        let slot = self.scratch(is_wide);
        self.pinned.insert(slot);
        self.presets.push(PresetSlot { slot, is_wide, preset });
        slot
    }

    pub fn register(&mut self, name: &str) -> Option<Register> {
        let depth = (0..self.frame.scopes.len()).rev().find_map(|depth| {
            let scope = &self.frame.scopes[depth];
            if let Some(&register) = scope.named.get(name) {
                return Some((depth, None, register));
            }
            scope.families.iter().rev().find_map(|(prefix, count, ty)| {
                let is_member = if *count == u32::MAX {
                    name == prefix
                } else {
                    name.strip_prefix(prefix.as_str())
                        .and_then(|digits| digits.parse::<u32>().ok())
                        .is_some_and(|number| number < *count)
                };
                is_member.then_some((depth, Some(*ty), Register { id: 0, ty: *ty }))
            })
        });
        let (depth, fresh, mut register) = depth?;
        if let Some(ty) = fresh {
            register.id = if ty == Type::Pred {
                self.predicates += 1;
                self.predicates - 1
            } else {
                self.scratch(ty.is_wide())
            };
            self.frame.scopes[depth].named.insert(name.to_string(), register);
        }
        Some(register)
    }

    pub fn constant(&mut self, value: u64, is_wide: bool) -> u32 {
        let value = if is_wide { value } else { value & 0xffff_ffff };
        if let Some(&slot) = self.constants.get(&(value, is_wide)) {
            return slot;
        }
        let slot = self.preset(is_wide, Preset::Constant(value));
        self.constants.insert((value, is_wide), slot);
        slot
    }

    /// The slot that holds bytes of the kernel's parameters.
    pub fn param_value(&mut self, offset: usize, size: usize) -> u32 {
        if let Some(&slot) = self.param_values.get(&(offset, size)) {
            return slot;
        }
        let slot = self.preset(size == 8, Preset::Param { offset, size });
        self.param_values.insert((offset, size), slot);
        slot
    }

    pub fn kernel_param(&self, name: &str) -> Option<Param> {
        if self.depth == 0 { self.kernel_params.get(name).copied() } else { None }
    }

    /// A number as the bits that a register of this type holds.
    pub fn literal(number: Number, ty: Type) -> u64 {
        let bits = match (number, ty) {
            (Number::Integer(value), _) => value,
            (Number::F32(value), Type::F64) => (value as f64).to_bits(),
            (Number::F32(value), _) => value.to_bits() as u64,
            (Number::F64(value), Type::F32) => (value as f32).to_bits() as u64,
            (Number::F64(value), _) => value.to_bits(),
        };
        match ty.size() {
            1 | 2 => bits & 0xffff,
            4 => bits & 0xffff_ffff,
            _ => bits,
        }
    }

    /// The address or offset that a symbol stands for.
    fn symbol(&self, name: &str) -> Option<u64> {
        if let Some(&(_, offset)) = self.frame.variables.get(name) {
            return Some(offset);
        }
        self.symbols.get(name).copied()
    }

    /// The slot of an operand that is read as a value of this type.
    pub fn source(&mut self, operand: &Operand, ty: Type) -> Result<u32, String> {
        match operand {
            Operand::Number(number) => Ok(self.constant(Self::literal(*number, ty), ty.is_wide())),
            Operand::Name(name, offset) => {
                if let Some(register) = self.register(name) {
                    if register.ty == Type::Pred || register.ty.is_wide() != ty.is_wide() || *offset != 0 {
                        return Err(format!("the register {name} as a value of {} bytes", ty.size()));
                    }
                    self.now.uses.push(register.id);
                    return Ok(register.id);
                }
                if let Some(special) = isa::special(name) {
                    return Ok(self.special(special, ty.is_wide()));
                }
                if name == "WARP_SZ" {
                    return Ok(self.constant(32, ty.is_wide()));
                }
                match self.symbol(name) {
                    Some(address) => Ok(self.constant(address.wrapping_add(*offset as u64), ty.is_wide())),
                    None => Err(format!("the operand {name}")),
                }
            }
            _ => Err("an operand of this shape".into()),
        }
    }

    fn special(&mut self, special: Special, is_wide: bool) -> u32 {
        if let Some(&slot) = self.specials.get(&(special, is_wide)) {
            return slot;
        }
        let slot = self.preset(is_wide, Preset::Special(special));
        self.specials.insert((special, is_wide), slot);
        slot
    }

    /// The slot of an operand that is written with a value of this type; `_` is written nowhere else.
    pub fn dest(&mut self, operand: &Operand, ty: Type) -> Result<u32, String> {
        match operand {
            Operand::Name(name, 0) if name == "_" => Ok(self.scratch(ty.is_wide())),
            Operand::Name(name, 0) => match self.register(name) {
                Some(register) if register.ty != Type::Pred && register.ty.is_wide() == ty.is_wide() => {
                    self.now.defs.push(register.id);
                    Ok(register.id)
                }
                _ => Err(format!("{name} as a place for {} bytes", ty.size())),
            },
            _ => Err("a destination of this shape".into()),
        }
    }

    /// As `dest`, but the register may be wider or narrower than the type; `WIDE` says which it is.
    pub fn dest_any(&mut self, operand: &Operand, ty: Type) -> Result<u32, String> {
        let is_wide = self.width_of(operand).unwrap_or(ty.is_wide());
        let slot = self.dest(operand, if is_wide { Type::B64 } else { Type::B32 })?;
        Ok(slot | if is_wide { WIDE } else { 0 })
    }

    /// As `source`, but the register may be wider than the type; `WIDE` says if it is.
    pub fn source_any(&mut self, operand: &Operand, ty: Type) -> Result<u32, String> {
        let is_wide = self.width_of(operand).unwrap_or(ty.is_wide());
        let as_type = if is_wide == ty.is_wide() {
            ty
        } else if is_wide {
            Type::B64
        } else {
            Type::B32
        };
        let slot = self.source(operand, as_type)?;
        Ok(slot | if is_wide { WIDE } else { 0 })
    }

    fn width_of(&mut self, operand: &Operand) -> Option<bool> {
        match operand {
            Operand::Name(name, _) => self.register(name).map(|register| register.ty.is_wide()),
            _ => None,
        }
    }

    /// The elements of `{a, b}`, or the operand itself.
    pub fn elements(operand: &Operand) -> &[Operand] {
        match operand {
            Operand::Vector(elements) => elements,
            single => std::slice::from_ref(single),
        }
    }

    pub fn predicate(&mut self, name: &str) -> Result<u32, String> {
        match self.register(name) {
            Some(Register { id, ty: Type::Pred }) => Ok(id),
            _ => Err(format!("{name} as a predicate")),
        }
    }

    /// A predicate that is read, and whether it is negated.
    pub fn predicate_source(&mut self, operand: &Operand) -> Result<(u32, bool), String> {
        match operand {
            Operand::Name(name, 0) => Ok((self.predicate(name)?, false)),
            Operand::Not(name) => Ok((self.predicate(name)?, true)),
            _ => Err("a predicate of this shape".into()),
        }
    }

    /// A predicate that is written; `_` is none.
    pub fn predicate_dest(&mut self, operand: &Operand) -> Result<u32, String> {
        match operand {
            Operand::Name(name, 0) if name == "_" => Ok(NONE),
            Operand::Name(name, 0) => self.predicate(name),
            _ => Err("a predicate of this shape".into()),
        }
    }

    /// Sets the address of an instruction.
    pub fn address(&mut self, operand: &Operand, i: &mut Instruction) -> Result<(), String> {
        let (slot, is_wide, offset) = self.address_parts(operand)?;
        (i.a, i.wide_address, i.imm) = (slot, is_wide, offset);
        Ok(())
    }

    pub fn address_parts(&mut self, operand: &Operand) -> Result<(u32, bool, i64), String> {
        let Operand::Address(base, offset) = operand else { return Err("an address of this shape".into()) };
        match &**base {
            Operand::Name(name, _) => {
                if let Some(register) = self.register(name) {
                    if register.ty == Type::Pred {
                        return Err("a predicate as an address".into());
                    }
                    self.now.uses.push(register.id);
                    return Ok((register.id, register.ty.is_wide(), *offset));
                }
                let address = self.symbol(name).ok_or_else(|| format!("the address {name}"))?;
                Ok((self.constant(address, true), true, *offset))
            }
            Operand::Number(number) => {
                Ok((self.constant(Self::literal(*number, Type::B64), true), true, *offset))
            }
            _ => Err("an address of this shape".into()),
        }
    }
}
