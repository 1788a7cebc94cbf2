//! What GPUs are rated for, and the least time that a cost takes on them: a bound from data sheets, which no
//! kernel reaches, never a prediction.

use super::cost::Cost;
use super::launch::Precision;

/// What does the arithmetic.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Unit {
    /// Multiply-adds of single precision outside of tensor cores.
    Fma,
    /// Tensor cores, TF32, no sparsity.
    Tf32,
    /// Tensor cores, BF16, no sparsity.
    Bf16,
}

impl From<Precision> for Unit {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Unit::Fma,
            Precision::Tf32 => Unit::Tf32,
            Precision::Bf16 => Unit::Bf16,
        }
    }
}

/// Rated peaks of a GPU.
#[derive(Clone, Copy, Debug)]
pub struct Gpu {
    pub name: &'static str,
    /// FLOP a second, a multiply-add counting as two.
    fma: f64,
    tf32: f64,
    bf16: f64,
    /// Bytes of device memory a second.
    pub bandwidth: f64,
    pub source: &'static str,
}

/// Tensor-core rates of the Hopper data sheets hold with sparsity; half of them is dense.
pub const GPUS: [Gpu; 3] = [
    Gpu {
        name: "A100",
        fma: 19.5e12,
        tf32: 156e12,
        bf16: 312e12,
        bandwidth: 2.039e12,
        source: "NVIDIA A100 Tensor Core GPU Datasheet, A100 80GB SXM",
    },
    Gpu {
        name: "H100",
        fma: 67e12,
        tf32: 989e12 / 2.0,
        bf16: 1979e12 / 2.0,
        bandwidth: 3.35e12,
        source: "NVIDIA H100 Tensor Core GPU Datasheet, H100 SXM",
    },
    Gpu {
        name: "H200",
        fma: 67e12,
        tf32: 989e12 / 2.0,
        bf16: 1979e12 / 2.0,
        bandwidth: 4.8e12,
        source: "NVIDIA H200 Tensor Core GPU Datasheet, H200 SXM",
    },
];

/// The least time, and what needs it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bound {
    pub seconds: f64,
    pub by: Limit,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    Arithmetic,
    Bandwidth,
}

impl Gpu {
    /// FLOP a second of a unit.
    pub fn arithmetic(&self, unit: Unit) -> f64 {
        match unit {
            Unit::Fma => self.fma,
            Unit::Tf32 => self.tf32,
            Unit::Bf16 => self.bf16,
        }
    }

    /// FLOP for each byte of memory at which both take as long.
    pub fn ridge(&self, unit: Unit) -> f64 {
        self.arithmetic(unit) / self.bandwidth
    }

    /// The roofline (Williams, Waterman, Patterson 2009).
    pub fn bound(&self, cost: &Cost) -> Bound {
        let arithmetic = cost.flops as f64 / self.arithmetic(cost.unit);
        let memory = cost.bytes() as f64 / self.bandwidth;
        if arithmetic > memory {
            Bound { seconds: arithmetic, by: Limit::Arithmetic }
        } else {
            Bound { seconds: memory, by: Limit::Bandwidth }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Multiprocessors, multiply-adds of each in a clock (single precision, TF32), and clocks in GHz, of
    /// NVIDIA's A100 and H100 architecture whitepapers. BF16 does twice as much as TF32.
    const BUILT: [(&str, f64, [f64; 2], [f64; 2]); 3] = [
        ("A100", 108.0, [64.0, 512.0], [1.41, 1.41]),
        ("H100", 132.0, [128.0, 1024.0], [1.98, 1.83]),
        ("H200", 132.0, [128.0, 1024.0], [1.98, 1.83]),
    ];

    #[test]
    fn rates_are_what_the_units_do_in_a_second() {
        for (gpu, (name, multiprocessors, [fma, tf32], [clock, tensor_clock])) in GPUS.iter().zip(BUILT) {
            assert_eq!(gpu.name, name);
            let near = |rated: f64, built: f64| {
                assert!((rated / built - 1.0).abs() < 0.005, "{name}: {rated:e} instead of {built:e}");
            };
            near(gpu.fma, 2e9 * multiprocessors * fma * clock);
            near(gpu.tf32, 2e9 * multiprocessors * tf32 * tensor_clock);
            near(gpu.bf16, 4e9 * multiprocessors * tf32 * tensor_clock);
        }
    }

    #[test]
    fn the_slower_of_both_bounds() {
        let cost = |flops, read| Cost { flops, unit: Unit::Fma, read, written: 0 };
        let gpu = &GPUS[0];
        let bound = gpu.bound(&cost(19_500_000, 2039));
        assert_eq!(bound.by, Limit::Arithmetic);
        assert!((bound.seconds - 1e-6).abs() < 1e-12);
        let bound = gpu.bound(&cost(19_500, 2_039_000));
        assert_eq!(bound.by, Limit::Bandwidth);
        assert!((bound.seconds - 1e-6).abs() < 1e-12);
        assert!((gpu.ridge(Unit::Bf16) - 153.0).abs() < 0.1);
    }
}
