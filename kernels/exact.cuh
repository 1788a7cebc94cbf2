// Distances that decide: in double precision, added in the CPU's order and never contracted, so that both
// devices get the same bits.

// Points of one task of a sum of distances.
constexpr u32 SLAB = 1024;

// Lanes that share a distance; the CPU adds in as many sums.
constexpr u32 LANES = 8;

constexpr u32 ALL = 0xffffffff;

// `sum of (weight x - centre)^2` by groups of LANES lanes of a warp, all of which must call it; every lane
// of a group gets the sum.
__device__ __forceinline__ double squared_distance(const float* x, const double* centre, const float* weights,
                                                   u32 d) {
    u32 lane = threadIdx.x % LANES, whole = d / LANES * LANES;
    double mine = 0;
    for (u32 j = lane; j < whole; j += LANES) {
        double difference = __dsub_rn(__dmul_rn(x[j], weights[j]), centre[j]);
        mine = __dadd_rn(mine, __dmul_rn(difference, difference));
    }
    double sum = __shfl_sync(ALL, mine, 0, LANES);
#pragma unroll
    for (u32 other = 1; other < LANES; other++) sum = __dadd_rn(sum, __shfl_sync(ALL, mine, other, LANES));
    // What is left over is fewer than the lanes: each squares one, and all add.
    double left = 0, rest = 0;
    if (whole + lane < d) {
        double difference = __dsub_rn(__dmul_rn(x[whole + lane], weights[whole + lane]), centre[whole + lane]);
        left = __dmul_rn(difference, difference);
    }
    for (u32 other = 0; other < d - whole; other++) {
        rest = __dadd_rn(rest, __shfl_sync(ALL, left, other, LANES));
    }
    return __dadd_rn(sum, rest);
}
