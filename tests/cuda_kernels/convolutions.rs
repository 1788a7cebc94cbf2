//! Convolutions against the CPU device in double precision.

use tessera::device::cpu::conv::{self, Activation, Algorithm, Epilogue, Pool, Upstream};
use tessera::device::cuda::conv as cuda;
use tessera::device::cuda::launch::Precision;
use tessera::ops::Attribute;
use tessera::ops::convolution::{Direction, Geometry};
use tessera::tape::plan::{ActivationStage, ConvolutionCall, PoolStage};

use crate::gpu::{Gpu, Values, gpu};
use crate::values::{Draw, PRECISIONS, tolerance};

/// Elements of the result, and of the pooled gradient.
pub fn len(call: &ConvolutionCall) -> usize {
    let g = &call.geometry;
    match (call.direction, call.pool) {
        (Direction::Forward, PoolStage::None) => g.output().len(),
        (Direction::Forward, _) => pooled(g),
        (Direction::InputGrad, _) => g.input().len(),
        (Direction::WeightGrad, _) => g.filter().len(),
    }
}

fn pooled(g: &Geometry) -> usize {
    g.n * (g.ho / 2) * (g.wo / 2) * g.k
}

/// Operands in the order of [`tessera::tape::plan::Kernel::Convolution`].
pub fn operands(
    call: &ConvolutionCall,
    draw: &mut Draw,
    numbers: fn(&mut Draw, usize) -> Vec<f32>,
) -> Vec<Values> {
    let g = &call.geometry;
    let mut reads = Vec::new();
    for &unpool in &call.unpool[..call.sources] {
        let x = |reads: &mut Vec<Values>, draw: &mut Draw| {
            reads.push(Values::Real(numbers(draw, g.input().len())));
        };
        let w = |reads: &mut Vec<Values>, draw: &mut Draw| {
            reads.push(Values::Real(numbers(draw, g.filter().len())));
        };
        let dy = |reads: &mut Vec<Values>, draw: &mut Draw| {
            let count = if unpool { pooled(g) } else { g.output().len() };
            reads.push(Values::Real(numbers(draw, count)));
            if unpool {
                reads.push(Values::Bytes(draw.positions(count)));
            }
        };
        match call.direction {
            Direction::Forward => (x(&mut reads, draw), w(&mut reads, draw)),
            Direction::InputGrad => (dy(&mut reads, draw), w(&mut reads, draw)),
            Direction::WeightGrad => (x(&mut reads, draw), dy(&mut reads, draw)),
        };
    }
    if call.pool == PoolStage::Gather {
        reads.push(Values::Bytes(draw.positions(len(call))));
    }
    if call.bias {
        reads.push(Values::Real(numbers(draw, g.k)));
    }
    if let ActivationStage::Mask(_) = call.activation {
        reads.push(Values::Real(numbers(draw, len(call))));
    }
    reads
}

/// What the CPU device makes of operands, and the positions that it finds.
fn on_cpu(call: &ConvolutionCall, reads: &[Values]) -> (Vec<f64>, Vec<u8>) {
    let wide: Vec<Vec<f64>> = reads
        .iter()
        .map(|r| match r {
            Values::Real(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Values::Bytes(_) => Vec::new(),
        })
        .collect();
    let g = &call.geometry;
    let mut next = 0..;
    let mut take = || next.next().unwrap();
    let (mut result, mut found) = (vec![0.0; len(call)], vec![0; len(call)]);
    let mut workspace = vec![0.0; conv::workspace::<f64>(call, Algorithm::Direct)];
    let upstream = |unpool: bool, take: &mut dyn FnMut() -> usize| {
        let first = take();
        if unpool {
            Upstream::Unpool { pooled: &wide[first], argmax: reads[take()].bytes() }
        } else {
            Upstream::Dense(&wide[first][..])
        }
    };
    let activation = |take: &mut dyn FnMut() -> usize| match call.activation {
        ActivationStage::Identity => Activation::Identity,
        ActivationStage::Relu => Activation::Relu,
        ActivationStage::LeakyRelu(slope) => Activation::LeakyRelu(slope.0),
        ActivationStage::Mask(slope) => Activation::Mask { by: &wide[take()], slope: slope.0 },
    };
    let unpool = &call.unpool[..call.sources];
    match call.direction {
        Direction::Forward => {
            let sources: Vec<_> = unpool.iter().map(|_| (&wide[take()][..], &wide[take()][..])).collect();
            let pool = match call.pool {
                PoolStage::None => Pool::None,
                PoolStage::Max => Pool::Max { argmax: &mut found },
                PoolStage::Gather => Pool::Gather { argmax: reads[take()].bytes() },
            };
            let bias = call.bias.then(|| &wide[take()][..]);
            let epilogue = Epilogue { pool, bias, activation: activation(&mut take) };
            conv::forward(g, &sources, epilogue, &mut result, &mut workspace, Algorithm::Direct);
        }
        Direction::InputGrad => {
            let sources: Vec<_> =
                unpool.iter().map(|&u| (upstream(u, &mut take), &wide[take()][..])).collect();
            let stage = activation(&mut take);
            conv::input_grad(g, &sources, stage, &mut result, &mut workspace, Algorithm::Direct);
        }
        Direction::WeightGrad => {
            let sources: Vec<_> =
                unpool.iter().map(|&u| (&wide[take()][..], upstream(u, &mut take))).collect();
            conv::weight_grad(g, &sources, &mut result, &mut workspace, Algorithm::Direct);
        }
    }
    (result, found)
}

pub fn on_gpu(gpu: &mut Gpu, call: &ConvolutionCall, precision: Precision, reads: &[Values]) -> Vec<Values> {
    let mut writes = vec![Values::Real(vec![0.0; len(call)])];
    if call.pool == PoolStage::Max {
        writes.push(Values::Bytes(vec![0; len(call)]));
    }
    gpu.run(&cuda::launches(call, precision), reads, &writes, cuda::workspace(call, precision))
}

pub fn plain(direction: Direction, geometry: Geometry) -> ConvolutionCall {
    ConvolutionCall {
        direction,
        geometry,
        sources: 1,
        unpool: [false; 2],
        pool: PoolStage::None,
        bias: false,
        activation: ActivationStage::Identity,
    }
}

/// `[N, H, W, C]`, `[K, R, S]`, stride, padding: tails in channels and pixels, widths of one and of four, one
/// image, strides, paddings from none to more than the filter needs, 1×1, 5×3 and 5×5 filters, odd sizes
/// before pooling, sums long enough to be cut into parts.
const SIZES: [([usize; 4], [usize; 3], usize, usize); 12] = [
    ([2, 5, 6, 3], [4, 3, 3], 1, 1),
    ([1, 4, 4, 16], [17, 3, 3], 1, 1),
    ([3, 7, 5, 2], [5, 1, 1], 1, 0),
    ([2, 9, 8, 4], [3, 3, 3], 2, 1),
    ([1, 6, 7, 1], [2, 5, 3], 1, 2),
    ([2, 8, 8, 5], [16, 2, 2], 2, 0),
    ([1, 3, 3, 2], [3, 3, 3], 1, 0),
    ([2, 9, 9, 4], [8, 5, 5], 1, 2),
    ([1, 8, 8, 32], [64, 3, 3], 1, 1),
    ([4, 8, 8, 8], [12, 3, 3], 1, 1),
    ([1, 5, 5, 4], [4, 3, 3], 3, 3),
    ([3, 10, 6, 53], [53, 3, 3], 1, 1),
];

fn geometries() -> Vec<Geometry> {
    let of = |&([n, h, w, c], [k, r, s], stride, pad): &([usize; 4], [usize; 3], usize, usize)| {
        Geometry::new([n, h, w, c].into(), [k, r, s, c].into(), stride, pad).unwrap()
    };
    SIZES.iter().map(of).collect()
}

/// Every stage that can be fused, not in every combination.
fn calls(g: Geometry) -> Vec<ConvolutionCall> {
    let quarter = Attribute(0.25);
    let forward = plain(Direction::Forward, g);
    let mut all = vec![forward];
    all.push(ConvolutionCall { sources: 2, bias: true, activation: ActivationStage::Relu, ..forward });
    all.push(ConvolutionCall { bias: true, activation: ActivationStage::LeakyRelu(quarter), ..forward });
    all.push(ConvolutionCall { activation: ActivationStage::Mask(quarter), ..forward });
    if g.ho > 1 && g.wo > 1 {
        let pool = ConvolutionCall { pool: PoolStage::Max, ..forward };
        all.push(pool);
        all.push(ConvolutionCall { bias: true, activation: ActivationStage::Relu, ..pool });
        let gather = ConvolutionCall { pool: PoolStage::Gather, sources: 2, ..forward };
        all.push(gather);
        all.push(ConvolutionCall { bias: true, activation: ActivationStage::Mask(Attribute(0.0)), ..gather });
    }
    for direction in [Direction::InputGrad, Direction::WeightGrad] {
        let call = plain(direction, g);
        for (sources, unpool) in
            [(1, [false; 2]), (2, [false; 2]), (1, [true, false]), (2, [true; 2]), (2, [false, true])]
        {
            if unpool != [false; 2] && (g.ho < 2 || g.wo < 2) {
                continue;
            }
            all.push(ConvolutionCall { sources, unpool, ..call });
        }
    }
    let masked = ActivationStage::Mask(Attribute(0.0));
    all.push(ConvolutionCall { activation: masked, ..plain(Direction::InputGrad, g) });
    all
}

#[test]
fn whole_numbers_are_exact_in_every_precision() {
    let Some(mut gpu) = gpu() else { return };
    let mut draw = Draw(3);
    for call in geometries().into_iter().flat_map(calls) {
        let reads = operands(&call, &mut draw, Draw::whole);
        let (want, found) = on_cpu(&call, &reads);
        for precision in PRECISIONS {
            let got = on_gpu(&mut gpu, &call, precision, &reads);
            let wrong = got[0].real().iter().zip(&want).position(|(&g, &w)| f64::from(g) != w);
            if let Some(i) = wrong {
                panic!("{call:?} {precision:?}: {} for {} at {i}", got[0].real()[i], want[i]);
            }
            if call.pool == PoolStage::Max {
                assert!(got[1].bytes() == found, "{call:?} {precision:?}: positions");
            }
        }
    }
}

#[test]
fn real_numbers_deviate_by_the_rounding_of_the_operands() {
    let Some(mut gpu) = gpu() else { return };
    let mut draw = Draw(4);
    // Steps of the activation are where a small deviation may be a large one.
    let smooth = |c: &ConvolutionCall| {
        c.activation == ActivationStage::Identity && !c.bias && c.pool != PoolStage::Max
    };
    for call in geometries().into_iter().flat_map(calls).filter(smooth) {
        let reads = operands(&call, &mut draw, Draw::real);
        let magnitudes: Vec<Values> = reads
            .iter()
            .map(|r| match r {
                Values::Real(v) => Values::Real(v.iter().map(|x| x.abs()).collect()),
                Values::Bytes(_) => r.clone(),
            })
            .collect();
        let ((want, _), (bound, _)) = (on_cpu(&call, &reads), on_cpu(&call, &magnitudes));
        for precision in PRECISIONS {
            let got = on_gpu(&mut gpu, &call, precision, &reads);
            for ((&got, want), bound) in got[0].real().iter().zip(&want).zip(&bound) {
                let error = (f64::from(got) - want).abs();
                assert!(error <= tolerance(precision) * bound, "{call:?} {precision:?}: {got} for {want}");
            }
            assert_eq!(got, on_gpu(&mut gpu, &call, precision, &reads), "the same bits again");
        }
    }
}

#[test]
fn not_a_number_wins_the_pooling() {
    let Some(mut gpu) = gpu() else { return };
    let g = Geometry::new([1, 4, 4, 4].into(), [4, 1, 1, 4].into(), 1, 0).unwrap();
    let call = ConvolutionCall { pool: PoolStage::Max, ..plain(Direction::Forward, g) };
    let mut reads = operands(&call, &mut Draw(5), Draw::whole);
    if let Values::Real(x) = &mut reads[0] {
        // The second pixel of the first row.
        x[4] = f32::NAN;
    }
    for precision in PRECISIONS {
        let got = on_gpu(&mut gpu, &call, precision, &reads);
        assert!(got[0].real()[..4].iter().all(|v| v.is_nan()), "{precision:?}");
        assert_eq!(got[1].bytes()[..4], [1; 4], "{precision:?}");
        assert!(got[0].real()[4..].iter().all(|v| !v.is_nan()), "{precision:?}");
    }
}
