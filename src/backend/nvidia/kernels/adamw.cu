// adamw: one fused step of AdamW (Adam with decoupled weight decay).
//
// adamw(weight, m, v, gradient, copy, n, rate, beta1, beta2, epsilon, decay,
//       correction1, correction2)
//     m = beta1 * m + (1 - beta1) * g
//     v = beta2 * v + (1 - beta2) * g^2
//     weight = weight * (1 - rate * decay)
//              - rate * (m / correction1) / (sqrt(v / correction2) + epsilon)
//     copy = weight, rounded to the element
//     correction1 = 1 - beta1^step and correction2 = 1 - beta2^step, step from 1; the
//     host computes them in f64 from the betas as rounded to f32, where they do not
//     cancel at the first steps.
//
// Arguments: float *weight (the master copy), *m, *v; const element *gradient;
//     element *copy, or null where none is wanted (f32 training reads the master);
//     unsigned long long n; seven floats, rate to correction2, in that order.
//     All pointers 16-byte aligned.
// Geometry: block 256 x 1 x 1; grid max(1, ceil(n / 1024)) x 1 x 1, exactly; no
//     dynamic shared memory.
// Bytes moved: n * (24 + 2 * bytes per element) with the copy, n * (24 + bytes per
//     element) without: 28 n for bf16.
// Macros: -DELEMENT 0 f32, 1 bf16, 2 f16.

constexpr int THREADS = 256;

// Four elements for each thread: 16 bytes of every f32 array, so that neighbouring threads
// touch neighbouring vectors. Eight would leave half of every 32-byte sector to a second
// access.
struct alignas(4 * sizeof(element)) Four {
    element lane[4];
};

struct Step {
    float rate, beta1, beta2, epsilon, shrink, step_size, root_correction2;

    __device__ __forceinline__ void operator()(float &weight, float &m, float &v, float gradient) const {
        m = fmaf(beta1, m, (1.0f - beta1) * gradient);
        v = fmaf(beta2, v, (1.0f - beta2) * gradient * gradient);
        float denominator = fmaf(sqrtf(v), root_correction2, epsilon);
        weight = fmaf(weight, shrink, -step_size * __fdividef(m, denominator));
    }
};

extern "C" __global__ void __launch_bounds__(THREADS)
    adamw(float *__restrict__ weight, float *__restrict__ m, float *__restrict__ v,
          const element *__restrict__ gradient, element *__restrict__ copy, count n, float rate, float beta1,
          float beta2, float epsilon, float decay, float correction1, float correction2) {
    Step step = {rate, beta1, beta2, epsilon, 1.0f - rate * decay, rate / correction1, rsqrtf(correction2)};
    count fours = n / 4;
    count f = (count)blockIdx.x * THREADS + threadIdx.x;
    if (f < fours) {
        float4 w4 = reinterpret_cast<const float4 *>(weight)[f];
        float4 m4 = reinterpret_cast<const float4 *>(m)[f];
        float4 v4 = reinterpret_cast<const float4 *>(v)[f];
        Four g4 = reinterpret_cast<const Four *>(gradient)[f];
        step(w4.x, m4.x, v4.x, widen(g4.lane[0]));
        step(w4.y, m4.y, v4.y, widen(g4.lane[1]));
        step(w4.z, m4.z, v4.z, widen(g4.lane[2]));
        step(w4.w, m4.w, v4.w, widen(g4.lane[3]));
        reinterpret_cast<float4 *>(weight)[f] = w4;
        reinterpret_cast<float4 *>(m)[f] = m4;
        reinterpret_cast<float4 *>(v)[f] = v4;
        if (copy) {
            Four narrowed = {{narrow(w4.x), narrow(w4.y), narrow(w4.z), narrow(w4.w)}};
            reinterpret_cast<Four *>(copy)[f] = narrowed;
        }
    }
    count tail = fours * 4 + threadIdx.x;
    if (blockIdx.x == gridDim.x - 1 && tail < n) {
        step(weight[tail], m[tail], v[tail], widen(gradient[tail]));
        if (copy) copy[tail] = narrow(weight[tail]);
    }
}
