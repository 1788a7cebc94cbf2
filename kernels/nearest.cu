// Which centre is nearest to each point: scores of a tile of points and a tile of centres stay in registers,
// the two best of each point in shared memory, and the table of all scores never exists.
//
// Points and centres are seen from the mean of all points. With x and c seen from there, and c in the
// weighted space, `|w x - c|^2 = |w x|^2 - 2 (x . (w c) - |c|^2 / 2)`, so the nearest centre has the largest
// score `x . (w c) - |c|^2 / 2`. Scores are in single precision; a point whose two best ones are closer than
// rounding can tell goes on a list, and `recheck` decides it in double precision. The lowest index wins.
//
// Several runs, each with centres, labels and weights of its own, share the points. Blocks of different runs
// that need the same points are neighbours.
//
// Compiled in: what `tile.cuh` names.

#include "tile.cuh"
#include "fma.cuh"
#include "product.cuh"
#include "exact.cuh"

typedef AlongTerms<TILE_M> Points;
typedef AlongTerms<TILE_N> Centres;

// Minus infinity: less than any score.
#define NOTHING __int_as_float(0xff800000)

// The best and the second best score of a point, and the centre of the best.
struct Two {
    float best, second;
    u32 centre;

    __device__ __forceinline__ void merge(const Two& other) {
        bool better = other.best > best || (other.best == best && other.centre < centre);
        second = fmaxf(better ? best : second, better ? other.second : other.best);
        best = better ? other.best : best;
        centre = better ? other.centre : centre;
    }

    __device__ __forceinline__ Two across(int lanes) const {
        return {__shfl_xor_sync(ALL, best, lanes), __shfl_xor_sync(ALL, second, lanes),
                __shfl_xor_sync(ALL, centre, lanes)};
    }
};

// Twice the error of a score of a point of length `norm`: a difference of two scores beyond it is a true
// one. Infinite where sums could overflow. See src/device/cpu/nearest/bounds.rs, also for `unit`.
__device__ __forceinline__ float slack(float unit, float norm, float largest) {
    float reach = largest * (norm + 0.5f * largest) * 1.001f, lost = 1.17549435e-38f / unit;
    return 2 * unit * (reach + lost);
}

// `centred` [n][pitch], `norms` [spaces][n], `flat` [runs][k][pitch] (w c), `offsets` [runs][padded]
// (-|c|^2 / 2, and minus infinity behind the last centre), `largest` [runs] (the length of the longest
// centre), `labels` [runs][n], `changed` [runs]; `open` is the list of points to decide, as `run * n + point`,
// `opened` its length.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    assign(u32 n, u32 pitch, u32 k, u32 padded, float unit, u32 runs, const u32* __restrict__ active,
           const u32* __restrict__ space, const float* __restrict__ centred, const float* __restrict__ norms,
           const float* __restrict__ flat, const float* __restrict__ offsets,
           const float* __restrict__ largest, u32* __restrict__ labels, u32* __restrict__ changed,
           u32* __restrict__ open, u32* __restrict__ opened) {
    typedef Product<Points, Centres> Scores;
    __shared__ Two found[WARPS_N][TILE_M];
    // In shared memory to leave registers to the sums.
    __shared__ u32 whose;
    if (threadIdx.x == 0) whose = active[blockIdx.x % runs];
    u32 top = blockIdx.x / runs * TILE_M, steps = (pitch + DEPTH - 1) / DEPTH;
    Matrix<Points, 4> points = {centred, centred, top, n, pitch, steps};
    for (u32 left = 0; left < k; left += TILE_N) {
        // Also, nobody may still read the ring that is filled anew.
        __syncthreads();
        const float* rows = flat + (size_t)whose * k * pitch;
        Matrix<Centres, 4> centres = {rows, rows, left, k, pitch, steps};
        Scores scores;
        accumulate(scores, points, centres, 0, steps);
        // A thread's columns come in runs of four.
        const float* lowered = offsets + (size_t)whose * padded + left;
        float offset[Scores::COLUMNS];
#pragma unroll
        for (int j = 0; j < Scores::COLUMNS; j += 4) {
            float4 four = *(const float4*)(lowered + Scores::column(j));
            offset[j] = four.x, offset[j + 1] = four.y, offset[j + 2] = four.z, offset[j + 3] = four.w;
        }
#pragma unroll
        for (int i = 0; i < Scores::ROWS; i++) {
            Two two = {NOTHING, NOTHING, k};
#pragma unroll
            for (int j = 0; j < Scores::COLUMNS; j++) {
                float score = scores.sums[i][j] + offset[j];
                two.second = fmaxf(two.second, fminf(two.best, score));
                if (score > two.best) two.centre = left + Scores::column(j);
                two.best = fmaxf(two.best, score);
            }
            two.merge(two.across(1));
            two.merge(two.across(2));
            if (threadIdx.x % 4 == 0) {
                Two& all = found[threadIdx.x / 32 % WARPS_N][Scores::row(i)];
                if (left > 0) two.merge(all);
                all = two;
            }
        }
    }
    __syncthreads();
    u32 run = whose;
    float longest = largest[run];
#pragma unroll
    for (u32 first = 0; first < TILE_M; first += THREADS) {
        u32 line = first + threadIdx.x, point = top + line;
        bool differs = false;
        if (line < TILE_M && point < n) {
            Two two = found[0][line];
#pragma unroll
            for (int other = 1; other < WARPS_N; other++) two.merge(found[other][line]);
            u32& label = labels[(size_t)run * n + point];
            // Not so if anything overflowed or is not a number.
            if (two.best - two.second > slack(unit, norms[(size_t)space[run] * n + point], longest)) {
                differs = label != two.centre;
                label = two.centre;
            } else {
                open[atomicAdd(opened, 1)] = run * n + point;
            }
        }
        u32 many = __syncthreads_count(differs);
        if (threadIdx.x == 0 && many > 0) atomicAdd(changed + run, many);
    }
}

// Decides the points of the list, a warp each, four centres at a time. The order of the list does not matter.
extern "C" __global__ void __launch_bounds__(256, 4)
    recheck(u32 n, u32 d, u32 k, const u32* __restrict__ space, const float* __restrict__ values,
            const float* __restrict__ weights, const double* __restrict__ centres, u32* __restrict__ labels,
            u32* __restrict__ changed, const u32* __restrict__ open, const u32* __restrict__ opened) {
    constexpr u32 GROUPS = 32 / LANES;
    u32 many = *opened, group = threadIdx.x % 32 / LANES;
    for (u32 item = (blockIdx.x * 256 + threadIdx.x) / 32; item < many; item += gridDim.x * 8) {
        u32 code = open[item], run = code / n, point = code % n;
        const float *row = values + (size_t)point * d, *factors = weights + (size_t)space[run] * d;
        double least = __longlong_as_double(0x7ff0000000000000);
        u32 nearest = k;
        for (u32 first = 0; first < k; first += GROUPS) {
            u32 centre = min(first + group, k - 1);
            double distance = squared_distance(row, centres + ((size_t)run * k + centre) * d, factors, d);
            if (distance < least) least = distance, nearest = centre;
        }
#pragma unroll
        for (int lanes = LANES; lanes < 32; lanes *= 2) {
            double distance = __shfl_xor_sync(ALL, least, lanes);
            u32 centre = __shfl_xor_sync(ALL, nearest, lanes);
            if (distance < least || (distance == least && centre < nearest)) least = distance, nearest = centre;
        }
        // No distance is finite: the first centre, as on the CPU.
        if (nearest == k) nearest = 0;
        u32& label = labels[code];
        if (threadIdx.x % 32 == 0 && label != nearest) {
            label = nearest;
            atomicAdd(changed + run, 1);
        }
    }
}
