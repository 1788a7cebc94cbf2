//! The CPU device: kernels are plain functions over slices, parallel over fixed slabs with rayon, so
//! that results do not depend on the number of threads; instruction sets are chosen at run time.

mod argmax;
pub mod conv;
mod copy;
mod execute;
mod gather;
pub mod gemm;
mod memory;
mod micro;
pub mod nearest;
mod pointwise;
mod pool;
mod random;
mod reduce;
pub mod simd;
mod slots;
mod softmax;

use std::marker::PhantomData;

use super::{Buffer, Device, HostSlice, HostSliceMut, ImageSet, Program, bindings};
use crate::device::kmeans::Loaded;
use crate::error::{Error, Result};
use crate::pixels::{self, Look, Pixels, Visit};
use crate::tape::plan::{Options, Place, Plan, Region};
use crate::tape::{Kind, Tape};
use crate::tensor::{DType, Real};
pub use conv::Algorithm;
use memory::Memory;

/// How the CPU device plans and runs.
#[derive(Clone, Copy, Debug)]
pub struct CpuOptions {
    /// How 3×3 convolutions of stride 1 are computed.
    pub algorithm: Algorithm,
    /// Fuse chains of operations; off only in tests.
    pub fuse: bool,
    /// Bytes of guard zone around every value, checked after every step; 0 outside tests.
    pub fence: usize,
}

impl Default for CpuOptions {
    fn default() -> Self {
        CpuOptions { algorithm: Algorithm::default(), fuse: true, fence: 0 }
    }
}

struct Prepared {
    plan: Plan,
    arena: Memory,
}

/// The CPU device, computing in `T`: `f32` for work, `f64` as the oracle of every derivative.
pub struct Cpu<T: Real> {
    options: CpuOptions,
    buffers: Vec<Option<(Kind, Memory)>>,
    programs: Vec<Prepared>,
    looks: Vec<Look>,
    /// Room for a batch in single precision, of devices that compute in another one.
    batch: Vec<f32>,
    real: PhantomData<T>,
}

impl<T: Real> Default for Cpu<T> {
    fn default() -> Self {
        Cpu::new(CpuOptions::default())
    }
}

impl<T: Real> Cpu<T> {
    pub fn new(options: CpuOptions) -> Self {
        Cpu {
            options,
            buffers: Vec::new(),
            programs: Vec::new(),
            looks: Vec::new(),
            batch: Vec::new(),
            real: PhantomData,
        }
    }

    fn element_size(kind: Kind) -> usize {
        match kind {
            Kind::Real => size_of::<T>(),
            Kind::U32 => 4,
            Kind::U8 => 1,
        }
    }

    fn buffer(&self, buffer: Buffer) -> Result<&(Kind, Memory)> {
        self.buffers
            .get(buffer.0)
            .and_then(Option::as_ref)
            .ok_or_else(|| Error::Device(format!("buffer {} does not exist", buffer.0)))
    }
}

impl<T: Real> Device for Cpu<T> {
    fn real(&self) -> DType {
        T::DTYPE
    }

    fn describe(&self) -> String {
        format!("cpu, {} threads, {}", rayon::current_num_threads(), simd::level())
    }

    fn allocate(&mut self, kind: Kind, len: usize) -> Result<Buffer> {
        let memory = Memory::new(len * Self::element_size(kind), self.options.fence)?;
        let free = self.buffers.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            self.buffers.push(None);
            self.buffers.len() - 1
        });
        self.buffers[slot] = Some((kind, memory));
        Ok(Buffer(slot))
    }

    fn release(&mut self, buffer: Buffer) {
        if let Some(slot) = self.buffers.get_mut(buffer.0) {
            *slot = None;
        }
    }

    fn write(&mut self, buffer: Buffer, values: HostSlice<'_>) -> Result<()> {
        let slot = self.buffers.get_mut(buffer.0).and_then(Option::as_mut);
        let (kind, memory) =
            slot.ok_or_else(|| Error::Device(format!("buffer {} does not exist", buffer.0)))?;
        copy::to_device::<T>(*kind, memory.bytes_mut(), values)
    }

    fn read(&self, buffer: Buffer, values: HostSliceMut<'_>) -> Result<()> {
        let (kind, memory) = self.buffer(buffer)?;
        copy::to_host::<T>(*kind, memory.bytes(), values)
    }

    fn prepare(&mut self, tape: &Tape) -> Result<Program> {
        let algorithm = self.options.algorithm;
        let plan = Plan::new(
            tape,
            &Options {
                real_size: size_of::<T>(),
                fuse: self.options.fuse,
                unshared: 0,
                fence: self.options.fence,
                workspace: &|kernel| execute::workspace::<T>(kernel, algorithm),
            },
        )?;
        if let Some(step) = plan.conflict() {
            return Err(Error::Device(format!("step {step} of the plan writes what it reads")));
        }
        let arena = Memory::new(plan.arena_bytes, 0)?;
        self.programs.push(Prepared { plan, arena });
        Ok(Program(self.programs.len() - 1))
    }

    fn plan(&self, program: Program) -> &Plan {
        &self.programs[program.0].plan
    }

    fn run(&mut self, program: Program, leaves: &[Buffer]) -> Result<()> {
        let Prepared { plan, arena } = &mut self.programs[program.0];
        let about = |b: Buffer| {
            let slot = self.buffers.get(b.0)?.as_ref();
            slot.map(|(kind, memory)| (*kind, memory.bytes().len()))
        };
        bindings::check(plan, leaves, about)?;
        let fences = execute::Fences::new(plan, arena);
        for step in &plan.steps {
            execute::run_step::<T>(step, arena, leaves, &mut self.buffers, self.options.algorithm);
            fences.check(step, arena, leaves, &self.buffers)?;
        }
        Ok(())
    }

    fn read_output(&self, program: Program, index: usize, values: HostSliceMut<'_>) -> Result<()> {
        let Prepared { plan, arena } = &self.programs[program.0];
        let output = plan.outputs.get(index);
        let Some(Place { region: Region::Arena(offset), kind, len }) = output.map(|o| o.place) else {
            return Err(Error::Device(format!("the program has no output number {index}")));
        };
        let bytes = &arena.bytes()[offset..offset + len * Self::element_size(kind)];
        copy::to_host::<T>(kind, bytes, values)
    }

    fn upload_images(&mut self, _: &Pixels<'_>, look: &Look) -> Result<ImageSet> {
        self.looks.push(look.clone());
        Ok(ImageSet(self.looks.len() - 1))
    }

    fn fill_batch(
        &mut self,
        set: ImageSet,
        pixels: &Pixels<'_>,
        rows: &[u32],
        visit: &Visit,
        into: Buffer,
    ) -> Result<()> {
        let look = &self.looks[set.0];
        let slot = self.buffers.get_mut(into.0).and_then(Option::as_mut);
        let (kind, memory) =
            slot.ok_or_else(|| Error::Device(format!("buffer {} does not exist", into.0)))?;
        let len = rows.len() * look.shape().iter().product::<usize>();
        if *kind != Kind::Real || memory.bytes().len() != len * size_of::<T>() {
            return Err(Error::Device(format!("a batch of {len} elements does not fit its buffer")));
        }
        if T::DTYPE == DType::F32 {
            pixels::fill(pixels, look, rows, visit, bytemuck::cast_slice_mut(memory.bytes_mut()));
            return Ok(());
        }
        self.batch.resize(len, 0.0);
        pixels::fill(pixels, look, rows, visit, &mut self.batch);
        copy::to_device::<T>(Kind::Real, memory.bytes_mut(), HostSlice::F32(&self.batch))
    }

    fn load_points<'a>(&'a mut self, values: &'a [f32], d: usize) -> Result<Box<dyn Loaded + 'a>> {
        Ok(Box::new(nearest::OnHost::new(values, d)))
    }

    fn allocated_bytes(&self) -> usize {
        let buffers: usize = self.buffers.iter().flatten().map(|(_, m)| m.bytes().len()).sum();
        buffers + self.programs.iter().map(|p| p.arena.bytes().len()).sum::<usize>()
    }
}
