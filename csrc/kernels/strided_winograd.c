/* Convolutions with stride 2 and kernels of 5 x 5 to 8 x 8 over images of up to 4 channels, by Winograd's algorithm F(3 x 3, 4 x 4): see
   strided_winograd.h. */
#include "strided_winograd.h"

enum {
    GROUP = VL == 16 ? 8 : 6,                     /* tiles whose products are under way: those of 8 stay in the first cache */
    PRODUCTS = APART(POINTS * PANEL),             /* of a tile, with 32 filters */
};

/* ---- the kernel ---- */

/* The kernel at all points.  One item: 32 filters. */
KERNEL(strided_winograd_kernel, pieces(a->filters, PANEL), 6.0 * 4 * a->channels * PANEL * POINTS,
    float *u;             /* (ceil(filters / 32), 36, 2 parities of rows, 2 of columns, channels, 32) */
    const float *kernel;  /* (kernel_height, kernel_width, channels, filters) */
    int64_t channels;
    int64_t filters;
    int64_t kernel_height;
    int64_t kernel_width;)
{
    const int64_t depth = 4 * a->channels, point = depth * PANEL;
    for (int64_t q = begin; q < end; q++)
        for (int64_t k = 0; k < depth; k++) {
            const int64_t first_y = k / (2 * a->channels), first_x = k / a->channels % 2, channel = k % a->channels;
            for (int64_t c = 0; c < PANEL; c += VL) {
                const int64_t filter = q * PANEL + c, left = a->filters - filter;
                const float *from = a->kernel + channel * a->filters + filter;
                vf g[4][4];
                for (int64_t i = 0; i < 4; i++)
                    for (int64_t j = 0; j < 4; j++) {
                        const int64_t y = 2 * i + first_y, x = 2 * j + first_x;
                        const int there = y < a->kernel_height && x < a->kernel_width && left > 0;
                        g[i][j] = there ? vload_n(from + (y * a->kernel_width + x) * a->channels * a->filters, left) : vset(0);
                    }
                TO_POINTS(a->u + q * POINTS * point + k * PANEL + c, point, g[i][j], 4, 0, 3, 4, taps_pair)
            }
        }
}

/* ---- products ---- */

/* Of `rows` tiles with 32 filters at a point: `down` rows of a place by `across` numbers. */
INLINE void point_products(float *to, const float *v, const float *u, int64_t u_half, int64_t down, int64_t across, const int rows)
{
    for (int q = 0; q < PANEL; q += 2 * VL) {
        vf sum[GROUP][2];
        UNROLL for (int i = 0; i < rows; i++)
            UNROLL for (int j = 0; j < 2; j++) sum[i][j] = vset(0);
        for (int64_t a = 0; a < down; a++) {
            const float *x = v + 8 * a, *right = u + a * u_half + q;
            for (int64_t k = across; k > 0; k--, x++, right += PANEL) {
                const vf low = vload(right), high = vload(right + VL);
                UNROLL for (int i = 0; i < rows; i++) {
                    const vf y = vset(x[i * LANES]);
                    sum[i][0] = vfma(y, low, sum[i][0]);
                    sum[i][1] = vfma(y, high, sum[i][1]);
                }
            }
        }
        UNROLL for (int i = 0; i < rows; i++)
            UNROLL for (int j = 0; j < 2; j++) vstore(to + i * PRODUCTS + q + j * VL, sum[i][j]);
    }
}

typedef struct results {
    float *out;
    int64_t line, filters;              /* from row to row and pixel to pixel of out */
    int64_t rows, columns;              /* of out that exist from the first tile's on */
    int64_t count, streamed;            /* filters; 1: stored past the caches */
    const float *bias;                  /* of 32 filters, filled up */
} results;

/* Fetch what will be written of half a row of the results of n tiles. */
INLINE void fetch_results(const results *t, int64_t n, int64_t half)
{
    const float *line = t->out + half / 2 * t->line;
    for (int64_t i = n * TILE * (half % 2) / 2; i < n * TILE * (half % 2 + 1) / 2; i++)
        for (int64_t c = 0; c < PANEL; c += 16) __builtin_prefetch(line + i * t->filters + c, 1, 2);
}

/* products[tile][point][32]. */
INLINE void products_of(float *products, const float *v, const float *u, int64_t channels, int64_t last_y, int64_t last_x, const results *t,
                        const int rows)
{
    const int64_t u_half = 2 * channels * PANEL;
    for (int i = 0; i < 6; i++) {
        if (!t->streamed) fetch_results(t, rows, i);
        for (int j = 0; j < 6; j++, products += PANEL, v += V_POINT, u += 2 * u_half)
            point_products(products, v, u, u_half, i == 1 ? last_y : 2, (j == 1 ? last_x : 2) * channels, rows);
    }
}

static void multiply_windows(float *products, const float *v, const float *u, int64_t channels, int64_t last_y, int64_t last_x, const results *t,
                             int64_t rows)
{
#define CASE(n) case n: products_of(products, v, u, channels, last_y, last_x, t, n); break;
    switch (rows) {
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if VL == 16
    CASE(7) CASE(8)
#endif
    }
#undef CASE
}

/* ---- the convolution ---- */

INLINE void store_three(const results *t, const float *products, int64_t n, const int64_t activation)
{
    for (int64_t i = 0; i < n; i++, products += PRODUCTS)
        UNROLL for (int c = 0; c < PANEL; c += VL) {
            const int64_t some = t->count - c, columns = t->columns - i * TILE;
            if (some <= 0) break;
            const vf bias = vload(t->bias + c);
            float *to = t->out + i * TILE * t->filters + c;
            vf y[TILE][TILE];
            FROM_POINTS(y, products + c, PANEL, 4, TILE, three_pair)
            UNROLL for (int r = 0; r < TILE; r++)
                UNROLL for (int q = 0; q < TILE; q++) y[r][q] = activate(y[r][q] + bias, activation);
            if (t->rows >= TILE && columns >= TILE && some >= VL) {
                UNROLL for (int r = 0; r < TILE; r++)
                    UNROLL for (int q = 0; q < TILE; q++) vstore_to(to + r * t->line + q * t->filters, y[r][q], VL, t->streamed);
            } else {
                UNROLL for (int r = 0; r < TILE; r++)
                    UNROLL for (int q = 0; q < TILE; q++)
                        if (r < t->rows && q < columns) vstore_n(to + r * t->line + q * t->filters, y[r][q], some);
            }
        }
}

static void store_results(const results *t, const float *products, int64_t n, int64_t activation)
{
    switch (activation) {
    case ACT_LINEAR: store_three(t, products, n, ACT_LINEAR); break;
    case ACT_RELU: store_three(t, products, n, ACT_RELU); break;
    default: store_three(t, products, n, activation); break;
    }
}

/* out = activation(bias + convolution).  One item: a row of tiles. */
KERNEL(strided_winograd, a->batch * pieces(a->out_height, TILE),
       pieces(a->out_width, TILE) * POINTS * 4.0 / 6 * a->channels * a->filters,
    float *out;           /* (batch, out_height, out_width, filters) */
    const float *images;  /* (batch, height, width, channels) */
    const float *u;       /* of strided_winograd_kernel */
    OPTIONAL const float *bias;      /* (filters) */
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
    int64_t activation;)
{
    const int64_t down = pieces(a->out_height, TILE), tiles = pieces(a->out_width, TILE), parts = pieces(tiles, ACROSS);
    const int64_t step = 2 * a->channels, panels = pieces(a->filters, PANEL), u_panel = POINTS * 2 * step * PANEL;
    const int64_t last_y = at_infinity(a->kernel_height), last_x = at_infinity(a->kernel_width);
    float *v = (float *)worker->scratch, *products = v + POINTS * V_POINT, *lines = products + GROUP * PRODUCTS;
    const int streamed = streams(a->out, a->batch * a->out_height * a->out_width * a->filters, a->filters);
    for (int64_t i = begin; i < end; i++) {
        const int64_t image = i / down, y = i % down * TILE;
        for (int64_t part = 0; part < parts; part++) {
            const int64_t first = tile_begin(tiles, parts, part), n = tile_begin(tiles, parts, part + 1) - first, x = first * TILE;
            transform_windows(v, lines, a->images + image * a->height * a->width * a->channels, a->height, a->width, a->channels,
                              2 * y - a->top, 2 * x - a->left, n);
            for (int64_t q = 0; q < panels; q++) {
                const int64_t groups = pieces(n, GROUP), count = least(a->filters - q * PANEL, PANEL);
                float bias[PANEL];
                for (int64_t c = 0; c < PANEL; c += VL)
                    vstore(bias + c, a->bias ? vload_n(a->bias + q * PANEL + c, most(count - c, 0)) : vset(-0.0f));
                for (int64_t g = 0; g < groups; g++) {
                    const int64_t tile = tile_begin(n, groups, g), some = tile_begin(n, groups, g + 1) - tile, column = x + tile * TILE;
                    const results t = {
                        a->out + ((image * a->out_height + y) * a->out_width + column) * a->filters + q * PANEL,
                        a->out_width * a->filters, a->filters, a->out_height - y, a->out_width - column, count, streamed, bias,
                    };
                    multiply_windows(products, v + tile * LANES, a->u + q * u_panel, a->channels, last_y, last_x, &t, some);
                    store_results(&t, products, some, a->activation);
                }
            }
        }
    }
    if (streamed) vstreams_end();
}
