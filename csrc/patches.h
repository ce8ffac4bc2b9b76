/* What a convolution sees of the images, and how its work is cut; for float32 and bfloat16 alike. */
#ifndef PATCHES_H
#define PATCHES_H

#include "tile.h"

enum { ITEMS = 32 };         /* worth cutting an image of few pixels by filters */

/* Patch (image, y, x) of the grid out_height x out_width holds rows y * stride_height - top + ky * dilation_height of the
   image, columns likewise, zeros outside, and `taken` channels from the one that `images` points to. */
typedef struct patches {
    const float *images;
    int64_t height, width, channels;
    int64_t out_height, out_width;
    int64_t kernel_height, kernel_width;
    int64_t stride_height, stride_width, dilation_height, dilation_width, top, left;
    int64_t taken;
} patches;

/* Row stride for patches of `depth` numbers: room for a vector behind, an odd number of cache lines. */
INLINE int64_t patch_row(int64_t depth) { return (depth + 31) / 32 * 32 + 16; }

/* Parts into which the `panels` of each of `items` are cut, so that there is work for all where items are few. */
INLINE int64_t panel_parts(int64_t items, int64_t panels)
{
    return items >= ITEMS ? 1 : most(least(panels, pieces(ITEMS, most(items, 1))), 1);
}

typedef struct taps { int64_t n, last, step; } taps;   /* how many k, the largest of them, and how far apart */

INLINE taps taps_of(int64_t class, int64_t before, int64_t size, int64_t stride, int64_t dilation)
{
    taps t = { 0, 0, 1 };
    for (int64_t k = 0; k < size; k++)
        if ((class + before - k * dilation) % stride == 0) {
            t.step = k - t.last;
            t.last = k;
            t.n++;
        }
    return t;
}

INLINE int64_t d_images_items(int64_t batch, int64_t height, int64_t width, int64_t stride_height, int64_t stride_width,
                              int64_t groups, int64_t at_once)
{
    const int64_t positions = batch * pieces(height, stride_height) * pieces(width, stride_width);     /* of a class */
    return stride_height * stride_width * groups * pieces(positions, at_once);
}

#endif
