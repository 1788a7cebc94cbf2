//! `cuInit` and contexts. There is one device; its primary context is counted, others are created and destroyed.

use super::{Answer, Driver, Handle, Out, lock, offer, put, ready, stream};
use crate::exec::memory::{self, Owner};
use crate::status::Status;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{c_int, c_uint, c_void};

#[derive(Default)]
pub struct Context {
    /// How often the primary context is retained; 0 for others.
    retained: usize,
    flags: u32,
    limits: HashMap<c_int, usize>,
}

thread_local! {
    /// The stack of contexts of a thread; the last one is current.
    static STACK: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
}

fn top() -> Handle {
    STACK.with_borrow(|stack| stack.last().copied().unwrap_or(0))
}

/// The current context of this thread.
pub fn current(driver: &Driver) -> Answer<Handle> {
    let handle = top();
    match driver.contexts.contains_key(&handle) {
        true => Ok(handle),
        false if handle == 0 => Err(Status::InvalidContext),
        false => Err(Status::ContextIsDestroyed),
    }
}

fn set_top(handle: Handle) {
    STACK.with_borrow_mut(|stack| {
        stack.pop();
        if handle != 0 {
            stack.push(handle);
        }
    });
}

pub fn check_device(device: c_int) -> Answer {
    if device == 0 { Ok(()) } else { Err(Status::InvalidDevice) }
}

/// Ends a context. With the last one everything that lives on the device ends too, and so does a kernel's error.
fn destroy(driver: &mut Driver, handle: Handle) -> Answer {
    driver.contexts.remove(&handle).ok_or(Status::InvalidContext)?;
    if driver.primary == Some(handle) {
        driver.primary = None;
    }
    if driver.contexts.is_empty() {
        super::control::report_leaks();
        driver.sticky = None;
        driver.modules.clear();
        driver.functions.clear();
        driver.streams.clear();
        driver.captures.clear();
        driver.events.clear();
        driver.graphs.clear();
        driver.executables.clear();
        let mut memory = memory::lock();
        let all: Vec<(u64, Owner)> = memory.live().map(|a| (a.start, a.owner)).collect();
        for (start, owner) in all {
            memory.free(start, owner);
        }
    }
    Ok(())
}

fn create(out: Out<Handle>, flags: c_uint, device: c_int) -> Answer {
    check_device(device)?;
    let mut driver = lock();
    let handle = driver.fresh();
    driver.contexts.insert(handle, Context { flags, ..Context::default() });
    STACK.with_borrow_mut(|stack| stack.push(handle));
    put(out, handle)
}

const LIMIT_STACK: c_int = 0;
const LIMIT_PRINTF: c_int = 1;
const LIMIT_HEAP: c_int = 2;

super::api! {
    /// NVRTC asks for it when it finds this library loaded, and goes on without.
    fn cuGetExportTable(out: Out<*const c_void>, _id: *const c_void) {
        offer(out, std::ptr::null());
        Err(Status::NotFound)
    }

    fn cuInit(flags: c_uint) {
        if flags != 0 {
            return Err(Status::InvalidValue);
        }
        lock().is_initialised = true;
        super::control::at_exit();
        Ok(())
    }

    fn cuDriverGetVersion(version: Out<c_int>) { put(version, crate::config::get().driver_version) }

    fn cuDevicePrimaryCtxRetain(out: Out<Handle>, device: c_int) {
        check_device(device)?;
        let mut driver = lock();
        let handle = match driver.primary {
            Some(handle) => handle,
            None => {
                let handle = driver.fresh();
                driver.contexts.insert(handle, Context::default());
                driver.primary = Some(handle);
                handle
            }
        };
        driver.contexts.entry(handle).or_default().retained += 1;
        put(out, handle)
    }

    fn cuDevicePrimaryCtxRelease_v2(device: c_int) {
        check_device(device)?;
        let mut driver = lock();
        let handle = driver.primary.ok_or(Status::InvalidContext)?;
        let context = driver.contexts.get_mut(&handle).ok_or(Status::InvalidContext)?;
        context.retained = context.retained.saturating_sub(1);
        if context.retained == 0 { destroy(&mut driver, handle) } else { Ok(()) }
    }

    fn cuCtxCreate_v3(out: Out<Handle>, _affinity: *mut c_void, _count: c_int, flags: c_uint, device: c_int) {
        create(out, flags, device)
    }

    fn cuCtxCreate_v4(out: Out<Handle>, _params: *mut c_void, flags: c_uint, device: c_int) {
        create(out, flags, device)
    }

    fn cuCtxDestroy_v2(handle: Handle) {
        let mut driver = lock();
        if driver.primary == Some(handle) {
            return Err(Status::InvalidContext);
        }
        destroy(&mut driver, handle)?;
        STACK.with_borrow_mut(|stack| stack.retain(|&other| other != handle));
        Ok(())
    }

    fn cuCtxSetCurrent(handle: Handle) {
        if handle != 0 && !lock().contexts.contains_key(&handle) {
            return Err(Status::InvalidContext);
        }
        set_top(handle);
        Ok(())
    }

    fn cuCtxGetCurrent(out: Out<Handle>) { put(out, top()) }

    fn cuCtxSetFlags(flags: c_uint) {
        let mut driver = lock();
        let handle = current(&driver)?;
        driver.contexts.entry(handle).or_default().flags = flags;
        Ok(())
    }

    fn cuCtxSetLimit(limit: c_int, value: usize) {
        let mut driver = lock();
        let handle = current(&driver)?;
        driver.contexts.entry(handle).or_default().limits.insert(limit, value);
        Ok(())
    }

    fn cuCtxGetLimit(out: Out<usize>, limit: c_int) {
        let driver = lock();
        let handle = current(&driver)?;
        let default = match limit {
            LIMIT_STACK => 1024,
            LIMIT_PRINTF => 1 << 20,
            LIMIT_HEAP => 8 << 20,
            _ => 0,
        };
        put(out, driver.contexts[&handle].limits.get(&limit).copied().unwrap_or(default))
    }

    fn cuCtxGetCacheConfig(out: Out<c_int>) {
        current(&lock())?;
        put(out, 0)
    }

    fn cuCtxSetCacheConfig(_config: c_int) { current(&lock()).map(|_| ()) }

    fn cuCtxGetStreamPriorityRange(least: Out<c_int>, greatest: Out<c_int>) {
        current(&lock())?;
        offer(least, 0);
        offer(greatest, -5);
        Ok(())
    }

    /// All work has been done by then: what is left to report is a kernel's error.
    fn cuCtxSynchronize() {
        let mut driver = ready()?;
        match stream::any_capture(&driver) {
            Some(id) => stream::spoil(&mut driver, id, Status::StreamCaptureUnsupported),
            None => Ok(()),
        }
    }

    fn cuProfilerStart() { Ok(()) }

    fn cuProfilerStop() { Ok(()) }
}
