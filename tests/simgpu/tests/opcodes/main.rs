//! Every family of opcode forms, through the real NVRTC and `cudarc`, against Rust.

mod atomics;
mod bits;
mod comparisons;
mod control;
mod conversions;
mod floats;
#[path = "../gpu/forms.rs"]
mod forms;
#[path = "../gpu/mod.rs"]
mod gpu;
mod hints;
mod integers;
mod matrices;
mod memory;
mod rounding;
mod text;
mod warps;

// `forms` names its sibling by `super`.
use gpu::{Draw, Gpu, shape};

/// Fails for each opcode, and each modifier of it, that none of the tests here has launched.
#[test]
fn every_row_of_the_table_is_tested() {
    let Some(touched) = gpu::touched_by_others("every_row_of_the_table_is_tested") else { return };
    let mut untested = Vec::new();
    for opcode in cuda::isa::OPCODES {
        let forms: Vec<Vec<&str>> = touched.iter().map(|form| form.split('.').collect()).collect();
        let forms: Vec<&Vec<&str>> = forms.iter().filter(|form| form[0] == opcode.name).collect();
        if forms.is_empty() {
            untested.push(opcode.name.to_string());
            continue;
        }
        for modifier in opcode.modifiers.split_ascii_whitespace() {
            if !forms.iter().any(|form| form.contains(&modifier)) {
                untested.push(format!("{} with .{modifier}", opcode.name));
            }
        }
    }
    assert!(untested.is_empty(), "no test for: {}", untested.join(", "));
}
