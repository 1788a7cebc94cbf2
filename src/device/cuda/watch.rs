//! Launches one by one: what benches and tests see of a program that runs kernel by kernel.

use cudarc::driver::{result, sys};

use super::driver::{Stream, refused};
use crate::error::Result;

/// A launch that is done.
#[derive(Clone, Copy, Debug)]
pub struct Launched<'a> {
    pub entry: &'a str,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    /// Between two events around it. Of a simulated GPU, this is the time of the simulation.
    pub milliseconds: f32,
}

/// Is told of each launch. Must not launch anything itself.
pub type Watcher = Box<dyn FnMut(&Launched<'_>) + Send>;

/// A point of a stream, with a time.
struct Event(sys::CUevent);

impl Event {
    fn new() -> Result<Self> {
        let made = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT);
        made.map(Event).map_err(|e| refused("make an event", e))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made in `new`.
        let _ = unsafe { result::event::destroy(self.0) };
    }
}

impl Stream {
    /// Starts work on this stream and waits for it; milliseconds that it took.
    pub(super) fn timed(&self, start: impl FnOnce() -> Result<()>) -> Result<f32> {
        self.context().enter()?;
        let (begin, end) = (Event::new()?, Event::new()?);
        let failed = |e| refused("time a kernel", e);
        // SAFETY: events and stream are of this context and live until the work is done, here and below.
        unsafe { result::event::record(begin.0, self.handle()) }.map_err(failed)?;
        start()?;
        unsafe { result::event::record(end.0, self.handle()) }.map_err(failed)?;
        self.synchronize()?;
        unsafe { result::event::elapsed(begin.0, end.0) }.map_err(failed)
    }
}
