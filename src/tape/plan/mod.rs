//! From a program to a list of steps that a device can run: unneeded nodes removed, chains fused,
//! every intermediate value placed in one arena by its lifetime, bytes and operations known before
//! anything runs.
//!
//! A plan is made once for a program and a device; [`lower`] chooses the steps, [`arena`] places them.

pub mod arena;
mod convolution;
pub mod expression;
mod lower;

use std::fmt;

use super::{Kind, Tape, Var};
use crate::error::Result;
use crate::ops::convolution::{Direction, Geometry};
use crate::ops::{Gather, Pool, Random};
pub use expression::Expression;

/// One kernel call. The order of a step's `reads` and `writes` is given with each kernel.
#[derive(Clone, Debug)]
pub enum Kernel {
    /// Reads per source its two operands (an [`ConvolutionCall::unpool`] operand is two reads: pooled
    /// values, positions), then gathered positions, bias and mask if the epilogue has them. Writes the
    /// result, then found positions if it has them.
    Convolution(ConvolutionCall),
    /// Reads A, B; writes C `[m, n]`.
    Matmul {
        m: usize,
        n: usize,
        k: usize,
        transpose_a: bool,
        transpose_b: bool,
    },
    /// Reads x (and positions); writes the result. `large` is the un-pooled shape `[N, H, W, C]`.
    Pool {
        op: Pool,
        large: [usize; 4],
    },
    /// `[outer, count, inner] ↦ [outer, inner]`.
    Sum {
        outer: usize,
        count: usize,
        inner: usize,
    },
    LogSoftmax {
        rows: usize,
        columns: usize,
    },
    /// Reads x `[rows, columns]`; writes u32 `[rows]`.
    Argmax {
        rows: usize,
        columns: usize,
    },
    /// Reads values and indices. `rows × columns` is the shape of the larger tensor, `picks` the number
    /// of indices.
    Gather {
        op: Gather,
        rows: usize,
        columns: usize,
        picks: usize,
    },
    /// Reads the key; writes draws.
    Random {
        op: Random,
    },
    /// Reads the operands of the expression; writes one value.
    Pointwise(Expression),
    /// Reads x; writes its copy.
    Copy,
}

/// A convolution with everything that was fused into it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConvolutionCall {
    pub direction: Direction,
    pub geometry: Geometry,
    /// 1, or 2 for a sum of two convolutions of the same sizes.
    pub sources: usize,
    /// For each source: does the operand `dy` come as pooled values and positions (2×2)?
    pub unpool: [bool; 2],
    pub pool: PoolStage,
    pub bias: bool,
    pub activation: ActivationStage,
}

/// 2×2 max-pooling fused behind a forward convolution.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PoolStage {
    None,
    /// Finds positions and writes them.
    Max,
    /// Picks at given positions.
    Gather,
}

/// What is applied last.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ActivationStage {
    Identity,
    Relu,
    LeakyRelu(crate::ops::Attribute),
    /// Multiplied by `mask > 0 ? 1 : slope`.
    Mask(crate::ops::Attribute),
}

/// Where a value lives while the program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Region {
    /// Byte offset in the arena.
    Arena(usize),
    /// A bound buffer, by leaf number.
    Leaf(u32),
}

/// A value's place, element kind and number of elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub region: Region,
    pub kind: Kind,
    pub len: usize,
}

#[derive(Clone, Debug)]
pub struct Step {
    pub kernel: Kernel,
    pub reads: Vec<Place>,
    pub writes: Vec<Place>,
    /// Scratch memory for the kernel, of real elements; length 0 if it needs none.
    pub workspace: Place,
    /// The node whose value this step completes, for messages.
    pub node: Var,
    pub flops: u64,
}

/// How to plan.
pub struct Options<'a> {
    /// Bytes of a real element: 4 or 8.
    pub real_size: usize,
    /// Fuse chains into single steps. Off, every node is a step of its own: slower, same results up to
    /// rounding; for tests and for finding faults.
    pub fuse: bool,
    /// Bytes of guard zone around every value in the arena; 0 outside tests.
    pub fence: usize,
    /// Values of at most so many bytes keep their memory for the whole program instead of sharing it with
    /// others, so that steps which do not depend on each other can change places.
    pub unshared: usize,
    /// Real elements of scratch memory that the device's kernel needs.
    pub workspace: &'a dyn Fn(&Kernel) -> usize,
}

/// A value that the program keeps for the caller.
#[derive(Clone, Debug)]
pub struct Output {
    pub name: String,
    pub place: Place,
}

/// What a bound buffer must be.
#[derive(Clone, Debug)]
pub struct Binding {
    pub name: String,
    pub kind: Kind,
    pub len: usize,
    /// Is it read, or written, by the program at all?
    pub used: bool,
}

/// A program made ready for a device.
#[derive(Clone, Debug)]
pub struct Plan {
    pub steps: Vec<Step>,
    pub bindings: Vec<Binding>,
    pub outputs: Vec<Output>,
    pub arena_bytes: usize,
    pub real_size: usize,
    pub fence: usize,
}

impl Plan {
    pub fn new(tape: &Tape, options: &Options<'_>) -> Result<Plan> {
        tape.check()?;
        let drafts = lower::lower(tape, options.fuse);
        let plan = arena::place(tape, drafts, options);
        debug_assert_eq!(plan.conflict(), None);
        Ok(plan)
    }

    /// Floating-point operations of one run.
    pub fn flops(&self) -> u64 {
        self.steps.iter().map(|s| s.flops).sum()
    }

    /// Bytes that the steps of one run read and write at least, each tensor counted once a step.
    pub fn bytes_moved(&self) -> u64 {
        self.steps.iter().map(|step| self.step_bytes(step)).sum()
    }

    /// The same for one step.
    pub fn step_bytes(&self, step: &Step) -> u64 {
        let new = |&(i, place): &(usize, &Place)| !step.reads[..i].contains(place);
        let reads = step.reads.iter().enumerate().filter(new).map(|(i, _)| self.read_bytes(step, i));
        reads.chain(step.writes.iter().map(|p| self.bytes(p))).sum()
    }

    /// Bytes of operand number `i` that a step reads at least.
    pub fn read_bytes(&self, step: &Step, i: usize) -> u64 {
        let picked = match step.kernel {
            Kernel::Gather { op: Gather::Pick, picks, .. } if i == 0 => picks,
            Kernel::Gather { op: Gather::Rows, picks, columns, .. } if i == 0 => picks * columns,
            _ => step.reads[i].len,
        };
        self.bytes(&Place { len: picked.min(step.reads[i].len), ..step.reads[i] })
    }

    /// Bytes of a value.
    pub fn bytes(&self, place: &Place) -> u64 {
        (place.len * self.size_of(place.kind)) as u64
    }

    pub fn size_of(&self, kind: Kind) -> usize {
        kind_size(kind, self.real_size)
    }

    /// A step whose written memory overlaps another of its operands, if there is one. Devices rely on
    /// there being none: they hand out the operands as exclusive and shared slices. The one exception
    /// is a pointwise step that updates a leaf in place, element by element.
    pub fn conflict(&self) -> Option<usize> {
        let span = |p: &Place| {
            let start = match p.region {
                Region::Arena(offset) => (u32::MAX, offset),
                Region::Leaf(leaf) => (leaf, 0),
            };
            (start.0, start.1..start.1 + p.len * self.size_of(p.kind))
        };
        let overlap = |a: &Place, b: &Place| {
            let ((ra, a), (rb, b)) = (span(a), span(b));
            ra == rb && a.start < b.end && b.start < a.end
        };
        self.steps.iter().position(|s| {
            let in_place = |w: &Place, r: &Place| {
                matches!(&s.kernel, Kernel::Pointwise(e) if w == r && e.reads_in_place(r, &s.reads))
            };
            let written = s.writes.iter().chain([&s.workspace]);
            written.clone().enumerate().any(|(i, w)| {
                s.reads.iter().any(|r| overlap(w, r) && !in_place(w, r))
                    || written.clone().skip(i + 1).any(|other| overlap(w, other))
            })
        })
    }
}

pub(crate) fn kind_size(kind: Kind, real_size: usize) -> usize {
    match kind {
        Kind::Real => real_size,
        Kind::U32 => 4,
        Kind::U8 => 1,
    }
}

impl Kernel {
    pub fn name(&self) -> &'static str {
        match self {
            Kernel::Convolution(call) => match call.direction {
                Direction::Forward => "conv2d",
                Direction::InputGrad => "conv2d_input_grad",
                Direction::WeightGrad => "conv2d_weight_grad",
            },
            Kernel::Matmul { .. } => "matmul",
            Kernel::Pool { .. } => "pool",
            Kernel::Sum { .. } => "sum",
            Kernel::LogSoftmax { .. } => "log_softmax",
            Kernel::Argmax { .. } => "argmax",
            Kernel::Gather { .. } => "gather",
            Kernel::Random { .. } => "random",
            Kernel::Pointwise(_) => "pointwise",
            Kernel::Copy => "copy",
        }
    }
}

impl fmt::Display for Plan {
    /// One line a step, then the totals; what `--dry-run` prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.steps.iter().enumerate() {
            write!(f, "{i:4}  {:18} {:>10.3} MFLOP", step.kernel.name(), step.flops as f64 * 1e-6)?;
            match &step.kernel {
                Kernel::Convolution(c) => {
                    let g = &c.geometry;
                    write!(f, "  {} * {}", g.input(), g.filter())?;
                    if c.sources == 2 {
                        write!(f, " twice")?;
                    }
                    if c.unpool[0] {
                        write!(f, ", unpool")?;
                    }
                    if c.pool != PoolStage::None {
                        write!(f, ", pool {:?}", c.pool)?;
                    }
                    if c.bias {
                        write!(f, ", bias")?;
                    }
                    if c.activation != ActivationStage::Identity {
                        write!(f, ", {:?}", c.activation)?;
                    }
                }
                Kernel::Matmul { m, n, k, transpose_a, transpose_b } => {
                    let flag = |t: &bool| if *t { "T" } else { "N" };
                    write!(f, "  {}{} m {m} n {n} k {k}", flag(transpose_a), flag(transpose_b))?;
                }
                Kernel::Pointwise(e) => write!(f, "  {e}")?,
                Kernel::Pool { op, large } => write!(f, "  {op:?} of {large:?}")?,
                Kernel::Sum { outer, count, inner } => write!(f, "  [{outer}, {count}, {inner}]")?,
                Kernel::LogSoftmax { rows, columns } | Kernel::Argmax { rows, columns } => {
                    write!(f, "  [{rows}, {columns}]")?;
                }
                Kernel::Gather { op, rows, columns, .. } => write!(f, "  {op:?} of [{rows}, {columns}]")?,
                Kernel::Random { op } => write!(f, "  {op:?}")?,
                Kernel::Copy => {}
            }
            writeln!(f)?;
        }
        writeln!(
            f,
            "{} steps, {:.3} GFLOP, {:.1} MB moved, arena {:.1} MB",
            self.steps.len(),
            self.flops() as f64 * 1e-9,
            self.bytes_moved() as f64 * 1e-6,
            self.arena_bytes as f64 * 1e-6
        )
    }
}
