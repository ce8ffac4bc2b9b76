/* Losses: one number for each row, and the gradient in one pass; and the sum or mean of them. */
#include "kernel.h"

/* Every label lies in 0 .. limit - 1, or is `ignored`.  One item: one label. */
KERNEL(check_labels, a->size, 0.3,
    const int32_t *labels;    /* (size) */
    int64_t size;
    int64_t limit;
    int64_t ignored;)         /* beyond int32: none */
{
    for (int64_t i = begin; i < end; i++)
        if ((uint64_t)(int64_t)a->labels[i] >= (uint64_t)a->limit && a->labels[i] != a->ignored) bad(worker, i);
}

/* losses = -log softmax(x)[label]; top and scale: softmax is exp(x - top) scale.  One item: one row. */
KERNEL(softmax_cross_entropy, a->rows, a->columns * 5 + 30,
    float *losses;            /* (rows) */
    float *top;               /* (rows) */
    float *scale;             /* (rows) */
    const float *x;           /* (rows, columns) */
    const int32_t *labels;    /* (rows) */
    int64_t rows;
    int64_t columns;
    int64_t ignored;)
{
    for (int64_t i = begin; i < end; i++) {
        const float *x = a->x + i * a->columns, top = largest(x, a->columns), sum = exp_sum(0, x, a->columns, top);
        a->top[i] = top;
        a->scale[i] = 1 / sum;
        a->losses[i] = a->labels[i] == a->ignored ? 0 : (float)log(sum) + (top - x[a->labels[i]]);
    }
}

/* d_x = d_loss (softmax(x) - one at the label).  One item: one row. */
KERNEL(softmax_cross_entropy_grad, a->rows, a->columns * 5 + 10,
    float *d_x;               /* (rows, columns) */
    const float *d_losses;    /* (rows) */
    const float *top;         /* (rows) */
    const float *scale;       /* (rows) */
    const float *x;           /* (rows, columns) */
    const int32_t *labels;    /* (rows) */
    int64_t rows;
    int64_t columns;
    int64_t ignored;)
{
    const int64_t n = a->columns;
    for (int64_t i = begin; i < end; i++) {
        const float *x = a->x + i * n, d = a->d_losses[i];
        float *d_x = a->d_x + i * n;
        if (a->labels[i] == a->ignored) {
            memset(d_x, 0, (size_t)n * sizeof(float));
            continue;
        }
        const vf factor = vset(d * a->scale[i]), top = vset(a->top[i]);
        for (int64_t j = 0; j < n; j += VL) vstore_n(d_x + j, vexp(vload_n(x + j, n - j) - top) * factor, n - j);
        d_x[a->labels[i]] -= d;
    }
}

static const float LEAST = 1e-7f, MOST = 1 - 1e-7f;       /* Keras clips probabilities to these */

INLINE vf clip_probability(vf p) { return vpick(p < vset(LEAST), vset(LEAST), vpick(p > vset(MOST), vset(MOST), p)); }
INLINE float clip_probability1(float p) { return p < LEAST ? LEAST : p > MOST ? MOST : p; }

/* losses = -log(c[label] / total), c the clipped probabilities and total their sum.  One item: one row. */
KERNEL(sparse_cross_entropy, a->rows, a->columns + 60,
    float *losses;            /* (rows) */
    float *total;             /* (rows) */
    const float *p;           /* (rows, columns) */
    const int32_t *labels;    /* (rows) */
    int64_t rows;
    int64_t columns;
    int64_t ignored;)
{
    const int64_t n = a->columns;
    for (int64_t i = begin; i < end; i++) {
        const float *p = a->p + i * n;
        vf sum[SUM16] = {{0}};
        for (int64_t j = 0; j < n; j += 16)
            for (int k = 0; k < SUM16 && j + k * VL < n; k++) {
                const int64_t at = j + k * VL;
                const vf c = clip_probability(vload_n(p + at, n - at));
                sum[k] += vpick(vlanes() < viset((int32_t)least(n - at, VL)), c, vset(0));
            }
        a->total[i] = vsum16(sum);
        a->losses[i] = a->labels[i] == a->ignored ? 0 : (float)(log(a->total[i]) - log(clip_probability1(p[a->labels[i]])));
    }
}

/* d_p = d_loss (1 / total - 1 / p at the label) where p is not clipped, else 0.  One item: one row. */
KERNEL(sparse_cross_entropy_grad, a->rows, a->columns + 10,
    float *d_p;               /* (rows, columns) */
    const float *d_losses;    /* (rows) */
    const float *total;       /* (rows) */
    const float *p;           /* (rows, columns) */
    const int32_t *labels;    /* (rows) */
    int64_t rows;
    int64_t columns;
    int64_t ignored;)
{
    const int64_t n = a->columns;
    for (int64_t i = begin; i < end; i++) {
        const int32_t label = a->labels[i];
        const float *p = a->p + i * n, d = label == a->ignored ? 0 : a->d_losses[i];
        float *d_p = a->d_p + i * n;
        const vf slope = vset(d * (1 / a->total[i]));
        for (int64_t j = 0; j < n; j += VL) {
            const vf v = vload_n(p + j, n - j);
            vstore_n(d_p + j, vpick((v < vset(LEAST)) | (v > vset(MOST)), vset(0), slope), n - j);
        }
        if (label != a->ignored && !(p[label] < LEAST) && !(p[label] > MOST)) d_p[label] -= d / p[label];
    }
}

/* ---- losses of pairs (target, prediction), averaged over the columns ---- */

enum { PAIR_SQUARED, PAIR_ABSOLUTE, PAIR_HUBER, PAIRS };

INLINE vf pair_loss(vf t, vf p, int kind, vf parameter)
{
    const vf e = p - t, size = vabs(e);
    switch (kind) {
    case PAIR_SQUARED: return e * e;
    case PAIR_ABSOLUTE: return size;
    default: return vpick(size <= parameter, vset(0.5f) * e * e, parameter * (size - vset(0.5f) * parameter));
    }
}

INLINE vf sign(vf x) { return vpick(x > vset(0), vset(1), vpick(x < vset(0), vset(-1), x)); }

INLINE vf pair_slope(vf t, vf p, int kind, vf parameter)     /* with respect to p */
{
    const vf e = p - t;
    switch (kind) {
    case PAIR_SQUARED: return e + e;
    case PAIR_ABSOLUTE: return sign(e);
    default: return vpick(vabs(e) <= parameter, e, parameter * sign(e));
    }
}

/* The body for a kind known to the compiler. */
#define EACH_PAIR(body)                                                                                                \
    switch (a->kind) {                                                                                                 \
    case PAIR_SQUARED: { const int kind = PAIR_SQUARED; body } break;                                                  \
    case PAIR_ABSOLUTE: { const int kind = PAIR_ABSOLUTE; body } break;                                                \
    default: { const int kind = PAIR_HUBER; body } break;                                                              \
    }

/* losses = factor * sum over the columns of the pair's loss.  One item: one row. */
KERNEL(pair_losses, a->rows, a->columns * 2 + (a->columns > 1 ? 20 : 0),
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

/* d_predictions = d_losses * factor * slope of the pair's loss.  One item: one row. */
KERNEL(pair_losses_grad, a->rows, a->columns * 2.5,
    float *d_predictions;     /* (rows, columns) */
    const float *d_losses;    /* (rows) */
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
                vstore_n(a->d_predictions + i, vload_n(a->d_losses + i, end - i) * factor *
                         pair_slope(vload_n(a->targets + i, end - i), vload_n(a->predictions + i, end - i), kind, parameter), end - i);
        } else for (int64_t i = begin; i < end; i++) {
            const float *t = a->targets + i * n; const float *p = a->predictions + i * n;
            const vf d = vset(a->d_losses[i]) * factor;
            for (int64_t j = 0; j < n; j += VL)
                vstore_n(a->d_predictions + i * n + j, d * pair_slope(vload_n(t + j, n - j), vload_n(p + j, n - j), kind, parameter), n - j);
        }
    )
}

/* ---- one number for a batch ---- */

enum { LOSS_PIECE = 16384 };

/* sums of a piece: losses by weight by mask; the mask; weight by mask.  One item: LOSS_PIECE losses. */
KERNEL(loss_sums, pieces(a->size, LOSS_PIECE), LOSS_PIECE * 3,
    double *sums;             /* (ceil(size / 16384), 3) */
    const float *losses;      /* (size) */
    OPTIONAL const float *weights;    /* (size / weight_repeat) */
    OPTIONAL const uint8_t *mask;     /* (size / mask_repeat) */
    int64_t size;
    int64_t weight_repeat;
    int64_t mask_repeat;)
{
    for (int64_t q = begin; q < end; q++) {
        double total = 0, valid = 0, weight = 0;
        for (int64_t i = q * LOSS_PIECE; i < least(a->size, (q + 1) * LOSS_PIECE); i++) {
            if (a->mask && !a->mask[i / a->mask_repeat]) continue;
            const double w = a->weights ? a->weights[i / a->weight_repeat] : 1;
            total += w * a->losses[i];
            valid += 1;
            weight += w;
        }
        a->sums[q * 3] = total;
        a->sums[q * 3 + 1] = valid;
        a->sums[q * 3 + 2] = weight;
    }
}

/* The sum of the losses by `factor`; factor is 1, or 1 / how many count, or 1 / the sum of their weights.  One item. */
KERNEL(loss_total, 1, a->pieces,
    float *total;             /* (1) */
    float *factor;            /* (1) */
    const double *sums;       /* (pieces, 3) */
    int64_t pieces;
    int64_t divisor;)         /* 0: 1; 1: how many; 2: weights.  Divided by 0: 0 */
{
    double sum[3] = { 0, 0, 0 };
    for (int64_t q = 0; q < a->pieces; q++) for (int k = 0; k < 3; k++) sum[k] += a->sums[q * 3 + k];
    const double d = a->divisor ? sum[a->divisor] : 1, factor = d != 0 ? 1 / d : 0;
    *a->factor = (float)factor;
    *a->total = d != 0 ? (float)(sum[0] / d) : 0;
}

/* d_losses = d_total * factor * weight * mask.  One item: one loss. */
KERNEL(loss_total_grad, a->size, 2,
    float *d_losses;          /* (size) */
    const float *d_total;     /* (1) */
    const float *factor;      /* (1) */
    OPTIONAL const float *weights;    /* (size / weight_repeat) */
    OPTIONAL const uint8_t *mask;     /* (size / mask_repeat) */
    int64_t size;
    int64_t weight_repeat;
    int64_t mask_repeat;)
{
    const float d = *a->d_total * *a->factor;
    for (int64_t i = begin; i < end; i++)
        a->d_losses[i] = a->mask && !a->mask[i / a->mask_repeat] ? 0 : a->weights ? d * a->weights[i / a->weight_repeat] : d;
}

/* d_weights = d_total * factor * sum over the weight's losses of (loss - the mean, where weights are the divisor) * mask.
   One item: one weight. */
KERNEL(loss_weights_grad, a->size / most(a->weight_repeat, 1), a->weight_repeat * 2,
    float *d_weights;         /* (size / weight_repeat) */
    const float *d_total;     /* (1) */
    const float *total;       /* (1) */
    const float *factor;      /* (1) */
    const float *losses;      /* (size) */
    OPTIONAL const uint8_t *mask;     /* (size / mask_repeat) */
    int64_t size;
    int64_t weight_repeat;
    int64_t mask_repeat;
    int64_t divisor;)
{
    const double mean = a->divisor == 2 ? *a->total : 0;
    for (int64_t i = begin; i < end; i++) {
        double sum = 0;
        for (int64_t j = i * a->weight_repeat; j < (i + 1) * a->weight_repeat; j++)
            if (!a->mask || a->mask[j / a->mask_repeat]) sum += a->losses[j] - mean;
        a->d_weights[i] = (float)(sum * *a->d_total * *a->factor);
    }
}

/* ---- penalties on weights ---- */

/* Sums of l1 |x| + l2 x^2.  One item: LOSS_PIECE numbers. */
KERNEL(penalty_sums, pieces(a->size, LOSS_PIECE), LOSS_PIECE,
    double *sums;             /* (ceil(size / 16384)) */
    const float *x;           /* (size) */
    int64_t size;
    double l1;
    double l2;)
{
    const vf l1 = vset((float)a->l1), l2 = vset((float)a->l2);
    for (int64_t q = begin; q < end; q++) {
        const float *x = a->x + q * LOSS_PIECE;
        const int64_t n = least(a->size - q * LOSS_PIECE, LOSS_PIECE);
        vf sum[SUM16] = {{0}};
        for (int64_t j = 0; j < n; j += 16)
            for (int64_t k = 0, p = j; k < SUM16 && p < n; k++, p += VL) {
                const vf v = vload_n(x + p, n - p);
                sum[k] += vfma(v * v, l2, vabs(v) * l1);
            }
        a->sums[q] = vsum16(sum);
    }
}

/* y = the sum of the pieces.  One item. */
KERNEL(penalty_total, 1, a->pieces,
    float *y;                 /* (1) */
    const double *sums;       /* (pieces) */
    int64_t pieces;)
{
    double sum = 0;
    for (int64_t q = 0; q < a->pieces; q++) sum += a->sums[q];
    *a->y = (float)sum;
}

/* d_x = d_y (l1 sign(x) + 2 l2 x).  One item: one number. */
KERNEL(penalty_grad, a->size, 1,
    float *d_x;               /* (size) */
    const float *d_y;         /* (1) */
    const float *x;           /* (size) */
    int64_t size;
    double l1;
    double l2;)
{
    const vf d = vset(*a->d_y), l1 = vset((float)a->l1), l2 = vset((float)(2 * a->l2));
    for (int64_t i = begin; i < end; i += VL) {
        const vf x = vload_n(a->x + i, end - i);
        vstore_n(a->d_x + i, d * vfma(x, l2, l1 * sign(x)), end - i);
    }
}
