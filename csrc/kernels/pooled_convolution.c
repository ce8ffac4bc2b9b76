/* Convolution of images with few channels, bias, relu and the largest of each 2x2 window in one: what lies between is never stored. */
#include "bands.h"

/* How many windows' rows are in scratch at once. */
typedef struct band_size { int64_t rows, across; } band_size;

INLINE band_size fitting(int64_t rows, int64_t across, int64_t kernel_height, int64_t kernel_width, int64_t stride_height,
                         int64_t stride_width, int64_t channels)
{
    band_size s = { least(rows, BAND_ROWS), least(across, BAND_ACROSS) };
    while (((2 * s.rows - 1) * stride_height + kernel_height) * ((2 * s.across - 1) * stride_width + kernel_width) * channels > BAND_FLOATS) {
        if (s.rows > 1) s.rows /= 2;
        else if (s.across > 1) s.across /= 2;
        else break;
    }
    return s;
}

/* What a tile of `windows` windows and VL * vectors filters computes, from the patch of the first. */
typedef struct pool_tile {
    const int64_t *offset;              /* of the numbers of a patch */
    int64_t depth, step, down;          /* how many; from a pixel to the next, along a row and down */
    const float *panel, *bias;
    float *y;
    uint8_t *winner;
    int64_t filters, columns, relu;     /* columns of the panel that exist */
} pool_tile;

/* The end of pool_part where some sums are NaN. */
static __attribute__((noinline)) void pool_odd(const pool_tile *t, const vf *sum, int64_t first, int64_t windows, int64_t vectors)
{
    const vf least_allowed = vset(t->relu ? 0 : -INFINITY);
    for (int64_t j = 0; j < vectors; j++) {
        const int64_t n = t->columns - j * VL;
        const vf bias = t->bias ? vload_n(t->bias + j * VL, n) : vset(-0.0f);
        for (int64_t w = 0; w < windows; w++) {
            vf largest = sum[12 * j + 4 * w];
            vi place = viset(0);
            UNROLL for (int q = 1; q < 4; q++) vmax_place(&largest, &place, sum[12 * j + 4 * w + q], viset(q));
            largest = largest + bias;                            /* addition rounds, but keeps the order */
            const int64_t to = (first + w) * t->filters + j * VL;
            vstore_n(t->y + to, vpick_less(largest, least_allowed, least_allowed, largest), n);
            if (t->winner) vbytes_store(t->winner + to, place, n);
        }
    }
}

INLINE void pool_part(const pool_tile *t, const float *patch, int64_t first, const int windows, const int vectors)
{
    const int64_t step = t->step, down = t->down;
    const float *b = t->panel;
    vf sum[12][2];
    UNROLL for (int i = 0; i < 4 * windows; i++)
        UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = vset(0);
    for (const int64_t *offset = t->offset, *end = offset + t->depth; offset < end; offset++, b += PANEL) {
        const float *a = patch + *offset;
        vf v[2];
        UNROLL for (int j = 0; j < vectors; j++) v[j] = vload(b + j * VL);
        UNROLL for (int i = 0; i < 4 * windows; i++) {
            const vf x = vset(a[(i / 4 * 2 + i % 2) * step + (i / 2 % 2) * down]);
            UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = vfma(x, v[j], sum[i][j]);
        }
    }
    vmask_any odd = vunordered(sum[0][0], sum[1][0]);             /* else maxima and places take a third less */
    UNROLL for (int j = 0; j < vectors; j++)
        UNROLL for (int i = 0; i < 4 * windows; i += 2) odd |= vunordered(sum[i][j], sum[i + 1][j]);
    if (__builtin_expect(vany(odd), 0)) {
        vf kept[24];
        UNROLL for (int j = 0; j < vectors; j++)
            UNROLL for (int i = 0; i < 4 * windows; i++) kept[j * 12 + i] = sum[i][j];
        pool_odd(t, kept, first, windows, vectors);
        return;
    }
    const vf least_allowed = vset(t->relu ? 0 : -INFINITY);
    UNROLL for (int j = 0; j < vectors; j++) {
        const int64_t n = t->columns - j * VL;
        const vf bias = t->bias ? vload_n(t->bias + j * VL, n) : vset(-0.0f);
        UNROLL for (int w = 0; w < windows; w++) {
            const vf a0 = sum[4 * w][j], a1 = sum[4 * w + 1][j], a2 = sum[4 * w + 2][j], a3 = sum[4 * w + 3][j];
            const vf m01 = vgreater(a1, a0), m23 = vgreater(a3, a2);
            const int64_t to = (first + w) * t->filters + j * VL;
            vstore_n(t->y + to, vgreater(least_allowed, vgreater(m23, m01) + bias), n);     /* addition rounds, but keeps the order */
            if (t->winner) {
                const vi p01 = vipick_less(a0, a1, viset(1), viset(0)), p23 = vipick_less(a2, a3, viset(3), viset(2));
                vbytes_store(t->winner + to, vipick_less(m01, m23, p23, p01), n);
            }
        }
    }
}

#if VL == 16
enum { POOL_WINDOWS = 3 };
#define ALL_POOL_WINDOWS(part) part(1) part(2) part(3)
#else
enum { POOL_WINDOWS = 1 };
#define ALL_POOL_WINDOWS(part) part(1)
#endif

/* n windows side by side. */
static void pool_row(const pool_tile *t, const float *patches, int64_t n)
{
    const int64_t tiles = pieces(n, POOL_WINDOWS);
    for (int64_t i = 0; i < tiles; i++) {
        const int64_t first = tile_begin(n, tiles, i), windows = tile_begin(n, tiles, i + 1) - first;
        const float *patch = patches + first * 2 * t->step;
#define PART(w) \
        case w: pool_part(t, patch, first, w, 2); break; \
        case w + 16: pool_part(t, patch, first, w, 1); break;
        switch (windows + (t->columns > VL ? 0 : 16)) {
        ALL_POOL_WINDOWS(PART)
        default: break;
        }
#undef PART
    }
}

/* y = the largest of each 2x2 window of relu(bias + convolution of images).  One item: one row of one image's output. */
KERNEL(pooled_conv2d, a->batch * a->pool_height,
       0.7 * a->kernel_height * a->kernel_width * a->channels * a->pool_width * pieces(a->filters, PANEL) * PANEL,
    float *y;             /* (batch, pool_height, pool_width, filters) */
    OPTIONAL uint8_t *winner;     /* (batch, pool_height, pool_width, filters): its place, 0 to 3 */
    const float *images;  /* (batch, height, width, channels) */
    const float *panels;  /* panels of (kernel_height * kernel_width * channels, filters) */
    OPTIONAL const float *bias;   /* (filters) */
    int64_t batch;
    int64_t height;
    int64_t width;
    int64_t channels;
    int64_t pool_height;
    int64_t pool_width;
    int64_t filters;
    int64_t kernel_height;
    int64_t kernel_width;
    int64_t stride_height;
    int64_t stride_width;
    int64_t top;
    int64_t left;
    int64_t relu;)
{
    const int64_t channels = a->channels, run = a->kernel_width * channels, depth = a->kernel_height * run;
    const int64_t rows = a->kernel_height + a->stride_height;
    const int64_t across = fitting(1, a->pool_width, a->kernel_height, a->kernel_width, a->stride_height, a->stride_width, channels).across;
    const int64_t length = ((2 * across - 1) * a->stride_width + a->kernel_width) * channels;
    const int64_t pitch = band_pitch(rows, length, a->width * channels);
    int64_t offset[FEW_DEPTH];
    patch_offsets(offset, depth, run, pitch, 1);
    for (int64_t i = begin; i < end; i++) {
        const float *image = a->images + i / a->pool_height * a->height * a->width * channels;
        const int64_t first_y = i % a->pool_height * 2 * a->stride_height - a->top;
        for (int64_t x = 0; x < a->pool_width; x += across) {
            const int64_t n = least(a->pool_width - x, across);
            const float *band = band_at((float *)worker->scratch, image, a->height, a->width, channels, first_y, rows,
                                        2 * x * a->stride_width - a->left, length - 2 * (across - n) * a->stride_width * channels, pitch);
            for (int64_t q = 0; q < a->filters; q += PANEL) {
                const int64_t to = (i * a->pool_width + x) * a->filters + q;
                for (int64_t f = 0; f < least(PANEL, a->filters - q); f += 2 * VL) {
                    const pool_tile t = {
                        offset, depth, a->stride_width * channels, a->stride_height * pitch, a->panels + q * depth + f,
                        a->bias ? a->bias + q + f : 0, a->y + to + f, a->winner ? a->winner + to + f : 0,
                        a->filters, least(a->filters - q - f, 2 * VL), a->relu,
                    };
                    pool_row(&t, band, n);
                }
            }
        }
    }
}

/* ---- the gradients of kernel and bias: only the winners have one ----

   A window's four patches differ, for each of their numbers, in one of four numbers of the image: quads holds these side by side,
   so that the winners of a vector of filters are looked up at once. */

/* quads[4 i + p] = place p of the 2x2 window whose first is from[i]. */
static void make_quads(float *restrict quads, const float *restrict from, int64_t n, int64_t step, int64_t down)
{
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        vstore_by_four(quads + 4 * i, vload(from + i), vload(from + i + step), vload(from + i + down), vload(from + i + down + step));
    for (; i < n; i++) {
        quads[4 * i] = from[i];
        quads[4 * i + 1] = from[i + step];
        quads[4 * i + 2] = from[i + down];
        quads[4 * i + 3] = from[i + down + step];
    }
}

#if VL == 16
enum { TAPS = 9 };
#define ALL_TAPS(part) part(1) part(2) part(3) part(4) part(5) part(6) part(7) part(8) part(9)
#else
enum { TAPS = 4 };
#define ALL_TAPS(part) part(1) part(2) part(3) part(4)
#endif

/* Sums over `rows` x n windows for `taps` numbers of a patch and up to 2 * VL filters. */
typedef struct tap_sums {
    float *d_kernel, *d_bias;           /* added to; d_bias may be null */
    const float *d_y, *y;
    const uint8_t *winner;
    const float *quads;
    const int64_t *offset;              /* of a number of the patch, in quads */
    int64_t rows, n, step, down;        /* in quads, from a window to the next */
    int64_t filters, columns, line, relu;      /* line: windows of a row of y */
} tap_sums;

/* vectors 2: whole ones; 1: maybe part of one. */
INLINE void tap_part(const tap_sums *t, int64_t tap, const int taps, const int vectors)
{
    const int64_t n = vectors == 2 ? 2 * VL : t->columns, filters = t->filters, *offset = t->offset + tap;
    float *d_bias = tap ? 0 : t->d_bias, *d_kernel = t->d_kernel + tap * filters;
    vf sum[TAPS][2], total[2];
    UNROLL for (int j = 0; j < vectors; j++) {
        total[j] = d_bias ? vload_n(d_bias + j * VL, n - j * VL) : vset(0);
        UNROLL for (int k = 0; k < taps; k++) sum[k][j] = vload_n(d_kernel + k * filters + j * VL, n - j * VL);
    }
    for (int64_t row = 0; row < t->rows; row++) {
        const int64_t from = row * t->line * filters, stop = from + t->n * filters;
        const float *q = t->quads + row * t->down;
        for (int64_t at = from; at < stop; at += filters, q += t->step) {
            vf d[2];
            vi place[2];
            UNROLL for (int j = 0; j < vectors; j++) {
                d[j] = vload_n(t->d_y + at + j * VL, n - j * VL);
                if (t->relu) d[j] = vpick_less(vset(0), vload_n(t->y + at + j * VL, n - j * VL), d[j], vset(0));
                place[j] = vbytes_load(t->winner + at + j * VL, n - j * VL);
                total[j] = total[j] + d[j];
            }
            UNROLL for (int k = 0; k < taps; k++)
                UNROLL for (int j = 0; j < vectors; j++) sum[k][j] = vfma(vlookup4(q + offset[k], place[j]), d[j], sum[k][j]);
        }
    }
    UNROLL for (int j = 0; j < vectors; j++) {
        if (d_bias) vstore_n(d_bias + j * VL, total[j], n - j * VL);
        UNROLL for (int k = 0; k < taps; k++) vstore_n(d_kernel + k * filters + j * VL, sum[k][j], n - j * VL);
    }
}

static void sum_taps(const tap_sums *t, int64_t depth)
{
    const int64_t parts = pieces(depth, TAPS);
    for (int64_t i = 0; i < parts; i++) {
        const int64_t tap = tile_begin(depth, parts, i), taps = tile_begin(depth, parts, i + 1) - tap;
#define PART(n) \
        case n: tap_part(t, tap, n, 2); break; \
        case n + 16: tap_part(t, tap, n, 1); break;
        switch (taps + (t->columns == 2 * VL ? 0 : 16)) {
        ALL_TAPS(PART)
        default: break;
        }
#undef PART
    }
}

/* For each piece of rows, its part of d_kernel and d_bias.  One item: one piece. */
KERNEL(pooled_conv2d_d_kernel, pieces(a->batch * a->pool_height, a->piece),
       0.3 * a->piece * a->kernel_height * a->kernel_width * a->channels * a->pool_width * pieces(a->filters, PANEL) * PANEL,
    float *d_kernel;      /* (pieces, kernel_height, kernel_width, channels, filters) */
    OPTIONAL float *d_bias;       /* (pieces, filters) */
    const float *d_y;     /* (batch, pool_height, pool_width, filters) */
    const float *y;       /* (batch, pool_height, pool_width, filters) */
    const uint8_t *winner;        /* (batch, pool_height, pool_width, filters) */
    const float *images;  /* (batch, height, width, channels) */
    int64_t batch;
    int64_t height;
    int64_t width;
    int64_t channels;
    int64_t pool_height;
    int64_t pool_width;
    int64_t filters;
    int64_t kernel_height;
    int64_t kernel_width;
    int64_t stride_height;
    int64_t stride_width;
    int64_t top;
    int64_t left;
    int64_t relu;
    int64_t piece;)
{
    const int64_t channels = a->channels, run = a->kernel_width * channels, depth = a->kernel_height * run;
    const band_size size = fitting(a->pool_height, a->pool_width, a->kernel_height, a->kernel_width, a->stride_height, a->stride_width,
                                   channels);
    float *scratch = (float *)worker->scratch;
    for (int64_t i = begin; i < end; i++) {
        float *d_kernel = a->d_kernel + i * depth * a->filters, *d_bias = a->d_bias ? a->d_bias + i * a->filters : 0;
        memset(d_kernel, 0, (size_t)(depth * a->filters) * sizeof(float));
        if (d_bias) memset(d_bias, 0, (size_t)a->filters * sizeof(float));
        const int64_t stop = least((i + 1) * a->piece, a->batch * a->pool_height);
        for (int64_t row = i * a->piece, rows; row < stop; row += rows) {
            const int64_t y = row % a->pool_height;
            rows = least(least(stop - row, a->pool_height - y), size.rows);
            for (int64_t x = 0; x < a->pool_width; x += size.across) {
                const int64_t n = least(a->pool_width - x, size.across), lines = (2 * rows - 1) * a->stride_height + a->kernel_height;
                const int64_t pitch = ((2 * n - 1) * a->stride_width + a->kernel_width) * channels, step = a->stride_width * channels;
                const int64_t first_y = 2 * y * a->stride_height - a->top, first_x = 2 * x * a->stride_width - a->left;
                float *quads = scratch + (lines * pitch + 15) / 16 * 16;
                copy_band(scratch, a->images + row / a->pool_height * a->height * a->width * channels, a->height, a->width, channels,
                          first_y, lines, first_x, pitch, pitch);
                make_quads(quads, scratch, (lines - a->stride_height) * pitch - step, step, a->stride_height * pitch);
                int64_t offset[FEW_DEPTH];
                patch_offsets(offset, depth, run, pitch, 4);
                for (int64_t q = 0, m; q < a->filters; q += m) {
                    m = a->filters - q >= 2 * VL ? 2 * VL : least(a->filters - q, VL);
                    const int64_t at = (row * a->pool_width + x) * a->filters + q;
                    const tap_sums t = {
                        d_kernel + q, d_bias ? d_bias + q : 0, a->d_y + at, a->y + at, a->winner + at, quads, offset,
                        rows, n, 8 * step, 8 * a->stride_height * pitch, a->filters, m, a->pool_width, a->relu,
                    };
                    sum_taps(&t, depth);
                }
            }
        }
    }
}
