/* Winograd convolution: kernels of 3 x 3, stride 1. Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016.

   F(m x m, 3 x 3), m 4 or 2: m x m results of a tile come from a window of n x n numbers, n = m + 2. Along one axis

       y = A^T ((G g) * (B^T d))        d: n numbers of the image, g: 3 of the kernel, y: m results

   which multiplies polynomials by their values at n points: 0, infinity, and NEAR, -NEAR, FAR, -FAR (m = 4) or 1, -1 (m = 2). In two
   dimensions each point is a pair of them, and at each of the n * n points the sum over the channels is a matrix product
   (tiles, channels) @ (channels, filters). The gradient of the kernel is G^T ((A d_y) * (B^T d)) summed over tiles.

   NEAR and FAR decide the rounding error: with 3/4 and 3/2 it is a quarter of that with the usual 1 and 2 (see fastdl/ops/winograd.py).
   The division of Lagrange's formula is in G: B and A have few digits and are exact. */
#include "tile.h"

#define NEAR 0.75f
#define FAR 1.5f
#define NEAR2 (NEAR * NEAR)
#define FAR2 (FAR * FAR)

enum {
    CHUNK = 64,              /* channels or filters at once: two panels */
    SUM_FILTERS = 128,       /* filters of the kernel's gradient at once, */
    SUM_TILES = 56,          /* and tiles transformed for it */
};

/* Lagrange's formula for the pair r of points, p and -p: p^power / N, N being the product of p's distances from the others. */
INLINE float lagrange(const int m, const int r, const int power)
{
    const float p = m == 2 ? 1 : r == 1 ? NEAR : FAR;
    const double below = m == 2 ? 2.0 : 2.0 * p * p * (r == 1 ? NEAR2 - FAR2 : FAR2 - NEAR2);
    return (float)((power > 0 ? p : 1) * (power > 1 ? p : 1) / below);
}

/* ---- the transforms along one axis. Points come in pairs: 0 and infinity, then p and -p. ---- */

/* B^T d: the numbers d (n) at the pair r. */
INLINE void image_pair(vf *low, vf *high, const vf *d, const int m, const int r)
{
    if (m == 2) {
        *low = r ? d[2] + d[1] : d[2] - d[0];
        *high = r ? d[2] - d[1] : d[3] - d[1];
    } else if (!r) {
        const vf all = vset(NEAR2 * FAR2), both = vset(-NEAR2 - FAR2);
        *low = vfma(d[0], all, vfma(d[2], both, d[4]));
        *high = vfma(d[1], all, vfma(d[3], both, d[5]));
    } else {
        const float p = r == 1 ? NEAR : FAR, other = r == 1 ? FAR2 : NEAR2;
        const vf even = vfma(d[2], vset(-other), d[4]), odd = vfma(d[1], vset(-other * p), d[3] * vset(p));
        *low = even + odd;
        *high = even - odd;
    }
}

/* G g: the kernel g (3) at the pair r. */
INLINE void kernel_pair(vf *low, vf *high, const vf *g, const int m, const int r)
{
    if (!r) {
        *low = g[0] * vset(m == 2 ? -1 : 1 / (NEAR2 * FAR2));
        *high = g[2];
    } else {
        const vf even = vfma(g[2], vset(lagrange(m, r, 2)), g[0] * vset(lagrange(m, r, 0))), odd = g[1] * vset(lagrange(m, r, 1));
        *low = even + odd;
        *high = even - odd;
    }
}

/* A y: the gradient y (m) of the results at the pair r. */
INLINE void gradient_pair(vf *low, vf *high, const vf *y, const int m, const int r)
{
    if (!r) {
        *low = y[0];
        *high = y[m - 1];
    } else {
        const float p = r == 1 ? NEAR : FAR;
        const vf even = m == 2 ? y[0] : vfma(y[2], vset(p * p), y[0]), odd = m == 2 ? y[1] : vfma(y[3], vset(p * p * p), y[1] * vset(p));
        *low = even + odd;
        *high = even - odd;
    }
}

/* y += A^T x: what the pair r adds to the results y (m); pair 0 comes first, and sets y. */
INLINE void result_pair(vf *y, const vf low, const vf high, const int m, const int r)
{
    if (!r) {
        UNROLL for (int k = 0; k < m; k++) y[k] = vset(0);
        y[0] = low;
        y[m - 1] = high;
        return;
    }
    const vf even = low + high, odd = low - high;
    const float p = m == 2 ? 1 : r == 1 ? NEAR : FAR;
    y[0] = y[0] + even;
    if (m == 2) y[1] = y[1] + odd;
    else {
        y[1] = r == 1 ? odd * vset(p) : vfma(odd, vset(p), y[1]);
        y[2] = r == 1 ? even * vset(p * p) : vfma(even, vset(p * p), y[2]);
        y[3] = vfma(odd, vset(p * p * p), y[3]);
    }
}

/* g += G^T x: what the pair r adds to the gradient g (3) of the kernel. */
INLINE void kernel_result_pair(vf *g, const vf low, const vf high, const int m, const int r)
{
    if (!r) {
        g[0] = low * vset(m == 2 ? -1 : 1 / (NEAR2 * FAR2));
        g[1] = vset(0);
        g[2] = high;
        return;
    }
    const vf even = low + high, odd = low - high;
    g[0] = vfma(even, vset(lagrange(m, r, 0)), g[0]);
    g[1] = r == 1 ? odd * vset(lagrange(m, r, 1)) : vfma(odd, vset(lagrange(m, r, 1)), g[1]);
    g[2] = vfma(even, vset(lagrange(m, r, 2)), g[2]);
}

/* ---- in two dimensions: VL channels or filters of a tile. Points (i, j) are numbered i * n + j and lie `point` floats apart. Those of a
   pair of rows i are a band: transformed, multiplied and summed up band by band, as the second cache holds a band, not all points. ---- */

#define BANDS(m) ((m) / 2 + 1)

/* Numbers c of the runs at[i * size + j] at the points of band r. `pair` is one of the transforms above, of `size` numbers. */
#define TO_BAND(to, point, at, c, m, r, size, pair)                                                                    \
    {                                                                                                                  \
        vf half[2][6];                                                                                                 \
        UNROLL for (int j = 0; j < (size); j++) {                                                                      \
            vf line[6];                                                                                                \
            UNROLL for (int i = 0; i < (size); i++) line[i] = vload((at)[i * (size) + j] + (c));                       \
            pair(&half[0][j], &half[1][j], line, m, r);                                                                \
        }                                                                                                              \
        UNROLL for (int h = 0; h < 2; h++)                                                                             \
            UNROLL for (int s = 0; s < BANDS(m); s++) {                                                                \
                vf low, high;                                                                                          \
                pair(&low, &high, half[h], m, s);                                                                      \
                vstore((to) + (h * (m + 2) + 2 * s) * (point), low);                                                   \
                vstore((to) + (h * (m + 2) + 2 * s + 1) * (point), high);                                              \
            }                                                                                                          \
    }

/* A call with m and the band r known to the compiler. */
#define KNOWN(m, r, call)                                                                                              \
    switch (2 * (r) + ((m) == 4)) {                                                                                    \
    case 0: call(2, 0); break;                                                                                         \
    case 1: call(4, 0); break;                                                                                         \
    case 2: call(2, 1); break;                                                                                         \
    case 3: call(4, 1); break;                                                                                         \
    default: call(4, 2); break;                                                                                        \
    }

/* y (size, size) from all points. */
#define FROM_POINTS(y, from, point, m, size, pair)                                                                     \
    UNROLL for (int r = 0; r < BANDS(m); r++) {                                                                        \
        vf half[2][4];                                                                                                 \
        UNROLL for (int h = 0; h < 2; h++)                                                                             \
            UNROLL for (int s = 0; s < BANDS(m); s++) {                                                                \
                const float *at = (from) + ((2 * r + h) * (m + 2) + 2 * s) * (point);                                  \
                pair(half[h], vload(at), vload(at + (point)), m, s);                                                   \
            }                                                                                                          \
        UNROLL for (int j = 0; j < (size); j++) {                                                                      \
            vf line[4];                                                                                                \
            UNROLL for (int i = 0; i < (size); i++) line[i] = (y)[i][j];                                               \
            pair(line, half[0][j], half[1][j], m, r);                                                                  \
            UNROLL for (int i = 0; i < (size); i++) (y)[i][j] = line[i];                                               \
        }                                                                                                              \
    }

/* ---- tiles of images ---- */

INLINE int64_t whole16(int64_t n) { return (n + 15) / 16 * 16; }      /* the same on every instruction set */

/* From point to point: never a multiple of 4 KiB, where all points of a tile would meet in the same few lines of the cache. */
INLINE int64_t apart(int64_t n) { return n + 16; }

/* Tile (image, i, j) starts at row i * step - top and column j * step - left of its image. */
typedef struct tiling {
    const float *images;
    int64_t height, width, channels, down, across, step, top, left;
} tiling;

static const float zeros[CHUNK];

/* Where the numbers of the size x size window of a tile are, from channel `first` on: at[i * size + j] points to `count` of them, in the
   images, where `zeros` are outside, or, where `count` does not fill vectors, in `patch`. */
static void window_of(const float **at, const tiling *t, int64_t tile, int64_t size, int64_t first, int64_t count, float *patch)
{
    const int64_t y = tile / t->across % t->down * t->step - t->top, x = tile % t->across * t->step - t->left;
    const float *image = t->images + tile / t->across / t->down * t->height * t->width * t->channels + first;
    for (int64_t i = 0; i < size; i++)
        for (int64_t j = 0; j < size; j++) {
            const int inside = (uint64_t)(y + i) < (uint64_t)t->height && (uint64_t)(x + j) < (uint64_t)t->width;
            at[i * size + j] = inside ? image + ((y + i) * t->width + x + j) * t->channels : zeros;
        }
    if (count % 16 == 0) return;
    for (int64_t k = 0; k < size * size; k++, patch += CHUNK) {
        for (int64_t c = 0; c < whole16(count); c += VL) vstore(patch + c, vload_n(at[k] + c, most(count - c, 0)));
        at[k] = patch;
    }
}

/* `count` channels of n tiles at the points of a band: v[point][tile][channel], a tile taking whole16(count). */
static void transform_images(float *v, int64_t point, const tiling *t, int64_t tile, int64_t n, int64_t first, int64_t count, float *patch,
                             int64_t m, int64_t band)
{
    const int64_t wide = whole16(count);
    const float *at[36];
    for (int64_t i = 0; i < n; i++, v += wide) {
        window_of(at, t, tile + i, m + 2, first, count, patch);
#define CALL(m, r) for (int64_t c = 0; c < wide; c += VL) TO_BAND(v + c, point, at, c, m, r, m + 2, image_pair)
        KNOWN(m, band, CALL)
#undef CALL
    }
}

/* `count` filters of the gradients of n tiles at the points of a band, in panels: v[point][panel][tile][PANEL]. */
static void transform_gradients(float *v, int64_t point, const tiling *t, int64_t tile, int64_t n, int64_t first, int64_t count, float *patch,
                                int64_t m, int64_t band)
{
    const float *at[16];
    for (int64_t i = 0; i < n; i++, v += PANEL) {
        window_of(at, t, tile + i, m, first, count, patch);
#define CALL(m, r)                                                                                                     \
        for (int64_t c = 0; c < whole16(count); c += VL)                                                               \
            TO_BAND(v + c / PANEL * n * PANEL + c % PANEL, point, at, c, m, r, m, gradient_pair)
        KNOWN(m, band, CALL)
#undef CALL
    }
}

/* u[point][row][PANEL], the points of a band, from a panel of the kernel: w[place * step + row * PANEL + column]. */
static void transform_kernel(float *u, int64_t point, const float *w, int64_t step, int64_t rows, int64_t m, int64_t band)
{
    const float *at[9];
    for (int i = 0; i < 9; i++) at[i] = w + i * step;
#define CALL(m, r) for (int64_t c = 0; c < rows * PANEL; c += VL) TO_BAND(u + c, point, at, c, m, r, 3, kernel_pair)
    KNOWN(m, band, CALL)
#undef CALL
}

/* Results of n tiles, `columns` filters from `out`, which points to the first of them in the first image. */
INLINE void store_results_of(float *out, const tiling *t, int64_t tile, int64_t n, const float *products, int64_t point, int64_t columns,
                             const float *bias, int64_t activation, const int m)
{
    for (int64_t i = 0; i < n; i++, tile++) {
        const int64_t top = tile / t->across % t->down * m, left = tile % t->across * m;
        const int64_t rows = least(t->height - top, m), across = least(t->width - left, m);
        float *to = out + ((tile / t->across / t->down * t->height + top) * t->width + left) * t->channels;
        for (int64_t c = 0; c < columns; c += VL) {
            const int64_t left_over = columns - c;
            const vf b = bias ? vload_n(bias + c, left_over) : vset(-0.0f);
            vf y[4][4];
            FROM_POINTS(y, products + i * CHUNK + c, point, m, m, result_pair)
            UNROLL for (int r = 0; r < m; r++)
                UNROLL for (int q = 0; q < m; q++) y[r][q] = activate(y[r][q] + b, activation);
            if (rows == m && across == m && left_over >= VL) {
                UNROLL for (int r = 0; r < m; r++)
                    UNROLL for (int q = 0; q < m; q++) vstore(to + c + (r * t->width + q) * t->channels, y[r][q]);
            } else {
                UNROLL for (int r = 0; r < m; r++)
                    UNROLL for (int q = 0; q < m; q++)
                        if (r < rows && q < across) vstore_n(to + c + (r * t->width + q) * t->channels, y[r][q], left_over);
            }
        }
    }
}

static void store_results(float *out, const tiling *t, int64_t tile, int64_t n, const float *products, int64_t point, int64_t columns,
                          const float *bias, int64_t activation, int64_t m)
{
#define CASE(act) \
    if (m == 4) store_results_of(out, t, tile, n, products, point, columns, bias, act, 4); \
    else store_results_of(out, t, tile, n, products, point, columns, bias, act, 2)
    switch (activation) {
    case ACT_LINEAR: CASE(ACT_LINEAR); break;
    case ACT_RELU: CASE(ACT_RELU); break;
    default: CASE(activation); break;
    }
#undef CASE
}

/* ---- the convolution, and with the kernel flipped the gradient of the images ---- */

INLINE int64_t tiles_of(int64_t batch, int64_t height, int64_t width, int64_t m) { return batch * pieces(height, m) * pieces(width, m); }

/* All windows at all points, for layers whose channels do not fit into scratch.  One item: CHUNK channels of `block` tiles. */
KERNEL(winograd_images, pieces(tiles_of(a->batch, a->out_height, a->out_width, a->tile), a->block) * pieces(a->channels, CHUNK),
       (double)a->block * CHUNK * (a->tile + 2) * (a->tile + 2) * 1.5,
    float *v;             /* (chunks of channels, points, tiles, at most 64 channels), and 16 zeros behind each point */
    const float *images;  /* (batch, height, width, channels) */
    int64_t batch;
    int64_t height;
    int64_t width;
    int64_t channels;
    int64_t out_height;
    int64_t out_width;
    int64_t top;
    int64_t left;
    int64_t tile;
    int64_t block;)
{
    const int64_t tiles = tiles_of(a->batch, a->out_height, a->out_width, a->tile), points = (a->tile + 2) * (a->tile + 2);
    const int64_t chunks = pieces(a->channels, CHUNK);
    const tiling t = { a->images, a->height, a->width, a->channels, pieces(a->out_height, a->tile), pieces(a->out_width, a->tile),
                       a->tile, a->top, a->left };
    for (int64_t i = begin; i < end; i++) {
        const int64_t tile = i / chunks * a->block, first = i % chunks * CHUNK, count = least(a->channels - first, CHUNK);
        const int64_t wide = whole16(count), point = apart(tiles * wide);
        float *v = a->v + first / CHUNK * points * apart(tiles * CHUNK);
        for (int64_t r = 0; r < BANDS(a->tile); r++)
            transform_images(v + 2 * r * (a->tile + 2) * point + tile * wide, point, &t, tile, least(tiles - tile, a->block), first, count,
                             (float *)worker->scratch, a->tile, r);
        for (int64_t p = 0; tile == 0 && p < points; p++) memset(v + p * point + tiles * wide, 0, 16 * sizeof(float));
    }
}

/* out = activation(bias + convolution).  One item: `block` tiles by a part of the filters, 64 after 64. */
KERNEL(winograd, pieces(tiles_of(a->batch, a->out_height, a->out_width, a->tile), a->block) * a->parts,
       a->block / 6.0 * (a->tile + 2) * (a->tile + 2) * a->channels * a->filters / a->parts,
    float *out;           /* (batch, out_height, out_width, filters) */
    OPTIONAL const float *images;    /* (batch, height, width, channels) */
    OPTIONAL const float *v;         /* of winograd_images, else from images in scratch */
    const float *panels;  /* of the kernel: (9, channels, 32) each, from place to place `step` and from panel to panel `panel` floats */
    OPTIONAL const float *bias;      /* (filters) */
    int64_t batch;
    int64_t height;
    int64_t width;
    int64_t channels;
    int64_t out_height;
    int64_t out_width;
    int64_t filters;
    int64_t top;
    int64_t left;
    int64_t step;
    int64_t panel;
    int64_t activation;
    int64_t tile;
    int64_t block;
    int64_t parts;)
{
    const int64_t tiles = tiles_of(a->batch, a->out_height, a->out_width, a->tile), points = (a->tile + 2) * (a->tile + 2);
    const int64_t blocks = pieces(tiles, a->block), groups = pieces(a->filters, CHUNK), width = 2 * (a->tile + 2);    /* of a band */
    const int64_t down = pieces(a->out_height, a->tile), across = pieces(a->out_width, a->tile);
    const tiling from = { a->images, a->height, a->width, a->channels, down, across, a->tile, a->top, a->left };
    const tiling to = { 0, a->out_height, a->out_width, a->filters, down, across, a->tile, 0, 0 };
    const int64_t point = apart(a->block * CHUNK), u_point = apart(CHUNK * CHUNK);
    float *products = (float *)worker->scratch, *u = products + points * point, *patch = u + width * u_point, *own = patch + points * CHUNK;
    for (int64_t i = begin; i < end; i++) {
        const int64_t tile = i % blocks * a->block, n = least(tiles - tile, a->block), part = i / blocks;
        for (int64_t g = groups * part / a->parts; g < groups * (part + 1) / a->parts; g++) {
            const int64_t columns = least(a->filters - g * CHUNK, CHUNK);
            for (int64_t r = 0; r < BANDS(a->tile); r++)
                for (int64_t first = 0; first < a->channels; first += CHUNK) {
                    const int64_t count = least(a->channels - first, CHUNK), wide = whole16(count);
                    const float *v;
                    int64_t v_point;
                    if (a->v) {
                        v_point = apart(tiles * wide);
                        v = a->v + first / CHUNK * points * apart(tiles * CHUNK) + r * width * v_point + tile * wide;
                    } else {
                        v = own, v_point = apart(n * wide);
                        transform_images(own, v_point, &from, tile, n, first, count, patch, a->tile, r);
                    }
                    for (int64_t q = 0; q < columns; q += PANEL)
                        transform_kernel(u + q * count, u_point, a->panels + (g * CHUNK + q) / PANEL * a->panel + first * PANEL, a->step,
                                         count, a->tile, r);
                    for (int64_t p = 0; p < width; p++) {
                        const struct tile t = {
                            .out = products + (r * width + p) * point, .out_row = CHUNK, .a = v + p * v_point, .a_row = wide, .a_depth = 1,
                            .b = u + p * u_point, .b_row = PANEL, .b_panel = count * PANEL, .depth = count, .columns = whole16(columns),
                            .accumulate = first > 0,
                        };
                        tile_multiply(&t, n);
                    }
                }
            store_results(a->out + g * CHUNK, &to, tile, n, products, point, columns, a->bias ? a->bias + g * CHUNK : 0, a->activation,
                          a->tile);
        }
    }
}

/* ---- the gradient of the kernel ---- */

/* 64 channels by 128 filters of d_kernel from the sums at all points. */
INLINE void store_d_kernel_of(float *d_kernel, const float *sums, int64_t point, int64_t channels, int64_t filters, int64_t rows,
                              int64_t columns, const int m)
{
    for (int64_t c = 0; c < rows; c++)
        for (int64_t f = 0; f < columns; f += VL) {
            vf g[3][3];
            FROM_POINTS(g, sums + c * SUM_FILTERS + f, point, m, 3, kernel_result_pair)
            UNROLL for (int i = 0; i < 3; i++)
                UNROLL for (int j = 0; j < 3; j++)
                    vstore_n(d_kernel + ((3 * i + j) * channels + c) * filters + f, g[i][j], columns - f);
        }
}

/* For each piece of tiles, its part of d_kernel.  One item: 64 channels by 128 filters for one piece. */
KERNEL(winograd_d_kernel, pieces(tiles_of(a->batch, a->out_height, a->out_width, a->tile), a->piece) * pieces(a->channels, CHUNK) *
       pieces(a->filters, SUM_FILTERS),
       a->piece / 6.0 * (a->tile + 2) * (a->tile + 2) * least(a->channels, CHUNK) * least(a->filters, SUM_FILTERS),
    float *d_kernel;      /* (pieces, 3, 3, channels, filters) */
    const float *d_out;   /* (batch, out_height, out_width, filters), before the activation */
    const float *images;  /* (batch, height, width, channels) */
    int64_t batch;
    int64_t height;
    int64_t width;
    int64_t channels;
    int64_t out_height;
    int64_t out_width;
    int64_t filters;
    int64_t top;
    int64_t left;
    int64_t tile;
    int64_t piece;)
{
    const int64_t tiles = tiles_of(a->batch, a->out_height, a->out_width, a->tile), points = (a->tile + 2) * (a->tile + 2);
    const int64_t channel_chunks = pieces(a->channels, CHUNK), chunks = channel_chunks * pieces(a->filters, SUM_FILTERS);
    const int64_t down = pieces(a->out_height, a->tile), across = pieces(a->out_width, a->tile);
    const tiling x = { a->images, a->height, a->width, a->channels, down, across, a->tile, a->top, a->left };
    const tiling d = { a->d_out, a->out_height, a->out_width, a->filters, down, across, a->tile, 0, 0 };
    const int64_t point = apart(CHUNK * SUM_FILTERS), v_point = apart(SUM_TILES * CHUNK), z_point = apart(SUM_TILES * SUM_FILTERS);
    const int64_t width = 2 * (a->tile + 2);                                                                        /* of a band */
    float *sums = (float *)worker->scratch, *v = sums + points * point, *z = v + width * v_point, *patch = z + width * z_point;
    for (int64_t i = begin; i < end; i++) {
        const int64_t index = i / chunks, channel = i % channel_chunks * CHUNK, filter = i % chunks / channel_chunks * SUM_FILTERS;
        const int64_t rows = least(a->channels - channel, CHUNK), columns = least(a->filters - filter, SUM_FILTERS);
        const int64_t begin_tile = index * a->piece, stop = least(begin_tile + a->piece, tiles);
        for (int64_t r = 0; r < BANDS(a->tile); r++)
            for (int64_t tile = begin_tile, n; tile < stop; tile += n) {
                n = (stop - tile) / pieces(stop - tile, SUM_TILES);
                transform_images(v, v_point, &x, tile, n, channel, rows, patch, a->tile, r);
                for (int64_t f = 0; f < columns; f += CHUNK)
                    transform_gradients(z + f * n, z_point, &d, tile, n, filter + f, least(columns - f, CHUNK), patch, a->tile, r);
                for (int64_t p = 0; p < width; p++) {
                    const struct tile t = {
                        .out = sums + (r * width + p) * point, .out_row = SUM_FILTERS,
                        .a = v + p * v_point, .a_row = 1, .a_depth = whole16(rows),
                        .b = z + p * z_point, .b_row = PANEL, .b_panel = n * PANEL, .depth = n, .columns = whole16(columns),
                        .accumulate = tile > begin_tile,
                    };
                    tile_multiply(&t, rows);
                }
            }
        float *to = a->d_kernel + (index * 9 * a->channels + channel) * a->filters + filter;
        if (a->tile == 4) store_d_kernel_of(to, sums, point, a->channels, a->filters, rows, columns, 4);
        else store_d_kernel_of(to, sums, point, a->channels, a->filters, rows, columns, 2);
    }
}
