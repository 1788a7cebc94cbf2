//! Branches, loops that lanes leave at different times, switches, calls, barriers with results, early exits.

use crate::gpu::{gpu, shape};

const KERNEL: &str = r#"
__device__ __noinline__ int collatz(int x) {
    int steps = 0;
    while (x != 1) { x = x & 1 ? 3 * x + 1 : x / 2; steps++; }
    return steps;
}
struct Pair { long long a; float b; };
__device__ __noinline__ Pair both(Pair p, int k) { Pair q = { p.a * k, p.b + k }; return q; }
extern "C" __global__ void k(const unsigned long long *in, unsigned long long *out) {
    int t = threadIdx.x, n = blockDim.x;
    int x = (int)in[t];
    out[t] = collatz(x);
    int y;
    switch (x % 9) {
        case 0: y = 5; break; case 1: y = x * 3; break; case 2: y = x - 8; break; case 3: y = ~x; break;
        case 4: y = x << 3; break; case 5: y = collatz(x + 1); break; case 6: y = -x; break; default: y = 77;
    }
    out[n + t] = y;
    Pair p = { x, 0.5f };
    p = both(p, t);
    out[2 * n + t] = p.a + (long long)(p.b * 2);
    out[3 * n + t] = __syncthreads_count(x & 1);
    out[4 * n + t] = __syncthreads_or(x == 1) * 2 + __syncthreads_and(x > 0);
    if (t % 7 == 3) return;
    __syncwarp(__activemask());
    out[5 * n + t] = 1;
    asm volatile("bar.sync 1, %0;" :: "r"(n));
    for (int i = 0; i < t; i++) if (i * i > x) { out[6 * n + t] = i; break; }
}
"#;

fn collatz(mut x: i64) -> i64 {
    let mut steps = 0;
    while x != 1 {
        x = if x & 1 == 1 { 3 * x + 1 } else { x / 2 };
        steps += 1;
    }
    steps
}

#[test]
fn lanes_go_their_own_ways() {
    let Some(gpu) = gpu() else { return };
    const N: usize = 96;
    let input: Vec<u64> = (0..N as u64).map(|t| t * 31 % 97 + 1).collect();
    let out = gpu.run(KERNEL, &input, 7 * N, shape(1, N as u32));
    for t in 0..N {
        let x = input[t] as i64;
        let y = match x % 9 {
            0 => 5,
            1 => x * 3,
            2 => x - 8,
            3 => !x,
            4 => x << 3,
            5 => collatz(x + 1),
            6 => -x,
            _ => 77,
        };
        let odd = input.iter().filter(|&&x| x & 1 == 1).count() as u64;
        let leaves = t % 7 == 3;
        let left = (0..t as i64).find(|i| i * i > x).unwrap_or(0);
        let wanted = [
            collatz(x) as u64,
            y as u64,
            (x * t as i64 + 1 + 2 * t as i64) as u64,
            odd,
            2 + 1,
            !leaves as u64,
            if leaves { 0 } else { left as u64 },
        ];
        for (row, wanted) in wanted.into_iter().enumerate() {
            assert_eq!(out[row * N + t], wanted, "row {row}, thread {t}");
        }
    }
}

#[test]
fn blocks_and_threads_have_three_dimensions() {
    let Some(gpu) = gpu() else { return };
    let source = r#"
        extern "C" __global__ void k(const unsigned long long *in, unsigned long long *out) {
            unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
            unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
            unsigned lane; asm("mov.u32 %0, %%laneid;" : "=r"(lane));
            out[block * blockDim.x * blockDim.y * blockDim.z + thread] = block * 1000 + thread * 100000 + lane;
        }"#;
    let config =
        cudarc::driver::LaunchConfig { grid_dim: (3, 2, 2), block_dim: (5, 4, 3), shared_mem_bytes: 0 };
    let out = gpu.run(source, &[0], 12 * 60, config);
    for (at, &found) in out.iter().enumerate() {
        let (block, thread) = (at as u64 / 60, at as u64 % 60);
        assert_eq!(found, block * 1000 + thread * 100_000 + thread % 32);
    }
}

const JUMPS: &str = r#"
extern "C" __global__ void k(const unsigned long long *in, unsigned long long *out) {
    int t = threadIdx.x, x = (int)in[t], y = 0;
    asm volatile("{ ts: .branchtargets A, B, C; brx.idx %1, ts; "
                 "A: mov.u32 %0, 10; bra.uni E; B: mov.u32 %0, 20; bra.uni E; C: mov.u32 %0, 30; E: }" : "=r"(y) : "r"(x));
    out[t] = y;
    asm volatile("{ .reg .pred p; setp.gt.u32 p, %0, 5; @p trap; }" :: "r"(x));
    // A producer that does not wait, and consumers that do.
    __shared__ int s;
    if (t < 32) { if (t == 0) s = 77; __threadfence_block(); asm volatile("bar.arrive 3, 96;"); }
    else { asm volatile("bar.sync 3, 96;"); y = s; }
    out[96 + t] = y;
    asm volatile("barrier.sync.aligned 4; barrier.sync 5, 96;");
    int odd, all;
    asm volatile("{ .reg .pred p; setp.eq.u32 p, %1, 1; barrier.red.popc.aligned.u32 %0, 6, p; }" : "=r"(odd) : "r"(x));
    asm volatile("{ .reg .pred p, q, r; setp.lt.u32 p, %1, 3; barrier.red.and.aligned.pred q, 6, p; "
                 "barrier.red.or.aligned.pred r, 6, !p; selp.u32 %0, 1, 0, q; @r add.u32 %0, %0, 2; }" : "=r"(all) : "r"(x));
    if (t < 32) asm volatile("barrier.arrive 7, 96;"); else asm volatile("barrier.sync 7, 96;");
    out[192 + t] = odd * 4 + all;
    if (t == 95) asm volatile("exit;");
    asm volatile("ret.uni;");
}
"#;

#[test]
fn tables_of_jumps_and_named_barriers() {
    let Some(gpu) = gpu() else { return };
    let input: Vec<u64> = (0..96).map(|t| t * 7 % 3).collect();
    let out = gpu.run(JUMPS, &input, 3 * 96, shape(1, 96));
    let ones = input.iter().filter(|&&x| x == 1).count() as u64;
    for t in 0..96 {
        let y = 10 * (input[t] + 1);
        assert_eq!(out[t], y, "thread {t}");
        assert_eq!(out[96 + t], if t < 32 { y } else { 77 }, "thread {t}");
        assert_eq!(out[192 + t], ones * 4 + 1, "thread {t}");
    }
}
