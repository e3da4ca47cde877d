// Inputs from seeds, and plain references in double precision for the numeric checks: clear rather than fast, and sharing no
// code with what they check. Element types are numbered as in `work.rs`.

#define F32 0
#define BF16 1
#define F16 2
#define E4M3 3
#define E5M2 4
#define INT8 5
#define INT32 6
#define F64 7

typedef unsigned long long u64;

__device__ double of_float8(unsigned bits, int mantissa, int bias) {
    const unsigned sign = bits >> 7;
    const unsigned fraction = bits & ((1u << mantissa) - 1);
    const int exponent = (int)((bits & 0x7f) >> mantissa);
    // E4M3 has one NaN and no infinity, E5M2 both as IEEE 754 has.
    if (mantissa == 3 && (bits & 0x7f) == 0x7f) return __longlong_as_double(0x7ff8000000000000ll);
    if (mantissa == 2 && exponent == 31) return fraction ? __longlong_as_double(0x7ff8000000000000ll)
                                                         : __longlong_as_double(0x7ff0000000000000ll);
    const double value = exponent ? ldexp(1.0 + (double)fraction / (1 << mantissa), exponent - bias)
                                  : ldexp((double)fraction / (1 << mantissa), 1 - bias);
    return sign ? -value : value;
}

__device__ double element(const void* data, int type, u64 index) {
    switch (type) {
        case F32: return ((const float*)data)[index];
        case BF16: return __uint_as_float((unsigned)((const unsigned short*)data)[index] << 16);
        case F16: {
            float value;
            asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(((const unsigned short*)data)[index]));
            return value;
        }
        case E4M3: return of_float8(((const unsigned char*)data)[index], 3, 7);
        case E5M2: return of_float8(((const unsigned char*)data)[index], 2, 15);
        case INT8: return ((const signed char*)data)[index];
        case INT32: return ((const int*)data)[index];
        default: return ((const double*)data)[index];
    }
}

// Rounds to the nearest representable value, ties to even; beyond the largest finite one to that.
__device__ unsigned char to_float8(float value, int mantissa, int bias, float largest) {
    const unsigned char sign = value < 0.0f ? 0x80 : 0;
    float size = fminf(fabsf(value), largest);
    if (size == 0.0f) return sign;
    int exponent = max(ilogbf(size), 1 - bias);
    unsigned whole = (unsigned)rintf(ldexpf(size, mantissa - exponent));
    if (whole >> (mantissa + 1)) {
        whole >>= 1;
        exponent += 1;
    }
    const unsigned biased = (whole >> mantissa) ? exponent + bias : 0;
    return sign | (unsigned char)((biased << mantissa) | (whole & ((1u << mantissa) - 1)));
}

__device__ void store(void* data, int type, u64 index, float value) {
    switch (type) {
        case F32: ((float*)data)[index] = value; break;
        case BF16: {
            const unsigned bits = __float_as_uint(value);
            ((unsigned short*)data)[index] = (unsigned short)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
            break;
        }
        case F16: {
            unsigned short half;
            asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
            ((unsigned short*)data)[index] = half;
            break;
        }
        case E4M3: ((unsigned char*)data)[index] = to_float8(value, 3, 7, 448.0f); break;
        case E5M2: ((unsigned char*)data)[index] = to_float8(value, 2, 15, 57344.0f); break;
        case INT8: ((signed char*)data)[index] = (signed char)rintf(fminf(fmaxf(value, -127.0f), 127.0f)); break;
        case INT32: ((int*)data)[index] = (int)rintf(value); break;
        default: ((double*)data)[index] = value;
    }
}

// Mixes 64 bits (the finaliser of SplitMix64, Steele et al. 2014).
__device__ u64 mix(u64 x) {
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

// Two uniform values from the seed and the place alone; the first in (0, 1], so that its logarithm is finite.
__device__ void uniforms(u64 seed, u64 index, float* first, float* second) {
    const u64 bits = mix(mix(seed) ^ index);
    *first = ((unsigned)(bits >> 40) + 1) * (1.0f / 16777216.0f);
    *second = (unsigned)(bits & 0xffffff) * (1.0f / 16777216.0f);
}

// Fills with normal values (Box and Muller 1958). Any grid.
extern "C" __global__ void fill_normal(void* out, int type, u64 count, u64 seed, float mean, float sigma) {
    const u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
        float radius, turn;
        uniforms(seed, i, &radius, &turn);
        store(out, type, i, mean + sigma * sqrtf(-2.0f * logf(radius)) * cospif(2.0f * turn));
    }
}

// Fills with uniform values from `low` to `high`. Any grid.
extern "C" __global__ void fill_uniform(void* out, int type, u64 count, u64 seed, float low, float high) {
    const u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
        float radius, turn;
        uniforms(seed, i, &radius, &turn);
        store(out, type, i, low + (high - low) * turn);
    }
}

// Fills with one value. Any grid.
extern "C" __global__ void fill_constant(void* out, int type, u64 count, float value) {
    const u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) store(out, type, i, value);
}

// Elements at these places, as double precision. Any grid.
extern "C" __global__ void gather(const void* data, int type, const u64* places, u64 count, double* out) {
    const u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) out[i] = element(data, type, places[i]);
}

// Single elements of a matrix product: out[i] = sum over p of a[rows[i] * a_row + p * a_step] * b[columns[i] * b_column + p * b_step].
// One warp an element.
extern "C" __global__ void dot_products(const void* a, int a_type, u64 a_row, u64 a_step, const void* b, int b_type,
                                        u64 b_column, u64 b_step, const u64* rows, const u64* columns, u64 count, u64 depth,
                                        double* out) {
    const u64 i = ((u64)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    const unsigned lane = threadIdx.x % 32;
    if (i >= count) return;
    double sum = 0.0;
    for (u64 p = lane; p < depth; p += 32)
        sum += element(a, a_type, rows[i] * a_row + p * a_step) * element(b, b_type, columns[i] * b_column + p * b_step);
    for (int other = 16; other; other /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, other);
    if (lane == 0) out[i] = sum;
}

// Adds all elements up. Blocks of a multiple of 32 threads, any grid. (Before Pascal there is no atomic addition of doubles.)
extern "C" __global__ void total(const void* data, int type, u64 count, double* out) {
    const u64 step = (u64)gridDim.x * blockDim.x;
    double sum = 0.0;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) sum += element(data, type, i);
    for (int other = 16; other; other /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, other);
    if (threadIdx.x % 32 == 0) atomicAdd(out, sum);
}

// Counts bytes that differ. Any grid.
extern "C" __global__ void differences(const unsigned char* a, const unsigned char* b, u64 count, u64* out) {
    const u64 step = (u64)gridDim.x * blockDim.x;
    u64 found = 0;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) found += a[i] != b[i];
    if (found) atomicAdd(out, found);
}

// ---- Attention, one head at a time, in double precision ----
// Matrices of one head are [length, depth] with rows `depth` apart; a mask hides keys after the query's own place.

#define LARGEST_DEPTH 512

struct Head {
    const void *q, *k, *v, *slope;  // the last is the output's gradient, null in a forward pass
    int type;
    u64 q_offset, kv_offset;  // elements before this head
    u64 length, depth;
    double scale;
    int causal;
};

// Sum over a block of a power of two threads; the same value in all of them.
__device__ double block_sum(double value, double* scratch) {
    scratch[threadIdx.x] = value;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half; half /= 2) {
        if (threadIdx.x < half) scratch[threadIdx.x] += scratch[threadIdx.x + half];
        __syncthreads();
    }
    value = scratch[0];
    __syncthreads();
    return value;
}

__device__ double score(const Head& h, u64 query, u64 key) {
    double sum = 0.0;
    for (u64 d = 0; d < h.depth; ++d)
        sum += element(h.q, h.type, h.q_offset + query * h.depth + d) * element(h.k, h.type, h.kv_offset + key * h.depth + d);
    return sum * h.scale;
}

__device__ double along(const Head& h, u64 query, u64 key) {
    double sum = 0.0;
    for (u64 d = 0; d < h.depth; ++d)
        sum += element(h.slope, h.type, h.q_offset + query * h.depth + d) *
               element(h.v, h.type, h.kv_offset + key * h.depth + d);
    return sum;
}

// For every query: log of the sum of exponentials, and (backward) the output along its gradient. One block of 128 a query.
extern "C" __global__ void attention_rows(const void* q, const void* k, const void* v, const void* slope, int type, u64 q_offset, u64 kv_offset, u64 length,
                                             u64 depth, double scale, int causal, double* logsum, double* tilt) {
    const Head h = {q, k, v, slope, type, q_offset, kv_offset, length, depth, scale, causal};
    __shared__ double scratch[128];
    const u64 query = blockIdx.x;
    const u64 seen = h.causal ? query + 1 : h.length;
    double most = -1e300;
    for (u64 key = threadIdx.x; key < seen; key += blockDim.x) most = fmax(most, score(h, query, key));
    scratch[threadIdx.x] = most;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half; half /= 2) {
        if (threadIdx.x < half) scratch[threadIdx.x] = fmax(scratch[threadIdx.x], scratch[threadIdx.x + half]);
        __syncthreads();
    }
    most = scratch[0];
    __syncthreads();
    double total = 0.0, tilted = 0.0;
    for (u64 key = threadIdx.x; key < seen; key += blockDim.x) {
        const double weight = exp(score(h, query, key) - most);
        total += weight;
        if (h.slope) tilted += weight * along(h, query, key);
    }
    total = block_sum(total, scratch);
    tilted = block_sum(tilted, scratch);
    if (threadIdx.x == 0) {
        logsum[query] = most + log(total);
        tilt[query] = tilted / total;
    }
}

// Output and gradient of these queries: out and dq are [count, depth]. One block of 128 a query.
extern "C" __global__ void attention_queries(const void* q, const void* k, const void* v, const void* slope, int type, u64 q_offset, u64 kv_offset, u64 length,
                                             u64 depth, double scale, int causal, const double* logsum,
                                             const double* tilt, const u64* queries, double* out, double* dq) {
    const Head h = {q, k, v, slope, type, q_offset, kv_offset, length, depth, scale, causal};
    const u64 query = queries[blockIdx.x];
    const u64 seen = h.causal ? query + 1 : h.length;
    // Weights of as many keys as there are threads at a time; then each thread adds them up for dimensions of its own.
    __shared__ double weights[128], bends[128];
    double o[LARGEST_DEPTH / 128] = {}, g[LARGEST_DEPTH / 128] = {};
    for (u64 start = 0; start < seen; start += blockDim.x) {
        const u64 key = start + threadIdx.x;
        const double weight = key < seen ? exp(score(h, query, key) - logsum[query]) : 0.0;
        weights[threadIdx.x] = weight;
        bends[threadIdx.x] = h.slope && key < seen ? weight * (along(h, query, key) - tilt[query]) * h.scale : 0.0;
        __syncthreads();
        const u64 here = seen - start < blockDim.x ? seen - start : blockDim.x;
        for (unsigned part = 0; part * 128 + threadIdx.x < h.depth; ++part)
            for (u64 i = 0; i < here; ++i) {
                const u64 place = h.kv_offset + (start + i) * h.depth + part * 128 + threadIdx.x;
                o[part] += weights[i] * element(h.v, h.type, place);
                if (h.slope) g[part] += bends[i] * element(h.k, h.type, place);
            }
        __syncthreads();
    }
    for (unsigned part = 0; part * 128 + threadIdx.x < h.depth; ++part) {
        const u64 place = blockIdx.x * h.depth + part * 128 + threadIdx.x;
        out[place] = o[part];
        if (h.slope) dq[place] = g[part];
    }
}

// Adds this head's part of the gradients of these keys and values: dk and dv are [count, depth]. One block of 128 a key.
extern "C" __global__ void attention_keys(const void* q, const void* k, const void* v, const void* slope, int type, u64 q_offset, u64 kv_offset, u64 length,
                                             u64 depth, double scale, int causal, const double* logsum,
                                             const double* tilt, const u64* keys, double* dk, double* dv) {
    const Head h = {q, k, v, slope, type, q_offset, kv_offset, length, depth, scale, causal};
    const u64 key = keys[blockIdx.x];
    __shared__ double weights[128], bends[128];
    double gk[LARGEST_DEPTH / 128] = {}, gv[LARGEST_DEPTH / 128] = {};
    for (u64 start = h.causal ? key : 0; start < h.length; start += blockDim.x) {
        const u64 query = start + threadIdx.x;
        const bool in = query < h.length;
        const double weight = in ? exp(score(h, query, key) - logsum[query]) : 0.0;
        weights[threadIdx.x] = weight;
        bends[threadIdx.x] = in ? weight * (along(h, query, key) - tilt[query]) * h.scale : 0.0;
        __syncthreads();
        const u64 here = h.length - start < blockDim.x ? h.length - start : blockDim.x;
        for (unsigned part = 0; part * 128 + threadIdx.x < h.depth; ++part)
            for (u64 i = 0; i < here; ++i) {
                const u64 place = h.q_offset + (start + i) * h.depth + part * 128 + threadIdx.x;
                gv[part] += weights[i] * element(h.slope, h.type, place);
                gk[part] += bends[i] * element(h.q, h.type, place);
            }
        __syncthreads();
    }
    for (unsigned part = 0; part * 128 + threadIdx.x < h.depth; ++part) {
        const u64 place = blockIdx.x * h.depth + part * 128 + threadIdx.x;
        dk[place] += gk[part];
        dv[place] += gv[part];
    }
}

// ---- Whole layers in double precision, everything stored as such: what the transformer block is compared with ----

// Elements from a place on, in double precision. Any grid.
extern "C" __global__ void widened(const void* data, int type, u64 from, u64 count, double* out) {
    const u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) out[i] = element(data, type, from + i);
}

// out = x + step * along: a point moved. Any grid.
extern "C" __global__ void moved(const double* x, const double* along, double step, u64 count, double* out) {
    const u64 stride = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += stride) out[i] = x[i] + step * along[i];
}

// Adds the sum of a * b to one number. Blocks of a multiple of 32 threads, any grid.
extern "C" __global__ void inner(const double* a, const double* b, u64 count, double* out) {
    const u64 step = (u64)gridDim.x * blockDim.x;
    double sum = 0.0;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) sum += a[i] * b[i];
    for (int other = 16; other; other /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, other);
    if (threadIdx.x % 32 == 0) atomicAdd(out, sum);
}

// A matrix as stored: the element in row r and column c of matrix z of a batch is data[z * batch + r * row + c * column].
struct Matrix {
    const double* data;
    u64 row, column, batch;
};

#define TILE 64
#define DEEP 16

// A tile of TILE rows and DEEP columns from (top, left), zeros outside, into shared memory column by column. Neighbouring
// threads read neighbours in memory whichever way the matrix lies.
__device__ void take(const Matrix& x, u64 top, u64 left, u64 rows, u64 columns, double (*tile)[TILE + 1]) {
    for (unsigned i = threadIdx.x; i < TILE * DEEP; i += blockDim.x) {
        const unsigned r = x.column == 1 ? i / DEEP : i % TILE;
        const unsigned c = x.column == 1 ? i % DEEP : i / TILE;
        const bool in = top + r < rows && left + c < columns;
        tile[c][r] = in ? x.data[blockIdx.z * x.batch + (top + r) * x.row + (left + c) * x.column] : 0.0;
    }
}

// c = scale * a b + bias + addend, of matrices [m, k] and [k, n]; the bias is one number a column, the addend lies as c does, and
// either may be null. Block 256, four by four elements a thread; grid ceil(n / 64) x ceil(m / 64) x batch.
extern "C" __global__ void __launch_bounds__(256)
    product(const double* a, u64 a_row, u64 a_column, u64 a_batch, const double* b, u64 b_row, u64 b_column, u64 b_batch,
            double* c, u64 c_row, u64 c_batch, u64 m, u64 n, u64 k, double scale, const double* bias, const double* addend) {
    const Matrix left = {a, a_row, a_column, a_batch};
    const Matrix right = {b, b_column, b_row, b_batch};  // transposed, so that both are taken alike
    __shared__ double rows[DEEP][TILE + 1], columns[DEEP][TILE + 1];
    const unsigned x = threadIdx.x % 16, y = threadIdx.x / 16;
    const u64 top = (u64)blockIdx.y * TILE, first = (u64)blockIdx.x * TILE;
    double sums[4][4] = {};
    for (u64 start = 0; start < k; start += DEEP) {
        take(left, top, start, m, k, rows);
        take(right, first, start, n, k, columns);
        __syncthreads();
#pragma unroll
        for (unsigned p = 0; p < DEEP; ++p) {
            double r[4], s[4];
#pragma unroll
            for (unsigned i = 0; i < 4; ++i) r[i] = rows[p][y + 16 * i];
#pragma unroll
            for (unsigned j = 0; j < 4; ++j) s[j] = columns[p][x + 16 * j];
#pragma unroll
            for (unsigned i = 0; i < 4; ++i)
#pragma unroll
                for (unsigned j = 0; j < 4; ++j) sums[i][j] += r[i] * s[j];
        }
        __syncthreads();
    }
#pragma unroll
    for (unsigned i = 0; i < 4; ++i)
#pragma unroll
        for (unsigned j = 0; j < 4; ++j) {
            const u64 row = top + y + 16 * i, column = first + x + 16 * j;
            if (row >= m || column >= n) continue;
            const u64 place = blockIdx.z * c_batch + row * c_row + column;
            c[place] = scale * sums[i][j] + (bias ? bias[column] : 0.0) + (addend ? addend[place] : 0.0);
        }
}

// y = (x - mean) / sqrt(variance + epsilon) * scale + shift. One block of 128 a row.
extern "C" __global__ void normalised(const double* x, const double* scale, const double* shift, double* y, u64 columns,
                                      double epsilon) {
    __shared__ double scratch[128];
    const double* row = x + blockIdx.x * columns;
    double sum = 0.0, squares = 0.0;
    for (u64 i = threadIdx.x; i < columns; i += blockDim.x) sum += row[i];
    const double mean = block_sum(sum, scratch) / columns;
    for (u64 i = threadIdx.x; i < columns; i += blockDim.x) squares += (row[i] - mean) * (row[i] - mean);
    const double deviation = sqrt(block_sum(squares, scratch) / columns + epsilon);
    for (u64 i = threadIdx.x; i < columns; i += blockDim.x)
        y[blockIdx.x * columns + i] = (row[i] - mean) / deviation * scale[i] + shift[i];
}

// GELU in its tanh form, in place. Any grid.
extern "C" __global__ void activated(double* x, u64 count) {
    const u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step)
        x[i] = 0.5 * x[i] * (1.0 + tanh(0.79788456080286535588 * (x[i] + 0.044715 * x[i] * x[i] * x[i])));
}

// Softmax of square matrices one behind the other, in place: of row r the columns 0 ..= r, zeros behind them. One block of 128 a
// row.
extern "C" __global__ void masked_softmax(double* x, u64 length) {
    __shared__ double scratch[128];
    double* row = x + blockIdx.x * length;
    const u64 seen = blockIdx.x % length + 1;
    double most = -1e300, total = 0.0;
    for (u64 i = threadIdx.x; i < seen; i += blockDim.x) most = fmax(most, row[i]);
    scratch[threadIdx.x] = most;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half; half /= 2) {
        if (threadIdx.x < half) scratch[threadIdx.x] = fmax(scratch[threadIdx.x], scratch[threadIdx.x + half]);
        __syncthreads();
    }
    most = scratch[0];
    __syncthreads();
    for (u64 i = threadIdx.x; i < seen; i += blockDim.x) total += row[i] = exp(row[i] - most);
    total = block_sum(total, scratch);
    for (u64 i = threadIdx.x; i < length; i += blockDim.x) row[i] = i < seen ? row[i] / total : 0.0;
}
