// Tiles of operands in shared memory: how they are laid out, and how they get there.
//
// A product is `result[row][column] = sum over terms of a[row][term] * b[column][term]`. The rows of `a` and
// the columns of `b` are an operand's *lines*; memory may hold an operand along its terms or along its lines.
// Tiles keep the operand's own order and hold single precision, whatever the arithmetic, so that a copy is
// a copy: asynchronous, sixteen bytes at a time where the operand's rows allow it.
//
// Compiled in:
//   PRECISION         0: single precision, 1: TF32, 2: BF16
//   TILE_M, TILE_N    rows and columns of the result that a block computes
//   WARPS_M, WARPS_N  warps along them
//   DEPTH             terms that a tile holds
//   STAGES            tiles of each operand in flight

#include "types.cuh"

constexpr int THREADS = 32 * WARPS_M * WARPS_N;

// Blocks that the registers of a multiprocessor must have room for: tall tiles get 168 a thread, others 128.
constexpr int BLOCKS = THREADS == 256 ? 2 : TILE_M == 128 ? 3 : 512 / THREADS;

// The terms of a line are neighbours. Groups of four terms are permuted by an exclusive or with bits of the
// line, so that eight successive lines, and four lines at distances of four, lie in different banks.
template <int LINES_>
struct AlongTerms {
    static constexpr int LINES = LINES_, SIZE = LINES * DEPTH;
    // Do a thread's lines lie apart, with those of its neighbours in between?
    static constexpr bool SPREAD = true;

    // Linear in the bits of the line: swizzle(x | y) = swizzle(x) ^ swizzle(y) for disjoint x and y.
    static __device__ __forceinline__ constexpr int swizzle(int line) {
        return DEPTH == 32 ? (line ^ line >> 3) & 7 : (line >> 1 ^ line >> 3) & 3;
    }

    // Place of a group of four terms. The line is in two parts of disjoint bits: one changes with the thread,
    // one is known to the compiler, which then needs few registers for many places.
    static __device__ __forceinline__ int place(int line, int offset, int group) {
        return (line + offset) * DEPTH + ((swizzle(line) ^ swizzle(offset) ^ group) << 2);
    }
};

// The lines of a term are neighbours. Eight more elements from term to term put the four terms and eight
// lines that a warp reads for a tensor core in different banks.
template <int LINES_>
struct AlongLines {
    static constexpr int LINES = LINES_, PITCH = LINES + 8, SIZE = DEPTH * PITCH;
    static constexpr bool SPREAD = false;

    static __device__ __forceinline__ int place(int line, int term) { return term * PITCH + line; }
};

// How the threads of a block share the copying of a tile, WIDTH neighbouring elements at a time. Along terms, a
// thread has one place among the terms and several lines; along lines, one place among the lines and
// several terms.
template <class Tile, int WIDTH_>
struct Share;

template <int LINES, int WIDTH_>
struct Share<AlongTerms<LINES>, WIDTH_> {
    typedef AlongTerms<LINES> Tile;
    static constexpr int WIDTH = WIDTH_, RUNS = DEPTH / WIDTH, STEP = THREADS / RUNS;
    static constexpr int ITEMS = (LINES + STEP - 1) / STEP;
    static constexpr bool EVEN = LINES % STEP == 0;

    static __device__ __forceinline__ int term() { return threadIdx.x % RUNS * WIDTH; }
    static __device__ __forceinline__ int line(int item) { return threadIdx.x / RUNS + item * STEP; }
    static __device__ __forceinline__ bool has(int item) { return EVEN || line(item) < LINES; }
    // As STEP is a power of two, the two summands of a line have no bits in common.
    static __device__ __forceinline__ int place(int item) {
        return Tile::place(threadIdx.x / RUNS, item * STEP, term() >> 2) + (term() & 3);
    }
};

template <int LINES, int WIDTH_>
struct Share<AlongLines<LINES>, WIDTH_> {
    typedef AlongLines<LINES> Tile;
    static constexpr int WIDTH = WIDTH_, RUNS = LINES / WIDTH, STEP = THREADS / RUNS;
    static constexpr int ITEMS = (DEPTH + STEP - 1) / STEP;
    static constexpr bool EVEN = DEPTH % STEP == 0;

    static __device__ __forceinline__ int line() { return threadIdx.x % RUNS * WIDTH; }
    // Sixteen lines fill half of the banks: neighbouring threads take terms two apart, which lie in both halves.
    static __device__ __forceinline__ int term(int item) {
        u32 term = threadIdx.x / RUNS;
        if (LINES == 16) term = (term & ~3u) | (term & 1) << 1 | (term >> 1 & 1);
        return term + item * STEP;
    }
    static __device__ __forceinline__ bool has(int item) { return EVEN || term(item) < DEPTH; }
    static __device__ __forceinline__ int place(int item) { return Tile::place(line(), term(item)); }
};

// Starts a copy of WIDTH elements; zeros where there is nothing to copy. `from` is read only if `present`.
template <int WIDTH>
__device__ __forceinline__ void copy(float* to, const float* from, bool present) {
    u32 shared = (u32)__cvta_generic_to_shared(to);
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared), "l"(from), "n"(WIDTH * 4),
                 "r"(present ? WIDTH * 4 : 0)
                 : "memory");
}

// Closes a group of copies.
__device__ __forceinline__ void end_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most PENDING groups are under way.
template <int PENDING>
__device__ __forceinline__ void wait_groups() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}
