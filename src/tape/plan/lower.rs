//! From nodes to steps: what is needed, what is fused, in which order.
//!
//! Walks the program from its end. A node becomes a step only if its value is needed in memory;
//! elementwise producers with a single user are folded into that user's [`Expression`], repeats and
//! constants into every user, and convolutions take what surrounds them
//! ([`super::convolution::absorb`]).

use super::Kernel;
use super::convolution::{self, Absorbed};
use super::expression::{Access, Expression, Instruction, OPERANDS, REGISTERS};
use crate::ops::{Attribute, Gather, Layout, Op, Pool, Reduce};
use crate::tape::{Node, Tape, Var};

/// A value before it has a place: a node's number, or, from `nodes().len()` on, a temporary.
pub(super) type Value = usize;

/// A step whose operands have no places yet.
pub(super) struct Draft {
    pub kernel: Kernel,
    pub reads: Vec<Value>,
    pub writes: Vec<Value>,
    pub node: Var,
    pub flops: u64,
}

/// All steps, and where results go.
pub(super) struct Drafts {
    pub steps: Vec<Draft>,
    /// Number of elements and kind of the temporaries, from value `nodes().len()` on: same as those of
    /// the given node.
    pub temporaries: Vec<Var>,
    pub outputs: Vec<(String, Value)>,
    /// Values that are written straight into the buffer of a leaf.
    pub homes: Vec<(Value, u32)>,
}

/// Who uses each value; reshapes and gradient stops are seen through.
pub(super) struct Uses<'t> {
    pub tape: &'t Tape,
    root: Vec<Var>,
    users: Vec<Vec<Var>>,
    /// Values that must exist in memory whoever else uses them: outputs and assigned values.
    pinned: Vec<bool>,
}

impl<'t> Uses<'t> {
    fn new(tape: &'t Tape) -> Self {
        let count = tape.nodes().len();
        let mut root: Vec<Var> = Vec::with_capacity(count);
        for (i, node) in tape.nodes().iter().enumerate() {
            root.push(match node.op {
                Op::Layout(Layout::Reshape | Layout::StopGradient) => root[node.inputs[0].index()],
                _ => tape.var(i),
            });
        }
        let ends: Vec<Var> =
            tape.outputs().iter().map(|o| o.1).chain(tape.assignments().iter().map(|a| a.1)).collect();
        let live = tape.ancestors(&ends, count);
        let mut users = vec![Vec::new(); count];
        for (i, node) in tape.nodes().iter().enumerate() {
            if live[i] && !matches!(node.op, Op::Layout(_)) {
                node.inputs.iter().for_each(|v| users[root[v.index()].index()].push(tape.var(i)));
            }
        }
        let mut pinned = vec![false; count];
        ends.iter().for_each(|v| pinned[root[v.index()].index()] = true);
        Uses { tape, root, users, pinned }
    }

    /// The node that computes `var`, reshapes and gradient stops removed.
    pub fn root(&self, var: Var) -> Var {
        self.root[var.index()]
    }

    pub fn node(&self, root: Var) -> Node {
        self.tape.node(root)
    }

    pub fn users(&self, root: Var) -> &[Var] {
        &self.users[root.index()]
    }

    pub fn is_pinned(&self, root: Var) -> bool {
        self.pinned[root.index()]
    }

    /// The only user of a value that nobody else needs.
    pub fn only_user(&self, root: Var) -> Option<Var> {
        match (self.users(root), self.is_pinned(root)) {
            (&[user], false) => Some(user),
            _ => None,
        }
    }

    fn is_live(&self, root: Var) -> bool {
        self.is_pinned(root) || !self.users(root).is_empty()
    }
}

pub(super) fn lower(tape: &Tape, fuse: bool) -> Drafts {
    let uses = Uses::new(tape);
    let count = tape.nodes().len();
    let mut calls: Vec<Option<Absorbed>> = (0..count).map(|_| None).collect();
    let mut absorbed = vec![false; count];
    for i in 0..count {
        let var = tape.var(i);
        if absorbed[i] || !uses.is_live(var) || !matches!(tape.node(var).op, Op::Convolution(_)) {
            continue;
        }
        let call = convolution::absorb(&uses, var, fuse);
        call.nodes.iter().for_each(|v| absorbed[v.index()] = true);
        let at = call.tail.index();
        calls[at] = Some(call);
    }

    let mut lowering = Lowering { uses, fuse, absorbed, needed: vec![false; count], steps: Vec::new() };
    let mut temporaries = Vec::new();
    let mut outputs = Vec::new();
    // Written from the end, like everything else: the last step comes first.
    let mut copies = Vec::new();
    for (name, var) in tape.outputs() {
        let root = lowering.uses.root(*var);
        lowering.needed[root.index()] = true;
        if matches!(tape.node(root).op, Op::Leaf(_)) {
            let copy = count + temporaries.len();
            temporaries.push(root);
            copies.push(copy_step(root.index(), copy, root));
            outputs.push((name.clone(), copy));
        } else {
            outputs.push((name.clone(), root.index()));
        }
    }
    let mut homes = Vec::new();
    let mut stores = Vec::new();
    for (state, value) in tape.assignments() {
        let root = lowering.uses.root(*value);
        lowering.needed[root.index()] = true;
        let mut from = root.index();
        if matches!(tape.node(root).op, Op::Leaf(_)) {
            // Through a temporary: the leaf itself may be assigned in this step too.
            from = count + temporaries.len();
            temporaries.push(root);
            copies.push(copy_step(root.index(), from, root));
        }
        stores.push((from, *state, root));
    }

    for i in (0..count).rev() {
        let var = tape.var(i);
        match calls[i].take() {
            Some(call) => {
                let found = call.positions.is_some_and(|p| lowering.needed[p.index()]);
                if lowering.needed[i] || found {
                    lowering.convolution(call);
                }
            }
            None if lowering.needed[i] && !lowering.absorbed[i] => lowering.node(var),
            None => {}
        }
    }
    let mut steps = lowering.steps;
    steps.reverse();
    steps.extend(copies);
    for (from, state, root) in stores {
        let Op::Leaf(leaf) = tape.node(state).op else {
            continue;
        };
        let home = homes.iter().any(|&(v, _)| v == from)
            || outputs.iter().any(|(_, v)| *v == from)
            || !may_live_in(&steps, from, state.index());
        if home {
            let target = count + temporaries.len();
            temporaries.push(root);
            steps.push(copy_step(from, target, root));
            homes.push((target, leaf));
        } else {
            homes.push((from, leaf));
        }
    }
    Drafts { steps, temporaries, outputs, homes }
}

fn copy_step(from: Value, to: Value, node: Var) -> Draft {
    Draft { kernel: Kernel::Copy, reads: vec![from], writes: vec![to], node, flops: 0 }
}

/// Can the step that computes `value` write it straight into the buffer of `leaf`? Only if the old
/// content is not read later, and the step itself reads it, if at all, element by element.
fn may_live_in(steps: &[Draft], value: Value, leaf: Value) -> bool {
    let Some(made) = steps.iter().position(|s| s.writes.contains(&value)) else {
        return false;
    };
    let read_later = steps[made + 1..].iter().any(|s| s.reads.contains(&leaf));
    let read_here = match &steps[made].kernel {
        Kernel::Pointwise(e) => e.code.iter().any(|i| match i {
            Instruction::Load { operand, access, .. } => {
                steps[made].reads[*operand as usize] == leaf && *access != Access::DIRECT
            }
            _ => false,
        }),
        _ => steps[made].reads.contains(&leaf),
    };
    !read_later && !read_here
}

struct Lowering<'t> {
    uses: Uses<'t>,
    fuse: bool,
    /// Nodes whose work a convolution call does.
    absorbed: Vec<bool>,
    needed: Vec<bool>,
    /// In reverse order.
    steps: Vec<Draft>,
}

impl Lowering<'_> {
    fn need(&mut self, var: Var) -> Value {
        let root = self.uses.root(var);
        self.needed[root.index()] = true;
        root.index()
    }

    fn push(&mut self, kernel: Kernel, reads: Vec<Value>, writes: Vec<Value>, node: Var, flops: u64) {
        self.steps.push(Draft { kernel, reads, writes, node, flops });
    }

    fn convolution(&mut self, call: Absorbed) {
        let reads = call.reads.iter().map(|&v| self.need(v)).collect();
        let mut writes = vec![call.tail.index()];
        writes.extend(call.positions.map(Var::index));
        let flops = call.nodes.iter().map(|&v| self.flops(v)).sum();
        self.push(Kernel::Convolution(call.call), reads, writes, call.tail, flops);
    }

    fn flops(&self, var: Var) -> u64 {
        let node = self.uses.node(var);
        node.op.flops(self.uses.tape, &node)
    }

    fn node(&mut self, var: Var) {
        let node = self.uses.node(var);
        let shape_of = |v: Var| self.uses.tape.shape(v);
        let kernel = match node.op {
            Op::Leaf(_) | Op::Layout(_) | Op::Convolution(_) => return,
            Op::Constant(_) | Op::Pointwise(_) | Op::Reduce(Reduce::Repeat { .. }) => {
                return self.expression(var);
            }
            Op::Matmul(op) => {
                let Some((m, n, k)) = op.sizes(shape_of(node.inputs[0]), shape_of(node.inputs[1])) else {
                    return;
                };
                Kernel::Matmul { m, n, k, transpose_a: op.transpose_a, transpose_b: op.transpose_b }
            }
            Op::Pool(op) => {
                let large = match op {
                    Pool::Scatter { .. } | Pool::Upsample { .. } => node.shape,
                    _ => shape_of(node.inputs[0]),
                };
                Kernel::Pool { op, large: [large[0], large[1], large[2], large[3]] }
            }
            Op::Reduce(Reduce::Sum { outer, count, inner }) => Kernel::Sum { outer, count, inner },
            Op::LogSoftmax(_) => Kernel::LogSoftmax { rows: node.shape[0], columns: node.shape[1] },
            Op::Argmax(_) => {
                let shape = shape_of(node.inputs[0]);
                Kernel::Argmax { rows: shape[0], columns: shape[1] }
            }
            Op::Gather(op) => {
                let large = match op {
                    Gather::Pick | Gather::Rows => shape_of(node.inputs[0]),
                    _ => node.shape,
                };
                Kernel::Gather {
                    op,
                    rows: large[0],
                    columns: large[1],
                    picks: shape_of(node.inputs[1]).len(),
                }
            }
            Op::Random(op) => Kernel::Random { op },
        };
        let reads = node.inputs.iter().map(|&v| self.need(v)).collect();
        let flops = self.flops(var);
        self.push(kernel, reads, vec![var.index()], var, flops);
    }

    fn expression(&mut self, var: Var) {
        let mut compiler =
            Compiler { lowering: self, code: Vec::new(), operands: Vec::new(), waiting: 0, flops: 0 };
        compiler.value(var, 0, true);
        let Compiler { code, operands, flops, .. } = compiler;
        let reads = operands.iter().map(|&v| self.need(v)).collect();
        let len = self.uses.node(var).shape.len();
        self.push(Kernel::Pointwise(Expression { len, code }), reads, vec![var.index()], var, flops);
    }
}

struct Compiler<'a, 't> {
    lowering: &'a Lowering<'t>,
    code: Vec<Instruction>,
    operands: Vec<Var>,
    /// Values that are still to come, each of which may be one more operand.
    waiting: usize,
    flops: u64,
}

impl Compiler<'_, '_> {
    /// Emits code that leaves the value of `var` in register `to`, using only registers from `to` on.
    fn value(&mut self, var: Var, to: usize, top: bool) {
        let uses = &self.lowering.uses;
        let var = uses.root(var);
        let node = uses.node(var);
        let at = to as u8;
        match node.op {
            Op::Constant(value) => self.code.push(Instruction::Constant { to: at, value }),
            Op::Reduce(Reduce::Repeat { count, inner, .. }) if self.fold_repeat(top) => {
                self.load(node.inputs[0], at, Access { count, inner });
            }
            Op::Pointwise(op) if top || self.may_fold(var, to) => {
                self.flops += node.shape.len() as u64;
                let (a, b) = (node.inputs[0], node.inputs.get(1).copied());
                match b {
                    None => self.value(a, to, false),
                    // The operand that needs more registers first, while all are free.
                    Some(b) if self.depth(b) > self.depth(a) => {
                        self.pair(b, a, to);
                        self.code.push(Instruction::Apply { to: at, op, a: at + 1, b: at });
                        return;
                    }
                    Some(b) => self.pair(a, b, to),
                }
                self.code.push(Instruction::Apply { to: at, op, a: at, b: at + 1 });
            }
            _ => self.load(var, at, Access::DIRECT),
        }
    }

    /// Two values in registers `to` and `to + 1`.
    fn pair(&mut self, first: Var, second: Var, to: usize) {
        self.waiting += 1;
        self.value(first, to, false);
        self.waiting -= 1;
        self.value(second, to + 1, false);
    }

    fn fold_repeat(&self, top: bool) -> bool {
        top || self.lowering.fuse
    }

    fn may_fold(&self, var: Var, to: usize) -> bool {
        self.lowering.fuse
            && self.has_one_user(var)
            && to + self.depth(var) <= REGISTERS
            && self.operands.len() + self.leaves(var) + self.waiting <= OPERANDS
    }

    /// Is `var` computed for one user only, and not by a convolution call?
    fn has_one_user(&self, var: Var) -> bool {
        self.lowering.uses.only_user(var).is_some() && !self.lowering.absorbed[var.index()]
    }

    /// Registers that folding `var` takes (Sethi & Ullman 1970).
    fn depth(&self, var: Var) -> usize {
        let uses = &self.lowering.uses;
        let var = uses.root(var);
        let node = uses.node(var);
        match node.op {
            Op::Pointwise(_) if self.has_one_user(var) => match *node.inputs {
                [a, b] => match (self.depth(a), self.depth(b)) {
                    (x, y) if x == y => x + 1,
                    (x, y) => x.max(y),
                },
                [a] => self.depth(a),
                _ => 1,
            },
            _ => 1,
        }
    }

    fn leaves(&self, var: Var) -> usize {
        let uses = &self.lowering.uses;
        let var = uses.root(var);
        let node = uses.node(var);
        match node.op {
            Op::Pointwise(_) if self.has_one_user(var) => node.inputs.iter().map(|&v| self.leaves(v)).sum(),
            _ => 1,
        }
    }

    fn load(&mut self, var: Var, to: u8, access: Access) {
        let var = self.lowering.uses.root(var);
        if let Op::Constant(value) = self.lowering.uses.node(var).op {
            self.code.push(Instruction::Constant { to, value: Attribute(value.0) });
            return;
        }
        let operand = match self.operands.iter().position(|&v| v == var) {
            Some(known) => known,
            None => {
                self.operands.push(var);
                self.operands.len() - 1
            }
        };
        self.code.push(Instruction::Load { to, operand: operand as u8, access });
    }
}
