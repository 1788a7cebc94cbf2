//! Forward mode: the directional derivative of any stretch of a program.

use super::{Tape, Var};

impl Tape {
    /// Appends the program that computes the directional derivative of each of `outputs` when every
    /// value `v` of `seeds = [(v, v̇)]` moves along `v̇`, and returns the results in the order of
    /// `outputs`; `None` is a structural zero (the output does not depend on a seed).
    ///
    /// Seeds may be intermediate values; their own inputs are then held fixed. Because adjoint programs
    /// are made of the same operations, applying this to the results of [`Tape::reverse`] gives
    /// Hessian–vector products (Pearlmutter 1994).
    pub fn tangent(&mut self, seeds: &[(Var, Var)], outputs: &[Var]) -> Vec<Option<Var>> {
        for &(value, direction) in seeds {
            let (v, d) = (self.shape(value), self.shape(direction));
            if v != d {
                self.mistake("tangent", || format!("a value of shape {v} cannot move along {d}"));
                return vec![None; outputs.len()];
            }
        }
        let end = outputs.iter().map(|v| v.index() + 1).max().unwrap_or(0);
        let roots: Vec<Var> = seeds.iter().map(|s| s.0).collect();
        let mut wanted = self.dependents(&roots, end);
        let needed = self.ancestors(outputs, end);
        wanted.iter_mut().zip(needed).for_each(|(w, n)| *w &= n);

        let mut tangents: Vec<Option<Var>> = vec![None; end];
        for i in 0..end {
            if !wanted[i] {
                continue;
            }
            if let Some((_, direction)) = seeds.iter().find(|(value, _)| value.index() == i) {
                tangents[i] = Some(*direction);
                continue;
            }
            let node = self.nodes[i];
            let mut inputs = [None; 2];
            for (slot, input) in inputs.iter_mut().zip(node.inputs.iter()) {
                *slot = tangents[input.index()];
            }
            let inputs = &inputs[..node.inputs.len()];
            if inputs.iter().any(Option::is_some) {
                tangents[i] = node.op.jvp(self, &node, Var(i as u32), inputs);
            }
        }
        outputs.iter().map(|v| tangents[v.index()]).collect()
    }

    /// For every node below `end`: is it one of `of`, or needed to compute one?
    pub(super) fn ancestors(&self, of: &[Var], end: usize) -> Vec<bool> {
        let mut needed = vec![false; end];
        for v in of {
            needed[v.index()] = true;
        }
        for i in (0..end).rev() {
            if needed[i] {
                for input in self.nodes[i].inputs.iter() {
                    needed[input.index()] = true;
                }
            }
        }
        needed
    }
}
