//! Shuffles, votes, matches, reductions over a warp, with all lanes and with some.

use crate::gpu::{gpu, shape};

const KERNEL: &str = r#"
extern "C" __global__ void k(const unsigned long long *in, unsigned long long *out) {
    unsigned t = threadIdx.x, lane = t % 32;
    unsigned x = (unsigned)in[t];
    int n = blockDim.x;
    out[0 * n + t] = __shfl_sync(~0u, x, 5);
    out[1 * n + t] = __shfl_up_sync(~0u, x, 3);
    out[2 * n + t] = __shfl_down_sync(~0u, x, 7);
    out[3 * n + t] = __shfl_xor_sync(~0u, x, 9);
    out[4 * n + t] = __shfl_xor_sync(~0u, x, 1, 8);
    out[5 * n + t] = __shfl_down_sync(~0u, x, 2, 16);
    out[6 * n + t] = __shfl_sync(~0u, x, lane + 1, 4);
    out[7 * n + t] = __ballot_sync(~0u, x & 1);
    out[8 * n + t] = __all_sync(~0u, x < 200) * 2 + __any_sync(~0u, x == 3);
    out[9 * n + t] = __match_any_sync(~0u, x % 5);
    int same; out[10 * n + t] = __match_all_sync(~0u, t / 32, &same) + same;
    out[11 * n + t] = __reduce_add_sync(~0u, x);
    out[12 * n + t] = __reduce_max_sync(~0u, x) * 256 + __reduce_min_sync(~0u, x);
    out[13 * n + t] = __reduce_xor_sync(~0u, x);
    out[14 * n + t] = __activemask();
    unsigned long long some = 0;
    if (lane % 3 == 1) {
        unsigned mask = 0x92492492u;
        some = __ballot_sync(mask, x & 2) + ((unsigned long long)__shfl_sync(mask, x, 4) << 32);
    }
    out[15 * n + t] = some;
    out[16 * n + t] = __double2ll_rn(__shfl_xor_sync(~0u, (double)x * 1e9, 16));
    asm("{ .reg .pred p; shfl.sync.down.b32 %0|p, %0, 4, 0x1f, -1; @!p mov.b32 %0, 12345; }" : "+r"(x));
    out[17 * n + t] = x;
    x = (unsigned)in[t];
    out[18 * n + t] = __reduce_and_sync(~0u, x | 64) + 1000 * __reduce_or_sync(~0u, x);
    unsigned uni;
    asm("{ .reg .pred p, q; setp.lt.u32 p, %1, 1000; vote.sync.uni.pred q, p, -1; selp.u32 %0, 1, 0, q; }" : "=r"(uni) : "r"(x));
    out[19 * n + t] = uni;
    asm("{ .reg .pred p, q; setp.lt.u32 p, %1, 50; vote.sync.uni.pred q, p, -1; selp.u32 %0, 1, 0, q; }" : "=r"(uni) : "r"(x));
    out[20 * n + t] = uni;
}
"#;

#[test]
fn lanes_exchange_values() {
    let Some(gpu) = gpu() else { return };
    const N: usize = 64;
    let input: Vec<u64> = (0..N as u64).map(|t| t * 37 % 101).collect();
    let out = gpu.run(KERNEL, &input, 21 * N, shape(1, N as u32));
    for t in 0..N {
        let (lane, base) = (t % 32, t / 32 * 32);
        let warp = &input[base..base + 32];
        let x = input[t];
        let ballot =
            |of: &dyn Fn(u64) -> bool| (0..32).fold(0u64, |bits, k| bits | (of(warp[k]) as u64) << k);
        let some = if lane % 3 == 1 {
            let voted =
                (0..32).filter(|k| k % 3 == 1 && warp[*k] & 2 != 0).fold(0, |bits, k| bits | 1u64 << k);
            voted + (warp[4] << 32)
        } else {
            0
        };
        let wanted = [
            warp[5],
            if lane >= 3 { warp[lane - 3] } else { x },
            if lane + 7 < 32 { warp[lane + 7] } else { x },
            warp[lane ^ 9],
            warp[lane ^ 1],
            if lane % 16 + 2 < 16 { warp[lane + 2] } else { x },
            warp[lane / 4 * 4 + (lane + 1) % 4],
            ballot(&|v| v & 1 != 0),
            2 + warp.contains(&3) as u64,
            ballot(&|v| v % 5 == x % 5),
            0xffff_ffff + 1,
            warp.iter().sum(),
            warp.iter().max().unwrap() * 256 + warp.iter().min().unwrap(),
            warp.iter().fold(0, |a, b| a ^ b),
            0xffff_ffff,
            some,
            warp[lane ^ 16] * 1_000_000_000,
            if lane + 4 < 32 { warp[lane + 4] } else { 12345 },
            warp.iter().fold(!0, |a, b| a & (b | 64)) + 1000 * warp.iter().fold(0, |a, b| a | b),
            1,
            0,
        ];
        for (row, wanted) in wanted.into_iter().enumerate() {
            // `__match_all_sync` gives 32 bits, to which C adds in 32 bits.
            let wanted = if row == 10 { wanted as u32 as u64 } else { wanted };
            assert_eq!(out[row * N + t], wanted, "row {row}, thread {t}");
        }
    }
}
