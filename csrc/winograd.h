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

/* Tile (image, i, j) starts at row i * step - top and column j * step - left of its image. */
typedef struct tiling {
    const float *images;
    int64_t height, width, channels, down, across, step, top, left;
} tiling;

static const float zeros[CHUNK];

/* Where the numbers of the size x size window of a tile are, from channel `first` on: at[i * size + j] points to `count` of them, in the
   images, where `zeros` are outside, or, where `count` does not fill vectors, in `patch`. */
INLINE void window_of(const float **at, const tiling *t, int64_t tile, const int size, int64_t first, int64_t count, float *patch)
{
    const int64_t row = tile / t->across, y = row % t->down * t->step - t->top, x = tile % t->across * t->step - t->left;
    const int64_t next = t->channels, below = t->width * next;
    int64_t place = row / t->down * t->height * below + y * below + x * next + first;
    if (y >= 0 && x >= 0 && y + size <= t->height && x + size <= t->width)
        for (int i = 0; i < size; i++, place += below)
            UNROLL for (int j = 0; j < size; j++) at[i * size + j] = t->images + place + j * next;
    else
        for (int i = 0; i < size; i++, place += below)
            for (int j = 0; j < size; j++) {
                const int inside = (uint64_t)(y + i) < (uint64_t)t->height && (uint64_t)(x + j) < (uint64_t)t->width;
                at[i * size + j] = inside ? t->images + place + j * next : zeros;
            }
    if (count % VL == 0) return;
    for (int k = 0; k < size * size; k++, patch += CHUNK) {
        for (int64_t c = 0; c < count; c += VL) vstore(patch + c, vload_n(at[k] + c, count - c));
        at[k] = patch;
    }
}

#endif
