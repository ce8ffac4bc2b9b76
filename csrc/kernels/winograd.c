/* Convolutions by Winograd's algorithm, and the gradient of the kernel: see winograd.h. Windows, kernels and products of 64 channels or filters
   lie [tile][point][64] or [point][channel][64], so that every transform reads and writes with distances that the compiler knows. */
#include "winograd.h"

enum {
    SUM_FILTERS = 128,       /* filters of the kernel's gradient at once, */
    SUM_TILES = 56,          /* and tiles transformed for it */
};

/* ---- tiles ---- */

/* `count` channels of n tiles at the points of some bands: v[tile][point][CHUNK], v_tile floats from tile to tile. */
INLINE void transform_images_of(float *v, int64_t v_tile, const tiling *t, int64_t tile, int64_t n, int64_t first, int64_t count, float *patch,
                                const int m, const int band, const int end)
{
    const float *at[36];
    for (int64_t i = 0; i < n; i++, v += v_tile) {
        window_of(at, t, tile + i, m + 2, first, count, patch);
        for (int64_t c = 0; c < count; c += VL)
            TO_POINTS(v + c, CHUNK, vload(at[i * (m + 2) + j] + c), m, band, end, m + 2, image_pair)
    }
}

/* At all points. */
static void transform_images(float *v, int64_t v_tile, const tiling *t, int64_t tile, int64_t n, int64_t first, int64_t count, float *patch)
{
    if (t->step == 4) transform_images_of(v, v_tile, t, tile, n, first, count, patch, 4, 0, 3);
    else transform_images_of(v, v_tile, t, tile, n, first, count, patch, 2, 0, 2);
}

static void transform_images_band(float *v, int64_t v_tile, const tiling *t, int64_t tile, int64_t n, int64_t first, int64_t count,
                                  float *patch, int64_t band)
{
#define CALL(m, r) transform_images_of(v, v_tile, t, tile, n, first, count, patch, m, r, r + 1)
    KNOWN(t->step, band, CALL)
#undef CALL
}

/* `count` filters of the gradients of n tiles at the points of a band: z[tile][point][CHUNK]. */
static void transform_gradients_band(float *z, int64_t z_tile, const tiling *t, int64_t tile, int64_t n, int64_t first, int64_t count,
                                     float *patch, int64_t band)
{
    const float *at[16];
    for (int64_t i = 0; i < n; i++, z += z_tile) {
        window_of(at, t, tile + i, (int)t->step, first, count, patch);
#define CALL(m, r)                                                                                                     \
        for (int64_t c = 0; c < count; c += VL)                                                                        \
            TO_POINTS(z + c, CHUNK, vload(at[i * (m) + j] + c), m, r, r + 1, m, gradient_pair)
        KNOWN(t->step, band, CALL)
#undef CALL
    }
}

/* Results of n tiles, `columns` filters from `out`, which points to the first of them in the first image. */
INLINE void store_results_of(float *out, const tiling *t, int64_t tile, int64_t n, const float *products, int64_t columns,
                             const float *bias, int64_t activation, const int m)
{
    for (int64_t i = 0; i < n; i++, tile++, products += APART((m + 2) * (m + 2) * CHUNK)) {
        const int64_t top = tile / t->across % t->down * m, left = tile % t->across * m;
        const int64_t rows = least(t->height - top, m), across = least(t->width - left, m);
        float *to = out + ((tile / t->across / t->down * t->height + top) * t->width + left) * t->channels;
        for (int64_t c = 0; c < columns; c += VL) {
            const int64_t left_over = columns - c;
            const vf b = bias ? vload_n(bias + c, left_over) : vset(-0.0f);
            vf y[4][4];
            FROM_POINTS(y, products + c, CHUNK, m, m, result_pair)
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

static void store_results(float *out, const tiling *t, int64_t tile, int64_t n, const float *products, int64_t columns,
                          const float *bias, int64_t activation)
{
#define CASE(act) \
    if (t->step == 4) store_results_of(out, t, tile, n, products, columns, bias, act, 4); \
    else store_results_of(out, t, tile, n, products, columns, bias, act, 2)
    switch (activation) {
    case ACT_LINEAR: CASE(ACT_LINEAR); break;
    case ACT_RELU: CASE(ACT_RELU); break;
    default: CASE(activation); break;
    }
#undef CASE
}

/* ---- products ---- */

enum { STRIP = VL == 16 ? 4 : 2, ROWS = 6 };       /* vectors and rows of a tile */

/* out[i, j] (+)= sum over p of a[i * a_row + p * a_depth] * b[p * b_row + j], for 64 columns j: what tile_multiply does, but with so few
   terms that its masks, its fetches and the way into it would take a tenth of the time. */
INLINE void multiply_rows(float *out, int64_t out_row, const float *a, int64_t a_row, int64_t a_depth, const float *b, int64_t b_row,
                          int64_t depth, int64_t accumulate, const int rows, const int beside)
{
    for (int j = 0; j < CHUNK; j += STRIP * VL) {
        vf sum[ROWS][STRIP];
        UNROLL for (int i = 0; i < rows; i++)
            UNROLL for (int k = 0; k < STRIP; k++) sum[i][k] = accumulate ? vload(out + i * out_row + j + k * VL) : vset(0);
        const char *at = (const char *)a;
        const float *right = b + j;
        int64_t s = 4 * a_row, s3 = 3 * s, s5 = 5 * s;
        for (int64_t p = depth; p > 0; p--, right += b_row, at += 4 * a_depth) {
            vf v[STRIP];
            UNROLL for (int k = 0; k < STRIP; k++) v[k] = vload(right + k * VL);
            if (!beside) __asm__("" : "+r"(s), "+r"(s3), "+r"(s5));         /* else each row takes a register, or the stack */
            UNROLL for (int i = 0; i < rows; i++) {
                const vf x = vset(beside ? ((const float *)at)[i] : *tile_row(at, i, s, s3, s5));
                UNROLL for (int k = 0; k < STRIP; k++) sum[i][k] = vfma(x, v[k], sum[i][k]);
            }
        }
        UNROLL for (int i = 0; i < rows; i++)
            UNROLL for (int k = 0; k < STRIP; k++) vstore(out + i * out_row + j + k * VL, sum[i][k]);
    }
}

INLINE void multiply(float *out, int64_t out_row, const float *a, int64_t a_row, int64_t a_depth, const float *b, int64_t b_row,
                     int64_t depth, int64_t columns, int64_t accumulate, int64_t rows, const int beside)
{
    if (columns < CHUNK) {
        const struct tile t = {
            .out = out, .out_row = out_row, .a = a, .a_row = a_row, .a_depth = a_depth, .b = b, .b_row = b_row, .b_panel = PANEL,
            .depth = depth, .columns = columns, .accumulate = accumulate,
        };
        tile_multiply(&t, rows);
        return;
    }
    const int64_t n = pieces(rows, ROWS);
    for (int64_t i = 0; i < n; i++) {
        const int64_t row = tile_begin(rows, n, i);
        float *to = out + row * out_row;
        const float *from = a + row * a_row;
#define CASE(r) case r: multiply_rows(to, out_row, from, a_row, a_depth, b, b_row, depth, accumulate, r, beside); break;
        switch (tile_begin(rows, n, i + 1) - row) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) }
#undef CASE
    }
}

static void multiply_tiles(float *out, int64_t row, const float *v, const float *u, int64_t depth, int64_t columns, int64_t accumulate, int64_t n)
{
    multiply(out, row, v, row, 1, u, CHUNK, depth, columns, accumulate, n, 0);
}

/* ---- the kernel ---- */

/* Number (place, channel, filter) is at place * t->place + channel * t->row + filter * t->column, one of row and column being 1; with `flipped`
   the places are taken from the last to the first. */
typedef struct taps {
    const float *kernel;
    int64_t place, row, column, flipped;
} taps;

enum { U_POINT = APART(CHUNK * CHUNK) };

/* `rows` channels by `columns` filters from these on, the filters side by side in memory: turned into `to` where they are not. */
static taps chunk_of(const taps *t, float *to, int64_t channel, int64_t filter, int64_t rows, int64_t columns)
{
    const float *from = t->kernel + channel * t->row + filter * t->column;
    if (t->column == 1) return (taps){ from, t->place, t->row, 1, t->flipped };
    for (int64_t k = 0; k < 9; k++)
        for (int64_t i = 0; i < rows; i += VL)
            for (int64_t j = 0; j < columns; j += VL) {
                vf x[VL];
                tile_turn(x, from + k * t->place + i + j * t->column, t->column, columns - j, rows - i);
                for (int64_t q = 0; q < least(rows - i, VL); q++) vstore(to + k * U_POINT + (i + q) * CHUNK + j, x[q]);
            }
    return (taps){ to, U_POINT, CHUNK, 1, t->flipped };
}

/* A chunk at the points of a band: u[point][channel][CHUNK]. */
INLINE void transform_kernel_of(float *u, const taps *t, int64_t rows, int64_t columns, const int m, const int r)
{
    const float *from = t->kernel, *at[9];
    for (int64_t i = 0; i < rows; i++, from += t->row, u += CHUNK) {
        for (int k = 0; k < 9; k++) at[k] = from + (t->flipped ? 8 - k : k) * t->place;
        EACH_VECTOR(c, width, columns, TO_POINTS(u + c, U_POINT, vload_n(at[3 * i + j] + c, width), m, r, r + 1, 3, kernel_pair));
    }
}

static void transform_kernel(float *u, const taps *t, int64_t rows, int64_t columns, int64_t m, int64_t band)
{
#define CALL(m, r) transform_kernel_of(u, t, rows, columns, m, r)
    KNOWN(m, band, CALL)
#undef CALL
}

/* Zeros where n rows of `row` floats are not filled: their last 16, or, where there are fewer than 64 channels or filters, all. */
static void clear(float *to, int64_t n, int64_t row, int64_t count)
{
    if (count < CHUNK) memset(to, 0, (size_t)(n * row) * sizeof(float));
    else for (int64_t k = 1; k <= n; k++) memset(to + k * row - 16, 0, 16 * sizeof(float));
}

/* All of the kernel at all points, where several blocks of tiles want it.  One item: 64 channels by 64 filters. */
KERNEL(winograd_kernel, pieces(a->channels, CHUNK) * pieces(a->filters, CHUNK), 3.0 * CHUNK * CHUNK * (a->tile + 2) * (a->tile + 2),
    float *u;             /* (chunks of filters, chunks of channels, points, 64, 64), and 16 zeros behind each point */
    const float *kernel;  /* (9, channels, filters) by strides */
    int64_t channels;
    int64_t filters;
    int64_t place;
    int64_t row;
    int64_t column;
    int64_t flipped;
    int64_t tile;)
{
    const int64_t chunks = pieces(a->channels, CHUNK), width = 2 * (a->tile + 2);
    const taps kernel = { a->kernel, a->place, a->row, a->column, a->flipped };
    for (int64_t i = begin; i < end; i++) {
        const int64_t channel = i % chunks * CHUNK, filter = i / chunks * CHUNK;
        const int64_t rows = least(a->channels - channel, CHUNK), columns = least(a->filters - filter, CHUNK);
        const taps chunk = chunk_of(&kernel, (float *)worker->scratch, channel, filter, rows, columns);
        float *u = a->u + i * BANDS(a->tile) * width * U_POINT;
        for (int64_t r = 0; r < BANDS(a->tile); r++, u += width * U_POINT) {
            clear(u, width, U_POINT, least(rows, columns));
            transform_kernel(u, &chunk, rows, columns, a->tile, r);
        }
    }
}

/* ---- the convolution, and with the kernel flipped the gradient of the images ---- */

INLINE int64_t tiles_of(int64_t batch, int64_t height, int64_t width, int64_t m) { return batch * pieces(height, m) * pieces(width, m); }

/* All windows at all points, where many filters see them.  One item: 64 channels of `block` tiles. */
KERNEL(winograd_images, pieces(tiles_of(a->batch, a->out_height, a->out_width, a->tile), a->block) * pieces(a->channels, CHUNK),
       (double)a->block * CHUNK * (a->tile + 2) * (a->tile + 2) * 1.5,
    float *v;             /* (chunks of channels, tiles, points, 64), and 16 zeros behind each tile */
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
    const int64_t tiles = tiles_of(a->batch, a->out_height, a->out_width, a->tile), chunks = pieces(a->channels, CHUNK);
    const int64_t v_tile = APART((a->tile + 2) * (a->tile + 2) * CHUNK);
    const tiling t = { a->images, a->height, a->width, a->channels, pieces(a->out_height, a->tile), pieces(a->out_width, a->tile),
                       a->tile, a->top, a->left };
    for (int64_t i = begin; i < end; i++) {
        const int64_t tile = i / chunks * a->block, first = i % chunks * CHUNK, count = least(a->channels - first, CHUNK);
        const int64_t n = least(tiles - tile, a->block);
        float *v = a->v + (first / CHUNK * tiles + tile) * v_tile;
        clear(v, n, v_tile, count);
        transform_images(v, v_tile, &t, tile, n, first, count, (float *)worker->scratch);
    }
}

/* out = activation(bias + convolution).  One item: `block` tiles, 70 or, without v, 42 at most, by a part of the filters, 64 after 64. */
KERNEL(winograd, pieces(tiles_of(a->batch, a->out_height, a->out_width, a->tile), a->block) * a->parts,
       a->block / 6.0 * (a->tile + 2) * (a->tile + 2) * a->channels * a->filters / a->parts,
    float *out;           /* (batch, out_height, out_width, filters) */
    OPTIONAL const float *images;    /* (batch, height, width, channels) */
    OPTIONAL const float *v;         /* of winograd_images, else from images in scratch */
    OPTIONAL const float *kernel;    /* (9, channels, filters) by strides */
    OPTIONAL const float *u;         /* of winograd_kernel, else from kernel in scratch */
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
    int64_t place;
    int64_t row;
    int64_t column;
    int64_t flipped;
    int64_t activation;
    int64_t tile;
    int64_t block;
    int64_t parts;)
{
    const int64_t tiles = tiles_of(a->batch, a->out_height, a->out_width, a->tile), points = (a->tile + 2) * (a->tile + 2);
    const int64_t blocks = pieces(tiles, a->block), groups = pieces(a->filters, CHUNK), width = 2 * (a->tile + 2);    /* of a band */
    const int64_t down = pieces(a->out_height, a->tile), across = pieces(a->out_width, a->tile), chunks = pieces(a->channels, CHUNK);
    const tiling from = { a->images, a->height, a->width, a->channels, down, across, a->tile, a->top, a->left };
    const tiling to = { 0, a->out_height, a->out_width, a->filters, down, across, a->tile, 0, 0 };
    const taps kernel = { a->kernel, a->place, a->row, a->column, a->flipped };
    const int64_t each = APART(points * CHUNK);                                             /* from tile to tile, of windows and products */
    float *products = (float *)worker->scratch, *own_u = products + a->block * each, *turned = own_u + width * U_POINT;
    float *patch = turned + 9 * U_POINT, *own_v = patch + points * CHUNK;
    for (int64_t i = begin; i < end; i++) {
        const int64_t tile = i % blocks * a->block, n = least(tiles - tile, a->block), part = i / blocks;
        for (int64_t g = groups * part / a->parts; g < groups * (part + 1) / a->parts; g++) {
            const int64_t columns = least(a->filters - g * CHUNK, CHUNK);
            for (int64_t chunk = 0; chunk < chunks; chunk++) {
                const int64_t first = chunk * CHUNK, count = least(a->channels - first, CHUNK);
                const float *v = a->v ? a->v + (chunk * tiles + tile) * each : own_v;
                if (!a->v) transform_images(own_v, each, &from, tile, n, first, count, patch);
                const taps taps = a->u ? kernel : chunk_of(&kernel, turned, first, g * CHUNK, count, columns);
                for (int64_t p = 0; p < points; p++) {
                    const float *u = a->u ? a->u + ((g * chunks + chunk) * points + p) * U_POINT : own_u + p % width * U_POINT;
                    if (!a->u && p % width == 0) transform_kernel(own_u, &taps, count, columns, a->tile, p / width);
                    multiply_tiles(products + p * CHUNK, each, v + p * CHUNK, u, count, columns, chunk > 0, n);
                }
            }
            store_results(a->out + g * CHUNK, &to, tile, n, products, columns, a->bias ? a->bias + g * CHUNK : 0, a->activation);
        }
    }
}

/* ---- the gradient of the kernel ---- */

/* 64 channels by 64 filters of d_kernel from the sums at all points. */
INLINE void store_d_kernel_of(float *d_kernel, const float *sums, int64_t channels, int64_t filters, int64_t rows, int64_t columns, const int m)
{
    for (int64_t c = 0; c < rows; c++, sums += APART((m + 2) * (m + 2) * CHUNK))
        for (int64_t f = 0; f < columns; f += VL) {
            vf g[3][3];
            FROM_POINTS(g, sums + f, CHUNK, m, 3, kernel_result_pair)
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
    const int64_t width = 2 * (a->tile + 2), v_tile = APART(width * CHUNK), sums_row = APART(points * CHUNK);        /* of a band; a channel */
    float *sums = (float *)worker->scratch, *v = sums + SUM_FILTERS * sums_row, *z = v + SUM_TILES * v_tile;
    float *patch = z + SUM_TILES * v_tile;
    for (int64_t i = begin; i < end; i++) {
        const int64_t index = i / chunks, channel = i % channel_chunks * CHUNK, filter = i % chunks / channel_chunks * SUM_FILTERS;
        const int64_t rows = least(a->channels - channel, CHUNK), columns = least(a->filters - filter, SUM_FILTERS);
        const int64_t begin_tile = index * a->piece, stop = least(begin_tile + a->piece, tiles);
        for (int64_t r = 0; r < BANDS(a->tile); r++)
            for (int64_t tile = begin_tile, n; tile < stop; tile += n) {
                n = (stop - tile) / pieces(stop - tile, SUM_TILES);
                transform_images_band(v, v_tile, &x, tile, n, channel, rows, patch, r);
                for (int64_t f = 0; f < columns; f += CHUNK) {
                    const int64_t some = least(columns - f, CHUNK);
                    float *own = sums + f * sums_row + r * width * CHUNK;
                    transform_gradients_band(z, v_tile, &d, tile, n, filter + f, some, patch, r);
                    for (int64_t p = 0; p < width; p++)
                        multiply(own + p * CHUNK, sums_row, v + p * CHUNK, 1, v_tile, z + p * CHUNK, v_tile, n, some, tile > begin_tile, rows, 1);
                }
            }
        for (int64_t f = 0; f < columns; f += CHUNK) {
            float *to = a->d_kernel + (index * 9 * a->channels + channel) * a->filters + filter + f;
            if (a->tile == 4) store_d_kernel_of(to, sums + f * sums_row, a->channels, a->filters, rows, least(columns - f, CHUNK), 4);
            else store_d_kernel_of(to, sums + f * sums_row, a->channels, a->filters, rows, least(columns - f, CHUNK), 2);
        }
    }
}
