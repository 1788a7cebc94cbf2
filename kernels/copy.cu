// Copies of bytes.

#include "types.cuh"

// A thread copies 16 bytes; both sides start at a multiple of 16.
extern "C" __global__ void copy(u32 bytes, const u8* __restrict__ from, u8* __restrict__ to) {
    u32 first = (blockIdx.x * blockDim.x + threadIdx.x) * 16;
    if (first >= bytes) return;
    if (first + 16 <= bytes) {
        *(uint4*)(to + first) = *(const uint4*)(from + first);
    } else {
        for (u32 i = first; i < bytes; i++) to[i] = from[i];
    }
}

// A run of words of the parameter block and where it goes.
struct Delivery {
    u32* to;
    u32 first, words;
};

// Brings small values from the parameter block to their buffers: block `blockIdx.x` delivers run number
// `blockIdx.x`. The runs stand at the beginning of the parameter block.
extern "C" __global__ void deliver(const u32* __restrict__ parameters) {
    Delivery run = ((const Delivery*)parameters)[blockIdx.x];
    for (u32 i = threadIdx.x; i < run.words; i += blockDim.x) run.to[i] = parameters[run.first + i];
}
