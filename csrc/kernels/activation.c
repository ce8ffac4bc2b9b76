/* Activations. */
#include "unary.h"

UNARY(relu, 1, vrelu(x))
UNARY_GRAD(relu_grad, 1.5, y, activate_grad(d, y, ACT_RELU))
UNARY(relu6, 1, vlesser(vset(6), vrelu(x)))
UNARY_GRAD(relu6_grad, 1.5, y, activate_grad(d, y, ACT_RELU6))
UNARY_OF(leaky_relu, 1, double negative_slope;, vpick_less(x, vset(0), x * vset((float)a->negative_slope), x))
UNARY_GRAD_OF(leaky_relu_grad, 1.5, x, double negative_slope;, vpick_less(x, vset(0), d * vset((float)a->negative_slope), d))
UNARY_OF(elu, 4, double alpha;, vpick_less(x, vset(0), vset((float)a->alpha) * vexpm1(x), x))
UNARY_GRAD_OF(elu_grad, 4, x, double alpha;, vpick_less(x, vset(0), d * vset((float)a->alpha) * vexp(x), d))

/* Self-normalizing networks, Klambauer et al. 2017. */
#define SELU_ALPHA 1.67326324f
#define SELU_SCALE 1.05070099f
UNARY(selu, 4, vset(SELU_SCALE) * vpick_less(x, vset(0), vset(SELU_ALPHA) * vexpm1(x), x))
UNARY_GRAD(selu_grad, 1.5, y, d * vpick_less(y, vset(0), y + vset(SELU_ALPHA * SELU_SCALE), vset(SELU_SCALE)))

/* y = activate(x1 + x2).  One item: one number. */
KERNEL(activated_sum, a->size, a->activation == ACT_SIGMOID || a->activation == ACT_TANH ? 4 : 1.5,
    float *y;             /* (size) */
    const float *x1;      /* (size) */
    const float *x2;      /* (size) */
    int64_t size;
    int64_t activation;)
{
    EACH_VECTOR(j, n, end - begin, {
        const int64_t i = begin + j;
        __builtin_prefetch(a->x1 + i + AHEAD);
        __builtin_prefetch(a->x2 + i + AHEAD);
        vstore_n(a->y + i, activate(vload_n(a->x1 + i, n) + vload_n(a->x2 + i, n), a->activation), n);
    });
}

UNARY(sigmoid, 4, vsigmoid(x))
UNARY_GRAD(sigmoid_grad, 1.5, y, d * (y * (vset(1) - y)))
UNARY(tanh, 4, vtanh(x))
UNARY_GRAD(tanh_grad, 1.5, y, d * ((vset(1) - y) * (vset(1) + y)))

/* max(x, 0) + log(1 + e), e = exp(-|x|); the logarithm of the rounded u = 1 + e, and what was lost */
INLINE vf vsoftplus(vf x)
{
    vf e = vexp(-vabs(x)), u = e + vset(1);
    return vrelu(x) + (vlog_positive(u) + (e - (u - vset(1))) / u);
}

UNARY(softplus, 7, vsoftplus(x))
UNARY_GRAD(softplus_grad, 4, x, d * vsigmoid(x))
UNARY(log_sigmoid, 7, -vsoftplus(-x))
UNARY_GRAD(log_sigmoid_grad, 4, x, d * vsigmoid(-x))
UNARY(softsign, 2, x / (vset(1) + vabs(x)))
UNARY_GRAD(softsign_grad, 2, x, d / ((vset(1) + vabs(x)) * (vset(1) + vabs(x))))

UNARY(silu, 4, vsilu(x))
UNARY_GRAD(silu_grad, 4, x, d * vsilu_slope(x))
UNARY(hard_sigmoid, 1.5, vlesser(vset(1), vgreater(vset(0), vfma(x, vset(1 / 6.0f), vset(0.5f)))))
UNARY_GRAD(hard_sigmoid_grad, 1.5, x, vpick_less(vabs(x), vset(3), d * vset(1 / 6.0f), vset(0)))
UNARY(hard_silu, 1.5, vpick(x == vset(-INFINITY), vset(0),
                            x * vlesser(vset(1), vgreater(vset(0), vfma(x, vset(1 / 6.0f), vset(0.5f))))))
UNARY_GRAD(hard_silu_grad, 1.5, x, vpick_less(vabs(x), vset(3), d * vfma(x, vset(1 / 3.0f), vset(0.5f)), vpick_less(x, vset(0), vset(0), d)))

/* x tanh(softplus(x)) = x n / (n + 2), n = e (e + 2), e = exp(x); from 20 on that is x */
INLINE vf vmish(vf x)
{
    vf e = vexp(vlesser(vset(20), x)), n = e * (e + vset(2));
    return vpick(x == vset(-INFINITY), vset(0), x * (n / (n + vset(2))));
}
INLINE vf vmish_slope(vf x)
{
    vf e = vexp(vlesser(vset(20), x)), n = e * (e + vset(2)), q = vset(1) / (n + vset(2));
    vf y = vfma(x * (vset(4) * e), (vset(1) + e) * q * q, n * q);
    return vpick_less(vset(20), x, vset(1), vpick(x == vset(-INFINITY), vset(0), y));
}

UNARY(mish, 4, vmish(x))
UNARY_GRAD(mish_grad, 5, x, d * vmish_slope(x))

/* 0.5 (1 + tanh(u)) = sigmoid(2u): x sigmoid(z) = x / (1 + exp(-z)), z = 2 sqrt(2 / pi) (x + 0.044715 x^3); -0 below -10.05 */
INLINE vf vgelu_z(vf x) { return x * vfma(x * x, vset(0.0713548163f), vset(1.59576912f)); }
INLINE vf vgelu_approximate(vf x)
{
    const vf c = vgreater(vset(-10.06f), x);
    return c / vone_and_exp(-vgelu_z(vlesser(vset(6), c)));
}
INLINE vf vgelu_approximate_slope(vf x)
{
    vf c = vlesser(vset(20), vgreater(vset(-20), x)), s = vsigmoid(vgelu_z(c));
    return vfma(c * s * (vset(1) - s), vfma(c * c, vset(0.214064449f), vset(1.59576912f)), s);
}

UNARY(gelu, 4, vgelu(x))
UNARY_GRAD(gelu_grad, 6, x, d * vgelu_slope(x))
UNARY(gelu_approximate, 4, vgelu_approximate(x))
UNARY_GRAD(gelu_approximate_grad, 5, x, d * vgelu_approximate_slope(x))
