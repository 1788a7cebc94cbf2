//! The short floating formats.

use cuda::half::*;

#[test]
fn every_f16_comes_back() {
    for bits in 0..0x1_0000u32 {
        let value = f16_to_f32(bits);
        if value.is_nan() {
            assert!(bits & 0x7c00 == 0x7c00 && bits & 0x3ff != 0);
            continue;
        }
        assert_eq!(f16_from_f32(value), bits, "{bits:#x}");
        assert_eq!(bf16_from_f64(bf16_to_f32(bits) as f64) & 0x7fff > 0x7f80, bf16_to_f32(bits).is_nan());
    }
}

#[test]
fn ties_go_to_even_and_overflow_to_infinity() {
    assert_eq!(f16_from_f32(1.0 + 1.0 / 2048.0), 0x3c00);
    assert_eq!(f16_from_f32(1.0 + 3.0 / 2048.0), 0x3c02);
    assert_eq!(f16_from_f32(65520.0), 0x7c00);
    assert_eq!(f16_from_f32(65519.0), 0x7bff);
    assert_eq!(f16_from_f32(2f32.powi(-25)), 0);
    assert_eq!(f16_from_f32(2f32.powi(-25) * 1.01), 1);
    for bits in (0..u32::MAX - 70_000).step_by(65_537) {
        let value = f32::from_bits(bits);
        if !value.is_nan() {
            assert_eq!(bf16_from_f32(value), bf16_from_f64(value as f64), "{bits:#x}");
        }
    }
}
