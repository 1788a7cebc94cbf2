//! Reverse mode: the adjoint program.

use super::{Tape, Var};

impl Tape {
    /// Appends the program that computes `seedᵀ ∂output/∂v` for every `v` of `wrt`, and returns its
    /// results in the same order. `wrt` may hold leaves or intermediate values; an intermediate value
    /// is treated as independent of what it was computed from, unless that is in `wrt` too.
    ///
    /// Without `seed`, `output` must be a scalar and the seed is 1. A value on which `output` does not
    /// depend gets a zero of its shape.
    pub fn reverse(&mut self, output: Var, seed: Option<Var>, wrt: &[Var]) -> Vec<Var> {
        let seed = match seed {
            Some(seed) => seed,
            None if self.shape(output).len() == 1 => self.constant(1.0, self.shape(output)),
            None => {
                let shape = self.shape(output);
                self.mistake("reverse", || format!("an output of shape {shape} needs a seed"))
            }
        };
        if self.shape(seed) != self.shape(output) {
            let (s, o) = (self.shape(seed), self.shape(output));
            self.mistake("reverse", || format!("the seed has shape {s}, the output {o}"));
            return wrt.to_vec();
        }
        let end = output.index() + 1;
        let depends = self.dependents(wrt, end);
        let mut adjoint: Vec<Option<Var>> = vec![None; end];
        adjoint[output.index()] = Some(seed);
        for i in (0..end).rev() {
            let (Some(grad), true) = (adjoint[i], depends[i]) else {
                continue;
            };
            let node = self.nodes[i];
            for (position, &input) in node.inputs.iter().enumerate() {
                if !depends[input.index()] {
                    continue;
                }
                let Some(part) = node.op.vjp(self, &node, Var(i as u32), grad, position) else {
                    continue;
                };
                let slot = &mut adjoint[input.index()];
                *slot = Some(match *slot {
                    None => part,
                    Some(sum) => self.add(sum, part),
                });
            }
        }
        wrt.iter()
            .map(|v| {
                let grad = adjoint.get(v.index()).copied().flatten();
                grad.unwrap_or_else(|| self.constant(0.0, self.shape(*v)))
            })
            .collect()
    }

    /// For every node below `end`: does it depend on one of `roots` (or is it one)?
    pub(super) fn dependents(&self, roots: &[Var], end: usize) -> Vec<bool> {
        let mut depends = vec![false; end];
        for root in roots.iter().filter(|r| r.index() < end) {
            depends[root.index()] = true;
        }
        for i in 0..end {
            depends[i] |= self.nodes[i].inputs.iter().any(|v| depends[v.index()]);
        }
        depends
    }
}
