// Operations within a row, for generated kernels that take a row through several of them: LANES neighbouring
// threads, a power of two up to 32, work on one, and all threads of a warp call together. A row that does not
// exist touches no memory.

#include "types.cuh"

template <u32 LANES>
__device__ __forceinline__ void log_softmax(bool exists, u32 lane, u32 columns, const float* x, float* out) {
    float greatest = exists ? x[0] : 0;
    for (u32 i = lane; exists && i < columns; i += LANES) {
        float v = x[i];
        greatest = v > greatest ? v : greatest;
    }
#pragma unroll
    for (u32 half = LANES / 2; half > 0; half /= 2) {
        float v = __shfl_xor_sync(~0u, greatest, half, LANES);
        greatest = v > greatest ? v : greatest;
    }
    // In f64: a row is short, and the sum decides the accuracy of everything behind it.
    double total = 0;
    for (u32 i = lane; exists && i < columns; i += LANES) total += exp((double)x[i] - (double)greatest);
#pragma unroll
    for (u32 half = LANES / 2; half > 0; half /= 2) total += __shfl_xor_sync(~0u, total, half, LANES);
    float shift = (double)greatest + log(total);
    for (u32 i = lane; exists && i < columns; i += LANES) out[i] = x[i] - shift;
}

template <u32 LANES>
__device__ __forceinline__ void sum(bool exists, u32 lane, u32 columns, const float* x, float* out) {
    double total = 0;
    for (u32 i = lane; exists && i < columns; i += LANES) total += x[i];
#pragma unroll
    for (u32 half = LANES / 2; half > 0; half /= 2) total += __shfl_down_sync(~0u, total, half, LANES);
    if (exists && lane == 0) *out = total;
}

// The element whose number `index` says. A number out of range reads not-a-number: data is checked where it
// enters, and a kernel must not touch foreign memory whatever happens.
__device__ __forceinline__ void pick(bool exists, u32 lane, u32 columns, const float* x, const u32* index,
                                     float* out) {
    if (exists && lane == 0) *out = *index < columns ? x[*index] : __int_as_float(0x7fffffff);
}

// A row of zeros but for that element.
template <u32 LANES>
__device__ __forceinline__ void place(bool exists, u32 lane, u32 columns, const float* g, const u32* index,
                                      float* out) {
    for (u32 i = lane; exists && i < columns; i += LANES) out[i] = i == *index ? *g : 0;
}
