/* Winograd's transforms, for convolutions with kernels of 3 x 3 and stride 1. Lavin and Gray, "Fast algorithms for convolutional neural
   networks", 2016.

   F(m x m, 3 x 3), m 4 or 2: m x m results of a tile come from a window of n x n numbers, n = m + 2. Along one axis

       y = A^T ((G g) * (B^T d))        d: n numbers of the image, g: 3 of the kernel, y: m results

   which multiplies polynomials by their values at n points: 0, infinity, and NEAR, -NEAR, FAR, -FAR (m = 4) or 1, -1 (m = 2). In two
   dimensions each point is a pair of them, and at each of the n * n points the sum over the channels is a matrix product
   (tiles, channels) @ (channels, filters). The gradient of the kernel is G^T ((A d_y) * (B^T d)) summed over tiles.

   NEAR and FAR decide the rounding error: with 3/4 and 3/2 it is a quarter of that with the usual 1 and 2 (see fastdl/ops/winograd.py).
   The division of Lagrange's formula is in G: B and A have few digits and are exact. */
#ifndef WINOGRAD_H
#define WINOGRAD_H

#include "tile.h"

#define NEAR 0.75f
#define FAR 1.5f
#define NEAR2 (NEAR * NEAR)
#define FAR2 (FAR * FAR)

enum { CHUNK = 64 };      /* channels or filters at once */

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
        const vf even = vfma(d[2], vset(-other), d[4]), odd = vfma(d[1], vset(-other), d[3]);
        *low = vfma(odd, vset(p), even);
        *high = vfma(odd, vset(-p), even);
    }
}

/* G g: the kernel g (3) at the pair r. */
INLINE void kernel_pair(vf *low, vf *high, const vf *g, const int m, const int r)
{
    if (!r) {
        *low = g[0] * vset(m == 2 ? -1 : 1 / (NEAR2 * FAR2));
        *high = g[2];
    } else {
        const vf even = vfma(g[2], vset(lagrange(m, r, 2)), g[0] * vset(lagrange(m, r, 0)));
        *low = vfma(g[1], vset(lagrange(m, r, 1)), even);
        *high = vfma(g[1], vset(-lagrange(m, r, 1)), even);
    }
}

/* A y: the gradient y (m) of the results at the pair r. */
INLINE void gradient_pair(vf *low, vf *high, const vf *y, const int m, const int r)
{
    if (!r) {
        *low = y[0];
        *high = y[m - 1];
    } else {
        const float p = m == 2 ? 1 : r == 1 ? NEAR : FAR;
        const vf even = m == 2 ? y[0] : vfma(y[2], vset(p * p), y[0]), odd = m == 2 ? y[1] : vfma(y[3], vset(p * p), y[1]);
        *low = vfma(odd, vset(p), even);
        *high = vfma(odd, vset(-p), even);
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

/* ---- in two dimensions: VL channels or filters of a tile. Points (i, j) are numbered i * n + j. Those of a pair of rows i are a band. ---- */

#define BANDS(m) ((m) / 2 + 1)

/* From row to row of what is read by columns: never a multiple of 4 KiB, where a column would meet in the same few lines of the cache. */
#define APART(n) ((n) + 16)

/* The window of size x size numbers to the points of the bands from `band` up to `end`, `point` floats apart, those of the first band at
   `to`. `number` is number (i, j), `pair` one of the transforms above. */
#define TO_POINTS(to, point, number, m, band, end, size, pair)                                                         \
    UNROLL for (int b = band; b < (end); b++) {                                                                        \
        vf half[2][6];                                                                                                 \
        UNROLL for (int j = 0; j < (size); j++) {                                                                      \
            vf line[6];                                                                                                \
            UNROLL for (int i = 0; i < (size); i++) line[i] = number;                                                  \
            pair(&half[0][j], &half[1][j], line, m, b);                                                                \
        }                                                                                                              \
        UNROLL for (int h = 0; h < 2; h++)                                                                             \
            UNROLL for (int s = 0; s < BANDS(m); s++) {                                                                \
                vf low, high;                                                                                          \
                float *at_point = (to) + ((2 * (b - (band)) + h) * ((m) + 2) + 2 * s) * (point);                       \
                pair(&low, &high, half[h], m, s);                                                                      \
                vstore(at_point, low);                                                                                 \
                vstore(at_point + (point), high);                                                                      \
            }                                                                                                          \
    }

/* y (size, size) from all points. */
#define FROM_POINTS(y, from, point, m, size, pair)                                                                     \
    UNROLL for (int r = 0; r < BANDS(m); r++) {                                                                        \
        vf half[2][4];                                                                                                 \
        UNROLL for (int h = 0; h < 2; h++)                                                                             \
            UNROLL for (int s = 0; s < BANDS(m); s++) {                                                                \
                const float *at_point = (from) + ((2 * r + h) * ((m) + 2) + 2 * s) * (point);                          \
                pair(half[h], vload(at_point), vload(at_point + (point)), m, s);                                       \
            }                                                                                                          \
        UNROLL for (int j = 0; j < (size); j++) {                                                                      \
            vf line[4];                                                                                                \
            UNROLL for (int i = 0; i < (size); i++) line[i] = (y)[i][j];                                               \
            pair(line, half[0][j], half[1][j], m, r);                                                                  \
            UNROLL for (int i = 0; i < (size); i++) (y)[i][j] = line[i];                                               \
        }                                                                                                              \
    }

/* ---- tiles of images ---- */

/* `down` by `across` tiles of an image, each of `step` x `step` results. Where they would reach beyond the image the last rows and columns of
   tiles, short_down and short_across of them, have one result less, which is all that the points at infinity give: these tiles do without them.
   So that the others follow each other, tiles come in this order: of short rows, of none, of short columns, of both; end[k] is where they end. */
typedef struct tiling {
    const float *images;
    int64_t height, width, channels, down, across, step, top, left, short_down, short_across, end[4];
} tiling;

/* Of images of this size, for so many results; the window of the first tile begins `top` rows above its image and `left` columns beside it. */
INLINE tiling tiling_of(const float *images, int64_t batch, int64_t height, int64_t width, int64_t channels, int64_t out_height, int64_t out_width,
                        int64_t step, int64_t top, int64_t left)
{
    tiling t = { images, height, width, channels, pieces(out_height, step), pieces(out_width, step), step, top, left, 0, 0, { 0 } };
    if (step != 3) {            /* those of strided_winograd.h are rows of tiles */
        t.short_down = least(t.down * step - out_height, t.down);
        t.short_across = least(t.across * step - out_width, t.across);
    }
    const int64_t rows = batch * (t.down - t.short_down), short_rows = batch * t.short_down, columns = t.across - t.short_across;
    t.end[0] = short_rows * columns;
    t.end[1] = t.end[0] + rows * columns;
    t.end[2] = t.end[1] + rows * t.short_across;
    t.end[3] = t.end[2] + short_rows * t.short_across;
    return t;
}

/* A tile's image, the row and the column of its first result, and how many it has down and across. */
typedef struct tile_place { int64_t image, row, column, down, across; } tile_place;

INLINE tile_place place_of(const tiling *t, int64_t tile)
{
    const int short_row = tile < t->end[0] || tile >= t->end[2], short_column = tile >= t->end[1];
    const int64_t before = !short_column ? (short_row ? 0 : t->end[0]) : (short_row ? t->end[2] : t->end[1]);
    const int64_t full_rows = t->down - t->short_down, full_columns = t->across - t->short_across;
    const int64_t rows = short_row ? t->short_down : full_rows, columns = short_column ? t->short_across : full_columns;
    const int64_t row = (tile - before) / columns, i = row % rows, j = (tile - before) % columns;
    return (tile_place){ row / rows, short_row ? full_rows * t->step + i * (t->step - 1) : i * t->step,
                         short_column ? full_columns * t->step + j * (t->step - 1) : j * t->step, t->step - short_row, t->step - short_column };
}

/* Of n tiles from `tile` on, those that want a point: the first of them, and n becomes their number. far_row and far_column: whether it is at
   infinity there. */
INLINE int64_t wanted_tiles(const tiling *t, int64_t tile, int64_t *n, int far_row, int far_column)
{
    const int64_t begin = far_row ? most(t->end[0], tile) : tile, end = least(t->end[far_column ? 1 : far_row ? 2 : 3], tile + *n);
    *n = most(end - begin, 0);
    return begin - tile;
}

INLINE int64_t tiles_of(int64_t batch, int64_t height, int64_t width, int64_t m) { return batch * pieces(height, m) * pieces(width, m); }

/* Pixels before a tile, were all of the same size and in order: where to fetch what a tile reads or writes, roughly. */
INLINE int64_t pixels_before(const tiling *t, int64_t tile) { return tile * t->height * t->width / (t->down * t->across); }

static const float zeros[CHUNK];

/* Where the numbers of the size x size window of a tile are, from channel `first` on: at[i * size + j] points to `count` of them, in the
   images, where `zeros` are outside, or, where `count` does not fill runs of `run` numbers, in `patch`, with zeros behind. A window of as many
   numbers as results has no others. */
INLINE void window_of(const float **at, const tiling *t, int64_t tile, const int size, int64_t first, int64_t count, const int64_t run, float *patch)
{
    const tile_place p = place_of(t, tile);
    const int64_t y = p.row - t->top, x = p.column - t->left, next = t->channels, below = t->width * next;
    const int64_t height = size == t->step ? least(t->height, y + p.down) : t->height;
    const int64_t width = size == t->step ? least(t->width, x + p.across) : t->width;
    int64_t place = p.image * t->height * below + y * below + x * next + first;
    if (y >= 0 && x >= 0 && y + size <= height && x + size <= width)
        for (int i = 0; i < size; i++, place += below)
            UNROLL for (int j = 0; j < size; j++) at[i * size + j] = t->images + place + j * next;
    else
        for (int i = 0; i < size; i++, place += below)
            for (int j = 0; j < size; j++) {
                const int inside = (uint64_t)(y + i) < (uint64_t)height && (uint64_t)(x + j) < (uint64_t)width;
                at[i * size + j] = inside ? t->images + place + j * next : zeros;
            }
    if (count % run == 0) return;
    for (int k = 0; k < size * size; k++, patch += CHUNK) {
        for (int64_t c = 0; c < pieces(count, run) * run; c += VL) vstore(patch + c, vload_n(at[k] + c, most(count - c, 0)));
        at[k] = patch;
    }
}

/* ---- what is fetched during products, which leave the memory idle ---- */

enum { RANGES = 24 };

typedef struct range {                             /* n rows of 64 floats, `row` floats apart */
    const float *from;
    int64_t row, n;
} range;

typedef struct fetch {
    range ranges[RANGES];
    int64_t count, rows;                           /* ranges; rows in all of them */
} fetch;

INLINE void fetch_rows(fetch *f, const float *from, int64_t row, int64_t n)
{
    if (n <= 0) return;
    f->ranges[f->count++] = (range){ from, row, n };
    f->rows += n;
}

/* ---- what kernels lie in, and are multiplied with ---- */

enum { U_POINT = APART(CHUNK * CHUNK) };

/* Zeros where n rows of `row` floats are not filled: their last 16, or, where there are fewer than 64 channels or filters, all. */
INLINE void clear(float *to, int64_t n, int64_t row, int64_t count)
{
    if (count < CHUNK) memset(to, 0, (size_t)(n * row) * sizeof(float));
    else for (int64_t k = 1; k <= n; k++) memset(to + k * row - 16, 0, 16 * sizeof(float));
}

/* Number (place, channel, filter) is at place * t->place + channel * t->row + filter * t->column, one of row and column being 1; with `flipped`
   the places are taken from the last to the first. */
typedef struct taps {
    const float *kernel;
    int64_t place, row, column, flipped;
} taps;

/* `rows` channels by `columns` filters from these on, the filters side by side in memory: turned into `to` where they are not. */
static UNUSED taps chunk_of(const taps *t, float *to, int64_t channel, int64_t filter, int64_t rows, int64_t columns)
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

#define multiply_tiles FD_OF_REST(multiply_tiles)

/* Products (+)= windows v by u at a point: of n tiles, `row` floats apart, over depth channels. */
void multiply_tiles(float *products, int64_t row, const float *v, const float *u, int64_t depth, int64_t columns, int64_t accumulate, int64_t n,
                    const fetch *ahead);

#define sum_tiles FD_OF_REST(sum_tiles)

/* Sums (+)= windows v, transposed, by gradients z at a point: over n tiles, `each` floats apart; of `channels` channels, `row` floats apart. */
void sum_tiles(float *sums, int64_t row, const float *v, const float *z, int64_t each, int64_t n, int64_t columns, int64_t accumulate,
               int64_t channels, const fetch *ahead);

#endif
