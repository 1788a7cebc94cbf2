//! Runs the steps of a plan: resolves places to slices and calls the kernel.

use super::conv::{self, Activation, Epilogue, Upstream};
use super::memory::{GUARD, Memory};
use super::{Algorithm, argmax, gather, gemm, pointwise, pool, random, reduce, softmax};
use crate::device::Buffer;
use crate::error::{Error, Result};
use crate::ops::Pool;
use crate::ops::convolution::Direction;
use crate::tape::Kind;
use crate::tape::plan::expression::OPERANDS;
use crate::tape::plan::{ActivationStage, ConvolutionCall, Kernel, Place, Plan, PoolStage, Region, Step};
use crate::tensor::Real;

type Buffers = [Option<(Kind, Memory)>];

/// Scratch memory that a kernel needs, in real elements.
pub(super) fn workspace<T: Real>(kernel: &Kernel, algorithm: Algorithm) -> usize {
    match kernel {
        Kernel::Convolution(call) => conv::workspace::<T>(call, algorithm),
        Kernel::Matmul { m, n, k, transpose_a, transpose_b } => {
            gemm::workspace::<T>(*m, *n, *k, *transpose_a, *transpose_b)
        }
        Kernel::Sum { outer, count, inner } => reduce::workspace(*outer, *count, *inner),
        _ => 0,
    }
}

/// The memory of one step's operands.
///
/// Slices are made from raw pointers because one arena holds all of them. This is sound because
/// [`Plan::conflict`] was `None` when the plan was prepared: what a step writes overlaps nothing else
/// that it touches (pointwise updates in place go through raw pointers only), and
/// [`check_bindings`] has compared the buffers with the places.
struct Operands<'a> {
    step: &'a Step,
    arena: *mut u8,
    leaves: &'a [Buffer],
    buffers: *mut Option<(Kind, Memory)>,
}

impl Operands<'_> {
    fn pointer(&self, place: &Place) -> *mut u8 {
        match place.region {
            // SAFETY: the planner's offsets lie within the arena.
            Region::Arena(offset) => unsafe { self.arena.add(offset) },
            Region::Leaf(leaf) => {
                // SAFETY: the bindings were checked to be buffers that exist; `Memory`'s bytes do not move.
                let slot = unsafe { &mut *self.buffers.add(self.leaves[leaf as usize].0) };
                slot.as_mut().map_or(std::ptr::null_mut(), |(_, memory)| memory.bytes_mut().as_mut_ptr())
            }
        }
    }

    fn read<E: bytemuck::Pod>(&self, i: usize) -> &[E] {
        let place = &self.step.reads[i];
        // SAFETY: see the type's comment; `E` is the element type of the place's kind, and places are
        // aligned to cache lines.
        unsafe { std::slice::from_raw_parts(self.pointer(place).cast::<E>().cast_const(), place.len) }
    }

    #[allow(clippy::mut_from_ref)]
    fn write<E: bytemuck::Pod>(&self, i: usize) -> &mut [E] {
        let place = &self.step.writes[i];
        // SAFETY: as in `read`; each written place is asked for once a step, and overlaps no other.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(place).cast::<E>(), place.len) }
    }

    #[allow(clippy::mut_from_ref)]
    fn workspace<E: bytemuck::Pod>(&self) -> &mut [E] {
        let place = &self.step.workspace;
        // SAFETY: as in `write`.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(place).cast::<E>(), place.len) }
    }
}

pub(super) fn run_step<T: Real>(
    step: &Step,
    arena: &mut Memory,
    leaves: &[Buffer],
    buffers: &mut Buffers,
    algorithm: Algorithm,
) {
    let at = Operands { step, arena: arena.bytes_mut().as_mut_ptr(), leaves, buffers: buffers.as_mut_ptr() };
    match &step.kernel {
        Kernel::Convolution(call) => convolution::<T>(call, &at, algorithm),
        Kernel::Matmul { m, n, k, transpose_a, transpose_b } => gemm::matmul::<T>(
            at.read(0),
            at.read(1),
            at.write(0),
            (*m, *n, *k),
            (*transpose_a, *transpose_b),
            at.workspace(),
        ),
        Kernel::Pool { op, large } => match *op {
            Pool::MaxArgmax { size } => pool::argmax::<T>(at.read(0), *large, size, at.write(0)),
            Pool::Gather { size } => pool::gather::<T>(at.read(0), at.read(1), *large, size, at.write(0)),
            Pool::Scatter { size, .. } => {
                pool::scatter::<T>(at.read(0), at.read(1), *large, size, at.write(0))
            }
            Pool::Sum { size } => pool::sum::<T>(at.read(0), *large, size, at.write(0)),
            Pool::Upsample { size, .. } => pool::upsample::<T>(at.read(0), *large, size, at.write(0)),
        },
        Kernel::Sum { outer, count, inner } => {
            reduce::sum::<T>(at.read(0), at.write(0), (*outer, *count, *inner), at.workspace());
        }
        Kernel::LogSoftmax { columns, .. } => softmax::log_softmax::<T>(at.read(0), at.write(0), *columns),
        Kernel::Argmax { columns, .. } => argmax::argmax::<T>(at.read(0), at.write(0), *columns),
        Kernel::Gather { op, rows, columns, .. } => {
            gather::run::<T>(*op, at.read(0), at.read(1), at.write(0), *rows, *columns);
        }
        Kernel::Random { op } => random::fill::<T>(*op, at.read(0), at.write(0)),
        Kernel::Pointwise(expression) => {
            let mut operands = [std::ptr::null::<T>(); OPERANDS];
            for (pointer, place) in operands.iter_mut().zip(&step.reads) {
                *pointer = at.pointer(place).cast::<T>().cast_const();
            }
            let out = at.pointer(&step.writes[0]).cast::<T>();
            // SAFETY: the places hold the elements that the expression's accesses name; the result
            // overlaps an operand only if that is read element by element (`Plan::conflict`).
            unsafe { pointwise::run(expression, &operands, out) };
        }
        Kernel::Copy => match step.writes[0].kind {
            Kind::Real => at.write::<T>(0).copy_from_slice(at.read(0)),
            Kind::U32 => at.write::<u32>(0).copy_from_slice(at.read(0)),
            Kind::U8 => at.write::<u8>(0).copy_from_slice(at.read(0)),
        },
    }
}

fn convolution<T: Real>(call: &ConvolutionCall, at: &Operands<'_>, algorithm: Algorithm) {
    let g = &call.geometry;
    let mut next = 0;
    let mut take = |count: usize| {
        next += count;
        next - count
    };
    let upstream = |first: usize, unpool: bool| {
        if unpool {
            Upstream::Unpool { pooled: at.read::<T>(first), argmax: at.read::<u8>(first + 1) }
        } else {
            Upstream::Dense(at.read::<T>(first))
        }
    };
    let width = |source: usize| 1 + usize::from(call.unpool[source]);
    let none: &[T] = &[];
    match call.direction {
        Direction::Forward => {
            let mut sources = [(none, none); 2];
            for source in &mut sources[..call.sources] {
                *source = (at.read(take(1)), at.read(take(1)));
            }
            let pool = match call.pool {
                PoolStage::None => conv::Pool::None,
                PoolStage::Max => conv::Pool::Max { argmax: at.write(1) },
                PoolStage::Gather => conv::Pool::Gather { argmax: at.read(take(1)) },
            };
            let bias = call.bias.then(|| at.read(take(1)));
            let activation = activation(call.activation, at, &mut take);
            let epilogue = Epilogue { pool, bias, activation };
            conv::forward(g, &sources[..call.sources], epilogue, at.write(0), at.workspace(), algorithm);
        }
        Direction::InputGrad => {
            let mut sources = [(Upstream::Dense(none), none); 2];
            for (i, source) in sources[..call.sources].iter_mut().enumerate() {
                *source = (upstream(take(width(i)), call.unpool[i]), at.read(take(1)));
            }
            let activation = activation(call.activation, at, &mut take);
            conv::input_grad(g, &sources[..call.sources], activation, at.write(0), at.workspace(), algorithm);
        }
        Direction::WeightGrad => {
            let mut sources = [(none, Upstream::Dense(none)); 2];
            for (i, source) in sources[..call.sources].iter_mut().enumerate() {
                *source = (at.read(take(1)), upstream(take(width(i)), call.unpool[i]));
            }
            conv::weight_grad(g, &sources[..call.sources], at.write(0), at.workspace(), algorithm);
        }
    }
}

fn activation<'a, T: Real>(
    stage: ActivationStage,
    at: &'a Operands<'_>,
    take: &mut impl FnMut(usize) -> usize,
) -> Activation<'a, T> {
    match stage {
        ActivationStage::Identity => Activation::Identity,
        ActivationStage::Relu => Activation::Relu,
        ActivationStage::LeakyRelu(slope) => Activation::LeakyRelu(T::from_f64(slope.0)),
        ActivationStage::Mask(slope) => {
            Activation::Mask { by: at.read(take(1)), slope: T::from_f64(slope.0) }
        }
    }
}

/// Guard zones around the values of an arena: filled before a run, checked after every step.
pub(super) struct Fences {
    spans: Vec<std::ops::Range<usize>>,
}

impl Fences {
    pub fn new(plan: &Plan, arena: &mut Memory) -> Self {
        let mut spans = Vec::new();
        if plan.fence > 0 {
            let mut covered = vec![false; plan.arena_bytes];
            for place in plan.steps.iter().flat_map(|s| s.reads.iter().chain(&s.writes).chain([&s.workspace]))
            {
                if let Region::Arena(offset) = place.region {
                    covered[offset..offset + place.len * plan.size_of(place.kind)].fill(true);
                }
            }
            // Bytes that no value ever uses stay as they are.
            let mut at = 0;
            while at < covered.len() {
                let run = covered[at..].iter().take_while(|&&c| c == covered[at]).count();
                if !covered[at] {
                    arena.bytes_mut()[at..at + run].fill(GUARD);
                    spans.push(at..at + run);
                }
                at += run;
            }
        }
        Fences { spans }
    }

    pub fn check(&self, step: &Step, arena: &Memory, leaves: &[Buffer], buffers: &Buffers) -> Result<()> {
        let broken = |span: &std::ops::Range<usize>| arena.bytes()[span.clone()].iter().any(|&b| b != GUARD);
        let leaf_broken =
            |leaf: &Buffer| buffers[leaf.0].as_ref().is_some_and(|(_, memory)| !memory.is_intact());
        if self.spans.iter().any(broken) || leaves.iter().any(leaf_broken) {
            let what = format!("{} (node {:?})", step.kernel.name(), step.node);
            return Err(Error::Device(format!("{what} wrote outside its operands")));
        }
        Ok(())
    }
}
