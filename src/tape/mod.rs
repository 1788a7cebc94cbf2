//! Programs of tensor operations, and what can be done to a program before it runs.
//!
//! A [`Tape`] is a program, not a history: a list of nodes (operation, inputs, shape) without values.
//! It is recorded once for each kind of step, then transformed ([`Tape::reverse`] appends the adjoint
//! program, [`Tape::tangent`] the directional derivative of any stretch, adjoint nodes included),
//! planned ([`plan::Plan`]) and run thousands of times on a device. Programs compute in whichever
//! [`crate::tensor::Real`] type the device was made for.
//!
//! The builder methods of each operation stand in [`crate::ops`], next to its derivative rules. A
//! shape mistake does not interrupt recording: the first one is kept and returned by
//! [`Tape::check`], which planning calls.

pub mod gradcheck;
pub mod plan;
mod reverse;
mod tangent;

use std::collections::HashMap;
use std::fmt;

use crate::error::{Error, Result};
use crate::ops::Op;
use crate::tensor::Shape;

/// A value of a program: the index of the node that computes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Var(u32);

impl Var {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for Var {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

/// What the elements of a value are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// The floating-point type of the device that runs the program.
    Real,
    /// Labels, row numbers, random keys.
    U32,
    /// Positions in a pooling window.
    U8,
}

/// Up to two operands.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Inputs {
    vars: [Var; 2],
    len: u8,
}

impl Inputs {
    pub fn new(vars: &[Var]) -> Self {
        let mut inputs = Inputs { vars: [Var(u32::MAX); 2], len: vars.len() as u8 };
        inputs.vars[..vars.len()].copy_from_slice(vars);
        inputs
    }
}

impl std::ops::Deref for Inputs {
    type Target = [Var];

    fn deref(&self) -> &[Var] {
        &self.vars[..self.len as usize]
    }
}

/// One operation of a program.
#[derive(Clone, Copy)]
pub struct Node {
    pub op: Op,
    pub inputs: Inputs,
    pub shape: Shape,
    pub kind: Kind,
}

/// A value that comes from outside: data, parameters, optimiser state, rates.
#[derive(Clone, Debug)]
pub struct Leaf {
    pub name: String,
    pub var: Var,
}

/// A program under construction. See the [module documentation](self).
#[derive(Default, Clone)]
pub struct Tape {
    nodes: Vec<Node>,
    leaves: Vec<Leaf>,
    outputs: Vec<(String, Var)>,
    assignments: Vec<(Var, Var)>,
    /// Equal operations on equal operands are one node.
    known: HashMap<(Op, Inputs, Shape), Var>,
    mistake: Option<(&'static str, String)>,
}

impl Tape {
    pub fn new() -> Self {
        Self::default()
    }

    /// A value that is bound to a device buffer when the program runs. Names are unique.
    pub fn leaf(&mut self, name: impl Into<String>, kind: Kind, shape: impl Into<Shape>) -> Var {
        let name = name.into();
        if self.leaves.iter().any(|l| l.name == name) {
            self.mistake("leaf", || format!("two leaves are named '{name}'"));
        }
        let op = Op::Leaf(self.leaves.len() as u32);
        let var = self.push_new(Node { op, inputs: Inputs::new(&[]), shape: shape.into(), kind });
        self.leaves.push(Leaf { name, var });
        var
    }

    /// A leaf of floating-point elements.
    pub fn input(&mut self, name: impl Into<String>, shape: impl Into<Shape>) -> Var {
        self.leaf(name, Kind::Real, shape)
    }

    /// Keeps `var` readable after a run, under `name`.
    pub fn output(&mut self, name: impl Into<String>, var: Var) {
        self.outputs.push((name.into(), var));
    }

    /// Stores `value` into the buffer of the leaf `state` at the end of the step. Reads of `state`
    /// anywhere in the program see the value from before the step.
    pub fn assign(&mut self, state: Var, value: Var) {
        let (leaf, new) = (self.node(state), self.node(value));
        if !matches!(leaf.op, Op::Leaf(_)) || leaf.shape != new.shape || leaf.kind != new.kind {
            let text = format!("cannot store {:?} {} into {:?} {}", value, new.shape, state, leaf.shape);
            self.mistake("assign", || text);
        }
        self.assignments.push((state, value));
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn node(&self, var: Var) -> Node {
        self.nodes[var.index()]
    }

    pub fn shape(&self, var: Var) -> Shape {
        self.nodes[var.index()].shape
    }

    pub fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    pub fn outputs(&self) -> &[(String, Var)] {
        &self.outputs
    }

    pub fn assignments(&self) -> &[(Var, Var)] {
        &self.assignments
    }

    pub fn var(&self, index: usize) -> Var {
        debug_assert!(index < self.nodes.len());
        Var(index as u32)
    }

    /// The first mistake that was made while recording, if any.
    pub fn check(&self) -> Result<()> {
        match &self.mistake {
            None => Ok(()),
            Some((op, detail)) => Err(Error::shape(op, detail.clone())),
        }
    }

    /// Floating-point operations of the whole program (2 for a multiply-add), unneeded nodes included.
    pub fn flops(&self) -> u64 {
        (0..self.nodes.len()).map(|i| self.nodes[i].op.flops(self, &self.nodes[i])).sum()
    }

    /// Appends a node, or returns the node that already computes the same.
    pub(crate) fn push(&mut self, op: Op, inputs: &[Var], shape: impl Into<Shape>, kind: Kind) -> Var {
        let (inputs, shape) = (Inputs::new(inputs), shape.into());
        if let Some(&var) = self.known.get(&(op, inputs, shape)) {
            return var;
        }
        let var = self.push_new(Node { op, inputs, shape, kind });
        self.known.insert((op, inputs, shape), var);
        var
    }

    fn push_new(&mut self, node: Node) -> Var {
        self.nodes.push(node);
        Var((self.nodes.len() - 1) as u32)
    }

    /// Notes a mistake of the recording code and returns a stand-in value, so that recording can go
    /// on to [`Tape::check`].
    pub(crate) fn mistake(&mut self, op: &'static str, detail: impl FnOnce() -> String) -> Var {
        if self.mistake.is_none() {
            self.mistake = Some((op, detail()));
        }
        self.constant(f64::NAN, Shape::SCALAR)
    }
}

impl fmt::Display for Tape {
    /// One line a node: `%4 = relu(%3) [100, 16, 16, 64]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, node) in self.nodes.iter().enumerate() {
            match node.op {
                Op::Leaf(leaf) => {
                    writeln!(f, "%{i} = leaf '{}' {}", self.leaves[leaf as usize].name, node.shape)?
                }
                op => writeln!(f, "%{i} = {}({:?}) {}", op.name(), &*node.inputs, node.shape)?,
            }
        }
        for (name, var) in &self.outputs {
            writeln!(f, "output '{name}' = {var:?}")?;
        }
        for (state, value) in &self.assignments {
            writeln!(f, "{state:?} <- {value:?}")?;
        }
        Ok(())
    }
}
