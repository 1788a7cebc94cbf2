//! The embedding file: one row of numbers for each image, training images first, then test images.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::tensor::{DType, Entry, Matrix, TensorFile, write_tensors};

/// Name of the tensor `[N, d]`.
pub const KEY: &str = "embedding";

/// Name of the tensor of rows that partitions are fitted on, u32; all rows if there is none.
pub const FIT_ROWS: &str = "fit_rows";

pub struct Embedding {
    path: PathBuf,
    matrix: Matrix,
    fit_rows: Option<Vec<u32>>,
}

impl Embedding {
    /// Opens a safetensors file with `embedding [N, d]`, or a `.npy` file `[N, d]`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let matrix = Matrix::open(path, KEY)?;
        let mut fit_rows = None;
        if path.extension().is_none_or(|e| e != "npy") {
            let file = TensorFile::open(path)?;
            if file.contains(FIT_ROWS) {
                fit_rows = Some(checked_rows(&file, matrix.rows())?);
            }
        }
        Ok(Embedding { path: path.to_path_buf(), matrix, fit_rows })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn rows(&self) -> usize {
        self.matrix.rows()
    }

    pub fn columns(&self) -> usize {
        self.matrix.columns()
    }

    pub fn values(&self) -> &[f32] {
        self.matrix.values()
    }

    /// Rows that partitions are fitted on; `None` for all.
    pub fn fit_rows(&self) -> Option<&[u32]> {
        self.fit_rows.as_deref()
    }
}

fn checked_rows(file: &TensorFile, rows: usize) -> Result<Vec<u32>> {
    let wanted = file.to_u32(FIT_ROWS)?;
    if wanted.is_empty() {
        return Err(file.wrong(FIT_ROWS, "at least one row", "none"));
    }
    match wanted.iter().find(|&&r| r as usize >= rows) {
        Some(row) => Err(file.wrong(FIT_ROWS, format!("rows below {rows}"), row.to_string())),
        None => Ok(wanted),
    }
}

/// Writes an embedding file.
pub fn write(
    path: &Path,
    values: &[f32],
    columns: usize,
    fit_rows: Option<&[u32]>,
    metadata: &[(&str, String)],
) -> Result<()> {
    if columns == 0 || !values.len().is_multiple_of(columns) {
        return Err(Error::shape("embedding", format!("{} values in rows of {columns}", values.len())));
    }
    let mut entries = vec![Entry::new(KEY, DType::F32, [values.len() / columns, columns], values)];
    if let Some(rows) = fit_rows {
        entries.push(Entry::new(FIT_ROWS, DType::U32, [rows.len()], rows));
    }
    write_tensors(path, &entries, metadata)
}
