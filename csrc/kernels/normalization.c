/* Normalisation by the statistics of a batch. */
#include "kernel.h"

/* ---- batch normalisation ----

   x is (outer, channels, inner), statistics are per channel. A sum over the batch is cut into pieces: BATCH_ROWS rows where
   inner is 1, else one vector of inner numbers each. A block of a piece is BATCH_CHANNELS channels, or, where inner is not 1, one. */

enum { BATCH_ROWS = 128, BATCH_CHANNELS = VL == 16 ? 128 : 64 };

#define BATCH_PIECES(a) ((a)->inner == 1 ? pieces((a)->outer, BATCH_ROWS) : (a)->outer)
#define BATCH_BLOCKS(a) ((a)->inner == 1 ? pieces((a)->channels, BATCH_CHANNELS) : (a)->channels)
#define BATCH_ITEM(a) ((a)->inner == 1 ? BATCH_ROWS * least((a)->channels, BATCH_CHANNELS) : (a)->inner)

/* Whether the result of a call with so many such arrays is stored past the caches. */
#define BATCH_STREAMS(y, a, arrays) ((a)->inner == 1 && streams((y), (arrays) * (a)->outer * (a)->channels, (a)->channels))

/* Where a block lies: `width` numbers in each of `rows` rows that are `row` numbers apart. */
typedef struct { int64_t piece, at, rows, row, width, channel; } batch_block;

INLINE batch_block block_of(int64_t item, int64_t outer, int64_t channels, int64_t inner)
{
    if (inner != 1) return (batch_block){ item / channels, item * inner, 1, inner, inner, item % channels };
    const int64_t blocks = pieces(channels, BATCH_CHANNELS), q = item / blocks, c = item % blocks * BATCH_CHANNELS;
    return (batch_block){ q, q * BATCH_ROWS * channels + c, least(outer - q * BATCH_ROWS, BATCH_ROWS), channels,
                          least(channels - c, BATCH_CHANNELS), c };
}

/* A strip of a block is `vectors` vectors wide, whose parameters stay in registers while memory is read row by row: STRIP_VECTORS
   (the more lines lie together, the faster is the memory), STRIP_HALF, or one, of which n numbers count. Where inner is not 1, the vectors
   of the block's one row lie below each other. */
enum { STRIP_VECTORS = VL == 16 ? 8 : 4, STRIP_HALF = STRIP_VECTORS / 2 };
typedef struct { int64_t at, rows, row, n, channel, vectors, next; int streamed; } strip;

INLINE strip strip_of(const batch_block *b, int64_t inner, int streamed, int64_t k)
{
    const int64_t left = b->width - k, whole = left / VL, vectors = whole >= STRIP_VECTORS ? STRIP_VECTORS : whole >= STRIP_HALF ? STRIP_HALF : 1;
    if (left <= 0) return (strip){ 0 };
    if (inner == 1) return (strip){ b->at + k, b->rows, b->row, least(left, VL), b->channel + k, vectors, k + vectors * VL, streamed };
    return (strip){ b->at + k, most(whole, 1), VL, least(left, VL), b->channel, 1, k + most(whole, 1) * VL, 0 };
}

#define EACH_STRIP(s, block, inner, streamed) \
    for (strip s = strip_of(&block, inner, streamed, 0); s.vectors; s = strip_of(&block, inner, streamed, s.next))

/* function(..., vectors), of which the compiler knows the number of vectors; the same with the activation, of which it knows the frequent ones. */
#define ON_VECTORS(function, s, ...)                                                                                   \
    do {                                                                                                               \
        if (s.vectors == STRIP_VECTORS) function(__VA_ARGS__, STRIP_VECTORS);                                          \
        else if (s.vectors == STRIP_HALF) function(__VA_ARGS__, STRIP_HALF);                                           \
        else function(__VA_ARGS__, 1);                                                                                 \
    } while (0)
#define ON_STRIP(function, s, activation, ...)                                                                         \
    do {                                                                                                               \
        if (activation == ACT_LINEAR) ON_VECTORS(function, s, __VA_ARGS__, &s, ACT_LINEAR);                            \
        else if (activation == ACT_RELU) ON_VECTORS(function, s, __VA_ARGS__, &s, ACT_RELU);                           \
        else ON_VECTORS(function, s, __VA_ARGS__, &s, activation);                                                     \
    } while (0)

/* Vector j of a row. */
INLINE vf strip_load(const float *x, const strip *s, int64_t j, const int vectors) { return vectors > 1 ? vload(x + j * VL) : vload_n(x, s->n); }
INLINE void strip_store(float *y, vf v, const strip *s, int64_t j, const int vectors)
{
    if (vectors > 1 && s->streamed) vstream(y + j * VL, v);
    else if (vectors > 1) vstore(y + j * VL, v);
    else vstore_n(y, v, s->n);
}

/* What a batch is normalised by: (x - mean) scale + shift, with scale = gamma / sqrt(variance + epsilon). */
typedef struct { const float *mean, *variance, *gamma, *beta; int64_t inner; vf epsilon; } normal;

#define NORMAL(a) { (a)->mean, (a)->variance, (a)->gamma, (a)->beta, (a)->inner, vset((float)(a)->epsilon) }

/* Of vector j: a parameter, one number for each lane where inner is 1, else the same for all. */
INLINE vf of_channel(const float *p, const normal *of, const strip *s, int64_t j, const int vectors)
{
    return of->inner == 1 ? strip_load(p + s->channel, s, j, vectors) : vset(p[s->channel]);
}

INLINE vf inverse_of(const normal *of, const strip *s, int64_t j, const int vectors)
{
    return vset(1) / vsqrt(of_channel(of->variance, of, s, j, vectors) + of->epsilon);
}

INLINE vf scale_of(const normal *of, const strip *s, int64_t j, const int vectors)
{
    const vf inverse = inverse_of(of, s, j, vectors);
    return of->gamma ? inverse * of_channel(of->gamma, of, s, j, vectors) : inverse;
}

INLINE vf shift_of(const normal *of, const strip *s, int64_t j, const int vectors)
{
    return of->beta ? of_channel(of->beta, of, s, j, vectors) : vset(0);
}

/* The mean of a strip and its sum of squared differences from it, in one pass: by the differences from a guess, the mean of the first
   GUESS rows, and corrected. (guess - mean)^2 is at most BATCH_ROWS / GUESS times the variance. */
enum { GUESS = 8 };

INLINE void strip_statistics(double *means, float *squares, const float *x, const uint8_t *mask, int64_t count, const strip *s, const int vectors)
{
    vf guess[STRIP_VECTORS], rest[STRIP_VECTORS], square[STRIP_VECTORS];
    for (int j = 0; j < vectors; j++) guess[j] = rest[j] = square[j] = vset(0);
    for (int64_t r = 0, seen = 0; r < s->rows && seen < least(count, GUESS); r++) {
        if (mask && !mask[r]) continue;
        for (int j = 0; j < vectors; j++) guess[j] += strip_load(x + r * s->row, s, j, vectors);
        seen++;
    }
    for (int j = 0; j < vectors; j++) guess[j] /= vset((float)most(least(count, GUESS), 1));
    for (int64_t r = 0; r < s->rows; r++, x += s->row) {
        if (mask && !mask[r]) continue;
        for (int j = 0; j < vectors; j++) {
            const vf d = strip_load(x, s, j, vectors) - guess[j];
            rest[j] += d;
            square[j] = vfma(d, d, square[j]);
        }
    }
    const float n = (float)most(count, 1);
    for (int j = 0; j < vectors; j++) {
        strip_store(squares + j * VL, square[j] - rest[j] * rest[j] / vset(n), s, 0, 1);
        for (int64_t l = 0; l < s->n; l++) means[j * VL + l] = guess[j][l] + (double)rest[j][l] / (double)n;
    }
}

/* One item: one block of one piece. */
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
        const batch_block b = block_of(i, a->outer, a->channels, a->inner);
        const uint8_t *mask = a->mask && a->inner == 1 ? a->mask + b.piece * BATCH_ROWS : 0;
        int64_t count = a->inner == 1 ? b.rows : b.width;
        if (mask) {
            count = 0;
            for (int64_t r = 0; r < b.rows; r++) count += mask[r] != 0;
        }
        if (b.channel == 0) a->counts[b.piece] = (double)count;
        double *means = a->means + b.piece * a->channels;
        float *squares = a->squares + b.piece * a->channels;
        if (a->inner == 1) {
            EACH_STRIP(s, b, 1, 0) ON_VECTORS(strip_statistics, s, means + s.channel, squares + s.channel, a->x + s.at, mask, count, &s);
            continue;
        }
        const float *x = a->x + b.at;
        vf sum[SUM16] = {{0}}, rest[SUM16] = {{0}}, square[SUM16] = {{0}};
        for (int64_t j = 0; j < b.width; j += 16)
            for (int64_t k = 0, at = j; k < SUM16 && at < b.width; k++, at += VL) sum[k] += vload_n(x + at, b.width - at);
        const float mean = vsum16(sum) / (float)b.width;
        for (int64_t j = 0; j < b.width; j += 16)
            for (int64_t k = 0, at = j; k < SUM16 && at < b.width; k++, at += VL) {
                const vf d = vload_or(x + at, b.width - at, mean) - vset(mean);
                rest[k] += d;
                square[k] = vfma(d, d, square[k]);
            }
        const float left = vsum16(rest);
        means[b.channel] = mean + (double)left / (double)b.width;
        squares[b.channel] = vsum16(square) - left * left / (float)b.width;
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

INLINE void strip_normalize(float *y, const float *x, const float *residual, const normal *of, const strip *s, int64_t activation, const int vectors)
{
    vf mean[STRIP_VECTORS], scale[STRIP_VECTORS], shift[STRIP_VECTORS];
    for (int j = 0; j < vectors; j++) {
        mean[j] = of_channel(of->mean, of, s, j, vectors);
        scale[j] = scale_of(of, s, j, vectors);
        shift[j] = shift_of(of, s, j, vectors);
    }
    for (int64_t r = 0, at = s->at; r < s->rows; r++, at += s->row)
        for (int j = 0; j < vectors; j++) {
            vf z = vfma(strip_load(x + at, s, j, vectors) - mean[j], scale[j], shift[j]);
            if (residual) z += strip_load(residual + at, s, j, vectors);
            strip_store(y + at, activate(z, activation), s, j, vectors);
        }
}

/* y = activate((x - mean) / sqrt(variance + epsilon) gamma + beta + residual).  One item: one block of one piece. */
KERNEL(batch_normalize, BATCH_PIECES(a) * BATCH_BLOCKS(a), BATCH_ITEM(a) * (a->residual ? 1.5 : 1),
    float *y;             /* (outer, channels, inner) */
    const float *x;       /* (outer, channels, inner) */
    const float *mean;    /* (channels) */
    const float *variance;            /* (channels) */
    OPTIONAL const float *gamma;      /* (channels) */
    OPTIONAL const float *beta;       /* (channels) */
    OPTIONAL const float *residual;   /* (outer, channels, inner) */
    int64_t outer;
    int64_t channels;
    int64_t inner;
    int64_t activation;
    double epsilon;)
{
    const normal of = NORMAL(a);
    const int streamed = BATCH_STREAMS(a->y, a, a->residual ? 3 : 2);
    for (int64_t i = begin; i < end; i++) {
        const batch_block b = block_of(i, a->outer, a->channels, a->inner);
        EACH_STRIP(s, b, a->inner, streamed) ON_STRIP(strip_normalize, s, a->activation, a->y, a->x, a->residual, &of);
    }
    if (streamed) vstreams_end();
}

/* ---- its gradient ----

   d, the gradient before the activation, is d_y masked by the result: by y where there was a residual, which is kept then, else by
   the result computed again from x, as batch_normalize does, which costs less than to read it. */

INLINE void strip_sums(float *sums, float *products, float *d_z, const float *d_y, const float *x, const float *y, const normal *of,
                       const strip *s, int64_t activation, const int vectors)
{
    vf mean[STRIP_VECTORS], scale[STRIP_VECTORS], shift[STRIP_VECTORS], sum[STRIP_VECTORS], product[STRIP_VECTORS];
    for (int j = 0; j < vectors; j++) {
        mean[j] = of_channel(of->mean, of, s, j, vectors);
        scale[j] = scale_of(of, s, j, vectors);
        shift[j] = shift_of(of, s, j, vectors);
        sum[j] = product[j] = vset(0);
    }
    for (int64_t r = 0, at = s->at; r < s->rows; r++, at += s->row)
        for (int j = 0; j < vectors; j++) {
            const vf h = strip_load(x + at, s, j, vectors) - mean[j];
            vf d = strip_load(d_y + at, s, j, vectors);
            if (activation) d = activate_grad(d, y ? strip_load(y + at, s, j, vectors) : activate(vfma(h, scale[j], shift[j]), activation), activation);
            if (d_z) strip_store(d_z + at, d, s, j, vectors);
            sum[j] += d;
            product[j] = vfma(d, h, product[j]);
        }
    for (int j = 0; j < vectors; j++) {
        strip_store(sums + j * VL, sum[j], s, 0, 1);
        strip_store(products + j * VL, product[j] * inverse_of(of, s, j, vectors), s, 0, 1);
    }
}

/* Sums of d and of d by the normalised x.  One item: one block of one piece. */
KERNEL(batch_normalize_sums, BATCH_PIECES(a) * BATCH_BLOCKS(a), BATCH_ITEM(a) * (a->y ? 3 : 2),
    float *sums;          /* (pieces, channels) of d */
    float *products;      /* (pieces, channels) of d (x - mean) / sqrt(variance + epsilon) */
    OPTIONAL float *d_z;  /* (outer, channels, inner): d */
    const float *d_y;     /* (outer, channels, inner) */
    const float *x;       /* (outer, channels, inner) */
    OPTIONAL const float *y;          /* (outer, channels, inner) */
    const float *mean;    /* (channels) */
    const float *variance;            /* (channels) */
    OPTIONAL const float *gamma;      /* (channels) */
    OPTIONAL const float *beta;       /* (channels) */
    int64_t outer;
    int64_t channels;
    int64_t inner;
    int64_t activation;
    double epsilon;)
{
    const normal of = NORMAL(a);
    for (int64_t i = begin; i < end; i++) {
        const batch_block b = block_of(i, a->outer, a->channels, a->inner);
        float *sums = a->sums + b.piece * a->channels, *products = a->products + b.piece * a->channels;
        if (a->inner == 1) {
            EACH_STRIP(s, b, 1, 0) ON_STRIP(strip_sums, s, a->activation, sums + s.channel, products + s.channel, a->d_z, a->d_y, a->x, a->y, &of);
            continue;
        }
        const strip s = { .n = VL, .channel = b.channel };
        const vf mean = of_channel(a->mean, &of, &s, 0, 1), scale = scale_of(&of, &s, 0, 1), shift = shift_of(&of, &s, 0, 1);
        vf sum[SUM16] = {{0}}, product[SUM16] = {{0}};
        for (int64_t j = 0; j < b.width; j += 16)
            for (int64_t k = 0, at = b.at + j; k < SUM16 && at < b.at + b.width; k++, at += VL) {
                const int64_t n = b.at + b.width - at;
                const vf h = vload_n(a->x + at, n) - mean;
                vf d = vload_n(a->d_y + at, n);
                if (a->activation) d = activate_grad(d, a->y ? vload_n(a->y + at, n) : activate(vfma(h, scale, shift), a->activation), a->activation);
                if (a->d_z) vstore_n(a->d_z + at, d, n);
                sum[k] += d;
                product[k] = vfma(d, h, product[k]);
            }
        sums[b.channel] = vsum16(sum);
        products[b.channel] = vsum16(product) * inverse_of(&of, &s, 0, 1)[0];
    }
}

/* Of `width` columns. */
INLINE void total(float *y, const float *x, int64_t pieces, int64_t columns, const int64_t width)
{
    double sum[16] = {0};
    for (int64_t q = 0; q < pieces; q++)
        for (int64_t j = 0; j < width; j++) sum[j] += x[q * columns + j];
    for (int64_t j = 0; j < width; j++) y[j] = (float)sum[j];
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
        if (width == 16) {
            total(a->d_beta + c, a->sums + c, a->pieces, a->columns, 16);
            total(a->d_gamma + c, a->products + c, a->pieces, a->columns, 16);
        } else {
            total(a->d_beta + c, a->sums + c, a->pieces, a->columns, width);
            total(a->d_gamma + c, a->products + c, a->pieces, a->columns, width);
        }
    }
}

INLINE void strip_d_x(float *d_x, const float *d_y, const float *x, const float *d_beta, const float *d_gamma, const uint8_t *mask, vf share,
                      const normal *of, const strip *s, int64_t activation, const int vectors)
{
    vf mean[STRIP_VECTORS], scale[STRIP_VECTORS], shift[STRIP_VECTORS], from_beta[STRIP_VECTORS], from_gamma[STRIP_VECTORS];
    for (int j = 0; j < vectors; j++) {
        mean[j] = of_channel(of->mean, of, s, j, vectors);
        scale[j] = scale_of(of, s, j, vectors);
        shift[j] = shift_of(of, s, j, vectors);
        from_beta[j] = d_beta ? of_channel(d_beta, of, s, j, vectors) * share : vset(0);
        from_gamma[j] = d_beta ? of_channel(d_gamma, of, s, j, vectors) * share * inverse_of(of, s, j, vectors) : vset(0);
    }
    for (int64_t r = 0, at = s->at; r < s->rows; r++, at += s->row) {
        const int whole = d_beta && !(mask && !mask[r]);
        for (int j = 0; j < vectors; j++) {
            vf d = strip_load(d_y + at, s, j, vectors), h = vset(0);
            if (whole || activation) h = strip_load(x + at, s, j, vectors) - mean[j];
            if (activation) d = activate_grad(d, activate(vfma(h, scale[j], shift[j]), activation), activation);
            if (whole) d = vfma(-h, from_gamma[j], d - from_beta[j]);
            strip_store(d_x + at, d * scale[j], s, j, vectors);
        }
    }
}

/* d_x = gamma / sqrt(variance + epsilon) (d - d_beta / count - normalised x d_gamma / count); without count, where mean and
   variance are given, only its first term; so also for rows outside of the mask.  One item: one block of one piece. */
KERNEL(batch_normalize_d_x, BATCH_PIECES(a) * BATCH_BLOCKS(a), BATCH_ITEM(a) * 2,
    float *d_x;           /* (outer, channels, inner) */
    const float *d_y;     /* (outer, channels, inner) */
    const float *x;       /* (outer, channels, inner) */
    const float *mean;    /* (channels) */
    const float *variance;            /* (channels) */
    OPTIONAL const float *gamma;      /* (channels) */
    OPTIONAL const float *beta;       /* (channels) */
    OPTIONAL const float *d_beta;     /* (channels) */
    OPTIONAL const float *d_gamma;    /* (channels) */
    OPTIONAL const double *count;     /* (1) */
    OPTIONAL const uint8_t *mask;     /* (outer), where inner is 1 */
    int64_t outer;
    int64_t channels;
    int64_t inner;
    int64_t activation;
    double epsilon;)
{
    const normal of = NORMAL(a);
    const vf share = vset(a->count && *a->count > 0 ? (float)(1 / *a->count) : 0);
    const int streamed = BATCH_STREAMS(a->d_x, a, 3);
    for (int64_t i = begin; i < end; i++) {
        const batch_block b = block_of(i, a->outer, a->channels, a->inner);
        const uint8_t *mask = a->mask && a->inner == 1 ? a->mask + b.piece * BATCH_ROWS : 0;
        const float *d_beta = a->count ? a->d_beta : 0;
        EACH_STRIP(s, b, a->inner, streamed) ON_STRIP(strip_d_x, s, a->activation, a->d_x, a->d_y, a->x, d_beta, a->d_gamma, mask, share, &of);
    }
    if (streamed) vstreams_end();
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
