//! Elementwise operations. Each value depends on the elements at the same position only, so one rule
//! (the local derivative times a factor) serves as adjoint and as tangent.

use super::example::{Example, real, real_in};
use super::{Attribute, Op, Rules, sum_present};
use crate::tape::{Kind, Node, Tape, Var};
use crate::tensor::Shape;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Pointwise {
    Add,
    Sub,
    Mul,
    Div,
    /// `(a, x) ↦ a · (x > 0 ? 1 : slope)`: linear in `a`, piecewise constant in `x`. The derivative of
    /// relu (slope 0) and leaky relu.
    MulStep {
        slope: Attribute,
    },
    /// `x > 0 ? 1 : 0`, piecewise constant.
    Step,
    Neg,
    Exp,
    Log,
    Sqrt,
    Tanh,
    /// `1 / (1 + e⁻ˣ)`.
    Sigmoid,
    /// `log(1 + eˣ)`, without overflow.
    Softplus,
    /// `max(x, 0)`; its derivative at 0 is 0.
    Relu,
    /// `x > 0 ? x : slope · x`, `slope > 0`; its derivative at 0 is `slope`.
    LeakyRelu {
        slope: Attribute,
    },
    /// Product with a constant.
    Scale(Attribute),
    /// Sum with a constant.
    Offset(Attribute),
}

impl Pointwise {
    /// The local derivative with respect to `input`, times `factor`.
    fn local(&self, t: &mut Tape, node: &Node, out: Var, factor: Var, input: usize) -> Option<Var> {
        let a = node.inputs[0];
        Some(match self {
            Pointwise::Add => factor,
            Pointwise::Sub if input == 0 => factor,
            Pointwise::Sub => t.neg(factor),
            Pointwise::Mul => t.mul(factor, node.inputs[1 - input]),
            Pointwise::Div if input == 0 => t.div(factor, node.inputs[1]),
            Pointwise::Div => {
                let slope = t.div(out, node.inputs[1]);
                let product = t.mul(factor, slope);
                t.neg(product)
            }
            Pointwise::MulStep { slope } if input == 0 => t.mul_step(factor, node.inputs[1], slope.0),
            Pointwise::MulStep { .. } | Pointwise::Step => return None,
            Pointwise::Neg => t.neg(factor),
            Pointwise::Exp => t.mul(factor, out),
            Pointwise::Log => t.div(factor, a),
            Pointwise::Sqrt => {
                let half = t.scale(factor, 0.5);
                t.div(half, out)
            }
            Pointwise::Tanh => {
                let square = t.mul(out, out);
                let part = t.mul(factor, square);
                t.sub(factor, part)
            }
            Pointwise::Sigmoid => {
                let part = t.mul(factor, out);
                let rest = t.mul(part, out);
                t.sub(part, rest)
            }
            Pointwise::Softplus => {
                let slope = t.sigmoid(a);
                t.mul(factor, slope)
            }
            // The output has the sign of the input, and is kept for the next layer anyway.
            Pointwise::Relu => t.mul_step(factor, out, 0.0),
            Pointwise::LeakyRelu { slope } => t.mul_step(factor, out, slope.0),
            Pointwise::Scale(c) => t.scale(factor, c.0),
            Pointwise::Offset(_) => factor,
        })
    }
}

impl Rules for Pointwise {
    fn name(&self) -> &'static str {
        match self {
            Pointwise::Add => "add",
            Pointwise::Sub => "sub",
            Pointwise::Mul => "mul",
            Pointwise::Div => "div",
            Pointwise::MulStep { .. } => "mul_step",
            Pointwise::Step => "step",
            Pointwise::Neg => "neg",
            Pointwise::Exp => "exp",
            Pointwise::Log => "log",
            Pointwise::Sqrt => "sqrt",
            Pointwise::Tanh => "tanh",
            Pointwise::Sigmoid => "sigmoid",
            Pointwise::Softplus => "softplus",
            Pointwise::Relu => "relu",
            Pointwise::LeakyRelu { .. } => "leaky_relu",
            Pointwise::Scale(_) => "scale",
            Pointwise::Offset(_) => "offset",
        }
    }

    fn vjp(&self, t: &mut Tape, node: &Node, out: Var, grad: Var, input: usize) -> Option<Var> {
        self.local(t, node, out, grad, input)
    }

    fn jvp(&self, t: &mut Tape, node: &Node, out: Var, tangents: &[Option<Var>]) -> Option<Var> {
        let mut parts = [None, None];
        for (input, tangent) in tangents.iter().enumerate() {
            parts[input] = tangent.and_then(|v| self.local(t, node, out, v, input));
        }
        sum_present(t, parts[0], parts[1])
    }

    fn flops(&self, _: &Tape, node: &Node) -> u64 {
        node.shape.len() as u64
    }
}

/// Operand shapes after broadcasting: aligned at the last dimension, 1 stretches to any size.
fn joint_shape(a: Shape, b: Shape) -> Option<Shape> {
    let (long, short) = if a.rank() >= b.rank() { (a, b) } else { (b, a) };
    let mut dims = long.dims().to_vec();
    for (d, s) in dims.iter_mut().rev().zip(short.iter().rev()) {
        match (*d, *s) {
            (x, y) if x == y => {}
            (1, y) => *d = y,
            (_, 1) => {}
            _ => return None,
        }
    }
    Some(Shape::new(&dims))
}

impl Tape {
    fn unary(&mut self, op: Pointwise, a: Var) -> Var {
        let node = self.node(a);
        let real =
            self.require(op.name(), node.kind == Kind::Real, || format!("{:?} is not real", node.kind));
        if !real {
            return a;
        }
        self.push(Op::Pointwise(op), &[a], node.shape, Kind::Real)
    }

    fn binary(&mut self, op: Pointwise, a: Var, b: Var) -> Var {
        let (na, nb) = (self.node(a), self.node(b));
        let real = na.kind == Kind::Real && nb.kind == Kind::Real;
        match joint_shape(na.shape, nb.shape) {
            Some(shape) if real => {
                let (a, b) = (self.broadcast_to(a, shape), self.broadcast_to(b, shape));
                self.push(Op::Pointwise(op), &[a, b], shape, Kind::Real)
            }
            _ => self.mistake(op.name(), || {
                format!("operands {:?} {} and {:?} {} do not fit", na.kind, na.shape, nb.kind, nb.shape)
            }),
        }
    }

    /// `a + b`. Operands of this and the other two-operand functions are broadcast: shapes are aligned
    /// at the last dimension and 1 stretches to any size.
    pub fn add(&mut self, a: Var, b: Var) -> Var {
        match (self.constant_value(a), self.constant_value(b)) {
            (Some(0.0), _) if joint_shape(self.shape(a), self.shape(b)) == Some(self.shape(b)) => b,
            (_, Some(0.0)) if joint_shape(self.shape(a), self.shape(b)) == Some(self.shape(a)) => a,
            _ => self.binary(Pointwise::Add, a, b),
        }
    }

    /// `a − b`.
    pub fn sub(&mut self, a: Var, b: Var) -> Var {
        self.binary(Pointwise::Sub, a, b)
    }

    /// `a · b`, element by element.
    pub fn mul(&mut self, a: Var, b: Var) -> Var {
        match (self.constant_value(a), self.constant_value(b)) {
            (Some(c), _) if joint_shape(self.shape(a), self.shape(b)) == Some(self.shape(b)) => {
                self.scale(b, c)
            }
            (_, Some(c)) if joint_shape(self.shape(a), self.shape(b)) == Some(self.shape(a)) => {
                self.scale(a, c)
            }
            _ => self.binary(Pointwise::Mul, a, b),
        }
    }

    /// `a / b`, element by element.
    pub fn div(&mut self, a: Var, b: Var) -> Var {
        self.binary(Pointwise::Div, a, b)
    }

    /// `a · (x > 0 ? 1 : slope)`.
    pub fn mul_step(&mut self, a: Var, x: Var, slope: f64) -> Var {
        self.binary(Pointwise::MulStep { slope: Attribute(slope) }, a, x)
    }

    /// `x > 0 ? 1 : 0`; its derivative is zero everywhere.
    pub fn step(&mut self, x: Var) -> Var {
        self.unary(Pointwise::Step, x)
    }

    pub fn neg(&mut self, a: Var) -> Var {
        self.unary(Pointwise::Neg, a)
    }

    pub fn exp(&mut self, a: Var) -> Var {
        self.unary(Pointwise::Exp, a)
    }

    /// Natural logarithm.
    pub fn log(&mut self, a: Var) -> Var {
        self.unary(Pointwise::Log, a)
    }

    pub fn sqrt(&mut self, a: Var) -> Var {
        self.unary(Pointwise::Sqrt, a)
    }

    pub fn tanh(&mut self, a: Var) -> Var {
        self.unary(Pointwise::Tanh, a)
    }

    pub fn sigmoid(&mut self, a: Var) -> Var {
        self.unary(Pointwise::Sigmoid, a)
    }

    /// `log(1 + eˣ)`.
    pub fn softplus(&mut self, a: Var) -> Var {
        self.unary(Pointwise::Softplus, a)
    }

    pub fn relu(&mut self, a: Var) -> Var {
        self.unary(Pointwise::Relu, a)
    }

    /// `x > 0 ? x : slope · x`. The slope must be positive.
    pub fn leaky_relu(&mut self, a: Var, slope: f64) -> Var {
        self.require("leaky_relu", slope > 0.0, || format!("the slope must be positive, got {slope}"));
        self.unary(Pointwise::LeakyRelu { slope: Attribute(slope) }, a)
    }

    /// Product with a constant.
    pub fn scale(&mut self, a: Var, factor: f64) -> Var {
        if factor == 1.0 {
            return a;
        }
        if let Some(value) = self.constant_value(a) {
            return self.constant(value * factor, self.shape(a));
        }
        match self.node(a) {
            Node { op: Op::Pointwise(Pointwise::Scale(c)), inputs, .. } => {
                self.scale(inputs[0], c.0 * factor)
            }
            _ => self.unary(Pointwise::Scale(Attribute(factor)), a),
        }
    }

    /// Sum with a constant.
    pub fn offset(&mut self, a: Var, constant: f64) -> Var {
        if constant == 0.0 { a } else { self.unary(Pointwise::Offset(Attribute(constant)), a) }
    }

    /// `min(x, bound)`, as `bound − relu(bound − x)`.
    pub fn at_most(&mut self, x: Var, bound: f64) -> Var {
        let minus = self.neg(x);
        let gap = self.offset(minus, bound);
        let gap = self.relu(gap);
        let minus = self.neg(gap);
        self.offset(minus, bound)
    }
}

/// The operation on scalars, in f64: what every device must agree with.
pub fn evaluate(op: Pointwise, a: f64, b: f64) -> f64 {
    match op {
        Pointwise::Add => a + b,
        Pointwise::Sub => a - b,
        Pointwise::Mul => a * b,
        Pointwise::Div => a / b,
        Pointwise::MulStep { slope } => a * if b > 0.0 { 1.0 } else { slope.0 },
        Pointwise::Step => f64::from(a > 0.0),
        Pointwise::Neg => -a,
        Pointwise::Exp => a.exp(),
        Pointwise::Log => a.ln(),
        Pointwise::Sqrt => a.sqrt(),
        Pointwise::Tanh => a.tanh(),
        Pointwise::Sigmoid => 1.0 / (1.0 + (-a).exp()),
        Pointwise::Softplus => (1.0 + a.exp()).ln(),
        Pointwise::Relu => a.max(0.0),
        Pointwise::LeakyRelu { slope } => {
            if a > 0.0 {
                a
            } else {
                slope.0 * a
            }
        }
        Pointwise::Scale(c) => a * c.0,
        Pointwise::Offset(c) => a + c.0,
    }
}

pub(super) fn examples() -> Vec<Example> {
    use Pointwise::*;
    let slope = Attribute(0.2);
    let shape = [3, 5, 7];
    let mut all = Vec::new();
    let unary: [(Pointwise, f64, f64); 13] = [
        (Step, -1.0, 1.0),
        (Neg, -1.0, 1.0),
        (Exp, -2.0, 2.0),
        (Log, 0.2, 3.0),
        (Sqrt, 0.2, 3.0),
        (Tanh, -2.0, 2.0),
        (Sigmoid, -4.0, 4.0),
        (Softplus, -4.0, 4.0),
        (Relu, -1.0, 1.0),
        (LeakyRelu { slope }, -1.0, 1.0),
        (Scale(Attribute(-1.7)), -1.0, 1.0),
        (Offset(Attribute(0.3)), -1.0, 1.0),
        (Step, 0.5, 1.0),
    ];
    for (op, low, high) in unary {
        all.push(Example::new(
            format!("{} of [3, 5, 7] in [{low}, {high})", op.name()),
            vec![real_in(shape, low, high)],
            move |t, v| t.unary(op, v[0]),
            move |x| x[0].values.iter().map(|&a| evaluate(op, a, 0.0)).collect(),
        ));
    }
    for op in [Add, Sub, Mul, Div, MulStep { slope }] {
        let second = if op == Div { real_in(shape, 0.5, 2.0) } else { real(shape) };
        all.push(Example::new(
            format!("{} of [3, 5, 7]", op.name()),
            vec![real(shape), second],
            move |t, v| t.binary(op, v[0], v[1]),
            move |x| x[0].values.iter().zip(&x[1].values).map(|(&a, &b)| evaluate(op, a, b)).collect(),
        ));
        let second = if op == Div { real_in([7], 0.5, 2.0) } else { real([7]) };
        all.push(Example::new(
            format!("{} of [3, 5, 7] and [7]", op.name()),
            vec![real(shape), second],
            move |t, v| t.binary(op, v[0], v[1]),
            move |x| (0..105).map(|i| evaluate(op, x[0].values[i], x[1].values[i % 7])).collect(),
        ));
    }
    all.push(Example::new(
        "mul of [3, 5, 1] and [3, 1, 7]",
        vec![real([3, 5, 1]), real([3, 1, 7])],
        |t, v| t.mul(v[0], v[1]),
        |x| (0..105).map(|i| x[0].values[i / 7] * x[1].values[i / 35 * 7 + i % 7]).collect(),
    ));
    all.push(Example::new(
        "a chain of nine operations on [2, 1031] and [1031]",
        vec![real_in([2, 1031], 0.5, 1.5), real([1031]), real([])],
        |t, v| {
            let a = t.mul(v[0], v[1]);
            let b = t.tanh(a);
            let c = t.add(b, v[2]);
            let d = t.leaky_relu(c, 0.2);
            let e = t.exp(d);
            let f = t.div(e, v[0]);
            let g = t.scale(f, 0.5);
            let h = t.offset(g, -0.1);
            t.sub(h, a)
        },
        |x| {
            (0..2062)
                .map(|i| {
                    let a = x[0].values[i] * x[1].values[i % 1031];
                    let c = a.tanh() + x[2].values[0];
                    let d: f64 = if c > 0.0 { c } else { 0.2 * c };
                    d.exp() / x[0].values[i] * 0.5 - 0.1 - a
                })
                .collect()
        },
    ));
    all
}
