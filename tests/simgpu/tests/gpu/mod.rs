//! What the tests share: the real NVRTC, this library under its name, and kernels run through `cudarc`.
//!
//! `TESSERA_CUDA_TOOLKIT` names a folder that `toolkit.sh` has made; without it the tests are skipped, unless
//! `TESSERA_REQUIRE_CUDA=1`. `SIMGPU_LIBRARY` names the library, else the one that cargo built with the test.

#![allow(dead_code)]

use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
}

const NOW_AND_GLOBAL: c_int = 0x102;

fn load(path: &Path) -> usize {
    let name = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a library whose initialisers only set itself up.
    let handle = unsafe { dlopen(name.as_ptr(), NOW_AND_GLOBAL) };
    assert!(!handle.is_null(), "{} cannot be loaded", path.display());
    handle as usize
}

/// Folder of the toolkit.
pub fn toolkit() -> Option<PathBuf> {
    std::env::var_os("TESSERA_CUDA_TOOLKIT").map(PathBuf::from).filter(|path| path.exists())
}

fn library() -> PathBuf {
    if let Some(given) = std::env::var_os("SIMGPU_LIBRARY") {
        return given.into();
    }
    let exe = std::env::current_exe().unwrap();
    let folder = exe.ancestors().nth(2).expect("cargo puts tests two folders deep");
    let built = folder.join("deps/libcuda.so");
    // `cudarc` finds the copy one folder up, which `cargo build` makes and `cargo test` leaves as old as it is.
    let copy = folder.join("libcuda.so");
    let age = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    if age(&copy) < age(&built) {
        let _ = std::fs::remove_file(&copy);
        std::fs::hard_link(&built, &copy).unwrap();
    }
    copy
}

/// The handle of the library, if tests can run.
pub fn simulator() -> Option<usize> {
    static LIBRARY: OnceLock<Option<usize>> = OnceLock::new();
    *LIBRARY.get_or_init(|| {
        let Some(toolkit) = toolkit() else {
            let required = std::env::var("TESSERA_REQUIRE_CUDA").is_ok_and(|value| value == "1");
            assert!(!required, "TESSERA_CUDA_TOOLKIT names no folder");
            eprintln!("SKIPPED: TESSERA_CUDA_TOOLKIT names no folder");
            return None;
        };
        load(&toolkit.join("nvrtc/lib/libnvrtc.so.12"));
        Some(load(&library()))
    })
}

/// A function of the simulator that is no part of the driver API, from the library that `cudarc` uses: cargo puts
/// folders with other copies of it into the search path.
fn symbol(name: &CStr) -> *mut c_void {
    simulator();
    // SAFETY: a function's address is as large as a pointer; the library is never unloaded.
    let found = unsafe { cudarc::driver::sys::culib().get::<*mut c_void>(name.to_bytes_with_nul()) };
    *found.expect("the simulator exports it")
}

pub fn last_error() -> String {
    // SAFETY: the type of the exported function.
    let function: extern "C" fn() -> *const c_char =
        unsafe { std::mem::transmute(symbol(c"simgpu_last_error_text")) };
    // SAFETY: it gives a C string that is valid until the next call in this thread.
    unsafe { CStr::from_ptr(function()) }.to_string_lossy().into_owned()
}

pub fn counters() -> String {
    // SAFETY: the type of the exported function.
    let function: extern "C" fn() -> *const c_char =
        unsafe { std::mem::transmute(symbol(c"simgpu_counters_json")) };
    // SAFETY: it gives a C string that is valid until the next call in this thread.
    unsafe { CStr::from_ptr(function()) }.to_string_lossy().into_owned()
}

pub fn set_checks(checks: &str) {
    // SAFETY: the type of the exported function.
    let function: unsafe extern "C" fn(*const c_char) -> c_int =
        unsafe { std::mem::transmute(symbol(c"simgpu_set_checks")) };
    let checks = CString::new(checks).unwrap();
    // SAFETY: a C string.
    assert_eq!(unsafe { function(checks.as_ptr()) }, 0);
}

pub fn set_seed(seed: u64) {
    // SAFETY: the type of the exported function.
    let function: extern "C" fn(u64) = unsafe { std::mem::transmute(symbol(c"simgpu_set_seed")) };
    function(seed);
}

pub fn reset_error() {
    // SAFETY: the type of the exported function.
    let function: extern "C" fn() = unsafe { std::mem::transmute(symbol(c"simgpu_reset_error")) };
    function();
}

/// One test at a time: checks and errors belong to the process.
pub fn alone() -> std::sync::MutexGuard<'static, ()> {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

pub struct Gpu {
    pub context: Arc<CudaContext>,
    pub stream: Arc<CudaStream>,
}

pub fn gpu() -> Option<Gpu> {
    simulator()?;
    let context = CudaContext::new(0).unwrap();
    let stream = context.new_stream().unwrap();
    Some(Gpu { context, stream })
}

/// PTX of a source, with line information; its name in messages is `kernel.cu`.
pub fn compile(source: &str, arch: &'static str) -> cudarc::nvrtc::Ptx {
    let options = CompileOptions {
        arch: Some(arch),
        options: vec!["-lineinfo".into(), "--std=c++17".into()],
        name: Some("kernel.cu".into()),
        ..Default::default()
    };
    compile_ptx_with_opts(source, options).unwrap_or_else(|error| panic!("{error:?}\n{source}"))
}

impl Gpu {
    pub fn module(&self, source: &str) -> Arc<CudaModule> {
        self.context.load_module(compile(source, "compute_80")).unwrap_or_else(|_| panic!("{}", last_error()))
    }

    pub fn function(&self, source: &str, name: &str) -> CudaFunction {
        self.module(source).load_function(name).unwrap()
    }

    /// Runs `k(const unsigned long long *in, unsigned long long *out)` and gives `out`, zeros before.
    pub fn run(&self, source: &str, input: &[u64], output: usize, config: LaunchConfig) -> Vec<u64> {
        let function = self.function(source, "k");
        let input = self.stream.clone_htod(input).unwrap();
        let mut out = self.stream.alloc_zeros::<u64>(output).unwrap();
        let mut launch = self.stream.launch_builder(&function);
        launch.arg(&input).arg(&mut out);
        // SAFETY: the kernel's two parameters.
        unsafe { launch.launch(config) }.unwrap();
        self.stream.clone_dtoh(&out).unwrap_or_else(|_| panic!("{}", last_error()))
    }
}

pub fn shape(blocks: u32, threads: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 }
}

/// A generator of test data (xorshift).
pub struct Draw(pub u64);

impl Draw {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Between -1 and 1.
    pub fn real(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// What the other tests of this program call and launch, by name, found by running them in a process of its own. None
/// without a toolkit.
pub fn touched_by_others(guard: &str) -> Option<std::collections::BTreeSet<String>> {
    toolkit()?;
    let path = std::env::temp_dir().join(format!("simgpu-coverage-{}-{guard}", std::process::id()));
    let mut others = std::process::Command::new(std::env::current_exe().unwrap());
    let output = others.args(["--skip", guard]).env("SIMGPU_COVERAGE", &path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let names = std::fs::read_to_string(&path).unwrap();
    let _ = std::fs::remove_file(&path);
    Some(names.lines().map(str::to_string).collect())
}
