/* The rows of an image with few channels that some windows see: a band, in which tiles find every number of a patch by an offset. */
#ifndef BANDS_H
#define BANDS_H

#include "tile.h"

enum { FEW_DEPTH = 256, BAND_ACROSS = 64, BAND_ROWS = 16, BAND_FLOATS = 1 << 16 };   /* most numbers of a patch; windows in a band: across, down; its floats */

/* Rows first_y .. first_y + rows, `length` floats of each from column first_x on, `pitch` floats from row to row, zeros outside of the image. */
UNUSED static void copy_band(float *to, const float *image, int64_t height, int64_t width, int64_t channels, int64_t first_y,
                             int64_t rows, int64_t first_x, int64_t length, int64_t pitch)
{
    const int64_t low = least(most(-first_x * channels, 0), length), high = most(least((width - first_x) * channels, length), low);
    for (int64_t y = first_y; y < first_y + rows; y++, to += pitch) {
        const int inside = y >= 0 && y < height;
        if (!inside || low > 0 || high < length) memset(to, 0, (size_t)length * sizeof(float));
        if (inside) memcpy(to + low, image + (y * width + first_x) * channels + low, (size_t)(high - low) * sizeof(float));
    }
}

/* The pitch of bands of so many rows: the image's own, which can then be read in place, unless that is much more than is needed. */
INLINE int64_t band_pitch(int64_t rows, int64_t length, int64_t line)
{
    return length <= line && rows * line <= BAND_FLOATS ? line : length;
}

/* The same rows and columns where they are, if the image has them all at that pitch, or copied to `to`. */
UNUSED static const float *band_at(float *to, const float *image, int64_t height, int64_t width, int64_t channels, int64_t first_y,
                                    int64_t rows, int64_t first_x, int64_t length, int64_t pitch)
{
    if (pitch == width * channels && first_y >= 0 && first_y + rows <= height && first_x >= 0 && first_x * channels + length <= pitch)
        return image + first_y * pitch + first_x * channels;
    copy_band(to, image, height, width, channels, first_y, rows, first_x, length, pitch);
    return to;
}

/* offset[k]: where number k of a patch lies, whose rows are `run` numbers; times `scale`. */
UNUSED static void patch_offsets(int64_t *offset, int64_t depth, int64_t run, int64_t pitch, int64_t scale)
{
    for (int64_t k = 0, x = 0, at = 0; k < depth; k++) {
        offset[k] = scale * (at + x);
        if (++x == run) x = 0, at += pitch;
    }
}

#endif
