//! A function of the parsed module → a `Program`: names become slots, labels become targets, opcodes become operations.
//!
//! Registers are virtual while a function is lowered; `slots::share` then lets those that are never alive together
//! share a slot. A `.func` that a kernel calls is lowered in place, once for each call.

use crate::exec::access::LOCAL_WINDOW;
use crate::exec::instruction::*;
use crate::isa;
use crate::ptx::ast::{Function, Module, Number, Operand, Space, Statement, Variable};
use crate::slots;
use crate::types::Type;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Addresses of the module's global and constant variables.
pub type Symbols = HashMap<String, u64>;

#[derive(Clone, Copy, Debug)]
pub struct Register {
    pub id: u32,
    pub ty: Type,
}

/// Registers declared in one pair of braces.
#[derive(Default)]
struct Scope {
    named: HashMap<String, Register>,
    families: Vec<(String, u32, Type)>,
}

/// A `.param` variable of a call: by byte offset, the register that holds a value and its size.
#[derive(Default, Clone)]
struct CallParam {
    values: HashMap<i64, (u32, usize)>,
}

/// What the names of one function mean; a call enters a new frame.
#[derive(Default)]
struct Frame {
    scopes: Vec<Scope>,
    /// Shared and local variables: space and offset.
    variables: HashMap<String, (Space, u64)>,
    call_params: HashMap<String, usize>,
    /// Distinguishes the labels of two calls of one function.
    label_prefix: String,
    /// Where `ret` goes, inside a called function.
    end: Option<String>,
}

pub struct Lowering<'m> {
    module: &'m Module,
    symbols: &'m Symbols,
    frame: Frame,
    depth: usize,
    calls: usize,
    kernel_params: HashMap<String, Param>,
    call_params: Vec<CallParam>,
    /// Whether each virtual register is 64 bits wide.
    wide: Vec<bool>,
    pinned: HashSet<u32>,
    predicates: u32,
    constants: HashMap<(u64, bool), u32>,
    param_values: HashMap<(usize, usize), u32>,
    specials: HashMap<(Special, bool), u32>,
    presets: Vec<PresetSlot>,
    code: Vec<Instruction>,
    origins: Vec<Origin>,
    touched: Vec<slots::Touched>,
    now: slots::Touched,
    labels: HashMap<String, u32>,
    pending: Vec<(usize, String)>,
    tables: HashMap<String, Vec<String>>,
    pending_tables: Vec<(usize, String)>,
    static_shared: usize,
    local: usize,
    registers: usize,
    communicates: bool,
}

/// The predicate register that holds the carry of each lane.
pub const CARRY: u32 = 0;

fn align_up(offset: usize, align: usize) -> usize {
    offset.next_multiple_of(align.max(1))
}

/// Lowers a kernel. The error names opcode and PTX line.
pub fn kernel(module: &Module, function: &Function, symbols: &Symbols) -> Result<Program, String> {
    let mut l = Lowering::new(module, symbols);
    let mut params = Vec::new();
    let mut end = 0;
    for param in &function.params {
        let offset = align_up(end, param.align);
        end = offset + param.size;
        let place = Param { offset, size: param.size };
        params.push(place);
        l.kernel_params.insert(param.name.clone(), place);
    }
    l.place_shared(function)?;
    l.body(function)?;
    l.push(control(Flow::Exit), Origin { opcode: "exit".into(), ptx_line: 0, place: Default::default() });
    l.finish(function, params, end)
}

fn nothing(_: &mut crate::exec::warp::Warp, _: &Instruction, _: u32) {}

/// An instruction that only directs control.
pub fn control(flow: Flow) -> Instruction {
    let mut i = Instruction::new(nothing);
    i.flow = flow;
    i.class = Class::Control;
    i
}

impl<'m> Lowering<'m> {
    fn new(module: &'m Module, symbols: &'m Symbols) -> Self {
        Lowering {
            module,
            symbols,
            frame: Frame { scopes: vec![Scope::default()], ..Frame::default() },
            depth: 0,
            calls: 0,
            kernel_params: HashMap::new(),
            call_params: Vec::new(),
            wide: Vec::new(),
            pinned: HashSet::new(),
            predicates: 1,
            constants: HashMap::new(),
            param_values: HashMap::new(),
            specials: HashMap::new(),
            presets: Vec::new(),
            code: Vec::new(),
            origins: Vec::new(),
            touched: Vec::new(),
            now: slots::Touched::default(),
            labels: HashMap::new(),
            pending: Vec::new(),
            tables: HashMap::new(),
            pending_tables: Vec::new(),
            static_shared: 0,
            local: 0,
            registers: 0,
            communicates: false,
        }
    }

    /// Gives offsets to the shared variables that the kernel, or what it calls, names; the dynamic ones come last.
    fn place_shared(&mut self, function: &Function) -> Result<(), String> {
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

    fn place(&mut self, variable: &Variable) {
        let end = if variable.space == Space::Shared { &mut self.static_shared } else { &mut self.local };
        let offset = align_up(*end, variable.align);
        *end = offset + variable.size;
        self.frame.variables.insert(variable.name.clone(), (variable.space, offset as u64));
    }

    // ---- statements ----

    fn body(&mut self, function: &Function) -> Result<(), String> {
        for statement in function.body.iter().flatten() {
            match statement {
                Statement::Open => self.frame.scopes.push(Scope::default()),
                Statement::Close => {
                    self.frame.scopes.pop();
                }
                Statement::Register { ty, name, count } => {
                    let scope = self.frame.scopes.last_mut().ok_or("a register outside of all braces")?;
                    if *ty != Type::Pred {
                        self.registers += count.unwrap_or(1) as usize * if ty.is_wide() { 2 } else { 1 };
                    }
                    scope.families.push((name.clone(), count.unwrap_or(u32::MAX), *ty));
                }
                Statement::Variable(variable) => match variable.space {
                    Space::Shared => {}
                    Space::Local => self.place(variable),
                    Space::Param => {
                        self.frame.call_params.insert(variable.name.clone(), self.call_params.len());
                        self.call_params.push(CallParam::default());
                    }
                    _ => return Err(format!("the variable {} inside a function", variable.name)),
                },
                Statement::Label(name) => {
                    self.labels.insert(format!("{}{name}", self.frame.label_prefix), self.code.len() as u32);
                }
                Statement::Targets(name, targets) => {
                    let prefix = &self.frame.label_prefix;
                    let targets = targets.iter().map(|target| format!("{prefix}{target}")).collect();
                    self.tables.insert(format!("{prefix}{name}"), targets);
                }
                Statement::Instruction(instruction) => {
                    self.instruction(instruction).map_err(|error| {
                        format!(
                            "cannot execute `{}` (PTX line {}): {error}",
                            instruction.opcode, instruction.ptx_line
                        )
                    })?;
                }
            }
        }
        Ok(())
    }

    fn instruction(&mut self, source: &crate::ptx::ast::Instruction) -> Result<(), String> {
        let opcode = source.opcode.clone();
        let origin = Origin { opcode, ptx_line: source.ptx_line, place: source.place };
        let form = isa::Form::new(&source.opcode, &source.operands)?;
        self.now = slots::Touched::default();
        let mut guard = NONE;
        if let Some((name, negated)) = &source.guard {
            guard = self.predicate(name)? * 2 + *negated as u32;
        }
        if form.base == "call" {
            return self.call(&form, guard, origin);
        }
        let mut i = Instruction::new(nothing);
        i.guard = guard;
        form.opcode.lower(self, &form, &mut i)?;
        self.push(i, origin);
        Ok(())
    }

    /// Adds an instruction, with the registers named since the last one.
    pub fn push(&mut self, i: Instruction, origin: Origin) {
        let outside = matches!(i.space, Space::Global | Space::Generic);
        self.communicates |= outside && (i.strong || i.class == Class::Atomic);
        self.code.push(i);
        self.origins.push(origin);
        self.touched.push(std::mem::take(&mut self.now));
    }

    // ---- calls ----

    fn call(&mut self, form: &isa::Form, guard: u32, origin: Origin) -> Result<(), String> {
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

    /// Where a `ret` of the present function goes, if it does not end the thread.
    pub fn return_label(&self) -> Option<String> {
        self.frame.end.clone()
    }

    /// Marks the instruction that is being lowered as a branch to this label.
    pub fn branch_to(&mut self, label: &str, is_qualified: bool) {
        let label =
            if is_qualified { label.to_string() } else { format!("{}{label}", self.frame.label_prefix) };
        self.pending.push((self.code.len(), label));
    }

    pub fn branch_by(&mut self, table: &str) {
        self.pending_tables.push((self.code.len(), format!("{}{table}", self.frame.label_prefix)));
    }

    // ---- registers and operands ----

    fn scratch(&mut self, is_wide: bool) -> u32 {
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

    /// Whether a name is a variable of this function in that space.
    pub fn is_local(&self, name: &str) -> bool {
        matches!(self.frame.variables.get(name), Some((Space::Local, _)))
    }

    // ---- the end ----

    fn finish(
        mut self,
        function: &Function,
        params: Vec<Param>,
        param_bytes: usize,
    ) -> Result<Program, String> {
        let _ = LOCAL_WINDOW;
        let missing =
            |label: &str| format!("there is no label {}", label.rsplit('#').next().unwrap_or(label));
        for (at, label) in &self.pending {
            self.code[*at].target = *self.labels.get(label).ok_or_else(|| missing(label))?;
        }
        let mut tables = Vec::new();
        for (at, name) in &self.pending_tables {
            let labels = self.tables.get(name).ok_or_else(|| missing(name))?;
            let targets: Result<Vec<u32>, String> = labels
                .iter()
                .map(|label| self.labels.get(label).copied().ok_or_else(|| missing(label)))
                .collect();
            self.code[*at].target = tables.len() as u32;
            tables.push(targets?);
        }
        let shared = slots::share(&mut self.code, &tables, &self.touched, &self.wide, &self.pinned);
        for preset in &mut self.presets {
            preset.slot = shared.slot_of[preset.slot as usize];
        }
        let mut files: Vec<(u32, String)> =
            self.module.files.iter().map(|(number, name)| (*number, name.clone())).collect();
        files.sort();
        let program = Program {
            name: function.name.clone(),
            code: self.code,
            origins: self.origins,
            presets: self.presets,
            tables,
            slots: shared.slots,
            predicates: self.predicates as usize,
            params,
            param_bytes,
            static_shared: self.static_shared,
            local: align_up(self.local, 16),
            max_threads: function.max_threads,
            registers: self.registers,
            communicates: self.communicates,
            files,
        };
        program.verify()?;
        Ok(program)
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
