// Where rows are largest: a block takes a row.

#include "types.cuh"

constexpr u32 THREADS = 256;

// Of equal numbers the first counts; what is not a number is larger than nothing.
extern "C" __global__ void __launch_bounds__(THREADS)
    argmax(u32 columns, const float* __restrict__ x, u32* __restrict__ out) {
    __shared__ float values[THREADS];
    __shared__ u32 places[THREADS];
    const float* row = x + blockIdx.x * columns;
    float best = row[0];
    u32 place = 0;
    for (u32 i = threadIdx.x; i < columns; i += THREADS) {
        float value = row[i];
        if (value > best) {
            best = value;
            place = i;
        }
    }
    values[threadIdx.x] = best;
    places[threadIdx.x] = place;
    for (u32 half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) {
            float other = values[threadIdx.x + half];
            u32 at = places[threadIdx.x + half];
            if (other > best || (other == best && at < place)) {
                values[threadIdx.x] = best = other;
                places[threadIdx.x] = place = at;
            }
        }
    }
    if (threadIdx.x == 0) out[blockIdx.x] = place;
}
