/* Convolutions of operands rounded to bfloat16, with sums in float32: convolution.c with patches and panels of pairs. */
#define ITEMS 8              /* products take half the time of those in float32, gathering does not */
#include "patches.h"
#include "tile_bf16.h"

enum {
    PAIR_PATCHES = 84,       /* pixels gathered at once */
    PAIR_PATCH_DEPTH = 768,  /* most numbers of a patch gathered at once; even */
    PAIR_SUMMED = 256,       /* pixels gathered at once for the kernel's gradient, */
    PAIR_SUM_ROWS = 588,     /* rows */
    PAIR_SUM_COLUMNS = 512,  /* and columns of it that an item computes, */
    PAIR_SUM_TILE = 42,      /* so many rows at once */
};

/* n numbers rounded; whole vectors are stored, with zeros behind. */
INLINE void rounded_run(void *to, const float *from, int64_t n) { pair_run(to, from, n); }

INLINE void rounded_zeros(void *to, int64_t n)
{
    for (uint32_t *x = to; n > 0; n -= 2 * VL, x += VL) vustore(x, (vu)viset(0));
}

/* Numbers first .. first + depth (first even) of the patches of n pixels, rounded, pixel by pixel: to[i * to_row + p / 2]. */
static void gather_rounded(const patches *a, uint32_t *to, int64_t to_row, int64_t pixel, int64_t n, int64_t first, int64_t depth)
{
    gather(a, to, 4 * to_row, 2, rounded_run, rounded_zeros, pixel, n, first, depth);
    for (int64_t i = 0; i < n && depth % 2; i++) ((uint16_t *)(to + i * to_row))[depth] = 0;
}

/* Where the images of the pixels from `pixel` on begin, roughly. */
INLINE const char *images_of(const patches *a, int64_t pixel)
{
    return (const char *)(a->images + pixel * a->height * a->width / (a->out_height * a->out_width) * a->channels);
}

/* t for the patches of n pixels and `columns` columns, as multiply_patches of convolution.c does; a panel has `panel` pairs. The first
   columns fetch what t.later says, the last ones the next images. */
static void multiply_rounded(const patches *a, pair_tile t, int64_t depth, int64_t pixel, int64_t n, int64_t columns, int64_t panel,
                             char *scratch)
{
    const pair_tile whole = t;
    const int64_t parts = most(pieces(depth, PAIR_PATCH_DEPTH), 1), part = most(pieces(pieces(depth, parts), 2) * 2, 2);
    const char *soon = images_of(a, pixel + n), *end = images_of(a, pixel + 2 * n);
    t.a = (uint32_t *)scratch, t.a_depth = 1;
    for (int64_t first = 0; first == 0 || first < depth; first += part) {
        const int64_t some = least(part, depth - first);
        const int last = first + part >= depth;
        t.pairs = pieces(some, 2);
        t.a_row = pair_stride(some);
        if (some) gather_rounded(a, (uint32_t *)scratch, t.a_row, pixel, n, first, some);
        t.accumulate = first > 0;
        t.activation = last ? whole.activation : ACT_LINEAR;
        for (int64_t column = 0; column < columns; column += PANEL) {
            t.out = whole.out + column;
            t.b = whole.b + column / PANEL * panel + first / 2 * PANEL;
            t.bias = last && whole.bias ? whole.bias + column : 0;
            t.columns = least(columns - column, PANEL);
            t.ahead = column + PANEL < columns ? panel : 0;
            t.later = t.ahead ? (column || first ? 0 : whole.later) : soon < end ? soon : 0;
            pair_multiply(&t, n);
        }
        soon += 64 * t.pairs * pieces(n, PAIR_ROWS);
    }
}

/* conv2d of operands rounded to bfloat16.  One item: some pixels by some panels of a group. */
KERNEL(conv2d_bf16, shares(a->batch * a->out_height * a->out_width, a->groups, a->filters / a->groups, PAIR_PATCHES),
       PAIR_PATCHES * PANEL / 12.0 * a->kernel_height * a->kernel_width * a->channels / a->groups,
    float *out;           /* (batch, out_height, out_width, filters) */
    const float *images;  /* (batch, height, width, channels) */
    const uint32_t *panels;       /* by pack_bf16: (groups, panels of (kernel_height * kernel_width * channels / groups, filters / groups)) */
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
    const uint32_t state = flush_denormals();
    const int64_t pixels = a->batch * a->out_height * a->out_width, taken = a->channels / a->groups, columns = a->filters / a->groups;
    const int64_t depth = a->kernel_height * a->kernel_width * taken, panel = PANEL * pieces(depth, 2);
    for (int64_t i = begin; i < end; i++) {
        const share s = share_of(i, pixels, a->groups, columns, PAIR_PATCHES);
        const int64_t first = s.group * columns + s.column;
        const patches p = {
            a->images + s.group * taken, a->height, a->width, a->channels, a->out_height, a->out_width,
            a->kernel_height, a->kernel_width, a->stride_height, a->stride_width, a->dilation_height, a->dilation_width,
            a->top, a->left, taken,
        };
        const pair_tile t = {
            .out = a->out + s.pixel * a->filters + first, .out_row = a->filters,
            .b = a->panels + (s.group * pieces(columns, PANEL) + s.column / PANEL) * panel,
            .bias = a->bias ? a->bias + first : 0, .activation = a->activation,
        };
        multiply_rounded(&p, t, depth, s.pixel, s.stop - s.pixel, s.end - s.column, panel, worker->scratch);
    }
    keep_denormals(state);
}

/* ---- the gradient of the images: see convolution.c ---- */

/* Pairs of a class's rows of a panel; classes begin at whole pairs. */
INLINE int64_t class_pairs(taps v, taps h, int64_t taken) { return pieces(v.n * h.n * taken, 2); }

/* Pairs of a panel of all classes, or of those before `stop`. */
static int64_t flipped_pairs(int64_t stop, int64_t kernel_height, int64_t kernel_width, int64_t stride_height, int64_t stride_width,
                             int64_t dilation_height, int64_t dilation_width, int64_t top, int64_t left, int64_t taken)
{
    int64_t pairs = 0;
    for (int64_t class = 0; class < stop; class++)
        pairs += class_pairs(taps_of(class / stride_width, top, kernel_height, stride_height, dilation_height),
                             taps_of(class % stride_width, left, kernel_width, stride_width, dilation_width), taken);
    return pairs;
}

/* The kernel as conv2d_d_images_bf16 wants it.  One item: one panel of a group. */
KERNEL(conv2d_pack_flipped_bf16, a->groups * pieces(a->channels / a->groups, PANEL),
       0.7 * PANEL * a->kernel_height * a->kernel_width * a->filters / a->groups,
    uint32_t *panels;     /* (groups, panels, pairs, 32) */
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
    const int64_t classes = a->stride_height * a->stride_width;
    const int64_t pairs = flipped_pairs(classes, a->kernel_height, a->kernel_width, a->stride_height, a->stride_width,
                                        a->dilation_height, a->dilation_width, a->top, a->left, taken);
    for (int64_t i = begin; i < end; i++) {
        const int64_t g = i / panels, q = i % panels, n = least(columns - q * PANEL, PANEL);
        uint32_t *out = a->panels + i * PANEL * pairs;
        for (int64_t class = 0; class < classes; class++) {
            const taps v = taps_of(class / a->stride_width, a->top, a->kernel_height, a->stride_height, a->dilation_height);
            const taps h = taps_of(class % a->stride_width, a->left, a->kernel_width, a->stride_width, a->dilation_width);
            const int64_t rows = v.n * h.n * taken;
            if (taken % 2 == 0)
                for (int64_t j = 0; j < v.n * h.n; j++) {
                    const int64_t ky = v.last - j / h.n * v.step, kx = h.last - j % h.n * h.step;
                    pair_panel(out + j * taken / 2 * PANEL, a->kernel + ((ky * a->kernel_width + kx) * columns + q * PANEL) * a->filters + g * taken,
                               1, a->filters, taken, n);
                }
            else
                for (int64_t p = 0; p < rows; p++) {
                    const int64_t j = p / taken, ky = v.last - j / h.n * v.step, kx = h.last - j % h.n * h.step;
                    const float *from = a->kernel + ((ky * a->kernel_width + kx) * columns + q * PANEL) * a->filters + g * taken + p % taken;
                    for (int64_t c = 0; c < PANEL; c++) {
                        const uint32_t one = c < n ? pair_of(from + c * a->filters, 0, 1) : 0;
                        out[p / 2 * PANEL + c] = p % 2 ? out[p / 2 * PANEL + c] | one << 16 : one;
                    }
                }
            out += pieces(rows, 2) * PANEL;
        }
    }
}

/* conv2d_d_images of operands rounded to bfloat16.  One item: some positions of a class by some panels of a group. */
KERNEL(conv2d_d_images_bf16, shares(CLASS_SHARES(a, PAIR_PATCHES)),
       PAIR_PATCHES * PANEL / 12.0 * a->kernel_height * a->kernel_width * a->filters / a->groups / (a->stride_height * a->stride_width),
    float *d_images;      /* (batch, height, width, channels) */
    const float *d_out;   /* (batch, out_height, out_width, filters), before the activation */
    const uint32_t *panels;       /* of conv2d_pack_flipped_bf16 */
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
    int64_t accumulate;   /* 1, where strides make several classes: added to what is in d_images */)
{
    const uint32_t state = flush_denormals();
    const int64_t taken = a->filters / a->groups, columns = a->channels / a->groups, panels = pieces(columns, PANEL);
    const int64_t classes = a->stride_height * a->stride_width;
    const int64_t pairs = flipped_pairs(classes, a->kernel_height, a->kernel_width, a->stride_height, a->stride_width,
                                        a->dilation_height, a->dilation_width, a->top, a->left, taken);
    float *result = (float *)worker->scratch;
    for (int64_t i = begin; i < end; i++) {
        const share s = share_of(i, CLASS_SHARES(a, PAIR_PATCHES));
        const int64_t class = s.group % classes, g = s.group / classes, pixel = s.pixel;
        const int64_t cy = class / a->stride_width, cx = class % a->stride_width;
        const int64_t rows = most(pieces(a->height - cy, a->stride_height), 0);
        const int64_t row = most(pieces(a->width - cx, a->stride_width), 0);
        const int64_t n = least(a->batch * rows * row, s.stop) - pixel;
        if (n <= 0) continue;                                /* the first class has the most positions */
        const int64_t before = flipped_pairs(class, a->kernel_height, a->kernel_width, a->stride_height, a->stride_width,
                                             a->dilation_height, a->dilation_width, a->top, a->left, taken);
        const taps v = taps_of(cy, a->top, a->kernel_height, a->stride_height, a->dilation_height);
        const taps h = taps_of(cx, a->left, a->kernel_width, a->stride_width, a->dilation_width);
        const patches p = {
            a->d_out + g * taken, a->out_height, a->out_width, a->filters, rows, row, v.n, h.n, 1, 1,
            v.step * a->dilation_height / a->stride_height, h.step * a->dilation_width / a->stride_width,
            -((cy + a->top - v.last * a->dilation_height) / a->stride_height),
            -((cx + a->left - h.last * a->dilation_width) / a->stride_width), taken,
        };
        for (int64_t column = s.column, m; column < s.end; column += m) {
            m = least(s.end - column, classes == 1 ? columns : PAIR_SUM_COLUMNS);
            const pair_tile t = {
                .out = classes == 1 ? a->d_images + pixel * a->channels + g * columns + column : result,
                .out_row = classes == 1 ? a->channels : m,
                .b = a->panels + (g * panels * PANEL + column) * pairs + before * PANEL,
                .later = classes == 1 ? 0 : /* a share of the lines of the next positions of all classes */
                    (const char *)(a->d_images + ((pixel + n) * classes + class * n) * a->channels),
            };
            multiply_rounded(&p, t, v.n * h.n * taken, pixel, n, m, PANEL * pairs,
                             worker->scratch + PAIR_PATCHES * PAIR_SUM_COLUMNS * sizeof(float));
            int64_t image = pixel / row / rows, y = pixel / row % rows, x = pixel % row;
            for (int64_t j = 0; classes > 1 && j < n; j++) {
                const int64_t place = (image * a->height + y * a->stride_height + cy) * a->width + x * a->stride_width + cx;
                float *to = a->d_images + place * a->channels + g * columns + column;
                if (!a->accumulate) memcpy(to, result + j * m, (size_t)m * sizeof(float));
                else for (int64_t c = 0; c < m; c += VL) vstore_n(to + c, vload_n(to + c, m - c) + vload_n(result + j * m + c, m - c), m - c);
                if (++x == row) x = 0, y++;
                if (y == rows) y = 0, image++;
            }
        }
    }
    keep_denormals(state);
}

/* ---- the gradients of the kernel and the bias ---- */

/* Where the run r of the patch of a pixel begins: from `line` on, of which there are numbers low .. high only. */
INLINE const float *run_of_patch(const patches *a, int64_t pixel, int64_t columns, int64_t r, int64_t *low, int64_t *high)
{
    const int64_t row = pixel / a->out_width, x = pixel % a->out_width, y = row % a->out_height, line = a->width * a->channels;
    const int64_t from_y = y * a->stride_height - a->top + r / columns * a->dilation_height;
    const int64_t at = (x * a->stride_width - a->left + r % columns * a->dilation_width) * a->channels;
    const int inside = from_y >= 0 && from_y < a->height;
    *low = -at, *high = inside ? line - at : *low;
    return a->images + (row / a->out_height * a->height + (inside ? from_y : 0)) * line + at;
}

/* The run's numbers i .. i + VL, with zeros from `stop` on and outside of low .. high. */
INLINE vf run_vector(const float *run, int64_t i, int64_t stop, int64_t low, int64_t high)
{
    if (i >= low && i + VL <= least(high, stop)) return vload(run + i);
    if (i >= low) return vload_n(run + (i < high ? i : low), most(least(high, stop) - i, 0));
    float part[VL];
    for (int64_t k = 0; k < VL; k++) part[k] = i + k >= low && i + k < least(high, stop) ? run[i + k] : 0;
    return vload(part);
}

/* Numbers first .. first + depth of the patches of n pixels, two pixels to a pair: to[i / 2 * to_row + p]. */
static void gather_paired(const patches *a, uint32_t *to, int64_t to_row, int64_t pixel, int64_t n, int64_t first, int64_t depth)
{
    const int joined = a->dilation_width == 1 && a->taken == a->channels;
    const int64_t length = joined ? a->kernel_width * a->taken : a->taken, columns = joined ? 1 : a->kernel_width;
    for (int64_t i = 0; i < n; i += 2, to += to_row)
        for (int64_t r = first / length; r < a->kernel_height * columns && r * length < first + depth; r++) {
            const int64_t start = most(first - r * length, 0), stop = least(first + depth - r * length, length);
            int64_t low, high, low2 = 0, high2 = 0;
            const float *x = run_of_patch(a, pixel + i, columns, r, &low, &high), *x2 = x;
            if (i + 1 < n) x2 = run_of_patch(a, pixel + i + 1, columns, r, &low2, &high2);
            uint32_t *out = to + r * length - first;
            int64_t k = start;
            if (start >= most(low, low2) && stop <= least(high, high2))
                for (; k + VL <= stop; k += VL) vustore(out + k, vpairs(vload(x + k), vload(x2 + k)));
            for (; k < stop; k += VL)
                vustore(out + k, vpairs(run_vector(x, k, stop, low, high), run_vector(x2, k, stop, low2, high2)));
        }
}

/* As gradient_panel of convolution.c, two pixels to a pair. */
static void gradient_pairs(uint32_t *panel, float *d_z, float *d_bias, const float *d_out, const float *out, int64_t n, int64_t columns,
                           int64_t filters, int64_t activation)
{
    for (int64_t j = 0; j < PANEL; j += VL) {
        const int64_t m = most(least(columns - j, VL), 0);
        vf sum = d_bias ? vload_n(d_bias + j, m) : vset(0);
        for (int64_t i = 0; i < n; i += 2) {
            vf d[2] = { vset(0), vset(0) };
            for (int64_t k = i; k < least(i + 2, n); k++) {
                d[k - i] = vload_n(d_out + k * filters + j, m);
                if (activation) d[k - i] = activate_grad(d[k - i], vload_n(out + k * filters + j, m), activation);
                if (d_z) vstore_n(d_z + k * filters + j, d[k - i], m);
                sum = sum + d[k - i];
            }
            vustore(panel + i / 2 * PANEL + j, vpairs(d[0], d[1]));
        }
        if (d_bias) vstore_n(d_bias + j, sum, m);
    }
}

/* conv2d_d_kernel of operands rounded to bfloat16; d_bias and d_z are not rounded.
   One item: some rows and columns of a group's kernel for one piece. */
KERNEL(conv2d_d_kernel_bf16, pieces(a->batch * a->out_height * a->out_width, a->piece) * a->groups *
       pieces(a->kernel_height * a->kernel_width * (a->channels / a->groups), PAIR_SUM_ROWS) *
       pieces(a->filters / a->groups, PAIR_SUM_COLUMNS),
       a->piece / 12.0 * least(a->kernel_height * a->kernel_width * (a->channels / a->groups), PAIR_SUM_ROWS) *
       least(a->filters / a->groups, PAIR_SUM_COLUMNS),
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
    const uint32_t state = flush_denormals();
    const int64_t pixels = a->batch * a->out_height * a->out_width, taken = a->channels / a->groups, columns = a->filters / a->groups;
    const int64_t depth = a->kernel_height * a->kernel_width * taken;
    const int64_t row_parts = pieces(depth, PAIR_SUM_ROWS), column_parts = pieces(columns, PAIR_SUM_COLUMNS);
    uint32_t *panel = (uint32_t *)worker->scratch, *scratch = panel + PAIR_SUMMED / 2 * PAIR_SUM_COLUMNS;
    for (int64_t i = begin; i < end; i++) {
        const int64_t row = i % row_parts * PAIR_SUM_ROWS, g = i / row_parts / column_parts % a->groups;
        const int64_t column = i / row_parts % column_parts * PAIR_SUM_COLUMNS, first = g * columns + column;
        const int64_t index = i / row_parts / column_parts / a->groups, stop = least((index + 1) * a->piece, pixels);
        const int64_t rows = least(depth - row, PAIR_SUM_ROWS), m = least(columns - column, PAIR_SUM_COLUMNS);
        const patches p = {
            a->images + g * taken, a->height, a->width, a->channels, a->out_height, a->out_width,
            a->kernel_height, a->kernel_width, a->stride_height, a->stride_width, a->dilation_height, a->dilation_width,
            a->top, a->left, taken,
        };
        pair_tile t = { .out_row = a->filters, .a_row = 1, .a_depth = patch_row(rows) };
        float *d_bias = a->d_bias && !row ? a->d_bias + index * a->filters + first : 0, *d_z = row ? 0 : a->d_z;
        if (d_bias) memset(d_bias, 0, (size_t)m * sizeof(float));
        for (int64_t pixel = index * a->piece; pixel < stop; pixel += PAIR_SUMMED) {
            const int64_t n = least(stop - pixel, PAIR_SUMMED);
            gather_paired(&p, scratch, t.a_depth, pixel, n, row, rows);
            t.pairs = pieces(n, 2), t.accumulate = pixel > index * a->piece;
            for (int64_t q = 0; q < m; q += PANEL) {
                const int64_t at = pixel * a->filters + first + q;
                gradient_pairs(panel + q * PAIR_SUMMED / 2, d_z ? d_z + at : 0, d_bias ? d_bias + q : 0, a->d_out + at,
                               a->out ? a->out + at : 0, n, least(m - q, PANEL), a->filters, a->activation);
            }
            /* The next pixels are fetched meanwhile: their images, then their gradients. */
            const int64_t next = pixel + n < stop ? pixel + n : (i + 1) / row_parts / column_parts / a->groups * a->piece;
            const char *soon = images_of(&p, next), *end = images_of(&p, next + n), *gradients = (const char *)(a->d_out + next * a->filters);
            for (int64_t r = 0; r < rows; r += PAIR_SUM_TILE)    /* what these rows read of the patches stays in L1 */
                for (int64_t q = 0; q < m; q += PANEL) {
                    t.a = scratch + r, t.b = panel + q * PAIR_SUMMED / 2, t.columns = least(m - q, PANEL);
                    t.out = a->d_kernel + (index * depth + row + r) * a->filters + first + q;
                    t.later = soon < end ? soon : 0;
                    pair_multiply(&t, least(rows - r, PAIR_SUM_TILE));
                    soon += 64 * t.pairs * pieces(least(rows - r, PAIR_SUM_TILE), PAIR_ROWS);
                    if (soon >= end && gradients) soon = gradients, end = gradients + 4 * n * a->filters, gradients = 0;
                }
        }
    }
    keep_denormals(state);
}
