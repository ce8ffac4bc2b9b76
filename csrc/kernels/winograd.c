/* Convolutions by Winograd's algorithm, and the gradient of the kernel: see winograd.h. Windows, kernels and products of 64 channels or filters
   lie [tile][point][64] or [point][channel][64], so that every transform reads and writes with distances that the compiler knows. */
#include "winograd.h"

enum {
    OWN_TILES = 84,          /* times chunks of channels: windows that an item keeps for all its filters */
    SUM_TILES = 32,          /* tiles transformed at once for the kernel's gradient */
};

/* ---- tiles ---- */

/* `count` channels of n tiles at the points of some bands: v[tile][point][CHUNK], v_tile floats from tile to tile. */
INLINE void transform_images_of(float *v, int64_t v_tile, const tiling *t, int64_t tile, int64_t n, int64_t first, int64_t count, float *patch,
                                const int m, const int band, const int end)
{
    const float *at[36];
    for (int64_t i = 0; i < n; i++, v += v_tile) {
        window_of(at, t, tile + i, m + 2, first, count, VL, patch);
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

/* `count` filters of the gradients of n tiles at all points: z[tile][point][CHUNK]. */
INLINE void transform_gradients_of(float *z, int64_t z_tile, const tiling *t, int64_t tile, int64_t n, int64_t first, int64_t count, float *patch,
                                   const int m)
{
    const float *at[16];
    for (int64_t i = 0; i < n; i++, z += z_tile) {
        window_of(at, t, tile + i, m, first, count, VL, patch);
        for (int64_t c = 0; c < count; c += VL)
            TO_POINTS(z + c, CHUNK, vload(at[i * m + j] + c), m, 0, BANDS(m), m, gradient_pair)
    }
}

static void transform_gradients(float *z, int64_t z_tile, const tiling *t, int64_t tile, int64_t n, int64_t first, int64_t count, float *patch)
{
    if (t->step == 4) transform_gradients_of(z, z_tile, t, tile, n, first, count, patch, 4);
    else transform_gradients_of(z, z_tile, t, tile, n, first, count, patch, 2);
}

/* Results of n tiles, `columns` filters from `out`, which points to the first of them in the first image. */
INLINE void store_results_of(float *out, const tiling *t, int64_t tile, int64_t n, const float *products, int64_t columns,
                             const float *bias, int64_t activation, const int m)
{
    const vf lowest = vset(activation == ACT_RELU ? 0 : -INFINITY);
    for (int64_t i = 0; i < n; i++, tile++, products += APART((m + 2) * (m + 2) * CHUNK)) {
        const tile_place place = place_of(t, tile);
        const int64_t rows = least(t->height - place.row, place.down), across = least(t->width - place.column, place.across);
        float *to = out + ((place.image * t->height + place.row) * t->width + place.column) * t->channels;
        for (int64_t c = 0; c < columns; c += VL) {
            const int64_t left_over = columns - c;
            const vf b = bias ? vload_n(bias + c, left_over) : vset(-0.0f);
            vf y[4][4];
            FROM_POINTS(y, products + c, CHUNK, m, m, result_pair)
            UNROLL for (int r = 0; r < m; r++)
                UNROLL for (int q = 0; q < m; q++) y[r][q] = vgreater(lowest, y[r][q] + b);
            if (rows == m && across == m && left_over >= VL) {
                UNROLL for (int r = 0; r < m; r++)
                    UNROLL for (int q = 0; q < m; q++) vstore(to + c + (r * t->width + q) * t->channels, y[r][q]);
            } else {
                UNROLL for (int r = 0; r < m; r++)
                    UNROLL for (int q = 0; q < m; q++)
                        if (r < rows && q < across) vstore_n(to + c + (r * t->width + q) * t->channels, y[r][q], left_over);
            }
        }
        for (int64_t r = 0; r < rows && activation > ACT_RELU; r++)
            tile_activate(to + r * t->width * t->channels, t->channels, across, columns, activation);
    }
}

static void store_results(float *out, const tiling *t, int64_t tile, int64_t n, const float *products, int64_t columns,
                          const float *bias, int64_t activation)
{
    if (t->step == 4) store_results_of(out, t, tile, n, products, columns, bias, activation, 4);
    else store_results_of(out, t, tile, n, products, columns, bias, activation, 2);
}

/* ---- what is fetched during products, which leave the memory idle ---- */

enum { STEP = 16 };                                /* terms of a product from step to step */

typedef struct fetching {                          /* `left` rows of a range, then those from `next` on */
    const float *at;
    int64_t row, left;
    const range *next, *end;
} fetching;

INLINE void fetch_some(fetching *f, int64_t n)
{
    for (; n > 0; n--, f->at += f->row, f->left--) {
        if (!f->left) {
            if (f->next == f->end) return;
            f->at = f->next->from, f->row = f->next->row, f->left = f->next->n, f->next++;
        }
        UNROLL for (int c = 0; c < CHUNK; c += 16) __builtin_prefetch(f->at + c, 0, 3);
    }
}

/* ---- products ---- */

enum { STRIP = VL == 16 ? 4 : 2, ROWS = 6 };       /* vectors and rows of a tile */

#define STEPS(depth) (CHUNK / (STRIP * VL) * pieces(most(depth, 1), STEP))       /* of a tile */

/* out[i, j] (+)= sum over p of a[i * a_row + p * a_depth] * b[p * b_row + j], for 64 columns j: what tile_multiply does, but with so few
   terms that its masks, its fetches and the way into it would take a tenth of the time. */
INLINE void multiply_rows(float *out, int64_t out_row, const float *a, int64_t a_row, int64_t a_depth, const float *b, int64_t b_row,
                          int64_t depth, int64_t accumulate, const int rows, const int beside, fetching *ahead, int64_t share)
{
    for (int j = 0; j < CHUNK; j += STRIP * VL) {
        vf sum[ROWS][STRIP];
        UNROLL for (int i = 0; i < rows; i++)
            UNROLL for (int k = 0; k < STRIP; k++) sum[i][k] = accumulate ? vload(out + i * out_row + j + k * VL) : vset(0);
        const char *at = (const char *)a;
        const float *right = b + j;
        int64_t s = 4 * a_row, s3 = 3 * s, s5 = 5 * s;
        for (int64_t step = depth; step > 0; step -= STEP) {
            fetch_some(ahead, share);
            for (int64_t p = least(step, STEP); p > 0; p--, right += b_row, at += 4 * a_depth) {
                vf v[STRIP];
                UNROLL for (int k = 0; k < STRIP; k++) v[k] = vload(right + k * VL);
                if (!beside) __asm__("" : "+r"(s), "+r"(s3), "+r"(s5));     /* else each row takes a register, or the stack */
                UNROLL for (int i = 0; i < rows; i++) {
                    const vf x = vset(beside ? ((const float *)at)[i] : *tile_row(at, i, s, s3, s5));
                    UNROLL for (int k = 0; k < STRIP; k++) sum[i][k] = vfma(x, v[k], sum[i][k]);
                }
            }
        }
        UNROLL for (int i = 0; i < rows; i++)
            UNROLL for (int k = 0; k < STRIP; k++) vstore(out + i * out_row + j + k * VL, sum[i][k]);
    }
}

INLINE void multiply(float *out, int64_t out_row, const float *a, int64_t a_row, int64_t a_depth, const float *b, int64_t b_row,
                     int64_t depth, int64_t columns, int64_t accumulate, int64_t rows, const int beside, const fetch *ahead)
{
    if (!rows) return;
    if (columns < CHUNK) {
        const struct tile t = {
            .out = out, .out_row = out_row, .a = a, .a_row = a_row, .a_depth = a_depth, .b = b, .b_row = b_row, .b_panel = PANEL,
            .depth = depth, .columns = columns, .accumulate = accumulate,
        };
        tile_multiply(&t, rows);
        return;
    }
    const int64_t n = pieces(rows, ROWS), share = pieces(ahead->rows, n * STEPS(depth)), size = rows / n, larger = rows % n;
    fetching fetched = { 0, 0, 0, ahead->ranges, ahead->ranges + ahead->count };
    for (int64_t i = 0; i < n; i++) {
        const int64_t own = size + (i < larger);
#define CASE(r) case r: multiply_rows(out, out_row, a, a_row, a_depth, b, b_row, depth, accumulate, r, beside, &fetched, share); break;
        switch (own) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) }
#undef CASE
        out += own * out_row, a += own * a_row;
    }
}

void multiply_tiles(float *products, int64_t row, const float *v, const float *u, int64_t depth, int64_t columns, int64_t accumulate, int64_t n,
                    const fetch *ahead)
{
    multiply(products, row, v, row, 1, u, CHUNK, depth, columns, accumulate, n, 0, ahead);
}

void sum_tiles(float *sums, int64_t row, const float *v, const float *z, int64_t each, int64_t n, int64_t columns, int64_t accumulate,
               int64_t channels, const fetch *ahead)
{
    multiply(sums, row, v, 1, each, z, each, n, columns, accumulate, channels, 1, ahead);
}

/* ---- the kernel ---- */

/* What chunk_of gives at all points: u[point][channel][CHUNK]. */
INLINE void transform_kernel_of(float *u, const taps *t, int64_t rows, int64_t columns, const int m)
{
    const float *from = t->kernel, *at[9];
    for (int64_t i = 0; i < rows; i++, from += t->row, u += CHUNK) {
        for (int k = 0; k < 9; k++) at[k] = from + (t->flipped ? 8 - k : k) * t->place;
        EACH_VECTOR(c, width, columns, TO_POINTS(u + c, U_POINT, vload_n(at[3 * i + j] + c, width), m, 0, BANDS(m), 3, kernel_pair));
    }
}

static void transform_kernel(float *u, const taps *t, int64_t rows, int64_t columns, int64_t m)
{
    if (m == 4) transform_kernel_of(u, t, rows, columns, 4);
    else transform_kernel_of(u, t, rows, columns, 2);
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
    const int64_t chunks = pieces(a->channels, CHUNK), points = (a->tile + 2) * (a->tile + 2);
    const taps kernel = { a->kernel, a->place, a->row, a->column, a->flipped };
    for (int64_t i = begin; i < end; i++) {
        const int64_t channel = i % chunks * CHUNK, filter = i / chunks * CHUNK;
        const int64_t rows = least(a->channels - channel, CHUNK), columns = least(a->filters - filter, CHUNK);
        float *u = a->u + i * points * U_POINT;
        clear(u, points, U_POINT, least(rows, columns));
        const taps chunk = chunk_of(&kernel, (float *)worker->scratch, channel, filter, rows, columns);
        transform_kernel(u, &chunk, rows, columns, a->tile);
    }
}

/* ---- the convolution, and with the kernel flipped the gradient of the images ---- */

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
    const tiling t = tiling_of(a->images, a->batch, a->height, a->width, a->channels, a->out_height, a->out_width, a->tile, a->top, a->left);
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
    const int64_t blocks = pieces(tiles, a->block), groups = pieces(a->filters, CHUNK), depth = a->u || a->block > 16 ? CHUNK : CHUNK / 2;
    const int64_t chunks = pieces(a->channels, CHUNK);
    const tiling from = tiling_of(a->images, a->batch, a->height, a->width, a->channels, a->out_height, a->out_width, a->tile, a->top, a->left);
    const tiling to = tiling_of(0, a->batch, a->out_height, a->out_width, a->filters, a->out_height, a->out_width, a->tile, 0, 0);
    const taps kernel = { a->kernel, a->place, a->row, a->column, a->flipped };
    const int64_t each = APART(points * CHUNK);                                             /* from tile to tile, of windows and products */
    float *own_products = (float *)worker->scratch, *own_u = own_products + a->block * each, *turned = own_u + points * U_POINT;
    float *patch = turned + 9 * U_POINT, *own_v = patch + points * CHUNK;
    const int64_t own = chunks * a->block <= OWN_TILES ? chunks : 1;                         /* chunks of windows kept for all filters */
    for (int64_t i = begin; i < end; i++) {
        const int64_t tile = i % blocks * a->block, n = least(tiles - tile, a->block), part = i / blocks;
        const int64_t first_group = groups * part / a->parts, stop_group = groups * (part + 1) / a->parts;
        const int in_place = !a->v && a->channels <= depth && stop_group - first_group == 1 && a->filters % CHUNK == 0 && STRIP * VL == CHUNK;
        float *products = in_place ? own_v : own_products;
        /* With each point of a group: a share of the next block's images, of the lines of the results, of the kernel's next numbers. */
        const int64_t shares = pieces(a->channels, depth) * points, tap_share = 9 * depth / points, tap_row = most(a->row, a->column);
        const int64_t before = pixels_before(&from, least(tile + n, tiles)), stop = pixels_before(&from, least(tile + 2 * n, tiles));
        const int64_t image_rows = (stop - before) * a->channels / CHUNK, image_share = pieces(image_rows, shares);
        const int64_t out_before = pixels_before(&to, tile), pixels = pixels_before(&to, tile + n) - out_before, out_share = pieces(pixels, shares);
        for (int64_t g = first_group; g < stop_group; g++) {
            const int64_t columns = least(a->filters - g * CHUNK, CHUNK);
            const float *next_images = a->images + before * a->channels, *out_lines = a->out + out_before * a->filters + g * CHUNK;
            int64_t share = 0;
            for (int64_t first = 0; first < a->channels; first += depth) {
                const int64_t count = least(a->channels - first, depth), chunk = first / CHUNK, within = first % CHUNK;
                float *here = own_v + chunk % own * a->block * each;
                if (!a->v && within == 0 && (g == first_group || own < chunks))
                    transform_images(here, each, &from, tile, n, first, least(a->channels - first, CHUNK), patch);
                const float *v = (a->v ? a->v + (chunk * tiles + tile) * each : here) + within;
                const float *next_v = a->v ? a->v + ((chunk + 1) % chunks * tiles + tile) * each : 0;
                if (!a->u) {
                    const taps slice = chunk_of(&kernel, turned, first, g * CHUNK, count, columns);
                    transform_kernel(own_u, &slice, count, columns, a->tile);
                }
                /* Where the kernel's filters lie apart, lines have numbers of a whole chunk: they are fetched once for all its slices. */
                const int64_t apart = a->column == 1 ? depth : CHUNK, after = first - first % apart + apart, soon = after < a->channels ? after : 0;
                const int64_t soon_g = soon ? g : g + 1 < stop_group || tile + n == tiles ? least(g + 1, groups - 1) : first_group;
                const float *soon_taps = a->kernel + soon * a->row + soon_g * CHUNK * a->column;
                for (int64_t p = 0; p < points; p++, share++) {
                    const float *u = a->u ? a->u + ((g * chunks + chunk) * points + p) * U_POINT : own_u + p * U_POINT;
                    const int64_t tap = (first % apart / depth * points + p) * tap_share;
                    fetch ahead;
                    ahead.count = ahead.rows = 0;
                    fetch_rows(&ahead, out_lines + share * out_share * a->filters, a->filters, least(out_share, pixels - share * out_share));
                    if (a->v && p + 1 == points) fetch_rows(&ahead, next_v, each, n);
                    else if (a->v && within == 0) fetch_rows(&ahead, v + (p + 1) * CHUNK, each, n);
                    else if (!a->v && g == first_group)
                        fetch_rows(&ahead, next_images + share * image_share * CHUNK, CHUNK, least(image_share, image_rows - share * image_share));
                    if (a->u) fetch_rows(&ahead, u + U_POINT, CHUNK, CHUNK);
                    else fetch_rows(&ahead, soon_taps + tap / apart * a->place + tap % apart * tap_row, tap_row, tap_share);
                    int64_t some = n;
                    const int64_t place = wanted_tiles(&from, tile, &some, p / (a->tile + 2) == 1, p % (a->tile + 2) == 1) * each + p * CHUNK;
                    multiply_tiles(products + place, each, v + place, u, count, columns, first > 0, some, &ahead);
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

/* For each piece of tiles, its part of d_kernel.  One item: 64 channels by 64 filters for one piece. */
KERNEL(winograd_d_kernel, pieces(tiles_of(a->batch, a->out_height, a->out_width, a->tile), a->piece) * pieces(a->channels, CHUNK) *
       pieces(a->filters, CHUNK),
       a->piece / 6.0 * (a->tile + 2) * (a->tile + 2) * least(a->channels, CHUNK) * least(a->filters, CHUNK),
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
    const int64_t channel_chunks = pieces(a->channels, CHUNK), chunks = channel_chunks * pieces(a->filters, CHUNK);
    const tiling x = tiling_of(a->images, a->batch, a->height, a->width, a->channels, a->out_height, a->out_width, a->tile, a->top, a->left);
    const tiling d = tiling_of(a->d_out, a->batch, a->out_height, a->out_width, a->filters, a->out_height, a->out_width, a->tile, 0, 0);
    const int64_t each = APART(points * CHUNK);                                     /* from tile to tile and from channel to channel */
    const int64_t group = x.across > SUM_TILES ? SUM_TILES : SUM_TILES / x.across * x.across;     /* whole rows of tiles: see fetch_rows */
    float *sums = (float *)worker->scratch, *v = sums + CHUNK * each, *z = v + SUM_TILES * each, *patch = z + SUM_TILES * each;
    for (int64_t i = begin; i < end; i++) {
        const int64_t index = i / chunks, channel = i % channel_chunks * CHUNK, filter = i % chunks / channel_chunks * CHUNK;
        const int64_t rows = least(a->channels - channel, CHUNK), columns = least(a->filters - filter, CHUNK);
        const int64_t begin_tile = index * a->piece, stop = least(begin_tile + a->piece, tiles);
        float *d_kernel = a->d_kernel + (index * 9 * a->channels + channel) * a->filters + filter;
        for (int64_t tile = begin_tile, n; tile < stop; tile += n) {
            n = least(stop - tile, group);
            const int whole = tile == begin_tile && tile + n == stop;
            transform_images(v, each, &x, tile, n, channel, rows, patch);
            if (!whole || channel == 0 || i == begin) transform_gradients(z, each, &d, tile, n, filter, columns, patch);    /* else the last item's */
            const int64_t last = tile + n == stop, j = i + last, next = last ? j / chunks * a->piece : tile + n, after = least(tiles, next + group);
            const float *images = a->images + pixels_before(&x, next) * a->channels + j % channel_chunks * CHUNK;
            const float *d_out = a->d_out + pixels_before(&d, next) * a->filters + j % chunks / channel_chunks * CHUNK;
            const int64_t image_share = pieces(pixels_before(&x, after) - pixels_before(&x, next), points);
            const int64_t d_share = pieces(pixels_before(&d, after) - pixels_before(&d, next), points), taps = 9 * CHUNK / points;
            for (int64_t p = 0; p < points; p++) {
                fetch ahead;
                ahead.count = ahead.rows = 0;
                fetch_rows(&ahead, images + p * image_share * a->channels, a->channels, image_share);
                fetch_rows(&ahead, d_out + p * d_share * a->filters, a->filters, d_share);
                if (last) fetch_rows(&ahead, d_kernel + (p * taps / CHUNK * a->channels + p * taps % CHUNK) * a->filters, a->filters, taps);
                int64_t some = n;
                const int64_t at = wanted_tiles(&x, tile, &some, p / (a->tile + 2) == 1, p % (a->tile + 2) == 1) * each + p * CHUNK;
                sum_tiles(sums + p * CHUNK, each, v + at, z + at, each, some, columns, tile > begin_tile, rows, &ahead);
            }
        }
        if (a->tile == 4) store_d_kernel_of(d_kernel, sums, a->channels, a->filters, rows, columns, 4);
        else store_d_kernel_of(d_kernel, sums, a->channels, a->filters, rows, columns, 2);
    }
}
