//! Global memory of every kernel that streams, at the sizes of the nets: sectors of each request, counted by the
//! simulated GPU, within a tenth of what the bytes would fill.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use tessera::cluster::kmeans::{Question, Settings, fit_all};
use tessera::device::cuda::launch::{Launch, Precision};
use tessera::device::cuda::lower::{self, Task};
use tessera::device::{CudaOptions, Device, HostSlice, HostSliceMut};
use tessera::ops::Pool;
use tessera::pixels::{Augment, Look, Pixels, Visit};
use tessera::tape::plan::{Kernel, Plan};
use tessera::tape::{Kind, Tape};

use crate::budgets::hold;
use crate::counters::{conflicts, ratio};
use crate::gpu::{Counters, Gpu, Values, gpu};
use crate::harness::open;
use crate::nets::plans;
use crate::toolkit::toolkit;
use crate::values::Draw;
use crate::variants::{Expressions, name};

/// Images of a batch of the counted steps. Their number is not what decides how memory is read.
const BATCH: usize = 20;

/// Sectors beyond the ideal that any kernel may touch.
const MOST: f64 = 1.1;

/// Kernels that cannot keep to [`MOST`]: what they may touch in loads and in stores, and why. The table holds what
/// they do.
const SCATTERED: [(&str, f64, f64, &str); 3] = [
    (
        "sum_parts",
        MOST,
        1.25,
        "a block writes one number a column: 12 bytes for three colours, in one sector or two",
    ),
    (
        "rows",
        2.5,
        1.5,
        "threads stand by their rows, so that rows of ten numbers leave gaps, and pick one number of each",
    ),
    ("batch", 5.0, MOST, "single bytes of images, and the table's number for each"),
];

/// The most that a kernel did in any of its launches: sectors a request, and of the ideal.
#[derive(Clone, Default)]
struct Worst {
    load: [f64; 2],
    store: [f64; 2],
    at: String,
}

struct Table(BTreeMap<String, Worst>);

impl Table {
    fn add(&mut self, name: &str, counters: &Counters, kernel: &str, at: &str) {
        let of = |what: &str| {
            let sectors = format!("global_{what}_sectors");
            ["requests", "ideal_sectors"]
                .map(|by| ratio(counters, kernel, &sectors, &format!("global_{what}_{by}")))
        };
        let (load, store) = (of("load"), of("store"));
        let row = self.0.entry(name.to_string()).or_default();
        if load[1].max(store[1]) > row.load[1].max(row.store[1]) {
            row.at = at.to_string();
        }
        for (known, new) in [(&mut row.load, load), (&mut row.store, store)] {
            *known = [known[0].max(new[0]), known[1].max(new[1])];
        }
    }
}

/// Operands of a task, with indices that exist.
fn operands(task: &Task) -> (Vec<Values>, Vec<Values>) {
    let values = |kind: Kind, len: usize| match kind {
        Kind::Real => Values::Real(vec![0.5; len]),
        Kind::U32 => Values::Bytes((0..len as u32).flat_map(|i| (i % 10).to_ne_bytes()).collect()),
        Kind::U8 => Values::Bytes((0..len).map(|i| (i * 7 % 4) as u8).collect()),
    };
    let all = |places: &[tessera::tape::plan::Place]| places.iter().map(|p| values(p.kind, p.len)).collect();
    (all(&task.reads), all(&task.writes))
}

/// Launches of a task that stream: all but products, of which the sum of their parts.
fn streams(plan: &Plan, task: &Task, expressions: &Expressions) -> Vec<Launch> {
    match &plan.steps[task.steps[0]].kernel {
        Kernel::Pointwise(_) => {
            vec![expressions.launch(plan, task).unwrap_or_else(|| task.launches[0].clone())]
        }
        Kernel::Convolution(_) | Kernel::Matmul { .. } => task.launches[1..].to_vec(),
        _ => task.launches.clone(),
    }
}

/// Pooling that is not fused with a convolution, and normal draws: what no net asks for.
fn alone(gpu: &mut Gpu, table: &mut Table) {
    const WIDE: usize = 20 * 16 * 16 * 64;
    const NARROW: usize = WIDE / 4;
    let (size, height, width) = (2, 16, 16);
    let real = |len| Values::Real(vec![0.5; len]);
    let bytes = |len| Values::Bytes((0..len).map(|i| (i * 7 % 4) as u8).collect());
    let cases = [
        (Pool::MaxArgmax { size }, vec![real(WIDE)], bytes(NARROW)),
        (Pool::Gather { size }, vec![real(WIDE), bytes(NARROW)], real(NARROW)),
        (Pool::Scatter { size, height, width }, vec![real(NARROW), bytes(NARROW)], real(WIDE)),
    ];
    for (op, reads, write) in cases {
        let kernel = Kernel::Pool { op, large: [20, height, width, 64] };
        let launches = lower::launches(&kernel, Precision::F32);
        let function = &launches[0].function;
        let counters = gpu.count(|gpu| drop(gpu.run(&launches, &reads, &[write], 0)));
        table.add(&name(function), &counters, &function.entry, "20 x 16 x 16 x 64");
    }
    let draw = lower::random(true, 1, NARROW);
    let key = Values::Bytes(vec![1; 16]);
    let counters = gpu.count(|gpu| drop(gpu.run(std::slice::from_ref(&draw), &[key], &[real(NARROW)], 0)));
    table.add(&name(&draw.function), &counters, "draw", "normal");
}

/// Values that are repeated over a result: a row over all rows and a number over its row, in rows of so many
/// numbers, beside a value that is there in full and alone.
fn repeats(gpu: &mut Gpu, table: &mut Table) {
    const ROWS: usize = 720;
    for columns in [3, 10, 50, 53, 64] {
        let mut t = Tape::new();
        let (x, row) = (t.input("x", [ROWS, columns]), t.input("row", [columns]));
        let column = t.input("column", [ROWS, 1]);
        let wide = t.broadcast_to(row, [ROWS, columns]);
        let (sum, product) = (t.add(x, row), t.mul(x, column));
        for (name, var) in [("wide", wide), ("sum", sum), ("product", product)] {
            t.output(name, var);
        }
        let plan = lower::plan(&t, Precision::F32, true).unwrap();
        for task in lower::tasks(&plan, Precision::F32) {
            let (reads, writes) = operands(&task);
            let counters = gpu.count(|gpu| drop(gpu.run(&task.launches, &reads, &writes, 0)));
            let lens: Vec<usize> = reads.iter().map(Values::len).collect();
            let entry = &task.launches[0].function.entry;
            table.add(&format!("repeats in rows of {columns}"), &counters, entry, &format!("{lens:?}"));
        }
    }
}

/// K-means on the codes of an autoencoder, with numbers of clusters for all tiles. Returns conflicts in shared
/// memory.
fn kmeans(gpu: &mut Gpu, table: &mut Table) -> Vec<String> {
    // Rows of a number for each point begin at whole sectors, as with all data sets of round sizes.
    let (n, d) = (1200, 256);
    let mut draw = Draw(9);
    let values = draw.real(n * d);
    let mut faults = Vec::new();
    for k in [10, 30, 100] {
        let counters = gpu.count(|_| {
            let settings = Settings { clusters: k, max_iterations: 2, tolerance: 0.0, restarts: 2, seed: 1 };
            let mut device = open(CudaOptions::default());
            let points = device.load_points(&values, d).unwrap();
            let questions = [Question { weights: None, seed: 1, start: None }];
            fit_all(points.as_ref(), n, &questions, &settings, &mut |_, _| {}).unwrap();
        });
        for (kernel, _) in counters.as_object().unwrap() {
            let name = if kernel == "assign" { format!("assign of {k} centres") } else { kernel.clone() };
            table.add(&name, &counters, kernel, &format!("{n} x {d}, {k} centres"));
        }
        faults.extend(conflicts(&counters, "assign", &format!("assign of {k} centres")));
    }
    faults
}

/// Batches of images with their delivery.
fn batches(gpu: &mut Gpu, table: &mut Table) {
    for (shape, canvas) in [([32, 32, 3], [32, 32]), ([28, 28, 1], [32, 32]), ([105, 105, 1], [105, 105])] {
        let bytes: Vec<u8> =
            (0..30 * shape.iter().product::<usize>()).map(|i| (i * 31 % 256) as u8).collect();
        let counters = gpu.count(|_| {
            let mut device = open(CudaOptions::default());
            let pixels = Pixels::new([&bytes, &[]], shape);
            let table = vec![std::array::from_fn(|byte| byte as f32); shape[2]];
            let look = Look { canvas, margin: 0.0, table };
            let set = device.upload_images(&pixels, &look).unwrap();
            let size = look.shape().iter().product::<usize>();
            let rows: Vec<u32> = (0..BATCH as u32).map(|i| i * 7 % 30).collect();
            let buffer = device.allocate(Kind::Real, BATCH * size).unwrap();
            // Something to deliver: labels of the batch.
            let labels = device.allocate(Kind::U32, BATCH).unwrap();
            device.write(labels, HostSlice::U32(&rows)).unwrap();
            let visit = Visit { augment: Augment { flip: 0.5, grey: 0.5 }, seed: 5, visit: 0 };
            device.fill_batch(set, &pixels, &rows, &visit, buffer).unwrap();
            device.read(buffer, HostSliceMut::F32(&mut vec![0.0; BATCH * size])).unwrap();
        });
        for (kernel, _) in counters.as_object().unwrap() {
            table.add(kernel, &counters, kernel, &format!("{shape:?}"));
        }
    }
}

fn steps(gpu: &mut Gpu, table: &mut Table) {
    let plans = plans(BATCH, Precision::F32);
    let expressions = Expressions::of(plans.iter().map(|(_, plan)| plan));
    let mut seen = HashSet::new();
    for (step, plan) in &plans {
        for task in lower::tasks(plan, Precision::F32) {
            let launches = streams(plan, &task, &expressions);
            let Some(first) = launches.first() else { continue };
            let lens: Vec<usize> = task.reads.iter().chain(&task.writes).map(|p| p.len).collect();
            if !seen.insert(format!("{} {:?} {lens:?}", name(&first.function), first.grid)) {
                continue;
            }
            let (reads, writes) = operands(&task);
            let entry = first.function.entry.to_string();
            let counters = gpu.count(|gpu| drop(gpu.run(&launches, &reads, &writes, task.workspace.len)));
            let name = match entry.trim_end_matches(|c: char| c.is_ascii_digit()) {
                "expression" | "expressions" => format!("expressions of {step}"),
                "rows" => format!("rows of {step}"),
                _ => name(&first.function),
            };
            table.add(&name, &counters, &entry, &format!("{lens:?}"));
        }
    }
}

#[test]
fn kernels_that_stream_touch_whole_sectors() {
    let (Some(_), Some(mut gpu)) = (toolkit(), gpu()) else { return };
    let mut table = Table(BTreeMap::new());
    steps(&mut gpu, &mut table);
    alone(&mut gpu, &mut table);
    repeats(&mut gpu, &mut table);
    batches(&mut gpu, &mut table);
    let mut faults = kmeans(&mut gpu, &mut table);
    let mut text = String::from(
        "kernel\tload sectors a request\tof the ideal\tstore sectors a request\tof the ideal\tworst at\twhy\n",
    );
    for (name, Worst { load, store, at }) in &table.0 {
        let scattered = SCATTERED.iter().find(|(kernel, ..)| name.split(' ').next() == Some(kernel));
        let (loads, stores, why) = scattered.map_or((MOST, MOST, ""), |&(_, l, s, why)| (l, s, why));
        let row = format!("{name}\t{:.2}\t{:.3}\t{:.2}\t{:.3}\t{at}", load[0], load[1], store[0], store[1]);
        if load[1] > loads || store[1] > stores {
            faults.push(row.clone());
        }
        writeln!(text, "{row}\t{why}").unwrap();
    }
    println!("{text}");
    assert!(faults.is_empty(), "{faults:#?}");
    hold("memory.tsv", &text);
}
