//! Buffers by name. A session owns a device; programs bind their leaves to its named buffers, so that
//! the programs of different tasks share parameters, and everything that must be saved can be listed.

use std::collections::BTreeMap;

use super::{Buffer, Device, HostSlice, HostSliceMut, ImageSet, Program};
use crate::error::{Error, Result};
use crate::pixels::{Look, Pixels, Visit};
use crate::tape::{Kind, Tape};

struct Named {
    buffer: Buffer,
    kind: Kind,
    len: usize,
}

/// A prepared program with a buffer for each leaf.
pub struct Bound {
    program: Program,
    leaves: Vec<Buffer>,
    outputs: Vec<(String, usize)>,
    /// Numbers of the outputs of one element.
    scalars: Vec<usize>,
}

pub struct Session {
    device: Box<dyn Device>,
    named: BTreeMap<String, Named>,
}

impl Session {
    pub fn new(device: Box<dyn Device>) -> Self {
        Session { device, named: BTreeMap::new() }
    }

    pub fn device(&self) -> &dyn Device {
        &*self.device
    }

    /// Makes a buffer, or checks that the one of this name is of this kind and size.
    pub fn declare(&mut self, name: &str, kind: Kind, len: usize) -> Result<()> {
        match self.named.get(name) {
            Some(known) if known.kind == kind && known.len == len => Ok(()),
            Some(known) => Err(Error::Device(format!(
                "'{name}' has {} {:?} elements; a program needs {len} {kind:?}",
                known.len, known.kind
            ))),
            None => {
                let buffer = self.device.allocate(kind, len)?;
                self.named.insert(name.to_string(), Named { buffer, kind, len });
                Ok(())
            }
        }
    }

    pub fn contains(&self, name: &str) -> bool {
        self.named.contains_key(name)
    }

    /// Names and sizes of all buffers of real elements, in alphabetic order.
    pub fn reals(&self) -> impl Iterator<Item = (&str, usize)> {
        self.named.iter().filter(|(_, n)| n.kind == Kind::Real).map(|(name, n)| (name.as_str(), n.len))
    }

    fn find(&self, name: &str) -> Result<&Named> {
        self.named.get(name).ok_or_else(|| Error::Device(format!("no buffer is named '{name}'")))
    }

    pub fn write(&mut self, name: &str, values: HostSlice<'_>) -> Result<()> {
        let buffer = self.find(name)?.buffer;
        self.device.write(buffer, values)
    }

    /// Sets a buffer of one real element.
    pub fn write_scalar(&mut self, name: &str, value: f64) -> Result<()> {
        self.write(name, HostSlice::F64(&[value]))
    }

    /// Makes images ready for [`Session::fill`].
    pub fn upload_images(&mut self, pixels: &Pixels<'_>, look: &Look) -> Result<ImageSet> {
        self.device.upload_images(pixels, look)
    }

    /// Writes a batch of images, see [`Device::fill_batch`].
    pub fn fill(
        &mut self,
        name: &str,
        set: ImageSet,
        pixels: &Pixels<'_>,
        rows: &[u32],
        visit: &Visit,
    ) -> Result<()> {
        let buffer = self.find(name)?.buffer;
        self.device.fill_batch(set, pixels, rows, visit, buffer)
    }

    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        let named = self.find(name)?;
        let mut values = vec![0.0; named.len];
        self.device.read(named.buffer, HostSliceMut::F32(&mut values))?;
        Ok(values)
    }

    pub fn read_f64(&self, name: &str) -> Result<Vec<f64>> {
        let named = self.find(name)?;
        let mut values = vec![0.0; named.len];
        self.device.read(named.buffer, HostSliceMut::F64(&mut values))?;
        Ok(values)
    }

    pub fn prepare(&mut self, tape: &Tape) -> Result<Program> {
        self.device.prepare(tape)
    }

    /// Binds each leaf of `program` to the buffer whose name `rename` gives for the leaf's name;
    /// buffers that do not exist yet are made, filled with zeros.
    pub fn bind(&mut self, program: Program, rename: impl Fn(&str) -> String) -> Result<Bound> {
        let plan = self.device.plan(program);
        let wanted: Vec<(String, Kind, usize)> =
            plan.bindings.iter().map(|b| (rename(&b.name), b.kind, b.len)).collect();
        let outputs: Vec<_> = plan.outputs.iter().map(|o| (o.name.clone(), o.place.len)).collect();
        let scalars = (0..outputs.len()).filter(|&i| outputs[i].1 == 1).collect();
        let mut leaves = Vec::with_capacity(wanted.len());
        for (name, kind, len) in wanted {
            self.declare(&name, kind, len)?;
            leaves.push(self.find(&name)?.buffer);
        }
        Ok(Bound { program, leaves, outputs, scalars })
    }

    pub fn run(&mut self, bound: &Bound) -> Result<()> {
        self.device.run(bound.program, &bound.leaves)
    }

    /// An output of the last run of a program, into a slice of its size.
    pub fn output(&self, bound: &Bound, name: &str, values: &mut [f32]) -> Result<()> {
        let index = self.output_index(bound, name, values.len())?;
        self.device.read_output(bound.program, index, HostSliceMut::F32(values))
    }

    /// An output of `len` elements, in double precision.
    pub fn output_f64(&self, bound: &Bound, name: &str, len: usize) -> Result<Vec<f64>> {
        let mut values = vec![0.0; len];
        let index = self.output_index(bound, name, len)?;
        self.device.read_output(bound.program, index, HostSliceMut::F64(&mut values))?;
        Ok(values)
    }

    fn output_index(&self, bound: &Bound, name: &str, len: usize) -> Result<usize> {
        let index = bound.outputs.iter().position(|(n, l)| n == name && *l == len);
        index.ok_or_else(|| Error::Device(format!("no output '{name}' of {len} elements")))
    }

    /// Every scalar output of the last run, by name.
    pub fn scalars<'b>(&self, bound: &'b Bound) -> Result<Vec<(&'b str, f64)>> {
        let mut values = vec![0.0; bound.scalars.len()];
        self.device.read_scalars(bound.program, &bound.scalars, &mut values)?;
        let name = |&i: &usize| bound.outputs[i].0.as_str();
        Ok(bound.scalars.iter().map(name).zip(values).collect())
    }

    pub fn plan(&self, bound: &Bound) -> &crate::tape::plan::Plan {
        self.device.plan(bound.program)
    }

    /// Bytes that the device holds for this session.
    pub fn allocated_bytes(&self) -> usize {
        self.device.allocated_bytes()
    }
}
