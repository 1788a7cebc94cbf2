// Runs of VECTOR neighbours, read and written in one access of 16 bytes (values) or 4 bytes (positions).
//
// Compiled in:
//   VECTOR  1 or 4; 4 only where every run starts at a multiple of 4

#include "types.cuh"

struct Values {
    float at[VECTOR];
};

struct Positions {
    u8 at[VECTOR];
};

__device__ __forceinline__ Values get(const float* from) {
    Values v;
#if VECTOR == 4
    float4 four = *(const float4*)from;
    v.at[0] = four.x, v.at[1] = four.y, v.at[2] = four.z, v.at[3] = four.w;
#else
    v.at[0] = *from;
#endif
    return v;
}

__device__ __forceinline__ void put(float* to, const Values& v) {
#if VECTOR == 4
    *(float4*)to = make_float4(v.at[0], v.at[1], v.at[2], v.at[3]);
#else
    *to = v.at[0];
#endif
}

__device__ __forceinline__ Positions get(const u8* from) {
    Positions v;
#if VECTOR == 4
    u32 word = *(const u32*)from;
    v.at[0] = word, v.at[1] = word >> 8, v.at[2] = word >> 16, v.at[3] = word >> 24;
#else
    v.at[0] = *from;
#endif
    return v;
}

__device__ __forceinline__ void put(u8* to, const Positions& v) {
#if VECTOR == 4
    *(u32*)to = v.at[0] | v.at[1] << 8 | v.at[2] << 16 | (u32)v.at[3] << 24;
#else
    *to = v.at[0];
#endif
}
