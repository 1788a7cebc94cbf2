//! Elementwise expressions as CUDA C++: every expression of a plan in one generated source. A thread computes
//! four neighbours, read and written in accesses of 16 bytes.

use std::fmt::Write;

use super::launch::{Argument, Function, Launch, Source};
use crate::ops::Pointwise;
use crate::tape::plan::Expression;
use crate::tape::plan::expression::{Access, Instruction};

/// Threads of a block, and elements that a block computes.
const THREADS: usize = 256;
const BLOCK: usize = 4 * THREADS;

/// Where an expression's operands are among the reads of a step, and its result among the writes.
pub struct Segment {
    pub len: usize,
    pub reads: Vec<usize>,
    pub write: usize,
}

/// The functions of one expression's code, number `number` of a source.
pub struct Compiled<'a> {
    pub source: &'a Source,
    pub number: usize,
}

impl Compiled<'_> {
    /// One launch for all segments.
    pub fn launch(&self, segments: &[Segment]) -> Launch {
        let function = |entry: String| Function {
            source: self.source.clone(),
            defines: Vec::new(),
            entry: entry.into(),
            dynamic_shared: 0,
        };
        let (function, blocks, arguments) = match segments {
            [one] => {
                let mut arguments = vec![Argument::U32(one.len as u32)];
                arguments.extend(one.reads.iter().map(|&r| Argument::Read(r)));
                arguments.push(Argument::Write(one.write));
                (function(format!("expression{}", self.number)), one.len.div_ceil(BLOCK), arguments)
            }
            many => {
                let (mut table, mut blocks) = (Vec::new(), 0);
                for segment in many {
                    table.extend(segment.reads.iter().map(|&r| Argument::Read(r)));
                    table.push(Argument::Write(segment.write));
                    table.push(Argument::U64(segment.len as u64 | (blocks as u64) << 32));
                    blocks += segment.len.div_ceil(BLOCK);
                }
                let arguments = vec![Argument::U32(many.len() as u32), Argument::Table(table)];
                (function(format!("expressions{}", self.number)), blocks, arguments)
            }
        };
        Launch { function, grid: [blocks as u32, 1, 1], block: [THREADS as u32, 1, 1], arguments }
    }
}

/// The source of some expressions. Expressions of the same code need one function only.
pub fn source(codes: &[&Expression]) -> Source {
    let mut text = String::from(PRELUDE);
    for (number, expression) in codes.iter().enumerate() {
        // Writing to a string does not fail.
        let _ = functions(&mut text, number, expression);
    }
    Source::Generated(text)
}

/// What code of elementwise operations calls.
pub const PRELUDE: &str = "\
// Elementwise expressions of one plan.
typedef unsigned int u32;
__device__ __forceinline__ float step(float x, float slope) { return x > 0 ? 1 : slope; }
__device__ __forceinline__ float sigmoid(float x) {
    float small = expf(-fabsf(x)), positive = 1 / (1 + small);
    return x > 0 ? positive : small * positive;
}
__device__ __forceinline__ float softplus(float x) { return (x > 0 ? x : 0) + logf(1 + expf(-fabsf(x))); }
__device__ __forceinline__ float relu(float x, float slope) { return x > 0 ? x : slope * x; }
";

/// Distinct reads of an expression, in the order of their first use.
fn loads(expression: &Expression) -> Vec<(u8, Access)> {
    let mut found = Vec::new();
    for instruction in &expression.code {
        if let Instruction::Load { operand, access, .. } = *instruction
            && !found.contains(&(operand, access))
        {
            found.push((operand, access));
        }
    }
    found
}

/// Number of operands of an expression.
pub fn operands(expression: &Expression) -> usize {
    loads(expression).iter().map(|(operand, _)| usize::from(*operand) + 1).max().unwrap_or(0)
}

/// A number of single precision, exactly.
fn exact(value: f64) -> String {
    format!("__int_as_float({:#x})", (value as f32).to_bits())
}

/// The lines that compute one element, in `r0`; `load` says how an operand is read.
pub fn body(expression: &Expression, load: impl Fn(u8, Access) -> String) -> Vec<String> {
    let registers = expression.code.iter().map(|i| match i {
        Instruction::Load { to, .. } | Instruction::Constant { to, .. } | Instruction::Apply { to, .. } => {
            *to
        }
    });
    let names: Vec<String> = (0..=registers.max().unwrap_or(0)).map(|i| format!("r{i}")).collect();
    let line = |instruction: &Instruction| match *instruction {
        Instruction::Load { to, operand, access } => format!("r{to} = {};", load(operand, access)),
        Instruction::Constant { to, value } => format!("r{to} = {};", exact(value.0)),
        Instruction::Apply { to, op, a, b } => {
            format!("r{to} = {};", apply(op, &format!("r{a}"), &format!("r{b}")))
        }
    };
    let declared = format!("float {};", names.join(", "));
    std::iter::once(declared).chain(expression.code.iter().map(line)).collect()
}

fn functions(text: &mut String, number: usize, expression: &Expression) -> std::fmt::Result {
    let loads = loads(expression);
    let list = |prefix: &str, count: usize| {
        (0..count).map(|i| format!("{prefix}{i}")).collect::<Vec<_>>().join(", ")
    };
    // One element.
    writeln!(text)?;
    writeln!(text, "__device__ __forceinline__ float element{number}({}) {{", list("float x", loads.len()))?;
    let load =
        |operand, access| format!("x{}", loads.iter().position(|&l| l == (operand, access)).unwrap_or(0));
    for line in body(expression, load) {
        writeln!(text, "    {line}")?;
    }
    writeln!(text, "    return r0;\n}}")?;

    // Four neighbours, or what is left of them.
    let count = operands(expression);
    let pointers: String = (0..count).map(|i| format!("const float* a{i}, ")).collect();
    writeln!(text, "__device__ __forceinline__ void run{number}(u32 i, u32 count, {pointers}float* out) {{")?;
    writeln!(text, "    if (i + 4 <= count) {{")?;
    for (load, &(operand, access)) in loads.iter().enumerate() {
        writeln!(text, "        float4 x{load} = {};", four(operand, access))?;
    }
    let lane = |lane: &str| {
        let arguments: Vec<String> = (0..loads.len()).map(|l| format!("x{l}.{lane}")).collect();
        format!("element{number}({})", arguments.join(", "))
    };
    let lanes = ["x", "y", "z", "w"].map(lane).join(",\n            ");
    writeln!(text, "        *(float4*)(out + i) = make_float4(\n            {lanes});")?;
    writeln!(text, "    }} else {{\n        for (; i < count; i++) {{")?;
    let one: Vec<String> =
        loads.iter().map(|&(operand, access)| format!("a{operand}[{}]", index(access, "i"))).collect();
    writeln!(text, "            out[i] = element{number}({});\n        }}\n    }}\n}}", one.join(", "))?;

    // One tensor.
    let bounds = format!("extern \"C\" __global__ void __launch_bounds__({THREADS})");
    let passed: String = (0..count).map(|i| format!("a{i}, ")).collect();
    writeln!(text, "{bounds} expression{number}(u32 count, {pointers}float* out) {{")?;
    writeln!(text, "    run{number}((blockIdx.x * {THREADS} + threadIdx.x) * 4, count, {passed}out);\n}}")?;

    // Several tensors: each block finds its own in the table, by the number of its first block.
    writeln!(text, "struct Segment{number} {{")?;
    (0..count).try_for_each(|i| writeln!(text, "    const float* a{i};"))?;
    writeln!(text, "    float* out;\n    u32 count, first;\n}};")?;
    writeln!(
        text,
        "{bounds} expressions{number}(u32 segments, const Segment{number}* __restrict__ table) {{"
    )?;
    let members: String = (0..count).map(|i| format!("s.a{i}, ")).collect();
    writeln!(
        text,
        "    u32 low = 0, high = segments;
    while (high - low > 1) {{
        u32 middle = (low + high) / 2;
        if (table[middle].first <= blockIdx.x) low = middle;
        else high = middle;
    }}
    Segment{number} s = table[low];
    run{number}(((blockIdx.x - s.first) * {THREADS} + threadIdx.x) * 4, s.count, {members}s.out);
}}"
    )
}

/// A count of repetitions that covers the whole result, whatever its size.
const WHOLE: usize = usize::MAX;

/// An expression's code without what depends on its size alone: a value that is repeated over the whole
/// result, such as a rate, is read in the same way from tensors of every size.
pub fn canonical(expression: &Expression) -> Expression {
    let mut canonical = expression.clone();
    for instruction in &mut canonical.code {
        if let Instruction::Load { access, .. } = instruction
            && access.count > 1
            && access.count * access.inner == expression.len
        {
            access.count = WHOLE;
        }
    }
    canonical
}

/// The element that a result's element number `i` reads.
pub fn index(Access { count, inner }: Access, i: &str) -> String {
    match (count, inner) {
        (1, _) => i.to_string(),
        (WHOLE, 1) => "0".to_string(),
        (WHOLE, _) => format!("({i}) % {inner}u"),
        (_, 1) => format!("({i}) / {count}u"),
        _ => format!("({i}) / {}u * {inner}u + ({i}) % {inner}u", count * inner),
    }
}

/// Four neighbours of an operand; `i` is a multiple of 4.
fn four(operand: u8, access: Access) -> String {
    let Access { count, inner } = access;
    let at = |i: &str| format!("a{operand}[{}]", index(access, i));
    if count == 1 || inner.is_multiple_of(4) {
        format!("*(const float4*)(a{operand} + {})", index(access, "i"))
    } else if inner == 1 && (count == WHOLE || count.is_multiple_of(4)) {
        format!("make_float4({0}, {0}, {0}, {0})", at("i"))
    } else {
        format!("make_float4({}, {}, {}, {})", at("i"), at("i + 1"), at("i + 2"), at("i + 3"))
    }
}

fn apply(op: Pointwise, a: &str, b: &str) -> String {
    match op {
        Pointwise::Add => format!("{a} + {b}"),
        Pointwise::Sub => format!("{a} - {b}"),
        Pointwise::Mul => format!("{a} * {b}"),
        Pointwise::Div => format!("{a} / {b}"),
        Pointwise::MulStep { slope } => format!("{a} * step({b}, {})", exact(slope.0)),
        Pointwise::Step => format!("step({a}, 0)"),
        Pointwise::Neg => format!("-{a}"),
        Pointwise::Exp => format!("expf({a})"),
        Pointwise::Log => format!("logf({a})"),
        Pointwise::Sqrt => format!("sqrtf({a})"),
        Pointwise::Tanh => format!("tanhf({a})"),
        Pointwise::Sigmoid => format!("sigmoid({a})"),
        Pointwise::Softplus => format!("softplus({a})"),
        Pointwise::Relu => format!("{a} > 0 ? {a} : 0"),
        Pointwise::LeakyRelu { slope } => format!("relu({a}, {})", exact(slope.0)),
        Pointwise::Scale(c) => format!("{a} * {}", exact(c.0)),
        Pointwise::Offset(c) => format!("{a} + {}", exact(c.0)),
    }
}
