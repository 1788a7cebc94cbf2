//! What products do to memory, counted by the simulated GPU: no bank conflicts in shared memory, whole sectors of
//! global memory.

use std::collections::{BTreeSet, HashMap};

use tessera::device::cuda::gemm;
use tessera::device::cuda::launch::{Function, Launch, Precision};
use tessera::device::cuda::lower;
use tessera::ops::convolution::{Direction, Geometry};
use tessera::tape::plan::{ConvolutionCall, Kernel, PoolStage};

use crate::convolutions::{on_gpu, operands, plain};
use crate::gpu::{Counters, Gpu, Values, gpu};
use crate::toolkit::toolkit;
use crate::values::{Draw, PRECISIONS};
use crate::variants::{name, products};

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

fn run(gpu: &mut Gpu, case: usize, precision: Precision) {
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
    on_gpu(gpu, &call, precision, &reads);
}

/// A counter of a kernel as a share of another.
pub fn ratio(counters: &Counters, kernel: &str, what: &str, ideal: &str) -> f64 {
    number(counters, kernel, what) / number(counters, kernel, ideal).max(1.0)
}

fn number(counters: &Counters, kernel: &str, name: &str) -> f64 {
    counters[kernel][name].as_f64().unwrap_or_else(|| panic!("no {name} of {kernel} in {counters}"))
}

/// Sectors of positions that the un-pooled input gradient must touch beyond what their bytes fill, in single
/// precision. A step has sixteen channels of one filter position, so of every pooled pixel it wants sixteen
/// positions: half a sector, of which the other half belongs to another step. A request is of eight neighbouring
/// pixels, and those of a window share theirs.
fn position_halves() -> u64 {
    const IMAGES: i32 = 4;
    const SIZE: i32 = 16;
    const STEPS: u64 = 64 / 16;
    let mut halves = 0;
    for eight in 0..IMAGES * SIZE * SIZE / 8 {
        for tap in 0..9 {
            let pooled: BTreeSet<(i32, i32)> = (eight * 8..eight * 8 + 8)
                .map(|pixel| (pixel / SIZE + 1 - tap / 3, pixel % SIZE + 1 - tap % 3, pixel / (SIZE * SIZE)))
                .filter(|&(y, x, image)| y / SIZE == image && y >= 0 && (0..SIZE).contains(&x))
                .map(|(y, x, _)| (y / 2, x / 2))
                .collect();
            halves += STEPS * (pooled.len() - (pooled.len() * 16).div_ceil(32)) as u64;
        }
    }
    halves
}

/// Wavefronts of shared memory beyond what the widths of the accesses need.
pub fn conflicts(counters: &Counters, kernel: &str, about: &str) -> Vec<String> {
    let of = |what: &str| {
        let ratio = ratio(
            counters,
            kernel,
            &format!("shared_{what}_wavefronts"),
            &format!("shared_{what}_ideal_wavefronts"),
        );
        (ratio > 1.05).then(|| format!("{about}: shared {what} wavefronts {ratio:.3} of the ideal"))
    };
    ["load", "store"].into_iter().filter_map(of).collect()
}

#[test]
fn products_read_and_write_whole_sectors() {
    let (Some(_), Some(mut gpu)) = (toolkit(), gpu()) else { return };
    let mut faults = Vec::new();
    for (case, &(name, kernel)) in CASES.iter().enumerate() {
        for precision in PRECISIONS {
            let counters = gpu.count(|gpu| run(gpu, case, precision));
            let halves = if case == 7 && precision == Precision::F32 { position_halves() } else { 0 };
            let mut hold = |what: &str, halves: u64| {
                let ideal = format!("global_{what}_ideal_sectors");
                let sum = number(&counters, kernel, &ideal) + halves as f64;
                let ratio = number(&counters, kernel, &format!("global_{what}_sectors")) / sum;
                println!("{name} {precision}: global {what} sectors {ratio:.3} of the ideal");
                if ratio > 1.1 {
                    faults.push(format!("{name} {precision}: global {what} sectors {ratio:.3} of the ideal"));
                }
            };
            hold("load", halves);
            // Positions of pooling are single bytes of a sector.
            if !name.contains("pooled") {
                hold("store", 0);
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// The launch of each variant that reads least.
fn cheapest() -> HashMap<Function, (usize, Kernel, Precision, Launch)> {
    let mut all = HashMap::new();
    for kernel in products() {
        for precision in PRECISIONS {
            let launch = lower::launches(&kernel, precision).swap_remove(0);
            let cost = cost(&kernel) / launch.grid.iter().map(|&n| n as usize).product::<usize>();
            let new = (cost, kernel.clone(), precision, launch.clone());
            let known = all.entry(launch.function).or_insert_with(|| new.clone());
            if cost < known.0 {
                *known = new;
            }
        }
    }
    all
}

fn cost(kernel: &Kernel) -> usize {
    match kernel {
        Kernel::Convolution(call) => call.geometry.flops() as usize,
        Kernel::Matmul { m, n, k, .. } => 2 * m * n * k,
        _ => 0,
    }
}

#[test]
fn no_variant_of_a_product_has_bank_conflicts() {
    let (Some(_), Some(mut gpu)) = (toolkit(), gpu()) else { return };
    let mut draw = Draw(8);
    let mut faults = Vec::new();
    for (function, (_, kernel, precision, mut launch)) in cheapest() {
        let workspace = lower::workspace(&kernel, precision);
        // One block in every part of the sum: others do the same.
        launch.grid[0] = 1;
        let (reads, writes) = match &kernel {
            Kernel::Convolution(call) => {
                let reads = operands(call, &mut draw, |_, count| vec![0.5; count]);
                let len = crate::convolutions::len(call);
                let found = (call.pool == PoolStage::Max).then(|| Values::Bytes(vec![0; len]));
                (reads, [Values::Real(vec![0.0; len])].into_iter().chain(found).collect::<Vec<_>>())
            }
            Kernel::Matmul { m, n, k, .. } => {
                let reads = [m * k, k * n].map(|count| Values::Real(vec![0.5; count]));
                (reads.to_vec(), vec![Values::Real(vec![0.0; m * n])])
            }
            _ => continue,
        };
        let counters = gpu.count(|gpu| drop(gpu.run(&[launch], &reads, &writes, workspace)));
        faults.extend(conflicts(&counters, &function.entry, &name(&function)));
    }
    assert!(faults.is_empty(), "{faults:#?}");
}
