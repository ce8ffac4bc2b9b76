/* The tile of tile.h on numbers rounded to bfloat16, two of them at once, with sums in float32.

       out[i, j] = activate(sum over p of a[i, p] * b[p, j] + bias[j] + residual[i, j])       i < rows, j < columns, p < depth

   A pair is two numbers that follow each other along the depth, the first in the lower half of 32 bits; an odd depth is filled up
   with 0. b comes in panels of PANEL columns of pairs, [panel][p / 2][PANEL]; a is pairs by strides. Each sum takes
   the pairs upwards, the second product of a pair before the first, each by a multiply-add rounded to nearest even: what the
   instruction vdpbf16ps does (Intel SDM, volume 2; AMD does the same). Like it, everything here flushes denormal numbers to 0. */
#ifndef TILE_BF16_H
#define TILE_BF16_H

#include "tile.h"

/* ---- rounding to bfloat16 (nearest even; NaN stays NaN, denormal numbers become 0), and sums of products ---- */

#if defined(__AVX512BF16__)
/* Pairs (even[i], odd[i]). */
SIMD vu vpairs(vf even, vf odd)
{
    static const uint16_t order[32] = { 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23,
                                        8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31 };
    return (vu)_mm512_permutexvar_epi16(_mm512_loadu_si512(order), (__m512i)_mm512_cvtne2ps_pbh(odd, even));
}
/* Pairs of the 2 VL numbers of first and second, one after the other. */
SIMD vu vpairs_along(vf first, vf second) { return (vu)_mm512_cvtne2ps_pbh(second, first); }
/* sum + the products of two pairs */
SIMD vf vdot2(vu a, vu b, vf sum) { return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b); }
#else
SIMD vu vround_bf16(vf x)                                /* in the upper half; the lower is not 0 */
{
    const vu u = (vu)x, normal = u + ((u >> 16) & 1) + 0x7fff;
    const vi size = (vi)u & viset(0x7fffffff);
    const vu kept = (vu)vipick(size > viset(0x7f800000), (vi)(u | 0x400000), (vi)normal);
    return (vu)vipick(size < viset(0x00800000), (vi)(u & 0x80000000), (vi)kept);
}
SIMD vu vpairs(vf even, vf odd) { return (vround_bf16(even) >> 16) | (vround_bf16(odd) & 0xffff0000); }
SIMD vu vpairs_along(vf a, vf b)
{
#if VL == 16
    return vpairs(__builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30),
                  __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31));
#elif VL == 8
    return vpairs(__builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14), __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15));
#else
    return vpairs(__builtin_shufflevector(a, b, 0, 2, 4, 6), __builtin_shufflevector(a, b, 1, 3, 5, 7));
#endif
}
SIMD vf vdot2(vu a, vu b, vf sum)
{
    sum = vfma((vf)(a & 0xffff0000), (vf)(b & 0xffff0000), sum);      /* without fma the same: a product of two bfloat16 is exact */
    return vfma((vf)(a << 16), (vf)(b << 16), sum);
}
#endif

/* Denormal numbers count as 0 from flush_denormals() on, until keep_denormals(what it returned). */
INLINE uint32_t flush_denormals(void)
{
#if defined(__x86_64__)
    const uint32_t before = _mm_getcsr();
    _mm_setcsr(before | 0x8040);
    return before;
#elif defined(__aarch64__)
    uint64_t before;
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(before));
    __asm__ __volatile__("msr fpcr, %0" : : "r"(before | (1 << 24)));
    return (uint32_t)before;
#else
    return 0;
#endif
}

INLINE void keep_denormals(uint32_t before)
{
#if defined(__x86_64__)
    _mm_setcsr(before);
#elif defined(__aarch64__)
    __asm__ __volatile__("msr fpcr, %0" : : "r"((uint64_t)before));
#else
    (void)before;
#endif
}

/* ---- the tile ---- */

#if defined(__AVX512BF16__)
enum { PAIR_ROWS = 14, PAIR_VECTORS = 2 };
#elif VL == 16
enum { PAIR_ROWS = 12, PAIR_VECTORS = 2 };
#else
enum { PAIR_ROWS = 4, PAIR_VECTORS = 2 };
#endif
enum { PAIR_COLUMNS = PAIR_VECTORS * VL };

typedef struct pair_tile {
    float *out; int64_t out_row;
    const uint32_t *a; int64_t a_row, a_depth;  /* strides in pairs */
    const uint32_t *b;                          /* a panel */
    const float *bias, *residual;               /* may be null; residual is laid out as out */
    int64_t pairs, columns;                     /* of the sum; columns <= PANEL */
    int64_t accumulate;                         /* 1: out's old value takes the place of 0 before bias */
    int64_t activation;
    int64_t ahead;                              /* pairs from b to what is fetched meanwhile: the next panel, of weights out of cache; or 0 */
    const char *later;                          /* null, or what is fetched instead, a line for each pair of a tile */
    int streamed;                               /* 1: out is stored past the caches; out and columns as streams() wants them */
} pair_tile;

/* ---- pairs from matrices in float32, by any strides ---- */

/* The pair (p, p + 1) of a row that has n numbers left from p. */
INLINE uint32_t pair_of(const float *x, int64_t stride, int64_t n)
{
    const vu pair = vpairs(vset(n > 0 ? x[0] : 0), vset(n > 1 ? x[stride] : 0));
    return pair[0];
}

/* Pairs of n numbers that follow each other, rounded up to a pair; whole vectors are stored, with zeros behind. */
INLINE void pair_run(uint32_t *to, const float *from, int64_t n)
{
    for (; n >= 2 * VL; n -= 2 * VL, from += 2 * VL, to += VL) vustore(to, vpairs_along(vload(from), vload(from + VL)));
    if (n > 0) vustore(to, vpairs_along(vload_n(from, n), vload_n(from + least(n, VL), most(n - VL, 0))));
}

/* VL x VL pairs, or fewer: x[i] = the pairs i of the rows from[j * row], j < rows, of n numbers. */
INLINE void pair_turn(vu *x, const float *from, int64_t row, int64_t rows, int64_t n)
{
    vf y[VL];
    for (int j = 0; j < VL; j++) {
        const float *p = from + j * row;
        if (j >= rows) y[j] = vset(0);
        else if (n >= 2 * VL) y[j] = (vf)vpairs_along(vload(p), vload(p + VL));
        else y[j] = (vf)vpairs_along(vload_n(p, n), vload_n(p + least(n, VL), most(n - VL, 0)));
    }
    vtranspose(y);
    for (int j = 0; j < VL; j++) x[j] = (vu)y[j];
}

INLINE int64_t pair_stride(int64_t depth) { return (depth + 31) / 32 * 16 + 16; }     /* an odd number of cache lines */

#define pair_multiply FD_OF_ISA(pair_multiply)
#define pair_panel FD_OF_ISA(pair_panel)
#define pair_rows FD_OF_ISA(pair_rows)

/* `rows` rows (any number) of one panel. */
void pair_multiply(const pair_tile *t, int64_t rows);

/* A (depth, columns) matrix, from its column `first` on at most PANEL columns, as a panel. */
void pair_panel(uint32_t *panel, const float *b, int64_t b_depth, int64_t b_column, int64_t depth, int64_t columns);

/* Rows of a left operand as the tile reads them. Returns t.a_row and t.a_depth through the tile; `to` has room for
   rows * pair_stride(depth) pairs. */
void pair_rows(pair_tile *t, uint32_t *to, const float *a, int64_t a_row, int64_t a_depth, int64_t rows, int64_t depth);

#endif
