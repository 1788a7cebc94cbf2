//! Matrices of 32-bit floats from a safetensors or a NumPy file.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use super::{DType, TensorFile};
use crate::error::{Error, Result};

/// A matrix `[rows, columns]` of finite numbers, memory-mapped where the file stores 32-bit floats.
pub struct Matrix {
    rows: usize,
    columns: usize,
    values: Values,
}

enum Values {
    Owned(Vec<f32>),
    Mapped(TensorFile, String),
}

impl Matrix {
    /// Reads tensor `name` of a safetensors file (or its only tensor), or a `.npy` file of 32- or 64-bit
    /// floats in C order.
    pub fn open(path: &Path, name: &str) -> Result<Self> {
        let matrix = if path.extension().is_some_and(|e| e == "npy") {
            Self::from_npy(path)?
        } else {
            Self::from_tensors(path, name)?
        };
        if let Some(i) = matrix.values().iter().position(|v| !v.is_finite()) {
            let place = format!("row {}, column {}", i / matrix.columns, i % matrix.columns);
            return Err(Error::format(path, place, "a finite number", matrix.values()[i].to_string()));
        }
        Ok(matrix)
    }

    fn from_tensors(path: &Path, name: &str) -> Result<Self> {
        let file = TensorFile::open(path)?;
        let names = file.names();
        let name = match &names[..] {
            [only] if only != name => only.clone(),
            _ => name.to_string(),
        };
        let shape = file.shape(&name)?;
        let &[rows, columns] = shape.dims() else {
            return Err(file.wrong(&name, "a matrix [rows, columns]", shape.to_string()));
        };
        if shape.is_empty() {
            return Err(file.wrong(&name, "at least one row and column", shape.to_string()));
        }
        let values = match file.slice::<f32>(&name, DType::F32) {
            Ok(_) => Values::Mapped(file, name),
            Err(_) => Values::Owned(file.to_f32(&name)?),
        };
        Ok(Matrix { rows, columns, values })
    }

    fn from_npy(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, "open", e))?;
        let about = file.metadata().map_err(|e| Error::io(path, "read its size", e))?;
        if !about.is_file() {
            return Err(Error::format(
                path,
                "the path",
                "a .npy file",
                "something that is not a regular file",
            ));
        }
        let wrong =
            |e: std::io::Error| Error::format(path, "content", "a .npy file of floats", e.to_string());
        let mut reader = BufReader::new(file);
        let start = reader.fill_buf().map_err(|e| Error::io(path, "read", e))?;
        // npyz multiplies the counts of the header unchecked.
        if counts(start).is_some_and(|counts| counts > about.len()) {
            let found = format!("the end of the file after {} bytes", about.len());
            return Err(Error::format(path, "content", "as many numbers as the header says", found));
        }
        let npy = npyz::NpyFile::new(reader).map_err(wrong)?;
        let shape = npy.shape().to_vec();
        let (rows, columns) = match shape[..] {
            [rows, columns] if rows > 0 && columns > 0 => (rows as usize, columns as usize),
            _ => {
                return Err(Error::format(
                    path,
                    "shape",
                    "[rows, columns], both above 0",
                    format!("{shape:?}"),
                ));
            }
        };
        if npy.order() != npyz::Order::C {
            return Err(Error::format(path, "fortran_order", "False (C order)", "True"));
        }
        let size = match npy.dtype() {
            npyz::DType::Plain(t) => t.num_bytes().unwrap_or(0) as u64,
            _ => 0,
        };
        // The header's counts are believed only as far as the file reaches.
        let claimed = (rows as u64).checked_mul(columns as u64).and_then(|n| n.checked_mul(size.max(1)));
        let cut = || {
            let found = format!("the end of the file after {} bytes", about.len());
            Error::format(path, "content", format!("{rows} x {columns} numbers"), found)
        };
        if claimed.is_none_or(|c| c > about.len()) {
            return Err(cut());
        }
        let unread = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => cut(),
            _ => wrong(e),
        };
        let values: Vec<f32> = match size {
            4 => npy.into_vec::<f32>().map_err(unread)?,
            _ => npy.into_vec::<f64>().map_err(unread)?.into_iter().map(|v| v as f32).collect(),
        };
        Ok(Matrix { rows, columns, values: Values::Owned(values) })
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f32] {
        match &self.values {
            Values::Owned(values) => values,
            // The tensor was there when the file was opened, and the mapping does not change.
            Values::Mapped(file, name) => file.slice(name, DType::F32).unwrap_or(&[]),
        }
    }

    /// The safetensors file behind it, if the values are mapped.
    pub fn file(&self) -> Option<&TensorFile> {
        match &self.values {
            Values::Mapped(file, _) => Some(file),
            Values::Owned(_) => None,
        }
    }
}

/// Product of the counts in the header of a .npy file, as far as 64 bits reach; `None` if there are none.
fn counts(start: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(start);
    let (_, shape) = text.split_once("'shape'")?.1.split_once('(')?;
    let (shape, _) = shape.split_once(')')?;
    let numbers = shape.split(',').filter_map(|n| n.trim().parse::<u64>().ok());
    Some(numbers.fold(1, |product, n| product.saturating_mul(n.max(1))))
}
