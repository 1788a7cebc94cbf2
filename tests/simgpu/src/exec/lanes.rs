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

/// Both compilations of `fn body(&mut Warp, &Instruction, u32)`, as the `Op` that suits this CPU.
#[macro_export]
macro_rules! compiled {
    ($body:path) => {{
        fn portable(w: &mut $crate::exec::warp::Warp, i: &$crate::exec::instruction::Instruction, m: u32) {
            $body(w, i, m)
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
        fn avx2(w: &mut $crate::exec::warp::Warp, i: &$crate::exec::instruction::Instruction, m: u32) {
            $body(w, i, m)
        }
        #[cfg(not(target_arch = "x86_64"))]
        use portable as avx2;
        $crate::exec::lanes::pick(portable, avx2)
    }};
}

/// `lanes!(f32, f32 => f32, |x, y| x + y)`: reads `a`, `b`, `c` as the types given, writes `dst`.
#[macro_export]
macro_rules! lanes {
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
            let mut bits = 0u32;
            for k in 0..32 {
                let ($a, $b) = (x[k], y[k]);
                bits |= ($value as u32) << k;
            }
            $crate::isa::compare::finish(w, i, m, bits);
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
