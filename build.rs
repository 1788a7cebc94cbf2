//! Embeds `kernels/*.cu` with a hash of their content. Local includes are put in as text, each file once.
//! It never calls a CUDA compiler: kernels are compiled at run time by NVRTC, so a build needs nothing of
//! CUDA.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=kernels");
    let mut files: Vec<PathBuf> =
        fs::read_dir("kernels")?.map(|entry| entry.map(|e| e.path())).collect::<io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "cu"));
    files.sort();
    let mut code = String::from("&[\n");
    for path in &files {
        let mut text = String::new();
        include(path, &mut Vec::new(), &mut text)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let hash = fnv1a(text.as_bytes());
        let _ = writeln!(code, "Kernels {{ name: {name:?}, hash: {hash:#018x}, text: {text:?} }},");
    }
    code.push(']');
    fs::write(Path::new(&env::var("OUT_DIR").unwrap_or_default()).join("kernels.rs"), code)
}

/// Appends a file with what it includes. `#line` keeps the compiler's messages and the debugger on the files
/// that people edit.
fn include(path: &Path, known: &mut Vec<PathBuf>, text: &mut String) -> io::Result<()> {
    if known.iter().any(|k| k == path) {
        return Ok(());
    }
    known.push(path.to_path_buf());
    let content =
        fs::read_to_string(path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    let _ = writeln!(text, "#line 1 \"{}\"", path.display());
    for (number, line) in content.lines().enumerate() {
        let local = line.trim().strip_prefix("#include \"").and_then(|rest| rest.strip_suffix('"'));
        match local {
            Some(name) => {
                include(&path.with_file_name(name), known, text)?;
                let _ = writeln!(text, "#line {} \"{}\"", number + 2, path.display());
            }
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    Ok(())
}

/// Fowler, Noll and Vo's hash.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
