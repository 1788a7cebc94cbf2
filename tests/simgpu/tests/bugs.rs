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
    if (threadIdx.x >= 32 || threadIdx.x == 7) { x[threadIdx.x] = 5; return; }
    __syncthreads();
    if (threadIdx.x == 9) return;
    __syncthreads(); __syncwarp(); x[threadIdx.x] = __ballot_sync(~0u, threadIdx.x < 4);
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
extern "C" __global__ void two_barriers(int *x, int n) {
    if (threadIdx.x < 32)
        __syncthreads();
    else
        asm volatile("bar.sync 0;");
}
extern "C" __global__ void other_barrier(int *x, int n) {
    if (threadIdx.x < 5)
        asm volatile("bar.sync 1;");
    else
        asm volatile("bar.sync 2;");
}
extern "C" __global__ void alone_at_barrier(int *x, int n) {
    if (threadIdx.x >= 32)
        asm volatile("bar.sync 1, 64;");
}
extern "C" __global__ void shuffles_with_the_gone(int *x, int n) {
    if (threadIdx.x >= 20) return;
    x[threadIdx.x] = __shfl_sync(~0u, threadIdx.x, 0);
}
extern "C" __global__ void shuffles_from_nobody(int *x, int n) {
    x[threadIdx.x] = __shfl_xor_sync(~0u, threadIdx.x, 16);
}
extern "C" __global__ void votes_apart(int *x, int n) {
    if (threadIdx.x < 3)
        x[0] = __ballot_sync(~0u, 1);
    x[threadIdx.x] += 1;
}
extern "C" __global__ void copies(int *x, int n) {
    __shared__ int s[64];
    unsigned to = __cvta_generic_to_shared(&s[threadIdx.x]);
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" :: "r"(to), "l"(&x[threadIdx.x]));
    asm volatile("cp.async.commit_group;");
    if (n >= 1)
        asm volatile("cp.async.wait_group %0;" :: "n"(1));
    if (n == 2)
        asm volatile("cp.async.wait_all;");
    __syncwarp();
    x[threadIdx.x] = s[threadIdx.x] + 1;
}
extern "C" __global__ void copies_over_a_read(int *x, int n) {
    __shared__ int s[64];
    s[threadIdx.x] = 1;
    __syncthreads();
    if (threadIdx.x < 32) x[threadIdx.x] = s[threadIdx.x + 32];
    unsigned to = __cvta_generic_to_shared(&s[threadIdx.x]);
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" :: "r"(to), "l"(&x[threadIdx.x]));
    asm volatile("cp.async.wait_all;");
}
extern "C" __global__ void traps(int *x, int n) {
    if (threadIdx.x == 3)
        asm volatile("trap;");
}
extern "C" __global__ void local_bounds(int *x, int n) {
    int place[4] = {n, n, n, n};
    for (int t = 0; t <= n; t++) place[t] = x[t];
    x[threadIdx.x] = place[n & 1];
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

/// Where a bug is.
struct At {
    kernel: &'static str,
    line: u32,
    block: &'static str,
    thread: &'static str,
}

fn at(kernel: &'static str, line: u32, block: &'static str, thread: &'static str) -> At {
    At { kernel, line, block, thread }
}

/// Asserts that a bug was found, that its message has all of these parts, and that it names the place.
#[track_caller]
fn says(message: Option<String>, parts: &[&str], place: At) {
    let message = message.expect("the bug is found");
    let At { kernel, line, block, thread } = place;
    let (_, found) = message.split_once("\n    kernel ").expect("a place");
    assert!(found.starts_with(&format!("{kernel}, ")), "not in {kernel}: {message}");
    assert!(found.contains(&format!("kernel.cu:{line} (PTX line")), "not in line {line}: {message}");
    assert!(found.ends_with(&format!("block {block}, thread {thread}")), "not {block} {thread}: {message}");
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
    with("all,count", |gpu| {
        assert_eq!(run(gpu, "fine", 100, 100, shape(2, 64)), None);
        // Threads that have ended hold up no barrier.
        assert_eq!(run(gpu, "exited", 64, 0, shape(1, 64)), None);
        assert_eq!(run(gpu, "copies", 32, 2, shape(1, 32)), None);
    });
}

#[test]
fn out_of_bounds() {
    with("", |gpu| {
        let message = run(gpu, "bounds", 100, 0, shape(2, 64));
        let parts = ["ILLEGAL_ADDRESS", "invalid global write of 4 bytes", "past the end of allocation"];
        says(message, &parts, at("bounds", 5, "(1,0,0)", "(36,0,0)"));
    });
}

#[test]
fn outside_of_shared_and_local_memory() {
    with("", |gpu| {
        let message = run(gpu, "shared_bounds", 4, 1, shape(1, 32));
        says(message, &["ILLEGAL_ADDRESS", "shared access"], at("shared_bounds", 46, "(0,0,0)", "(16,0,0)"));
        let message = run(gpu, "local_bounds", 64, 4, shape(1, 32));
        says(message, &["ILLEGAL_ADDRESS", "local access"], at("local_bounds", 110, "(0,0,0)", "(0,0,0)"));
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
        let parts = ["ILLEGAL_ADDRESS", "use after free"];
        says(finish(gpu, launched), &parts, at("reads", 8, "(0,0,0)", "(0,0,0)"));
    });
}

#[test]
fn misalignment() {
    with("", |gpu| {
        let message = run(gpu, "crooked", 64, 1, shape(1, 32));
        says(message, &["MISALIGNED_ADDRESS"], at("crooked", 11, "(0,0,0)", "(1,0,0)"));
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
        let parts = ["uninitialised global memory"];
        says(finish(gpu, launched), &parts, at("reads", 8, "(0,0,0)", "(50,0,0)"));
    });
}

#[test]
fn uninitialised_shared_memory() {
    with("init", |gpu| {
        let message = run(gpu, "uninitialised_shared", 64, 0, shape(1, 64));
        let place = at("uninitialised_shared", 17, "(0,0,0)", "(40,0,0)");
        says(message, &["uninitialised shared memory"], place);
    });
}

#[test]
fn race_between_warps() {
    with("race", |gpu| {
        let message = run(gpu, "shared_race", 64, 0, shape(1, 64));
        let parts = ["race between warps on shared memory", "no barrier between", "warp 0", "kernel.cu:22"];
        says(message, &parts, at("shared_race", 21, "(0,0,0)", "(32,0,0)"));
        let message = run(gpu, "copies_over_a_read", 64, 0, shape(1, 64));
        let parts = ["race between warps on shared memory", "write after read", "warp 0"];
        says(message, &parts, at("copies_over_a_read", 101, "(0,0,0)", "(32,0,0)"));
    });
}

#[test]
fn race_between_blocks() {
    with("global-race", |gpu| {
        let message = run(gpu, "global_race", 4, 0, shape(2, 32));
        let parts = ["race between blocks on global memory", "block (0,0,0)"];
        says(message, &parts, at("global_race", 26, "(1,0,0)", "(0,0,0)"));
    });
}

#[test]
fn divergent_barriers() {
    with("sync", |gpu| {
        let message = run(gpu, "divergent", 64, 0, shape(1, 32));
        let parts = ["divergent barrier", "lanes 0xffffffe0 went on to"];
        says(message, &parts, at("divergent", 30, "(0,0,0)", "(0,0,0)"));
        let message = run(gpu, "other_barrier", 64, 0, shape(1, 32));
        let parts = ["divergent barrier", "lanes 0xffffffe0 went on to", "bar.sync"];
        says(message, &parts, at("other_barrier", 63, "(0,0,0)", "(0,0,0)"));
        let message = run(gpu, "two_barriers", 64, 0, shape(1, 64));
        let parts = ["divergent barrier", "warp 1 waits at another barrier", "kernel.cu:59"];
        says(message, &parts, at("two_barriers", 57, "(0,0,0)", "(0,0,0)"));
        let message = run(gpu, "alone_at_barrier", 64, 0, shape(1, 64));
        let parts = ["divergent barrier", "never arrive"];
        says(message, &parts, at("alone_at_barrier", 69, "(0,0,0)", "(32,0,0)"));
    });
}

#[test]
fn lanes_that_are_not_there() {
    with("", |gpu| {
        let message = run(gpu, "shuffles_with_the_gone", 64, 0, shape(1, 32));
        let parts = ["shfl.sync", "names lanes 0xfff00000, which have exited"];
        says(message, &parts, at("shuffles_with_the_gone", 73, "(0,0,0)", "(0,0,0)"));
        let message = run(gpu, "shuffles_from_nobody", 64, 0, shape(1, 20));
        let parts = ["shfl.sync", "a lane that does not take part"];
        says(message, &parts, at("shuffles_from_nobody", 76, "(0,0,0)", "(4,0,0)"));
        let message = run(gpu, "votes_apart", 64, 0, shape(1, 32));
        let parts = ["vote.sync", "0xfffffff8 did not arrive"];
        says(message, &parts, at("votes_apart", 80, "(0,0,0)", "(0,0,0)"));
    });
}

#[test]
fn copies_that_nobody_waited_for() {
    for check in ["init", "race"] {
        with(check, |gpu| {
            for waits in [0, 1] {
                let message = run(gpu, "copies", 32, waits, shape(1, 32));
                let parts = ["read of 4 bytes of shared memory at offset 0 that a cp.async is still writing"];
                says(message, &parts, at("copies", 93, "(0,0,0)", "(0,0,0)"));
            }
        });
    }
}

#[test]
fn assertions_and_traps() {
    with("", |gpu| {
        let message = run(gpu, "asserts", 4, 0, shape(1, 32));
        let parts = ["CUDA_ERROR_ASSERT", "assertion `n > 3` failed at kernel.cu:41 in asserts"];
        says(message, &parts, at("asserts", 42, "(0,0,0)", "(9,0,0)"));
        let message = run(gpu, "traps", 4, 0, shape(1, 32));
        says(message, &["trap executed"], at("traps", 106, "(0,0,0)", "(3,0,0)"));
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
            says(message, &["LAUNCH_TIMEOUT", "SIMGPU_TIMEOUT"], at("forever", 53, "(0,0,0)", "(0,0,0)"));
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
