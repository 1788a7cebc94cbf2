// What happens to a sum before it is written: 2 x 2 max-pooling, bias, activation or mask.

#include "types.cuh"

enum { POOL_NONE, POOL_MAX, POOL_GATHER };
enum { IDENTITY, RELU, LEAKY_RELU, MASK };

struct Stages {
    u32 pool, activation;
    float slope;
};

// A part of a sum in memory: one plane of results, or four if those are pixels of pooling windows, one for each
// place in a window. Planes begin at whole sectors.
__device__ __forceinline__ u32 part_plane(u32 rows, u32 columns, u32 pixels) {
    return (rows / pixels * columns + 7) & ~7u;
}

// Memory that the stages touch; null where there is no such stage.
struct Places {
    const u8* given;
    const float *bias, *mask;
    float* result;
    u8* found;
};

// Greatest of four, the first of equals; not a number wins, so that it is seen.
__device__ __forceinline__ float greatest(const float (&four)[4], u32& position) {
    float value = four[0];
    position = 0;
#pragma unroll
    for (u32 i = 1; i < 4; i++) {
        bool wins = four[i] > value || four[i] != four[i];
        value = wins ? four[i] : value;
        position = wins ? i : position;
    }
    return value;
}

__device__ __forceinline__ float activate(const Stages& stages, float value, float mask) {
    switch (stages.activation) {
        case RELU: return value > 0 ? value : 0;
        case LEAKY_RELU: return value > 0 ? value : value * stages.slope;
        case MASK: return mask > 0 ? value : value * stages.slope;
        default: return value;
    }
}

// Writes COUNT neighbours, in one access if `whole`, else the `left` that exist.
template <int COUNT>
__device__ __forceinline__ void put(float* to, const float (&values)[COUNT], bool whole, int left) {
    if (whole && COUNT == 4) {
        *(float4*)to = make_float4(values[0], values[1], values[2], values[COUNT - 1]);
    } else if (whole && COUNT == 2) {
        *(float2*)to = make_float2(values[0], values[COUNT - 1]);
    } else {
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            if (i < left) to[i] = values[i];
        }
    }
}

// The same for reading; zeros where there is nothing.
template <int COUNT>
__device__ __forceinline__ void get(const float* from, float (&values)[COUNT], bool whole, int left) {
    if (whole && COUNT == 4) {
        float4 four = *(const float4*)from;
        values[0] = four.x, values[1] = four.y, values[COUNT - 2] = four.z, values[COUNT - 1] = four.w;
    } else if (whole && COUNT == 2) {
        float2 two = *(const float2*)from;
        values[0] = two.x, values[COUNT - 1] = two.y;
    } else {
#pragma unroll
        for (int i = 0; i < COUNT; i++) values[i] = i < left ? from[i] : 0;
    }
}

// Bias, activation and writing of COUNT neighbouring results of row `row`, from column `column` on.
template <int COUNT>
__device__ __forceinline__ void finish(const Stages& stages, const Places& places, u32 row, u32 column, u32 columns,
                                       float (&values)[COUNT]) {
    bool whole = columns % COUNT == 0;
    int left = columns - column;
    u32 at = row * columns + column;
    if (places.bias) {
        float bias[COUNT];
        get(places.bias + column, bias, whole, left);
#pragma unroll
        for (int i = 0; i < COUNT; i++) values[i] += bias[i];
    }
    float mask[COUNT] = {};
    if (stages.activation == MASK) get(places.mask + at, mask, whole, left);
#pragma unroll
    for (int i = 0; i < COUNT; i++) values[i] = activate(stages, values[i], mask[i]);
    put(places.result + at, values, whole, left);
}

// Pooling of COUNT windows that are neighbours in the columns, `four[pixel][column]`, then `finish`.
template <int COUNT>
__device__ __forceinline__ void pool(const Stages& stages, const Places& places, u32 window, u32 column, u32 columns,
                                     const float (&four)[4][COUNT]) {
    bool whole = columns % COUNT == 0;
    int left = columns - column;
    u32 at = window * columns + column;
    float values[COUNT];
    u32 positions[COUNT];
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        float pixels[4] = {four[0][i], four[1][i], four[2][i], four[3][i]};
        if (stages.pool == POOL_MAX) {
            values[i] = greatest(pixels, positions[i]);
        } else {
            u32 given = i < left ? places.given[at + i] : 0;
            float low = given & 1 ? pixels[1] : pixels[0], high = given & 1 ? pixels[3] : pixels[2];
            values[i] = given & 2 ? high : low;
        }
    }
    if (stages.pool == POOL_MAX) {
        if (whole && COUNT == 4) {
            u32 low = positions[0] | positions[1] << 8, high = positions[COUNT - 2] | positions[COUNT - 1] << 8;
            *(u32*)(places.found + at) = low | high << 16;
        } else if (whole && COUNT == 2) {
            *(u16*)(places.found + at) = positions[0] | positions[COUNT - 1] << 8;
        } else {
#pragma unroll
            for (int i = 0; i < COUNT; i++) {
                if (i < left) places.found[at + i] = positions[i];
            }
        }
    }
    finish(stages, places, window, column, columns, values);
}
