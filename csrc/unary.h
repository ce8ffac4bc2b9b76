/* Kernels that make one number of one number. */
#ifndef UNARY_H
#define UNARY_H

/* Vectors computed together are one long chain of operations after the other in the source, of which the processor sees too few at a time;
   so the compiler interleaves them. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("schedule-insns")
#endif

#include "kernel.h"

/* Numbers that are fetched ahead of the arithmetic. Where it takes longer than memory, that is done out of the caches only, FAR numbers and
   more, and for the result, too: two pages ahead, as the processor's own fetching stops at the end of each. */
enum { AHEAD = 1024, FAR_AHEAD = 2048, FAR = 5 << 19 };

/* The body for n vectors at i, each of `width` numbers: four at once where one costs enough for that to pay. */
#define UNARY_LOOPS(cost, ...)                                                                                         \
    int64_t i = begin;                                                                                                 \
    for (const int64_t n = 4, width = VL; (cost) > 2 && i + n * VL <= end; i += n * VL) { __VA_ARGS__ }                \
    for (const int64_t n = 1, width = VL; i + VL <= end; i += VL) { __VA_ARGS__ }                                      \
    for (const int64_t n = 1, width = end - i; i < end; i = end) { __VA_ARGS__ }

/* y = expression of x, a vector; `options` are further fields.  One item: one number. */
#define UNARY_OF(name, cost, options, expression)                                                                      \
    KERNEL(name, a->size, cost, float *y; const float *x; int64_t size; options)                                       \
    {                                                                                                                  \
        const int far = a->size >= FAR;                                                                                \
        UNARY_LOOPS(cost, {                                                                                            \
            vf y[4];                                                                                                   \
            if (n > 1 && far) UNROLL_ALL for (int k = 0; k < n; k++) {                                                 \
                __builtin_prefetch(a->x + i + k * VL + FAR_AHEAD);                                                     \
                __builtin_prefetch(a->y + i + k * VL + FAR_AHEAD, 1);                                                  \
            }                                                                                                          \
            UNROLL_ALL for (int k = 0; k < n; k++) {                                                                   \
                const vf x = vload_n(a->x + i + k * VL, width);                                                        \
                if (n == 1) __builtin_prefetch(a->x + i + k * VL + AHEAD);                                             \
                y[k] = expression;                                                                                     \
            }                                                                                                          \
            UNROLL_ALL for (int k = 0; k < n; k++) vstore_n(a->y + i + k * VL, y[k], width);                           \
        })                                                                                                             \
    }
#define UNARY(name, cost, expression) UNARY_OF(name, cost, , expression)

/* d_x = expression of d and s: the gradient of the result, and what forward kept, x or y.  One item: one number. */
#define UNARY_GRAD_OF(name, cost, s_, options, expression)                                                             \
    KERNEL(name, a->size, cost, float *d_x; const float *d_y; const float *s_; int64_t size; options)                  \
    {                                                                                                                  \
        UNARY_LOOPS(cost, {                                                                                            \
            vf d_x[4];                                                                                                 \
            UNROLL_ALL for (int k = 0; k < n; k++) {                                                                   \
                const vf d = vload_n(a->d_y + i + k * VL, width), s_ = vload_n(a->s_ + i + k * VL, width);             \
                d_x[k] = expression;                                                                                   \
            }                                                                                                          \
            UNROLL_ALL for (int k = 0; k < n; k++) vstore_n(a->d_x + i + k * VL, d_x[k], width);                       \
        })                                                                                                             \
    }
#define UNARY_GRAD(name, cost, s_, expression) UNARY_GRAD_OF(name, cost, s_, , expression)

#endif
