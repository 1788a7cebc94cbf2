// Pooling over windows of WINDOW x WINDOW pixels, one thread for VECTOR channels of a result.
//
// Compiled in, beside VECTOR:
//   WINDOW  height and width of a window

#include "vector.cuh"

// Of the tensor before pooling: height, width and channels, and the number of threads that have work.
struct Large {
    u32 height, width, channels, runs;
};

// Where the first element of a window is, for the run of channels number `run` of the pooled tensor.
__device__ __forceinline__ u32 window(const Large& g, u32 run) {
    u32 across = g.channels / VECTOR, channel = run % across * VECTOR, pixel = run / across;
    u32 width = g.width / WINDOW, height = g.height / WINDOW;
    u32 x = pixel % width, row = pixel / width, y = row % height, image = row / height;
    return ((image * g.height + y * WINDOW) * g.width + x * WINDOW) * g.channels + channel;
}

// Distance of a position from the first element of its window.
__device__ __forceinline__ u32 within(const Large& g, u32 position) {
    return (position / WINDOW * g.width + position % WINDOW) * g.channels;
}

#define RUN(g)                                       \
    u32 run = blockIdx.x * blockDim.x + threadIdx.x; \
    if (run >= (g).runs) return

extern "C" __global__ void pool_argmax(const __grid_constant__ Large g, const float* __restrict__ x,
                                       u8* __restrict__ out) {
    RUN(g);
    const float* from = x + window(g, run);
    Values best = get(from);
    Positions found = {};
#pragma unroll
    for (u32 p = 1; p < WINDOW * WINDOW; p++) {
        Values v = get(from + within(g, p));
#pragma unroll
        for (u32 i = 0; i < VECTOR; i++) {
            // Not a number wins, as in every framework, so that it is seen.
            if (v.at[i] > best.at[i] || v.at[i] != v.at[i]) {
                best.at[i] = v.at[i];
                found.at[i] = p;
            }
        }
    }
    put(out + run * VECTOR, found);
}

extern "C" __global__ void pool_gather(const __grid_constant__ Large g, const float* __restrict__ x,
                                       const u8* __restrict__ positions, float* __restrict__ out) {
    RUN(g);
    const float* from = x + window(g, run);
    Positions at = get(positions + run * VECTOR);
    Values v = {};
    // All pixels: neighbouring channels have other positions, so their sectors are read in any case.
#pragma unroll
    for (u32 p = 0; p < WINDOW * WINDOW; p++) {
        Values pixel = get(from + within(g, p));
#pragma unroll
        for (u32 i = 0; i < VECTOR; i++) v.at[i] = at.at[i] == p ? pixel.at[i] : v.at[i];
    }
    put(out + run * VECTOR, v);
}

extern "C" __global__ void pool_sum(const __grid_constant__ Large g, const float* __restrict__ x,
                                    float* __restrict__ out) {
    RUN(g);
    const float* from = x + window(g, run);
    Values sum = get(from);
#pragma unroll
    for (u32 p = 1; p < WINDOW * WINDOW; p++) {
        Values v = get(from + within(g, p));
#pragma unroll
        for (u32 i = 0; i < VECTOR; i++) sum.at[i] += v.at[i];
    }
    put(out + run * VECTOR, sum);
}

// For a run of the large tensor: its run of the pooled one, and its position in the window. False in the
// margin that no window covers.
__device__ __forceinline__ bool source(const Large& g, u32 run, u32& pooled, u32& position) {
    u32 across = g.channels / VECTOR, channel = run % across, pixel = run / across;
    u32 x = pixel % g.width, row = pixel / g.width, y = row % g.height, image = row / g.height;
    u32 width = g.width / WINDOW, height = g.height / WINDOW;
    pooled = ((image * height + y / WINDOW) * width + x / WINDOW) * across + channel;
    position = y % WINDOW * WINDOW + x % WINDOW;
    return y / WINDOW < height && x / WINDOW < width;
}

extern "C" __global__ void pool_scatter(const __grid_constant__ Large g, const float* __restrict__ p,
                                        const u8* __restrict__ positions, float* __restrict__ out) {
    RUN(g);
    u32 pooled, position;
    Values v = {};
    if (source(g, run, pooled, position)) {
        Positions at = get(positions + pooled * VECTOR);
        Values from = get(p + pooled * VECTOR);
#pragma unroll
        for (u32 i = 0; i < VECTOR; i++) v.at[i] = at.at[i] == position ? from.at[i] : 0;
    }
    put(out + run * VECTOR, v);
}

extern "C" __global__ void pool_upsample(const __grid_constant__ Large g, const float* __restrict__ p,
                                         float* __restrict__ out) {
    RUN(g);
    u32 pooled, position;
    Values v = {};
    if (source(g, run, pooled, position)) v = get(p + pooled * VECTOR);
    put(out + run * VECTOR, v);
}
