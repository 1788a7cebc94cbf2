//! Zeroed memory aligned to cache lines, with optional guard zones.

use crate::error::{Error, Result};

/// What guard zones are filled with: no plausible result, and not zero.
pub(super) const GUARD: u8 = 0xA5;

#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
struct Line([u8; 64]);

pub(super) struct Memory {
    lines: Vec<Line>,
    fence: usize,
    len: usize,
}

impl Memory {
    /// `len` zeroed bytes, between guard zones of `fence` bytes (rounded up to whole cache lines).
    pub fn new(len: usize, fence: usize) -> Result<Self> {
        let fence = fence.next_multiple_of(64);
        let count = len.div_ceil(64) + 2 * fence / 64;
        let lines = bytemuck::allocation::try_zeroed_vec::<Line>(count)
            .map_err(|()| Error::Device(format!("{} bytes of memory cannot be had", count * 64)))?;
        let mut memory = Memory { lines, fence, len };
        let all: &mut [u8] = bytemuck::cast_slice_mut(&mut memory.lines);
        all[..fence].fill(GUARD);
        all[fence + len..].fill(if fence > 0 { GUARD } else { 0 });
        Ok(memory)
    }

    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[self.fence..self.fence + self.len]
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[self.fence..self.fence + self.len]
    }

    /// Do the guard zones hold what was put there?
    pub fn is_intact(&self) -> bool {
        let all: &[u8] = bytemuck::cast_slice(&self.lines);
        self.fence == 0
            || (all[..self.fence].iter().all(|&b| b == GUARD)
                && all[self.fence + self.len..].iter().all(|&b| b == GUARD))
    }
}
