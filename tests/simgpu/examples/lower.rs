//! Compiles CUDA files with NVRTC and says of each kernel whether the simulator can execute it.
//!
//!     cargo run --release --example lower -- [-DNAME=VALUE ...] FILE.cu ...
//!
//! Without files it prints the driver functions and the opcodes, as they stand in the README.

#[path = "../tests/gpu/mod.rs"]
mod gpu;

use cuda::{driver, isa, lower, ptx};
use cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use std::path::Path;

fn main() {
    let (options, files): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|a| a.starts_with('-'));
    if files.is_empty() {
        let mut names = driver::all_functions();
        names.sort();
        println!("{}\n\n{}", names.join("\n"), isa::list());
        return;
    }
    if gpu::simulator().is_none() {
        return;
    }
    for file in files {
        let folder = Path::new(&file).parent().unwrap_or(Path::new(".")).to_string_lossy().into_owned();
        let source = std::fs::read_to_string(&file).unwrap();
        let compile_options = CompileOptions {
            arch: Some("compute_80"),
            options: [options.clone(), vec!["-lineinfo".into(), "-default-device".into()]].concat(),
            include_paths: vec![folder],
            name: Some(file.clone()),
            ..Default::default()
        };
        match compile_ptx_with_opts(source, compile_options) {
            Ok(text) => report(&file, &text.to_src()),
            Err(error) => println!("{file}: NVRTC: {error}"),
        }
    }
}

fn report(file: &str, text: &str) {
    let module = match ptx::parse(text) {
        Ok(module) => module,
        Err(error) => return println!("{file}: {error}"),
    };
    let symbols: lower::Symbols =
        module.variables.iter().map(|variable| (variable.name.clone(), 4096)).collect();
    for function in module.functions.iter().filter(|function| function.is_entry && function.body.is_some()) {
        match lower::kernel(&module, function, &symbols) {
            Ok(program) => println!("{file}: {}: {} instructions", function.name, program.code.len()),
            Err(error) => println!("{file}: {}: CANNOT: {error}", function.name),
        }
    }
}
