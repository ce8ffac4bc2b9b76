/* The tile of tile_bf16.h. */
#include "tile_bf16.h"

enum { LONG = 32 };     /* pairs from which it pays to fetch the lines of the next panel's results */

/* `rows` x vectors of a tile, from column `first`, with rows and vectors known to the compiler. For each pair a line is fetched. */
INLINE void pair_part(const pair_tile *t, const uint32_t *a, float *out, int64_t first, const char *line, int64_t step, const int rows,
                      const int vectors)
{
    vf sum[PAIR_ROWS][PAIR_VECTORS];
    const uint32_t *b = t->b + first;
    const int64_t a_depth = 4 * t->a_depth, out_row = t->out_row, left = t->columns - first, last = least(left - (vectors - 1) * VL, VL);
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = vset(0);
    if (t->accumulate) {
        const float *x = out;
        UNROLL for (int i = 0; i < rows; i++, x = next_row(x, out_row))
            UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = vload_n(x + j * VL, j < vectors - 1 ? VL : last);
    }
    if (t->pairs >= LONG && out_row > PANEL && !t->streamed) {
        const float *x = out + PANEL;
        UNROLL for (int i = 0; i < rows; i++, x = next_row(x, out_row))
            UNROLL for (int j = 0; j < vectors * VL; j += 16) __builtin_prefetch(x + j, 1);
    }
    const float *residual = t->residual ? t->residual + (out - t->out) : 0;
    if (residual) {
        const float *x = residual + PANEL;
        UNROLL for (int i = 0; i < rows; i++, x = next_row(x, out_row))
            UNROLL for (int j = 0; j < vectors * VL; j += 16) __builtin_prefetch(x + j);
    }
    const char *at = (const char *)a, *beyond = (const char *)(a + 7 * t->a_row);
    int64_t s = 4 * t->a_row, s3 = 3 * s, s5 = 5 * s;
    for (int64_t p = t->pairs; p > 0; p--, b += PANEL, line += step) {
        vu v[PAIR_VECTORS];
        UNROLL for (int j = 0; j < vectors; j++) v[j] = vuload(b + j * VL);
        __builtin_prefetch(line, 0, 2);
        if (rows > 2) __asm__("" : "+r"(s), "+r"(s3), "+r"(s5));        /* else each row takes a register, or the stack */
        UNROLL for (int i = 0; i < rows; i++) {
            const vu x = (vu)viset(*(const int32_t *)tile_row(i < 7 ? at : beyond, i % 7, s, s3, s5));
            UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = vdot2(x, v[j], sum[i][j]);
        }
        at += a_depth;
        if (rows > 7) beyond += a_depth;
    }
    if (t->bias)
        UNROLL for (int j = 0; j < vectors; j++) {
            const vf bias = vload_n(t->bias + first + j * VL, j < vectors - 1 ? VL : last);
            UNROLL for (int i = 0; i < rows; i++) sum[i][j] = sum[i][j] + bias;
        }
    if (residual)
        UNROLL for (int i = 0; i < rows; i++, residual = next_row(residual, out_row))
            UNROLL for (int j = 0; j < vectors; j++)
                sum[i][j] = sum[i][j] + vload_n(residual + j * VL, j < vectors - 1 ? VL : last);
    if (t->activation == ACT_RELU || t->activation == ACT_RELU6) {
        const vf limit = vset(t->activation == ACT_RELU ? INFINITY : 6);
        UNROLL for (int j = 0; j < vectors; j++)
            UNROLL for (int i = 0; i < rows; i++) sum[i][j] = vlesser(limit, vrelu(sum[i][j]));
    }
    UNROLL for (int i = 0; i < rows; i++, out = (float *)next_row(out, out_row))
        UNROLL for (int j = 0; j < vectors; j++) {
            if (t->streamed) vstream(out + j * VL, sum[i][j]);
            else if (j < vectors - 1) vstore(out + j * VL, sum[i][j]);
            else vstore_n(out + j * VL, sum[i][j], last);
        }
}

void pair_multiply(const pair_tile *t, int64_t rows)
{
    const int64_t n = pieces(rows, PAIR_ROWS);
    const char *later = t->later;
    for (int64_t first = 0; first < t->columns; first += PAIR_COLUMNS) {
        const int one = t->columns - first <= VL;
        for (int64_t i = 0, row = 0, height; i < n; i++, row += height) {
            height = n == 1 ? rows : tile_begin(rows, n, i + 1) - row;
            const char *line = (const char *)(t->b + first + (t->ahead ? t->ahead + i % 2 * 16 : 0));     /* every other one of the panel */
            const int64_t step = later ? 64 : 4 * PANEL;
            if (later) line = later, later += 64 * t->pairs;
            const uint32_t *a = t->a + row * t->a_row;
            float *out = t->out + row * t->out_row + first;
#define CASE(m) \
            case m: pair_part(t, a, out, first, line, step, m, PAIR_VECTORS); break; \
            case m + 16: pair_part(t, a, out, first, line, step, m, 1); break;
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
