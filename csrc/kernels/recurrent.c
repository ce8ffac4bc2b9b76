/* Long short-term memory (Hochreiter and Schmidhuber 1997), gates in the order input, forget, cell, output.

   The projection of all inputs is one matrix product beforehand; `gates` holds it when the recurrence starts. An item is a
   block of batch rows that goes through all time steps: no thread waits for another. */
#include "tile.h"

enum { GATE_UNITS = 16, GATE_PANEL = 4 * GATE_UNITS };   /* a panel has the four gates of 16 units side by side */
enum { LSTM_BLOCK = 64 };                                /* most rows of an item */
#if VL == 16
enum { LSTM_ROWS = 6 };                                  /* rows whose four vectors of sums fit the registers */
#else
enum { LSTM_ROWS = 3 };
#endif

/* panels[q, p, g, j] = kernel[p, g, 16 q + j], zeros beyond the units.  One item: one panel of 16 units. */
KERNEL(pack_gates, pieces(a->units, GATE_UNITS), a->units * GATE_PANEL,
    float *panels;        /* (ceil(units / 16), units, 4, 16) */
    const float *kernel;  /* (units, 4, units) */
    int64_t units;)
{
    for (int64_t q = begin; q < end; q++) {
        float *out = a->panels + q * a->units * GATE_PANEL;
        const int64_t n = least(a->units - q * GATE_UNITS, GATE_UNITS);
        const float *kernel = a->kernel + q * GATE_UNITS;
        for (int64_t i = 0; i < 4 * a->units; i++, out += GATE_UNITS, kernel += a->units)
            for (int64_t j = 0; j < GATE_UNITS; j += VL) vstore(out + j, vload_n(kernel + j, most(n - j, 0)));
    }
}

typedef struct lstm_step {               /* what a step of a block works on, from the block's first row */
    const float *panels;
    int64_t units, activation, recurrent_activation;
    const float *used, *h;               /* (rows, units): h times the mask, h */
    float *next, *c;                     /* (rows, units) */
    float *gates, *cells, *out;          /* at this time, from row to row by row_gates, row_units, row_out; or null */
    int64_t row_gates, row_units, row_out;
    uint8_t active[LSTM_BLOCK], shown[LSTM_BLOCK];   /* the row is not masked; its output is h, not 0 */
} lstm_step;

/* z = gates + used @ recurrent_kernel for the four gates of VL units, with the number of rows known to the compiler. */
INLINE void lstm_product(vf (*z)[4], const float *gates, int64_t row_gates, const float *used, const float *b, int64_t units,
                         int64_t n, const int rows)
{
    vf sum[LSTM_ROWS][4];
    for (int i = 0; i < rows; i++)
        for (int g = 0; g < 4; g++) sum[i][g] = vload_n(gates + i * row_gates + g * units, n);
    for (int64_t p = 0; p < units; p++, b += GATE_PANEL) {
        vf v[4];
        for (int g = 0; g < 4; g++) v[g] = vload(b + g * GATE_UNITS);
        #pragma GCC unroll 6
        for (int i = 0; i < rows; i++) {
            const vf x = vset(used[i * units + p]);
            for (int g = 0; g < 4; g++) sum[i][g] = vfma(x, v[g], sum[i][g]);
        }
    }
    for (int i = 0; i < rows; i++)
        for (int g = 0; g < 4; g++) z[i][g] = sum[i][g];
}

/* The cell of `rows` rows and n units from the sums of their gates. */
INLINE void lstm_cell(const lstm_step *s, vf (*z)[4], int64_t row, int64_t unit, int64_t rows, int64_t n,
                      const int64_t activation, const int64_t recurrent_activation)
{
    const int64_t units = s->units;
    for (int64_t i = row; i < row + rows; i++, z++) {
        const int64_t at = i * units + unit;
        vf h, c = vload_n(s->c + at, n);
        if (s->active[i]) {
            float *gates = s->gates + i * s->row_gates + unit;
            const vf input = activate((*z)[0], recurrent_activation), forget = activate((*z)[1], recurrent_activation);
            const vf cell = activate((*z)[2], activation), output = activate((*z)[3], recurrent_activation);
            c = vfma(forget, c, input * cell);
            h = output * activate(c, activation);
            vstore_n(s->c + at, c, n);
            if (s->cells) {
                vstore_n(gates, input, n);
                vstore_n(gates + units, forget, n);
                vstore_n(gates + 2 * units, cell, n);
                vstore_n(gates + 3 * units, output, n);
            }
        } else h = vload_n(s->h + at, n);
        vstore_n(s->next + at, h, n);
        if (s->cells) vstore_n(s->cells + i * s->row_units + unit, c, n);
        if (s->out) vstore_n(s->out + i * s->row_out + unit, s->shown[i] ? h : vset(0), n);
    }
}

/* One step of `rows` rows. The rows go in tiles as even as can be, so that each has sums enough to hide the fma's latency. */
static void lstm_rows(const lstm_step *s, int64_t rows)
{
    const int64_t units = s->units, tiles = pieces(rows, LSTM_ROWS);
    for (int64_t unit = 0; unit < units; unit += VL) {
        const int64_t n = least(units - unit, VL);
        const float *b = s->panels + unit / GATE_UNITS * units * GATE_PANEL + unit % GATE_UNITS;
        for (int64_t k = 0; k < tiles; k++) {
            const int64_t row = rows * k / tiles, some = rows * (k + 1) / tiles - row;
            const float *gates = s->gates + row * s->row_gates + unit, *used = s->used + row * units;
            vf z[LSTM_ROWS][4];
#define CASE(m) case m: lstm_product(z, gates, s->row_gates, used, b, units, n, m); break;
            switch (some) {
            CASE(1) CASE(2) CASE(3)
#if VL == 16
            CASE(4) CASE(5) CASE(6)
#endif
            default: break;
            }
#undef CASE
            if (s->activation == ACT_TANH && s->recurrent_activation == ACT_SIGMOID)
                lstm_cell(s, z, row, unit, some, n, ACT_TANH, ACT_SIGMOID);
            else
                lstm_cell(s, z, row, unit, some, n, s->activation, s->recurrent_activation);
        }
    }
}

/* All time steps of a layer.  One item: a block of rows. */
KERNEL(lstm, pieces(a->batch, a->block), a->block * (double)a->time * a->units * (4 * a->units / 6.0 + 40),
    float *out;           /* (batch, time, units) in the order of the steps; without `sequences` (batch, units), the last */
    float *last_h;        /* (batch, units) */
    float *last_c;        /* (batch, units) */
    float *gates;         /* (batch, time, 4, units): before, what the inputs give; after, with cells, the gates where not masked */
    OPTIONAL float *previous;            /* (batch, time, units): h before each step */
    OPTIONAL float *cells;               /* (batch, time, units): c after each step */
    const float *panels;                 /* of recurrent_kernel, by pack_gates */
    OPTIONAL const float *initial_h;     /* (batch, units) */
    OPTIONAL const float *initial_c;     /* (batch, units) */
    OPTIONAL const uint8_t *mask;        /* (batch, time): 0 keeps the state */
    OPTIONAL const float *recurrent_mask;   /* (batch, units): h is multiplied by it for the product */
    int64_t batch;
    int64_t time;
    int64_t units;
    int64_t block;        /* rows of an item, at most LSTM_BLOCK; block * units at most 65536 */
    int64_t sequences;
    int64_t zero_masked;  /* the output of a masked step is 0; otherwise the one before */
    int64_t backwards;    /* the last time first */
    int64_t activation;
    int64_t recurrent_activation;)
{
    const int64_t units = a->units, time = a->time;
    for (int64_t k = begin; k < end; k++) {
        const int64_t first = k * a->block, rows = least(a->batch - first, a->block), size = rows * units;
        const size_t bytes = (size_t)size * sizeof(float);
        float *h = (float *)worker->scratch, *next = h + size, *c = next + size, *used = c + size;
        const float *scale = a->recurrent_mask ? a->recurrent_mask + first * units : 0;
        lstm_step s = { .panels = a->panels, .units = units, .c = c, .row_gates = time * 4 * units, .row_units = time * units,
                        .row_out = time * units, .activation = a->activation, .recurrent_activation = a->recurrent_activation };
        uint8_t seen[LSTM_BLOCK] = {0};                  /* whether a step of the row was not masked yet */
        if (a->initial_h) memcpy(h, a->initial_h + first * units, bytes); else memset(h, 0, bytes);
        if (a->initial_c) memcpy(c, a->initial_c + first * units, bytes); else memset(c, 0, bytes);
        for (int64_t step = 0; step < time; step++) {
            const int64_t t = a->backwards ? time - 1 - step : step, place = first * time + t;
            for (int64_t i = 0; i < rows; i++) {
                s.active[i] = !a->mask || a->mask[place + i * time];
                seen[i] |= s.active[i];
                s.shown[i] = a->zero_masked ? s.active[i] : seen[i];
                if (a->previous) memcpy(a->previous + (place + i * time) * units, h + i * units, (size_t)units * sizeof(float));
            }
            if (scale)
                for (int64_t i = 0; i < size; i += VL)
                    vstore_n(used + i, vload_n(h + i, size - i) * vload_n(scale + i, size - i), size - i);
            s.used = scale ? used : h, s.h = h, s.next = next;
            s.gates = a->gates + place * 4 * units;
            s.cells = a->cells ? a->cells + place * units : 0;
            s.out = a->sequences ? a->out + (first * time + step) * units : 0;
            lstm_rows(&s, rows);
            float *swap = h; h = next; next = swap;
        }
        memcpy(a->last_h + first * units, h, bytes);
        memcpy(a->last_c + first * units, c, bytes);
        if (!a->sequences)
            for (int64_t i = 0; i < rows; i++)
                for (int64_t j = 0; j < units; j++) a->out[(first + i) * units + j] = seen[i] ? h[i * units + j] : 0;
    }
}

/* ---- backward ---- */

/* The derivative of an activation from its result. */
INLINE vf slope(vf y, const int64_t activation)
{
    switch (activation) {
    case ACT_RELU: return vpick(y > vset(0), vset(1), vset(0));
    case ACT_SIGMOID: return y * (vset(1) - y);
    case ACT_TANH: return vset(1) - y * y;
    case ACT_RELU6: return vpick_less(vset(0), y, vpick_less(y, vset(6), vset(1), vset(0)), vset(0));
    default: return vset(1);
    }
}

typedef struct lstm_back {               /* a step of a block, backwards, from the block's first row */
    const float *gates, *cells, *before; /* of this time; c before it, or null: 0 */
    float *d_h, *d_c, *d_z, *d_gates;    /* (rows, units), (rows, units), (rows, 4, units), the same in memory */
    float *d_bias;                       /* (4, units): added to */
    int64_t units, row_gates, row_units, row_before;
    uint8_t active[LSTM_BLOCK];
} lstm_back;

/* From the gradients of h and c those of the sums of the gates and of c one step before. */
INLINE void lstm_cell_grad(const lstm_back *s, int64_t rows, const int64_t activation, const int64_t recurrent_activation)
{
    const int64_t units = s->units;
    for (int64_t unit = 0; unit < units; unit += VL) {
        const int64_t n = least(units - unit, VL);
        vf sum[4];
        for (int g = 0; g < 4; g++) sum[g] = vload_n(s->d_bias + g * units + unit, n);
        for (int64_t i = 0; i < rows; i++) {
            const int64_t at = i * units + unit;
            float *d_z = s->d_z + 4 * i * units + unit, *d_gates = s->d_gates + i * s->row_gates + unit;
            vf d[4] = { vset(0), vset(0), vset(0), vset(0) };
            if (s->active[i]) {
                const float *gates = s->gates + i * s->row_gates + unit;
                const vf input = vload_n(gates, n), forget = vload_n(gates + units, n);
                const vf cell = vload_n(gates + 2 * units, n), output = vload_n(gates + 3 * units, n);
                const vf y = activate(vload_n(s->cells + i * s->row_units + unit, n), activation);
                const vf before = s->before ? vload_n(s->before + i * s->row_before + unit, n) : vset(0);
                const vf d_h = vload_n(s->d_h + at, n);
                const vf d_c = vfma(d_h * output, slope(y, activation), vload_n(s->d_c + at, n));
                d[0] = d_c * cell * slope(input, recurrent_activation);
                d[1] = d_c * before * slope(forget, recurrent_activation);
                d[2] = d_c * input * slope(cell, activation);
                d[3] = d_h * y * slope(output, recurrent_activation);
                vstore_n(s->d_c + at, d_c * forget, n);
                vstore_n(s->d_h + at, vset(0), n);       /* h of a masked step comes from the step before: d_h stays */
            }
            for (int g = 0; g < 4; g++) {
                vstore_n(d_z + g * units, d[g], n);
                vstore_n(d_gates + g * units, d[g], n);
                sum[g] = sum[g] + d[g];
            }
        }
        for (int g = 0; g < 4; g++) vstore_n(s->d_bias + g * units + unit, sum[g], n);
    }
}

/* Gradients of the sums of the gates at all times.  One item: a block of rows. */
KERNEL(lstm_grad, pieces(a->batch, a->block), a->block * (double)a->time * a->units * (4 * a->units / 6.0 + 40),
    float *d_gates;       /* (batch, time, 4, units) */
    float *d_initial_h;   /* (batch, units) */
    float *d_initial_c;   /* (batch, units) */
    float *d_bias;        /* (blocks, 4, units): each block's share */
    OPTIONAL float *used;                /* (batch, time, units): with recurrent_mask, previous times it */
    OPTIONAL float *d_recurrent_mask;    /* (batch, units) */
    const float *d_out;                  /* (batch, time, units) in the order of the steps; without `sequences` (batch, units) */
    const float *d_last_h;               /* (batch, units) */
    const float *d_last_c;               /* (batch, units) */
    const float *gates;                  /* (batch, time, 4, units) */
    const float *previous;               /* (batch, time, units) */
    const float *cells;                  /* (batch, time, units) */
    const float *panels;                 /* of recurrent_kernel transposed, (4 units, units), by pack */
    OPTIONAL const float *initial_c;     /* (batch, units) */
    OPTIONAL const uint8_t *mask;        /* (batch, time) */
    OPTIONAL const float *recurrent_mask;   /* (batch, units) */
    int64_t batch;
    int64_t time;
    int64_t units;
    int64_t block;
    int64_t sequences;
    int64_t zero_masked;
    int64_t backwards;
    int64_t activation;
    int64_t recurrent_activation;)
{
    const int64_t units = a->units, time = a->time;
    for (int64_t k = begin; k < end; k++) {
        const int64_t first = k * a->block, rows = least(a->batch - first, a->block), size = rows * units;
        const size_t bytes = (size_t)size * sizeof(float);
        float *d_h = (float *)worker->scratch, *d_c = d_h + size, *d_used = d_c + size, *d_z = d_used + size;
        const float *scale = a->recurrent_mask ? a->recurrent_mask + first * units : 0;
        float *d_scale = scale && a->d_recurrent_mask ? a->d_recurrent_mask + first * units : 0;
        lstm_back s = { .d_h = d_h, .d_c = d_c, .d_z = d_z, .d_bias = a->d_bias + k * 4 * units, .units = units,
                        .row_gates = time * 4 * units, .row_units = time * units };
        int64_t start[LSTM_BLOCK];                       /* of each row, the first step not masked */
        for (int64_t i = 0; i < rows; i++)
            for (start[i] = 0; start[i] < time && a->mask; start[i]++)
                if (a->mask[(first + i) * time + (a->backwards ? time - 1 - start[i] : start[i])]) break;
        memset(s.d_bias, 0, (size_t)(4 * units) * sizeof(float));
        if (d_scale) memset(d_scale, 0, bytes);
        memcpy(d_h, a->d_last_h + first * units, bytes);
        memcpy(d_c, a->d_last_c + first * units, bytes);
        if (!a->sequences)
            for (int64_t i = 0; i < rows; i++)
                for (int64_t j = 0; j < units && start[i] < time; j++) d_h[i * units + j] += a->d_out[(first + i) * units + j];
        for (int64_t step = time - 1; step >= 0; step--) {
            const int64_t t = a->backwards ? time - 1 - step : step, place = first * time + t;
            for (int64_t i = 0; i < rows; i++) {
                s.active[i] = !a->mask || a->mask[place + i * time];
                if (!a->sequences || !(a->zero_masked ? s.active[i] : step >= start[i])) continue;
                const float *d_out = a->d_out + ((first + i) * time + step) * units;
                for (int64_t j = 0; j < units; j++) d_h[i * units + j] += d_out[j];
            }
            s.gates = a->gates + place * 4 * units, s.d_gates = a->d_gates + place * 4 * units;
            s.cells = a->cells + place * units;
            s.before = step ? s.cells + (a->backwards ? units : -units) : a->initial_c ? a->initial_c + first * units : 0;
            s.row_before = step ? time * units : units;
            if (a->activation == ACT_TANH && a->recurrent_activation == ACT_SIGMOID)
                lstm_cell_grad(&s, rows, ACT_TANH, ACT_SIGMOID);
            else
                lstm_cell_grad(&s, rows, a->activation, a->recurrent_activation);
            for (int64_t q = 0; q < units; q += PANEL) {  /* d_h += d_z @ recurrent_kernel transposed */
                const tile product = {
                    .out = (scale ? d_used : d_h) + q, .out_row = units, .a = d_z, .a_row = 4 * units, .a_depth = 1,
                    .b = a->panels + q * 4 * units, .b_row = PANEL, .depth = 4 * units, .columns = least(units - q, PANEL),
                    .accumulate = !scale,
                };
                tile_multiply(&product, rows);
            }
            for (int64_t i = 0; scale && i < rows; i++) {
                const int64_t at = i * units;
                const float *previous = a->previous + (place + i * time) * units;
                float *used = a->used + (place + i * time) * units;
                for (int64_t j = 0; j < units; j++) {
                    used[j] = previous[j] * scale[at + j];
                    d_h[at + j] = fma1(d_used[at + j], scale[at + j], d_h[at + j]);
                    if (d_scale) d_scale[at + j] = fma1(d_used[at + j], previous[j], d_scale[at + j]);
                }
            }
        }
        memcpy(a->d_initial_h + first * units, d_h, bytes);
        memcpy(a->d_initial_c + first * units, d_c, bytes);
    }
}

/* d_bias = the sum of the blocks' shares, block by block.  One item: one number. */
KERNEL(lstm_d_bias, a->size, a->blocks,
    float *d_bias;        /* (size) */
    const float *shares;  /* (blocks, size) */
    int64_t blocks;
    int64_t size;)
{
    for (int64_t i = begin; i < end; i += VL) {
        vf sum = vset(0);
        for (int64_t k = 0; k < a->blocks; k++) sum = sum + vload_n(a->shares + k * a->size + i, end - i);
        vstore_n(a->d_bias + i, sum, end - i);
    }
}
