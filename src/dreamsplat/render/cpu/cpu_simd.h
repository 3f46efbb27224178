// Short vectors for the CPU rasteriser: Floats<N> holds N floats in native registers of the instruction set that this
// file is compiled for (AVX-512: 16 lanes, AVX2: 8, anything else: 4), written out as separate registers because GCC's
// own lowering of over-wide vectors was 3 to 5 times slower.
//
// Fused multiply-adds are explicit and -ffp-contract is off, so a formula rounds the same wherever it is inlined: the
// backward pass takes exactly the decisions of the forward pass.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if !defined(__GNUC__)
#error "The CPU rasteriser needs GCC or Clang, for their vector extension."
#endif

#define DREAMSPLAT_INLINE inline __attribute__((always_inline))

namespace dreamsplat {

#if defined(__AVX512F__)
constexpr int kNativeLanes = 16;
#elif defined(__AVX2__)
constexpr int kNativeLanes = 8;
#else
constexpr int kNativeLanes = 4;
#endif

template <int Lanes>
struct Native {
    typedef float F __attribute__((vector_size(4 * Lanes)));
    typedef int32_t I __attribute__((vector_size(4 * Lanes)));
};

// The operations that the vector extension lacks, for one native register.

template <class F>
DREAMSPLAT_INLINE F native_fma(F a, F b, F c) {  // a * b + c
#if defined(__AVX512F__)
    if constexpr (sizeof(F) == 64) return (F)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#endif
#if defined(__FMA__)
    if constexpr (sizeof(F) == 32) return (F)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
    if constexpr (sizeof(F) == 16) return (F)_mm_fmadd_ps((__m128)a, (__m128)b, (__m128)c);
#elif defined(__aarch64__)
    if constexpr (sizeof(F) == 16) return (F)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#endif
    return a * b + c;
}

template <int... K, class F>
DREAMSPLAT_INLINE F shuffle(F a, F b) {  // lane by lane a[K], or b[K - lanes]
#if defined(__clang__)
    return __builtin_shufflevector(a, b, K...);
#else
    typedef int32_t I __attribute__((vector_size(sizeof(F))));
    return __builtin_shuffle(a, b, I{K...});
#endif
}

template <class F>
DREAMSPLAT_INLINE F native_sqrt(F a) {
#if defined(__AVX512F__)
    if constexpr (sizeof(F) == 64) return (F)_mm512_sqrt_ps((__m512)a);
#endif
#if defined(__AVX2__)
    if constexpr (sizeof(F) == 32) return (F)_mm256_sqrt_ps((__m256)a);
#endif
#if defined(__x86_64__)
    if constexpr (sizeof(F) == 16) return (F)_mm_sqrt_ps((__m128)a);
#elif defined(__aarch64__)
    if constexpr (sizeof(F) == 16) return (F)vsqrtq_f32((float32x4_t)a);
#endif
    for (unsigned i = 0; i < sizeof(F) / 4; ++i) a[i] = __builtin_sqrtf(a[i]);
    return a;
}

template <class F>
DREAMSPLAT_INLINE F native_min(F a, F b) {  // b where either is not-a-number
#if defined(__AVX512F__)
    if constexpr (sizeof(F) == 64) return (F)_mm512_min_ps((__m512)a, (__m512)b);
#endif
    return a < b ? a : b;
}

template <class F>
DREAMSPLAT_INLINE F native_max(F a, F b) {  // b where either is not-a-number
#if defined(__AVX512F__)
    if constexpr (sizeof(F) == 64) return (F)_mm512_max_ps((__m512)a, (__m512)b);
#endif
    return a > b ? a : b;
}

template <class F>
DREAMSPLAT_INLINE void native_stream(float* to, F a) {
#if defined(__AVX512F__)
    if constexpr (sizeof(F) == 64) return _mm512_stream_ps(to, (__m512)a);
#endif
#if defined(__AVX2__)
    if constexpr (sizeof(F) == 32) return _mm256_stream_ps(to, (__m256)a);
#endif
#if defined(__x86_64__)
    if constexpr (sizeof(F) == 16) return _mm_stream_ps(to, (__m128)a);
#endif
    std::memcpy(to, &a, sizeof a);
}

DREAMSPLAT_INLINE void finish_streams() {
#if defined(__x86_64__)
    _mm_sfence();
#endif
}

// 1 / sqrt a for a > 0, within 4e-4 of it; which error it makes depends on the processor.
template <class F>
DREAMSPLAT_INLINE F native_rough_rsqrt(F a) {
#if defined(__AVX512F__)
    if constexpr (sizeof(F) == 64) return (F)_mm512_rsqrt14_ps((__m512)a);
#endif
#if defined(__AVX2__)
    if constexpr (sizeof(F) == 32) return (F)_mm256_rsqrt_ps((__m256)a);
#endif
#if defined(__x86_64__)
    if constexpr (sizeof(F) == 16) return (F)_mm_rsqrt_ps((__m128)a);
#endif
    return 1.0f / native_sqrt(a);
}

// A truth value per lane. AVX-512 keeps those of 16 lanes in a mask register, the others in a vector of 0 and -1.
template <int Lanes>
struct NativeMask {
    using F = typename Native<Lanes>::F;
    using I = typename Native<Lanes>::I;
    I m;
    static DREAMSPLAT_INLINE NativeMask less(F a, F b) { return {a < b}; }
    static DREAMSPLAT_INLINE NativeMask less_equal(F a, F b) { return {a <= b}; }
    DREAMSPLAT_INLINE NativeMask operator&(NativeMask o) const { return {m & o.m}; }
    DREAMSPLAT_INLINE NativeMask operator~() const { return {~m}; }
    DREAMSPLAT_INLINE F select(F a, F b) const { return m ? a : b; }
    DREAMSPLAT_INLINE bool any() const {
#if defined(__aarch64__)
        if constexpr (Lanes == 4) return vmaxvq_u32((uint32x4_t)m) != 0;
#endif
        return bits() != 0;
    }
    DREAMSPLAT_INLINE uint32_t bits() const {  // lane i is bit i
#if defined(__AVX2__)
        if constexpr (Lanes == 8) return uint32_t(_mm256_movemask_ps((__m256)m));
#endif
#if defined(__x86_64__)
        if constexpr (Lanes == 4) return uint32_t(_mm_movemask_ps((__m128)m));
#elif defined(__aarch64__)
        if constexpr (Lanes == 4) return vaddvq_u32((uint32x4_t)m & uint32x4_t{1, 2, 4, 8});
#endif
        uint32_t seen = 0;
        for (int i = 0; i < Lanes; ++i) seen |= uint32_t(m[i] & 1) << i;
        return seen;
    }
};

#if defined(__AVX512F__)
template <>
struct NativeMask<16> {
    using F = typename Native<16>::F;
    __mmask16 m;
    static DREAMSPLAT_INLINE NativeMask less(F a, F b) {
        return {_mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ)};
    }
    static DREAMSPLAT_INLINE NativeMask less_equal(F a, F b) {
        return {_mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LE_OQ)};
    }
    DREAMSPLAT_INLINE NativeMask operator&(NativeMask o) const { return {__mmask16(m & o.m)}; }
    DREAMSPLAT_INLINE NativeMask operator~() const { return {__mmask16(~m)}; }
    DREAMSPLAT_INLINE F select(F a, F b) const { return (F)_mm512_mask_blend_ps(m, (__m512)b, (__m512)a); }
    DREAMSPLAT_INLINE bool any() const { return m != 0; }
    DREAMSPLAT_INLINE uint32_t bits() const { return m; }
};
#endif

// N lanes as N / Width native registers; each operator works on each register.
#define DREAMSPLAT_EACH(expression) \
    do {                            \
        _Pragma("GCC unroll 4") for (int i = 0; i < parts; ++i) { expression; } \
    } while (0)

template <int N>
struct Mask {
    static constexpr int width = N < kNativeLanes ? N : kNativeLanes, parts = N / width;
    NativeMask<width> p[parts];
    DREAMSPLAT_INLINE Mask operator&(const Mask& o) const {
        Mask r;
        DREAMSPLAT_EACH(r.p[i] = p[i] & o.p[i]);
        return r;
    }
    DREAMSPLAT_INLINE Mask operator~() const {
        Mask r;
        DREAMSPLAT_EACH(r.p[i] = ~p[i]);
        return r;
    }
    DREAMSPLAT_INLINE bool any() const {
        bool r = false;
        DREAMSPLAT_EACH(r |= p[i].any());
        return r;
    }
    DREAMSPLAT_INLINE bool all() const { return !(~*this).any(); }
    DREAMSPLAT_INLINE uint32_t bits() const {  // lane i is bit i
        uint32_t r = 0;
        DREAMSPLAT_EACH(r |= p[i].bits() << (i * width));
        return r;
    }
};

template <int N>
struct Floats {
    static constexpr int width = N < kNativeLanes ? N : kNativeLanes, parts = N / width;
    using F = typename Native<width>::F;
    using I = typename Native<width>::I;
    F p[parts];

    Floats() = default;
    DREAMSPLAT_INLINE Floats(float s) { DREAMSPLAT_EACH(p[i] = s - F{}); }  // NOLINT: broadcasting is meant
    static DREAMSPLAT_INLINE Floats load(const float* a) {
        Floats r;
        std::memcpy(&r, a, sizeof r);
        return r;
    }
    DREAMSPLAT_INLINE void store(float* a) const { std::memcpy(a, this, sizeof *this); }
    // Past the caches where the processor can, to an aligned address. Before another thread reads: finish_streams.
    DREAMSPLAT_INLINE void stream(float* a) const { DREAMSPLAT_EACH(native_stream(a + i * width, p[i])); }

#define DREAMSPLAT_ARITHMETIC(op)                                            \
    friend DREAMSPLAT_INLINE Floats operator op(const Floats& a, const Floats& b) { \
        Floats r;                                                            \
        DREAMSPLAT_EACH(r.p[i] = a.p[i] op b.p[i]);                          \
        return r;                                                            \
    }                                                                        \
    DREAMSPLAT_INLINE Floats& operator op##=(const Floats& b) { return *this = *this op b; }
    DREAMSPLAT_ARITHMETIC(+)
    DREAMSPLAT_ARITHMETIC(-)
    DREAMSPLAT_ARITHMETIC(*)
    DREAMSPLAT_ARITHMETIC(/)
#undef DREAMSPLAT_ARITHMETIC
    DREAMSPLAT_INLINE Floats operator-() const {
        Floats r;
        DREAMSPLAT_EACH(r.p[i] = -p[i]);
        return r;
    }
#define DREAMSPLAT_COMPARE(op, call)                                         \
    friend DREAMSPLAT_INLINE Mask<N> operator op(const Floats& a, const Floats& b) { \
        Mask<N> r;                                                           \
        DREAMSPLAT_EACH(r.p[i] = NativeMask<width>::call);                   \
        return r;                                                            \
    }
    DREAMSPLAT_COMPARE(<, less(a.p[i], b.p[i]))
    DREAMSPLAT_COMPARE(<=, less_equal(a.p[i], b.p[i]))
    DREAMSPLAT_COMPARE(>, less(b.p[i], a.p[i]))
    DREAMSPLAT_COMPARE(>=, less_equal(b.p[i], a.p[i]))
#undef DREAMSPLAT_COMPARE
};

template <int N>
DREAMSPLAT_INLINE Floats<N> select(const Mask<N>& m, const Floats<N>& a, const Floats<N>& b) {
    constexpr int parts = Floats<N>::parts;
    Floats<N> r;
    DREAMSPLAT_EACH(r.p[i] = m.p[i].select(a.p[i], b.p[i]));
    return r;
}

template <int N>
DREAMSPLAT_INLINE Floats<N> fma(const Floats<N>& a, const Floats<N>& b, const Floats<N>& c) {  // a * b + c
    constexpr int parts = Floats<N>::parts;
    Floats<N> r;
    DREAMSPLAT_EACH(r.p[i] = native_fma(a.p[i], b.p[i], c.p[i]));
    return r;
}

template <int N>
DREAMSPLAT_INLINE Floats<N> fnma(const Floats<N>& a, const Floats<N>& b, const Floats<N>& c) {  // c - a * b
    return fma(-a, b, c);
}

template <int N>
DREAMSPLAT_INLINE Floats<N> sqrt(const Floats<N>& a) {
    constexpr int parts = Floats<N>::parts;
    Floats<N> r;
    DREAMSPLAT_EACH(r.p[i] = native_sqrt(a.p[i]));
    return r;
}

template <int N>
DREAMSPLAT_INLINE Floats<N> min(const Floats<N>& a, const Floats<N>& b) {
    constexpr int parts = Floats<N>::parts;
    Floats<N> r;
    DREAMSPLAT_EACH(r.p[i] = native_min(a.p[i], b.p[i]));
    return r;
}

template <int N>
DREAMSPLAT_INLINE Floats<N> max(const Floats<N>& a, const Floats<N>& b) {
    constexpr int parts = Floats<N>::parts;
    Floats<N> r;
    DREAMSPLAT_EACH(r.p[i] = native_max(a.p[i], b.p[i]));
    return r;
}

// sqrt x for x >= 0 within 4e-4 of it; for bounds only, since the error depends on the processor.
template <int N>
DREAMSPLAT_INLINE Floats<N> rough_sqrt(const Floats<N>& x) {
    constexpr int parts = Floats<N>::parts;
    const Floats<N> above_zero = max(x, Floats<N>(1e-30f));
    Floats<N> r;
    DREAMSPLAT_EACH(r.p[i] = above_zero.p[i] * native_rough_rsqrt(above_zero.p[i]));
    return r;
}

// 2^x for x in [-126, 126]; relative error below 3e-7. Outside, any value but no trap.
template <int N>
DREAMSPLAT_INLINE Floats<N> exp2(const Floats<N>& x) {
    constexpr int parts = Floats<N>::parts;
    using F = typename Floats<N>::F;
    using I = typename Floats<N>::I;
    const Floats<N> shifter(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, left in the low mantissa bits
    const Floats<N> shifted = x + shifter;
    const Floats<N> f = x - (shifted - shifter);
    Floats<N> y(0.00132764667f);
    y = fma(y, f, Floats<N>(0.00967554129f));
    y = fma(y, f, Floats<N>(0.0555071329f));
    y = fma(y, f, Floats<N>(0.240221197f));
    y = fma(y, f, Floats<N>(0.693146967f));
    y = fma(y, f, Floats<N>(1.00000007f));
    DREAMSPLAT_EACH(y.p[i] = (F)((I)y.p[i] + ((I)shifted.p[i] << 23)));
    return y;
}

// log2 x for positive normal x; absolute error below 3e-7 near 1 and one unit in the last place elsewhere.
template <int N>
DREAMSPLAT_INLINE Floats<N> log2(const Floats<N>& x) {
    constexpr int parts = Floats<N>::parts;
    using F = typename Floats<N>::F;
    using I = typename Floats<N>::I;
    Floats<N> mantissa, exponent;  // x = mantissa * 2^exponent, mantissa in [sqrt(1/2), sqrt(2))
    DREAMSPLAT_EACH(const I e = ((I)x.p[i] - 0x3f3504f3) >> 23; exponent.p[i] = __builtin_convertvector(e, F);
                    mantissa.p[i] = (F)((I)x.p[i] - (e << 23)));
    const Floats<N> s = (mantissa - 1.0f) / (mantissa + 1.0f), s2 = s * s;  // log m = 2 atanh s
    Floats<N> y(2.8853900817779268f / 9);
    y = fma(y, s2, Floats<N>(2.8853900817779268f / 7));
    y = fma(y, s2, Floats<N>(2.8853900817779268f / 5));
    y = fma(y, s2, Floats<N>(2.8853900817779268f / 3));
    y = fma(y, s2, Floats<N>(2.8853900817779268f));
    return fma(y, s, exponent);
}

// out[lane] = a byte with the bits from `first` to before `last`, whole numbers from 0 to 8.
template <int N>
DREAMSPLAT_INLINE void store_bits_between(const Floats<N>& first, const Floats<N>& last, uint8_t* out) {
    constexpr int parts = Floats<N>::parts, width = Floats<N>::width;
    using I = typename Floats<N>::I;
    typedef uint8_t Bytes __attribute__((vector_size(width)));
    DREAMSPLAT_EACH(const I from = (I{} + 255) << __builtin_convertvector(first.p[i], I);
                    const I past = (I{} + 255) << __builtin_convertvector(last.p[i], I);
                    const Bytes bytes = __builtin_convertvector(from & ~past, Bytes);
                    std::memcpy(out + i * width, &bytes, width));
}

// planes[b * stride] bit i = bit b of bytes[i], for 64 bytes.
DREAMSPLAT_INLINE void bit_planes(const uint8_t* bytes, uint64_t* planes, int stride) {
#if defined(__AVX512BW__)
    __m512i v = _mm512_loadu_si512(bytes);
    for (int b = 7; b >= 0; --b, v = _mm512_add_epi8(v, v)) planes[b * stride] = _mm512_movepi8_mask(v);
#elif defined(__AVX2__)
    __m256i low = _mm256_loadu_si256((const __m256i*)bytes), high = _mm256_loadu_si256((const __m256i*)(bytes + 32));
    for (int b = 7; b >= 0; --b, low = _mm256_add_epi8(low, low), high = _mm256_add_epi8(high, high))
        planes[b * stride] = uint64_t(uint32_t(_mm256_movemask_epi8(high))) << 32 | uint32_t(_mm256_movemask_epi8(low));
#else
    for (int b = 0; b < 8; ++b) planes[b * stride] = 0;
    for (int octet = 0; octet < 8; ++octet) {
        uint64_t m;  // eight bytes; their bits as a matrix, transposed by swapping ever smaller squares
        std::memcpy(&m, bytes + 8 * octet, 8);
        m = (m & 0xaa55aa55aa55aa55) | (m & 0x00aa00aa00aa00aa) << 7 | ((m >> 7) & 0x00aa00aa00aa00aa);
        m = (m & 0xcccc3333cccc3333) | (m & 0x0000cccc0000cccc) << 14 | ((m >> 14) & 0x0000cccc0000cccc);
        m = (m & 0xf0f0f0f00f0f0f0f) | (m & 0x00000000f0f0f0f0) << 28 | ((m >> 28) & 0x00000000f0f0f0f0);
        for (int b = 0; b < 8; ++b) planes[b * stride] |= ((m >> (8 * b)) & 255) << (8 * octet);
    }
#endif
}

// Three vectors of four to the twelve floats a0 b0 c0 a1 b1 ..., and back.
DREAMSPLAT_INLINE void interleave(const Floats<4>& a, const Floats<4>& b, const Floats<4>& c, float* out) {
    using F = Floats<4>::F;
    const F low = shuffle<0, 4, 1, 5>(a.p[0], b.p[0]), high = shuffle<2, 6, 3, 7>(a.p[0], b.p[0]);
    const F middle = shuffle<3, 5, 3, 5>(low, c.p[0]);
    const F rows[3] = {shuffle<0, 1, 4, 2>(low, c.p[0]), shuffle<0, 1, 4, 5>(middle, high),
                       shuffle<6, 2, 3, 7>(high, c.p[0])};
    std::memcpy(out, rows, sizeof rows);
}

DREAMSPLAT_INLINE void deinterleave(const float* in, Floats<4>& a, Floats<4>& b, Floats<4>& c) {
    using F = Floats<4>::F;
    F rows[3];
    std::memcpy(rows, in, sizeof rows);
    a.p[0] = shuffle<0, 1, 2, 5>(shuffle<0, 3, 6, 0>(rows[0], rows[1]), rows[2]);
    b.p[0] = shuffle<0, 1, 2, 6>(shuffle<1, 4, 7, 1>(rows[0], rows[1]), rows[2]);
    c.p[0] = shuffle<0, 1, 4, 7>(shuffle<2, 5, 2, 5>(rows[0], rows[1]), rows[2]);
}

// r[i][j] <-> r[j][i], for as many vectors as each has lanes, by swapping ever smaller squares.
template <int Side, class F, int... K>
DREAMSPLAT_INLINE void swap_squares(F* r, std::integer_sequence<int, K...> lanes) {
    constexpr int count = sizeof...(K);
    _Pragma("GCC unroll 16") for (int i = 0; i < count; ++i) {
        if (i & Side) continue;
        const F a = r[i], b = r[i + Side];
        r[i] = shuffle<(K & Side ? count + K - Side : K)...>(a, b);
        r[i + Side] = shuffle<(K & Side ? count + K : K + Side)...>(a, b);
    }
    if constexpr (Side > 1) swap_squares<Side / 2>(r, lanes);
}

template <int N>
DREAMSPLAT_INLINE void transpose(Floats<N>* r) {
    static_assert(Floats<N>::parts == 1, "one register each");
    typename Floats<N>::F rows[N];
    std::memcpy(rows, r, sizeof rows);
    swap_squares<N / 2>(rows, std::make_integer_sequence<int, N>());
    std::memcpy(r, rows, sizeof rows);
}

using V16 = Floats<16>;
using V8 = Floats<8>;
using V4 = Floats<4>;
using M16 = Mask<16>;

}  // namespace dreamsplat
