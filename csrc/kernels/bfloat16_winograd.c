/* Convolutions of 3 x 3, stride 1, by Winograd's algorithm F(2 x 2, 3 x 3) with products of operands rounded to bfloat16 (Lavin and
   Gray, "Fast algorithms for convolutional neural networks", 2016). 2 x 2 results of a tile come from a window of 4 x 4:

       Y = A^T ((G g G^T) * (B^T d B)) A

   and at each of the 16 points the sum over the channels is a matrix product (tiles, channels) @ (channels, filters). The transforms
   are computed in float32 and rounded. Their error is 1.5 times that of the direct sum, that of F(4 x 4) 4 to 6 times: that is good enough
   for training, see bfloat16_winograd4x4.c, and this is for predictions. */
#include "tile_bf16.h"

enum { POINTS = 16, POINT_ROWS = 32, PACK_STREAMED = 1 << 20 };     /* rows of the kernel transformed at once; see streamed */

/* VL numbers, rounded. */
INLINE void store_rounded(uint16_t *to, vf x)
{
#if defined(__AVX512BF16__)
    const __m256bh y = _mm512_cvtneps_pbh(x);
    memcpy(to, &y, sizeof y);
#else
    typedef uint16_t half __attribute__((vector_size(2 * VL)));
    const half y = __builtin_convertvector(vround_bf16(x) >> 16, half);
    memcpy(to, &y, sizeof y);
#endif
}

/* Along one axis, of every `step`-th number: B^T d, G g, A^T m. */
INLINE void window_points(vf *x, const int step)
{
    const vf a = x[0] - x[2 * step], b = x[step] + x[2 * step], c = x[2 * step] - x[step], d = x[step] - x[3 * step];
    x[0] = a, x[step] = b, x[2 * step] = c, x[3 * step] = d;
}

INLINE void kernel_points(vf *y, const int to, const vf *g, const int step)
{
    const vf half = vset(0.5f), sum = (g[0] + g[2 * step]) * half, middle = g[step] * half;
    y[0] = g[0], y[to] = sum + middle, y[2 * to] = sum - middle, y[3 * to] = g[2 * step];
}

INLINE void points_results(vf *y, const int to, const vf *x, const int step)
{
    y[0] = (x[0] + x[step]) + x[2 * step];
    y[to] = (x[step] - x[2 * step]) - x[3 * step];
}

/* The kernel at all points, in panels of pairs: number (ky, kx, p, j) is at (ky, kx) * tap + p * row + j * column.
   One item: a panel of 32 columns. */
KERNEL(winograd_pack_bf16, pieces(a->columns, PANEL), 3.0 * a->rows * PANEL * POINTS,
    uint32_t *panels;     /* (16, ceil(columns / 32), ceil(rows / 2), 32) */
    const float *kernel;  /* (3, 3, rows, columns) by strides */
    int64_t rows;
    int64_t columns;
    int64_t flipped;      /* the places of the kernel from the last to the first */
    int64_t tap;
    int64_t row;
    int64_t column;)
{
    const int64_t panels = pieces(a->columns, PANEL), pairs = pieces(a->rows, 2);
    float (*taps)[POINT_ROWS][PANEL] = (float (*)[POINT_ROWS][PANEL])(void *)worker->scratch;       /* (9, rows, PANEL) */
    const int streamed = VL == 16 && POINTS * panels * pairs * PANEL >= PACK_STREAMED && (uintptr_t)a->panels % 64 == 0;   /* past the caches */
    for (int64_t q = begin; q < end; q++) {
        const int64_t n = least(a->columns - q * PANEL, PANEL);
        for (int64_t first = 0; first < a->rows; first += POINT_ROWS) {
            const int64_t some = least(a->rows - first, POINT_ROWS);
            for (int64_t k = 0; k < 9; k++) {
                const float *from = a->kernel + (a->flipped ? 8 - k : k) * a->tap + first * a->row + q * PANEL * a->column;
                for (int64_t j = 0; j < PANEL; j += VL)
                    for (int64_t p = 0; p < some; p += VL) {
                        vf x[VL];
                        if (a->column == 1)
                            for (int64_t i = 0; i < VL; i++) x[i] = p + i < some ? vload_n(from + (p + i) * a->row + j, most(n - j, 0)) : vset(0);
                        else {                           /* row == 1 */
                            for (int64_t i = 0; i < VL; i++) x[i] = j + i < n ? vload_n(from + (j + i) * a->column + p, some - p) : vset(0);
                            vtranspose(x);
                        }
                        for (int64_t i = 0; i < VL; i++) vstore(taps[k][p + i] + j, x[i]);
                    }
            }
            const int64_t apart = most(a->row, a->column), last = first + POINT_ROWS >= a->rows;
            const float *next = a->kernel + (last ? 0 : first + POINT_ROWS) * a->row + (q + last) * PANEL * a->column;
            for (int64_t p = 0; p < some; p += 2) {
                if (q + last < end)                      /* fetch what is transformed after these rows */
                    for (int64_t k = 0; k < 9; k++, next += a->tap)
                        for (int64_t t = p; t < p + 2; t++)
                            UNROLL for (int c = 0; c < PANEL; c += 16) __builtin_prefetch(next + t * apart + c, 0, 2);
                next -= 9 * a->tap;
                for (int64_t j = 0; j < PANEL; j += VL) {
                    vf y[2][POINTS];
                    for (int64_t i = 0; i < 2; i++) {
                        vf g[9], half[12];
                        UNROLL for (int k = 0; k < 9; k++) g[k] = p + i < some ? vload(taps[k][p + i] + j) : vset(0);
                        UNROLL for (int k = 0; k < 3; k++) kernel_points(half + k, 3, g + k, 3);
                        UNROLL for (int k = 0; k < 4; k++) kernel_points(y[i] + 4 * k, 1, half + 3 * k, 1);
                    }
                    uint32_t *to = a->panels + (q * pairs + (first + p) / 2) * PANEL + j;
                    UNROLL for (int k = 0; k < POINTS; k++) {
                        const vu pair = vpairs(y[0][k], y[1][k]);
                        if (streamed) vstream((float *)(to + k * panels * pairs * PANEL), (vf)pair);
                        else vustore(to + k * panels * pairs * PANEL, pair);
                    }
                }
            }
        }
    }
    if (streamed) vstreams_end();
}

INLINE int64_t winograd_tiles(int64_t batch, int64_t height, int64_t width) { return batch * pieces(height, 2) * pieces(width, 2); }

/* Fetch columns first .. stop of the 2 x 2 results from `out` on, `below` the lower two. */
INLINE void fetch_results(const float *out, const float *below, int64_t filters, int64_t first, int64_t stop)
{
    for (int64_t f = first; f < stop; f += 16) {
        __builtin_prefetch(out + f, 1, 2);
        __builtin_prefetch(out + filters + f, 1, 2);
        __builtin_prefetch(below + f, 1, 2);
        __builtin_prefetch(below + filters + f, 1, 2);
    }
}

/* out = activation(bias + convolution of images).  One item: `block` tiles by some panels of filters. */
KERNEL(winograd_bf16, pieces(winograd_tiles(a->batch, a->out_height, a->out_width), a->block) * a->parts,
       a->block * POINTS / 12.0 * a->channels * a->filters / a->parts,
    float *out;           /* (batch, out_height, out_width, filters) */
    const float *images;  /* (batch, height, width, channels) */
    const uint32_t *panels;       /* of winograd_pack_bf16 */
    OPTIONAL const float *bias;   /* (filters) */
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
    int64_t block;        /* block * channels at most 2^14 */
    int64_t parts;)
{
    const uint32_t state = flush_denormals();
    const int64_t down = pieces(a->out_height, 2), across = pieces(a->out_width, 2), tiles = a->batch * down * across;
    const int64_t panels = pieces(a->filters, PANEL), pairs = pieces(a->channels, 2), row = (a->channels + 31) / 32 * 16;
    const int64_t point = a->block * row + 16, point_out = a->block * PANEL + 16;     /* from point to point: no multiple of a page */
    float *products = (float *)worker->scratch, *zeros = products + POINTS * point_out;
    uint32_t *v = (uint32_t *)(zeros + 2 * row);
    memset(zeros, 0, (size_t)(2 * row) * sizeof(float));
    for (int64_t i = begin; i < end; i++) {
        const int64_t first = i / a->parts * a->block, n = least(tiles - first, a->block), part = i % a->parts;
        const int64_t panel = panels * part / a->parts, panel_end = panels * (part + 1) / a->parts;
        for (int64_t k = 0; k < n; k++) {
            const int64_t tile = first + k, y = tile / across % down * 2 - a->top, x = tile % across * 2 - a->left;
            const float *image = a->images + tile / across / down * a->height * a->width * a->channels, *at[POINTS];
            for (int64_t j = 0; j < POINTS; j++) {
                const int inside = y + j / 4 >= 0 && y + j / 4 < a->height && x + j % 4 >= 0 && x + j % 4 < a->width;
                at[j] = inside ? image + ((y + j / 4) * a->width + x + j % 4) * a->channels : zeros;
            }
            const float *out = a->out + ((tile / across / down * a->out_height + y + a->top) * a->out_width + x + a->left) * a->filters;
            fetch_results(out, out + a->out_width * a->filters, a->filters, panel * PANEL, least(panel_end * PANEL, a->filters));
            for (int64_t c = 0; c < a->channels; c += VL) {
                vf d[POINTS];
                UNROLL for (int j = 0; j < POINTS; j++) {
                    d[j] = vload_n(at[j] + c, a->channels - c);
                    if (j % 4 >= 2) __builtin_prefetch(at[j] + c + 2 * a->channels);        /* for the next tile */
                }
                UNROLL for (int j = 0; j < 4; j++) window_points(d + j, 4);
                UNROLL for (int j = 0; j < 4; j++) window_points(d + 4 * j, 1);
                UNROLL for (int j = 0; j < POINTS; j++) store_rounded((uint16_t *)(v + j * point + k * row) + c, d[j]);
            }
        }
        for (int64_t q = panel; q < panel_end; q++) {
            for (int64_t j = 0; j < POINTS; j++) {
                const pair_tile t = {
                    .out = products + j * point_out, .out_row = PANEL, .a = v + j * point, .a_row = row, .a_depth = 1,
                    .b = a->panels + (j * panels + q) * pairs * PANEL, .pairs = pairs, .columns = PANEL,
                    .ahead = j + 1 < POINTS ? panels * pairs * PANEL : 0,
                };
                pair_multiply(&t, n);
            }
            const int64_t columns = least(a->filters - q * PANEL, PANEL);
            for (int64_t k = 0; k < n; k++) {
                const int64_t tile = first + k, y = tile / across % down * 2, x = tile % across * 2;
                float *out = a->out + ((tile / across / down * a->out_height + y) * a->out_width + x) * a->filters + q * PANEL;
                const int below = y + 1 < a->out_height, beside = x + 1 < a->out_width;
                for (int64_t c = 0; c < columns; c += VL) {
                    const int64_t m = columns - c;
                    const vf bias = a->bias ? vload_n(a->bias + q * PANEL + c, m) : vset(-0.0f);
                    vf p[POINTS], half[8], r[4];
                    UNROLL for (int j = 0; j < POINTS; j++) p[j] = vload(products + j * point_out + k * PANEL + c);
                    UNROLL for (int j = 0; j < 4; j++) points_results(half + j, 4, p + j, 4);
                    UNROLL for (int j = 0; j < 2; j++) points_results(r + 2 * j, 1, half + 4 * j, 1);
                    UNROLL for (int j = 0; j < 4; j++) r[j] = r[j] + bias;
                    if (a->activation) { UNROLL for (int j = 0; j < 4; j++) r[j] = activate(r[j], a->activation); }
                    vstore_n(out + c, r[0], m);
                    if (beside) vstore_n(out + a->filters + c, r[1], m);
                    if (below) vstore_n(out + a->out_width * a->filters + c, r[2], m);
                    if (below && beside) vstore_n(out + (a->out_width + 1) * a->filters + c, r[3], m);
                }
            }
        }
    }
    keep_denormals(state);
}
