/* Functions of one number. */
#include "unary.h"

UNARY(negative, 1, -x)
UNARY(abs, 1, vabs(x))
UNARY_GRAD(abs_grad, 1.5, x, vpick(x == vset(0), x * d, (vf)((vi)d ^ ((vi)x & viset(INT32_MIN)))))
UNARY(sign, 1, vpick((x == vset(0)) | (x != x), x, vsign_of(vset(1), x)))
UNARY(square, 1, x * x)
UNARY_GRAD(square_grad, 1.5, x, vset(2) * d * x)
UNARY(sqrt, 2, vsqrt(x))
UNARY_GRAD(sqrt_grad, 2, y, d * vset(0.5f) / y)
UNARY(rsqrt, 3, vset(1) / vsqrt(x))
UNARY_GRAD(rsqrt_grad, 1.5, y, vset(-0.5f) * d * y * y * y)
UNARY(reciprocal, 2, vset(1) / x)
UNARY_GRAD(reciprocal_grad, 1.5, y, -d * y * y)
UNARY(floor, 1, vfloor(x))
UNARY(ceil, 1, -vfloor(-x))
UNARY(round, 1, vround(x))

UNARY(exp, 3, vexp(x))
UNARY_GRAD(exp_grad, 1.5, y, d * y)
UNARY(expm1, 4, vexpm1(x))
UNARY_GRAD(expm1_grad, 1.5, y, d * (y + vset(1)))
UNARY(log, 4, vlog(x))
UNARY_GRAD(log_grad, 2, x, d / x)
UNARY(log1p, 5, vlog1p(x))
UNARY_GRAD(log1p_grad, 2, x, d / (vset(1) + x))
UNARY(sin, 4, vsin(x))
UNARY_GRAD(sin_grad, 4, x, d * vcos(x))
UNARY(cos, 4, vcos(x))
UNARY_GRAD(cos_grad, 4, x, -d * vsin(x))
UNARY(erf, 5, verf(x))
UNARY_GRAD(erf_grad, 4, x, d * vset(1.12837917f) * vexp(-x * x))

/* y = x, low where it is less, high where it is greater; NaN stays.  One item: one number. */
UNARY_OF(clip, 1, double low; double high;, vlesser(vset((float)a->high), vgreater(vset((float)a->low), x)))
UNARY_GRAD_OF(clip_grad, 1.5, x, double low; double high;,
              vpick((x >= vset((float)a->low)) & (x <= vset((float)a->high)), d, vset(0)))

/* y = whether x is finite, infinite, NaN.  One item: one number. */
#define UNARY_TEST(name, expression)                                                                                   \
    KERNEL(name, a->size, 1, uint8_t *y; const float *x; int64_t size;)                                                \
    {                                                                                                                  \
        for (int64_t i = begin; i < end; i++) { const float x = a->x[i]; a->y[i] = expression; }                       \
    }
UNARY_TEST(isfinite, x - x == 0)
UNARY_TEST(isinf, x - x != 0 && x == x)
UNARY_TEST(isnan, x != x)
