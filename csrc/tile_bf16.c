/* The tile of tile_bf16.h. */
#include "tile_bf16.h"

enum { LONG = 32 };     /* pairs from which it pays to fetch the lines of the next panel's results */

/* `rows` x vectors of a tile, from column `first`, with rows and vectors known to the compiler. Every other line is fetched ahead. */
INLINE void pair_part(const pair_tile *t, const uint32_t *a, float *out, int64_t first, int64_t ahead, const int rows, const int vectors)
{
    vf sum[PAIR_ROWS][PAIR_VECTORS];
    const uint32_t *b = t->b + first;
    const int64_t a_row = t->a_row, a_depth = t->a_depth, out_row = t->out_row, left = t->columns - first;
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = vset(0);
    if (t->accumulate)
        UNROLL for (int i = 0; i < rows; i++)
            UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = vload_n(out + i * out_row + j * VL, most(left - j * VL, 0));
    if (t->pairs >= LONG && out_row > PANEL && !t->streamed)
        UNROLL for (int i = 0; i < rows; i++)
            UNROLL for (int j = 0; j < vectors * VL; j += 16) __builtin_prefetch(out + i * out_row + PANEL + j, 1);
    if (t->residual) {
        const float *next = t->residual + (out - t->out) + PANEL;
        UNROLL for (int i = 0; i < rows; i++)
            UNROLL for (int j = 0; j < vectors * VL; j += 16) __builtin_prefetch(next + i * out_row + j);
    }
    for (int64_t p = 0; p < t->pairs; p++, a += a_depth, b += PANEL) {
        vu v[PAIR_VECTORS];
        UNROLL for (int j = 0; j < vectors; j++) v[j] = vuload(b + j * VL);
        __builtin_prefetch(b + ahead, 0, 2);
        UNROLL for (int i = 0; i < rows; i++) {
            const vu x = (vu)viset((int32_t)a[i * a_row]);
            UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = vdot2(x, v[j], sum[i][j]);
        }
    }
    if (t->bias)
        UNROLL for (int j = 0; j < vectors; j++) {
            const vf bias = vload_n(t->bias + first + j * VL, most(left - j * VL, 0));
            UNROLL for (int i = 0; i < rows; i++) sum[i][j] = sum[i][j] + bias;
        }
    if (t->residual) {
        const float *residual = t->residual + (out - t->out);
        UNROLL for (int j = 0; j < vectors; j++)
            UNROLL for (int i = 0; i < rows; i++)
                sum[i][j] = sum[i][j] + vload_n(residual + i * out_row + j * VL, most(left - j * VL, 0));
    }
    if (t->activation == ACT_RELU || t->activation == ACT_RELU6) {
        const vf limit = vset(t->activation == ACT_RELU ? INFINITY : 6);
        UNROLL for (int j = 0; j < vectors; j++)
            UNROLL for (int i = 0; i < rows; i++) sum[i][j] = vlesser(limit, vrelu(sum[i][j]));
    }
    UNROLL for (int j = 0; j < vectors; j++) {
        const int64_t n = left - j * VL;
        if (n >= VL && t->streamed) { UNROLL for (int i = 0; i < rows; i++) vstream(out + i * out_row + j * VL, sum[i][j]); }
        else if (n >= VL) { UNROLL for (int i = 0; i < rows; i++) vstore(out + i * out_row + j * VL, sum[i][j]); }
        else if (n > 0) { UNROLL for (int i = 0; i < rows; i++) vstore_n(out + i * out_row + j * VL, sum[i][j], n); }
    }
}

void pair_multiply(const pair_tile *t, int64_t rows)
{
    const int64_t n = pieces(rows, PAIR_ROWS);
    for (int64_t first = 0; first < t->columns; first += PAIR_COLUMNS) {
        const int one = t->columns - first <= VL;
        for (int64_t i = 0, row = 0, height; i < n; i++, row += height) {
            height = n == 1 ? rows : tile_begin(rows, n, i + 1) - row;
            const int64_t ahead = t->ahead ? t->ahead + i % 2 * 16 : 0;
            const uint32_t *a = t->a + row * t->a_row;
            float *out = t->out + row * t->out_row + first;
#define CASE(m) \
            case m: pair_part(t, a, out, first, ahead, m, PAIR_VECTORS); break; \
            case m + 16: pair_part(t, a, out, first, ahead, m, 1); break;
            switch (height + 16 * one) {
            CASE(1) CASE(2) CASE(3) CASE(4)
#if VL == 16
            CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#endif
#if defined(__AVX512BF16__)
            CASE(13) CASE(14)
#endif
            default: break;
            }
#undef CASE
        }
    }
    if (t->activation > ACT_RELU && t->activation != ACT_RELU6) tile_activate(t->out, t->out_row, rows, t->columns, t->activation);
}

void pair_panel(uint32_t *panel, const float *b, int64_t b_depth, int64_t b_column, int64_t depth, int64_t columns)
{
    const int64_t n = least(columns, PANEL);
    if (b_column == 1)
        for (int64_t p = 0; p < depth; p += 2, panel += PANEL, b += 2 * b_depth)
            UNROLL for (int j = 0; j < PANEL; j += VL) {
                const int64_t m = most(n - j, 0);
                vustore(panel + j, vpairs(vload_n(b + j, m), p + 1 < depth ? vload_n(b + b_depth + j, m) : vset(0)));
            }
    else if (b_depth == 1)
        for (int j = 0; j < PANEL; j += VL)
            for (int64_t p = 0; p < depth; p += 2 * VL) {
                vu x[VL];
                pair_turn(x, b + j * b_column + p, b_column, n - j, depth - p);
                for (int64_t k = 0; k < VL && p + 2 * k < depth; k++) vustore(panel + (p / 2 + k) * PANEL + j, x[k]);
            }
    else
        for (int64_t p = 0; p < depth; p += 2)
            for (int j = 0; j < PANEL; j++)
                panel[p / 2 * PANEL + j] = j < n ? pair_of(b + p * b_depth + j * b_column, b_depth, depth - p) : 0;
}

void pair_rows(pair_tile *t, uint32_t *to, const float *a, int64_t a_row, int64_t a_depth, int64_t rows, int64_t depth)
{
    t->a = to, t->pairs = pieces(depth, 2);
    if (a_row == 1 && a_depth != 1) {
        t->a_row = 1, t->a_depth = (rows + 31) / 32 * 32 + 16;
        for (int64_t p = 0; p < depth; p += 2, a += 2 * a_depth, to += t->a_depth)
            for (int64_t i = 0; i < rows; i += VL)
                vustore(to + i, vpairs(vload_n(a + i, rows - i), p + 1 < depth ? vload_n(a + a_depth + i, rows - i) : vset(0)));
        return;
    }
    t->a_row = pair_stride(depth), t->a_depth = 1;
    for (int64_t i = 0; i < rows; i++, a += a_row, to += t->a_row) {
        if (a_depth == 1) pair_run(to, a, depth);
        else for (int64_t p = 0; p < depth; p += 2) to[p / 2] = pair_of(a + p * a_depth, a_depth, depth - p);
    }
}
