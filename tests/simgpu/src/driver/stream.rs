//! Streams, and their capture into graphs.
//!
//! Work of all streams runs at once, so an order that the program forgot to ask for is not missed here. What streams
//! do for real is capture: which stream belongs to which capture, what it may not do meanwhile, and how it must end.

use super::graph::Graph;
use super::work::{HostCall, HostFunction, Work};
use super::{Answer, Driver, Handle, Out, offer, put, ready};
use crate::status::Status;
use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{c_int, c_uint, c_void};
use std::thread::ThreadId;

#[derive(Default)]
pub struct Stream {
    flags: c_uint,
    capture: Option<u64>,
}

/// One sequence of captured work, from `cuStreamBeginCapture` to `cuStreamEndCapture`.
pub struct Capture {
    mode: c_int,
    thread: ThreadId,
    origin: Handle,
    /// A call that was not allowed has spoilt it.
    is_spoilt: bool,
    graph: Graph,
    /// The nodes on which the next node of each stream depends.
    tips: HashMap<Handle, Vec<usize>>,
}

/// The default stream, under its two names.
fn is_legacy(handle: Handle) -> bool {
    handle <= 1
}

/// The default stream of a thread; here one for all of them.
const PER_THREAD: Handle = 2;

const NON_BLOCKING: c_uint = 1;

mod mode {
    pub const GLOBAL: i32 = 0;
    pub const RELAXED: i32 = 2;
}

thread_local! {
    /// How this thread's calls mind the captures of other threads.
    static THREAD_MODE: Cell<c_int> = const { Cell::new(mode::GLOBAL) };
}

impl Driver {
    fn stream(&mut self, handle: Handle) -> Answer<&mut Stream> {
        if is_legacy(handle) || handle == PER_THREAD {
            return Ok(self.streams.entry(handle).or_default());
        }
        self.streams.get_mut(&handle).ok_or(Status::InvalidHandle)
    }

    /// The capture that a stream takes part in, if it is not spoilt.
    pub fn capture_of(&mut self, handle: Handle) -> Answer<Option<u64>> {
        let Some(id) = self.stream(handle)?.capture else { return Ok(None) };
        if self.captures.get(&id).is_some_and(|capture| capture.is_spoilt) {
            return Err(Status::StreamCaptureInvalidated);
        }
        Ok(Some(id))
    }

    fn capture(&mut self, id: u64) -> Answer<&mut Capture> {
        self.captures.get_mut(&id).ok_or(Status::IllegalState)
    }

    /// The default stream waits for blocking streams, which a capturing one would make nonsense of.
    fn mind_legacy(&mut self) -> Answer {
        let blocking = self.streams.values().find_map(|s| s.capture.filter(|_| s.flags & NON_BLOCKING == 0));
        match blocking.filter(|id| self.captures.get(id).is_some_and(|capture| !capture.is_spoilt)) {
            Some(id) => spoil(self, id, Status::StreamCaptureImplicit),
            None => Ok(()),
        }
    }

    /// For calls that must not happen during a capture, such as allocations.
    pub fn mind_captures(&mut self) -> Answer {
        let me = std::thread::current().id();
        let of_thread = THREAD_MODE.get();
        let forbidden = self.captures.iter().find(|(_, capture)| {
            let is_mine = capture.thread == me && capture.mode != mode::RELAXED;
            let is_global = of_thread == mode::GLOBAL && capture.mode == mode::GLOBAL;
            of_thread != mode::RELAXED && !capture.is_spoilt && (is_mine || is_global)
        });
        match forbidden.map(|(&id, _)| id) {
            Some(id) => spoil(self, id, Status::StreamCaptureUnsupported),
            None => Ok(()),
        }
    }

    /// For calls that synchronise with the default stream, such as plain copies.
    pub fn mind_synchronous(&mut self) -> Answer {
        self.mind_legacy()?;
        self.mind_captures()
    }
}

/// Marks a capture as failed, and gives the error of the call that did it.
pub fn spoil(driver: &mut Driver, id: u64, status: Status) -> Answer {
    driver.capture(id)?.is_spoilt = true;
    Err(status)
}

/// A capture of any stream that is going on.
pub fn any_capture(driver: &Driver) -> Option<u64> {
    driver.captures.iter().find(|(_, capture)| !capture.is_spoilt).map(|(&id, _)| id)
}

/// Runs work on a stream, or captures it.
pub fn enqueue(handle: Handle, work: Work) -> Answer {
    let mut driver = ready()?;
    if let Some(id) = driver.capture_of(handle)? {
        work.check()?;
        let capture = driver.capture(id)?;
        let needs = capture.tips.remove(&handle).unwrap_or_default();
        let node = capture.graph.add(work, needs);
        capture.tips.insert(handle, vec![node]);
        return Ok(());
    }
    if is_legacy(handle) {
        driver.mind_legacy()?;
    }
    drop(driver);
    work.run()
}

/// Waits for a stream; everything has been done, so this only reports.
fn synchronise(handle: Handle) -> Answer {
    let mut driver = ready()?;
    match driver.capture_of(handle)? {
        Some(id) => spoil(&mut driver, id, Status::StreamCaptureUnsupported),
        None if is_legacy(handle) => driver.mind_legacy(),
        None => Ok(()),
    }
}

// ---- what events need of captures ----

/// The nodes that a stream's next work would depend on, if it is being captured.
pub fn tips(driver: &mut Driver, handle: Handle) -> Answer<Option<(u64, Vec<usize>)>> {
    let Some(id) = driver.capture_of(handle)? else { return Ok(None) };
    let nodes = driver.capture(id)?.tips.get(&handle).cloned().unwrap_or_default();
    Ok(Some((id, nodes)))
}

/// Makes a stream wait for nodes of a capture, in which it takes part from now on.
pub fn join(driver: &mut Driver, handle: Handle, id: u64, nodes: &[usize]) -> Answer {
    if !driver.captures.contains_key(&id) {
        return Err(Status::CapturedEvent);
    }
    if is_legacy(handle) {
        return spoil(driver, id, Status::StreamCaptureImplicit);
    }
    match driver.capture_of(handle)? {
        Some(other) if other != id => return spoil(driver, id, Status::StreamCaptureMerge),
        _ => driver.stream(handle)?.capture = Some(id),
    }
    let tips = driver.capture(id)?.tips.entry(handle).or_default();
    for &node in nodes {
        if !tips.contains(&node) {
            tips.push(node);
        }
    }
    Ok(())
}

/// Makes a stream wait for an event of work that is not captured.
pub fn wait_outside(driver: &mut Driver, handle: Handle) -> Answer {
    match driver.capture_of(handle)? {
        Some(id) => spoil(driver, id, Status::StreamCaptureIsolation),
        None => Ok(()),
    }
}

// ---- beginning and ending ----

fn begin(handle: Handle, mode: c_int) -> Answer {
    let mut driver = ready()?;
    if is_legacy(handle) {
        return Err(Status::StreamCaptureUnsupported);
    }
    if !(0..=mode::RELAXED).contains(&mode) {
        return Err(Status::InvalidValue);
    }
    if driver.stream(handle)?.capture.is_some() {
        return Err(Status::IllegalState);
    }
    let id = driver.fresh() as u64;
    driver.stream(handle)?.capture = Some(id);
    let thread = std::thread::current().id();
    let tips = HashMap::from([(handle, vec![])]);
    let capture = Capture { mode, thread, origin: handle, is_spoilt: false, graph: Graph::default(), tips };
    driver.captures.insert(id, capture);
    Ok(())
}

fn end(handle: Handle) -> Answer<Graph> {
    let mut driver = ready()?;
    let id = driver.stream(handle)?.capture.ok_or(Status::IllegalState)?;
    let capture = driver.capture(id)?;
    if capture.origin != handle {
        return spoil(&mut driver, id, Status::StreamCaptureUnmatched).map(|()| Graph::default());
    }
    if capture.mode != mode::RELAXED && capture.thread != std::thread::current().id() {
        return Err(Status::StreamCaptureWrongThread);
    }
    let capture = driver.captures.remove(&id).ok_or(Status::IllegalState)?;
    for stream in driver.streams.values_mut() {
        if stream.capture == Some(id) {
            stream.capture = None;
        }
    }
    if capture.is_spoilt {
        return Err(Status::StreamCaptureInvalidated);
    }
    let empty = vec![];
    let joined = capture.graph.ancestors(capture.tips.get(&handle).unwrap_or(&empty));
    let is_joined = |node: &usize| joined.contains(node);
    if !capture.tips.values().flatten().all(is_joined) {
        return Err(Status::StreamCaptureUnjoined);
    }
    Ok(capture.graph)
}

fn create(out: Out<Handle>, flags: c_uint) -> Answer {
    let mut driver = ready()?;
    if flags > NON_BLOCKING {
        return Err(Status::InvalidValue);
    }
    let handle = driver.fresh();
    driver.streams.insert(handle, Stream { flags, capture: None });
    put(out, handle)
}

/// `CUstreamCaptureStatus` of a stream, and the number of its capture.
fn capture_status(handle: Handle) -> Answer<(c_int, u64)> {
    let mut driver = ready()?;
    let Some(id) = driver.stream(handle)?.capture else { return Ok((0, 0)) };
    Ok((1 + driver.capture(id)?.is_spoilt as c_int, id))
}

super::api! {
    fn cuStreamCreate(out: Out<Handle>, flags: c_uint) { create(out, flags) }

    fn cuStreamCreateWithPriority(out: Out<Handle>, flags: c_uint, _priority: c_int) { create(out, flags) }

    fn cuStreamDestroy_v2(handle: Handle) {
        let mut driver = super::lock();
        let stream = driver.streams.remove(&handle).ok_or(Status::InvalidHandle)?;
        if let Some(id) = stream.capture {
            driver.captures.remove(&id);
        }
        Ok(())
    }

    fn cuStreamSynchronize(handle: Handle) { synchronise(handle) }

    fn cuStreamIsCapturing(handle: Handle, out: Out<c_int>) { put(out, capture_status(handle)?.0) }

    fn cuStreamBeginCapture_v2(handle: Handle, mode: c_int) { begin(handle, mode) }

    fn cuStreamEndCapture(handle: Handle, out: Out<Handle>) {
        match end(handle) {
            Ok(graph) => {
                let mut driver = ready()?;
                let name = driver.fresh();
                driver.graphs.insert(name, graph);
                put(out, name)
            }
            Err(status) => {
                offer(out, 0);
                Err(status)
            }
        }
    }

    fn cuLaunchHostFunc(handle: Handle, function: Option<HostFunction>, data: *mut c_void) {
        let function = function.ok_or(Status::InvalidValue)?;
        enqueue(handle, Work::Host(HostCall { function, data: data as usize }))
    }

    /// Memory is attached to all streams in any case.
    fn cuStreamAttachMemAsync(handle: Handle, _address: u64, _length: usize, _flags: c_uint) {
        enqueue(handle, Work::Nothing)
    }
}
