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
typedef uint32_t vu_any __attribute__((vector_size(4 * VL), aligned(4), may_alias));

/* ---- memory: any alignment; the _n forms touch only the first n of VL numbers and fill the rest with 0 ---- */

SIMD vf vload(const float *p) { return *(const vf_any *)p; }
SIMD void vstore(float *p, vf x) { *(vf_any *)p = x; }
SIMD vi viload(const int32_t *p) { return *(const vi_any *)p; }
SIMD void vistore(int32_t *p, vi x) { *(vi_any *)p = x; }
SIMD vu vuload(const uint32_t *p) { return *(const vu_any *)p; }
SIMD void vustore(uint32_t *p, vu x) { *(vu_any *)p = x; }

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
SIMD void vstore_n(float *p, vf x, int64_t n)       /* a masked store takes dozens of cycles on some processors */
{
    if (n >= 8) { vstore(p, x); return; }
    __m128 y = _mm256_castps256_ps128(x);
    if (n >= 4) {
        _mm_storeu_ps(p, y);
        y = _mm256_extractf128_ps(x, 1);
        p += 4, n -= 4;
    }
    if (n >= 2) {
        _mm_storel_pi((__m64 *)p, y);
        y = _mm_movehl_ps(y, y);
        p += 2, n -= 2;
    }
    if (n == 1) _mm_store_ss(p, y);
}
SIMD vi viload_n(const int32_t *p, int64_t n) { return (vi)_mm256_maskload_epi32(p, vmask(n)); }
SIMD void vistore_n(int32_t *p, vi x, int64_t n) { vstore_n((float *)p, (vf)x, n); }
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

/* x, in a register, so that the compiler does not read it again. */
SIMD vf vheld(vf x)
{
#if defined(__AVX512F__)
    __asm__("" : "+v"(x));
#elif defined(__x86_64__)
    __asm__("" : "+x"(x));
#endif
    return x;
}

/* A store past the caches, where p is aligned as a vector is; after the last ones, before another thread may read: vstreams_end. */
#if defined(__AVX512F__)
SIMD void vstream(float *p, vf x) { _mm512_stream_ps(p, x); }
#elif defined(__AVX2__)
SIMD void vstream(float *p, vf x) { _mm256_stream_ps(p, x); }
#elif defined(__SSE__)
SIMD void vstream(float *p, vf x) { _mm_stream_ps(p, x); }
#else
SIMD void vstream(float *p, vf x) { vstore(p, x); }
#endif
SIMD void vstreams_end(void)
{
#if defined(__SSE__)
    _mm_sfence();
#endif
}

/* Loads of the same first n numbers (1 to VL) in a loop: what they need is made once. */
#if defined(__AVX512F__)
typedef __mmask16 vpart;
SIMD vpart vpart_of(int64_t n) { return vmask(n); }
SIMD vf vload_part(const float *p, vpart n) { return _mm512_maskz_loadu_ps(n, p); }
#elif defined(__AVX2__)
typedef __m256i vpart;
SIMD vpart vpart_of(int64_t n) { return vmask(n); }
SIMD vf vload_part(const float *p, vpart n) { return _mm256_maskload_ps(p, n); }
#else
typedef int64_t vpart;
SIMD vpart vpart_of(int64_t n) { return n; }
SIMD vf vload_part(const float *p, vpart n) { return vload_n(p, n); }
#endif

/* Bytes as integers 0 to 255 and back; n as above. */
#if defined(__AVX512F__)
SIMD vi vbytes_load(const uint8_t *p, int64_t n) { return (vi)_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(vmask(n), p)); }
SIMD void vbytes_store(uint8_t *p, vi x, int64_t n) { _mm512_mask_cvtepi32_storeu_epi8(p, vmask(n), (__m512i)x); }
#else
SIMD vi vbytes_load(const uint8_t *p, int64_t n)
{
    uint8_t b[VL] = {0};
    if (n >= VL) memcpy(b, p, VL);
    else for (int64_t i = 0; i < n; i++) b[i] = p[i];
#if defined(__AVX2__)
    return (vi)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)b));
#else
    vi x;
    for (int i = 0; i < VL; i++) x[i] = b[i];
    return x;
#endif
}
SIMD void vbytes_store(uint8_t *p, vi x, int64_t n)
{
    uint8_t b[VL];
#if defined(__AVX2__)
    const __m128i low = _mm_packus_epi32(_mm256_castsi256_si128((__m256i)x), _mm256_extracti128_si256((__m256i)x, 1));
    _mm_storel_epi64((__m128i *)b, _mm_packus_epi16(low, low));
#else
    for (int i = 0; i < VL; i++) b[i] = (uint8_t)x[i];
#endif
    if (n >= VL) memcpy(p, b, VL);
    else for (int64_t i = 0; i < n; i++) p[i] = b[i];
}
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

/* a < b ? x : y of integers. */
#if defined(__AVX512F__)
SIMD vi vipick_less(vf a, vf b, vi x, vi y) { return (vi)_mm512_mask_blend_epi32(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), (__m512i)y, (__m512i)x); }
#else
SIMD vi vipick_less(vf a, vf b, vi x, vi y) { return (vi)vpick_less(a, b, (vf)x, (vf)y); }
#endif

/* Whether a number of some vectors is NaN: vany of the vunordered of pairs of them, joined by |. */
#if defined(__AVX512F__)
typedef __mmask16 vmask_any;
SIMD vmask_any vunordered(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q); }
SIMD int vany(vmask_any x) { return x != 0; }
#elif defined(__AVX2__)
typedef vi vmask_any;
SIMD vmask_any vunordered(vf a, vf b) { return (vi)_mm256_cmp_ps(a, b, _CMP_UNORD_Q); }
SIMD int vany(vmask_any x) { return _mm256_movemask_ps((__m256)x) != 0; }
#else
typedef vi vmask_any;
SIMD vmask_any vunordered(vf a, vf b) { return (a != a) | (b != b); }
SIMD int vany(vmask_any x) { return x[0] | x[1] | x[2] | x[3]; }
#endif

/* The lower half of a vector, where that takes half the time. */
#if defined(__AVX512F__)
typedef __m256 vhalf;
SIMD vhalf vhalf_of(vf x) { return _mm512_castps512_ps256(x); }
SIMD vf vwhole_of(vhalf x) { return _mm512_zextps256_ps512(x); }
SIMD vhalf vhalf_fma(vhalf a, vhalf b, vhalf c) { return _mm256_fmadd_ps(a, b, c); }
#else
typedef vf vhalf;
SIMD vhalf vhalf_of(vf x) { return x; }
SIMD vf vwhole_of(vhalf x) { return x; }
SIMD vhalf vhalf_fma(vhalf a, vhalf b, vhalf c) { return vfma(a, b, c); }
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

/* bit i: lane i of a mask */
SIMD uint32_t vbits(vi mask)
{
#if defined(__AVX512F__)
    return (uint32_t)_mm512_cmplt_epi32_mask((__m512i)mask, _mm512_setzero_si512());
#elif defined(__AVX2__)
    return (uint32_t)_mm256_movemask_ps((__m256)mask);
#elif defined(__SSE4_1__)
    return (uint32_t)_mm_movemask_ps((__m128)mask);
#else
    uint32_t bits = 0;
    for (int i = 0; i < VL; i++) bits |= (uint32_t)(mask[i] != 0) << i;
    return bits;
#endif
}

SIMD vf vabs(vf x) { return (vf)((vi)x & viset(0x7fffffff)); }
SIMD vf vsign(vf x) { return vpick(x > vset(0), vset(1), vpick(x < vset(0), vset(-1), x)); }
/* The larger and the smaller. A NaN in either wins, as in NumPy's maximum; of equal ones the first. */
SIMD vf vmax(vf a, vf b) { return vpick(b != b, b, vgreater(b, a)); }
SIMD vf vmin(vf a, vf b) { return vpick(b != b, b, vlesser(b, a)); }
SIMD vf vrelu(vf x) { return vgreater(vset(0), x); }    /* NaN and -0 stay */
SIMD vi vtoint(vf x) { return __builtin_convertvector(x, vi); }    /* towards 0 */
SIMD vf vtofloat(vi x) { return __builtin_convertvector(x, vf); }

SIMD vi vlanes(void)                                              /* 0, 1, 2 … */
{
    vi x;
    for (int i = 0; i < VL; i++) x[i] = i;
    return x;
}
/* As vload_n, with `rest` in the lanes from n on. */
SIMD vf vload_or(const float *p, int64_t n, float rest)
{
    if (n >= VL) return vload(p);
    return vpick(vlanes() < viset((int32_t)n), vload_n(p, n), vset(rest));
}

/* Lane i: table[index[i]], 0 <= index[i] < 4. */
SIMD vf vlookup4(const float *table, vi index)
{
#if defined(__AVX512F__)
    return _mm512_permutevar_ps(_mm512_broadcast_f32x4(_mm_loadu_ps(table)), (__m512i)index);
#elif defined(__AVX2__)
    const __m128 x = _mm_loadu_ps(table);
    return _mm256_permutevar_ps(_mm256_set_m128(x, x), (__m256i)index);
#else
    vf x;
    for (int i = 0; i < VL; i++) x[i] = table[index[i]];
    return x;
#endif
}

/* The running maximum and where it was: x at `here` follows *largest at *place. A NaN is the largest; of equal ones the first stays. */
SIMD void vmax_place(vf *largest, vi *place, vf x, vi here)
{
#if defined(__AVX512F__)
    const __mmask16 take = _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(*largest, *largest, _CMP_ORD_Q), *largest, x, _CMP_NGE_UQ);
    *largest = _mm512_mask_blend_ps(take, *largest, x);
    *place = (vi)_mm512_mask_blend_epi32(take, (__m512i)*place, (__m512i)here);
#else
    const vi keep = (*largest >= x) | (*largest != *largest);
    *largest = vpick(keep, *largest, x);
    *place = vipick(keep, *place, here);
#endif
}

/* Small whole numbers, one a lane, as bytes where that is cheaper: which of some places each lane has chosen. */
#if defined(__AVX512F__)
typedef __m128i vplaces;
SIMD vplaces vplaces_of(int x) { return _mm_set1_epi8((char)x); }
SIMD vplaces vplaces_pick_less(vf a, vf b, vplaces x, vplaces y) { return _mm_mask_blend_epi8(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x); }
SIMD vplaces vplaces_load(const uint8_t *p, int64_t n) { return _mm_maskz_loadu_epi8(vmask(n), p); }
SIMD void vplaces_store(uint8_t *p, vplaces x) { _mm_storeu_si128((__m128i *)p, x); }
SIMD vf vpick_place(vplaces x, vplaces y, vf a) { return _mm512_maskz_mov_ps(_mm_cmpeq_epi8_mask(x, y), a); }
#else
typedef vi vplaces;
SIMD vplaces vplaces_of(int x) { return viset(x); }
SIMD vplaces vplaces_pick_less(vf a, vf b, vplaces x, vplaces y) { return (vi)vpick_less(a, b, (vf)x, (vf)y); }
SIMD vplaces vplaces_load(const uint8_t *p, int64_t n) { return vbytes_load(p, n); }
SIMD void vplaces_store(uint8_t *p, vplaces x) { vbytes_store(p, x, VL); }
SIMD vf vpick_place(vplaces x, vplaces y, vf a) { return (vf)((x == y) & (vi)a); }       /* where they are equal, else 0 */
#endif

/* One flag a lane: whether none of the numbers compared is NaN; whether that is so in all lanes. */
#if defined(__AVX512F__)
typedef __mmask16 vflags;
SIMD vflags vordered(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_ORD_Q); }
SIMD vflags vordered_too(vflags x, vf a, vf b) { return _mm512_mask_cmp_ps_mask(x, a, b, _CMP_ORD_Q); }
SIMD int vall(vflags x) { return _kortestc_mask16_u8(x, x); }
#else
typedef vi vflags;
SIMD vflags vordered(vf a, vf b) { return (a == a) & (b == b); }
SIMD vflags vordered_too(vflags x, vf a, vf b) { return x & vordered(a, b); }
SIMD int vall(vflags x) { return vbits(x) == (1u << VL) - 1; }
#endif

/* x m as 64 bits, in halves; for random numbers */
SIMD void vmul_wide(vu x, uint32_t m, vu *high, vu *low)
{
#if defined(__AVX512F__)
    const __m512i even = _mm512_mul_epu32((__m512i)x, _mm512_set1_epi32((int)m));
    const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64((__m512i)x, 32), _mm512_set1_epi32((int)m));
    *high = (vu)_mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
    *low = (vu)_mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
#elif defined(__AVX2__)
    const __m256i even = _mm256_mul_epu32((__m256i)x, _mm256_set1_epi32((int)m));
    const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64((__m256i)x, 32), _mm256_set1_epi32((int)m));
    *high = (vu)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
    *low = (vu)_mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
#elif defined(__SSE4_1__)
    const __m128i even = _mm_mul_epu32((__m128i)x, _mm_set1_epi32((int)m));
    const __m128i odd = _mm_mul_epu32(_mm_srli_epi64((__m128i)x, 32), _mm_set1_epi32((int)m));
    *high = (vu)_mm_blend_epi16(_mm_srli_epi64(even, 32), odd, 0xcc);
    *low = (vu)_mm_blend_epi16(even, _mm_slli_epi64(odd, 32), 0xcc);
#else
    for (int i = 0; i < VL; i++) {
        const uint64_t p = (uint64_t)x[i] * m;
        (*high)[i] = (uint32_t)(p >> 32);
        (*low)[i] = (uint32_t)p;
    }
#endif
}

/* ---- sums across lanes, in one order on every instruction set ----

   A sum along memory runs in 16 lanes whatever VL is: SUM16 accumulators of VL lanes, added at the end as a fixed tree. */

#define SUM16 (16 / VL)

/* VFOLD(f, x): lane 0 of x becomes f of all lanes, of those half a vector apart first, then a quarter … */
#if defined(__has_builtin) && __has_builtin(__builtin_shufflevector)
#define VSHUFFLE(x, ...) __builtin_shufflevector(x, x, __VA_ARGS__)
#else
#define VSHUFFLE(x, ...) __builtin_shuffle(x, (vi){ __VA_ARGS__ })
#endif
#define VSWAP4(i, half) (i) ^ (half), ((i) + 1) ^ (half), ((i) + 2) ^ (half), ((i) + 3) ^ (half)
#if VL == 16
#define VSWAP(x, half) VSHUFFLE(x, VSWAP4(0, half), VSWAP4(4, half), VSWAP4(8, half), VSWAP4(12, half))
#define VFOLD(f, x) (x = f(x, VSWAP(x, 8)), x = f(x, VSWAP(x, 4)), x = f(x, VSWAP(x, 2)), x = f(x, VSWAP(x, 1)))
#elif VL == 8
#define VSWAP(x, half) VSHUFFLE(x, VSWAP4(0, half), VSWAP4(4, half))
#define VFOLD(f, x) (x = f(x, VSWAP(x, 4)), x = f(x, VSWAP(x, 2)), x = f(x, VSWAP(x, 1)))
#else
#define VSWAP(x, half) VSHUFFLE(x, VSWAP4(0, half))
#define VFOLD(f, x) (x = f(x, VSWAP(x, 2)), x = f(x, VSWAP(x, 1)))
#endif

SIMD vf vadd(vf a, vf b) { return a + b; }

SIMD float vsum16(const vf *s)
{
    vf x = SUM16 == 1 ? s[0] : SUM16 == 2 ? s[0] + s[SUM16 / 2] : (s[0] + s[SUM16 / 2]) + (s[SUM16 / 4] + s[SUM16 * 3 / 4]);
    VFOLD(vadd, x);
    return x[0];
}

/* The largest lane, none of which is NaN. */
SIMD float vlargest(vf x) { VFOLD(vgreater, x); return x[0]; }

/* Lane j of vector i becomes lane i of vector j, for VL vectors. */
SIMD void vtranspose(vf *r)
{
#if defined(__AVX512F__)
    __m512 t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {            /* quarter q of vector i + c: column 4 q + c of the rows i .. i + 3 */
        r[i] = (vf)_mm512_unpacklo_pd((__m512d)t[i], (__m512d)t[i + 2]);
        r[i + 1] = (vf)_mm512_unpackhi_pd((__m512d)t[i], (__m512d)t[i + 2]);
        r[i + 2] = (vf)_mm512_unpacklo_pd((__m512d)t[i + 1], (__m512d)t[i + 3]);
        r[i + 3] = (vf)_mm512_unpackhi_pd((__m512d)t[i + 1], (__m512d)t[i + 3]);
    }
    for (int c = 0; c < 4; c++) {
        const __m512 even = _mm512_shuffle_f32x4(r[c], r[4 + c], 0x88), odd = _mm512_shuffle_f32x4(r[c], r[4 + c], 0xdd);
        const __m512 even2 = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0x88), odd2 = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0xdd);
        t[c] = _mm512_shuffle_f32x4(even, even2, 0x88);
        t[4 + c] = _mm512_shuffle_f32x4(odd, odd2, 0x88);
        t[8 + c] = _mm512_shuffle_f32x4(even, even2, 0xdd);
        t[12 + c] = _mm512_shuffle_f32x4(odd, odd2, 0xdd);
    }
    for (int i = 0; i < 16; i++) r[i] = t[i];
#elif defined(__AVX2__)
    __m256 t[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        r[i] = (vf)_mm256_unpacklo_pd((__m256d)t[i], (__m256d)t[i + 2]);
        r[i + 1] = (vf)_mm256_unpackhi_pd((__m256d)t[i], (__m256d)t[i + 2]);
        r[i + 2] = (vf)_mm256_unpacklo_pd((__m256d)t[i + 1], (__m256d)t[i + 3]);
        r[i + 3] = (vf)_mm256_unpackhi_pd((__m256d)t[i + 1], (__m256d)t[i + 3]);
    }
    for (int c = 0; c < 4; c++) {
        t[c] = _mm256_permute2f128_ps(r[c], r[4 + c], 0x20);
        t[4 + c] = _mm256_permute2f128_ps(r[c], r[4 + c], 0x31);
    }
    for (int i = 0; i < 8; i++) r[i] = t[i];
#elif defined(__SSE4_1__)
    const __m128 a = _mm_unpacklo_ps(r[0], r[1]), b = _mm_unpackhi_ps(r[0], r[1]);
    const __m128 c = _mm_unpacklo_ps(r[2], r[3]), d = _mm_unpackhi_ps(r[2], r[3]);
    r[0] = _mm_movelh_ps(a, c);
    r[1] = _mm_movehl_ps(c, a);
    r[2] = _mm_movelh_ps(b, d);
    r[3] = _mm_movehl_ps(d, b);
#else
    for (int i = 0; i < VL; i++)
        for (int j = 0; j < i; j++) {
            const float x = r[i][j];
            r[i][j] = r[j][i];
            r[j][i] = x;
        }
#endif
}

#include "simd_lanes.h"
#include "simd_math.h"

#endif
