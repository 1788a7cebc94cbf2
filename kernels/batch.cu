// A batch of images from the bytes of all of them: gathered by index, mirrored, without colours, on a canvas,
// as floating-point numbers. The value of each byte in each channel comes from a table that the host made, so
// that results are those of the host bit for bit.

#include "types.cuh"

// Sizes of an image and of the canvas, and where on it the image stands.
struct Canvas {
    u32 image_height, image_width, channels, height, width, above, left, count;
    float margin;
};

// Bits of a row's flags.
constexpr u32 MIRRORED = 1, GREY = 2;

// Luma of ITU-R BT.601, each product and sum rounded as on the host.
__device__ __forceinline__ u32 luma(const u8* pixel) {
    float sum = __fadd_rn(__fmul_rn(0.299f, (float)pixel[0]), __fmul_rn(0.587f, (float)pixel[1]));
    sum = __fadd_rn(sum, __fmul_rn(0.114f, (float)pixel[2]));
    return (u32)fminf(roundf(sum), 255.0f);
}

// `rows` are the numbers of the images, `flags` what is done to them. A thread writes one value; threads
// beyond the last one look at nothing.
extern "C" __global__ void batch(const __grid_constant__ Canvas c, const u8* __restrict__ bytes,
                                 const float* __restrict__ table, const u32* __restrict__ rows,
                                 const u32* __restrict__ flags, float* __restrict__ out) {
    u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= c.count) return;
    u32 channel = i % c.channels, pixel = i / c.channels;
    u32 x = pixel % c.width, line = pixel / c.width, y = line % c.height, place = line / c.height;
    x -= c.left;
    y -= c.above;
    float value = c.margin;
    if (x < c.image_width && y < c.image_height) {
        u32 what = flags[place];
        if (what & MIRRORED) x = c.image_width - 1 - x;
        size_t image = (size_t)rows[place] * (c.image_height * c.image_width * c.channels);
        const u8* from = bytes + image + (y * c.image_width + x) * c.channels;
        value = table[channel * 256 + (what & GREY ? luma(from) : from[channel])];
    }
    out[i] = value;
}
