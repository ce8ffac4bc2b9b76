/* Convolution of images with few channels: little work beside the memory that its result takes. Tiles read the rows of the images that
   a row of output sees in place, or copied into scratch with zeros around them; in the gradient of the images, whose channels do not
   fill a vector, vectors lie along the rows. */
#include "bands.h"

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
