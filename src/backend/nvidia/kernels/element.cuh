// ---- Element type (the same text in every family that reads or writes it) ----
// -DELEMENT: 0 f32, 1 bf16, 2 f16. A 16-bit element is held as its bits, because
// the CUDA headers that define the real types are not on a machine that has only
// libnvrtc. All arithmetic is f32. -DSOFTWARE_CONVERSIONS forces the conversions
// of the oldest devices, so that a newer one can test them.
#ifndef ELEMENT
#define ELEMENT 0
#endif

typedef unsigned long long count;
typedef unsigned int word;

#if ELEMENT == 0
typedef float element;
#elif ELEMENT == 1 || ELEMENT == 2
typedef unsigned short element;
#else
#error "this family takes f32, bf16 and f16 elements"
#endif

constexpr int LANES = 16 / sizeof(element);

#if __CUDA_ARCH__ >= 800 && !defined(SOFTWARE_CONVERSIONS)
#define PAIRED_CONVERSIONS 1
#else
#define PAIRED_CONVERSIONS 0
#endif

__device__ __forceinline__ float widen(element value) {
#if ELEMENT == 0
    return value;
#elif ELEMENT == 1
    return __uint_as_float((word)value << 16);
#else
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value));
    return wide;
#endif
}

// Round to nearest even. A NaN stays one: without the test, rounding would carry
// some NaN into infinity.
__device__ __forceinline__ element narrow(float value) {
#if ELEMENT == 0
    return value;
#elif ELEMENT == 1
    word bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return (element)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
#else
    element half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
    return half;
#endif
}

__device__ __forceinline__ word narrow_pair(float low, float high) {
#if ELEMENT == 1 && PAIRED_CONVERSIONS
    word pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#elif ELEMENT == 2 && PAIRED_CONVERSIONS
    word pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#else
    return (word)narrow(low) | (word)narrow(high) << 16;
#endif
}

// One 16-byte vector as f32 lanes, and back.
__device__ __forceinline__ void unpack(uint4 bits, float (&lane)[LANES]) {
    word part[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#if ELEMENT == 0
        lane[i] = __uint_as_float(part[i]);
#elif ELEMENT == 1
        lane[2 * i] = __uint_as_float(part[i] << 16);
        lane[2 * i + 1] = __uint_as_float(part[i] & 0xffff0000u);
#else
        lane[2 * i] = widen((element)(part[i] & 0xffffu));
        lane[2 * i + 1] = widen((element)(part[i] >> 16));
#endif
    }
}

__device__ __forceinline__ uint4 pack(const float (&lane)[LANES]) {
#if ELEMENT == 0
    return make_uint4(__float_as_uint(lane[0]), __float_as_uint(lane[1]), __float_as_uint(lane[2]),
                      __float_as_uint(lane[3]));
#else
    return make_uint4(narrow_pair(lane[0], lane[1]), narrow_pair(lane[2], lane[3]),
                      narrow_pair(lane[4], lane[5]), narrow_pair(lane[6], lane[7]));
#endif
}
// ---- End of the element type ----

