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

/* The arguments of both kernels. */
typedef struct pooling {
    float *y;
    uint8_t *winner;
    int32_t *wide_winner;
    const float *x;
    int64_t batch, height, width, channels, out_height, out_width, pool_height, pool_width, stride_height, stride_width, top, left;
    int average, streamed;
} pooling;

/* n channels of a window, of which the first place in the image is place `offset`; `to`: where the result belongs. */
static void pool_vector(const pooling *p, const pool_window w, int64_t n, int64_t to, int32_t offset)
{
    if (p->average) {
        vstore_to(p->y + to, window_average(w, n), n, p->streamed);
        return;
    }
    vi place;
    vstore_to(p->y + to, window_max(w, n, &place, p->pool_width), n, p->streamed);
    if (p->winner) vbytes_store(p->winner + to, place + viset(offset), n);
    if (p->wide_winner) vistore_n(p->wide_winner + to, place + viset(offset), n);
}

enum { LARGEST, LARGEST_AND_PLACE, AVERAGE };

/* Whole vectors of a window of size x size places; `ahead`: how far away the windows of the next row lie, 0: in a cache. */
INLINE void pool_small(const pooling *restrict p, const float *at, int64_t row, int64_t column, int64_t to, int64_t ahead,
                       const int vectors, const int size, const int wanted)
{
    UNROLL_ALL for (int j = 0; j < vectors; j++, at += VL, to += VL) {
        vf x[9], y;
        UNROLL_ALL for (int t = 0; t < size * size; t++) x[t] = vload(at + t / size * row + t % size * column);
        if (ahead) UNROLL_ALL for (int t = 0; t < 4; t++) __builtin_prefetch(at + ahead + t / 2 * row + t % 2 * column);
        y = x[0];
        if (wanted == AVERAGE) {
            y = y + vset(0);
            UNROLL_ALL for (int t = 1; t < size * size; t++) y = y + x[t];
            y = y / vset((float)(size * size));
        } else {
            vplaces place = vplaces_of(0);
            vflags numbers = vordered(x[size * size - 1], x[0]);
            UNROLL_ALL for (int t = 1; t < size * size; t++) {
                if (wanted == LARGEST_AND_PLACE) place = vplaces_pick_less(y, x[t], vplaces_of(t), place);
                y = vgreater(x[t], y);
                if (t % 2 == 0) numbers = vordered_too(numbers, x[t - 1], x[t]);
            }
            if (!vall(numbers)) {                        /* a NaN goes before all, which takes more operations */
                pool_vector(p, (pool_window){ at, size, size, row, column }, VL, to, 0);
                continue;
            }
            if (wanted == LARGEST_AND_PLACE) vplaces_store(p->winner + to, place);
        }
        if (p->streamed) vstream(p->y + to, y);
        else vstore(p->y + to, y);
    }
}

enum { SOME = 4 };               /* vectors side by side: a fifth faster out of the last cache than one */

/* Row i of the results, its channels first .. stop - 1. Out of the caches most of the time would be spent waiting for the first load of each
   line: the processor does not foresee two rows that are read side by side. */
INLINE void pool_row(const pooling *restrict p, int64_t i, int64_t first, int64_t stop, const int size, const int wanted)
{
    const int64_t channels = p->channels, first_y = i % p->out_height * p->stride_height - p->top, y = most(first_y, 0);
    const int64_t rows = least(first_y + p->pool_height, p->height) - y, row = p->width * channels, ahead = p->streamed ? size * row : 0;
    const float *from = p->x + (i / p->out_height * p->height + y) * row + first;
    for (int64_t o = 0; o < p->out_width; o++) {
        const int64_t first_x = o * p->stride_width - p->left, x = most(first_x, 0), columns = least(first_x + p->pool_width, p->width) - x;
        const float *at = from + x * channels;
        int64_t to = (i * p->out_width + o) * channels + first, n = stop - first;
        if (size && rows == size && columns == size) {
            for (; n >= SOME * VL; n -= SOME * VL, to += SOME * VL, at += SOME * VL) pool_small(p, at, row, channels, to, ahead, SOME, size, wanted);
            for (; n >= VL; n -= VL, to += VL, at += VL) pool_small(p, at, row, channels, to, ahead, 1, size, wanted);
        }
        for (; n > 0; n -= VL, to += VL, at += VL)
            pool_vector(p, (pool_window){ at, rows, columns, row, channels }, n, to, (int32_t)((y - first_y) * p->pool_width + x - first_x));
    }
}

static void pool_rows(pooling *p, int64_t begin, int64_t end)
{
    const int64_t each = pooled_channels(p->batch * p->out_height, p->channels), parts = pieces(p->channels, each);
    const int64_t size = p->pool_height == p->pool_width && !p->wide_winner ? p->pool_height : 0;
    const int wanted = p->average ? AVERAGE : p->winner ? LARGEST_AND_PLACE : LARGEST;
    p->streamed = streams(p->y, p->batch * p->channels * (p->height * p->width + p->out_height * p->out_width), p->channels);
    for (int64_t item = begin; item < end; item++) {
        const int64_t i = item / parts, first = item % parts * each, stop = least(first + each, p->channels);
#define ROW(size_, wanted_) if (size == size_ && wanted == wanted_) { pool_row(p, i, first, stop, size_, wanted_); continue; }
        ROW(2, LARGEST) ROW(2, LARGEST_AND_PLACE) ROW(2, AVERAGE)
        ROW(3, LARGEST) ROW(3, LARGEST_AND_PLACE) ROW(3, AVERAGE)
        pool_row(p, i, first, stop, 0, 0);
#undef ROW
    }
    if (p->streamed) vstreams_end();
}

#define POOLING(a, ...)                                                                                                \
    (pooling){ .y = (a)->y, .x = (a)->x, .batch = (a)->batch, .height = (a)->height, .width = (a)->width,              \
               .channels = (a)->channels, .out_height = (a)->out_height, .out_width = (a)->out_width,                  \
               .pool_height = (a)->pool_height, .pool_width = (a)->pool_width, .stride_height = (a)->stride_height,    \
               .stride_width = (a)->stride_width, .top = (a)->top, .left = (a)->left, __VA_ARGS__ }

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
    pool_rows(&POOLING(a, .winner = a->winner, .wide_winner = a->wide_winner), begin, end);
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
    pool_rows(&POOLING(a, .average = 1), begin, end);
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

typedef struct pool_grad {
    const float *d_y;
    const uint8_t *winner;
    const int32_t *wide_winner;
    pool_axis v, h;
    int64_t channels;
    int streamed;
} pool_grad;

/* The part of window vector d that a place gets: all where it is the winner, or (no winners) its share. */
INLINE vf pool_grad_part(const pool_grad *g, vf d, int64_t from, int64_t n, int64_t here, const int wanted)
{
    if (wanted == LARGEST_AND_PLACE) return vpick_place(vplaces_load(g->winner + from, n), vplaces_of((int)here), d);
    if (wanted == LARGEST) return vpick(viload_n(g->wide_winner + from, n) == viset((int32_t)here), d, vset(0));
    return d;
}

/* The gradient of `places` places of one window, from place `here` at `from` in d_y on, of which each has `count` in the image. */
INLINE void pool_grad_window(const pool_grad *g, float *d_x, int64_t from, int64_t here, int64_t count, const int64_t places, const int wanted)
{
    const int64_t channels = g->channels;
    const int streamed = g->streamed;
    EACH_VECTOR(c, n, channels, {
        vf d = vload_n(g->d_y + from + c, n);
        if (wanted == AVERAGE) d = d / vset((float)count);
        for (int64_t x = 0; x < places; x++)
            vstore_to(d_x + x * channels + c, pool_grad_part(g, d, from + c, n, here + x, wanted), n, streamed);
    });
}

/* The gradient of one place: of rows x columns windows that hold it, the first at oy, ox and at `from` in d_y, of which it is place `here`. */
INLINE void pool_grad_place(const pool_grad *g, float *d_x, int64_t oy, int64_t ox, int64_t from, int64_t here, const int64_t rows,
                            const int64_t columns, const int wanted)
{
    const int64_t channels = g->channels, row = g->h.out * channels, down = g->v.stride * g->h.pool, right = g->h.stride;
    const int streamed = g->streamed;
    EACH_VECTOR(c, n, channels, {
        vf sum = vset(0);
        for (int64_t j = 0; j < rows; j++)
            for (int64_t i = 0; i < columns; i++) {
                const int64_t at = from + j * row + i * channels + c;
                vf d = vload_n(g->d_y + at, n);
                if (wanted == AVERAGE) d = d / vset((float)(axis_count(g->v, oy + j) * axis_count(g->h, ox + i)));
                if (streamed && !i && !j) __builtin_prefetch(g->d_y + at + 2 * row);
                d = pool_grad_part(g, d, at, n, here - j * down - i * right, wanted);
                sum = i + j ? sum + d : d;
            }
        vstore_to(d_x + c, sum, n, streamed);
    });
}

/* Row y of an image's gradient; d_y and the winners are those of the image. Windows that do not overlap are read once a row. */
INLINE void pool_grad_row(const pool_grad *g, float *d_x, int64_t y, const int wanted)
{
    const pool_axis h = g->h;
    const int64_t channels = g->channels, oy = axis_first(g->v, y), rows = axis_stop(g->v, y) - oy;
    const int64_t here = (y + g->v.before - oy * g->v.stride) * h.pool;
    if (rows == 1 && h.stride >= h.pool) {
        int64_t done = 0;
        for (int64_t o = 0, begin = -h.before; o < h.out; o++, begin += h.stride) {
            const int64_t x0 = most(begin, 0), x1 = least(begin + h.pool, h.size), from = (oy * h.out + o) * channels;
            const int64_t count = axis_count(g->v, oy) * (x1 - x0);
            if (done < x0) memset(d_x + done * channels, 0, (size_t)((x0 - done) * channels) * sizeof(float));
            if (x1 - x0 == 2) pool_grad_window(g, d_x + x0 * channels, from, here + x0 - begin, count, 2, wanted);
            else pool_grad_window(g, d_x + x0 * channels, from, here + x0 - begin, count, x1 - x0, wanted);
            done = x1;
        }
        if (done < h.size) memset(d_x + done * channels, 0, (size_t)((h.size - done) * channels) * sizeof(float));
        return;
    }
    for (int64_t x = 0, ox = 0, stop = 0; x < h.size; x++, d_x += channels) {
        while (ox * h.stride - h.before + h.pool <= x) ox++;
        while (stop < h.out && stop * h.stride - h.before <= x) stop++;
        const int64_t columns = most(stop - ox, 0), from = (oy * h.out + ox) * channels, at = here + x + h.before - ox * h.stride;
#define PLACE(rows_, columns_) \
        if (rows == rows_ && columns == columns_) { pool_grad_place(g, d_x, oy, ox, from, at, rows_, columns_, wanted); continue; }
        PLACE(1, 1) PLACE(1, 2) PLACE(2, 1) PLACE(2, 2)
#undef PLACE
        pool_grad_place(g, d_x, oy, ox, from, at, most(rows, 0), columns, wanted);
    }
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
    const int64_t size = a->batch * a->channels * (a->height * a->width + a->out_height * a->out_width);
    pool_grad g = { .v = { a->out_height, a->pool_height, a->stride_height, a->top, a->height },
                    .h = { a->out_width, a->pool_width, a->stride_width, a->left, a->width },
                    .channels = a->channels, .streamed = streams(a->d_x, size, a->channels) };
    for (int64_t i = begin; i < end; i++) {
        const int64_t at = i / a->height * a->out_height * a->out_width * a->channels;
        g.d_y = a->d_y + at;
        g.winner = a->winner ? a->winner + at : 0;
        g.wide_winner = a->wide_winner ? a->wide_winner + at : 0;
        float *d_x = a->d_x + i * a->width * a->channels;
        if (g.winner) pool_grad_row(&g, d_x, i % a->height, LARGEST_AND_PLACE);
        else if (g.wide_winner) pool_grad_row(&g, d_x, i % a->height, LARGEST);
        else pool_grad_row(&g, d_x, i % a->height, AVERAGE);
    }
    if (g.streamed) vstreams_end();
}
