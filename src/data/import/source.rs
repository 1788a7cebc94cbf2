//! Files as they come: plain, gzip or xz, read as a stream into a bounded amount of memory, with the
//! SHA-256 of the file for the record.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::data::dataset::hex;
use crate::error::{Error, Result};

/// Largest content that is read, decompressed: 8 GiB.
const LARGEST: u64 = 8 << 30;

/// A file's content, decompressed, and where it came from.
#[derive(Debug)]
pub(super) struct Source {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    pub provenance: Value,
}

/// `folder/name`, or the same with `.gz` or `.xz`; `None` if there is none of them.
pub(super) fn find(folder: &Path, name: &str) -> Result<Option<Source>> {
    for suffix in ["", ".gz", ".xz"] {
        let path = folder.join(format!("{name}{suffix}"));
        if path.exists() {
            return read(&path).map(Some);
        }
    }
    Ok(None)
}

/// As [`find`], but the file must be there.
pub(super) fn required(folder: &Path, name: &str) -> Result<Source> {
    check_folder(folder)?;
    find(folder, name)?.ok_or_else(|| {
        Error::format(folder, name, "this file, plain or with .gz or .xz", "no such file in the folder")
    })
}

pub(super) fn check_folder(folder: &Path) -> Result<()> {
    let about = std::fs::metadata(folder).map_err(|e| Error::io(folder, "open", e))?;
    if about.is_dir() {
        Ok(())
    } else {
        Err(Error::format(folder, "the path", "a folder that holds the data set's files", "a file"))
    }
}

pub(super) fn read(path: &Path) -> Result<Source> {
    let about = std::fs::metadata(path).map_err(|e| Error::io(path, "open", e))?;
    if !about.is_file() {
        return Err(Error::format(path, "the path", "a file", "something that is not a regular file"));
    }
    if about.len() == 0 {
        return Err(Error::format(path, "byte 0", "content", "an empty file"));
    }
    let file = File::open(path).map_err(|e| Error::io(path, "open", e))?;
    let mut hashed = Hashed { inner: BufReader::new(file), hash: Sha256::new(), error: None };
    let mut bytes = Vec::new();
    let suffix = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    let limit = LARGEST + 1;
    let outcome = match suffix {
        "gz" => flate2::read::MultiGzDecoder::new(&mut hashed).take(limit).read_to_end(&mut bytes),
        "xz" => lzma_rust2::XzReader::new(&mut hashed, true).take(limit).read_to_end(&mut bytes),
        _ => (&mut hashed).take(limit).read_to_end(&mut bytes),
    };
    if let Err(error) = outcome {
        // A failure of the file system is one thing, of the compressed stream another.
        let place = format!("byte {} of the decompressed content", bytes.len());
        return Err(match hashed.error {
            Some(kind) => Error::io(path, "read", std::io::Error::from(kind)),
            None => Error::format(path, place, format!("a whole .{suffix} stream"), error.to_string()),
        });
    }
    if bytes.len() as u64 > LARGEST {
        return Err(Error::format(path, format!("byte {LARGEST}"), "at most 8 GiB of content", "more"));
    }
    // What decompression left unread belongs to the file's hash too.
    std::io::copy(&mut hashed, &mut std::io::sink()).map_err(|e| Error::io(path, "read", e))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let digest = hex(&hashed.hash.finalize());
    let provenance = json!({"file": name, "bytes": about.len(), "sha256": digest});
    Ok(Source { path: path.to_path_buf(), bytes, provenance })
}

struct Hashed<R> {
    inner: R,
    hash: Sha256,
    error: Option<ErrorKind>,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(count) => {
                self.hash.update(&buffer[..count]);
                Ok(count)
            }
            Err(error) => {
                self.error = Some(error.kind());
                Err(error)
            }
        }
    }
}

impl Source {
    pub fn wrong(
        &self,
        place: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Error {
        Error::format(&self.path, place, expected, found)
    }

    /// Lines of text that are not empty.
    pub fn lines(&self) -> Result<Vec<String>> {
        let text = std::str::from_utf8(&self.bytes)
            .map_err(|e| self.wrong(format!("byte {}", e.valid_up_to()), "UTF-8 text", "other bytes"))?;
        Ok(text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_string).collect())
    }
}
