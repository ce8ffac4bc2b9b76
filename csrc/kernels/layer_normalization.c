/* Normalisation by the statistics of each row. Rows are read and written one after another, as memory is fastest at that; a few are read
   before the first of them is written, so that no sum is waited for, and only a few, so that they are still in the first cache then. */
#include "kernel.h"

enum { LAYER_ROWS = 32, LAYER_TOGETHER = 4, SHORT = VL == 4 ? INT32_MAX : 256, SHORT_TOGETHER = VL == 8 ? 2 : 4, GRAD_TOGETHER = 2 };

/* A sum over a row runs in LANES lanes, twice 16 so that an addition waits for every other one only; number j belongs to lane j % LANES. Vectors
   of 4 have too few registers for that, and are no faster than memory. */
enum { LANES = VL == 4 ? 16 : 32, SUMS = LANES / VL, AT_ONCE = VL == 16 ? 4 : SUMS };
#define EACH_OF_SUMS(at_once, k, j, width, n, ...)                                                                     \
    do {                                                                                                               \
        int64_t first = 0;                                                                                             \
        for (; first + at_once * VL <= (n); first += at_once * VL)                                                     \
            UNROLL_ALL for (int i = 0; i < at_once; i++) {                                                             \
                const int64_t j = first + i * VL, width = VL;                                                          \
                const int k = i % SUMS;                                                                                \
                __VA_ARGS__                                                                                            \
            }                                                                                                          \
        for (; first < (n); first += LANES)                                                                            \
            UNROLL_ALL for (int k = 0; k < SUMS; k++) {                                                                \
                const int64_t j = first + k * VL, width = (n) - j;                                                     \
                if (width > 0) { __VA_ARGS__ }                                                                         \
            }                                                                                                          \
    } while (0)

/* In 16 lanes. */
INLINE void halved(vf *to, const vf *sum) { for (int k = 0; k < SUM16; k++) to[k] = SUMS == SUM16 ? sum[k] : sum[k] + sum[SUM16 + k]; }

/* The mean of a sixteenth of a row. */
INLINE float guess_of(const float *x, int64_t n)
{
    const int64_t some = least(n, 16 * pieces(n, 256));
    vf sum[SUM16] = {{0}};
    for (int64_t first = 0; first < some; first += 16)
        UNROLL_ALL for (int k = 0; k < SUM16; k++) {
            const int64_t j = first + k * VL;
            if (j < some) sum[k] += vload_n(x + j, some - j);
        }
    return vsum16(sum) / (float)some;
}

/* In one pass, from the sums, in 16 lanes, of a row's differences from a guess and of their squares. What the guess is off by has a square of
   at most 16 times the variance. */
INLINE void statistics(float *mean, float *inverse, float guess, const vf *sum, const vf *square, int64_t n, int64_t centred, float epsilon)
{
    const float rest = centred ? vsum16(sum) : 0, left = vsum16(square) - rest * rest / (float)n;
    *mean = guess + rest / (float)n;
    *inverse = 1 / sqrtf((left < 0 ? 0 : left) / (float)n + epsilon);
}

/* Forward nothing is fetched by hand: it would only disturb what the processor fetches. */
INLINE void normalize_rows(float *y, float *means, float *inverses, const float *x, const float *gamma, const float *beta, int64_t n,
                           int64_t centred, float epsilon, int rows)
{
    vf sums[LAYER_TOGETHER][SUM16], squares[LAYER_TOGETHER][SUM16];
    float guesses[LAYER_TOGETHER] = {0};
    if (centred)
        for (int r = 0; r < rows; r++) guesses[r] = guess_of(x + r * n, n);
    for (int r = 0; r < rows; r++) {
        vf sum[SUMS] = {{0}}, square[SUMS] = {{0}};
        const float guess = guesses[r];
        const float *from = x + r * n;
        EACH_OF_SUMS(AT_ONCE, k, j, width, n, {
            const vf d = vload_or(from + j, width, guess) - vset(guess);
            sum[k] += d;
            square[k] = vfma(d, d, square[k]);
        });
        halved(sums[r], sum);
        halved(squares[r], square);
    }
    for (int r = 0; r < rows; r++) statistics(means + r, inverses + r, guesses[r], sums[r], squares[r], n, centred, epsilon);
    for (int r = 0; r < rows; r++) {
        const vf mean = vset(means[r]), inverse = vset(inverses[r]);
        const float *from = x + r * n;
        float *to = y + r * n;
        EACH_OF_SUMS(AT_ONCE, k, j, width, n, {
            (void)k;
            vf h = (vload_n(from + j, width) - mean) * inverse;
            if (gamma) {
                const vf scale = vload_n(gamma + j, width);
                h = beta ? vfma(h, scale, vload_n(beta + j, width)) : h * scale;
            }
            vstore_n(to + j, h, width);
        });
    }
}

/* The same for short rows, side by side: their sums are a large part of the work. */
INLINE void normalize_short_rows(float *y, float *means, float *inverses, const float *x, const float *gamma, const float *beta, int64_t n,
                                 int64_t centred, float epsilon)
{
    vf sum[SHORT_TOGETHER][SUMS] = {{{0}}}, square[SHORT_TOGETHER][SUMS] = {{{0}}}, mean[SHORT_TOGETHER], inverse[SHORT_TOGETHER];
    float guess[SHORT_TOGETHER] = {0};
    if (centred)
        for (int r = 0; r < SHORT_TOGETHER; r++) guess[r] = guess_of(x + r * n, n);
    for (int r = 0; r < SHORT_TOGETHER; r++) mean[r] = vset(guess[r]);
    EACH_OF_SUMS(SUMS, k, j, width, n, {
        for (int r = 0; r < SHORT_TOGETHER; r++) {
            __builtin_prefetch(y + r * n + j, 1);
            const vf d = vload_or(x + r * n + j, width, guess[r]) - mean[r];
            sum[r][k] += d;
            square[r][k] = vfma(d, d, square[r][k]);
        }
    });
    for (int r = 0; r < SHORT_TOGETHER; r++) {
        halved(sum[r], sum[r]);
        halved(square[r], square[r]);
        statistics(means + r, inverses + r, guess[r], sum[r], square[r], n, centred, epsilon);
        mean[r] = vset(means[r]);
        inverse[r] = vset(inverses[r]);
    }
    EACH_VECTOR(j, width, n, {
        const vf scale = gamma ? vload_n(gamma + j, width) : vset(1);
        const vf shift = beta ? vload_n(beta + j, width) : vset(0);
        for (int r = 0; r < SHORT_TOGETHER; r++) {
            __builtin_prefetch(x + SHORT_TOGETHER * n + j * SHORT_TOGETHER + r * VL);
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
#define NORMALIZE(rows, gamma, beta, ...) \
    normalize_##rows(a->y + i * n, a->mean + i, a->inverse + i, a->x + i * n, gamma, beta, n, a->centred, (float)a->epsilon, ##__VA_ARGS__)
    const float *gamma = a->gamma, *beta = a->beta;
    const int64_t n = a->columns;
    int64_t i = begin;
    if (n <= SHORT && gamma && beta)          /* as the compiler then knows */
        for (; i + SHORT_TOGETHER <= end; i += SHORT_TOGETHER) NORMALIZE(short_rows, gamma, beta);
    for (; i < end; i += LAYER_TOGETHER) {
        const int rows = (int)least(end - i, LAYER_TOGETHER);
        if (gamma && beta) NORMALIZE(rows, gamma, beta, rows);
        else NORMALIZE(rows, gamma, 0, rows);
    }
}

/* Of some rows: d_x, and what they add to the sums over rows. While a row is read the lines of its result are fetched, and while results are
   stored, the next rows. */
INLINE void normalize_rows_grad(float *d_x, float *sums, float *products, const float *d_y, const float *x, const float *means, const float *inverses,
                                const float *gamma, int64_t n, int64_t centred, const int rows)
{
    vf mean[GRAD_TOGETHER], inverse[GRAD_TOGETHER], from_mean[GRAD_TOGETHER], from_x[GRAD_TOGETHER];
    for (int r = 0; r < rows; r++) mean[r] = vset(means[r]), inverse[r] = vset(inverses[r]);
    if (d_x) UNROLL_ALL for (int r = 0; r < rows; r++) {
        vf sum[SUMS] = {{0}}, product[SUMS] = {{0}};
        EACH_OF_SUMS(AT_ONCE, k, j, width, n, {
            __builtin_prefetch(d_x + r * n + j, 1);
            vf d = vload_n(d_y + r * n + j, width);      /* 0 in the lanes past the end */
            if (gamma) d *= vload_n(gamma + j, width);
            sum[k] += d;
            product[k] = vfma(vload_n(x + r * n + j, width) - mean[r], d, product[k]);
        });
        halved(sum, sum);
        halved(product, product);
        from_mean[r] = vset(centred ? -inverses[r] * vsum16(sum) / (float)n : 0);
        from_x[r] = vset(-vsum16(product) / (float)n * inverses[r] * inverses[r] * inverses[r]);
    }
    EACH_VECTOR(j, width, n, {
        vf s = vload_n(sums + j, width);
        vf p = vload_n(products + j, width);
        const vf scale = gamma ? vload_n(gamma + j, width) : vset(1);
        for (int r = 0; r < rows; r++) {
            __builtin_prefetch(x + rows * n + j * rows + r * VL);
            __builtin_prefetch(d_y + rows * n + j * rows + r * VL);
            const vf c = vload_n(x + r * n + j, width) - mean[r];
            const vf d = vheld(vload_n(d_y + r * n + j, width)), scaled = d * inverse[r];
            s += d;
            p = vfma(c, scaled, p);
            if (d_x) vstore_n(d_x + r * n + j, vfma(scaled, scale, vfma(c, from_x[r], from_mean[r])), width);
        }
        vstore_n(sums + j, s, width);
        vstore_n(products + j, p, width);
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
#define NORMALIZE_GRAD(d_x, gamma, rows) \
    normalize_rows_grad(d_x, sums, products, a->d_y + i * n, a->x + i * n, a->mean + i, a->inverse + i, gamma, n, a->centred, rows)
    float *d_x = a->d_x;
    const float *gamma = a->gamma;
    const int64_t n = a->columns;
    for (int64_t q = begin; q < end; q++) {
        const int64_t last = least(a->rows, (q + 1) * LAYER_ROWS);
        float *sums = a->sums + q * n, *products = a->products + q * n;
        memset(sums, 0, (size_t)n * sizeof(float));
        memset(products, 0, (size_t)n * sizeof(float));
        int64_t i = q * LAYER_ROWS;
        if (d_x && gamma)               /* as the compiler then knows */
            for (; i + GRAD_TOGETHER <= last; i += GRAD_TOGETHER) NORMALIZE_GRAD(d_x + i * n, gamma, GRAD_TOGETHER);
        else if (d_x)
            for (; i + GRAD_TOGETHER <= last; i += GRAD_TOGETHER) NORMALIZE_GRAD(d_x + i * n, 0, GRAD_TOGETHER);
        for (; i < last; i++) NORMALIZE_GRAD(d_x ? d_x + i * n : 0, gamma, 1);
    }
}
