//! Files of an archive (zip, tar, tar.gz, tar.xz) or a folder, read one after the other without unpacking
//! anything to the disk.
//!
//! Nothing that an archive claims is believed: content is counted while it comes, and what grows beyond
//! [`allowance`] is refused before it takes memory. An entry that points outside the archive's folder, or
//! a link, makes the whole archive an error, whether anybody wants that entry or not.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::source::{Hashed, LARGEST};
use crate::data::dataset::hex;
use crate::error::{Error, Result};

/// Deepest folder that is looked into.
const DEEPEST: usize = 8;

/// Longest name of a tar entry, in bytes.
const LONGEST: u64 = 4096;

/// Bytes that may come out of `packed` compressed ones: images hardly shrink, so that 32 times as much is
/// no data set. Small archives may hold 64 MiB in any case.
pub(super) fn allowance(packed: u64) -> u64 {
    (packed.saturating_mul(32)).saturating_add(64 << 20).min(LARGEST)
}

/// A file of an archive or a folder.
pub(super) struct Member {
    /// Path inside, with `/` between parts.
    pub name: String,
    pub bytes: Vec<u8>,
}

/// What was read from a place, and the place's own record.
pub(super) struct Members {
    pub path: PathBuf,
    pub members: Vec<Member>,
    pub provenance: Value,
}

impl Members {
    /// Where a member is, for messages.
    pub fn place(&self, member: &Member) -> PathBuf {
        self.path.join(&member.name)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Zip,
    Tar,
    TarGz,
    TarXz,
}

/// Endings of archives, in the order in which a data set's archive is looked for.
pub(super) const ENDINGS: [&str; 6] = [".zip", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar"];

fn form(path: &Path) -> Option<Form> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let ending = ENDINGS.iter().find(|e| name.ends_with(**e))?;
    Some(match *ending {
        ".zip" => Form::Zip,
        ".tar.gz" | ".tgz" => Form::TarGz,
        ".tar.xz" | ".txz" => Form::TarXz,
        _ => Form::Tar,
    })
}

/// Whether a path is named like an archive.
pub(super) fn is_archive(path: &Path) -> bool {
    form(path).is_some()
}

/// All files of a folder or an archive whose names are `wanted`.
pub(super) fn read(path: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Members> {
    let about = std::fs::metadata(path).map_err(|e| Error::io(path, "open", e))?;
    if about.is_dir() {
        return read_folder(path, wanted);
    }
    let Some(form) = form(path) else {
        let expected = "a folder, or an archive (.zip, .tar, .tar.gz, .tar.xz)";
        return Err(Error::format(path, "the path", expected, "a file of another kind"));
    };
    if !about.is_file() {
        return Err(Error::format(path, "the path", "a file", "something that is not a regular file"));
    }
    let file = File::open(path).map_err(|e| Error::io(path, "open", e))?;
    match form {
        Form::Zip => read_zip(path, file, about.len(), wanted),
        _ => read_tar(path, file, about.len(), form, wanted),
    }
}

/// Why a name is not one of a file below the archive's folder.
fn outside(name: &str) -> Option<&'static str> {
    let bytes = name.as_bytes();
    if name.starts_with(['/', '\\']) || bytes.get(1) == Some(&b':') {
        return Some("an absolute path");
    }
    if name.split(['/', '\\']).any(|part| part == "..") {
        return Some("a path that leaves it");
    }
    if name.is_empty() || name.contains(['\\', '\0', '\n']) {
        return Some("a name that is none on every system");
    }
    None
}

fn refused(path: &Path, name: &str, found: &str) -> Error {
    let expected = "files inside the archive's folder and no links";
    Error::format(path, format!("entry {name:?}"), expected, found)
}

/// An error of a stream: of the file system, or of what the stream holds.
pub(super) fn broken(path: &Path, place: impl Into<String>, expected: &str, error: &io::Error) -> Error {
    match error.raw_os_error() {
        Some(code) => Error::io(path, "read", io::Error::from_raw_os_error(code)),
        None => Error::format(path, place, expected, error.to_string()),
    }
}

pub(super) fn too_much(path: &Path, place: impl Into<String>, packed: u64) -> Error {
    let expected = format!("at most {} bytes of content from {packed} compressed bytes", allowance(packed));
    Error::format(path, place, expected, "more; it is no data set")
}

fn read_zip(path: &Path, file: File, size: u64, wanted: &dyn Fn(&str) -> bool) -> Result<Members> {
    let bad = |place: String, error: zip::result::ZipError| match error {
        zip::result::ZipError::Io(error) => broken(path, place, "a whole zip archive", &error),
        other => Error::format(path, place, "a zip archive that can be read", other.to_string()),
    };
    let digest = sha256(path)?;
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(|e| bad("directory".into(), e))?;
    let mut left = allowance(size);
    let mut members = Vec::new();
    for number in 0..archive.len() {
        let (name, is_wanted) = {
            // Raw: an entry that nobody wants may be of a kind that cannot be unpacked.
            let entry = archive.by_index_raw(number).map_err(|e| bad(format!("entry {number}"), e))?;
            let name = entry.name().map_err(|e| bad(format!("entry {number}"), e))?.into_owned();
            if let Some(why) = outside(&name) {
                return Err(refused(path, &name, why));
            }
            if entry.is_symlink() {
                return Err(refused(path, &name, "a link"));
            }
            let is_wanted = !entry.is_dir() && wanted(&name);
            (name, is_wanted)
        };
        if !is_wanted {
            continue;
        }
        let place = format!("entry {name:?}");
        let entry = archive.by_index(number).map_err(|e| bad(place.clone(), e))?;
        let claimed = entry.size();
        let mut bytes = Vec::new();
        let end = entry.take(left + 1).read_to_end(&mut bytes);
        end.map_err(|e| broken(path, place.as_str(), "a whole zip entry", &e))?;
        if bytes.len() as u64 > left {
            return Err(too_much(path, place, size));
        }
        if bytes.len() as u64 != claimed {
            let expected = format!("{claimed} bytes, as the directory says");
            return Err(Error::format(path, place, expected, bytes.len().to_string()));
        }
        left -= bytes.len() as u64;
        members.push(Member { name, bytes });
    }
    Ok(Members { path: path.to_path_buf(), members, provenance: record(path, size, digest) })
}

fn read_tar(
    path: &Path,
    file: File,
    size: u64,
    form: Form,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Members> {
    let mut hashed = Hashed::new(BufReader::new(file));
    let mut members = Vec::new();
    let unpacked: Box<dyn Read + '_> = match form {
        Form::TarGz => Box::new(flate2::read::MultiGzDecoder::new(&mut hashed)),
        Form::TarXz => Box::new(lzma_rust2::XzReader::new(&mut hashed, true)),
        _ => Box::new(&mut hashed),
    };
    let mut bounded = Bounded::new(unpacked, if form == Form::Tar { LARGEST } else { allowance(size) });
    let outcome = tar_entries(path, &mut bounded, wanted, &mut members);
    if bounded.exceeded {
        return Err(too_much(path, "content", size));
    }
    outcome?;
    drop(bounded);
    // What the archive's end leaves unread belongs to the file's hash too.
    io::copy(&mut hashed, &mut io::sink()).map_err(|e| Error::io(path, "read", e))?;
    let provenance = record(path, size, hashed.digest());
    Ok(Members { path: path.to_path_buf(), members, provenance })
}

fn tar_entries(
    path: &Path,
    stream: &mut dyn Read,
    wanted: &dyn Fn(&str) -> bool,
    members: &mut Vec<Member>,
) -> Result<()> {
    let expected = "a whole tar archive";
    let mut archive = tar::Archive::new(stream);
    let entries = archive.entries().map_err(|e| broken(path, "content", expected, &e))?;
    let mut long_name: Option<Vec<u8>> = None;
    // Raw: long names are read here, so that their length is bounded.
    for (number, entry) in entries.raw(true).enumerate() {
        let mut entry = entry.map_err(|e| broken(path, format!("entry {number}"), expected, &e))?;
        let kind = entry.header().entry_type();
        if kind.is_gnu_longname() {
            let mut name = Vec::new();
            let end = (&mut entry).take(LONGEST + 1).read_to_end(&mut name);
            end.map_err(|e| broken(path, format!("entry {number}"), expected, &e))?;
            if name.len() as u64 > LONGEST {
                let place = format!("entry {number}");
                return Err(Error::format(path, place, "a name of at most 4096 bytes", "a longer one"));
            }
            name.truncate(name.iter().position(|&b| b == 0).unwrap_or(name.len()));
            long_name = Some(name);
            continue;
        }
        if kind.is_pax_global_extensions() || kind.is_pax_local_extensions() {
            continue;
        }
        let name = long_name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
        let name = String::from_utf8(name).map_err(|e| {
            let found = format!("{:?}", String::from_utf8_lossy(e.as_bytes()));
            Error::format(path, format!("entry {number}"), "a name in UTF-8", found)
        })?;
        let plain = name.strip_prefix("./").unwrap_or(&name);
        if kind.is_dir() && plain.is_empty() {
            continue;
        }
        if let Some(why) = outside(plain) {
            return Err(refused(path, &name, why));
        }
        if kind.is_symlink() || kind.is_hard_link() || kind.is_gnu_longlink() {
            return Err(refused(path, &name, "a link"));
        }
        if !(kind.is_file() || kind.is_contiguous()) || !wanted(plain) {
            continue;
        }
        let (place, claimed) = (format!("entry {name:?}"), entry.size());
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|e| broken(path, place.as_str(), expected, &e))?;
        if bytes.len() as u64 != claimed {
            let found = format!("the end of the archive after {} bytes", bytes.len());
            return Err(Error::format(path, place, format!("{claimed} bytes"), found));
        }
        members.push(Member { name: plain.to_string(), bytes });
    }
    Ok(())
}

fn read_folder(path: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Members> {
    let mut names = Vec::new();
    list(path, "", 0, &mut names)?;
    names.retain(|name| wanted(name));
    let mut left = LARGEST;
    let mut members = Vec::with_capacity(names.len());
    for name in names {
        let file = path.join(&name);
        let bytes = std::fs::read(&file).map_err(|e| Error::io(&file, "read", e))?;
        left = left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| Error::format(path, &name, "at most 8 GiB in all files", "more"))?;
        members.push(Member { name, bytes });
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let provenance = json!({"folder": name, "files": members.len()});
    Ok(Members { path: path.to_path_buf(), members, provenance })
}

/// Regular files below a folder, in alphabetic order.
fn list(root: &Path, below: &str, depth: usize, names: &mut Vec<String>) -> Result<()> {
    let folder = root.join(below);
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(|e| Error::io(&folder, "list", e))? {
        entries.push(entry.map_err(|e| Error::io(&folder, "list", e))?.path());
    }
    entries.sort();
    for entry in entries {
        // A name that is not UTF-8 is no file of a data set.
        let Some(name) = entry.file_name().and_then(|n| n.to_str()) else { continue };
        let name = if below.is_empty() { name.to_string() } else { format!("{below}/{name}") };
        if entry.is_file() {
            names.push(name);
        } else if entry.is_dir() {
            if depth == DEEPEST {
                let expected = format!("at most {DEEPEST} folders inside each other");
                return Err(Error::format(root, name, expected, "another one"));
            }
            list(root, &name, depth + 1, names)?;
        }
    }
    Ok(())
}

/// A reader that ends with an error after so many bytes.
pub(super) struct Bounded<R> {
    inner: R,
    left: u64,
    pub exceeded: bool,
}

impl<R: Read> Bounded<R> {
    pub fn new(inner: R, bytes: u64) -> Self {
        Bounded { inner, left: bytes, exceeded: false }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => {
                self.exceeded = true;
                return Err(io::Error::other("more content than is allowed"));
            }
        }
        Ok(count)
    }
}

/// SHA-256 of a file, in hexadecimal.
pub(super) fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(|e| Error::io(path, "open", e))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer).map_err(|e| Error::io(path, "read", e))?;
        if count == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..count]);
    }
}

fn record(path: &Path, bytes: u64, sha256: String) -> Value {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    json!({"file": name, "bytes": bytes, "sha256": sha256})
}
