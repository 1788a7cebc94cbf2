// Products on tensor cores. Operands are rounded to TF32 or BF16 on their way from shared memory to the
// registers; sums are in single precision.

#if PRECISION != 0

// Four 8 x 4 pieces of a tile, a piece's line in the address of each lane: lane l receives element l % 4 of
// line l / 4 of each. (For the instruction, pieces are 8 x 8 of two bytes.)
__device__ __forceinline__ void load_pieces(u32 address, float (&to)[4]) {
    u32 raw[4];
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(raw[0]), "=r"(raw[1]), "=r"(raw[2]), "=r"(raw[3])
                 : "r"(address)
                 : "memory");
#pragma unroll
    for (int i = 0; i < 4; i++) to[i] = __uint_as_float(raw[i]);
}

// Eight terms of sixteen lines: [lines 0..8, terms 0..4], [lines 8.., terms 0..], [lines 0.., terms 4..],
// [lines 8.., terms 4..]. The line is in two parts, see `AlongTerms::place`.
template <int LINES>
__device__ __forceinline__ void fragment(AlongTerms<LINES>, const float* tile, int line, int offset, int term,
                                         float (&to)[4]) {
    int lane = threadIdx.x % 32, mine = line + lane % 16;
    int group = lane / 16;
    int place = (mine + offset) * DEPTH;
    place += (AlongTerms<LINES>::swizzle(mine) ^ group ^ AlongTerms<LINES>::swizzle(offset) ^ term / 4) * 4;
    load_pieces((u32)__cvta_generic_to_shared(tile) + place * 4, to);
}

template <int LINES>
__device__ __forceinline__ void fragment(AlongLines<LINES>, const float* tile, int line, int offset, int term,
                                         float (&to)[4]) {
    typedef AlongLines<LINES> Tile;
    int lane = threadIdx.x % 32;
    const float* from = tile + Tile::place(line + lane / 4, lane % 4) + Tile::place(offset, term);
    to[0] = from[0], to[1] = from[8];
    to[2] = from[4 * Tile::PITCH], to[3] = from[4 * Tile::PITCH + 8];
}

__device__ __forceinline__ u32 to_tf32(float value) {
    u32 rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(value));
    return rounded;
}

__device__ __forceinline__ u32 to_bf16(float low, float high) {
    u32 pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

// Operands of one instruction for sixteen lines of `a` or of `b`. Which term stands where inside a step
// does not matter as long as both operands agree, so BF16 pairs terms four apart: those that a lane has.
#if PRECISION == 1
constexpr int TERMS = 8;

template <class Tile>
__device__ __forceinline__ void operand(const float* tile, int line, int offset, int term, u32 (&to)[4]) {
    float raw[4];
    fragment(Tile(), tile, line, offset, term, raw);
#pragma unroll
    for (int i = 0; i < 4; i++) to[i] = to_tf32(raw[i]);
}

__device__ __forceinline__ void multiply(float& c0, float& c1, float& c2, float& c3, const u32 (&a)[4], u32 b0,
                                         u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c0), "+f"(c1), "+f"(c2), "+f"(c3)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#else
constexpr int TERMS = 16;

template <class Tile>
__device__ __forceinline__ void operand(const float* tile, int line, int offset, int term, u32 (&to)[4]) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float raw[4];
        fragment(Tile(), tile, line, offset, term + half * 8, raw);
        to[half * 2] = to_bf16(raw[0], raw[2]);
        to[half * 2 + 1] = to_bf16(raw[1], raw[3]);
    }
}

__device__ __forceinline__ void multiply(float& c0, float& c1, float& c2, float& c3, const u32 (&a)[4], u32 b0,
                                         u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c0), "+f"(c1), "+f"(c2), "+f"(c3)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif

// A lane owns rows eight apart and pairs of columns, as the instruction has it.
template <class A, class B>
struct Product {
    static constexpr int ROWS = TILE_M / WARPS_M / 8, COLUMNS = TILE_N / WARPS_N / 4, RUN = 2;
    float sums[ROWS][COLUMNS];

    static __device__ __forceinline__ int warp_row() { return threadIdx.x / 32 / WARPS_N * (8 * ROWS); }
    static __device__ __forceinline__ int warp_column() { return threadIdx.x / 32 % WARPS_N * (4 * COLUMNS); }

    // Row and column in the block's tile.
    static __device__ __forceinline__ int row(int i) { return warp_row() + threadIdx.x % 32 / 4 + 8 * i; }
    static __device__ __forceinline__ int column(int j) {
        return warp_column() + threadIdx.x % 4 * 2 + (j & 1) + j / 2 * 8;
    }

    __device__ __forceinline__ void add(const float* a, const float* b) {
// Unrolled, operands of two steps would need more registers than there are.
#pragma unroll 1
        for (int term = 0; term < DEPTH; term += TERMS) {
            u32 left[ROWS / 2][4];
#pragma unroll
            for (int i = 0; i < ROWS / 2; i++) operand<A>(a, warp_row(), i * 16, term, left[i]);
#pragma unroll
            for (int j = 0; j < COLUMNS / 4; j++) {
                // Sixteen columns: the first instruction takes the even registers, the second the odd ones.
                u32 right[4];
                operand<B>(b, warp_column(), j * 16, term, right);
#pragma unroll
                for (int i = 0; i < ROWS / 2; i++) {
#pragma unroll
                    for (int half = 0; half < 2; half++) {
                        int n = j * 4 + half * 2;
                        multiply(sums[2 * i][n], sums[2 * i][n + 1], sums[2 * i + 1][n], sums[2 * i + 1][n + 1],
                                 left[i], right[half], right[half + 2]);
                    }
                }
            }
        }
    }
};

#endif
