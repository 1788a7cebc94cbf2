//! A program on the device: its launches with functions, and, for each choice of buffers, their addresses and
//! the graph that replays them.

use std::ffi::c_void;
use std::sync::Arc;

use super::driver::{Context, Function, Graph, Memory, Stream};
use super::launch::{Argument, Launch};
use super::lower::Task;
use crate::device::Buffer;
use crate::error::{Error, Result};
use crate::tape::plan::{Place, Plan, Region};

/// How a step is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Kernel by kernel at its first run, each waited for, so that an error names its operation; then recorded
    /// and replayed.
    #[default]
    Graph,
    /// Kernel by kernel.
    Steps,
    /// Kernel by kernel, each waited for, so that an error names its operation.
    Sync,
}

pub struct Program {
    pub plan: Plan,
    pub arena: Memory,
    tasks: Vec<(Task, Vec<Function>)>,
    bound: Vec<Bound>,
}

/// A program with addresses.
struct Bound {
    leaves: Vec<Buffer>,
    /// Emptied once there is a graph, which is from the first run on.
    calls: Vec<Call>,
    graph: Option<Graph>,
    /// Tables of segments, which launches read.
    _tables: Vec<Memory>,
}

/// One launch with everything that the driver needs.
struct Call {
    /// Number of the task.
    task: usize,
    function: Function,
    grid: [u32; 3],
    block: [u32; 3],
    /// Values of the arguments, each at a multiple of 8 bytes, and where each begins.
    values: Vec<u64>,
    begins: Vec<usize>,
}

impl Call {
    fn start(&self, stream: &Stream) -> Result<()> {
        let mut pointers: Vec<*mut c_void> =
            self.begins.iter().map(|&b| self.values[b..].as_ptr().cast_mut().cast::<c_void>()).collect();
        // SAFETY: the launch was planned for this function; its addresses are of buffers that were checked
        // against the plan, and of the arena. The driver copies the values before it returns.
        unsafe { stream.launch(&self.function, self.grid, self.block, &mut pointers) }
    }
}

impl Program {
    pub fn new(plan: Plan, arena: Memory, tasks: Vec<(Task, Vec<Function>)>) -> Self {
        Program { plan, arena, tasks, bound: Vec::new() }
    }

    /// The place of this choice of buffers, if the program has run with it before.
    pub fn find(&self, leaves: &[Buffer]) -> Option<usize> {
        self.bound.iter().position(|b| b.leaves == leaves)
    }

    /// Forgets everything that uses a buffer.
    pub fn forget(&mut self, buffer: Buffer) {
        self.bound.retain(|b| !b.leaves.contains(&buffer));
    }

    /// Prepares a run with these buffers; `address` tells where a buffer is.
    pub fn bind(
        &mut self,
        stream: &Stream,
        leaves: &[Buffer],
        address: impl Fn(Buffer) -> u64,
    ) -> Result<usize> {
        let arena = self.arena.address();
        let locate = |place: &Place| match place.region {
            Region::Arena(offset) => arena + offset as u64,
            Region::Leaf(leaf) => address(leaves[leaf as usize]),
        };
        let (mut calls, mut tables) = (Vec::new(), Vec::new());
        for (number, (task, functions)) in self.tasks.iter().enumerate() {
            for (launch, function) in task.launches.iter().zip(functions) {
                let at = Addresses { task, locate: &locate };
                calls.push(at.call(number, launch, function, stream, &mut tables)?);
            }
        }
        self.bound.push(Bound { leaves: leaves.to_vec(), calls, graph: None, _tables: tables });
        Ok(self.bound.len() - 1)
    }

    /// Has it run before, so that a graph stands for its launches?
    pub fn is_recorded(&self, bound: usize) -> bool {
        self.bound[bound].graph.is_some()
    }

    pub fn run(&mut self, stream: &Stream, bound: usize, mode: Mode) -> Result<()> {
        let Bound { calls, graph, .. } = &self.bound[bound];
        if let Some(graph) = graph {
            return stream.replay(graph);
        }
        let wait = mode != Mode::Steps;
        if wait {
            // An error of earlier work is not the first operation's.
            stream.synchronize()?;
        }
        for call in calls {
            let waited = || if wait { stream.synchronize() } else { Ok(()) };
            if let Err(error) = call.start(stream).and_then(|()| waited()) {
                return Err(Error::Device(format!("{}: {error}", self.name(call.task))));
            }
        }
        if mode == Mode::Graph {
            let graph = stream.record(|| calls.iter().try_for_each(|call| call.start(stream)))?;
            let bound = &mut self.bound[bound];
            (bound.graph, bound.calls) = (Some(graph), Vec::new());
        }
        Ok(())
    }

    /// What messages call a task.
    fn name(&self, task: usize) -> String {
        let steps = &self.tasks[task].0.steps;
        let step = &self.plan.steps[steps[0]];
        let more = if steps.len() > 1 { format!(" and {} like it", steps.len() - 1) } else { String::new() };
        format!("step {} of the plan, {} (node {:?}){more}", steps[0], step.kernel.name(), step.node)
    }
}

struct Addresses<'a, L> {
    task: &'a Task,
    locate: &'a L,
}

impl<L: Fn(&Place) -> u64> Addresses<'_, L> {
    /// The value of an argument that takes one word.
    fn word(&self, argument: &Argument) -> u64 {
        match argument {
            Argument::Read(i) => (self.locate)(&self.task.reads[*i]),
            Argument::Write(i) => (self.locate)(&self.task.writes[*i]),
            Argument::Workspace(element) => (self.locate)(&self.task.workspace) + 4 * *element as u64,
            Argument::U32(value) => u64::from(*value),
            Argument::U64(value) => *value,
            Argument::F32(value) => u64::from(value.to_bits()),
            Argument::Null | Argument::Bytes(_) | Argument::Table(_) => 0,
        }
    }

    fn call(
        &self,
        task: usize,
        launch: &Launch,
        function: &Function,
        stream: &Stream,
        tables: &mut Vec<Memory>,
    ) -> Result<Call> {
        let (mut values, mut begins): (Vec<u64>, Vec<usize>) = (Vec::new(), Vec::new());
        for argument in &launch.arguments {
            begins.push(values.len());
            match argument {
                Argument::Bytes(bytes) => {
                    values.extend(bytes.chunks(8).map(|chunk| {
                        let mut word = [0; 8];
                        word[..chunk.len()].copy_from_slice(chunk);
                        u64::from_ne_bytes(word)
                    }));
                }
                Argument::Table(cells) => {
                    let cells: Vec<u64> = cells.iter().map(|c| self.word(c)).collect();
                    let bytes: &[u8] = bytemuck::cast_slice(&cells);
                    let context: &Arc<Context> = stream.context();
                    let table = Memory::new(context, bytes.len(), "a table of tensors")?;
                    stream.upload(table.address(), bytes)?;
                    values.push(table.address());
                    tables.push(table);
                }
                word => values.push(self.word(word)),
            }
        }
        let (grid, block) = (launch.grid, launch.block);
        Ok(Call { task, function: function.clone(), grid, block, values, begins })
    }
}
