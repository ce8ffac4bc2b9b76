/* What the recurrent layers share: the product of the state with the recurrent weights, and the activations of gates.

   Weights come in panels of `width` vectors of 16 columns, [panel][p][width][16], filled up with zeros: the gates of the same 16
   units side by side, or 32 neighbouring columns (tile.h). Every sum goes p upwards by multiply-add, so its bits depend neither
   on the rows beside it nor on the thread. */
#ifndef GATES_H
#define GATES_H

#include "tile_bf16.h"

enum { GATE_UNITS = 16 };
enum { BLOCK_MOST = 64 };                    /* most rows that one item carries through time */
#if VL == 16
enum { GATE_SUMS = 28 };                     /* vectors of sums that stay in registers beside those of a panel */
#elif defined(__aarch64__)
enum { GATE_SUMS = 24 };
#else
enum { GATE_SUMS = 12 };
#endif

/* Rows that products copy to memory beside their arithmetic, a few lines at a time: all at once, these would wait for the memory. */
enum { COPIED = 64 };
typedef struct gate_copies {
    const float *from; float *to;            /* of the row that is under way */
    int64_t from_row, to_row, columns, streamed;       /* streamed: past the caches, then columns are a multiple of COPIED */
    int64_t column, left;                    /* the next of that row; numbers left of all */
} gate_copies;

INLINE void gate_copy_some(gate_copies *c)
{
    const float *from = c->from + c->column;
    float *to = c->to + c->column;
    if (c->streamed) { UNROLL for (int j = 0; j < COPIED; j += VL) vstream(to + j, vload(from + j)); }
    else { UNROLL for (int j = 0; j < COPIED; j += VL) vstore(to + j, vload(from + j)); }
    c->left -= COPIED, c->column += COPIED;
    if (c->column == c->columns) c->column = 0, c->from += c->from_row, c->to += c->to_row;
}

INLINE void gate_copies_end(gate_copies *c) { while (c->left) gate_copy_some(c); }

/* z[i, v] = sum over p of a[i, p] * panel[p, v], for VL lanes of the 16, with rows and width known to the compiler.
   apart: of four vectors, floats from the first two to the others; beyond 32, these are of another panel of 32 columns.
   rounded: a and the panel hold pairs of bfloat16 (tile_bf16.h) in the place of numbers, depth of them. copying: some of copies. */
INLINE void gate_tile(vf *z, const float *a, int64_t a_row, const float *panel, int64_t apart, int64_t depth, gate_copies *copies,
                      const int rows, const int width, const int rounded, const int copying)
{
    const int64_t step = width == 4 && apart == PANEL ? 2 * PANEL : width == 4 ? PANEL : width * GATE_UNITS;
    vf sum[14][4];
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int v = 0; v < width; v++) sum[i][v] = vset(0);
    for (int64_t p = 0; p < depth;) {
        if (copying && copies->left) gate_copy_some(copies);
        for (const int64_t stop = copying ? least(p + (rounded ? 8 : 16), depth) : depth; p < stop; p++, panel += step) {
            vf w[4];
            UNROLL for (int v = 0; v < width; v++) w[v] = vload(panel + (width == 4 ? v / 2 * apart + v % 2 * GATE_UNITS : v * GATE_UNITS));
            UNROLL for (int i = 0; i < rows; i++) {
                const vf x = vset(a[i * a_row + p]);
                UNROLL for (int v = 0; v < width; v++) sum[i][v] = rounded ? vdot2((vu)x, (vu)w[v], sum[i][v]) : vfma(x, w[v], sum[i][v]);
            }
        }
    }
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int v = 0; v < width; v++) z[i * width + v] = sum[i][v];
}

/* Tiles for so many rows, as even as can be: where tile i of n begins is tile_begin(rows, n, i). */
INLINE int64_t gate_tiles(int64_t rows, int64_t width) { return pieces(rows, least(GATE_SUMS / width, 14)); }

#define CASE(m, width, ...) \
    case m: if (m * width <= GATE_SUMS) gate_tile(z, a, a_row, panel, apart, depth, copies, m * width <= GATE_SUMS ? m : 1, width, __VA_ARGS__); break;
#define GATE_PRODUCT(name, width, rounded, copying)                                                                     \
static UNUSED void name##width(vf *z, const float *a, int64_t a_row, const float *panel, int64_t apart UNUSED,           \
                               int64_t depth, int64_t rows, gate_copies *copies UNUSED)                                \
{                                                                                                                      \
    switch (rows) {                                                                                                    \
    CASE(1, width, rounded, copying) CASE(2, width, rounded, copying) CASE(3, width, rounded, copying)                 \
    CASE(4, width, rounded, copying) CASE(5, width, rounded, copying) CASE(6, width, rounded, copying)                 \
    CASE(7, width, rounded, copying) CASE(8, width, rounded, copying) CASE(9, width, rounded, copying)                 \
    CASE(10, width, rounded, copying) CASE(11, width, rounded, copying) CASE(12, width, rounded, copying)              \
    CASE(13, width, rounded, copying) CASE(14, width, rounded, copying)                                                \
    default: break;                                                                                                    \
    }                                                                                                                  \
}
GATE_PRODUCT(gate_product, 2, 0, 0)
GATE_PRODUCT(gate_product, 3, 0, 0)
GATE_PRODUCT(gate_product, 4, 0, 0)
GATE_PRODUCT(rounded_product, 4, 1, 0)
GATE_PRODUCT(copying_product, 2, 0, 1)
GATE_PRODUCT(rounded_copying_product, 2, 1, 1)
#undef GATE_PRODUCT
#undef CASE

/* Columns of panels of 32 go in pairs of vectors 16 apart: of the first of a pair, the first of the next; so many panels at a time. */
INLINE int64_t gate_after(int64_t column, int64_t panels)
{
    return column % PANEL + VL < GATE_UNITS ? column + VL : (column / PANEL + panels) * PANEL;
}

/* ---- activations ----

   Sigmoid and tanh of gates, to 4 units in the last place for |x| < 9, and absolutely beyond: a gate that is shut lets 9e-27 through
   instead of less. Cheaper than those of simd_math.h, for which the smallest and largest floats count. */

/* k x = n + f for log2e = k log2(e), n whole and |f| <= 1/2; *t: its low bits are n + 127, the exponent of 2^n. */
INLINE vf gate_rest(vf x, vf log2e, vf *t)
{
    const vf magic = vset(ROUNDING + 127);
    *t = vfma(x, log2e, magic);
    return vfma(x, log2e, magic - *t);
}

/* 1 / (1 + exp(-x)), exp(-x) = 2^n 2^f, by a polynomial for 2^f to 2e-9 */
INLINE vf gate_sigmoid(vf x)
{
    vf t, f = gate_rest(vlesser(vset(60), vgreater(vset(-60), x)), vset(-1.44269504f), &t), p = vset(1.53533620e-4f);
    p = vfma(p, f, vset(1.33988750e-3f));
    p = vfma(p, f, vset(9.61843692e-3f));
    p = vfma(p, f, vset(5.55033237e-2f));
    p = vfma(p, f, vset(2.40226477e-1f));
    p = vfma(p, f, vset(6.93147182e-1f));
    p = vfma(p, f, vset(1));
    return vset(1) / vfma(p, (vf)((vu)t << 23), vset(1));
}

/* m / (m + 2), m = exp(2 x) - 1 = 2^n 2^f - 1, by a polynomial for (2^f - 1) / f to 2.1e-8 */
INLINE vf gate_tanh(vf x)
{
    vf t, f = gate_rest(vlesser(vset(9), vgreater(vset(-9), x)), vset(2.88539008f), &t), q = vset(1.54035120e-4f);
    const vf scale = (vf)((vu)t << 23);
    q = vfma(q, f, vset(1.33907350e-3f));
    q = vfma(q, f, vset(9.61823800e-3f));
    q = vfma(q, f, vset(5.55035730e-2f));
    q = vfma(q, f, vset(2.40226490e-1f));
    q = vfma(q, f, vset(6.93147200e-1f));
    const vf m = vfma(q * f, scale, scale - vset(1));
    return m / (m + vset(2));
}

INLINE vf gate_activate(vf x, const int64_t activation)
{
    switch (activation) {
    case ACT_SIGMOID: return gate_sigmoid(x);
    case ACT_TANH: return gate_tanh(x);
    default: return activate(x, activation);
    }
}

/* Whether the usual case may be compiled on its own: tanh and sigmoid, whole vectors of units, no mask. */
INLINE int64_t gate_plain(int64_t activation, int64_t recurrent_activation, int64_t units, const uint8_t *mask)
{
    return activation == ACT_TANH && recurrent_activation == ACT_SIGMOID && units % GATE_UNITS == 0 && !mask;
}

/* The derivative of an activation from its result. */
INLINE vf slope(vf y, const int64_t activation)
{
    switch (activation) {
    case ACT_RELU: return vpick(y > vset(0), vset(1), vset(0));
    case ACT_SIGMOID: return y * (vset(1) - y);
    case ACT_TANH: return (vset(1) - y) * (vset(1) + y);
    case ACT_RELU6: return vpick_less(vset(0), y, vpick_less(y, vset(6), vset(1), vset(0)), vset(0));
    default: return vset(1);
    }
}

/* ---- rows of the state in scratch ---- */

/* Floats from row to row: a multiple of a cache line, and never of a page, whose rows would fall on the same lines of the cache. */
INLINE int64_t gate_stride(int64_t columns) { return (columns + 15) / 16 * 16 + 16; }

/* Rows of a matrix, or zeros, from null; and times a mask. */
INLINE void gate_copy(float *to, int64_t to_row, const float *from, int64_t from_row, int64_t rows, int64_t columns)
{
    for (int64_t i = 0; i < rows; i++)
        if (from) memcpy(to + i * to_row, from + i * from_row, (size_t)columns * sizeof(float));
        else memset(to + i * to_row, 0, (size_t)columns * sizeof(float));
}

INLINE void gate_scale(float *to, const float *from, int64_t stride, const float *scale, int64_t rows, int64_t columns)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j += VL)
            vstore_n(to + i * stride + j, vload_n(from + i * stride + j, columns - j) * vload_n(scale + i * columns + j, columns - j), columns - j);
}

/* Rows (rows, c->columns) for products to copy, which come next. */
INLINE void gate_copies_begin(gate_copies *c, float *to, const float *from, int64_t rows)
{
    if (c->columns % COPIED) gate_copy(to, c->to_row, from, c->from_row, rows, c->columns);
    else c->from = from, c->to = to, c->column = 0, c->left = rows * c->columns;
}

/* The rows rounded to pairs of bfloat16, in the place of half their numbers. */
INLINE float *gate_round(float *to, const float *from, int64_t stride, int64_t rows, int64_t columns)
{
    for (int64_t i = 0; i < rows; i++) pair_run((uint32_t *)(void *)(to + i * stride), from + i * stride, columns);
    return to;
}

/* The lines that the next step reads, while this one computes. */
INLINE void gate_prefetch(const float *x, int64_t row, int64_t rows, int64_t gate, const int gates)
{
    for (int64_t i = 0; i < rows; i++)
        for (int g = 0; g < gates; g++) __builtin_prefetch(x + i * row + g * gate);
}

/* Those of one row. The weights of many units drive them out of the first cache before the next step: that one gets them when the units
   before are computed. */
enum { MANY_UNITS = 256 };
INLINE void gate_prefetch_later(const float *x, int64_t units, const int gates)
{
    if (units < MANY_UNITS) gate_prefetch(x, 0, 1, units, gates);
    else for (int g = 0; g < gates; g++) __builtin_prefetch(x + g * units, 0, 2);
}

/* ---- runs of steps in the second cache ----

   Where the weights are small, a block of rows makes the gates of a run of steps from its inputs, just before it goes through them,
   and on the way back multiplies their gradients, which never go to memory. A run is shared by all that its rows do at once. */

typedef struct gate_run {
    int64_t first, steps, rows;              /* its first step; its rows of arrays (batch, time, …), from the block's first on */
    int64_t time, backwards;
} gate_run;

/* Steps of a run: at least 2, as a step back reads the gradients of the one after, which may lie in the run after. */
INLINE int64_t gate_run_steps(int64_t rows, int64_t columns) { return most(2, least(256 / rows, (1 << 16) / (rows * columns))); }

/* Of a masked step: what the inputs give stays what it is. */
INLINE void gate_leave(float *gates, const float *inputs, int64_t units, const int count, int64_t n)
{
    for (int g = 0; g < count && gates != inputs; g++) vstore_n(gates + g * units, vload_n(inputs + g * units, n), n);
}

/* Where step `s` of the run is in a row of time; and from there to the next step. */
INLINE int64_t gate_run_place(const gate_run *r, int64_t s) { return r->backwards ? r->time - 1 - r->first - s : r->first + s; }
INLINE int64_t gate_run_ahead(const gate_run *r) { return r->backwards ? -1 : 1; }

/* Fetch row `step` of each row of x (batch, time, n), if there is one: what the next run reads, a step at a time, while this one computes. */
INLINE void gate_fetch(const gate_run *r, const float *x, int64_t n, int64_t step)
{
    if (step >= 0 && step < r->time)
        gate_prefetch(x + (r->backwards ? r->time - 1 - step : step) * n, r->time * n, r->rows, 16, (int)pieces(n, 16));
}

/* z (steps, rows, columns; its rows z_row apart) = bias + x (batch, time, features) @ kernel, in panels. */
INLINE void gate_project(const gate_run *r, float *z, int64_t z_row, const float *x, const float *kernel, const float *bias, int64_t features,
                         int64_t columns)
{
    for (int64_t j = 0; j < columns; j += WIDE_COLUMNS)
        for (int64_t i = 0; i < r->rows; i++) {
            const tile t = {
                .out = z + i * z_row + j, .out_row = r->rows * z_row,
                .a = x + (i * r->time + gate_run_place(r, 0)) * features, .a_row = gate_run_ahead(r) * features,
                .a_depth = 1, .b = kernel + j / PANEL * PANEL * features + j % PANEL, .b_row = PANEL, .b_panel = PANEL * features,
                .bias = bias ? bias + j : 0, .depth = features, .columns = least(columns - j, WIDE_COLUMNS),
            };
            tile_multiply(&t, r->steps);
        }
}

/* d_x (batch, time, features) = d (steps, rows, columns; its rows d_row apart) @ kernel transposed, in panels. */
INLINE void gate_project_d_x(const gate_run *r, float *d_x, const float *d, int64_t d_row, const float *kernel, int64_t features, int64_t columns)
{
    for (int64_t i = 0; i < r->rows; i++) {
        const tile t = {
            .out = d_x + (i * r->time + gate_run_place(r, 0)) * features, .out_row = gate_run_ahead(r) * features,
            .a = d + i * d_row, .a_row = r->rows * d_row, .a_depth = 1, .b = kernel, .b_row = PANEL, .b_panel = PANEL * columns,
            .depth = columns, .columns = features,
        };
        tile_multiply(&t, r->steps);
    }
}

/* The run's rows of left (batch, time, n) beside each other, times scale (rows, n), which may be null. */
INLINE void gate_gather(const gate_run *r, float *to, const float *left, const float *scale, int64_t n)
{
    for (int64_t s = 0; s < r->steps; s++)
        for (int64_t i = 0; i < r->rows; i++, to += n) {
            const float *from = left + (i * r->time + gate_run_place(r, s)) * n;
            for (int64_t j = 0; j < n; j += VL) {
                const vf x = vload_n(from + j, n - j);
                vstore_n(to + j, scale ? x * vload_n(scale + i * n + j, n - j) : x, n - j);
            }
        }
}

/* out (n, columns) = left (batch, time, n), times scale, transposed @ d, added to but in the first run of the way back. */
INLINE void gate_weight_grad(const gate_run *r, float *out, const float *left, const float *scale, int64_t n, const float *d, int64_t d_row,
                             int64_t columns, float *copy)
{
    gate_gather(r, copy, left, scale, n);
    const tile t = {
        .out = out, .out_row = columns, .a = copy, .a_row = 1, .a_depth = n, .b = d, .b_row = d_row, .b_panel = PANEL,
        .depth = r->steps * r->rows, .columns = columns, .accumulate = r->first + r->steps < r->time,
    };
    tile_multiply(&t, n);
}

/* The same of operands rounded to bfloat16. */
INLINE void rounded_weight_grad(const gate_run *r, float *out, const float *left, const float *scale, int64_t n, const float *d, int64_t d_row,
                                int64_t columns, float *copy)
{
    const int64_t depth = r->steps * r->rows;
    uint32_t *pairs = (uint32_t *)(void *)(copy + depth * n), *panel = pairs + pieces(depth, 2) * (n + 48);
    pair_tile t = { .b = panel, .out_row = columns, .accumulate = r->first + r->steps < r->time };
    gate_gather(r, copy, left, scale, n);
    pair_rows(&t, pairs, copy, 1, n, n, depth);
    for (int64_t j = 0; j < columns; j += PANEL) {
        pair_panel(panel, d + j, d_row, 1, depth, columns - j);
        t.out = out + j, t.columns = least(columns - j, PANEL);
        pair_multiply(&t, n);
    }
}

/* to (batch, time, columns) = d, of an array of `size` numbers */
INLINE void gate_spill(const gate_run *r, float *to, int64_t size, const float *d, int64_t d_row, int64_t columns)
{
    const int streamed = streams(to, size, columns);
    for (int64_t s = 0; s < r->steps; s++)
        for (int64_t i = 0; i < r->rows; i++, d += d_row) {
            float *row = to + (i * r->time + gate_run_place(r, s)) * columns;
            if (!streamed) memcpy(row, d, (size_t)columns * sizeof(float));
            for (int64_t j = 0; j < columns && streamed; j += VL) vstream(row + j, vload(d + j));
        }
    if (streamed) vstreams_end();
}

/* ---- masks ---- */

typedef struct gate_mask {                   /* rows of a step: not masked; whose output is h, not 0; */
    uint8_t active[BLOCK_MOST], shown[BLOCK_MOST], seen[BLOCK_MOST];     /* of which a step was not masked yet */
    int64_t start[BLOCK_MOST];               /* the first step not masked; for the way back */
} gate_mask;

/* mask: of the first row at this time, its rows `time` apart; null: nothing is masked. */
INLINE void gate_mask_step(gate_mask *m, const uint8_t *mask, int64_t time, int64_t rows, int64_t zero_masked)
{
    for (int64_t i = 0; i < rows; i++) {
        m->active[i] = !mask || mask[i * time];
        m->seen[i] |= m->active[i];
        m->shown[i] = zero_masked ? m->active[i] : m->seen[i];
    }
}

/* mask: of the first row at its first time. */
INLINE void gate_mask_start(gate_mask *m, const uint8_t *mask, int64_t time, int64_t rows, int64_t backwards)
{
    for (int64_t i = 0; i < rows; i++)
        for (m->start[i] = 0; m->start[i] < time && mask; m->start[i]++)
            if (mask[i * time + (backwards ? time - 1 - m->start[i] : m->start[i])]) break;
}

INLINE void gate_mask_back(gate_mask *m, const uint8_t *mask, int64_t time, int64_t rows, int64_t zero_masked, int64_t step)
{
    for (int64_t i = 0; i < rows; i++) {
        m->active[i] = !mask || mask[i * time];
        m->shown[i] = zero_masked ? m->active[i] : step >= m->start[i];
    }
}

/* The last output, h of each row that had a step that was not masked, and 0 of others. */
INLINE void gate_last(float *out, const float *h, int64_t row, const gate_mask *m, int64_t rows, int64_t units)
{
    for (int64_t i = 0; i < rows; i++) gate_copy(out + i * units, units, m->seen[i] ? h + i * row : 0, row, 1, units);
}

/* What arrives at h by the last output. */
INLINE void gate_last_grad(float *d_h, int64_t row, const float *d_out, const gate_mask *m, int64_t time, int64_t rows, int64_t units)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < units && m->start[i] < time; j++) d_h[i * row + j] += d_out[i * units + j];
}

#endif
