/* Convolution of images whose channels do not fill a vector: there, vectors lie along the rows of the images. */
#include "tile.h"

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
