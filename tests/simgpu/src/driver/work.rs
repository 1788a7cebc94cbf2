//! What a stream can be asked to do, as a value: it can be run now or kept in a graph.

use super::{Answer, errors, lock};
use crate::exec::counters;
use crate::exec::launch::{Launch, Request};
use crate::exec::memory::{self, Allocation};
use crate::status::Status;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// Bytes from one place to another.
#[derive(Clone, Copy, Debug)]
pub struct Copy {
    pub to: u64,
    pub from: u64,
    pub bytes: usize,
    /// Which side has to lie in device memory.
    pub to_device: bool,
    pub from_device: bool,
}

/// Bytes that all get one value.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    pub to: u64,
    pub value: u8,
    pub bytes: usize,
}

pub type HostFunction = unsafe extern "C" fn(*mut c_void);

#[derive(Clone, Copy)]
pub struct HostCall {
    pub function: HostFunction,
    pub data: usize,
}

#[derive(Clone)]
pub enum Work {
    Nothing,
    Kernel(Request),
    Copy(Copy),
    Fill(Fill),
    Host(HostCall),
    /// Memory of a graph; it keeps its address, so that only its contents are lost from launch to launch.
    Allocate(Arc<Allocation>),
    Free,
    Child(Vec<Work>),
}

impl Work {
    /// Does it. A kernel's error is kept for the next call that can report it, as with the real driver.
    pub fn run(&self) -> Answer {
        match self {
            Work::Nothing | Work::Free => Ok(()),
            Work::Kernel(request) => kernel(request),
            Work::Copy(copy) => run_copy(copy),
            Work::Fill(fill) => run_fill(fill),
            Work::Host(call) => {
                // SAFETY: the program gave a function for this argument, and keeps both until it has been called.
                unsafe { (call.function)(call.data as *mut c_void) };
                Ok(())
            }
            Work::Allocate(allocation) => {
                // SAFETY: the bytes belong to this allocation, which is alive as `self` holds it.
                unsafe { (allocation.start as *mut u8).write_bytes(0xff, allocation.size) };
                Ok(())
            }
            Work::Child(works) => works.iter().try_for_each(Work::run),
        }
    }

    /// Refuses what can be seen to be wrong before it runs.
    pub fn check(&self) -> Answer {
        match self {
            Work::Copy(copy) => check_copy(copy),
            Work::Fill(fill) => check_fill(fill),
            _ => Ok(()),
        }
    }
}

fn kernel(request: &Request) -> Answer {
    /// Launches run one after another, whatever their streams.
    static DEVICE: Mutex<()> = Mutex::new(());
    static LAUNCHES: AtomicU64 = AtomicU64::new(0);
    let _turn = DEVICE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(status) = lock().sticky {
        return Err(status);
    }
    crate::coverage::note_launch(&request.program);
    let snapshot = memory::lock().snapshot();
    if is_to_fail(&request.program.name) {
        errors::note(format!("kernel {} fails as SIMGPU_FAIL wants", request.program.name));
        lock().sticky = Some(Status::IllegalAddress);
        return Ok(());
    }
    let launch = Launch::new(request, snapshot, LAUNCHES.fetch_add(1, Relaxed));
    match launch.run() {
        Ok(counted) => {
            if launch.checks.traffic {
                counters::record(&request.program.name, &counted);
            }
            Ok(())
        }
        Err(fault) => {
            errors::note(fault.text);
            lock().sticky = Some(fault.status);
            if crate::config::get().is_blocking { Err(fault.status) } else { Ok(()) }
        }
    }
}

/// Whether this launch is the one that `SIMGPU_FAIL` names.
fn is_to_fail(kernel: &str) -> bool {
    static BEFORE: AtomicU64 = AtomicU64::new(0);
    let wanted = crate::config::get().fail.as_ref().filter(|(name, _)| name == kernel);
    wanted.is_some_and(|(_, launch)| BEFORE.fetch_add(1, Relaxed) == *launch)
}

/// The allocation that holds these bytes; that there is none is noted.
fn check_bytes(what: &str, start: u64, bytes: usize) -> Answer<Arc<Allocation>> {
    let memory = memory::lock();
    match memory.find(start, bytes as u64) {
        Some(allocation) => Ok(allocation.clone()),
        None => {
            let why = memory.explain(start, bytes as u64);
            drop(memory);
            errors::note(format!("{what} of {bytes} bytes at {start:#x}: {why}"));
            Err(Status::InvalidValue)
        }
    }
}

/// The allocations of both sides; None for host memory.
type Sides = (Option<Arc<Allocation>>, Option<Arc<Allocation>>);

fn sides(copy: &Copy) -> Answer<Sides> {
    let side = |what: &str, start: u64, is_device: bool| match is_device {
        true => check_bytes(what, start, copy.bytes).map(Some),
        // A host copy may well end in pinned memory, whose bytes then count as written.
        false => Ok(memory::lock().find(start, 1).cloned()),
    };
    let to = side("copy to device memory", copy.to, copy.to_device)?;
    Ok((to, side("copy from device memory", copy.from, copy.from_device)?))
}

fn check_copy(copy: &Copy) -> Answer {
    if copy.bytes == 0 {
        return Ok(());
    }
    if copy.to == 0 || copy.from == 0 {
        return Err(Status::InvalidValue);
    }
    sides(copy).map(|_| ())
}

fn run_copy(copy: &Copy) -> Answer {
    check_copy(copy)?;
    if copy.bytes == 0 {
        return Ok(());
    }
    let (to_memory, from_memory) = sides(copy)?;
    // SAFETY: a device side was seen to lie in an allocation that is alive; for a host side the caller vouches.
    unsafe { std::ptr::copy(copy.from as *const u8, copy.to as *mut u8, copy.bytes) };
    match (&to_memory, &from_memory) {
        (Some(to), Some(from)) => mark_as_in(to, copy.to, from, copy.from, copy.bytes as u64),
        (Some(to), None) => to.mark(copy.to, copy.bytes as u64),
        (None, _) => {}
    }
    Ok(())
}

/// Marks as written what is written in the source of a copy.
fn mark_as_in(to: &Allocation, to_start: u64, from: &Allocation, from_start: u64, bytes: u64) {
    if from.is_written(from_start, bytes) {
        return to.mark(to_start, bytes);
    }
    for at in 0..bytes {
        if from.is_written(from_start + at, 1) {
            to.mark(to_start + at, 1);
        }
    }
}

fn check_fill(fill: &Fill) -> Answer {
    if fill.bytes == 0 { Ok(()) } else { check_bytes("memset", fill.to, fill.bytes).map(|_| ()) }
}

fn run_fill(fill: &Fill) -> Answer {
    if fill.bytes == 0 {
        return Ok(());
    }
    let memory = check_bytes("memset", fill.to, fill.bytes)?;
    // SAFETY: the bytes lie in an allocation that is alive.
    unsafe { (fill.to as *mut u8).write_bytes(fill.value, fill.bytes) };
    memory.mark(fill.to, fill.bytes as u64);
    Ok(())
}
