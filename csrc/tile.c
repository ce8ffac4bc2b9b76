/* The register-blocked matrix tile of tile.h. */
#include "tile.h"

/* How a tile reads. BESIDE: the rows of a are side by side in memory (a_row 1). TAIL: the last vector of b is read up to `columns`
   only. HALF: and of it at most half are columns. MOVE: meanwhile some rows of the columns of b that come next are fetched for the second
   cache, and copied to t->to, unless that is null. SPREAD: the next tile's residual is fetched a line at a time, throughout; all at once would
   take the places for loads under way. */
enum { BESIDE = 1, TAIL = 2, MOVE = 4, HALF = 6, SPREAD = 8 };
enum { LONG = 64, EACH = 16 };   /* depth from which it pays to fetch what the next tile adds; terms from one move to the next */
enum { FETCHING = 16 };          /* of many tiles the last ones see to the next columns: what comes too early does not stay */
enum { COPIED_ROWS = VL == 16 ? 24 : 43, COPIED_DEPTH = VL == 16 ? 513 : 1 };       /* from which it pays to copy columns of a far b, */
enum { COPIED_MANY = 128 };      /* rows from which it does for short sums of rows that are beside one another, whose lines drive them out */

/* One tile, with rows, vectors and kind known to the compiler: a, b and out are those of its first row and column, `first`. */
INLINE void tile_part(const tile *t, const float *a, const float *b, float *out, int64_t first,
                      const int rows, const int vectors, const int kind)
{
    vf sum[TILE_ROWS][WIDE_VECTORS];
    vhalf half[TILE_ROWS];
    const int spread = kind & SPREAD, lines = vectors * VL / 16;
    const int moves = (kind & HALF) == MOVE, tailed = kind & TAIL, halved = (kind & HALF) == HALF, wholes = vectors - halved;
    const int64_t b_panel = t->b_panel, b_row = t->b_row, a_depth = t->a_depth, out_row = t->out_row, depth = t->depth,
                  ahead_step = t->ahead_step, later_step = t->later_step;
    const int64_t tail = t->columns - first - (vectors - 1) * VL;                            /* columns of the last vector */
    const vpart last = vpart_of(tail);
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = vset(0);
    if (t->accumulate) {
        const float *x = out;
        UNROLL for (int i = 0; i < rows; i++, x = next_row(x, out_row))
            UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = j < vectors - 1 ? vload(x + j * VL) : vload_part(x + j * VL, last);
    }
    if (halved) UNROLL for (int i = 0; i < rows; i++) half[i] = vhalf_of(sum[i][vectors - 1]);
    const float *added = t->residual ? t->residual + (out - t->out) : t->accumulate || t->activation > ACT_RELU6 ? out : 0;
    if (added && depth >= LONG && !spread) {
        const float *x = next_row(added, rows * out_row);
        UNROLL for (int i = 0; i < rows; i++, x = next_row(x, out_row))
            UNROLL for (int j = 0; j < vectors * VL; j += 16) __builtin_prefetch(x + j);
    }
    const char *ahead = t->ahead, *later = t->later, *at = (const char *)a, *beyond = (const char *)(a + 7 * t->a_row);
    const float *soon = spread ? added + rows * out_row : 0;
    int64_t wait = spread ? depth / (rows * lines) : 0, lines_left = lines;
    const float *from = t->from;
    float *to = t->to;
    int64_t next_move = 1, left = t->rows_moved;
    int64_t s = 4 * t->a_row, s3 = 3 * s, s5 = 5 * s;
    for (int64_t p = depth; p > 0; p--, b += b_row, ahead += ahead_step, later += later_step) {
        if (!(kind & BESIDE)) __builtin_prefetch(ahead);
        if (!moves) __builtin_prefetch(later, 0, 2);                        /* for the second cache */
        if (spread && --wait == 0) {
            __builtin_prefetch(soon, 0, 2);
            soon += 16, wait = depth / (rows * lines);
            if (--lines_left == 0) soon += out_row - vectors * VL, lines_left = lines;
        }
        if (moves && --next_move == 0) {
            next_move = EACH;
            for (int64_t k = t->moved_at_once; k > 0 && left > 0; k--, left--, from = next_row(from, t->from_row), to += vectors * VL) {
                UNROLL for (int j = 0; j < vectors * VL; j += 16) __builtin_prefetch(from + j + t->from_ahead, 0, 2);
                if (t->to) UNROLL for (int j = 0; j < vectors; j++) vstore(to + j * VL, vload(from + j * VL));
            }
        }
        vf v[WIDE_VECTORS];
        UNROLL for (int j = 0; j < vectors; j++) {
            const float *x = b + (j * VL >= PANEL ? b_panel : 0) + j * VL % PANEL;
            v[j] = j == vectors - 1 && tailed ? vload_part(x, last) : vload(x);
        }
        if (!(kind & BESIDE) && rows > 2) __asm__("" : "+r"(s), "+r"(s3), "+r"(s5));   /* else each row takes a register, or the stack */
        UNROLL for (int i = 0; i < rows; i++) {
            const vf x = vset(kind & BESIDE ? ((const float *)at)[i] : *tile_row(i < 7 ? at : beyond, i % 7, s, s3, s5));
            UNROLL for (int j = 0; j < wholes; j++) sum[i][j] = vfma(x, v[j], sum[i][j]);
            if (halved) half[i] = vhalf_fma(vhalf_of(x), vhalf_of(v[vectors - 1]), half[i]);
        }
        at += 4 * a_depth;
        if (rows > 7) beyond += 4 * a_depth;
    }
    if (halved) UNROLL for (int i = 0; i < rows; i++) sum[i][vectors - 1] = vwhole_of(half[i]);
    if (t->bias)
        UNROLL for (int j = 0; j < vectors; j++) {
            const float *x = t->bias + first + j * VL;
            const vf bias = j < vectors - 1 ? vload(x) : vload_part(x, last);
            UNROLL for (int i = 0; i < rows; i++) sum[i][j] = sum[i][j] + bias;
        }
    if (t->residual) {
        const float *x = added;
        UNROLL for (int i = 0; i < rows; i++, x = next_row(x, out_row))
            UNROLL for (int j = 0; j < vectors; j++)
                sum[i][j] = sum[i][j] + (j < vectors - 1 ? vload(x + j * VL) : vload_part(x + j * VL, last));
    }
    if (t->activation == ACT_RELU || t->activation == ACT_RELU6)
        UNROLL for (int i = 0; i < rows; i++)
            UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = vrelu(sum[i][j]);
    if (t->activation == ACT_RELU6)
        UNROLL for (int i = 0; i < rows; i++)
            UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = vlesser(vset(6), sum[i][j]);
    if (t->streamed) {
        UNROLL for (int i = 0; i < rows; i++, out = (float *)next_row(out, out_row))
            UNROLL for (int j = 0; j < vectors; j++) vstream(out + j * VL, sum[i][j]);
        return;
    }
    UNROLL for (int i = 0; i < rows; i++, out = (float *)next_row(out, out_row))
        UNROLL for (int j = 0; j < vectors; j++) {
            if (j < vectors - 1) vstore(out + j * VL, sum[i][j]);
            else vstore_n(out + j * VL, sum[i][j], tail);
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
#define KINDS(F) F(2) F(3) F(6)
#define MOVE_VECTORS WIDE_VECTORS
#else
#define TALL_ROWS(F, n, kind) F(1, n, kind) F(2, n, kind) F(3, n, kind) F(4, n, kind) F(5, n, kind) F(6, n, kind)
#define FEW_ROWS(F, n, kind) F(1, n, kind) F(2, n, kind) F(3, n, kind)
#define KINDS(F) F(0) F(1) F(2) F(3)
#define MOVE_VECTORS TILE_VECTORS
#endif
#define MOVE_ROWS(F, kind) F(5, MOVE_VECTORS, kind) F(6, MOVE_VECTORS, kind)
#define NAME(rows, n, kind) tile_##rows##_##n##_##kind
#define DEFINED(rows, n, kind) \
    static void NAME(rows, n, kind)(const tile *t, const float *a, const float *b, float *out, int64_t first) \
    { tile_part(t, a, b, out, first, rows, n, kind); }
#define LISTED(rows, n, kind) [rows] = NAME(rows, n, kind),
#define ALL_DEFINED(kind) TALL_ROWS(DEFINED, ONE, kind) TALL_ROWS(DEFINED, TILE_VECTORS, kind) FEW_ROWS(DEFINED, WIDE_VECTORS, kind)
#define ALL_LISTED(kind) \
    [kind] = { { TALL_ROWS(LISTED, ONE, kind) }, { TALL_ROWS(LISTED, TILE_VECTORS, kind) }, { FEW_ROWS(LISTED, WIDE_VECTORS, kind) } },
KINDS(ALL_DEFINED)
MOVE_ROWS(DEFINED, 4) MOVE_ROWS(DEFINED, 5) MOVE_ROWS(DEFINED, 10)
static tile_function *const tiles[11][3][TILE_ROWS + 1] = {
    KINDS(ALL_LISTED)
    [4] = { [VL == 16 ? 2 : 1] = { MOVE_ROWS(LISTED, 4) } }, [5] = { [VL == 16 ? 2 : 1] = { MOVE_ROWS(LISTED, 5) } },
    [10] = { [VL == 16 ? 2 : 1] = { MOVE_ROWS(LISTED, 10) } },
};

void tile_end(float *out, const float *residual, float *keep, int streams, int64_t out_row, int64_t rows, int64_t columns, int64_t activation)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j += VL) {
            vf z = vload_n(out + i * out_row + j, columns - j);
            if (residual) z = z + vload_n(residual + i * out_row + j, columns - j);
            if (keep) vstore_to(keep + i * out_row + j, z, columns - j, streams && columns - j >= VL);
            const vf y = activation == ACT_GELU ? vgelu(z) : activation == ACT_SILU ? vsilu(z) : activate(z, activation);
            vstore_n(out + i * out_row + j, y, columns - j);
        }
}

/* What tile i of the n of a group of columns fetches, a line for each of its terms: the rows of a that the next tile reads, for the first
   cache; for the second, with the other tiles, the columns of b that come next and, where all read all rows of a, later terms of these;
   after the last columns a share of what comes soon.
   Nothing that another thread may be writing, which would have to get its lines back. */
INLINE void fetch_ahead(tile *t, const tile *whole, const float *b_next, int64_t rows, int64_t row, int64_t height, int64_t columns, int64_t i,
                        int64_t n)
{
    const int more = !t->ends || row + height < rows, beside = t->a_row == 1 || whole->a_next_depth > 1;
    const int panels = columns >= PANEL && whole->b_panel != PANEL;
    const int64_t k = beside ? i : i - most(n - FETCHING, 0), lines = b_next ? pieces(columns, 16) : 0;
    t->later = t->ahead = (const char *)(t->a + (more ? row + height : row) * t->a_row);
    t->later_step = 0, t->ahead_step = t->a_row == t->depth && more ? 4 * height : 0;        /* else what lies behind is of other terms */
    if (!b_next && whole->soon) {
        const int64_t each = pieces(whole->soon_bytes, least(n, FETCHING)), share = i - most(n - FETCHING, 0);
        if (share < 0 || t->depth < 1) return;
        t->later_step = least(pieces(each, t->depth), 64);
        t->later = whole->soon + share * each;
    } else if (b_next && panels) {                              /* a share of a panel */
        const int64_t each = least(n, FETCHING) * PANEL / columns;
        if (k < 0 || !each) return;
        t->later_step = least(pieces(4 * PANEL, each), 64);
        t->later = (const char *)(b_next + k / each * whole->b_panel) + k % each * t->later_step * t->depth;
    } else if (k >= 0 && k < lines && (beside || whole->b_row < FAR_ROW)) {
        t->later_step = 4 * whole->b_row;
        t->later = (const char *)(b_next + k * 16);
    } else if (whole->a_next && beside && b_next == whole->b_next && k >= lines && k < lines + pieces(rows, 16)) {
        t->later_step = 4 * whole->a_next_depth;
        t->later = (const char *)(whole->a_next + (k - lines) * 16);
    }
}

static const float *copy_columns(float *copy, const float *from, int64_t row, int64_t depth)
{
    float *to = copy;
    for (int64_t p = 0; p < depth; p++, from = next_row(from, row), to += COPY_COLUMNS)
        UNROLL for (int j = 0; j < COPY_COLUMNS; j += VL) vstore(to + j, vload(from + j));
    return copy;
}

void tile_multiply(const tile *whole, int64_t rows)
{
    const char *later = whole->later;
    const float *copied = 0;                                    /* the columns, if the tiles before have copied them */
    for (int64_t first = 0, columns; first < whole->columns; first += columns) {
        const int64_t left = whole->columns - first;
        const int wide = left > WIDE_COLUMNS - VL && (VL == 16 || rows <= WIDE_ROWS), one = !wide && left <= VL;
        columns = wide ? WIDE_COLUMNS : TILE_COLUMNS;
        tile t = *whole;
        t.streamed = t.streamed && left >= columns;
        const int64_t n = pieces(rows, wide ? WIDE_ROWS : TILE_ROWS);
        const float *b = t.b + first / PANEL * t.b_panel + first % PANEL;
        const float *b_next = left > columns ? t.b + (first + columns) / PANEL * t.b_panel + (first + columns) % PANEL : t.b_next;
        int kind = VL == 16 || (t.b_row != PANEL && left < (one ? VL : columns)) ? TAIL : 0;
        if (VL == 16 && left < columns && (left - 1) % VL < VL / 2 && t.a_row != 1) kind = HALF;
        const int spread = t.residual && t.depth >= 2 * LONG && kind == TAIL && rows >= 24 && t.a_row != 1 && wide && VL == 16;
        const int far = t.copy && columns == COPY_COLUMNS && left >= columns && rows >= 24;        /* from 24 rows on, tiles have 5 or 6 */
        const int pays = t.depth >= COPIED_DEPTH || (t.a_row == 1 && rows >= COPIED_MANY);
        const int copies = far && rows >= COPIED_ROWS && pays, move = far && left >= 2 * columns && !spread;
        if (copies) {
            if (!copied) copied = copy_columns(t.copy, b, t.b_row, t.depth);
            b = copied, t.b_row = columns, t.b_panel = PANEL;
        }
        float *const to = !copies ? 0 : copied == t.copy ? t.copy + t.depth * columns : t.copy;
        const int64_t movers = least(n, FETCHING), each = move ? pieces(t.depth, movers) : 0;       /* rows that a tile moves */
        if (move) t.moved_at_once = pieces(each, pieces(t.depth, EACH)), t.from_row = whole->b_row;
        if (copies) t.from_ahead = (2 * t.moved_at_once + 4) * t.from_row;
        for (int64_t i = 0, row = 0, height; i < n; i++, row += height) {
            height = tile_begin(rows, n, i + 1) - row;
            const int64_t p = each * (i - (n - movers));
            const int moves = move && p >= 0;
            float *out = t.out + row * t.out_row + first;
            fetch_ahead(&t, whole, move ? 0 : b_next, rows, row, height, columns, i, n);
            if (later) t.later = later, t.later_step = 64, later += 64 * t.depth;
            if (moves) t.from = b_next + p * t.from_row, t.to = to ? to + p * columns : 0, t.rows_moved = least(each, t.depth - p);
            tiles[(moves ? MOVE : spread ? SPREAD + TAIL : kind) + (t.a_row == 1)][wide ? 2 : !one][height](&t, t.a + row * t.a_row, b, out, first);
            if (t.activation > ACT_RELU && t.activation != ACT_RELU6)
                tile_end(out, 0, t.keep ? t.keep + (out - t.out) : 0, t.keep_streams != 0, t.out_row, height, least(columns, left), t.activation);
        }
        copied = move ? to : 0;
    }
}

void panel_pack(float *panels, const float *b, int64_t b_depth, int64_t b_column, int64_t depth, int64_t columns)
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
