//! The short floating formats: f16, bf16, tf32. Conversions to them round once, from f64 or f32, to nearest even.

/// Rounds to a format of `exponent` and `mantissa` bits, to nearest even; overflow gives infinity.
#[inline(always)]
fn narrow(value: f64, exponent: i32, mantissa: i32) -> u32 {
    let bits = value.to_bits();
    let sign = ((bits >> 63) as u32) << (exponent + mantissa);
    let infinity = ((1u32 << exponent) - 1) << mantissa;
    if value.is_nan() {
        return sign | infinity | 1 << (mantissa - 1);
    }
    if value.is_infinite() {
        return sign | infinity;
    }
    let bias = (1 << (exponent - 1)) - 1;
    let power = ((bits >> 52) & 0x7ff) as i32 - 1023;
    if power < -bias - mantissa - 1 {
        return sign;
    }
    // The significand with its leading one, and how many of its 53 bits the target cannot keep.
    let significand = (bits & ((1 << 52) - 1)) | 1 << 52;
    let denormal = (1 - bias - power).max(0);
    let dropped = 52 - mantissa + denormal;
    let kept = significand >> dropped;
    let rest = significand & ((1u64 << dropped) - 1);
    let middle = 1u64 << (dropped - 1);
    let up = rest > middle || (rest == middle && kept & 1 == 1);
    // A carry out of the significand runs into the exponent, which is what rounding up to the next power means.
    let base = if denormal > 0 { 0 } else { ((power + bias - 1) as u64) << mantissa };
    let result = (base + kept + up as u64) as u32;
    sign | result.min(infinity)
}

#[inline(always)]
pub fn f16_from_f64(value: f64) -> u32 {
    narrow(value, 5, 10)
}

#[inline(always)]
pub fn bf16_from_f64(value: f64) -> u32 {
    narrow(value, 8, 7)
}

#[inline(always)]
pub fn f16_from_f32(value: f32) -> u32 {
    narrow(value as f64, 5, 10)
}

/// The usual rounding trick on the bits; a NaN keeps its sign and becomes quiet.
#[inline(always)]
pub fn bf16_from_f32(value: f32) -> u32 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if value.is_nan() { bits >> 16 | 0x40 } else { rounded }
}

#[inline(always)]
pub fn f16_to_f32(bits: u32) -> f32 {
    let sign = (bits & 0x8000) << 16;
    let magnitude = bits & 0x7fff;
    // Multiplying by 2^112 moves the exponent's bias and normalises subnormal numbers.
    let finite = f32::from_bits(magnitude << 13) * f32::from_bits(0x7780_0000);
    let special = 0x7f80_0000 | (magnitude & 0x3ff) << 13;
    f32::from_bits(sign | if magnitude >= 0x7c00 { special } else { finite.to_bits() })
}

#[inline(always)]
pub fn bf16_to_f32(bits: u32) -> f32 {
    f32::from_bits(bits << 16)
}

/// Rounds f32 bits to tf32, ties away from zero (`cvt.rna`).
#[inline(always)]
pub fn tf32_nearest_away(bits: u32) -> u32 {
    if bits & 0x7f80_0000 == 0x7f80_0000 { bits } else { bits.wrapping_add(0x1000) & !0x1fff }
}

/// Rounds f32 bits to tf32, ties to even (`cvt.rn`).
#[inline(always)]
pub fn tf32_nearest_even(bits: u32) -> u32 {
    if bits & 0x7f80_0000 == 0x7f80_0000 {
        bits
    } else {
        bits.wrapping_add(0xfff + (bits >> 13 & 1)) & !0x1fff
    }
}
