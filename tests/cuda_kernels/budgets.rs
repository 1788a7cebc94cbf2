//! Compiled kernels held to what is written down: registers, shared memory, occupancy; no spills; tensor-core
//! instructions where there should be.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tessera::device::cuda::launch::Function;

use crate::nets::{name, variants};
use crate::toolkit::{ptx, tool, toolkit};

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/budgets/kernels.tsv");

/// A multiprocessor: shared memory in bytes, and what a block's own takes beside. All have 65536 registers,
/// 64 warps and 32 blocks.
struct Architecture {
    name: &'static str,
    shared: u32,
}

const ARCHITECTURES: [Architecture; 3] = [
    Architecture { name: "sm_80", shared: 164 << 10 },
    Architecture { name: "sm_90", shared: 228 << 10 },
    Architecture { name: "sm_100", shared: 228 << 10 },
];

/// Shared memory that the system takes in every block.
const RESERVED: u32 = 1 << 10;

impl Architecture {
    /// Warps on a multiprocessor, in percent of the most.
    fn occupancy(&self, registers: u32, shared: u32, threads: u32) -> u32 {
        let warps = threads / 32;
        // Registers are handed out to warps in portions of 256, in each quarter of a multiprocessor.
        let by_registers = 16384 / (registers * 32).next_multiple_of(256) * 4 / warps;
        let by_shared = self.shared / (shared + RESERVED).next_multiple_of(128);
        let blocks = by_registers.min(by_shared).min(64 / warps).min(32);
        blocks * warps * 100 / 64
    }
}

/// The number in front of `what` in the output of ptxas.
fn number(text: &str, what: &str) -> u32 {
    let end = text.find(what).unwrap_or_else(|| panic!("no '{what}' in {text}"));
    text[..end].split_whitespace().next_back().and_then(|n| n.parse().ok()).unwrap()
}

/// Lines of the table for a variant; panics where it spills or has no tensor-core instructions.
fn lines(function: &Function, threads: u32, folder: &Path, index: usize) -> String {
    let text = ptx(function, "compute_80");
    let source = folder.join(format!("{index}.ptx"));
    std::fs::write(&source, text).unwrap();
    let mut lines = String::new();
    for architecture in &ARCHITECTURES {
        let binary = folder.join(format!("{index}.{}.cubin", architecture.name));
        let (source, binary) = (source.to_str().unwrap(), binary.to_str().unwrap());
        let printed = tool("ptxas", &["-v", "--gpu-name", architecture.name, "-o", binary, source]);
        let name = name(function);
        for kind in [" bytes stack frame", " bytes spill stores", " bytes spill loads"] {
            assert_eq!(number(&printed, kind), 0, "{name} on {}:{kind}", architecture.name);
        }
        let registers = number(&printed, " registers");
        let fixed = if printed.contains(" bytes smem") { number(&printed, " bytes smem") } else { 0 };
        let shared = fixed + function.dynamic_shared;
        let occupancy = architecture.occupancy(registers, shared, threads);
        writeln!(lines, "{name}\t{}\t{threads}\t{registers}\t{shared}\t{occupancy}", architecture.name)
            .unwrap();
        assert!(occupancy > 0, "{name} does not fit on {}", architecture.name);
        if function.defines.iter().any(|d| d == "PRECISION=1" || d == "PRECISION=2") {
            let code = tool("nvdisasm", &["-c", binary]);
            assert!(code.contains("HMMA"), "{name} on {}: no tensor-core instruction", architecture.name);
        }
    }
    lines
}

#[test]
fn compiled_kernels_are_as_written_down() {
    if toolkit().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let variants = variants();
    let results: Vec<Mutex<String>> = variants.iter().map(|_| Mutex::new(String::new())).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((function, threads)) = variants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let index = variants.iter().position(|(f, _)| f == function).unwrap();
                    *results[index].lock().unwrap() = lines(function, *threads, folder.path(), index);
                }
            });
        }
    });
    let mut table = "variant\tarchitecture\tthreads\tregisters\tshared bytes\toccupancy %\n".to_string();
    results.into_iter().for_each(|r| table.push_str(&r.into_inner().unwrap()));
    if std::env::var_os("TESSERA_BLESS").is_some() {
        std::fs::write(TABLE, table).unwrap();
        return;
    }
    let written = std::fs::read_to_string(TABLE).unwrap();
    for (new, old) in table.lines().zip(written.lines()) {
        assert_eq!(new, old, "differs from tests/budgets/kernels.tsv; TESSERA_BLESS=1 writes it anew");
    }
    assert_eq!(table.lines().count(), written.lines().count(), "kernels.tsv has other variants");
}
