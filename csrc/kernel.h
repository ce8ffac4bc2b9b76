/* What a kernel file may use: KERNEL, vectors, tiles; nothing else. */
#ifndef KERNEL_H
#define KERNEL_H

#include "fastdl.h"
#include "simd.h"

#define UNUSED __attribute__((unused))
#define INLINE static inline __attribute__((always_inline, unused))

#ifdef __clang__
#define UNROLL_ALL _Pragma("clang loop unroll(full)")
#else
#define UNROLL_ALL _Pragma("GCC unroll 32")
#endif

#define OPTIONAL                 /* kept in the text of the fields, where _core reads it */

#define FD_JOINED(name, isa) fd_##name##_##isa
#define FD_JOIN(name, isa) FD_JOINED(name, isa)
#define FD_OF_ISA(name) FD_JOIN(name, FD_ISA)        /* fd_relu_avx2: the files are built once per instruction set, as FD_ISA */
#ifndef FD_REST
#define FD_REST FD_ISA           /* or the set whose kernels serve a set that differs from it in bfloat16 products only */
#endif
#define FD_OF_REST(name) FD_JOIN(name, FD_REST)      /* what does not multiply bfloat16 */

/* KERNEL(name, items, cost, fields) { body }

   fields   the arguments, as the body of a struct: outputs, inputs, sizes, scalars, each one 8-byte word;
            an array that may be null (None) is marked OPTIONAL
   items    how many independent pieces the call has, from a->field
   cost     what one piece costs (see fd_kernel)

   The body fills the outputs for the items begin <= i < end; it sees a, begin, end, worker. */
#define KERNEL(name, items_, cost_, ...)                                                                               \
    typedef struct { __VA_ARGS__ } name##_args;                                                                        \
    FD_KERNEL(name, items_, cost_, 0, #__VA_ARGS__)

/* A kernel whose calls can be chained: of its rows_, unit_ at a time belong to each_ items, and of its arrays, in their order, the
   bytes strides_ (fd_slices). Calls of the same rows, one after another, then need no wait in between. */
#define KERNEL_BY_ROWS(name, items_, cost_, rows_, unit_, each_, strides_, ...)                                        \
    typedef struct { __VA_ARGS__ } name##_args;                                                                        \
    static void name##_slices(const void *p, fd_slices *s)                                                             \
    {                                                                                                                  \
        const name##_args *a = p;                                                                                      \
        s->rows = rows_, s->unit = unit_, s->items = each_;                                                            \
        const int64_t strides[FD_WORDS] = FD_BRACED strides_;                                                          \
        memcpy(s->stride, strides, sizeof strides);                                                                    \
    }                                                                                                                  \
    FD_KERNEL(name, items_, cost_, name##_slices, #__VA_ARGS__)
#define FD_BRACED(...) { __VA_ARGS__ }

#define FD_KERNEL(name, items_, cost_, slices_, fields_)                                                               \
    _Static_assert(sizeof(name##_args) <= 8 * FD_WORDS, #name ": too many arguments");                                 \
    static int64_t name##_items(const void *p) { const name##_args *a UNUSED = p; return (int64_t)(items_); }           \
    static double name##_cost(const void *p) { const name##_args *a UNUSED = p; return (double)(cost_); }               \
    static void name##_body(const name##_args *, int64_t, int64_t, fd_worker *);                                       \
    static void name##_run(const void *p, int64_t begin, int64_t end, fd_worker *worker)                               \
    { name##_body(p, begin, end, worker); }                                                                            \
    const fd_kernel FD_OF_ISA(name) =                                                                                  \
        { #name, fields_, sizeof(name##_args), name##_items, name##_cost, name##_run, slices_ };                       \
    static void name##_body(const name##_args *a UNUSED, int64_t begin UNUSED, int64_t end UNUSED, fd_worker *worker UNUSED)

/* Mark item i of the data as bad: the only way in which a kernel can fail. */
INLINE void bad(fd_worker *worker, int64_t i) { if (i < worker->bad) worker->bad = i; }

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
INLINE int64_t pieces(int64_t n, int64_t size) { return (n + size - 1) / size; }   /* of at most `size` in n */

/* Whether the results of a call that touches `size` numbers are better stored past the caches: then no line is read before it is written, and
   what was read stays in the cache. Rows of y begin at a multiple of `row` numbers. */
enum { STREAMED = 6 << 20 };      /* 24 MiB, three quarters of a usual last cache */
INLINE int streams(const float *y, int64_t size, int64_t row) { return size >= STREAMED && (uintptr_t)y % 64 == 0 && row % 16 == 0; }

/* Store n numbers, or a whole vector past the caches. */
INLINE void vstore_to(float *p, vf x, int64_t n, int streamed)
{
    if (streamed) vstream(p, x);
    else vstore_n(p, x, n);
}

/* The body for every vector of n numbers, at j, of which `width` count: VL, as the compiler knows, but for the last one. */
#define EACH_VECTOR(j, width, n, ...)                                                                                  \
    do {                                                                                                               \
        int64_t j = 0;                                                                                                 \
        for (const int64_t width = VL; j + VL <= (n); j += VL) { __VA_ARGS__ }                                         \
        for (const int64_t width = (n) - j; j < (n); j = (n)) { __VA_ARGS__ }                                          \
    } while (0)

/* The same for sums of 16 lanes, where vector j belongs to accumulator k. */
#define EACH_OF_SUM16(k, j, width, n, ...)                                                                             \
    do {                                                                                                               \
        int64_t j = 0;                                                                                                 \
        for (const int64_t width = VL; j + 16 <= (n);)                                                                 \
            for (int k = 0; k < SUM16; k++, j += VL) { __VA_ARGS__ }                                                   \
        for (int k = 0; j < (n); k++, j += VL) { const int64_t width = (n) - j; __VA_ARGS__ }                          \
    } while (0)

/* Activations that a kernel can apply to its result before it is stored; the same numbers as fastdl/op.py. */
enum { ACT_LINEAR, ACT_RELU, ACT_SIGMOID, ACT_TANH, ACT_RELU6, ACT_GELU, ACT_SILU };     /* the last two: matrix products only */

INLINE vf activate(vf x, int64_t activation)
{
    switch (activation) {
    case ACT_RELU: return vrelu(x);
    case ACT_SIGMOID: return vsigmoid(x);
    case ACT_TANH: return vtanh(x);
    case ACT_RELU6: return vlesser(vset(6), vrelu(x));
    default: return x;
    }
}

/* a < b ? x : 0; with masks the load of x, were it a part of the move, would wait for the mask. */
INLINE vf where_less(vf a, vf b, vf x) { return vpick_less(a, b, VL == 16 ? vheld(x) : x, vset(0)); }

/* d times the derivative of an activation, from its result y. */
INLINE vf activate_grad(vf d, vf y, int64_t activation)
{
    switch (activation) {
    case ACT_RELU: return where_less(vset(0), y, d);
    case ACT_SIGMOID: return d * y * (vset(1) - y);
    case ACT_TANH: return d * (vset(1) - y * y);
    case ACT_RELU6: return where_less(vset(0), y, where_less(y, vset(6), d));
    default: return d;
    }
}

/* d_x = d_y times the derivative of an activation, from its result y; n numbers. */
INLINE void activation_gradient(float *d_x, const float *d_y, const float *y, int64_t n, int64_t activation)
{
    for (int64_t i = 0; i < n; i += VL)
        vstore_n(d_x + i, activate_grad(vload_n(d_y + i, n - i), vload_n(y + i, n - i), activation), n - i);
}

/* x sigmoid(x) = x / (1 + exp(-x)), -0 below -88.3, and its derivative s (1 + x (1 - s)) */
INLINE vf vsilu(vf x)
{
    const vf c = vgreater(vset(-88.8f), x);
    return c / vone_and_exp(-vlesser(vset(30), c));
}
INLINE vf vsilu_slope(vf x)
{
    vf s = vsigmoid(x);
    return vpick(vabs(x) == vset(INFINITY), s, vfma(x * s, vset(1) - s, s));
}

/* Phi(x) = 0.5 + x P(x^2) / Q(x^2), the cumulative distribution of the normal, for |x| <= 5.4, to 2e-7 (P / Q a fit of the relative
   error, to 1.3e-8); beyond that float32 knows only 0 and 1. x Phi(x), and its derivative Phi(x) + x phi(x). */
INLINE vf vnormal_cdf(vf x)
{
    const vf c = vlesser(vset(5.4f), vgreater(vset(-5.4f), x)), t = c * c;
    vf p = vset(2.35910420e-8f), q = vset(1.21982555e-6f);
    p = vfma(p, t, vset(6.32372485e-6f));
    q = vfma(q, t, vset(7.11729808e-5f));
    p = vfma(p, t, vset(1.60695175e-4f));
    q = vfma(q, t, vset(1.83865568e-3f));
    p = vfma(p, t, vset(4.62896517e-3f));
    q = vfma(q, t, vset(2.81801056e-2f));
    p = vfma(p, t, vset(3.30293849e-2f));
    q = vfma(q, t, vset(0.249458849f));
    p = vfma(p, t, vset(0.398942262f));
    q = vfma(q, t, vset(1));
    return c * p / q + vset(0.5f);
}
INLINE vf vgelu(vf x) { return vpick_less(x, vset(-5.4f), vset(-0.0f), x * vnormal_cdf(x)); }
INLINE vf vgelu_slope(vf x)
{
    vf c = vlesser(vset(20), vgreater(vset(-20), x));
    return vfma(c * vset(0.398942280f), vexp(vset(-0.5f) * c * c), vpick_less(x, vset(-5.4f), vset(0), vnormal_cdf(c)));
}

#endif
