//! The fast ways against the definition, over sizes that do and do not fill tiles, panels and registers,
//! with every stage that can be fused.

use super::*;
use crate::random::{Purpose, Stream};

struct Case {
    g: Geometry,
    sources: usize,
    unpool: bool,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (h, w, c, k, r, stride, pad) in [
        (8, 8, 16, 16, 3, 1, 1),
        (7, 9, 17, 33, 3, 1, 1),
        (6, 5, 40, 70, 3, 1, 0),
        (10, 6, 16, 130, 3, 1, 2),
        (9, 9, 3, 20, 3, 1, 1),
        (8, 8, 20, 18, 1, 1, 0),
        (9, 7, 5, 6, 3, 2, 1),
        (11, 11, 2, 3, 5, 3, 2),
        (4, 4, 1, 1, 1, 1, 1),
    ] {
        let input = crate::tensor::Shape::new(&[3, h, w, c]);
        let g = Geometry::new(input, crate::tensor::Shape::new(&[k, r, r, c]), stride, pad).unwrap();
        for (sources, unpool) in [(1, false), (2, false), (1, true), (2, true)] {
            cases.push(Case { g, sources, unpool });
        }
    }
    cases
}

struct Data<T> {
    x: [Vec<T>; 2],
    w: [Vec<T>; 2],
    dy: [Vec<T>; 2],
    pooled: [Vec<T>; 2],
    argmax: Vec<u8>,
    bias: Vec<T>,
    by: Vec<T>,
}

impl<T: Real> Data<T> {
    fn new(g: &Geometry) -> Self {
        let mut draw = Stream::new(7, Purpose::Split, g.flops());
        let mut real = |n: usize| (0..n).map(|_| T::from_f64(draw.normal())).collect::<Vec<T>>();
        let mut two = |n: usize| [real(n), real(n)];
        let pooled = g.n * (g.ho / 2) * (g.wo / 2) * g.k;
        let (x, w, dy, pooled_values) =
            (two(g.input().len()), two(g.filter().len()), two(g.output().len()), two(pooled));
        let [bias, by] = [two(g.k)[0].clone(), two(g.output().len().max(g.input().len()))[0].clone()];
        let argmax = (0..pooled).map(|i| (i * 7 % 5 % 4) as u8).collect();
        Data { x, w, dy, pooled: pooled_values, argmax, bias, by }
    }

    fn upstream(&self, i: usize, unpool: bool) -> Upstream<'_, T> {
        if unpool {
            Upstream::Unpool { pooled: &self.pooled[i], argmax: &self.argmax }
        } else {
            Upstream::Dense(&self.dy[i])
        }
    }
}

/// Element of `dy`, by the definition of un-pooling.
fn dy_at<T: Real>(g: &Geometry, dy: Upstream<'_, T>, [n, i, j, k]: [usize; 4]) -> f64 {
    match dy {
        Upstream::Dense(dy) => dy[((n * g.ho + i) * g.wo + j) * g.k + k].to_f64(),
        Upstream::Unpool { pooled, argmax } => {
            let (hp, wp) = (g.ho / 2, g.wo / 2);
            let at = ((n * hp + i / 2) * wp + j / 2) * g.k + k;
            let here = i / 2 < hp && j / 2 < wp && usize::from(argmax[at]) == i % 2 * 2 + j % 2;
            if here { pooled[at].to_f64() } else { 0.0 }
        }
    }
}

/// Calls `each(x index, w index, output position)` for every product of a convolution.
fn products(g: &Geometry, mut each: impl FnMut(usize, usize, [usize; 4])) {
    for n in 0..g.n {
        for (i, j) in (0..g.ho).flat_map(|i| (0..g.wo).map(move |j| (i, j))) {
            for (r, s) in (0..g.r).flat_map(|r| (0..g.s).map(move |s| (r, s))) {
                let (row, column) =
                    ((i * g.stride + r).wrapping_sub(g.pad), (j * g.stride + s).wrapping_sub(g.pad));
                if row >= g.h || column >= g.w {
                    continue;
                }
                for (k, c) in (0..g.k).flat_map(|k| (0..g.c).map(move |c| (k, c))) {
                    let x = ((n * g.h + row) * g.w + column) * g.c + c;
                    each(x, ((k * g.r + r) * g.s + s) * g.c + c, [n, i, j, k]);
                }
            }
        }
    }
}

fn close<T: Real>(found: &[T], expected: &[f64], tolerance: f64, what: &str) {
    let scale = expected.iter().fold(1.0f64, |m, e| m.max(e.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f.to_f64() - e).abs() < tolerance * scale, "{what} at {i}: {f} is not {e}");
    }
}

/// Workspace filled with what must not matter.
fn scratch<T: Real>(elements: usize) -> Vec<T> {
    vec![T::from_f64(f64::NAN); elements]
}

fn convolved<T: Real>(case: &Case, data: &Data<T>) -> Vec<f64> {
    let g = &case.g;
    let mut y = vec![0.0; g.output().len()];
    for i in 0..case.sources {
        products(g, |x, w, [n, a, b, k]| {
            y[((n * g.ho + a) * g.wo + b) * g.k + k] += data.x[i][x].to_f64() * data.w[i][w].to_f64();
        });
    }
    y
}

fn forward_agrees<T: Real>(winograd: bool, tolerance: f64) {
    for case in cases().iter().filter(|c| !c.unpool && (!winograd || eligible(&c.g))) {
        let g = &case.g;
        let data = Data::<T>::new(g);
        let sums = convolved(case, &data);
        let sliding = Sliding::forward(g);
        let source = |i: usize| (Upstream::Dense(&data.x[i][..]), Filters::new(g, &data.w[i], false));
        let run = |epilogue: Epilogue<'_, T>, y: &mut [T]| {
            let pooled = !matches!(epilogue.pool, Pool::None);
            let size = if winograd { winograd::workspace::<T> } else { direct::workspace::<T> };
            let mut workspace = scratch(size(&sliding, case.sources, pooled));
            let finish = finish::Finish::new(epilogue, [g.ho, g.wo, g.k], y);
            slide(&sliding, source, case.sources, &finish, &mut workspace, winograd);
        };
        let mut y = vec![T::ZERO; g.output().len()];
        let slope = T::from_f64(0.25);
        let activation = Activation::Mask { by: &data.by, slope };
        run(Epilogue { pool: Pool::None, bias: Some(&data.bias), activation }, &mut y);
        let expected = sums.iter().enumerate().map(|(i, s)| {
            let v = s + data.bias[i % g.k].to_f64();
            if data.by[i] > T::ZERO { v } else { v * 0.25 }
        });
        let expected = expected.collect::<Vec<_>>();
        close(&y, &expected, tolerance, "forward");
        let (hp, wp) = (g.ho / 2, g.wo / 2);
        if hp * wp == 0 {
            continue;
        }
        let window = |at: usize, p: usize| {
            let (k, j, i, n) = (at % g.k, at / g.k % wp, at / g.k / wp % hp, at / g.k / wp / hp);
            sums[((n * g.ho + 2 * i + p / 2) * g.wo + 2 * j + p % 2) * g.k + k]
        };
        let mut pooled = vec![T::ZERO; g.n * hp * wp * g.k];
        let mut argmax = vec![9; pooled.len()];
        run(
            Epilogue { pool: Pool::Max { argmax: &mut argmax }, bias: None, activation: Activation::Relu },
            &mut pooled,
        );
        let greatest = |at: usize| (0..4).fold(f64::MIN, |m, p| m.max(window(at, p)));
        let expected: Vec<f64> = (0..pooled.len()).map(|at| greatest(at).max(0.0)).collect();
        close(&pooled, &expected, tolerance, "max-pooled");
        let at_positions: Vec<f64> = argmax.iter().enumerate().map(|(at, &p)| window(at, p.into())).collect();
        let greatest: Vec<T> = (0..pooled.len()).map(|at| T::from_f64(greatest(at))).collect();
        close(&greatest, &at_positions, tolerance, "positions");
        let leaky = Activation::LeakyRelu(slope);
        run(
            Epilogue { pool: Pool::Gather { argmax: &data.argmax }, bias: None, activation: leaky },
            &mut pooled,
        );
        let picked = |at: usize| window(at, data.argmax[at].into());
        let expected: Vec<f64> = (0..pooled.len())
            .map(|at| if picked(at) > 0.0 { picked(at) } else { 0.25 * picked(at) })
            .collect();
        close(&pooled, &expected, tolerance, "gathered");
    }
}

fn gradients_agree<T: Real>(winograd: bool, tolerance: f64) {
    for case in cases().iter().filter(|c| !winograd || eligible(&c.g)) {
        let g = &case.g;
        let data = Data::<T>::new(g);
        let (mut dx, mut dw) = (vec![0.0; g.input().len()], vec![0.0; g.filter().len()]);
        for i in 0..case.sources {
            let dy = data.upstream(i, case.unpool);
            products(g, |x, w, at| {
                let d = dy_at(g, dy, at);
                dx[x] += d * data.w[i][w].to_f64();
                dw[w] += d * data.x[i][x].to_f64();
            });
        }
        let sliding = Sliding::input_grad(g);
        let mut found = vec![T::ZERO; dx.len()];
        let activation = Activation::Identity;
        let finish = finish::Finish::new(
            Epilogue { pool: Pool::None, bias: None, activation },
            [g.h, g.w, g.c],
            &mut found,
        );
        let size = if winograd { winograd::workspace::<T> } else { direct::workspace::<T> };
        let mut workspace = scratch(size(&sliding, case.sources, false));
        let source = |i: usize| (data.upstream(i, case.unpool), Filters::new(g, &data.w[i], true));
        slide(&sliding, source, case.sources, &finish, &mut workspace, winograd);
        close(&found, &dx, tolerance, "input gradient");

        let mut found = vec![T::ZERO; dw.len()];
        let sources = [0, 1].map(|i| (&data.x[i][..], data.upstream(i, case.unpool)));
        let size = if winograd { winograd_weights::workspace::<T> } else { weights::workspace::<T> };
        let mut workspace = scratch(size(g));
        let run = if winograd { winograd_weights::run::<T> } else { weights::run::<T> };
        run(g, &sources[..case.sources], &mut found, &mut workspace);
        close(&found, &dw, tolerance, "weight gradient");
    }
}

fn eligible(g: &Geometry) -> bool {
    Algorithm::Winograd.is_winograd::<f32>(g)
}

#[test]
fn direct_agrees_with_the_definition() {
    forward_agrees::<f64>(false, 1e-13);
    forward_agrees::<f32>(false, 3e-6);
    gradients_agree::<f64>(false, 1e-13);
    gradients_agree::<f32>(false, 3e-6);
}

#[test]
fn winograd_agrees_with_the_definition() {
    assert!(cases().iter().filter(|c| eligible(&c.g)).count() >= 16);
    forward_agrees::<f64>(true, 1e-13);
    forward_agrees::<f32>(true, 1e-5);
    gradients_agree::<f64>(true, 1e-13);
    gradients_agree::<f32>(true, 1e-5);
}
