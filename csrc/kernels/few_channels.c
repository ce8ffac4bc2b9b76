/* Convolution of images with few channels: little work beside the memory that its result takes. Tiles read the rows of the images that
   a row of output sees in place, or copied into scratch with zeros around them. */
#include "bands.h"
#include "patches.h"

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
    const int64_t filters = t->filters, tail = t->columns - (vectors - 1) * VL;
    if (t->bias)
        UNROLL for (int j = 0; j < vectors; j++) {
            const vf bias = j < vectors - 1 ? vload(t->bias + j * VL) : vload_n(t->bias + j * VL, tail);
            UNROLL for (int i = 0; i < rows; i++) sum[i][j] = sum[i][j] + bias;
        }
    if (t->activation == ACT_RELU || t->activation == ACT_RELU6)
        UNROLL for (int j = 0; j < vectors; j++)
            UNROLL for (int i = 0; i < rows; i++) sum[i][j] = vrelu(sum[i][j]);
    if (t->activation == ACT_RELU6)
        UNROLL for (int j = 0; j < vectors; j++)
            UNROLL for (int i = 0; i < rows; i++) sum[i][j] = vlesser(vset(6), sum[i][j]);
    UNROLL for (int j = 0; j < vectors; j++)
        UNROLL for (int i = 0; i < rows; i++) {
            float *to = out + i * filters + j * VL;
            if (j < vectors - 1) vstore(to, sum[i][j]);
            else vstore_n(to, sum[i][j], tail);
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
    const int64_t across = least(most_pixels, a->out_width), length = (across - 1) * step + run;
    const int64_t pitch = band_pitch(a->kernel_height, length, a->width * channels);
    int64_t offset[FEW_DEPTH];
    patch_offsets(offset, depth, run, pitch, 1);
    for (int64_t i = begin; i < end; i++) {
        const float *image = a->images + i / a->out_height * a->height * a->width * channels;
        const int64_t first_y = i % a->out_height * a->stride_height - a->top;
        for (int64_t x = 0; x < a->out_width; x += across) {
            const int64_t n = least(a->out_width - x, across), tiles = pieces(n, TILE_ROWS);
            float *out = a->out + (i * a->out_width + x) * a->filters;
            const float *band = band_at((float *)worker->scratch, image, a->height, a->width, channels, first_y, a->kernel_height,
                                        x * a->stride_width - a->left, length - (across - n) * step, pitch);
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

/* ---- the gradients of the kernel and the bias ---- */

enum { SUM_NUMBERS = 9, SUM_FILTERS = VL == 16 ? 64 : 2 * VL, SUM_FLOATS = 1 << 16, SUM_ACROSS = 512 };     /* at once; of d_out in a band */
#if VL == 16
#define ALL_SUMS(F) F(1, 1) F(2, 1) F(3, 1) F(4, 1) F(5, 1) F(6, 1) F(7, 1) F(8, 1) F(9, 1) \
    F(1, 2) F(2, 2) F(3, 2) F(4, 2) F(5, 2) F(6, 2) F(7, 2) F(8, 2) F(9, 2) F(1, 4) F(2, 4) F(3, 4) F(4, 4) F(5, 4) F(6, 4)
#else
#define ALL_SUMS(F) F(1, 1) F(2, 1) F(3, 1) F(4, 1) F(5, 1) F(6, 1) F(1, 2) F(2, 2) F(3, 2) F(4, 2) F(5, 2) F(6, 2)
#endif

/* For some numbers of the patches and up to 4 * VL filters, their products with d, summed over rows x n pixels. */
typedef struct band_sums {
    float *d_kernel;                    /* added to */
    const float *d, *band;
    const int64_t *offset;              /* of the numbers, in the band */
    int64_t rows, n, step, down;        /* in the band, from a pixel to the next, along a row and down */
    int64_t d_pixel, d_row;             /* in d */
    int64_t filters, columns;
} band_sums;

/* vectors 1: maybe part of one; else whole ones. */
INLINE void sums_part(const band_sums *t, int64_t number, const int numbers, const int vectors)
{
    const int64_t filters = t->filters, step = t->step, d_pixel = t->d_pixel, *offset = t->offset + number;
    const vpart part = vpart_of(t->columns);
    float *d_kernel = t->d_kernel + number * filters;
    vf sum[SUM_NUMBERS][4];
    UNROLL for (int k = 0; k < numbers; k++)
        UNROLL for (int j = 0; j < vectors; j++)
            sum[k][j] = vectors == 1 ? vload_part(d_kernel + k * filters, part) : vload(d_kernel + k * filters + j * VL);
    for (int64_t row = 0; row < t->rows; row++) {
        const float *d = t->d + row * t->d_row, *at = t->band + row * t->down;
        for (int64_t x = t->n; x > 0; x--, d += d_pixel, at += step) {
            vf v[4];
            UNROLL for (int j = 0; j < vectors; j++) v[j] = vectors == 1 ? vload_part(d, part) : vload(d + j * VL);
            UNROLL for (int k = 0; k < numbers; k++) {
                const vf y = vset(at[offset[k]]);
                UNROLL for (int j = 0; j < vectors; j++) sum[k][j] = vfma(y, v[j], sum[k][j]);
            }
        }
    }
    UNROLL for (int k = 0; k < numbers; k++)
        UNROLL for (int j = 0; j < vectors; j++) {
            if (vectors == 1) vstore_n(d_kernel + k * filters, sum[k][j], t->columns);
            else vstore(d_kernel + k * filters + j * VL, sum[k][j]);
        }
}

typedef void sums_function(const band_sums *, int64_t number);
#define DEFINED(k, v) static void sums_##k##_##v(const band_sums *t, int64_t number) { sums_part(t, number, k, v); }
#define LISTED(k, v) [v][k] = sums_##k##_##v,
ALL_SUMS(DEFINED)
static sums_function *const sums_functions[5][SUM_NUMBERS + 1] = { ALL_SUMS(LISTED) };
#undef DEFINED
#undef LISTED

/* d, unless it is null: the gradient before the activation of n pixels; its column sums are added to d_bias, unless that is null. */
INLINE void band_gradient(const band_sums *t, float *d, float *d_bias, const float *d_out, const float *out, const int vectors, int64_t activation)
{
    const int64_t filters = t->filters, d_pixel = t->d_pixel;
    const vpart part = vpart_of(t->columns);
    vf sum[4];
    UNROLL for (int j = 0; j < vectors; j++) sum[j] = !d_bias ? vset(0) : vectors == 1 ? vload_part(d_bias, part) : vload(d_bias + j * VL);
    for (int64_t i = t->n; i > 0; i--, d_out += filters) {
        UNROLL for (int j = 0; j < vectors; j++) {
            vf x = vectors == 1 ? vload_part(d_out, part) : vload(d_out + j * VL);
            if (activation) x = activate_grad(x, vectors == 1 ? vload_part(out, part) : vload(out + j * VL), activation);
            if (d && vectors == 1) vstore_n(d, x, t->columns);
            else if (d) vstore(d + j * VL, x);
            sum[j] = sum[j] + x;
        }
        if (d) d += d_pixel;
        if (activation) out += filters;
    }
    UNROLL for (int j = 0; j < vectors && d_bias; j++) {
        if (vectors == 1) vstore_n(d_bias, sum[j], t->columns);
        else vstore(d_bias + j * VL, sum[j]);
    }
}

static void band_gradients(const band_sums *t, float *d, float *d_bias, const float *d_out, const float *out, int64_t vectors, int64_t activation)
{
    if (activation == ACT_RELU && vectors == 4) band_gradient(t, d, d_bias, d_out, out, 4, ACT_RELU);
    else if (activation == ACT_RELU && vectors == 2) band_gradient(t, d, d_bias, d_out, out, 2, ACT_RELU);
    else if (vectors == 4) band_gradient(t, d, d_bias, d_out, out, 4, activation);
    else if (vectors == 2) band_gradient(t, d, d_bias, d_out, out, 2, activation);
    else band_gradient(t, d, d_bias, d_out, out, 1, activation);
}

/* As conv2d_d_kernel, for one group and no dilation, and pieces of whole rows.  One item: one piece. */
KERNEL(conv2d_d_kernel_few_channels, pieces(a->batch * a->out_height * a->out_width, a->piece),
       a->piece / 5.0 * a->kernel_height * a->kernel_width * a->channels * a->filters,
    float *d_kernel;      /* (pieces, kernel_height, kernel_width, channels, filters) */
    OPTIONAL float *d_bias;       /* (pieces, filters) */
    OPTIONAL float *d_z;          /* (batch, out_height, out_width, filters) */
    const float *d_out;   /* (batch, out_height, out_width, filters) */
    OPTIONAL const float *out;    /* (batch, out_height, out_width, filters); None where activation is linear */
    const float *images;  /* (batch, height, width, channels) */
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
    int64_t activation;
    int64_t piece;)
{
    const int64_t channels = a->channels, filters = a->filters, run = a->kernel_width * channels, depth = a->kernel_height * run;
    const int64_t step = a->stride_width * channels, line = a->width * channels, all_rows = a->batch * a->out_height;
    const int64_t most_pixels = least((BAND_FLOATS / a->kernel_height - run) / step + 1, SUM_ACROSS);
    const int64_t across = most(least(most_pixels, a->out_width), 1);
    const int64_t length = (across - 1) * step + run, pitch = band_pitch(a->kernel_height, length, line);
    const int64_t seen = (BAND_FLOATS / pitch - a->kernel_height) / a->stride_height + 1;
    const int64_t most_rows = most(least(least(seen, SUM_FLOATS / (across * least(filters, SUM_FILTERS))), BAND_ROWS), 1);
    float *band_copy = (float *)worker->scratch, *d_copy = band_copy + 2 * BAND_FLOATS;
    int64_t offset[FEW_DEPTH];
    patch_offsets(offset, depth, run, pitch, 1);
    for (int64_t i = begin; i < end; i++) {
        float *d_kernel = a->d_kernel + i * depth * filters, *d_bias = a->d_bias ? a->d_bias + i * filters : 0;
        memset(d_kernel, 0, (size_t)(depth * filters) * sizeof(float));
        if (d_bias) memset(d_bias, 0, (size_t)filters * sizeof(float));
        const int64_t stop = least((i + 1) * (a->piece / a->out_width), all_rows);
        for (int64_t row = i * (a->piece / a->out_width), rows; row < stop; row += rows) {
            const int64_t y = row % a->out_height;
            rows = least(least(stop - row, a->out_height - y), most_rows);
            for (int64_t x = 0; x < a->out_width; x += across) {
                const int64_t n = least(a->out_width - x, across);
                const float *band = band_at(band_copy, a->images + row / a->out_height * a->height * line, a->height, a->width, channels,
                                            y * a->stride_height - a->top, (rows - 1) * a->stride_height + a->kernel_height,
                                            x * a->stride_width - a->left, length - (across - n) * step, pitch);
                for (int64_t q = 0, m; q < filters; q += m) {
                    const int64_t left = filters - q, at = (row * a->out_width + x) * filters + q;
                    m = VL == 16 && left >= 4 * VL ? 4 * VL : left >= 2 * VL ? 2 * VL : least(left, VL);
                    const int copied = a->d_z || a->activation;
                    float *copy = a->d_z ? a->d_z + at : d_copy;
                    const band_sums t = {
                        d_kernel + q, copied ? copy : a->d_out + at, band, offset, rows, n, step, a->stride_height * pitch,
                        copied && !a->d_z ? m : filters, copied && !a->d_z ? n * m : a->out_width * filters, filters, m,
                    };
                    const int64_t v = most(m / VL, 1);
                    for (int64_t r = 0; r < rows && (copied || d_bias); r++) {
                        const int64_t from = at + r * a->out_width * filters;
                        band_gradients(&t, copied ? copy + r * t.d_row : 0, d_bias ? d_bias + q : 0, a->d_out + from, a->out ? a->out + from : 0,
                                       v, a->activation);
                    }
                    int64_t at_once = SUM_NUMBERS;
                    while (!sums_functions[v][at_once]) at_once--;
                    const int64_t parts = pieces(depth, at_once);
                    for (int64_t k = 0; k < parts; k++) {
                        const int64_t number = tile_begin(depth, parts, k);
                        sums_functions[v][tile_begin(depth, parts, k + 1) - number](&t, number);
                    }
                }
            }
        }
    }
}

/* ---- the gradient of the images ----

   A number of the images is a sum over places of the kernel and over filters, along which vectors lie: lane l takes the filters l, l + 16 …,
   row by row of the kernel from the last, then 16 by 16 filters, then along its row from the last place; the lanes are added at the end.
   Positions of a row that are a stride apart are a class, see conv2d_d_images. */

enum {
    DOTS = 16, DOTS_AT_ONCE = VL == 16 ? 16 : 10, DOT_CHANNELS = 4, DOT_TAPS = 8,    /* sums: a block of positions by channels; places beside each other */
    DOT_ROWS = 8, DOT_KERNEL = 1 << 18,      /* rows of an item; floats of the kernel in scratch */
};

/* What a block of neighbouring positions of a class sums; `taps` places of the kernel's row lie side by side in d_out. */
typedef struct dots {
    const float *d_out, *kernel;        /* the row that the kernel's last row meets; vectors of 16 in the order of their use */
    int64_t rows, d_out_row;            /* of the kernel; from a row of d_out to the next */
    int64_t groups, across;             /* how many times `taps`; from one to the next in columns of d_out */
    int64_t out_width, filters;
} dots;

/* The first position meets column `column` of d_out with the last place. */
INLINE void dots_step(vf *sum, const float *d_out, const float *kernel, int64_t filters, int64_t column, int64_t out_width, int64_t n,
                      const int channels, const int taps, const int whole)
{
    const int positions = DOTS_AT_ONCE / channels, held = VL == 16 || taps * channels <= 3;
    const int64_t low = -column, high = out_width - column;
    const vpart part = vpart_of(n);
    vf k[DOT_TAPS * DOT_CHANNELS];
    if (held)
        UNROLL for (int t = 0; t < taps; t++)
            UNROLL for (int c = 0; c < channels; c++) k[t * channels + c] = vload(kernel + 16 * (t * channels + c));
    d_out += column * filters;
    UNROLL for (int first = 0; first < positions + taps - 1; first += 12)           /* the compiler unrolls 16 at most */
        UNROLL for (int u = first; u < first + 12; u++) {
            const int after = taps > 1 && u >= taps - 1;                           /* of as many taps only the first position lacks columns */
            if (u < positions + taps - 1 && (after || __builtin_expect(u >= low, 1)) && __builtin_expect(u < high, 1)) {
                const vf x = vheld(whole ? vload(d_out) : vload_part(d_out, part));
                UNROLL for (int t = 0; t < taps; t++)
                    if (u >= t && u - t < positions)
                        UNROLL for (int c = 0; c < channels; c++) {
                            const int i = (u - t) * channels + c;
                            sum[i] = vfma(x, held ? k[t * channels + c] : vload(kernel + 16 * (t * channels + c)), sum[i]);
                        }
            }
            d_out += filters;
        }
}

/* The lanes from `lane` on of the sums. */
INLINE void dots_part(const dots *d, vf *result, int64_t lane, int64_t column, const int channels, const int taps)
{
    const int64_t filters = d->filters, out_width = d->out_width, d_out_row = d->d_out_row, groups = taps == 1 ? d->groups : 1, across = d->across;
    const float *kernel = d->kernel + lane, *line = d->d_out + lane;
    vf sum[DOTS];
    UNROLL for (int i = 0; i < DOTS; i++) sum[i] = vset(0);
    for (int64_t row = d->rows; row > 0; row--, line += d_out_row)
        for (int64_t f = 0; f < filters; f += 16)
            for (int64_t g = 0; g < groups; g++, kernel += 16 * taps * channels) {
                if (f + lane + VL <= filters) dots_step(sum, line + f, kernel, filters, column + g * across, out_width, VL, channels, taps, 1);
                else dots_step(sum, line + f, kernel, filters, column + g * across, out_width, most(filters - f - lane, 0), channels, taps, 0);
            }
    UNROLL for (int i = 0; i < DOTS; i++) result[i] = sum[i];
}

/* The DOTS sums of a block. */
INLINE void dots_of(const dots *d, float *to, int64_t column, const int channels, const int taps)
{
    vf sum[SUM16][DOTS];
    for (int h = 0; h < SUM16; h++) dots_part(d, sum[h], h * VL, column, channels, taps);
    for (int half = SUM16 / 2; half; half /= 2)
        for (int h = 0; h < half; h++)
            for (int i = 0; i < DOTS; i++) sum[h][i] = sum[h][i] + sum[h + half][i];
    for (int i = 0; i < DOTS; i += VL) vstore(to + i, vsums(sum[0] + i));
}

typedef void dots_function(const dots *, float *, int64_t column);
#define FOR_TAPS(F, c) F(c, 1) F(c, 2) F(c, 3) F(c, 4) F(c, 5) F(c, 6) F(c, 7) F(c, 8)
#define DEFINED(c, t) static void dots_##c##_##t(const dots *d, float *to, int64_t column) { dots_of(d, to, column, c, t); }
#define LISTED(c, t) dots_##c##_##t,
FOR_TAPS(DEFINED, 1) FOR_TAPS(DEFINED, 2) FOR_TAPS(DEFINED, 3) FOR_TAPS(DEFINED, 4)
static dots_function *const dots_functions[DOT_CHANNELS][DOT_TAPS] = {
    { FOR_TAPS(LISTED, 1) }, { FOR_TAPS(LISTED, 2) }, { FOR_TAPS(LISTED, 3) }, { FOR_TAPS(LISTED, 4) },
};

/* d_images, all of it, for few channels.  One item: some rows of an image. */
KERNEL(conv2d_d_few_channels, a->batch * pieces(a->height, DOT_ROWS),
       1.0 * DOT_ROWS * a->width * a->channels * a->filters * a->kernel_height * a->kernel_width / (a->stride_height * a->stride_width) / 5,
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
    const int64_t filters = a->filters, step = a->stride_width, line = a->out_width * filters, blocks = pieces(filters, 16);
    const int64_t parts = pieces(a->channels, DOT_CHANNELS), items = pieces(a->height, DOT_ROWS);
    float *kernel = (float *)worker->scratch;
    for (int64_t i = begin; i < end; i++) {
        const int64_t image = i / items, y0 = i % items * DOT_ROWS, y1 = least(y0 + DOT_ROWS, a->height);
        for (int64_t class = 0; class < a->stride_height * step * parts; class++) {
            const int64_t part = class % parts, first_y = y0 + class / parts / step, px = class / parts % step, n = pieces(a->width - px, step);
            const int64_t c = tile_begin(a->channels, parts, part), m = tile_begin(a->channels, parts, part + 1) - c;
            const taps v = taps_of(first_y % a->stride_height, a->top, a->kernel_height, a->stride_height, a->dilation_height);
            const taps h = taps_of(px, a->left, a->kernel_width, step, a->dilation_width);
            const int64_t down = v.step * a->dilation_height / a->stride_height, across = h.step * a->dilation_width / step;
            const int64_t column = (px + a->left - h.last * a->dilation_width) / step, positions = DOTS_AT_ONCE / m;
            const int64_t beside = across == 1 && h.n <= DOT_TAPS && column + h.n > 0 ? most(h.n, 1) : 1;
            float *packed = kernel;
            for (int64_t j = 0; j < v.n; j++)
                for (int64_t f = 0; f < filters; f += 16)
                    for (int64_t t = 0; t < h.n * m; t++, packed += 16) {
                        const int64_t at = (v.last - j * v.step) * a->kernel_width + h.last - t / m * h.step;
                        const float *from = a->kernel + (at * a->channels + c + t % m) * filters + f;
                        for (int64_t l = 0; l < 16; l += VL) vstore(packed + l, vload_n(from + l, most(filters - f - l, 0)));
                    }
            for (int64_t y = first_y; y < y1; y += a->stride_height) {
                int64_t first = 0, from = (y + a->top - v.last * a->dilation_height) / a->stride_height;     /* the kernel's last row meets the first */
                for (; first < v.n && from < 0; first++) from += down;
                const int64_t rows = v.n && from < a->out_height ? least(v.n - first, (a->out_height - 1 - from) / most(down, 1) + 1) : 0;
                const dots d = {
                    a->d_out + (image * a->out_height + from) * line, kernel + first * blocks * h.n * m * 16, h.n ? rows : 0, down * line,
                    h.n / beside, across * beside, a->out_width, filters,
                };
                float *to = a->d_images + ((image * a->height + y) * a->width + px) * a->channels + c;
                dots_function *const function = dots_functions[m - 1][beside - 1];
                for (int64_t x = 0; x < n; x += positions) {
                    float sums[DOTS];
                    function(&d, sums, column + x);
                    const int64_t some = least(n - x, positions) * m;
                    if (step * a->channels == m) for (int64_t l = 0; l < some; l += VL) vstore_n(to + x * m + l, vload(sums + l), some - l);
                    else
                        for (int64_t p = 0, at = x * step * a->channels; p < some; p += m, at += step * a->channels)
                            for (int64_t l = 0; l < m; l++) to[at + l] = sums[p + l];
                }
            }
        }
    }
}
