//! Instruction sets: found once at run time, and used by kernels that are written once over
//! [`Vector`] and compiled for each set.

use std::fmt;
use std::marker::PhantomData;
use std::sync::OnceLock;

use crate::tensor::{DType, Real};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    Avx512,
    Avx2,
    Portable,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Avx512 => "AVX-512",
            Level::Avx2 => "AVX2+FMA",
            Level::Portable => "portable",
        })
    }
}

/// The best set of this processor, or a lower one named by `TESSERA_SIMD` (`avx2`, `portable`), for
/// comparisons.
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let wanted = std::env::var("TESSERA_SIMD").unwrap_or_default();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
            if avx2 && avx512 && wanted != "avx2" && wanted != "portable" {
                return Level::Avx512;
            }
            if avx2 && wanted != "portable" {
                return Level::Avx2;
            }
        }
        let _ = wanted;
        Level::Portable
    })
}

/// A register of numbers.
///
/// # Safety
/// Every method may be called only where the instruction set is there; pointers must be valid for
/// `LANES` elements (or the number that is named), without any alignment beyond the element's.
#[allow(clippy::missing_safety_doc)] // said once, for all methods, above
pub unsafe trait Vector: Copy {
    type Element: Real;
    const LANES: usize;
    /// Registers side by side in one panel of packed columns.
    const COLUMNS: usize;
    const PANEL: usize = Self::LANES * Self::COLUMNS;

    unsafe fn splat(value: Self::Element) -> Self;
    unsafe fn load(from: *const Self::Element) -> Self;
    unsafe fn store(self, to: *mut Self::Element);
    /// Stores the first `count` (at most `LANES`) elements.
    unsafe fn store_first(self, to: *mut Self::Element, count: usize);
    unsafe fn load_first(from: *const Self::Element, count: usize) -> Self;
    /// `self · a + b`.
    unsafe fn mul_add(self, a: Self, b: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn min(self, other: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    /// Lanes of `then` where `self > other`, of `otherwise` elsewhere.
    unsafe fn where_greater(self, other: Self, then: Self, otherwise: Self) -> Self;

    /// Asks for a cache line early; any address will do.
    #[inline(always)]
    unsafe fn prefetch(_from: *const Self::Element) {}

    /// `to[j·step + i] = from[i][j]` for `i, j < 8`: eight elements are read from each pointer.
    #[inline(always)]
    unsafe fn transpose8(from: [*const Self::Element; 8], to: *mut Self::Element, step: usize) {
        for (i, from) in from.into_iter().enumerate() {
            for j in 0..8 {
                // SAFETY: the caller's.
                unsafe { *to.add(j * step + i) = *from.add(j) }
            }
        }
    }
}

/// Work that is compiled for every instruction set. `run` must be `#[inline(always)]`, down to the
/// last function that touches a [`Vector`], or the registers go through memory.
pub trait Job<T: Real> {
    type Output;

    /// # Safety
    /// The instruction set of `V` must be there.
    unsafe fn run<V: Vector<Element = T>>(self) -> Self::Output;
}

/// Runs a job with the best instruction set for `T`.
pub fn dispatch<T: Real, J: Job<T>>(job: J) -> J::Output {
    match (T::DTYPE, level()) {
        // SAFETY: `level` found the instruction set.
        #[cfg(target_arch = "x86_64")]
        (DType::F32, Level::Avx512) => unsafe { x86::with_avx512(job) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        (DType::F32, Level::Avx2) => unsafe { x86::with_avx2(job) },
        // SAFETY: the portable vectors need nothing.
        _ => unsafe { job.run::<Portable<T>>() },
    }
}

/// Columns of one panel at the level that [`dispatch`] picks for `T`.
pub fn panel<T: Real>() -> usize {
    struct Panel;
    impl<T: Real> Job<T> for Panel {
        type Output = usize;
        #[inline(always)]
        unsafe fn run<V: Vector<Element = T>>(self) -> usize {
            V::PANEL
        }
    }
    dispatch::<T, _>(Panel)
}

/// Four elements in whatever registers the compiler finds.
#[derive(Clone, Copy)]
pub struct Portable<T>([T; 4]);

// SAFETY: plain memory accesses of exactly the elements that the trait names.
unsafe impl<T: Real> Vector for Portable<T> {
    type Element = T;
    const LANES: usize = 4;
    const COLUMNS: usize = 2;

    #[inline(always)]
    unsafe fn splat(value: T) -> Self {
        Portable([value; 4])
    }
    #[inline(always)]
    unsafe fn load(from: *const T) -> Self {
        // SAFETY: the caller's.
        Portable(unsafe { from.cast::<[T; 4]>().read() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut T) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[T; 4]>().write(self.0) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut T, count: usize) {
        for (i, value) in self.0.into_iter().enumerate().take(count) {
            // SAFETY: the caller's.
            unsafe { to.add(i).write(value) }
        }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const T, count: usize) -> Self {
        // SAFETY: the caller's.
        Portable(std::array::from_fn(|i| if i < count { unsafe { *from.add(i) } } else { T::ZERO }))
    }
    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        // Two roundings: a fused multiply-add without the instruction is a library call.
        Portable(std::array::from_fn(|i| self.0[i] * a.0[i] + b.0[i]))
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Portable(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Portable(std::array::from_fn(|i| self.0[i] - other.0[i]))
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Portable(std::array::from_fn(|i| if self.0[i] < other.0[i] { self.0[i] } else { other.0[i] }))
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Portable(std::array::from_fn(|i| if self.0[i] > other.0[i] { self.0[i] } else { other.0[i] }))
    }
    #[inline(always)]
    unsafe fn where_greater(self, other: Self, then: Self, otherwise: Self) -> Self {
        let lane = |i: usize| if self.0[i] > other.0[i] { then.0[i] } else { otherwise.0[i] };
        Portable(std::array::from_fn(lane))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f,avx512bw,avx2,fma")]
    pub unsafe fn with_avx512<T: Real, J: Job<T>>(job: J) -> J::Output {
        // SAFETY: this function's features are those of the vector.
        unsafe { job.run::<Avx512<T>>() }
    }

    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn with_avx2<T: Real, J: Job<T>>(job: J) -> J::Output {
        // SAFETY: this function's features are those of the vector.
        unsafe { job.run::<Avx2<T>>() }
    }

    /// Single precision only; `T` is `f32` wherever these are used (see [`dispatch`]).
    #[derive(Clone, Copy)]
    pub struct Avx512<T>(__m512, PhantomData<T>);
    #[derive(Clone, Copy)]
    pub struct Avx2<T>(__m256, PhantomData<T>);

    // SAFETY: the accesses are of exactly the elements that the trait names.
    unsafe impl<T: Real> Vector for Avx512<T> {
        type Element = T;
        const LANES: usize = 16;
        const COLUMNS: usize = 4;

        #[inline(always)]
        unsafe fn splat(value: T) -> Self {
            // SAFETY: the caller's, here and below.
            Avx512(unsafe { _mm512_set1_ps(value.to_f64() as f32) }, PhantomData)
        }
        #[inline(always)]
        unsafe fn load(from: *const T) -> Self {
            Avx512(unsafe { _mm512_loadu_ps(from.cast()) }, PhantomData)
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut T) {
            unsafe { _mm512_storeu_ps(to.cast(), self.0) }
        }
        #[inline(always)]
        unsafe fn store_first(self, to: *mut T, count: usize) {
            let mask = ((1u32 << count.min(16)) - 1) as __mmask16;
            unsafe { _mm512_mask_storeu_ps(to.cast(), mask, self.0) }
        }
        #[inline(always)]
        unsafe fn load_first(from: *const T, count: usize) -> Self {
            let mask = ((1u32 << count.min(16)) - 1) as __mmask16;
            Avx512(unsafe { _mm512_maskz_loadu_ps(mask, from.cast()) }, PhantomData)
        }
        #[inline(always)]
        unsafe fn mul_add(self, a: Self, b: Self) -> Self {
            Avx512(unsafe { _mm512_fmadd_ps(self.0, a.0, b.0) }, PhantomData)
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            Avx512(unsafe { _mm512_add_ps(self.0, other.0) }, PhantomData)
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            Avx512(unsafe { _mm512_sub_ps(self.0, other.0) }, PhantomData)
        }
        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            Avx512(unsafe { _mm512_min_ps(self.0, other.0) }, PhantomData)
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            Avx512(unsafe { _mm512_max_ps(self.0, other.0) }, PhantomData)
        }
        #[inline(always)]
        unsafe fn where_greater(self, other: Self, then: Self, otherwise: Self) -> Self {
            unsafe {
                Avx512(
                    _mm512_mask_blend_ps(
                        _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, other.0),
                        otherwise.0,
                        then.0,
                    ),
                    PhantomData,
                )
            }
        }
        #[inline(always)]
        unsafe fn prefetch(from: *const T) {
            unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
        }
        #[inline(always)]
        unsafe fn transpose8(from: [*const T; 8], to: *mut T, step: usize) {
            unsafe { transpose8(from.map(|p| p.cast()), to.cast(), step) }
        }
    }

    // SAFETY: the accesses are of exactly the elements that the trait names.
    unsafe impl<T: Real> Vector for Avx2<T> {
        type Element = T;
        const LANES: usize = 8;
        const COLUMNS: usize = 2;

        #[inline(always)]
        unsafe fn splat(value: T) -> Self {
            // SAFETY: the caller's, here and below.
            Avx2(unsafe { _mm256_set1_ps(value.to_f64() as f32) }, PhantomData)
        }
        #[inline(always)]
        unsafe fn load(from: *const T) -> Self {
            Avx2(unsafe { _mm256_loadu_ps(from.cast()) }, PhantomData)
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut T) {
            unsafe { _mm256_storeu_ps(to.cast(), self.0) }
        }
        #[inline(always)]
        unsafe fn store_first(self, to: *mut T, count: usize) {
            unsafe { _mm256_maskstore_ps(to.cast(), first(count), self.0) }
        }
        #[inline(always)]
        unsafe fn load_first(from: *const T, count: usize) -> Self {
            Avx2(unsafe { _mm256_maskload_ps(from.cast(), first(count)) }, PhantomData)
        }
        #[inline(always)]
        unsafe fn mul_add(self, a: Self, b: Self) -> Self {
            Avx2(unsafe { _mm256_fmadd_ps(self.0, a.0, b.0) }, PhantomData)
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            Avx2(unsafe { _mm256_add_ps(self.0, other.0) }, PhantomData)
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            Avx2(unsafe { _mm256_sub_ps(self.0, other.0) }, PhantomData)
        }
        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            Avx2(unsafe { _mm256_min_ps(self.0, other.0) }, PhantomData)
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            Avx2(unsafe { _mm256_max_ps(self.0, other.0) }, PhantomData)
        }
        #[inline(always)]
        unsafe fn where_greater(self, other: Self, then: Self, otherwise: Self) -> Self {
            unsafe {
                Avx2(
                    _mm256_blendv_ps(otherwise.0, then.0, _mm256_cmp_ps::<_CMP_GT_OQ>(self.0, other.0)),
                    PhantomData,
                )
            }
        }
        #[inline(always)]
        unsafe fn prefetch(from: *const T) {
            unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
        }
        #[inline(always)]
        unsafe fn transpose8(from: [*const T; 8], to: *mut T, step: usize) {
            unsafe { transpose8(from.map(|p| p.cast()), to.cast(), step) }
        }
    }

    #[inline(always)]
    unsafe fn transpose8(from: [*const f32; 8], to: *mut f32, step: usize) {
        // SAFETY: the caller's.
        unsafe {
            let rows = from.map(|p| _mm256_loadu_ps(p));
            let mut pairs = rows;
            for i in [0, 2, 4, 6] {
                pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
                pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
            }
            let mut fours = pairs;
            for i in [0, 4] {
                for half in 0..2 {
                    let (low, high) = (pairs[i + half], pairs[i + half + 2]);
                    fours[i + 2 * half] = _mm256_shuffle_ps::<0x44>(low, high);
                    fours[i + 2 * half + 1] = _mm256_shuffle_ps::<0xEE>(low, high);
                }
            }
            for j in 0..4 {
                let (upper, lower) = (fours[j], fours[j + 4]);
                _mm256_storeu_ps(to.add(j * step), _mm256_permute2f128_ps::<0x20>(upper, lower));
                _mm256_storeu_ps(to.add((j + 4) * step), _mm256_permute2f128_ps::<0x31>(upper, lower));
            }
        }
    }

    /// Mask of the first `count` of eight lanes.
    #[inline(always)]
    unsafe fn first(count: usize) -> __m256i {
        // SAFETY: the caller's.
        unsafe {
            let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            _mm256_cmpgt_epi32(_mm256_set1_epi32(count.min(8) as i32), lanes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Lanes;

    impl Job<f32> for Lanes {
        type Output = ();

        #[inline(always)]
        unsafe fn run<V: Vector<Element = f32>>(self) {
            let (a, b): (Vec<f32>, Vec<f32>) =
                (0..V::LANES).map(|i| ((i * 5 % 7) as f32, (i * 3 % 7) as f32)).unzip();
            let mut found = [vec![0.0; V::LANES], vec![0.0; V::LANES], vec![0.0; V::LANES]];
            let square: Vec<f32> = (0..80).map(|i| i as f32).collect();
            let mut turned = vec![-1.0; 8 * 9];
            // SAFETY: `dispatch` found the instructions, and every slice is as long as it has to be.
            unsafe {
                let (x, y) = (V::load(a.as_ptr()), V::load(b.as_ptr()));
                x.min(y).store(found[0].as_mut_ptr());
                x.max(y).store(found[1].as_mut_ptr());
                x.where_greater(y, V::splat(1.0), V::splat(2.0)).store(found[2].as_mut_ptr());
                let rows = std::array::from_fn(|i| square[i * 10..].as_ptr());
                V::transpose8(rows, turned.as_mut_ptr(), 9);
            }
            for i in 0..V::LANES {
                assert_eq!(found[0][i], a[i].min(b[i]));
                assert_eq!(found[1][i], a[i].max(b[i]));
                assert_eq!(found[2][i], if a[i] > b[i] { 1.0 } else { 2.0 });
            }
            for i in 0..8 {
                for j in 0..8 {
                    assert_eq!(turned[j * 9 + i], (i * 10 + j) as f32);
                }
            }
            assert!((0..8).all(|j| turned[j * 9 + 8] == -1.0));
        }
    }

    #[test]
    fn lanes_compare_and_transpose() {
        dispatch(Lanes);
        // SAFETY: the portable vectors need nothing.
        unsafe { Lanes.run::<Portable<f32>>() };
    }
}
