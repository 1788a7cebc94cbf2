//! A stream, arrays of elements, and launches with arguments of several kinds.

use std::cell::RefCell;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::Arc;

use super::function;
use crate::device::cuda::driver::{Context, Memory, Stream};
use crate::device::cuda::launch::Function;
use crate::device::cuda::modules::Modules;
use crate::error::Result;

/// An argument of a launch.
#[derive(Clone, Copy)]
pub(super) enum Value {
    Address(u64),
    U32(u32),
    U64(u64),
    F32(f32),
}

impl Value {
    fn pointer(&mut self) -> *mut c_void {
        match self {
            Value::Address(v) | Value::U64(v) => std::ptr::from_mut(v).cast(),
            Value::U32(v) => std::ptr::from_mut(v).cast(),
            Value::F32(v) => std::ptr::from_mut(v).cast(),
        }
    }
}

impl From<usize> for Value {
    /// Sizes are within 32 bits: [`Points::new`] and [`Points::runs`] see to it.
    fn from(value: usize) -> Self {
        Value::U32(value as u32)
    }
}

/// Elements on the device.
pub(super) struct Array<T> {
    pub memory: Memory,
    of: PhantomData<T>,
}

impl<T: bytemuck::Pod> Array<T> {
    pub fn new(context: &Arc<Context>, len: usize) -> Result<Self> {
        let memory = Memory::new(context, len * size_of::<T>(), "k-means")?;
        Ok(Array { memory, of: PhantomData })
    }

    pub fn at(&self, index: usize) -> Value {
        Value::Address(self.memory.address() + (index * size_of::<T>()) as u64)
    }
}

impl<T> From<&Array<T>> for Value {
    fn from(array: &Array<T>) -> Self {
        Value::Address(array.memory.address())
    }
}

/// A stream of its own, and the functions that are launched on it.
pub(super) struct Queue<'a> {
    pub stream: Stream,
    pub modules: RefCell<&'a mut Modules>,
}

impl Queue<'_> {
    pub fn context(&self) -> &Arc<Context> {
        self.stream.context()
    }

    pub fn launch(
        &self,
        function: &Function,
        grid: [usize; 3],
        threads: u32,
        values: &[Value],
    ) -> Result<()> {
        let compiled = self.modules.borrow_mut().one(function)?;
        let mut values = values.to_vec();
        let mut pointers: Vec<*mut c_void> = values.iter_mut().map(Value::pointer).collect();
        // SAFETY: each caller below passes what its kernel declares; arrays have the sizes that the kernels
        // name and live until the stream is synchronised: freeing memory waits for it.
        unsafe { self.stream.launch(&compiled, grid.map(|g| g as u32), [threads, 1, 1], &mut pointers) }
    }

    /// A launch of a function without definitions.
    pub fn plain(
        &self,
        file: &'static str,
        entry: &'static str,
        grid: [usize; 3],
        threads: u32,
        values: &[Value],
    ) -> Result<()> {
        self.launch(&function(file, entry, Vec::new(), 0), grid, threads, values)
    }

    pub fn upload<T: bytemuck::Pod>(&self, values: &[T]) -> Result<Array<T>> {
        let array = Array::new(self.context(), values.len())?;
        self.write(&array, 0, values)?;
        Ok(array)
    }

    pub fn write<T: bytemuck::Pod>(&self, array: &Array<T>, at: usize, values: &[T]) -> Result<()> {
        let begin = at * size_of::<T>();
        assert!(begin + size_of_val(values) <= array.memory.bytes());
        self.stream.upload(array.memory.address() + begin as u64, bytemuck::cast_slice(values))
    }

    pub fn read<T: bytemuck::Pod>(&self, array: &Array<T>, at: usize, len: usize) -> Result<Vec<T>> {
        let mut values = vec![T::zeroed(); len];
        let begin = at * size_of::<T>();
        assert!(begin + size_of_val(&values[..]) <= array.memory.bytes());
        self.stream.download(bytemuck::cast_slice_mut(&mut values), array.memory.address() + begin as u64)?;
        Ok(values)
    }
}
