//! A CUDA device for tests on any machine: NVRTC from PyPI, and a simulated driver built from `tests/simgpu`,
//! both under the target directory. Other test files may include this one by its path.
//!
//! * `TESSERA_GPU=real` takes the driver and the NVRTC of this machine instead.
//! * `TESSERA_CUDA_TOOLKIT=DIR` and `TESSERA_CUDA_DRIVER=FILE` take what is there already.
//! * `TESSERA_REQUIRE_CUDA=1` makes it an error that tests cannot run.

#![allow(dead_code)]

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Once, OnceLock};

use tessera::device::{Cuda, CudaOptions};

/// Where the libraries are.
#[derive(Debug)]
pub struct Gpu {
    /// Folders of NVRTC and of the driver; both empty for those of the machine.
    pub nvrtc: PathBuf,
    pub driver: PathBuf,
    /// Compiled kernels of the tests.
    pub cache: PathBuf,
}

impl Gpu {
    /// Is the driver the simulated one?
    pub fn is_simulated(&self) -> bool {
        !self.driver.as_os_str().is_empty()
    }

    /// `tessera` as a process of its own that finds the libraries. Its checks are off, which takes a seventh
    /// of the time.
    pub fn tessera(&self, arguments: &[&str]) -> Command {
        self.tessera_with(&[&self.nvrtc, &self.driver], arguments)
    }

    /// The same with other folders to look for libraries in.
    pub fn tessera_with(&self, folders: &[&Path], arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tessera"));
        command.args(arguments).env("TESSERA_CACHE", &self.cache).env_remove("SIMGPU_CHECK");
        if self.is_simulated() {
            let path: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
            command.env("LD_LIBRARY_PATH", path.join(":"));
        }
        command
    }
}

/// The device's libraries, loaded; `None` if they cannot be had, which is said once, and is an error where
/// tests must not be skipped. Every test begins here.
pub fn gpu() -> Option<&'static Gpu> {
    static GPU: OnceLock<Result<Gpu, String>> = OnceLock::new();
    match GPU.get_or_init(prepare) {
        Ok(gpu) => Some(gpu),
        Err(reason) => {
            let required = std::env::var_os("TESSERA_REQUIRE_CUDA").is_some_and(|v| v == "1");
            assert!(!required, "CUDA tests are required and cannot run: {reason}");
            static TOLD: Once = Once::new();
            // Straight to standard error: the test runner hides what tests that pass print.
            TOLD.call_once(|| {
                let _ = writeln!(std::io::stderr(), "\nSKIPPED: CUDA tests cannot run here: {reason}\n");
            });
            None
        }
    }
}

/// A device as tests want it.
pub fn open(options: CudaOptions) -> Cuda {
    Cuda::open(options).unwrap()
}

fn prepare() -> Result<Gpu, String> {
    let target = target();
    let cache = target.join("cuda-cache");
    // SAFETY: every test of the process begins with `gpu`, and waits here until the first one is through, so
    // no other thread reads the environment.
    unsafe {
        std::env::set_var("TESSERA_CACHE", &cache);
        if std::env::var_os("SIMGPU_CHECK").is_none() {
            std::env::set_var("SIMGPU_CHECK", "mem,init,race,global-race,sync");
        }
    }
    if std::env::var_os("TESSERA_GPU").is_some_and(|v| v == "real") {
        return Ok(Gpu { nvrtc: PathBuf::new(), driver: PathBuf::new(), cache });
    }
    let lock = lock(&target)?;
    let nvrtc = toolkit(&target)?.join("nvrtc/lib");
    let driver = simulator(&target)?;
    drop(lock);
    // cudarc looks for libraries by name, and is content with one of that name that is loaded already.
    load(&nvrtc.join("libnvrtc.so.12"))?;
    load(&driver.join("libcuda.so.1"))?;
    Ok(Gpu { nvrtc, driver, cache })
}

/// Keeps other test processes from installing and building meanwhile, as long as the file is open.
pub fn lock(target: &Path) -> Result<File, String> {
    fs::create_dir_all(target).map_err(|e| e.to_string())?;
    let lock = File::create(target.join("cuda-tests.lock")).map_err(|e| e.to_string())?;
    lock.lock().map_err(|e| e.to_string())?;
    Ok(lock)
}

/// The directory that cargo builds in.
pub fn target() -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_tessera"));
    binary.ancestors().nth(2).unwrap_or(Path::new("target")).to_path_buf()
}

/// NVRTC and the tools around it.
pub fn toolkit(target: &Path) -> Result<PathBuf, String> {
    if let Some(given) = std::env::var_os("TESSERA_CUDA_TOOLKIT") {
        return Ok(given.into());
    }
    let folder = target.join("cuda-toolkit");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simgpu/toolkit.sh");
    run(Command::new("bash").arg(script).arg(&folder), "install NVRTC from PyPI")?;
    Ok(folder)
}

/// Builds the simulated driver; the folder with it under its name.
fn simulator(target: &Path) -> Result<PathBuf, String> {
    let folder = target.join("simgpu");
    let built = match std::env::var_os("TESSERA_CUDA_DRIVER") {
        Some(given) => PathBuf::from(given),
        None => {
            let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simgpu/Cargo.toml");
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--release", "--lib", "--manifest-path"]).arg(manifest);
            cargo.arg("--target-dir").arg(&folder).env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
            run(&mut cargo, "build the simulated driver")?;
            folder.join("release/libcuda.so")
        }
    };
    let library = folder.join("driver");
    fs::create_dir_all(&library).map_err(|e| e.to_string())?;
    let link = library.join("libcuda.so.1");
    if fs::read_link(&link).ok().as_ref() != Some(&built) {
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(&built, &link).map_err(|e| format!("{}: {e}", link.display()))?;
    }
    Ok(library)
}

fn run(command: &mut Command, purpose: &str) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("cannot {purpose}: {e}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("cannot {purpose}:\n{}", text.trim())) }
}

fn load(library: &Path) -> Result<(), String> {
    let name = CString::new(library.display().to_string()).map_err(|e| e.to_string())?;
    // SAFETY: the library is NVIDIA's compiler or the simulated driver; it stays loaded.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if handle.is_null() { Err(format!("cannot load {}", library.display())) } else { Ok(()) }
}
