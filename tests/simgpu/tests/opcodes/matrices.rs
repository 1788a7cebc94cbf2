//! `mma.sync`, `ldmatrix`, `movmatrix`: fragments put together by the tables of the PTX manual.

use crate::gpu::{Draw, gpu, shape};
use cuda::half::{bf16_from_f32, bf16_to_f32, f16_from_f32, f16_to_f32, tf32_nearest_away};

/// Where element `index` of a lane's fragment of A (m16 × k) lies: row and column. `pack` elements fill a register.
fn place_a(lane: usize, index: usize, pack: usize) -> (usize, usize) {
    let (register, within) = (index / pack, index % pack);
    (lane / 4 + 8 * (register % 2), pack * (lane % 4) + within + 4 * pack * (register / 2))
}

fn place_b(lane: usize, index: usize, pack: usize) -> (usize, usize) {
    let (register, within) = (index / pack, index % pack);
    (pack * (lane % 4) + within + 4 * pack * register, lane / 4)
}

fn place_c(lane: usize, index: usize) -> (usize, usize) {
    (lane / 4 + 8 * (index / 2), 2 * (lane % 4) + index % 2)
}

struct Mma {
    text: &'static str,
    k: usize,
    /// Elements a register.
    pack: usize,
    encode: fn(f32) -> u32,
    decode: fn(u32) -> f32,
}

/// Runs D = A·B + C of one warp and compares with sums in f64.
fn check(mma: &Mma) {
    let Some(gpu) = gpu() else { return };
    let mut draw = Draw(99);
    let (m, n, k) = (16, 8, mma.k);
    let mut real = |count: usize| -> Vec<f32> { (0..count).map(|_| draw.real()).collect() };
    let (a, b, c) = (real(m * k), real(k * n), real(m * n));
    let (a, b): (Vec<u32>, Vec<u32>) =
        (a.into_iter().map(mma.encode).collect(), b.into_iter().map(mma.encode).collect());
    let (a_regs, b_regs) = (m * k / 32 / mma.pack, k * n / 32 / mma.pack);
    let bits = 32 / mma.pack;
    let mut input = Vec::new();
    for register in 0..a_regs + b_regs + 4 {
        for lane in 0..32 {
            let word = |of: &dyn Fn(usize) -> u32, register: usize| {
                (0..mma.pack).fold(0u32, |word, w| {
                    let value = of(register * mma.pack + w);
                    if bits == 32 { value } else { word | value << (bits * w) }
                })
            };
            input.push(if register < a_regs {
                word(
                    &|index| {
                        let (r, q) = place_a(lane, index, mma.pack);
                        a[r * k + q]
                    },
                    register,
                )
            } else if register < a_regs + b_regs {
                word(
                    &|index| {
                        let (r, q) = place_b(lane, index, mma.pack);
                        b[r * n + q]
                    },
                    register - a_regs,
                )
            } else {
                let (r, q) = place_c(lane, register - a_regs - b_regs);
                c[r * n + q].to_bits()
            } as u64);
        }
    }
    let list = |from: usize, count: usize| {
        (from..from + count).map(|i| format!("%{i}")).collect::<Vec<_>>().join(",")
    };
    let inputs: Vec<String> = (0..a_regs + b_regs)
        .map(|r| format!("\"r\"((unsigned)in[{} + t])", r * 32))
        .chain(
            (0..4)
                .map(|r| format!("\"f\"(__uint_as_float((unsigned)in[{} + t]))", (a_regs + b_regs + r) * 32)),
        )
        .collect();
    let source = format!(
        "extern \"C\" __global__ void k(const unsigned long long *in, unsigned long long *out) {{\n\
         int t = threadIdx.x; float d0, d1, d2, d3;\n\
         asm volatile(\"{} {{%0,%1,%2,%3}}, {{{}}}, {{{}}}, {{{}}};\" : \"=f\"(d0), \"=f\"(d1), \"=f\"(d2), \
         \"=f\"(d3) : {});\n\
         out[t] = __float_as_uint(d0); out[32 + t] = __float_as_uint(d1);\n\
         out[64 + t] = __float_as_uint(d2); out[96 + t] = __float_as_uint(d3); }}",
        mma.text,
        list(4, a_regs),
        list(4 + a_regs, b_regs),
        list(4 + a_regs + b_regs, 4),
        inputs.join(", ")
    );
    let out = gpu.run(&source, &input, 128, shape(1, 32));
    for lane in 0..32 {
        for index in 0..4 {
            let (r, q) = place_c(lane, index);
            let term = |p: usize| (mma.decode)(a[r * k + p]) as f64 * (mma.decode)(b[p * n + q]) as f64;
            let wanted = (0..k).map(term).sum::<f64>() + c[r * n + q] as f64;
            let found = f32::from_bits(out[32 * index + lane] as u32) as f64;
            assert!((found - wanted).abs() < 4e-6, "{} at {r},{q}: {found} instead of {wanted}", mma.text);
        }
    }
}

fn tf32(x: f32) -> u32 {
    tf32_nearest_away(x.to_bits())
}

#[test]
fn products_of_every_format() {
    let forms = [
        (
            "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32",
            8,
            2,
            f16_from_f32 as fn(f32) -> u32,
            f16_to_f32 as fn(u32) -> f32,
        ),
        ("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", 16, 2, f16_from_f32, f16_to_f32),
        ("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32", 8, 2, bf16_from_f32, bf16_to_f32),
        ("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", 16, 2, bf16_from_f32, bf16_to_f32),
        ("mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32", 4, 1, tf32, f32::from_bits),
        ("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", 8, 1, tf32, f32::from_bits),
    ];
    for (text, k, pack, encode, decode) in forms {
        check(&Mma { text, k, pack, encode, decode });
    }
}

#[test]
fn matrices_are_loaded_and_transposed() {
    let Some(gpu) = gpu() else { return };
    let source = r#"
        extern "C" __global__ void k(const unsigned long long *in, unsigned long long *out) {
            __shared__ __align__(16) unsigned short s[4 * 64];
            int t = threadIdx.x;
            for (int i = t; i < 256; i += 32) s[i] = (unsigned short)in[i];
            __syncwarp();
            unsigned at = (unsigned)__cvta_generic_to_shared(&s[8 * t]);
            unsigned a, b, c, d;
            asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                         : "=r"(a), "=r"(b), "=r"(c), "=r"(d) : "r"(at));
            out[t] = a; out[32 + t] = b; out[64 + t] = c; out[96 + t] = d;
            asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared::cta.b16 {%0,%1}, [%2];"
                         : "=r"(a), "=r"(b) : "r"(at));
            out[128 + t] = a; out[160 + t] = b;
            asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(a) : "r"(at));
            asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(b) : "r"(a));
            out[192 + t] = b;
        }"#;
    let input: Vec<u64> = (0..256).map(|i| i * 7 + 1).collect();
    let out = gpu.run(source, &input, 224, shape(1, 32));
    for lane in 0..32 {
        let (row, pair) = (lane / 4, 2 * (lane % 4));
        for matrix in 0..4 {
            let at = 64 * matrix + 8 * row + pair;
            assert_eq!(out[32 * matrix + lane], input[at + 1] << 16 | input[at]);
        }
        for matrix in 0..2 {
            let at = |column: usize| input[64 * matrix + 8 * column + row];
            assert_eq!(out[128 + 32 * matrix + lane], at(pair + 1) << 16 | at(pair));
        }
        assert_eq!(out[192 + lane], out[128 + lane], "movmatrix gives what ldmatrix.trans does");
    }
}

const HALF_SUMS: &str = r#"
extern "C" __global__ void k(const unsigned long long *in, unsigned long long *out) {
    int t = threadIdx.x;
    unsigned a[4], b[2], h[2], zero = 0;
    float f[4];
    for (int i = 0; i < 4; i++) a[i] = in[32 * i + t];
    for (int i = 0; i < 2; i++) b[i] = in[128 + 32 * i + t];
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%10,%10,%10};"
        : "=f"(f[0]), "=f"(f[1]), "=f"(f[2]), "=f"(f[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(0.0f));
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0,%1}, {%2,%3,%4,%5}, {%6,%7}, {%8,%8};"
        : "=r"(h[0]), "=r"(h[1]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(zero));
    for (int i = 0; i < 4; i++) out[32 * i + t] = __float_as_uint(f[i]);
    for (int i = 0; i < 2; i++) out[128 + 32 * i + t] = h[i];
}
"#;

/// Two sums lie in one register; each is that of the f32 form, rounded.
#[test]
fn sums_in_half_precision() {
    let Some(gpu) = gpu() else { return };
    let mut draw = Draw(7);
    let pair = |draw: &mut Draw| f16_from_f32(draw.real()) as u64 | (f16_from_f32(draw.real()) as u64) << 16;
    let input: Vec<u64> = (0..192).map(|_| pair(&mut draw)).collect();
    let out = gpu.run(HALF_SUMS, &input, 192, shape(1, 32));
    for at in 0..64 {
        let (row, lane) = (at / 32, at % 32);
        let sum = |n: usize| f16_from_f32(f32::from_bits(out[32 * (2 * row + n) + lane] as u32)) as u64;
        assert_eq!(out[128 + at], sum(0) | sum(1) << 16, "register {row}, lane {lane}");
    }
}
