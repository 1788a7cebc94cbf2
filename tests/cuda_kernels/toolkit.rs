//! The CUDA compiler and its tools, from a folder.

use std::ffi::CString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use sha2::{Digest, Sha256};
use tessera::device::cuda::launch::{Function, Source};

/// Loads a library once and for all, under its own name: `cudarc` finds it there.
pub fn load(library: &Path) {
    let path = CString::new(library.to_str().unwrap()).unwrap();
    // SAFETY: the library's initialisers do nothing but set themselves up.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    assert!(!handle.is_null(), "{} cannot be loaded", library.display());
}

/// A path from the environment, or what is missing, once on stderr.
pub fn path(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from).filter(|p| p.exists());
    if path.is_none() {
        // Straight to standard error: the test runner hides what tests that pass print.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {variable} does not name anything that exists");
    }
    path
}

/// The toolkit's folder, with NVRTC loaded.
pub fn toolkit() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let folder = path("TESSERA_CUDA_TOOLKIT")?;
            load(&folder.join("nvrtc/lib/libnvrtc.so.12"));
            Some(folder)
        })
        .as_deref()
}

/// The text of a kernel file with its local headers put in, each once.
fn text(file: &str) -> String {
    fn include(file: &str, seen: &mut Vec<String>, to: &mut String) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels").join(file);
        for line in std::fs::read_to_string(path).unwrap().lines() {
            match line.strip_prefix("#include \"").and_then(|l| l.strip_suffix('"')) {
                Some(header) if seen.iter().any(|s| s == header) => {}
                Some(header) => {
                    seen.push(header.to_string());
                    include(header, seen, to);
                }
                None => {
                    to.push_str(line);
                    to.push('\n');
                }
            }
        }
    }
    let mut to = String::new();
    include(file, &mut Vec::new(), &mut to);
    to
}

/// Changes whenever a function would be compiled from another text, otherwise, or by other tools.
pub fn fingerprint(function: &Function) -> String {
    let Source::File(file) = &function.source else { panic!("kernels here are files") };
    let versions = std::fs::read_to_string(toolkit().unwrap().join("VERSIONS")).unwrap_or_default();
    let text = [versions, function.defines.join(" "), text(&format!("{file}.cu"))].join("\n");
    Sha256::digest(text).iter().map(|b| format!("{b:02x}")).collect()
}

/// PTX of a function's module for an architecture such as `compute_80`.
pub fn ptx(function: &Function, arch: &'static str) -> String {
    let Source::File(file) = &function.source else { panic!("kernels here are files") };
    let name = format!("{file}.cu");
    let mut options = vec!["-lineinfo".to_string()];
    options.extend(function.defines.iter().map(|d| format!("-D{d}")));
    let options =
        CompileOptions { arch: Some(arch), options, name: Some(name.clone()), ..Default::default() };
    match compile_ptx_with_opts(text(&name), options) {
        Ok(ptx) => ptx.to_src(),
        Err(error) => panic!("{function:?}: {error:?}"),
    }
}

/// Runs a tool and returns what it printed.
pub fn tool(name: &str, arguments: &[&str]) -> String {
    let program = toolkit().unwrap().join("bin").join(name);
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{name} {arguments:?}: {text}");
    text
}
