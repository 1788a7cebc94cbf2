//! Matrix products against a sum in double precision.

use tessera::device::cuda::gemm;
use tessera::device::cuda::launch::Precision;

use crate::gpu::{Gpu, Values, gpu};
use crate::values::{Draw, PRECISIONS, tolerance};

type Size = (usize, usize, usize, bool, bool);

fn product(a: &[f64], b: &[f64], (m, n, k, ta, tb): Size) -> Vec<f64> {
    let at = |i, p| if ta { a[p * m + i] } else { a[i * k + p] };
    let bt = |p, j| if tb { b[j * k + p] } else { b[p * n + j] };
    (0..m * n).map(|x| (0..k).map(|p| at(x / n, p) * bt(p, x % n)).sum()).collect()
}

fn on_gpu(gpu: &mut Gpu, (m, n, k, ta, tb): Size, precision: Precision, a: &[f32], b: &[f32]) -> Vec<f32> {
    let launches = gemm::launches(m, n, k, ta, tb, precision);
    let workspace = gemm::workspace(m, n, k, ta, tb, precision);
    let reads = [Values::Real(a.to_vec()), Values::Real(b.to_vec())];
    gpu.run(&launches, &reads, &[Values::Real(vec![0.0; m * n])], workspace)[0].real().to_vec()
}

/// Sizes with tails on all sides, with one element, and whole multiples of everything.
const SIZES: [(usize, usize, usize); 9] = [
    (1, 1, 1),
    (3, 5, 7),
    (100, 10, 512),
    (10, 130, 100),
    (65, 66, 67),
    (128, 128, 64),
    (36, 64, 300),
    (200, 132, 40),
    (17, 33, 1030),
];

fn sizes() -> impl Iterator<Item = Size> {
    SIZES.iter().flat_map(|&(m, n, k)| (0..4).map(move |t| (m, n, k, t & 1 != 0, t & 2 != 0)))
}

#[test]
fn whole_numbers_multiply_exactly_in_every_precision() {
    let Some(mut gpu) = gpu() else { return };
    let mut draw = Draw(1);
    for size in sizes() {
        let (m, n, k, _, _) = size;
        let (a, b) = (draw.whole(m * k), draw.whole(k * n));
        let wide = |v: &[f32]| v.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let want = product(&wide(&a), &wide(&b), size);
        for precision in PRECISIONS {
            let got = on_gpu(&mut gpu, size, precision, &a, &b);
            assert!(wide(&got) == want, "{size:?} {precision:?}");
        }
    }
}

#[test]
fn real_numbers_deviate_by_the_rounding_of_the_operands() {
    let Some(mut gpu) = gpu() else { return };
    let mut draw = Draw(2);
    for size in sizes().filter(|s| s.2 > 32) {
        let (m, n, k, _, _) = size;
        let (a, b) = (draw.real(m * k), draw.real(k * n));
        let wide = |v: &[f32]| v.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let size_of = |v: &[f32]| v.iter().map(|&x| f64::from(x.abs())).collect::<Vec<_>>();
        let (want, bound) = (product(&wide(&a), &wide(&b), size), product(&size_of(&a), &size_of(&b), size));
        for precision in PRECISIONS {
            let got = on_gpu(&mut gpu, size, precision, &a, &b);
            for ((&got, want), bound) in got.iter().zip(&want).zip(&bound) {
                let error = (f64::from(got) - want).abs();
                assert!(error <= tolerance(precision) * bound, "{size:?} {precision:?}: {got} for {want}");
            }
            assert_eq!(got, on_gpu(&mut gpu, size, precision, &a, &b), "the same bits again");
        }
    }
}
