/* Products with a matrix of few columns and many rows, whose transpose is packed in panels by `pack`: panels[p / 32, c, p % 32], so
   that vectors run along the sum and no lane is wasted. */
#include "tile.h"

#if VL == 16 || defined(__aarch64__)
enum { DOT_ROWS = 5 };
#else
enum { DOT_ROWS = 2 };
#endif
enum { DOT_COLUMNS = 5, DOT_BLOCK = 4 * DOT_ROWS, DOT_DEPTH = 512 };    /* rows that share so much of the panels in the first cache */

/* sums[i, j, p % 16] += x[i, p] * b[p, j], p upwards: the same 16 lanes on every instruction set. What is read next lies `ahead`. */
INLINE void dots_part(float *sums, int64_t sums_row, const float *x, int64_t x_row, int64_t ahead, const float *panel, int64_t size,
                      int64_t depth, const int rows, const int columns)
{
    for (int h = 0; h < 16; h += VL) {
        vf s[DOT_ROWS][DOT_COLUMNS];
        UNROLL for (int i = 0; i < rows; i++)
            UNROLL for (int j = 0; j < columns; j++) s[i][j] = vload(sums + i * sums_row + j * 16 + h);
        const float *a = x + h, *b = panel + h;
        int64_t left = depth - h;
        for (; left >= PANEL - 16 + VL; left -= PANEL, a += PANEL, b += size)
            UNROLL for (int k = 0; k < PANEL; k += 16) {
                vf v[DOT_ROWS];
                UNROLL for (int i = 0; i < rows; i++) v[i] = vload(a + i * x_row + k), __builtin_prefetch(a + i * x_row + ahead + k);
                UNROLL for (int j = 0; j < columns; j++) {
                    const vf w = vload(b + j * PANEL + k);
                    UNROLL for (int i = 0; i < rows; i++) s[i][j] = vfma(v[i], w, s[i][j]);
                }
            }
        for (int k = 0; k < left; k += 16)
            UNROLL for (int i = 0; i < rows; i++) {
                const vf v = vload_n(a + i * x_row + k, left - k);
                UNROLL for (int j = 0; j < columns; j++) s[i][j] = vfma(v, vload(b + j * PANEL + k), s[i][j]);
            }
        UNROLL for (int i = 0; i < rows; i++)
            UNROLL for (int j = 0; j < columns; j++) vstore(sums + i * sums_row + j * 16 + h, s[i][j]);
    }
}

#define DOTS_ARGUMENTS \
    float *sums, int64_t sums_row, const float *x, int64_t x_row, int64_t ahead, const float *panel, int64_t size, int64_t depth
typedef void dots_function(DOTS_ARGUMENTS);
#define DOTS(rows, columns) \
    static void dots_##rows##_##columns(DOTS_ARGUMENTS) { dots_part(sums, sums_row, x, x_row, ahead, panel, size, depth, rows, columns); }
#define EACH_ROW(rows) DOTS(rows, 1) DOTS(rows, 2) DOTS(rows, 3) DOTS(rows, 4) DOTS(rows, 5)
#define LISTED(rows) { dots_##rows##_1, dots_##rows##_2, dots_##rows##_3, dots_##rows##_4, dots_##rows##_5 },
#if VL == 16 || defined(__aarch64__)
#define ROWS(F) F(1) F(2) F(3) F(4) F(5)
#else
#define ROWS(F) F(1) F(2)
#endif
ROWS(EACH_ROW)
static dots_function *const dots[DOT_ROWS][DOT_COLUMNS] = { ROWS(LISTED) };

/* y = activate(bias + x @ kernel).  One item: one row. */
KERNEL_BY_ROWS(few_columns_product, a->rows, a->depth * a->columns / 6, a->rows, 1, 1, (4 * a->columns, 4 * a->depth),
    float *y;             /* (rows, columns) */
    const float *x;       /* (rows, depth) */
    const float *panels;  /* (ceil(depth / 32), columns, 32) */
    OPTIONAL const float *bias;   /* (columns) */
    int64_t rows;
    int64_t columns;      /* at most 31 */
    int64_t depth;
    int64_t activation;)
{
    const int64_t columns = a->columns, groups = pieces(columns, DOT_COLUMNS), size = columns * PANEL;
    float *sums = (float *)worker->scratch, total[PANEL];          /* (DOT_BLOCK, columns, 16) */
    for (int64_t first = begin; first < end; first += DOT_BLOCK) {
        const int64_t rows = least(end - first, DOT_BLOCK), n = pieces(rows, DOT_ROWS);
        memset(sums, 0, (size_t)(rows * columns * 16) * sizeof *sums);
        for (int64_t p = 0; p < a->depth; p += DOT_DEPTH)
            for (int64_t t = 0; t < n; t++)
                for (int64_t g = 0; g < groups; g++) {
                    const int64_t i = tile_begin(rows, n, t), height = tile_begin(rows, n, t + 1) - i;
                    const int64_t j = tile_begin(columns, groups, g), width = tile_begin(columns, groups, g + 1) - j;
                    dots[height - 1][width - 1](
                        sums + (i * columns + j) * 16, columns * 16, a->x + (first + i) * a->depth + p, a->depth,
                        g == 0 && t + 1 < n ? height * a->depth : 0, a->panels + p * columns + j * PANEL, size, least(a->depth - p, DOT_DEPTH));
                }
        for (int64_t i = 0; i < rows; i++) {
            for (int64_t j = 0; j < columns; j++) {
                vf s[SUM16];
                for (int k = 0; k < SUM16; k++) s[k] = vload(sums + (i * columns + j) * 16 + k * VL);
                total[j] = vsum16(s);
            }
            for (int64_t j = 0; j < columns; j += VL) {
                const int64_t left = columns - j;
                const vf y = vload(total + j) + (a->bias ? vload_n(a->bias + j, left) : vset(-0.0f));
                vstore_n(a->y + (first + i) * columns + j, activate(y, a->activation), left);
            }
        }
    }
}

enum { D_X_ROWS = 12 };       /* written side by side: few, so that the processor sees the streams */

/* d_x = d_y @ transposed kernel.  One item: one row, so that a thread has the rows of d_x that it had of x. */
KERNEL_BY_ROWS(few_columns_d_x, a->rows, a->depth * a->columns / 6, a->rows, 1, 1, (4 * a->depth, 4 * a->columns),
    float *d_x;           /* (rows, depth) */
    const float *d_y;     /* (rows, columns) */
    const float *panels;  /* (ceil(depth / 32), columns, 32) */
    int64_t rows;
    int64_t columns;
    int64_t depth;)
{
    const int64_t rows = end - begin, n = pieces(rows, D_X_ROWS);
    for (int64_t i = 0; i < n; i++) {
        const int64_t row = begin + tile_begin(rows, n, i);
        const tile t = {
            .out = a->d_x + row * a->depth, .out_row = a->depth, .a = a->d_y + row * a->columns, .a_row = a->columns, .a_depth = 1,
            .b = a->panels, .b_row = PANEL, .b_panel = a->columns * PANEL, .depth = a->columns, .columns = a->depth,
        };
        tile_multiply(&t, begin + tile_begin(rows, n, i + 1) - row);
    }
}
