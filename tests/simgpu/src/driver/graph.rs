//! Graphs: works with dependencies. An executable is their works in one order; another seed gives another order.

use super::launch::{Arguments, prepare};
use super::stream::enqueue;
use super::work::{Fill, HostCall, HostFunction, Work};
use super::{Answer, Driver, Handle, Out, lock, offer, put, ready};
use crate::random::Random;
use crate::status::Status;
use std::collections::HashSet;
use std::ffi::{c_int, c_uint, c_void};

#[derive(Clone)]
struct Node {
    name: Handle,
    work: Work,
    needs: Vec<usize>,
}

#[derive(Clone, Default)]
pub struct Graph {
    nodes: Vec<Node>,
}

pub struct Executable {
    works: Vec<Work>,
    /// The nodes that they come from.
    names: Vec<Handle>,
}

impl Graph {
    /// Adds a node that runs after others, and gives its index.
    pub fn add(&mut self, name: Handle, work: Work, needs: Vec<usize>) -> usize {
        self.nodes.push(Node { name, work, needs });
        self.nodes.len() - 1
    }

    /// These nodes and all that they need.
    pub fn ancestors(&self, of: &[usize]) -> HashSet<usize> {
        let mut found = HashSet::new();
        let mut todo = of.to_vec();
        while let Some(node) = todo.pop() {
            if found.insert(node) {
                todo.extend(&self.nodes[node].needs);
            }
        }
        found
    }

    fn index(&self, name: Handle) -> Answer<usize> {
        self.nodes.iter().position(|node| node.name == name).ok_or(Status::InvalidValue)
    }

    fn names(&self, indices: impl IntoIterator<Item = usize>) -> Vec<Handle> {
        indices.into_iter().map(|index| self.nodes[index].name).collect()
    }

    fn roots(&self) -> Vec<Handle> {
        self.names((0..self.nodes.len()).filter(|&index| self.nodes[index].needs.is_empty()))
    }

    /// An order in which every node comes after those that it needs: the first possible one or, with a seed, any.
    fn order(&self) -> Answer<Vec<usize>> {
        let seed = crate::config::live().seed;
        let mut random = Random::new(seed, self.nodes.len() as u64);
        let mut order = Vec::new();
        let mut is_done = vec![false; self.nodes.len()];
        while order.len() < self.nodes.len() {
            let is_ready =
                |&index: &usize| !is_done[index] && self.nodes[index].needs.iter().all(|&need| is_done[need]);
            let ready: Vec<usize> = (0..self.nodes.len()).filter(is_ready).collect();
            if ready.is_empty() {
                // A cycle.
                return Err(Status::InvalidValue);
            }
            let pick = if seed == 0 { 0 } else { (random.draw() % ready.len() as u64) as usize };
            is_done[ready[pick]] = true;
            order.push(ready[pick]);
        }
        Ok(order)
    }
}

/// `CUgraphNodeType`.
fn kind(work: &Work) -> c_int {
    match work {
        Work::Kernel(_) => 0,
        Work::Copy(_) => 1,
        Work::Fill(_) => 2,
        Work::Host(_) => 3,
        Work::Child(_) => 4,
        Work::Nothing => 5,
        Work::Allocate(_) => 10,
        Work::Free => 11,
    }
}

fn graph(driver: &mut Driver, handle: Handle) -> Answer<&mut Graph> {
    driver.graphs.get_mut(&handle).ok_or(Status::InvalidValue)
}

/// The graph that has this node, and its index there.
fn node(driver: &Driver, name: Handle) -> Answer<(&Graph, usize)> {
    let found = driver.graphs.values().find_map(|graph| Some((graph, graph.index(name).ok()?)));
    found.ok_or(Status::InvalidValue)
}

/// `CUgraphInstantiate_flags` that exclude each other.
const AUTO_FREE: u64 = 1;
const DEVICE_LAUNCH: u64 = 4;

fn instantiate(out: Out<Handle>, handle: Handle, flags: u64) -> Answer {
    if flags & (AUTO_FREE | DEVICE_LAUNCH) == AUTO_FREE | DEVICE_LAUNCH {
        return Err(Status::InvalidValue);
    }
    let mut driver = ready()?;
    let graph = graph(&mut driver, handle)?;
    let order = graph.order()?;
    let works = order.iter().map(|&index| graph.nodes[index].work.clone()).collect();
    let names = graph.names(order);
    let name = driver.fresh();
    driver.executables.insert(name, Executable { works, names });
    put(out, name)
}

/// Adds a node for a program that builds its graph itself.
///
/// # Safety
///
/// `needs` is null or has `count` nodes.
unsafe fn add(out: Out<Handle>, handle: Handle, needs: *const Handle, count: usize, work: Work) -> Answer {
    work.check()?;
    // SAFETY: promised by the caller.
    let needs = unsafe { list(needs, count) };
    let mut driver = ready()?;
    let name = driver.fresh();
    let graph = graph(&mut driver, handle)?;
    let needs = needs.iter().map(|&need| graph.index(need)).collect::<Answer<Vec<usize>>>()?;
    graph.add(name, work, needs);
    put(out, name)
}

/// An array of the caller.
///
/// # Safety
///
/// `start` is null or has `count` handles.
unsafe fn list<'a>(start: *const Handle, count: usize) -> &'a [Handle] {
    if start.is_null() {
        return &[];
    }
    // SAFETY: promised by the caller.
    unsafe { std::slice::from_raw_parts(start, count) }
}

/// Gives a list by the API's protocol: without a place only its length; with one, as many as fit.
///
/// # Safety
///
/// `to` is null or has room for `*count` handles.
unsafe fn give(found: &[Handle], to: *mut Handle, count: Option<&mut usize>) -> Answer {
    let count = count.ok_or(Status::InvalidValue)?;
    if to.is_null() {
        *count = found.len();
        return Ok(());
    }
    for at in 0..*count {
        // SAFETY: there is room for `count` handles.
        unsafe { *to.add(at) = found.get(at).copied().unwrap_or(0) };
    }
    *count = found.len().min(*count);
    Ok(())
}

/// `CUDA_KERNEL_NODE_PARAMS`, version 2.
#[repr(C)]
pub struct KernelNode {
    function: Handle,
    grid: [c_uint; 3],
    block: [c_uint; 3],
    shared: c_uint,
    pointers: Arguments,
    packed: Arguments,
    kernel: Handle,
    context: Handle,
}

impl KernelNode {
    fn work(node: Option<&KernelNode>) -> Answer<Work> {
        let n = node.ok_or(Status::InvalidValue)?;
        // SAFETY: the structure's arrays are as the driver API wants them.
        unsafe { prepare(n.function, n.grid, n.block, n.shared, n.pointers, n.packed) }
    }
}

/// `CUDA_MEMSET_NODE_PARAMS`.
#[repr(C)]
pub struct FillNode {
    to: u64,
    pitch: usize,
    value: c_uint,
    element: c_uint,
    width: usize,
    height: usize,
}

/// `CUDA_HOST_NODE_PARAMS`.
#[repr(C)]
pub struct HostNode {
    function: Option<HostFunction>,
    data: *mut c_void,
}

super::api! {
    fn cuGraphCreate(out: Out<Handle>, _flags: c_uint) {
        let mut driver = ready()?;
        let name = driver.fresh();
        driver.graphs.insert(name, Graph::default());
        put(out, name)
    }

    fn cuGraphDestroy(handle: Handle) {
        lock().graphs.remove(&handle).ok_or(Status::InvalidValue).map(|_| ())
    }

    fn cuGraphClone(out: Out<Handle>, handle: Handle) {
        let mut driver = ready()?;
        let mut copy = graph(&mut driver, handle)?.clone();
        for node in &mut copy.nodes {
            node.name = driver.fresh();
        }
        let name = driver.fresh();
        driver.graphs.insert(name, copy);
        put(out, name)
    }

    fn cuGraphAddKernelNode_v2(
        out: Out<Handle>,
        handle: Handle,
        needs: *const Handle,
        count: usize,
        node: Option<&KernelNode>,
    ) {
        // SAFETY: promised by the caller of the API.
        unsafe { add(out, handle, needs, count, KernelNode::work(node)?) }
    }

    fn cuGraphAddMemsetNode(
        out: Out<Handle>,
        handle: Handle,
        needs: *const Handle,
        count: usize,
        node: Option<&FillNode>,
        _context: Handle,
    ) {
        let n = node.ok_or(Status::InvalidValue)?;
        let (element, width, height) = (n.element as usize, n.width, n.height);
        if ![1, 2, 4].contains(&element) {
            return Err(Status::InvalidValue);
        }
        let pitch = if height > 1 { n.pitch } else { width * element };
        let fill = Fill { to: n.to, value: n.value, element, width, height, pitch };
        // SAFETY: promised by the caller of the API.
        unsafe { add(out, handle, needs, count, Work::Fill(fill)) }
    }

    fn cuGraphAddHostNode(
        out: Out<Handle>,
        handle: Handle,
        needs: *const Handle,
        count: usize,
        node: Option<&HostNode>,
    ) {
        let node = node.ok_or(Status::InvalidValue)?;
        let function = node.function.ok_or(Status::InvalidValue)?;
        let call = HostCall { function, data: node.data as usize };
        // SAFETY: promised by the caller of the API.
        unsafe { add(out, handle, needs, count, Work::Host(call)) }
    }

    fn cuGraphAddEmptyNode(out: Out<Handle>, handle: Handle, needs: *const Handle, count: usize) {
        // SAFETY: promised by the caller of the API.
        unsafe { add(out, handle, needs, count, Work::Nothing) }
    }

    fn cuGraphAddChildGraphNode(
        out: Out<Handle>,
        handle: Handle,
        needs: *const Handle,
        count: usize,
        child: Handle,
    ) {
        let works = {
            let mut driver = ready()?;
            let child = graph(&mut driver, child)?;
            let order = child.order()?;
            order.into_iter().map(|index| child.nodes[index].work.clone()).collect()
        };
        // SAFETY: promised by the caller of the API.
        unsafe { add(out, handle, needs, count, Work::Child(works)) }
    }

    fn cuGraphAddDependencies(handle: Handle, from: *const Handle, to: *const Handle, count: usize) {
        // SAFETY: promised by the caller of the API.
        let (from, to) = unsafe { (list(from, count), list(to, count)) };
        let mut driver = ready()?;
        let graph = graph(&mut driver, handle)?;
        for (&from, &to) in from.iter().zip(to) {
            let (from, to) = (graph.index(from)?, graph.index(to)?);
            if !graph.nodes[to].needs.contains(&from) {
                graph.nodes[to].needs.push(from);
            }
        }
        Ok(())
    }

    fn cuGraphGetNodes(handle: Handle, to: *mut Handle, count: Option<&mut usize>) {
        let mut driver = ready()?;
        let graph = graph(&mut driver, handle)?;
        let found = graph.names(0..graph.nodes.len());
        // SAFETY: promised by the caller of the API.
        unsafe { give(&found, to, count) }
    }

    fn cuGraphGetRootNodes(handle: Handle, to: *mut Handle, count: Option<&mut usize>) {
        let found = graph(&mut *ready()?, handle)?.roots();
        // SAFETY: promised by the caller of the API.
        unsafe { give(&found, to, count) }
    }

    fn cuGraphGetEdges(handle: Handle, from: *mut Handle, to: *mut Handle, count: Option<&mut usize>) {
        let count = count.ok_or(Status::InvalidValue)?;
        let mut driver = ready()?;
        let graph = graph(&mut driver, handle)?;
        let edges = graph.nodes.iter().flat_map(|node| node.needs.iter().map(|&need| (need, node.name)));
        let (starts, ends): (Vec<usize>, Vec<Handle>) = edges.unzip();
        // SAFETY: promised by the caller of the API.
        unsafe {
            give(&graph.names(starts), from, Some(&mut count.clone()))?;
            give(&ends, to, Some(count))
        }
    }

    fn cuGraphNodeGetType(name: Handle, out: Out<c_int>) {
        let driver = ready()?;
        let (graph, index) = node(&driver, name)?;
        put(out, kind(&graph.nodes[index].work))
    }

    fn cuGraphNodeGetDependencies(name: Handle, to: *mut Handle, count: Option<&mut usize>) {
        let driver = ready()?;
        let (graph, index) = node(&driver, name)?;
        let found = graph.names(graph.nodes[index].needs.iter().copied());
        // SAFETY: promised by the caller of the API.
        unsafe { give(&found, to, count) }
    }

    fn cuGraphInstantiateWithFlags(out: Out<Handle>, handle: Handle, flags: u64) {
        instantiate(out, handle, flags)
    }

    fn cuGraphInstantiate_v2(
        out: Out<Handle>,
        handle: Handle,
        error_node: Out<Handle>,
        _log: *mut u8,
        _bytes: usize,
    ) {
        offer(error_node, 0);
        instantiate(out, handle, 0)
    }

    fn cuGraphInstantiateWithParams(out: Out<Handle>, handle: Handle, _params: *mut c_void) {
        instantiate(out, handle, 0)
    }

    fn cuGraphExecKernelNodeSetParams_v2(handle: Handle, name: Handle, params: Option<&KernelNode>) {
        let work = KernelNode::work(params)?;
        let mut driver = ready()?;
        let executable = driver.executables.get_mut(&handle).ok_or(Status::InvalidValue)?;
        let at = executable.names.iter().position(|&other| other == name).ok_or(Status::InvalidValue)?;
        executable.works[at] = work;
        Ok(())
    }

    fn cuGraphExecUpdate_v2(handle: Handle, from: Handle, result: *mut c_void) {
        let mut driver = ready()?;
        let graph = graph(&mut driver, from)?;
        let order = graph.order()?;
        let works: Vec<Work> = order.iter().map(|&index| graph.nodes[index].work.clone()).collect();
        let executable = driver.executables.get_mut(&handle).ok_or(Status::InvalidValue)?;
        let is_same = works.len() == executable.works.len()
            && works.iter().zip(&executable.works).all(|(new, old)| kind(new) == kind(old));
        if !result.is_null() {
            // SAFETY: the caller's `CUgraphExecUpdateResultInfo` begins with the result: 0 success, 1 error.
            unsafe { result.cast::<c_int>().write(!is_same as c_int) };
        }
        if !is_same {
            return Err(Status::GraphExecUpdateFailure);
        }
        executable.works = works;
        Ok(())
    }

    fn cuGraphExecDestroy(handle: Handle) {
        lock().executables.remove(&handle).ok_or(Status::InvalidValue).map(|_| ())
    }

    fn cuGraphUpload(handle: Handle, _stream: Handle) {
        if ready()?.executables.contains_key(&handle) { Ok(()) } else { Err(Status::InvalidValue) }
    }

    fn cuGraphLaunch(handle: Handle, stream: Handle) {
        let works = ready()?.executables.get(&handle).ok_or(Status::InvalidValue)?.works.clone();
        enqueue(stream, Work::Child(works))
    }
}
