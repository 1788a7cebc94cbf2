//! Runs launches over plain buffers on the simulated GPU.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use cudarc::driver::{CudaContext, result, sys};
use tessera::device::cuda::compile::Unit;
use tessera::device::cuda::launch::{Argument, Function, Launch};

use crate::harness;
use crate::toolkit::ptx;

/// Contents of a buffer.
#[derive(Clone, PartialEq, Debug)]
pub enum Values {
    Real(Vec<f32>),
    Bytes(Vec<u8>),
}

impl Values {
    pub fn real(&self) -> &[f32] {
        match self {
            Values::Real(v) => v,
            Values::Bytes(_) => panic!("not real"),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Values::Real(v) => v.len(),
            Values::Bytes(v) => v.len(),
        }
    }

    pub fn bytes(&self) -> &[u8] {
        match self {
            Values::Bytes(v) => v,
            Values::Real(_) => panic!("not bytes"),
        }
    }
}

/// Device memory of a buffer, with a fence of bytes behind it that nobody may touch.
struct Memory {
    address: sys::CUdeviceptr,
    bytes: usize,
}

const FENCE: usize = 64;

impl Memory {
    fn new(bytes: usize) -> Self {
        // SAFETY: a context is current.
        let address = unsafe { result::malloc_sync(bytes + FENCE) }.unwrap();
        let memory = Memory { address, bytes };
        // SAFETY: the fence lies within the allocation.
        unsafe { result::memcpy_htod_sync(address + bytes as u64, &[0xa5_u8; FENCE]) }.unwrap();
        memory
    }

    fn of(values: &Values) -> Self {
        let bytes: &[u8] = match values {
            Values::Real(v) => bytemuck::cast_slice(v),
            Values::Bytes(v) => v,
        };
        let memory = Memory::new(bytes.len());
        // SAFETY: as many bytes as the allocation holds.
        unsafe { result::memcpy_htod_sync(memory.address, bytes) }.unwrap();
        memory
    }

    fn read<T: bytemuck::Pod>(&self) -> Vec<T> {
        let mut bytes = vec![0_u8; self.bytes + FENCE];
        // SAFETY: as many bytes as the allocation holds.
        unsafe { result::memcpy_dtoh_sync(&mut bytes, self.address) }.unwrap();
        assert!(bytes[self.bytes..].iter().all(|&b| b == 0xa5), "written behind the end");
        bytemuck::pod_collect_to_vec(&bytes[..self.bytes])
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`, freed once.
        let _ = unsafe { result::free_sync(self.address) };
    }
}

/// The GPU.
pub struct Gpu {
    context: Arc<CudaContext>,
    modules: HashMap<Function, usize>,
}

/// The GPU, one user at a time, if there is one.
pub fn gpu() -> Option<MutexGuard<'static, Gpu>> {
    harness::gpu()?;
    static GPU: OnceLock<Mutex<Gpu>> = OnceLock::new();
    let gpu = GPU.get_or_init(|| {
        let context = CudaContext::new(0).unwrap();
        Mutex::new(Gpu { context, modules: HashMap::new() })
    });
    let gpu = gpu.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    gpu.context.bind_to_thread().unwrap();
    Some(gpu)
}

/// A function of the simulated driver's own.
fn own<T>(name: &CStr) -> T {
    // SAFETY: looks a name up among the libraries that are loaded.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    assert!(!address.is_null() && size_of::<T>() == size_of_val(&address), "no {name:?} in this driver");
    // SAFETY: `T` is the pointer to a C function that tests/simgpu/README.md says this is.
    unsafe { std::mem::transmute_copy(&address) }
}

fn set_checks(names: &str) {
    let names = CString::new(names).unwrap();
    // SAFETY: a C string, alive during the call.
    let status =
        unsafe { own::<unsafe extern "C" fn(*const c_char) -> c_int>(c"simgpu_set_checks")(names.as_ptr()) };
    assert_eq!(status, 0, "{names:?}");
}

/// What kernels did to memory, by name.
pub type Counters = serde_json::Value;

impl Gpu {
    /// What the simulated GPU counts while `work` runs.
    pub fn count(&mut self, work: impl FnOnce(&mut Gpu)) -> Counters {
        set_checks("count");
        own::<extern "C" fn()>(c"simgpu_reset_counters")();
        work(self);
        // SAFETY: a C string that stays until this thread asks for the next.
        let text =
            unsafe { CStr::from_ptr(own::<extern "C" fn() -> *const c_char>(c"simgpu_counters_json")()) };
        let counters = serde_json::from_slice(text.to_bytes()).unwrap();
        set_checks(&std::env::var("SIMGPU_CHECK").unwrap_or_default());
        counters
    }

    fn function(&mut self, function: &Function) -> sys::CUfunction {
        let known = self.modules.entry(function.clone()).or_insert_with(|| {
            let ptx = CString::new(&*ptx(&Unit::of(function))).unwrap();
            let entry = CString::new(&*function.entry).unwrap();
            // SAFETY: PTX text with its zero, alive during the call; the module is never unloaded.
            let handle = unsafe {
                let module = result::module::load_data(ptx.as_ptr().cast()).unwrap();
                result::module::get_function(module, entry).unwrap()
            };
            if function.dynamic_shared > 48 << 10 {
                let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                // SAFETY: a function that exists.
                unsafe {
                    result::function::set_function_attribute(
                        handle,
                        attribute,
                        function.dynamic_shared as i32,
                    )
                }
                .unwrap();
            }
            handle as usize
        });
        *known as sys::CUfunction
    }

    /// Runs launches in order. `writes` gives kinds and lengths; returns what was written.
    pub fn run(
        &mut self,
        launches: &[Launch],
        reads: &[Values],
        writes: &[Values],
        workspace: usize,
    ) -> Vec<Values> {
        let read: Vec<Memory> = reads.iter().map(Memory::of).collect();
        let written: Vec<Memory> = writes
            .iter()
            .map(|w| match w {
                Values::Real(v) => Memory::new(4 * v.len()),
                Values::Bytes(v) => Memory::new(v.len()),
            })
            .collect();
        let scratch = Memory::new(4 * workspace);
        for launch in launches {
            let function = self.function(&launch.function);
            let mut tables = Vec::new();
            let word = |argument: &Argument| match argument {
                Argument::Read(i) => read[*i].address,
                Argument::Write(i) => written[*i].address,
                Argument::Workspace(at) => scratch.address + 4 * *at as u64,
                Argument::Null => 0,
                Argument::U64(v) => *v,
                other => panic!("{other:?} is not eight bytes"),
            };
            let mut arguments: Vec<Vec<u8>> = launch
                .arguments
                .iter()
                .map(|argument| match argument {
                    Argument::U32(v) => v.to_ne_bytes().to_vec(),
                    Argument::F32(v) => v.to_ne_bytes().to_vec(),
                    Argument::Bytes(v) => v.clone(),
                    Argument::Table(rows) => {
                        let bytes = rows.iter().flat_map(|row| word(row).to_ne_bytes()).collect();
                        tables.push(Memory::of(&Values::Bytes(bytes)));
                        tables[tables.len() - 1].address.to_ne_bytes().to_vec()
                    }
                    other => word(other).to_ne_bytes().to_vec(),
                })
                .collect();
            let mut pointers: Vec<*mut c_void> =
                arguments.iter_mut().map(|a| a.as_mut_ptr().cast()).collect();
            let [gx, gy, gz] = launch.grid;
            let [bx, by, bz] = launch.block;
            // SAFETY: arguments as the kernel declares them; the buffers live until the end of this function.
            unsafe {
                result::launch_kernel(
                    function,
                    (gx, gy, gz),
                    (bx, by, bz),
                    launch.function.dynamic_shared,
                    std::ptr::null_mut(),
                    &mut pointers,
                )
            }
            .unwrap_or_else(|error| panic!("{launch:?}: {error:?}"));
            self.context.synchronize().unwrap_or_else(|error| panic!("{launch:?}: {error:?}"));
        }
        read.iter().for_each(|m| drop(m.read::<u8>()));
        drop(scratch.read::<u8>());
        writes
            .iter()
            .zip(&written)
            .map(|(w, memory)| match w {
                Values::Real(_) => Values::Real(memory.read()),
                Values::Bytes(_) => Values::Bytes(memory.read()),
            })
            .collect()
    }
}
