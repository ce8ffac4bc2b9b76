/* Rows of exponentials, for softmax and the losses of scores. */
#ifndef SOFTMAX_H
#define SOFTMAX_H

#include "kernel.h"

/* Largest of n numbers, NaN left out: in a softmax it shows in the sum. */
INLINE float largest(const float *x, int64_t n)
{
    vf top[4];
    int64_t j = 0;
    for (int k = 0; k < 4; k++) top[k] = vset(-INFINITY);
    for (; j + 4 * VL <= n; j += 4 * VL)
        for (int k = 0; k < 4; k++) top[k] = vgreater(vload(x + j + k * VL), top[k]);
    for (; j < n; j += VL) top[0] = vgreater(vload_or(x + j, n - j, -INFINITY), top[0]);
    return vlargest(vgreater(vgreater(top[0], top[1]), vgreater(top[2], top[3])));
}

/* Sum of exp(x - top); the terms are stored in y where that is not null. Meanwhile memory has nothing to do: what is read next and where the
   results will go is fetched, where not null. */
INLINE float exp_sum(float *y, const float *x, int64_t n, float top, const float *next, const float *results)
{
    vf sum[SUM16] = {{0}};
    EACH_OF_SUM16(k, j, width, n, {
        if (next) __builtin_prefetch(next + j);
        if (next && results) __builtin_prefetch(results + j, 1);
        const vf e = vexp_negative(vload_or(x + j, width, -INFINITY) - vset(top));
        sum[k] += width >= VL ? e : vpick(vlanes() < viset((int32_t)width), e, vset(0));
        if (y) vstore_n(y + j, e, width);
    });
    return vsum16(sum);
}

/* The same of up to ROWS rows of n numbers: while one row's lanes are joined, the next row's are computed. The terms of a row are stored
   `stride` numbers after those of the last. Of FAR numbers and more, the rows after these and those of the results, which may be null, are fetched. */
enum { ROWS = 8, FAR = 1 << 18 };
INLINE int64_t rows_at_once(int64_t n) { return most(least(2048 / most(n, 1), ROWS), 1); }      /* half of the first cache */

INLINE void exp_sums(float *y, int64_t stride, float *top, float *sum, const float *x, int64_t rows, int64_t n, int64_t all, const float *results)
{
    for (int64_t r = 0; r < rows; r++) top[r] = largest(x + r * n, n);
    const float *next = all >= FAR ? x + rows * n : 0;
    for (int64_t r = 0; r < rows; r++)
        sum[r] = exp_sum(y ? y + r * stride : 0, x + r * n, n, top[r], next ? next + r * n : 0, results ? results + r * n : 0);
}

#endif
