// The way of a block's sums to memory.

// Row of the pooling order that stands in row `row` of a tile. The order is window by window, four pixels
// each; a thread's rows are eight apart, so that it owns whole windows.
__device__ __forceinline__ u32 window_order(u32 row) { return (row & ~31u) | (row & 7) << 2 | (row >> 3 & 3); }

// Writes the sums of the tile at (`top`, `left`): as they are into this block's part of the sum, if there is
// more than one part, else finished. POOLED says that rows may be in pooling order.
template <bool POOLED, class Product>
__device__ __forceinline__ void store(const Product& product, u32 top, u32 left, u32 rows, u32 columns,
                                      const Stages& stages, const Places& places, float* parts) {
    constexpr int RUN = Product::RUN;
    bool windows = POOLED && stages.pool != POOL_NONE, whole = columns % RUN == 0, split = gridDim.z > 1;
    u32 pixels = windows ? 4 : 1, plane = part_plane(rows, columns, pixels);
    float* part = parts + (size_t)blockIdx.z * pixels * plane;
#pragma unroll
    for (int j = 0; j < Product::COLUMNS; j += RUN) {
        u32 column = left + product.column(j);
        if (column >= columns) continue;
        if (windows && !split) {
#pragma unroll
            for (int i = 0; i < Product::ROWS / 4; i++) {
                u32 row = top + window_order(product.row(i * 4));
                if (row >= rows) continue;
                float four[4][RUN];
#pragma unroll
                for (int n = 0; n < 4 * RUN; n++) four[n / RUN][n % RUN] = product.sums[i * 4 + n / RUN][j + n % RUN];
                pool(stages, places, row / 4, column, columns, four);
            }
            continue;
        }
#pragma unroll
        for (int i = 0; i < Product::ROWS; i++) {
            u32 row = product.row(i);
            row = top + (windows ? window_order(row) : row);
            if (row >= rows) continue;
            float values[RUN];
#pragma unroll
            for (int n = 0; n < RUN; n++) values[n] = product.sums[i][j + n];
            if (split) {
                u32 at = (windows ? row % 4 * plane + row / 4 * columns : row * columns) + column;
                put(part + at, values, whole, columns - column);
            } else {
                finish(stages, places, row, column, columns, values);
            }
        }
    }
}
