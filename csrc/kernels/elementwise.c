/* Element by element: arithmetic and comparison with broadcasting, choice, casts. */
#include "kernel.h"

/* y = value.  One item: one number. */
KERNEL(fill, a->size, 0.5,
    float *y;             /* (size) */
    int64_t size;
    double value;)
{
    const vf x = vset((float)a->value);
    for (int64_t i = begin; i < end; i += VL) vstore_n(a->y + i, x, end - i);
}

/* y = x.  One item: one number. */
KERNEL(copy, a->size, 1,
    float *y;             /* (size) */
    const float *x;       /* (size) */
    int64_t size;)
{
    memcpy(a->y + begin, a->x + begin, (size_t)(end - begin) * sizeof(float));
}

/* y += x, in place.  One item: one number. */
KERNEL(accumulate, a->size, 1.5,
    float *y;             /* (size) */
    const float *x;       /* (size) */
    int64_t size;)
{
    for (int64_t i = begin; i < end; i++) a->y[i] += a->x[i];
}

/* ---- two operands, broadcast ----

   The result is seen as (outer, middle, inner). Each operand has a stride for each of the three axes, 0 where it is
   broadcast; `inner` strides are 0 or 1. The numbers begin..end are cut into stretches, each within a row of inner numbers. */

#define EXPANDED_KERNEL(name, items, cost, ...) KERNEL(name, items, cost, __VA_ARGS__)

#define TWO_OPERANDS(T)                                                                                                \
    const T *x1; const T *x2; int64_t outer; int64_t middle; int64_t inner;                                            \
    int64_t x1_outer; int64_t x1_middle; int64_t x1_inner; int64_t x2_outer; int64_t x2_middle; int64_t x2_inner;

/* Where the stretch that holds number i lies. */
typedef struct { int64_t o, m, j; } place;

INLINE place place_of(int64_t i, int64_t middle, int64_t inner)
{
    return (place){ i / inner / middle, i / inner % middle, i % inner };
}

INLINE place next_row(place s, int64_t middle) { return s.m + 1 < middle ? (place){ s.o, s.m + 1, 0 } : (place){ s.o + 1, 0, 0 }; }

#define AT(x) (a->x + s.o * a->x##_outer + s.m * a->x##_middle + s.j * a->x##_inner)

#define NUMBERS(T, u_at, v_at, statement)                                                                              \
    for (int64_t k = 0; k < n; k++) { const T u = p[u_at], v = q[v_at]; statement; }

/* Does the statement for every number i + k of begin..end; u and v are the operands' numbers. */
#define STRETCHES(T, statement)                                                                                        \
    place s = place_of(begin, a->middle, a->inner);                                                                    \
    for (int64_t i = begin, n; i < end; i += n, s = next_row(s, a->middle)) {                                          \
        const T *restrict p = AT(x1), *restrict q = AT(x2);                                                            \
        n = least(a->inner - s.j, end - i);                                                                            \
        if (!a->x1_inner) NUMBERS(T, 0, k, statement)                                                                  \
        else if (!a->x2_inner) NUMBERS(T, k, 0, statement)                                                             \
        else NUMBERS(T, k, k, statement)                                                                               \
    }

#define NUMBERS_OF_RESULT a->outer * a->middle * a->inner

/* y = expression of u and v, numbers of x1 and x2.  One item: one number. */
#define BINARY(name, result, T, cost, expression)                                                                      \
    EXPANDED_KERNEL(name, NUMBERS_OF_RESULT, cost, result *y; TWO_OPERANDS(T))                                         \
    {                                                                                                                  \
        result *restrict y = a->y;                                                                     \
        STRETCHES(T, y[i + k] = expression)                                                                            \
    }
#define ARITHMETIC(name, expression)                                                                                   \
    BINARY(name, float, float, 1.5, expression)                                                                        \
    BINARY(name##_int32, int32_t, int32_t, 1.5, expression)                                                            \
    BINARY(name##_int64, int64_t, int64_t, 3, expression)

ARITHMETIC(add, u + v)
ARITHMETIC(subtract, u - v)
ARITHMETIC(multiply, u * v)
BINARY(divide, float, float, 2, u / v)

/* d_x2 of x1 / x2.  One item: one number of the result. */
#define BINARY_GRADIENT(name, cost, expression)                                                                        \
    EXPANDED_KERNEL(name, NUMBERS_OF_RESULT, cost, float *d_x; const float *d_y; TWO_OPERANDS(float))                  \
    {                                                                                                                  \
        float *restrict d_x = a->d_x;                                                                                  \
        const float *restrict d_y = a->d_y;                                                                            \
        STRETCHES(float, const float d = d_y[i + k]; d_x[i + k] = expression)                                          \
    }

BINARY_GRADIENT(divide_d_x2, 3, -d * (u / v) / v)

/* y = max(x, 0).  One item: one number. */
KERNEL(relu, a->size, 1,
    float *y;             /* (size) */
    const float *x;       /* (size) */
    int64_t size;)
{
    for (int64_t i = begin; i < end; i += VL) vstore_n(a->y + i, vrelu(vload_n(a->x + i, end - i)), end - i);
}

/* d_x = d_y where y > 0, else 0.  One item: one number. */
KERNEL(relu_grad, a->size, 1.5,
    float *d_x;           /* (size) */
    const float *d_y;     /* (size) */
    const float *y;       /* (size) */
    int64_t size;)
{
    for (int64_t i = begin; i < end; i += VL)
        vstore_n(a->d_x + i, vpick(vload_n(a->y + i, end - i) > vset(0), vload_n(a->d_y + i, end - i), vset(0)), end - i);
}
