//! Events: a moment on a stream or, on a stream that is being captured, a set of graph nodes.

use super::stream::{self, enqueue};
use super::work::Work;
use super::{Answer, Driver, Handle, Out, put, ready};
use crate::status::Status;
use std::ffi::c_uint;
use std::time::Instant;

#[derive(Default)]
pub struct Event {
    flags: c_uint,
    recorded: Option<Instant>,
    /// The capture and the nodes, if it was last recorded on a capturing stream.
    captured: Option<(u64, Vec<usize>)>,
}

const DISABLE_TIMING: c_uint = 2;

fn event(driver: &mut Driver, handle: Handle) -> Answer<&mut Event> {
    driver.events.get_mut(&handle).ok_or(Status::InvalidHandle)
}

/// Whether it has happened, which it always has, unless it belongs to a capture.
fn query(handle: Handle) -> Answer {
    let mut driver = ready()?;
    match &event(&mut driver, handle)?.captured {
        None => Ok(()),
        Some((id, _)) => {
            let id = *id;
            match driver.captures.contains_key(&id) {
                true => stream::spoil(&mut driver, id, Status::CapturedEvent),
                false => Err(Status::CapturedEvent),
            }
        }
    }
}

fn record(handle: Handle, on: Handle) -> Answer {
    let mut driver = ready()?;
    event(&mut driver, handle)?;
    let captured = stream::tips(&mut driver, on)?;
    if captured.is_none() {
        drop(driver);
        enqueue(on, Work::Nothing)?;
        driver = ready()?;
    }
    let event = event(&mut driver, handle)?;
    event.recorded = captured.is_none().then(Instant::now);
    event.captured = captured;
    Ok(())
}

/// Milliseconds between two events, of the simulation and not of any GPU.
fn elapsed(start: Handle, end: Handle) -> Answer<f32> {
    let mut driver = ready()?;
    let mut moment = |handle| {
        let event = event(&mut driver, handle)?;
        if event.captured.is_some() {
            return Err(Status::CapturedEvent);
        }
        event.recorded.filter(|_| event.flags & DISABLE_TIMING == 0).ok_or(Status::InvalidHandle)
    };
    let (start, end) = (moment(start)?, moment(end)?);
    let forward = end.saturating_duration_since(start).as_secs_f32();
    let backward = start.saturating_duration_since(end).as_secs_f32();
    Ok(1e3 * (forward - backward))
}

super::api! {
    fn cuEventCreate(out: Out<Handle>, flags: c_uint) {
        let mut driver = ready()?;
        let handle = driver.fresh();
        driver.events.insert(handle, Event { flags, ..Event::default() });
        put(out, handle)
    }

    fn cuEventDestroy_v2(handle: Handle) {
        super::lock().events.remove(&handle).ok_or(Status::InvalidHandle).map(|_| ())
    }

    fn cuEventRecord(handle: Handle, stream: Handle) { record(handle, stream) }

    fn cuEventQuery(handle: Handle) { query(handle) }

    fn cuEventSynchronize(handle: Handle) { query(handle) }

    fn cuEventElapsedTime(out: Out<f32>, start: Handle, end: Handle) { put(out, elapsed(start, end)?) }

    fn cuEventElapsedTime_v2(out: Out<f32>, start: Handle, end: Handle) { put(out, elapsed(start, end)?) }

    fn cuStreamWaitEvent(on: Handle, handle: Handle, _flags: c_uint) {
        let mut driver = ready()?;
        match event(&mut driver, handle)?.captured.clone() {
            Some((id, nodes)) => stream::join(&mut driver, on, id, &nodes),
            None => stream::wait_outside(&mut driver, on),
        }
    }
}
