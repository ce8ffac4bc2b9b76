/* Matrix product: pack the right operand into panels, multiply. */
#include "tile.h"

/* panels[j / 32, p, j % 32] = b[p * row + j * column], zeros to the right.  One item: one panel of 32 columns. */
KERNEL(pack, pieces(a->columns, PANEL), a->depth * PANEL,
    float *panels;        /* (ceil(columns / 32), depth, 32) */
    const float *b;       /* (depth, columns) by the strides row and column */
    int64_t depth;
    int64_t columns;
    int64_t row;
    int64_t column;)
{
    for (int64_t q = begin; q < end; q++) {
        float *out = a->panels + q * a->depth * PANEL;
        const int64_t n = least(a->columns - q * PANEL, PANEL);
        for (int64_t p = 0; p < a->depth; p++, out += PANEL) {
            const float *b = a->b + p * a->row + q * PANEL * a->column;
            int64_t j = 0;
            if (a->column == 1) for (; j < n; j++) out[j] = b[j];
            else for (; j < n; j++) out[j] = b[j * a->column];
            for (; j < PANEL; j++) out[j] = 0;
        }
    }
}

enum { ROWS_AT_ONCE = 84 };      /* rows of an item: whole tiles of 14 and of 6 */

/* out = activation(bias + x @ b), b in panels; or, with accumulate, out + x @ b.  One item: a block of rows by a panel. */
KERNEL(matmul, pieces(a->rows, ROWS_AT_ONCE) * pieces(a->columns, PANEL), least(a->rows, ROWS_AT_ONCE) * PANEL * a->depth / 6.0,
    float *out;           /* (rows, columns) */
    const float *x;       /* (rows, depth) by the strides x_row and x_depth */
    const float *panels;  /* of the right operand (depth, columns) */
    OPTIONAL const float *bias;   /* (columns) */
    int64_t rows;
    int64_t columns;
    int64_t depth;
    int64_t x_row;
    int64_t x_depth;
    int64_t activation;
    int64_t accumulate;)
{
    const int64_t panels = pieces(a->columns, PANEL);
    for (int64_t i = begin; i < end; i++) {
        const int64_t row = i / panels * ROWS_AT_ONCE, q = i % panels;
        const tile t = {
            .out = a->out + row * a->columns + q * PANEL, .out_row = a->columns,
            .a = a->x + row * a->x_row, .a_row = a->x_row, .a_depth = a->x_depth,
            .b = a->panels + q * PANEL * a->depth, .b_row = PANEL,
            .bias = a->bias ? a->bias + q * PANEL : 0,
            .depth = a->depth, .columns = least(a->columns - q * PANEL, PANEL),
            .accumulate = a->accumulate, .activation = a->activation,
        };
        tile_multiply(&t, least(a->rows - row, ROWS_AT_ONCE));
    }
}
