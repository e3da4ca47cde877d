// What timing itself needs on the device: a gate that holds a stream, a look at the clocks, and nothing at all.

__device__ unsigned long long nanoseconds() {
    unsigned long long now;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
    return now;
}

// Holds its stream until the host writes `open`, so that everything behind it is queued before any of it runs. Lets itself
// go after `limit` nanoseconds and says so: a host that waits for the stream would otherwise wait for ever.
// One thread.
extern "C" __global__ void gate(const volatile unsigned* open, volatile unsigned* expired, unsigned long long limit) {
    const unsigned long long start = nanoseconds();
    while (*open == 0) {
        if (nanoseconds() - start > limit) {
            *expired = 1;
            __threadfence_system();
            return;
        }
    }
}

// Lets no GPU on before all have come here: each writes the round that it has come to into a word of its own, in host memory that
// all see, and waits for the words of the others. Lets itself go as `gate` does. One block of a thread for each GPU.
extern "C" __global__ void meet(
    volatile unsigned* arrived,
    unsigned own,
    unsigned round,
    volatile unsigned* expired,
    unsigned long long limit
) {
    if (threadIdx.x == own) {
        arrived[own] = round;
        __threadfence_system();
    }
    const unsigned long long start = nanoseconds();
    // The difference, because rounds may wrap around.
    while ((int)(arrived[threadIdx.x] - round) < 0) {
        if (nanoseconds() - start > limit) {
            *expired = 1;
            __threadfence_system();
            return;
        }
    }
}

// Writes each multiprocessor's cycle counter and the device's clock: two of these give the average clock in between.
// One thread a block, at least one block a multiprocessor; `out` has two words for each of the first `count`. Their numbers may have
// gaps (PTX ISA, %smid), as in a part of a GPU: one beyond the last is left out, as one is that no block came to.
extern "C" __global__ void stamp(unsigned long long* out, unsigned count) {
    unsigned processor;
    unsigned long long cycles;
    asm volatile("mov.u32 %0, %smid;" : "=r"(processor));
    asm volatile("mov.u64 %0, %clock64;" : "=l"(cycles));
    if (processor >= count) return;
    out[2 * processor] = cycles;
    out[2 * processor + 1] = nanoseconds();
}

// Costs a launch and nothing else.
extern "C" __global__ void nothing() {}
