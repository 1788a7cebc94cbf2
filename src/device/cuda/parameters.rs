//! The parameter block: small values from the host (rates, labels, row numbers, random keys), collected until
//! the next run and brought to the device by one copy and one kernel.

use std::ffi::c_void;
use std::sync::Arc;

use super::driver::{Context, Function, Memory, Pinned, Stream};
use crate::error::Result;

/// Largest value that travels this way, in bytes.
pub const SMALL: usize = 4096;

/// Bytes of a block; it is sent early when it is full.
const BLOCK: usize = 64 << 10;

/// Blocks under way at once before the host waits.
const BLOCKS: usize = 4;

/// Threads that deliver one value.
pub(super) const THREADS: u32 = 64;

/// `Delivery` of `kernels/copy.cu`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Delivery {
    to: u64,
    first: u32,
    words: u32,
}

const DELIVERY: usize = size_of::<Delivery>();

pub struct Parameters {
    host: Vec<Pinned>,
    device: Memory,
    deliver: Function,
    /// The block that is being filled.
    block: usize,
    runs: Vec<Delivery>,
    /// Payload in words; runs count from its beginning until the block is sent.
    words: Vec<u32>,
}

impl Parameters {
    pub fn new(context: &Arc<Context>, deliver: Function) -> Result<Self> {
        let host = (0..BLOCKS).map(|_| Pinned::new(context, BLOCK)).collect::<Result<_>>()?;
        let device = Memory::new(context, BLOCKS * BLOCK, "the parameter block")?;
        // Both grow to their final size once, so that steps allocate nothing.
        let (runs, words) = (Vec::with_capacity(BLOCK / 64), Vec::with_capacity(BLOCK / 4));
        Ok(Parameters { host, device, deliver, block: 0, runs, words })
    }

    pub fn bytes(&self) -> usize {
        self.device.bytes()
    }

    /// Is there room for that many more bytes, each in a run of their own?
    pub fn has_room(&self, bytes: usize) -> bool {
        let runs = self.runs.len() + 2;
        runs < self.runs.capacity()
            && runs * DELIVERY + 4 * self.words.len() + bytes.next_multiple_of(4) + 8 <= BLOCK
    }

    /// Keeps a value for delivery; it replaces an earlier one for the same address. Destinations are padded to
    /// whole words.
    pub fn stage(&mut self, to: u64, bytes: &[u8]) {
        let words = bytes.len().div_ceil(4);
        let known = self.runs.iter().find(|r| r.to == to && r.words as usize == words);
        let first = match known {
            Some(run) => run.first as usize,
            None => {
                let first = self.words.len();
                self.runs.push(Delivery { to, first: first as u32, words: words as u32 });
                self.words.resize(first + words, 0);
                first
            }
        };
        let payload: &mut [u8] = bytemuck::cast_slice_mut(&mut self.words[first..first + words]);
        payload[..bytes.len()].copy_from_slice(bytes);
    }

    /// Keeps words that a kernel reads from the block itself; their number in the payload.
    pub fn keep(&mut self, words: impl Iterator<Item = u32>) -> usize {
        let first = self.words.len();
        self.words.extend(words);
        first
    }

    /// Sends the block, if there is anything in it, and begins a new one. The address of the payload.
    pub fn send(&mut self, stream: &Stream) -> Result<u64> {
        let at = self.device.address() + (self.block * BLOCK) as u64;
        let table = self.runs.len() * DELIVERY;
        if self.words.is_empty() {
            return Ok(at);
        }
        let block = self.host[self.block].free()?;
        self.runs.iter_mut().for_each(|r| r.first += (table / 4) as u32);
        block[..table].copy_from_slice(bytemuck::cast_slice(&self.runs));
        let payload: &[u8] = bytemuck::cast_slice(&self.words);
        block[table..table + payload.len()].copy_from_slice(payload);
        self.host[self.block].send(stream, at, table + payload.len())?;
        if !self.runs.is_empty() {
            let mut address = at;
            let mut arguments = [(&raw mut address).cast::<c_void>()];
            // SAFETY: the kernel reads the block that was just sent, and writes buffers that exist: releasing
            // one sends the block first.
            unsafe {
                stream.launch(
                    &self.deliver,
                    [self.runs.len() as u32, 1, 1],
                    [THREADS, 1, 1],
                    &mut arguments,
                )?
            };
        }
        self.runs.clear();
        self.words.clear();
        self.block = (self.block + 1) % BLOCKS;
        Ok(at + table as u64)
    }
}
