//! What kernels do to memory, counted by the simulated GPU: no bank conflicts in shared memory, whole sectors
//! of global memory. The simulator writes its counters at the end of a process, so every case is one.

use std::process::Command;

use tessera::device::cuda::gemm;
use tessera::device::cuda::launch::Precision;
use tessera::ops::convolution::{Direction, Geometry};
use tessera::tape::plan::{ConvolutionCall, PoolStage};

use crate::convolutions::{on_gpu, operands, plain};
use crate::gpu::{Values, gpu};
use crate::toolkit::path;
use crate::values::{Draw, PRECISIONS};

/// The case that a child process runs: its number among [`CASES`], and a precision's.
const CASE: &str = "TESSERA_COUNTERS_CASE";

/// Names of cases and of the kernels that they run. All sizes are whole multiples of tiles' rows.
const CASES: [(&str, &str); 9] = [
    ("gemm NN", "gemm"),
    ("gemm NT", "gemm"),
    ("gemm TN", "gemm"),
    ("gemm TT", "gemm"),
    ("forward", "convolution"),
    ("forward, pooled", "convolution"),
    ("input gradient", "convolution"),
    ("input gradient, un-pooled", "convolution"),
    ("weight gradient", "convolution"),
];

fn run(case: usize, precision: Precision) {
    let Some(mut gpu) = gpu() else { return };
    let mut draw = Draw(6);
    if case < 4 {
        let (m, n, k) = (256, 128, 128);
        let (ta, tb) = (case & 2 != 0, case & 1 != 0);
        let reads = [Values::Real(draw.real(m * k)), Values::Real(draw.real(k * n))];
        let workspace = gemm::workspace(m, n, k, ta, tb, precision);
        let launches = gemm::launches(m, n, k, ta, tb, precision);
        gpu.run(&launches, &reads, &[Values::Real(vec![0.0; m * n])], workspace);
        return;
    }
    let g = Geometry::new([4, 16, 16, 32].into(), [64, 3, 3, 32].into(), 1, 1).unwrap();
    let call = match case {
        4 => plain(Direction::Forward, g),
        5 => ConvolutionCall { pool: PoolStage::Max, ..plain(Direction::Forward, g) },
        6 => plain(Direction::InputGrad, g),
        7 => ConvolutionCall { unpool: [true, false], ..plain(Direction::InputGrad, g) },
        _ => plain(Direction::WeightGrad, g),
    };
    let reads = operands(&call, &mut draw, Draw::real);
    on_gpu(&mut gpu, &call, precision, &reads);
}

#[test]
#[ignore = "run by the test below, in a process of its own"]
fn child() {
    let Ok(text) = std::env::var(CASE) else { return };
    let (case, precision) = text.split_once(' ').unwrap();
    run(case.parse().unwrap(), PRECISIONS[precision.parse::<usize>().unwrap()]);
}

#[test]
fn memory_is_accessed_without_conflicts_and_in_whole_sectors() {
    let (Some(_), Some(_)) = (path("TESSERA_CUDA_TOOLKIT"), path("TESSERA_SIMGPU")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut faults = Vec::new();
    for ((case, (name, kernel)), precision) in
        CASES.iter().enumerate().flat_map(|case| (0..PRECISIONS.len()).map(move |p| (case, p)))
    {
        let file = folder.path().join("counters.json");
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "counters::child", "--ignored", "--test-threads", "1"])
            .env(CASE, format!("{case} {precision}"))
            .env("SIMGPU_STATS", &file)
            .output()
            .unwrap();
        assert!(status.status.success(), "{name}: {}", String::from_utf8_lossy(&status.stdout));
        let Ok(text) = std::fs::read_to_string(&file) else {
            eprintln!("SKIPPED: this simulated GPU does not write counters");
            return;
        };
        let counters: serde_json::Value = serde_json::from_str(&text).unwrap();
        let ratio = |what: &str, ideal: &str| {
            let number =
                |name: &str| counters[kernel][name].as_f64().unwrap_or_else(|| panic!("no {name} in {text}"));
            number(what) / number(ideal).max(1.0)
        };
        let mut hold = |what: &str, ideal: &str, most: f64| {
            let ratio = ratio(what, ideal);
            println!("{name} {:?} {what}: {ratio:.3} of the ideal", PRECISIONS[precision]);
            if ratio > most {
                faults.push(format!("{name} {:?}: {what} {ratio:.3} of the ideal", PRECISIONS[precision]));
            }
        };
        hold("shared_load_wavefronts", "shared_load_ideal_wavefronts", 1.05);
        hold("shared_store_wavefronts", "shared_store_ideal_wavefronts", 1.05);
        // The positions of sixteen terms are half a sector.
        let most = if name.contains("un-pooled") { 1.2 } else { 1.1 };
        hold("global_load_sectors", "global_load_ideal_sectors", most);
        // Positions of pooling are single bytes of a sector.
        if !name.contains("pooled") {
            hold("global_store_sectors", "global_store_ideal_sectors", 1.1);
        }
        std::fs::remove_file(&file).unwrap();
    }
    assert!(faults.is_empty(), "{faults:#?}");
}
