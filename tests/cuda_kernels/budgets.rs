//! Compiled kernels held to what is written down: registers, shared memory, occupancy; nothing in local memory;
//! tensor-core instructions where there should be.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tessera::device::cuda::compile::{FILES, Unit};
use tessera::device::cuda::launch::{Function, Launch, Precision, Source};
use tessera::device::cuda::lower;

use crate::compiled::{ARCHITECTURES, Compiled, compiled};
use crate::nets::{BATCH, plans};
use crate::toolkit::{ptx, toolkit};
use crate::variants::{Expressions, functions, name};

/// Shared memory of a multiprocessor in bytes. All have 65536 registers, 64 warps and 32 blocks.
const SHARED: [u32; 3] = [164 << 10, 228 << 10, 228 << 10];

/// Shared memory that the system takes in every block.
const RESERVED: u32 = 1 << 10;

/// Threads of kernels without bounds of their own.
const THREADS: u32 = 256;

/// Warps on a multiprocessor, in percent of the most.
fn occupancy(architecture: usize, registers: u32, shared: u32, threads: u32) -> u32 {
    let warps = threads.div_ceil(32);
    // Registers are handed out to warps in portions of 256, in each quarter of a multiprocessor.
    let by_registers = 16384 / (registers * 32).next_multiple_of(256) * 4 / warps;
    let by_shared = SHARED[architecture] / (shared + RESERVED).next_multiple_of(128);
    let blocks = by_registers.min(by_shared).min(64 / warps).min(32);
    blocks * warps * 100 / 64
}

/// A row of the table: figures for each architecture, the worst of all that it stands for.
#[derive(Default)]
struct Row {
    threads: u32,
    shared: u32,
    registers: [u32; 3],
    occupancy: Option<[u32; 3]>,
}

impl Row {
    fn add(&mut self, kernel: &Compiled, threads: u32, dynamic: u32) {
        let at = kernel.architecture;
        let shared = kernel.shared + dynamic;
        let occupancy = occupancy(at, kernel.registers, shared, threads);
        self.threads = self.threads.max(threads);
        self.shared = self.shared.max(shared);
        self.registers[at] = self.registers[at].max(kernel.registers);
        let known = self.occupancy.get_or_insert([100; 3]);
        known[at] = known[at].min(occupancy);
    }
}

/// What is wrong with a kernel, whatever the table says.
fn fault(name: &str, kernel: &Compiled, row: &Row) -> Option<String> {
    let tensor = name.contains(" PRECISION1 ") || name.contains(" PRECISION2 ");
    let what = if kernel.local > 0 {
        format!("{} bytes in local memory", kernel.local)
    } else if row.occupancy.is_some_and(|o| o[kernel.architecture] == 0) {
        "does not fit".to_string()
    } else if tensor && kernel.tensor == 0 {
        "no tensor-core instruction".to_string()
    } else {
        return None;
    };
    Some(format!("{name} on {}: {what}", ARCHITECTURES[kernel.architecture]))
}

/// Kernels of all units, compiled on all processors.
fn compile(units: &[Unit]) -> Vec<Vec<Compiled>> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let results: Vec<Mutex<Vec<Compiled>>> = units.iter().map(|_| Mutex::default()).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((unit, result)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    units.get(index).zip(results.get(index))
                } {
                    *result.lock().unwrap() = compiled(&ptx(unit), folder.path());
                }
            });
        }
    });
    results.into_iter().map(|r| r.into_inner().unwrap()).collect()
}

/// Compares a table with the one that is checked in, or writes that anew if `TESSERA_BLESS=1`.
pub fn hold(file: &str, table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/budgets").join(file);
    if std::env::var_os("TESSERA_BLESS").is_some_and(|v| v == "1") {
        std::fs::write(path, table).unwrap();
        return;
    }
    let written = std::fs::read_to_string(path).unwrap();
    let only = |a: &str, b: &str| {
        let known: std::collections::HashSet<&str> = b.lines().collect();
        a.lines().filter(|l| !known.contains(l)).map(|l| format!("    {l}\n")).collect::<String>()
    };
    assert!(
        table == written,
        "tests/budgets/{file} differs; TESSERA_BLESS=1 writes it anew. Written down:\n{}found:\n{}",
        only(&written, table),
        only(table, &written)
    );
}

#[test]
fn compiled_kernels_are_as_written_down() {
    if toolkit().is_none() {
        return;
    }
    let plans = plans(BATCH, Precision::F32);
    let expressions = Expressions::of(plans.iter().map(|(_, plan)| plan));
    let functions = functions();
    let tasks: Vec<_> =
        plans.iter().map(|(step, plan)| (step, plan, lower::tasks(plan, Precision::F32))).collect();
    // The longest first.
    let mut units = vec![expressions.unit()];
    let by_rows = |launch: &&Launch| launch.function.entry.starts_with("rows");
    for launch in tasks.iter().flat_map(|(_, _, tasks)| tasks).flat_map(|t| &t.launches).filter(by_rows) {
        let unit = Unit::of(&launch.function);
        if !units.contains(&unit) {
            units.push(unit);
        }
    }
    for (function, _) in &functions {
        let unit = Unit::of(function);
        if !units.contains(&unit) {
            units.push(unit);
        }
    }
    for file in FILES {
        let there = units.iter().any(|unit| match &unit.source {
            Source::File(name) => *name == file.name,
            Source::Generated(text) => text.contains(file.text),
        });
        assert!(there, "no variant of kernels/{}.cu is compiled", file.name);
    }
    let found = compile(&units);
    let (mut rows, mut faults) = (BTreeMap::<String, Row>::new(), Vec::new());
    let mut add = |name: &str, kernel: &Compiled, threads: u32, dynamic: u32| {
        let row = rows.entry(name.to_string()).or_default();
        row.add(kernel, threads, dynamic);
        faults.extend(fault(name, kernel, row));
    };
    for (unit, kernels) in units.iter().zip(&found).filter(|(unit, _)| matches!(unit.source, Source::File(_)))
    {
        for kernel in kernels {
            let function = |&(f, _): &&(Function, u32)| f.entry == kernel.entry && Unit::of(f) == *unit;
            let launched = functions.iter().find(function);
            let threads = match kernel.threads {
                0 => launched.map_or(THREADS, |(_, threads)| *threads),
                bound => launched.map_or(bound, |(_, threads)| bound.min(*threads)),
            };
            let bare = Function {
                source: unit.source.clone(),
                defines: unit.defines.clone(),
                entry: kernel.entry.clone().into(),
                dynamic_shared: 0,
            };
            add(&name(&bare), kernel, threads, launched.map_or(0, |(f, _)| f.dynamic_shared));
        }
    }
    for (step, plan, tasks) in &tasks {
        for task in tasks {
            let (kind, launch) = match expressions.launch(plan, task) {
                Some(launch) => ("expressions", launch),
                None => match task.launches.iter().find(by_rows) {
                    Some(launch) => ("rows", launch.clone()),
                    None => continue,
                },
            };
            let unit = Unit::of(&launch.function);
            let unit = units.iter().position(|known| *known == unit).unwrap();
            for kernel in found[unit].iter().filter(|kernel| kernel.entry == launch.function.entry) {
                add(&format!("{kind} of {step}"), kernel, launch.block[0], 0);
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    let three = |v: [u32; 3]| v.map(|n| n.to_string()).join("\t");
    let head = |what: &str| ARCHITECTURES.map(|a| format!("{what} {a}")).join("\t");
    let mut table =
        format!("kernel\tthreads\tshared bytes\t{}\t{}\n", head("registers"), head("occupancy %"));
    for (name, row) in rows {
        let (registers, occupancy) = (three(row.registers), three(row.occupancy.unwrap_or_default()));
        writeln!(table, "{name}\t{}\t{}\t{registers}\t{occupancy}", row.threads, row.shared).unwrap();
    }
    hold("kernels.tsv", &table);
}
