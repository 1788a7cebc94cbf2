//! Modules: PTX text → variables in device memory and functions ready to run.

use super::device::{SHARED_DEFAULT, THREADS_A_BLOCK, shared_optin};
use super::{Answer, Driver, Handle, Out, errors, offer, put, ready};
use crate::exec::instruction::Program;
use crate::exec::memory::{self, Owner};
use crate::lower::{self, Lowering, Symbols};
use crate::ptx::ast::{Initial, Space, Variable};
use crate::status::Status;
use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

pub struct Module {
    functions: HashMap<String, Handle>,
    /// Address and bytes of each variable.
    variables: HashMap<String, (u64, usize)>,
}

pub struct Function {
    pub program: Arc<Program>,
    module: Handle,
    ptx_version: c_int,
    target: c_int,
    /// Dynamic shared memory that a launch may ask for.
    max_dynamic: AtomicI32,
    carveout: AtomicI32,
}

impl Function {
    pub fn max_dynamic(&self) -> usize {
        self.max_dynamic.load(Relaxed).max(0) as usize
    }

    /// Threads that a block of it may have.
    pub fn max_threads(&self) -> u32 {
        match self.program.max_threads {
            0 => THREADS_A_BLOCK,
            limit => limit.min(THREADS_A_BLOCK),
        }
    }
}

/// The kinds of image that are not PTX text.
fn refuse_binary(start: &[u8]) -> Answer {
    let is_elf = start.starts_with(b"\x7fELF");
    let is_fatbin =
        start.starts_with(&[0x50, 0xed, 0x55, 0xba]) || start.starts_with(&[0xb1, 0x43, 0x62, 0x46]);
    if is_elf || is_fatbin {
        errors::remember("machine code cannot be executed here; load the PTX of the kernel".into());
        return Err(Status::NoBinaryForGpu);
    }
    Ok(())
}

fn refused(error: String) -> Status {
    errors::note(format!("module refused: {error}"));
    Status::InvalidPtx
}

/// Loads PTX text.
fn load(source: &str) -> Answer<Handle> {
    let parsed = crate::ptx::parse(source).map_err(refused)?;
    let arch = crate::config::get().arch;
    if parsed.target > arch.0 * 10 + arch.1 {
        errors::note(format!(
            "module refused: PTX for sm_{}, the device is sm_{}{}",
            parsed.target, arch.0, arch.1
        ));
        return Err(Status::NoBinaryForGpu);
    }
    let places = place_variables(&parsed.variables)?;
    let symbols: Symbols = places.iter().map(|(name, &(address, _))| (name.clone(), address)).collect();
    let result = initialise(&parsed.variables, &symbols).and_then(|()| {
        let entries = parsed.functions.iter().filter(|function| function.is_entry && function.body.is_some());
        let lowered: Result<Vec<Program>, String> = entries
            .map(|function| {
                lower::kernel(&parsed, function, &symbols)
                    .map_err(|error| format!("kernel {}: {error}", function.name))
            })
            .collect();
        lowered.map_err(refused)
    });
    let programs = result.inspect_err(|_| free_variables(&places))?;
    let mut driver = ready()?;
    let module = driver.fresh();
    let mut functions = HashMap::new();
    for program in programs {
        let handle = driver.fresh();
        functions.insert(program.name.clone(), handle);
        let room = (SHARED_DEFAULT as c_int - program.static_shared as c_int).max(0);
        let function = Function {
            program: Arc::new(program),
            module,
            ptx_version: parsed.version as c_int,
            target: parsed.target as c_int,
            max_dynamic: room.into(),
            carveout: (-1).into(),
        };
        driver.functions.insert(handle, Arc::new(function));
    }
    driver.modules.insert(module, Module { functions, variables: places });
    Ok(module)
}

type Places = HashMap<String, (u64, usize)>;

fn is_in_memory(variable: &Variable) -> bool {
    matches!(variable.space, Space::Global | Space::Const) && !variable.is_extern && variable.size > 0
}

fn place_variables(variables: &[Variable]) -> Answer<Places> {
    let mut places = Places::new();
    for variable in variables.iter().filter(|variable| is_in_memory(variable)) {
        let allocation = super::memory::allocate(variable.size, Owner::Module, false)
            .inspect_err(|_| free_variables(&places))?;
        places.insert(variable.name.clone(), (allocation.start, variable.size));
    }
    Ok(places)
}

fn free_variables(places: &Places) {
    let mut memory = memory::lock();
    for &(address, _) in places.values() {
        memory.free(address, Owner::Module);
    }
}

/// Writes initial values; what has none is zero.
fn initialise(variables: &[Variable], symbols: &Symbols) -> Answer {
    for variable in variables.iter().filter(|variable| is_in_memory(variable)) {
        let mut bytes = Vec::with_capacity(variable.size);
        for piece in &variable.initial {
            let value = match piece {
                Initial::Number(number) => Lowering::literal(*number, variable.ty),
                Initial::Address(name, offset) => {
                    let address = symbols.get(name).ok_or_else(|| refused(format!("no variable {name}")))?;
                    address.wrapping_add(*offset as u64)
                }
            };
            bytes.extend_from_slice(&value.to_le_bytes()[..variable.ty.size().max(1)]);
        }
        bytes.resize(variable.size, 0);
        let address = symbols[&variable.name];
        // SAFETY: the variable's own allocation, of this size, which nothing else knows yet.
        unsafe { (address as *mut u8).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        if let Some(allocation) = memory::lock().find(address, variable.size as u64) {
            allocation.mark(address, variable.size as u64);
        }
    }
    Ok(())
}

/// The text of an image that ends with a zero.
fn load_image(image: *const c_void) -> Answer<Handle> {
    drop(ready()?);
    if image.is_null() {
        return Err(Status::InvalidValue);
    }
    let mut start = Vec::new();
    while start.len() < 4 && start.last() != Some(&0) {
        // SAFETY: an image is text with a zero at its end, or has a header of more than these bytes.
        start.push(unsafe { image.cast::<u8>().add(start.len()).read() });
    }
    refuse_binary(&start)?;
    // SAFETY: as it is no binary it is text with a zero at its end.
    let text = unsafe { CStr::from_ptr(image.cast()) };
    load(&text.to_string_lossy())
}

fn load_file(path: &CStr) -> Answer<Handle> {
    drop(ready()?);
    let bytes = std::fs::read(path.to_string_lossy().as_ref()).map_err(|_| Status::FileNotFound)?;
    refuse_binary(&bytes)?;
    load(&String::from_utf8_lossy(&bytes))
}

/// A name that the caller gave.
///
/// # Safety
///
/// The pointer is null or a C string that outlives `'a`.
pub unsafe fn text<'a>(name: *const c_char) -> Answer<&'a CStr> {
    if name.is_null() {
        return Err(Status::InvalidValue);
    }
    // SAFETY: promised by the caller.
    Ok(unsafe { CStr::from_ptr(name) })
}

pub fn function(driver: &Driver, handle: Handle) -> Answer<Arc<Function>> {
    driver.functions.get(&handle).cloned().ok_or(Status::InvalidHandle)
}

fn module(driver: &Driver, handle: Handle) -> Answer<&Module> {
    driver.modules.get(&handle).ok_or(Status::InvalidHandle)
}

const MAX_DYNAMIC_SHARED: c_int = 8;
const CARVEOUT: c_int = 9;

/// The value of a `CUfunction_attribute`.
fn attribute(function: &Function, number: c_int) -> Answer<c_int> {
    let program = &function.program;
    Ok(match number {
        0 => function.max_threads() as c_int,
        1 => program.static_shared as c_int,
        2 => 0,
        3 => program.local as c_int,
        // An upper bound: the registers of the PTX, of which a compiler would need fewer.
        4 => program.registers.clamp(16, 255) as c_int,
        5 => function.ptx_version,
        6 => function.target,
        7 => 0,
        MAX_DYNAMIC_SHARED => function.max_dynamic.load(Relaxed),
        CARVEOUT => function.carveout.load(Relaxed),
        10..=15 => 0,
        _ => return Err(Status::InvalidValue),
    })
}

fn set_attribute(function: &Function, number: c_int, value: c_int) -> Answer {
    match number {
        MAX_DYNAMIC_SHARED => {
            let room = shared_optin().saturating_sub(function.program.static_shared);
            if value < 0 || value as usize > room {
                return Err(Status::InvalidValue);
            }
            function.max_dynamic.store(value, Relaxed);
        }
        CARVEOUT => function.carveout.store(value, Relaxed),
        // Clusters are not there.
        10..=15 => {}
        _ => return Err(Status::InvalidValue),
    }
    Ok(())
}

super::api! {
    fn cuModuleLoadData(out: Out<Handle>, image: *const c_void) { put(out, load_image(image)?) }

    fn cuModuleLoad(out: Out<Handle>, path: *const c_char) {
        // SAFETY: promised by the caller of the API.
        let path = unsafe { text(path) }?;
        put(out, load_file(path)?)
    }

    fn cuModuleUnload(handle: Handle) {
        let mut driver = super::lock();
        let module = driver.modules.remove(&handle).ok_or(Status::InvalidHandle)?;
        driver.functions.retain(|_, function| function.module != handle);
        drop(driver);
        free_variables(&module.variables);
        Ok(())
    }

    fn cuModuleGetFunction(out: Out<Handle>, handle: Handle, name: *const c_char) {
        // SAFETY: promised by the caller of the API.
        let name = unsafe { text(name) }?.to_string_lossy();
        let driver = ready()?;
        let &found = module(&driver, handle)?.functions.get(name.as_ref()).ok_or(Status::NotFound)?;
        put(out, found)
    }

    fn cuModuleGetGlobal_v2(address: Out<u64>, bytes: Out<usize>, handle: Handle, name: *const c_char) {
        // SAFETY: promised by the caller of the API.
        let name = unsafe { text(name) }?.to_string_lossy();
        let driver = ready()?;
        let &(start, size) = module(&driver, handle)?.variables.get(name.as_ref()).ok_or(Status::NotFound)?;
        offer(address, start);
        offer(bytes, size);
        Ok(())
    }

    fn cuFuncGetAttribute(out: Out<c_int>, number: c_int, handle: Handle) {
        put(out, attribute(&*function(&*ready()?, handle)?, number)?)
    }

    fn cuFuncSetAttribute(handle: Handle, number: c_int, value: c_int) {
        set_attribute(&*function(&*ready()?, handle)?, number, value)
    }

    fn cuFuncSetCacheConfig(handle: Handle, _config: c_int) { function(&*ready()?, handle).map(|_| ()) }
}
