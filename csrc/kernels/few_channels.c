/* Convolution of images with few channels, alone and with 2x2 pooling: little work beside the memory that its result takes. The rows of
   the images that a row of output sees are copied into scratch, with zeros around them, and tiles read them in place; in the
   gradient of the images, whose channels do not fill a vector, vectors lie along the rows. */
#include "tile.h"

enum { FEW_DEPTH = 256, BAND_ACROSS = 64, BAND_ROWS = 16, BAND_FLOATS = 1 << 16 };   /* most numbers of a patch; windows in a band: across, down; its floats */

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

/* Rows first_y .. first_y + rows and columns from first_x on, `pitch` floats of each, zeros outside of the image. */
static void copy_band(float *to, const float *image, int64_t height, int64_t width, int64_t channels, int64_t first_y, int64_t rows,
                      int64_t first_x, int64_t pitch)
{
    const int64_t low = least(most(-first_x * channels, 0), pitch), high = most(least((width - first_x) * channels, pitch), low);
    for (int64_t y = first_y; y < first_y + rows; y++, to += pitch) {
        const int inside = y >= 0 && y < height;
        if (!inside || low > 0 || high < pitch) memset(to, 0, (size_t)pitch * sizeof(float));
        if (inside) memcpy(to + low, image + (y * width + first_x) * channels + low, (size_t)(high - low) * sizeof(float));
    }
}

/* ---- forward ---- */

typedef struct band_tile {
    const int64_t *offset;              /* of the numbers of a patch */
    int64_t depth, step;                /* how many; from a pixel to the next */
    const float *panel, *bias;
    int64_t filters, columns, activation;     /* columns of the panel that exist; linear, relu or relu6 */
} band_tile;

/* out = activation(bias + the patches of `rows` neighbouring pixels, the first of them at `patch`, times the panel). */
INLINE void band_part(const band_tile *t, const float *patch, float *out, const int rows, const int vectors)
{
    vf sum[TILE_ROWS][TILE_VECTORS];
    const float *b = t->panel;
    int64_t s = 4 * t->step, s3 = 3 * s, s5 = 5 * s;
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = vset(0);
    for (const int64_t *offset = t->offset, *end = offset + t->depth; offset < end; offset++, b += PANEL) {
        const char *at = (const char *)(patch + *offset), *beyond = at + 7 * s;
        vf v[TILE_VECTORS];
        UNROLL for (int j = 0; j < vectors; j++) v[j] = vload(b + j * VL);
        UNROLL for (int i = 0; i < rows; i++) {
            const vf x = vset(*tile_row(i < 7 ? at : beyond, i % 7, s, s3, s5));
            UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = vfma(x, v[j], sum[i][j]);
        }
    }
    const int relu6 = t->activation == ACT_RELU6;
    const vf least_allowed = vset(relu6 || t->activation == ACT_RELU ? 0 : -INFINITY), most_allowed = vset(relu6 ? 6 : INFINITY);
    UNROLL for (int j = 0; j < vectors; j++) {
        const int64_t n = t->columns - j * VL;
        const vf bias = t->bias ? vload_n(t->bias + j * VL, n) : vset(-0.0f);
        UNROLL for (int i = 0; i < rows; i++) {
            const vf y = vlesser(most_allowed, vgreater(least_allowed, sum[i][j] + bias));
            vstore_n(out + i * t->filters + j * VL, y, n);
        }
    }
}

static void band_rows(const band_tile *t, const float *patch, float *out, int64_t rows)
{
#define PART(n) \
    case n: band_part(t, patch, out, n, 2); break; \
    case n + 16: band_part(t, patch, out, n, 1); break;
    switch (rows + (t->columns > VL ? 0 : 16)) {
    PART(1) PART(2) PART(3) PART(4) PART(5) PART(6)
#if VL == 16
    PART(7) PART(8) PART(9) PART(10) PART(11) PART(12) PART(13) PART(14)
#endif
    default: break;
    }
#undef PART
}

/* As conv2d, for one group and no dilation.  One item: one row of one image's output. */
KERNEL(conv2d_few_channels, a->batch * a->out_height,
       a->out_width * pieces(a->filters, PANEL) * PANEL / 5.0 * a->kernel_height * a->kernel_width * a->channels,
    float *out;           /* (batch, out_height, out_width, filters) */
    const float *images;  /* (batch, height, width, channels) */
    const float *panels;  /* panels of (kernel_height * kernel_width * channels, filters) */
    OPTIONAL const float *bias;   /* (filters) */
    int64_t batch;
    int64_t height;
    int64_t width;
    int64_t channels;
    int64_t out_height;
    int64_t out_width;
    int64_t filters;
    int64_t kernel_height;
    int64_t kernel_width;
    int64_t stride_height;
    int64_t stride_width;
    int64_t top;
    int64_t left;
    int64_t activation;)
{
    const int64_t channels = a->channels, run = a->kernel_width * channels, depth = a->kernel_height * run;
    const int64_t step = a->stride_width * channels, most_pixels = most((BAND_FLOATS / a->kernel_height - run) / step + 1, 1);
    const int64_t across = least(most_pixels, a->out_width), pitch = (across - 1) * step + run;
    float *band = (float *)worker->scratch;
    int64_t offset[FEW_DEPTH];
    for (int64_t k = 0; k < depth; k++) offset[k] = k / run * pitch + k % run;
    for (int64_t i = begin; i < end; i++) {
        const float *image = a->images + i / a->out_height * a->height * a->width * channels;
        const int64_t first_y = i % a->out_height * a->stride_height - a->top;
        for (int64_t x = 0; x < a->out_width; x += across) {
            const int64_t n = least(a->out_width - x, across), tiles = pieces(n, TILE_ROWS);
            float *out = a->out + (i * a->out_width + x) * a->filters;
            copy_band(band, image, a->height, a->width, channels, first_y, a->kernel_height, x * a->stride_width - a->left, pitch);
            for (int64_t q = 0; q < a->filters; q += 2 * VL) {
                const band_tile t = {
                    offset, depth, step, a->panels + q / PANEL * PANEL * depth + q % PANEL, a->bias ? a->bias + q : 0,
                    a->filters, least(a->filters - q, 2 * VL), a->activation,
                };
                for (int64_t p = 0; p < tiles; p++) {
                    const int64_t row = tile_begin(n, tiles, p), rows = tile_begin(n, tiles, p + 1) - row;
                    band_rows(&t, band + row * step, out + row * a->filters + q, rows);
                }
            }
            if (a->activation == ACT_SIGMOID || a->activation == ACT_TANH) tile_activate(out, a->filters, n, a->filters, a->activation);
        }
    }
}

/* ---- with pooling: convolution, bias, relu and the largest of each 2x2 window in one, what lies between is never stored ---- */

/* What a tile of `windows` windows and VL * vectors filters computes, from the patch of the first. */
typedef struct pool_tile {
    const int64_t *offset;              /* of the numbers of a patch */
    int64_t depth, step, down;          /* how many; from a pixel to the next, along a row and down */
    const float *panel, *bias;
    float *y;
    uint8_t *winner;
    int64_t filters, columns, relu;     /* columns of the panel that exist */
} pool_tile;

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
    const vf least_allowed = vset(t->relu ? 0 : -INFINITY);
    UNROLL for (int j = 0; j < vectors; j++) {
        const int64_t n = t->columns - j * VL;
        const vf bias = t->bias ? vload_n(t->bias + j * VL, n) : vset(-0.0f);
        UNROLL for (int w = 0; w < windows; w++) {
            vf largest = sum[4 * w][j];
            vi place = viset(0);
            UNROLL for (int q = 1; q < 4; q++) vmax_place(&largest, &place, sum[4 * w + q][j], viset(q));
            largest = largest + bias;                            /* addition rounds, but keeps the order */
            const int64_t to = (first + w) * t->filters + j * VL;
            vstore_n(t->y + to, vpick_less(largest, least_allowed, least_allowed, largest), n);
            if (t->winner) vbytes_store(t->winner + to, place, n);
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
    float *scratch = (float *)worker->scratch;
    for (int64_t i = begin; i < end; i++) {
        const float *image = a->images + i / a->pool_height * a->height * a->width * channels;
        const int64_t first_y = i % a->pool_height * 2 * a->stride_height - a->top;
        for (int64_t x = 0; x < a->pool_width; x += across) {
            const int64_t n = least(a->pool_width - x, across);
            const int64_t pitch = ((2 * n - 1) * a->stride_width + a->kernel_width) * channels;
            copy_band(scratch, image, a->height, a->width, channels, first_y, rows, 2 * x * a->stride_width - a->left, pitch);
            int64_t offset[FEW_DEPTH];
            for (int64_t k = 0; k < depth; k++) offset[k] = k / run * pitch + k % run;
            for (int64_t q = 0; q < a->filters; q += PANEL) {
                const int64_t to = (i * a->pool_width + x) * a->filters + q;
                for (int64_t f = 0; f < least(PANEL, a->filters - q); f += 2 * VL) {
                    const pool_tile t = {
                        offset, depth, a->stride_width * channels, a->stride_height * pitch, a->panels + q * depth + f,
                        a->bias ? a->bias + q + f : 0, a->y + to + f, a->winner ? a->winner + to + f : 0,
                        a->filters, least(a->filters - q - f, 2 * VL), a->relu,
                    };
                    pool_row(&t, scratch, n);
                }
            }
        }
    }
}

/* ---- the gradients of kernel and bias: only the winners have one ----

   A window's four patches differ, for each of their numbers, in one of four numbers of the image: quads holds these side by side,
   so that the winners of a vector of filters are looked up at once. */

/* quads[4 i + p] = place p of the 2x2 window whose first is from[i]. */
static void make_quads(float *quads, const float *from, int64_t n, int64_t step, int64_t down)
{
    for (int64_t i = 0; i < n; i++) {
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
                          first_y, lines, first_x, pitch);
                for (int64_t r = 0; r < lines - a->stride_height; r++)
                    make_quads(quads + 4 * r * pitch, scratch + r * pitch, pitch - step, step, a->stride_height * pitch);
                int64_t offset[FEW_DEPTH];
                for (int64_t k = 0; k < depth; k++) offset[k] = 4 * (k / run * pitch + k % run);
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

/* ---- the gradient of the images ---- */

enum { LINE_FLOATS = 1 << 17, LINE_ROWS = 16, LINE_TERMS = 1 << 16 };   /* of d_images in scratch: floats, most rows; of a product: rows x PANEL */

/* Places that all columns of the output reach with a column of the kernel, in a line of each stride_width-th column; with room for a panel. */
INLINE int64_t line_length(int64_t out_width, int64_t kernel_width, int64_t stride_width, int64_t dilation_width)
{
    return pieces(out_width, PANEL) * PANEL + (kernel_width - 1) * dilation_width / stride_width + 1;
}

/* Rows of an image that an item computes. */
INLINE int64_t line_rows(int64_t height, int64_t floats) { return most(least(least(height, LINE_ROWS), LINE_FLOATS / floats), 1); }

#define LINES_FLOATS(a) ((a)->channels * (a)->stride_width * line_length((a)->out_width, (a)->kernel_width, (a)->stride_width, (a)->dilation_width))

/* d_images, all of it, for few channels. The product of the kernel with 32 neighbouring columns of d_out gives what each place of the
   kernel adds to the images; it is added to lines in scratch, one for each channel and each remainder of the column by the stride.
   One item: some rows of an image. */
KERNEL(conv2d_d_few_channels, a->batch * pieces(a->height, line_rows(a->height, LINES_FLOATS(a))),
       1.0 * line_rows(a->height, LINES_FLOATS(a)) / a->stride_height * a->out_width * a->filters * a->kernel_height * a->kernel_width *
       a->channels / 5,
    float *d_images;      /* (batch, height, width, channels) */
    const float *d_out;   /* (batch, out_height, out_width, filters), before the activation */
    const float *kernel;  /* (kernel_height, kernel_width, channels, filters) */
    int64_t batch;
    int64_t height;
    int64_t width;
    int64_t channels;
    int64_t out_height;
    int64_t out_width;
    int64_t filters;
    int64_t kernel_height;
    int64_t kernel_width;
    int64_t stride_height;
    int64_t stride_width;
    int64_t dilation_height;
    int64_t dilation_width;
    int64_t top;
    int64_t left;)
{
    const int64_t channels = a->channels, run = a->kernel_width * channels, step = a->stride_width;
    const int64_t length = line_length(a->out_width, a->kernel_width, step, a->dilation_width), each = channels * step * length;
    const int64_t rows = line_rows(a->height, each), parts = pieces(a->height, rows);
    float *lines = (float *)worker->scratch, *terms = lines + pieces(rows * each, 16) * 16, *panel = terms + LINE_TERMS;
    for (int64_t i = begin; i < end; i++) {
        const int64_t y0 = i % parts * rows, y1 = least(y0 + rows, a->height), image = i / parts;
        memset(lines, 0, (size_t)((y1 - y0) * each) * sizeof(float));
        const int64_t reach = (a->kernel_height - 1) * a->dilation_height;
        const int64_t first = pieces(most(y0 + a->top - reach, 0), a->stride_height);
        const int64_t stop = least((y1 - 1 + a->top) / a->stride_height + 1, a->out_height);
        for (int64_t o = first; o < stop; o++) {
            const int64_t y = o * a->stride_height - a->top;        /* of the kernel's first row; those from k0 to k1 meet ours */
            const int64_t k0 = y < y0 ? pieces(y0 - y, a->dilation_height) : 0;
            const int64_t k1 = least(pieces(y1 - y, a->dilation_height), a->kernel_height);
            const float *d_out = a->d_out + (image * a->out_height + o) * a->out_width * a->filters;
            for (int64_t x = 0; x < a->out_width && k0 < k1; x += PANEL) {
                const int64_t n = least(a->out_width - x, PANEL);
                panel_pack(panel, d_out + x * a->filters, 1, a->filters, a->filters, n);
                const tile t = {
                    .out = terms, .out_row = PANEL, .a = a->kernel + k0 * run * a->filters, .a_row = a->filters, .a_depth = 1,
                    .b = panel, .b_row = PANEL, .depth = a->filters, .columns = n,
                };
                tile_multiply(&t, (k1 - k0) * run);
                const float *from = terms;
                for (int64_t ky = k0; ky < k1; ky++)
                    for (int64_t kx = 0; kx < a->kernel_width; kx++) {
                        const int64_t at = kx * a->dilation_width;
                        float *to = lines + (y + ky * a->dilation_height - y0) * each + at % step * length + at / step + x;
                        for (int64_t c = 0; c < channels; c++, to += step * length, from += PANEL)
                            for (int64_t j = 0; j < n; j += VL) vstore(to + j, vload(to + j) + vload_n(from + j, n - j));
                    }
            }
        }
        for (int64_t y = y0; y < y1; y++) {
            const float *line = lines + (y - y0) * each;
            float *row = a->d_images + (image * a->height + y) * a->width * channels;
            if (channels * step > 1 || length < a->left + a->width) memset(row, 0, (size_t)(a->width * channels) * sizeof(float));
            for (int64_t c = 0; c < channels; c++)
                for (int64_t p = 0; p < step; p++, line += length) {
                    const int64_t x = (p + step - a->left % step) % step, place = (x + a->left) / step;
                    float *to = row + x * channels + c;
                    const int64_t n = least(pieces(a->width - x, step), length - place);
                    if (channels * step == 1) memcpy(to, line + place, (size_t)most(n, 0) * sizeof(float));
                    else for (int64_t j = 0; j < n; j++) to[j * step * channels] = line[place + j];
                }
        }
    }
}
