//! Numbers for tests, and what they may deviate by.

use tessera::device::cuda::launch::Precision;

pub const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::Tf32, Precision::Bf16];

/// A small generator of numbers; not good, but the same everywhere.
pub struct Draw(pub u64);

impl Draw {
    pub fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    /// Whole numbers from −4 to 4: every precision holds them, their products and sums exactly.
    pub fn whole(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| (self.next() % 9) as f32 - 4.0).collect()
    }

    /// Uniform in −1 … 1.
    pub fn real(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next() as f32 / (1_u32 << 30) as f32 - 1.0).collect()
    }

    pub fn positions(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.next() % 4) as u8).collect()
    }
}

/// What a sum of products may be off, as a share of the sum of the products' magnitudes. Rounding both
/// operands to m bits of mantissa costs a product twice half of 2⁻ᵐ; summing in single precision is well
/// below 2⁻¹⁸ for the sizes of these tests.
pub fn tolerance(precision: Precision) -> f64 {
    let rounding = match precision {
        Precision::F32 => 0.0,
        Precision::Tf32 => 2_f64.powi(-11),
        Precision::Bf16 => 2_f64.powi(-8),
    };
    2.0 * rounding * (1.0 + rounding) + 2_f64.powi(-18)
}
