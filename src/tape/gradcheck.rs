//! Checks of derivatives: adjoints against central differences, tangents against adjoints, second
//! derivatives three ways. Used by the conformance tests of every operation, and open to users for
//! functions of their own.
//!
//! A [`Function`] is code that records a program on some operands. Each check returns the largest
//! deviation, relative to the size of what is compared, so that the caller states the tolerance.

use super::{Kind, Tape, Var};
use crate::device::{Buffer, Device, HostSlice, HostSliceMut};
use crate::error::Result;
use crate::ops::example::{Draw, Example, HostTensor, Operand};
use crate::random::uniform_at;

/// Records a value computed from operands.
pub type Function<'a> = &'a dyn Fn(&mut Tape, &[Var]) -> Var;

/// Operands of a function, with their values.
#[derive(Clone, Debug)]
pub struct Point {
    pub kinds: Vec<Kind>,
    pub values: Vec<HostTensor>,
}

impl Point {
    /// Draws values for the operands of an example; the same seed gives the same values.
    pub fn draw(operands: &[Operand], seed: u32) -> Self {
        let values = operands.iter().enumerate().map(|(i, operand)| {
            let len = operand.shape.len();
            let unit = |at: usize| uniform_at([seed, i as u32, 0, 0], 0, at as u64);
            let values = match operand.draw {
                Draw::Uniform(low, high) => (0..len)
                    .map(|at| {
                        let value = low + (high - low) * unit(at);
                        if value.abs() < 0.05 { value.signum() * 0.05 + value } else { value }
                    })
                    .collect(),
                Draw::Distinct => {
                    let mut order: Vec<usize> = (0..len).collect();
                    order.sort_by(|&a, &b| unit(a).total_cmp(&unit(b)));
                    let mut values = vec![0.0; len];
                    for (rank, at) in order.into_iter().enumerate() {
                        values[at] = 0.01 * (rank as f64 - len as f64 / 2.0) + 0.005;
                    }
                    values
                }
                Draw::Below(bound) => (0..len).map(|at| (unit(at) * f64::from(bound)).floor()).collect(),
            };
            HostTensor { shape: operand.shape, values }
        });
        Point { kinds: operands.iter().map(|o| o.kind).collect(), values: values.collect() }
    }

    /// The numbers of the operands that can be differentiated.
    pub fn reals(&self) -> Vec<usize> {
        (0..self.kinds.len()).filter(|&i| self.kinds[i] == Kind::Real).collect()
    }

    /// The point moved by `step` along a direction in the real operands.
    fn moved(&self, direction: &[HostTensor], step: f64) -> Point {
        let mut point = self.clone();
        for (&i, d) in self.reals().iter().zip(direction) {
            point.values[i].values.iter_mut().zip(&d.values).for_each(|(v, d)| *v += step * d);
        }
        point
    }

    /// A direction with elements uniform in [-1, 1), one tensor for each real operand.
    fn direction(&self, seed: u32) -> Vec<HostTensor> {
        let draw = |(j, i): (usize, &usize)| random_like(&self.values[*i], seed, j as u32);
        self.reals().iter().enumerate().map(draw).collect()
    }
}

fn random_like(tensor: &HostTensor, seed: u32, stream: u32) -> HostTensor {
    let values =
        (0..tensor.len()).map(|at| 2.0 * uniform_at([seed, 99, 0, 0], stream, at as u64) - 1.0).collect();
    HostTensor { shape: tensor.shape, values }
}

/// Records `build` on leaves for the operands and `extra` real constants, runs it, and returns the
/// values that it names as outputs.
pub fn evaluate(
    device: &mut dyn Device,
    point: &Point,
    extra: &[HostTensor],
    build: impl Fn(&mut Tape, &[Var], &[Var]) -> Vec<Var>,
) -> Result<Vec<Vec<f64>>> {
    let mut tape = Tape::new();
    let leaf = |t: &mut Tape, prefix: &str, i: usize, kind: Kind, v: &HostTensor| {
        t.leaf(format!("{prefix}{i}"), kind, v.shape)
    };
    let vars: Vec<Var> = (0..point.values.len())
        .map(|i| leaf(&mut tape, "operand", i, point.kinds[i], &point.values[i]))
        .collect();
    let more: Vec<Var> =
        extra.iter().enumerate().map(|(i, v)| leaf(&mut tape, "extra", i, Kind::Real, v)).collect();
    let outputs = build(&mut tape, &vars, &more);
    for (i, var) in outputs.iter().enumerate() {
        tape.output(format!("output{i}"), *var);
    }
    let program = device.prepare(&tape)?;
    let kinds = point.kinds.iter().copied().chain(extra.iter().map(|_| Kind::Real));
    let mut buffers = Vec::new();
    for (tensor, kind) in point.values.iter().chain(extra).zip(kinds) {
        buffers.push(upload(device, kind, &tensor.values)?);
    }
    device.run(program, &buffers)?;
    let mut results = Vec::new();
    for (i, var) in outputs.iter().enumerate() {
        let node = tape.node(*var);
        results.push(match node.kind {
            Kind::Real => {
                let mut values = vec![0.0; node.shape.len()];
                device.read_output(program, i, HostSliceMut::F64(&mut values))?;
                values
            }
            Kind::U32 => {
                let mut values = vec![0; node.shape.len()];
                device.read_output(program, i, HostSliceMut::U32(&mut values))?;
                values.into_iter().map(f64::from).collect()
            }
            Kind::U8 => {
                let mut values = vec![0; node.shape.len()];
                device.read_output(program, i, HostSliceMut::U8(&mut values))?;
                values.into_iter().map(f64::from).collect()
            }
        });
    }
    buffers.into_iter().for_each(|b| device.release(b));
    Ok(results)
}

fn upload(device: &mut dyn Device, kind: Kind, values: &[f64]) -> Result<Buffer> {
    let buffer = device.allocate(kind, values.len())?;
    match kind {
        Kind::Real => device.write(buffer, HostSlice::F64(values))?,
        Kind::U32 => {
            let values: Vec<u32> = values.iter().map(|&v| v as u32).collect();
            device.write(buffer, HostSlice::U32(&values))?;
        }
        Kind::U8 => {
            let values: Vec<u8> = values.iter().map(|&v| v as u8).collect();
            device.write(buffer, HostSlice::U8(&values))?;
        }
    }
    Ok(buffer)
}

/// The value of an example at a point.
pub fn forward(device: &mut dyn Device, example: &Example, point: &Point) -> Result<Vec<f64>> {
    let mut results = evaluate(device, point, &[], |t, v, _| vec![(example.build)(t, v)])?;
    Ok(results.remove(0))
}

/// Largest difference of `a` and `b`, relative to the largest element of `b` (at least 1e-3).
pub fn deviation(a: &[f64], b: &[f64]) -> f64 {
    let scale = b.iter().fold(1e-3, |m: f64, v| m.max(v.abs()));
    let worst = a
        .iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |m: f64, d| if d > m || d.is_nan() { d } else { m });
    if a.len() == b.len() { worst / scale } else { f64::INFINITY }
}

fn dot(t: &mut Tape, a: Var, b: Var) -> Var {
    let product = t.mul(a, b);
    t.sum(product)
}

/// `Σᵢ ⟨aᵢ, bᵢ⟩` of recorded values.
fn dots(t: &mut Tape, a: &[Var], b: &[Var]) -> Var {
    let zero = t.constant(0.0, []);
    a.iter().zip(b).fold(zero, |sum, (&a, &b)| {
        let part = dot(t, a, b);
        t.add(sum, part)
    })
}

/// A scalar that is curved in every element of `y`, so that even linear operations have second
/// derivatives and a rule that ignores its upstream gradient fails.
fn curved(t: &mut Tape, y: Var, weight: Var) -> Var {
    let half = t.scale(y, 0.5);
    let e = t.exp(half);
    let weighted = t.mul(e, weight);
    t.sum(weighted)
}

/// Adjoint of `⟨u, f⟩` against central differences along a random direction, for each real operand.
pub fn vjp_against_differences(device: &mut dyn Device, f: Function<'_>, point: &Point) -> Result<f64> {
    let reals = point.reals();
    let value = evaluate(device, point, &[], |t, v, _| vec![f(t, v)])?.remove(0);
    let u = random_like(&HostTensor { shape: output_shape(f, point), values: value }, 5, 0);
    let extra = std::slice::from_ref(&u);
    let grads = evaluate(device, point, extra, |t, v, e| {
        let y = f(t, v);
        let wrt: Vec<Var> = reals.iter().map(|&i| v[i]).collect();
        t.reverse(y, Some(e[0]), &wrt)
    })?;
    let mut worst: f64 = 0.0;
    for (which, grad) in grads.iter().enumerate() {
        for trial in 0..3 {
            let mut direction = point.direction(17 + trial);
            for (j, d) in direction.iter_mut().enumerate() {
                if j != which {
                    d.values.fill(0.0);
                }
            }
            let mut at = |step: f64| -> Result<f64> {
                let moved = point.moved(&direction, step);
                let y = evaluate(device, &moved, &[], |t, v, _| vec![f(t, v)])?.remove(0);
                Ok(y.iter().zip(&u.values).map(|(a, b)| a * b).sum())
            };
            let step = 1e-5;
            let difference = (at(step)? - at(-step)?) / (2.0 * step);
            let product: f64 = grad.iter().zip(&direction[which].values).map(|(g, d)| g * d).sum();
            let scale: f64 = grad.iter().zip(&direction[which].values).map(|(g, d)| (g * d).abs()).sum();
            worst = worst.max((difference - product).abs() / scale.max(1e-3));
        }
    }
    Ok(worst)
}

/// `⟨J v, u⟩` against `⟨v, Jᵀ u⟩`.
pub fn transpose(device: &mut dyn Device, f: Function<'_>, point: &Point) -> Result<f64> {
    let reals = point.reals();
    let y = HostTensor { shape: output_shape(f, point), values: vec![0.0; output_shape(f, point).len()] };
    let mut extra = point.direction(23);
    extra.push(random_like(&y, 29, 0));
    let results = evaluate(device, point, &extra, |t, v, e| {
        let y = f(t, v);
        let wrt: Vec<Var> = reals.iter().map(|&i| v[i]).collect();
        let (directions, u) = (&e[..wrt.len()], e[wrt.len()]);
        let seeds: Vec<(Var, Var)> = wrt.iter().copied().zip(directions.iter().copied()).collect();
        let tangent = t.tangent(&seeds, &[y])[0].unwrap_or_else(|| t.constant(0.0, t.shape(y)));
        let forward = dot(t, tangent, u);
        let grads = t.reverse(y, Some(u), &wrt);
        let zero = t.constant(0.0, []);
        let absolute: Vec<Var> = grads
            .iter()
            .map(|&g| {
                let s = t.mul(g, g);
                t.sqrt(s)
            })
            .collect();
        let sizes = absolute.iter().fold(zero, |sum, &a| {
            let part = t.sum(a);
            t.add(sum, part)
        });
        vec![forward, dots(t, &grads, directions), sizes]
    })?;
    Ok((results[0][0] - results[1][0]).abs() / results[2][0].max(1e-3))
}

/// Hessian–vector product of a curved scalar of `f`, three ways: deviations from central differences of
/// the gradient of reverse-over-reverse and of forward-over-reverse, and of the two from each other.
pub fn second_order(device: &mut dyn Device, f: Function<'_>, point: &Point) -> Result<[f64; 3]> {
    let reals = point.reals();
    let y = HostTensor { shape: output_shape(f, point), values: vec![0.0; output_shape(f, point).len()] };
    let weight = random_like(&y, 31, 0);
    let direction = point.direction(37);
    let mut extra = direction.clone();
    extra.push(weight.clone());
    let gradient = |t: &mut Tape, v: &[Var], weight: Var| {
        let y = f(t, v);
        let loss = curved(t, y, weight);
        let wrt: Vec<Var> = reals.iter().map(|&i| v[i]).collect();
        let grads = t.reverse(loss, None, &wrt);
        (wrt, grads)
    };
    let products = evaluate(device, point, &extra, |t, v, e| {
        let (wrt, grads) = gradient(t, v, e[reals.len()]);
        let along = dots(t, &grads, &e[..wrt.len()]);
        let mut outputs = t.reverse(along, None, &wrt);
        let seeds: Vec<(Var, Var)> = wrt.iter().copied().zip(e.iter().copied()).collect();
        for (tangent, &w) in t.tangent(&seeds, &grads).into_iter().zip(&wrt) {
            outputs.push(tangent.unwrap_or_else(|| t.constant(0.0, t.shape(w))));
        }
        outputs
    })?;
    let step = 1e-5;
    let mut gradients_at = |step: f64| {
        let weights = std::slice::from_ref(&weight);
        evaluate(device, &point.moved(&direction, step), weights, |t, v, e| gradient(t, v, e[0]).1)
    };
    let (above, below) = (gradients_at(step)?, gradients_at(-step)?);
    let difference: Vec<f64> =
        above.concat().iter().zip(below.concat()).map(|(a, b)| (a - b) / (2.0 * step)).collect();
    let reverse = products[..reals.len()].concat();
    let forward = products[reals.len()..].concat();
    Ok([deviation(&reverse, &difference), deviation(&forward, &difference), deviation(&reverse, &forward)])
}

fn output_shape(f: Function<'_>, point: &Point) -> crate::tensor::Shape {
    let mut tape = Tape::new();
    let leaves: Vec<Var> = (0..point.values.len())
        .map(|i| tape.leaf(format!("operand{i}"), point.kinds[i], point.values[i].shape))
        .collect();
    let y = f(&mut tape, &leaves);
    tape.shape(y)
}
