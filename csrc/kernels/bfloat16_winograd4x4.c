/* Convolutions of 3 x 3, stride 1, by Winograd's algorithm F(4 x 4, 3 x 3) of winograd.h with products of operands rounded to bfloat16, and
   the gradient of the kernel. The transforms are computed in float32; windows, kernels and gradients at the points are rounded, two of
   them to a pair: two channels, or two tiles for the kernel's gradient. Right operands lie in panels of PANEL columns: see tile_bf16.h.
   The root mean square of the error is 1.0 to 1.4 % of the results' (of the direct sum 0.24 %): see tests/ops/test_bfloat16.py. */
#include "tile_bf16.h"
#include "winograd.h"

enum {
    POINTS = 36,
    WINDOW = APART(POINTS * CHUNK / 2),      /* pairs from tile to tile */
    PRODUCTS = APART(POINTS * CHUNK),        /* floats from tile to tile; pairs from two tiles to the next two */
    KERNEL_PAIRS = CHUNK / 2 * PRODUCTS,     /* pairs of a kernel of 64 channels by 64 filters */
    OWN_TILES = 84,                          /* times chunks of channels: windows that an item keeps for all its filters */
    SUM_TILES = 64,                          /* tiles transformed at once for the kernel's gradient; even */
    SUM_STREAMED = 1 << 19,                  /* numbers of it that are stored past the caches */
};

#ifdef __clang__
#define ROLLED _Pragma("clang loop unroll(disable)")
#else
#define ROLLED _Pragma("GCC unroll 1")
#endif

/* The size x size numbers (which, k), which 0 or 1, to all points, pairs of both from `to` on, `point` pairs apart: columns, then rows. */
#define TO_PAIRS(to, point, number, size, transform, join)                                                             \
    do {                                                                                                               \
        uint32_t *out = (to);                                                                                          \
        vf half[2][6][size];                                                                                           \
        for (int which = 0; which < 2; which++)                                                                        \
            ROLLED for (int j = 0; j < (size); j++) {                                                                  \
                vf line[size];                                                                                         \
                UNROLL for (int i = 0; i < (size); i++) line[i] = number(which, i * (size) + j);                       \
                UNROLL for (int r = 0; r < 3; r++) {                                                                   \
                    vf low, high;                                                                                      \
                    transform(&low, &high, line, 4, r);                                                                \
                    half[which][2 * r][j] = low, half[which][2 * r + 1][j] = high;                                     \
                }                                                                                                      \
            }                                                                                                          \
        ROLLED for (int i = 0; i < 6; i++) {                                                                           \
            vf line[2][size];                                                                                          \
            for (int which = 0; which < 2; which++)                                                                    \
                for (int j = 0; j < (size); j++)            /* in one of 32 registers, else it is loaded for every use */\
                    line[which][j] = VL == 16 ? vheld(half[which][i][j]) : half[which][i][j];                          \
            UNROLL for (int s = 0; s < 3; s++) {                                                                       \
                vf low[2], high[2];                                                                                    \
                for (int which = 0; which < 2; which++) transform(&low[which], &high[which], line[which], 4, s);       \
                vustore(out + (6 * i + 2 * s) * (point), join(low[0], low[1]));                                        \
                vustore(out + (6 * i + 2 * s + 1) * (point), join(high[0], high[1]));                                  \
            }                                                                                                          \
        }                                                                                                              \
    } while (0)

/* ---- windows ---- */

#define NEXT(s, k) vload(at[k] + c + (s) * VL)

/* `count` channels of n tiles at all points: v[tile][point][CHUNK / 2]. */
static void transform_windows(uint32_t *v, const tiling *s, int64_t tile, int64_t n, int64_t first, int64_t count, float *patch)
{
    const float *at[POINTS];
    for (int64_t i = 0; i < n; i++, v += WINDOW) {
        window_of(at, s, tile + i, 6, first, count, 2 * VL, patch);
        for (int64_t c = 0; c < count; c += 2 * VL)
            TO_PAIRS(v + c / 2, CHUNK / 2, NEXT, 6, image_pair, vpairs_along);
    }
}

/* ---- what is fetched during products and transforms, which leave the memory idle ---- */

enum { ROWS = 6, STEP = 8, RUNS = 4 };         /* rows of a tile of products; pairs from fetch to fetch */

typedef struct later {                         /* runs of `left` rows of 64 numbers, `row` apart */
    struct { const float *at; int64_t row, left; } run[RUNS];
    int64_t now, share;                        /* the run that is fetched next; rows of a run that a tile fetches in each step */
} later;

INLINE void fetch_later(later *f, int64_t k, const float *at, int64_t row, int64_t n)
{
    f->run[k].at = at, f->run[k].row = row, f->run[k].left = most(n, 0);
}

/* The share with which the tiles of `rows` rows and `pairs` pairs fetch runs of so many. A tile is given rows of one run only: to look for
   the next run in every step takes a twentieth of the time. */
static int64_t fetch_share(int64_t rows, int64_t pairs, int64_t first, int64_t second, int64_t third, int64_t fourth)
{
    const int64_t tiles = pieces(rows, ROWS), steps = most(pieces(pairs, STEP), 1);
    for (int64_t share = 1;; share++) {
        const int64_t n = share * steps;
        if (share == 16 || pieces(first, n) + pieces(second, n) + pieces(third, n) + pieces(fourth, n) <= tiles) return share;
    }
}

/* The next n rows, all of one run; or null. */
INLINE const float *fetch_next(later *f, int64_t n, int64_t *row)
{
    while (f->now < RUNS && f->run[f->now].left <= 0) f->now++;
    if (f->now == RUNS) return 0;
    const float *at = f->run[f->now].at;
    *row = f->run[f->now].row;
    f->run[f->now].at += n * *row, f->run[f->now].left -= n;
    return at;
}

INLINE void fetch_rows_now(const float *at, int64_t row, int64_t n)
{
    for (; n > 0; n--, at += row) UNROLL for (int c = 0; c < CHUNK; c += 16) __builtin_prefetch(at + c, 0, 3);
}

/* All windows at all points, where many filters see them.  One item: 64 channels of `block` tiles. */
KERNEL(winograd4x4_images_bf16, pieces(tiles_of(a->batch, a->out_height, a->out_width, 4), a->block) * pieces(a->channels, CHUNK),
       (double)a->block * CHUNK * POINTS * 1.5,
    uint32_t *v;          /* (chunks of channels, tiles, points, 32), and 16 zeros behind each tile */
    const float *images;  /* (batch, height, width, channels) */
    int64_t batch;
    int64_t height;
    int64_t width;
    int64_t channels;
    int64_t out_height;
    int64_t out_width;
    int64_t top;
    int64_t left;
    int64_t block;)
{
    const uint32_t state = flush_denormals();
    const int64_t tiles = tiles_of(a->batch, a->out_height, a->out_width, 4), chunks = pieces(a->channels, CHUNK);
    const tiling s = tiling_of(a->images, a->batch, a->height, a->width, a->channels, a->out_height, a->out_width, 4, a->top, a->left);
    for (int64_t i = begin; i < end; i++) {
        const int64_t tile = i / chunks * a->block, first = i % chunks * CHUNK, count = least(a->channels - first, CHUNK);
        const int64_t n = least(tiles - tile, a->block);
        uint32_t *v = a->v + (first / CHUNK * tiles + tile) * WINDOW;
        clear((float *)v, n, WINDOW, count);
        const int64_t j = i + 1, next = pixels_before(&s, j / chunks * a->block), stop = pixels_before(&s, least(j / chunks * a->block + n, tiles));
        const float *soon = a->images + next * a->channels + j % chunks * CHUNK;
        const int64_t share = pieces(most(stop - next, 0), n);
        for (int64_t k = 0; k < n; k++) {
            fetch_rows_now(soon + k * share * a->channels, a->channels, share);
            transform_windows(v + k * WINDOW, &s, tile + k, 1, first, count, (float *)worker->scratch);
        }
    }
    keep_denormals(state);
}

/* ---- the kernel ---- */

#define PARTLY(s, k) vload_part(at[s][k] + c, part)

/* `rows` channels by `columns` filters from these on at all points: u[channel / 2][point][CHUNK]. */
static void transform_kernel(uint32_t *u, const taps *t, float *turned, int64_t channel, int64_t filter, int64_t rows, int64_t columns)
{
    const taps chunk = chunk_of(t, turned, channel, filter, rows, columns);
    const float *from = chunk.kernel, *at[2][9];
    for (int64_t i = 0; i < rows; i++, from += chunk.row) {
        for (int k = 0; k < 9; k++) at[i % 2][k] = from + (chunk.flipped ? 8 - k : k) * chunk.place;
        if (i % 2 == 0 && i + 1 < rows) continue;
        if (i % 2 == 0) for (int k = 0; k < 9; k++) at[1][k] = zeros;
        for (int64_t c = 0; c < columns; c += VL) {
            const vpart part = vpart_of(columns - c);
            TO_PAIRS(u + i / 2 * PRODUCTS + c, CHUNK, PARTLY, 3, kernel_pair, vpairs);
        }
    }
}

/* All of the kernel at all points, where several blocks of tiles want it.  One item: 32 channels by 64 filters. */
KERNEL(winograd4x4_pack_bf16, pieces(a->channels, CHUNK) * pieces(a->filters, CHUNK) * 2, 1.5 * CHUNK * CHUNK * POINTS,
    uint32_t *u;          /* (chunks of filters, chunks of channels, 32, points, 64), and 16 zeros behind each pair of channels */
    const float *kernel;  /* (9, channels, filters) by strides */
    int64_t channels;
    int64_t filters;
    int64_t place;
    int64_t row;
    int64_t column;
    int64_t flipped;)
{
    const uint32_t state = flush_denormals();
    const int64_t chunks = pieces(a->channels, CHUNK);
    const taps kernel = { a->kernel, a->place, a->row, a->column, a->flipped };
    for (int64_t i = begin; i < end; i++) {
        const int64_t half = i % 2 * (CHUNK / 2), channel = i / 2 % chunks * CHUNK + half, filter = i / 2 / chunks * CHUNK;
        const int64_t rows = most(least(a->channels - channel, CHUNK / 2), 0), columns = least(a->filters - filter, CHUNK);
        uint32_t *u = a->u + i * (KERNEL_PAIRS / 2);
        for (int k = 0; k < 9; k++)
            fetch_rows_now(a->kernel + k * a->place + channel * a->row + filter * a->column, most(a->row, a->column), a->row == 1 ? columns : rows);
        clear((float *)u, CHUNK / 4, PRODUCTS, least(2 * rows, columns));
        transform_kernel(u, &kernel, (float *)worker->scratch, channel, filter, rows, columns);
    }
    keep_denormals(state);
}

/* ---- products ---- */

#if defined(__AVX512BF16__)
/* `rows` rows of multiply(), 64 columns: what pair_multiply does, but with so few terms the way into it would take a tenth of the time. */
INLINE void multiply_rows(float *out, const uint32_t *a, const int64_t a_row, const int64_t a_depth, const uint32_t *b, int64_t pairs,
                          int64_t accumulate, const int rows, const float *soon, int64_t soon_row, int64_t share)
{
    vf sum[ROWS][4];
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int k = 0; k < 4; k++) sum[i][k] = accumulate ? vload(out + i * PRODUCTS + k * VL) : vset(0);
    for (; pairs > 0; pairs -= STEP) {
        fetch_rows_now(soon, soon_row, share);
        soon += share * soon_row;
        ROLLED for (int64_t p = least(pairs, STEP); p > 0; p--, a += a_depth, b += PRODUCTS) {
            vu v[4];
            UNROLL for (int k = 0; k < 4; k++) v[k] = vuload(b + k * VL);
            UNROLL for (int i = 0; i < rows; i++) {
                const vu x = (vu)viset((int32_t)a[i * a_row]);
                UNROLL for (int k = 0; k < 4; k++) sum[i][k] = vdot2(x, v[k], sum[i][k]);
            }
        }
    }
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int k = 0; k < 4; k++) vstore(out + i * PRODUCTS + k * VL, sum[i][k]);
}
#endif

/* out[i, j] (+)= sum of products of pairs of a (rows, pairs) and b (pairs, columns), rows of out and b being PRODUCTS apart; at most 64 columns. */
INLINE void multiply(float *out, const uint32_t *a, const int64_t a_row, const int64_t a_depth, const uint32_t *b, int64_t pairs,
                     int64_t columns, int64_t accumulate, int64_t rows, later *ahead UNUSED)
{
    if (!rows) return;
#if defined(__AVX512BF16__)
    if (columns == CHUNK) {
        const int64_t n = pieces(rows, ROWS), size = rows / n, larger = rows % n, share = ahead->share;
        int64_t soon_row = 0;
        for (int64_t i = 0; i < n; i++) {
            const int64_t own = size + (i < larger);
            const float *soon = fetch_next(ahead, share * pieces(most(pairs, 1), STEP), &soon_row);
#define CASE(r) case r: multiply_rows(out, a, a_row, a_depth, b, pairs, accumulate, r, soon, soon_row, soon ? share : 0); break;
            switch (own) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) }
#undef CASE
            out += own * PRODUCTS, a += own * a_row;
        }
        for (const float *soon; (soon = fetch_next(ahead, 1, &soon_row));) fetch_rows_now(soon, soon_row, 1);     /* of few tiles */
        return;
    }
#endif
    uint32_t panel[CHUNK / 2 * PANEL];
    pair_tile t = { .out_row = PRODUCTS, .a = a, .a_row = a_row, .a_depth = a_depth, .b = panel, .pairs = pairs, .accumulate = accumulate };
    for (int64_t j = 0; j < columns; j += PANEL) {
        for (int64_t p = 0; p < pairs; p++) memcpy(panel + p * PANEL, b + p * PRODUCTS + j, PANEL * sizeof(uint32_t));
        t.out = out + j, t.columns = least(columns - j, PANEL);
        pair_multiply(&t, rows);
    }
}

/* ---- the convolution, and with the kernel flipped the gradient of the images ---- */

/* Results of n tiles, `columns` filters from `out`, which points to the first of them in the first image. */
static void store_results(float *out, const tiling *s, int64_t tile, int64_t n, const float *products, int64_t columns, const float *bias,
                          int64_t activation, int64_t accumulate)
{
    for (int64_t i = 0; i < n; i++, tile++, products += PRODUCTS) {
        const tile_place p = place_of(s, tile);
        const int64_t rows = least(s->height - p.row, p.down), across = least(s->width - p.column, p.across), filters = s->channels;
        float *to = out + ((p.image * s->height + p.row) * s->width + p.column) * filters;
        for (int64_t c = 0; c < columns; c += VL) {
            const int64_t left_over = columns - c;
            vf y[4][4];
            FROM_POINTS(y, products + c, CHUNK, 4, 4, result_pair)
            if (accumulate)
                UNROLL for (int k = 0; k < 16; k++)
                    if (k / 4 < rows && k % 4 < across) y[k / 4][k % 4] += vload_n(to + c + (k / 4 * s->width + k % 4) * filters, left_over);
            if (bias) {
                const vf b = vload_n(bias + c, left_over);
                UNROLL for (int k = 0; k < 16; k++) y[k / 4][k % 4] += b;
            }
            if (activation == ACT_RELU) UNROLL for (int k = 0; k < 16; k++) y[k / 4][k % 4] = vgreater(vset(0), y[k / 4][k % 4]);
            if (rows == 4 && across == 4 && left_over >= VL) {
                UNROLL for (int r = 0; r < 4; r++)
                    UNROLL for (int q = 0; q < 4; q++) vstore(to + c + (r * s->width + q) * filters, y[r][q]);
            } else {
                UNROLL for (int r = 0; r < 4; r++)
                    UNROLL for (int q = 0; q < 4; q++)
                        if (r < rows && q < across) vstore_n(to + c + (r * s->width + q) * filters, y[r][q], left_over);
            }
        }
        for (int64_t r = 0; activation > ACT_RELU && r < rows; r++)
            tile_activate(to + r * s->width * filters, filters, across, columns, activation);
    }
}

/* out = activation(bias + convolution).  One item: `block` tiles, 70 or, without v, 42 at most, by a part of the filters, 64 after 64. */
KERNEL(winograd4x4_bf16, pieces(tiles_of(a->batch, a->out_height, a->out_width, 4), a->block) * a->parts,
       a->block * POINTS / 12.0 * a->channels * a->filters / a->parts,
    float *out;           /* (batch, out_height, out_width, filters) */
    OPTIONAL const float *images;    /* (batch, height, width, channels) */
    OPTIONAL const uint32_t *v;      /* of winograd4x4_images_bf16, else from images in scratch */
    OPTIONAL const float *kernel;    /* (9, channels, filters) by strides */
    OPTIONAL const uint32_t *u;      /* of winograd4x4_pack_bf16, else from kernel in scratch */
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
    int64_t block;
    int64_t parts;
    int64_t accumulate;   /* 1: added to what is in out */)
{
    const uint32_t state = flush_denormals();
    const int64_t tiles = tiles_of(a->batch, a->out_height, a->out_width, 4), blocks = pieces(tiles, a->block);
    const int64_t groups = pieces(a->filters, CHUNK), chunks = pieces(a->channels, CHUNK);
    const tiling from = tiling_of(a->images, a->batch, a->height, a->width, a->channels, a->out_height, a->out_width, 4, a->top, a->left);
    const tiling to = tiling_of(0, a->batch, a->out_height, a->out_width, a->filters, a->out_height, a->out_width, 4, 0, 0);
    const taps kernel = { a->kernel, a->place, a->row, a->column, a->flipped };
    float *products = (float *)worker->scratch, *turned = products + a->block * PRODUCTS, *patch = turned + 9 * U_POINT;
    uint32_t *own_u = (uint32_t *)(patch + POINTS * CHUNK), *own_v = own_u + KERNEL_PAIRS;
    const int64_t own = chunks * a->block <= OWN_TILES ? chunks : 1;                         /* chunks of windows kept for all filters */
    for (int64_t i = begin; i < end; i++) {
        const int64_t tile = i % blocks * a->block, n = least(tiles - tile, a->block), part = i / blocks;
        const int64_t first_group = groups * part / a->parts, stop_group = groups * (part + 1) / a->parts;
        /* With each point of a group: a share of the next block's images, of the lines of the results, of the kernel's next numbers. */
        const int64_t shares = chunks * POINTS, taps = 9 * CHUNK / POINTS, tap_row = most(a->row, a->column);
        const int64_t before = pixels_before(&from, least(tile + n, tiles)), stop = pixels_before(&from, least(tile + 2 * n, tiles));
        const int64_t image_rows = (stop - before) * a->channels / CHUNK, image_share = pieces(image_rows, shares);
        const int64_t out_before = pixels_before(&to, tile), pixels = pixels_before(&to, tile + n) - out_before, out_share = pieces(pixels, shares);
        for (int64_t g = first_group; g < stop_group; g++) {
            const int64_t columns = least(a->filters - g * CHUNK, CHUNK);
            const float *next_images = a->images + before * a->channels, *out_lines = a->out + out_before * a->filters + g * CHUNK;
            for (int64_t chunk = 0; chunk < chunks; chunk++) {
                const int64_t first = chunk * CHUNK, count = least(a->channels - first, CHUNK);
                uint32_t *here = own_v + chunk % own * a->block * WINDOW;
                if (!a->v && (g == first_group || own < chunks)) transform_windows(here, &from, tile, n, first, count, patch);
                const uint32_t *v = a->v ? a->v + (chunk * tiles + tile) * WINDOW : here;
                const uint32_t *u = a->u ? a->u + (g * chunks + chunk) * KERNEL_PAIRS : own_u;
                if (!a->u) transform_kernel(own_u, &kernel, turned, first, g * CHUNK, count, columns);
                const int64_t soon = chunk + 1 < chunks, more = g + 1 < stop_group || tile + n == tiles;
                const int64_t soon_g = soon ? g : more ? least(g + 1, groups - 1) : first_group;
                const float *soon_taps = a->kernel + soon * (first + CHUNK) * a->row + soon_g * CHUNK * a->column;
                const int64_t fetched = fetch_share(n, pieces(count, 2), out_share, a->v ? n : g == first_group ? image_share : 0,
                                                    a->u ? CHUNK / 2 : taps, 0);
                for (int64_t p = 0; p < POINTS; p++, u += CHUNK) {
                    const int64_t share = chunk * POINTS + p, tap = p * taps;
                    later ahead = { .share = fetched };
                    fetch_later(&ahead, 0, out_lines + share * out_share * a->filters, a->filters, least(out_share, pixels - share * out_share));
                    if (a->v) fetch_later(&ahead, 1, (const float *)v + (p + 2) / 2 * CHUNK, WINDOW, p % 2 ? 0 : n);
                    else fetch_later(&ahead, 1, next_images + share * image_share * CHUNK, CHUNK,
                                     g == first_group ? least(image_share, image_rows - share * image_share) : 0);
                    if (a->u) fetch_later(&ahead, 2, (const float *)(u + CHUNK), PRODUCTS, CHUNK / 2);
                    else fetch_later(&ahead, 2, soon_taps + tap / CHUNK * a->place + tap % CHUNK * tap_row, tap_row, taps);
                    int64_t some = n;
                    const int64_t at = wanted_tiles(&from, tile, &some, p / 6 == 1, p % 6 == 1);
                    multiply(products + at * PRODUCTS + p * CHUNK, v + at * WINDOW + p * (CHUNK / 2), WINDOW, 1, u, pieces(count, 2), columns,
                             chunk > 0, some, &ahead);
                }
            }
            store_results(a->out + g * CHUNK, &to, tile, n, products, columns, a->bias ? a->bias + g * CHUNK : 0, a->activation,
                          a->accumulate);
        }
    }
    keep_denormals(state);
}

/* ---- the gradient of the kernel ---- */

#define BESIDE(s, k) vload(at[s][k] + c)

/* `count` channels of n tiles at all points, two tiles to a pair: v[tile / 2][point][CHUNK]; of windows of 6 x 6, or gradients of 4 x 4 results. */
INLINE void pair_tiles(uint32_t *v, const tiling *t, int64_t tile, int64_t n, const int size, int64_t first, int64_t count, float *patch)
{
    const float *at[2][POINTS];
    for (int64_t q = 0; q < n; q += 2, v += PRODUCTS) {
        for (int64_t e = 0; e < 2; e++)
            if (q + e < n) window_of(at[e], t, tile + q + e, size, first, count, VL, patch + e * POINTS * CHUNK);
            else for (int k = 0; k < size * size; k++) at[e][k] = zeros;
        for (int64_t c = 0; c < count; c += VL)
            if (size == 6) TO_PAIRS(v + c, CHUNK, BESIDE, 6, image_pair, vpairs);
            else TO_PAIRS(v + c, CHUNK, BESIDE, 4, gradient_pair, vpairs);
    }
}

/* For each piece of tiles, its part of d_kernel.  One item: 64 channels by 64 filters for one piece. */
KERNEL(winograd4x4_d_kernel_bf16, pieces(tiles_of(a->batch, a->out_height, a->out_width, 4), a->piece) * pieces(a->channels, CHUNK) *
       pieces(a->filters, CHUNK),
       a->piece * POINTS / 12.0 * least(a->channels, CHUNK) * least(a->filters, CHUNK),
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
    int64_t piece;)
{
    const uint32_t state = flush_denormals();
    const int64_t tiles = tiles_of(a->batch, a->out_height, a->out_width, 4);
    const int64_t channel_chunks = pieces(a->channels, CHUNK), chunks = channel_chunks * pieces(a->filters, CHUNK);
    const tiling x = tiling_of(a->images, a->batch, a->height, a->width, a->channels, a->out_height, a->out_width, 4, a->top, a->left);
    const tiling d = tiling_of(a->d_out, a->batch, a->out_height, a->out_width, a->filters, a->out_height, a->out_width, 4, 0, 0);
    const int64_t group = x.across > SUM_TILES ? SUM_TILES : SUM_TILES / x.across * x.across;     /* whole rows of tiles: see fetch_later */
    const int streamed = a->piece >= tiles && 9 * a->channels * a->filters >= SUM_STREAMED && (uintptr_t)a->d_kernel % 64 == 0
                         && a->filters % 16 == 0;
    float *sums = (float *)worker->scratch, *patch = sums + CHUNK * PRODUCTS;
    uint32_t *v = (uint32_t *)(patch + 2 * POINTS * CHUNK), *z = v + SUM_TILES / 2 * PRODUCTS;
    for (int64_t i = begin; i < end; i++) {
        const int64_t index = i / chunks, channel = i % channel_chunks * CHUNK, filter = i % chunks / channel_chunks * CHUNK;
        const int64_t rows = least(a->channels - channel, CHUNK), columns = least(a->filters - filter, CHUNK);
        const int64_t begin_tile = index * a->piece, stop = least(begin_tile + a->piece, tiles);
        float *to = a->d_kernel + (index * 9 * a->channels + channel) * a->filters + filter;
        for (int64_t tile = begin_tile, n; tile < stop; tile += n) {
            n = least(stop - tile, group);
            const int whole = tile == begin_tile && tile + n == stop;
            pair_tiles(v, &x, tile, n, 6, channel, rows, patch);
            if (!whole || channel == 0 || i == begin) pair_tiles(z, &d, tile, n, 4, filter, columns, patch);      /* else the last item's */
            const int64_t last = tile + n == stop, j = i + last, next = last ? j / chunks * a->piece : tile + n, after = least(tiles, next + group);
            const float *images = a->images + pixels_before(&x, next) * a->channels + j % channel_chunks * CHUNK;
            const float *d_out = a->d_out + pixels_before(&d, next) * a->filters + j % chunks / channel_chunks * CHUNK;
            const int64_t image_share = pieces(pixels_before(&x, after) - pixels_before(&x, next), POINTS);
            const int64_t d_share = pieces(pixels_before(&d, after) - pixels_before(&d, next), POINTS), taps = 9 * CHUNK / POINTS;
            const int64_t written = last && !streamed ? taps : 0, pairs = pieces(n, 2);
            const int64_t fetched = fetch_share(rows, pairs, image_share, d_share, written, pairs);
            for (int64_t p = 0; p < POINTS; p++) {
                later ahead = { .share = fetched };
                fetch_later(&ahead, 0, images + p * image_share * a->channels, a->channels, image_share);
                fetch_later(&ahead, 1, d_out + p * d_share * a->filters, a->filters, d_share);
                fetch_later(&ahead, 2, to + (p * taps / CHUNK * a->channels + p * taps % CHUNK) * a->filters, a->filters, written);
                fetch_later(&ahead, 3, (const float *)(z + (p + 1) * CHUNK), PRODUCTS, pairs);
                int64_t some = n;                              /* of a pair of which one tile is wanted, the other's gradient is 0 there */
                const int64_t first = wanted_tiles(&x, tile, &some, p / 6 == 1, p % 6 == 1), at = first / 2 * PRODUCTS + p * CHUNK;
                multiply(sums + p * CHUNK, v + at, 1, PRODUCTS, z + at, some ? pieces(first % 2 + some, 2) : 0, columns, tile > begin_tile, rows,
                         &ahead);
            }
        }
        for (int64_t c = 0; c < rows; c++, to += a->filters)
            for (int64_t f = 0; f < columns; f += VL) {
                vf g[3][3];
                FROM_POINTS(g, sums + c * PRODUCTS + f, CHUNK, 4, 3, kernel_result_pair)
                UNROLL for (int k = 0; k < 9; k++) vstore_to(to + k * a->channels * a->filters + f, g[k / 3][k % 3], columns - f, streamed);
            }
    }
    if (streamed) vstreams_end();
    keep_denormals(state);
}
