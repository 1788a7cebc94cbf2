//! What a convolution takes along: a second convolution added to it, max-pooling behind it, bias,
//! activation or mask, and the un-pooling of the gradient in front of it.

use super::lower::Uses;
use super::{ActivationStage, ConvolutionCall, PoolStage};
use crate::ops::convolution::Direction;
use crate::ops::{Attribute, Convolution, Op, Pointwise, Pool, Reduce};
use crate::tape::Var;

/// A convolution call and the nodes that it stands for.
pub(super) struct Absorbed {
    pub call: ConvolutionCall,
    /// In the order that [`super::Kernel::Convolution`] states.
    pub reads: Vec<Var>,
    /// Every node whose work the call does.
    pub nodes: Vec<Var>,
    /// The node whose value the call writes.
    pub tail: Var,
    /// The node of the pooling positions that the call writes too.
    pub positions: Option<Var>,
}

/// The only pooling window that convolutions take along.
const WINDOW: usize = 2;

pub(super) fn absorb(uses: &Uses<'_>, first: Var, fuse: bool) -> Absorbed {
    let Op::Convolution(op) = uses.node(first).op else { unreachable!("callers pass convolutions") };
    let mut absorbed = Absorbed {
        call: ConvolutionCall {
            direction: op.direction,
            geometry: op.geometry,
            sources: 1,
            unpool: [false; 2],
            pool: PoolStage::None,
            bias: false,
            activation: ActivationStage::Identity,
        },
        reads: Vec::new(),
        nodes: vec![first],
        tail: first,
        positions: None,
    };
    let mut sources = vec![first];
    if fuse && let Some((sum, other)) = second_source(uses, first, op) {
        sources.push(other);
        absorbed.nodes.extend([sum, other]);
        absorbed.call.sources = 2;
        absorbed.tail = sum;
    }
    for (i, &source) in sources.iter().enumerate() {
        absorbed.call.unpool[i] = operands(uses, source, op, fuse, &mut absorbed.reads);
    }
    if fuse {
        epilogue(uses, op, &mut absorbed);
    }
    absorbed
}

/// Pushes the operands of one source; says whether its `dy` comes pooled.
fn operands(uses: &Uses<'_>, source: Var, op: Convolution, fuse: bool, reads: &mut Vec<Var>) -> bool {
    let upstream = match op.direction {
        Direction::Forward => None,
        Direction::InputGrad => Some(0),
        Direction::WeightGrad => Some(1),
    };
    let mut unpool = false;
    for (i, &input) in uses.node(source).inputs.iter().enumerate() {
        let root = uses.root(input);
        match uses.node(root).op {
            Op::Pool(Pool::Scatter { size: WINDOW, height, width })
                if fuse && upstream == Some(i) && (height, width) == (op.geometry.ho, op.geometry.wo) =>
            {
                unpool = true;
                reads.extend(uses.node(root).inputs.iter());
            }
            _ => reads.push(input),
        }
    }
    unpool
}

/// A convolution of the same kind and sizes that is added to `first`, and the sum.
fn second_source(uses: &Uses<'_>, first: Var, op: Convolution) -> Option<(Var, Var)> {
    let sum = uses.only_user(first)?;
    let node = uses.node(sum);
    if node.op != Op::Pointwise(Pointwise::Add) {
        return None;
    }
    let other = node.inputs.iter().map(|&v| uses.root(v)).find(|&v| v != first)?;
    let same = uses.node(other).op == Op::Convolution(op) && uses.only_user(other) == Some(sum);
    (same && other > first).then_some((sum, other))
}

fn epilogue(uses: &Uses<'_>, op: Convolution, absorbed: &mut Absorbed) {
    if op.direction == Direction::WeightGrad {
        return;
    }
    let before_pool = (absorbed.tail, absorbed.nodes.len());
    if op.direction == Direction::Forward {
        pooling(uses, absorbed);
        bias(uses, op.geometry.k, absorbed);
    }
    activation(uses, absorbed);
    // Positions must not be wanted before the whole call has run.
    let early = absorbed
        .positions
        .is_some_and(|p| uses.users(p).iter().any(|&u| u < absorbed.tail && !absorbed.nodes.contains(&u)));
    if early {
        absorbed.tail = before_pool.0;
        absorbed.nodes.truncate(before_pool.1);
        let sources: usize =
            absorbed.call.unpool[..absorbed.call.sources].iter().map(|&u| 2 + usize::from(u)).sum();
        absorbed.reads.truncate(sources);
        absorbed.positions = None;
        absorbed.call.pool = PoolStage::None;
        absorbed.call.bias = false;
        absorbed.call.activation = ActivationStage::Identity;
    }
}

fn pooling(uses: &Uses<'_>, absorbed: &mut Absorbed) {
    let tail = absorbed.tail;
    if uses.is_pinned(tail) {
        return;
    }
    let is = |v: Var, op: Pool| uses.node(v).op == Op::Pool(op);
    match *uses.users(tail) {
        [gather]
            if is(gather, Pool::Gather { size: WINDOW })
                && uses.root(uses.node(gather).inputs[0]) == tail =>
        {
            absorbed.call.pool = PoolStage::Gather;
            absorbed.reads.push(uses.node(gather).inputs[1]);
            absorbed.nodes.push(gather);
            absorbed.tail = gather;
        }
        [find, gather]
            if is(find, Pool::MaxArgmax { size: WINDOW })
                && is(gather, Pool::Gather { size: WINDOW })
                && uses.root(uses.node(gather).inputs[1]) == find =>
        {
            absorbed.call.pool = PoolStage::Max;
            absorbed.nodes.extend([find, gather]);
            absorbed.positions = Some(find);
            absorbed.tail = gather;
        }
        _ => {}
    }
}

/// `+ b`, where `b [K]` is repeated over everything but the last dimension.
fn bias(uses: &Uses<'_>, channels: usize, absorbed: &mut Absorbed) {
    let Some(sum) = uses.only_user(absorbed.tail) else {
        return;
    };
    let node = uses.node(sum);
    if node.op != Op::Pointwise(Pointwise::Add) {
        return;
    }
    let other = node.inputs.iter().map(|&v| uses.root(v)).find(|&v| v != absorbed.tail);
    let Some(other) = other else { return };
    if let Op::Reduce(Reduce::Repeat { outer: 1, inner, .. }) = uses.node(other).op
        && inner == channels
    {
        absorbed.call.bias = true;
        absorbed.reads.push(uses.node(other).inputs[0]);
        absorbed.nodes.push(sum);
        absorbed.tail = sum;
    }
}

fn activation(uses: &Uses<'_>, absorbed: &mut Absorbed) {
    let Some(user) = uses.only_user(absorbed.tail) else {
        return;
    };
    let node = uses.node(user);
    let stage = match node.op {
        Op::Pointwise(Pointwise::Relu) => ActivationStage::Relu,
        Op::Pointwise(Pointwise::LeakyRelu { slope }) => ActivationStage::LeakyRelu(slope),
        Op::Pointwise(Pointwise::MulStep { slope }) if uses.root(node.inputs[0]) == absorbed.tail => {
            ActivationStage::Mask(Attribute(slope.0))
        }
        _ => return,
    };
    if let ActivationStage::Mask(_) = stage {
        absorbed.reads.push(node.inputs[1]);
    }
    absorbed.call.activation = stage;
    absorbed.nodes.push(user);
    absorbed.tail = user;
}
