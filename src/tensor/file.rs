//! Reading and writing safetensors files. Reading maps the file into memory and checks every bound
//! once, at opening; writing goes to a temporary name in the same folder, is flushed to the disk, and
//! is then renamed, so a file appears whole or not at all.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use bytemuck::Pod;
use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::Metadata;

use super::{DType, Shape};
use crate::error::{Error, Result};

/// A memory-mapped safetensors file whose header has been checked.
///
/// The mapping assumes that nobody truncates the file while it is open; the program itself only ever
/// replaces files by renaming, which leaves an open mapping intact.
pub struct TensorFile {
    path: PathBuf,
    map: Mmap,
    header: Metadata,
    data_start: usize,
}

impl TensorFile {
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|e| Error::io(path, "open", e))?;
        let about = file.metadata().map_err(|e| Error::io(path, "read its size", e))?;
        if !about.is_file() {
            return Err(Error::format(
                path,
                "the path",
                "a safetensors file",
                "something that is not a regular file",
            ));
        }
        if about.len() < 8 {
            return Err(Error::format(
                path,
                "byte 0",
                "a safetensors header of at least 8 bytes",
                format!("{} bytes", about.len()),
            ));
        }
        // SAFETY: the mapping is read-only and private to this value; see the type's comment for the
        // one assumption (nobody truncates the file meanwhile).
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, "map", e))?;
        let (length, header) = SafeTensors::read_metadata(&map)
            .map_err(|e| Error::format(path, "header", "a valid safetensors header", e.to_string()))?;
        Ok(TensorFile { path: path.to_path_buf(), map, header, data_start: length + 8 })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tensor names in the order of their data.
    pub fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    pub fn contains(&self, name: &str) -> bool {
        self.header.info(name).is_some()
    }

    /// A value of the free-form metadata map.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    pub fn shape(&self, name: &str) -> Result<Shape> {
        let info = self.info(name)?;
        if info.shape.len() > super::shape::MAX_RANK {
            return Err(self.wrong(name, "at most 6 dimensions", format!("{:?}", info.shape)));
        }
        Ok(Shape::new(&info.shape))
    }

    /// Element type as the file states it, for messages and conversions (`"F32"`, `"BF16"`, …).
    pub fn stored_dtype(&self, name: &str) -> Result<safetensors::Dtype> {
        Ok(self.info(name)?.dtype)
    }

    pub fn bytes(&self, name: &str) -> Result<&[u8]> {
        let (start, end) = self.info(name)?.data_offsets;
        Ok(&self.map[self.data_start + start..self.data_start + end])
    }

    /// The tensor's elements, in place. `T` must be the element type that the file states.
    pub fn slice<T: Pod>(&self, name: &str, dtype: DType) -> Result<&[T]> {
        let found = self.info(name)?.dtype;
        if found != dtype.stored() || dtype.size() != size_of::<T>() {
            return Err(self.wrong(name, format!("elements of type {dtype}"), format!("{found:?}")));
        }
        bytemuck::try_cast_slice(self.bytes(name)?)
            .map_err(|_| self.wrong(name, "data aligned to its element size", "misaligned data"))
    }

    /// Elements of a floating-point tensor of any stored precision (f16, bf16, f32, f64) as `f32`.
    pub fn to_f32(&self, name: &str) -> Result<Vec<f32>> {
        let bytes = self.bytes(name)?;
        Ok(match self.info(name)?.dtype {
            safetensors::Dtype::F32 => read_as(bytes, f32::from_le_bytes),
            safetensors::Dtype::F64 => read_as(bytes, |b| f64::from_le_bytes(b) as f32),
            safetensors::Dtype::F16 => read_as(bytes, |b| half::f16::from_le_bytes(b).to_f32()),
            safetensors::Dtype::BF16 => read_as(bytes, |b| half::bf16::from_le_bytes(b).to_f32()),
            other => return Err(self.wrong(name, "a floating-point tensor", format!("{other:?}"))),
        })
    }

    /// Elements of a floating-point tensor of any stored precision as `f64`.
    pub fn to_f64(&self, name: &str) -> Result<Vec<f64>> {
        match self.info(name)?.dtype {
            safetensors::Dtype::F64 => Ok(read_as(self.bytes(name)?, f64::from_le_bytes)),
            _ => Ok(self.to_f32(name)?.into_iter().map(f64::from).collect()),
        }
    }

    /// The one element of a tensor of any number type.
    pub fn to_scalar(&self, name: &str) -> Result<f64> {
        let values = match self.to_f64(name) {
            Ok(values) => values,
            Err(_) => self.to_u32(name)?.into_iter().map(f64::from).collect(),
        };
        match values[..] {
            [value] => Ok(value),
            _ => Err(self.wrong(name, "one number", format!("{} numbers", values.len()))),
        }
    }

    /// Elements of an unsigned or signed integer tensor as `u32`, each checked to fit.
    pub fn to_u32(&self, name: &str) -> Result<Vec<u32>> {
        let bytes = self.bytes(name)?;
        let wide: Vec<i128> = match self.info(name)?.dtype {
            safetensors::Dtype::U8 => read_as(bytes, |b: [u8; 1]| b[0] as i128),
            safetensors::Dtype::U16 => read_as(bytes, |b| u16::from_le_bytes(b) as i128),
            safetensors::Dtype::U32 => read_as(bytes, |b| u32::from_le_bytes(b) as i128),
            safetensors::Dtype::U64 => read_as(bytes, |b| u64::from_le_bytes(b) as i128),
            safetensors::Dtype::I32 => read_as(bytes, |b| i32::from_le_bytes(b) as i128),
            safetensors::Dtype::I64 => read_as(bytes, |b| i64::from_le_bytes(b) as i128),
            other => return Err(self.wrong(name, "an integer tensor", format!("{other:?}"))),
        };
        wide.iter()
            .enumerate()
            .map(|(i, &v)| {
                u32::try_from(v).map_err(|_| {
                    self.wrong(name, "values between 0 and 4294967295", format!("{v} at element {i}"))
                })
            })
            .collect()
    }

    /// A [`Error::Format`] that names this file and the given tensor.
    pub fn wrong(&self, name: &str, expected: impl Into<String>, found: impl Into<String>) -> Error {
        Error::format(&self.path, format!("tensor '{name}'"), expected, found)
    }

    fn info(&self, name: &str) -> Result<&safetensors::tensor::TensorInfo> {
        self.header.info(name).ok_or_else(|| {
            let mut names = self.names();
            names.truncate(8);
            self.wrong(name, "to be present", format!("only {}", names.join(", ")))
        })
    }
}

fn read_as<const N: usize, V>(bytes: &[u8], convert: impl Fn([u8; N]) -> V) -> Vec<V> {
    bytes.as_chunks::<N>().0.iter().map(|&b| convert(b)).collect()
}

/// One tensor to be written: a name, its element type and shape, and its little-endian bytes.
pub struct Entry<'a> {
    pub name: String,
    pub dtype: DType,
    pub shape: Shape,
    pub bytes: &'a [u8],
}

impl<'a> Entry<'a> {
    /// # Panics
    /// If the number of elements is not that of the shape.
    pub fn new<T: Pod>(
        name: impl Into<String>,
        dtype: DType,
        shape: impl Into<Shape>,
        values: &'a [T],
    ) -> Self {
        let (name, shape) = (name.into(), shape.into());
        assert_eq!(dtype.size(), size_of::<T>(), "{name}: element type");
        assert_eq!(shape.len(), values.len(), "{name}: number of elements for shape {shape}");
        Entry { name, dtype, shape, bytes: bytemuck::cast_slice(values) }
    }
}

impl safetensors::View for &Entry<'_> {
    fn dtype(&self) -> safetensors::Dtype {
        self.dtype.stored()
    }
    fn shape(&self) -> &[usize] {
        self.shape.dims()
    }
    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        self.bytes.into()
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Writes a safetensors file, whole or not at all. Entries of equal names are a caller's mistake.
pub fn write_tensors(
    path: impl AsRef<Path>,
    entries: &[Entry<'_>],
    metadata: &[(&str, String)],
) -> Result<()> {
    let path = path.as_ref();
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
    let bytes = safetensors::serialize(
        entries.iter().map(|e| (e.name.clone(), e)),
        (!metadata.is_empty()).then_some(metadata),
    )
    .map_err(|e| Error::format(path, "header", "tensors that can be stored", e.to_string()))?;
    let bytes = with_sorted_header(bytes);
    write_atomically(path, |file| file.write_all(&bytes))
}

/// The same file with its metadata in alphabetic order: the crate writes them in an order that changes
/// from process to process, and equal contents should be equal files.
fn with_sorted_header(mut bytes: Vec<u8>) -> Vec<u8> {
    let Some((length, rest)) = bytes.split_first_chunk_mut::<8>() else { return bytes };
    let header = &mut rest[..u64::from_le_bytes(*length) as usize];
    let sorted = serde_json::from_slice::<serde_json::Value>(header).map(|v| v.to_string());
    if let Ok(sorted) = sorted
        && sorted.len() <= header.len()
    {
        header.fill(b' ');
        header[..sorted.len()].copy_from_slice(sorted.as_bytes());
    }
    bytes
}

/// Writes a file under a temporary name in the same folder, flushes it to the disk and renames it.
pub fn write_atomically(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if path.is_dir() {
        return Err(Error::format(path, "the path", "a file to write", "a directory"));
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(".tessera-").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As `File::create` would: readable for others, less the process's mask.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(|e| Error::io(path, "write", e))?;
    {
        let mut buffered = std::io::BufWriter::with_capacity(1 << 20, file.as_file_mut());
        write(&mut buffered).map_err(|e| Error::io(path, "write", e))?;
        buffered.flush().map_err(|e| Error::io(path, "write", e))?;
    }
    file.as_file().sync_all().map_err(|e| Error::io(path, "write", e))?;
    file.persist(path).map_err(|e| Error::io(path, "write", e.error))?;
    if let Ok(folder) = File::open(folder) {
        // Makes the rename itself durable; a file system that cannot do it loses nothing else.
        let _ = folder.sync_all();
    }
    Ok(())
}
