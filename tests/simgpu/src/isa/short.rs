//! Loads and stores of 4-byte elements whose checks are done for all lanes at once.
//!
//! The addresses of lanes outside of the mask are replaced by that of a lane inside, so that every lane may load.

use super::memory::{load_any, read, store_any, write};
use crate::exec::access::each_lane;
use crate::exec::instruction::{Instruction, Op};
use crate::exec::warp::Warp;

/// Host addresses that passed all checks.
pub struct Short(pub [u64; 32]);

/// Keeps lanes together in memory. Else the compiler, which sees single addresses used later, takes the vectors apart.
#[inline(always)]
fn settle(lanes: &mut [u64; 32]) {
    std::hint::black_box(lanes);
}

/// Gives lanes outside of the mask the address of one inside. Returns the bytes that the accesses span, if all addresses
/// are multiples of `bytes`.
#[inline(always)]
fn span(addresses: &mut [u64; 32], mask: u32, bytes: u64) -> Option<(u64, u64)> {
    settle(addresses);
    if mask != !0 {
        let inside = addresses[(mask.trailing_zeros() & 31) as usize];
        for k in 0..32 {
            addresses[k] = if mask & 1 << k != 0 { addresses[k] } else { inside };
        }
        settle(addresses);
    }
    // Four of each, which fill a register.
    let (mut low, mut high, mut all) = ([i64::MAX; 4], [i64::MIN; 4], [0; 4]);
    for four in addresses.chunks_exact(4) {
        for k in 0..4 {
            low[k] = low[k].min(four[k] as i64);
            high[k] = high[k].max(four[k] as i64);
            all[k] |= four[k];
        }
    }
    let least = low[0].min(low[1]).min(low[2]).min(low[3]);
    let most = high[0].max(high[1]).max(high[2]).max(high[3]);
    let bits = all[0] | all[1] | all[2] | all[3];
    (least >= 0 && bits & (bytes - 1) == 0).then(|| (least as u64, most as u64 + bytes))
}

/// Whether all lanes have the same address; whether each has the 4 bytes after those of the lane before.
#[inline(always)]
fn pattern(addresses: &[u64; 32]) -> (bool, bool) {
    let first = addresses[0];
    let (mut differs, mut no_row) = (0, 0);
    for k in 0..32 {
        differs |= addresses[k] ^ first;
        no_row |= addresses[k].wrapping_sub(4 * k as u64) ^ first;
    }
    (differs == 0, no_row == 0)
}

impl Short {
    /// None if an address is not that of `bytes` aligned bytes of shared memory, or if accesses are watched.
    #[inline(always)]
    pub fn shared(w: &mut Warp, i: &Instruction, m: u32, bytes: u64) -> Option<Short> {
        let mut addresses = w.addresses(i);
        let (_, end) = span(&mut addresses, m, bytes)?;
        let is_watched = w.is_shared_watched;
        let shared = &mut w.block().shared;
        if is_watched || end > shared.len() as u64 {
            return None;
        }
        let base = shared.as_mut_ptr() as u64;
        for k in 0..32 {
            addresses[k] += base;
        }
        settle(&mut addresses);
        Some(Short(addresses))
    }

    /// None if the addresses are not all those of `bytes` aligned bytes of one allocation, or if accesses are watched.
    #[inline(always)]
    pub fn global(w: &mut Warp, mut addresses: [u64; 32], m: u32, bytes: u64) -> Option<Short> {
        let (start, end) = span(&mut addresses, m, bytes)?;
        (!w.is_watched && w.is_mapped(start, end)).then_some(Short(addresses))
    }
}

// ---- loads ----

/// One word of each lane.
///
/// # Safety
/// The addresses are checked; `AVX2` only where the CPU has it.
#[inline(always)]
unsafe fn words<const AVX2: bool>(at: &Short, index: usize) -> [u32; 32] {
    let offset = 4 * index as u64;
    #[cfg(target_arch = "x86_64")]
    if AVX2 {
        // SAFETY: promised by the caller.
        return unsafe { x86::words(offset, &at.0) };
    }
    let mut values = [0; 32];
    for k in 0..32 {
        // SAFETY: promised by the caller.
        values[k] = unsafe { read(at.0[k] + offset) };
    }
    values
}

/// Four words of each lane, all first ones to the first row.
///
/// # Safety
/// As `words`; the rows may be written and do not overlap.
#[inline(always)]
unsafe fn quads<const AVX2: bool>(at: &Short, rows: [*mut [u32; 32]; 4]) {
    // SAFETY: promised by the caller.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if AVX2 {
            return x86::quads(&at.0, rows);
        }
        for (index, row) in rows.into_iter().enumerate() {
            row.write(words::<AVX2>(at, index));
        }
    }
}

#[inline(always)]
fn differ([a, b, c, d]: [u32; 4]) -> bool {
    a != b && a != c && a != d && b != c && b != d && c != d
}

#[inline(always)]
fn load<const AVX2: bool>(w: &mut Warp, i: &Instruction, m: u32, at: &Short) {
    // SAFETY: all addresses of the access were checked, and `compiled!` says `AVX2` only in code for it.
    unsafe {
        match i.list[..] {
            [slot] => {
                let (is_same, is_row) = pattern(&at.0);
                if is_same {
                    w.set(slot, &[read::<u32>(at.0[0]); 32], m);
                } else if is_row {
                    w.set(slot, &(at.0[0] as *const [u32; 32]).read_unaligned(), m);
                } else {
                    w.set(slot, &words::<AVX2>(at, 0), m);
                }
            }
            [a, b, c, d] if m == w.alive && differ([a, b, c, d]) => {
                quads::<AVX2>(at, [a, b, c, d].map(|slot| w.place(slot)));
            }
            [a, b, c, d] => {
                let mut rows = [[0u32; 32]; 4];
                quads::<AVX2>(at, rows.each_mut().map(|row| row as *mut _));
                for (slot, row) in [a, b, c, d].into_iter().zip(&rows) {
                    w.set(slot, row, m);
                }
            }
            _ => {
                for (index, &slot) in i.list.iter().enumerate() {
                    w.set(slot, &words::<AVX2>(at, index), m);
                }
            }
        }
    }
}

// ---- stores ----

#[inline(always)]
fn store<const AVX2: bool>(w: &mut Warp, i: &Instruction, m: u32, at: &Short) {
    if m == !0 {
        match i.list[..] {
            [slot] if pattern(&at.0).1 => {
                let row = at.0[0] as *mut [u32; 32];
                // SAFETY: the lanes' words follow each other from here, and all were checked.
                unsafe { row.write_unaligned(*w.get::<u32>(slot)) };
                return;
            }
            #[cfg(target_arch = "x86_64")]
            [a, b, c, d] if AVX2 => {
                let rows = [a, b, c, d].map(|slot| w.get::<u32>(slot));
                // SAFETY: all addresses of the access were checked, and `AVX2` is said only in code for it.
                unsafe { x86::store_quads(&at.0, rows) };
                return;
            }
            _ => {}
        }
    }
    for (index, &slot) in i.list.iter().enumerate() {
        let values = w.get::<u32>(slot);
        for k in each_lane(m) {
            // SAFETY: all addresses of the access were checked.
            unsafe { write(at.0[k] + 4 * index as u64, values[k]) };
        }
    }
}

// ---- operations ----

/// `operation!(name, load, load_any, |w, i, m| Option<Short>)`: the short way, else the general one.
macro_rules! operation {
    ($name:ident, $short:ident, $general:ident, |$w:ident, $i:ident, $m:ident| $check:expr) => {
        pub fn $name() -> Op {
            #[inline(always)]
            fn body<const AVX2: bool>($w: &mut Warp, $i: &Instruction, $m: u32) {
                match $check {
                    Some(at) => $short::<AVX2>($w, $i, $m, &at),
                    None => $general($w, $i, $m),
                }
            }
            crate::compiled!(body::<false>, body::<true>)
        }
    };
}

operation!(load_shared, load, load_any, |w, i, m| Short::shared(w, i, m, 4 * i.list.len() as u64));
operation!(store_shared, store, store_any, |w, i, m| Short::shared(w, i, m, 4 * i.list.len() as u64));
operation!(load_global, load, load_any, |w, i, m| Short::global(
    w,
    w.addresses(i),
    m,
    4 * i.list.len() as u64
));
operation!(store_global, store, store_any, |w, i, m| Short::global(
    w,
    w.addresses(i),
    m,
    4 * i.list.len() as u64
));

/// Words of lanes to rows of a register and back, eight lanes at a time.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// # Safety
    /// A word `offset` bytes after each address may be read, and the CPU has AVX2.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub unsafe fn words(offset: u64, addresses: &[u64; 32]) -> [u32; 32] {
        let mut values = [0; 32];
        for group in (0..32).step_by(4) {
            // SAFETY: promised by the caller; four lanes from `group` are inside of the arrays.
            unsafe {
                let from = _mm256_loadu_si256(addresses[group..].as_ptr().cast());
                let four = _mm256_i64gather_epi32::<1>(offset as *const i32, from);
                _mm_storeu_si128(values[group..].as_mut_ptr().cast(), four);
            }
        }
        values
    }

    /// A 4×4 transposition in each half of the registers.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn transpose([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
        let (low, high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        let (next_low, next_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
        [
            _mm256_unpacklo_epi64(low, next_low),
            _mm256_unpackhi_epi64(low, next_low),
            _mm256_unpacklo_epi64(high, next_high),
            _mm256_unpackhi_epi64(high, next_high),
        ]
    }

    /// # Safety
    /// Four words at each address may be read, the rows may be written, and the CPU has AVX2.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub unsafe fn quads(addresses: &[u64; 32], rows: [*mut [u32; 32]; 4]) {
        for group in (0..32).step_by(8) {
            // SAFETY: promised by the caller.
            let at = |k: usize| unsafe { _mm_loadu_si128(addresses[group + k] as *const __m128i) };
            let pair = |k: usize| _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(at(k)), at(k + 4));
            let eights = transpose([pair(0), pair(1), pair(2), pair(3)]);
            for (row, eight) in rows.into_iter().zip(eights) {
                // SAFETY: eight lanes from `group` are inside of the row.
                unsafe { _mm256_storeu_si256(row.cast::<u32>().add(group).cast(), eight) };
            }
        }
    }

    /// # Safety
    /// Four words at each address may be written, and the CPU has AVX2.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub unsafe fn store_quads(addresses: &[u64; 32], rows: [&[u32; 32]; 4]) {
        for group in (0..32).step_by(8) {
            // SAFETY: eight lanes from `group` are inside of the row.
            let eights = rows.map(|row| unsafe { _mm256_loadu_si256(row[group..].as_ptr().cast()) });
            let pairs = transpose(eights);
            // In the order of lanes: the highest wins where addresses meet.
            for (k, pair) in pairs.into_iter().enumerate() {
                let to = addresses[group + k] as *mut __m128i;
                // SAFETY: promised by the caller.
                unsafe { _mm_storeu_si128(to, _mm256_castsi256_si128(pair)) };
            }
            for (k, pair) in pairs.into_iter().enumerate() {
                let to = addresses[group + k + 4] as *mut __m128i;
                // SAFETY: promised by the caller.
                unsafe { _mm_storeu_si128(to, _mm256_extracti128_si256::<1>(pair)) };
            }
        }
    }
}
