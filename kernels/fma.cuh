// Products in single precision: a thread owns a patch of the result in registers.

#if PRECISION == 0

// Four terms of four lines of a tile, `to[term][line]`. Lines are `line + offset` and the next three at
// distances of STRIDE; see `AlongTerms::place` for the two parts.
template <int STRIDE, int LINES>
__device__ __forceinline__ void quad(AlongTerms<LINES>, const float* tile, int line, int offset, int group,
                                     float (&to)[4][4]) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float4 four = *(const float4*)(tile + AlongTerms<LINES>::place(line, offset + i * STRIDE, group));
        to[0][i] = four.x, to[1][i] = four.y, to[2][i] = four.z, to[3][i] = four.w;
    }
}

template <int STRIDE, int LINES>
__device__ __forceinline__ void quad(AlongLines<LINES>, const float* tile, int line, int offset, int group,
                                     float (&to)[4][4]) {
    static_assert(STRIDE == 1, "lines that are read together are neighbours");
#pragma unroll
    for (int term = 0; term < 4; term++) {
        float4 four = *(const float4*)(tile + AlongLines<LINES>::place(line + offset, group * 4 + term));
        to[term][0] = four.x, to[term][1] = four.y, to[term][2] = four.z, to[term][3] = four.w;
    }
}

// A warp's lanes stand in eight rows and four columns. Columns of a thread come in runs of four. So do its
// rows if `a` lies along its lines; else they are eight apart, which keeps the lanes on successive lines.
template <class A, class B>
struct Product {
    static constexpr int ROWS = TILE_M / WARPS_M / 8, COLUMNS = TILE_N / WARPS_N / 4, RUN = 4;
    static constexpr bool SPREAD = A::SPREAD;
    float sums[ROWS][COLUMNS];

    static __device__ __forceinline__ int first_row() {
        return threadIdx.x / 32 / WARPS_N * (8 * ROWS) + threadIdx.x % 32 / 4 * (SPREAD ? 1 : 4);
    }
    static __device__ __forceinline__ int first_column() {
        return threadIdx.x / 32 % WARPS_N * (4 * COLUMNS) + threadIdx.x % 4 * 4;
    }

    // Row and column in the block's tile.
    static __device__ __forceinline__ int row(int i) {
        return first_row() + (SPREAD ? 8 * i : (i & 3) + i / 4 * 32);
    }
    static __device__ __forceinline__ int column(int j) { return first_column() + (j & 3) + j / 4 * 16; }

    __device__ __forceinline__ void add(const float* a, const float* b) {
// Unrolled, the compiler would load far ahead, into more registers than there are.
#pragma unroll 1
        for (int group = 0; group < DEPTH / 4; group++) {
            float left[ROWS / 4][4][4];
#pragma unroll
            for (int i = 0; i < ROWS / 4; i++) {
                quad<SPREAD ? 8 : 1>(A(), a, first_row(), i * 32, group, left[i]);
            }
#pragma unroll
            for (int j = 0; j < COLUMNS / 4; j++) {
                float right[4][4];
                quad<1>(B(), b, first_column(), j * 16, group, right);
#pragma unroll
                for (int term = 0; term < 4; term++) {
#pragma unroll
                    for (int i = 0; i < ROWS; i++) {
#pragma unroll
                        for (int n = 0; n < 4; n++) {
                            float& sum = sums[i][j * 4 + n];
                            sum = fmaf(left[i / 4][term][i % 4], right[term][n], sum);
                        }
                    }
                }
            }
        }
    }
};

#endif
