//! Allocations, copies and fills.

use super::stream::enqueue;
use super::work::{Copy, Fill, Work};
use super::{Answer, Handle, Out, errors, put, ready};
use crate::exec::memory::{self, Allocation, Owner};
use crate::status::Status;
use std::ffi::{c_int, c_uint};
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

fn to_device(to: u64, from: u64, bytes: usize) -> Copy {
    Copy { to, from, bytes, to_device: true, from_device: false }
}

fn to_host(to: u64, from: u64, bytes: usize) -> Copy {
    Copy { to, from, bytes, to_device: false, from_device: true }
}

fn on_device(to: u64, from: u64, bytes: usize) -> Copy {
    Copy { to, from, bytes, to_device: true, from_device: true }
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

    fn cuMemFreeHost(address: u64) {
        super::context::current(&super::lock())?;
        if memory::lock().free(address, Owner::Host) { Ok(()) } else { Err(Status::InvalidValue) }
    }

    fn cuMemAdvise_v2(address: u64, bytes: usize, _advice: c_int, _location: Location) {
        drop(ready()?);
        check_range(address, bytes)
    }

    fn cuMemPrefetchAsync_v2(address: u64, bytes: usize, _location: Location, _flags: c_uint, stream: Handle) {
        check_range(address, bytes)?;
        enqueue(stream, Work::Nothing)
    }

    fn cuMemcpyHtoD_v2(to: u64, from: u64, bytes: usize) {
        copy_now(to_device(to, from, bytes))
    }

    fn cuMemcpyHtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle) {
        copy_on(stream, to_device(to, from, bytes))
    }

    fn cuMemcpyDtoH_v2(to: u64, from: u64, bytes: usize) {
        copy_now(to_host(to, from, bytes))
    }

    fn cuMemcpyDtoHAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle) {
        copy_on(stream, to_host(to, from, bytes))
    }

    fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) {
        copy_now(on_device(to, from, bytes))
    }

    fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle) {
        copy_on(stream, on_device(to, from, bytes))
    }

    fn cuMemcpyPeerAsync(
        to: u64,
        _to_context: Handle,
        from: u64,
        _from_context: Handle,
        bytes: usize,
        stream: Handle,
    ) {
        copy_on(stream, on_device(to, from, bytes))
    }

    fn cuMemsetD8_v2(to: u64, value: u8, count: usize) {
        ready()?.mind_synchronous()?;
        Work::Fill(Fill { to, value, bytes: count }).run()
    }

    fn cuMemsetD8Async(to: u64, value: u8, count: usize, stream: Handle) {
        enqueue(stream, Work::Fill(Fill { to, value, bytes: count }))
    }
}
