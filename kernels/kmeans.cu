// What surrounds an assignment in k-means: the points seen from their mean, the centres made ready, ordered
// sums of the points of each centre, new centres, and what they cost.
//
// Additions in double precision follow the CPU's order (src/device/cpu/nearest, src/cluster/kmeans.rs) and
// are never contracted, so that results are the CPU's bit for bit. Several runs share a launch: `active`
// names those that take part, `space` says in whose weights each one sees the points.

#include "types.cuh"
#include "exact.cuh"

// Parts that the points are cut into; each has sums of its own, which are added in order.
constexpr u32 PARTS = 16;

// Sums of the squared movement of a centre.
constexpr u32 STRANDS = 32;

// Columns that a warp of `totals` adds up: QUAD of each lane.
constexpr u32 QUAD = 4, COLUMNS = 32 * QUAD;

// Rounds a length up, past the few roundings behind it.
__device__ __forceinline__ float at_least(double square) { return (float)sqrt(square) * 1.0000005f; }

__device__ __forceinline__ double warp_sum(double value) {
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(ALL, value, lanes);
    return value;
}

// No label is known.
extern "C" __global__ void __launch_bounds__(256) forget(size_t many, u32* __restrict__ labels) {
    size_t step = (size_t)gridDim.x * 256;
    for (size_t i = (size_t)blockIdx.x * 256 + threadIdx.x; i < many; i += step) labels[i] = ALL;
}

// Sums `[slabs][d][2]` of the columns and of their squares, over SLAB points each.
extern "C" __global__ void __launch_bounds__(128)
    moments(u32 n, u32 d, const float* __restrict__ values, double2* __restrict__ slabs) {
    u32 j = blockIdx.x * 128 + threadIdx.x, first = blockIdx.y * SLAB;
    if (j >= d) return;
    double2 sums = {0, 0};
    for (u32 i = first; i < min(n, first + SLAB); i++) {
        double x = values[(size_t)i * d + j];
        sums.x = __dadd_rn(sums.x, x);
        sums.y = __dadd_rn(sums.y, __dmul_rn(x, x));
    }
    slabs[(size_t)blockIdx.y * d + j] = sums;
}

// The slabs of `moments`, added in order.
extern "C" __global__ void __launch_bounds__(128)
    fold(u32 slabs, u32 d, const double2* __restrict__ parts, double2* __restrict__ sums) {
    u32 j = blockIdx.x * 128 + threadIdx.x;
    if (j >= d) return;
    double2 all = {0, 0};
    for (u32 slab = 0; slab < slabs; slab++) {
        double2 part = parts[(size_t)slab * d + j];
        all.x = __dadd_rn(all.x, part.x);
        all.y = __dadd_rn(all.y, part.y);
    }
    sums[j] = all;
}

// The points as seen from `mean`, in rows of `pitch` with zeros behind the last column.
extern "C" __global__ void __launch_bounds__(256, 4)
    centre(u32 n, u32 d, u32 pitch, const float* __restrict__ values, const float* __restrict__ mean,
           float* __restrict__ centred) {
    for (size_t at = (size_t)blockIdx.x * 256 + threadIdx.x; at < (size_t)n * pitch;
         at += (size_t)gridDim.x * 256) {
        size_t i = at / pitch;
        u32 j = at % pitch;
        centred[at] = j < d ? values[i * d + j] - mean[j] : 0;
    }
}

// Lengths `[spaces][n]` of the weighted points as seen from the mean, rounded up. A warp for each point.
extern "C" __global__ void __launch_bounds__(256, 4)
    lengths(u32 n, u32 d, u32 pitch, const float* __restrict__ centred, const float* __restrict__ weights,
            float* __restrict__ norms) {
    u32 point = blockIdx.x * 8 + threadIdx.x / 32;
    if (point >= n) return;
    double square = 0;
    for (u32 j = threadIdx.x % 32; j < d; j += 32) {
        double x = (double)centred[(size_t)point * pitch + j] * weights[blockIdx.y * d + j];
        square += x * x;
    }
    square = warp_sum(square);
    if (threadIdx.x % 32 == 0) norms[(size_t)blockIdx.y * n + point] = at_least(square);
}

// Centres `[runs][k][d]` made ready for `assign`: as seen from the mean, times the weights once more, in rows
// of `pitch`; their offsets; and the length of the longest (which is no more than its bits as an integer).
extern "C" __global__ void __launch_bounds__(128)
    prepare(u32 d, u32 pitch, u32 k, u32 padded, const u32* __restrict__ active, const u32* __restrict__ space,
            const float* __restrict__ weights, const float* __restrict__ mean,
            const double* __restrict__ centres, float* __restrict__ flat, float* __restrict__ offsets,
            u32* __restrict__ largest) {
    __shared__ double squares[4];
    u32 run = active[blockIdx.y];
    size_t row = (size_t)run * k + blockIdx.x;
    weights += (size_t)space[run] * d;
    double square = 0;
    for (u32 j = threadIdx.x; j < pitch; j += 128) {
        float to = 0;
        if (j < d) {
            double weight = weights[j], seen = centres[row * d + j] - weight * mean[j];
            square += seen * seen;
            to = (float)(seen * weight);
        }
        flat[row * pitch + j] = to;
    }
    square = warp_sum(square);
    if (threadIdx.x % 32 == 0) squares[threadIdx.x / 32] = square;
    __syncthreads();
    if (threadIdx.x == 0) {
        square = squares[0] + squares[1] + squares[2] + squares[3];
        offsets[(size_t)run * padded + blockIdx.x] = (float)(-square / 2);
        atomicMax(largest + run, __float_as_uint(at_least(square)));
    }
}

// Sums `[runs][k][d]` of the unweighted points of each centre, and their numbers. A block adds COLUMNS
// columns of one centre, a warp those of one part: it looks for the centre among the labels, 32 at a time,
// and adds the points in their order.
extern "C" __global__ void __launch_bounds__(32 * PARTS)
    totals(u32 n, u32 d, u32 k, u32 part, const u32* __restrict__ active, const float* __restrict__ values,
           const u32* __restrict__ labels, double* __restrict__ sums, u32* __restrict__ counts) {
    __shared__ double parts[PARTS][COLUMNS];
    __shared__ u32 numbers[PARTS];
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, run = active[blockIdx.z];
    u32 column = blockIdx.y * COLUMNS + lane;
    u32 begin = min(n, warp * part), end = min(n, begin + part), number = 0;
    labels += (size_t)run * n;
    double sum[QUAD] = {};
    for (u32 first = begin; first < end; first += 32) {
        u32 label = first + lane < end ? labels[first + lane] : k;
        u32 mine = __ballot_sync(ALL, label == blockIdx.x);
        number += __popc(mine);
        while (mine) {
            // Two rows under way at once: a row that is not there adds nothing.
            u32 one = __ffs(mine) - 1;
            mine &= mine - 1;
            bool both = mine != 0;
            u32 two = both ? __ffs(mine) - 1 : one;
            mine &= mine - 1;
            const float *a = values + (size_t)(first + one) * d, *b = values + (size_t)(first + two) * d;
            float x[QUAD], y[QUAD];
#pragma unroll
            for (u32 q = 0; q < QUAD; q++) {
                bool there = column + 32 * q < d;
                x[q] = there ? a[column + 32 * q] : 0;
                y[q] = there && both ? b[column + 32 * q] : 0;
            }
#pragma unroll
            for (u32 q = 0; q < QUAD; q++) sum[q] = __dadd_rn(__dadd_rn(sum[q], x[q]), y[q]);
        }
    }
#pragma unroll
    for (u32 q = 0; q < QUAD; q++) parts[warp][lane + 32 * q] = sum[q];
    if (lane == 0) numbers[warp] = number;
    __syncthreads();
    size_t row = (size_t)run * k + blockIdx.x;
    u32 j = blockIdx.y * COLUMNS + threadIdx.x;
    if (threadIdx.x < COLUMNS && j < d) {
        double total = 0;
        for (u32 p = 0; p < PARTS; p++) total = __dadd_rn(total, parts[p][threadIdx.x]);
        sums[row * d + j] = total;
    }
    if (blockIdx.y == 0 && threadIdx.x == 0) {
        u32 total = 0;
        for (u32 p = 0; p < PARTS; p++) total += numbers[p];
        counts[row] = total;
    }
}

// Gives each of `many` empty clusters of a run a point, which its own cluster loses. A thread does the same
// columns of all of them, one after the other.
extern "C" __global__ void __launch_bounds__(128)
    relocate(u32 n, u32 d, u32 k, u32 run, u32 many, const u32* __restrict__ empty,
             const u32* __restrict__ points, const float* __restrict__ values, const u32* __restrict__ labels,
             double* __restrict__ sums, u32* __restrict__ counts) {
    u32 j = blockIdx.x * 128 + threadIdx.x;
    sums += (size_t)run * k * d;
    counts += (size_t)run * k;
    for (u32 i = 0; i < many; i++) {
        u32 to = empty[i], point = points[i], from = labels[(size_t)run * n + point];
        if (j < d) {
            double x = values[(size_t)point * d + j];
            sums[(size_t)from * d + j] = __dsub_rn(sums[(size_t)from * d + j], x);
            sums[(size_t)to * d + j] = x;
        }
        if (j == 0) {
            counts[from] -= 1;
            counts[to] = 1;
        }
    }
}

// New centres from sums, a warp each, and how far each one moved, squared. A run with empty clusters is left
// as it is unless `always`: the host may want to relocate first.
extern "C" __global__ void __launch_bounds__(128)
    average(u32 n, u32 d, u32 k, u32 always, const u32* __restrict__ active, const u32* __restrict__ space,
            const float* __restrict__ weights, const double* __restrict__ sums,
            const u32* __restrict__ counts, double* __restrict__ centres, double* __restrict__ moved) {
    u32 lane = threadIdx.x % 32, centre = blockIdx.x * 4 + threadIdx.x / 32, run = active[blockIdx.y];
    if (centre >= k) return;
    counts += (size_t)run * k;
    sums += (size_t)run * k * d;
    weights += (size_t)space[run] * d;
    u32 mine = counts[centre], largest = k, most = 0;
    bool empty = false;
    for (u32 other = lane; other < k; other += 32) {
        u32 count = counts[other];
        empty |= count == 0;
        if (count > most) most = count, largest = other;
    }
    if (__any_sync(ALL, empty) && !always) return;
    // The first of the largest clusters.
    u32 top = most;
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) top = max(top, __shfl_xor_sync(ALL, top, lanes));
    if (most < top) largest = k;
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) largest = min(largest, __shfl_xor_sync(ALL, largest, lanes));
    double total = 0;
    double* row = centres + ((size_t)run * k + centre) * d;
    for (u32 j = lane; j < d; j += STRANDS) {
        double mean;
        if (mine > 0) {
            mean = __ddiv_rn(sums[(size_t)centre * d + j], mine);
        } else {
            // Where scikit-learn puts a cluster that stays empty; see `average` of src/cluster/kmeans.rs.
            mean = __ddiv_rn(sums[(size_t)largest * d + j], top);
            if (centre < largest) {
                double all = 0;
                for (u32 other = 0; other < k; other++) all = __dadd_rn(all, sums[(size_t)other * d + j]);
                all = __ddiv_rn(all, n);
                mean = __dadd_rn(all, __dmul_rn(__dsub_rn(mean, all), top));
            }
        }
        double to = __dmul_rn(mean, weights[j]), step = __dsub_rn(to, row[j]);
        total = __dadd_rn(total, __dmul_rn(step, step));
        row[j] = to;
    }
    double way = __shfl_sync(ALL, total, 0);
#pragma unroll
    for (u32 strand = 1; strand < STRANDS; strand++) way = __dadd_rn(way, __shfl_sync(ALL, total, strand));
    if (lane == 0) moved[(size_t)run * k + centre] = way;
}

// Squared distances of SLAB points to their own centres, and their sum in order. A grid row for each run;
// `each` [grid rows][n] may be null.
extern "C" __global__ void __launch_bounds__(256, 4)
    distances(u32 n, u32 d, u32 k, const u32* __restrict__ active, const u32* __restrict__ space,
              const float* __restrict__ values, const float* __restrict__ weights,
              const double* __restrict__ centres, const u32* __restrict__ labels, double* __restrict__ each,
              double* __restrict__ slabs) {
    __shared__ double own[SLAB];
    u32 run = active[blockIdx.y], first = blockIdx.x * SLAB, many = min(SLAB, n - first);
    for (u32 i = threadIdx.x / LANES; i < SLAB; i += 256 / LANES) {
        // Lanes behind the last point measure it again, so that whole warps call.
        u32 point = first + min(i, many - 1), label = labels[(size_t)run * n + point];
        double distance =
            squared_distance(values + (size_t)point * d, centres + ((size_t)run * k + label) * d,
                             weights + (size_t)space[run] * d, d);
        if (threadIdx.x % LANES == 0 && i < many) {
            own[i] = distance;
            if (each) each[(size_t)blockIdx.y * n + point] = distance;
        }
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        double sum = 0;
        for (u32 i = 0; i < many; i++) sum = __dadd_rn(sum, own[i]);
        slabs[(size_t)blockIdx.y * gridDim.x + blockIdx.x] = sum;
    }
}
