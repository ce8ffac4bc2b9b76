/* Losses: one number for each row, and the gradient in one pass; and the sum or mean of them. */
#include "probability.h"
#include "softmax.h"

/* Every label lies in 0 .. limit - 1, or is `ignored`.  One item: one label. */
KERNEL_BY_ROWS(check_labels, a->size, 0.3, a->size, 1, 1, (4),
    const int32_t *labels;    /* (size) */
    int64_t size;
    int64_t limit;
    int64_t ignored;)         /* beyond int32: none */
{
    for (int64_t i = begin; i < end; i++)
        if ((uint64_t)(int64_t)a->labels[i] >= (uint64_t)a->limit && a->labels[i] != a->ignored) bad(worker, i);
}

/* losses = -log softmax(x)[label]; top and scale: softmax is exp(x - top) scale.  One item: one row. */
KERNEL_BY_ROWS(softmax_cross_entropy, a->rows, a->columns * 5 + 30, a->rows, 1, 1, (4, 4, 4, 4 * a->columns, 4),
    float *losses;            /* (rows) */
    float *top;               /* (rows) */
    float *scale;             /* (rows) */
    const float *x;           /* (rows, columns) */
    const int32_t *labels;    /* (rows) */
    int64_t rows;
    int64_t columns;
    int64_t ignored;)
{
    const int64_t each = rows_at_once(a->columns);
    for (int64_t i = begin, rows; i < end; i += rows) {
        float sum[ROWS];
        rows = least(end - i, each);
        exp_sums(0, 0, a->top + i, sum, a->x + i * a->columns, rows, a->columns, a->rows * a->columns, 0);
        for (int64_t r = 0; r < rows; r++) {
            const int32_t label = a->labels[i + r];
            a->scale[i + r] = 1 / sum[r];
            a->losses[i + r] = label == a->ignored ? 0 : (float)log(sum[r]) + (a->top[i + r] - a->x[(i + r) * a->columns + label]);
        }
    }
}

/* d_x = d_loss (softmax(x) - one at the label).  One item: one row. */
KERNEL_BY_ROWS(softmax_cross_entropy_grad, a->rows, a->columns * 5 + 10, a->rows, 1, 1, (4 * a->columns, 4, 4, 4, 4 * a->columns, 4),
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
        EACH_VECTOR(j, width, n, { vstore_n(d_x + j, vexp_negative(vload_n(x + j, width) - top) * factor, width); });
        d_x[a->labels[i]] -= d;
    }
}

INLINE float clip_probability1(float p) { return p < LEAST ? LEAST : p > MOST ? MOST : p; }

/* losses = -log(c[label] / total), c the clipped probabilities and total their sum.  One item: one row. */
KERNEL_BY_ROWS(sparse_cross_entropy, a->rows, a->columns + 60, a->rows, 1, 1, (4, 4, 4 * a->columns, 4),
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
KERNEL_BY_ROWS(sparse_cross_entropy_grad, a->rows, a->columns + 10, a->rows, 1, 1, (4 * a->columns, 4, 4, 4 * a->columns, 4),
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

/* t (1 - smoothing) + smoothing / classes; 0 from n on */
INLINE vf smoothed(const float *t, int64_t n, vf keep, vf share)
{
    const vf v = vfma(vload_n(t, n), keep, share);
    return n >= VL ? v : vpick(vlanes() < viset((int32_t)n), v, vset(0));
}

/* losses = -sum of targets * log softmax(x); weight: sum of the targets; top and scale: softmax is exp(x - top) scale.
   One item: one row. */
KERNEL(distribution_cross_entropy, a->rows, a->columns * 7 + 40,
    float *losses;            /* (rows) */
    float *top;               /* (rows) */
    float *scale;             /* (rows) */
    float *weight;            /* (rows) */
    const float *targets;     /* (rows, columns) */
    const float *x;           /* (rows, columns) */
    int64_t rows;
    int64_t columns;
    double smoothing;)
{
    const int64_t n = a->columns;
    const vf keep = vset((float)(1 - a->smoothing)), share = vset((float)(a->smoothing / (double)n));
    for (int64_t i = begin; i < end; i++) {
        const float *x = a->x + i * n, *t = a->targets + i * n, top = largest(x, n), total = exp_sum(0, x, n, top, 0, 0);
        const vf shift = vset(top), log_total = vset((float)log(total));
        vf sum[SUM16] = {{0}}, weight[SUM16] = {{0}};
        for (int64_t j = 0; j < n; j += 16)
            for (int64_t k = 0, p = j; k < SUM16 && p < n; k++, p += VL) {
                const vf w = smoothed(t + p, n - p, keep, share);
                sum[k] = vfma(w, shift - vload_or(x + p, n - p, top) + log_total, sum[k]);
                weight[k] += w;
            }
        a->top[i] = top;
        a->scale[i] = 1 / total;
        a->weight[i] = vsum16(weight);
        a->losses[i] = vsum16(sum);
    }
}

/* d_x = d_loss (weight softmax(x) - targets), d_targets = -d_loss log softmax(x).  One item: one row. */
KERNEL(distribution_cross_entropy_grad, a->rows, a->columns * 6 + 20,
    OPTIONAL float *d_x;      /* (rows, columns) */
    OPTIONAL float *d_targets;        /* (rows, columns) */
    const float *d_losses;    /* (rows) */
    const float *top;         /* (rows) */
    const float *scale;       /* (rows) */
    const float *weight;      /* (rows) */
    const float *targets;     /* (rows, columns) */
    const float *x;           /* (rows, columns) */
    int64_t rows;
    int64_t columns;
    double smoothing;)
{
    const int64_t n = a->columns;
    const vf keep = vset((float)(1 - a->smoothing)), share = vset((float)(a->smoothing / (double)n));
    for (int64_t i = begin; i < end; i++) {
        const float *x = a->x + i * n, *t = a->targets + i * n;
        const vf d = vset(a->d_losses[i]), top = vset(a->top[i]), factor = vset(a->scale[i] * a->weight[i]);
        const vf log_total = vset(a->d_targets ? -(float)log(a->scale[i]) : 0);
        for (int64_t j = 0; j < n; j += VL) {
            const vf shifted = vload_n(x + j, n - j) - top;
            if (a->d_x) vstore_n(a->d_x + i * n + j, d * (vexp(shifted) * factor - smoothed(t + j, n - j, keep, share)), n - j);
            if (a->d_targets) vstore_n(a->d_targets + i * n + j, d * keep * (log_total - shifted), n - j);
        }
    }
}

/* losses = -sum of targets * log c, c = p / total clipped, total: sum of p.  One item: one row. */
KERNEL(distribution_log_loss, a->rows, a->columns * 6 + 20,
    float *losses;            /* (rows) */
    float *total;             /* (rows) */
    const float *targets;     /* (rows, columns) */
    const float *p;           /* (rows, columns) */
    int64_t rows;
    int64_t columns;
    double smoothing;)
{
    const int64_t n = a->columns;
    const vf keep = vset((float)(1 - a->smoothing)), share = vset((float)(a->smoothing / (double)n));
    for (int64_t i = begin; i < end; i++) {
        const float *p = a->p + i * n, *t = a->targets + i * n;
        vf total[SUM16] = {{0}}, sum[SUM16] = {{0}};
        for (int64_t j = 0; j < n; j += 16)
            for (int64_t k = 0, at = j; k < SUM16 && at < n; k++, at += VL) total[k] += vload_n(p + at, n - at);
        a->total[i] = vsum16(total);
        for (int64_t j = 0; j < n; j += 16)
            for (int64_t k = 0, at = j; k < SUM16 && at < n; k++, at += VL)
                sum[k] = vfma(smoothed(t + at, n - at, keep, share), vlog(clip_probability(vload_n(p + at, n - at) / vset(a->total[i]))), sum[k]);
        a->losses[i] = -vsum16(sum);
    }
}

/* With g = -targets / c where p / total is not clipped, else 0: d_p = d_loss (g - sum of g p / total) / total; d_targets =
   -d_loss log c.  One item: one row. */
KERNEL(distribution_log_loss_grad, a->rows, a->columns * 8 + 20,
    OPTIONAL float *d_p;      /* (rows, columns) */
    OPTIONAL float *d_targets;        /* (rows, columns) */
    const float *d_losses;    /* (rows) */
    const float *total;       /* (rows) */
    const float *targets;     /* (rows, columns) */
    const float *p;           /* (rows, columns) */
    int64_t rows;
    int64_t columns;
    double smoothing;)
{
    const int64_t n = a->columns;
    const vf keep = vset((float)(1 - a->smoothing)), share = vset((float)(a->smoothing / (double)n));
    for (int64_t i = begin; i < end; i++) {
        const float *p = a->p + i * n, *t = a->targets + i * n;
        const vf total = vset(a->total[i]), d = vset(a->d_losses[i]);
        vf sum[SUM16] = {{0}};                                /* of -g p / total: the targets that are not clipped */
        if (a->d_p)
            for (int64_t j = 0; j < n; j += 16)
                for (int64_t k = 0, at = j; k < SUM16 && at < n; k++, at += VL) {
                    const vf q = vload_n(p + at, n - at) / total;
                    sum[k] += vpick((q < vset(LEAST)) | (q > vset(MOST)), vset(0), smoothed(t + at, n - at, keep, share));
                }
        const vf unclipped = vset(vsum16(sum));
        for (int64_t j = 0; j < n; j += VL) {
            const vf q = vload_n(p + j, n - j) / total, c = clip_probability(q);
            if (a->d_p) {
                const vf g = vpick(q == c, -(smoothed(t + j, n - j, keep, share) / c), vset(0));
                vstore_n(a->d_p + i * n + j, d * (g + unclipped) / total, n - j);
            }
            if (a->d_targets) vstore_n(a->d_targets + i * n + j, -(d * keep * vlog(c)), n - j);
        }
    }
}

/* ---- one number for a batch ---- */

enum { LOSS_PIECE = 16384 };

/* sums of a piece: losses by weight by mask; the mask; weight by mask.  One item: LOSS_PIECE losses. */
KERNEL(loss_sums, pieces(a->size, LOSS_PIECE), least(a->size, LOSS_PIECE) * 3,
    double *sums;             /* (ceil(size / 16384), 3) */
    const float *losses;      /* (size) */
    OPTIONAL const float *weights;    /* (size / weight_repeat) */
    OPTIONAL const uint8_t *mask;     /* (size / mask_repeat) */
    int64_t size;
    int64_t weight_repeat;
    int64_t mask_repeat;)
{
    for (int64_t q = begin; q < end; q++) {
        const int64_t first = q * LOSS_PIECE, stop = least(a->size, first + LOSS_PIECE);
        double total = 0, valid = 0, weight = 0;
        if (!a->weights && !a->mask) {
            double lane[16] = { 0 };
            int64_t i = first;
            for (; i + 16 <= stop; i += 16) for (int k = 0; k < 16; k++) lane[k] += a->losses[i + k];
            for (int k = 0; i < stop; i++, k++) lane[k] += a->losses[i];
            for (int k = 0; k < 16; k++) total += lane[k];
            valid = weight = (double)(stop - first);
        } else for (int64_t i = first; i < stop; i++) {
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

/* d_losses = d_total * factor * weight * mask; where the factor is known before, it is `constant`.  One item: one loss. */
KERNEL_BY_ROWS(loss_total_grad, a->size, 2, a->size, 1, 1, (4, 0, 0, 4 * (a->weight_repeat == 1), a->mask_repeat == 1),
    float *d_losses;          /* (size) */
    const float *d_total;     /* (1) */
    OPTIONAL const float *factor;     /* (1) */
    OPTIONAL const float *weights;    /* (size / weight_repeat) */
    OPTIONAL const uint8_t *mask;     /* (size / mask_repeat) */
    int64_t size;
    int64_t weight_repeat;
    int64_t mask_repeat;
    double constant;)
{
    const float d = *a->d_total * (a->factor ? *a->factor : (float)a->constant);
    if (!a->mask && !a->weights) EACH_VECTOR(i, n, end - begin, { vstore_n(a->d_losses + begin + i, vset(d), n); });
    else for (int64_t i = begin; i < end; i++)
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
KERNEL(penalty_sums, pieces(a->size, LOSS_PIECE), least(a->size, LOSS_PIECE),
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
        vstore_n(a->d_x + i, d * vfma(x, l2, l1 * vsign(x)), end - i);
    }
}
