// Log-softmax of rows: `lanes` neighbouring threads, a power of two up to 32, take one.

#include "types.cuh"

constexpr u32 THREADS = 128;

extern "C" __global__ void __launch_bounds__(THREADS)
    log_softmax(u32 rows, u32 columns, u32 lanes, const float* __restrict__ x, float* __restrict__ out) {
    u32 lane = threadIdx.x % lanes, row = blockIdx.x * (THREADS / lanes) + threadIdx.x / lanes;
    bool exists = row < rows;
    u32 first = exists ? row * columns : 0;
    // Less than any number.
    float greatest = __int_as_float(0xff800000);
    for (u32 i = lane; exists && i < columns; i += lanes) {
        float v = x[first + i];
        greatest = v > greatest ? v : greatest;
    }
    for (u32 half = lanes / 2; half > 0; half /= 2) {
        float v = __shfl_xor_sync(~0u, greatest, half, lanes);
        greatest = v > greatest ? v : greatest;
    }
    // In f64: a row is short, and the sum decides the accuracy of everything behind it.
    double total = 0;
    for (u32 i = lane; exists && i < columns; i += lanes) total += exp((double)x[first + i] - (double)greatest);
    for (u32 half = lanes / 2; half > 0; half /= 2) total += __shfl_xor_sync(~0u, total, half, lanes);
    float shift = (double)greatest + log(total);
    for (u32 i = lane; exists && i < columns; i += lanes) out[first + i] = x[first + i] - shift;
}
