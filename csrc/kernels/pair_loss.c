/* Losses of pairs (target, prediction), summed over the columns of each row; formulas as in fastdl/ops/pair_loss.py. */
#include "probability.h"

enum { PAIR_SQUARED, PAIR_ABSOLUTE, PAIR_HUBER, PAIR_BINARY, PAIR_BINARY_LOGITS, PAIR_LOGARITHMIC, PAIR_PERCENTAGE, PAIR_LOG_COSH,
       PAIR_HINGE, PAIR_SQUARED_HINGE, PAIR_POISSON, PAIR_DIVERGENCE };

INLINE vf from_least(vf x) { return vpick(x < vset(LEAST), vset(LEAST), x); }
INLINE vf up_to_1(vf x) { return vpick(x > vset(1), vset(1), from_least(x)); }
INLINE vf one_sided(vf t) { return vpick(t == vset(0), vset(-1), t); }       /* labels 0 and 1 become -1 and 1 */

INLINE vf pair_loss(vf t, vf p, int kind, vf parameter)
{
    const vf e = p - t, size = vabs(e), smooth = vfma(t, vset(1) - parameter, vset(0.5f) * parameter), c = clip_probability(p);
    switch (kind) {
    case PAIR_SQUARED: return e * e;
    case PAIR_ABSOLUTE: return size;
    case PAIR_HUBER: return vpick(size <= parameter, vset(0.5f) * e * e, parameter * (size - vset(0.5f) * parameter));
    case PAIR_BINARY: return -vfma(smooth, vlog(c), (vset(1) - smooth) * vlog(vset(1) - c));
    case PAIR_BINARY_LOGITS: return vrelu(p) - p * smooth + vlog1p(vexp(-vabs(p)));
    case PAIR_LOGARITHMIC: {
        const vf d = vlog(from_least(p) + vset(1)) - vlog(from_least(t) + vset(1));
        return d * d;
    }
    case PAIR_PERCENTAGE: return vset(100) * size / from_least(vabs(t));
    case PAIR_LOG_COSH: return size + (vlog1p(vexp(vset(-2) * size)) - vset(0.693147181f));
    case PAIR_HINGE: return vrelu(vset(1) - one_sided(t) * p);
    case PAIR_SQUARED_HINGE: return vrelu(vset(1) - one_sided(t) * p) * vrelu(vset(1) - one_sided(t) * p);
    case PAIR_POISSON: return p - t * vlog(p + vset(LEAST));
    default: return up_to_1(t) * vlog(up_to_1(t) / up_to_1(p));
    }
}

/* The derivative of pair_loss with respect to p; of_target: to t. */
INLINE vf pair_slope(vf t, vf p, int kind, vf parameter, int of_target)
{
    const vf e = p - t, smooth = vfma(t, vset(1) - parameter, vset(0.5f) * parameter), c = clip_probability(p), side = one_sided(t);
    const vf turn = of_target ? vset(-1) : vset(1), zero = vset(0);
    switch (kind) {
    case PAIR_SQUARED: return turn * (e + e);
    case PAIR_ABSOLUTE: return turn * vsign(e);
    case PAIR_HUBER: return turn * vpick(vabs(e) <= parameter, e, parameter * vsign(e));
    case PAIR_BINARY:
        return of_target ? (vset(1) - parameter) * (vlog(vset(1) - c) - vlog(c)) : vpick(p == c, (c - smooth) / (c * (vset(1) - c)), zero);
    case PAIR_BINARY_LOGITS: return of_target ? (parameter - vset(1)) * p : vsigmoid(p) - smooth;
    case PAIR_LOGARITHMIC: {
        const vf d = vlog(from_least(p) + vset(1)) - vlog(from_least(t) + vset(1)), at = of_target ? t : p;
        return vpick(at > vset(LEAST), turn * (d + d) / (at + vset(1)), zero);
    }
    case PAIR_PERCENTAGE: {
        const vf base = from_least(vabs(t)), slope = vset(100) * vsign(e) / base;
        return of_target ? -slope - vpick(vabs(t) > vset(LEAST), vset(100) * vabs(e) / (base * base) * vsign(t), zero) : slope;
    }
    case PAIR_LOG_COSH: return turn * vtanh(e);
    case PAIR_HINGE: return vpick(side * p < vset(1), of_target ? -p : -side, zero);
    case PAIR_SQUARED_HINGE: return vset(-2) * vrelu(vset(1) - side * p) * (of_target ? p : side);
    case PAIR_POISSON: return of_target ? -vlog(p + vset(LEAST)) : vset(1) - t / (p + vset(LEAST));
    default:
        return of_target ? vpick(up_to_1(t) == t, vlog(up_to_1(t) / up_to_1(p)) + vset(1), zero) : vpick(up_to_1(p) == p, -(up_to_1(t) / p), zero);
    }
}

/* The body for a kind known to the compiler. */
#define PAIR_CASE(which, ...) case which: { const int kind = which; __VA_ARGS__ } break;
#define EACH_PAIR(...)                                                                                                 \
    switch (a->kind) {                                                                                                 \
    PAIR_CASE(PAIR_SQUARED, __VA_ARGS__) PAIR_CASE(PAIR_ABSOLUTE, __VA_ARGS__) PAIR_CASE(PAIR_HUBER, __VA_ARGS__)      \
    PAIR_CASE(PAIR_BINARY, __VA_ARGS__) PAIR_CASE(PAIR_BINARY_LOGITS, __VA_ARGS__)                                     \
    PAIR_CASE(PAIR_LOGARITHMIC, __VA_ARGS__) PAIR_CASE(PAIR_PERCENTAGE, __VA_ARGS__)                                   \
    PAIR_CASE(PAIR_LOG_COSH, __VA_ARGS__) PAIR_CASE(PAIR_HINGE, __VA_ARGS__)                                           \
    PAIR_CASE(PAIR_SQUARED_HINGE, __VA_ARGS__) PAIR_CASE(PAIR_POISSON, __VA_ARGS__)                                    \
    PAIR_CASE(PAIR_DIVERGENCE, __VA_ARGS__)                                                                            \
    }

/* losses = factor * sum over the columns of the pair's loss.  One item: one row. */
KERNEL_BY_ROWS(pair_losses, a->rows, a->columns * 2 + (a->columns > 1 ? 20 : 0), a->rows, 1, 1, (4, 4 * a->columns, 4 * a->columns),
    float *losses;            /* (rows) */
    const float *targets;     /* (rows, columns) */
    const float *predictions; /* (rows, columns) */
    int64_t rows;
    int64_t columns;
    int64_t kind;
    double factor;
    double parameter;)
{
    const int64_t n = a->columns;
    const vf factor = vset((float)a->factor), parameter = vset((float)a->parameter);
    EACH_PAIR(
        if (n == 1) {
            for (int64_t i = begin; i < end; i += VL)
                vstore_n(a->losses + i, factor * pair_loss(vload_n(a->targets + i, end - i), vload_n(a->predictions + i, end - i),
                                                           kind, parameter), end - i);
        } else for (int64_t i = begin; i < end; i++) {
            const float *t = a->targets + i * n; const float *p = a->predictions + i * n;
            vf sum[SUM16] = {{0}};
            for (int64_t j = 0; j < n; j += 16)
                for (int64_t k = 0, at = j; k < SUM16 && at < n; k++, at += VL) {
                    const vf loss = pair_loss(vload_n(t + at, n - at), vload_n(p + at, n - at), kind, parameter);
                    sum[k] += at + VL <= n ? loss : vpick(vlanes() < viset((int32_t)(n - at)), loss, vset(0));
                }
            a->losses[i] = (float)a->factor * vsum16(sum);
        }
    )
}

/* The gradient of predictions, or, of_targets, of targets: d_losses * factor * slope of the pair's loss.  One item: one row. */
KERNEL_BY_ROWS(pair_losses_grad, a->rows, a->columns * 2.5, a->rows, 1, 1, (4 * a->columns, 4, 4 * a->columns, 4 * a->columns),
    float *d_x;               /* (rows, columns) */
    const float *d_losses;    /* (rows) */
    const float *targets;     /* (rows, columns) */
    const float *predictions; /* (rows, columns) */
    int64_t rows;
    int64_t columns;
    int64_t kind;
    int64_t of_targets;
    double factor;
    double parameter;)
{
    const int64_t n = a->columns;
    const vf factor = vset((float)a->factor), parameter = vset((float)a->parameter);
    const int of_targets = a->of_targets != 0;
    EACH_PAIR(
        if (n == 1) {
            for (int64_t i = begin; i < end; i += VL)
                vstore_n(a->d_x + i, vload_n(a->d_losses + i, end - i) * factor *
                         pair_slope(vload_n(a->targets + i, end - i), vload_n(a->predictions + i, end - i), kind, parameter, of_targets), end - i);
        } else for (int64_t i = begin; i < end; i++) {
            const float *t = a->targets + i * n, *p = a->predictions + i * n;
            const vf d = vset(a->d_losses[i]) * factor;
            for (int64_t j = 0; j < n; j += VL)
                vstore_n(a->d_x + i * n + j, d * pair_slope(vload_n(t + j, n - j), vload_n(p + j, n - j), kind, parameter, of_targets), n - j);
        }
    )
}
