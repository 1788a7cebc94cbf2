//! Places every intermediate value in one arena: values whose lifetimes overlap get disjoint bytes,
//! others share, but for small ones where a device wants so.

use super::lower::{Drafts, Value};
use super::{Binding, Options, Output, Place, Plan, Region, Step, kind_size};
use crate::ops::Op;
use crate::tape::{Kind, Tape};

/// Offsets are multiples of a cache line.
pub const ALIGNMENT: usize = 64;

/// A run of bytes needed from step `first` to step `last`.
struct Block {
    bytes: usize,
    first: usize,
    last: usize,
    offset: usize,
}

pub(super) fn place(tape: &Tape, drafts: Drafts, options: &Options<'_>) -> Plan {
    let nodes = tape.nodes().len();
    let values = nodes + drafts.temporaries.len();
    let about = |v: Value| {
        let node = tape.nodes()[if v < nodes { v } else { drafts.temporaries[v - nodes].index() }];
        (node.kind, node.shape.len())
    };
    let end = drafts.steps.len();
    let mut home: Vec<Option<u32>> = vec![None; values];
    for (i, node) in tape.nodes().iter().enumerate() {
        if let Op::Leaf(leaf) = node.op {
            home[i] = Some(leaf);
        }
    }
    drafts.homes.iter().for_each(|&(v, leaf)| home[v] = Some(leaf));

    // Lifetimes.
    let mut block_of: Vec<Option<usize>> = vec![None; values];
    let mut blocks: Vec<Block> = Vec::new();
    let mut workspaces = Vec::with_capacity(end);
    for (at, step) in drafts.steps.iter().enumerate() {
        for &v in step.writes.iter().filter(|&&v| home[v].is_none()) {
            let (kind, len) = about(v);
            block_of[v] = Some(blocks.len());
            blocks.push(Block {
                bytes: len * kind_size(kind, options.real_size),
                first: at,
                last: at,
                offset: 0,
            });
        }
        for block in step.reads.iter().filter_map(|&v| block_of[v]) {
            blocks[block].last = at;
        }
        let len = (options.workspace)(&step.kernel);
        workspaces.push((len > 0).then_some((blocks.len(), len)));
        if len > 0 {
            blocks.push(Block { bytes: len * options.real_size, first: at, last: at, offset: 0 });
        }
    }
    for (_, v) in &drafts.outputs {
        if let Some(block) = block_of[*v] {
            blocks[block].last = end;
        }
    }
    for block in blocks.iter_mut().filter(|b| b.bytes <= options.unshared) {
        (block.first, block.last) = (0, end);
    }
    let arena_bytes = pack(&mut blocks, options.fence);

    let place_of = |v: Value| {
        let (kind, len) = about(v);
        let region = match (home[v], block_of[v]) {
            (Some(leaf), _) => Region::Leaf(leaf),
            (None, Some(block)) => Region::Arena(blocks[block].offset),
            (None, None) => unreachable!("every value that is read is written by an earlier step"),
        };
        Place { region, kind, len }
    };
    let mut used = vec![false; tape.leaves().len()];
    let steps: Vec<Step> = drafts
        .steps
        .iter()
        .zip(&workspaces)
        .map(|(draft, workspace)| {
            let workspace = match *workspace {
                Some((block, len)) => {
                    Place { region: Region::Arena(blocks[block].offset), kind: Kind::Real, len }
                }
                None => Place { region: Region::Arena(0), kind: Kind::Real, len: 0 },
            };
            Step {
                kernel: draft.kernel.clone(),
                reads: draft.reads.iter().map(|&v| place_of(v)).collect(),
                writes: draft.writes.iter().map(|&v| place_of(v)).collect(),
                workspace,
                node: draft.node,
                flops: draft.flops,
            }
        })
        .collect();
    for place in steps.iter().flat_map(|s| s.reads.iter().chain(&s.writes)) {
        if let Region::Leaf(leaf) = place.region {
            used[leaf as usize] = true;
        }
    }
    let bindings = tape.leaves().iter().zip(used).map(|(leaf, used)| {
        let node = tape.node(leaf.var);
        Binding { name: leaf.name.clone(), kind: node.kind, len: node.shape.len(), used }
    });
    let outputs = drafts.outputs.iter().map(|(name, v)| Output { name: name.clone(), place: place_of(*v) });
    Plan {
        bindings: bindings.collect(),
        outputs: outputs.collect(),
        steps,
        arena_bytes,
        real_size: options.real_size,
        fence: options.fence,
    }
}

/// Gives each block an offset and returns the size of the arena: the largest blocks first, each at the
/// lowest place where it overlaps no block that lives at the same time.
fn pack(blocks: &mut [Block], fence: usize) -> usize {
    let span = |bytes: usize| bytes.next_multiple_of(ALIGNMENT) + 2 * fence;
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(blocks[i].bytes));
    let mut total = 0;
    let mut placed: Vec<usize> = Vec::with_capacity(order.len());
    for i in order {
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .map(|&p| &blocks[p])
            .filter(|b| b.first <= blocks[i].last && blocks[i].first <= b.last)
            .map(|b| (b.offset - fence, b.offset - fence + span(b.bytes)))
            .collect();
        taken.sort_unstable();
        let need = span(blocks[i].bytes);
        let mut start = 0;
        for (from, to) in taken {
            if start + need <= from {
                break;
            }
            start = start.max(to);
        }
        blocks[i].offset = start + fence;
        total = total.max(start + need);
        placed.push(i);
    }
    total
}
