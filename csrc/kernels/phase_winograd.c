/* Convolutions with stride 2 and a kernel of 3 x 3 by Winograd's algorithm.

   Row 2 y + k of the images is row y + k / 2 of the even rows, which meets rows 0 and 2 of the kernel, or row y of the odd ones, which meets row 1:
   with the columns that makes four images, the phases, each with a part of the kernel and stride 1. Along one axis the 4 results of a tile come
   from 5 even numbers d and 4 odd ones e,

       y = A^T ((G g) * (B^T d) + h * (C^T e))        g: two numbers of the kernel, h: the one in the middle,

   F(4, 2) at the points 0, infinity, LOW, -LOW and HIGH. The odd numbers need four points only, for A^T C^T = 1 without HIGH: so both are added up
   before A^T, in 9 products instead of 12, 81 instead of 144 in two dimensions. A point is a pair (i, j), numbered i * 5 + j. */
#include "winograd.h"

#define LOW 0.8125f          /* these two give the least error */
#define HIGH 2.0f
#define LOW2 (LOW * LOW)
#define HIGH2 (HIGH * HIGH)

enum {
    SIDE = 5,
    POINTS = 25,
    MATRICES = 36,                                   /* of the kernel: at all points of both axes, of one (twice), of none */
    EACH = APART(POINTS * CHUNK),                    /* from tile to tile, of windows, products and gradients */
    SUMS = APART(MATRICES * CHUNK),                  /* from channel to channel of the kernel's gradient */
    SUM_TILES = 32,                                  /* tiles transformed at once for it */
};

/* ---- the transforms along one axis ---- */

/* B^T d, or C^T d where the phase is odd: at 5 or 4 points. */
INLINE void image_points(vf *x, const vf *d, const int odd)
{
    if (odd) {
        const vf half = d[2] * vset(1 / (2 * LOW2));
        x[0] = vfma(d[2], vset(-1 / LOW2), d[0]);
        x[1] = vfma(d[1], vset(-LOW2), d[3]);
        x[2] = vfma(d[1], vset(1 / (2 * LOW)), half);
        x[3] = vfma(d[1], vset(-1 / (2 * LOW)), half);
    } else {
        vf e[4];
        UNROLL for (int i = 0; i < 4; i++) e[i] = vfma(d[i], vset(-HIGH), d[i + 1]);
        x[0] = vfma(e[0], vset(-LOW2), e[2]);
        x[1] = vfma(e[1], vset(-LOW2), e[3]);
        x[2] = vfma(e[1], vset(LOW), e[2]);
        x[3] = vfma(e[1], vset(-LOW), e[2]);
        x[4] = vfma(d[1], vset(-LOW2), d[3]);
    }
}

/* Lagrange's formula: 1 by the product of a point's distances from the others. */
#define AT_LOW (1 / (2 * LOW2 * (LOW - HIGH)))
#define AT_MINUS_LOW (-1 / (2 * LOW2 * (LOW + HIGH)))
#define AT_HIGH (1 / (HIGH * (HIGH2 - LOW2)))

/* G g. */
INLINE void kernel_points(vf *x, const vf *g)
{
    x[0] = g[0] * vset(1 / (LOW2 * HIGH));
    x[1] = g[1];
    x[2] = vfma(g[1], vset(LOW * AT_LOW), g[0] * vset(AT_LOW));
    x[3] = vfma(g[1], vset(-LOW * AT_MINUS_LOW), g[0] * vset(AT_MINUS_LOW));
    x[4] = vfma(g[1], vset(HIGH * AT_HIGH), g[0] * vset(AT_HIGH));
}

/* A^T x. */
INLINE void results_of(vf *y, const vf *x)
{
    const vf even = x[2] + x[3], odd = x[2] - x[3];
    y[0] = x[0] + (even + x[4]);
    y[1] = vfma(odd, vset(LOW), x[4] * vset(HIGH));
    y[2] = vfma(even, vset(LOW2), x[4] * vset(HIGH2));
    y[3] = vfma(odd, vset(LOW * LOW2), vfma(x[4], vset(HIGH * HIGH2), x[1]));
}

/* A y. */
INLINE void gradient_points(vf *x, const vf *y)
{
    const vf even = vfma(y[2], vset(LOW2), y[0]), odd = vfma(y[3], vset(LOW2), y[1]);
    x[0] = y[0];
    x[1] = y[3];
    x[2] = vfma(odd, vset(LOW), even);
    x[3] = vfma(odd, vset(-LOW), even);
    x[4] = vfma(vfma(y[3], vset(HIGH2), y[1]), vset(HIGH), vfma(y[2], vset(HIGH2), y[0]));
}

/* G^T x. */
INLINE void kernel_results(vf *g, const vf *x)
{
    g[0] = vfma(x[0], vset(1 / (LOW2 * HIGH)), vfma(x[2], vset(AT_LOW), vfma(x[3], vset(AT_MINUS_LOW), x[4] * vset(AT_HIGH))));
    g[1] = vfma(x[2], vset(LOW * AT_LOW), vfma(x[3], vset(-LOW * AT_MINUS_LOW), vfma(x[4], vset(HIGH * AT_HIGH), x[1])));
}

/* ---- tiles ---- */

/* `count` channels of n tiles of the phase (a, b) at its points: v[tile][point][CHUNK]. */
INLINE void transform_phase_of(float *v, const tiling *t, int64_t tile, int64_t n, int64_t first, int64_t count, float *patch, const int a,
                               const int b)
{
    const int rows = SIDE - a, columns = SIDE - b;
    for (int64_t k = 0; k < n; k++, v += EACH) {
        const tile_place p = place_of(t, tile + k);
        const int64_t y = 2 * p.row - t->top + a, x = 2 * p.column - t->left + b;
        const float *from = t->images + ((p.image * t->height + y) * t->width + x) * t->channels + first, *at[POINTS];
        const int whole = y >= 0 && x >= 0 && y + 2 * rows - 2 < t->height && x + 2 * columns - 2 < t->width;
        for (int64_t i = 0; i < rows; i++)
            UNROLL for (int64_t j = 0; j < columns; j++) {
                const int inside = whole || ((uint64_t)(y + 2 * i) < (uint64_t)t->height && (uint64_t)(x + 2 * j) < (uint64_t)t->width);
                at[i * SIDE + j] = inside ? from + (2 * i * t->width + 2 * j) * t->channels : zeros;
            }
        if (count % VL)
            for (int64_t i = 0; i < rows; i++)
                for (int64_t j = 0; j < columns; j++) {
                    float *own = patch + (i * SIDE + j) * CHUNK;
                    for (int64_t c = 0; c < count; c += VL) vstore(own + c, vload_n(at[i * SIDE + j] + c, count - c));
                    at[i * SIDE + j] = own;
                }
        for (int64_t c = 0; c < count; c += VL) {
            vf half[SIDE][SIDE];
            UNROLL for (int j = 0; j < columns; j++) {
                vf line[SIDE], points[SIDE];
                UNROLL for (int i = 0; i < rows; i++) line[i] = vload(at[i * SIDE + j] + c);
                image_points(points, line, a);
                UNROLL for (int i = 0; i < rows; i++) half[i][j] = points[i];
            }
            UNROLL for (int i = 0; i < rows; i++) {
                vf points[SIDE];
                image_points(points, half[i], b);
                UNROLL for (int j = 0; j < columns; j++) vstore(v + (i * SIDE + j) * CHUNK + c, points[j]);
            }
        }
    }
}

/* `count` filters of the gradients of n tiles at all points: z[tile][point][CHUNK]. */
static void transform_gradients(float *z, const tiling *t, int64_t tile, int64_t n, int64_t first, int64_t count, float *patch)
{
    const float *at[16];
    for (int64_t k = 0; k < n; k++, z += EACH) {
        window_of(at, t, tile + k, 4, first, count, VL, patch);
        for (int64_t c = 0; c < count; c += VL) {
            vf half[SIDE][4];
            UNROLL for (int j = 0; j < 4; j++) {
                vf line[4], x[SIDE];
                UNROLL for (int i = 0; i < 4; i++) line[i] = vload(at[i * 4 + j] + c);
                gradient_points(x, line);
                UNROLL for (int i = 0; i < SIDE; i++) half[i][j] = x[i];
            }
            UNROLL for (int i = 0; i < SIDE; i++) {
                vf x[SIDE];
                gradient_points(x, half[i]);
                UNROLL for (int j = 0; j < SIDE; j++) vstore(z + (i * SIDE + j) * CHUNK + c, x[j]);
            }
        }
    }
}

static void transform_phase(float *v, const tiling *t, int64_t tile, int64_t n, int64_t first, int64_t count, float *patch, int64_t phase)
{
    switch (phase) {
    case 0: transform_phase_of(v, t, tile, n, first, count, patch, 0, 0); break;
    case 1: transform_phase_of(v, t, tile, n, first, count, patch, 0, 1); break;
    case 2: transform_phase_of(v, t, tile, n, first, count, patch, 1, 0); break;
    default: transform_phase_of(v, t, tile, n, first, count, patch, 1, 1);
    }
}

/* Results of n tiles, `columns` filters from `out` on, which points to the first of them in the first image. */
static void store_results(float *out, const tiling *t, int64_t tile, int64_t n, const float *products, int64_t columns, const float *bias,
                          int64_t activation)
{
    const vf lowest = vset(activation == ACT_RELU ? 0 : -INFINITY);
    for (int64_t i = 0; i < n; i++, products += EACH) {
        const tile_place p = place_of(t, tile + i);
        float *to = out + ((p.image * t->height + p.row) * t->width + p.column) * t->channels;
        const int64_t line = t->width * t->channels, rows = least(t->height - p.row, p.down), across = least(t->width - p.column, p.across);
        for (int64_t c = 0; c < columns; c += VL) {
            const int64_t left_over = columns - c;
            const vf b = bias ? vload_n(bias + c, left_over) : vset(-0.0f);
            vf half[4][SIDE], y[4][4];
            UNROLL for (int j = 0; j < SIDE; j++) {
                vf x[SIDE], part[4];
                UNROLL for (int k = 0; k < SIDE; k++) x[k] = vload(products + (k * SIDE + j) * CHUNK + c);
                results_of(part, x);
                UNROLL for (int r = 0; r < 4; r++) half[r][j] = part[r];
            }
            UNROLL for (int r = 0; r < 4; r++) results_of(y[r], half[r]);
            UNROLL for (int r = 0; r < 4; r++)
                UNROLL for (int q = 0; q < 4; q++)
                    if (r < rows && q < across) vstore_n(to + c + r * line + q * t->channels, vgreater(lowest, y[r][q] + b), left_over);
        }
        for (int64_t r = 0; r < rows && activation > ACT_RELU; r++) tile_activate(to + r * line, t->channels, across, columns, activation);
    }
}

/* What the tiles from `begin` to `end` see or store: pixels `step` apart each way, the first as far from the tile's as said. */
static void fetch_tiles(fetch *f, const tiling *t, int64_t begin, int64_t end, int64_t rows, int64_t columns, int64_t step, int64_t down,
                        int64_t across)
{
    for (; begin < end; begin++) {
        const tile_place p = place_of(t, begin);
        const float *from = t->images + ((p.image * t->height + step * p.row + down) * t->width + step * p.column + across) * t->channels;
        for (int64_t i = 0; i < rows; i++) fetch_rows(f, from + step * i * t->width * t->channels, step * t->channels, columns);
    }
}

/* ---- the kernel ---- */

/* A phase has its own matrices, from `first` on, of which each serves so many points. */
static const struct { int64_t first, matrices, points; } PHASES[4] = { { 0, 25, 1 }, { 25, 5, 4 }, { 30, 5, 4 }, { 35, 1, 16 } };

/* Where use m of a phase's matrix is among windows and products, and of n tiles from `tile` on those that want it. */
INLINE int64_t wanted_place(const tiling *t, int64_t tile, int64_t *n, int64_t phase, int64_t m, int64_t use)
{
    const int64_t y = phase == 0 ? m / SIDE : phase == 1 ? m : phase == 2 ? use : use / 4;
    const int64_t x = phase == 0 ? m % SIDE : phase == 1 ? use : phase == 2 ? m : use % 4;
    return wanted_tiles(t, tile, n, y == 1, x == 1) * EACH + (y * SIDE + x) * CHUNK;
}

/* One channel of a kernel (3, 3), its places `place` floats apart, at the points of a phase: u[matrix of the phase][channel][CHUNK]. */
INLINE void transform_taps(float *u, const float *kernel, int64_t place, int64_t width, const int phase)
{
    vf g[2][2], x[SIDE], half[2][SIDE];
    for (int j = 0; j < 2; j++)
        for (int i = 0; i < 2; i++)
            g[j][i] = vload_n(kernel + ((phase & 2 ? 1 : 2 * i) * 3 + (phase & 1 ? 1 : 2 * j)) * place, width);
    if (phase == 0) {
        UNROLL for (int j = 0; j < 2; j++) kernel_points(half[j], g[j]);
        UNROLL for (int i = 0; i < SIDE; i++) {
            const vf pair[2] = { half[0][i], half[1][i] };
            kernel_points(x, pair);
            UNROLL for (int j = 0; j < SIDE; j++) vstore(u + (i * SIDE + j) * U_POINT, x[j]);
        }
    } else if (phase < 3) {
        const vf pair[2] = { g[0][0], phase == 1 ? g[0][1] : g[1][0] };
        kernel_points(x, pair);
        UNROLL for (int i = 0; i < SIDE; i++) vstore(u + i * U_POINT, x[i]);
    } else vstore(u, g[0][0]);
}

/* `rows` channels by `columns` filters of a kernel (3, 3, channels, filters). */
INLINE void transform_kernel_of(float *u, const float *kernel, int64_t channels, int64_t filters, int64_t rows, int64_t columns, const int phase)
{
    for (int64_t k = 0; k < rows; k++, kernel += filters, u += CHUNK)
        EACH_VECTOR(c, width, columns, transform_taps(u + c, kernel + c, channels * filters, width, phase););
}

static void transform_kernel(float *u, const float *kernel, int64_t channels, int64_t filters, int64_t rows, int64_t columns, int64_t phase)
{
    switch (phase) {
    case 0: transform_kernel_of(u, kernel, channels, filters, rows, columns, 0); break;
    case 1: transform_kernel_of(u, kernel, channels, filters, rows, columns, 1); break;
    case 2: transform_kernel_of(u, kernel, channels, filters, rows, columns, 2); break;
    default: transform_kernel_of(u, kernel, channels, filters, rows, columns, 3);
    }
}

/* All of the kernel at all points, where several blocks of tiles want it.  One item: 64 channels by 64 filters. */
KERNEL(phase_winograd_kernel, pieces(a->channels, CHUNK) * pieces(a->filters, CHUNK), 2.0 * CHUNK * CHUNK * MATRICES,
    float *u;             /* (chunks of filters, chunks of channels, 36, 64, 64), and 16 zeros behind each matrix */
    const float *kernel;  /* (3, 3, channels, filters) */
    int64_t channels;
    int64_t filters;)
{
    const int64_t chunks = pieces(a->channels, CHUNK);
    for (int64_t i = begin; i < end; i++) {
        const int64_t channel = i % chunks * CHUNK, filter = i / chunks * CHUNK;
        const int64_t rows = least(a->channels - channel, CHUNK), columns = least(a->filters - filter, CHUNK);
        float *u = a->u + i * MATRICES * U_POINT;
        clear(u, MATRICES, U_POINT, least(rows, columns));
        for (int64_t phase = 0; phase < 4; phase++)
            transform_kernel(u + PHASES[phase].first * U_POINT, a->kernel + channel * a->filters + filter, a->channels, a->filters, rows, columns,
                             phase);
    }
}

/* out = activation(bias + convolution).  One item: `block` tiles by a part of the filters, 128 at most. */
KERNEL(phase_winograd, pieces(a->batch * pieces(a->out_height, 4) * pieces(a->out_width, 4), a->block) * a->parts,
       a->block / 6.0 * 81 * a->channels * a->filters / a->parts,
    float *out;           /* (batch, out_height, out_width, filters) */
    const float *images;  /* (batch, height, width, channels) */
    OPTIONAL const float *kernel;    /* (3, 3, channels, filters) */
    OPTIONAL const float *u;         /* of phase_winograd_kernel, else from kernel in scratch */
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
    int64_t activation;
    int64_t block;
    int64_t parts;)
{
    const tiling from = tiling_of(a->images, a->batch, a->height, a->width, a->channels, a->out_height, a->out_width, 4, a->top, a->left);
    const tiling to = tiling_of(a->out, a->batch, a->out_height, a->out_width, a->filters, a->out_height, a->out_width, 4, 0, 0);
    const int64_t tiles = from.end[3], blocks = pieces(tiles, a->block), groups = pieces(a->filters, CHUNK), chunks = pieces(a->channels, CHUNK);
    float *v = (float *)worker->scratch, *own_u = v + a->block * EACH, *patch = own_u + POINTS * U_POINT, *products = patch + POINTS * CHUNK;
    for (int64_t i = begin; i < end; i++) {
        const int64_t tile = i % blocks * a->block, n = least(tiles - tile, a->block), part = i / blocks;
        const int64_t first_group = groups * part / a->parts, stop_group = groups * (part + 1) / a->parts;
        int64_t done = 0;                            /* products of the last channels */
        for (int64_t first = 0; first < a->channels; first += CHUNK) {
            const int64_t count = least(a->channels - first, CHUNK), last = first + CHUNK >= a->channels;
            for (int64_t phase = 0; phase < 4; phase++) {
                const int64_t matrices = PHASES[phase].matrices, points = PHASES[phase].points, all = matrices * points * (stop_group - first_group);
                /* What the next phase sees is fetched during the products. */
                const int64_t next = (phase + 1) % 4, next_first = phase < 3 ? first : last ? 0 : first + CHUNK, over = last && phase == 3;
                const int64_t next_tile = over ? (tile + n) % tiles : tile, next_n = least(tiles - next_tile, n);
                tiling ahead_of = from;
                ahead_of.images += next_first;
                transform_phase(v, &from, tile, n, first, count, patch, phase);
                for (int64_t g = first_group, step = 0; g < stop_group; g++) {
                    const int64_t columns = least(a->filters - g * CHUNK, CHUNK);
                    float *sums = products + (g - first_group) * a->block * EACH;
                    const float *u = a->u ? a->u + ((g * chunks + first / CHUNK) * MATRICES + PHASES[phase].first) * U_POINT : own_u;
                    const int64_t more = g + 1 < stop_group, then = more ? phase : next, then_first = more ? first : next_first;
                    const int64_t then_g = more ? g + 1 : first_group;
                    if (!a->u)
                        transform_kernel(own_u, a->kernel + first * a->filters + g * CHUNK, a->channels, a->filters, count, columns, phase);
                    for (int64_t k = 0; k < matrices * points; k++, step++) {
                        const int64_t m = k / points, use = k % points;
                        const float *own = u + m * U_POINT;
                        int64_t some = n;
                        const int64_t place = wanted_place(&from, tile, &some, phase, m, use);
                        fetch ahead;
                        ahead.count = ahead.rows = 0;
                        if (a->u) {
                            const float *after = m + 1 < matrices ? own + U_POINT
                                : a->u + ((then_g * chunks + then_first / CHUNK) * MATRICES + PHASES[then].first) * U_POINT;
                            fetch_rows(&ahead, after + use * CHUNK / points * CHUNK, CHUNK, CHUNK / points);
                        } else {
                            const int64_t taps = 2 - then / 2, each_way = 2 - then % 2, rows = taps * each_way * CHUNK;
                            const int64_t begin_row = rows * k / (matrices * points), end_row = rows * (k + 1) / (matrices * points);
                            for (int64_t q = begin_row / CHUNK; q * CHUNK < end_row; q++) {
                                const int64_t tap = (then / 2 ? 1 : q / each_way * 2) * 3 + (then % 2 ? 1 : q % each_way * 2);
                                const int64_t r = most(begin_row - q * CHUNK, 0);
                                fetch_rows(&ahead, a->kernel + (tap * a->channels + then_first + r) * a->filters + then_g * CHUNK, a->filters,
                                           least(end_row - q * CHUNK, CHUNK) - r);
                            }
                        }
                        fetch_tiles(&ahead, &ahead_of, next_tile + next_n * step / all, next_tile + next_n * (step + 1) / all, SIDE - next / 2,
                                    SIDE - next % 2, 2, next / 2 - from.top, next % 2 - from.left);
                        if (last) {
                            tiling out = to;
                            out.images += g * CHUNK;
                            fetch_tiles(&ahead, &out, tile + n * (done % 81) / 81, tile + n * (done % 81 + 1) / 81, 4, 4, 1, 0, 0);
                            done++;
                        }
                        multiply_tiles(sums + place, EACH, v + place, own, count, columns, first + phase > 0, some, &ahead);
                    }
                }
            }
        }
        for (int64_t g = first_group; g < stop_group; g++)
            store_results(a->out + g * CHUNK, &to, tile, n, products + (g - first_group) * a->block * EACH, least(a->filters - g * CHUNK, CHUNK),
                          a->bias ? a->bias + g * CHUNK : 0, a->activation);
    }
}

/* ---- the gradient of the kernel ---- */

/* 64 channels by 64 filters of d_kernel from the sums of all matrices. */
static void store_d_kernel(float *d_kernel, const float *sums, int64_t channels, int64_t filters, int64_t rows, int64_t columns)
{
    for (int64_t k = 0; k < rows; k++, sums += SUMS, d_kernel += filters)
        for (int64_t c = 0; c < columns; c += VL) {
            vf x[SIDE], g[3][3], half[SIDE][2], pair[2];
            UNROLL for (int i = 0; i < SIDE; i++) {
                UNROLL for (int j = 0; j < SIDE; j++) x[j] = vload(sums + (i * SIDE + j) * CHUNK + c);
                kernel_results(half[i], x);
            }
            UNROLL for (int j = 0; j < 2; j++) {
                UNROLL for (int i = 0; i < SIDE; i++) x[i] = half[i][j];
                kernel_results(pair, x);
                g[0][2 * j] = pair[0], g[2][2 * j] = pair[1];
            }
            UNROLL for (int i = 0; i < SIDE; i++) x[i] = vload(sums + (25 + i) * CHUNK + c);
            kernel_results(pair, x);
            g[0][1] = pair[0], g[2][1] = pair[1];
            UNROLL for (int i = 0; i < SIDE; i++) x[i] = vload(sums + (30 + i) * CHUNK + c);
            kernel_results(pair, x);
            g[1][0] = pair[0], g[1][2] = pair[1];
            g[1][1] = vload(sums + 35 * CHUNK + c);
            UNROLL for (int i = 0; i < 3; i++)
                UNROLL for (int j = 0; j < 3; j++) vstore_n(d_kernel + (3 * i + j) * channels * filters + c, g[i][j], columns - c);
        }
}

/* For each piece of tiles, its part of d_kernel.  One item: 64 channels by 64 filters for one piece. */
KERNEL(phase_winograd_d_kernel, pieces(a->batch * pieces(a->out_height, 4) * pieces(a->out_width, 4), a->piece) * pieces(a->channels, CHUNK) *
       pieces(a->filters, CHUNK), a->piece / 6.0 * 81 * least(a->channels, CHUNK) * least(a->filters, CHUNK),
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
    const tiling x = tiling_of(a->images, a->batch, a->height, a->width, a->channels, a->out_height, a->out_width, 4, a->top, a->left);
    const tiling d = tiling_of(a->d_out, a->batch, a->out_height, a->out_width, a->filters, a->out_height, a->out_width, 4, 0, 0);
    const int64_t tiles = x.end[3], channel_chunks = pieces(a->channels, CHUNK), chunks = channel_chunks * pieces(a->filters, CHUNK);
    float *sums = (float *)worker->scratch, *v = sums + CHUNK * SUMS, *z = v + SUM_TILES * EACH, *patch = z + SUM_TILES * EACH;
    for (int64_t i = begin; i < end; i++) {
        const int64_t index = i / chunks, channel = i % channel_chunks * CHUNK, filter = i % chunks / channel_chunks * CHUNK;
        const int64_t rows = least(a->channels - channel, CHUNK), columns = least(a->filters - filter, CHUNK);
        const int64_t begin_tile = index * a->piece, stop = least(begin_tile + a->piece, tiles);
        float *d_kernel = a->d_kernel + (index * 9 * a->channels + channel) * a->filters + filter;
        for (int64_t tile = begin_tile, n; tile < stop; tile += n) {
            n = least(stop - tile, SUM_TILES);
            const int whole = tile == begin_tile && tile + n == stop;
            if (!whole || channel == 0 || i == begin) transform_gradients(z, &d, tile, n, filter, columns, patch);     /* else the last item's */
            /* What comes next is fetched during the products: windows phase by phase, gradients, and the lines of d_kernel. */
            const int64_t last = tile + n == stop, j = i + last, next_tile = last ? j / chunks * a->piece : tile + n;
            const int64_t next_n = most(least(tiles - next_tile, SUM_TILES), 0);
            tiling next_d = d;
            next_d.images += j % chunks / channel_chunks * CHUNK;
            for (int64_t phase = 0, done = 0; phase < 4; phase++) {
                const int64_t points = PHASES[phase].points, all = PHASES[phase].matrices * points, next = (phase + 1) % 4, same = phase < 3;
                const int64_t see = same ? tile : next_tile, some_n = same ? n : next_n;
                tiling next_x = x;
                next_x.images += same ? channel : j % channel_chunks * CHUNK;
                transform_phase(v, &x, tile, n, channel, rows, patch, phase);
                for (int64_t k = 0; k < all; k++, done++) {
                    fetch ahead;
                    ahead.count = ahead.rows = 0;
                    fetch_tiles(&ahead, &next_x, see + some_n * k / all, see + some_n * (k + 1) / all, SIDE - next / 2, SIDE - next % 2, 2,
                                next / 2 - x.top, next % 2 - x.left);
                    if (!whole || j % channel_chunks == 0)
                        fetch_tiles(&ahead, &next_d, next_tile + next_n * done / 81, next_tile + next_n * (done + 1) / 81, 4, 4, 1, 0, 0);
                    if (last) {
                        const int64_t row = CHUNK * (done % 9) / 9;
                        fetch_rows(&ahead, d_kernel + (done / 9 * a->channels + row) * a->filters, a->filters, CHUNK * (done % 9 + 1) / 9 - row);
                    }
                    int64_t some = n;
                    const int64_t at = wanted_place(&x, tile, &some, phase, k / points, k % points);
                    sum_tiles(sums + (PHASES[phase].first + k / points) * CHUNK, SUMS, v + at, z + at, EACH, some, columns,
                              tile > begin_tile || k % points, rows, &ahead);
                }
            }
        }
        store_d_kernel(d_kernel, sums, a->channels, a->filters, rows, columns);
    }
}
