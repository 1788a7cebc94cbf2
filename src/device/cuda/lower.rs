//! From the steps of a plan to launches. Nothing here needs a driver.

use super::groups::{Group, groups};
use super::launch::{Argument, Function, Launch, Precision, Source};
use super::pointwise::{self, Compiled, Segment};
use super::{conv, gemm, rows};
use crate::error::Result;
use crate::ops::random::Distribution;
use crate::ops::{Gather, Pool};
use crate::tape::Tape;
use crate::tape::plan::{Expression, Kernel, Options, Place, Plan};

/// Threads of a block of kernels that do not say otherwise.
const THREADS: usize = 256;

/// Steps of a plan that run together: one, or several elementwise ones of the same code that do not depend
/// on each other, such as the updates of all parameters.
#[derive(Clone, Debug)]
pub struct Task {
    /// Numbers of the steps.
    pub steps: Vec<usize>,
    /// Operands of all of them, one step after the other.
    pub reads: Vec<Place>,
    pub writes: Vec<Place>,
    pub workspace: Place,
    pub launches: Vec<Launch>,
}

/// Values that do not share memory: losses of usual batches, and everything smaller.
const UNSHARED: usize = 16 << 10;

/// The plan of a program for CUDA.
pub fn plan(tape: &Tape, precision: Precision, fuse: bool) -> Result<Plan> {
    let workspace = |kernel: &Kernel| workspace(kernel, precision);
    let options =
        Options { real_size: size_of::<f32>(), fuse, fence: 0, unshared: UNSHARED, workspace: &workspace };
    Plan::new(tape, &options)
}

/// Real elements of scratch memory that a kernel's launches use.
pub fn workspace(kernel: &Kernel, precision: Precision) -> usize {
    match kernel {
        Kernel::Convolution(call) => conv::workspace(call, precision),
        Kernel::Matmul { m, n, k, transpose_a, transpose_b } => {
            gemm::workspace(*m, *n, *k, *transpose_a, *transpose_b, precision)
        }
        Kernel::Sum { outer, count, inner } => {
            let stages = stages(*count, *inner);
            // The last stage writes the result.
            stages.iter().rev().skip(1).map(|s| s.elements(*outer, *inner)).sum()
        }
        _ => 0,
    }
}

/// What a kernel becomes. Operands have fewer than 2³¹ elements each.
pub fn launches(kernel: &Kernel, precision: Precision) -> Vec<Launch> {
    match kernel {
        Kernel::Convolution(call) => conv::launches(call, precision),
        Kernel::Matmul { m, n, k, transpose_a, transpose_b } => {
            gemm::launches(*m, *n, *k, *transpose_a, *transpose_b, precision)
        }
        Kernel::Pool { op, large } => vec![pool(*op, *large)],
        Kernel::Sum { outer, count, inner } => sum(*outer, *count, *inner),
        Kernel::Argmax { rows, columns } => {
            let arguments = vec![number(*columns), Argument::Read(0), Argument::Write(0)];
            vec![launch("argmax", "argmax", &[], (*rows, THREADS), arguments)]
        }
        Kernel::Gather { op, rows, columns, picks } => {
            gather(*op, *rows, *columns, *picks).into_iter().collect()
        }
        // These depend on their operands, or on other steps: see `tasks`.
        Kernel::Random { .. } | Kernel::Copy | Kernel::LogSoftmax { .. } => Vec::new(),
        Kernel::Pointwise(expression) => {
            let source = pointwise::source(&[&pointwise::canonical(expression)]);
            vec![Compiled { source: &source, number: 0 }.launch(&[segment(expression, 0, 0)])]
        }
    }
}

fn segment(expression: &Expression, reads: usize, write: usize) -> Segment {
    let count = pointwise::operands(expression);
    Segment { len: expression.len, reads: (reads..reads + count).collect(), write }
}

/// Everything that a plan runs, in order.
pub fn tasks(plan: &Plan, precision: Precision) -> Vec<Task> {
    let expressions: Vec<Option<Expression>> = plan
        .steps
        .iter()
        .map(|step| match &step.kernel {
            Kernel::Pointwise(e) => Some(pointwise::canonical(e)),
            _ => None,
        })
        .collect();
    let groups = groups(plan, &expressions);
    let mut codes: Vec<&Expression> = Vec::new();
    for group in groups.iter().filter(|g| g.rows.is_none()) {
        if let Some(e) = &expressions[group.steps[0]]
            && !codes.iter().any(|known| known.code == e.code)
        {
            codes.push(e);
        }
    }
    let elementwise = pointwise::source(&codes);
    let in_rows: Vec<(Vec<usize>, usize)> =
        groups.iter().filter_map(|g| Some((g.steps.clone(), g.rows?))).collect();
    let by_rows = rows::source(plan, &in_rows);
    let mut rows_before = 0;
    let mut task = |Group { steps, rows }: Group| {
        let first = &plan.steps[steps[0]];
        let launches = match (rows, &first.kernel) {
            (Some(rows), _) => {
                rows_before += 1;
                vec![rows::launch(&by_rows, rows_before - 1, plan, &steps, rows)]
            }
            (None, Kernel::Pointwise(_)) => {
                let code = expressions[steps[0]].as_ref();
                let number = codes.iter().position(|known| code.is_some_and(|e| known.code == e.code));
                let number = number.unwrap_or(0);
                vec![Compiled { source: &elementwise, number }.launch(&segments(plan, &steps))]
            }
            (None, Kernel::Random { op }) => {
                vec![random(op.distribution == Distribution::Normal, op.stream, first.writes[0].len)]
            }
            (None, Kernel::Copy) => vec![copy(first.writes[0].len * plan.size_of(first.writes[0].kind))],
            (None, kernel) => launches(kernel, precision),
        };
        let all = || steps.iter().map(|&s| &plan.steps[s]);
        Task {
            reads: all().flat_map(|s| s.reads.iter().copied()).collect(),
            writes: all().flat_map(|s| s.writes.iter().copied()).collect(),
            workspace: first.workspace,
            steps,
            launches,
        }
    };
    groups.into_iter().map(&mut task).collect()
}

/// Elementwise steps of the same code, with their operands one step after the other.
fn segments(plan: &Plan, steps: &[usize]) -> Vec<Segment> {
    let mut reads = 0;
    let segment = |(i, &s): (usize, &usize)| {
        let step = &plan.steps[s];
        reads += step.reads.len();
        match &step.kernel {
            Kernel::Pointwise(e) => Some(segment(e, reads - step.reads.len(), i)),
            _ => None,
        }
    };
    steps.iter().enumerate().filter_map(segment).collect()
}

fn launch(
    file: &'static str,
    entry: &'static str,
    defines: &[(&str, usize)],
    (blocks, threads): (usize, usize),
    arguments: Vec<Argument>,
) -> Launch {
    Launch {
        function: Function {
            source: Source::File(file),
            defines: defines.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            entry: entry.into(),
            dynamic_shared: 0,
        },
        grid: [blocks as u32, 1, 1],
        block: [threads as u32, 1, 1],
        arguments,
    }
}

/// Blocks and threads for that many threads with work.
fn flat(count: usize) -> (usize, usize) {
    (count.div_ceil(THREADS), THREADS)
}

fn number(value: usize) -> Argument {
    Argument::U32(value as u32)
}

/// `Large` of `kernels/pool.cu`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Large {
    height: u32,
    width: u32,
    channels: u32,
    runs: u32,
}

fn pool(op: Pool, [n, height, width, channels]: [usize; 4]) -> Launch {
    let (size, entry, pooled, positions) = match op {
        Pool::MaxArgmax { size } => (size, "pool_argmax", true, false),
        Pool::Gather { size } => (size, "pool_gather", true, true),
        Pool::Scatter { size, .. } => (size, "pool_scatter", false, true),
        Pool::Sum { size } => (size, "pool_sum", true, false),
        Pool::Upsample { size, .. } => (size, "pool_upsample", false, false),
    };
    let vector = if channels.is_multiple_of(4) { 4 } else { 1 };
    let pixels = if pooled { (height / size) * (width / size) } else { height * width };
    let runs = n * pixels * (channels / vector);
    let large =
        Large { height: height as u32, width: width as u32, channels: channels as u32, runs: runs as u32 };
    let mut arguments = vec![Argument::Bytes(bytemuck::bytes_of(&large).to_vec()), Argument::Read(0)];
    if positions {
        arguments.push(Argument::Read(1));
    }
    arguments.push(Argument::Write(0));
    launch("pool", entry, &[("WINDOW", size), ("VECTOR", vector)], flat(runs), arguments)
}

/// Longest rows that neighbouring threads of one warp add.
const SHORT: usize = 1024;

/// Rows that one thread adds at most, `RUN` of `kernels/reduce.cu`.
const RUN: usize = 32;

/// `MOST_THREADS` of `kernels/reduce.cu`.
const MOST_THREADS: usize = 512;

/// Real elements of a sector of memory.
const SECTOR: usize = 8;

/// One pass of a sum over parts.
struct Stage {
    count: usize,
    /// Neighbouring columns, and rows that a block looks at together.
    across: usize,
    down: usize,
    parts: usize,
}

impl Stage {
    fn new(count: usize, inner: usize) -> Self {
        let across = inner.min(THREADS);
        // Rows that fill whole sectors, if so many are not too many.
        let whole = SECTOR >> inner.trailing_zeros().min(SECTOR.ilog2());
        let down = match THREADS / across / whole * whole {
            0 if whole * across <= MOST_THREADS => whole,
            0 => THREADS / across,
            down => down,
        };
        Stage { count, across, down, parts: count.div_ceil(down * RUN) }
    }

    /// Elements that it writes, rounded up so that the next pass begins at a multiple of 16 bytes.
    fn elements(&self, outer: usize, inner: usize) -> usize {
        (outer * self.parts * inner).next_multiple_of(4)
    }
}

/// Passes until one part is left; none if rows are short enough to be added at once.
fn stages(count: usize, inner: usize) -> Vec<Stage> {
    let mut all = Vec::new();
    if inner == 1 && count <= SHORT {
        return all;
    }
    let mut left = count;
    loop {
        let stage = Stage::new(left, inner);
        left = stage.parts;
        all.push(stage);
        if left == 1 {
            return all;
        }
    }
}

fn sum(outer: usize, count: usize, inner: usize) -> Vec<Launch> {
    let stages = stages(count, inner);
    if stages.is_empty() {
        let lanes = count.next_power_of_two().min(32);
        let arguments =
            vec![number(outer), number(count), number(lanes), Argument::Read(0), Argument::Write(0)];
        let blocks = outer.div_ceil(THREADS / lanes);
        return vec![launch("reduce", "sum_rows", &[], (blocks, THREADS), arguments)];
    }
    let (mut from, mut offset) = (Argument::Read(0), 0);
    let last = stages.len() - 1;
    let pass = |(i, stage): (usize, &Stage)| {
        let to = if i == last { Argument::Write(0) } else { Argument::Workspace(offset) };
        offset += stage.elements(outer, inner);
        let arguments = vec![
            number(stage.count),
            number(inner),
            number(stage.parts),
            number(stage.across),
            number(stage.down),
            std::mem::replace(&mut from, to.clone()),
            to,
        ];
        let threads = (stage.across * stage.down).next_multiple_of(32);
        let mut launch = launch("reduce", "sum_parts", &[], (outer * stage.parts, threads), arguments);
        launch.grid[1] = inner.div_ceil(stage.across) as u32;
        launch
    };
    stages.iter().enumerate().map(pass).collect()
}

/// Gathering of whole rows; single elements are a matter of `rows`.
fn gather(op: Gather, rows: usize, columns: usize, picks: usize) -> Option<Launch> {
    let (entry, elements) = match op {
        Gather::Rows => ("gather_rows", picks * columns),
        Gather::ScatterRows { .. } => ("scatter_rows", rows * columns),
        Gather::Pick | Gather::Place { .. } => return None,
    };
    let sizes = [number(rows), number(columns), number(picks)];
    let arguments =
        sizes.into_iter().chain([Argument::Read(0), Argument::Read(1), Argument::Write(0)]).collect();
    Some(launch("gather", entry, &[], flat(elements), arguments))
}

/// Draws, four a thread.
pub fn random(normal: bool, stream: u32, len: usize) -> Launch {
    let arguments = vec![number(len), Argument::U32(stream), Argument::Read(0), Argument::Write(0)];
    launch("random", "draw", &[("NORMAL", usize::from(normal))], flat(len.div_ceil(4)), arguments)
}

/// A copy of bytes, 16 a thread.
pub fn copy(bytes: usize) -> Launch {
    let arguments = vec![number(bytes), Argument::Read(0), Argument::Write(0)];
    launch("copy", "copy", &[], flat(bytes.div_ceil(16)), arguments)
}

/// Is every operand small enough for kernels that count in 32 bits?
pub fn fits(plan: &Plan) -> bool {
    let places = plan.steps.iter().flat_map(|s| s.reads.iter().chain(&s.writes).chain([&s.workspace]));
    places.into_iter().all(|p| p.len * plan.size_of(p.kind) < 1 << 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(tape: &Tape) -> Plan {
        super::plan(tape, Precision::F32, true).unwrap()
    }

    /// Values and momenta of `sizes`, updated by gradients.
    fn updates(sizes: &[usize]) -> Plan {
        let mut t = Tape::new();
        let rate = t.input("rate", []);
        for (i, &n) in sizes.iter().enumerate() {
            let [value, momentum, gradient] =
                ["value", "momentum", "gradient"].map(|name| t.input(format!("{name}{i}"), [n]));
            let kept = t.scale(momentum, 0.9);
            let new = t.add(kept, gradient);
            let wide = t.broadcast_to(rate, [n]);
            let change = t.mul(wide, new);
            let moved = t.sub(value, change);
            t.assign(momentum, new);
            t.assign(value, moved);
        }
        plan(&t)
    }

    #[test]
    fn updates_of_all_parameters_are_one_launch_for_each_kind() {
        let plan = updates(&[7, 5000, 64, 2, 300]);
        assert_eq!(plan.steps.len(), 10);
        let tasks = tasks(&plan, Precision::F32);
        // All momenta, then all values, whatever their sizes.
        assert_eq!(tasks.iter().map(|t| t.steps.len()).collect::<Vec<_>>(), [5, 5]);
        let launch = &tasks[0].launches[0];
        // Blocks of 1024 elements: 1 + 5 + 1 + 1 + 1.
        assert_eq!(launch.grid, [9, 1, 1]);
        let Argument::Table(table) = &launch.arguments[1] else { panic!("a table of segments") };
        assert_eq!(table.len(), 5 * 4);
        assert_eq!(table[7], Argument::U64(5000 | 1 << 32));
        assert_eq!(table[11], Argument::U64(64 | 6 << 32));
    }

    #[test]
    fn steps_that_depend_on_each_other_stay_in_order() {
        let mut t = Tape::new();
        let x = t.input("x", [8]);
        let mut y = x;
        for i in 0..4 {
            y = t.scale(y, 2.0);
            t.output(format!("y{i}"), y);
        }
        let plan = plan(&t);
        let tasks = tasks(&plan, Precision::F32);
        assert_eq!(tasks.iter().map(|t| t.steps.clone()).collect::<Vec<_>>(), [[0], [1], [2], [3]]);
    }

    #[test]
    fn passes_of_a_sum_end_at_one_part_within_their_workspace() {
        for (outer, count, inner) in [(1, 2000, 1), (1, 10_000_000, 1), (3, 100_000, 64), (2, 5, 1000)] {
            let kernel = Kernel::Sum { outer, count, inner };
            let (all, room) = (launches(&kernel, Precision::F32), workspace(&kernel, Precision::F32));
            for (i, launch) in all.iter().enumerate() {
                let last = i + 1 == all.len();
                match launch.arguments[6] {
                    Argument::Write(0) => assert!(last),
                    Argument::Workspace(at) => {
                        assert!(!last && at % 4 == 0);
                        assert!(at + launch.grid[0] as usize * inner <= room);
                    }
                    ref other => panic!("{other:?}"),
                }
            }
            let shortest = launches(&Kernel::Sum { outer: 9, count: 1, inner: 1 }, Precision::F32);
            assert_eq!(shortest[0].grid, [1, 1, 1]);
        }
    }
}
