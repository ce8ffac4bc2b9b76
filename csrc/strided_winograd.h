/* What the convolutions of strided_winograd.c and their gradients share: the points of a kernel, of images and of results.

   Row 2 y + k of the images is row y + k / 2 of the rows of k's parity: even and odd rows and columns are four images, the phases, and each meets
   its quarter of the kernel with stride 1. So a convolution with stride 2 and a kernel of up to 8 x 8 is one of 4 x 4 with stride 1 over
   4 * channels numbers a place, of two rows of 2 * channels that lie side by side in memory. By F(3 x 3, 4 x 4) its 3 x 3 results come from a
   window of 6 x 6 places. The points are those of F(4 x 4, 3 x 3) in winograd.h, and so is B; G takes 4 numbers, A gives 3. A quarter of
   3 rows or columns has no last number, which is all that counts at infinity, so that it is left out there. */
#ifndef STRIDED_WINOGRAD_H
#define STRIDED_WINOGRAD_H

#include "winograd.h"

enum {
    TILE = 3,                                     /* results of a tile, each way */
    POINTS = 36,
    LANES = 16,                                   /* numbers of a place: 8 of each row, of which 2 * channels count */
    ACROSS = 48,                                  /* tiles beside each other, at once */
    PITCH = (TILE * ACROSS + TILE) * 8 + 16,      /* from line to line of transformed rows */
    LINES = 13 * PITCH,                           /* their floats */
    V_POINT = (ACROSS + 1) * LANES,               /* from point to point of transformed windows */
};

/* How many of the two rows (or columns) of a place have a number at infinity. */
INLINE int64_t at_infinity(int64_t kernel) { return most(kernel - 6, 0); }

/* ---- the transforms along one axis, as those of winograd.h ---- */

/* p^3 / N of the pair r. */
INLINE float lagrange_cubed(const int r)
{
    const float p = r == 1 ? NEAR : FAR;
    return (float)(p * p * p / (2.0 * p * p * (r == 1 ? NEAR2 - FAR2 : FAR2 - NEAR2)));
}

/* G g: the kernel g (4) at the pair r. */
INLINE void taps_pair(vf *low, vf *high, const vf *g, const int m, const int r)
{
    if (!r) {
        *low = g[0] * vset(1 / (NEAR2 * FAR2));
        *high = g[3];
    } else {
        const vf even = vfma(g[2], vset(lagrange(m, r, 2)), g[0] * vset(lagrange(m, r, 0)));
        const vf odd = vfma(g[3], vset(lagrange_cubed(r)), g[1] * vset(lagrange(m, r, 1)));
        *low = even + odd;
        *high = even - odd;
    }
}

/* y += A^T x: what the pair r adds to the results y (3); pair 0 comes first, and sets y. */
INLINE void three_pair(vf *y, const vf low, const vf high, const int m UNUSED, const int r)
{
    if (!r) {
        y[0] = low;
        y[1] = vset(0);
        y[2] = high;
        return;
    }
    const vf even = low + high, odd = low - high;
    const float p = r == 1 ? NEAR : FAR;
    y[0] = y[0] + even;
    y[1] = r == 1 ? odd * vset(p) : vfma(odd, vset(p), y[1]);
    y[2] = vfma(even, vset(p * p), y[2]);
}

/* ---- the images ---- */

/* 12 rows of an image from row `top` on, and `length` floats of each from column `left` on, at the six points down: lines[point][parity][PITCH]. */
UNUSED static void transform_rows(float *lines, const float *image, int64_t height, int64_t width, int64_t channels, int64_t top, int64_t left,
                                  int64_t length)
{
    const int64_t low = least(most(-left * channels, 0), length), high = most(least((width - left) * channels, length), low);
    float *nothing = lines + 12 * PITCH;
    const float *row[12];
    if (top < 0 || top + 12 > height) memset(nothing, 0, PITCH * sizeof(float));
    for (int64_t i = 0; i < 12; i++) {
        const int64_t y = top + i;
        row[i] = y >= 0 && y < height ? image + (y * width + left) * channels + low : nothing;
    }
    for (int64_t k = 0; k < 12 && low > 0; k++) memset(lines + k * PITCH, 0, (size_t)low * sizeof(float));
    for (int64_t a = 0; a < 2; a++) {
        float *to = lines + a * PITCH + low;
        EACH_VECTOR(f, some, high - low,
            vf d[6];
            UNROLL for (int i = 0; i < 6; i++) d[i] = vload_n(row[2 * i + a] + f, some);
            UNROLL for (int r = 0; r < 3; r++) {
                vf near, far;
                image_pair(&near, &far, d, 4, r);
                vstore(to + 4 * r * PITCH + f, near);
                vstore(to + (4 * r + 2) * PITCH + f, far);
            });
    }
    for (int64_t k = 0; k < 12 && high < length; k++) memset(lines + k * PITCH + high, 0, (size_t)(length - high) * sizeof(float));
}

#if VL == 16
INLINE vf place_at(const float *p) { return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(p)), _mm256_loadu_ps(p + PITCH), 1); }
#else
INLINE vf place_at(const float *p) { return vload(p); }
#endif

/* The windows of n neighbouring tiles at all points, v[point][tile][LANES]; the first begins at row `top` and column `left` of the image.
   Rows that the tiles below see are fetched. */
UNUSED static void transform_windows(float *v, float *lines, const float *image, int64_t height, int64_t width, int64_t channels, int64_t top,
                                     int64_t left, int64_t n)
{
    const int64_t step = 2 * channels, length = (n + 1) * TILE * step;
    transform_rows(lines, image, height, width, channels, top, left, length - step + 8);
    for (int64_t y = top + 12; y < least(top + 12 + 2 * TILE, height); y++)
        for (int64_t i = 0; i < length; i += 16) __builtin_prefetch(image + (y * width + left) * channels + i, 0, 2);
    for (int64_t i = 0; i < 6; i++, v += 6 * V_POINT, lines += 2 * PITCH)
        for (int64_t c = 0; c < LANES; c += VL) {
            const float *from = lines + c / 8 * PITCH + c % 8;
            float *to = v + c;
            vf d[6];
            UNROLL for (int j = 0; j < TILE; j++) d[TILE + j] = place_at(from + j * step);
            for (int64_t tile = 0; tile < n; tile++, to += LANES) {
                from += TILE * step;
                UNROLL for (int j = 0; j < TILE; j++) {
                    d[j] = d[TILE + j];
                    d[TILE + j] = place_at(from + j * step);
                }
                UNROLL for (int r = 0; r < 3; r++) {
                    vf low, high;
                    image_pair(&low, &high, d, 4, r);
                    vstore(to + 2 * r * V_POINT, low);
                    vstore(to + (2 * r + 1) * V_POINT, high);
                }
            }
        }
}

#endif
