// Matrix products `c [m, n] = a b`, each factor as it lies in memory or transposed.
//
// Compiled in, beside what `tile.cuh` names:
//   TRANSPOSE_A, TRANSPOSE_B  0: a is [m, k], b is [k, n]; 1: a is [k, m], b is [n, k]
//   WIDTH_A, WIDTH_B          elements that are copied at once: 4 if rows are whole multiples of it, else 1

#include "tile.cuh"
#include "fma.cuh"
#include "mma.cuh"
#include "product.cuh"
#include "epilogue.cuh"
#include "store.cuh"

#if TRANSPOSE_A
typedef AlongLines<TILE_M> TileA;
#else
typedef AlongTerms<TILE_M> TileA;
#endif

#if TRANSPOSE_B
typedef AlongTerms<TILE_N> TileB;
#else
typedef AlongLines<TILE_N> TileB;
#endif

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    gemm(u32 m, u32 n, u32 k, const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c,
         float* __restrict__ parts) {
    u32 across = (n + TILE_N - 1) / TILE_N, steps = (k + DEPTH - 1) / DEPTH;
    u32 top = blockIdx.x / across * TILE_M, left = blockIdx.x % across * TILE_N;
    Matrix<TileA, WIDTH_A> rows = {a, a, top, m, k, steps};
    Matrix<TileB, WIDTH_B> columns = {b, b, left, n, k, steps};
    Product<TileA, TileB> product;
    accumulate(product, rows, columns, part_begin(steps), part_end(steps));
    store<false>(product, top, left, m, n, Stages{POOL_NONE, IDENTITY, 0}, Places{0, 0, 0, c, 0}, parts);
}
