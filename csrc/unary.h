/* Kernels that make one number of one number. */
#ifndef UNARY_H
#define UNARY_H

#include "kernel.h"

enum { AHEAD = 1024 };           /* numbers that are fetched ahead of the arithmetic */

/* y = expression of x, a vector; `options` are further fields.  One item: one number. */
#define UNARY_OF(name, cost, options, expression)                                                                      \
    KERNEL(name, a->size, cost, float *y; const float *x; int64_t size; options)                                       \
    {                                                                                                                  \
        int64_t i = begin;                                                                                             \
        for (; i + VL <= end; i += VL) {                                                                               \
            const vf x = vload(a->x + i);                                                                              \
            __builtin_prefetch(a->x + i + AHEAD);                                                                      \
            vstore(a->y + i, expression);                                                                              \
        }                                                                                                              \
        if (i < end) { const vf x = vload_n(a->x + i, end - i); vstore_n(a->y + i, expression, end - i); }             \
    }
#define UNARY(name, cost, expression) UNARY_OF(name, cost, , expression)

/* d_x = expression of d and s: the gradient of the result, and what forward kept, x or y.  One item: one number. */
#define UNARY_GRAD_OF(name, cost, s_, options, expression)                                                             \
    KERNEL(name, a->size, cost, float *d_x; const float *d_y; const float *s_; int64_t size; options)                  \
    {                                                                                                                  \
        int64_t i = begin;                                                                                             \
        for (; i + VL <= end; i += VL) {                                                                               \
            const vf d = vload(a->d_y + i), s_ = vload(a->s_ + i);                                                     \
            vstore(a->d_x + i, expression);                                                                            \
        }                                                                                                              \
        if (i < end) {                                                                                                 \
            const vf d = vload_n(a->d_y + i, end - i), s_ = vload_n(a->s_ + i, end - i);                               \
            vstore_n(a->d_x + i, expression, end - i);                                                                 \
        }                                                                                                              \
    }
#define UNARY_GRAD(name, cost, s_, expression) UNARY_GRAD_OF(name, cost, s_, , expression)

#endif
