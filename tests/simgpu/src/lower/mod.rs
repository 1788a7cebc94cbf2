//! A function of the parsed module → a `Program`: names become slots, labels become targets, opcodes become operations.
//!
//! Registers are virtual while a function is lowered; `slots::share` then lets those that are never alive together
//! share a slot. A `.func` that a kernel calls is lowered in place, once for each call.

mod calls;
mod operands;
mod slots;
mod variables;

use crate::exec::instruction::*;
use crate::isa;
use crate::ptx::ast::{Function, Module, Space, Statement};
use crate::types::Type;
use std::collections::{HashMap, HashSet};

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

    fn finish(
        mut self,
        function: &Function,
        params: Vec<Param>,
        param_bytes: usize,
    ) -> Result<Program, String> {
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
