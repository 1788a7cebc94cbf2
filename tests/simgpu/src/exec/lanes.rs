//! Lane loops: the macros that turn an expression on one lane into an operation on a warp.
//!
//! A loop over 32 lanes vectorises. It is compiled twice, for the plain instruction set and for AVX2 with FMA, and the
//! better one is picked at run time. Everything that a lane loop calls must be `#[inline(always)]`, else it loses the
//! instruction set of its caller.

use super::instruction::Op;
use std::sync::OnceLock;

/// One 32-bit register of a warp. A 64-bit value fills two that follow each other.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub struct Lanes(pub [u32; 32]);

/// The number types that a register can be read as.
///
/// # Safety
/// Only for types of 4 or 8 bytes for which every bit pattern is a value.
pub unsafe trait Lane: Copy + Default {}
// SAFETY: all are plain numbers of 4 or 8 bytes.
unsafe impl Lane for u32 {}
unsafe impl Lane for i32 {}
unsafe impl Lane for f32 {}
unsafe impl Lane for u64 {}
unsafe impl Lane for i64 {}
unsafe impl Lane for f64 {}

/// The second of the two, if this CPU can execute it.
pub fn pick(portable: Op, avx2: Op) -> Op {
    static HAS_AVX2: OnceLock<bool> = OnceLock::new();
    let has_avx2 = *HAS_AVX2.get_or_init(|| {
        let allowed = std::env::var("SIMGPU_SIMD").map_or(true, |level| level != "portable");
        #[cfg(target_arch = "x86_64")]
        let able = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt");
        #[cfg(not(target_arch = "x86_64"))]
        let able = false;
        allowed && able
    });
    if has_avx2 { avx2 } else { portable }
}

/// All ones where the lane is in the mask, else 0.
#[inline(always)]
pub fn spread(mask: u32) -> [u32; 32] {
    let mut lanes = [0; 32];
    for k in 0..32 {
        lanes[k] = if mask & 1 << k != 0 { !0 } else { 0 };
    }
    lanes
}

/// The lanes whose highest bit is set, as a mask.
#[inline(always)]
pub fn gather_bits(lanes: &[u32; 32]) -> u32 {
    let mut bits = 0;
    #[cfg(target_arch = "x86_64")]
    for group in 0..8 {
        use std::arch::x86_64::{_mm_castsi128_ps, _mm_loadu_si128, _mm_movemask_ps};
        // SAFETY: four lanes from here are inside of the array; every x86-64 has SSE2.
        let four =
            unsafe { _mm_movemask_ps(_mm_castsi128_ps(_mm_loadu_si128(lanes[4 * group..].as_ptr().cast()))) };
        bits |= (four as u32) << (4 * group);
    }
    #[cfg(not(target_arch = "x86_64"))]
    for k in 0..32 {
        bits |= (lanes[k] >> 31) << k;
    }
    bits
}

/// Both compilations of `fn body(&mut Warp, &Instruction, u32)`, as the `Op` that suits this CPU; or of one body for each.
#[macro_export]
macro_rules! compiled {
    ($body:path) => {
        $crate::compiled!($body, $body)
    };
    ($portable:path, $avx2:path) => {{
        fn portable(w: &mut $crate::exec::warp::Warp, i: &$crate::exec::instruction::Instruction, m: u32) {
            $portable(w, i, m)
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
        fn avx2(w: &mut $crate::exec::warp::Warp, i: &$crate::exec::instruction::Instruction, m: u32) {
            $avx2(w, i, m)
        }
        #[cfg(not(target_arch = "x86_64"))]
        use portable as avx2;
        $crate::exec::lanes::pick(portable, avx2)
    }};
}

/// `lanes!(f32, f32 => f32, |x, y| x + y)`: reads `a`, `b`, `c` as the types given, writes `dst`.
///
/// `lanes!(u32, imm => u32, |x, n| x << n)`: the second operand is the constant `imm`.
#[macro_export]
macro_rules! lanes {
    ($A:ty, imm => $O:ty, |$a:ident, $n:ident| $value:expr) => {{
        #[inline(always)]
        fn body(w: &mut $crate::exec::warp::Warp, i: &$crate::exec::instruction::Instruction, m: u32) {
            let (x, $n) = (w.get::<$A>(i.a), i.imm as u32);
            let mut out = [<$O>::default(); 32];
            for k in 0..32 {
                let $a = x[k];
                out[k] = $value;
            }
            w.set::<$O>(i.dst, &out, m);
        }
        $crate::compiled!(body)
    }};
    ($A:ty => $O:ty, |$a:ident| $value:expr) => {{
        #[inline(always)]
        fn body(w: &mut $crate::exec::warp::Warp, i: &$crate::exec::instruction::Instruction, m: u32) {
            let x = w.get::<$A>(i.a);
            let mut out = [<$O>::default(); 32];
            for k in 0..32 {
                let $a = x[k];
                out[k] = $value;
            }
            w.set::<$O>(i.dst, &out, m);
        }
        $crate::compiled!(body)
    }};
    ($A:ty, $B:ty => $O:ty, |$a:ident, $b:ident| $value:expr) => {{
        #[inline(always)]
        fn body(w: &mut $crate::exec::warp::Warp, i: &$crate::exec::instruction::Instruction, m: u32) {
            let (x, y) = (w.get::<$A>(i.a), w.get::<$B>(i.b));
            let mut out = [<$O>::default(); 32];
            for k in 0..32 {
                let ($a, $b) = (x[k], y[k]);
                out[k] = $value;
            }
            w.set::<$O>(i.dst, &out, m);
        }
        $crate::compiled!(body)
    }};
    ($A:ty, $B:ty, $C:ty => $O:ty, |$a:ident, $b:ident, $c:ident| $value:expr) => {{
        #[inline(always)]
        fn body(w: &mut $crate::exec::warp::Warp, i: &$crate::exec::instruction::Instruction, m: u32) {
            let (x, y, z) = (w.get::<$A>(i.a), w.get::<$B>(i.b), w.get::<$C>(i.c));
            let mut out = [<$O>::default(); 32];
            for k in 0..32 {
                let ($a, $b, $c) = (x[k], y[k], z[k]);
                out[k] = $value;
            }
            w.set::<$O>(i.dst, &out, m);
        }
        $crate::compiled!(body)
    }};
}

/// `compare!(i32, |x, y| x < y)`: one bit a lane, handed to `isa::compare::finish`.
#[macro_export]
macro_rules! compare {
    ($A:ty, |$a:ident, $b:ident| $value:expr) => {{
        #[inline(always)]
        fn body(w: &mut $crate::exec::warp::Warp, i: &$crate::exec::instruction::Instruction, m: u32) {
            let (x, y) = (w.get::<$A>(i.a), w.get::<$A>(i.b));
            let mut truths = [0u32; 32];
            for k in 0..32 {
                let ($a, $b) = (x[k], y[k]);
                truths[k] = if $value { !0 } else { 0 };
            }
            $crate::isa::compare::finish(w, i, m, $crate::exec::lanes::gather_bits(&truths));
        }
        $crate::compiled!(body)
    }};
}

/// An operation that is not worth a second compilation.
#[macro_export]
macro_rules! plain {
    ($body:path) => {{
        let op: $crate::exec::instruction::Op = $body;
        op
    }};
}
