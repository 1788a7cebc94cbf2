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
