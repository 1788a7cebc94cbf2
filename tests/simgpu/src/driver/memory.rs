//! Allocations, copies and fills.

use super::stream::enqueue;
use super::work::{Copy, Fill, Work};
use super::{Answer, Handle, Out, errors, offer, put, ready};
use crate::exec::memory::{self, Allocation, Owner};
use crate::status::Status;
use std::ffi::{c_int, c_uint, c_void};
use std::sync::Arc;

/// New memory; whether its writes are tracked depends on the checks of this moment.
pub fn allocate(bytes: usize, owner: Owner, is_seen_by_host: bool) -> Answer<Arc<Allocation>> {
    if bytes == 0 {
        return Err(Status::InvalidValue);
    }
    // What the host writes through its own pointers is not seen here.
    let track_writes = crate::config::live().checks.init && !is_seen_by_host;
    memory::lock().allocate(bytes, owner, track_writes).ok_or(Status::OutOfMemory)
}

/// Frees device memory, of whichever kind.
fn free(address: u64) -> Answer {
    if address == 0 {
        return Ok(());
    }
    let mut memory = memory::lock();
    if memory.free(address, Owner::Program) || memory.free(address, Owner::Graph) {
        return Ok(());
    }
    let why = memory.explain(address, 1);
    drop(memory);
    errors::note(format!("free of {address:#x}, where no allocation starts: {why}"));
    Err(Status::InvalidValue)
}

/// Frees whatever the error state, which is then returned.
fn free_now(address: u64) -> Answer {
    let state = ready().and_then(|mut driver| driver.mind_captures());
    if matches!(state, Err(Status::StreamCaptureUnsupported | Status::InvalidContext)) {
        return state;
    }
    free(address)?;
    state
}

/// Device memory with a check that none is allocated inside a capture.
fn allocate_now(bytes: usize, owner: Owner, is_seen_by_host: bool) -> Answer<u64> {
    ready()?.mind_captures()?;
    Ok(allocate(bytes, owner, is_seen_by_host)?.start)
}

/// Memory of a stream or, during its capture, of the graph.
pub fn allocate_on(stream: Handle, bytes: usize) -> Answer<u64> {
    if ready()?.capture_of(stream)?.is_none() {
        return Ok(allocate(bytes, Owner::Program, false)?.start);
    }
    let allocation = allocate(bytes, Owner::Graph, false)?;
    let start = allocation.start;
    enqueue(stream, Work::Allocate(allocation))?;
    Ok(start)
}

fn free_on(stream: Handle, address: u64) -> Answer {
    let is_captured = ready().and_then(|mut driver| driver.capture_of(stream));
    match is_captured {
        Ok(Some(_)) => enqueue(stream, Work::Free),
        Ok(None) => free(address),
        Err(status @ (Status::InvalidContext | Status::InvalidHandle)) => Err(status),
        Err(status) => free(address).and(Err(status)),
    }
}

/// A copy that is done when the call returns.
fn copy_now(copy: Copy) -> Answer {
    ready()?.mind_synchronous()?;
    Work::Copy(copy).run()
}

fn copy_on(stream: Handle, copy: Copy) -> Answer {
    enqueue(stream, Work::Copy(copy))
}

fn fill(to: u64, value: u32, element: usize, width: usize, height: usize, pitch: usize) -> Fill {
    Fill { to, value, element, width, height, pitch }
}

fn row(to: u64, value: u32, element: usize, count: usize) -> Fill {
    fill(to, value, element, count, 1, count.saturating_mul(element))
}

fn fill_now(fill: Fill) -> Answer {
    ready()?.mind_synchronous()?;
    Work::Fill(fill).run()
}

fn fill_on(stream: Handle, fill: Fill) -> Answer {
    enqueue(stream, Work::Fill(fill))
}

/// `CUDA_MEMCPY2D`.
#[repr(C)]
pub struct Copy2d {
    from_x: usize,
    from_y: usize,
    from_kind: c_uint,
    from_host: usize,
    from_device: u64,
    from_array: usize,
    from_pitch: usize,
    to_x: usize,
    to_y: usize,
    to_kind: c_uint,
    to_host: usize,
    to_device: u64,
    to_array: usize,
    to_pitch: usize,
    width: usize,
    height: usize,
}

/// `CUmemorytype`.
mod kind {
    pub const HOST: u32 = 1;
    pub const DEVICE: u32 = 2;
    pub const UNIFIED: u32 = 4;
}

impl Copy2d {
    fn plan(plan: Option<&Copy2d>) -> Answer<Copy> {
        let p = plan.ok_or(Status::InvalidValue)?;
        let side = |kind: u32, host: usize, device: u64, x: usize, y: usize, pitch: usize| {
            let pitch = if pitch == 0 { p.width } else { pitch };
            let (start, is_device) = match kind {
                kind::HOST => (host as u64, Some(false)),
                kind::DEVICE => (device, Some(true)),
                kind::UNIFIED => (device, None),
                _ => return Err(Status::NotSupported),
            };
            Ok((start + (y * pitch + x) as u64, pitch, is_device))
        };
        let (from, from_pitch, from_device) =
            side(p.from_kind, p.from_host, p.from_device, p.from_x, p.from_y, p.from_pitch)?;
        let (to, to_pitch, to_device) = side(p.to_kind, p.to_host, p.to_device, p.to_x, p.to_y, p.to_pitch)?;
        Ok(Copy { to, from, width: p.width, height: p.height, to_pitch, from_pitch, to_device, from_device })
    }
}

/// `CUmemLocation`.
#[repr(C)]
pub struct Location {
    kind: c_int,
    id: c_int,
}

/// Whether an address range belongs to the program.
fn check_range(address: u64, bytes: usize) -> Answer {
    match memory::lock().find(address, bytes as u64) {
        Some(_) => Ok(()),
        None => Err(Status::InvalidValue),
    }
}

const PAGE_LOCKED_FLAGS: c_uint = 7;

super::api! {
    fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) {
        drop(ready()?);
        let memory = memory::lock();
        put(free, memory.capacity - memory.used)?;
        put(total, memory.capacity)
    }

    fn cuMemAlloc_v2(out: Out<u64>, bytes: usize) {
        put(out, allocate_now(bytes, Owner::Program, false)?)
    }

    fn cuMemAllocPitch_v2(out: Out<u64>, pitch: Out<usize>, width: usize, height: usize, _element: c_uint) {
        let row = width.checked_next_multiple_of(512).ok_or(Status::InvalidValue)?;
        put(out, allocate_now(row.saturating_mul(height), Owner::Program, false)?)?;
        put(pitch, row)
    }

    fn cuMemAllocManaged(out: Out<u64>, bytes: usize, flags: c_uint) {
        if !(1..=4).contains(&flags) {
            return Err(Status::InvalidValue);
        }
        put(out, allocate_now(bytes, Owner::Program, true)?)
    }

    fn cuMemAllocAsync(out: Out<u64>, bytes: usize, stream: Handle) { put(out, allocate_on(stream, bytes)?) }

    fn cuMemFree_v2(address: u64) { free_now(address) }

    fn cuMemFreeAsync(address: u64, stream: Handle) { free_on(stream, address) }

    fn cuMemHostAlloc(out: Out<u64>, bytes: usize, flags: c_uint) {
        if flags & !PAGE_LOCKED_FLAGS != 0 {
            return Err(Status::InvalidValue);
        }
        put(out, allocate_now(bytes, Owner::Host, true)?)
    }

    fn cuMemAllocHost_v2(out: Out<u64>, bytes: usize) { put(out, allocate_now(bytes, Owner::Host, true)?) }

    fn cuMemFreeHost(address: u64) {
        super::context::current(&super::lock())?;
        if memory::lock().free(address, Owner::Host) { Ok(()) } else { Err(Status::InvalidValue) }
    }

    fn cuMemHostGetDevicePointer_v2(out: Out<u64>, address: u64, _flags: c_uint) {
        drop(ready()?);
        check_range(address, 1)?;
        put(out, address)
    }

    fn cuMemHostGetFlags(out: Out<c_uint>, address: u64) {
        drop(ready()?);
        check_range(address, 1)?;
        put(out, 0)
    }

    /// Memory of the host's own allocator cannot be given to kernels here.
    fn cuMemHostRegister_v2(_address: u64, _bytes: usize, _flags: c_uint) { Err(Status::NotSupported) }

    fn cuMemHostUnregister(_address: u64) { Err(Status::NotSupported) }

    fn cuMemGetAddressRange_v2(start: Out<u64>, bytes: Out<usize>, address: u64) {
        drop(ready()?);
        let found = memory::lock().find(address, 1).cloned().ok_or(Status::NotFound)?;
        offer(start, found.start);
        offer(bytes, found.size);
        Ok(())
    }

    fn cuPointerGetAttribute(out: *mut c_void, attribute: c_int, address: u64) {
        drop(ready()?);
        let found = memory::lock().find(address, 1).cloned().ok_or(Status::InvalidValue)?;
        let kind = if found.owner == Owner::Host { kind::HOST } else { kind::DEVICE };
        let (value, bytes) = match attribute {
            1 => (super::context::current(&super::lock())? as u64, 8),
            2 => (kind as u64, 4),
            3 | 4 => (address, 8),
            7 => (found.number, 8),
            8 => (0, 4),
            9 => (0, 4),
            11 => (found.start, 8),
            12 => (found.size as u64, 8),
            13 => (1, 4),
            _ => return Err(Status::NotSupported),
        };
        if out.is_null() {
            return Err(Status::InvalidValue);
        }
        // SAFETY: the attribute says how many bytes the caller's place has; a little-endian number begins with them.
        unsafe { out.cast::<u8>().copy_from_nonoverlapping((&raw const value).cast(), bytes) };
        Ok(())
    }

    fn cuMemAdvise_v2(address: u64, bytes: usize, _advice: c_int, _location: Location) {
        drop(ready()?);
        check_range(address, bytes)
    }

    fn cuMemPrefetchAsync_v2(address: u64, bytes: usize, _location: Location, _flags: c_uint, stream: Handle) {
        check_range(address, bytes)?;
        enqueue(stream, Work::Nothing)
    }

    fn cuMemcpy(to: u64, from: u64, bytes: usize) { copy_now(Copy::flat(to, from, bytes, None, None)) }

    fn cuMemcpyAsync(to: u64, from: u64, bytes: usize, stream: Handle) {
        copy_on(stream, Copy::flat(to, from, bytes, None, None))
    }

    fn cuMemcpyHtoD_v2(to: u64, from: u64, bytes: usize) {
        copy_now(Copy::flat(to, from, bytes, Some(true), Some(false)))
    }

    fn cuMemcpyHtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle) {
        copy_on(stream, Copy::flat(to, from, bytes, Some(true), Some(false)))
    }

    fn cuMemcpyDtoH_v2(to: u64, from: u64, bytes: usize) {
        copy_now(Copy::flat(to, from, bytes, Some(false), Some(true)))
    }

    fn cuMemcpyDtoHAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle) {
        copy_on(stream, Copy::flat(to, from, bytes, Some(false), Some(true)))
    }

    fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) {
        copy_now(Copy::flat(to, from, bytes, Some(true), Some(true)))
    }

    fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle) {
        copy_on(stream, Copy::flat(to, from, bytes, Some(true), Some(true)))
    }

    fn cuMemcpyPeer(to: u64, _to_context: Handle, from: u64, _from_context: Handle, bytes: usize) {
        copy_now(Copy::flat(to, from, bytes, Some(true), Some(true)))
    }

    fn cuMemcpyPeerAsync(
        to: u64,
        _to_context: Handle,
        from: u64,
        _from_context: Handle,
        bytes: usize,
        stream: Handle,
    ) {
        copy_on(stream, Copy::flat(to, from, bytes, Some(true), Some(true)))
    }

    fn cuMemcpy2D_v2(plan: Option<&Copy2d>) { copy_now(Copy2d::plan(plan)?) }

    fn cuMemcpy2DUnaligned_v2(plan: Option<&Copy2d>) { copy_now(Copy2d::plan(plan)?) }

    fn cuMemcpy2DAsync_v2(plan: Option<&Copy2d>, stream: Handle) { copy_on(stream, Copy2d::plan(plan)?) }

    fn cuMemsetD8_v2(to: u64, value: u8, count: usize) { fill_now(row(to, value as u32, 1, count)) }

    fn cuMemsetD16_v2(to: u64, value: u16, count: usize) { fill_now(row(to, value as u32, 2, count)) }

    fn cuMemsetD32_v2(to: u64, value: u32, count: usize) { fill_now(row(to, value, 4, count)) }

    fn cuMemsetD8Async(to: u64, value: u8, count: usize, stream: Handle) {
        fill_on(stream, row(to, value as u32, 1, count))
    }

    fn cuMemsetD16Async(to: u64, value: u16, count: usize, stream: Handle) {
        fill_on(stream, row(to, value as u32, 2, count))
    }

    fn cuMemsetD32Async(to: u64, value: u32, count: usize, stream: Handle) {
        fill_on(stream, row(to, value, 4, count))
    }

    fn cuMemsetD2D8_v2(to: u64, pitch: usize, value: u8, width: usize, height: usize) {
        fill_now(fill(to, value as u32, 1, width, height, pitch))
    }

    fn cuMemsetD2D32_v2(to: u64, pitch: usize, value: u32, width: usize, height: usize) {
        fill_now(fill(to, value, 4, width, height, pitch))
    }

    fn cuMemsetD2D8Async(to: u64, pitch: usize, value: u8, width: usize, height: usize, stream: Handle) {
        fill_on(stream, fill(to, value as u32, 1, width, height, pitch))
    }

    fn cuMemsetD2D32Async(to: u64, pitch: usize, value: u32, width: usize, height: usize, stream: Handle) {
        fill_on(stream, fill(to, value, 4, width, height, pitch))
    }
}
