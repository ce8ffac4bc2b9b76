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

#define TWO_OPERANDS(T) const T *x1; const T *x2; SIZES
#define SIZES                                                                                                          \
    int64_t outer; int64_t middle; int64_t inner;                                                                      \
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

/* For each stretch, of n numbers at i, the body, which sees where it lies in the operands. */
#define EACH_STRETCH(T, ...)                                                                                           \
    do {                                                                                                               \
        place s = place_of(begin, a->middle, a->inner);                                                                \
        for (int64_t i = begin, n; i < end; i += n, s = next_row(s, a->middle)) {                                      \
            const T *restrict p = AT(x1), *restrict q = AT(x2);                                                        \
            n = least(a->inner - s.j, end - i);                                                                        \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    } while (0)

/* Does the statement for every number i + k of begin..end; u and v are the operands' numbers. */
#define STRETCHES(T, statement)                                                                                        \
    EACH_STRETCH(T,                                                                                                    \
        if (!a->x1_inner && !a->x2_inner) NUMBERS(T, 0, 0, statement)                                                  \
        else if (!a->x1_inner) NUMBERS(T, 0, k, statement)                                                             \
        else if (!a->x2_inner) NUMBERS(T, k, 0, statement)                                                             \
        else NUMBERS(T, k, k, statement))

#define NUMBERS_OF_RESULT a->outer * a->middle * a->inner

/* y = expression of u and v, numbers of x1 and x2.  One item: one number. */
#define BINARY(name, result, T, cost, expression)                                                                      \
    EXPANDED_KERNEL(name, NUMBERS_OF_RESULT, cost, result *y; TWO_OPERANDS(T))                                         \
    {                                                                                                                  \
        result *restrict y = a->y;                                                                                     \
        STRETCHES(T, y[i + k] = expression);                                                                           \
    }
#define ARITHMETIC(name, expression)                                                                                   \
    BINARY(name, float, float, 1.5, expression)                                                                        \
    BINARY(name##_int32, int32_t, int32_t, 1.5, expression)                                                            \
    BINARY(name##_int64, int64_t, int64_t, 3, expression)

ARITHMETIC(add, u + v)
ARITHMETIC(subtract, u - v)
ARITHMETIC(multiply, u * v)
ARITHMETIC(maximum, u >= v || u != u ? u : v)
ARITHMETIC(minimum, u <= v || u != u ? u : v)
BINARY(divide, float, float, 2, u / v)

/* The remainder with the sign of the divisor, and the floor of the quotient, which is whole but for rounding; as in NumPy. */
INLINE float mod_float(float u, float v)
{
    const float r = fmodf(u, v);
    return r == 0 ? copysignf(0, v) : (r < 0) != (v < 0) ? r + v : r;
}
INLINE float floor_divide_float(float u, float v)
{
    if (v == 0) return u / v;
    const float r = fmodf(u, v), q = (u - r) / v - (r != 0 && (r < 0) != (v < 0)), whole = floorf(q);
    return q == 0 ? copysignf(0, u / v) : q - whole > 0.5f ? whole + 1 : whole;
}
INLINE int64_t mod_int(int64_t u, int64_t v)
{
    const int64_t r = v == 0 || v == -1 ? 0 : u % v;
    return r != 0 && (r < 0) != (v < 0) ? r + v : r;
}
INLINE int64_t floor_divide_int(int64_t u, int64_t v)
{
    return v == 0 ? 0 : v == -1 ? (int64_t)(0 - (uint64_t)u) : u / v - (u % v != 0 && (u < 0) != (v < 0));
}
/* Small whole exponents, mostly one for all numbers, without powf, which is fifty times slower. */
INLINE float power_float(float u, float v)
{
    return v == 2 ? u * u : v == 1 ? u : v == 3 ? u * u * u : v == -1 ? 1 / u : powf(u, v);
}
INLINE int64_t power_int(int64_t u, int64_t v)
{
    uint64_t y = 1, square = (uint64_t)u;
    if (v < 0) return u == 1 ? 1 : u == -1 ? (v & 1 ? -1 : 1) : 0;
    for (; v; v >>= 1, square *= square) if (v & 1) y *= square;
    return (int64_t)y;
}

BINARY(mod, float, float, 15, mod_float(u, v))
BINARY(mod_int32, int32_t, int32_t, 10, (int32_t)mod_int(u, v))
BINARY(mod_int64, int64_t, int64_t, 10, mod_int(u, v))
BINARY(floor_divide, float, float, 20, floor_divide_float(u, v))
BINARY(floor_divide_int32, int32_t, int32_t, 10, (int32_t)floor_divide_int(u, v))
BINARY(floor_divide_int64, int64_t, int64_t, 10, floor_divide_int(u, v))
BINARY(power, float, float, 25, power_float(u, v))
BINARY(power_int32, int32_t, int32_t, 10, (int32_t)power_int(u, v))
BINARY(power_int64, int64_t, int64_t, 10, power_int(u, v))

#define COMPARISON(name, expression)                                                                                   \
    BINARY(name, uint8_t, float, 1.5, expression)                                                                      \
    BINARY(name##_int32, uint8_t, int32_t, 1.5, expression)                                                            \
    BINARY(name##_int64, uint8_t, int64_t, 3, expression)

COMPARISON(equal, u == v)
COMPARISON(not_equal, u != v)
COMPARISON(greater, u > v)
COMPARISON(greater_equal, u >= v)
BINARY(logical_and, uint8_t, uint8_t, 1, (u != 0) & (v != 0))
BINARY(logical_or, uint8_t, uint8_t, 1, (u != 0) | (v != 0))
BINARY(logical_xor, uint8_t, uint8_t, 1, (u != 0) ^ (v != 0))

/* Gradients of the operands: d_x = expression of d, u and v, numbers of d_y, x1 and x2.  One item: one number. */
#define BINARY_GRAD(name, cost, expression)                                                                            \
    EXPANDED_KERNEL(name, NUMBERS_OF_RESULT, cost, float *d_x; const float *d_y; TWO_OPERANDS(float))                  \
    {                                                                                                                  \
        float *restrict d_x = a->d_x;                                                                                  \
        const float *restrict d_y = a->d_y;                                                                            \
        STRETCHES(float, const float d = d_y[i + k]; d_x[i + k] = expression);                                         \
    }

BINARY_GRAD(divide_d_x2, 3, -d * (u / v) / v)
BINARY_GRAD(power_d_x1, 30, v == 0 ? 0 : d * v * power_float(u, v - 1))
BINARY_GRAD(power_d_x2, 40, u == 0 && v >= 0 ? 0 : d * power_float(u, v) * logf(u))
BINARY_GRAD(maximum_grad, 2, u > v ? d : u == v ? 0.5f * d : 0)      /* of x1; of x2 with the operands exchanged */
BINARY_GRAD(mod_d_x2, 20, -d * floor_divide_float(u, v))

/* ---- choice ---- */

/* y = x1 where the condition is not 0, else x2; broadcast like two operands.  One item: one number. */
#define WHERE(name, T)                                                                                                 \
    EXPANDED_KERNEL(name, NUMBERS_OF_RESULT, 2,                                                                        \
        T *y; const T *x1; const T *x2; const uint8_t *condition; SIZES int64_t x3_outer; int64_t x3_middle; int64_t x3_inner;)\
    {                                                                                                                  \
        T *restrict y = a->y;                                                                                          \
        if (a->x3_inner) STRETCHES(T, const uint8_t *restrict c = CONDITION + s.j; y[i + k] = c[k] ? u : v);           \
        else EACH_STRETCH(T,                                                                                           \
            const T *restrict x = *CONDITION ? p : q;                                                                  \
            const int64_t step = *CONDITION ? a->x1_inner : a->x2_inner;                                               \
            for (int64_t k = 0; k < n; k++) y[i + k] = x[k * step];);                                                  \
    }
#define CONDITION (a->condition + s.o * a->x3_outer + s.m * a->x3_middle)
WHERE(where, float)
WHERE(where_int32, int32_t)
WHERE(where_int64, int64_t)

/* ---- dtypes ---- */

/* y = x as another dtype; the codes are those of fastdl/ops/elementwise.py.  One item: one number. */
#define CAST_FROM(T)                                                                                                   \
    {                                                                                                                  \
        const T *x = a->x;                                                                                             \
        switch (a->to) {                                                                                               \
        case 0: { float *y = a->y; for (int64_t i = begin; i < end; i++) y[i] = (float)x[i]; break; }                  \
        case 1: { double *y = a->y; for (int64_t i = begin; i < end; i++) y[i] = (double)x[i]; break; }                \
        case 2: { int32_t *y = a->y; for (int64_t i = begin; i < end; i++) y[i] = (int32_t)x[i]; break; }              \
        case 3: { int64_t *y = a->y; for (int64_t i = begin; i < end; i++) y[i] = (int64_t)x[i]; break; }              \
        case 4: { uint8_t *y = a->y; for (int64_t i = begin; i < end; i++) y[i] = (uint8_t)(int32_t)x[i]; break; }     \
        default: { uint8_t *y = a->y; for (int64_t i = begin; i < end; i++) y[i] = x[i] != 0; }                        \
        }                                                                                                              \
        break;                                                                                                         \
    }

KERNEL(cast, a->size, 2,
    void *y;              /* (size) */
    const void *x;        /* (size) */
    int64_t size;
    int64_t to;
    int64_t of;)
{
    switch (a->of) {
    case 0: CAST_FROM(float)
    case 1: CAST_FROM(double)
    case 2: CAST_FROM(int32_t)
    case 3: CAST_FROM(int64_t)
    default: CAST_FROM(uint8_t)
    }
}

/* No number is NaN or infinite.  One item: one number. */
KERNEL(check_finite, a->size, 0.5,
    const float *x;       /* (size) */
    int64_t size;)
{
    for (int64_t i = begin; i < end; i++)
        if (!(fabsf(a->x[i]) <= 3.40282347e38f)) bad(worker, i);
}
