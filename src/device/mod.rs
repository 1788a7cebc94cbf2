//! Where programs run. [`Device`] is the whole contract: buffers, transfers, and planned programs.
//! The CPU device is complete; it is what a machine without a GPU uses, and the oracle of any other.
//! [`open`] makes the device that the user chose.

mod bindings;
pub mod choice;
pub mod cpu;
pub mod cuda;
pub mod kmeans;
pub mod session;

use crate::error::Result;
use crate::pixels::{Look, Pixels, Visit};
use crate::tape::plan::Plan;
use crate::tape::{Kind, Tape};
use crate::tensor::DType;

pub use choice::{Choice, Target, open};
pub use cpu::{Cpu, CpuOptions};
pub use cuda::{Cuda, CudaOptions, Precision};
pub use session::{Bound, Session};

/// A buffer on a device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Buffer(pub(crate) usize);

/// A program that a device has made ready.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Program(pub(crate) usize);

/// Images that a device makes batches of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ImageSet(pub(crate) usize);

/// Elements on the host, on their way to a device. Floating-point elements are converted to the
/// device's real type.
#[derive(Clone, Copy, Debug)]
pub enum HostSlice<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
    U32(&'a [u32]),
    U8(&'a [u8]),
}

/// Where elements from a device go on the host.
#[derive(Debug)]
pub enum HostSliceMut<'a> {
    F32(&'a mut [f32]),
    F64(&'a mut [f64]),
    U32(&'a mut [u32]),
    U8(&'a mut [u8]),
}

impl HostSlice<'_> {
    pub fn kind(&self) -> Kind {
        match self {
            HostSlice::F32(_) | HostSlice::F64(_) => Kind::Real,
            HostSlice::U32(_) => Kind::U32,
            HostSlice::U8(_) => Kind::U8,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            HostSlice::F32(v) => v.len(),
            HostSlice::F64(v) => v.len(),
            HostSlice::U32(v) => v.len(),
            HostSlice::U8(v) => v.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl HostSliceMut<'_> {
    pub fn kind(&self) -> Kind {
        match self {
            HostSliceMut::F32(_) | HostSliceMut::F64(_) => Kind::Real,
            HostSliceMut::U32(_) => Kind::U32,
            HostSliceMut::U8(_) => Kind::U8,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            HostSliceMut::F32(v) => v.len(),
            HostSliceMut::F64(v) => v.len(),
            HostSliceMut::U32(v) => v.len(),
            HostSliceMut::U8(v) => v.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A place that runs planned programs.
///
/// Programs are prepared once and run many times; a run reads and writes the buffers bound to the
/// program's leaves (in the order of [`Tape::leaves`]) and allocates nothing.
pub trait Device {
    /// The type of the device's real elements.
    fn real(&self) -> DType;

    /// One line about the device, for logs.
    fn describe(&self) -> String;

    /// A new buffer, filled with zeros.
    fn allocate(&mut self, kind: Kind, len: usize) -> Result<Buffer>;

    fn release(&mut self, buffer: Buffer);

    /// Fills a whole buffer.
    fn write(&mut self, buffer: Buffer, values: HostSlice<'_>) -> Result<()>;

    /// Reads a whole buffer, after everything that was started before.
    fn read(&self, buffer: Buffer, values: HostSliceMut<'_>) -> Result<()>;

    /// Plans a program and makes it ready.
    fn prepare(&mut self, tape: &Tape) -> Result<Program>;

    fn plan(&self, program: Program) -> &Plan;

    /// Runs a program with a buffer for each of its leaves.
    fn run(&mut self, program: Program, leaves: &[Buffer]) -> Result<()>;

    /// Reads output number `index` of the last run of `program`.
    fn read_output(&self, program: Program, index: usize, values: HostSliceMut<'_>) -> Result<()>;

    /// Reads several outputs of one element each, as [`Device::read_output`] does, but waits only once.
    fn read_scalars(&self, program: Program, outputs: &[usize], values: &mut [f64]) -> Result<()> {
        for (value, &index) in values.iter_mut().zip(outputs) {
            self.read_output(program, index, HostSliceMut::F64(std::slice::from_mut(value)))?;
        }
        Ok(())
    }

    /// Makes images ready for [`Device::fill_batch`]; a device with memory of its own keeps their bytes there
    /// if they fit.
    fn upload_images(&mut self, pixels: &Pixels<'_>, look: &Look) -> Result<ImageSet>;

    /// Writes the images of the given rows into a buffer of real elements, as [`crate::pixels::fill`] does,
    /// bit for bit in single precision. `pixels` are those of the set: not every device keeps a copy.
    fn fill_batch(
        &mut self,
        set: ImageSet,
        pixels: &Pixels<'_>,
        rows: &[u32],
        visit: &Visit,
        into: Buffer,
    ) -> Result<()>;

    /// Makes points `[n, d]` ready for k-means. Points and runs over them take memory of their own, for as
    /// long as they are there.
    fn load_points<'a>(&'a mut self, values: &'a [f32], d: usize) -> Result<Box<dyn kmeans::Loaded + 'a>>;

    /// Bytes that buffers, images and arenas take now.
    fn allocated_bytes(&self) -> usize;
}
