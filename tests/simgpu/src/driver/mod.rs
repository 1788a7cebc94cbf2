//! The driver API. Each file exports the functions of one topic; this one holds what they share.
//!
//! * Everything a stream is asked to do becomes a [`work::Work`]. It runs at once, in the order of the calls, unless
//!   the stream is being captured; then it becomes a node of a graph.
//! * Handles are numbers that the tables of [`Driver`] know, so a stale or foreign handle is an error, not a crash.
//! * Pointers of the caller are `Option<&mut MaybeUninit<T>>` where a result goes and `Option<&T>` where a structure
//!   comes from: null is then `None`, and only raw memory is left to `unsafe`.
//! * `driver` may call `exec`, `lower` and `ptx`; nothing there calls `driver`.

mod context;
mod control;
mod device;
mod errors;
mod event;
mod graph;
mod launch;
mod memory;
mod module;
mod occupancy;
mod pool;
mod stream;
mod work;

use crate::status::Status;
use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};

pub use control::all_functions;

/// Where a result goes.
type Out<'a, T> = Option<&'a mut MaybeUninit<T>>;

/// A handle as the API passes it: a number in the shape of a pointer.
type Handle = usize;

type Answer<T = ()> = Result<T, Status>;

/// The name of a function of the API.
pub type Entry = &'static str;

/// Defines functions of the API: exported, traced, and listed by `entries()`. A body gives an `Answer`.
macro_rules! api {
    ($($(#[$about:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block)*) => {
        $(
            $(#[$about])*
            ///
            /// # Safety
            ///
            /// Pointers are null or valid for what the driver API says of this function.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($($arg: $ty),*) -> i32 {
                $crate::driver::enter(stringify!($name), move || $body)
            }
        )*

        /// The functions of this file.
        pub fn entries() -> Vec<$crate::driver::Entry> {
            vec![$(stringify!($name)),*]
        }
    };
}
use api;

/// Runs the body of a function of the API.
fn enter(name: &str, body: impl FnOnce() -> Answer) -> i32 {
    crate::coverage::note_call(name);
    let is_exempt = matches!(name, "cuInit" | "cuDriverGetVersion" | "cuGetErrorName" | "cuGetErrorString")
        || name == "cuGetExportTable";
    let answer = if !is_exempt && !lock().is_initialised {
        Err(Status::NotInitialized)
    } else {
        catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
            errors::note(format!("{name}: the simulator itself failed; please report this"));
            Err(Status::Unknown)
        })
    };
    let status = answer.err().unwrap_or(Status::Success);
    if crate::config::get().trace {
        eprintln!("simgpu: {name} = {}", status.name().to_string_lossy());
    }
    status as i32
}

/// Stores a result that must have a place.
fn put<T>(out: Out<T>, value: T) -> Answer {
    out.ok_or(Status::InvalidValue)?.write(value);
    Ok(())
}

/// Stores a result that the caller may not want.
fn offer<T>(out: Out<T>, value: T) {
    if let Some(out) = out {
        out.write(value);
    }
}

/// All objects that the program holds handles of.
#[derive(Default)]
struct Driver {
    is_initialised: bool,
    handles: usize,
    contexts: HashMap<Handle, context::Context>,
    primary: Option<Handle>,
    modules: HashMap<Handle, module::Module>,
    functions: HashMap<Handle, Arc<module::Function>>,
    streams: HashMap<Handle, stream::Stream>,
    captures: HashMap<u64, stream::Capture>,
    events: HashMap<Handle, event::Event>,
    graphs: HashMap<Handle, graph::Graph>,
    executables: HashMap<Handle, graph::Executable>,
    pools: HashMap<Handle, pool::Pool>,
    /// The error of a kernel, which every later call returns until the context is reset.
    sticky: Option<Status>,
}

static DRIVER: Mutex<Option<Driver>> = Mutex::new(None);

struct Locked(MutexGuard<'static, Option<Driver>>);

impl std::ops::Deref for Locked {
    type Target = Driver;
    fn deref(&self) -> &Driver {
        self.0.as_ref().expect("filled by `lock`")
    }
}

impl std::ops::DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut Driver {
        self.0.as_mut().expect("filled by `lock`")
    }
}

/// The driver's state. Never held while a kernel or a host function runs.
fn lock() -> Locked {
    let mut guard = DRIVER.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    guard.get_or_insert_with(Driver::default);
    Locked(guard)
}

impl Driver {
    /// A handle that was never given out before.
    fn fresh(&mut self) -> Handle {
        self.handles += 1;
        0x5100_0000_0000 + self.handles * 16
    }
}

/// The state, if the calling thread has a context that works.
fn ready() -> Answer<Locked> {
    let driver = lock();
    context::current(&driver)?;
    match driver.sticky {
        Some(status) => Err(status),
        None => Ok(driver),
    }
}
