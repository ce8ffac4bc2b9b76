/* Metrics: whether predictions are right, and running totals in double. */
#include "softmax.h"

/* Where the first of the largest is; a NaN is none of them, but for the first number: then 0. */
INLINE int64_t first_largest(const float *x, int64_t n)
{
    if (n < 1 || x[0] != x[0]) return 0;
    const float top = largest(x, n);
    int64_t at = 0;
    while (x[at] != top) at++;
    return at;
}

/* matches = 1 where the label's score is the first of the largest, or among the k largest, else 0; the label is an integer, or
   the first of the largest targets. NaN and labels out of range never match.  One item: one row. */
KERNEL_BY_ROWS(label_matches, a->rows, a->columns + 10, a->rows, 1, 1, (4, 4 * a->columns, 4, 4 * a->columns),
    float *matches;                   /* (rows) */
    const float *scores;              /* (rows, columns) */
    OPTIONAL const int32_t *labels;   /* (rows) */
    OPTIONAL const float *targets;    /* (rows, columns) */
    int64_t rows;
    int64_t columns;
    int64_t k;)                       /* 0: the first of the largest */
{
    const int64_t n = a->columns;
    for (int64_t i = begin; i < end; i++) {
        const float *x = a->scores + i * n;
        const int64_t label = a->labels ? a->labels[i] : first_largest(a->targets + i * n, n);
        if (label < 0 || label >= n) {
            a->matches[i] = 0;
            continue;
        }
        const float score = x[label];
        int32_t above = 0;
        for (int64_t j = 0; j < n; j++) above += !(x[j] <= score);
        if (!a->k) for (int64_t j = 0; j < label; j++) above += x[j] == score;
        a->matches[i] = above < (a->k ? a->k : 1);
    }
}

/* matches = share of the columns where the target is 1 and the prediction above the threshold, or 0 and not; `exact`: where
   they are equal.  One item: one row. */
KERNEL(pair_matches, a->rows, a->columns * 2 + 5,
    float *matches;                   /* (rows) */
    const float *targets;             /* (rows, columns) */
    const float *predictions;         /* (rows, columns) */
    int64_t rows;
    int64_t columns;
    int64_t exact;
    double threshold;)
{
    const int64_t n = a->columns;
    const float threshold = (float)a->threshold;
    for (int64_t i = begin; i < end; i++) {
        const float *t = a->targets + i * n, *p = a->predictions + i * n;
        int32_t count = 0;
        for (int64_t j = 0; j < n; j++) count += t[j] == (a->exact ? p[j] : (float)(p[j] > threshold));
        a->matches[i] = (float)count / (float)n;
    }
}

/* total += scale * weighted sum, count += scale * sum of the weights; sums as loss_sums leaves them.  One item. */
KERNEL(add_to_mean, 1, a->pieces,
    double *total;                    /* (1) */
    double *count;                    /* (1) */
    const double *sums;               /* (pieces, 3) */
    int64_t pieces;
    double scale;)
{
    double sum = 0, weight = 0;
    for (int64_t q = 0; q < a->pieces; q++) {
        sum += a->sums[3 * q];
        weight += a->sums[3 * q + 2];
    }
    *a->total += a->scale * sum;
    *a->count += a->scale * weight;
}

/* total / count, 0 where count is 0; with `root` its square root.  One item. */
KERNEL(mean_so_far, 1, 1,
    float *mean;                      /* (1) */
    const double *total;              /* (1) */
    const double *count;              /* (1) */
    int64_t root;)
{
    const double mean = *a->count != 0 ? *a->total / *a->count : 0;
    *a->mean = (float)(a->root ? sqrt(mean) : mean);
}

/* matches = 1 where the label is among the first k of its row of class numbers, else 0.  One item: one row. */
KERNEL(sorted_matches, a->rows, a->k + 5,
    float *matches;                   /* (rows) */
    const float *ids;                 /* (rows, columns) class numbers, the best first */
    const int32_t *labels;            /* (rows) */
    int64_t rows;
    int64_t columns;
    int64_t k;)
{
    for (int64_t i = begin; i < end; i++) {
        int found = 0;
        for (int64_t j = 0; j < least(a->k, a->columns); j++) found |= a->ids[i * a->columns + j] == (float)a->labels[i];
        a->matches[i] = (float)found;
    }
}

/* Adds a batch to the confusion matrices of some thresholds: positive is a target that is not 0, predicted is a prediction above
   the threshold and, with top_k, among the top_k largest of its row.  One item: one threshold. */
KERNEL(add_to_confusion, a->count, a->rows * a->columns * 2,
    double *true_positives;           /* (count) */
    double *false_positives;          /* (count) */
    double *true_negatives;           /* (count) */
    double *false_negatives;          /* (count) */
    const float *targets;             /* (rows, columns) */
    const float *predictions;         /* (rows, columns) */
    OPTIONAL const float *weights;    /* (rows * columns / weight_repeat) */
    const float *thresholds;          /* (count) */
    int64_t rows;
    int64_t columns;
    int64_t class_id;                 /* the only column that counts; -1: all */
    int64_t top_k;                    /* 0: none */
    int64_t weight_repeat;
    int64_t count;)
{
    const int64_t n = a->columns, first = most(a->class_id, 0), last = a->class_id < 0 ? n : least(first + 1, n);
    for (int64_t k = begin; k < end; k++) {
        double sum[4] = { 0, 0, 0, 0 };
        for (int64_t r = 0; r < a->rows; r++)
            for (int64_t c = first; c < last; c++) {
                const float *p = a->predictions + r * n;
                int64_t above = 0;
                if (a->top_k) for (int64_t j = 0; j < n; j++) above += p[j] > p[c] || (p[j] == p[c] && j < c);
                const int predicted = p[c] > a->thresholds[k] && (!a->top_k || above < a->top_k);
                sum[2 * (a->targets[r * n + c] != 0) + predicted] += a->weights ? a->weights[(r * n + c) / a->weight_repeat] : 1;
            }
        a->true_negatives[k] += sum[0];
        a->false_positives[k] += sum[1];
        a->false_negatives[k] += sum[2];
        a->true_positives[k] += sum[3];
    }
}
