/* Matrix products with any strides, gradients of the fused activations. */
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
    panel_pack(a->panels + begin * a->depth * PANEL, a->b + begin * PANEL * a->column, a->row, a->column, a->depth,
               least(end * PANEL, a->columns) - begin * PANEL);
}

/* out = activate(bias + a @ b) with every operand by strides. */
typedef struct product {
    float *out; int64_t out_row;
    const float *a; int64_t a_row, a_depth;
    const float *b; int64_t b_depth, b_column, b_panel;   /* b_panel: of a matrix in panels; 0: by strides */
    const float *bias, *residual;                /* as in struct tile */
    int64_t rows, columns, depth, activation, accumulate;
    float *keep;
    int64_t keep_streams, ends;
    const char *soon; int64_t soon_bytes;        /* as in struct tile */
} product;

/* How a product is cut into cells: by its shape alone. Cells are small, for balance; a thread takes a run of them as one block. */
typedef struct cells { int64_t rows, columns, down, across; } cells;   /* of a cell; how many */

enum {
    BLOCK_DEPTH = VL == 16 ? 2048 : 256,            /* so deep, a group of columns of b stays in the second cache; of AVX2's in the first */
    MANY_ROWS = VL == 16 ? 192 : 0,                 /* below which the next group is copied so early that it has to stay there, too */
    BESIDE_DEPTH = VL == 16 ? 512 : 256, BESIDE_NUMBERS = 1 << 15,          /* most, and of a, where its rows are beside one another; */
    COPIED_DEPTH = 128,                             /* so deep, a copied group of columns stays in the first cache then */
    BLOCK_ROWS = VL == 16 ? 192 : 384, BLOCK_COLUMNS = 2 * PANEL, PACKED_COLUMNS = (1 << 18) / BLOCK_DEPTH,
    TURN_COLUMNS = 512, TURN_ROWS = 64, TURN_DEPTH = 256,        /* from which rows beside one another are turned, */
    TURN_MOST = 256,                                /* so many at once */
    CELLS = 64, CELL_LEAST = 1 << 15,               /* most cells wanted, and multiply-adds of one */
    CHAINED_ROWS = 4096, CHAINED_CELL = 64,         /* rows of a product that may be part of a chain, and most of a cell then */
};

INLINE cells product_cells(int64_t rows, int64_t columns, int64_t depth, int64_t batch)
{
    const int64_t uneven = columns % BLOCK_COLUMNS && rows < columns && columns < FAR_ROW;    /* the last cells of a row would have less to do */
    const int64_t wide = uneven ? PANEL : BLOCK_COLUMNS;
    const int64_t across = uneven ? pieces(columns, PANEL) : pieces(columns, BLOCK_COLUMNS), width = least(columns, wide);
    const int64_t least_rows = most(pieces(rows * across * batch, CELLS), pieces(CELL_LEAST, most(width * depth, 1)));
    cells s = { most(least(rows, pieces(least_rows, 4) * 4), 1), wide, 0, across };
    if ((rows > columns || across == 1) && rows <= CHAINED_ROWS)     /* so that calls of the same rows can be cut at the same places */
        for (s.rows = 4; s.rows < least(least_rows, least(CHAINED_CELL, rows / 4)); s.rows *= 2) ;
    if (columns <= PANEL / 2) {                     /* these run along vectors */
        const int64_t unit = rows < 8 * PANEL ? 16 : PANEL;
        s.rows = pieces(s.rows, unit) * unit;
    }
    s.down = pieces(rows, s.rows);
    return s;
}

/* to[k] = n numbers from[k * row], for k < count, in rows of `wide` numbers. */
INLINE void copy_rows(float *to, int64_t wide, const float *from, int64_t row, int64_t count, int64_t n)
{
    for (int64_t k = 0; k < count; k++, to += wide, from += row)
        EACH_VECTOR(j, width, n, { vstore_n(to + j, vload_n(from + j, width), width); });
}

/* to[i * row + p] = from[p * from_row + i] for i < rows, p < depth: the tile then reads lines to their end. `to` has room for whole vectors. */
static void turn_rows(float *to, int64_t row, const float *from, int64_t from_row, int64_t rows, int64_t depth)
{
    for (int64_t p = 0; p < depth; p += VL)
        for (int64_t i = 0; i < rows; i += VL) {
            vf x[VL];
            tile_turn(x, from + p * from_row + i, from_row, depth - p, rows - i);
            UNROLL for (int k = 0; k < VL; k++) vstore(to + (i + k) * row + p, x[k]);
        }
}

/* One block of a product: its rows from `row`, its columns from `column`. What lies far apart in memory is copied together first. */
static void product_block(const product *t, int64_t row, int64_t rows, int64_t column, int64_t columns, float *scratch)
{
    const int far = t->b_depth >= FAR_ROW, beside = t->a_row == 1;
    const int taken_for_panel = !t->b_panel && t->b_depth == PANEL && t->columns < PANEL;       /* whose rows are read whole */
    const int pack = t->b_column != 1 || (VL < 16 && ((far && rows >= 24) || taken_for_panel));
    const int turn = VL == 16 && beside && !pack && rows >= TURN_ROWS && columns >= TURN_COLUMNS && t->depth >= TURN_DEPTH;
    const int copy_a = beside && !turn && t->a_depth >= 2 * FAR_ROW;
    const int few = VL == 16 && beside && !turn && !copy_a && rows >= 128 && columns >= 2 * COPY_COLUMNS && t->b_depth >= FAR_ROW / 2;  /* terms */
    const int copy_b = !t->b_panel && (VL < 16 || (!pack && (few || t->b_depth >= FAR_ROW)));
    const int64_t height = turn ? pieces(rows, pieces(rows, TURN_MOST)) : copy_a || VL < 16 ? BLOCK_ROWS : rows;
    const int64_t width = !pack ? columns : rows <= height ? BLOCK_COLUMNS : PACKED_COLUMNS;
    const int64_t most_depth = !beside ? (rows < MANY_ROWS ? BLOCK_DEPTH / 2 : BLOCK_DEPTH) :
                               turn || copy_a || VL < 16 ? BESIDE_DEPTH : few ? COPIED_DEPTH : most(128, least(BESIDE_DEPTH, BESIDE_NUMBERS / rows));
    const int64_t block = most(pieces(t->depth, most(pieces(t->depth, most_depth), 1)), 1);      /* blocks are equal */
    const int in_tile = t->activation <= ACT_RELU || t->activation == ACT_RELU6;                /* stored once, then */
    const int streamed = in_tile && t->depth <= block && streams(t->out, t->rows * t->columns, t->out_row);
    float *copy = scratch + (pack ? BLOCK_DEPTH * PACKED_COLUMNS : 0), *a = copy + (copy_b ? 2 * BLOCK_DEPTH * COPY_COLUMNS : 0);
    for (int64_t p = 0; p == 0 || p < t->depth; p += block) {
        const int64_t depth = least(t->depth - p, block), last = p + depth == t->depth;
        for (int64_t j = column; j < column + columns; j += width) {
            const float *b = t->b + p * t->b_depth + (t->b_panel ? j / PANEL * t->b_panel : j * t->b_column);
            tile s = {
                .b = pack ? scratch : b, .b_row = pack ? PANEL : t->b_depth, .b_panel = pack ? PANEL * depth : t->b_panel ? t->b_panel : PANEL,
                .copy = copy_b ? copy : 0, .bias = last && t->bias ? t->bias + j : 0, .out_row = t->out_row,
                .depth = depth, .columns = least(column + columns - j, width), .a_next_depth = t->a_depth,
                .b_next = pack || (last && (!beside || t->ends)) ? 0 : b + depth * (t->b_panel ? PANEL : t->b_depth),
                .accumulate = t->accumulate || p, .activation = last ? t->activation : ACT_LINEAR, .streamed = streamed,
            };
            if (pack) panel_pack(scratch, b, t->b_depth, t->b_column, depth, s.columns);
            for (int64_t i = row; i < row + rows; i += height) {
                const int64_t n = least(row + rows - i, height);
                s.a = t->a + i * t->a_row + p * t->a_depth, s.a_row = t->a_row, s.a_depth = t->a_depth;
                s.ends = t->ends && last && i + n == row + rows;
                s.a_next = i + n < row + rows ? s.a + n * t->a_row : s.ends ? 0 : t->a + row * t->a_row + (p + depth) * t->a_depth;
                if (turn) {
                    s.a_row = pieces(depth, 16) * 16 + 16, s.a_depth = 1;            /* never a page */
                    turn_rows(a, s.a_row, s.a, t->a_depth, n, depth);
                    s.a = a;
                } else if (copy_a) {
                    copy_rows(a, BLOCK_ROWS + 16, s.a, t->a_depth, depth, n);
                    s.a = a, s.a_depth = BLOCK_ROWS + 16;
                }
                s.out = t->out + i * t->out_row + j;
                s.keep = t->keep ? t->keep + i * t->out_row + j : 0, s.keep_streams = t->keep_streams;
                if (last && j + width >= column + columns && i + n == row + rows) s.soon = t->soon, s.soon_bytes = t->soon_bytes;
                s.residual = last && t->residual ? t->residual + i * t->out_row + j : 0;
                tile_multiply(&s, n);
            }
        }
    }
}

/* Few rows, with the right operand transposed: VL of its columns by VL of its rows at a time are turned in registers and used by all
   rows; one pass over its memory. */
enum { TURNED_ROWS = VL == 16 ? 8 : 4 };

INLINE void product_turned_rows(const product *t, int64_t row, int64_t column, int64_t columns, const int rows)
{
    const float *a = t->a + row * t->a_row;
    const int64_t a_row = t->a_row, a_depth = t->a_depth;
    for (int64_t j = column; j < column + columns; j += VL) {
        const int64_t n = column + columns - j;
        float *out = t->out + row * t->out_row + j;
        const float *b = t->b + j * t->b_column;
        vf sum[TURNED_ROWS];
        UNROLL for (int i = 0; i < rows; i++) sum[i] = t->accumulate ? vload_n(out + i * t->out_row, n) : vset(0);
        int64_t p = 0;
        if (n >= VL)
            for (; p + VL <= t->depth; p += VL) {
                vf x[VL];
                UNROLL for (int k = 0; k < VL; k++) x[k] = vload(b + k * t->b_column + p);
                vtranspose(x);
                UNROLL for (int k = 0; k < VL; k++)
                    UNROLL for (int i = 0; i < rows; i++) sum[i] = vfma(vset(a[i * a_row + (p + k) * a_depth]), x[k], sum[i]);
            }
        for (; p < t->depth; p += VL) {
            vf x[VL];
            tile_turn(x, b + p, t->b_column, n, t->depth - p);
            for (int k = 0; k < VL && k < t->depth - p; k++)
                UNROLL for (int i = 0; i < rows; i++) sum[i] = vfma(vset(a[i * a_row + (p + k) * a_depth]), x[k], sum[i]);
        }
        UNROLL for (int i = 0; i < rows; i++) {
            const vf y = sum[i] + (t->bias ? vload_n(t->bias + j, n) : vset(-0.0f));
            vstore_n(out + i * t->out_row, t->activation ? activate(y, t->activation) : y, n);
        }
    }
}

static void product_turned(const product *t, int64_t row, int64_t rows, int64_t column, int64_t columns)
{
    switch (rows) {
#define ROWS(m) case m: product_turned_rows(t, row, column, columns, m); break;
    ROWS(1) ROWS(2) ROWS(3) ROWS(4)
#if VL == 16
    ROWS(5) ROWS(6) ROWS(7) ROWS(8)
#endif
#undef ROWS
    default: break;
    }
}

/* Few columns waste most of a vector: there the rows of a run along the vectors, out^T = b^T @ a^T. */
INLINE int64_t product_narrow(int64_t rows, int64_t columns)
{
    return rows >= VL && columns <= PANEL / 2 && 3 * (pieces(columns, VL) * VL - columns) > VL;
}

static void product_narrow_block(const product *t, int64_t row, int64_t rows, float *scratch)
{
    if (t->columns == 1 && t->out_row == 1 && t->a_row == 1 && !t->bias && !t->activation) {
        const tile s = {
            .out = t->out + row, .a = t->b, .a_row = 1, .a_depth = t->b_depth, .b = t->a + row, .b_row = t->a_depth, .b_panel = PANEL,
            .depth = t->depth, .columns = rows, .accumulate = t->accumulate, .ends = 1,
        };
        tile_multiply(&s, 1);
        return;
    }
    float *sums = scratch, *panel = scratch + PANEL * PANEL;      /* (columns, PANEL); (BLOCK_DEPTH, PANEL) */
    for (int64_t end = row + rows; row < end; row += PANEL) {
        const int64_t n = least(end - row, PANEL);
        float *out = t->out + row * t->out_row;
        if (t->accumulate)
            for (int64_t c = 0; c < t->columns; c++)
                for (int64_t r = 0; r < n; r++) sums[c * PANEL + r] = out[r * t->out_row + c];
        const product turned = {
            .out = sums, .out_row = PANEL, .a = t->b, .a_row = t->b_column, .a_depth = t->b_depth, .depth = t->depth,
            .accumulate = t->accumulate, .b = t->a + row * t->a_row, .b_depth = 1, .b_column = t->a_row,
        };
        const int in_registers = t->a_depth == 1 && t->columns <= TURNED_ROWS;
        if (in_registers) product_turned(&turned, 0, t->columns, 0, n);
        else for (int64_t p = 0; p == 0 || p < t->depth; p += BLOCK_DEPTH) {
            const int64_t depth = least(t->depth - p, BLOCK_DEPTH);
            const float *a = t->a + row * t->a_row + p * t->a_depth;
            if (t->a_row != 1) panel_pack(panel, a, t->a_depth, t->a_row, depth, n);
            const tile s = {
                .out = sums, .out_row = PANEL, .depth = depth, .columns = n, .accumulate = t->accumulate || p,
                .a = t->b + p * t->b_depth, .a_row = t->b_column, .a_depth = t->b_depth,
                .b = t->a_row == 1 ? a : panel, .b_row = t->a_row == 1 ? t->a_depth : PANEL, .ends = 1,
            };
            tile_multiply(&s, t->columns);
        }
        for (int64_t c = 0; c < t->columns && (t->bias || t->activation); c++)
            for (int j = 0; j < PANEL; j += VL) {
                const vf y = vload(sums + c * PANEL + j) + vset(t->bias ? t->bias[c] : -0.0f);
                vstore(sums + c * PANEL + j, activate(y, t->activation));
            }
        if (t->columns == 1) for (int64_t r = 0; r < n; r++) out[r * t->out_row] = sums[r];
        else
            for (int64_t r = 0; r < n; r += VL)
                for (int64_t c = 0; c < t->columns; c += VL) {
                    vf y[VL];
                    for (int i = 0; i < VL; i++) y[i] = c + i < t->columns ? vload(sums + (c + i) * PANEL + r) : vset(0);
                    vtranspose(y);
                    for (int i = 0; i < VL && r + i < n; i++) vstore_n(out + (r + i) * t->out_row + c, y[i], t->columns - c);
                }
    }
}

/* One row, with the right operand in place: one pass over its memory, STREAM of its rows at a time. */
enum { STREAM = 6 };

static void product_row(const product *t, int64_t row, int64_t column, int64_t columns)
{
    float *out = t->out + row * t->out_row + column;
    const float *a = t->a + row * t->a_row, *b = t->b + column;
    if (!t->accumulate) for (int64_t j = 0; j < columns; j += VL) vstore_n(out + j, vset(0), columns - j);
    for (int64_t p = 0; p < t->depth; p += STREAM, b += STREAM * t->b_depth) {
        const int64_t depth = least(t->depth - p, STREAM);
        vf x[STREAM];
        for (int i = 0; i < STREAM; i++) x[i] = vset(i < depth ? a[(p + i) * t->a_depth] : 0);
        int64_t j = 0;
        if (depth == STREAM)
            for (; j + VL <= columns; j += VL) {
                vf s = vload(out + j);
                UNROLL for (int i = 0; i < STREAM; i++) s = vfma(x[i], vload(b + i * t->b_depth + j), s);
                vstore(out + j, s);
            }
        for (; j < columns; j += VL) {
            vf s = vload_n(out + j, columns - j);
            for (int64_t i = 0; i < depth; i++) s = vfma(x[i], vload_n(b + i * t->b_depth + j, columns - j), s);
            vstore_n(out + j, s, columns - j);
        }
    }
    if (t->bias || t->activation)
        for (int64_t j = 0; j < columns; j += VL) {
            const vf y = vload_n(out + j, columns - j) + (t->bias ? vload_n(t->bias + column + j, columns - j) : vset(-0.0f));
            vstore_n(out + j, activate(y, t->activation), columns - j);
        }
}

/* Cells begin <= i < end of the product: row after row of them where rows are many, so that each thread has rows of its own, else
   column after column. */
static void product_range(const product *t, const cells *s, int64_t begin, int64_t end, float *scratch)
{
    const int tall = t->rows > t->columns;
    const int64_t line = tall ? s->across : s->down;
    while (begin < end) {
        const int64_t at = begin % line, lines = at == 0 ? (end - begin) / line : 0, n = lines ? line : least(line - at, end - begin);
        const int64_t across = tall ? at : begin / line, wide = tall ? n : most(lines, 1);
        const int64_t down = tall ? begin / line : at, high = tall ? most(lines, 1) : n;
        const int64_t row = down * s->rows, column = across * s->columns;
        const int64_t rows = least(t->rows - row, high * s->rows), columns = least(t->columns - column, wide * s->columns);
        const int narrow = product_narrow(t->rows, t->columns), turned = t->b_depth == 1 && t->b_column != 1 && rows <= TURNED_ROWS;
        begin += wide * high;
        if (!narrow && !turned && (t->rows > 1 || t->b_column != 1)) {
            product_block(t, row, rows, column, columns, scratch);
            continue;
        }
        const int after = t->activation > ACT_RELU6 || t->residual;
        product u = *t;
        if (after) u.activation = ACT_LINEAR;
        if (narrow) product_narrow_block(&u, row, rows, scratch);
        else if (turned) product_turned(&u, row, rows, column, columns);
        else product_row(&u, row, column, columns);
        const int64_t from = row * t->out_row + column;
        if (after)
            tile_end(t->out + from, t->residual ? t->residual + from : 0, t->keep ? t->keep + from : 0, 0, t->out_row, rows, columns, t->activation);
    }
}

/* Multiply-adds, and the passes over memory that dominate where rows or columns are few. */
static double product_cost(double rows, double columns, double depth)
{
    return rows * columns * depth / 6 + (rows + columns) * depth / 4 + rows * columns / 2;
}

static int64_t matrix_product_cells(int64_t rows, int64_t columns, int64_t depth, int64_t split, int64_t batch)
{
    const int64_t parts = split ? most(pieces(depth, split), 1) : 1;
    const cells s = product_cells(rows, columns, split ? split : depth, batch * parts);
    return s.down * s.across * batch * parts;
}

/* Rows of a call that belong together, for a chain, and their cells: rows of the result, or, with split, terms of the sum. */
static int64_t product_unit(int64_t rows, int64_t columns, int64_t depth, int64_t split)
{
    return split ? split : product_cells(rows, columns, depth, 1).rows;
}
static int64_t product_rows(int64_t rows, int64_t columns, int64_t depth, int64_t split)       /* 0: cells lie column after column */
{
    return split ? depth : rows > columns || product_cells(rows, columns, depth, 1).across == 1 ? rows : 0;
}
static int64_t slice(int64_t unit, int64_t row, int64_t number, int64_t n)       /* of rows of n numbers, where they lie one after another */
{
    return number == 1 && row >= n ? 4 * unit * row : 0;
}
static int64_t product_cells_of_unit(int64_t rows, int64_t columns, int64_t depth, int64_t split)
{
    const cells s = product_cells(rows, columns, split ? split : depth, split ? most(pieces(depth, split), 1) : 1);
    return split ? s.down * s.across : s.across;
}
enum { SOON_CALLS = 3, SOON_ROWS = 512 };       /* how near the next product must be; and rows of this one, whose results need a place, too */
static void product_soon(product *t, const fd_worker *worker, int64_t begin);
enum { KEPT = 1 << 20 };        /* numbers from which what only the backward pass reads is not worth a place in the caches */

/* out[n] = activate(left[n] @ right[n] + bias + residual[n]) for n of a batch, every operand by strides; with accumulate, out[n] + … .
   right_panel: 0, or right is what `pack` made, its panels so many numbers apart and right_depth 32; not for 1 row nor below 17 columns.
   split > 0 cuts the sum into pieces of so many terms, each with its own matrix in out.  One item: a cell of a matrix. */
KERNEL_BY_ROWS(matrix_product, matrix_product_cells(a->rows, a->columns, a->depth, a->split, a->outer * a->inner),
       product_cost(a->rows, a->columns, a->depth) * a->outer * a->inner /
       most(matrix_product_cells(a->rows, a->columns, a->depth, a->split, a->outer * a->inner), 1),
       a->outer * a->inner > 1 ? 0 : product_rows(a->rows, a->columns, a->depth, a->split),
       product_unit(a->rows, a->columns, a->depth, a->split), product_cells_of_unit(a->rows, a->columns, a->depth, a->split),
       (4 * a->columns * (a->split ? a->rows : s->unit),
        a->split ? slice(a->split, a->left_depth, a->left_row, a->rows) : slice(s->unit, a->left_row, a->left_depth, a->depth),
        a->split ? slice(a->split, a->right_depth, a->right_column, a->columns) : 0, 0, 4 * a->columns * s->unit, 4 * a->columns * s->unit),
    float *out;           /* (outer, inner, pieces of the sum, rows, columns) */
    const float *left;    /* (outer, inner, rows, depth) by the strides left_… */
    const float *right;   /* (outer, inner, depth, columns) by the strides right_… */
    OPTIONAL const float *bias;   /* (columns) */
    OPTIONAL const float *residual;       /* as out; without split */
    OPTIONAL float *keep; /* as out: before the activation, for GELU and SiLU */
    int64_t outer;
    int64_t inner;
    int64_t rows;
    int64_t columns;
    int64_t depth;
    int64_t split;
    int64_t left_outer;
    int64_t left_inner;
    int64_t left_row;
    int64_t left_depth;
    int64_t right_outer;
    int64_t right_inner;
    int64_t right_depth;
    int64_t right_column;
    int64_t right_panel;
    int64_t activation;
    int64_t accumulate;)
{
    const int64_t parts = a->split ? most(pieces(a->depth, a->split), 1) : 1, most_depth = a->split ? a->split : a->depth;
    const cells s = product_cells(a->rows, a->columns, most_depth, a->outer * a->inner * parts);
    const int64_t each = s.down * s.across, keep_streams = a->keep && a->rows * a->columns >= KEPT && (uintptr_t)a->keep % 64 == 0 && a->columns % 16 == 0;
    const int one = a->outer * a->inner * parts == 1;           /* which is short, often: without divisions */
    for (int64_t n = one ? 0 : begin / each; n * each < end; n++) {
        const int64_t part = one ? 0 : n % parts, inner = one ? 0 : n / parts % a->inner, outer = one ? 0 : n / parts / a->inner;
        product t = {
            .out = a->out + n * a->rows * a->columns, .out_row = a->columns,
            .a = a->left + outer * a->left_outer + inner * a->left_inner + part * most_depth * a->left_depth,
            .a_row = a->left_row, .a_depth = a->left_depth,
            .b = a->right + outer * a->right_outer + inner * a->right_inner + part * most_depth * a->right_depth,
            .b_depth = a->right_depth, .b_column = a->right_column, .b_panel = a->right_panel, .bias = a->bias,
            .rows = a->rows, .columns = a->columns, .depth = least(a->depth - part * most_depth, most_depth),
            .activation = a->activation, .accumulate = a->accumulate, .keep = a->keep ? a->keep + n * a->rows * a->columns : 0,
            .residual = a->residual ? a->residual + n * a->rows * a->columns : 0, .keep_streams = keep_streams,
            .ends = (n + 1) * each >= end,
        };
        if (one && a->right_panel) product_soon(&t, worker, begin);
        product_range(&t, &s, most(begin - n * each, 0), least(end - n * each, each), (float *)worker->scratch);
    }
    vstreams_end();
}

/* The panels that this thread reads first in the next product are fetched at the end of this one: they come from far away, and nothing
   else is read then. Panels are what does not change from product to product. */
static void product_soon(product *t, const fd_worker *worker, int64_t begin)
{
    const fd_call *call = worker->call, *next = call + 1, *end = next + least(SOON_CALLS, worker->calls_after);
    while (next < end && next->kernel != call->kernel) next++;
    const matrix_product_args *a = (const void *)next->word;
    if (next >= end || !next->items || !a->right_panel || a->outer * a->inner > 1 || t->rows > SOON_ROWS) return;
    const cells s = product_cells(a->rows, a->columns, a->depth, 1);
    const int64_t column = a->rows > a->columns ? 0 : next->items * begin / call->items / s.down * s.columns;
    t->soon = (const char *)(a->right + column / PANEL * a->right_panel);
    t->soon_bytes = 4 * least(a->columns - column, WIDE_COLUMNS) * a->depth;
}

/* d_x = d_y times the derivative of the activation, from its result y.  One item: one number. */
KERNEL(activation_grad, a->size, 1.5,
    float *d_x;           /* (size) */
    const float *d_y;     /* (size) */
    const float *y;       /* (size) */
    int64_t size;
    int64_t activation;)
{
    activation_gradient(a->d_x + begin, a->d_y + begin, a->y + begin, end - begin, a->activation);
}

INLINE vf product_grad(vf d, vf s, int64_t activation)       /* s: the result, for GELU and SiLU the argument */
{
    return activation == ACT_GELU ? d * vgelu_slope(s) : activation == ACT_SILU ? d * vsilu_slope(s) : activate_grad(d, s, activation);
}

/* Columns of a piece of rows that are one item: all, as memory is fetched ahead along whole rows only, unless pieces are few. */
INLINE int64_t piece_columns(int64_t rows, int64_t columns, int64_t split) { return pieces(rows, split) < 8 ? least(columns, 256) : columns; }

/* Of a piece of rows, `row` numbers apart, with the activation known to the compiler. Few columns, which lie together anyhow, are taken
   down the rows with their sums in registers; of ReLU's short work, else, four rows share a load of the sums. */
INLINE void piece_d_z(float *d_z, float *sums, const float *d_y, const float *s, int64_t rows, int64_t columns, int64_t row, const int64_t activation)
{
    enum { TOGETHER = 4 };
    int64_t first = 0, r = 0;
    for (; row <= (activation == ACT_RELU ? 256 : 64) && first + 4 * VL <= columns; first += 4 * VL) {
        vf sum[4] = { vset(0), vset(0), vset(0), vset(0) };
        for (int64_t at = first; at < rows * row; at += row)
            UNROLL for (int v = 0; v < 4; v++) {
                const vf d = product_grad(vload(d_y + at + v * VL), vload(s + at + v * VL), activation);
                vstore(d_z + at + v * VL, d);
                sum[v] = sum[v] + d;
            }
        if (sums) UNROLL for (int v = 0; v < 4; v++) vstore(sums + first + v * VL, sum[v]);
    }
    if (first == columns) return;
    sums = sums ? sums + first : 0, d_z += first, d_y += first, s += first, columns -= first;
    if (sums) memset(sums, 0, (size_t)columns * sizeof(float));
#define ROWS_D_Z(together)                                                                                                                 \
    for (; r + together <= rows; r += together)                                                                                            \
        EACH_VECTOR(j, width, columns, {                                                                                                   \
            vf sum = sums ? vload_n(sums + j, width) : vset(0);                                                                            \
            UNROLL for (int k = 0; k < together; k++) {                                                                                    \
                const int64_t at = (r + k) * row + j;                                                                                      \
                const vf d = product_grad(vload_n(d_y + at, width), vload_n(s + at, width), activation);                                   \
                vstore_n(d_z + at, d, width);                                                                                              \
                sum = sum + d;                                                                                                             \
            }                                                                                                                              \
            if (sums) vstore_n(sums + j, sum, width);                                                                                      \
        })
    if (activation == ACT_RELU) ROWS_D_Z(TOGETHER);
    ROWS_D_Z(1);
}

/* d_z = d_y times the derivative of the activation of a matrix product, and sums[k, j] = sum of d_z[i, j] over the rows i of piece k.
   One item: a piece of `split` rows, or 256 of its columns. */
KERNEL_BY_ROWS(product_d_z, pieces(a->rows, a->split) * pieces(a->columns, piece_columns(a->rows, a->columns, a->split)),
       least(a->rows, a->split) * piece_columns(a->rows, a->columns, a->split) * (a->activation >= ACT_GELU ? 7 : 2),
       a->rows, a->split, pieces(a->columns, piece_columns(a->rows, a->columns, a->split)),
       (4 * a->split * a->columns, 4 * a->columns, 4 * a->split * a->columns, 4 * a->split * a->columns),
    float *d_z;                   /* (rows, columns) */
    OPTIONAL float *sums;         /* (ceil(rows / split), columns) */
    const float *d_y;             /* (rows, columns) */
    const float *s;               /* (rows, columns): the result; the argument for GELU and SiLU */
    int64_t rows;
    int64_t columns;
    int64_t split;
    int64_t activation;)
{
    const int64_t n = a->columns, wide = piece_columns(a->rows, n, a->split), across = pieces(n, wide);
    for (int64_t i = begin; i < end; i++) {
        const int64_t k = i / across, first = i % across * wide, columns = least(wide, n - first), at = k * a->split * n + first;
        const int64_t rows = least(a->rows - k * a->split, a->split);
        float *sums = a->sums ? a->sums + k * n + first : 0;
#define PIECE(activation) piece_d_z(a->d_z + at, sums, a->d_y + at, a->s + at, rows, columns, n, activation)
        switch (a->activation) {
        case ACT_RELU: PIECE(ACT_RELU); break;
        case ACT_GELU: PIECE(ACT_GELU); break;
        case ACT_SILU: PIECE(ACT_SILU); break;
        default: PIECE(a->activation);
        }
    }
}
