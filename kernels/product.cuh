// The sum over terms: tiles go round in a ring, copies run ahead of arithmetic.

// Adds the steps `begin..end` of a sum, DEPTH terms each. A source has `fetch(step, tile)`, which starts the
// copy of a step into a tile, and `settle(tile)`, which finishes what could not be copied directly.
template <class Product, class First, class Second>
__device__ __forceinline__ void accumulate(Product& product, First& first, Second& second, int begin, int end) {
    extern __shared__ float4 shared[];
    constexpr int LEFT = First::Tile::SIZE, STAGE = LEFT + Second::Tile::SIZE;
    float* ring = (float*)shared;
#pragma unroll
    for (int i = 0; i < Product::ROWS; i++) {
#pragma unroll
        for (int j = 0; j < Product::COLUMNS; j++) product.sums[i][j] = 0;
    }
    for (int stage = 0; stage < STAGES - 1; stage++) {
        if (begin + stage < end) {
            float* tile = ring + stage * STAGE;
            first.fetch(begin + stage, tile);
            second.fetch(begin + stage, tile + LEFT);
            first.settle(tile);
            second.settle(tile + LEFT);
        }
        end_group();
    }
    int full = 0, empty = STAGES - 1;
#pragma unroll 1
    for (int step = begin; step < end; step++) {
        // After the barrier every thread's copies of this step are there, and every thread has finished with
        // the tiles of the step before: they are filled anew while this step is computed.
        wait_groups<STAGES - 2>();
        __syncthreads();
        float* tile = ring + empty * STAGE;
        bool more = step + STAGES - 1 < end;
        if (more) {
            first.fetch(step + STAGES - 1, tile);
            second.fetch(step + STAGES - 1, tile + LEFT);
        }
        end_group();
        product.add(ring + full * STAGE, ring + full * STAGE + LEFT);
        if (more) {
            first.settle(tile);
            second.settle(tile + LEFT);
        }
        full = full + 1 < STAGES ? full + 1 : 0;
        empty = empty + 1 < STAGES ? empty + 1 : 0;
    }
}

// The part of `steps` that this block adds: the grid's third dimension cuts a sum into parts.
__device__ __forceinline__ int part_begin(u32 steps) { return blockIdx.z * steps / gridDim.z; }
__device__ __forceinline__ int part_end(u32 steps) { return (blockIdx.z + 1) * steps / gridDim.z; }

// An operand that is a matrix, one for each source of the sum, `steps` steps from one to the next.
template <class Tile_, int WIDTH>
struct Matrix;

// Rows of terms: `[lines][terms]`.
template <int LINES, int WIDTH>
struct Matrix<AlongTerms<LINES>, WIDTH> {
    typedef AlongTerms<LINES> Tile;
    typedef Share<Tile, WIDTH> Mine;
    const float *first, *second;
    u32 line, lines, terms, steps;

    __device__ __forceinline__ void fetch(u32 step, float* tile) {
        const float* from = step < steps ? first : second;
        u32 term = (step < steps ? step : step - steps) * DEPTH + Mine::term();
#pragma unroll
        for (int i = 0; i < Mine::ITEMS; i++) {
            if (!Mine::has(i)) continue;
            u32 at = line + Mine::line(i);
            bool present = at < lines && term < terms;
            copy<WIDTH>(tile + Mine::place(i), from + (present ? at * terms + term : 0),
                        present);
        }
    }

    __device__ __forceinline__ void settle(float*) {}
};

// Rows of lines: `[terms][lines]`.
template <int LINES, int WIDTH>
struct Matrix<AlongLines<LINES>, WIDTH> {
    typedef AlongLines<LINES> Tile;
    typedef Share<Tile, WIDTH> Mine;
    const float *first, *second;
    u32 line, lines, terms, steps;

    __device__ __forceinline__ void fetch(u32 step, float* tile) {
        const float* from = step < steps ? first : second;
        u32 term = (step < steps ? step : step - steps) * DEPTH, at = line + Mine::line();
#pragma unroll
        for (int i = 0; i < Mine::ITEMS; i++) {
            if (!Mine::has(i)) continue;
            u32 row = term + Mine::term(i);
            bool present = at < lines && row < terms;
            copy<WIDTH>(tile + Mine::place(i), from + (present ? row * lines + at : 0),
                        present);
        }
    }

    __device__ __forceinline__ void settle(float*) {}
};
