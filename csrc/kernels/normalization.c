/* Softmax, and normalisation by the statistics of a batch or of a sample. */
#include "kernel.h"

/* Largest of n numbers; NaN wins. */
INLINE float largest(const float *x, int64_t n)
{
    vf top[SUM16];
    for (int k = 0; k < SUM16; k++) top[k] = vset(-INFINITY);
    for (int64_t j = 0; j < n; j += 16)
        for (int k = 0; k < SUM16 && j + k * VL < n; k++) top[k] = vmax(top[k], vload_or(x + j + k * VL, n - j - k * VL, -INFINITY));
    return vmax16(top);
}

/* Sum of exp(x - top); the terms are stored in y where that is not null. */
INLINE float exp_sum(float *y, const float *x, int64_t n, float top)
{
    vf sum[SUM16] = {{0}};
    for (int64_t j = 0; j < n; j += 16)
        for (int k = 0; k < SUM16 && j + k * VL < n; k++) {
            const int64_t at = j + k * VL;
            const vf e = vexp(vload_or(x + at, n - at, -INFINITY) - vset(top));
            sum[k] += vpick(vlanes() < viset((int32_t)least(n - at, VL)), e, vset(0));
            if (y) vstore_n(y + at, e, n - at);
        }
    return vsum16(sum);
}

/* y = exp(x) / sum of exp(x) along the middle axis; with `logarithm`, its logarithm.  One item: a vector of that axis where
   inner is 1, else 16 of them. */
KERNEL(softmax, a->outer * pieces(a->inner, 16), a->columns * least(a->inner, 16) * 6,
    float *y;             /* (outer, columns, inner) */
    const float *x;       /* (outer, columns, inner) */
    int64_t outer;
    int64_t columns;
    int64_t inner;
    int64_t logarithm;)
{
    const int64_t n = a->columns, step = a->inner, blocks = pieces(step, 16);
    for (int64_t i = begin; i < end; i++) {
        if (step == 1) {
            const float *x = a->x + i * n;
            float *y = a->y + i * n;
            const float top = largest(x, n), sum = exp_sum(a->logarithm ? 0 : y, x, n, top);
            const vf scale = vset(1 / sum), shift = vset((float)log(sum));
            for (int64_t j = 0; j < n; j += VL)
                vstore_n(y + j, a->logarithm ? vload_n(x + j, n - j) - vset(top) - shift : vload_n(y + j, n - j) * scale, n - j);
            continue;
        }
        for (int64_t k = i % blocks * 16; k < least(step, i % blocks * 16 + 16); k += VL) {
            const float *x = a->x + i / blocks * n * step + k;
            float *y = a->y + i / blocks * n * step + k;
            const int64_t width = least(step - k, VL);
            vf top = vset(-INFINITY), sum = vset(0);
            for (int64_t j = 0; j < n; j++) top = vmax(top, vload_n(x + j * step, width));
            for (int64_t j = 0; j < n; j++) {
                const vf e = vexp(vload_n(x + j * step, width) - top);
                sum += e;
                if (!a->logarithm) vstore_n(y + j * step, e, width);
            }
            const vf scale = vset(1) / sum;
            vf shift = sum;
            if (a->logarithm) for (int l = 0; l < VL; l++) shift[l] = (float)log(sum[l]);
            for (int64_t j = 0; j < n; j++)
                vstore_n(y + j * step, a->logarithm ? vload_n(x + j * step, width) - top - shift : vload_n(y + j * step, width) * scale, width);
        }
    }
}

/* d_x = y (d_y - sum of d_y y); with `logarithm`, d_y - exp(y) sum of d_y.  Items as softmax. */
KERNEL(softmax_grad, a->outer * pieces(a->inner, 16), a->columns * least(a->inner, 16) * (a->logarithm ? 6 : 3),
    float *d_x;           /* (outer, columns, inner) */
    const float *d_y;     /* (outer, columns, inner) */
    const float *y;       /* (outer, columns, inner) */
    int64_t outer;
    int64_t columns;
    int64_t inner;
    int64_t logarithm;)
{
    const int64_t n = a->columns, step = a->inner, blocks = pieces(step, 16);
    for (int64_t i = begin; i < end; i++) {
        const int64_t width = step == 1 ? 0 : least(step - i % blocks * 16, 16);
        const int64_t at = step == 1 ? i * n : i / blocks * n * step + i % blocks * 16;
        const float *d_y = a->d_y + at, *y = a->y + at;
        float *d_x = a->d_x + at;
        if (step == 1) {
            vf sum[SUM16] = {{0}};
            for (int64_t j = 0; j < n; j += 16)
                for (int k = 0; k < SUM16 && j + k * VL < n; k++) {
                    const int64_t p = j + k * VL;
                    const vf d = vload_n(d_y + p, n - p);
                    sum[k] = a->logarithm ? sum[k] + d : vfma(d, vload_n(y + p, n - p), sum[k]);
                }
            const vf total = vset(vsum16(sum));
            for (int64_t j = 0; j < n; j += VL) {
                const vf d = vload_n(d_y + j, n - j), s = vload_n(y + j, n - j);
                vstore_n(d_x + j, a->logarithm ? d - vexp(s) * total : s * (d - total), n - j);
            }
            continue;
        }
        for (int64_t k = 0; k < width; k += VL) {
            vf total = vset(0);
            for (int64_t j = 0; j < n; j++) {
                const vf d = vload_n(d_y + j * step + k, width - k);
                total = a->logarithm ? total + d : vfma(d, vload_n(y + j * step + k, width - k), total);
            }
            for (int64_t j = 0; j < n; j++) {
                const vf d = vload_n(d_y + j * step + k, width - k), s = vload_n(y + j * step + k, width - k);
                vstore_n(d_x + j * step + k, a->logarithm ? d - vexp(s) * total : s * (d - total), width - k);
            }
        }
    }
}

/* ---- batch normalisation ----

   x is (outer, channels, inner), statistics are per channel. A sum over the batch is cut into pieces: BATCH_ROWS rows where
   inner is 1, else one vector of inner numbers each. A block of a piece is BATCH_CHANNELS channels, or, where inner is not 1, one. */

enum { BATCH_ROWS = 128, BATCH_CHANNELS = 64 };

#define BATCH_PIECES(a) ((a)->inner == 1 ? pieces((a)->outer, BATCH_ROWS) : (a)->outer)
#define BATCH_BLOCKS(a) ((a)->inner == 1 ? pieces((a)->channels, BATCH_CHANNELS) : (a)->channels)
#define BATCH_ITEM(a) ((a)->inner == 1 ? BATCH_ROWS * least((a)->channels, BATCH_CHANNELS) : (a)->inner)

typedef struct { const float *x; int64_t at, rows, row, width, channel; } batch_block;   /* rows of `width` numbers, `row` apart */

INLINE batch_block block_of(const float *x, int64_t item, int64_t outer, int64_t channels, int64_t inner)
{
    if (inner != 1) return (batch_block){ x + item * inner, item * inner, 1, inner, inner, item % channels };
    const int64_t blocks = pieces(channels, BATCH_CHANNELS), q = item / blocks, c = item % blocks * BATCH_CHANNELS, at = q * BATCH_ROWS * channels + c;
    return (batch_block){ x + at, at, least(outer - q * BATCH_ROWS, BATCH_ROWS), channels, least(channels - c, BATCH_CHANNELS), c };
}

/* The mean of a piece and its sum of squared differences from it, both corrected by the sum of the differences from the mean
   as float32 has it.  One item: one block of one piece. */
KERNEL(batch_statistics, BATCH_PIECES(a) * BATCH_BLOCKS(a), BATCH_ITEM(a) * 1.5,
    double *means;        /* (pieces, channels) */
    float *squares;       /* (pieces, channels) */
    double *counts;       /* (pieces) numbers per channel that the mask leaves */
    const float *x;       /* (outer, channels, inner) */
    OPTIONAL const uint8_t *mask;     /* (outer), where inner is 1: the rows that count */
    int64_t outer;
    int64_t channels;
    int64_t inner;)
{
    for (int64_t i = begin; i < end; i++) {
        const batch_block b = block_of(a->x, i, a->outer, a->channels, a->inner);
        const int64_t q = i / BATCH_BLOCKS(a);
        double *means = a->means + q * a->channels + b.channel;
        float *squares = a->squares + q * a->channels + b.channel;
        if (a->inner != 1) {
            vf sum[SUM16] = {{0}}, rest[SUM16] = {{0}}, square[SUM16] = {{0}};
            for (int64_t j = 0; j < b.width; j += 16)
                for (int64_t k = 0, at = j; k < SUM16 && at < b.width; k++, at += VL) sum[k] += vload_n(b.x + at, b.width - at);
            const float mean = vsum16(sum) / (float)b.width;
            for (int64_t j = 0; j < b.width; j += 16)
                for (int64_t k = 0, at = j; k < SUM16 && at < b.width; k++, at += VL) {
                    const vf d = vload_or(b.x + at, b.width - at, mean) - vset(mean);
                    rest[k] += d;
                    square[k] = vfma(d, d, square[k]);
                }
            const float left = vsum16(rest);
            *means = mean + (double)left / (double)b.width;
            *squares = vsum16(square) - left * left / (float)b.width;
            a->counts[q] = (double)b.width;
            continue;
        }
        const uint8_t *mask = a->mask ? a->mask + q * BATCH_ROWS : 0;
        int64_t count = b.rows;
        if (mask) {
            count = 0;
            for (int64_t r = 0; r < b.rows; r++) count += mask[r] != 0;
        }
        vf sum[BATCH_CHANNELS / VL] = {{0}}, mean[BATCH_CHANNELS / VL], rest[BATCH_CHANNELS / VL] = {{0}}, square[BATCH_CHANNELS / VL] = {{0}};
        for (int64_t r = 0; r < b.rows; r++) {
            if (mask && !mask[r]) continue;
            for (int64_t k = 0; k < BATCH_CHANNELS / VL && k * VL < b.width; k++) sum[k] += vload_n(b.x + r * b.row + k * VL, b.width - k * VL);
        }
        for (int64_t k = 0; k < BATCH_CHANNELS / VL; k++) mean[k] = count ? sum[k] / vset((float)count) : vset(0);
        for (int64_t r = 0; r < b.rows; r++) {
            if (mask && !mask[r]) continue;
            for (int64_t k = 0; k < BATCH_CHANNELS / VL && k * VL < b.width; k++) {
                const vf d = vload_n(b.x + r * b.row + k * VL, b.width - k * VL) - mean[k];
                rest[k] += d;
                square[k] = vfma(d, d, square[k]);
            }
        }
        for (int64_t k = 0; k < BATCH_CHANNELS / VL && k * VL < b.width; k++) {
            const vf n = vset((float)most(count, 1));
            vstore_n(squares + k * VL, square[k] - rest[k] * rest[k] / n, b.width - k * VL);
            for (int64_t j = 0; j < least(VL, b.width - k * VL); j++)
                means[k * VL + j] = mean[k][j] + (double)rest[k][j] / (double)most(count, 1);
        }
        if (b.channel == 0) a->counts[q] = (double)count;
    }
}

/* Mean and variance of the whole batch from those of its pieces.  One item: 16 channels. */
KERNEL(batch_statistics_total, pieces(a->channels, 16), a->pieces * 100,
    float *mean;          /* (channels) */
    float *variance;      /* (channels), of the batch: divided by count */
    double *count;        /* (1) */
    const double *means;  /* (pieces, channels) */
    const float *squares; /* (pieces, channels) */
    const double *counts; /* (pieces) */
    int64_t pieces;
    int64_t channels;)
{
    double n = 0;
    for (int64_t q = 0; q < a->pieces; q++) n += a->counts[q];
    if (begin == 0) *a->count = n;
    for (int64_t i = begin; i < end; i++) {
        const int64_t c = i * 16, width = least(a->channels - c, 16);
        double sum[16] = {0}, square[16] = {0};
        for (int64_t q = 0; q < a->pieces; q++)
            for (int64_t j = 0; j < width; j++) sum[j] += a->counts[q] * a->means[q * a->channels + c + j];
        for (int64_t j = 0; j < width; j++) sum[j] = n > 0 ? sum[j] / n : 0;
        for (int64_t q = 0; q < a->pieces; q++)
            for (int64_t j = 0; j < width; j++) {
                const double d = a->means[q * a->channels + c + j] - sum[j];
                square[j] += a->squares[q * a->channels + c + j] + a->counts[q] * d * d;
            }
        for (int64_t j = 0; j < width; j++) {
            a->mean[c + j] = (float)sum[j];
            a->variance[c + j] = (float)(n > 0 ? square[j] / n : 0);
        }
    }
}

INLINE vf inverse_deviation(const float *variance, int64_t n, vf epsilon) { return vset(1) / vsqrt(vload_or(variance, n, 1) + epsilon); }

/* y = (x - mean) / sqrt(variance + epsilon) gamma + beta.  One item: one block of one piece. */
KERNEL(batch_normalize, BATCH_PIECES(a) * BATCH_BLOCKS(a), BATCH_ITEM(a),
    float *y;             /* (outer, channels, inner) */
    const float *x;       /* (outer, channels, inner) */
    const float *mean;    /* (channels) */
    const float *variance;            /* (channels) */
    OPTIONAL const float *gamma;      /* (channels) */
    OPTIONAL const float *beta;       /* (channels) */
    int64_t outer;
    int64_t channels;
    int64_t inner;
    double epsilon;)
{
    const vf epsilon = vset((float)a->epsilon);
    for (int64_t i = begin; i < end; i++) {
        const batch_block b = block_of(a->x, i, a->outer, a->channels, a->inner);
        const int64_t c = b.channel, step = a->inner == 1;
        for (int64_t k = 0; k < b.width; k += VL) {
            const int64_t n = b.width - k, m = step ? n : 1, at = c + step * k;
            vf scale = inverse_deviation(a->variance + at, m, epsilon), mean = vload_n(a->mean + at, m), shift = vset(0);
            if (a->gamma) scale *= vload_n(a->gamma + at, m);
            if (a->beta) shift = vload_n(a->beta + at, m);
            if (!step) { scale = vset(scale[0]); mean = vset(mean[0]); shift = vset(shift[0]); }
            const float *x = b.x + k;
            float *y = a->y + b.at + k;
            for (int64_t r = 0; r < b.rows; r++, x += b.row, y += b.row) vstore_n(y, vfma(vload_n(x, n) - mean, scale, shift), n);
        }
    }
}

/* Sums of d_y and of d_y by the normalised x.  One item: one block of one piece. */
KERNEL(batch_normalize_sums, BATCH_PIECES(a) * BATCH_BLOCKS(a), BATCH_ITEM(a) * 2,
    float *sums;          /* (pieces, channels) of d_y */
    float *products;      /* (pieces, channels) of d_y (x - mean) / sqrt(variance + epsilon) */
    const float *d_y;     /* (outer, channels, inner) */
    const float *x;       /* (outer, channels, inner) */
    const float *mean;    /* (channels) */
    const float *variance;            /* (channels) */
    int64_t outer;
    int64_t channels;
    int64_t inner;
    double epsilon;)
{
    const vf epsilon = vset((float)a->epsilon);
    for (int64_t i = begin; i < end; i++) {
        const batch_block b = block_of(a->x, i, a->outer, a->channels, a->inner);
        const int64_t at = i / BATCH_BLOCKS(a) * a->channels + b.channel;
        const float *d_y = a->d_y + b.at;
        if (a->inner != 1) {
            vf sum[SUM16] = {{0}}, product[SUM16] = {{0}};
            const float mean = a->mean[b.channel];
            for (int64_t j = 0; j < b.width; j += 16)
                for (int64_t k = 0, p = j; k < SUM16 && p < b.width; k++, p += VL) {
                    const vf d = vload_n(d_y + p, b.width - p);
                    sum[k] += d;
                    product[k] = vfma(d, vload_n(b.x + p, b.width - p) - vset(mean), product[k]);
                }
            a->sums[at] = vsum16(sum);
            a->products[at] = vsum16(product) * inverse_deviation(a->variance + b.channel, 1, epsilon)[0];
            continue;
        }
        for (int64_t k = 0; k < b.width; k += VL) {
            const int64_t n = b.width - k;
            const vf mean = vload_n(a->mean + b.channel + k, n);
            vf sum = vset(0), product = vset(0);
            for (int64_t r = 0; r < b.rows; r++) {
                const vf d = vload_n(d_y + r * b.row + k, n);
                sum += d;
                product = vfma(d, vload_n(b.x + r * b.row + k, n) - mean, product);
            }
            vstore_n(a->sums + at + k, sum, n);
            vstore_n(a->products + at + k, product * inverse_deviation(a->variance + b.channel + k, n, epsilon), n);
        }
    }
}

/* The sums of all pieces.  One item: 16 columns. */
KERNEL(sum_norm_pieces, pieces(a->columns, 16), a->pieces * 40,
    float *d_beta;        /* (columns) */
    float *d_gamma;       /* (columns) */
    const float *sums;    /* (pieces, columns) */
    const float *products;            /* (pieces, columns) */
    int64_t pieces;
    int64_t columns;)
{
    for (int64_t i = begin; i < end; i++) {
        const int64_t c = i * 16, width = least(a->columns - c, 16);
        double sum[16] = {0}, product[16] = {0};
        for (int64_t q = 0; q < a->pieces; q++)
            for (int64_t j = 0; j < width; j++) {
                sum[j] += a->sums[q * a->columns + c + j];
                product[j] += a->products[q * a->columns + c + j];
            }
        for (int64_t j = 0; j < width; j++) {
            a->d_beta[c + j] = (float)sum[j];
            a->d_gamma[c + j] = (float)product[j];
        }
    }
}

/* d_x = gamma / sqrt(variance + epsilon) (d_y - d_beta / count - normalised x d_gamma / count); without count, where mean and
   variance are given, only its first term; so also for rows outside of the mask.  One item: one block of one piece. */
KERNEL(batch_normalize_d_x, BATCH_PIECES(a) * BATCH_BLOCKS(a), BATCH_ITEM(a) * 2,
    float *d_x;           /* (outer, channels, inner) */
    const float *d_y;     /* (outer, channels, inner) */
    const float *x;       /* (outer, channels, inner) */
    const float *mean;    /* (channels) */
    const float *variance;            /* (channels) */
    OPTIONAL const float *gamma;      /* (channels) */
    OPTIONAL const float *d_beta;     /* (channels) */
    OPTIONAL const float *d_gamma;    /* (channels) */
    OPTIONAL const double *count;     /* (1) */
    OPTIONAL const uint8_t *mask;     /* (outer), where inner is 1 */
    int64_t outer;
    int64_t channels;
    int64_t inner;
    double epsilon;)
{
    const vf epsilon = vset((float)a->epsilon), share = vset(a->count && *a->count > 0 ? (float)(1 / *a->count) : 0);
    for (int64_t i = begin; i < end; i++) {
        const batch_block b = block_of(a->x, i, a->outer, a->channels, a->inner);
        const int64_t step = a->inner == 1;
        const uint8_t *mask = a->mask && step ? a->mask + i / BATCH_BLOCKS(a) * BATCH_ROWS : 0;
        for (int64_t k = 0; k < b.width; k += VL) {
            const int64_t n = b.width - k, m = step ? n : 1, at = b.channel + step * k;
            const vf inverse = inverse_deviation(a->variance + at, m, epsilon);
            vf scale = inverse, mean = vload_n(a->mean + at, m), from_beta = vset(0), from_gamma = vset(0);
            if (a->gamma) scale *= vload_n(a->gamma + at, m);
            if (a->count) {
                from_beta = vload_n(a->d_beta + at, m) * share;
                from_gamma = vload_n(a->d_gamma + at, m) * share * inverse;
            }
            if (!step) { scale = vset(scale[0]); mean = vset(mean[0]); from_beta = vset(from_beta[0]); from_gamma = vset(from_gamma[0]); }
            const float *x = b.x + k, *d_y = a->d_y + b.at + k;
            float *d_x = a->d_x + b.at + k;
            for (int64_t r = 0; r < b.rows; r++, x += b.row, d_y += b.row, d_x += b.row) {
                vf d = vload_n(d_y, n);
                if (a->count && !(mask && !mask[r])) d = vfma(mean - vload_n(x, n), from_gamma, d - from_beta);
                vstore_n(d_x, d * scale, n);
            }
        }
    }
}

/* The gradients of a mean and a variance that are given.  One item: one channel. */
KERNEL(standardize_grad, a->channels, 20,
    OPTIONAL float *d_mean;           /* (channels) */
    OPTIONAL float *d_variance;       /* (channels) */
    const float *variance;            /* (channels) */
    OPTIONAL const float *gamma;      /* (channels) */
    const float *d_beta;  /* (channels) */
    const float *d_gamma; /* (channels) */
    int64_t channels;
    double epsilon;)
{
    for (int64_t c = begin; c < end; c++) {
        const float inverse = 1 / sqrtf(a->variance[c] + (float)a->epsilon), scale = a->gamma ? a->gamma[c] * inverse : inverse;
        if (a->d_mean) a->d_mean[c] = -scale * a->d_beta[c];
        if (a->d_variance) a->d_variance[c] = -0.5f * scale * inverse * a->d_gamma[c];
    }
}

/* y = old momentum + new (1 - momentum).  One item: one number. */
KERNEL(moving_average, a->size, 1.5,
    float *y;             /* (size) */
    const float *old;     /* (size) */
    const float *next;    /* (size) */
    int64_t size;
    double momentum;)
{
    const vf momentum = vset((float)a->momentum), rest = vset((float)(1 - a->momentum));
    for (int64_t i = begin; i < end; i += VL)
        vstore_n(a->y + i, vfma(vload_n(a->old + i, end - i), momentum, vload_n(a->next + i, end - i) * rest), end - i);
}

/* ---- layer normalisation: statistics of each row ---- */

enum { LAYER_ROWS = 32 };

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
    const int64_t n = a->columns;
    for (int64_t i = begin; i < end; i++) {
        const float *x = a->x + i * n;
        float mean = 0;
        if (a->centred) {
            vf sum[SUM16] = {{0}};
            for (int64_t j = 0; j < n; j += 16)
                for (int64_t k = 0, p = j; k < SUM16 && p < n; k++, p += VL) sum[k] += vload_n(x + p, n - p);
            mean = vsum16(sum) / (float)n;
        }
        vf square[SUM16] = {{0}};
        for (int64_t j = 0; j < n; j += 16)
            for (int64_t k = 0, p = j; k < SUM16 && p < n; k++, p += VL) {
                const vf d = vload_or(x + p, n - p, mean) - vset(mean);
                square[k] = vfma(d, d, square[k]);
            }
        const float inverse = 1 / sqrtf(vsum16(square) / (float)n + (float)a->epsilon);
        a->mean[i] = mean;
        a->inverse[i] = inverse;
        for (int64_t j = 0; j < n; j += VL) {
            vf y = (vload_n(x + j, n - j) - vset(mean)) * vset(inverse);
            if (a->gamma) y *= vload_n(a->gamma + j, n - j);
            if (a->beta) y += vload_n(a->beta + j, n - j);
            vstore_n(a->y + i * n + j, y, n - j);
        }
    }
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
    const int64_t n = a->columns;
    for (int64_t q = begin; q < end; q++) {
        float *sums = a->sums + q * n, *products = a->products + q * n;
        memset(sums, 0, (size_t)n * sizeof(float));
        memset(products, 0, (size_t)n * sizeof(float));
        for (int64_t i = q * LAYER_ROWS; i < least(a->rows, (q + 1) * LAYER_ROWS); i++) {
            const float *x = a->x + i * n, *d_y = a->d_y + i * n;
            const vf mean = vset(a->mean[i]), inverse = vset(a->inverse[i]);
            vf sum[SUM16] = {{0}}, product[SUM16] = {{0}};
            for (int64_t j = 0; j < n; j += 16)
                for (int64_t k = 0, p = j; k < SUM16 && p < n; k++, p += VL) {
                    const vf d = vload_n(d_y + p, n - p), h = (vload_n(x + p, n - p) - mean) * inverse;
                    const vf g = a->gamma ? d * vload_n(a->gamma + p, n - p) : d;
                    sum[k] += g;
                    product[k] = vfma(g, h, product[k]);      /* d is 0 in the lanes past the end */
                    vstore_n(sums + p, vload_n(sums + p, n - p) + d, n - p);
                    vstore_n(products + p, vfma(d, h, vload_n(products + p, n - p)), n - p);
                }
            if (!a->d_x) continue;
            const vf from_mean = vset(a->centred ? vsum16(sum) / (float)n : 0), from_h = vset(vsum16(product) / (float)n);
            for (int64_t j = 0; j < n; j += VL) {
                const vf h = (vload_n(x + j, n - j) - mean) * inverse;
                vf d = vload_n(d_y + j, n - j);
                if (a->gamma) d *= vload_n(a->gamma + j, n - j);
                vstore_n(a->d_x + i * n + j, inverse * (d - vfma(h, from_h, from_mean)), n - j);
            }
        }
    }
}
