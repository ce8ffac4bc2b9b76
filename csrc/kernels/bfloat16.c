/* Products of operands rounded to bfloat16, with sums in float32. */
#include "tile_bf16.h"

enum {
    PAIR_BLOCK_ROWS = 168, PAIR_BLOCK_DEPTH = 512, PAIR_BLOCKS_WANTED = 8, PAIR_BLOCK_LEAST = 1 << 17,
    PAIR_GROUP = 1 << 17,        /* pairs of panels that stay in the second cache */
    PAIR_FEW_ROWS = 336,         /* fewer read a panel in a good part of the time that they take: the next one is fetched meanwhile */
};

/* Panels of pairs of each right operand.  One item: 512 rows of a panel of 32 columns. */
KERNEL(pack_bf16, a->outer * a->inner * pieces(a->columns, PANEL) * pieces(a->depth, PAIR_BLOCK_DEPTH),
       least(a->depth, PAIR_BLOCK_DEPTH) * PANEL / 2,
    uint32_t *panels;     /* (outer, inner, ceil(columns / 32), ceil(depth / 2), 32): two bfloat16 each */
    const float *b;       /* (outer, inner, depth, columns) by the strides b_… */
    int64_t outer;
    int64_t inner;
    int64_t depth;
    int64_t columns;
    int64_t b_outer;
    int64_t b_inner;
    int64_t b_depth;
    int64_t b_column;)
{
    const int64_t panels = pieces(a->columns, PANEL), parts = pieces(a->depth, PAIR_BLOCK_DEPTH);
    for (int64_t i = begin; i < end; i++) {
        const int64_t n = i / parts / panels, column = i / parts % panels * PANEL, p = i % parts * PAIR_BLOCK_DEPTH;
        const float *b = a->b + n / a->inner * a->b_outer + n % a->inner * a->b_inner + p * a->b_depth + column * a->b_column;
        pair_panel(a->panels + (i / parts * pieces(a->depth, 2) + p / 2) * PANEL, b, a->b_depth, a->b_column,
                   least(a->depth - p, PAIR_BLOCK_DEPTH), a->columns - column);
    }
}

/* How a product is cut into blocks, by its shape alone; many of them are a multiple of 4, for as many threads. A left operand is rounded
   once for each block of columns, so there are few of these where its rows lie beside one another: a sum over many rows of a batch. */
typedef struct pair_blocks { int64_t down, across; } pair_blocks;

static pair_blocks cut_product(int64_t rows, int64_t columns, int64_t depth, int64_t batch, int beside)
{
    int64_t down = most(pieces(rows, PAIR_BLOCK_ROWS), 1), across = 1;
    if (down > 2) down = (down + 3) / 4 * 4;
    for (;;) {
        const int64_t height = pieces(rows, down), width = pieces(columns, across);
        if (batch * down * across >= PAIR_BLOCKS_WANTED || height * width * depth < 2 * PAIR_BLOCK_LEAST) break;
        if (width >= 2 * PANEL && (width >= (beside ? 8 : 1) * height || height < 28)) across *= 2;
        else if (height >= 28) down *= 2;
        else break;
    }
    return (pair_blocks){ down, least(across, pieces(columns, PANEL)) };
}

static int64_t product_pieces(int64_t depth, int64_t split) { return split ? most(pieces(depth, split), 1) : 1; }

static int64_t product_bf16_items(int64_t rows, int64_t columns, int64_t depth, int64_t split, int64_t batch, int beside)
{
    const int64_t parts = product_pieces(depth, split);
    const pair_blocks s = cut_product(rows, columns, split ? split : depth, batch * parts, beside);
    return s.down * s.across * batch * parts;
}

/* out[n] = activate(left[n] @ right[n] + bias + residual[n]) for n of a batch, of operands rounded to bfloat16.
   split > 0 (even) cuts the sum into pieces of so many terms, each with its own matrix in out.  One item: a block of a matrix. */
KERNEL(matrix_product_bf16, product_bf16_items(a->rows, a->columns, a->depth, a->split, a->outer * a->inner, a->left_row == 1),
       a->outer * a->inner * (a->rows * (double)a->columns * (a->depth / 12.0 + 0.5) + (a->rows + a->columns) * a->depth / 4.0) /
       most(product_bf16_items(a->rows, a->columns, a->depth, a->split, a->outer * a->inner, a->left_row == 1), 1),
    float *out;           /* (outer, inner, pieces of the sum, rows, columns) */
    const float *left;    /* (outer, inner, rows, depth) by the strides left_… */
    const uint32_t *panels;       /* of the right operands, by pack_bf16: (matrices, ceil(columns / 32), ceil(depth / 2), 32) */
    OPTIONAL const float *bias;   /* (columns) */
    OPTIONAL const float *residual;       /* as out; without split */
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
    int64_t right_outer;  /* matrices from one to the next */
    int64_t right_inner;
    int64_t activation;)
{
    const uint32_t state = flush_denormals();
    const int64_t parts = product_pieces(a->depth, a->split), most_depth = a->split ? a->split : a->depth;
    const int64_t pairs = pieces(a->depth, 2), matrix = pieces(a->columns, PANEL) * pairs * PANEL;
    const pair_blocks s = cut_product(a->rows, a->columns, most_depth, a->outer * a->inner * parts, a->left_row == 1);
    const int64_t each = s.down * s.across, results = a->outer * a->inner * parts * a->rows * a->columns;
    const int simple = a->activation <= ACT_RELU || a->activation == ACT_RELU6;
    const int streamed = simple && most_depth <= PAIR_BLOCK_DEPTH && streams(a->out, a->residual ? 2 * results : results, a->columns);
    for (int64_t i = begin, blocks; i < end; i += blocks) {
        const int64_t n = i / each, part = n % parts, inner = n / parts % a->inner, outer = n / parts / a->inner;
        const int64_t down = i % each / s.across, across = i % s.across, wide = pieces(a->columns, PANEL);
        const int64_t row = tile_begin(a->rows, s.down, down), rows = tile_begin(a->rows, s.down, down + 1) - row;
        blocks = least(end - i, s.across - across);              /* of the same rows, which are rounded once */
        const int64_t column = tile_begin(wide, s.across, across) * PANEL;
        const int64_t columns = least(tile_begin(wide, s.across, across + blocks) * PANEL, a->columns) - column;
        const int64_t start = part * most_depth, stop = least(start + most_depth, a->depth);
        const float *left = a->left + outer * a->left_outer + inner * a->left_inner + row * a->left_row;
        const uint32_t *panels = a->panels + (outer * a->right_outer + inner * a->right_inner) * matrix + column * pairs;
        for (int64_t p = start; p == start || p < stop; p += PAIR_BLOCK_DEPTH) {
            const int last = p + PAIR_BLOCK_DEPTH >= stop;
            pair_tile t = {
                .out_row = a->columns, .accumulate = p > start, .activation = last ? a->activation : ACT_LINEAR, .streamed = streamed,
            };
            pair_rows(&t, (uint32_t *)worker->scratch, left + p * a->left_depth, a->left_row, a->left_depth, rows,
                      least(stop - p, PAIR_BLOCK_DEPTH));
            const uint32_t *top = t.a;
            const int few = a->rows <= PAIR_FEW_ROWS;
            const int64_t group = few ? PANEL : most(PAIR_GROUP / most(t.pairs, 1) / PANEL, 1) * PANEL, tiles = pieces(rows, PAIR_ROWS);
            for (int64_t first = 0; first < columns; first += group)
                for (int64_t k = 0; k < tiles; k++) {            /* results that are neighbours in memory follow one another */
                    const int64_t r = tile_begin(rows, tiles, k), height = tile_begin(rows, tiles, k + 1) - r;
                    t.a = top + r * t.a_row;
                    t.ahead = few && first + PANEL < columns ? pairs * PANEL + k % 2 * 16 : 0;
                    for (int64_t j = first; j < least(first + group, columns); j += PANEL) {
                        t.out = a->out + (n * a->rows + row + r) * a->columns + column + j;
                        t.b = panels + j * pairs + p / 2 * PANEL;
                        t.bias = last && a->bias ? a->bias + column + j : 0;
                        t.residual = last && a->residual ? a->residual + (t.out - a->out) : 0;
                        t.columns = least(columns - j, PANEL);
                        pair_multiply(&t, height);
                    }
                }
        }
    }
    if (streamed) vstreams_end();
    keep_denormals(state);
}
