/* Convolution over (batch, height, width, channels), kernels (height, width, channels, filters). The patches of some pixels
   are gathered into scratch, as rows that a tile multiplies; there is no matrix of patches in memory. */
#include "patches.h"
#include "tile.h"

enum {
    PATCHES = 84,            /* pixels gathered at once: whole tiles of 14 and of 6 */
    PATCH_DEPTH = 640,       /* most numbers of a patch gathered at once: 84 of them and a panel stay in 1 MiB */
    SUMMED = 128,            /* pixels gathered at once for the kernel's gradient, */
    SUM_ROWS = 588,          /* rows */
    SUM_COLUMNS = 512,       /* and columns of it that an item computes, */
    SUM_TILE = 42,           /* so many rows at once */
};

/* n numbers, rounded up to whole vectors; what is written behind them is 0. */
INLINE void run_copied(void *to, const float *from, int64_t n)
{
    float *x = to;
    for (; n >= VL; n -= VL, x += VL, from += VL) vstore(x, vload(from));
    if (n > 0) vstore(x, vload_n(from, n));
}

INLINE void run_of_zeros(void *to, int64_t n) { for (float *x = to; n > 0; n -= VL, x += VL) vstore(x, vset(0)); }

/* Numbers first .. first + depth of the patches of n pixels, pixel by pixel: to[i * to_row + p]. */
static void gather_rows(const patches *a, float *to, int64_t to_row, int64_t pixel, int64_t n, int64_t first, int64_t depth)
{
    gather(a, to, 4 * to_row, 4, run_copied, run_of_zeros, pixel, n, first, depth);
}

/* The whole patches of n pixels, number by number: to[p * line + i]. One channel and horizontal stride 1: runs of memory. */
static void gather_lines(const patches *a, float *to, int64_t line, int64_t pixel, int64_t n)
{
    for (int64_t m; n > 0; n -= m, pixel += m, to += m) {
        const int64_t row = pixel / a->out_width, x = pixel % a->out_width, y = row % a->out_height;
        const float *image = a->images + row / a->out_height * a->height * a->width;
        m = least(n, a->out_width - x);
        for (int64_t ky = 0; ky < a->kernel_height; ky++) {
            const int64_t from_y = y * a->stride_height - a->top + ky * a->dilation_height;
            const int outside = from_y < 0 || from_y >= a->height;
            for (int64_t kx = 0; kx < a->kernel_width; kx++) {
                float *out = to + (ky * a->kernel_width + kx) * line;
                const int64_t at = x - a->left + kx * a->dilation_width;
                const int64_t low = most(0, -at), high = outside ? 0 : least(m, a->width - at);
                if (low > 0 || high < m) run_of_zeros(out, m);
                if (low < high) run_copied(out + low, image + from_y * a->width + at + low, high - low);
            }
        }
    }
}

INLINE int by_lines(const patches *a, int64_t depth)
{
    return a->channels == 1 && a->stride_width == 1 && depth <= PATCH_DEPTH;
}

/* t for the patches of n pixels (at most PATCHES). Deep patches come in parts: a sum goes on where it was left, so its bits are the same. */
static void multiply_patches(const patches *a, tile t, int64_t pixel, int64_t n, float *scratch)
{
    const tile whole = t;
    const int64_t parts = most(pieces(t.depth, PATCH_DEPTH), 1), part = most(pieces(t.depth, parts), 1);
    for (int64_t first = 0; first == 0 || first < whole.depth; first += part) {
        const int last = first + part >= whole.depth;
        t.depth = least(part, whole.depth - first);
        t.a = scratch, t.a_row = patch_row(t.depth), t.a_depth = 1;
        if (t.depth) gather_rows(a, scratch, t.a_row, pixel, n, first, t.depth);
        t.b = whole.b + first * PANEL, t.b_next = last ? 0 : t.b + part * PANEL;
        t.accumulate = first > 0;
        t.bias = last ? whole.bias : 0;
        t.activation = last ? whole.activation : ACT_LINEAR;
        tile_multiply(&t, n);
    }
}

/* out = activation(bias + convolution of images).  One item: some pixels by some panels of a group. */
KERNEL(conv2d, shares(a->batch * a->out_height * a->out_width, a->groups, a->filters / a->groups, PATCHES),
       PATCHES * PANEL / 6.0 * a->kernel_height * a->kernel_width * a->channels / a->groups,
    float *out;           /* (batch, out_height, out_width, filters) */
    const float *images;  /* (batch, height, width, channels) */
    const float *panels;  /* (groups, panels of (kernel_height * kernel_width * channels / groups, filters / groups)) */
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
    int64_t dilation_height;
    int64_t dilation_width;
    int64_t top;
    int64_t left;
    int64_t groups;
    int64_t activation;)
{
    const int64_t pixels = a->batch * a->out_height * a->out_width, taken = a->channels / a->groups, columns = a->filters / a->groups;
    const int64_t depth = a->kernel_height * a->kernel_width * taken, panel = PANEL * depth;
    for (int64_t i = begin; i < end; ) {
        const share s = shares_of(&i, end, pixels, a->groups, columns, PATCHES);
        const int64_t first = s.group * columns + s.column;
        const patches p = {
            a->images + s.group * taken, a->height, a->width, a->channels, a->out_height, a->out_width,
            a->kernel_height, a->kernel_width, a->stride_height, a->stride_width, a->dilation_height, a->dilation_width,
            a->top, a->left, taken,
        };
        const tile t = {
            .out = a->out + s.pixel * a->filters + first, .out_row = a->filters,
            .b = a->panels + (s.group * pieces(columns, PANEL) + s.column / PANEL) * panel, .b_row = PANEL, .b_panel = panel,
            .bias = a->bias ? a->bias + first : 0, .depth = depth, .columns = s.end - s.column, .activation = a->activation,
        };
        multiply_patches(&p, t, s.pixel, s.stop - s.pixel, (float *)worker->scratch);
    }
}

/* ---- the gradient of the images ----

   A position y of the images meets the kernel's rows ky with (y + top - ky * dilation) divisible by the stride: a set that depends
   on y % stride only. For the positions of one such class the gradient is a convolution of stride 1 over d_out with these
   rows of the kernel, flipped; so there are stride_height * stride_width convolutions and no zeros among d_out. */

/* The kernel as conv2d_d_images wants it: columns are channels, rows are filters of the taps, class by class, each class flipped.
   One item: one panel of a group. */
KERNEL(conv2d_pack_flipped, a->groups * pieces(a->channels / a->groups, PANEL),
       2.0 * PANEL * a->kernel_height * a->kernel_width * a->filters / a->groups,
    float *panels;        /* (groups, panels of (kernel_height * kernel_width * filters / groups, channels / groups)) */
    const float *kernel;  /* (kernel_height, kernel_width, channels / groups, filters) */
    int64_t channels;
    int64_t filters;
    int64_t kernel_height;
    int64_t kernel_width;
    int64_t stride_height;
    int64_t stride_width;
    int64_t dilation_height;
    int64_t dilation_width;
    int64_t top;
    int64_t left;
    int64_t groups;)
{
    const int64_t taken = a->filters / a->groups, columns = a->channels / a->groups, panels = pieces(columns, PANEL);
    for (int64_t i = begin; i < end; i++) {
        const int64_t g = i / panels, q = i % panels, n = least(columns - q * PANEL, PANEL);
        float *out = a->panels + i * PANEL * a->kernel_height * a->kernel_width * taken;
        for (int64_t class = 0; class < a->stride_height * a->stride_width; class++) {
            const taps v = taps_of(class / a->stride_width, a->top, a->kernel_height, a->stride_height, a->dilation_height);
            const taps h = taps_of(class % a->stride_width, a->left, a->kernel_width, a->stride_width, a->dilation_width);
            for (int64_t j = 0; j < v.n * h.n; j++) {
                const int64_t ky = v.last - j / h.n * v.step, kx = h.last - j % h.n * h.step;
                const float *from = a->kernel + ((ky * a->kernel_width + kx) * columns + q * PANEL) * a->filters + g * taken;
                panel_pack(out, from, 1, a->filters, taken, n);
                out += taken * PANEL;
            }
        }
    }
}

/* d_images, all of it.  One item: some positions of a class by some panels of a group. */
KERNEL(conv2d_d_images, shares(CLASS_SHARES(a, PATCHES)),
       PATCHES * PANEL / 6.0 * a->kernel_height * a->kernel_width * a->filters / a->groups / (a->stride_height * a->stride_width),
    float *d_images;      /* (batch, height, width, channels) */
    const float *d_out;   /* (batch, out_height, out_width, filters), before the activation */
    const float *panels;  /* of conv2d_pack_flipped */
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
    int64_t left;
    int64_t groups;)
{
    const int64_t taken = a->filters / a->groups, columns = a->channels / a->groups, panels = pieces(columns, PANEL);
    const int64_t whole = a->kernel_height * a->kernel_width * taken, classes = a->stride_height * a->stride_width;
    float *result = (float *)worker->scratch, *scratch = result + PATCHES * SUM_COLUMNS;
    for (int64_t i = begin; i < end; ) {
        const share s = shares_of(&i, end, CLASS_SHARES(a, PATCHES));
        const int64_t class = s.group % classes, g = s.group / classes, pixel = s.pixel;
        const int64_t cy = class / a->stride_width, cx = class % a->stride_width;
        const int64_t rows = most(pieces(a->height - cy, a->stride_height), 0);
        const int64_t row = most(pieces(a->width - cx, a->stride_width), 0);
        const int64_t n = least(a->batch * rows * row, s.stop) - pixel;
        if (n <= 0) continue;                                /* the first class has the most positions */
        int64_t before = 0;                                  /* taps of the classes before */
        taps v = { 0, 0, 1 }, h = v;
        for (int64_t c = 0; c <= class; c++) {
            before += v.n * h.n;
            v = taps_of(c / a->stride_width, a->top, a->kernel_height, a->stride_height, a->dilation_height);
            h = taps_of(c % a->stride_width, a->left, a->kernel_width, a->stride_width, a->dilation_width);
        }
        const patches p = {
            a->d_out + g * taken, a->out_height, a->out_width, a->filters, rows, row, v.n, h.n, 1, 1,
            v.step * a->dilation_height / a->stride_height, h.step * a->dilation_width / a->stride_width,
            -((cy + a->top - v.last * a->dilation_height) / a->stride_height),
            -((cx + a->left - h.last * a->dilation_width) / a->stride_width), taken,
        };
        for (int64_t column = s.column, m; column < s.end; column += m) {
            m = least(s.end - column, classes == 1 ? columns : SUM_COLUMNS);
            const tile t = {
                .out = classes == 1 ? a->d_images + pixel * a->channels + g * columns + column : result,
                .out_row = classes == 1 ? a->channels : m,
                .b = a->panels + (g * panels * PANEL + column) * whole + before * taken * PANEL, .b_row = PANEL,
                .b_panel = PANEL * whole, .depth = v.n * h.n * taken, .columns = m,
            };
            multiply_patches(&p, t, pixel, n, scratch);
            for (int64_t j = 0; classes > 1 && j < n; j++) {
                const int64_t y = (pixel + j) / row % rows * a->stride_height + cy, x = (pixel + j) % row * a->stride_width + cx;
                const int64_t image = (pixel + j) / row / rows;
                memcpy(a->d_images + ((image * a->height + y) * a->width + x) * a->channels + g * columns + column,
                       result + j * m, (size_t)m * sizeof(float));
            }
        }
    }
}

/* ---- the gradients of the kernel and the bias ---- */

/* Gradient before the activation of n pixels and `columns` (at most PANEL) columns as a panel, filled up with zeros, and in d_z; its
   column sums are added to d_bias. Each may be null. */
static void gradient_panel(float *panel, float *d_z, float *d_bias, const float *d_out, const float *out, int64_t n, int64_t columns,
                           int64_t filters, int64_t activation)
{
    for (int64_t j = 0; j < PANEL; j += VL) {
        const int64_t m = most(least(columns - j, VL), 0);
        vf sum = d_bias ? vload_n(d_bias + j, m) : vset(0);
        for (int64_t i = 0; i < n; i++) {
            vf d = vload_n(d_out + i * filters + j, m);
            if (activation) d = activate_grad(d, vload_n(out + i * filters + j, m), activation);
            if (d_z) vstore_n(d_z + i * filters + j, d, m);
            if (panel) vstore(panel + i * PANEL + j, d);
            sum = sum + d;
        }
        if (d_bias) vstore_n(d_bias + j, sum, m);
    }
}

/* For each piece of pixels, its part of d_kernel and d_bias; and d_z, the gradient before the activation.
   One item: some rows and columns of a group's kernel for one piece. */
KERNEL(conv2d_d_kernel, pieces(a->batch * a->out_height * a->out_width, a->piece) * a->groups *
       pieces(a->kernel_height * a->kernel_width * (a->channels / a->groups), SUM_ROWS) * pieces(a->filters / a->groups, SUM_COLUMNS),
       a->piece / 6.0 * least(a->kernel_height * a->kernel_width * (a->channels / a->groups), SUM_ROWS) *
       least(a->filters / a->groups, SUM_COLUMNS),
    float *d_kernel;      /* (pieces, kernel_height, kernel_width, channels / groups, filters) */
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
    int64_t dilation_height;
    int64_t dilation_width;
    int64_t top;
    int64_t left;
    int64_t groups;
    int64_t activation;
    int64_t piece;)
{
    const int64_t pixels = a->batch * a->out_height * a->out_width, taken = a->channels / a->groups, columns = a->filters / a->groups;
    const int64_t depth = a->kernel_height * a->kernel_width * taken;
    const int64_t row_parts = pieces(depth, SUM_ROWS), column_parts = pieces(columns, SUM_COLUMNS);
    const int packed = a->activation || (a->filters == PANEL && a->groups > 1);   /* else d_out is read in place; it is no panel */
    float *panel = (float *)worker->scratch, *copy = panel + SUMMED * SUM_COLUMNS, *scratch = copy + 2 * SUMMED * COPY_COLUMNS;
    for (int64_t i = begin; i < end; i++) {
        const int64_t row = i % row_parts * SUM_ROWS, g = i / row_parts / column_parts % a->groups;
        const int64_t column = i / row_parts % column_parts * SUM_COLUMNS, first = g * columns + column;
        const int64_t index = i / row_parts / column_parts / a->groups, stop = least((index + 1) * a->piece, pixels);
        const int64_t rows = least(depth - row, SUM_ROWS), m = least(columns - column, SUM_COLUMNS);
        const patches p = {
            a->images + g * taken, a->height, a->width, a->channels, a->out_height, a->out_width,
            a->kernel_height, a->kernel_width, a->stride_height, a->stride_width, a->dilation_height, a->dilation_width,
            a->top, a->left, taken,
        };
        const int lines = by_lines(&p, depth) && rows == depth;
        tile t = { .out_row = a->filters, .columns = m, .b_row = packed ? PANEL : a->filters, .b_panel = packed ? PANEL * SUMMED : PANEL,
                   .copy = !packed && a->filters >= SUM_COLUMNS ? copy : 0 };
        t.a_row = lines ? SUMMED + 16 : 1, t.a_depth = lines ? 1 : patch_row(rows);
        float *d_bias = a->d_bias && !row ? a->d_bias + index * a->filters + first : 0, *d_z = row ? 0 : a->d_z;
        if (d_bias) memset(d_bias, 0, (size_t)m * sizeof(float));
        for (int64_t pixel = index * a->piece; pixel < stop; pixel += SUMMED) {
            const int64_t n = t.depth = least(stop - pixel, SUMMED);
            if (lines) gather_lines(&p, scratch, t.a_row, pixel, n);
            else gather_rows(&p, scratch, t.a_depth, pixel, n, row, rows);
            t.accumulate = pixel > index * a->piece;
            t.b = packed ? panel : a->d_out + pixel * a->filters + first;
            t.b_next = packed ? 0 : t.b + n * a->filters;
            for (int64_t q = 0; q < m && (packed || d_bias); q += PANEL) {
                const int64_t at = pixel * a->filters + first + q;
                gradient_panel(packed ? panel + q * SUMMED : 0, d_z ? d_z + at : 0, d_bias ? d_bias + q : 0, a->d_out + at,
                               a->out ? a->out + at : 0, n, least(m - q, PANEL), a->filters, a->activation);
            }
            for (int64_t r = 0; r < rows; r += SUM_TILE) {       /* what these rows read of the patches stays in L1 */
                t.a = scratch + r * t.a_row;
                t.out = a->d_kernel + (index * depth + row + r) * a->filters + first;
                tile_multiply(&t, least(rows - r, SUM_TILE));
            }
        }
    }
}

/* ---- the named algorithm im2col: a matrix of patches in memory ---- */

/* patches = what each window sees.  One item: one patch. */
KERNEL(im2col, a->batch * a->out_height * a->out_width, 2.0 * a->kernel_height * a->kernel_width * a->channels,
    float *patches;       /* (batch, out_height, out_width, kernel_height, kernel_width, channels) */
    const float *images;  /* (batch, height, width, channels) */
    int64_t batch;
    int64_t height;
    int64_t width;
    int64_t channels;
    int64_t out_height;
    int64_t out_width;
    int64_t kernel_height;
    int64_t kernel_width;
    int64_t stride_height;
    int64_t stride_width;
    int64_t dilation_height;
    int64_t dilation_width;
    int64_t top;
    int64_t left;)
{
    float *to = a->patches + begin * a->kernel_height * a->kernel_width * a->channels;
    for (int64_t i = begin; i < end; i++) {
        const int64_t x = i % a->out_width * a->stride_width - a->left, image = i / a->out_width / a->out_height * a->height;
        const int64_t y = i / a->out_width % a->out_height * a->stride_height - a->top;
        for (int64_t k = 0; k < a->kernel_height * a->kernel_width; k++, to += a->channels) {
            const int64_t from_y = y + k / a->kernel_width * a->dilation_height, from_x = x + k % a->kernel_width * a->dilation_width;
            const int inside = from_y >= 0 && from_y < a->height && from_x >= 0 && from_x < a->width;
            const size_t size = (size_t)a->channels * sizeof(float);
            if (inside) memcpy(to, a->images + ((image + from_y) * a->width + from_x) * a->channels, size);
            else memset(to, 0, size);
        }
    }
}

/* images = the sum of all places of the patches that saw a number: the transpose of im2col.  One item: one row of an image. */
KERNEL(col2im, a->batch * a->height,
       2.0 * a->width * a->channels * a->kernel_height * a->kernel_width / (a->stride_height * a->stride_width),
    float *images;        /* (batch, height, width, channels) */
    const float *patches; /* (batch, out_height, out_width, kernel_height, kernel_width, channels) */
    int64_t batch;
    int64_t height;
    int64_t width;
    int64_t channels;
    int64_t out_height;
    int64_t out_width;
    int64_t kernel_height;
    int64_t kernel_width;
    int64_t stride_height;
    int64_t stride_width;
    int64_t dilation_height;
    int64_t dilation_width;
    int64_t top;
    int64_t left;)
{
    for (int64_t i = begin; i < end; i++) {
        const int64_t size = a->kernel_height * a->kernel_width * a->channels;       /* of a patch */
        float *row = a->images + i * a->width * a->channels;
        memset(row, 0, (size_t)(a->width * a->channels) * sizeof(float));
        for (int64_t k = 0; k < a->kernel_height * a->kernel_width; k++) {
            const int64_t y = i % a->height + a->top - k / a->kernel_width * a->dilation_height;
            if (y < 0 || y % a->stride_height || y / a->stride_height >= a->out_height) continue;
            const int64_t x = k % a->kernel_width * a->dilation_width - a->left;     /* where output 0 sees the row */
            const int64_t first = x < 0 ? pieces(-x, a->stride_width) : 0;
            const int64_t stop = x < a->width ? least((a->width - 1 - x) / a->stride_width + 1, a->out_width) : 0;
            const int64_t patch = (i / a->height * a->out_height + y / a->stride_height) * a->out_width;
            const float *from = a->patches + patch * size + k * a->channels;
            for (int64_t o = first; o < stop; o++) {
                float *to = row + (x + o * a->stride_width) * a->channels;
                for (int64_t c = 0; c < a->channels; c += VL) {
                    const int64_t n = a->channels - c;
                    vstore_n(to + c, vload_n(to + c, n) + vload_n(from + o * size + c, n), n);
                }
            }
        }
    }
}
