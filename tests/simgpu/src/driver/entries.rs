//! `cuGetProcAddress` and the private export tables, which are not there.

use super::{Out, offer, put};
use crate::status::Status;
use std::ffi::{c_char, c_int, c_void};

/// Suffixes of newer versions of a function, the newest first.
const VERSIONS: [&str; 4] = ["_v4", "_v3", "_v2", ""];

/// The address of a function by its name with or without its version.
fn address(name: &str) -> Option<usize> {
    let all = super::all_functions();
    let find = |wanted: &str| all.iter().find(|(found, _)| *found == wanted).map(|&(_, address)| address);
    VERSIONS.iter().find_map(|version| find(&format!("{name}{version}")))
}

fn look_up(name: *const c_char, out: Out<usize>, status: Out<c_int>) -> Result<(), Status> {
    const FOUND: c_int = 0;
    const MISSING: c_int = 1;
    // SAFETY: promised by the caller of the API.
    let name = unsafe { super::module::text(name) }?.to_string_lossy();
    match address(&name) {
        Some(address) => {
            offer(status, FOUND);
            put(out, address)
        }
        None => {
            offer(status, MISSING);
            put(out, 0)?;
            Err(Status::NotFound)
        }
    }
}

super::api! {
    fn cuGetProcAddress_v2(name: *const c_char, out: Out<usize>, _version: c_int, _flags: u64, status: Out<c_int>) {
        look_up(name, out, status)
    }

    fn cuGetProcAddress(name: *const c_char, out: Out<usize>, _version: c_int, _flags: u64) {
        look_up(name, out, None)
    }

    /// NVRTC asks for it when it finds this library loaded, and goes on without.
    fn cuGetExportTable(out: Out<*const c_void>, _id: *const c_void) {
        offer(out, std::ptr::null());
        Err(Status::NotFound)
    }
}
