// The second launch of a sum in parts: adds the parts in a fixed order, then finishes as the first launch
// would have done.

#include "epilogue.cuh"

// A warp adds a run of the parts for 32 results; the first warp adds the runs in their order.
constexpr int LANES = 32, RUNS = 8;

// `parts [count][pixels][rows / pixels][columns]`; with pooling, four pixels are a window.
extern "C" __global__ void __launch_bounds__(LANES* RUNS)
    finish_parts(u32 rows, u32 columns, u32 count, Stages stages, const float* __restrict__ parts,
                 const u8* __restrict__ given, const float* __restrict__ bias, const float* __restrict__ mask,
                 float* __restrict__ result, u8* __restrict__ found) {
    __shared__ float sums[4][RUNS][LANES];
    u32 pixels = stages.pool == POOL_NONE ? 1 : 4, lane = threadIdx.x % LANES, run = threadIdx.x / LANES;
    u32 plane = part_plane(rows, columns, pixels);
    u32 index = blockIdx.x * LANES + lane, row = index / columns, column = index % columns;
    bool exists = row < rows / pixels;
    for (u32 pixel = 0; pixel < pixels; pixel++) {
        const float* from = parts + pixel * plane + index;
        float sum = 0;
        if (exists) {
#pragma unroll 4
            for (u32 part = run * count / RUNS; part < (run + 1) * count / RUNS; part++) {
                sum += from[(size_t)part * pixels * plane];
            }
        }
        sums[pixel][run][lane] = sum;
    }
    __syncthreads();
    if (run > 0 || !exists) return;
    float totals[4][1] = {};
    for (u32 pixel = 0; pixel < pixels; pixel++) {
#pragma unroll
        for (u32 other = 0; other < RUNS; other++) totals[pixel][0] += sums[pixel][other][lane];
    }
    Places places = {given, bias, mask, result, found};
    if (stages.pool == POOL_NONE) {
        finish(stages, places, row, column, columns, totals[0]);
    } else {
        pool(stages, places, row, column, columns, totals);
    }
}
