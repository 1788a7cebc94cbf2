//! What a program demands of the buffers that its leaves are bound to.

use super::Buffer;
use crate::error::{Error, Result};
use crate::tape::Kind;
use crate::tape::plan::{Plan, Region};

/// Does every leaf have a buffer of its kind and size, and every written leaf one of its own? `about` tells
/// kind and bytes of a buffer that exists.
pub(super) fn check(
    plan: &Plan,
    leaves: &[Buffer],
    about: impl Fn(Buffer) -> Option<(Kind, usize)>,
) -> Result<()> {
    if leaves.len() != plan.bindings.len() {
        let (want, have) = (plan.bindings.len(), leaves.len());
        return Err(Error::Device(format!("the program has {want} leaves, {have} buffers were given")));
    }
    for (binding, leaf) in plan.bindings.iter().zip(leaves) {
        if about(*leaf) != Some((binding.kind, binding.len * plan.size_of(binding.kind))) {
            let what = format!("'{}' needs {} {:?} elements", binding.name, binding.len, binding.kind);
            return Err(Error::Device(format!("{what}; buffer {} is not that", leaf.0)));
        }
    }
    for place in plan.steps.iter().flat_map(|s| &s.writes) {
        if let Region::Leaf(written) = place.region {
            let shared = leaves.iter().enumerate().any(|(i, b)| {
                i != written as usize && *b == leaves[written as usize] && plan.bindings[i].used
            });
            if shared {
                let name = &plan.bindings[written as usize].name;
                return Err(Error::Device(format!(
                    "'{name}' is written, but shares its buffer with another leaf"
                )));
            }
        }
    }
    Ok(())
}
