//! Zip and tar archives that say what a test wants them to say, true or not.

// Archives of every kind, whether or not a format here comes in it.
#![allow(dead_code)]

/// An entry of an archive.
#[derive(Clone)]
pub struct Entry {
    pub name: String,
    pub bytes: Vec<u8>,
    /// Size that the archive claims, if it lies.
    pub claimed: Option<u32>,
    /// Unix mode (zip) or type (tar): a link, for instance.
    pub kind: Kind,
    pub deflate: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Link,
    HardLink,
}

impl Entry {
    pub fn new(name: &str, bytes: &[u8]) -> Entry {
        Entry { name: name.into(), bytes: bytes.to_vec(), claimed: None, kind: Kind::File, deflate: false }
    }
}

/// A zip archive, as in APPNOTE 4.3.
pub fn zip(entries: &[Entry]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let mut crc = flate2::Crc::new();
        crc.update(&entry.bytes);
        let (method, stored) =
            if entry.deflate { (8u16, deflate(&entry.bytes)) } else { (0, entry.bytes.clone()) };
        let mode: u32 = if entry.kind == Kind::File { 0o100644 } else { 0o120777 };
        let mut fields = Vec::new();
        fields.extend([20u16, 0, method, 0, 0x21].iter().flat_map(|v| v.to_le_bytes()));
        let sizes = [crc.sum(), stored.len() as u32, entry.claimed.unwrap_or(entry.bytes.len() as u32)];
        fields.extend(sizes.iter().flat_map(|v| v.to_le_bytes()));
        fields.extend((entry.name.len() as u16).to_le_bytes());
        directory.extend(b"PK\x01\x02\x14\x03");
        directory.extend(&fields);
        // Extra, comment, disk, internal attributes; external attributes; where the entry is.
        directory.extend([0u8; 8]);
        directory.extend((mode << 16).to_le_bytes());
        directory.extend((out.len() as u32).to_le_bytes());
        directory.extend(entry.name.as_bytes());
        out.extend(b"PK\x03\x04");
        out.extend(&fields);
        out.extend([0u8; 2]);
        out.extend(entry.name.as_bytes());
        out.extend(stored);
    }
    let (start, count) = (out.len() as u32, entries.len() as u16);
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend(count.to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0u8; 2]);
    out
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A tar archive (POSIX ustar).
pub fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        let mut header = [0u8; 512];
        header[..entry.name.len()].copy_from_slice(entry.name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        let size = entry.claimed.map_or(entry.bytes.len() as u64, u64::from);
        header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        header[136..148].copy_from_slice(b"00000000000\0");
        header[148..156].fill(b' ');
        header[156] = match entry.kind {
            Kind::File => b'0',
            Kind::HardLink => b'1',
            Kind::Link => b'2',
        };
        if entry.kind != Kind::File {
            header[157..167].copy_from_slice(b"/etc/shell");
        }
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend(header);
        out.extend(&entry.bytes);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.extend([0u8; 1024]);
    out
}
