//! The CUDA device: kernels of `kernels/`, compiled by NVRTC and launched through the driver, both loaded at
//! run time if they are there. It computes in single precision.
//!
//! [`lower`] turns a plan into launches, without a driver; [`compile`] and [`driver`] are the borders to
//! NVIDIA's libraries; [`program`] binds launches to addresses, records them as a graph and replays it;
//! [`parameters`] brings small values to the device in one copy; [`images`] makes batches. [`cost`] and [`rates`]
//! say what launches need at least, [`watch`] what they did.

pub mod compile;
pub mod conv;
pub mod cost;
pub mod driver;
pub mod gemm;
mod groups;
mod images;
pub mod kmeans;
pub mod launch;
pub mod lower;
mod modules;
mod parameters;
pub mod pointwise;
mod program;
pub mod rates;
mod rows;
mod tile;
mod watch;

use std::cell::RefCell;
use std::sync::Arc;

use super::{Buffer, Device, HostSlice, HostSliceMut, ImageSet, Program as Handle, bindings};
use crate::device::kmeans::Loaded;
use crate::error::{Error, Result};
use crate::pixels::{Look, Pixels, Visit};
use crate::tape::plan::{Place, Plan, Region};
use crate::tape::{Kind, Tape};
use crate::tensor::DType;
use driver::{Context, Function, Memory, Pinned, Stream};
use images::{Fill, Images};
pub use launch::Precision;
use launch::Source;
use modules::Modules;
use parameters::Parameters;
pub use program::Mode;
use program::Program;
pub use watch::{Launched, Watcher};

/// How the CUDA device plans and runs.
#[derive(Clone, Copy, Debug)]
pub struct CudaOptions {
    /// Number of the device.
    pub ordinal: usize,
    /// Of products.
    pub precision: Precision,
    pub mode: Mode,
    /// Fuse chains of operations; off only in tests.
    pub fuse: bool,
    /// Bytes that a set of images may take to stay on the device [default: half of what is free].
    pub images: Option<usize>,
}

impl Default for CudaOptions {
    /// `TESSERA_CUDA_SYNC=1` waits for every kernel, so that errors name their operation.
    fn default() -> Self {
        let sync = std::env::var_os("TESSERA_CUDA_SYNC").is_some_and(|v| !v.is_empty() && v != "0");
        let mode = if sync { Mode::Sync } else { Mode::Graph };
        CudaOptions { ordinal: 0, precision: Precision::F32, mode, fuse: true, images: None }
    }
}

struct Slot {
    kind: Kind,
    len: usize,
    memory: Memory,
}

/// Values and batches that wait for the next run.
struct Waiting {
    parameters: Parameters,
    fills: Vec<Fill>,
}

pub struct Cuda {
    options: CudaOptions,
    modules: Modules,
    buffers: Vec<Option<Slot>>,
    programs: Vec<Program>,
    images: Vec<Images>,
    /// Sent by reading too, which does not change the device otherwise.
    waiting: RefCell<Waiting>,
    /// Where single values arrive.
    figures: RefCell<Pinned>,
    batch: Function,
    stream: Stream,
    context: Arc<Context>,
}

/// Oldest compute capability that the kernels are written for, `80` for 8.0.
pub const OLDEST: u32 = 80;

/// Rows of a batch that are sent at once; two words each fit the parameter block.
const ROWS: usize = 4096;

/// Single values that are read at once.
const FIGURES: usize = 64;

/// Bytes of an element.
fn size_of_kind(kind: Kind) -> usize {
    match kind {
        Kind::Real | Kind::U32 => 4,
        Kind::U8 => 1,
    }
}

/// Functions that every device launches beside those of its programs, and threads of their blocks: the
/// delivery of parameters, and batches of images.
pub fn functions() -> [(launch::Function, u32); 2] {
    let plain = |file: &'static str, entry: &'static str| launch::Function {
        source: Source::File(file),
        defines: Vec::new(),
        entry: entry.into(),
        dynamic_shared: 0,
    };
    [(plain("copy", "deliver"), parameters::THREADS), (plain("batch", "batch"), images::THREADS as u32)]
}

impl Cuda {
    pub fn open(options: CudaOptions) -> Result<Self> {
        driver::version()?;
        compile::version()?;
        let context = Context::open(options.ordinal)?;
        let found = &context.properties;
        if found.architecture < OLDEST {
            let digits = |a: u32| format!("{}.{}", a / 10, a % 10);
            let (have, need) = (digits(found.architecture), digits(OLDEST));
            return Err(Error::Device(format!(
                "CUDA cannot be had: {} has compute capability {have}; the kernels need {need}",
                found.name
            )));
        }
        let stream = Stream::new(&context)?;
        let mut modules = Modules::new(&context)?;
        let found = modules.functions(&functions().map(|(function, _)| function))?;
        let [deliver, batch] = <[Function; 2]>::try_from(found)
            .map_err(|_| Error::Device("a kernel of every device is missing".into()))?;
        let parameters = Parameters::new(&context, deliver)?;
        let waiting = RefCell::new(Waiting { parameters, fills: Vec::with_capacity(16) });
        let figures = RefCell::new(Pinned::new(&context, 4 * FIGURES)?);
        let (buffers, programs, images) = Default::default();
        Ok(Cuda { options, modules, buffers, programs, images, waiting, figures, batch, stream, context })
    }

    /// Has every launch from now on waited for, timed, and told; `None` ends that. A graph's launches cannot
    /// be told apart, so the device must have been opened to run kernel by kernel.
    pub fn watch(&self, watcher: Option<Watcher>) -> Result<()> {
        if self.options.mode == Mode::Graph {
            return Err(Error::Device("launches are watched kernel by kernel only, not in graphs".into()));
        }
        self.context.watch(watcher);
        Ok(())
    }

    fn slot(&self, buffer: Buffer) -> Result<&Slot> {
        self.buffers
            .get(buffer.0)
            .and_then(Option::as_ref)
            .ok_or_else(|| Error::Device(format!("buffer {} does not exist", buffer.0)))
    }

    /// Kind, length and address of an output.
    fn output(&self, program: Handle, index: usize) -> Result<(Kind, usize, u64)> {
        let Program { plan, arena, .. } = &self.programs[program.0];
        match plan.outputs.get(index).map(|o| o.place) {
            Some(Place { region: Region::Arena(offset), kind, len }) => {
                Ok((kind, len, arena.address() + offset as u64))
            }
            _ => Err(Error::Device(format!("the program has no output number {index}"))),
        }
    }

    /// Sends what waits.
    fn flush(&self) -> Result<()> {
        let mut waiting = self.waiting.borrow_mut();
        let Waiting { parameters, fills } = &mut *waiting;
        let payload = parameters.send(&self.stream)?;
        let filled =
            fills.iter().try_for_each(|f| self.images[f.set()].fill(&self.stream, &self.batch, f, payload));
        fills.clear();
        filled
    }

    /// Adds to an error of work that was started earlier how its cause can be found.
    fn explain(&self, error: Error) -> Error {
        match (error, self.options.mode) {
            (Error::Device(text), Mode::Graph | Mode::Steps) => {
                Error::Device(format!("{text}; TESSERA_CUDA_SYNC=1 names the operation that failed"))
            }
            (error, _) => error,
        }
    }

    fn download(&self, kind: Kind, len: usize, from: u64, values: HostSliceMut<'_>) -> Result<()> {
        if kind != values.kind() || len != values.len() {
            return Err(mismatch(kind, len, values.kind(), values.len()));
        }
        self.flush()?;
        let bytes: &mut [u8] = match values {
            HostSliceMut::F32(v) => bytemuck::cast_slice_mut(v),
            HostSliceMut::U32(v) => bytemuck::cast_slice_mut(v),
            HostSliceMut::U8(v) => v,
            HostSliceMut::F64(wide) => {
                let mut narrow = vec![0.0_f32; len];
                let bytes = bytemuck::cast_slice_mut(&mut narrow);
                self.stream.download(bytes, from).map_err(|e| self.explain(e))?;
                wide.iter_mut().zip(narrow).for_each(|(to, v)| *to = f64::from(v));
                return Ok(());
            }
        };
        self.stream.download(bytes, from).map_err(|e| self.explain(e))
    }

    /// Makes the part of a batch that begins at position `first`, at an address, before the next run.
    fn fill_part(
        &mut self,
        set: ImageSet,
        pixels: &Pixels<'_>,
        rows: &[u32],
        visit: &Visit,
        first: usize,
        to: u64,
    ) -> Result<()> {
        let resident = self.images[set.0].is_resident();
        let full = {
            let waiting = self.waiting.borrow();
            // One batch of a set that is not on the device at a time: they share a buffer there.
            let busy = |f: &Fill| f.into() == to || (!resident && f.set() == set.0);
            !waiting.parameters.has_room(8 * rows.len()) || waiting.fills.iter().any(busy)
        };
        if full {
            self.flush()?;
        }
        let sent = self.images[set.0].send_ahead(&self.stream, pixels, rows)?;
        let waiting = self.waiting.get_mut();
        let row = |(i, &row): (usize, &u32)| if sent { i as u32 } else { row };
        let first_row = waiting.parameters.keep(rows.iter().enumerate().map(row));
        let flags = self.images[set.0].flags(first..first + rows.len(), visit);
        let first_flag = waiting.parameters.keep(flags);
        waiting.fills.push(Fill::new(set.0, to, rows.len(), first_row, first_flag));
        Ok(())
    }

    fn upload(&self, to: u64, bytes: &[u8]) -> Result<()> {
        if bytes.len() > parameters::SMALL {
            self.flush()?;
            return self.stream.upload(to, bytes).map_err(|e| self.explain(e));
        }
        let full = {
            let waiting = self.waiting.borrow();
            !waiting.parameters.has_room(bytes.len()) || waiting.fills.iter().any(|f| f.into() == to)
        };
        if full {
            self.flush()?;
        }
        self.waiting.borrow_mut().parameters.stage(to, bytes);
        Ok(())
    }
}

fn mismatch(kind: Kind, have: usize, want: Kind, len: usize) -> Error {
    Error::Device(format!(
        "a buffer of {have} {kind:?} elements cannot be exchanged with {len} {want:?} elements"
    ))
}

impl Device for Cuda {
    fn real(&self) -> DType {
        DType::F32
    }

    fn describe(&self) -> String {
        let p = &self.context.properties;
        format!("cuda:{}, {}, sm_{}, {}", p.ordinal, p.name, p.architecture, self.options.precision)
    }

    fn allocate(&mut self, kind: Kind, len: usize) -> Result<Buffer> {
        // Whole lines: kernels deliver words and copy 16 bytes at once.
        let bytes = (len * size_of_kind(kind)).next_multiple_of(64);
        let memory = Memory::new(&self.context, bytes, "a buffer")?;
        self.stream.zero(&memory)?;
        let free = self.buffers.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            self.buffers.push(None);
            self.buffers.len() - 1
        });
        self.buffers[slot] = Some(Slot { kind, len, memory });
        Ok(Buffer(slot))
    }

    fn release(&mut self, buffer: Buffer) {
        // What waits may be meant for it. An error shows again at the next run.
        let _ = self.flush().is_ok();
        let _ = self.stream.synchronize().is_ok();
        self.programs.iter_mut().for_each(|p| p.forget(buffer));
        if let Some(slot) = self.buffers.get_mut(buffer.0) {
            *slot = None;
        }
    }

    fn write(&mut self, buffer: Buffer, values: HostSlice<'_>) -> Result<()> {
        let slot = self.slot(buffer)?;
        if slot.kind != values.kind() || slot.len != values.len() {
            return Err(mismatch(slot.kind, slot.len, values.kind(), values.len()));
        }
        let to = slot.memory.address();
        match values {
            HostSlice::F32(v) => self.upload(to, bytemuck::cast_slice(v)),
            HostSlice::F64(&[one]) => self.upload(to, bytemuck::bytes_of(&(one as f32))),
            HostSlice::F64(v) => {
                let narrow: Vec<f32> = v.iter().map(|&x| x as f32).collect();
                self.upload(to, bytemuck::cast_slice(&narrow))
            }
            HostSlice::U32(v) => self.upload(to, bytemuck::cast_slice(v)),
            HostSlice::U8(v) => self.upload(to, v),
        }
    }

    fn read(&self, buffer: Buffer, values: HostSliceMut<'_>) -> Result<()> {
        let slot = self.slot(buffer)?;
        self.download(slot.kind, slot.len, slot.memory.address(), values)
    }

    fn prepare(&mut self, tape: &Tape) -> Result<Handle> {
        let precision = self.options.precision;
        let plan = lower::plan(tape, precision, self.options.fuse)?;
        if let Some(step) = plan.conflict() {
            return Err(Error::Device(format!("step {step} of the plan writes what it reads")));
        }
        if !lower::fits(&plan) {
            return Err(Error::Device(
                "a tensor of the program has 4 GiB or more; a smaller batch helps".into(),
            ));
        }
        // Before kernels are compiled, which takes longer than finding out that there is no room.
        let arena = Memory::new(&self.context, plan.arena_bytes, "the arena of the plan")?;
        let tasks = lower::tasks(&plan, precision);
        let wanted: Vec<launch::Function> =
            tasks.iter().flat_map(|t| t.launches.iter().map(|l| l.function.clone())).collect();
        let mut functions = self.modules.functions(&wanted)?.into_iter();
        let tasks = tasks
            .into_iter()
            .map(|task| {
                let own = functions.by_ref().take(task.launches.len()).collect();
                (task, own)
            })
            .collect();
        self.programs.push(Program::new(plan, arena, tasks));
        Ok(Handle(self.programs.len() - 1))
    }

    fn plan(&self, program: Handle) -> &Plan {
        &self.programs[program.0].plan
    }

    fn run(&mut self, program: Handle, leaves: &[Buffer]) -> Result<()> {
        self.context.enter()?;
        let bound = match self.programs[program.0].find(leaves) {
            Some(bound) => bound,
            None => {
                let about = |b: Buffer| {
                    let slot = self.buffers.get(b.0)?.as_ref()?;
                    Some((slot.kind, slot.len * size_of_kind(slot.kind)))
                };
                bindings::check(&self.programs[program.0].plan, leaves, about)?;
                let buffers = &self.buffers;
                let address = |b: Buffer| buffers[b.0].as_ref().map_or(0, |slot| slot.memory.address());
                self.programs[program.0].bind(&self.stream, leaves, address)?
            }
        };
        self.flush()?;
        let program = &mut self.programs[program.0];
        let recorded = program.is_recorded(bound);
        let started = program.run(&self.stream, bound, self.options.mode);
        // The first run names the operation itself.
        if recorded { started.map_err(|e| self.explain(e)) } else { started }
    }

    fn read_output(&self, program: Handle, index: usize, values: HostSliceMut<'_>) -> Result<()> {
        let (kind, len, from) = self.output(program, index)?;
        self.download(kind, len, from, values)
    }

    fn read_scalars(&self, program: Handle, outputs: &[usize], values: &mut [f64]) -> Result<()> {
        self.flush()?;
        let mut figures = self.figures.borrow_mut();
        for (outputs, values) in outputs.chunks(FIGURES).zip(values.chunks_mut(FIGURES)) {
            let mut from = [0; FIGURES];
            for (from, &index) in from.iter_mut().zip(outputs) {
                let (kind, len, address) = self.output(program, index)?;
                if (kind, len) != (Kind::Real, 1) {
                    return Err(mismatch(kind, len, Kind::Real, 1));
                }
                *from = address;
            }
            let words = figures.fetch(&self.stream, from[..outputs.len()].iter().copied());
            let words = words.map_err(|e| self.explain(e))?;
            values.iter_mut().zip(words).for_each(|(to, &word)| *to = f64::from(f32::from_bits(word)));
        }
        Ok(())
    }

    fn upload_images(&mut self, pixels: &Pixels<'_>, look: &Look) -> Result<ImageSet> {
        let limit = match self.options.images {
            Some(limit) => limit,
            None => self.context.memory()?.0 / images::SHARE,
        };
        self.images.push(Images::new(&self.stream, pixels, look, limit)?);
        Ok(ImageSet(self.images.len() - 1))
    }

    fn fill_batch(
        &mut self,
        set: ImageSet,
        pixels: &Pixels<'_>,
        rows: &[u32],
        visit: &Visit,
        into: Buffer,
    ) -> Result<()> {
        let slot = self.slot(into)?;
        let (images, to) = (&self.images[set.0], slot.memory.address());
        let len = images.batch_len(rows.len());
        if slot.kind != Kind::Real || slot.len != len {
            return Err(Error::Device(format!("a batch of {len} elements does not fit its buffer")));
        }
        images.check(rows)?;
        // Rows travel in the parameter block, so that a batch of very many goes in parts.
        for (part, rows) in rows.chunks(ROWS).enumerate() {
            let to = to + 4 * self.images[set.0].batch_len(part * ROWS) as u64;
            self.fill_part(set, pixels, rows, visit, part * ROWS, to)?;
        }
        Ok(())
    }

    fn load_points<'a>(&'a mut self, values: &'a [f32], d: usize) -> Result<Box<dyn Loaded + 'a>> {
        Ok(Box::new(kmeans::Points::new(&self.context, &mut self.modules, values, d)?))
    }

    fn allocated_bytes(&self) -> usize {
        let buffers: usize = self.buffers.iter().flatten().map(|s| s.memory.bytes()).sum();
        let images: usize = self.images.iter().map(Images::device_bytes).sum();
        let arenas: usize = self.programs.iter().map(|p| p.arena.bytes()).sum();
        buffers + images + arenas + self.waiting.borrow().parameters.bytes()
    }
}
