//! Occupancy by threads, blocks and shared memory; registers are not known before a compiler has allocated them.

use super::device::*;
use super::module::{Function, function};
use super::{Answer, Handle, Out, offer, put, ready};
use crate::status::Status;
use std::ffi::{c_int, c_uint, c_void};

/// Bytes of dynamic shared memory for a block of so many threads.
type SharedOfBlock = Option<unsafe extern "C" fn(c_int) -> usize>;

/// Blocks that a multiprocessor can hold at once.
fn blocks(function: &Function, threads: c_int, dynamic: usize) -> Answer<c_int> {
    if threads <= 0 {
        return Err(Status::InvalidValue);
    }
    if threads as u32 > function.max_threads() || function.program.static_shared + dynamic > shared_optin() {
        return Ok(0);
    }
    let threads = (threads as u32).next_multiple_of(32) as c_int;
    let shared = function.program.static_shared + dynamic + SHARED_RESERVED;
    let by_shared = (shared_optin() + SHARED_RESERVED) / shared;
    Ok((THREADS_A_PROCESSOR / threads).min(BLOCKS_A_PROCESSOR).min(by_shared as c_int))
}

/// The block size with the most threads on a multiprocessor, the largest of several; and blocks to fill the device.
fn best(handle: Handle, shared_of: SharedOfBlock, dynamic: usize, limit: c_int) -> Answer<(c_int, c_int)> {
    let function = function(&*ready()?, handle)?;
    let most = function.max_threads() as c_int;
    let most = if limit > 0 { most.min(limit) } else { most };
    let mut best = (0, 0, 0);
    for threads in (1..=most).rev().filter(|&threads| threads % 32 == 0 || threads == most) {
        let dynamic = match shared_of {
            // SAFETY: the caller's function, for a block size as it expects.
            Some(shared_of) => unsafe { shared_of(threads) },
            None => dynamic,
        };
        let count = blocks(&function, threads, dynamic)?;
        if count * threads > best.0 {
            best = (count * threads, count, threads);
        }
    }
    Ok((best.1 * processors(), best.2))
}

super::api! {
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        out: Out<c_int>,
        handle: Handle,
        threads: c_int,
        dynamic: usize,
    ) {
        put(out, blocks(&*function(&*ready()?, handle)?, threads, dynamic)?)
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        out: Out<c_int>,
        handle: Handle,
        threads: c_int,
        dynamic: usize,
        _flags: c_uint,
    ) {
        put(out, blocks(&*function(&*ready()?, handle)?, threads, dynamic)?)
    }

    fn cuOccupancyMaxPotentialBlockSize(
        grid: Out<c_int>,
        block: Out<c_int>,
        handle: Handle,
        shared_of: SharedOfBlock,
        dynamic: usize,
        limit: c_int,
    ) {
        let (blocks, threads) = best(handle, shared_of, dynamic, limit)?;
        offer(grid, blocks);
        put(block, threads)
    }

    fn cuOccupancyMaxPotentialBlockSizeWithFlags(
        grid: Out<c_int>,
        block: Out<c_int>,
        handle: Handle,
        shared_of: SharedOfBlock,
        dynamic: usize,
        limit: c_int,
        _flags: c_uint,
    ) {
        let (blocks, threads) = best(handle, shared_of, dynamic, limit)?;
        offer(grid, blocks);
        put(block, threads)
    }

    fn cuOccupancyAvailableDynamicSMemPerBlock(out: Out<usize>, handle: Handle, count: c_int, _threads: c_int) {
        let function = function(&*ready()?, handle)?;
        if count <= 0 {
            return Err(Status::InvalidValue);
        }
        let share = (shared_optin() + SHARED_RESERVED) / count as usize;
        let most = share.saturating_sub(SHARED_RESERVED + function.program.static_shared);
        put(out, most.min(shared_optin() - function.program.static_shared.min(shared_optin())))
    }

    fn cuOccupancyMaxActiveClusters(_out: Out<c_int>, _handle: Handle, _config: *const c_void) {
        Err(Status::NotSupported)
    }

    fn cuOccupancyMaxPotentialClusterSize(_out: Out<c_int>, _handle: Handle, _config: *const c_void) {
        Err(Status::NotSupported)
    }
}
