//! Graphs: works with dependencies. An executable is their works in one order; another seed gives another order.

use super::stream::enqueue;
use super::work::Work;
use super::{Answer, Driver, Handle, Out, lock, put, ready};
use crate::random::Random;
use crate::status::Status;
use std::collections::HashSet;

#[derive(Clone)]
struct Node {
    work: Work,
    needs: Vec<usize>,
}

#[derive(Clone, Default)]
pub struct Graph {
    nodes: Vec<Node>,
}

pub struct Executable(Vec<Work>);

impl Graph {
    /// Adds a node that runs after others, and gives its index.
    pub fn add(&mut self, work: Work, needs: Vec<usize>) -> usize {
        self.nodes.push(Node { work, needs });
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

fn graph(driver: &mut Driver, handle: Handle) -> Answer<&mut Graph> {
    driver.graphs.get_mut(&handle).ok_or(Status::InvalidValue)
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
    let name = driver.fresh();
    driver.executables.insert(name, Executable(works));
    put(out, name)
}

super::api! {
    fn cuGraphDestroy(handle: Handle) {
        lock().graphs.remove(&handle).ok_or(Status::InvalidValue).map(|_| ())
    }

    fn cuGraphInstantiateWithFlags(out: Out<Handle>, handle: Handle, flags: u64) {
        instantiate(out, handle, flags)
    }

    fn cuGraphExecDestroy(handle: Handle) {
        lock().executables.remove(&handle).ok_or(Status::InvalidValue).map(|_| ())
    }

    fn cuGraphUpload(handle: Handle, _stream: Handle) {
        if ready()?.executables.contains_key(&handle) { Ok(()) } else { Err(Status::InvalidValue) }
    }

    fn cuGraphLaunch(handle: Handle, stream: Handle) {
        let works = ready()?.executables.get(&handle).ok_or(Status::InvalidValue)?.0.clone();
        enqueue(stream, Work::Child(works))
    }
}
