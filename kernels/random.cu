// Philox 4x32-10, the stream of `random.rs`: a draw is a function of key, stream and position. A thread makes
// the four draws of one block.
//
// Compiled in:
//   NORMAL  0: uniform in [0, 1); 1: standard normal (Box and Muller), in double precision as on the host

#include "types.cuh"

__device__ __forceinline__ void philox(u32 (&c)[4], u32 key0, u32 key1) {
#pragma unroll
    for (u32 round = 0; round < 10; round++) {
        u32 a = c[0], b = c[2];
        c[0] = __umulhi(b, 0xCD9E8D57u) ^ c[1] ^ key0;
        c[2] = __umulhi(a, 0xD2511F53u) ^ c[3] ^ key1;
        c[1] = b * 0xCD9E8D57u;
        c[3] = a * 0xD2511F53u;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}

#if NORMAL
__device__ __forceinline__ double unit(u32 word) { return ((double)word + 0.5) / 4294967296.0; }
#endif

extern "C" __global__ void draw(u32 count, u32 stream, const u32* __restrict__ key, float* __restrict__ out) {
    u32 block = blockIdx.x * blockDim.x + threadIdx.x, first = block * 4;
    if (first >= count) return;
    u32 words[4] = {block, key[3], stream, key[2]};
    philox(words, key[0], key[1]);
    float draws[4];
#if NORMAL
#pragma unroll
    for (u32 pair = 0; pair < 4; pair += 2) {
        double radius = sqrt(-2.0 * log(unit(words[pair]))), sine, cosine;
        // Of a multiple of pi: exact where it matters, and without the slow path for large angles.
        sincospi(2.0 * unit(words[pair + 1]), &sine, &cosine);
        draws[pair] = radius * cosine;
        draws[pair + 1] = radius * sine;
    }
#else
#pragma unroll
    for (u32 i = 0; i < 4; i++) draws[i] = (words[i] >> 8) * (1.0f / 16777216.0f);
#endif
    if (first + 4 <= count) {
        *(float4*)(out + first) = make_float4(draws[0], draws[1], draws[2], draws[3]);
    } else {
        for (u32 i = 0; first + i < count; i++) out[first + i] = draws[i];
    }
}
