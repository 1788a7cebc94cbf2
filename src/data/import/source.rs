//! Files as they come: plain, gzip, xz or in an archive, read as a stream into a bounded amount of memory,
//! with the SHA-256 of the file for the record.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::archive::{self, Members};
use crate::data::dataset::hex;
use crate::error::{Error, Result};

/// Largest content that is read, decompressed: 8 GiB.
pub(super) const LARGEST: u64 = 8 << 30;

/// A file's content, decompressed, and where it came from.
#[derive(Debug)]
pub(super) struct Source {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    pub provenance: Value,
}

/// `folder/name`, or the same with `.gz` or `.xz`; `None` if there is none of them.
pub(super) fn find(folder: &Path, name: &str) -> Result<Option<Source>> {
    path_of(folder, name).map(|path| read(&path)).transpose()
}

fn path_of(folder: &Path, name: &str) -> Option<PathBuf> {
    ["", ".gz", ".xz"].map(|suffix| folder.join(format!("{name}{suffix}"))).into_iter().find(|p| p.exists())
}

/// As [`find`], but the file must be there.
pub(super) fn required(folder: &Path, name: &str) -> Result<Source> {
    check_folder(folder)?;
    find(folder, name)?.ok_or_else(|| missing(folder, name))
}

pub(super) fn missing(place: &Path, name: &str) -> Error {
    let found = if place.is_dir() { "no such file in the folder" } else { "no such file in the archive" };
    Error::format(place, name, "this file, plain or with .gz or .xz", found)
}

pub(super) fn check_folder(folder: &Path) -> Result<()> {
    let about = std::fs::metadata(folder).map_err(|e| Error::io(folder, "open", e))?;
    if about.is_dir() {
        Ok(())
    } else {
        Err(Error::format(folder, "the path", "a folder that holds the data set's files", "a file"))
    }
}

/// Where the files of a data set lie: one by one in a folder, or in an archive.
pub(super) enum Place {
    Folder(PathBuf),
    Archive(Members),
}

impl Place {
    /// `from` may be an archive, or a folder that holds some of the files, or else the archive of the official
    /// name. Of an archive, only files of these names are kept.
    pub fn open(from: &Path, archive: &str, names: &[&str]) -> Result<Place> {
        let wanted = |name: &str| names.contains(&base(name));
        if archive::is_archive(from) && !from.is_dir() {
            return Ok(Place::Archive(archive::read(from, &wanted)?));
        }
        check_folder(from)?;
        if names.iter().all(|name| path_of(from, name).is_none()) {
            for ending in archive::ENDINGS {
                let path = from.join(format!("{archive}{ending}"));
                if path.is_file() {
                    return Ok(Place::Archive(archive::read(&path, &wanted)?));
                }
            }
        }
        Ok(Place::Folder(from.to_path_buf()))
    }

    /// As the function [`find`]; a file of an archive is handed out once.
    pub fn find(&mut self, name: &str) -> Result<Option<Source>> {
        match self {
            Place::Folder(folder) => find(folder, name),
            Place::Archive(members) => {
                let at = members.members.iter().position(|m| base(&m.name) == name);
                Ok(at.map(|at| {
                    let path = members.place(&members.members[at]);
                    let member = members.members.swap_remove(at);
                    let provenance = json!({"file": member.name, "bytes": member.bytes.len()});
                    Source { path, bytes: member.bytes, provenance }
                }))
            }
        }
    }

    pub fn path(&self) -> &Path {
        match self {
            Place::Folder(folder) => folder,
            Place::Archive(members) => &members.path,
        }
    }

    /// The archive's own record, if it is one.
    pub fn provenance(&self) -> Option<Value> {
        match self {
            Place::Folder(_) => None,
            Place::Archive(members) => Some(members.provenance.clone()),
        }
    }
}

/// The last part of a path inside an archive.
pub(super) fn base(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
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
    let mut hashed = Hashed::new(BufReader::new(file));
    let mut bytes = Vec::new();
    let suffix = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    let packed = matches!(suffix, "gz" | "xz");
    let allowed = if packed { archive::allowance(about.len()) } else { LARGEST };
    let limit = allowed + 1;
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
    if bytes.len() as u64 > allowed && packed {
        return Err(archive::too_much(
            path,
            format!("byte {allowed} of the decompressed content"),
            about.len(),
        ));
    }
    if bytes.len() as u64 > LARGEST {
        return Err(Error::format(path, format!("byte {LARGEST}"), "at most 8 GiB of content", "more"));
    }
    // What decompression left unread belongs to the file's hash too.
    std::io::copy(&mut hashed, &mut std::io::sink()).map_err(|e| Error::io(path, "read", e))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let digest = hashed.digest();
    let provenance = json!({"file": name, "bytes": about.len(), "sha256": digest});
    Ok(Source { path: path.to_path_buf(), bytes, provenance })
}

/// A reader that hashes what passes, and remembers an error of the file system.
pub(super) struct Hashed<R> {
    inner: R,
    hash: Sha256,
    error: Option<ErrorKind>,
}

impl<R> Hashed<R> {
    pub fn new(inner: R) -> Self {
        Hashed { inner, hash: Sha256::new(), error: None }
    }

    /// SHA-256 of what passed, in hexadecimal.
    pub fn digest(self) -> String {
        hex(&self.hash.finalize())
    }
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
