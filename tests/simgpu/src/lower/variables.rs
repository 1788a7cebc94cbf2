//! Shared and local variables: which of them a kernel has, and where they lie.

use super::{Lowering, align_up};
use crate::ptx::ast::{Function, Operand, Space, Statement, Variable};
use std::collections::{BTreeSet, HashSet};

impl Lowering<'_> {
    /// Gives offsets to the shared variables that the kernel, or what it calls, names; the dynamic ones come last.
    pub(super) fn place_shared(&mut self, function: &Function) -> Result<(), String> {
        let mut names = BTreeSet::new();
        let mut inside = Vec::new();
        let mut todo = vec![function.name.clone()];
        let mut seen = HashSet::new();
        while let Some(name) = todo.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            let Some(function) = self.module.functions.iter().find(|f| f.name == name && f.body.is_some())
            else {
                continue;
            };
            for statement in function.body.iter().flatten() {
                match statement {
                    Statement::Variable(variable) if variable.space == Space::Shared => inside.push(variable),
                    Statement::Instruction(instruction) => {
                        for operand in &instruction.operands {
                            names_in(operand, &mut names);
                        }
                    }
                    _ => {}
                }
            }
            todo.extend(names.iter().filter(|name| !seen.contains(*name)).cloned());
        }
        let module = self.module;
        let outside = module
            .variables
            .iter()
            .filter(|v| v.space == Space::Shared && names.contains(&v.name))
            .collect::<Vec<_>>();
        let is_dynamic = |variable: &Variable| variable.is_extern || variable.size == 0;
        let all = outside.iter().chain(&inside);
        let mut align = 16;
        for variable in all.clone() {
            align = align.max(variable.align);
            if !is_dynamic(variable) {
                self.place(variable);
            }
        }
        if self.static_shared > 1 << 24 {
            return Err("more than 16 MiB of shared memory".into());
        }
        if all.clone().any(|variable| is_dynamic(variable)) {
            self.static_shared = align_up(self.static_shared, align);
        }
        for variable in all.filter(|variable| is_dynamic(variable)) {
            let start = self.static_shared as u64;
            self.frame.variables.insert(variable.name.clone(), (Space::Shared, start));
        }
        Ok(())
    }

    pub(super) fn place(&mut self, variable: &Variable) {
        let end = if variable.space == Space::Shared { &mut self.static_shared } else { &mut self.local };
        let offset = align_up(*end, variable.align);
        *end = offset + variable.size;
        self.frame.variables.insert(variable.name.clone(), (variable.space, offset as u64));
    }
}

fn names_in(operand: &Operand, into: &mut BTreeSet<String>) {
    match operand {
        Operand::Name(name, _) => {
            into.insert(name.clone());
        }
        Operand::Vector(items) | Operand::Group(items) => {
            for item in items {
                names_in(item, into);
            }
        }
        Operand::Address(base, _) => names_in(base, into),
        _ => {}
    }
}
