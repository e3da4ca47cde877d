// RMS normalisation of the rows of a matrix: y = x / sqrt(mean(x^2) + epsilon) * gamma. One block a row.
//
// The quick one reads 16 bytes at a time and keeps its part of the row in registers; the plain one is what it is compared with.

#ifndef COLS
#error "compile with -DCOLS=<row length>"
#endif
#ifndef THREADS
#error "compile with -DTHREADS=<threads of a block>"
#endif

__device__ float sum_over_block(float value) {
    __shared__ float of_warp[32];
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
    __syncthreads();
    value = threadIdx.x % 32 < blockDim.x / 32 ? of_warp[threadIdx.x % 32] : 0.0f;
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
    return value;
}

extern "C" __global__ void rmsnorm(const float4* x, const float4* gamma, float4* y, float epsilon) {
    constexpr int EACH = COLS / 4 / THREADS;
    static_assert(EACH * 4 * THREADS == COLS, "COLS must be a multiple of four times THREADS");
    const size_t row = (size_t)blockIdx.x * (COLS / 4);
    float4 held[EACH];
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
        held[i] = x[row + i * THREADS + threadIdx.x];
        squares += held[i].x * held[i].x + held[i].y * held[i].y + held[i].z * held[i].z + held[i].w * held[i].w;
    }
    const float scale = rsqrtf(sum_over_block(squares) / COLS + epsilon);
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
        const float4 g = gamma[i * THREADS + threadIdx.x];
        const float4 h = held[i];
        y[row + i * THREADS + threadIdx.x] =
            make_float4(h.x * scale * g.x, h.y * scale * g.y, h.z * scale * g.z, h.w * scale * g.w);
    }
}

extern "C" __global__ void rmsnorm_plain(const float* x, const float* gamma, float* y, float epsilon) {
    const size_t row = (size_t)blockIdx.x * COLS;
    float squares = 0.0f;
    for (int column = threadIdx.x; column < COLS; column += blockDim.x) squares += x[row + column] * x[row + column];
    const float scale = rsqrtf(sum_over_block(squares) / COLS + epsilon);
    for (int column = threadIdx.x; column < COLS; column += blockDim.x)
        y[row + column] = x[row + column] * scale * gamma[column];
}
