//! Sectors and wavefronts of patterns that can be counted by hand.

use cuda::exec::counters::*;

fn lanes(address: impl Fn(u64) -> u64) -> [u64; 32] {
    std::array::from_fn(|k| address(k as u64))
}

#[test]
fn sectors_of_usual_patterns() {
    assert_eq!(sectors(&lanes(|k| 4 * k), 4, !0), (4, 4));
    assert_eq!(sectors(&lanes(|k| 128 * k), 4, !0), (32, 4));
    assert_eq!(sectors(&lanes(|_| 64), 4, !0), (1, 1));
    assert_eq!(sectors(&lanes(|k| 16 * k), 16, !0), (16, 16));
    assert_eq!(sectors(&lanes(|k| 4 * k + 16), 4, !0), (5, 4));
    assert_eq!(sectors(&lanes(|k| 4 * k), 4, 1), (1, 1));
}

#[test]
fn wavefronts_of_usual_patterns() {
    assert_eq!(wavefronts(&lanes(|k| 4 * k), 4, !0), (1, 1));
    assert_eq!(wavefronts(&lanes(|_| 0), 4, !0), (1, 1));
    assert_eq!(wavefronts(&lanes(|k| 128 * k), 4, !0), (32, 1));
    assert_eq!(wavefronts(&lanes(|k| 8 * k), 4, !0), (2, 1));
    assert_eq!(wavefronts(&lanes(|k| 132 * k), 4, !0), (1, 1));
    assert_eq!(wavefronts(&lanes(|k| 16 * k), 16, !0), (4, 4));
    assert_eq!(wavefronts(&lanes(|k| 8 * k), 8, !0), (2, 2));
    assert_eq!(wavefronts(&lanes(|k| 2 * k), 2, !0), (1, 1));
}
