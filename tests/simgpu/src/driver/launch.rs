//! Launches: arguments are read at once, limits are checked as the real driver does.

use super::module::{Function, function};
use super::stream::enqueue;
use super::work::Work;
use super::{Answer, Handle, errors, ready};
use crate::exec::launch::Request;
use crate::status::Status;
use std::ffi::{c_uint, c_void};

/// How the caller passes arguments: a pointer for each, or one packed buffer.
pub type Arguments = *const *const c_void;

/// Keys of the packed form.
mod extra {
    pub const END: usize = 0;
    pub const BUFFER: usize = 1;
    pub const SIZE: usize = 2;
}

/// The bytes of all arguments, each at its offset.
///
/// # Safety
///
/// One of both is an array as the driver API describes it for this function.
unsafe fn arguments(function: &Function, pointers: Arguments, packed: Arguments) -> Answer<Vec<u8>> {
    let program = &function.program;
    let mut bytes = vec![0; program.param_bytes];
    if program.params.is_empty() {
        return Ok(bytes);
    }
    if !pointers.is_null() {
        for (index, param) in program.params.iter().enumerate() {
            // SAFETY: the array has a pointer for each parameter.
            let from = unsafe { *pointers.add(index) };
            if from.is_null() {
                return Err(Status::InvalidValue);
            }
            let to = &mut bytes[param.offset..param.offset + param.size];
            // SAFETY: it points to as many bytes as the parameter has.
            unsafe { to.as_mut_ptr().copy_from_nonoverlapping(from.cast(), param.size) };
        }
        return Ok(bytes);
    }
    if packed.is_null() {
        return Err(Status::InvalidValue);
    }
    let (mut buffer, mut size, mut at) = (std::ptr::null(), 0, 0);
    loop {
        // SAFETY: keys and values alternate until `END`.
        let key = unsafe { *packed.add(at) } as usize;
        if key == extra::END {
            break;
        }
        // SAFETY: as above; the value of `SIZE` is a pointer to a size.
        unsafe {
            match key {
                extra::BUFFER => buffer = *packed.add(at + 1),
                extra::SIZE => size = *(*packed.add(at + 1)).cast::<usize>(),
                _ => return Err(Status::InvalidValue),
            }
        }
        at += 2;
    }
    if buffer.is_null() || size < bytes.len() {
        return Err(Status::InvalidValue);
    }
    // SAFETY: the buffer has `size` bytes.
    unsafe { bytes.as_mut_ptr().copy_from_nonoverlapping(buffer.cast(), bytes.len()) };
    Ok(bytes)
}

/// Refuses sizes that no device of this kind can run, and says why.
fn check(function: &Function, grid: [u32; 3], block: [u32; 3], dynamic: usize) -> Answer {
    let name = &function.program.name;
    let refuse = |status, why: String| {
        errors::note(format!("launch of {name} refused: {why}"));
        Err(status)
    };
    if grid.contains(&0) || grid[0] > i32::MAX as u32 || grid[1] > 65535 || grid[2] > 65535 {
        return refuse(Status::InvalidValue, format!("a grid of {grid:?} blocks"));
    }
    let threads = block.iter().map(|&n| n as u64).product::<u64>();
    if threads == 0 || threads > 1024 || block[2] > 64 {
        return refuse(Status::InvalidValue, format!("blocks of {block:?} threads"));
    }
    if threads > function.max_threads() as u64 {
        let limit = function.max_threads();
        return refuse(
            Status::LaunchOutOfResources,
            format!("{threads} threads a block, it was compiled for {limit}"),
        );
    }
    if dynamic > function.max_dynamic() {
        let limit = function.max_dynamic();
        let why = format!("{dynamic} bytes of dynamic shared memory, the function may have {limit}");
        return refuse(Status::InvalidValue, why);
    }
    Ok(())
}

/// A launch as a value.
///
/// # Safety
///
/// As for `arguments`.
pub unsafe fn prepare(
    handle: Handle,
    grid: [u32; 3],
    block: [u32; 3],
    dynamic: u32,
    pointers: Arguments,
    packed: Arguments,
) -> Answer<Work> {
    let function = function(&*ready()?, handle)?;
    check(&function, grid, block, dynamic as usize)?;
    // SAFETY: promised by the caller.
    let params = unsafe { arguments(&function, pointers, packed) }?;
    let request = Request {
        program: function.program.clone(),
        grid,
        block_size: block,
        dynamic_shared: dynamic as usize,
        params,
    };
    Ok(Work::Kernel(request))
}

super::api! {
    fn cuLaunchKernel(
        handle: Handle,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared: c_uint,
        stream: Handle,
        pointers: Arguments,
        packed: Arguments,
    ) {
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        // SAFETY: promised by the caller of the API.
        let work = unsafe { prepare(handle, grid, block, shared, pointers, packed) }?;
        enqueue(stream, work)
    }

    /// Blocks run one after another, so a kernel whose blocks wait for each other ends with a timeout.
    fn cuLaunchCooperativeKernel(
        handle: Handle,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared: c_uint,
        stream: Handle,
        pointers: Arguments,
    ) {
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        // SAFETY: promised by the caller of the API.
        let work = unsafe { prepare(handle, grid, block, shared, pointers, std::ptr::null()) }?;
        enqueue(stream, work)
    }
}
