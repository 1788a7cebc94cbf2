//! Bytes that a whole step moves, by counters, against the least that its plan needs.
//!
//! Moved is what memory sees at least: the distinct sectors of 32 bytes that each launch reads and writes,
//! summed over launches. Within a launch that is a cache without limit; between launches it is none, so that
//! parts of sums that are written and added by the next launch count twice, though a GPU's L2 keeps most of them.
//! Requested bytes, sectors of every request, are what L2 serves: the filter of a convolution for every block.
//!
//! The counters are those of the simulated GPU and belong to a process, so that every case is a process.

use std::process::Command;

use tessera::device::cuda::cost;
use tessera::device::{CudaOptions, Precision};
use tessera::tape::plan::Kernel;

use crate::harness;
use crate::watched::{self, Prepared};

/// A step that is run: net, and images of a batch. Each batch is the one that users take. A smaller one would
/// cost less and say less: a sum over few images is cut into as many parts as one over many, so the filters and
/// their parts are most of what moves.
const CASES: [(&str, usize); 3] = [("mnistnet", 100), ("cifarnet", 100), ("acai16", 64)];

/// Bytes that a step moves, over the least.
const MOVED: f64 = 1.25;

/// The case that a child process runs.
const CASE: &str = "TESSERA_TRAFFIC_CASE";

/// Most bytes that a launch requests over the least that it needs.
fn most_requested(kernel: &Kernel) -> f64 {
    match kernel {
        // A pixel of the input is a term of nine sums, and tiles of filters come again for every tile of pixels.
        Kernel::Convolution(_) => 18.0,
        Kernel::Matmul { .. } => 2.0,
        // A number that all elements share is asked for by every warp.
        _ => 1.3,
    }
}

#[test]
#[ignore = "run by the test below, in a process of its own"]
fn child() {
    let Ok(net) = std::env::var(CASE) else { return };
    let (_, batch) = CASES.into_iter().find(|(name, _)| *name == net).unwrap();
    harness::gpu().unwrap();
    let tape = watched::step(&net, "paper", batch).unwrap();
    let (plan, tasks) = watched::plan(&tape, Precision::F32).unwrap();
    let mut device = harness::open(watched::options(Precision::F32));
    let seen = Prepared::new(&mut device, &tape).unwrap().observe(&mut device).unwrap();
    assert_eq!(seen.len(), tasks.iter().map(|t| t.launches.len()).sum::<usize>());
    let (mut seen, mut moved, mut requested) = (seen.into_iter(), 0, 0);
    let mut faults = Vec::new();
    for task in &tasks {
        let kernel = &plan.steps[task.steps[0]].kernel;
        let costs = cost::of_task(&plan, task, Precision::F32);
        let least: u64 = costs.iter().map(cost::Cost::bytes).sum();
        let (mut touched, mut asked) = (0, 0);
        for (launch, done) in task.launches.iter().zip(&mut seen) {
            assert_eq!(launch.function.entry, done.entry);
            let traffic = done.traffic.expect("the simulator counts traffic");
            touched += traffic.distinct();
            asked += traffic.requested;
        }
        moved += touched;
        requested += asked;
        // Operands begin and end within sectors; of picked elements each takes one.
        let picks = |&&s: &&usize| matches!(plan.steps[s].kernel, Kernel::Gather { .. });
        let picked = task.steps.iter().filter(picks).count() * batch;
        let edges = 64 * (task.reads.len() + task.writes.len() + picked) as u64;
        let steps: u64 = task.steps.iter().map(|&s| plan.step_bytes(&plan.steps[s])).sum();
        let expected = steps + cost::workspace(&plan, task);
        let about = format!(
            "step {}, {}: at least {least} bytes, with all that it is given {expected}; {touched} in distinct sectors, \
             {asked} requested",
            task.steps[0],
            kernel.name()
        );
        if least > 1 << 16 {
            println!("{about}");
        }
        if touched as f64 > 1.02 * expected as f64 + edges as f64 {
            faults.push(format!("moves more than it is given: {about}"));
        }
        if touched < least * 9 / 10 {
            faults.push(format!("is not counted: {about}"));
        }
        if least > 1 << 16 && asked as f64 > most_requested(kernel) * expected as f64 {
            faults.push(format!("asks too often: {about}"));
        }
    }
    let least = plan.bytes_moved();
    let ratio = moved as f64 / least as f64;
    let asked = requested as f64 / least as f64;
    println!(
        "{net}, batch {batch}: {least} bytes at least, moved {ratio:.3} times that, requested {asked:.2} times"
    );
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(ratio <= MOVED, "{net}: {moved} bytes moved, {ratio:.3} of the least");
}

#[test]
fn a_step_moves_little_more_than_it_must() {
    let Some(gpu) = harness::gpu() else { return };
    if !gpu.is_simulated() {
        eprintln!("SKIPPED: a real GPU does not count sectors");
        return;
    }
    for (net, _) in CASES {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "traffic::child", "--ignored", "--nocapture", "--test-threads", "1"])
            .env(CASE, net)
            .env("SIMGPU_CHECK", "traffic")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let whole = text.lines().find(|l| l.starts_with(net)).unwrap_or("nothing was counted");
        assert!(output.status.success(), "{whole}\n{}", String::from_utf8_lossy(&output.stderr));
        eprintln!("{whole}");
    }
}

#[test]
fn launches_of_graphs_are_not_watched() {
    if harness::gpu().is_none() {
        return;
    }
    let graphs = harness::open(CudaOptions::default());
    let error = graphs.watch(Some(Box::new(|_| {}))).unwrap_err().to_string();
    assert!(error.contains("kernel by kernel"), "{error}");
}

/// By plans alone, for every precision, and for nets that take too long to be run: what workspaces add.
#[test]
fn workspaces_stay_small_beside_what_a_step_must_move() {
    let mut faults = Vec::new();
    for (net, batch) in CASES.into_iter().chain([("acai64", 64), ("mininet", 100), ("omninet", 100)]) {
        for precision in [Precision::F32, Precision::Tf32, Precision::Bf16] {
            let tape = watched::step(net, "paper", batch).unwrap();
            let (plan, tasks) = watched::plan(&tape, precision).unwrap();
            let workspaces: u64 = tasks.iter().map(|task| cost::workspace(&plan, task)).sum();
            let ratio = 1.0 + workspaces as f64 / plan.bytes_moved() as f64;
            eprintln!("{net}, batch {batch}, {precision}: {ratio:.3}");
            if ratio > MOVED {
                faults.push(format!("{net}, {precision}: {ratio:.3}"));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}
