//! Compiled kernels held to what is written down: registers, shared memory, occupancy; no spills; tensor-core
//! instructions where there should be.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tessera::device::cuda::launch::Function;

use crate::nets::{name, variants};
use crate::toolkit::{fingerprint, ptx, tool, toolkit};

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

/// Lines of the table for a variant, and what is wrong with it: spills, no tensor-core instructions.
fn lines(function: &Function, threads: u32, folder: &Path, index: usize) -> (String, String) {
    let text = ptx(function, "compute_80");
    let source = folder.join(format!("{index}.ptx"));
    std::fs::write(&source, text).unwrap();
    let (mut lines, mut faults) = (String::new(), String::new());
    for architecture in &ARCHITECTURES {
        let binary = folder.join(format!("{index}.{}.cubin", architecture.name));
        let (source, binary) = (source.to_str().unwrap(), binary.to_str().unwrap());
        let printed = tool("ptxas", &["-v", "--gpu-name", architecture.name, "-o", binary, source]);
        let name = name(function);
        let mut fault = |what: &str| writeln!(faults, "{name} on {}: {what}", architecture.name).unwrap();
        if [" bytes stack frame", " bytes spill stores", " bytes spill loads"]
            .iter()
            .any(|k| number(&printed, k) > 0)
        {
            fault("spills");
        }
        let registers = number(&printed, " registers");
        let fixed = if printed.contains(" bytes smem") { number(&printed, " bytes smem") } else { 0 };
        let shared = fixed + function.dynamic_shared;
        let occupancy = architecture.occupancy(registers, shared, threads);
        writeln!(lines, "{name}\t{}\t{threads}\t{registers}\t{shared}\t{occupancy}", architecture.name)
            .unwrap();
        if occupancy == 0 {
            fault("does not fit");
        }
        // Disassembling takes long; once is enough.
        let tensor = function.defines.iter().any(|d| d == "PRECISION=1" || d == "PRECISION=2");
        let first = architecture.name == ARCHITECTURES[0].name;
        if tensor && first && !tool("nvdisasm", &["-c", binary]).contains("HMMA") {
            fault("no tensor-core instruction");
        }
    }
    (lines, faults)
}

/// [`lines`], remembered between runs for as long as nothing changes that they depend on.
fn remembered(function: &Function, threads: u32, folder: &Path, index: usize) -> (String, String) {
    let memory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels");
    std::fs::create_dir_all(&memory).unwrap();
    let file = memory.join(fingerprint(function));
    if let Ok(text) = std::fs::read_to_string(&file)
        && let Some((lines, faults)) = text.split_once('\0')
    {
        return (lines.to_string(), faults.to_string());
    }
    let (lines, faults) = lines(function, threads, folder, index);
    let new = folder.join(format!("{index}.txt"));
    std::fs::write(&new, format!("{lines}\0{faults}")).unwrap();
    // Another file system would not take it by its name; then it is compiled again.
    let _ = std::fs::rename(&new, &file);
    (lines, faults)
}

#[test]
fn compiled_kernels_are_as_written_down() {
    if toolkit().is_none() {
        return;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let variants = variants();
    let results: Vec<Mutex<(String, String)>> = variants.iter().map(|_| Mutex::default()).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some((function, threads)) = variants.get(index) else { break };
                    *results[index].lock().unwrap() = remembered(function, *threads, folder.path(), index);
                }
            });
        }
    });
    let mut table = "variant\tarchitecture\tthreads\tregisters\tshared bytes\toccupancy %\n".to_string();
    let mut faults = String::new();
    for result in results {
        let (lines, wrong) = result.into_inner().unwrap();
        table.push_str(&lines);
        faults.push_str(&wrong);
    }
    assert!(faults.is_empty(), "\n{faults}");
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
