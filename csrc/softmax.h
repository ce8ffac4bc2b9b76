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
    vf all = vgreater(vgreater(top[0], top[1]), vgreater(top[2], top[3]));
    VFOLD(vgreater, all);
    return all[0];
}

/* Sum of exp(x - top); the terms are stored in y where that is not null. */
INLINE float exp_sum(float *y, const float *x, int64_t n, float top)
{
    vf sum[SUM16] = {{0}};
    int64_t j = 0;
    for (; j + 16 <= n; j += 16)
        for (int k = 0; k < SUM16; k++) {
            const vf e = vexp(vload(x + j + k * VL) - vset(top));
            sum[k] += e;
            if (y) vstore(y + j + k * VL, e);
        }
    for (int k = 0; k < SUM16 && j < n; k++, j += VL) {
        const vf e = vexp(vload_or(x + j, n - j, -INFINITY) - vset(top));
        sum[k] += vpick(vlanes() < viset((int32_t)least(n - j, VL)), e, vset(0));
        if (y) vstore_n(y + j, e, n - j);
    }
    return vsum16(sum);
}

#endif
