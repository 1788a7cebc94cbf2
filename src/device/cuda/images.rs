//! Images as bytes on the device, and batches of them. Sets that are too large stay on the host, and the bytes
//! of each batch travel through two page-locked buffers, one of which is filled while the other is copied.

use std::ffi::c_void;
use std::sync::Arc;

use super::driver::{Context, Function, Memory, Pinned, Stream};
use crate::error::{Error, Result};
use crate::pixels::{Look, Pixels, Visit};

/// Share of the free memory that a set may take to stay on the device: a half.
pub const SHARE: usize = 2;

pub(super) const THREADS: usize = 256;

/// Bits of `kernels/batch.cu`.
const MIRRORED: u32 = 1;
const GREY: u32 = 2;

/// `Canvas` of `kernels/batch.cu`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Canvas {
    image_height: u32,
    image_width: u32,
    channels: u32,
    height: u32,
    width: u32,
    above: u32,
    left: u32,
    count: u32,
    margin: f32,
}

enum Bytes {
    Resident(Memory),
    /// Buffers for the bytes of a batch, made for the first one.
    Streamed(Option<Streamed>),
}

struct Streamed {
    host: [Pinned; 2],
    device: Memory,
    next: usize,
}

pub struct Images {
    bytes: Bytes,
    /// The number for each byte, by channel.
    table: Memory,
    canvas: Canvas,
    images: usize,
}

/// A batch that waits for its row numbers to arrive.
pub struct Fill {
    set: usize,
    into: u64,
    rows: usize,
    /// Numbers of the words of rows and flags in the parameter block.
    first_row: usize,
    first_flag: usize,
}

impl Fill {
    pub fn new(set: usize, into: u64, rows: usize, first_row: usize, first_flag: usize) -> Self {
        Fill { set, into, rows, first_row, first_flag }
    }

    pub fn set(&self) -> usize {
        self.set
    }

    pub fn into(&self) -> u64 {
        self.into
    }
}

impl Images {
    /// Keeps the bytes on the device if they take at most `limit` bytes.
    pub fn new(stream: &Stream, pixels: &Pixels<'_>, look: &Look, limit: usize) -> Result<Self> {
        let context = stream.context();
        let bytes = if pixels.bytes() <= limit {
            let memory = Memory::new(context, pixels.bytes(), "the set of images")?;
            let mut at = memory.address();
            for part in pixels.parts() {
                stream.upload(at, part)?;
                at += part.len() as u64;
            }
            Bytes::Resident(memory)
        } else {
            Bytes::Streamed(None)
        };
        let numbers = look.table.as_flattened();
        let table = Memory::new(context, size_of_val(numbers), "a table of bytes")?;
        stream.upload(table.address(), bytemuck::cast_slice(numbers))?;
        let ([image_height, image_width, channels], [height, width, _]) = (pixels.shape(), look.shape());
        let [above, left] = look.offset(pixels.shape());
        let [image_height, image_width, channels, height, width, above, left] =
            [image_height, image_width, channels, height, width, above, left].map(|v| v as u32);
        let margin = look.margin;
        let canvas =
            Canvas { image_height, image_width, channels, height, width, above, left, count: 0, margin };
        Ok(Images { bytes, table, canvas, images: pixels.len() })
    }

    pub fn device_bytes(&self) -> usize {
        let batch = match &self.bytes {
            Bytes::Resident(memory) => memory.bytes(),
            Bytes::Streamed(streamed) => streamed.as_ref().map_or(0, |s| s.device.bytes()),
        };
        batch + self.table.bytes()
    }

    pub fn is_resident(&self) -> bool {
        matches!(self.bytes, Bytes::Resident(_))
    }

    /// Numbers that a batch takes.
    pub fn batch_len(&self, rows: usize) -> usize {
        rows * (self.canvas.height * self.canvas.width * self.canvas.channels) as usize
    }

    pub fn check(&self, rows: &[u32]) -> Result<()> {
        match rows.iter().find(|&&r| r as usize >= self.images) {
            Some(row) => Err(Error::Device(format!("there is no image {row} of {}", self.images))),
            None => Ok(()),
        }
    }

    /// What is done to the images at some positions of a batch, in bits.
    pub fn flags<'a>(
        &self,
        positions: std::ops::Range<usize>,
        visit: &'a Visit,
    ) -> impl Iterator<Item = u32> + use<'a> {
        let channels = self.canvas.channels as usize;
        positions.map(move |i| {
            let change = visit.change(i, channels);
            (if change.mirrored { MIRRORED } else { 0 }) | (if change.grey { GREY } else { 0 })
        })
    }

    /// Sends the bytes of the given images ahead, if they are not on the device. True if they were sent; rows
    /// then count within the batch.
    pub fn send_ahead(&mut self, stream: &Stream, pixels: &Pixels<'_>, rows: &[u32]) -> Result<bool> {
        let Bytes::Streamed(streamed) = &mut self.bytes else { return Ok(false) };
        let (size, context): (usize, &Arc<Context>) = (pixels.size(), stream.context());
        let bytes = rows.len() * size;
        if streamed.as_ref().is_none_or(|s| s.device.bytes() < bytes) {
            *streamed = None;
            let host = [Pinned::new(context, bytes)?, Pinned::new(context, bytes)?];
            let device = Memory::new(context, bytes, "a batch of images")?;
            *streamed = Some(Streamed { host, device, next: 0 });
        }
        if let Some(s) = streamed {
            let host = &mut s.host[s.next];
            let to = host.free()?;
            for (to, &row) in to.chunks_exact_mut(size).zip(rows) {
                to.copy_from_slice(pixels.image(row as usize));
            }
            host.send(stream, s.device.address(), bytes)?;
            s.next = 1 - s.next;
        }
        Ok(true)
    }

    /// Starts the kernel of a batch; `payload` is the address of the parameter block's payload.
    pub fn fill(&self, stream: &Stream, function: &Function, fill: &Fill, payload: u64) -> Result<()> {
        let count = self.batch_len(fill.rows);
        let mut canvas = Canvas { count: count as u32, ..self.canvas };
        let mut bytes = match &self.bytes {
            Bytes::Resident(memory) => memory.address(),
            Bytes::Streamed(streamed) => streamed.as_ref().map_or(0, |s| s.device.address()),
        };
        let mut table = self.table.address();
        let word = |number: usize| payload + 4 * number as u64;
        let (mut rows, mut flags, mut out) = (word(fill.first_row), word(fill.first_flag), fill.into);
        let mut arguments = [
            (&raw mut canvas).cast::<c_void>(),
            (&raw mut bytes).cast(),
            (&raw mut table).cast(),
            (&raw mut rows).cast(),
            (&raw mut flags).cast(),
            (&raw mut out).cast(),
        ];
        let blocks = count.div_ceil(THREADS) as u32;
        // SAFETY: rows were checked to be images of the set, rows and flags are in the block that was just
        // sent, and the buffer was checked to hold the batch.
        unsafe { stream.launch(function, [blocks, 1, 1], [THREADS as u32, 1, 1], &mut arguments) }
    }
}
