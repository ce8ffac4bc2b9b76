/* The register-blocked matrix tile that linear, convolution and recurrent share.

       out[i, j] = activate(bias[j] + sum over p of a[i, p] * b[p, j])       i < rows, j < columns, p < depth

   b comes in panels of PANEL columns, [panel][p][PANEL], filled up with zeros: the same layout on every instruction set.
   a is read in place by strides: rows of a matrix (a_row, 1), of its transpose (1, a_row), or patches in scratch.
   Each output is one sum, p upwards, by multiply-add: its bits depend neither on the tile nor on the rows beside it. */
#ifndef TILE_H
#define TILE_H

#include "kernel.h"

enum { PANEL = 32 };

/* A tile is TILE_ROWS x TILE_VECTORS vectors of accumulators. */
#if VL == 16
enum { TILE_ROWS = 14, TILE_VECTORS = 2 };
#elif defined(__aarch64__)
enum { TILE_ROWS = 6, TILE_VECTORS = 4 };
#else
enum { TILE_ROWS = 6, TILE_VECTORS = 2 };
#endif
enum { TILE_COLUMNS = TILE_VECTORS * VL };

typedef struct tile {
    float *out; int64_t out_row;
    const float *a; int64_t a_row, a_depth;     /* strides of a, in floats */
    const float *b; int64_t b_row;              /* of b: PANEL in a panel */
    const float *bias;                          /* may be null */
    int64_t depth, columns;                     /* columns <= PANEL */
    int64_t accumulate;                         /* 1: out's old value takes the place of 0 before bias */
    int64_t activation;
} tile;

/* `rows` x TILE_COLUMNS of a tile, from column `first`, with rows and vectors known to the compiler. */
INLINE void tile_part(const tile *t, int64_t row, int64_t first, const int rows, const int vectors)
{
    vf sum[TILE_ROWS][TILE_VECTORS];
    const float *a = t->a + row * t->a_row, *b = t->b + first;
    float *out = t->out + row * t->out_row + first;
    const int64_t a_row = t->a_row, a_depth = t->a_depth, b_row = t->b_row, depth = t->depth;
    const int64_t left = t->columns - first;
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vectors; j++)
            sum[i][j] = t->accumulate ? vload_n(out + i * t->out_row + j * VL, left - j * VL) : vset(0);
    for (int64_t p = 0; p < depth; p++, a += a_depth, b += b_row) {
        vf v[TILE_VECTORS];
        for (int j = 0; j < vectors; j++) v[j] = vload(b + j * VL);
        #pragma GCC unroll 14
        for (int i = 0; i < rows; i++) {
            vf x = vset(a[i * a_row]);
            for (int j = 0; j < vectors; j++) sum[i][j] = vfma(x, v[j], sum[i][j]);
        }
    }
    for (int j = 0; j < vectors; j++) {
        const int64_t n = left - j * VL;
        if (n <= 0) break;
        vf bias = t->bias ? vload_n(t->bias + first + j * VL, n) : vset(0);
        for (int i = 0; i < rows; i++) {
            vf y = t->bias ? sum[i][j] + bias : sum[i][j];
            y = activate(y, t->activation);
            if (n >= VL) vstore(out + i * t->out_row + j * VL, y);
            else vstore_n(out + i * t->out_row + j * VL, y, n);
        }
    }
}

/* `rows` rows (any number) of one panel. */
static void tile_multiply(const tile *t, int64_t rows)
{
    for (int64_t first = 0; first < t->columns; first += TILE_COLUMNS)
        for (int64_t row = 0; row < rows; row += TILE_ROWS) {
            const int64_t n = least(rows - row, TILE_ROWS);
#define CASE(m) case m: tile_part(t, row, first, m, TILE_VECTORS); break;
            switch (n) {
            CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if VL == 16
            CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
#endif
            default: break;
            }
#undef CASE
        }
}

/* Number of floats of a (depth, columns) matrix in panels. */
INLINE int64_t panel_floats(int64_t depth, int64_t columns) { return pieces(columns, PANEL) * PANEL * depth; }

#endif
