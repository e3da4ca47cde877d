// rowwise: softmax and the normalisations over the rows of a row-major matrix
// [rows, cols], forward and backward, f32 arithmetic.
//
// softmax(x, y, rows, cols)
//     y = exp(x - max) / sum(exp(x - max)).
// softmax_scaled(x, y, rows, cols, float scale, int causal)
//     The softmax of naive attention: of scale * x, scores [batch * heads, cols, cols].
//     With causal != 0 row r is query r % cols and sees the keys 0 ..= r % cols; the
//     other probabilities are written as zero, and their scores are not even read.
// softmax_backward(y, dy, dx, rows, cols, float scale)
//     dx = scale * y * (dy - sum(dy * y)).
// layernorm(x, gamma, beta, y, rows, cols, float epsilon)
//     y = (x - mean) * rstd * gamma + beta, rstd = 1 / sqrt(variance + epsilon), the
//     variance of the population, centred before it is squared.
// layernorm_stats(x, gamma, beta, y, mean, rstd, rows, cols, float epsilon)
//     The same, and writes float mean[rows], rstd[rows] for the backward pass.
// rmsnorm(x, gamma, y, rows, cols, float epsilon)
//     y = x / sqrt(mean(x^2) + epsilon) * gamma.
// layernorm_backward(x, dy, gamma, mean, rstd, dx, partial, rows, cols)
//     g = dy * gamma, h = (x - mean) * rstd, dx = rstd * (g - mean(g) - h * mean(g * h));
//     partial: float [2][gridDim.x][cols], this block's share of sum(dy * h), sum(dy).
// layernorm_backward_parameters(partial, dgamma, dbeta, unsigned blocks, cols)
//     Adds the shares up in a fixed order; blocks = gridDim.x of layernorm_backward.
//
// Arguments: element * unless said, 16-byte aligned; rows and cols unsigned long long,
//     cols below 2^31. y may be x, and dx may be dy (or y, or x): in place.
// Geometry, all but layernorm_backward_parameters: block THREADS x ROWS x 1; a block
//     takes ROWS rows at a time and strides over the matrix by gridDim.x * ROWS, so any
//     grid is right. Forward and softmax_backward: grid ceil(rows / ROWS) x 1 x 1.
//     No dynamic shared memory, except layernorm_backward: ROWS 1, grid min(rows,
//     multiprocessors * blocks that fit on one, from the occupancy query), and where the
//     row is resident EACH * THREADS * (16 + 8 * LANES) bytes of it, EACH = ceil(COLS /
//     (LANES * THREADS)): above 48 KB by the function's attribute, and where the device
//     has not that much, compile it with -DCOLS=0, which needs none.
//     layernorm_backward_parameters: block 32 x 16 x 1, grid ceil(cols / 32) x 2 x 1.
// Bytes moved, in elements, when the row is resident: softmax, layernorm, rmsnorm
//     2 * rows * cols; softmax_scaled causal 1.5 * rows * cols; softmax_backward and
//     layernorm_backward 3 * rows * cols (and its partial: 16 * blocks * cols bytes).
// Macros: -DWANT_<kernel>: only kernels that are wanted are compiled, which takes a tenth of a second each.
//     -DELEMENT 0 f32, 1 bf16, 2 f16.
//     -DCOLS=<cols>: a kernel compiled so takes that cols alone. 0 or unset: any cols.
//     -DTHREADS: threads on one row, a multiple of 32 up to 1024.
//     -DROWS: rows in a block. 4 where THREADS is 32 and COLS / LANES <= 64 (one block for
//     a row of so few bytes is bound by the launch of blocks), otherwise 1, and always 1
//     for layernorm_backward.
//     The row is resident in registers if COLS is a multiple of LANES = 16 / bytes per
//     element and EACH * LANES <= 32 (layernorm_backward: EACH <= 4, <= 2 above 512
//     threads), and is otherwise read once for each pass.
//     THREADS, with V = ceil(COLS / LANES): forward and in softmax_backward V / 4 rounded
//     up to a power of two, within 32 and 1024 (eight vectors a thread spill, two leave
//     the memory idle); layernorm_backward V rounded up to a multiple of 32, at most 512,
//     because its shared memory and prefetch keep a thread busy with one. COLS 0: 512.

#ifndef COLS
#define COLS 0
#endif
#ifndef THREADS
#define THREADS 256
#endif
#ifndef ROWS
#define ROWS 1
#endif

static_assert(THREADS % 32 == 0 && THREADS <= 1024, "THREADS is a multiple of the warp");
static_assert(ROWS == 1 || THREADS == 32, "several rows in a block take one warp each");

constexpr int WARPS = THREADS / 32;
constexpr float LOG2_E = 1.4426950408889634f;

// ---- Reductions over the threads of one row ----

// Every call uses the other half of the shared slots. A thread can be at most one
// barrier ahead, so it never overwrites what a slower one still reads, and one barrier
// for a reduction is enough.
struct Team {
    int turn = 0;

    __device__ __forceinline__ static float warp_sum(float value) {
#pragma unroll
        for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
        return value;
    }

    __device__ __forceinline__ static float warp_max(float value) {
#pragma unroll
        for (int step = 16; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, step));
        return value;
    }

    // Gives lane i of every warp what warp i offered; `filler` past the last warp.
    __device__ __forceinline__ float2 exchange(float2 offer, float2 filler) {
        __shared__ float2 slot[2][32];
        word lane = threadIdx.x % 32;
        if (lane == 0) slot[turn][threadIdx.x / 32] = offer;
        __syncthreads();
        float2 result = lane < WARPS ? slot[turn][lane] : filler;
        turn ^= 1;
        return result;
    }

    __device__ __forceinline__ float sum(float value) {
        value = warp_sum(value);
        if (WARPS == 1) return value;
        return warp_sum(exchange(make_float2(value, 0.0f), make_float2(0.0f, 0.0f)).x);
    }

    __device__ __forceinline__ float2 sum(float2 value) {
        value = make_float2(warp_sum(value.x), warp_sum(value.y));
        if (WARPS == 1) return value;
        value = exchange(value, make_float2(0.0f, 0.0f));
        return make_float2(warp_sum(value.x), warp_sum(value.y));
    }
};

// ---- The row ----
// A kernel is written once against this interface, for a row that is resident in
// registers or one that is read again at each pass:
//     W                      elements in one access
//     EACH                   accesses of one thread, 0 where that is not fixed
//     visit(cols, f)         f(i, column) for each of this thread's accesses
//     load(source, columns)  takes the row's first `columns` elements
//     lanes(i, column, lane) the elements of one access, as f32; zeros past `columns`
//     forget()               keeps nothing unpacked for the next pass

template <int W>
__device__ __forceinline__ void load_lanes(const element *source, float (&lane)[W]) {
    if constexpr (W == LANES) unpack(*reinterpret_cast<const uint4 *>(source), lane);
    else lane[0] = widen(*source);
}

// Of what every row uses again (gamma, beta). The read-only path lets these loads move
// above the stores of the row, with which they could otherwise overlap.
template <int W>
__device__ __forceinline__ void load_parameters(const element *source, float (&lane)[W]) {
    if constexpr (W == LANES) unpack(__ldg(reinterpret_cast<const uint4 *>(source)), lane);
    else lane[0] = widen(__ldg(source));
}

template <int W>
__device__ __forceinline__ void store_lanes(element *target, const float (&lane)[W]) {
    if constexpr (W == LANES) *reinterpret_cast<uint4 *>(target) = pack(lane);
    else *target = narrow(lane[0]);
}

template <int W_>
struct Streamed {
    static constexpr int W = W_;
    static constexpr int EACH = 0;
    const element *source;
    word columns;

    template <class F>
    __device__ __forceinline__ static void visit(word cols, F f) {
        for (word column = threadIdx.x * W; column < cols; column += THREADS * W) f(0, column);
    }

    __device__ __forceinline__ void load(const element *row, word limit) {
        source = row;
        columns = limit;
    }

    __device__ __forceinline__ void lanes(int, word column, float (&lane)[W]) const {
        if (column < columns) {
            load_lanes<W>(source + column, lane);
        } else {
#pragma unroll
            for (int k = 0; k < W; ++k) lane[k] = 0.0f;
        }
    }

    __device__ __forceinline__ void forget() {}
};

// Held packed: half the registers of f32 for 16-bit elements, so twice the rows in
// flight, at the price of one instruction an element and pass.
struct Resident {
    static constexpr int W = LANES;
    static constexpr int VECTORS = COLS / LANES;
    static constexpr int EACH = VECTORS > 0 ? (VECTORS + THREADS - 1) / THREADS : 1;
    static constexpr bool EXACT = VECTORS % THREADS == 0;
    uint4 held[EACH];

    template <class F>
    __device__ __forceinline__ static void visit(word, F f) {
#pragma unroll
        for (int i = 0; i < EACH; ++i) {
            word vector = threadIdx.x + i * THREADS;
            if (EXACT || vector < VECTORS) f(i, vector * LANES);
        }
    }

    __device__ __forceinline__ void load(const element *row, word columns) {
#pragma unroll
        for (int i = 0; i < EACH; ++i) {
            word column = (threadIdx.x + i * THREADS) * LANES;
            held[i] = make_uint4(0, 0, 0, 0);
            if ((EXACT && columns == COLS) || column < columns) held[i] = *reinterpret_cast<const uint4 *>(row + column);
        }
    }

    __device__ __forceinline__ void lanes(int i, word, float (&lane)[LANES]) const { unpack(held[i], lane); }

    // Makes the compiler unpack the row again at the next pass. Left alone it keeps the
    // f32 values from pass to pass, and spills to make room for them.
    __device__ __forceinline__ void forget() {
#pragma unroll
        for (int i = 0; i < EACH; ++i)
            asm volatile("" : "+r"(held[i].x), "+r"(held[i].y), "+r"(held[i].z), "+r"(held[i].w));
    }
};

// What the registers of a thread can hold: 32 f32 values of one row forward, and backward
// two rows and the next two, packed.
constexpr bool WHOLE = COLS > 0 && COLS % LANES == 0;
constexpr bool FORWARD = WHOLE && Resident::EACH * LANES <= 32;
constexpr bool BACKWARD = WHOLE && Resident::EACH <= (THREADS > 512 ? 2 : 4);

// Runs BODY with the right kind of row. The arguments name the width `columns`, which is
// a constant for a resident row.
#define DISPATCH(resident, BODY, ...)                                   \
    if constexpr (resident) {                                           \
        constexpr word columns = COLS;                                  \
        BODY<Resident>(__VA_ARGS__);                                    \
    } else {                                                            \
        const word columns = (word)cols;                                \
        if (columns % LANES == 0) BODY<Streamed<LANES>>(__VA_ARGS__);   \
        else BODY<Streamed<1>>(__VA_ARGS__);                            \
    }

// Calls f(row index, row) for each row of this block.
template <class Row, class Limit, class F>
__device__ __forceinline__ void each_row(const element *x, count rows, word cols, Limit limit, F f) {
    count stride = (count)gridDim.x * ROWS;
    count r = (count)blockIdx.x * ROWS + threadIdx.y;
    for (; r < rows; r += stride) {
        Row row;
        row.load(x + r * cols, limit(r));
        f(r, row);
    }
}

// ---- Softmax ----

__device__ __forceinline__ float power_of_two(float exponent) {
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(exponent));
    return result;
}

template <class Row, bool CAUSAL>
__device__ __forceinline__ void softmax_rows(const element *x, element *y, count rows, word cols, float scale) {
    constexpr int W = Row::W;
    const float LOWEST = __uint_as_float(0xff800000u);
    const float factor = scale * LOG2_E;
    Team team;
    auto limit = [&](count r) { return CAUSAL ? (word)(r % cols) + 1 : cols; };
    each_row<Row>(x, rows, cols, limit, [&](count r, Row &row) {
        word visible = limit(r);
        auto exponents = [&](int i, word column, float (&lane)[W]) {
            row.lanes(i, column, lane);
#pragma unroll
            for (int k = 0; k < W; ++k) lane[k] = !CAUSAL || column + k < visible ? lane[k] * factor : LOWEST;
        };
        float peak = LOWEST;
        Row::visit(cols, [&](int i, word column) {
            float lane[W];
            exponents(i, column, lane);
#pragma unroll
            for (int k = 0; k < W; ++k) peak = fmaxf(peak, lane[k]);
        });
        // Each warp takes its own maximum as the base, and the warps agree on one
        // only when they add up: one barrier instead of two.
        peak = Team::warp_max(peak);
        row.forget();
        float base = peak == LOWEST ? 0.0f : peak;
        float total = 0.0f;
        Row::visit(cols, [&](int i, word column) {
            float lane[W];
            exponents(i, column, lane);
#pragma unroll
            for (int k = 0; k < W; ++k) total += power_of_two(lane[k] - base);
        });
        total = Team::warp_sum(total);
        row.forget();
        if (WARPS > 1) {
            float2 other = team.exchange(make_float2(peak, total), make_float2(LOWEST, 0.0f));
            base = Team::warp_max(other.x);
            total = Team::warp_sum(other.y * power_of_two(other.x - base));
        }
        float inverse = __frcp_rn(total);
        element *target = y + r * cols;
        Row::visit(cols, [&](int i, word column) {
            float lane[W];
            exponents(i, column, lane);
#pragma unroll
            for (int k = 0; k < W; ++k) lane[k] = power_of_two(lane[k] - base) * inverse;
            store_lanes<W>(target + column, lane);
        });
    });
}

template <class Row>
__device__ __forceinline__ void softmax_plain(const element *x, element *y, count rows, word cols) {
    softmax_rows<Row, false>(x, y, rows, cols, 1.0f);
}

template <class Row>
__device__ __forceinline__ void softmax_masked(const element *x, element *y, count rows, word cols, float scale,
                                               int causal) {
    if (causal) softmax_rows<Row, true>(x, y, rows, cols, scale);
    else softmax_rows<Row, false>(x, y, rows, cols, scale);
}

template <class Row>
__device__ __forceinline__ void softmax_gradient(const element *y, const element *dy, element *dx, count rows,
                                                 word cols, float scale) {
    constexpr int W = Row::W;
    Team team;
    auto limit = [&](count) { return cols; };
    each_row<Row>(y, rows, cols, limit, [&](count r, Row &row) {
        Row slope;
        slope.load(dy + r * cols, cols);
        float total = 0.0f;
        Row::visit(cols, [&](int i, word column) {
            float p[W], g[W];
            row.lanes(i, column, p);
            slope.lanes(i, column, g);
#pragma unroll
            for (int k = 0; k < W; ++k) total = fmaf(p[k], g[k], total);
        });
        total = team.sum(total);
        element *target = dx + r * cols;
        Row::visit(cols, [&](int i, word column) {
            float p[W], g[W];
            row.lanes(i, column, p);
            slope.lanes(i, column, g);
#pragma unroll
            for (int k = 0; k < W; ++k) p[k] *= scale * (g[k] - total);
            store_lanes<W>(target + column, p);
        });
    });
}

// ---- Normalisation, forward ----

template <class Row, bool STATS>
__device__ __forceinline__ void layernorm_rows(const element *x, const element *gamma, const element *beta,
                                               element *y, float *mean_out, float *rstd_out, count rows, word cols,
                                               float epsilon) {
    constexpr int W = Row::W;
    const float share = 1.0f / (float)cols;
    Team team;
    auto limit = [&](count) { return cols; };
    each_row<Row>(x, rows, cols, limit, [&](count r, Row &row) {
        float total = 0.0f;
        Row::visit(cols, [&](int i, word column) {
            float lane[W];
            row.lanes(i, column, lane);
#pragma unroll
            for (int k = 0; k < W; ++k) total += lane[k];
        });
        float mean = team.sum(total) * share;
        float squares = 0.0f;
        Row::visit(cols, [&](int i, word column) {
            float lane[W];
            row.lanes(i, column, lane);
#pragma unroll
            for (int k = 0; k < W; ++k) squares = fmaf(lane[k] - mean, lane[k] - mean, squares);
        });
        float rstd = rsqrtf(fmaf(team.sum(squares), share, epsilon));
        if (STATS && threadIdx.x == 0) {
            mean_out[r] = mean;
            rstd_out[r] = rstd;
        }
        element *target = y + r * cols;
        Row::visit(cols, [&](int i, word column) {
            float lane[W], g[W], b[W];
            row.lanes(i, column, lane);
            load_parameters<W>(gamma + column, g);
            load_parameters<W>(beta + column, b);
#pragma unroll
            for (int k = 0; k < W; ++k) lane[k] = fmaf((lane[k] - mean) * rstd, g[k], b[k]);
            store_lanes<W>(target + column, lane);
        });
    });
}

template <class Row>
__device__ __forceinline__ void layernorm_plain(const element *x, const element *gamma, const element *beta,
                                                element *y, count rows, word cols, float epsilon) {
    layernorm_rows<Row, false>(x, gamma, beta, y, nullptr, nullptr, rows, cols, epsilon);
}

template <class Row>
__device__ __forceinline__ void layernorm_saving(const element *x, const element *gamma, const element *beta,
                                                 element *y, float *mean, float *rstd, count rows, word cols,
                                                 float epsilon) {
    layernorm_rows<Row, true>(x, gamma, beta, y, mean, rstd, rows, cols, epsilon);
}

template <class Row>
__device__ __forceinline__ void rmsnorm_rows(const element *x, const element *gamma, element *y, count rows,
                                             word cols, float epsilon) {
    constexpr int W = Row::W;
    const float share = 1.0f / (float)cols;
    Team team;
    auto limit = [&](count) { return cols; };
    each_row<Row>(x, rows, cols, limit, [&](count r, Row &row) {
        float squares = 0.0f;
        Row::visit(cols, [&](int i, word column) {
            float lane[W];
            row.lanes(i, column, lane);
#pragma unroll
            for (int k = 0; k < W; ++k) squares = fmaf(lane[k], lane[k], squares);
        });
        float scale = rsqrtf(fmaf(team.sum(squares), share, epsilon));
        element *target = y + r * cols;
        Row::visit(cols, [&](int i, word column) {
            float lane[W], g[W];
            row.lanes(i, column, lane);
            load_parameters<W>(gamma + column, g);
#pragma unroll
            for (int k = 0; k < W; ++k) lane[k] = lane[k] * scale * g[k];
            store_lanes<W>(target + column, lane);
        });
    });
}

// ---- Normalisation, backward ----

// Resident: a block stays for many rows and loads the next row before it works on this
// one: with few blocks on a multiprocessor, nothing else would keep the memory busy during
// the reduction. The registers are needed for that, so the column sums and gamma live in
// shared memory, where every thread has places of its own and no barrier is wanted.
template <class Row>
__device__ __forceinline__ void layernorm_gradient_resident(const element *x, const element *dy, const element *gamma,
                                                            const float *mean, const float *rstd, element *dx,
                                                            float *partial, count rows, word cols) {
    constexpr int W = Row::W;
    constexpr int QUADS = W / 4;
    const float share = 1.0f / (float)cols;
    extern __shared__ uint4 shared[];
    uint4 *weights = shared + threadIdx.x;
    float4 *dgamma = reinterpret_cast<float4 *>(weights + Row::EACH * THREADS);
    float4 *dbeta = dgamma + Row::EACH * QUADS * THREADS;
    auto add = [](float4 &sum, const float *term) {
        sum = make_float4(sum.x + term[0], sum.y + term[1], sum.z + term[2], sum.w + term[3]);
    };
    Row::visit(cols, [&](int i, word column) {
        weights[i * THREADS] = *reinterpret_cast<const uint4 *>(gamma + column);
#pragma unroll
        for (int q = 0; q < QUADS; ++q)
            dgamma[(i * QUADS + q) * THREADS] = dbeta[(i * QUADS + q) * THREADS] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    });

    Team team;
    count r = blockIdx.x;
    Row next_x, next_dy;
    if (r < rows) {
        next_x.load(x + r * cols, cols);
        next_dy.load(dy + r * cols, cols);
    }
    for (; r < rows; r += gridDim.x) {
        Row row = next_x, slope = next_dy;
        count following = r + gridDim.x;
        if (following < rows) {
            next_x.load(x + following * cols, cols);
            next_dy.load(dy + following * cols, cols);
        }
        float centre = __ldg(mean + r), scale = __ldg(rstd + r);
        float2 total = make_float2(0.0f, 0.0f);
        Row::visit(cols, [&](int i, word column) {
            float h[W], g[W], w[W], product[W];
            row.lanes(i, column, h);
            slope.lanes(i, column, g);
            unpack(weights[i * THREADS], w);
#pragma unroll
            for (int k = 0; k < W; ++k) {
                product[k] = g[k] * ((h[k] - centre) * scale);
                total.x = fmaf(g[k], w[k], total.x);
                total.y = fmaf(product[k], w[k], total.y);
            }
#pragma unroll
            for (int q = 0; q < QUADS; ++q) {
                add(dgamma[(i * QUADS + q) * THREADS], product + 4 * q);
                add(dbeta[(i * QUADS + q) * THREADS], g + 4 * q);
            }
        });
        total = team.sum(total);
        float level = total.x * share, tilt = total.y * share;
        element *target = dx + r * cols;
        row.forget();
        slope.forget();
        Row::visit(cols, [&](int i, word column) {
            float h[W], g[W], w[W];
            row.lanes(i, column, h);
            slope.lanes(i, column, g);
            unpack(weights[i * THREADS], w);
#pragma unroll
            for (int k = 0; k < W; ++k) {
                h[k] = (h[k] - centre) * scale;
                g[k] = scale * (fmaf(g[k], w[k], -level) - h[k] * tilt);
            }
            store_lanes<W>(target + column, g);
        });
    }
    float4 *first = reinterpret_cast<float4 *>(partial + (count)blockIdx.x * cols);
    float4 *second = reinterpret_cast<float4 *>(partial + ((count)gridDim.x + blockIdx.x) * cols);
    Row::visit(cols, [&](int i, word column) {
#pragma unroll
        for (int q = 0; q < QUADS; ++q) {
            first[column / 4 + q] = dgamma[(i * QUADS + q) * THREADS];
            second[column / 4 + q] = dbeta[(i * QUADS + q) * THREADS];
        }
    });
}

// Streamed: the column sums are taken first, in a walk down this block's rows of their
// own, so that they stay in registers: half as many bytes again, or more where the row is
// no longer in the cache for its second pass.
template <class Row>
__device__ __forceinline__ void layernorm_gradient_streamed(const element *x, const element *dy, const element *gamma,
                                                            const float *mean, const float *rstd, element *dx,
                                                            float *partial, count rows, word cols) {
    constexpr int W = Row::W;
    const float share = 1.0f / (float)cols;
    Row::visit(cols, [&](int, word column) {
        float dgamma[W] = {}, dbeta[W] = {};
#pragma unroll 4
        for (count r = blockIdx.x; r < rows; r += gridDim.x) {
            float centre = __ldg(mean + r), scale = __ldg(rstd + r);
            float h[W], g[W];
            load_lanes<W>(x + r * cols + column, h);
            load_lanes<W>(dy + r * cols + column, g);
#pragma unroll
            for (int k = 0; k < W; ++k) {
                dgamma[k] = fmaf(g[k], (h[k] - centre) * scale, dgamma[k]);
                dbeta[k] += g[k];
            }
        }
        float *first = partial + (count)blockIdx.x * cols + column;
        float *second = first + (count)gridDim.x * cols;
#pragma unroll
        for (int k = 0; k < W; ++k) {
            first[k] = dgamma[k];
            second[k] = dbeta[k];
        }
    });
    // In place, dx may overwrite what another thread's walk still reads.
    __syncthreads();
    Team team;
    for (count r = blockIdx.x; r < rows; r += gridDim.x) {
        Row row, slope;
        row.load(x + r * cols, cols);
        slope.load(dy + r * cols, cols);
        float centre = __ldg(mean + r), scale = __ldg(rstd + r);
        float2 total = make_float2(0.0f, 0.0f);
        Row::visit(cols, [&](int i, word column) {
            float h[W], g[W], w[W];
            row.lanes(i, column, h);
            slope.lanes(i, column, g);
            load_parameters<W>(gamma + column, w);
#pragma unroll
            for (int k = 0; k < W; ++k) {
                total.x = fmaf(g[k], w[k], total.x);
                total.y = fmaf(g[k] * w[k], (h[k] - centre) * scale, total.y);
            }
        });
        total = team.sum(total);
        float level = total.x * share, tilt = total.y * share;
        element *target = dx + r * cols;
        Row::visit(cols, [&](int i, word column) {
            float h[W], g[W], w[W];
            row.lanes(i, column, h);
            slope.lanes(i, column, g);
            load_parameters<W>(gamma + column, w);
#pragma unroll
            for (int k = 0; k < W; ++k) {
                h[k] = (h[k] - centre) * scale;
                g[k] = scale * (fmaf(g[k], w[k], -level) - h[k] * tilt);
            }
            store_lanes<W>(target + column, g);
        });
    }
}

template <class Row>
__device__ __forceinline__ void layernorm_gradient(const element *x, const element *dy, const element *gamma,
                                                   const float *mean, const float *rstd, element *dx, float *partial,
                                                   count rows, word cols) {
    if constexpr (Row::EACH > 0) layernorm_gradient_resident<Row>(x, dy, gamma, mean, rstd, dx, partial, rows, cols);
    else layernorm_gradient_streamed<Row>(x, dy, gamma, mean, rstd, dx, partial, rows, cols);
}

#ifdef WANT_layernorm_backward_parameters
extern "C" __global__ void __launch_bounds__(512)
    layernorm_backward_parameters(const float *partial, element *dgamma, element *dbeta, word blocks, count cols) {
    __shared__ float share[16][33];
    count column = (count)blockIdx.x * 32 + threadIdx.x;
    partial += (count)blockIdx.y * blocks * cols;
    float total = 0.0f;
    if (column < cols)
        for (word b = threadIdx.y; b < blocks; b += 16) total += partial[b * cols + column];
    share[threadIdx.y][threadIdx.x] = total;
    __syncthreads();
    if (threadIdx.y == 0 && column < cols) {
        for (int i = 1; i < 16; ++i) total += share[i][threadIdx.x];
        (blockIdx.y == 0 ? dgamma : dbeta)[column] = narrow(total);
    }
}
#endif

// ---- Entry points ----

// The threads that must fit on a multiprocessor, which caps their registers. By the rule
// above a thread has four vectors, so these keep 48 KB in flight on each multiprocessor,
// enough on an H100; 1024 gained nothing there and spilled.
#ifndef RESIDENT_THREADS
#define RESIDENT_THREADS 768
#endif

__device__ constexpr int blocks(int threads) {
    int fit = (threads + THREADS * ROWS / 2) / (THREADS * ROWS);
    return fit < 1 ? 1 : fit > 16 ? 16 : fit;
}

#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(THREADS *ROWS, blocks(threads))

#ifdef WANT_softmax
KERNEL(RESIDENT_THREADS) softmax(const element *x, element *y, count rows, count cols) {
    DISPATCH(FORWARD, softmax_plain, x, y, rows, columns)
}
#endif

#ifdef WANT_softmax_scaled
KERNEL(RESIDENT_THREADS) softmax_scaled(const element *x, element *y, count rows, count cols, float scale, int causal) {
    DISPATCH(FORWARD, softmax_masked, x, y, rows, columns, scale, causal)
}
#endif

#ifdef WANT_softmax_backward
KERNEL(512) softmax_backward(const element *y, const element *dy, element *dx, count rows, count cols, float scale) {
    DISPATCH(FORWARD, softmax_gradient, y, dy, dx, rows, columns, scale)
}
#endif

#ifdef WANT_layernorm
KERNEL(RESIDENT_THREADS) layernorm(const element *x, const element *gamma, const element *beta, element *y, count rows, count cols,
                 float epsilon) {
    DISPATCH(FORWARD, layernorm_plain, x, gamma, beta, y, rows, columns, epsilon)
}
#endif

#ifdef WANT_layernorm_stats
KERNEL(RESIDENT_THREADS) layernorm_stats(const element *x, const element *gamma, const element *beta, element *y, float *mean,
                       float *rstd, count rows, count cols, float epsilon) {
    DISPATCH(FORWARD, layernorm_saving, x, gamma, beta, y, mean, rstd, rows, columns, epsilon)
}
#endif

#ifdef WANT_rmsnorm
KERNEL(RESIDENT_THREADS) rmsnorm(const element *x, const element *gamma, element *y, count rows, count cols, float epsilon) {
    DISPATCH(FORWARD, rmsnorm_rows, x, gamma, y, rows, columns, epsilon)
}
#endif

#ifdef WANT_layernorm_backward
KERNEL(BACKWARD && Resident::EACH > 2 ? 512 : 1024) layernorm_backward(const element *x, const element *dy, const element *gamma, const float *mean,
                          const float *rstd, element *dx, float *partial, count rows, count cols) {
    DISPATCH(BACKWARD, layernorm_gradient, x, dy, gamma, mean, rstd, dx, partial, rows, columns)
}
#endif
