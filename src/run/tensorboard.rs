//! TensorBoard event files: TFRecord frames (length, its checksum, payload, its checksum; little-endian),
//! each payload one `Event` message of TensorFlow's `event.proto`.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What the first record of every event file says.
const VERSION: &str = "brain.Event:2";

/// Bytes of a frame before and after its payload.
const HEAD: u64 = 12;
const FOOT: u64 = 4;

/// An event file being written. Records stay in memory until [`flush`](EventFile::flush).
pub struct EventFile {
    path: PathBuf,
    file: BufWriter<File>,
    length: u64,
}

impl EventFile {
    /// Makes the file, or empties it, and writes its version record. `wall_time` is in seconds since 1970.
    /// TensorBoard finds only files whose name contains `tfevents`.
    pub fn create(path: impl AsRef<Path>, wall_time: f64) -> Result<Self> {
        let path = path.as_ref();
        let file = File::create(path).map_err(|e| Error::io(path, "write", e))?;
        let mut events = EventFile { path: path.to_path_buf(), file: BufWriter::new(file), length: 0 };
        let mut event = Message::default();
        event.double(1, wall_time);
        event.bytes(3, VERSION.as_bytes());
        events.record(&event.0)?;
        Ok(events)
    }

    /// Reopens a file and cuts what lies beyond `length` bytes, a number that [`len`](EventFile::len) gave
    /// after a [`sync`](EventFile::sync).
    pub fn append(path: impl AsRef<Path>, length: u64) -> Result<Self> {
        let path = path.as_ref();
        let options = OpenOptions::new().read(true).write(true).open(path);
        let mut file = options.map_err(|e| Error::io(path, "open", e))?;
        check_records(path, &file, length)?;
        file.set_len(length).map_err(|e| Error::io(path, "cut", e))?;
        file.seek(SeekFrom::End(0)).map_err(|e| Error::io(path, "write", e))?;
        Ok(EventFile { path: path.to_path_buf(), file: BufWriter::new(file), length })
    }

    /// Adds one value of the series `tag`.
    pub fn scalar(&mut self, tag: &str, step: u64, value: f32, wall_time: f64) -> Result<()> {
        let mut point = Message::default();
        point.bytes(1, tag.as_bytes());
        point.float(2, value);
        let mut summary = Message::default();
        summary.bytes(1, &point.0);
        let mut event = Message::default();
        event.double(1, wall_time);
        event.varint(2, step);
        event.bytes(5, &summary.0);
        self.record(&event.0)
    }

    /// Hands everything to the operating system.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|e| Error::io(&self.path, "write", e))
    }

    /// Makes everything durable, so that [`len`](EventFile::len) may be stored in a checkpoint.
    pub fn sync(&mut self) -> Result<()> {
        self.flush()?;
        self.file.get_ref().sync_data().map_err(|e| Error::io(&self.path, "write", e))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes so far, those still in memory included.
    #[expect(clippy::len_without_is_empty, reason = "there is always the version record")]
    pub fn len(&self) -> u64 {
        self.length
    }

    fn record(&mut self, payload: &[u8]) -> Result<()> {
        let length = (payload.len() as u64).to_le_bytes();
        let parts: [&[u8]; 4] = [&length, &checksum(&length), payload, &checksum(payload)];
        for part in parts {
            self.file.write_all(part).map_err(|e| Error::io(&self.path, "write", e))?;
        }
        self.length += HEAD + payload.len() as u64 + FOOT;
        Ok(())
    }
}

/// Checks that a record ends at `length`: a file cut elsewhere would hide all records written later.
fn check_records(path: &Path, file: &File, length: u64) -> Result<()> {
    let have = file.metadata().map_err(|e| Error::io(path, "read its size", e))?.len();
    if have < length {
        return Err(Error::format(path, "the end", format!("at least {length} bytes"), format!("{have}")));
    }
    let mut file = BufReader::new(file);
    let mut place = 0;
    while place < length {
        let mut head = [0; HEAD as usize];
        file.read_exact(&mut head).map_err(|e| Error::io(path, "read", e))?;
        let (size, sum) = head.split_at(8);
        let payload = u64::from_le_bytes(size.try_into().unwrap_or_default());
        if sum != checksum(size) {
            return Err(Error::format(path, format!("byte {place}"), "a record", "a wrong checksum"));
        }
        place = place.saturating_add(HEAD + FOOT).saturating_add(payload);
        if place <= length {
            file.seek_relative((payload + FOOT) as i64).map_err(|e| Error::io(path, "read", e))?;
        }
    }
    if place > length {
        let expected = format!("the end of a record at byte {length}");
        return Err(Error::format(path, format!("byte {length}"), expected, "the middle of one"));
    }
    Ok(())
}

/// TFRecord's checksum: CRC-32C rotated and shifted, so that a checksum of data that holds checksums is sound.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8).to_le_bytes()
}

/// A protocol-buffer message being encoded.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn key(&mut self, field: u64, wire_type: u64) {
        self.raw_varint(field << 3 | wire_type);
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn varint(&mut self, field: u64, value: u64) {
        self.key(field, 0);
        self.raw_varint(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.key(field, 2);
        self.raw_varint(value.len() as u64);
        self.0.extend(value);
    }

    fn float(&mut self, field: u64, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Checksums computed bit by bit, by the definition of CRC-32C.
    fn slow_checksum(bytes: &[u8]) -> u32 {
        let mut crc = u32::MAX;
        for &byte in bytes {
            crc ^= u32::from(byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 };
            }
        }
        let crc = !crc;
        crc.rotate_right(15).wrapping_add(0xA282_EAD8)
    }

    fn take<'a>(bytes: &mut &'a [u8], n: usize) -> &'a [u8] {
        let (head, rest) = bytes.split_at(n);
        *bytes = rest;
        head
    }

    fn number(bytes: &[u8]) -> u64 {
        bytes.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b))
    }

    /// Payloads of all records; each checksum must be right and the last record whole.
    fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while !bytes.is_empty() {
            let length = take(&mut bytes, 8);
            assert_eq!(number(take(&mut bytes, 4)) as u32, slow_checksum(length));
            let payload = take(&mut bytes, number(length) as usize);
            assert_eq!(number(take(&mut bytes, 4)) as u32, slow_checksum(payload));
            all.push(payload.to_vec());
        }
        all
    }

    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = take(bytes, 1)[0];
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    /// Fields of a message: number and raw value.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let mut all = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let value = match key & 7 {
                0 => varint(&mut bytes).to_le_bytes().to_vec(),
                1 => take(&mut bytes, 8).to_vec(),
                2 => {
                    let n = varint(&mut bytes) as usize;
                    take(&mut bytes, n).to_vec()
                }
                5 => take(&mut bytes, 4).to_vec(),
                other => panic!("wire type {other}"),
            };
            all.push((key >> 3, value));
        }
        all
    }

    /// Tag, step, value and wall time of a scalar record.
    fn scalar(payload: &[u8]) -> (String, u64, f32, f64) {
        let event = fields(payload);
        let [(1, wall), (2, step), (5, summary)] = &event[..] else { panic!("{event:?}") };
        let summary = fields(summary);
        let [(1, value)] = &summary[..] else { panic!("{summary:?}") };
        let value = fields(value);
        let [(1, tag), (2, value)] = &value[..] else { panic!("{value:?}") };
        (
            String::from_utf8(tag.clone()).unwrap(),
            number(step),
            f32::from_le_bytes(value[..].try_into().unwrap()),
            f64::from_le_bytes(wall[..].try_into().unwrap()),
        )
    }

    const POINTS: [(&str, u64, f32, f64); 5] = [
        ("loss", 0, 2.25, 1.5e9),
        ("loss", 127, -0.5, 1.5e9 + 0.125),
        ("validation/accuracy", 128, 0.875, 1.7e9),
        ("hessian ‖αHv‖", 1 << 40, f32::MIN_POSITIVE, 0.0),
        ("", 300, f32::INFINITY, 1.0),
    ];

    fn write(events: &mut EventFile, points: &[(&str, u64, f32, f64)]) {
        for &(tag, step, value, time) in points {
            events.scalar(tag, step, value, time).unwrap();
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.out.tfevents.1");
        let mut events = EventFile::create(&path, 12.5).unwrap();
        write(&mut events, &POINTS);
        events.sync().unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(events.len(), bytes.len() as u64);
        let records = records(&bytes);
        let version = fields(&records[0]);
        assert_eq!(version, [(1, 12.5f64.to_le_bytes().to_vec()), (3, b"brain.Event:2".to_vec())]);
        for (record, (tag, step, value, time)) in records[1..].iter().zip(POINTS) {
            assert_eq!(scalar(record), (tag.to_string(), step, value, time));
        }
        assert_eq!(records.len(), 1 + POINTS.len());
    }

    #[test]
    fn appending_cuts_what_came_after_the_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let [whole, resumed] = ["a.tfevents", "b.tfevents"].map(|n| folder.path().join(n));
        let mut events = EventFile::create(&whole, 0.0).unwrap();
        write(&mut events, &POINTS);
        drop(events);

        let mut events = EventFile::create(&resumed, 0.0).unwrap();
        write(&mut events, &POINTS[..2]);
        events.sync().unwrap();
        let length = events.len();
        write(&mut events, &[("lost", 9, 9.0, 9.0)]);
        events.flush().unwrap();
        drop(events);
        let lost = fs::read(&resumed).unwrap();
        fs::write(&resumed, &lost[..lost.len() - 7]).unwrap();

        let mut events = EventFile::append(&resumed, length).unwrap();
        assert_eq!(events.len(), length);
        write(&mut events, &POINTS[2..]);
        events.sync().unwrap();
        assert_eq!(fs::read(&resumed).unwrap(), fs::read(&whole).unwrap());
    }

    #[test]
    fn a_file_that_does_not_fit_the_checkpoint_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tfevents");
        let mut events = EventFile::create(&path, 0.0).unwrap();
        write(&mut events, &POINTS);
        events.sync().unwrap();
        let length = events.len();
        drop(events);
        let bytes = fs::read(&path).unwrap();
        let message = |length| EventFile::append(&path, length).err().unwrap().to_string();
        assert!(message(length + 1).contains(&format!("expected at least {} bytes", length + 1)));
        assert!(message(length - 1).contains(&format!("byte {}", length - 1)));
        assert!(message(3).contains("byte 3"));
        assert_eq!(fs::read(&path).unwrap(), bytes);
        let mut broken = bytes.clone();
        broken[9] ^= 1;
        fs::write(&path, &broken).unwrap();
        assert!(message(length).contains("byte 0: expected a record, found a wrong checksum"));
        let missing = folder.path().join("none.tfevents");
        assert!(matches!(EventFile::append(&missing, 0), Err(Error::Io { .. })));
        assert!(matches!(EventFile::create(folder.path(), 0.0), Err(Error::Io { .. })));
    }
}
