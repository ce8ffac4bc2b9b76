/* Pooling over (batch, height, width, channels): vectors over channels. Windows that reach over the edge see the image only. */
#include "kernel.h"

/* The part of a window that lies in the image, from `at`; strides in floats. */
typedef struct pool_window { const float *at; int64_t rows, columns, row, column; } pool_window;

/* The largest of up to VL channels, of equal ones the first, a NaN before all; *place: y * places_row + x of it in the window. */
INLINE vf window_max(const pool_window w, int64_t n, vi *place, int64_t places_row)
{
    vf largest = vload_n(w.at, n);
    *place = viset(0);
    for (int64_t y = 0; y < w.rows; y++)
        for (int64_t x = 0; x < w.columns; x++)
            vmax_place(&largest, place, vload_n(w.at + y * w.row + x * w.column, n), viset((int32_t)(y * places_row + x)));
    return largest;
}

INLINE vf window_average(const pool_window w, int64_t n)
{
    vf sum = vset(0);
    for (int64_t y = 0; y < w.rows; y++)
        for (int64_t x = 0; x < w.columns; x++) sum = sum + vload_n(w.at + y * w.row + x * w.column, n);
    return sum / vset((float)(w.rows * w.columns));
}

/* Channels that an item pools: fewer than all where there are few rows. */
INLINE int64_t pooled_channels(int64_t rows, int64_t channels)
{
    return rows >= 32 ? most(channels, 1) : most(pieces(pieces(channels, pieces(32, most(rows, 1))), 32), 1) * 32;
}

/* y = the largest in each window.  One item: some channels of one row of one image's output. */
KERNEL(max_pool2d, a->batch * a->out_height * pieces(a->channels, pooled_channels(a->batch * a->out_height, a->channels)),
       1.5 * a->out_width * least(a->channels, pooled_channels(a->batch * a->out_height, a->channels)) * a->pool_height * a->pool_width,
    float *y;             /* (batch, out_height, out_width, channels) */
    OPTIONAL uint8_t *winner;     /* (batch, out_height, out_width, channels): its place, ky * pool_width + kx */
    OPTIONAL int32_t *wide_winner;    /* the same where a window has more than 256 places */
    const float *x;       /* (batch, height, width, channels) */
    int64_t batch;
    int64_t height;
    int64_t width;
    int64_t channels;
    int64_t out_height;
    int64_t out_width;
    int64_t pool_height;
    int64_t pool_width;
    int64_t stride_height;
    int64_t stride_width;
    int64_t top;
    int64_t left;)
{
    const int64_t channels = a->channels, each = pooled_channels(a->batch * a->out_height, channels), parts = pieces(channels, each);
    const int streamed = streams(a->y, a->batch * channels * (a->height * a->width + a->out_height * a->out_width), channels);
    for (int64_t item = begin; item < end; item++) {
        const int64_t i = item / parts, first = item % parts * each, stop = least(first + each, channels);
        const int64_t first_y = i % a->out_height * a->stride_height - a->top, y = most(first_y, 0);
        for (int64_t o = 0; o < a->out_width; o++) {
            const int64_t first_x = o * a->stride_width - a->left, x = most(first_x, 0), to = (i * a->out_width + o) * channels;
            pool_window w = {
                a->x + ((i / a->out_height * a->height + y) * a->width + x) * channels + first,
                least(first_y + a->pool_height, a->height) - y, least(first_x + a->pool_width, a->width) - x,
                a->width * channels, channels,
            };
            const vi offset = viset((int32_t)((y - first_y) * a->pool_width + x - first_x));
            for (int64_t c = first; c < stop; c += VL, w.at += VL) {
                const int64_t n = stop - c;
                vi place;
                const vf m = w.rows == 2 && w.columns == 2 ? window_max((pool_window){ w.at, 2, 2, w.row, channels }, n, &place, a->pool_width)
                    : w.rows == 3 && w.columns == 3 ? window_max((pool_window){ w.at, 3, 3, w.row, channels }, n, &place, a->pool_width)
                    : window_max(w, n, &place, a->pool_width);
                vstore_to(a->y + to + c, m, n, streamed);
                if (a->winner) vbytes_store(a->winner + to + c, place + offset, n);
                if (a->wide_winner) vistore_n(a->wide_winner + to + c, place + offset, n);
            }
        }
    }
    if (streamed) vstreams_end();
}

/* y = the average of each window's places in the image.  One item: some channels of one row of one image's output. */
KERNEL(average_pool2d, a->batch * a->out_height * pieces(a->channels, pooled_channels(a->batch * a->out_height, a->channels)),
       1.0 * a->out_width * least(a->channels, pooled_channels(a->batch * a->out_height, a->channels)) * a->pool_height * a->pool_width,
    float *y;             /* (batch, out_height, out_width, channels) */
    const float *x;       /* (batch, height, width, channels) */
    int64_t batch;
    int64_t height;
    int64_t width;
    int64_t channels;
    int64_t out_height;
    int64_t out_width;
    int64_t pool_height;
    int64_t pool_width;
    int64_t stride_height;
    int64_t stride_width;
    int64_t top;
    int64_t left;)
{
    const int64_t channels = a->channels, each = pooled_channels(a->batch * a->out_height, channels), parts = pieces(channels, each);
    const int streamed = streams(a->y, a->batch * channels * (a->height * a->width + a->out_height * a->out_width), channels);
    for (int64_t item = begin; item < end; item++) {
        const int64_t i = item / parts, first = item % parts * each, stop = least(first + each, channels);
        const int64_t first_y = i % a->out_height * a->stride_height - a->top, y = most(first_y, 0);
        for (int64_t o = 0; o < a->out_width; o++) {
            const int64_t first_x = o * a->stride_width - a->left, x = most(first_x, 0);
            pool_window w = {
                a->x + ((i / a->out_height * a->height + y) * a->width + x) * channels + first,
                least(first_y + a->pool_height, a->height) - y, least(first_x + a->pool_width, a->width) - x,
                a->width * channels, channels,
            };
            float *to = a->y + (i * a->out_width + o) * channels;
            for (int64_t c = first; c < stop; c += VL, w.at += VL) vstore_to(to + c, window_average(w, stop - c), stop - c, streamed);
        }
    }
    if (streamed) vstreams_end();
}

/* What the gradients share: how places of an image meet windows along one axis. */
typedef struct pool_axis { int64_t out, pool, stride, before, size; } pool_axis;

/* The windows first <= o < stop that hold place i. */
INLINE int64_t axis_first(const pool_axis s, int64_t i) { return most(i + s.before - s.pool + s.stride, 0) / s.stride; }
INLINE int64_t axis_stop(const pool_axis s, int64_t i) { return least((i + s.before) / s.stride + 1, s.out); }

/* How many places of window o lie in the image. */
INLINE int64_t axis_count(const pool_axis s, int64_t o)
{
    return least(o * s.stride - s.before + s.pool, s.size) - most(o * s.stride - s.before, 0);
}

/* The gradient of the images at row y: of each window that holds a place, d_y where the place is the winner, or (no winners) its
   share. d_y, winner are those of the image. Windows that do not overlap are read once a row. */
INLINE void pool_grad_part(float *d_x, const float *d_y, const uint8_t *winner, const int32_t *wide_winner, const pool_axis v, const pool_axis h,
                           int64_t channels, int64_t y, const int average)
{
    const int64_t first_y = axis_first(v, y), stop_y = axis_stop(v, y);
    if (stop_y - first_y == 1 && h.stride >= h.pool) {
        const int64_t ky = y + v.before - first_y * v.stride, rows = axis_count(v, first_y);
        int64_t done = 0;
        for (int64_t o = 0; o < h.out; o++) {
            const int64_t begin = o * h.stride - h.before, x0 = most(begin, 0), x1 = least(begin + h.pool, h.size);
            const int64_t at = (first_y * h.out + o) * channels;
            if (done < x0) memset(d_x + done * channels, 0, (size_t)((x0 - done) * channels) * sizeof(float));
            done = x1;
            for (int64_t c = 0; c < channels; c += VL) {
                const int64_t n = channels - c;
                const vf d = vload_n(d_y + at + c, n);
                if (average) {
                    const vf share = d / vset((float)(rows * axis_count(h, o)));
                    for (int64_t x = x0; x < x1; x++) vstore_n(d_x + x * channels + c, share, n);
                } else {
                    const vi place = winner ? vbytes_load(winner + at + c, n) : viload_n(wide_winner + at + c, n);
                    for (int64_t x = x0; x < x1; x++)
                        vstore_n(d_x + x * channels + c, vpick(place == viset((int32_t)(ky * h.pool + x - begin)), d, vset(0)), n);
                }
            }
        }
        if (done < h.size) memset(d_x + done * channels, 0, (size_t)((h.size - done) * channels) * sizeof(float));
        return;
    }
    memset(d_x, 0, (size_t)(h.size * channels) * sizeof(float));
    for (int64_t oy = first_y; oy < stop_y; oy++)
        for (int64_t o = 0; o < h.out; o++) {
            const int64_t begin = o * h.stride - h.before, x0 = most(begin, 0), x1 = least(begin + h.pool, h.size);
            const int64_t at = (oy * h.out + o) * channels, here = (y + v.before - oy * v.stride) * h.pool - begin;
            const vf share = vset((float)(axis_count(v, oy) * axis_count(h, o)));
            for (int64_t c = 0; c < channels; c += VL) {
                const int64_t n = channels - c;
                const vf d = average ? vload_n(d_y + at + c, n) / share : vload_n(d_y + at + c, n);
                const vi place = average ? viset(0) : winner ? vbytes_load(winner + at + c, n) : viload_n(wide_winner + at + c, n);
                for (int64_t x = x0; x < x1; x++) {
                    float *to = d_x + x * channels + c;
                    const vf own = average ? d : vpick(place == viset((int32_t)(here + x)), d, vset(0));
                    vstore_n(to, vload_n(to, n) + own, n);
                }
            }
        }
}

static void pool_grad_row(float *d_x, const float *d_y, const uint8_t *winner, const int32_t *wide_winner, const pool_axis v, const pool_axis h,
                          int64_t channels, int64_t y)
{
    if (winner) pool_grad_part(d_x, d_y, winner, 0, v, h, channels, y, 0);
    else pool_grad_part(d_x, d_y, 0, wide_winner, v, h, channels, y, !wide_winner);
}

/* d_x from the places that max_pool2d or, without winners, average_pool2d saw.  One item: one row of one image. */
KERNEL(pool2d_grad, a->batch * a->height,
       2.0 * a->width * a->channels * pieces(a->pool_height, a->stride_height) * pieces(a->pool_width, a->stride_width),
    float *d_x;           /* (batch, height, width, channels) */
    const float *d_y;     /* (batch, out_height, out_width, channels) */
    OPTIONAL const uint8_t *winner;       /* (batch, out_height, out_width, channels) */
    OPTIONAL const int32_t *wide_winner;  /* (batch, out_height, out_width, channels) */
    int64_t batch;
    int64_t height;
    int64_t width;
    int64_t channels;
    int64_t out_height;
    int64_t out_width;
    int64_t pool_height;
    int64_t pool_width;
    int64_t stride_height;
    int64_t stride_width;
    int64_t top;
    int64_t left;)
{
    const pool_axis v = { a->out_height, a->pool_height, a->stride_height, a->top, a->height };
    const pool_axis h = { a->out_width, a->pool_width, a->stride_width, a->left, a->width };
    for (int64_t i = begin; i < end; i++) {
        const int64_t at = i / a->height * a->out_height * a->out_width * a->channels;
        pool_grad_row(a->d_x + i * a->width * a->channels, a->d_y + at, a->winner ? a->winner + at : 0,
                      a->wide_winner ? a->wide_winner + at : 0, v, h, a->channels, i % a->height);
    }
}
