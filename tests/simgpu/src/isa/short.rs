//! Loads and stores of 4-byte elements whose checks are done for all lanes at once.
//!
//! The addresses of lanes outside of the mask are replaced by that of a lane inside, so that every lane may load.

use super::memory::{load_any, read, store_any, write};
use crate::exec::access::each_lane;
use crate::exec::instruction::{Instruction, Op};
use crate::exec::warp::Warp;

/// Addresses that passed all checks, as offsets from a base.
pub struct Short {
    pub base: u64,
    pub offsets: [u32; 32],
}

/// The first lane of a mask that is not empty.
#[inline(always)]
fn first_of(mask: u32) -> usize {
    (mask.trailing_zeros() & 31) as usize
}

/// Keeps lanes together in memory. Else the compiler, which sees single addresses used later, takes the vectors apart.
#[inline(always)]
fn settle<T>(lanes: &mut [T; 32]) {
    std::hint::black_box(lanes);
}

/// Gives lanes outside of the mask the address of one inside.
#[inline(always)]
fn fill<T: std::marker::Copy>(addresses: &mut [T; 32], mask: u32) {
    if mask != !0 {
        let inside = addresses[first_of(mask)];
        for k in 0..32 {
            addresses[k] = if mask & 1 << k != 0 { addresses[k] } else { inside };
        }
        settle(addresses);
    }
}

/// Whether all lanes have the same address; whether each has the 4 bytes after those of the lane before.
#[inline(always)]
fn pattern(offsets: &[u32; 32]) -> (bool, bool) {
    let first = offsets[0];
    let (mut differs, mut no_row) = (0, 0);
    for k in 0..32 {
        differs |= offsets[k] ^ first;
        no_row |= offsets[k].wrapping_sub(4 * k as u32) ^ first;
    }
    (differs == 0, no_row == 0)
}

impl Short {
    /// None if an address is not that of `bytes` aligned bytes of shared memory, or if accesses are watched.
    #[inline(always)]
    pub fn shared(w: &mut Warp, i: &Instruction, m: u32, bytes: u32) -> Option<Short> {
        if w.is_watched {
            return None;
        }
        let mut offsets = [0u32; 32];
        if i.wide_address {
            let mut addresses = w.addresses(i);
            settle(&mut addresses);
            fill(&mut addresses, m);
            let mut high = 0;
            for k in 0..32 {
                high |= addresses[k] >> 32;
                offsets[k] = addresses[k] as u32;
            }
            settle(&mut offsets);
            if high != 0 {
                return None;
            }
        } else {
            let base = w.get::<u32>(i.a);
            for k in 0..32 {
                offsets[k] = base[k].wrapping_add(i.imm as u32);
            }
            settle(&mut offsets);
            fill(&mut offsets, m);
        }
        let (mut most, mut bits) = (0, 0);
        for k in 0..32 {
            most = most.max(offsets[k]);
            bits |= offsets[k];
        }
        let shared = &mut w.block().shared;
        if bits & (bytes - 1) != 0 || most as usize + bytes as usize > shared.len() {
            return None;
        }
        Some(Short { base: shared.as_mut_ptr() as u64, offsets })
    }

    /// None if the addresses are not all those of `bytes` aligned bytes of one allocation, or if accesses are watched.
    #[inline(always)]
    pub fn global(w: &mut Warp, mut addresses: [u64; 32], m: u32, bytes: u64) -> Option<Short> {
        if w.is_watched {
            return None;
        }
        settle(&mut addresses);
        fill(&mut addresses, m);
        let (mut least, mut most, mut bits) = (i64::MAX, i64::MIN, 0);
        for k in 0..32 {
            least = least.min(addresses[k] as i64);
            most = most.max(addresses[k] as i64);
            bits |= addresses[k];
        }
        let (start, end) = (least as u64, (most as u64).wrapping_add(bytes));
        // Offsets stay below 2^31 because a gather takes them as signed.
        if least < 0 || bits & (bytes - 1) != 0 || !w.is_mapped(start, end) || end - start > i32::MAX as u64 {
            return None;
        }
        let mut offsets = [0u32; 32];
        for k in 0..32 {
            offsets[k] = addresses[k].wrapping_sub(start) as u32;
        }
        settle(&mut offsets);
        Some(Short { base: start, offsets })
    }
}

// ---- loads ----

/// One word of each lane.
///
/// # Safety
/// The addresses are checked; `AVX2` only where the CPU has it.
#[inline(always)]
unsafe fn words<const AVX2: bool>(at: &Short, index: usize) -> [u32; 32] {
    let base = at.base + 4 * index as u64;
    #[cfg(target_arch = "x86_64")]
    if AVX2 {
        // SAFETY: promised by the caller.
        return unsafe { x86::words(base, &at.offsets) };
    }
    let mut values = [0; 32];
    for k in 0..32 {
        // SAFETY: promised by the caller.
        values[k] = unsafe { read(base + at.offsets[k] as u64) };
    }
    values
}

/// Four words of each lane, all first ones first.
///
/// # Safety
/// As `words`.
#[inline(always)]
unsafe fn quads<const AVX2: bool>(at: &Short) -> [[u32; 32]; 4] {
    #[cfg(target_arch = "x86_64")]
    if AVX2 {
        // SAFETY: promised by the caller.
        return unsafe { x86::quads(at.base, &at.offsets) };
    }
    // SAFETY: promised by the caller.
    [0, 1, 2, 3].map(|index| unsafe { words::<AVX2>(at, index) })
}

#[inline(always)]
fn load<const AVX2: bool>(w: &mut Warp, i: &Instruction, m: u32, at: &Short) {
    let (is_same, is_row) = pattern(&at.offsets);
    // SAFETY: all addresses of the access were checked, and `compiled!` says `AVX2` only in code for it.
    unsafe {
        if is_same {
            for (index, &slot) in i.list.iter().enumerate() {
                let value: u32 = read(at.base + at.offsets[0] as u64 + 4 * index as u64);
                w.set(slot, &[value; 32], m);
            }
            return;
        }
        match i.list[..] {
            [slot] if is_row => {
                let row = (at.base + at.offsets[0] as u64) as *const [u32; 32];
                w.set(slot, &row.read_unaligned(), m);
            }
            [a, b, c, d] => {
                let rows = quads::<AVX2>(at);
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
            [slot] if pattern(&at.offsets).1 => {
                let row = (at.base + at.offsets[0] as u64) as *mut [u32; 32];
                // SAFETY: the lanes' words follow each other from here, and all were checked.
                unsafe { row.write_unaligned(*w.get::<u32>(slot)) };
                return;
            }
            #[cfg(target_arch = "x86_64")]
            [a, b, c, d] if AVX2 => {
                let rows = [a, b, c, d].map(|slot| w.get::<u32>(slot));
                // SAFETY: all addresses of the access were checked, and `AVX2` is said only in code for it.
                unsafe { x86::store_quads(at.base, &at.offsets, rows) };
                return;
            }
            _ => {}
        }
    }
    for (index, &slot) in i.list.iter().enumerate() {
        let values = w.get::<u32>(slot);
        for k in each_lane(m) {
            // SAFETY: all addresses of the access were checked.
            unsafe { write(at.base + at.offsets[k] as u64 + 4 * index as u64, values[k]) };
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

operation!(load_shared, load, load_any, |w, i, m| Short::shared(w, i, m, 4 * i.list.len() as u32));
operation!(store_shared, store, store_any, |w, i, m| Short::shared(w, i, m, 4 * i.list.len() as u32));
operation!(load_global, load, load_any, |w, i, m| Short::global(w, w.addresses(i), m, 4 * i.list.len() as u64));
operation!(store_global, store, store_any, |w, i, m| Short::global(w, w.addresses(i), m, 4 * i.list.len() as u64));

/// Words of lanes to rows of a register and back, eight lanes at a time.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// # Safety
    /// A word at each address may be read, and the CPU has AVX2.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub unsafe fn words(base: u64, offsets: &[u32; 32]) -> [u32; 32] {
        let mut values = [0; 32];
        for group in (0..32).step_by(8) {
            // SAFETY: promised by the caller; offsets are below 2^31.
            unsafe {
                let eight = _mm256_loadu_si256(offsets[group..].as_ptr().cast());
                let eight = _mm256_i32gather_epi32::<1>(base as *const i32, eight);
                _mm256_storeu_si256(values[group..].as_mut_ptr().cast(), eight);
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
    /// Four words at each address may be read, and the CPU has AVX2.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub unsafe fn quads(base: u64, offsets: &[u32; 32]) -> [[u32; 32]; 4] {
        let mut rows = [[0; 32]; 4];
        for group in (0..32).step_by(8) {
            // SAFETY: promised by the caller.
            let at = |k: usize| unsafe { _mm_loadu_si128((base + offsets[group + k] as u64) as *const __m128i) };
            let pair = |k: usize| _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(at(k)), at(k + 4));
            let eights = transpose([pair(0), pair(1), pair(2), pair(3)]);
            for (row, eight) in rows.iter_mut().zip(eights) {
                // SAFETY: eight lanes from `group` are inside of the row.
                unsafe { _mm256_storeu_si256(row[group..].as_mut_ptr().cast(), eight) };
            }
        }
        rows
    }

    /// # Safety
    /// Four words at each address may be written, and the CPU has AVX2.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub unsafe fn store_quads(base: u64, offsets: &[u32; 32], rows: [&[u32; 32]; 4]) {
        for group in (0..32).step_by(8) {
            // SAFETY: eight lanes from `group` are inside of the row.
            let eights = rows.map(|row| unsafe { _mm256_loadu_si256(row[group..].as_ptr().cast()) });
            let pairs = transpose(eights);
            // In the order of lanes: the highest wins where addresses meet.
            for (k, pair) in pairs.into_iter().enumerate() {
                let to = (base + offsets[group + k] as u64) as *mut __m128i;
                // SAFETY: promised by the caller.
                unsafe { _mm_storeu_si128(to, _mm256_castsi256_si128(pair)) };
            }
            for (k, pair) in pairs.into_iter().enumerate() {
                let to = (base + offsets[group + k + 4] as u64) as *mut __m128i;
                // SAFETY: promised by the caller.
                unsafe { _mm_storeu_si128(to, _mm256_extracti128_si256::<1>(pair)) };
            }
        }
    }
}
