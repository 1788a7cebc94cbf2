//! Compiled modules on a device, each loaded once.

use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;

use super::compile::{Compiler, Image, Unit};
use super::driver::{Context, Function, Module, Refusal};
use super::launch;
use crate::error::{Error, Result};

pub struct Modules {
    context: Arc<Context>,
    compiler: Compiler,
    /// The kind of image that the driver takes, once it has taken one.
    image: Option<Image>,
    loaded: HashMap<Unit, Arc<Module>>,
    functions: HashMap<launch::Function, Function>,
}

impl Modules {
    pub fn new(context: &Arc<Context>) -> Result<Self> {
        let compiler = Compiler::new(context.properties.architecture)?;
        let (loaded, functions) = Default::default();
        Ok(Modules { context: context.clone(), compiler, image: None, loaded, functions })
    }

    /// Functions by their descriptions; what is not there yet is compiled and loaded.
    pub fn functions(&mut self, wanted: &[launch::Function]) -> Result<Vec<Function>> {
        let mut missing: Vec<Unit> = Vec::new();
        for function in wanted {
            let unit = Unit::of(function);
            if !self.loaded.contains_key(&unit) && !missing.contains(&unit) {
                missing.push(unit);
            }
        }
        // The first one shows what the driver takes; the others are compiled together.
        if self.image.is_none()
            && let Some(unit) = missing.pop()
        {
            self.first(unit)?;
        }
        let image = self.image.unwrap_or(Image::Ptx);
        let compiled: Vec<Result<(Unit, Vec<u8>)>> = missing
            .into_par_iter()
            .map(|unit| self.compiler.image(&unit, image).map(|bytes| (unit, bytes)))
            .collect();
        for made in compiled {
            let (unit, bytes) = made?;
            let module = self.load(&bytes).map_err(|r| refusal(&unit, r))?;
            self.loaded.insert(unit, module);
        }
        wanted.iter().map(|function| self.function(function)).collect()
    }

    /// One function by its description.
    pub fn one(&mut self, wanted: &launch::Function) -> Result<Function> {
        if let Some(known) = self.functions.get(wanted) {
            return Ok(known.clone());
        }
        self.functions(std::slice::from_ref(wanted))?;
        self.function(wanted)
    }

    fn first(&mut self, unit: Unit) -> Result<()> {
        for image in [self.compiler.preferred(), Image::Ptx] {
            let bytes = self.compiler.image(&unit, image)?;
            match self.load(&bytes) {
                Ok(module) => {
                    self.image = Some(image);
                    self.loaded.insert(unit, module);
                    return Ok(());
                }
                Err(Refusal::Image) if image == Image::Cubin => {}
                Err(other) => return Err(refusal(&unit, other)),
            }
        }
        Err(refusal(&unit, Refusal::Image))
    }

    fn load(&self, bytes: &[u8]) -> Result<Arc<Module>, Refusal> {
        Module::load(&self.context, bytes).map(Arc::new)
    }

    fn function(&mut self, wanted: &launch::Function) -> Result<Function> {
        if let Some(known) = self.functions.get(wanted) {
            return Ok(known.clone());
        }
        let unit = Unit::of(wanted);
        let module =
            self.loaded.get(&unit).ok_or_else(|| Error::Device(format!("{} is not loaded", unit.name())))?;
        let function = Function::new(module, &wanted.entry, wanted.dynamic_shared)?;
        self.functions.insert(wanted.clone(), function.clone());
        Ok(function)
    }
}

fn refusal(unit: &Unit, refusal: Refusal) -> Error {
    match refusal {
        Refusal::Other(error) => error,
        Refusal::Image => Error::Device(format!(
            "CUDA cannot be had: the driver takes neither machine code nor PTX of this NVRTC ({}); a newer \
             driver, or an NVRTC as old as the driver, is needed",
            unit.name()
        )),
    }
}
