/* What a convolution sees of the images, and how its work is cut; for float32 and bfloat16 alike. */
#ifndef PATCHES_H
#define PATCHES_H

#include "tile.h"

#ifndef ITEMS
#define ITEMS 32             /* worth cutting an image of few pixels by filters, each gathering the patches anew */
#endif

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

/* Numbers first .. first + depth of the patches of n pixels, pixel by pixel `row` bytes apart, each number in `size` bytes. copy and
   zero fill a run of so many numbers. */
INLINE void gather(const patches *a, void *to, int64_t row, const int size, void (*const copy)(void *, const float *, int64_t),
                   void (*const zero)(void *, int64_t), int64_t pixel, int64_t n, int64_t first, int64_t depth)
{
    const int joined = a->dilation_width == 1 && a->taken == a->channels;   /* a patch's row is one run of memory */
    const int64_t length = joined ? a->kernel_width * a->taken : a->taken;
    const int64_t columns = joined ? 1 : a->kernel_width, line = a->width * a->channels;
    char *pixels = to;
    for (int64_t m; n > 0; n -= m, pixel += m, pixels += m * row) {
        const int64_t x = pixel % a->out_width, y = pixel / a->out_width % a->out_height;
        const float *image = a->images + pixel / a->out_width / a->out_height * a->height * line;
        m = least(n, a->out_width - x);
        for (int64_t r = first / length; r < a->kernel_height * columns && r * length < first + depth; r++) {
            const int64_t start = most(first - r * length, 0), stop = least(first + depth - r * length, length);
            const int64_t from_y = y * a->stride_height - a->top + r / columns * a->dilation_height;
            const int64_t step = a->stride_width * a->channels;
            int64_t at = (x * a->stride_width - a->left + r % columns * a->dilation_width) * a->channels;
            char *out = pixels + (r * length + start - first) * size;
            if (from_y < 0 || from_y >= a->height) {
                for (int64_t i = 0; i < m; i++) zero(out + i * row, stop - start);
                continue;
            }
            const float *from = image + from_y * line;
            for (int64_t i = 0; i < m; i++, at += step, out += row) {
                if (at + start >= 0 && at + stop <= line) {
                    copy(out, from + at + start, stop - start);
                    continue;
                }
                const int64_t low = most(start, -at), high = least(stop, line - at);
                zero(out, stop - start);
                if (low < high) copy(out + (low - start) * size, from + at + low, high - low);
            }
        }
    }
}

/* Parts into which the `panels` of each of `items` are cut, so that there is work for all where items are few. */
INLINE int64_t panel_parts(int64_t items, int64_t panels)
{
    return items >= ITEMS ? 1 : most(least(panels, pieces(ITEMS, most(items, 1))), 1);
}

/* What an item of a convolution computes: the pixels from `pixel` to `stop` by the columns of a group from `column` to `end`. */
typedef struct share { int64_t group, pixel, stop, column, end; } share;

INLINE int64_t shares(int64_t pixels, int64_t groups, int64_t columns, int64_t at_once)
{
    return pieces(pixels, at_once) * groups * panel_parts(pieces(pixels, at_once) * groups, pieces(columns, PANEL));
}

INLINE share share_of(int64_t i, int64_t pixels, int64_t groups, int64_t columns, int64_t at_once)
{
    const int64_t blocks = pieces(pixels, at_once), panels = pieces(columns, PANEL), parts = panel_parts(blocks * groups, panels);
    const int64_t part = i % parts, block = i / parts / groups;
    return (share){ i / parts % groups, tile_begin(pixels, blocks, block), tile_begin(pixels, blocks, block + 1),
                    tile_begin(panels, parts, part) * PANEL, least(tile_begin(panels, parts, part + 1) * PANEL, columns) };
}

/* Items *i .. end as far as they are of the same pixels, whose patches are then gathered once; *i is behind them. */
INLINE share shares_of(int64_t *i, int64_t end, int64_t pixels, int64_t groups, int64_t columns, int64_t at_once)
{
    share s = share_of(*i, pixels, groups, columns, at_once);
    while (++*i < end) {
        const share next = share_of(*i, pixels, groups, columns, at_once);
        if (next.group != s.group || next.pixel != s.pixel) break;
        s.end = next.end;
    }
    return s;
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

/* Positions of the images that are of the largest class, the first. */
INLINE int64_t class_positions(int64_t batch, int64_t height, int64_t width, int64_t stride_height, int64_t stride_width)
{
    return batch * pieces(height, stride_height) * pieces(width, stride_width);
}
#define CLASS_SHARES(a, at_once)                                                                                       \
    class_positions(a->batch, a->height, a->width, a->stride_height, a->stride_width),                                 \
        a->stride_height * a->stride_width * a->groups, a->channels / a->groups, at_once

#endif
