//! Memory pools: objects with attributes, all of which allocate from the one device memory.

use super::context::check_device;
use super::{Answer, Driver, Handle, Out, lock, put, ready};
use crate::exec::memory;
use crate::status::Status;
use std::collections::HashMap;
use std::ffi::{c_int, c_void};

#[derive(Default)]
pub struct Pool {
    is_default: bool,
    /// Whether the device was told to allocate from it.
    is_chosen: bool,
    attributes: HashMap<c_int, u64>,
}

/// `CUmemPool_attribute`: up to 3 they are `int`, from then on `cuuint64_t`.
const LAST_FLAG: c_int = 3;
const RESERVED: c_int = 5;
const USED_HIGH: c_int = 8;

/// The pool that a device has from the start.
fn default_pool(driver: &mut Driver) -> Handle {
    let found = driver.pools.iter().find(|(_, pool)| pool.is_default).map(|(&handle, _)| handle);
    found.unwrap_or_else(|| {
        let handle = driver.fresh();
        driver.pools.insert(handle, Pool { is_default: true, ..Pool::default() });
        handle
    })
}

fn pool(driver: &mut Driver, handle: Handle) -> Answer<&mut Pool> {
    driver.pools.get_mut(&handle).ok_or(Status::InvalidValue)
}

super::api! {
    fn cuDeviceGetDefaultMemPool(out: Out<Handle>, device: c_int) {
        check_device(device)?;
        put(out, default_pool(&mut lock()))
    }

    fn cuDeviceGetMemPool(out: Out<Handle>, device: c_int) {
        check_device(device)?;
        let mut driver = lock();
        let chosen = driver.pools.iter().find(|(_, pool)| pool.is_chosen).map(|(&handle, _)| handle);
        put(out, chosen.unwrap_or_else(|| default_pool(&mut driver)))
    }

    fn cuDeviceSetMemPool(device: c_int, handle: Handle) {
        check_device(device)?;
        let mut driver = lock();
        pool(&mut driver, handle)?;
        for (&other, pool) in &mut driver.pools {
            pool.is_chosen = other == handle;
        }
        Ok(())
    }

    fn cuMemPoolCreate(out: Out<Handle>, _properties: *const c_void) {
        let mut driver = lock();
        let handle = driver.fresh();
        driver.pools.insert(handle, Pool::default());
        put(out, handle)
    }

    fn cuMemPoolDestroy(handle: Handle) {
        let mut driver = lock();
        if pool(&mut driver, handle)?.is_default {
            return Err(Status::InvalidValue);
        }
        driver.pools.remove(&handle);
        Ok(())
    }

    fn cuMemPoolTrimTo(handle: Handle, _bytes: usize) { pool(&mut lock(), handle).map(|_| ()) }

    fn cuMemPoolGetAttribute(handle: Handle, attribute: c_int, out: *mut c_void) {
        let value = match attribute {
            RESERVED..=USED_HIGH => memory::lock().used as u64,
            _ => pool(&mut lock(), handle)?.attributes.get(&attribute).copied().unwrap_or(0),
        };
        if out.is_null() {
            return Err(Status::InvalidValue);
        }
        // SAFETY: the attribute says how large the caller's place is.
        unsafe {
            match attribute <= LAST_FLAG {
                true => out.cast::<c_int>().write(value as c_int),
                false => out.cast::<u64>().write(value),
            }
        }
        Ok(())
    }

    fn cuMemPoolSetAttribute(handle: Handle, attribute: c_int, value: *const c_void) {
        if value.is_null() {
            return Err(Status::InvalidValue);
        }
        // SAFETY: the attribute says how large the caller's value is.
        let value = unsafe {
            match attribute <= LAST_FLAG {
                true => value.cast::<c_int>().read() as u64,
                false => value.cast::<u64>().read(),
            }
        };
        pool(&mut lock(), handle)?.attributes.insert(attribute, value);
        Ok(())
    }

    fn cuMemAllocFromPoolAsync(out: Out<u64>, bytes: usize, handle: Handle, stream: Handle) {
        pool(&mut *ready()?, handle)?;
        put(out, super::memory::allocate_on(stream, bytes)?)
    }
}
