//! The one device: an imitation of an A100 or, with `SIMGPU_ARCH=9.0`, of an H100, as far as attributes go.

use super::context::check_device;
use super::{Out, put};
use crate::status::Status;
use std::ffi::{c_char, c_int};

/// Bytes of shared memory that a block may have after asking for them.
pub fn shared_optin() -> usize {
    match crate::config::get().arch {
        (9.., _) => 227 << 10,
        (8, 6 | 9) => 99 << 10,
        _ => 163 << 10,
    }
}

/// Bytes of shared memory that a block may have without asking.
pub const SHARED_DEFAULT: usize = 48 << 10;

/// Bytes of shared memory that the system keeps of each block's.
pub const SHARED_RESERVED: usize = 1 << 10;

/// Multiprocessors.
pub fn processors() -> c_int {
    if crate::config::get().arch.0 >= 9 { 132 } else { 108 }
}

pub const THREADS_A_BLOCK: u32 = 1024;
pub const THREADS_A_PROCESSOR: c_int = 2048;
pub const BLOCKS_A_PROCESSOR: c_int = 32;
pub const REGISTERS_A_PROCESSOR: c_int = 65536;

/// The value of a `CUdevice_attribute`; those not listed are 0, which says that something is not there.
fn attribute(number: c_int) -> c_int {
    let (major, minor) = crate::config::get().arch;
    match number {
        1..=3 => THREADS_A_BLOCK as c_int,
        4 => 64,
        5 => c_int::MAX,
        6 | 7 => 65535,
        8 => SHARED_DEFAULT as c_int,
        9 => 65536,
        10 => 32,
        11 => c_int::MAX,
        12 | 82 => REGISTERS_A_PROCESSOR,
        13 => 1_410_000,
        14 => 512,
        16 => processors(),
        36 => 1_215_000,
        37 => 5120,
        38 => 40 << 20,
        39 => THREADS_A_PROCESSOR,
        40 => 3,
        75 => major as c_int,
        76 => minor as c_int,
        81 => (shared_optin() + SHARED_RESERVED) as c_int,
        87 => 2,
        97 => shared_optin() as c_int,
        106 => BLOCKS_A_PROCESSOR,
        111 => SHARED_RESERVED as c_int,
        // Present: overlap, mapped host memory, concurrent kernels, unified addressing, stream priorities, caches,
        // managed memory, cooperative launches, memory pools.
        15 | 19 | 31 | 41 | 78 | 79 | 80 | 83 | 89 | 95 | 115 => 1,
        _ => 0,
    }
}

const UUID: [u8; 16] = *b"simgpu-simulated";

super::api! {
    fn cuDeviceGet(out: Out<c_int>, ordinal: c_int) {
        check_device(ordinal)?;
        put(out, 0)
    }

    fn cuDeviceGetCount(out: Out<c_int>) { put(out, 1) }

    fn cuDeviceGetName(out: *mut c_char, len: c_int, device: c_int) {
        check_device(device)?;
        if out.is_null() || len <= 0 {
            return Err(Status::InvalidValue);
        }
        let name = b"simgpu PTX simulator (not a GPU)";
        let count = name.len().min(len as usize - 1);
        // SAFETY: the caller gives `len` bytes, more than are written.
        unsafe {
            out.copy_from_nonoverlapping(name.as_ptr().cast(), count);
            *out.add(count) = 0;
        }
        Ok(())
    }

    fn cuDeviceGetUuid(out: Out<[u8; 16]>, device: c_int) {
        check_device(device)?;
        put(out, UUID)
    }

    fn cuDeviceGetUuid_v2(out: Out<[u8; 16]>, device: c_int) {
        check_device(device)?;
        put(out, UUID)
    }

    fn cuDeviceTotalMem_v2(out: Out<usize>, device: c_int) {
        check_device(device)?;
        put(out, crate::config::get().memory)
    }

    fn cuDeviceGetAttribute(out: Out<c_int>, number: c_int, device: c_int) {
        check_device(device)?;
        put(out, attribute(number))
    }
}
