//! Convolutions (plain loops).

use rayon::prelude::*;

use crate::ops::convolution::Geometry;
use crate::tape::plan::ConvolutionCall;
use crate::tensor::Real;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Algorithm {
    #[default]
    Direct,
    Winograd,
}

#[derive(Clone, Copy)]
pub enum Upstream<'a, T> {
    Dense(&'a [T]),
    Unpool { pooled: &'a [T], argmax: &'a [u8] },
}

pub enum Pool<'a> {
    None,
    Max { argmax: &'a mut [u8] },
    Gather { argmax: &'a [u8] },
}

#[derive(Clone, Copy)]
pub enum Activation<'a, T> {
    Identity,
    Relu,
    LeakyRelu(T),
    Mask { by: &'a [T], slope: T },
}

pub struct Epilogue<'a, T> {
    pub pool: Pool<'a>,
    pub bias: Option<&'a [T]>,
    pub activation: Activation<'a, T>,
}

pub fn workspace<T: Real>(_call: &ConvolutionCall, _algorithm: Algorithm) -> usize {
    0
}

fn act<T: Real>(a: Activation<'_, T>, v: T, i: usize) -> T {
    match a {
        Activation::Identity => v,
        Activation::Relu => {
            if v > T::ZERO {
                v
            } else {
                T::ZERO
            }
        }
        Activation::LeakyRelu(s) => {
            if v > T::ZERO {
                v
            } else {
                v * s
            }
        }
        Activation::Mask { by, slope } => {
            if by[i] > T::ZERO {
                v
            } else {
                v * slope
            }
        }
    }
}

fn dy_at<T: Real>(g: &Geometry, u: &Upstream<'_, T>, n: usize, i: usize, j: usize, k: usize) -> T {
    match u {
        Upstream::Dense(d) => d[((n * g.ho + i) * g.wo + j) * g.k + k],
        Upstream::Unpool { pooled, argmax } => {
            let (hp, wp) = (g.ho / 2, g.wo / 2);
            if i / 2 >= hp || j / 2 >= wp {
                return T::ZERO;
            }
            let at = ((n * hp + i / 2) * wp + j / 2) * g.k + k;
            if argmax[at] as usize == i % 2 * 2 + j % 2 { pooled[at] } else { T::ZERO }
        }
    }
}

fn one<T: Real>(g: &Geometry, sources: &[(&[T], &[T])], n: usize, i: usize, j: usize, k: usize) -> T {
    let mut sum = T::ZERO;
    for (x, w) in sources {
        for r in 0..g.r {
            for s in 0..g.s {
                let (h, c) = ((i * g.stride + r).wrapping_sub(g.pad), (j * g.stride + s).wrapping_sub(g.pad));
                if h >= g.h || c >= g.w {
                    continue;
                }
                for ch in 0..g.c {
                    sum += x[((n * g.h + h) * g.w + c) * g.c + ch] * w[((k * g.r + r) * g.s + s) * g.c + ch];
                }
            }
        }
    }
    sum
}

pub fn forward<T: Real>(
    g: &Geometry,
    sources: &[(&[T], &[T])],
    e: Epilogue<'_, T>,
    y: &mut [T],
    _ws: &mut [T],
    _a: Algorithm,
) {
    let Epilogue { pool, bias, activation } = e;
    let b = |k: usize| bias.map_or(T::ZERO, |b| b[k]);
    let (hp, wp) = (g.ho / 2, g.wo / 2);
    match pool {
        Pool::None => y.par_iter_mut().enumerate().for_each(|(at, out)| {
            let (k, p) = (at % g.k, at / g.k);
            *out = act(activation, one(g, sources, p / g.wo / g.ho, p / g.wo % g.ho, p % g.wo, k) + b(k), at);
        }),
        Pool::Gather { argmax } => y.par_iter_mut().enumerate().for_each(|(at, out)| {
            let (k, p) = (at % g.k, at / g.k);
            let q = argmax[at] as usize;
            *out = act(
                activation,
                one(g, sources, p / wp / hp, p / wp % hp * 2 + q / 2, p % wp * 2 + q % 2, k) + b(k),
                at,
            );
        }),
        Pool::Max { argmax } => {
            y.par_iter_mut().zip(argmax.par_iter_mut()).enumerate().for_each(|(at, (out, pos))| {
                let (k, p) = (at % g.k, at / g.k);
                let v =
                    |q: usize| one(g, sources, p / wp / hp, p / wp % hp * 2 + q / 2, p % wp * 2 + q % 2, k);
                let mut best = v(0);
                *pos = 0;
                for q in 1..4 {
                    let c = v(q);
                    if c > best {
                        best = c;
                        *pos = q as u8;
                    }
                }
                *out = act(activation, best + b(k), at);
            })
        }
    }
}

pub fn input_grad<T: Real>(
    g: &Geometry,
    sources: &[(Upstream<'_, T>, &[T])],
    a: Activation<'_, T>,
    dx: &mut [T],
    _ws: &mut [T],
    _al: Algorithm,
) {
    dx.par_chunks_mut(g.h * g.w * g.c).enumerate().for_each(|(n, dx)| {
        dx.fill(T::ZERO);
        for (dy, w) in sources {
            for i in 0..g.ho {
                for j in 0..g.wo {
                    for k in 0..g.k {
                        let d = dy_at(g, dy, n, i, j, k);
                        for r in 0..g.r {
                            for s in 0..g.s {
                                let (h, c) = (
                                    (i * g.stride + r).wrapping_sub(g.pad),
                                    (j * g.stride + s).wrapping_sub(g.pad),
                                );
                                if h >= g.h || c >= g.w {
                                    continue;
                                }
                                for ch in 0..g.c {
                                    dx[(h * g.w + c) * g.c + ch] +=
                                        d * w[((k * g.r + r) * g.s + s) * g.c + ch];
                                }
                            }
                        }
                    }
                }
            }
        }
        let base = n * g.h * g.w * g.c;
        for (i, v) in dx.iter_mut().enumerate() {
            *v = act(a, *v, base + i);
        }
    });
}

pub fn weight_grad<T: Real>(
    g: &Geometry,
    sources: &[(&[T], Upstream<'_, T>)],
    dw: &mut [T],
    _ws: &mut [T],
    _al: Algorithm,
) {
    dw.par_chunks_mut(g.r * g.s * g.c).enumerate().for_each(|(k, dw)| {
        dw.fill(T::ZERO);
        for (x, dy) in sources {
            for n in 0..g.n {
                for i in 0..g.ho {
                    for j in 0..g.wo {
                        let d = dy_at(g, dy, n, i, j, k);
                        for r in 0..g.r {
                            for s in 0..g.s {
                                let (h, c) = (
                                    (i * g.stride + r).wrapping_sub(g.pad),
                                    (j * g.stride + s).wrapping_sub(g.pad),
                                );
                                if h >= g.h || c >= g.w {
                                    continue;
                                }
                                for ch in 0..g.c {
                                    dw[(r * g.s + s) * g.c + ch] +=
                                        d * x[((n * g.h + h) * g.w + c) * g.c + ch];
                                }
                            }
                        }
                    }
                }
            }
        }
    });
}
