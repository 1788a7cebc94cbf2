//! The CUDA driver, loaded at run time if it is there: contexts, streams, memory, modules and graphs as owned
//! values, every refusal as an error with a reason.
//!
//! `cudarc` panics when a library or a symbol is missing, so both are asked for before anything is called.

use std::ffi::{CStr, CString, c_void};
use std::sync::{Arc, Mutex, OnceLock};

use cudarc::driver::{result, sys};

use super::watch::{Launched, Watcher};
use crate::error::{Error, Result};

/// Every function that this device calls.
const FUNCTIONS: &[&str] = &[
    "cuInit",
    "cuDriverGetVersion",
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuDeviceGetName",
    "cuDeviceGetAttribute",
    "cuDeviceTotalMem_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxSetCurrent",
    "cuMemGetInfo_v2",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemHostAlloc",
    "cuMemFreeHost",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemsetD8Async",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuStreamBeginCapture_v2",
    "cuStreamEndCapture",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuEventCreate",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuEventElapsedTime",
    "cuEventDestroy_v2",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuModuleGetFunction",
    "cuFuncSetAttribute",
    "cuLaunchKernel",
    "cuGetErrorName",
    "cuGetErrorString",
];

/// What drivers before CUDA 12 lack, and what they are called.
const OLDEST: i32 = 12000;

/// A refusal of the driver, in words.
pub(super) fn refused(action: &str, error: result::DriverError) -> Error {
    let text = |found: Result<&CStr, result::DriverError>| {
        found.map_or_else(|_| format!("{:?}", error.0), |t| t.to_string_lossy().into_owned())
    };
    Error::Device(format!(
        "CUDA cannot {action}: {} ({})",
        text(error.error_string()),
        text(error.error_name())
    ))
}

/// Words for the version that the driver reports as a number.
pub fn version_text(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

/// Makes the driver ready, once a process; the version of CUDA that it supports, or why it cannot be had.
pub fn version() -> Result<i32> {
    static VERSION: OnceLock<Result<i32, String>> = OnceLock::new();
    VERSION.get_or_init(start).clone().map_err(Error::Device)
}

fn start() -> Result<i32, String> {
    // SAFETY: the NVIDIA driver's library, or what the user put in its place, may run its initialisers.
    if !unsafe { sys::is_culib_present() } {
        return Err("CUDA cannot be had: no NVIDIA driver (libcuda.so) is installed".into());
    }
    // SAFETY: the library is there, so this loads it and does not panic.
    let library = unsafe { sys::culib() };
    let missing = FUNCTIONS.iter().find(|name| {
        // SAFETY: the symbol is looked up and not called.
        unsafe { library.get::<*const c_void>(name.as_bytes()) }.is_err()
    });
    if let Some(name) = missing {
        return Err(format!("CUDA cannot be had: the driver is too old, its libcuda.so has no {name}"));
    }
    let name = |e: result::DriverError| format!("CUDA cannot be had: the driver does not start ({:?})", e.0);
    result::init().map_err(name)?;
    let mut version = 0;
    // SAFETY: `version` is a place for one number.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().map_err(name)?;
    if version < OLDEST {
        return Err(format!(
            "CUDA cannot be had: the driver is too old, it supports CUDA {}; at least {} is needed",
            version_text(version),
            version_text(OLDEST)
        ));
    }
    Ok(version)
}

/// What a device says of itself.
#[derive(Clone, Debug)]
pub struct Properties {
    pub ordinal: usize,
    pub name: String,
    /// Compute capability, `80` for 8.0.
    pub architecture: u32,
    pub memory: usize,
    pub multiprocessors: u32,
}

/// Devices of this machine.
pub fn count() -> Result<usize> {
    version()?;
    let count = result::device::get_count().map_err(|e| refused("count the devices", e))?;
    Ok(count.max(0) as usize)
}

/// A device's primary context, held until dropped.
pub struct Context {
    handle: sys::CUcontext,
    device: sys::CUdevice,
    /// Who is told of launches.
    watcher: Mutex<Option<Watcher>>,
    pub properties: Properties,
}

// SAFETY: the driver's functions on contexts may be called from any thread.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    pub fn open(ordinal: usize) -> Result<Arc<Self>> {
        let count = count()?;
        if ordinal >= count {
            let have = match count {
                0 => "this machine has no device".to_string(),
                1 => "this machine has one device, number 0".to_string(),
                n => format!("this machine has devices 0 to {}", n - 1),
            };
            return Err(Error::Device(format!("CUDA cannot be had: no device number {ordinal}; {have}")));
        }
        let asked = |e| refused("ask the device", e);
        let device = result::device::get(ordinal as i32).map_err(asked)?;
        let attribute = |which| {
            // SAFETY: the device exists.
            unsafe { result::device::get_attribute(device, which) }.map_err(asked)
        };
        use sys::CUdevice_attribute_enum as A;
        let major = attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let properties = Properties {
            ordinal,
            name: result::device::get_name(device).map_err(asked)?,
            architecture: (10 * major + minor) as u32,
            // SAFETY: the device exists.
            memory: unsafe { result::device::total_mem(device) }.map_err(asked)?,
            multiprocessors: attribute(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as u32,
        };
        // SAFETY: the device exists; the context is released when dropped.
        let handle = unsafe { result::primary_ctx::retain(device) }.map_err(|e| refused("be started", e))?;
        let context = Context { handle, device, watcher: Mutex::default(), properties };
        context.enter()?;
        Ok(Arc::new(context))
    }

    /// Makes this context the calling thread's. Everything below needs it.
    pub fn enter(&self) -> Result<()> {
        // SAFETY: the context is held by `self`.
        unsafe { result::ctx::set_current(self.handle) }.map_err(|e| refused("be used from this thread", e))
    }

    /// Says who is told of every launch from now on, of all streams.
    pub fn watch(&self, watcher: Option<Watcher>) {
        *self.watcher.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = watcher;
    }

    /// Free and total bytes of device memory.
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.enter()?;
        result::mem_get_info().map_err(|e| refused("ask for free memory", e))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once in `open`; everything that was made in it holds an `Arc` of it.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

/// Memory of a device.
pub struct Memory {
    context: Arc<Context>,
    address: u64,
    bytes: usize,
}

impl Memory {
    /// Memory of undefined content. `purpose` is told if there is not enough.
    pub fn new(context: &Arc<Context>, bytes: usize, purpose: &str) -> Result<Self> {
        context.enter()?;
        // SAFETY: the memory is freed once, when dropped.
        match unsafe { result::malloc_sync(bytes.max(1)) } {
            Ok(address) => Ok(Memory { context: context.clone(), address, bytes }),
            Err(e) if e.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                let (free, all) = context.memory()?;
                Err(Error::Device(format!(
                    "out of memory on cuda:{}: {purpose} needs {bytes} bytes ({:.1} MiB); {:.1} of {:.1} MiB are free",
                    context.properties.ordinal,
                    mib(bytes),
                    mib(free),
                    mib(all)
                )))
            }
            Err(e) => Err(refused("allocate memory", e)),
        }
    }

    pub fn address(&self) -> u64 {
        self.address
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

pub fn mib(bytes: usize) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = self.context.enter();
        // SAFETY: allocated in `new`. The driver waits for work that uses it.
        let _ = unsafe { result::free_sync(self.address) };
    }
}

/// Host memory that the device copies from while the host goes on.
pub struct Pinned {
    context: Arc<Context>,
    pointer: *mut u8,
    bytes: usize,
    /// Passed by the stream when the last copy from here is done.
    event: sys::CUevent,
    used: bool,
}

impl Pinned {
    pub fn new(context: &Arc<Context>, bytes: usize) -> Result<Self> {
        context.enter()?;
        // SAFETY: both are given back once, when dropped.
        let pointer = unsafe { result::malloc_host(bytes.max(1), 0) };
        let pointer = pointer.map_err(|e| refused("allocate page-locked memory", e))?.cast::<u8>();
        let event = result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)
            .map_err(|e| refused("make an event", e))?;
        Ok(Pinned { context: context.clone(), pointer, bytes, event, used: false })
    }

    /// The memory, once nothing copies from it.
    pub fn free(&mut self) -> Result<&mut [u8]> {
        if self.used {
            self.context.enter()?;
            // SAFETY: the event is held by `self`.
            unsafe { result::event::synchronize(self.event) }
                .map_err(|e| refused("finish earlier work", e))?;
            self.used = false;
        }
        // SAFETY: allocated with this size; the borrow is exclusive, and no copy is under way.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.pointer, self.bytes) })
    }

    /// Starts to copy the first `bytes` bytes.
    pub fn send(&mut self, stream: &Stream, to: u64, bytes: usize) -> Result<()> {
        debug_assert!(bytes <= self.bytes);
        self.context.enter()?;
        // SAFETY: allocated with this size; `free` waits for the event before anything is changed here.
        let from = unsafe { std::slice::from_raw_parts(self.pointer, bytes) };
        self.used = true;
        // SAFETY: the caller's address holds as many bytes.
        unsafe { result::memcpy_htod_async(to, from, stream.handle) }
            .map_err(|e| refused("copy to the device", e))?;
        // SAFETY: event and stream are of this context.
        unsafe { result::event::record(self.event, stream.handle) }.map_err(|e| refused("mark a copy", e))
    }
}

impl Pinned {
    /// Words of the device at these addresses, once all work on the stream is done: any number of them for
    /// one wait.
    pub fn fetch(
        &mut self,
        stream: &Stream,
        addresses: impl ExactSizeIterator<Item = u64>,
    ) -> Result<&[u32]> {
        let count = addresses.len();
        let words: &mut [u32] = bytemuck::cast_slice_mut(self.free()?);
        if words.len() < count {
            return Err(Error::Device(format!("{count} single values are more than {}", words.len())));
        }
        stream.context.enter()?;
        for (word, from) in words.iter_mut().zip(addresses) {
            // SAFETY: callers name words of the device; the host's word lives until the wait below.
            unsafe { result::memcpy_dtoh_async(std::slice::from_mut(word), from, stream.handle) }
                .map_err(|e| refused("copy from the device", e))?;
        }
        stream.synchronize()?;
        Ok(&words[..count])
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = self.free().is_ok();
        let _ = self.context.enter();
        // SAFETY: made in `new`, and no copy is under way.
        unsafe {
            let _ = result::event::destroy(self.event);
            let _ = result::free_host(self.pointer.cast());
        }
    }
}

/// An order of work on a device.
pub struct Stream {
    context: Arc<Context>,
    handle: sys::CUstream,
}

impl Stream {
    pub fn new(context: &Arc<Context>) -> Result<Self> {
        context.enter()?;
        let handle = result::stream::create(result::stream::StreamKind::NonBlocking)
            .map_err(|e| refused("make a stream", e))?;
        Ok(Stream { context: context.clone(), handle })
    }

    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub fn synchronize(&self) -> Result<()> {
        self.context.enter()?;
        // SAFETY: the stream is held by `self`.
        unsafe { result::stream::synchronize(self.handle) }.map_err(|e| refused("finish earlier work", e))
    }

    pub fn zero(&self, memory: &Memory) -> Result<()> {
        self.context.enter()?;
        if memory.bytes == 0 {
            return Ok(());
        }
        // SAFETY: the memory has that many bytes.
        unsafe { result::memset_d8_async(memory.address, 0, memory.bytes, self.handle) }
            .map_err(|e| refused("clear memory", e))
    }

    /// Copies to the device. The bytes may be changed as soon as this returns.
    pub fn upload(&self, to: u64, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.context.enter()?;
        // SAFETY: callers name memory of at least that many bytes; the driver has read pageable memory
        // when the call returns.
        unsafe { result::memcpy_htod_async(to, bytes, self.handle) }
            .map_err(|e| refused("copy to the device", e))
    }

    /// Copies from the device, and waits.
    pub fn download(&self, bytes: &mut [u8], from: u64) -> Result<()> {
        if bytes.is_empty() {
            return self.synchronize();
        }
        self.context.enter()?;
        // SAFETY: callers name memory of at least that many bytes, and the copy is waited for.
        unsafe { result::memcpy_dtoh_async(bytes, from, self.handle) }
            .map_err(|e| refused("copy from the device", e))?;
        self.synchronize()
    }

    /// Starts a function. `parameters` point to values of the sizes that the function declares.
    ///
    /// # Safety
    /// The values must be those that the function expects: addresses of live memory that is large enough.
    pub unsafe fn launch(
        &self,
        function: &Function,
        grid: [u32; 3],
        block: [u32; 3],
        parameters: &mut [*mut c_void],
    ) -> Result<()> {
        let mut start = || {
            let ([gx, gy, gz], [bx, by, bz]) = (grid, block);
            // SAFETY: the function is of a loaded module, which `function` holds; the rest is the caller's.
            unsafe {
                result::launch_kernel(
                    function.handle,
                    (gx, gy, gz),
                    (bx, by, bz),
                    function.dynamic_shared,
                    self.handle,
                    parameters,
                )
            }
            .map_err(|e| refused("start a kernel", e))
        };
        let mut watcher = self.context.watcher.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Some(watcher) = watcher.as_mut() else { return start() };
        let milliseconds = self.timed(start)?;
        watcher(&Launched { entry: &function.entry, grid, block, milliseconds });
        Ok(())
    }

    /// The driver's handle, for events.
    pub(super) fn handle(&self) -> sys::CUstream {
        self.handle
    }

    /// Records what `work` starts on this stream as a graph, and does not run it.
    pub fn record(&self, work: impl FnOnce() -> Result<()>) -> Result<Graph> {
        self.context.enter()?;
        let captured = |e| refused("record a graph", e);
        let mode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is held by `self`, and is not recording.
        unsafe { result::stream::begin_capture(self.handle, mode) }.map_err(captured)?;
        let done = work();
        // SAFETY: recording was begun above.
        let graph = unsafe { result::stream::end_capture(self.handle) };
        done?;
        let graph = graph.map_err(captured)?;
        // SAFETY: the graph was just made; it is no longer needed once it is instantiated.
        let handle = unsafe { result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)) };
        // SAFETY: as above.
        let _ = unsafe { result::graph::destroy(graph) };
        Ok(Graph { context: self.context.clone(), handle: handle.map_err(captured)? })
    }

    pub fn replay(&self, graph: &Graph) -> Result<()> {
        self.context.enter()?;
        // SAFETY: the graph is held by the caller, and is of this context.
        unsafe { result::graph::launch(graph.handle, self.handle) }.map_err(|e| refused("run a graph", e))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.synchronize().is_ok();
        // SAFETY: made in `new`.
        let _ = unsafe { result::stream::destroy(self.handle) };
    }
}

/// A recorded order of work.
pub struct Graph {
    context: Arc<Context>,
    handle: sys::CUgraphExec,
}

impl Drop for Graph {
    fn drop(&mut self) {
        let _ = self.context.enter();
        // SAFETY: made in `Stream::record`.
        let _ = unsafe { result::graph::exec_destroy(self.handle) };
    }
}

/// Compiled code on a device.
pub struct Module {
    context: Arc<Context>,
    handle: sys::CUmodule,
}

/// Why an image was not loaded.
pub enum Refusal {
    /// The driver does not take this kind of image; another may do.
    Image,
    Other(Error),
}

impl Module {
    /// Loads CUBIN, or PTX that ends with a zero byte.
    pub fn load(context: &Arc<Context>, image: &[u8]) -> Result<Self, Refusal> {
        use sys::CUresult as R;
        context.enter().map_err(Refusal::Other)?;
        // SAFETY: CUBIN says how long it is, PTX ends with a zero byte.
        match unsafe { result::module::load_data(image.as_ptr().cast()) } {
            Ok(handle) => Ok(Module { context: context.clone(), handle }),
            Err(e) => match e.0 {
                R::CUDA_ERROR_INVALID_IMAGE
                | R::CUDA_ERROR_NO_BINARY_FOR_GPU
                | R::CUDA_ERROR_UNSUPPORTED_PTX_VERSION
                | R::CUDA_ERROR_INVALID_SOURCE
                | R::CUDA_ERROR_NOT_SUPPORTED
                | R::CUDA_ERROR_JIT_COMPILER_NOT_FOUND => Err(Refusal::Image),
                _ => Err(Refusal::Other(refused("load a compiled kernel", e))),
            },
        }
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let _ = self.context.enter();
        // SAFETY: loaded in `load`; functions hold an `Arc` of their module.
        let _ = unsafe { result::module::unload(self.handle) };
    }
}

/// A function of a module, with the dynamic shared memory that it is launched with.
#[derive(Clone)]
pub struct Function {
    handle: sys::CUfunction,
    entry: Arc<str>,
    dynamic_shared: u32,
    _module: Arc<Module>,
}

/// Dynamic shared memory that every function may have.
const USUAL_SHARED: u32 = 48 << 10;

impl Function {
    pub fn new(module: &Arc<Module>, entry: &str, dynamic_shared: u32) -> Result<Self> {
        module.context.enter()?;
        let name = CString::new(entry)
            .map_err(|_| Error::Device(format!("'{entry}' is not the name of a kernel")))?;
        // SAFETY: the module is loaded.
        let handle = unsafe { result::module::get_function(module.handle, name) }
            .map_err(|e| refused(&format!("find the kernel {entry}"), e))?;
        if dynamic_shared > USUAL_SHARED {
            let most = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function was just found.
            unsafe { result::function::set_function_attribute(handle, most, dynamic_shared as i32) }
                .map_err(|e| refused(&format!("give {entry} {dynamic_shared} bytes of shared memory"), e))?;
        }
        Ok(Function { handle, entry: entry.into(), dynamic_shared, _module: module.clone() })
    }
}
