//! Functions of the driver API that `cudarc`'s safe types do not reach, called as C would.

use super::gpu::{alone, compile, gpu as open, shape};
use cudarc::driver::sys::{self, CUresult, CUresult::*};
use cudarc::driver::{CudaFunction, DevicePtr, PushKernelArg, result};
use std::ffi::{CString, c_void};
use std::ptr::null_mut;

const KERNEL: &str = r#"
extern "C" __global__ void plus(int *x, int n) { x[threadIdx.x] += n; }
extern "C" __global__ void shared(int *x) { __shared__ int s[10240]; s[threadIdx.x] = 1; x[0] = s[0]; }
"#;

fn handle(function: &CudaFunction) -> sys::CUfunction {
    function.cu_function()
}

#[track_caller]
fn ok(result: CUresult) {
    assert_eq!(result, CUDA_SUCCESS);
}

#[test]
fn contexts() {
    let _turn = alone();
    let Some(_gpu) = open() else { return };
    let (mut first, mut second, mut found, mut value) = (null_mut(), null_mut(), null_mut(), 0usize);
    // SAFETY: places of the right types; the contexts are destroyed at the end.
    unsafe {
        let before = result::ctx::get_current().unwrap().unwrap();
        ok(sys::cuCtxCreate_v3(&mut first, null_mut(), 0, 0, 0));
        ok(sys::cuCtxCreate_v4(&mut second, null_mut(), 0, 0));
        ok(sys::cuCtxGetCurrent(&mut found));
        assert_eq!(found, second);
        let stack = sys::CUlimit::CU_LIMIT_STACK_SIZE;
        ok(sys::cuCtxSetLimit(stack, 4096));
        ok(sys::cuCtxGetLimit(&mut value, stack));
        assert_eq!(value, 4096);
        ok(sys::cuCtxSetFlags(4));
        ok(sys::cuCtxSetCacheConfig(sys::CUfunc_cache::CU_FUNC_CACHE_PREFER_L1));
        result::ctx::get_cache_config().unwrap();
        let (least, greatest) = result::stream::get_priority_range().unwrap();
        assert!(least == 0 && greatest < 0);
        ok(sys::cuProfilerStart());
        ok(sys::cuProfilerStop());
        ok(sys::cuCtxDestroy_v2(second));
        ok(sys::cuCtxDestroy_v2(first));
        assert_ne!(sys::cuCtxDestroy_v2(first), CUDA_SUCCESS);
        ok(sys::cuCtxSetCurrent(before));
    }
}

#[test]
fn the_device() {
    let _turn = alone();
    let Some(_gpu) = open() else { return };
    assert_eq!(result::device::get_count().unwrap(), 1);
    let device = result::device::get(0).unwrap();
    assert_eq!(result::device::get(1).unwrap_err().0, CUDA_ERROR_INVALID_DEVICE);
    assert!(result::device::get_name(device).unwrap().contains("not a GPU"));
    let (mut version, mut first, mut second) =
        (0, sys::CUuuid { bytes: [0; 16] }, sys::CUuuid { bytes: [1; 16] });
    // SAFETY: places of the right types.
    unsafe {
        assert_eq!(result::device::total_mem(device).unwrap(), 8 << 30);
        ok(sys::cuDriverGetVersion(&mut version));
        ok(sys::cuDeviceGetUuid(&mut first, device));
        ok(sys::cuDeviceGetUuid_v2(&mut second, device));
    }
    assert_eq!((version, first.bytes), (12090, second.bytes));
    let error = cudarc::driver::DriverError(CUDA_ERROR_INVALID_PTX);
    assert_eq!(error.error_name().unwrap(), c"CUDA_ERROR_INVALID_PTX");
    assert_eq!(error.error_string().unwrap(), c"a PTX JIT compilation failed");
    let (mut name, unknown) = (std::ptr::null(), unknown());
    // SAFETY: a place for the name.
    assert_eq!(unsafe { sys::cuGetErrorName(unknown, &mut name) }, CUDA_ERROR_INVALID_VALUE);
}

/// A code that the driver does not have a name for.
fn unknown() -> CUresult {
    CUDA_ERROR_MPS_RPC_FAILURE
}

#[test]
fn events_measure_and_hosts_are_called() {
    let _turn = alone();
    let Some(gpu) = open() else { return };
    unsafe extern "C" fn count(calls: *mut c_void) {
        // SAFETY: the test gives the address of an integer.
        unsafe { *calls.cast::<i32>() += 1 };
    }
    let (mut calls, mut first_time, mut second_time) = (0i32, 0f32, 0f32);
    // SAFETY: handles that are alive, and places of the right types.
    unsafe {
        let stream =
            result::stream::create_with_priority(result::stream::StreamKind::NonBlocking, -1).unwrap();
        let (start, end) = (
            result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).unwrap(),
            result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).unwrap(),
        );
        result::event::record(start, stream).unwrap();
        result::stream::launch_host_function(stream, count, (&raw mut calls).cast()).unwrap();
        result::event::record(end, stream).unwrap();
        result::event::query(end).unwrap();
        result::event::synchronize(end).unwrap();
        ok(sys::cuEventElapsedTime(&mut first_time, start, end));
        ok(sys::cuEventElapsedTime_v2(&mut second_time, start, end));
        assert!(calls == 1 && first_time > 0.0 && first_time == second_time);
        ok(sys::cuEventElapsedTime(&mut second_time, end, start));
        assert_eq!(second_time, -first_time);
        let capturing = result::stream::is_capturing(stream).unwrap();
        assert_eq!(capturing, sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE);
        result::event::destroy(start).unwrap();
        assert_eq!(result::event::query(start).unwrap_err().0, CUDA_ERROR_INVALID_HANDLE);
        result::event::destroy(end).unwrap();
        result::stream::destroy(stream).unwrap();
    }
    drop(gpu);
}

#[test]
fn memory_of_every_kind() {
    let _turn = alone();
    let Some(gpu) = open() else { return };
    let stream = gpu.stream.cu_stream();
    let numbers: Vec<u32> = (0..64).collect();
    let mut back = vec![0u32; 64];
    // SAFETY: allocations of at least 256 bytes each, freed at the end.
    unsafe {
        let managed = result::malloc_managed(256, sys::CUmemAttach_flags::CU_MEM_ATTACH_GLOBAL).unwrap();
        let pinned = result::malloc_host(256, 0).unwrap();
        let device = result::malloc_sync(256).unwrap();
        result::memcpy_htod_async(device, &numbers, stream).unwrap();
        result::memcpy_dtod_sync(managed, device, 256).unwrap();
        assert_eq!(std::slice::from_raw_parts(managed as *const u32, 64), numbers);
        result::memset_d8_sync(device, 0x11, 128).unwrap();
        result::memcpy_dtod_async(pinned as u64, device, 256, stream).unwrap();
        result::memcpy_dtoh_sync(&mut back, pinned as u64).unwrap();
        assert!(back[..32].iter().all(|&x| x == 0x1111_1111) && back[32..] == numbers[32..]);
        let context = result::ctx::get_current().unwrap().unwrap();
        result::memcpy_peer_async(context, device, context, managed, 256, stream).unwrap();
        result::memcpy_dtoh_sync(&mut back, device).unwrap();
        assert_eq!(back, numbers);
        let location =
            sys::CUmemLocation { type_: sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE, id: 0 };
        let advice = sys::CUmem_advise::CU_MEM_ADVISE_SET_READ_MOSTLY;
        result::mem_advise(managed, 256, advice, location).unwrap();
        result::mem_prefetch_async(managed, 256, location, stream).unwrap();
        assert!(result::mem_prefetch_async(managed, 257, location, stream).is_err());
        let attach = sys::CUmemAttach_flags::CU_MEM_ATTACH_SINGLE;
        result::stream::attach_mem_async(stream, managed, 256, attach).unwrap();
        for address in [managed, device] {
            result::free_sync(address).unwrap();
        }
        result::free_host(pinned).unwrap();
        assert!(result::free_host(pinned).is_err());
    }
}

#[test]
fn pools() {
    let _turn = alone();
    let Some(gpu) = open() else { return };
    let (mut used, mut threshold) = (0u64, 1u64 << 20);
    use sys::CUmemPool_attribute::{CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, CU_MEMPOOL_ATTR_USED_MEM_CURRENT};
    // SAFETY: handles that are alive; attributes with places of their size.
    unsafe {
        let device = result::device::get(0).unwrap();
        let first = result::device::get_default_mem_pool(device).unwrap();
        assert_eq!(result::device::get_mem_pool(device).unwrap(), first);
        let mut pool = null_mut();
        let properties: sys::CUmemPoolProps = std::mem::zeroed();
        ok(sys::cuMemPoolCreate(&mut pool, &properties));
        result::device::set_mem_pool(device, pool).unwrap();
        assert_eq!(result::device::get_mem_pool(device).unwrap(), pool);
        result::device::set_mem_pool(device, first).unwrap();
        ok(sys::cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, (&raw mut threshold).cast()));
        threshold = 0;
        ok(sys::cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, (&raw mut threshold).cast()));
        assert_eq!(threshold, 1 << 20);
        let mut address = 0;
        ok(sys::cuMemAllocFromPoolAsync(&mut address, 1000, pool, gpu.stream.cu_stream()));
        ok(sys::cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, (&raw mut used).cast()));
        assert!(used >= 1000);
        result::free_async(address, gpu.stream.cu_stream()).unwrap();
        ok(sys::cuMemPoolTrimTo(pool, 0));
        ok(sys::cuMemPoolDestroy(pool));
        assert_eq!(sys::cuMemPoolTrimTo(pool, 0), CUDA_ERROR_INVALID_VALUE);
        assert_eq!(sys::cuMemPoolDestroy(first), CUDA_ERROR_INVALID_VALUE);
    }
}

#[test]
fn functions_and_their_occupancy() {
    let _turn = alone();
    let Some(gpu) = open() else { return };
    let path = std::env::temp_dir().join(format!("simgpu-{}.ptx", std::process::id()));
    std::fs::write(&path, compile(KERNEL, "compute_80").to_src()).unwrap();
    let loaded = result::module::load(CString::new(path.to_str().unwrap()).unwrap());
    let _ = std::fs::remove_file(&path);
    let (plus, shared) = (gpu.function(KERNEL, "plus"), gpu.function(KERNEL, "shared"));
    use sys::CUfunction_attribute_enum::*;
    // SAFETY: handles that are alive.
    unsafe {
        let module = loaded.unwrap();
        result::module::get_function(module, c"plus".to_owned()).unwrap();
        result::module::unload(module).unwrap();
        let bytes =
            result::function::get_function_attribute(handle(&shared), CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES);
        assert_eq!(bytes.unwrap(), 40960);
        let cache = sys::CUfunc_cache::CU_FUNC_CACHE_PREFER_SHARED;
        result::function::set_function_cache_config(handle(&plus), cache).unwrap();
        use result::occupancy::*;
        // 2048 threads a multiprocessor; 164 KiB of shared memory, of which a block takes 41.
        assert_eq!(max_active_block_per_multiprocessor(handle(&plus), 256, 0).unwrap(), 8);
        assert_eq!(max_active_block_per_multiprocessor(handle(&plus), 33, 0).unwrap(), 32);
        assert_eq!(max_active_block_per_multiprocessor(handle(&shared), 32, 0).unwrap(), 4);
        assert_eq!(max_active_block_per_multiprocessor_with_flags(handle(&plus), 1024, 0, 0).unwrap(), 2);
        assert_eq!(max_potential_block_size(handle(&plus), None, 0, 0).unwrap(), (216, 1024));
        assert_eq!(max_potential_block_size(handle(&plus), None, 0, 128).unwrap(), (108 * 16, 128));
        assert_eq!(max_potential_block_size_with_flags(handle(&plus), None, 0, 0, 0).unwrap(), (216, 1024));
        assert_eq!(available_dynamic_shared_mem_per_block(handle(&plus), 4, 32).unwrap(), 40 << 10);
        let mut count = 0;
        let config: sys::CUlaunchConfig = std::mem::zeroed();
        // Clusters are not there.
        let clusters = sys::cuOccupancyMaxActiveClusters(&mut count, handle(&plus), &config);
        assert_eq!(clusters, CUDA_ERROR_NOT_SUPPORTED);
        let size = sys::cuOccupancyMaxPotentialClusterSize(&mut count, handle(&plus), &config);
        assert_eq!(size, CUDA_ERROR_NOT_SUPPORTED);
    }
}

#[test]
fn launches_of_other_kinds() {
    let _turn = alone();
    let Some(gpu) = open() else { return };
    let plus = gpu.function(KERNEL, "plus");
    let mut x = gpu.stream.alloc_zeros::<i32>(32).unwrap();
    let stream = gpu.stream.cu_stream();
    let mut launch = gpu.stream.launch_builder(&plus);
    launch.arg(&mut x).arg(&1i32);
    // SAFETY: the kernel's parameters.
    unsafe { launch.launch_cooperative(shape(1, 32)) }.unwrap();
    // The two parameters in one buffer.
    let address = x.device_ptr(&gpu.stream).0;
    let mut packed = [0u8; 12];
    packed[..8].copy_from_slice(&address.to_le_bytes());
    packed[8..].copy_from_slice(&10i32.to_le_bytes());
    let mut bytes = 12usize;
    let launch = |bytes: *mut usize, packed: *mut u8| {
        let mut extra: [*mut c_void; 5] = [1 as _, packed.cast(), 2 as _, bytes.cast(), null_mut()];
        // SAFETY: keys and values as the API describes them.
        unsafe {
            sys::cuLaunchKernel(handle(&plus), 1, 1, 1, 32, 1, 1, 0, stream, null_mut(), extra.as_mut_ptr())
        }
    };
    ok(launch(&mut bytes, packed.as_mut_ptr()));
    bytes = 11;
    assert_eq!(launch(&mut bytes, packed.as_mut_ptr()), CUDA_ERROR_INVALID_VALUE);
    assert_eq!(gpu.stream.clone_dtoh(&x).unwrap(), [11; 32]);
    // A graph that is uploaded before it is launched.
    // SAFETY: one stream, whose work the test orders itself.
    unsafe { gpu.context.disable_event_tracking() };
    let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
    gpu.stream.begin_capture(mode).unwrap();
    let mut launch = gpu.stream.launch_builder(&plus);
    launch.arg(&mut x).arg(&100i32);
    // SAFETY: the kernel's parameters.
    unsafe { launch.launch(shape(1, 32)) }.unwrap();
    let graph = gpu.stream.end_capture(sys::CUgraphInstantiate_flags(0)).unwrap().unwrap();
    graph.upload().unwrap();
    graph.launch().unwrap();
    assert_eq!(gpu.stream.clone_dtoh(&x).unwrap(), [111; 32]);
}

#[test]
fn there_are_no_private_tables() {
    let _turn = alone();
    if super::gpu::simulator().is_none() {
        return;
    }
    // SAFETY: the function's type; NVRTC asks in this way.
    let result = unsafe {
        let ask = cudarc::driver::sys::culib()
            .get::<unsafe extern "C" fn(*mut *const c_void, *const c_void) -> i32>(b"cuGetExportTable\0")
            .unwrap();
        let mut table = std::ptr::dangling();
        let result = ask(&mut table, std::ptr::null());
        assert!(table.is_null());
        result
    };
    assert_eq!(result, CUDA_ERROR_NOT_FOUND as i32);
}
