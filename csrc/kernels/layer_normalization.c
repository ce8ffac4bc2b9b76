/* Normalisation by the statistics of each row. Some rows are read together where there are as many, so that their sums do not wait for one
   another: in the gradient two, as they and the next two lie in the first cache. Memory is kept busy all the time: while rows are read the
   lines of their results are fetched, and while these are stored, the next rows. */
#include "kernel.h"

enum { LAYER_ROWS = 32, LAYER_TOGETHER = 4, GRAD_TOGETHER = 2 };

/* In one pass: the sums of the differences from a guess, which is the mean of a sixteenth of the row, and of their squares. What the guess is
   off by has a square of at most 16 times the variance. */
INLINE void normalize_rows(float *y, float *means, float *inverses, const float *x, const float *gamma, const float *beta, int64_t n,
                           int64_t centred, float epsilon, const int rows)
{
    vf sum[LAYER_TOGETHER][SUM16] = {{{0}}}, square[LAYER_TOGETHER][SUM16] = {{{0}}}, mean[LAYER_TOGETHER], inverse[LAYER_TOGETHER];
    float guess[LAYER_TOGETHER] = {0};
    if (centred) {
        const int64_t some = least(n, 16 * pieces(n, 256));
        EACH_OF_SUM16(k, j, width, some, { for (int r = 0; r < rows; r++) sum[r][k] += vload_n(x + r * n + j, width); });
        for (int r = 0; r < rows; r++) guess[r] = vsum16(sum[r]) / (float)some;
    }
    for (int r = 0; r < rows; r++) {
        mean[r] = vset(guess[r]);
        for (int k = 0; k < SUM16; k++) sum[r][k] = vset(0);
    }
    EACH_OF_SUM16(k, j, width, n, {
        for (int r = 0; r < rows; r++) {
            __builtin_prefetch(y + r * n + j, 1);
            const vf d = vload_or(x + r * n + j, width, guess[r]) - mean[r];
            sum[r][k] += d;
            square[r][k] = vfma(d, d, square[r][k]);
        }
    });
    for (int r = 0; r < rows; r++) {
        const float rest = centred ? vsum16(sum[r]) : 0, left = vsum16(square[r]) - rest * rest / (float)n;
        mean[r] = vset(means[r] = guess[r] + rest / (float)n);
        inverse[r] = vset(inverses[r] = 1 / sqrtf((left < 0 ? 0 : left) / (float)n + epsilon));
    }
    EACH_VECTOR(j, width, n, {
        const vf scale = gamma ? vload_n(gamma + j, width) : vset(1);
        const vf shift = beta ? vload_n(beta + j, width) : vset(0);
        for (int r = 0; r < rows; r++) {
            __builtin_prefetch(x + rows * n + j * rows + r * VL);
            const vf h = (vload_n(x + r * n + j, width) - mean[r]) * inverse[r];
            vstore_n(y + r * n + j, beta ? vfma(h, scale, shift) : gamma ? h * scale : h, width);
        }
    });
}

/* y = (x - mean) inverse gamma + beta, inverse = 1 / sqrt(variance + epsilon); not `centred`: mean 0.  One item: one row. */
KERNEL(layer_normalize, a->rows, a->columns * 2 + 40,
    float *y;             /* (rows, columns) */
    float *mean;          /* (rows) */
    float *inverse;       /* (rows) */
    const float *x;       /* (rows, columns) */
    OPTIONAL const float *gamma;      /* (columns) */
    OPTIONAL const float *beta;       /* (columns) */
    int64_t rows;
    int64_t columns;
    int64_t centred;
    double epsilon;)
{
#define NORMALIZE(gamma, beta, rows) \
    normalize_rows(a->y + i * n, a->mean + i, a->inverse + i, a->x + i * n, gamma, beta, n, a->centred, (float)a->epsilon, rows)
    const float *gamma = a->gamma, *beta = a->beta;
    const int64_t n = a->columns;
    int64_t i = begin;
    if (gamma && beta)          /* as the compiler then knows */
        for (; i + LAYER_TOGETHER <= end; i += LAYER_TOGETHER) NORMALIZE(gamma, beta, LAYER_TOGETHER);
    for (; i + LAYER_TOGETHER <= end; i += LAYER_TOGETHER) NORMALIZE(gamma, beta, LAYER_TOGETHER);
    for (; i < end; i++) NORMALIZE(gamma, beta, 1);
}

/* Of some rows: d_x, and what they add to the sums over rows. */
INLINE void normalize_rows_grad(float *d_x, float *sums, float *products, const float *d_y, const float *x, const float *means, const float *inverses,
                                const float *gamma, int64_t n, int64_t centred, const int rows)
{
    vf sum[GRAD_TOGETHER][SUM16] = {{{0}}}, product[GRAD_TOGETHER][SUM16] = {{{0}}}, mean[GRAD_TOGETHER], inverse[GRAD_TOGETHER];
    vf from_mean[GRAD_TOGETHER], from_x[GRAD_TOGETHER];
    for (int r = 0; r < rows; r++) mean[r] = vset(means[r]), inverse[r] = vset(inverses[r]);
    EACH_OF_SUM16(k, j, width, n, {
        vf s = vload_n(sums + j, width);
        vf p = vload_n(products + j, width);
        const vf scale = gamma ? vload_n(gamma + j, width) : vset(1);
        for (int r = 0; r < rows; r++) {
            if (d_x) __builtin_prefetch(d_x + r * n + j, 1);
            const vf d = vheld(vload_n(d_y + r * n + j, width));      /* 0 in the lanes past the end */
            const vf c = (vload_n(x + r * n + j, width) - mean[r]) * d;
            sum[r][k] = gamma ? vfma(d, scale, sum[r][k]) : sum[r][k] + d;
            product[r][k] = gamma ? vfma(c, scale, product[r][k]) : product[r][k] + c;
            s += d;
            p = vfma(c, inverse[r], p);
        }
        vstore_n(sums + j, s, width);
        vstore_n(products + j, p, width);
    });
    if (!d_x) return;
    for (int r = 0; r < rows; r++) {
        from_mean[r] = vset(centred ? vsum16(sum[r]) / (float)n : 0);
        from_x[r] = vset(vsum16(product[r]) / (float)n * (inverses[r] * inverses[r]));
    }
    EACH_VECTOR(j, width, n, {
        const vf scale = gamma ? vload_n(gamma + j, width) : vset(1);
        for (int r = 0; r < rows; r++) {
            __builtin_prefetch(x + rows * n + j * rows + r * VL);
            __builtin_prefetch(d_y + rows * n + j * rows + r * VL);
            const vf c = vload_n(x + r * n + j, width) - mean[r];
            vf d = vload_n(d_y + r * n + j, width);
            if (gamma) d *= scale;
            vstore_n(d_x + r * n + j, inverse[r] * (d - vfma(c, from_x[r], from_mean[r])), width);
        }
    });
}

/* d_x = inverse (d - mean of d - h mean of d h), d = d_y gamma, h the normalised x; not `centred`: without the mean of d. And
   the sums over a piece's rows of d_y and of d_y h.  One item: LAYER_ROWS rows. */
KERNEL(layer_normalize_grad, pieces(a->rows, LAYER_ROWS), LAYER_ROWS * (a->columns * 4 + 60),
    OPTIONAL float *d_x;      /* (rows, columns) */
    float *sums;          /* (ceil(rows / 32), columns) of d_y */
    float *products;      /* (ceil(rows / 32), columns) of d_y h */
    const float *d_y;     /* (rows, columns) */
    const float *x;       /* (rows, columns) */
    const float *mean;    /* (rows) */
    const float *inverse; /* (rows) */
    OPTIONAL const float *gamma;      /* (columns) */
    int64_t rows;
    int64_t columns;
    int64_t centred;)
{
#define NORMALIZE_GRAD(gamma, rows) \
    normalize_rows_grad(a->d_x ? a->d_x + i * n : 0, sums, products, a->d_y + i * n, a->x + i * n, a->mean + i, a->inverse + i, gamma, n, a->centred, rows)
    const float *gamma = a->gamma;
    const int64_t n = a->columns;
    for (int64_t q = begin; q < end; q++) {
        const int64_t last = least(a->rows, (q + 1) * LAYER_ROWS);
        float *sums = a->sums + q * n, *products = a->products + q * n;
        memset(sums, 0, (size_t)n * sizeof(float));
        memset(products, 0, (size_t)n * sizeof(float));
        int64_t i = q * LAYER_ROWS;
        if (gamma)
            for (; i + GRAD_TOGETHER <= last; i += GRAD_TOGETHER) NORMALIZE_GRAD(gamma, GRAD_TOGETHER);
        for (; i + GRAD_TOGETHER <= last; i += GRAD_TOGETHER) NORMALIZE_GRAD(0, GRAD_TOGETHER);
        for (; i < last; i++) NORMALIZE_GRAD(gamma, 1);
    }
}
