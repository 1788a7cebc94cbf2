//! The CUDA compiler, as the device uses it, and the tools around it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use tessera::device::cuda::compile::{Compiler, Image, Unit};

use crate::harness;

/// The toolkit's folder; `None` if it cannot be had, or if tests run on a real GPU with the machine's NVRTC.
pub fn toolkit() -> Option<PathBuf> {
    let nvrtc = &harness::gpu().filter(|gpu| gpu.is_simulated())?.nvrtc;
    Some(nvrtc.ancestors().nth(2)?.to_path_buf())
}

/// PTX of a module for the oldest architecture, from the cache if it is there. Tests that want the same module wait
/// for the first.
pub fn ptx(unit: &Unit) -> Arc<str> {
    static COMPILER: OnceLock<Compiler> = OnceLock::new();
    static KNOWN: Mutex<BTreeMap<String, Arc<OnceLock<Arc<str>>>>> = Mutex::new(BTreeMap::new());
    let compiler = COMPILER.get_or_init(|| Compiler::new(80).unwrap());
    let known = KNOWN.lock().unwrap().entry(format!("{unit:?}")).or_default().clone();
    known.get_or_init(|| compile(compiler, unit).into()).clone()
}

fn compile(compiler: &Compiler, unit: &Unit) -> String {
    let mut bytes =
        compiler.image(unit, Image::Ptx).unwrap_or_else(|error| panic!("{}: {error}", unit.name()));
    bytes.retain(|&b| b != 0);
    String::from_utf8(bytes).unwrap()
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
