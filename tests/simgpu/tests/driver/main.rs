//! The driver API where kernels are not the point: graphs, captures, memory, modules, attributes.

mod functions;
#[path = "../gpu/mod.rs"]
mod gpu;

use cudarc::driver::sys::{self, CUresult, CUstreamCaptureMode as Mode};
use cudarc::driver::{CudaSlice, PushKernelArg, result};
use gpu::{Gpu, alone, compile, counters, gpu as open, last_error, set_checks, shape};
use std::sync::Arc;

const KERNELS: &str = r#"
__device__ int calls = 5;
extern "C" __global__ void add(int *x, int n) { if (threadIdx.x < n) x[threadIdx.x] += 1; atomicAdd(&calls, 1); }
extern "C" __global__ void big(int *x, int n) { extern __shared__ int s[]; s[threadIdx.x] = n; x[0] = s[0]; }
extern "C" __global__ void __launch_bounds__(64) small(int *x, int n) { x[0] = n; }
"#;

fn launch(gpu: &Gpu, stream: &Arc<cudarc::driver::CudaStream>, x: &mut CudaSlice<i32>, times: usize) {
    let function = gpu.function(KERNELS, "add");
    for _ in 0..times {
        let mut launch = stream.launch_builder(&function);
        launch.arg(&mut *x).arg(&8i32);
        // SAFETY: the kernel's parameters.
        unsafe { launch.launch(shape(1, 32)) }.unwrap();
    }
}

/// The stream with events off: cudarc would record events of buffers inside a capture.
fn plain() -> Option<Gpu> {
    let gpu = open()?;
    // SAFETY: each test uses one stream, or orders its streams itself.
    unsafe { gpu.context.disable_event_tracking() };
    Some(gpu)
}

#[test]
fn a_captured_graph_runs_when_it_is_launched() {
    let _turn = alone();
    let Some(gpu) = plain() else { return };
    let mut x = gpu.stream.alloc_zeros::<i32>(8).unwrap();
    let function = gpu.function(KERNELS, "add");
    gpu.stream.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    for _ in 0..3 {
        let mut launch = gpu.stream.launch_builder(&function);
        launch.arg(&mut x).arg(&8i32);
        // SAFETY: the kernel's parameters.
        unsafe { launch.launch(shape(1, 32)) }.unwrap();
    }
    let graph = gpu.stream.end_capture(sys::CUgraphInstantiate_flags(0)).unwrap().unwrap();
    assert_eq!(gpu.stream.clone_dtoh(&x).unwrap(), [0; 8]);
    graph.launch().unwrap();
    graph.launch().unwrap();
    assert_eq!(gpu.stream.clone_dtoh(&x).unwrap(), [6; 8]);
}

#[test]
fn what_a_capture_forbids_spoils_it() {
    let _turn = alone();
    let Some(gpu) = plain() else { return };
    type Call = (&'static str, fn(&Gpu) -> Result<(), cudarc::driver::DriverError>, CUresult);
    let calls: [Call; 4] = [
        ("synchronise", |gpu| gpu.stream.synchronize(), CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED),
        (
            "allocate",
            // SAFETY: nothing is allocated.
            |_| unsafe { result::malloc_sync(64) }.map(|_| ()),
            CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
        ),
        (
            "copy",
            // SAFETY: refused before any address is looked at.
            |_| unsafe { result::memcpy_htod_sync(4096, &[1u8]) },
            CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
        ),
        ("context", |_| result::ctx::synchronize(), CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED),
    ];
    for (name, call, wanted) in calls {
        gpu.stream.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_GLOBAL).unwrap();
        assert_eq!(call(&gpu).unwrap_err().0, wanted, "{name}");
        let end = gpu.stream.end_capture(sys::CUgraphInstantiate_flags(0));
        assert_eq!(end.err().unwrap().0, CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "{name}");
        gpu.stream.synchronize().unwrap();
    }
    assert_eq!(
        gpu.stream.end_capture(sys::CUgraphInstantiate_flags(0)).err().unwrap().0,
        CUresult::CUDA_ERROR_ILLEGAL_STATE
    );
    // A relaxed capture allows allocations.
    gpu.stream.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_RELAXED).unwrap();
    // SAFETY: freed at once.
    unsafe { result::free_sync(result::malloc_sync(64).unwrap()) }.unwrap();
    gpu.stream.end_capture(sys::CUgraphInstantiate_flags(0)).unwrap();
}

#[test]
fn streams_fork_and_join_inside_a_capture() {
    let _turn = alone();
    let Some(gpu) = plain() else { return };
    let other = gpu.context.new_stream().unwrap();
    let mut x = gpu.stream.alloc_zeros::<i32>(8).unwrap();
    let function = gpu.function(KERNELS, "add");
    let mut run = |joined: bool| {
        gpu.stream.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_RELAXED).unwrap();
        other.wait(&gpu.stream.record_event(None).unwrap()).unwrap();
        let mut launch = other.launch_builder(&function);
        launch.arg(&mut x).arg(&8i32);
        // SAFETY: the kernel's parameters.
        unsafe { launch.launch(shape(1, 32)) }.unwrap();
        if joined {
            gpu.stream.wait(&other.record_event(None).unwrap()).unwrap();
        }
        gpu.stream.end_capture(sys::CUgraphInstantiate_flags(0))
    };
    assert_eq!(run(false).err().unwrap().0, CUresult::CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
    run(true).unwrap().unwrap().launch().unwrap();
    assert_eq!(gpu.stream.clone_dtoh(&x).unwrap(), [1; 8]);
}

#[test]
fn memory_is_counted_and_bounded() {
    let _turn = alone();
    let Some(gpu) = plain() else { return };
    let (free, total) = gpu.context.mem_get_info().unwrap();
    let x = gpu.stream.alloc_zeros::<u8>(1 << 20).unwrap();
    assert_eq!(gpu.context.mem_get_info().unwrap(), (free - (1 << 20), total));
    drop(x);
    assert_eq!(gpu.context.mem_get_info().unwrap(), (free, total));
    // SAFETY: too much to be given.
    let refused = unsafe { gpu.stream.alloc::<u8>(total + 1) };
    assert_eq!(refused.err().unwrap().0, CUresult::CUDA_ERROR_OUT_OF_MEMORY);
    // SAFETY: an address that is none.
    let refused = unsafe { result::free_sync(0x1234) };
    assert_eq!(refused.err().unwrap().0, CUresult::CUDA_ERROR_INVALID_VALUE);
}

#[test]
fn copies_outside_of_allocations_are_refused() {
    let _turn = alone();
    let Some(gpu) = plain() else { return };
    let x = gpu.stream.alloc_zeros::<u8>(100).unwrap();
    let address = {
        use cudarc::driver::DevicePtr;
        x.device_ptr(&gpu.stream).0
    };
    // SAFETY: refused, as the allocation is smaller.
    let refused = unsafe { result::memcpy_htod_sync(address, &[0u8; 101]) };
    assert_eq!(refused.err().unwrap().0, CUresult::CUDA_ERROR_INVALID_VALUE);
    assert!(last_error().contains("1 bytes past the end"), "{}", last_error());
}

#[test]
fn globals_attributes_and_limits() {
    let _turn = alone();
    let Some(gpu) = plain() else { return };
    let module = gpu.module(KERNELS);
    let calls = module.get_global("calls", &gpu.stream).unwrap();
    // SAFETY: the variable is an int, and the module lives longer than the view.
    let calls = unsafe { calls.transmute::<i32>(1) }.unwrap();
    assert_eq!(gpu.stream.clone_dtoh(&calls).unwrap(), [5]);
    let mut x = gpu.stream.alloc_zeros::<i32>(64).unwrap();
    let big = module.load_function("big").unwrap();
    let run = |function: &cudarc::driver::CudaFunction, threads: u32, shared: u32, x: &mut CudaSlice<i32>| {
        let mut launch = gpu.stream.launch_builder(function);
        launch.arg(x).arg(&3i32);
        let config = cudarc::driver::LaunchConfig { shared_mem_bytes: shared, ..shape(1, threads) };
        // SAFETY: the kernel's parameters.
        unsafe { launch.launch(config) }.err().map(|error| error.0)
    };
    assert_eq!(run(&big, 32, 48 << 10, &mut x), None);
    assert_eq!(run(&big, 32, 100 << 10, &mut x), Some(CUresult::CUDA_ERROR_INVALID_VALUE));
    let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    big.set_attribute(attribute, 100 << 10).unwrap();
    assert_eq!(run(&big, 32, 100 << 10, &mut x), None);
    assert_eq!(run(&big, 2048, 0, &mut x), Some(CUresult::CUDA_ERROR_INVALID_VALUE));
    let small = module.load_function("small").unwrap();
    assert_eq!(run(&small, 128, 0, &mut x), Some(CUresult::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES));
    assert_eq!(run(&small, 64, 0, &mut x), None);
    assert_eq!(gpu.context.compute_capability().unwrap(), (8, 0));
}

#[test]
fn what_cannot_be_loaded_is_refused_with_a_reason() {
    let _turn = alone();
    let Some(gpu) = plain() else { return };
    let load = |text: &str| {
        let image = std::ffi::CString::new(text).unwrap();
        // SAFETY: text with a zero at its end.
        unsafe { result::module::load_data(image.as_ptr().cast()) }.err().map(|error| error.0)
    };
    assert_eq!(load("\x7fELF\u{2}\u{1}"), Some(CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU));
    assert_eq!(load("garbage"), Some(CUresult::CUDA_ERROR_INVALID_PTX));
    assert_eq!(load(""), Some(CUresult::CUDA_ERROR_INVALID_PTX));
    let newer = compile("extern \"C\" __global__ void k() {}", "compute_90");
    assert_eq!(load(&newer.to_src()), Some(CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU));
    let unknown = ".version 8.0\n.target sm_80\n.address_size 64\n.entry k()\n{\n.reg .b32 %r<3>;\n\
                   frobnicate.b32 %r1, %r2;\nret;\n}\n";
    assert_eq!(load(unknown), Some(CUresult::CUDA_ERROR_INVALID_PTX));
    assert!(last_error().contains("`frobnicate.b32` (PTX line 7)"), "{}", last_error());
    assert!(gpu.module(KERNELS).load_function("nothing").is_err());
}

#[test]
fn counters_count() {
    let _turn = alone();
    let Some(gpu) = plain() else { return };
    set_checks("count");
    let mut x = gpu.stream.alloc_zeros::<i32>(32).unwrap();
    launch(&gpu, &gpu.stream, &mut x, 2);
    set_checks("");
    let text = counters();
    let add = text.lines().find(|line| line.contains("\"add\"")).unwrap();
    for part in [
        "\"launches\": 2",
        "\"global_load_requests\": 2",
        "\"global_load_sectors\": 2",
        // Eight integers are a sector, and so is the number of calls, in each of two launches.
        "\"global_distinct_read_sectors\": 4",
        "\"global_distinct_written_sectors\": 4",
        "\"divergent_branches\":",
    ] {
        assert!(add.contains(part), "no {part} in {add}");
    }
}

/// Fails for each function of the API that none of the tests here has called.
#[test]
fn every_function_is_tested() {
    let Some(touched) = gpu::touched_by_others("every_function_is_tested") else { return };
    let untested: Vec<&str> =
        cuda::driver::all_functions().into_iter().filter(|name| !touched.contains(*name)).collect();
    assert!(untested.is_empty(), "no test for: {}", untested.join(", "));
}
