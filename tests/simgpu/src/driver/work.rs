//! What a stream can be asked to do, as a value: it can be run now or kept in a graph.

use super::{Answer, errors, lock};
use crate::exec::counters;
use crate::exec::launch::{Launch, Request};
use crate::exec::memory::{self, Allocation};
use crate::status::Status;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// Rows of bytes from one place to another.
#[derive(Clone, Copy, Debug)]
pub struct Copy {
    pub to: u64,
    pub from: u64,
    pub width: usize,
    pub height: usize,
    pub to_pitch: usize,
    pub from_pitch: usize,
    /// Which side has to lie in device memory. A side of which nothing is known is looked up.
    pub to_device: Option<bool>,
    pub from_device: Option<bool>,
}

impl Copy {
    pub fn flat(
        to: u64,
        from: u64,
        bytes: usize,
        to_device: Option<bool>,
        from_device: Option<bool>,
    ) -> Copy {
        Copy { to, from, width: bytes, height: 1, to_pitch: bytes, from_pitch: bytes, to_device, from_device }
    }
}

/// Rows of elements that all get one value.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    pub to: u64,
    pub value: u32,
    /// Bytes an element: 1, 2 or 4.
    pub element: usize,
    /// Elements a row.
    pub width: usize,
    pub height: usize,
    pub pitch: usize,
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
    let snapshot = memory::lock().snapshot();
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

/// Whether `rows` rows of `width` bytes lie in one allocation; which is noted if they do not.
fn check_rows(what: &str, start: u64, width: usize, height: usize, pitch: usize) -> Answer<Arc<Allocation>> {
    let bytes = (pitch * height.saturating_sub(1) + width) as u64;
    let memory = memory::lock();
    match memory.find(start, bytes) {
        Some(allocation) => Ok(allocation.clone()),
        None => {
            let why = memory.explain(start, bytes);
            drop(memory);
            errors::note(format!("{what} of {bytes} bytes at {start:#x}: {why}"));
            Err(Status::InvalidValue)
        }
    }
}

/// The allocations of both sides; None for host memory.
type Sides = (Option<Arc<Allocation>>, Option<Arc<Allocation>>);

fn sides(copy: &Copy) -> Answer<Sides> {
    let side = |what: &str, start: u64, pitch: usize, is_device: Option<bool>| match is_device {
        Some(true) => check_rows(what, start, copy.width, copy.height, pitch).map(Some),
        // A host copy may well end in pinned memory, whose bytes then count as written.
        Some(false) | None => Ok(memory::lock().find(start, 1).cloned()),
    };
    let to = side("copy to device memory", copy.to, copy.to_pitch, copy.to_device)?;
    let from = side("copy from device memory", copy.from, copy.from_pitch, copy.from_device)?;
    if copy.to_device.is_none() && to.is_some() {
        check_rows("copy to device memory", copy.to, copy.width, copy.height, copy.to_pitch)?;
    }
    if copy.from_device.is_none() && from.is_some() {
        check_rows("copy from device memory", copy.from, copy.width, copy.height, copy.from_pitch)?;
    }
    Ok((to, from))
}

fn check_copy(copy: &Copy) -> Answer {
    if copy.width == 0 || copy.height == 0 {
        return Ok(());
    }
    if copy.to == 0 || copy.from == 0 || copy.to_pitch < copy.width || copy.from_pitch < copy.width {
        return Err(Status::InvalidValue);
    }
    sides(copy).map(|_| ())
}

fn run_copy(copy: &Copy) -> Answer {
    check_copy(copy)?;
    if copy.width == 0 || copy.height == 0 {
        return Ok(());
    }
    let (to_memory, from_memory) = sides(copy)?;
    for row in 0..copy.height as u64 {
        let (to, from) = (copy.to + row * copy.to_pitch as u64, copy.from + row * copy.from_pitch as u64);
        // SAFETY: a device side was seen to lie in an allocation that is alive; for a host side the caller vouches.
        unsafe { std::ptr::copy(from as *const u8, to as *mut u8, copy.width) };
        let Some(to_memory) = &to_memory else { continue };
        match &from_memory {
            Some(from_memory) => mark_as_in(to_memory, to, from_memory, from, copy.width as u64),
            None => to_memory.mark(to, copy.width as u64),
        }
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
    if fill.width == 0 || fill.height == 0 {
        return Ok(());
    }
    let bytes = fill.width.checked_mul(fill.element).ok_or(Status::InvalidValue)?;
    if fill.height > 1 && fill.pitch < bytes || !fill.to.is_multiple_of(fill.element as u64) {
        return Err(Status::InvalidValue);
    }
    check_rows("memset", fill.to, bytes, fill.height, fill.pitch).map(|_| ())
}

fn run_fill(fill: &Fill) -> Answer {
    if fill.width == 0 || fill.height == 0 {
        return Ok(());
    }
    check_fill(fill)?;
    let bytes = fill.width * fill.element;
    let memory = check_rows("memset", fill.to, bytes, fill.height, fill.pitch)?;
    for row in 0..fill.height as u64 {
        let start = fill.to + row * fill.pitch as u64;
        // SAFETY: `check_fill` has seen that all rows lie in an allocation, whose start is aligned more than enough
        // and from which `to` is a multiple of the element's size away.
        unsafe {
            match fill.element {
                1 => (start as *mut u8).write_bytes(fill.value as u8, fill.width),
                2 => std::slice::from_raw_parts_mut(start as *mut u16, fill.width).fill(fill.value as u16),
                _ => std::slice::from_raw_parts_mut(start as *mut u32, fill.width).fill(fill.value),
            }
        }
        memory.mark(start, bytes as u64);
    }
    Ok(())
}
