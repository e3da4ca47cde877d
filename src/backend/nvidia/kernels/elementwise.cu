// elementwise: maps over arrays of any length, one read and one write of each.
//
// gelu(x, y, n)                y = x * (1 + tanh(u)) / 2, u = sqrt(2 / pi) * (x + 0.044715 x^3)
// gelu_backward(x, dy, dx, n)  dx = dy * dgelu/dx at x
// add(a, b, out, n)            out = a + b: the residual, or the sum of two gradients
//
// Arguments: const element * inputs and element * outputs, 16-byte aligned;
//     unsigned long long n. An output may be one of the inputs (in place), but must
//     not overlap one in any other way.
// Geometry: block THREADS x 1 x 1; grid max(1, ceil(n / (LANES * THREADS * UNROLL)))
//     x 1 x 1, exactly, with LANES = 16 / bytes per element; no dynamic shared memory.
// Bytes moved, in elements: gelu 2n, gelu_backward 3n, add 3n.
// Macros: -DELEMENT 0 f32, 1 bf16, 2 f16; -DTHREADS (512), -DUNROLL (1), the vectors
//     of one thread.

#ifndef THREADS
#define THREADS 512
#endif
#ifndef UNROLL
#define UNROLL 1
#endif

constexpr float ROOT_2_OVER_PI = 0.7978845608028654f;
constexpr float CUBIC = 0.044715f;

// (1 + tanh(u)) / 2 is the logistic function of 2u. The fast exponential and division
// are good to about 1e-6 here, the hardware's tanh only to 5e-4, too coarse for f32
// and f16. For very negative u the exponential is infinite and the result the right zero.
__device__ __forceinline__ float gate(float x) {
    float u = ROOT_2_OVER_PI * fmaf(CUBIC * x * x, x, x);
    return __fdividef(1.0f, 1.0f + __expf(-2.0f * u));
}

struct Gelu {
    __device__ __forceinline__ float operator()(float x) const { return x * gate(x); }
};

struct GeluBackward {
    __device__ __forceinline__ float operator()(float x, float dy) const {
        float s = gate(x);
        float slope = 2.0f * ROOT_2_OVER_PI * fmaf(3.0f * CUBIC * x, x, 1.0f);
        return dy * fmaf(x * slope, s * (1.0f - s), s);
    }
};

struct Add {
    __device__ __forceinline__ float operator()(float a, float b) const { return a + b; }
};

// Applies a map of INPUTS arrays. The block's tile is loaded whole before anything is
// stored, so that many loads are in flight and in-place use is safe.
template <int INPUTS, class Map>
__device__ __forceinline__ void apply(const element *const (&input)[INPUTS], element *out, count n, Map map) {
    count vectors = n / LANES;
    count first = (count)blockIdx.x * (THREADS * UNROLL) + threadIdx.x;
    uint4 held[INPUTS][UNROLL];
#pragma unroll
    for (int i = 0; i < UNROLL; ++i) {
        count v = first + i * THREADS;
        if (v < vectors) {
#pragma unroll
            for (int a = 0; a < INPUTS; ++a) held[a][i] = reinterpret_cast<const uint4 *>(input[a])[v];
        }
    }
#pragma unroll
    for (int i = 0; i < UNROLL; ++i) {
        count v = first + i * THREADS;
        if (v < vectors) {
            float lane[INPUTS][LANES];
#pragma unroll
            for (int a = 0; a < INPUTS; ++a) unpack(held[a][i], lane[a]);
            float result[LANES];
#pragma unroll
            for (int k = 0; k < LANES; ++k) {
                if constexpr (INPUTS == 1) result[k] = map(lane[0][k]);
                else result[k] = map(lane[0][k], lane[1][k]);
            }
            reinterpret_cast<uint4 *>(out)[v] = pack(result);
        }
    }
    count tail = vectors * LANES + threadIdx.x;
    if (blockIdx.x == gridDim.x - 1 && tail < n) {
        if constexpr (INPUTS == 1) out[tail] = narrow(map(widen(input[0][tail])));
        else out[tail] = narrow(map(widen(input[0][tail]), widen(input[1][tail])));
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) gelu(const element *x, element *y, count n) {
    apply<1>({x}, y, n, Gelu());
}

extern "C" __global__ void __launch_bounds__(THREADS)
    gelu_backward(const element *x, const element *dy, element *dx, count n) {
    apply<2>({x, dy}, dx, n, GeluBackward());
}

extern "C" __global__ void __launch_bounds__(THREADS)
    add(const element *a, const element *b, element *out, count n) {
    apply<2>({a, b}, out, n, Add());
}
