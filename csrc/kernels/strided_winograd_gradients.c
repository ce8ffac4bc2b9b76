/* The gradients of strided_winograd.c's convolutions: of the kernel, G^T ((A d_y) * (B^T d)) summed over tiles, and of the images. */
#include "strided_winograd.h"

enum { BAND_POINTS = 12 };

/* Fetch `count` filters of the pixels from x to stop in a row of d_out. */
INLINE void fetch_gradients(const tiling *t, int64_t image, int64_t y, int64_t x, int64_t stop, int64_t filter, int64_t count)
{
    if (y >= t->height) return;
    for (const float *at = t->images + ((image * t->height + y) * t->width + x) * t->channels + filter; x < stop; x++, at += t->channels)
        for (int64_t c = 0; c < count; c += 16) __builtin_prefetch(at + c, 0, 2);
}

/* ---- the gradient of the kernel ---- */

enum {
    Z_TILES = 24,                                 /* tiles whose gradients are transformed at once, at the points of a band */
    Z_TILE = APART(BAND_POINTS * PANEL),
    SUM_PANELS = 4,                               /* panels of filters that an item sums */
};

/* A y: the gradient y (3) of the results at the pair r. */
INLINE void three_gradients_pair(vf *low, vf *high, const vf *y, const int m UNUSED, const int r)
{
    if (!r) {
        *low = y[0];
        *high = y[2];
    } else {
        const float p = r == 1 ? NEAR : FAR;
        const vf even = vfma(y[2], vset(p * p), y[0]);
        *low = vfma(y[1], vset(p), even);
        *high = vfma(y[1], vset(-p), even);
    }
}

/* g += G^T x: what the pair r adds to the gradient g (4) of the kernel. */
INLINE void taps_result_pair(vf *g, const vf low, const vf high, const int m, const int r)
{
    if (!r) {
        g[0] = low * vset(1 / (NEAR2 * FAR2));
        g[1] = g[2] = vset(0);
        g[3] = high;
        return;
    }
    const vf even = low + high, odd = low - high;
    g[0] = vfma(even, vset(lagrange(m, r, 0)), g[0]);
    g[1] = vfma(odd, vset(lagrange(m, r, 1)), g[1]);
    g[2] = vfma(even, vset(lagrange(m, r, 2)), g[2]);
    g[3] = vfma(odd, vset(lagrange_cubed(r)), g[3]);
}

/* At a point, for `down` rows of a place by `across` numbers and 32 filters: sums += v z over n tiles. */
INLINE void point_sums_of(float *sums, int64_t half, const float *v, const float *z, int64_t n, const int down, const int across)
{
    for (int q = 0; q < PANEL; q += 2 * VL) {
        float *to[2] = { sums + q, sums + half + q };
        vf sum[2][6][2];
        UNROLL for (int a = 0; a < down; a++)
            UNROLL for (int i = 0; i < across; i++)
                UNROLL for (int j = 0; j < 2; j++) sum[a][i][j] = vload(to[a] + i * PANEL + j * VL);
        const float *x = v, *d = z + q;
        for (int64_t tile = n; tile > 0; tile--, x += LANES, d += Z_TILE) {
            const vf low = vload(d), high = vload(d + VL);
            UNROLL for (int a = 0; a < down; a++)
                UNROLL for (int i = 0; i < across; i++) {
                    const vf y = vset(x[8 * a + i]);
                    sum[a][i][0] = vfma(y, low, sum[a][i][0]);
                    sum[a][i][1] = vfma(y, high, sum[a][i][1]);
                }
        }
        UNROLL for (int a = 0; a < down; a++)
            UNROLL for (int i = 0; i < across; i++)
                UNROLL for (int j = 0; j < 2; j++) vstore(to[a] + i * PANEL + j * VL, sum[a][i][j]);
    }
}

static void point_sums(float *sums, int64_t half, const float *v, const float *z, int64_t n, int64_t down, int64_t across)
{
    if (VL == 16 && down == 2 && across == 6) point_sums_of(sums, half, v, z, n, 2, 6);
    else
        for (int64_t a = 0; a < down; a++, sums += half, v += 8)
            switch (across) {
#define CASE(k) case k: point_sums_of(sums, half, v, z, n, 1, k); break;
            CASE(1) CASE(2) CASE(3) CASE(4) CASE(6)
#undef CASE
            case 8:
                for (int64_t k = 0; k < 8; k += 4) point_sums_of(sums + k * PANEL, half, v + k, z, n, 1, 4);
            }
}

/* `count` filters of the gradients of n tiles at the points of a band: z[tile][point][PANEL]. */
INLINE void transform_gradients_of(float *z, const tiling *t, int64_t tile, int64_t n, int64_t first, int64_t count, float *patch, const int band)
{
    for (int64_t k = 0; k < n; k++, z += Z_TILE) {
        const float *at[TILE * TILE];
        window_of(at, t, tile + k, TILE, first, count, VL, patch);
        for (int64_t c = 0; c < count; c += VL)
            TO_POINTS(z + c, PANEL, vload(at[i * TILE + j] + c), 4, band, band + 1, TILE, three_gradients_pair)
    }
}

static void transform_gradients(float *z, const tiling *t, int64_t tile, int64_t n, int64_t first, int64_t count, float *patch, int64_t band)
{
    if (band == 0) transform_gradients_of(z, t, tile, n, first, count, patch, 0);
    else if (band == 1) transform_gradients_of(z, t, tile, n, first, count, patch, 1);
    else transform_gradients_of(z, t, tile, n, first, count, patch, 2);
}

/* For each piece of rows of tiles, its part of d_kernel.  One item: a piece by 128 filters. */
KERNEL(strided_winograd_d_kernel, pieces(a->batch * pieces(a->out_height, TILE), a->piece) * pieces(a->filters, SUM_PANELS * PANEL),
       a->piece * pieces(a->out_width, TILE) * POINTS * 4.0 / 6 * a->channels * least(a->filters, SUM_PANELS * PANEL),
    float *d_kernel;      /* (pieces, kernel_height, kernel_width, channels, filters) */
    const float *d_out;   /* (batch, out_height, out_width, filters), before the activation */
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
    int64_t top;
    int64_t left;
    int64_t piece;)
{
    const int64_t down = pieces(a->out_height, TILE), tiles = pieces(a->out_width, TILE), parts = pieces(tiles, ACROSS);
    const int64_t channels = a->channels, step = 2 * channels, depth = 2 * step, groups = pieces(a->filters, SUM_PANELS * PANEL);
    const int64_t last_y = at_infinity(a->kernel_height), last_x = at_infinity(a->kernel_width), size = a->kernel_height * a->kernel_width * channels;
    const tiling d = tiling_of(a->d_out, a->batch, a->out_height, a->out_width, a->filters, a->out_height, a->out_width, TILE, 0, 0);
    float *v = (float *)worker->scratch, *z = v + POINTS * V_POINT, *sums = z + Z_TILES * Z_TILE, *lines = sums + SUM_PANELS * POINTS * 16 * PANEL;
    float *patch = lines + LINES;
    for (int64_t i = begin; i < end; i++) {
        const int64_t first_row = i / groups * a->piece, stop = least(first_row + a->piece, a->batch * down), first = i % groups * SUM_PANELS * PANEL;
        const int64_t panels = pieces(least(a->filters - first, SUM_PANELS * PANEL), PANEL);
        memset(sums, 0, (size_t)(panels * POINTS * depth * PANEL) * sizeof(float));
        for (int64_t row = first_row; row < stop; row++)
            for (int64_t part = 0; part < parts; part++) {
                const int64_t tile = tile_begin(tiles, parts, part), n = tile_begin(tiles, parts, part + 1) - tile;
                const int64_t y = 2 * TILE * (row % down) - a->top, x = 2 * TILE * tile - a->left, blocks = pieces(n, Z_TILES);
                transform_windows(v, lines, a->images + row / down * a->height * a->width * channels, a->height, a->width, channels, y, x, n);
                for (int64_t q = 0; q < panels * blocks; q++) {
                    const int64_t filter = first + q / blocks * PANEL, count = least(a->filters - filter, PANEL);
                    const int64_t at = tile_begin(n, blocks, q % blocks), some = tile_begin(n, blocks, q % blocks + 1) - at;
                    if (count < PANEL) memset(z, 0, (size_t)(some * Z_TILE) * sizeof(float));
                    for (int64_t band = 0; band < 3; band++) {
                        transform_gradients(z, &d, row * tiles + tile + at, some, filter, count, patch, band);
                        for (int64_t p = 0; p < BAND_POINTS; p++) {
                            const int64_t point = band * BAND_POINTS + p, ahead = (tile + at) * TILE;
                            fetch_gradients(&d, row / down, (row % down + 1) * TILE + band, ahead + some * TILE * p / BAND_POINTS,
                                            ahead + some * TILE * (p + 1) / BAND_POINTS, filter, PANEL);
                            point_sums(sums + (q / blocks * POINTS + point) * depth * PANEL, step * PANEL, v + point * V_POINT + at * LANES,
                                       z + p * PANEL, some, point / 6 == 1 ? last_y : 2, (point % 6 == 1 ? last_x : 2) * channels);
                        }
                    }
                }
            }
        for (int64_t q = 0; q < panels; q++)
            for (int64_t k = 0; k < depth; k++) {
                const int64_t first_y = k / step, first_x = k / channels % 2, filter = first + q * PANEL;
                float *to = a->d_kernel + (i / groups * size + k % channels) * a->filters + filter;
                for (int64_t c = 0; c < least(a->filters - filter, PANEL); c += VL) {
                    vf g[4][4];
                    FROM_POINTS(g, sums + (q * POINTS * depth + k) * PANEL + c, depth * PANEL, 4, 4, taps_result_pair)
                    for (int64_t y = first_y; y < a->kernel_height; y += 2)
                        for (int64_t x = first_x; x < a->kernel_width; x += 2)
                            vstore_n(to + (y * a->kernel_width + x) * channels * a->filters + c, g[y / 2][x / 2], a->filters - filter - c);
                }
            }
    }
}

/* ---- the gradient of the images ----

   Row y of a parity sums over the rows k / 2 of its part of the kernel what d_out has in row y - k / 2: a convolution with the parts
   turned by 180 degrees, from the filters to the LANES numbers of a place. */

enum { TURNED = VL == 16 ? 14 : 6, TURNED_PRODUCTS = APART(POINTS * LANES), TURNED_V = APART(BAND_POINTS * PANEL) };

/* The kernel turned at all points.  One item: a filter. */
KERNEL(strided_winograd_turned, a->filters, 6.0 * LANES * POINTS,
    float *u;             /* (36, filters, 16) */
    const float *kernel;  /* (kernel_height, kernel_width, channels, filters) */
    int64_t channels;
    int64_t filters;
    int64_t kernel_height;
    int64_t kernel_width;)
{
    const int64_t channels = a->channels;
    for (int64_t filter = begin; filter < end; filter++) {
        float taps[16][LANES];
        memset(taps, 0, sizeof taps);
        for (int64_t y = 0; y < a->kernel_height; y++)
            for (int64_t x = 0; x < a->kernel_width; x++)
                for (int64_t c = 0; c < channels; c++)
                    taps[(3 - y / 2) * 4 + 3 - x / 2][y % 2 * 8 + x % 2 * channels + c] =
                        a->kernel[((y * a->kernel_width + x) * channels + c) * a->filters + filter];
        for (int64_t c = 0; c < LANES; c += VL)
            TO_POINTS(a->u + filter * LANES + c, a->filters * LANES, vload(taps[4 * i + j] + c), 4, 0, 3, 4, taps_pair)
    }
}

/* Of `rows` tiles at a point: products (+)= v u over the channels of d_out. */
INLINE void turned_products_of(float *to, const float *v, const float *u, int64_t depth, int64_t accumulate, const int rows)
{
    for (int q = 0; q < LANES; q += VL == 16 ? VL : 2 * VL) {
        enum { VECTORS = VL == 16 ? 1 : 2 };
        vf sum[TURNED][2];
        UNROLL for (int i = 0; i < rows; i++)
            UNROLL for (int j = 0; j < VECTORS; j++) sum[i][j] = accumulate ? vload(to + i * TURNED_PRODUCTS + q + j * VL) : vset(0);
        const float *x = v, *right = u + q;
        for (int64_t k = depth; k > 0; k--, x++, right += LANES) {
            vf w[2];
            UNROLL for (int j = 0; j < VECTORS; j++) w[j] = vload(right + j * VL);
            UNROLL for (int i = 0; i < rows; i++) {
                const vf y = vset(x[i * TURNED_V]);
                UNROLL for (int j = 0; j < VECTORS; j++) sum[i][j] = vfma(y, w[j], sum[i][j]);
            }
        }
        UNROLL for (int i = 0; i < rows; i++)
            UNROLL for (int j = 0; j < VECTORS; j++) vstore(to + i * TURNED_PRODUCTS + q + j * VL, sum[i][j]);
    }
}

static void turned_products(float *to, const float *v, const float *u, int64_t depth, int64_t accumulate, int64_t rows)
{
#define CASE(n) case n: turned_products_of(to, v, u, depth, accumulate, n); break;
    switch (rows) {
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if VL == 16
    CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
#endif
    }
#undef CASE
}

/* The number of rows or columns of a phase that `size` of the images, `before` zeros before them, have. */
INLINE int64_t places(int64_t size, int64_t before) { return size > 0 ? (size - 1 + before) / 2 - before / 2 + 1 : 0; }

/* A column of a window at a pair of points. */
INLINE void column_pair(vf *low, vf *high, const float **at, int64_t c, const int band)
{
    vf d[6];
    UNROLL for (int i = 0; i < 6; i++) d[i] = vload(at[6 * i] + c);
    image_pair(low, high, d, 4, band);
}

/* The windows of n neighbouring tiles at the points of a band: v[tile][point][PANEL]. Half of a window's columns are those of the one before. */
INLINE void transform_turned_of(float *v, const float *at[][36], int64_t n, int64_t count, const int band)
{
    for (int64_t c = 0; c < count; c += VL) {
        float *to = v + c;
        vf low[6], high[6];
        UNROLL for (int j = 0; j < TILE; j++) column_pair(&low[TILE + j], &high[TILE + j], at[0] + j, c, band);
        for (int64_t k = 0; k < n; k++, to += TURNED_V) {
            UNROLL for (int j = 0; j < TILE; j++) {
                low[j] = low[TILE + j], high[j] = high[TILE + j];
                column_pair(&low[TILE + j], &high[TILE + j], at[k] + TILE + j, c, band);
            }
            UNROLL for (int r = 0; r < 3; r++) {
                vf x[4];
                image_pair(&x[0], &x[1], low, 4, r);
                image_pair(&x[2], &x[3], high, 4, r);
                UNROLL for (int i = 0; i < 4; i++) vstore(to + (i / 2 * 6 + 2 * r + i % 2) * PANEL, x[i]);
            }
        }
    }
}

static void transform_turned(float *v, const float *at[][36], int64_t n, int64_t count, int64_t band)
{
    if (band == 0) transform_turned_of(v, at, n, count, 0);
    else if (band == 1) transform_turned_of(v, at, n, count, 1);
    else transform_turned_of(v, at, n, count, 2);
}

/* 3 x 3 places of a tile, which begin at row y and column x of the image: 6 x 6 pixels of it, where it has them. */
static void store_places(float *image, int64_t height, int64_t width, int64_t channels, int64_t y, int64_t x, const float *products)
{
    const int64_t run = 2 * channels, line = width * channels;
    float *to = image + y * line + x * channels;
    const int whole = y >= 0 && x >= 0 && y + 2 * TILE <= height && x + 2 * TILE + 8 <= width;       /* room for 8 */
    float places[TILE][TILE][LANES];
    for (int64_t c = 0; c < LANES; c += VL) {
        vf sums[TILE][TILE];
        FROM_POINTS(sums, products + c, LANES, 4, TILE, three_pair)
        UNROLL for (int r = 0; r < TILE; r++)
            UNROLL for (int q = 0; q < TILE; q++) {
                float *here = to + (2 * r + c / 8) * line + q * run + c % 8;
                if (!whole) vstore(places[r][q] + c, sums[r][q]);
#if VL == 16
                else {
                    _mm256_storeu_ps(here, _mm512_castps512_ps256(sums[r][q]));
                    _mm256_storeu_ps(here + line, _mm512_extractf32x8_ps(sums[r][q], 1));
                }
#else
                else vstore_n(here, sums[r][q], most(run - c % 8, 0));
#endif
            }
    }
    for (int64_t r = 0; r < 2 * TILE && !whole; r++)
        for (int64_t q = 0; q < TILE && y + r >= 0 && y + r < height; q++) {
            const int64_t first = (x + 2 * q) * channels;
            for (int64_t c = most(-first, 0); c < least(run, line - first); c++) to[r * line + q * run + c] = places[r / 2][q][r % 2 * 8 + c];
        }
}

/* d_images, all of it.  One item: a row of tiles. */
KERNEL(strided_winograd_d_images, a->batch * pieces(places(a->height, a->top), TILE),
       pieces(places(a->width, a->left), TILE) * POINTS * 16.0 / 6 * a->filters,
    float *d_images;      /* (batch, height, width, channels) */
    const float *d_out;   /* (batch, out_height, out_width, filters), before the activation */
    const float *u;       /* of strided_winograd_turned */
    int64_t batch;
    int64_t height;
    int64_t width;
    int64_t channels;
    int64_t out_height;
    int64_t out_width;
    int64_t filters;
    int64_t top;
    int64_t left;)
{
    const int64_t down = pieces(places(a->height, a->top), TILE), tiles = pieces(places(a->width, a->left), TILE), groups = pieces(tiles, TURNED);
    const int64_t line = a->width * a->channels;
    const tiling d = tiling_of(a->d_out, a->batch, a->out_height, a->out_width, a->filters, places(a->height, a->top), places(a->width, a->left),
                               TILE, 3 - a->top / 2, 3 - a->left / 2);
    float *v = (float *)worker->scratch, *products = v + TURNED * TURNED_V, *patch = products + TURNED * TURNED_PRODUCTS;
    for (int64_t i = begin; i < end; i++) {
        const int64_t y = (a->top / 2 + i % down * TILE) * 2 - a->top;
        float *image = a->d_images + i / down * a->height * line;
        for (int64_t g = 0; g < groups; g++) {
            const int64_t tile = tile_begin(tiles, groups, g), n = tile_begin(tiles, groups, g + 1) - tile;
            for (int64_t first = 0; first < a->filters; first += PANEL) {
                const int64_t count = least(a->filters - first, PANEL);
                const float *at[TURNED][36];
                for (int64_t k = 0; k < n; k++)
                    window_of(at[k], &d, i * tiles + tile + k, 6, first, count, VL, patch + k * 36 * CHUNK);
                for (int64_t band = 0; band < 3; band++) {
                    transform_turned(v, at, n, count, band);
                    for (int64_t p = 0; p < BAND_POINTS; p++) {
                        const int64_t point = band * BAND_POINTS + p, ahead = tile * TILE + 3 - d.left;
                        fetch_gradients(&d, i / down, (i % down + 2) * TILE - d.top + band, ahead + n * TILE * p / BAND_POINTS,
                                        ahead + n * TILE * (p + 1) / BAND_POINTS, first, count);
                        turned_products(products + point * LANES, v + p * PANEL, a->u + (point * a->filters + first) * LANES, count, first > 0, n);
                    }
                }
            }
            for (int64_t k = 0; k < n; k++)
                store_places(image, a->height, a->width, a->channels, y, (a->left / 2 + (tile + k) * TILE) * 2 - a->left,
                             products + k * TURNED_PRODUCTS);
        }
    }
}
