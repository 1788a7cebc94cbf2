//! Reading by index and its transpose, adding by index. Indices are data, not differentiable.
//! Out-of-range indices are caught where data enters (labels are checked when a data set opens).

use super::example::{Example, index, real};
use super::{Op, Rules};
use crate::tape::{Kind, Node, Tape, Var};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Gather {
    /// `(x [N, L], i [N]) ↦ x[n, i[n]]`, `[N]`.
    Pick,
    /// `(g [N], i [N]) ↦ [N, L]`, `g[n]` at column `i[n]`, zero elsewhere.
    Place { columns: usize },
    /// `(x [M, D], i [N]) ↦ x[i[n], :]`, `[N, D]`.
    Rows,
    /// `(g [N, D], i [N]) ↦ [M, D]`: row `m` is the sum of the `g[n]` with `i[n] = m`, in order of `n`.
    ScatterRows { rows: usize },
}

impl Rules for Gather {
    fn name(&self) -> &'static str {
        match self {
            Gather::Pick => "pick",
            Gather::Place { .. } => "place",
            Gather::Rows => "gather_rows",
            Gather::ScatterRows { .. } => "scatter_rows",
        }
    }

    fn vjp(&self, t: &mut Tape, node: &Node, _: Var, grad: Var, input: usize) -> Option<Var> {
        if input > 0 {
            return None;
        }
        let (of, i) = (t.shape(node.inputs[0]), node.inputs[1]);
        Some(match self {
            Gather::Pick => t.place(grad, i, of[1]),
            Gather::Place { .. } => t.pick(grad, i),
            Gather::Rows => t.scatter_rows(grad, i, of[0]),
            Gather::ScatterRows { .. } => t.gather_rows(grad, i),
        })
    }

    fn jvp(&self, t: &mut Tape, node: &Node, _: Var, tangents: &[Option<Var>]) -> Option<Var> {
        let (x, i) = (tangents[0]?, node.inputs[1]);
        Some(match *self {
            Gather::Pick => t.pick(x, i),
            Gather::Place { columns } => t.place(x, i, columns),
            Gather::Rows => t.gather_rows(x, i),
            Gather::ScatterRows { rows } => t.scatter_rows(x, i, rows),
        })
    }

    fn flops(&self, t: &Tape, node: &Node) -> u64 {
        match self {
            Gather::ScatterRows { .. } => t.shape(node.inputs[0]).len() as u64,
            _ => 0,
        }
    }
}

impl Tape {
    fn gather(&mut self, op: Gather, x: Var, i: Var) -> Var {
        let (sx, si) = (self.shape(x), self.shape(i));
        let indexed = self.node(i).kind == Kind::U32 && si.rank() == 1;
        let shape = match op {
            Gather::Pick if sx.rank() == 2 && si[..] == sx[..1] => Some([sx[0]].into()),
            Gather::Place { columns } if sx.rank() == 1 && sx == si => Some([sx[0], columns].into()),
            Gather::Rows if sx.rank() == 2 && si.rank() == 1 => Some([si[0], sx[1]].into()),
            Gather::ScatterRows { rows } if sx.rank() == 2 && si[..] == sx[..1] => Some([rows, sx[1]].into()),
            _ => None,
        };
        match shape {
            Some(shape) if indexed => {
                let shape: crate::tensor::Shape = shape;
                self.push(Op::Gather(op), &[x, i], shape, Kind::Real)
            }
            _ => self.mistake(op.name(), || format!("values {sx} and indices {si} do not fit")),
        }
    }

    /// One element of each row: `x [N, L]`, `i [N]` ↦ `[N]`.
    pub fn pick(&mut self, x: Var, i: Var) -> Var {
        self.gather(Gather::Pick, x, i)
    }

    /// The transpose of [`Tape::pick`].
    pub fn place(&mut self, g: Var, i: Var, columns: usize) -> Var {
        self.gather(Gather::Place { columns }, g, i)
    }

    /// Rows of a matrix by index: `x [M, D]`, `i [N]` ↦ `[N, D]`.
    pub fn gather_rows(&mut self, x: Var, i: Var) -> Var {
        self.gather(Gather::Rows, x, i)
    }

    /// The transpose of [`Tape::gather_rows`]; repeated indices add up.
    pub fn scatter_rows(&mut self, g: Var, i: Var, rows: usize) -> Var {
        self.gather(Gather::ScatterRows { rows }, g, i)
    }
}

pub(super) fn examples() -> Vec<Example> {
    let labels = |n: usize, bound: u32| index([n], Kind::U32, bound);
    vec![
        Example::new(
            "pick [6, 4]",
            vec![real([6, 4]), labels(6, 4)],
            |t, v| t.pick(v[0], v[1]),
            |x| (0..6).map(|n| x[0].values[n * 4 + x[1].values[n] as usize]).collect(),
        ),
        Example::new(
            "place [6] into 4 columns",
            vec![real([6]), labels(6, 4)],
            |t, v| t.place(v[0], v[1], 4),
            |x| {
                let mut out = vec![0.0; 24];
                (0..6).for_each(|n| out[n * 4 + x[1].values[n] as usize] = x[0].values[n]);
                out
            },
        ),
        Example::new(
            "gather_rows [5, 3] by [9]",
            vec![real([5, 3]), labels(9, 5)],
            |t, v| t.gather_rows(v[0], v[1]),
            |x| (0..27).map(|p| x[0].values[x[1].values[p / 3] as usize * 3 + p % 3]).collect(),
        ),
        Example::new(
            "scatter_rows [9, 3] into 5 rows",
            vec![real([9, 3]), labels(9, 5)],
            |t, v| t.scatter_rows(v[0], v[1], 5),
            |x| {
                let mut out = vec![0.0; 15];
                (0..27).for_each(|p| out[x[1].values[p / 3] as usize * 3 + p % 3] += x[0].values[p]);
                out
            },
        ),
    ]
}
