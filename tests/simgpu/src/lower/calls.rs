//! Calls: `vprintf` and `__assertfail` are operations, functions of the module are lowered in place.

use super::{Frame, Lowering, Scope, control};
use crate::exec::instruction::*;
use crate::isa;
use crate::ptx::ast::{Operand, Space};
use crate::types::Type;

impl Lowering<'_> {
    pub(super) fn call(&mut self, form: &isa::Form, guard: u32, origin: Origin) -> Result<(), String> {
        let (mut results, mut name, mut arguments) = (&[][..], None, &[][..]);
        for operand in form.operands {
            match operand {
                Operand::Group(group) if name.is_none() => results = group,
                Operand::Group(group) => arguments = group,
                Operand::Name(found, 0) if name.is_none() => name = Some(found.as_str()),
                _ => return Err("a call through a pointer".into()),
            }
        }
        let name = name.ok_or("a call of nothing")?;
        let ids = |l: &Self, group: &[Operand]| -> Result<Vec<usize>, String> {
            group.iter().map(|operand| l.call_param_of(operand)).collect()
        };
        let (results, arguments) = (ids(self, results)?, ids(self, arguments)?);
        match name {
            "vprintf" | "__assertfail" => {
                let mut i = Instruction::new(if name == "vprintf" {
                    crate::exec::text::print
                } else {
                    crate::exec::text::assert_fail
                });
                (i.guard, i.class) = (guard, Class::Control);
                let mut list = Vec::new();
                for &id in &arguments {
                    let &(register, size) =
                        self.call_params[id].values.get(&0).ok_or("an argument without a value")?;
                    self.now.uses.push(register);
                    list.push(register | if size == 8 { WIDE } else { 0 });
                }
                let needed = if name == "vprintf" { 2 } else { 4 };
                if list.len() < needed || list[0] & WIDE == 0 || list[1] & WIDE == 0 {
                    return Err("unusual arguments".into());
                }
                i.list = list.into();
                if let (Some(&id), "vprintf") = (results.first(), name) {
                    i.dst = self.call_value(id, 0, 4);
                    self.now.defs.push(i.dst);
                }
                self.push(i, origin);
                Ok(())
            }
            _ => self.inline(name, &results, &arguments, guard, origin),
        }
    }

    fn inline(
        &mut self,
        name: &str,
        results: &[usize],
        arguments: &[usize],
        guard: u32,
        origin: Origin,
    ) -> Result<(), String> {
        let module = self.module;
        let callee = module.functions.iter().find(|f| f.name == name && f.body.is_some());
        let callee = callee.ok_or_else(|| format!("a call of {name}, which has no body here"))?;
        if self.depth == 16 {
            return Err(format!("recursion, at the call of {name}"));
        }
        self.calls += 1;
        let prefix = format!("{name}#{}#", self.calls);
        let end = format!("{prefix}end");
        if guard != NONE {
            let mut skip = control(Flow::Branch);
            skip.guard = guard ^ 1;
            self.pending.push((self.code.len(), end.clone()));
            self.push(skip, origin);
        }
        let shared = self.frame.variables.iter().filter(|(_, (space, _))| *space == Space::Shared);
        let mut frame = Frame {
            scopes: vec![Scope::default()],
            variables: shared.map(|(name, place)| (name.clone(), *place)).collect(),
            label_prefix: prefix,
            end: Some(end.clone()),
            ..Frame::default()
        };
        for (variables, ids) in [(&callee.results, results), (&callee.params, arguments)] {
            if variables.len() != ids.len() {
                return Err(format!("a call of {name} with {} instead of {}", ids.len(), variables.len()));
            }
            for (variable, &id) in variables.iter().zip(ids) {
                frame.call_params.insert(variable.name.clone(), id);
            }
        }
        let caller = std::mem::replace(&mut self.frame, frame);
        self.depth += 1;
        self.body(callee)?;
        self.depth -= 1;
        self.frame = caller;
        self.labels.insert(end, self.code.len() as u32);
        Ok(())
    }

    fn call_param_of(&self, operand: &Operand) -> Result<usize, String> {
        match operand {
            Operand::Name(name, 0) => {
                self.frame.call_params.get(name).copied().ok_or_else(|| format!("no parameter {name}"))
            }
            _ => Err("an argument that is no parameter".into()),
        }
    }

    /// The register that holds a value of a call's parameter.
    fn call_value(&mut self, id: usize, offset: i64, size: usize) -> u32 {
        if let Some(&(register, found)) = self.call_params[id].values.get(&offset)
            && found == size
        {
            return register;
        }
        let register = self.scratch(size == 8);
        self.call_params[id].values.insert(offset, (register, size));
        register
    }

    /// The register behind `[param+offset]` of a call, to be written or read. What is read must have been written in
    /// one piece of the same size.
    pub fn call_slot(&mut self, name: &str, offset: i64, ty: Type, is_written: bool) -> Result<u32, String> {
        let &id = self.frame.call_params.get(name).ok_or_else(|| format!("the parameter {name}"))?;
        let known = self.call_params[id].values.get(&offset);
        if !is_written && known.is_none_or(|&(_, size)| size != ty.size()) {
            return Err(format!("{} bytes of {name}+{offset}, which were not passed as such", ty.size()));
        }
        let register = self.call_value(id, offset, ty.size());
        let list = if is_written { &mut self.now.defs } else { &mut self.now.uses };
        list.push(register);
        Ok(register)
    }
}
