//! Planted bugs: each is caught, with kernel, source line, block and thread.

#[path = "gpu/mod.rs"]
mod gpu;

use cudarc::driver::{CudaSlice, DriverError, LaunchConfig, PushKernelArg};
use gpu::{Gpu, alone, gpu as open, last_error, reset_error, set_checks, set_seed, shape};

/// Line numbers below count from the line after `r#"`, which is line 2.
const KERNELS: &str = r#"
extern "C" __global__ void fine(int *x, int n) { int t = blockIdx.x * blockDim.x + threadIdx.x; if (t < n) x[t] = t; }
extern "C" __global__ void bounds(int *x, int n) {
    int t = blockIdx.x * blockDim.x + threadIdx.x;
    x[t] = t;
}
extern "C" __global__ void reads(const int *x, int *y) {
    y[threadIdx.x] = x[threadIdx.x];
}
extern "C" __global__ void crooked(int *x, int n) {
    *(int *)((char *)x + threadIdx.x * 2) = n;
}
extern "C" __global__ void uninitialised_shared(int *x, int n) {
    __shared__ int s[64];
    if (threadIdx.x != 40) s[threadIdx.x] = 1;
    __syncthreads();
    x[threadIdx.x] = s[threadIdx.x];
}
extern "C" __global__ void shared_race(int *x, int n) {
    __shared__ int s[64];
    s[threadIdx.x] = threadIdx.x;
    x[threadIdx.x] = s[63 - threadIdx.x];
}
extern "C" __global__ void global_race(int *x, int n) {
    if (threadIdx.x == 0)
        x[0] = blockIdx.x;
}
extern "C" __global__ void divergent(int *x, int n) {
    if (threadIdx.x < 5)
        __syncthreads();
    x[threadIdx.x] = 1;
}
extern "C" __global__ void exited(int *x, int n) {
    if (threadIdx.x >= 32) return;
    __syncthreads();
    x[threadIdx.x] = 1;
}
extern "C" __device__ void __assertfail(const char *, const char *, unsigned, const char *, size_t);
extern "C" __global__ void asserts(int *x, int n) {
    if (threadIdx.x == 9)
        __assertfail("n > 3", "kernel.cu", 41, "asserts", 1);
}
extern "C" __global__ void shared_bounds(int *x, int n) {
    __shared__ int s[16];
    s[threadIdx.x * (n > 0)] = n;
    x[0] = s[0];
}
extern "C" __global__ void order(int *x, int n) {
    x[atomicAdd(&x[n], 1)] = blockIdx.x * 8 + threadIdx.x / 32;
}
extern "C" __global__ void forever(int *x, int n) {
    while (atomicAdd(x, 0) == 0) { }
}
"#;

/// Runs a kernel `(int *x, int n)` on `words` zeros and gives the error and its text.
fn run(gpu: &Gpu, name: &str, words: usize, n: i32, config: LaunchConfig) -> Option<String> {
    let function = gpu.function(KERNELS, name);
    let mut x: CudaSlice<i32> = gpu.stream.alloc_zeros(words).unwrap();
    let mut launch = gpu.stream.launch_builder(&function);
    launch.arg(&mut x).arg(&n);
    // SAFETY: the kernel's parameters; that it misbehaves is what this is about.
    let launched = unsafe { launch.launch(config) }.err();
    finish(gpu, launched)
}

/// The error that a launch or synchronising gives, with its text; the error state is cleared. `cudarc` records events
/// with a launch, which then give the kernel's error already.
fn finish(gpu: &Gpu, launched: Option<DriverError>) -> Option<String> {
    let result = launched.map_or_else(|| gpu.stream.synchronize(), Err);
    let text = last_error();
    reset_error();
    result.err().map(|error| format!("{error:?}: {text}"))
}

/// Asserts that a message has all of these parts.
#[track_caller]
fn says(message: Option<String>, parts: &[&str]) {
    let message = message.expect("the bug is found");
    for part in parts {
        assert!(message.contains(part), "no `{part}` in: {message}");
    }
}

/// A GPU with these checks, for one test at a time.
fn with(checks: &str, test: impl FnOnce(&Gpu)) {
    let _turn = alone();
    let Some(gpu) = open() else { return };
    set_checks(checks);
    test(&gpu);
    set_checks("");
}

#[test]
fn a_kernel_without_bugs_passes_all_checks() {
    with("all,count", |gpu| assert_eq!(run(gpu, "fine", 100, 100, shape(2, 64)), None));
}

#[test]
fn out_of_bounds() {
    with("", |gpu| {
        let message = run(gpu, "bounds", 100, 0, shape(2, 64));
        says(
            message,
            &[
                "ILLEGAL_ADDRESS",
                "invalid global write of 4 bytes",
                "kernel bounds, ",
                "kernel.cu:5",
                "block (1,0,0), thread (36,0,0)",
                "past the end of allocation",
            ],
        );
    });
}

#[test]
fn outside_of_shared_memory() {
    with("", |gpu| {
        let message = run(gpu, "shared_bounds", 4, 1, shape(1, 32));
        says(message, &["ILLEGAL_ADDRESS", "shared access", "kernel.cu:45", "thread (16,0,0)"]);
    });
}

#[test]
fn use_after_free() {
    with("", |gpu| {
        let function = gpu.function(KERNELS, "reads");
        let freed = gpu.stream.alloc_zeros::<i32>(64).unwrap();
        let mut y = gpu.stream.alloc_zeros::<i32>(64).unwrap();
        let address = {
            use cudarc::driver::DevicePtr;
            freed.device_ptr(&gpu.stream).0
        };
        drop(freed);
        let mut launch = gpu.stream.launch_builder(&function);
        launch.arg(&address).arg(&mut y);
        // SAFETY: an address in place of a pointer; that it is stale is what this is about.
        let launched = unsafe { launch.launch(shape(1, 64)) }.err();
        says(
            finish(gpu, launched),
            &[
                "ILLEGAL_ADDRESS",
                "use after free",
                "kernel reads, ",
                "kernel.cu:8",
                "block (0,0,0), thread (0,0,0)",
            ],
        );
    });
}

#[test]
fn misalignment() {
    with("", |gpu| {
        let message = run(gpu, "crooked", 64, 1, shape(1, 32));
        says(message, &["MISALIGNED_ADDRESS", "kernel crooked, ", "kernel.cu:11", "thread (1,0,0)"]);
    });
}

#[test]
fn uninitialised_global_memory() {
    with("init", |gpu| {
        let function = gpu.function(KERNELS, "reads");
        // SAFETY: that it is not written is what this is about.
        let mut x = unsafe { gpu.stream.alloc::<i32>(64) }.unwrap();
        let mut y = gpu.stream.alloc_zeros::<i32>(64).unwrap();
        gpu.stream.memset_zeros(&mut x.slice_mut(..50)).unwrap();
        let mut launch = gpu.stream.launch_builder(&function);
        launch.arg(&x).arg(&mut y);
        // SAFETY: the kernel's parameters.
        let launched = unsafe { launch.launch(shape(1, 64)) }.err();
        says(
            finish(gpu, launched),
            &["uninitialised global memory", "kernel reads, ", "kernel.cu:8", "thread (50,0,0)"],
        );
    });
}

#[test]
fn uninitialised_shared_memory() {
    with("init", |gpu| {
        let message = run(gpu, "uninitialised_shared", 64, 0, shape(1, 64));
        says(message, &["uninitialised shared memory", "kernel.cu:17", "thread (40,0,0)"]);
    });
}

#[test]
fn race_between_warps() {
    with("race", |gpu| {
        let message = run(gpu, "shared_race", 64, 0, shape(1, 64));
        says(
            message,
            &[
                "race between warps on shared memory",
                "kernel shared_race, ",
                "kernel.cu:2",
                "no barrier between",
            ],
        );
    });
}

#[test]
fn race_between_blocks() {
    with("global-race", |gpu| {
        let message = run(gpu, "global_race", 4, 0, shape(2, 32));
        says(
            message,
            &["race between blocks on global memory", "kernel.cu:26", "block (1,0,0)", "block (0,0,0)"],
        );
    });
}

#[test]
fn divergent_barriers() {
    with("sync", |gpu| {
        let message = run(gpu, "divergent", 64, 0, shape(1, 32));
        says(message, &["divergent barrier", "kernel divergent, ", "kernel.cu:30"]);
        let message = run(gpu, "exited", 64, 0, shape(1, 64));
        says(message, &["divergent barrier", "has exited", "kernel.cu:35"]);
    });
}

#[test]
fn assertions() {
    with("", |gpu| {
        let message = run(gpu, "asserts", 4, 0, shape(1, 32));
        says(
            message,
            &["CUDA_ERROR_ASSERT", "assertion `n > 3` failed at kernel.cu:41 in asserts", "thread (9,0,0)"],
        );
    });
}

#[test]
fn errors_stick_until_they_are_reset() {
    with("", |gpu| {
        let function = gpu.function(KERNELS, "bounds");
        let mut x = gpu.stream.alloc_zeros::<i32>(1).unwrap();
        let mut launch = gpu.stream.launch_builder(&function);
        launch.arg(&mut x).arg(&0i32);
        // SAFETY: as above.
        let launched = unsafe { launch.launch(shape(1, 32)) }.err();
        for _ in 0..2 {
            assert!(format!("{:?}", gpu.stream.synchronize()).contains("ILLEGAL_ADDRESS"));
            assert!(gpu.context.new_stream().is_err());
        }
        assert!(finish(gpu, launched).is_some());
        assert_eq!(gpu.stream.synchronize(), Ok(()));
    });
}

#[test]
fn a_seed_permutes_blocks_and_warps() {
    with("", |gpu| {
        let function = gpu.function(KERNELS, "order");
        let order = |seed: u64| {
            set_seed(seed);
            let mut x = gpu.stream.alloc_zeros::<i32>(16 * 64 + 1).unwrap();
            let mut launch = gpu.stream.launch_builder(&function);
            launch.arg(&mut x).arg(&(16 * 64));
            // SAFETY: the kernel's parameters.
            unsafe { launch.launch(shape(16, 64)) }.unwrap();
            set_seed(0);
            gpu.stream.clone_dtoh(&x).unwrap()
        };
        let natural: Vec<i32> = (0..16 * 64).map(|at| at / 64 * 8 + at % 64 / 32).collect();
        assert_eq!(order(0)[..16 * 64], natural);
        let (first, again, other) = (order(7), order(7), order(8));
        assert_eq!(first, again);
        assert!(first != other && first[..16 * 64] != natural[..]);
    });
}

/// Run by the tests below in processes of their own, whose ends are what matters.
#[test]
#[ignore = "run by other tests, in a process of its own"]
fn child() {
    let Some(gpu) = open() else { return };
    match std::env::var("SIMGPU_CHILD").as_deref() {
        Ok("leak") => std::mem::forget(gpu.stream.alloc_zeros::<i32>(100).unwrap()),
        Ok("forever") => {
            let message = run(&gpu, "forever", 4, 0, shape(1, 32));
            says(message, &["LAUNCH_TIMEOUT", "SIMGPU_TIMEOUT"]);
        }
        _ => {}
    }
}

fn child_says(kind: &str, variable: &str, value: &str) -> Option<String> {
    gpu::toolkit()?;
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env("SIMGPU_CHILD", kind)
        .env(variable, value)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn leaks_are_reported_at_the_end() {
    let Some(text) = child_says("leak", "SIMGPU_CHECK", "leak") else { return };
    assert!(text.contains("leak: never freed: allocation #1 of 400 bytes"), "{text}");
}

#[test]
fn kernels_that_never_end_are_ended() {
    child_says("forever", "SIMGPU_TIMEOUT", "1");
}
