//! Opcode forms against Rust: each is one line of inline PTX, run on many operands.

use super::{Draw, Gpu, shape};

/// What an operand is: its width, and which values are worth trying.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    /// Integers and bits of 16, 32 and 64 bits.
    H,
    W,
    D,
    /// f32, f64, f16.
    F,
    G,
    X,
}

impl Kind {
    /// The letter of an asm constraint, and the C type behind it.
    fn constraint(self) -> (&'static str, &'static str) {
        match self {
            Kind::H | Kind::X => ("h", "unsigned short"),
            Kind::W | Kind::F => ("r", "unsigned"),
            Kind::D | Kind::G => ("l", "unsigned long long"),
        }
    }

    /// A value: often one at the edge.
    fn draw(self, draw: &mut Draw) -> u64 {
        let any = draw.next();
        let edge = any.is_multiple_of(3);
        let pick = (any >> 8) as usize;
        match self {
            Kind::W | Kind::H if edge => {
                [0, 1, 31, 32, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x8000, 0xff][pick % 9]
            }
            Kind::D if edge => {
                [0, 1, 63, 64, i64::MAX as u64, i64::MIN as u64, u64::MAX, 0xffff_ffff][pick % 8]
            }
            Kind::F if edge => {
                let values = [
                    0.0,
                    -0.0,
                    1.0,
                    -1.5,
                    f32::INFINITY,
                    f32::NEG_INFINITY,
                    f32::NAN,
                    f32::MIN_POSITIVE,
                    1e-40,
                    2.5,
                ];
                values[pick % 10].to_bits() as u64
            }
            Kind::G if edge => {
                [0.0, -0.0, 1.0, -1.5, f64::INFINITY, f64::NAN, 1e300, 1e-310][pick % 8].to_bits()
            }
            Kind::X if edge => [0, 0x8000, 0x3c00, 0x7c00, 0x7e00, 1, 0x7bff][pick % 7],
            Kind::W => draw.next() >> (32 + pick % 32),
            Kind::H => draw.next() >> 48,
            Kind::D => draw.next() >> (pick % 64),
            Kind::F => (draw.real() * 2f32.powi(pick as i32 % 40 - 20)).to_bits() as u64,
            Kind::G => {
                (draw.real() as f64 * 2f64.powi(pick as i32 % 80 - 40) + draw.real() as f64 * 1e-9).to_bits()
            }
            Kind::X => draw.next() & 0x7fff & 0x8fff | draw.next() & 0xbfff,
        }
    }
}

pub struct Case {
    /// One or more instructions; `%0` is the result, `%1`, `%2`, `%3` the operands.
    pub text: String,
    pub result: Kind,
    pub operands: Vec<Kind>,
    pub reference: Box<dyn Fn(u64, u64, u64) -> u64>,
    /// How far a floating result may be off, relative to its size.
    pub tolerance: f64,
}

pub fn case(
    text: impl Into<String>,
    result: Kind,
    operands: &[Kind],
    reference: impl Fn(u64, u64, u64) -> u64 + 'static,
) -> Case {
    let (text, operands, reference) = (text.into(), operands.to_vec(), Box::new(reference));
    Case { text, result, operands, reference, tolerance: 0.0 }
}

pub fn near(case: Case, tolerance: f64) -> Case {
    Case { tolerance, ..case }
}

const THREADS: usize = 256;

fn source(cases: &[Case]) -> String {
    let mut text =
        "extern \"C\" __global__ void k(const unsigned long long *in, unsigned long long *out) {\n\
                    int t = threadIdx.x;\n"
            .to_string();
    for (number, case) in cases.iter().enumerate() {
        let (letter, ty) = case.result.constraint();
        let inputs: Vec<String> = case
            .operands
            .iter()
            .enumerate()
            .map(|(index, kind)| {
                let (letter, ty) = kind.constraint();
                format!("\"{letter}\"(({ty})in[{} + t])", (number * 3 + index) * THREADS)
            })
            .collect();
        text += &format!(
            "{{ {ty} o; asm volatile(\"{}\" : \"={letter}\"(o) : {}); out[{} + t] = o; }}\n",
            case.text,
            inputs.join(", "),
            number * THREADS
        );
    }
    text + "}\n"
}

fn agrees(case: &Case, found: u64, wanted: u64) -> bool {
    let pair = match case.result {
        Kind::F => Some((f32::from_bits(found as u32) as f64, f32::from_bits(wanted as u32) as f64)),
        Kind::G => Some((f64::from_bits(found), f64::from_bits(wanted))),
        Kind::X => {
            let real = |bits: u64| cuda::half::f16_to_f32(bits as u32) as f64;
            Some((real(found), real(wanted)))
        }
        _ => None,
    };
    match pair {
        Some((x, y)) if x.is_nan() && y.is_nan() => true,
        Some((x, y)) if case.tolerance > 0.0 && x.is_finite() => {
            (x - y).abs() <= case.tolerance * y.abs().max(1e-30)
        }
        _ => found == wanted,
    }
}

/// Runs all cases in one kernel and compares every lane.
pub fn check(gpu: &Gpu, cases: &[Case]) {
    let mut draw = Draw(0x5eed_1234_5678);
    let mut input = Vec::new();
    for case in cases {
        for index in 0..3 {
            let kind = case.operands.get(index).copied();
            input.extend((0..THREADS).map(|_| kind.map_or(0, |kind| mask(kind, kind.draw(&mut draw)))));
        }
    }
    let found = gpu.run(&source(cases), &input, cases.len() * THREADS, shape(1, THREADS as u32));
    for (number, case) in cases.iter().enumerate() {
        for t in 0..THREADS {
            let operand = |index: usize| input[(number * 3 + index) * THREADS + t];
            let (a, b, c) = (operand(0), operand(1), operand(2));
            let (found, wanted) = (found[number * THREADS + t], mask(case.result, (case.reference)(a, b, c)));
            assert!(
                agrees(case, found, wanted),
                "{}: of {a:#x}, {b:#x}, {c:#x} came {found:#x} instead of {wanted:#x}",
                case.text
            );
        }
    }
}

fn mask(kind: Kind, bits: u64) -> u64 {
    match kind {
        Kind::H | Kind::X => bits & 0xffff,
        Kind::W | Kind::F => bits & 0xffff_ffff,
        Kind::D | Kind::G => bits,
    }
}
