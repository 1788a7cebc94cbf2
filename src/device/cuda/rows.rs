//! Operations that stay within rows of a few columns, such as a loss of logits with its gradient and the
//! tangents of both, as one launch: neighbouring threads of a warp take a row through all of them.

use std::fmt::Write;

use super::compile::FILES;
use super::launch::{Argument, Function, Launch, Source};
use super::pointwise;
use crate::ops::Gather;
use crate::tape::plan::expression::{Access, Instruction};
use crate::tape::plan::{Kernel, Plan, Step};

/// Threads of a block.
const THREADS: usize = 128;

/// Columns of rows that elementwise operations and sums join for: more are worth kernels of their own.
const WIDEST: usize = 256;

/// The number of rows of a step that begins a launch of this kind.
pub fn anchor(kernel: &Kernel) -> Option<usize> {
    match *kernel {
        Kernel::LogSoftmax { rows, .. }
        | Kernel::Gather { op: Gather::Pick | Gather::Place { .. }, rows, .. } => Some(rows),
        Kernel::Sum { outer, count, inner: 1 } if outer > 1 && count <= WIDEST => Some(outer),
        _ => None,
    }
}

/// A step as operations on `rows` rows, if it is one: for each of its reads, whether a row of the result needs
/// the same row of the operand alone.
pub fn local_reads(step: &Step, rows: usize) -> Option<Vec<bool>> {
    let Kernel::Pointwise(expression) = &step.kernel else {
        return (anchor(&step.kernel) == Some(rows)).then(|| vec![true; step.reads.len()]);
    };
    let width = expression.len / rows;
    if !expression.len.is_multiple_of(rows) || width > WIDEST {
        return None;
    }
    let mut local = vec![true; step.reads.len()];
    for instruction in &expression.code {
        if let Instruction::Load { operand, access: Access { count, inner }, .. } = *instruction {
            local[usize::from(operand)] &= count == 1 || width.is_multiple_of(count * inner);
        }
    }
    Some(local)
}

/// The source of the rows' launches of a plan, for groups of steps with their number of rows.
pub fn source(plan: &Plan, groups: &[(Vec<usize>, usize)]) -> Source {
    let common = FILES.iter().find(|f| f.name == "rows").map_or("", |f| f.text);
    let mut text = format!("{}{common}", pointwise::PRELUDE);
    for (number, (steps, rows)) in groups.iter().enumerate() {
        // Writing to a string does not fail.
        let _ = function(&mut text, number, plan, steps, *rows);
    }
    Source::Generated(text)
}

/// The launch of group number `number`. Its operands are the reads and writes of its steps, one after the
/// other.
pub fn launch(source: &Source, number: usize, plan: &Plan, steps: &[usize], rows: usize) -> Launch {
    let count = |operands: fn(&Step) -> usize| steps.iter().map(|&s| operands(&plan.steps[s])).sum::<usize>();
    let reads = (0..count(|s| s.reads.len())).map(Argument::Read);
    let writes = (0..count(|s| s.writes.len())).map(Argument::Write);
    Launch {
        function: Function {
            source: source.clone(),
            defines: Vec::new(),
            entry: format!("rows{number}").into(),
            dynamic_shared: 0,
        },
        grid: [rows.div_ceil(THREADS / lanes(plan, steps, rows)) as u32, 1, 1],
        block: [THREADS as u32, 1, 1],
        arguments: reads.chain(writes).collect(),
    }
}

/// Threads for a row.
fn lanes(plan: &Plan, steps: &[usize], rows: usize) -> usize {
    let operands = |&s: &usize| plan.steps[s].reads.iter().chain(&plan.steps[s].writes);
    let widest = steps.iter().flat_map(operands).map(|place| place.len / rows).max();
    widest.unwrap_or(1).max(1).next_power_of_two().min(32)
}

fn function(text: &mut String, number: usize, plan: &Plan, steps: &[usize], rows: usize) -> std::fmt::Result {
    let lanes = lanes(plan, steps, rows);
    let steps: Vec<&Step> = steps.iter().map(|&s| &plan.steps[s]).collect();
    let pointer = |kind, name: String| match kind {
        crate::tape::Kind::Real => format!("float* {name}"),
        crate::tape::Kind::U32 => format!("u32* {name}"),
        crate::tape::Kind::U8 => format!("u8* {name}"),
    };
    let reads = steps.iter().flat_map(|s| &s.reads).enumerate();
    let writes = steps.iter().flat_map(|s| &s.writes).enumerate();
    let parameters: Vec<String> = reads
        .map(|(i, p)| format!("const {}", pointer(p.kind, format!("x{i}"))))
        .chain(writes.map(|(i, p)| pointer(p.kind, format!("y{i}"))))
        .collect();
    writeln!(text, "\nextern \"C\" __global__ void __launch_bounds__({THREADS})")?;
    writeln!(text, "rows{number}({}) {{", parameters.join(", "))?;
    writeln!(text, "    u32 lane = threadIdx.x % {lanes};")?;
    writeln!(text, "    u32 row = blockIdx.x * {} + threadIdx.x / {lanes};", THREADS / lanes)?;
    writeln!(text, "    bool exists = row < {rows};")?;
    let (mut x, mut y) = (0, 0);
    for (i, step) in steps.iter().enumerate() {
        if i > 0 {
            // What other threads of the row wrote.
            writeln!(text, "    __syncwarp();")?;
        }
        stage(text, step, rows, lanes, (x, y))?;
        x += step.reads.len();
        y += step.writes.len();
    }
    writeln!(text, "}}")
}

/// One step on a row; its operands begin at numbers `x` and `y`.
fn stage(
    text: &mut String,
    step: &Step,
    rows: usize,
    lanes: usize,
    (x, y): (usize, usize),
) -> std::fmt::Result {
    match &step.kernel {
        Kernel::LogSoftmax { columns, .. } => writeln!(
            text,
            "    log_softmax<{lanes}>(exists, lane, {columns}, x{x} + row * {columns}, y{y} + row * {columns});"
        ),
        Kernel::Sum { count, .. } => {
            writeln!(text, "    sum<{lanes}>(exists, lane, {count}, x{x} + row * {count}, y{y} + row);")
        }
        Kernel::Gather { op: Gather::Pick, columns, .. } => {
            let index = x + 1;
            writeln!(
                text,
                "    pick(exists, lane, {columns}, x{x} + row * {columns}, x{index} + row, y{y} + row);"
            )
        }
        Kernel::Gather { columns, .. } => {
            let index = x + 1;
            writeln!(
                text,
                "    place<{lanes}>(exists, lane, {columns}, x{x} + row, x{index} + row, y{y} + row * {columns});"
            )
        }
        Kernel::Pointwise(expression) => {
            let width = expression.len / rows;
            writeln!(
                text,
                "    for (u32 c = lane; exists && c < {width}; c += {lanes}) {{\n        u32 i = row * {width} + c;"
            )?;
            let load = |operand: u8, access| {
                format!("x{}[{}]", x + usize::from(operand), pointwise::index(access, "i"))
            };
            for line in pointwise::body(expression, load) {
                writeln!(text, "        {line}")?;
            }
            writeln!(text, "        y{y}[i] = r0;\n    }}")
        }
        // Not one of these kernels, see `anchor`.
        _ => Ok(()),
    }
}
