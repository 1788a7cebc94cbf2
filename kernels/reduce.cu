// Sums over the middle of [outer, count, inner], in parts of fixed size that are added in a fixed order:
// short runs in single precision, what is left of them in double precision.

#include "types.cuh"

constexpr u32 THREADS = 256, MOST_THREADS = 512;

// Numbers that one thread adds in single precision at most.
constexpr u32 RUN = 32;

// One part of the rows of a slice, in the columns of tile `blockIdx.y`: `sums [outer][parts][inner]`. `across`
// neighbouring threads take neighbouring columns, `down` rows are looked at together, so that a block reads whole
// lines; a block takes `RUN` times that many rows.
extern "C" __global__ void __launch_bounds__(MOST_THREADS)
    sum_parts(u32 count, u32 inner, u32 parts, u32 across, u32 down, const float* __restrict__ x,
              float* __restrict__ out) {
    __shared__ double sums[MOST_THREADS];
    u32 row = threadIdx.x / across, column = blockIdx.y * across + threadIdx.x % across;
    u32 slice = blockIdx.x / parts, first = blockIdx.x % parts * down * RUN;
    bool exists = row < down && column < inner;
    float sum = 0;
    if (exists) {
        const float* from = x + (slice * count + first + row) * inner + column;
#pragma unroll 8
        for (u32 i = 0; i < RUN; i++) {
            if (first + row + i * down < count) sum += from[i * down * inner];
        }
    }
    // Rows are added two by two; threads beyond the last row add nothing.
    sums[threadIdx.x] = exists ? sum : 0;
    u32 half = 1;
    while (half < down) half *= 2;
    for (half /= 2; half > 0; half /= 2) {
        __syncthreads();
        if (row < half && row + half < down) sums[threadIdx.x] += sums[threadIdx.x + half * across];
    }
    if (row == 0 && exists) out[blockIdx.x * inner + column] = sums[threadIdx.x];
}

// Sums of short rows: `lanes` neighbouring threads, a power of two up to 32, add one.
extern "C" __global__ void __launch_bounds__(THREADS)
    sum_rows(u32 rows, u32 count, u32 lanes, const float* __restrict__ x, float* __restrict__ out) {
    u32 lane = threadIdx.x % lanes, row = blockIdx.x * (THREADS / lanes) + threadIdx.x / lanes;
    double sum = 0;
    if (row < rows) {
        for (u32 i = lane; i < count; i += lanes) sum += x[row * count + i];
    }
    for (u32 half = lanes / 2; half > 0; half /= 2) sum += __shfl_down_sync(~0u, sum, half, lanes);
    if (row < rows && lane == 0) out[row] = sum;
}
