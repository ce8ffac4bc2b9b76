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
    int64_t b_panel;                            /* from panel to panel; unused where columns <= PANEL */
    const float *bias;                          /* may be null */
    int64_t depth, columns;
    int64_t accumulate;                         /* 1: out's old value takes the place of 0 before bias */
    int64_t activation;
} tile;

/* Rows are shared out evenly over the fewest tiles: where tile i of n begins. */
INLINE int64_t tile_begin(int64_t rows, int64_t n, int64_t i) { return rows * i / n; }

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* How a tile reads: the rows of a side by side in memory (a_row 1), and the last vector of b up to `columns` only. Where a mask
   costs nothing, every tile has one. */
enum { BESIDE = 1, TAIL = 2 };
#define MASKS_COST (VL != 16)

/* Row i, below 7, of `a`, s3 and s5 being 3 and 5 strides: what an address can hold without arithmetic. */
INLINE const float *tile_row(const char *a, const int i, int64_t s, int64_t s3, int64_t s5)
{
    return (const float *)(i == 3 ? a + s3 : i == 5 ? a + s5 : i == 6 ? a + 2 * s3 : a + i * s);
}

/* `rows` x vectors of a tile, from column `first`, with rows, vectors and kind known to the compiler. */
INLINE void tile_part(const tile *t, const float *a, float *out, int64_t first, const int rows, const int vectors, const int kind)
{
    vf sum[TILE_ROWS][WIDE_VECTORS];
    const int64_t q = first / PANEL * t->b_panel, b_panel = t->b_panel, b_row = t->b_row, out_row = t->out_row, depth = t->depth;
    const int64_t a_depth = t->a_depth, tail = t->columns - first - (vectors - 1) * VL;      /* columns of the last vector */
    const float *b = t->b + q + first % PANEL;
    const vpart last = vpart_of(tail);
    if (t->accumulate) {
        UNROLL for (int i = 0; i < rows; i++)
            UNROLL for (int j = 0; j < vectors; j++)
                sum[i][j] = j < vectors - 1 ? vload(out + i * out_row + j * VL) : vload_part(out + i * out_row + j * VL, last);
    } else {
        UNROLL for (int i = 0; i < rows; i++)
            UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = vset(0);
    }
    const char *at = (const char *)a, *beyond = (const char *)(a + 7 * t->a_row);
    int64_t s = 4 * t->a_row, s3 = 3 * s, s5 = 5 * s;
    for (int64_t p = depth; p > 0; p--, b += b_row) {
        vf v[WIDE_VECTORS];
        UNROLL for (int j = 0; j < vectors; j++) {
            const float *x = b + (j * VL >= PANEL ? b_panel : 0) + j * VL % PANEL;
            v[j] = j == vectors - 1 && (kind & TAIL) ? vload_part(x, last) : vload(x);
        }
        if (!(kind & BESIDE) && rows > 2) __asm__("" : "+r"(s), "+r"(s3), "+r"(s5));       /* else each row has a register, or none */
        UNROLL for (int i = 0; i < rows; i++) {
            const float *x = kind & BESIDE ? (const float *)at + i : tile_row(i < 7 ? at : beyond, i % 7, s, s3, s5);
            const vf xs = vset(*x);
            UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = vfma(xs, v[j], sum[i][j]);
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

/* Sigmoid or tanh over what a tile has stored. */
static __attribute__((noinline, unused)) void tile_activate(float *out, int64_t out_row, int64_t rows, int64_t columns, int64_t activation)
{
    for (int64_t i = 0; i < rows; i++, out += out_row)
        for (int64_t j = 0; j < columns; j += VL)
            vstore_n(out + j, activate(vload_n(out + j, columns - j), activation), columns - j);
}

/* `rows` rows, any number of them. */
static UNUSED void tile_multiply(const tile *t, int64_t rows)
{
    for (int64_t first = 0, columns; first < t->columns; first += columns) {
        const int64_t left = t->columns - first;
        const int wide = left > WIDE_COLUMNS - VL && (VL == 16 || rows <= WIDE_ROWS);
        columns = wide ? WIDE_COLUMNS : TILE_COLUMNS;
        const int vectors = wide ? WIDE_VECTORS : left > VL ? TILE_VECTORS : 1;
        const int kind = (t->a_row == 1 ? BESIDE : 0) + (MASKS_COST && (t->b_row == PANEL || left >= vectors * VL) ? 0 : TAIL);
        const int64_t n = pieces(rows, wide ? WIDE_ROWS : TILE_ROWS);
        for (int64_t i = 0; i < n; i++) {
            const int64_t row = tile_begin(rows, n, i), height = tile_begin(rows, n, i + 1) - row;
            const float *a = t->a + row * t->a_row;
            float *out = t->out + row * t->out_row + first;
#define CASE(m, kind) \
            case m + 16 * kind: tile_part(t, a, out, first, m, TILE_VECTORS, kind); break; \
            case m + 16 * kind + 64: tile_part(t, a, out, first, m, 1, kind); break;
#define WIDE(m, kind) case m + 16 * kind + 128: tile_part(t, a, out, first, m, WIDE_VECTORS, kind); break;
#if MASKS_COST
#define EACH(which, m) which(m, 0) which(m, 1) which(m, 2) which(m, 3)
#else
#define EACH(which, m) which(m, 2) which(m, 3)
#endif
            switch (height + 16 * kind + (wide ? 128 : vectors == 1 ? 64 : 0)) {
            EACH(CASE, 1) EACH(CASE, 2) EACH(CASE, 3) EACH(CASE, 4) EACH(CASE, 5) EACH(CASE, 6)
            EACH(WIDE, 1) EACH(WIDE, 2) EACH(WIDE, 3)
#if VL == 16
            EACH(CASE, 7) EACH(CASE, 8) EACH(CASE, 9) EACH(CASE, 10) EACH(CASE, 11) EACH(CASE, 12) EACH(CASE, 13) EACH(CASE, 14)
            EACH(WIDE, 4) EACH(WIDE, 5) EACH(WIDE, 6)
#endif
            default: break;
            }
#undef EACH
#undef WIDE
#undef CASE
        }
    }
    if (t->activation == ACT_SIGMOID || t->activation == ACT_TANH) tile_activate(t->out, t->out_row, rows, t->columns, t->activation);
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
