/* The register-blocked matrix tile that linear, convolution and recurrent share.

       out[i, j] = activate(bias[j] + sum over p of a[i, p] * b[p, j])       i < rows, j < columns, p < depth

   b comes in panels of PANEL columns, [panel][p][PANEL], filled up with zeros: the same layout on every instruction set; or it
   is read in place, where its rows are contiguous. a is read in place by strides: rows of a matrix (a_row, 1), of its transpose
   (1, a_row), or patches in scratch; or it was packed by tile_pack, which pays where its columns meet many columns of b.
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
    const float *a; int64_t a_row, a_depth;     /* strides of a, in floats; unused where a is packed */
    const float *b; int64_t b_row;              /* of b: PANEL in a panel; any other is read up to `columns` only */
    const float *bias;                          /* may be null */
    int64_t depth, columns;                     /* columns <= PANEL */
    int64_t accumulate;                         /* 1: out's old value takes the place of 0 before bias */
    int64_t activation;
    int64_t packed;                             /* 1: a comes from tile_pack */
} tile;

/* Rows are shared out evenly over the fewest tiles: where tile i of n begins. */
INLINE int64_t tile_begin(int64_t rows, int64_t n, int64_t i) { return rows * i / n; }

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum { PACKED, TAIL, WHOLE };    /* a packed; a by strides and maybe fewer columns than the tile; a by strides */
#define MASKS_COST (VL != 16)

/* `rows` x vectors of a tile, from column `first`, with rows, vectors and kind known to the compiler. */
INLINE void tile_part(const tile *t, const float *a, float *out, int64_t first, const int rows, const int vectors, const int kind)
{
    vf sum[TILE_ROWS][TILE_VECTORS];
    const float *b = t->b + first;
    const int64_t a_row = kind == PACKED ? 1 : t->a_row, a_depth = kind == PACKED ? rows : t->a_depth;
    const int64_t b_row = t->b_row, out_row = t->out_row, left = t->columns - first;
    const int64_t old = t->accumulate ? left : 0;
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = vload_n(out + i * out_row + j * VL, most(old - j * VL, 0));
    for (int64_t p = 0; p < t->depth; p++, a += a_depth, b += b_row) {
        vf v[TILE_VECTORS];
        UNROLL for (int j = 0; j < vectors; j++) v[j] = kind == TAIL ? vload_n(b + j * VL, left - j * VL) : vload(b + j * VL);
        UNROLL for (int i = 0; i < rows; i++) {
            const vf x = vset(a[i * a_row]);
            UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = vfma(x, v[j], sum[i][j]);
        }
    }
    const vf least_allowed = vset(t->activation == ACT_RELU ? 0 : -INFINITY);
    UNROLL for (int j = 0; j < vectors; j++) {
        const int64_t n = left - j * VL;
        const vf bias = t->bias ? vload_n(t->bias + first + j * VL, most(n, 0)) : vset(-0.0f);     /* x + -0 is x, even for x = -0 */
        UNROLL for (int i = 0; i < rows; i++) {
            const vf y = sum[i][j] + bias;
            sum[i][j] = vpick(y < least_allowed, least_allowed, y);
        }
        if (n >= VL) { UNROLL for (int i = 0; i < rows; i++) vstore(out + i * out_row + j * VL, sum[i][j]); }
        else if (n > 0) { UNROLL for (int i = 0; i < rows; i++) vstore_n(out + i * out_row + j * VL, sum[i][j], n); }
    }
}

/* Sigmoid or tanh over what a tile has stored. */
static __attribute__((noinline, unused)) void tile_activate(float *out, int64_t out_row, int64_t rows, int64_t columns, int64_t activation)
{
    for (int64_t i = 0; i < rows; i++, out += out_row)
        for (int64_t j = 0; j < columns; j += VL)
            vstore_n(out + j, activate(vload_n(out + j, columns - j), activation), columns - j);
}

/* `rows` rows (any number) of one panel. */
static UNUSED void tile_multiply(const tile *t, int64_t rows)
{
    const int64_t n = pieces(rows, TILE_ROWS);
    for (int64_t first = 0; first < t->columns; first += TILE_COLUMNS) {
        const int64_t left = t->columns - first;
        const int vectors = left > VL ? TILE_VECTORS : 1;
        const int kind = t->packed ? PACKED : MASKS_COST && (t->b_row == PANEL || left >= vectors * VL) ? WHOLE : TAIL;
        for (int64_t i = 0; i < n; i++) {
            const int64_t row = tile_begin(rows, n, i), height = tile_begin(rows, n, i + 1) - row;
            const float *a = t->a + row * (t->packed ? t->depth : t->a_row);
            float *out = t->out + row * t->out_row + first;
#define CASE(m, kind) \
            case m + 16 * kind: tile_part(t, a, out, first, m, TILE_VECTORS, kind); break; \
            case m + 16 * kind + 64: tile_part(t, a, out, first, m, 1, kind); break;
#if MASKS_COST
#define CASES(m) CASE(m, PACKED) CASE(m, TAIL) CASE(m, WHOLE)
#else
#define CASES(m) CASE(m, PACKED) CASE(m, TAIL)
#endif
            switch (height + 16 * kind + (vectors == 1 ? 64 : 0)) {
            CASES(1) CASES(2) CASES(3) CASES(4) CASES(5) CASES(6)
#if VL == 16
            CASES(7) CASES(8) CASES(9) CASES(10) CASES(11) CASES(12) CASES(13) CASES(14)
#endif
            default: break;
            }
#undef CASES
#undef CASE
        }
    }
    if (t->activation > ACT_RELU) tile_activate(t->out, t->out_row, rows, t->columns, t->activation);
}

/* VL x VL numbers, or fewer: x[i][k] = from[i * row + k], transposed. */
INLINE void tile_turn(vf *x, const float *from, int64_t row, int64_t rows, int64_t n)
{
    if (rows >= VL && n >= VL) { UNROLL for (int i = 0; i < VL; i++) x[i] = vload(from + i * row); }
    else for (int i = 0; i < VL; i++) x[i] = i < rows ? vload_n(from + i * row, n) : vset(0);
    vtranspose(x);
}

/* Rows of a, [tile][p][rows of the tile], for tile_multiply's `packed`. Writes up to VL floats more than rows * depth. */
static UNUSED void tile_pack(float *packed, const float *a, int64_t a_row, int64_t a_depth, int64_t rows, int64_t depth)
{
    const int64_t n = pieces(rows, TILE_ROWS);
    for (int64_t i = 0; i < n; i++) {
        const int64_t row = tile_begin(rows, n, i), height = tile_begin(rows, n, i + 1) - row;
        const float *from = a + row * a_row;
        float *to = packed + row * depth;
        /* Whole vectors are stored; what is too much in them is overwritten by what comes later in memory. */
        if (a_depth == 1)
            for (int64_t p = 0; p < depth; p += VL)
                for (int64_t first = (height - 1) / VL * VL; first >= 0; first -= VL) {
                    vf x[VL];
                    tile_turn(x, from + first * a_row + p, a_row, height - first, depth - p);
                    for (int k = 0; k < VL && k < depth - p; k++) vstore(to + (p + k) * height + first, x[k]);
                }
        else if (a_row == 1)
            for (int64_t p = 0; p < depth; p++)
                for (int64_t first = 0; first < height; first += VL)
                    vstore(to + p * height + first, vload_n(from + p * a_depth + first, height - first));
        else
            for (int64_t p = 0; p < depth; p++)
                for (int64_t r = 0; r < height; r++) to[p * height + r] = from[r * a_row + p * a_depth];
    }
}

/* A (depth, columns) matrix in panels, from any strides. */
static UNUSED void panel_pack(float *panels, const float *b, int64_t b_depth, int64_t b_column, int64_t depth, int64_t columns)
{
    for (int64_t q = 0; q < columns; q += PANEL, panels += depth * PANEL, b += PANEL * b_column) {
        const int64_t n = least(columns - q, PANEL);
        if (b_column == 1)
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
