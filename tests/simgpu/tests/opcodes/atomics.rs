//! Atomic operations on global and shared memory.

use crate::gpu::{gpu, shape};

const KERNEL: &str = r#"
extern "C" __global__ void k(const unsigned long long *in, unsigned long long *out) {
    __shared__ unsigned s[8];
    __shared__ float f;
    int t = threadIdx.x + blockIdx.x * blockDim.x;
    if (threadIdx.x < 8) s[threadIdx.x] = threadIdx.x == 1 ? ~0u : 0;
    if (threadIdx.x == 0) f = 0;
    __syncthreads();
    unsigned x = (unsigned)in[t];
    unsigned *words = (unsigned *)out;
    atomicAdd(&words[0], x);
    atomicMin((int *)&words[1], -(int)x);
    atomicMax(&words[2], x);
    atomicOr(&words[3], 1u << (x % 32));
    atomicXor(&words[4], x);
    atomicInc(&words[5], 6);
    atomicAdd(&out[3], (unsigned long long)x << 30);
    atomicAdd((float *)&words[8], 0.5f);
    atomicAdd((double *)&out[5], 0.25);
    unsigned old = words[12], seen;
    do { seen = old; old = atomicCAS(&words[12], seen, seen + x); } while (old != seen);
    atomicDec(&words[13], 9);
    atomicAnd(&words[14], ~0u);
    atomicSub(&words[15], x);
    atomicAdd(&s[0], x);
    atomicMin(&s[1], x);
    atomicMax((int *)&s[2], (int)x);
    atomicAdd(&f, 1.0f);
    unsigned slot = atomicAdd(&s[3], 1u);
    __syncthreads();
    if (threadIdx.x == 0) { out[8 + 4 * blockIdx.x] = s[0]; out[9 + 4 * blockIdx.x] = s[1];
                            out[10 + 4 * blockIdx.x] = s[2]; out[11 + 4 * blockIdx.x] = (unsigned)f; }
    out[16 + t] = slot;
    out[16 + gridDim.x * blockDim.x + t] = atomicExch(&out[16 + gridDim.x * blockDim.x + t], 7ull);
}
"#;

#[test]
fn nothing_is_lost() {
    let Some(gpu) = gpu() else { return };
    const N: usize = 2 * 64;
    let input: Vec<u64> = (0..N as u64).map(|t| t * 29 % 113 + 1).collect();
    let out = gpu.run(KERNEL, &input, 16 + 2 * N, shape(2, 64));
    let word = |index: usize| (out[index / 2] >> (32 * (index % 2))) as u32;
    let sum: u64 = input.iter().sum();
    assert_eq!(word(0) as u64, sum);
    assert_eq!(word(1) as i32, -(*input.iter().max().unwrap() as i32));
    assert_eq!(word(2) as u64, *input.iter().max().unwrap());
    assert_eq!(word(3), input.iter().fold(0, |bits, x| bits | 1 << (x % 32)));
    assert_eq!(word(4) as u64, input.iter().fold(0, |a, b| a ^ b));
    assert_eq!(word(5), (N % 7) as u32);
    assert_eq!(out[3], sum << 30);
    assert_eq!(f32::from_bits(word(8)), 0.5 * N as f32);
    assert_eq!(f64::from_bits(out[5]), 0.25 * N as f64);
    assert_eq!(word(12) as u64, sum);
    let mut dec = 0u32;
    for _ in 0..N {
        dec = if dec == 0 || dec > 9 { 9 } else { dec - 1 };
    }
    assert_eq!(word(13), dec);
    assert_eq!(word(14), 0);
    assert_eq!(word(15), (sum as u32).wrapping_neg());
    for block in 0..2 {
        let mine = &input[64 * block..64 * block + 64];
        let found = &out[8 + 4 * block..12 + 4 * block];
        assert_eq!(found, [mine.iter().sum(), *mine.iter().min().unwrap(), *mine.iter().max().unwrap(), 64]);
        let mut slots = out[16 + 64 * block..16 + 64 * block + 64].to_vec();
        slots.sort();
        assert_eq!(slots, (0..64).collect::<Vec<u64>>());
    }
    assert!(out[16 + N..].iter().all(|&value| value == 0), "exchanges give what was there");
}

/// Every operation of every type as `red` and as `atom`, by 32 threads on one word that holds `first`.
#[test]
fn every_operation_of_every_type() {
    let Some(gpu) = gpu() else { return };
    type Join = fn(u64, u64) -> u64;
    let forms: [(&str, &str, u64, Join); 24] = [
        ("add", "u32", 5, |x, y| (x + y) & 0xffff_ffff),
        ("add", "s32", 5, |x, y| (x + y) & 0xffff_ffff),
        ("add", "u64", 5 << 40, |x, y| x.wrapping_add(y)),
        ("add", "f32", 0, |x, y| (f32::from_bits(x as u32) + f32::from_bits(y as u32)).to_bits() as u64),
        ("add", "f64", 0, |x, y| (f64::from_bits(x) + f64::from_bits(y)).to_bits()),
        ("min", "u32", 77, |x, y| x.min(y)),
        ("min", "s32", 77, |x, y| (x as i32).min(y as i32) as u32 as u64),
        ("min", "u64", 77, |x, y| x.min(y)),
        ("min", "s64", 77, |x, y| (x as i64).min(y as i64) as u64),
        ("max", "u32", 77, |x, y| x.max(y)),
        ("max", "s32", 77, |x, y| (x as i32).max(y as i32) as u32 as u64),
        ("max", "u64", 77, |x, y| x.max(y)),
        ("max", "s64", 77, |x, y| (x as i64).max(y as i64) as u64),
        ("and", "b32", 0xff0f, |x, y| x & y),
        ("and", "b64", !0 << 1, |x, y| x & y),
        ("or", "b32", 1, |x, y| x | y),
        ("or", "b64", 1, |x, y| x | y),
        ("xor", "b32", 1, |x, y| x ^ y),
        ("xor", "b64", 1, |x, y| x ^ y),
        ("inc", "u32", 3, |x, y| if x >= y { 0 } else { x + 1 }),
        ("dec", "u32", 3, |x, y| if x == 0 || x > y { y } else { x - 1 }),
        ("add.noftz", "f16x2", 0, |x, y| add_pair(x, y)),
        ("exch", "b32", 9, |_, y| y),
        ("exch", "b64", 9, |_, y| y),
    ];
    let orders = ["", ".relaxed.cta", ".acquire.gpu", ".release.sys", ".acq_rel.gpu"];
    let (mut body, mut words) = (String::new(), Vec::new());
    for (number, (op, ty, first, _)) in forms.iter().enumerate() {
        let letter = if ty.ends_with("64") { "l" } else { "r" };
        let cast = if letter == "l" { "unsigned long long" } else { "unsigned" };
        let order = orders[number % orders.len()];
        for (kind, place) in [("atom", 0), ("red", 1)] {
            let at = number * 2 + place;
            words.push(*first);
            if kind == "red" && *op == "exch" {
                continue;
            }
            let order = if kind == "red" {
                order.replace(".acquire", ".relaxed").replace(".acq_rel", ".release")
            } else {
                order.into()
            };
            let text = if kind == "red" {
                format!("red{order}.global.{op}.{ty} [%0], %1;")
            } else {
                format!(
                    "{{ .reg .b{} o; atom{order}.global.{op}.{ty} o, [%0], %1; }}",
                    if letter == "l" { 64 } else { 32 }
                )
            };
            body += &format!(
                "asm volatile(\"{text}\" :: \"l\"(&out[{at}]), \"{letter}\"(({cast})in[32 * {number} + t]));\n"
            );
        }
    }
    let start = words.clone();
    let mut input = Vec::new();
    for (_, ty, ..) in &forms {
        input.extend((0..32u64).map(|t| match *ty {
            "f32" => (t as f32 * 0.5).to_bits() as u64,
            "f64" => (t as f64 * 0.25).to_bits(),
            "f16x2" => 0x3c00_4000,
            "s32" => (t as i32 - 7) as u32 as u64,
            "s64" => (t as i64 - 7) as u64,
            _ => t * 37 % 23 + 3,
        }));
    }
    input.extend(&words);
    let count = words.len();
    let source = format!(
        "extern \"C\" __global__ void k(const unsigned long long *in, unsigned long long *out) {{\n\
         int t = threadIdx.x; if (t == 0) for (int i = 0; i < {count}; i++) out[i] = in[{} + i];\n__syncwarp();\n{body}}}\n",
        32 * forms.len()
    );
    let out = gpu.run(&source, &input, count, shape(1, 32));
    for (number, (op, ty, first, join)) in forms.iter().enumerate() {
        let wanted = input[32 * number..32 * number + 32].iter().fold(*first, |x, &y| join(x, y));
        for (kind, place) in [("atom", 0), ("red", 1)] {
            let at = number * 2 + place;
            let wanted = if kind == "red" && *op == "exch" { start[at] } else { wanted };
            assert_eq!(out[at], wanted, "{kind}.{op}.{ty}");
        }
    }
}

fn add_pair(x: u64, y: u64) -> u64 {
    use cuda::half::{f16_from_f64, f16_to_f32};
    let one = |x: u64, y: u64| {
        f16_from_f64(f16_to_f32(x as u32 & 0xffff) as f64 + f16_to_f32(y as u32 & 0xffff) as f64) as u64
    };
    one(x, y) | one(x >> 16, y >> 16) << 16
}

/// atom and red on shared memory, under both names of the space.
#[test]
fn on_shared_memory() {
    let Some(gpu) = gpu() else { return };
    let source = r#"
        extern "C" __global__ void k(const unsigned long long *in, unsigned long long *out) {
            __shared__ unsigned s[2];
            int t = threadIdx.x;
            if (t < 2) s[t] = 0;
            __syncthreads();
            unsigned at = (unsigned)__cvta_generic_to_shared(&s[t % 2]), old;
            asm volatile("atom.shared::cta.add.u32 %0, [%1], 1;" : "=r"(old) : "r"(at));
            asm volatile("red.shared.add.u32 [%0], 100; red.shared::cta.or.b32 [%0], 0x10000;" :: "r"(at));
            __syncthreads();
            out[t] = s[t % 2] + old * 0;
        }"#;
    let out = gpu.run(source, &[0], 32, shape(1, 32));
    assert!(out.iter().all(|&x| x == 0x10000 + 16 + 1600), "{out:?}");
}
