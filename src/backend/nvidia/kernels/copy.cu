// copy: the two plainest memory-bound kernels, one that copies and one that reads.
//
// copy(source, target, bytes)
//     target[i] = source[i] for any byte count. The arrays must not overlap.
//     Geometry: block THREADS x 1 x 1; grid max(1, ceil(bytes / (16 * THREADS * UNROLL)))
//     x 1 x 1, exactly; no dynamic shared memory.
//     Bytes moved: 2 * bytes.
// reduce(x, n, partial, out)
//     out[0] = sum of x[0 .. n], accumulated in f32. The order of the additions
//     depends on n and the grid alone, so the result repeats bit for bit.
//     partial: gridDim.x + 1 words of scratch. The last of them is the ticket by which
//     the last block to finish knows that it is the last; it must be zero before the
//     first launch and every launch leaves it at zero. Launches that may overlap
//     need a scratch each.
//     Geometry: block THREADS x 1 x 1; grid min(ceil(n / (LANES * THREADS * 4)),
//     32 * multiprocessors), at least 1, x 1 x 1, with LANES = 16 / bytes per element
//     (any grid is right, the loop strides over it); no dynamic shared memory.
//     Bytes moved: n * bytes per element.
//
// Arguments: pointers 16-byte aligned; bytes and n are unsigned long long.
// Macros: -DELEMENT 0 f32, 1 bf16, 2 f16 (reduce); -DTHREADS (512), -DUNROLL (1), the
//     vectors of one thread of copy. One is best on an H100: there are threads enough to
//     keep the memory busy, and plain accesses beat the streaming hints by 2 %.

#ifndef THREADS
#define THREADS 512
#endif
#ifndef UNROLL
#define UNROLL 1
#endif

extern "C" __global__ void __launch_bounds__(THREADS)
    copy(const uint4 *__restrict__ source, uint4 *__restrict__ target, count bytes) {
    count vectors = bytes / 16;
    count first = (count)blockIdx.x * (THREADS * UNROLL) + threadIdx.x;
    uint4 held[UNROLL];
    if (first - threadIdx.x + THREADS * UNROLL <= vectors) {
        // All loads before the first store: the more of them in flight, the better
        // the memory is used.
#pragma unroll
        for (int i = 0; i < UNROLL; ++i) held[i] = source[first + i * THREADS];
#pragma unroll
        for (int i = 0; i < UNROLL; ++i) target[first + i * THREADS] = held[i];
    } else {
        for (int i = 0; i < UNROLL; ++i) {
            count v = first + (count)i * THREADS;
            if (v < vectors) target[v] = source[v];
        }
        // Only the last block comes here with bytes left over that fill no vector.
        count tail = vectors * 16 + threadIdx.x;
        if (blockIdx.x == gridDim.x - 1 && tail < bytes)
            reinterpret_cast<unsigned char *>(target)[tail] = reinterpret_cast<const unsigned char *>(source)[tail];
    }
}

// Sum over the block, valid in thread 0, always in the same order.
__device__ __forceinline__ float block_sum(float value) {
    __shared__ float warp_total[32];
#pragma unroll
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
    if (threadIdx.x % 32 == 0) warp_total[threadIdx.x / 32] = value;
    __syncthreads();
    value = threadIdx.x < THREADS / 32 ? warp_total[threadIdx.x] : 0.0f;
    if (threadIdx.x < 32) {
#pragma unroll
        for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
    }
    __syncthreads();
    return value;
}

// Vectors of one thread that are loaded before the first is added.
constexpr int AT_ONCE = 4;

extern "C" __global__ void __launch_bounds__(THREADS)
    reduce(const element *__restrict__ x, count n, float *partial, float *out) {
    const uint4 *source = reinterpret_cast<const uint4 *>(x);
    count vectors = n / LANES;
    count tile = (count)THREADS * AT_ONCE;

    // An accumulator for each lane: a short chain of dependent additions, and less
    // rounding error than one long chain.
    float total[LANES] = {};
    for (count start = blockIdx.x * tile; start < vectors; start += gridDim.x * tile) {
        count v = start + threadIdx.x;
        uint4 held[AT_ONCE];
        // A vector of zero bits is zero in every element type.
#pragma unroll
        for (int i = 0; i < AT_ONCE; ++i)
            held[i] = v + i * THREADS < vectors ? source[v + i * THREADS] : make_uint4(0, 0, 0, 0);
#pragma unroll
        for (int i = 0; i < AT_ONCE; ++i) {
            float lane[LANES];
            unpack(held[i], lane);
#pragma unroll
            for (int k = 0; k < LANES; ++k) total[k] += lane[k];
        }
    }
    if (blockIdx.x == 0 && threadIdx.x < n % LANES) total[0] += widen(x[vectors * LANES + threadIdx.x]);

    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < LANES; ++k) sum += total[k];
    sum = block_sum(sum);

    __shared__ bool last;
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sum;
        __threadfence();
        // atomicInc wraps to zero at its bound, which readies the ticket for the
        // next launch.
        word *ticket = reinterpret_cast<word *>(partial + gridDim.x);
        last = atomicInc(ticket, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last) return;
    __threadfence();
    sum = 0.0f;
    // Past the first-level cache, which may hold the scratch of an earlier launch.
    for (word i = threadIdx.x; i < gridDim.x; i += THREADS) sum += __ldcg(partial + i);
    sum = block_sum(sum);
    if (threadIdx.x == 0) out[0] = sum;
}
