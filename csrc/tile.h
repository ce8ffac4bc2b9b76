/* The register-blocked matrix tile that linear, convolution and recurrent share.

       out[i, j] = activate(bias[j] + sum over p of a[i, p] * b[p, j])       i < rows, j < columns, p < depth

   b comes in panels of PANEL columns, [panel][p][PANEL], filled up with zeros: the same layout on every instruction set; or it
   is read in place, where its rows are contiguous. a is read in place by strides: rows of a matrix (a_row, 1), of its transpose
   (1, a_row), or patches in scratch.
   Each output is one sum, p upwards, by multiply-add: its bits depend neither on the tile nor on the rows beside it. */
#ifndef TILE_H
#define TILE_H

#include "kernel.h"

enum { PANEL = 32 };

/* A tile is `rows` x `vectors` vectors of accumulators: TILE_ROWS x TILE_VECTORS at most, or WIDE_ROWS x WIDE_VECTORS, where the
   columns are many (which reads less for a multiply-add) or the rows few (which leave too few sums under way). */
#if VL == 16
enum { TILE_ROWS = 14, TILE_VECTORS = 2, WIDE_ROWS = 6, WIDE_VECTORS = 4 };
#elif defined(__aarch64__)
enum { TILE_ROWS = 6, TILE_VECTORS = 4, WIDE_ROWS = 3, WIDE_VECTORS = 8 };
#else
enum { TILE_ROWS = 6, TILE_VECTORS = 2, WIDE_ROWS = 3, WIDE_VECTORS = 4 };
#endif
enum { TILE_COLUMNS = TILE_VECTORS * VL, WIDE_COLUMNS = WIDE_VECTORS * VL };

typedef struct tile {
    float *out; int64_t out_row;
    const float *a; int64_t a_row, a_depth;     /* strides of a, in floats */
    const float *b; int64_t b_row;              /* of b: PANEL in a panel; any other is read up to `columns` only */
    int64_t b_panel;                            /* from panel to panel: PANEL where b is in place; unused where columns <= PANEL */
    float *copy;                                /* null, or room for depth * COPY_COLUMNS: see tile_multiply */
    const float *bias;                          /* may be null */
    int64_t depth, columns;
    int64_t accumulate;                         /* 1: out's old value takes the place of 0 before bias */
    int64_t activation;
    float *keep;                                /* null, or where the numbers before the activation go, laid out as out: GELU, SiLU */
} tile;

/* Rows are shared out evenly over the fewest tiles: where tile i of n begins. */
INLINE int64_t tile_begin(int64_t rows, int64_t n, int64_t i) { return rows * i / n; }

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* How a tile reads. BESIDE: the rows of a are side by side in memory (a_row 1). TAIL: the last vector of b is read up to `columns`
   only. COPY: what it reads of b it leaves in t->copy, vectors side by side. */
enum { BESIDE = 1, TAIL = 2, COPY = 4 };
enum { AHEAD = 8, LONG = 64 };   /* rows of b fetched before they are copied; depth from which it pays to fetch the next tile's out */

/* Row i, below 7, of a, s3 and s5 being 3 and 5 strides: what an address can hold without arithmetic. */
INLINE const float *tile_row(const char *a, const int i, int64_t s, int64_t s3, int64_t s5)
{
    return (const float *)(i == 3 ? a + s3 : i == 5 ? a + s5 : i == 6 ? a + 2 * s3 : a + i * s);
}

/* One tile, with rows, vectors and kind known to the compiler: a, b and out are those of its first row and column, `first`. */
INLINE void tile_part(const tile *t, const float *a, const float *b, float *out, int64_t first,
                      const int rows, const int vectors, const int kind)
{
    vf sum[TILE_ROWS][WIDE_VECTORS];
    const int64_t b_panel = t->b_panel, b_row = t->b_row, a_depth = t->a_depth, out_row = t->out_row, depth = t->depth;
    const int64_t tail = t->columns - first - (vectors - 1) * VL;                            /* columns of the last vector */
    const vpart last = vpart_of(tail);
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < vectors; j++)
            sum[i][j] = !t->accumulate ? vset(0) :
                        j < vectors - 1 ? vload(out + i * out_row + j * VL) : vload_part(out + i * out_row + j * VL, last);
    if (depth >= LONG)
        UNROLL for (int i = 0; i < rows; i++)
            UNROLL for (int j = 0; j < vectors * VL; j += 16) __builtin_prefetch(out + (rows + i) * out_row + j, 1);
    const char *at = (const char *)a, *beyond = (const char *)(a + 7 * t->a_row);
    float *copy = t->copy;
    int64_t s = 4 * t->a_row, s3 = 3 * s, s5 = 5 * s;
    for (int64_t p = depth; p > 0; p--, b += b_row) {
        vf v[WIDE_VECTORS];
        UNROLL for (int j = 0; j < vectors; j++) {
            const float *x = b + (j * VL >= PANEL ? b_panel : 0) + j * VL % PANEL;
            v[j] = j == vectors - 1 && (kind & TAIL) ? vload_part(x, last) : vload(x);
            if (kind & COPY) vstore(copy + j * VL, v[j]);
            if ((kind & COPY) && j * VL % 16 == 0) __builtin_prefetch(x + AHEAD * b_row);
        }
        if (kind & COPY) copy += vectors * VL;
        if (!(kind & BESIDE) && rows > 2) __asm__("" : "+r"(s), "+r"(s3), "+r"(s5));   /* else each row takes a register, or the stack */
        UNROLL for (int i = 0; i < rows; i++) {
            const vf x = vset(kind & BESIDE ? ((const float *)at)[i] : *tile_row(i < 7 ? at : beyond, i % 7, s, s3, s5));
            UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = vfma(x, v[j], sum[i][j]);
        }
        at += 4 * a_depth;
        if (rows > 7) beyond += 4 * a_depth;
    }
    const int relu6 = t->activation == ACT_RELU6;
    const vf least_allowed = vset(relu6 || t->activation == ACT_RELU ? 0 : -INFINITY), most_allowed = vset(relu6 ? 6 : INFINITY);
    UNROLL for (int j = 0; j < vectors; j++) {
        const vf bias = !t->bias ? vset(-0.0f)                                              /* x + -0 is x, even for x = -0 */
                        : j < vectors - 1 ? vload(t->bias + first + j * VL) : vload_part(t->bias + first + j * VL, last);
        UNROLL for (int i = 0; i < rows; i++) {
            const vf y = sum[i][j] + bias;
            sum[i][j] = vlesser(most_allowed, vpick(y < least_allowed, least_allowed, y));
        }
        if (j < vectors - 1) { UNROLL for (int i = 0; i < rows; i++) vstore(out + i * out_row + j * VL, sum[i][j]); }
        else { UNROLL for (int i = 0; i < rows; i++) vstore_n(out + i * out_row + j * VL, sum[i][j], tail); }
    }
}

/* A function for each number of rows and vectors, and kind: tiles[kind][0: one vector, 1: TILE_VECTORS, 2: WIDE_VECTORS][rows]. Where a
   mask costs nothing, every tile has one. */
typedef void tile_function(const tile *t, const float *a, const float *b, float *out, int64_t first);
enum { ONE = 1 };
#if VL == 16
#define TALL_ROWS(F, n, kind) F(1, n, kind) F(2, n, kind) F(3, n, kind) F(4, n, kind) F(5, n, kind) F(6, n, kind) F(7, n, kind) \
    F(8, n, kind) F(9, n, kind) F(10, n, kind) F(11, n, kind) F(12, n, kind) F(13, n, kind) F(14, n, kind)
#define FEW_ROWS(F, n, kind) F(1, n, kind) F(2, n, kind) F(3, n, kind) F(4, n, kind) F(5, n, kind) F(6, n, kind)
#define KINDS(F) F(2) F(3)
#define COPY_VECTORS WIDE_VECTORS
#else
#define TALL_ROWS(F, n, kind) F(1, n, kind) F(2, n, kind) F(3, n, kind) F(4, n, kind) F(5, n, kind) F(6, n, kind)
#define FEW_ROWS(F, n, kind) F(1, n, kind) F(2, n, kind) F(3, n, kind)
#define KINDS(F) F(0) F(1) F(2) F(3)
#define COPY_VECTORS TILE_VECTORS
#endif
#define COPY_ROWS(F, kind) F(5, COPY_VECTORS, kind) F(6, COPY_VECTORS, kind)
enum { COPY_COLUMNS = COPY_VECTORS * VL };
#define NAME(rows, n, kind) tile_##rows##_##n##_##kind
#define DEFINED(rows, n, kind) \
    static UNUSED void NAME(rows, n, kind)(const tile *t, const float *a, const float *b, float *out, int64_t first) \
    { tile_part(t, a, b, out, first, rows, n, kind); }
#define LISTED(rows, n, kind) [rows] = NAME(rows, n, kind),
#define ALL_DEFINED(kind) TALL_ROWS(DEFINED, ONE, kind) TALL_ROWS(DEFINED, TILE_VECTORS, kind) FEW_ROWS(DEFINED, WIDE_VECTORS, kind)
#define ALL_LISTED(kind) \
    [kind] = { { TALL_ROWS(LISTED, ONE, kind) }, { TALL_ROWS(LISTED, TILE_VECTORS, kind) }, { FEW_ROWS(LISTED, WIDE_VECTORS, kind) } },
KINDS(ALL_DEFINED)
COPY_ROWS(DEFINED, 4) COPY_ROWS(DEFINED, 5)
static UNUSED tile_function *const tiles[6][3][TILE_ROWS + 1] = {
    KINDS(ALL_LISTED)
    [4] = { [VL == 16 ? 2 : 1] = { COPY_ROWS(LISTED, 4) } }, [5] = { [VL == 16 ? 2 : 1] = { COPY_ROWS(LISTED, 5) } },
};

/* The activation of what a tile has stored; with `keep`, laid out as out, the numbers before it go there. */
static __attribute__((noinline, unused))
void tile_end(float *out, float *keep, int64_t out_row, int64_t rows, int64_t columns, int64_t activation)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j += VL) {
            const vf z = vload_n(out + i * out_row + j, columns - j);
            if (keep) vstore_n(keep + i * out_row + j, z, columns - j);
            const vf y = activation == ACT_GELU ? vgelu(z) : activation == ACT_SILU ? vsilu(z) : activate(z, activation);
            vstore_n(out + i * out_row + j, y, columns - j);
        }
}

INLINE void tile_activate(float *out, int64_t out_row, int64_t rows, int64_t columns, int64_t activation)
{
    tile_end(out, 0, out_row, rows, columns, activation);
}

/* `rows` rows, any number of them. With `copy`, the first tile of a group of columns reads b in place and leaves it in copy for the
   others, which then read what is small and side by side: so packing costs no time of its own. */
static UNUSED void tile_multiply(const tile *whole, int64_t rows)
{
    for (int64_t first = 0, columns; first < whole->columns; first += columns) {
        const int64_t left = whole->columns - first;
        const int wide = left > WIDE_COLUMNS - VL && (VL == 16 || rows <= WIDE_ROWS), one = !wide && left <= VL;
        columns = wide ? WIDE_COLUMNS : TILE_COLUMNS;
        tile t = *whole;
        if (columns != COPY_COLUMNS || left < columns || rows < 24) t.copy = 0;       /* from 24 rows on, the first tile has 5 or 6 */
        const int64_t n = pieces(rows, wide ? WIDE_ROWS : TILE_ROWS);
        const float *b = t.b + first / PANEL * t.b_panel + first % PANEL;
        int kind = VL == 16 || (t.b_row != PANEL && left < (one ? VL : columns)) ? TAIL : 0;
        for (int64_t i = 0; i < n; i++) {
            const int64_t row = tile_begin(rows, n, i), height = tile_begin(rows, n, i + 1) - row;
            const int copies = t.copy && i == 0;
            float *out = t.out + row * t.out_row + first;
            tiles[(copies ? COPY : kind) + (t.a_row == 1)][wide ? 2 : !one][height](&t, t.a + row * t.a_row, b, out, first);
            if (t.activation > ACT_RELU && t.activation != ACT_RELU6)
                tile_end(out, t.keep ? t.keep + (out - t.out) : 0, t.out_row, height, least(columns, left), t.activation);
            if (copies) b = t.copy, t.b_row = columns, t.b_panel = PANEL;
        }
    }
}

/* VL x VL numbers, or fewer: x[i][k] = from[i * row + k], transposed. */
INLINE void tile_turn(vf *x, const float *from, int64_t row, int64_t rows, int64_t n)
{
    if (rows >= VL && n >= VL) { UNROLL for (int i = 0; i < VL; i++) x[i] = vload(from + i * row); }
    else for (int i = 0; i < VL; i++) x[i] = i < rows ? vload_n(from + i * row, n) : vset(0);
    vtranspose(x);
}

/* A (depth, columns) matrix in panels, from any strides. */
static UNUSED void panel_pack(float *panels, const float *b, int64_t b_depth, int64_t b_column, int64_t depth, int64_t columns)
{
    for (int64_t q = 0; q < columns; q += PANEL, panels += depth * PANEL, b += PANEL * b_column) {
        const int64_t n = least(columns - q, PANEL);
        if (b_column == 1 && n == PANEL)
            for (int64_t p = 0; p < depth; p++)
                UNROLL for (int j = 0; j < PANEL; j += VL) vstore(panels + p * PANEL + j, vload(b + p * b_depth + j));
        else if (b_column == 1)
            for (int64_t p = 0; p < depth; p++)
                UNROLL for (int j = 0; j < PANEL; j += VL) vstore(panels + p * PANEL + j, vload_n(b + p * b_depth + j, most(n - j, 0)));
        else if (b_depth == 1)
            for (int64_t line = 0; line < depth; line += 16)         /* a line of the cache is read whole before the next */
                for (int j = 0; j < PANEL; j += VL)
                    for (int64_t p = line; p < least(line + 16, depth); p += VL) {
                        vf x[VL];
                        tile_turn(x, b + j * b_column + p, b_column, n - j, depth - p);
                        for (int k = 0; k < VL && k < depth - p; k++) vstore(panels + (p + k) * PANEL + j, x[k]);
                    }
        else
            for (int64_t p = 0; p < depth; p++)
                for (int j = 0; j < PANEL; j++) panels[p * PANEL + j] = j < n ? b[p * b_depth + j * b_column] : 0;
    }
}

/* Number of floats of a (depth, columns) matrix in panels. */
INLINE int64_t panel_floats(int64_t depth, int64_t columns) { return pieces(columns, PANEL) * PANEL * depth; }

#endif
