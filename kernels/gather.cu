// Reading by index, and its transposes, adding by index. An index out of range reads not-a-number and adds
// nothing: data is checked where it enters, and a kernel must not touch foreign memory whatever happens.

#include "types.cuh"

#define ELEMENT(count)                             \
    u32 i = blockIdx.x * blockDim.x + threadIdx.x; \
    if (i >= (count)) return

__device__ __forceinline__ float not_a_number() { return __int_as_float(0x7fffffff); }

extern "C" __global__ void gather_rows(u32 rows, u32 columns, u32 picks, const float* __restrict__ x,
                                       const u32* __restrict__ index, float* __restrict__ out) {
    ELEMENT(picks * columns);
    u32 row = index[i / columns];
    out[i] = row < rows ? x[row * columns + i % columns] : not_a_number();
}

// Each row adds its sources in the order of their numbers.
extern "C" __global__ void scatter_rows(u32 rows, u32 columns, u32 picks, const float* __restrict__ g,
                                        const u32* __restrict__ index, float* __restrict__ out) {
    ELEMENT(rows * columns);
    u32 row = i / columns, column = i % columns;
    float sum = 0;
    for (u32 n = 0; n < picks; n++) {
        if (index[n] == row) sum += g[n * columns + column];
    }
    out[i] = sum;
}
