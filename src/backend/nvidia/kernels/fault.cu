// Kernels that go wrong on purpose.

extern "C" __global__ void spin_for_ever(volatile unsigned* never) {
    while (*never == 0) {
    }
}

extern "C" __global__ void write_nowhere(unsigned* nowhere) { nowhere[threadIdx.x] = 1; }

extern "C" __global__ void add_one(float* values, unsigned count, float scale) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) values[i] = scale * (i + 1);
}
