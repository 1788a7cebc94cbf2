// Convolution and its two transposes, of one source or of the sum of two.
//
// Compiled in, beside what `tile.cuh` names:
//   DIRECTION         0: forward, 1: input gradient, 2: weight gradient
//   WIDTH_A, WIDTH_B  elements that are copied at once: 4 if channels are whole multiples of it, else 1
//   UNPOOL            1: gradients may come as pooled values and positions

#include "tile.cuh"
#include "divide.cuh"
#include "fma.cuh"
#include "mma.cuh"
#include "product.cuh"
#include "epilogue.cuh"
#include "store.cuh"
#include "images.cuh"

// `a` are images, or gradients that positions may belong to; `b` are filters, or images for the weight
// gradient.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    convolution(const __grid_constant__ Geometry g, const float* __restrict__ a0, const u8* __restrict__ positions0,
                const float* __restrict__ b0, const float* __restrict__ a1, const u8* __restrict__ positions1,
                const float* __restrict__ b1, const u8* __restrict__ given, const float* __restrict__ bias,
                const float* __restrict__ mask, float* __restrict__ result, u8* __restrict__ found,
                float* __restrict__ parts) {
    u32 across = (g.columns + TILE_N - 1) / TILE_N;
    u32 top = blockIdx.x / across * TILE_M, left = blockIdx.x % across * TILE_N;
#if DIRECTION == 0
    Patches<TILE_M, WIDTH_A, false, false> rows = {g, a0, a1, 0, 0};
    rows.locate(top);
    Matrix<AlongTerms<TILE_N>, WIDTH_B> columns = {b0, b1, left, g.columns, g.terms, g.steps};
#elif DIRECTION == 1
    Patches<TILE_M, WIDTH_A, true, UNPOOL> rows = {g, a0, a1, positions0, positions1};
    rows.locate(top);
    Filters<TILE_N, WIDTH_B> columns = {g, b0, b1, left};
#else
#if UNPOOL
    Upstream<TILE_M, WIDTH_A> rows = {g, a0, a1, positions0, positions1, top};
#else
    Matrix<AlongLines<TILE_M>, WIDTH_A> rows = {a0, a1, top, g.filters, g.terms, g.steps};
#endif
    Windows<TILE_N, WIDTH_B> columns = {g, b0, b1};
    columns.locate(left);
#endif
    Product<decltype(rows)::Tile, decltype(columns)::Tile> product;
    u32 steps = g.steps * g.sources;
    accumulate(product, rows, columns, part_begin(steps), part_end(steps));
    store<DIRECTION == 0>(product, top, left, g.rows, g.columns, g.stages, Places{given, bias, mask, result, found},
                          parts);
}
