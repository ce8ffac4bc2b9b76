/* The register-blocked matrix tile that linear, convolution and recurrent share.

       out[i, j] = activate(sum over p of a[i, p] * b[p, j] + bias[j] + residual[i, j])       i < rows, j < columns, p < depth

   b comes in panels of PANEL columns, [panel][p][PANEL], filled up with zeros: the same layout on every instruction set; or it
   is read in place, where its rows are contiguous. a is read in place by strides: rows of a matrix (a_row, 1), of its transpose
   (1, a_row), or patches in scratch.
   Each output is one sum, p upwards, by multiply-add: its bits depend neither on the tile nor on the rows beside it. */
#ifndef TILE_H
#define TILE_H

#include "kernel.h"

enum { PANEL = 32, FAR_ROW = 512 };     /* columns; numbers between rows of memory that share few sets of a cache */

/* A tile is `rows` x `vectors` vectors of accumulators: TILE_ROWS x TILE_VECTORS at most, or WIDE_ROWS x WIDE_VECTORS, where the
   columns are many (which reads less for a multiply-add) or the rows few (which leave too few sums under way). */
#if VL == 16
enum { TILE_ROWS = 14, TILE_VECTORS = 2, WIDE_ROWS = 6, WIDE_VECTORS = 4 };
#elif defined(__aarch64__)
enum { TILE_ROWS = 6, TILE_VECTORS = 4, WIDE_ROWS = 3, WIDE_VECTORS = 8 };
#else
enum { TILE_ROWS = 6, TILE_VECTORS = 2, WIDE_ROWS = 3, WIDE_VECTORS = 4 };
#endif
enum { TILE_COLUMNS = TILE_VECTORS * VL, WIDE_COLUMNS = WIDE_VECTORS * VL, COPY_COLUMNS = VL == 16 ? WIDE_COLUMNS : TILE_COLUMNS };

typedef struct tile {
    float *out; int64_t out_row;
    const float *a; int64_t a_row, a_depth;     /* strides of a, in floats */
    const float *b; int64_t b_row;              /* of b: PANEL in a panel; any other is read up to `columns` only */
    int64_t b_panel;                            /* from panel to panel: PANEL where b is in place; unused where columns <= PANEL */
    const float *b_next;                        /* null, or what will be read as b is, after its last columns */
    const float *a_next; int64_t a_next_depth;  /* null, or what will be read after a, where a_row is 1, or was before the rows were turned */
    const char *soon; int64_t soon_bytes;       /* null, or what another product reads first; if b_next is null */
    float *copy;                                /* null, or room for 2 * depth * COPY_COLUMNS: see tile_multiply */
    const float *bias;                          /* may be null */
    const float *residual;                      /* null, or what is added before the activation, laid out as out */
    int64_t depth, columns;
    int64_t accumulate;                         /* 1: out's old value takes the place of 0 before bias */
    int64_t activation;
    float *keep;                                /* null, or where the numbers before the activation go, laid out as out: GELU, SiLU */
    int64_t keep_streams;                       /* 1: past the caches; keep and its rows are aligned as a vector is */
    int64_t streamed;                           /* 1: out is stored past the caches, if its lines are whole: its rows must begin at lines */
    int64_t ends;                               /* 1: what lies behind these rows is not for this thread */
    const char *later;                          /* null, or what the tiles fetch for the second cache, a line for each term */
    const char *ahead; int64_t ahead_step, later_step;      /* of tile_multiply: what a tile fetches for those after it, */
    const float *from; float *to; int64_t from_row, from_ahead, rows_moved, moved_at_once;      /* and copies for them */
} tile;

/* Rows are shared out evenly over the fewest tiles: where tile i of n begins. */
INLINE int64_t tile_begin(int64_t rows, int64_t n, int64_t i) { return rows * i / n; }

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* Row i, below 7, of a, s3 and s5 being 3 and 5 strides: what an address can hold without arithmetic. */
INLINE const float *tile_row(const char *a, const int i, int64_t s, int64_t s3, int64_t s5)
{
    return (const float *)(i == 3 ? a + s3 : i == 5 ? a + s5 : i == 6 ? a + 2 * s3 : a + i * s);
}

/* The address of the row below. The compiler must not know all rows' addresses: it would compute them before the loop and keep them on
   the stack, which takes longer than a dozen multiply-adds. */
INLINE const float *next_row(const float *x, int64_t row)
{
    x += row;
    __asm__("" : "+r"(x));
    return x;
}

#define tile_end FD_OF_REST(tile_end)
#define tile_multiply FD_OF_REST(tile_multiply)
#define panel_pack FD_OF_REST(panel_pack)

/* `rows` rows, any number of them. With `copy`, for a b whose rows lie far apart, the tiles of a group of columns fetch the next columns, and
   if these are long copy them: so packing costs hardly any time of its own, and memory is asked a little at a time. */
void tile_multiply(const tile *whole, int64_t rows);

/* The residual, if any, and the activation of what a tile has stored; with `keep` the numbers before it go there, past the caches if it
   streams. Both are laid out as out. */
void tile_end(float *out, const float *residual, float *keep, int streams, int64_t out_row, int64_t rows, int64_t columns, int64_t activation);

/* A (depth, columns) matrix in panels, from any strides. */
void panel_pack(float *panels, const float *b, int64_t b_depth, int64_t b_column, int64_t depth, int64_t columns);

INLINE void tile_activate(float *out, int64_t out_row, int64_t rows, int64_t columns, int64_t activation)
{
    tile_end(out, 0, 0, 0, out_row, rows, columns, activation);
}

/* VL x VL numbers, or fewer: x[i][k] = from[i * row + k], transposed. */
INLINE void tile_turn(vf *x, const float *from, int64_t row, int64_t rows, int64_t n)
{
    if (rows >= VL && n >= VL) { UNROLL for (int i = 0; i < VL; i++) x[i] = vload(from + i * row); }
    else for (int i = 0; i < VL; i++) x[i] = i < rows ? vload_n(from + i * row, n) : vset(0);
    vtranspose(x);
}

/* Number of floats of a (depth, columns) matrix in panels. */
INLINE int64_t panel_floats(int64_t depth, int64_t columns) { return pieces(columns, PANEL) * PANEL * depth; }

#endif
