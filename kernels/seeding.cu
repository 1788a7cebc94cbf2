// Greedy k-means++ for several runs at once, without a word to the host: `choose` takes the best of the last
// candidates and draws the next ones, `lower` measures all points from them. Sums and choices are the CPU's
// bit for bit (src/cluster/seeding.rs): single-precision distances in sixteen sums, potentials in double
// precision, in order.

#include "types.cuh"

// Points whose potential is added up on its own.
constexpr u32 SLAB = 1024;

// Lanes that share a distance.
constexpr u32 LANES = 16;

// Candidates that are measured together.
constexpr u32 GROUP = 4;

constexpr u32 ALL = 0xffffffff;

// After `step` centres: takes the best of `before` candidates `drawn` [runs][many] by their sums `totals`
// [runs][slabs][many] into `chosen` [runs][k] and `best` [runs], and draws `many` new ones, each the point at
// a fraction [runs][k - 1][many] of the potential that is left, by a warp. `trial` [runs][many][n] has what
// the distances became with each candidate.
extern "C" __global__ void choose(u32 n, u32 k, u32 step, u32 before, u32 many, const double* __restrict__ totals,
                                  const float* __restrict__ trial, const double* __restrict__ fractions,
                                  u32* __restrict__ drawn, u32* __restrict__ chosen, u32* __restrict__ best) {
    __shared__ double sums[32];
    u32 run = blockIdx.x, warp = threadIdx.x / 32, lane = threadIdx.x % 32, slabs = (n + SLAB - 1) / SLAB;
    totals += (size_t)run * slabs * many;
    trial += (size_t)run * many * n;
    drawn += run * many;
    if (threadIdx.x < before) {
        double sum = 0;
        for (u32 slab = 0; slab < slabs; slab++) sum = __dadd_rn(sum, totals[(size_t)slab * many + threadIdx.x]);
        sums[threadIdx.x] = sum;
    }
    __syncthreads();
    u32 least = 0;
    for (u32 c = 1; c < before; c++) {
        if (sums[c] < sums[least]) least = c;
    }
    if (threadIdx.x == 0) {
        chosen[(size_t)run * k + step - 1] = drawn[least];
        best[run] = least;
    }
    if (step == k) return;
    // Everyone has seen the candidates before they are drawn anew.
    __syncthreads();
    double left = __dmul_rn(fractions[((size_t)run * (k - 1) + step - 1) * many + warp], sums[least]);
    u32 slab = 0;
    bool here = false;
    for (u32 base = 0; base + 1 < slabs && !here; base += 32) {
        u32 at = min(base + lane, slabs - 1);
        double potential = totals[(size_t)at * many + least];
        for (u32 other = 0; other < 32 && base + other + 1 < slabs && !here; other++) {
            double one = __shfl_sync(ALL, potential, other);
            if (left >= one) {
                left = __dsub_rn(left, one);
                slab = base + other + 1;
            } else {
                here = true;
            }
        }
    }
    u32 first = slab * SLAB, end = min(n, first + SLAB), point = end - 1;
    const float* nearest = trial + (size_t)least * n;
    here = false;
    for (u32 base = first; base < end && !here; base += 32) {
        float distance = nearest[min(base + lane, end - 1)];
        for (u32 other = 0; other < 32 && base + other < end && !here; other++) {
            left = __dsub_rn(left, __shfl_sync(ALL, distance, other));
            if (left < 0) {
                point = base + other;
                here = true;
            }
        }
    }
    if (lane == 0) drawn[warp] = point;
}

// Points of a warp's turn.
constexpr u32 TURN = 32 / GROUP;

// What each distance becomes with each of `now` candidates, and its sums, for a slab of the points of a run.
// The distances so far are those with candidate `best` of the last step, or infinite before the `first_step`.
//
// A warp's two halves take a point each, LANES columns at a time; lanes write what they have to shared memory,
// and when it holds TURN points and GROUP candidates, each lane adds up one pair, in order.
extern "C" __global__ void __launch_bounds__(256, 3)
    lower(u32 n, u32 d, u32 first_step, u32 now, u32 many, const u32* __restrict__ space,
          const float* __restrict__ values, const float* __restrict__ weights, const u32* __restrict__ drawn,
          const u32* __restrict__ best, const float* __restrict__ before, float* __restrict__ trial,
          double* __restrict__ totals) {
    // Odd rows: neither writing nor reading meets a bank twice.
    __shared__ float terms[8][32][2 * LANES + 1];
    u32 run = blockIdx.y, first = blockIdx.x * SLAB, end = min(n, first + SLAB);
    u32 warp = threadIdx.x / 32, half = threadIdx.x % 32 / LANES, lane = threadIdx.x % LANES;
    u32 whole = d / LANES * LANES, after = whole + lane;
    const float *factors = weights + (size_t)space[run] * d, *nearest = before;
    if (!first_step) nearest += ((size_t)run * many + best[run]) * n;
    trial += (size_t)run * many * n;
    drawn += run * many;
    // The pair that this lane adds up.
    u32 pair = threadIdx.x % 32, of_pair = pair / LANES * (TURN / 2) + pair % LANES / GROUP;
    for (u32 base = first + warp * TURN; base < end; base += 8 * TURN) {
        u32 point = base + of_pair;
        float so_far = first_step || point >= end ? __int_as_float(0x7f800000) : nearest[point];
        for (u32 group = 0; group < now; group += GROUP) {
            u32 here = min(GROUP, now - group);
            const float* to[GROUP];
#pragma unroll
            for (u32 c = 0; c < GROUP; c++) to[c] = values + (size_t)drawn[min(group + c, now - 1)] * d;
#pragma unroll 1
            for (u32 t = 0; t < TURN / 2; t++) {
                // Lanes behind the last point measure it again.
                const float* row = values + (size_t)min(base + half * (TURN / 2) + t, end - 1) * d;
                float mine[GROUP] = {}, left[GROUP] = {};
                for (u32 j = lane; j < whole; j += LANES) {
                    float x = row[j], weight = factors[j];
#pragma unroll
                    for (u32 c = 0; c < GROUP; c++) {
                        if (c >= here) break;
                        float difference = __fmul_rn(__fsub_rn(x, to[c][j]), weight);
                        mine[c] = __fadd_rn(mine[c], __fmul_rn(difference, difference));
                    }
                }
                // What is left over is fewer than the lanes.
                if (after < d) {
                    float x = row[after], weight = factors[after];
#pragma unroll
                    for (u32 c = 0; c < GROUP; c++) {
                        float difference = __fmul_rn(__fsub_rn(x, to[c][after]), weight);
                        left[c] = __fmul_rn(difference, difference);
                    }
                }
#pragma unroll
                for (u32 c = 0; c < GROUP; c++) {
                    float* place = terms[warp][half * LANES + t * GROUP + c];
                    place[lane] = mine[c];
                    place[LANES + lane] = left[c];
                }
            }
            __syncwarp();
            const float* place = terms[warp][pair];
            float sum = place[0], rest = 0;
#pragma unroll
            for (u32 other = 1; other < LANES; other++) sum = __fadd_rn(sum, place[other]);
            for (u32 other = 0; other < d - whole; other++) rest = __fadd_rn(rest, place[LANES + other]);
            u32 candidate = group + pair % GROUP;
            if (candidate < now && point < end) {
                trial[(size_t)candidate * n + point] = fminf(so_far, __fadd_rn(sum, rest));
            }
            __syncwarp();
        }
    }
    __syncthreads();
    // Every candidate's sum by a thread of another warp, while the distances are in the cache.
    for (u32 c = threadIdx.x / 32; c < now; c += 8) {
        if (threadIdx.x % 32 != 0) continue;
        const float* mine = trial + (size_t)c * n;
        double sum = 0;
        for (u32 i = first; i < end; i++) sum = __dadd_rn(sum, mine[i]);
        totals[((size_t)run * gridDim.x + blockIdx.x) * many + c] = sum;
    }
}

// The chosen points as centres `[runs][k][d]` in the weighted spaces.
extern "C" __global__ void __launch_bounds__(128)
    start(u32 d, u32 k, const u32* __restrict__ space, const float* __restrict__ values,
          const float* __restrict__ weights, const u32* __restrict__ chosen, double* __restrict__ centres) {
    size_t row = (size_t)blockIdx.y * k + blockIdx.x;
    const float *from = values + (size_t)chosen[row] * d, *factors = weights + (size_t)space[blockIdx.y] * d;
    for (u32 j = threadIdx.x; j < d; j += 128) centres[row * d + j] = __dmul_rn(from[j], factors[j]);
}
