/* Normalisation by the statistics of each row. LAYER_TOGETHER rows are read together where there are as many, so that their sums do not
   wait for one another. */
#include "kernel.h"

enum { LAYER_ROWS = 32, LAYER_TOGETHER = 4 };

INLINE void normalize_rows(float *y, float *means, float *inverses, const float *x, const float *gamma, const float *beta, int64_t n,
                           int64_t centred, float epsilon, const int rows)
{
    vf sum[LAYER_TOGETHER][SUM16] = {{{0}}}, square[LAYER_TOGETHER][SUM16] = {{{0}}}, mean[LAYER_TOGETHER], inverse[LAYER_TOGETHER];
    if (centred) EACH_OF_SUM16(k, j, width, n, { for (int r = 0; r < rows; r++) sum[r][k] += vload_n(x + r * n + j, width); });
    for (int r = 0; r < rows; r++) mean[r] = vset(means[r] = vsum16(sum[r]) / (float)n);
    EACH_OF_SUM16(k, j, width, n, {
        for (int r = 0; r < rows; r++) {
            const vf d = vload_or(x + r * n + j, width, means[r]) - mean[r];
            square[r][k] = vfma(d, d, square[r][k]);
        }
    });
    for (int r = 0; r < rows; r++) inverse[r] = vset(inverses[r] = 1 / sqrtf(vsum16(square[r]) / (float)n + epsilon));
    EACH_VECTOR(j, width, n, {
        const vf scale = gamma ? vload_n(gamma + j, width) : vset(1);
        const vf shift = beta ? vload_n(beta + j, width) : vset(0);
        for (int r = 0; r < rows; r++) {
            vf z = (vload_n(x + r * n + j, width) - mean[r]) * inverse[r];
            if (gamma) z *= scale;
            if (beta) z += shift;
            vstore_n(y + r * n + j, z, width);
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
#define NORMALIZE(rows) normalize_rows(a->y + i * n, a->mean + i, a->inverse + i, a->x + i * n, a->gamma, a->beta, n, a->centred, (float)a->epsilon, rows)
    const int64_t n = a->columns;
    int64_t i = begin;
    for (; i + LAYER_TOGETHER <= end; i += LAYER_TOGETHER) NORMALIZE(LAYER_TOGETHER);
    for (; i < end; i++) NORMALIZE(1);
}

/* Of some rows: d_x, and what they add to the sums over rows. */
INLINE void normalize_rows_grad(float *d_x, float *sums, float *products, const float *d_y, const float *x, const float *means, const float *inverses,
                                const float *gamma, int64_t n, int64_t centred, const int rows)
{
    vf sum[LAYER_TOGETHER][SUM16] = {{{0}}}, product[LAYER_TOGETHER][SUM16] = {{{0}}}, from_mean[LAYER_TOGETHER], from_h[LAYER_TOGETHER];
    EACH_OF_SUM16(k, j, width, n, {
        vf s = vload_n(sums + j, width);
        vf p = vload_n(products + j, width);
        const vf scale = gamma ? vload_n(gamma + j, width) : vset(1);
        for (int r = 0; r < rows; r++) {
            const vf d = vload_n(d_y + r * n + j, width);
            const vf h = (vload_n(x + r * n + j, width) - vset(means[r])) * vset(inverses[r]);
            const vf g = gamma ? d * scale : d;
            sum[r][k] += g;
            product[r][k] = vfma(g, h, product[r][k]);        /* d is 0 in the lanes past the end */
            s += d;
            p = vfma(d, h, p);
        }
        vstore_n(sums + j, s, width);
        vstore_n(products + j, p, width);
    });
    if (!d_x) return;
    for (int r = 0; r < rows; r++) {
        from_mean[r] = vset(centred ? vsum16(sum[r]) / (float)n : 0);
        from_h[r] = vset(vsum16(product[r]) / (float)n);
    }
    EACH_VECTOR(j, width, n, {
        const vf scale = gamma ? vload_n(gamma + j, width) : vset(1);
        for (int r = 0; r < rows; r++) {
            const vf h = (vload_n(x + r * n + j, width) - vset(means[r])) * vset(inverses[r]);
            vf d = vload_n(d_y + r * n + j, width);
            if (gamma) d *= scale;
            vstore_n(d_x + r * n + j, vset(inverses[r]) * (d - vfma(h, from_h[r], from_mean[r])), width);
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
#define NORMALIZE_GRAD(rows) normalize_rows_grad(a->d_x ? a->d_x + i * n : 0, sums, products, a->d_y + i * n, a->x + i * n, a->mean + i, \
                                                 a->inverse + i, a->gamma, n, a->centred, rows)
    const int64_t n = a->columns;
    for (int64_t q = begin; q < end; q++) {
        const int64_t last = least(a->rows, (q + 1) * LAYER_ROWS);
        float *sums = a->sums + q * n, *products = a->products + q * n;
        memset(sums, 0, (size_t)n * sizeof(float));
        memset(products, 0, (size_t)n * sizeof(float));
        int64_t i = q * LAYER_ROWS;
        for (; i + LAYER_TOGETHER <= last; i += LAYER_TOGETHER) NORMALIZE_GRAD(LAYER_TOGETHER);
        for (; i < last; i++) NORMALIZE_GRAD(1);
    }
}
