/* One vector type, as wide as the flags allow: VL floats. Everything above this file is plain C over it.

   Arithmetic and comparisons are the compiler's (`a * b + c`, `a < b`); here is what C lacks: memory, fma, choice, and the
   functions. Multiply-adds that must agree between instruction sets are written as vfma: nothing is contracted silently. */
#ifndef SIMD_H
#define SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
#define VL 16
#elif defined(__AVX2__)
#define VL 8
#else
#define VL 4
#endif

#define SIMD static inline __attribute__((always_inline, unused))

typedef float vf __attribute__((vector_size(4 * VL)));
typedef int32_t vi __attribute__((vector_size(4 * VL)));
typedef uint32_t vu __attribute__((vector_size(4 * VL)));
typedef float vf_any __attribute__((vector_size(4 * VL), aligned(4), may_alias));
typedef int32_t vi_any __attribute__((vector_size(4 * VL), aligned(4), may_alias));

/* ---- memory: any alignment; the _n forms touch only the first n of VL numbers and fill the rest with 0 ---- */

SIMD vf vload(const float *p) { return *(const vf_any *)p; }
SIMD void vstore(float *p, vf x) { *(vf_any *)p = x; }
SIMD vi viload(const int32_t *p) { return *(const vi_any *)p; }
SIMD void vistore(int32_t *p, vi x) { *(vi_any *)p = x; }

#if defined(__AVX512F__)
SIMD __mmask16 vmask(int64_t n) { return n >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << n) - 1); }
SIMD vf vload_n(const float *p, int64_t n) { return _mm512_maskz_loadu_ps(vmask(n), p); }
SIMD void vstore_n(float *p, vf x, int64_t n) { _mm512_mask_storeu_ps(p, vmask(n), x); }
SIMD vi viload_n(const int32_t *p, int64_t n) { return (vi)_mm512_maskz_loadu_epi32(vmask(n), p); }
SIMD void vistore_n(int32_t *p, vi x, int64_t n) { _mm512_mask_storeu_epi32(p, vmask(n), (__m512i)x); }
#elif defined(__AVX2__)
SIMD __m256i vmask(int64_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n > 8 ? 8 : (int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
SIMD vf vload_n(const float *p, int64_t n) { return _mm256_maskload_ps(p, vmask(n)); }
SIMD void vstore_n(float *p, vf x, int64_t n) { _mm256_maskstore_ps(p, vmask(n), x); }
SIMD vi viload_n(const int32_t *p, int64_t n) { return (vi)_mm256_maskload_epi32(p, vmask(n)); }
SIMD void vistore_n(int32_t *p, vi x, int64_t n) { _mm256_maskstore_epi32(p, vmask(n), (__m256i)x); }
#else
SIMD vf vload_n(const float *p, int64_t n)
{
    vf x = {0};
    for (int64_t i = 0; i < VL && i < n; i++) x[i] = p[i];
    return x;
}
SIMD void vstore_n(float *p, vf x, int64_t n) { for (int64_t i = 0; i < VL && i < n; i++) p[i] = x[i]; }
SIMD vi viload_n(const int32_t *p, int64_t n)
{
    vi x = {0};
    for (int64_t i = 0; i < VL && i < n; i++) x[i] = p[i];
    return x;
}
SIMD void vistore_n(int32_t *p, vi x, int64_t n) { for (int64_t i = 0; i < VL && i < n; i++) p[i] = x[i]; }
#endif

/* ---- set, fma, choice ---- */

#if defined(__AVX512F__)
SIMD vf vset(float x) { return _mm512_set1_ps(x); }
SIMD vi viset(int32_t x) { return (vi)_mm512_set1_epi32(x); }
SIMD vf vfma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
SIMD vf vsqrt(vf x) { return _mm512_sqrt_ps(x); }
SIMD vf vround(vf x) { return _mm512_roundscale_ps(x, 8); }   /* to nearest even */
SIMD vf vfloor(vf x) { return _mm512_roundscale_ps(x, 9); }
#elif defined(__AVX2__)
SIMD vf vset(float x) { return _mm256_set1_ps(x); }
SIMD vi viset(int32_t x) { return (vi)_mm256_set1_epi32(x); }
SIMD vf vfma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
SIMD vf vsqrt(vf x) { return _mm256_sqrt_ps(x); }
SIMD vf vround(vf x) { return _mm256_round_ps(x, 8); }
SIMD vf vfloor(vf x) { return _mm256_round_ps(x, 9); }
#elif defined(__SSE4_1__)
SIMD vf vset(float x) { return _mm_set1_ps(x); }
SIMD vi viset(int32_t x) { return (vi)_mm_set1_epi32(x); }
SIMD vf vfma(vf a, vf b, vf c) { return a * b + c; }          /* these processors have no fma */
SIMD vf vsqrt(vf x) { return _mm_sqrt_ps(x); }
SIMD vf vround(vf x) { return _mm_round_ps(x, 8); }
SIMD vf vfloor(vf x) { return _mm_round_ps(x, 9); }
#elif defined(__aarch64__)
SIMD vf vset(float x) { return (vf)vdupq_n_f32(x); }
SIMD vi viset(int32_t x) { return (vi)vdupq_n_s32(x); }
SIMD vf vfma(vf a, vf b, vf c) { return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
SIMD vf vsqrt(vf x) { return (vf)vsqrtq_f32((float32x4_t)x); }
SIMD vf vround(vf x) { return (vf)vrndnq_f32((float32x4_t)x); }
SIMD vf vfloor(vf x) { return (vf)vrndmq_f32((float32x4_t)x); }
#else
SIMD vf vset(float x) { return (vf){ x, x, x, x }; }
SIMD vi viset(int32_t x) { return (vi){ x, x, x, x }; }
SIMD vf vfma(vf a, vf b, vf c) { return a * b + c; }
SIMD vf vsqrt(vf x) { for (int i = 0; i < VL; i++) x[i] = sqrtf(x[i]); return x; }
SIMD vf vround(vf x) { for (int i = 0; i < VL; i++) x[i] = rintf(x[i]); return x; }
SIMD vf vfloor(vf x) { for (int i = 0; i < VL; i++) x[i] = floorf(x[i]); return x; }
#endif

/* The lesser and the greater, in one instruction: b where they are equal or either is NaN. */
#if defined(__AVX512F__)
SIMD vf vlesser(vf a, vf b) { return _mm512_min_ps(a, b); }
SIMD vf vgreater(vf a, vf b) { return _mm512_max_ps(a, b); }
SIMD vf vpick_less(vf a, vf b, vf x, vf y) { return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x); }
#elif defined(__AVX2__)
SIMD vf vlesser(vf a, vf b) { return _mm256_min_ps(a, b); }
SIMD vf vgreater(vf a, vf b) { return _mm256_max_ps(a, b); }
SIMD vf vpick_less(vf a, vf b, vf x, vf y) { return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ)); }
#else
SIMD vf vpick_less(vf a, vf b, vf x, vf y) { vi m = a < b; return (vf)((m & (vi)x) | (~m & (vi)y)); }   /* a < b ? x : y */
#if defined(__SSE__)
SIMD vf vlesser(vf a, vf b) { return _mm_min_ps(a, b); }
SIMD vf vgreater(vf a, vf b) { return _mm_max_ps(a, b); }
#else
SIMD vf vlesser(vf a, vf b) { return vpick_less(a, b, a, b); }
SIMD vf vgreater(vf a, vf b) { return vpick_less(b, a, a, b); }
#endif
#endif

/* fma of single numbers, the same as vfma of one lane */
SIMD float fma1(float a, float b, float c)
{
#if defined(__FMA__) || defined(__aarch64__)
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

/* a where the mask's lane is -1, b where it is 0; masks come from comparisons */
SIMD vf vpick(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }
SIMD vi vipick(vi mask, vi a, vi b) { return (mask & a) | (~mask & b); }

SIMD vf vabs(vf x) { return (vf)((vi)x & viset(0x7fffffff)); }
/* The larger and the smaller. A NaN in either wins, as in NumPy's maximum; of equal ones the first. */
SIMD vf vmax(vf a, vf b) { return vpick(b != b, b, vgreater(b, a)); }
SIMD vf vmin(vf a, vf b) { return vpick(b != b, b, vlesser(b, a)); }
SIMD vf vrelu(vf x) { return vpick(x < vset(0), vset(0), x); }    /* NaN stays */
SIMD vi vfirst(int64_t n)                                          /* mask of the first n lanes */
{
    vi lane;
    for (int i = 0; i < VL; i++) lane[i] = i;
    return lane < viset(n > VL ? VL : (int32_t)n);
}
SIMD vi vtoint(vf x) { return __builtin_convertvector(x, vi); }    /* towards 0 */
SIMD vf vtofloat(vi x) { return __builtin_convertvector(x, vf); }

/* ---- sums across lanes, in one order on every instruction set ----

   A sum along memory runs in 16 lanes whatever VL is: SUM16 accumulators of VL lanes, added at the end as a fixed tree. */

#define SUM16 (16 / VL)

SIMD float vsum16(const vf *s)
{
    float x[16];
    for (int i = 0; i < SUM16; i++) vstore(x + i * VL, s[i]);
    for (int width = 8; width; width /= 2)
        for (int i = 0; i < width; i++) x[i] += x[i + width];
    return x[0];
}

SIMD float vmax16(const vf *s)
{
    float x[16];
    for (int i = 0; i < SUM16; i++) vstore(x + i * VL, s[i]);
    float m = x[0];
    for (int i = 1; i < 16; i++) m = x[i] > m || x[i] != x[i] ? x[i] : m;
    return m;
}

#include "simd_math.h"

#endif
