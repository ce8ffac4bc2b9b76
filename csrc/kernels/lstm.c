/* Long short-term memory (Hochreiter and Schmidhuber 1997), gates in the order input, forget, cell, output.

   The projection of all inputs is one matrix product beforehand, and `gates` holds it when the recurrence starts; or, where weights
   are small, it is made by runs of steps (gates.h), or there is one for each token of a table, and `gates` only keeps the gates for
   the way back. Two ways to share the work, chosen by the shape: an item is a block of batch rows that goes through all time steps,
   and no thread waits for another; or, for few rows of many units, a call is one step and an item a panel of units, whose weights
   stay in its thread's cache. */
#include "gates.h"
#include "tile_bf16.h"

enum { GATE_PANEL = 4 * GATE_UNITS };

/* panels[q, p, g, j] = kernel[p, first + g, 16 q + j], zeros beyond the units.  One item: one panel of 16 units. */
KERNEL(pack_gates, pieces(a->units, GATE_UNITS), a->units * a->gates * GATE_UNITS,
    float *panels;        /* (ceil(units / 16), units, gates, 16) */
    const float *kernel;  /* (units, of, units) */
    int64_t units;
    int64_t of;           /* gates in the kernel */
    int64_t first;
    int64_t gates;)       /* gates to pack, from the first */
{
    for (int64_t q = begin; q < end; q++) {
        float *out = a->panels + q * a->units * a->gates * GATE_UNITS;
        const int64_t n = least(a->units - q * GATE_UNITS, GATE_UNITS);
        for (int64_t p = 0; p < a->units; p++)
            for (int64_t g = 0; g < a->gates; g++, out += GATE_UNITS) {
                const float *kernel = a->kernel + (p * a->of + a->first + g) * a->units + q * GATE_UNITS;
                for (int64_t j = 0; j < GATE_UNITS; j += VL) vstore(out + j, vload_n(kernel + j, most(n - j, 0)));
            }
    }
}

/* The same rounded, two rows to a pair.  One item: one panel of 16 units. */
KERNEL(pack_gates_bf16, pieces(a->units, GATE_UNITS), a->units * a->gates * GATE_UNITS / 2,
    uint32_t *panels;     /* (ceil(units / 16), ceil(units / 2), gates, 16): two bfloat16 each */
    const float *kernel;  /* (units, gates, units) */
    int64_t units;
    int64_t gates;)
{
    const int64_t row = a->gates * a->units;
    for (int64_t q = begin; q < end; q++) {
        uint32_t *out = a->panels + q * pieces(a->units, 2) * a->gates * GATE_UNITS;
        const int64_t n = least(a->units - q * GATE_UNITS, GATE_UNITS);
        for (int64_t p = 0; p < a->units; p += 2)
            for (int64_t g = 0; g < a->gates; g++, out += GATE_UNITS) {
                const float *kernel = a->kernel + p * row + g * a->units + q * GATE_UNITS;
                for (int64_t j = 0; j < GATE_UNITS; j += VL) {
                    const int64_t m = most(n - j, 0);
                    vustore(out + j, vpairs(vload_n(kernel + j, m), p + 1 < a->units ? vload_n(kernel + row + j, m) : vset(0)));
                }
            }
    }
}

typedef struct lstm_step {               /* what a step works on, from the block's first row */
    const float *panels;
    int64_t rounded, depth;              /* rounded: panels, and used, hold pairs of bfloat16 in the place of numbers, depth of them */
    int64_t units, activation, recurrent_activation, plain;    /* plain: tanh and sigmoid, no mask, whole vectors of units */
    const float *used, *h;               /* (rows, units): h times the mask, or null: zeros; h */
    float *next, *c;                     /* (rows, units) */
    int64_t row;                         /* floats from row to row of these four */
    const float *inputs[BLOCK_MOST];     /* of each row, (4, units): what the inputs give; may be its gates */
    const float *table;                  /* (any, 4, units): what each token gives; or null */
    const int32_t *next_tokens;          /* of the next step, `time` apart; or null */
    float *gates, *cells, *out, *previous;   /* at this time, previous at the next; or null */
    int64_t time, row_gates, row_units, row_out, ahead;    /* from row to row; from these gates to the next step's */
    gate_mask mask;
} lstm_step;

/* The cells of `rows` rows and one vector of units from the products of h in z. */
INLINE void lstm_cells(const lstm_step *s, const vf *z, int64_t row, int64_t unit, int64_t rows, const int64_t activation,
                       const int64_t recurrent_activation, const int plain)
{
    const int64_t units = s->units, keep = s->cells != 0, n = plain ? VL : least(units - unit, VL);
    for (int64_t i = 0; i < rows; i++) {                 /* apart from h, so that many rows are under way at once */
        const float *inputs = s->inputs[row + i] + unit;
        float *gates = s->gates + (row + i) * s->row_gates + unit, *c = s->c + (row + i) * s->row + unit;
        if (units >= MANY_UNITS) gate_prefetch(inputs + GATE_UNITS, 0, 1, units, 4);
        if (s->ahead) gate_prefetch_later(gates + s->ahead, units, 4);       /* row by row, as a core waits for some lines at once only */
        if (s->next_tokens) gate_prefetch_later(s->table + s->next_tokens[(row + i) * s->time] * 4 * units + unit, units, 4);
        if (!plain && !s->mask.active[row + i]) {
            if (keep) gate_leave(gates, inputs, units, 4, n);
            continue;
        }
        const vf input = gate_activate(z[4 * i] + vload_n(inputs, n), recurrent_activation);
        const vf forget = gate_activate(z[4 * i + 1] + vload_n(inputs + units, n), recurrent_activation);
        const vf cell = gate_activate(z[4 * i + 2] + vload_n(inputs + 2 * units, n), activation);
        vstore_n(c, vfma(forget, vload_n(c, n), input * cell), n);
        if (keep) {
            vstore_n(gates, input, n);
            vstore_n(gates + units, forget, n);
            vstore_n(gates + 2 * units, cell, n);
        }
    }
    for (int64_t i = 0; i < rows; i++) {
        const int64_t at = (row + i) * s->row + unit;
        const vf c = vload_n(s->c + at, n);
        vf h;
        if (plain || s->mask.active[row + i]) {
            const vf output = gate_activate(z[4 * i + 3] + vload_n(s->inputs[row + i] + 3 * units + unit, n), recurrent_activation);
            h = output * gate_activate(c, activation);
            if (keep) vstore_n(s->gates + (row + i) * s->row_gates + 3 * units + unit, output, n);
        } else h = vload_n(s->h + at, n);
        vstore_n(s->next + at, h, n);
        if (keep) vstore_n(s->cells + (row + i) * s->row_units + unit, c, n);
        if (s->previous) vstore_n(s->previous + (row + i) * s->row_units + unit, h, n);
        if (s->out) vstore_n(s->out + (row + i) * s->row_out + unit, plain || s->mask.shown[row + i] ? h : vset(0), n);
    }
}

/* One step of `rows` rows for the units of the panels first <= q < last. */
static void lstm_rows(const lstm_step *s, int64_t rows, int64_t first, int64_t last)
{
    const int64_t units = s->units, tiles = gate_tiles(rows, 4);
    for (int64_t unit = first * GATE_UNITS; unit < least(last * GATE_UNITS, units); unit += VL)
        for (int64_t k = 0; k < tiles; k++) {
            const int64_t row = tile_begin(rows, tiles, k), some = tile_begin(rows, tiles, k + 1) - row;
            vf z[GATE_SUMS];
            if (!s->used) memset(z, 0, (size_t)(4 * some) * sizeof(vf));
            else (s->rounded ? rounded_product4 : gate_product4)(
                z, s->used + row * s->row, s->row, s->panels + unit / GATE_UNITS * s->depth * GATE_PANEL + unit % GATE_UNITS, PANEL, s->depth, some, 0);
            if (s->plain) lstm_cells(s, z, row, unit, some, ACT_TANH, ACT_SIGMOID, 1);
            else lstm_cells(s, z, row, unit, some, s->activation, s->recurrent_activation, 0);
        }
}

/* All time steps of a layer.  One item: a block of rows. */
KERNEL(lstm, pieces(a->batch, a->block), a->block * (double)a->time * a->units * (4 * a->units / 6.0 + 40),
    float *out;           /* (batch, time, units) in the order of the steps; without `sequences` (batch, units), the last */
    float *last_h;        /* (batch, units) */
    float *last_c;        /* (batch, units) */
    OPTIONAL float *gates;               /* (batch, time, 4, units): before, but with x or tokens, what the inputs give; after, with cells, the
                                            gates where not masked */
    OPTIONAL float *previous;            /* (batch, time, units): h before each step */
    OPTIONAL float *cells;               /* (batch, time, units): c after each step */
    OPTIONAL const float *x;             /* (batch, time, features): what the inputs give is made here */
    OPTIONAL const float *kernel;        /* (features, 4 units) by pack */
    OPTIONAL const float *bias;          /* (4, units) */
    OPTIONAL const float *table;         /* (any, 4, units): what each token gives */
    OPTIONAL const int32_t *tokens;      /* (batch, time): the inputs, in the place of x */
    const void *panels;                  /* of recurrent_kernel, by pack_gates; rounded: by pack_gates_bf16 */
    OPTIONAL const float *initial_h;     /* (batch, units) */
    OPTIONAL const float *initial_c;     /* (batch, units) */
    OPTIONAL const uint8_t *mask;        /* (batch, time): 0 keeps the state */
    OPTIONAL const float *recurrent_mask;   /* (batch, units): h is multiplied by it for the product */
    int64_t batch;
    int64_t time;
    int64_t features;     /* of x */
    int64_t units;
    int64_t block;        /* rows of an item, at most BLOCK_MOST; block * units at most 32768 */
    int64_t sequences;
    int64_t zero_masked;  /* the output of a masked step is 0; otherwise the one before */
    int64_t backwards;    /* the last time first */
    int64_t activation;
    int64_t recurrent_activation;
    int64_t rounded;)     /* the operands of h @ U to bfloat16 */
{
    const uint32_t state = a->rounded ? flush_denormals() : 0;
    const int64_t units = a->units, time = a->time, row = gate_stride(units), row_z = gate_stride(4 * units);
    for (int64_t k = begin; k < end; k++) {
        const int64_t first = k * a->block, rows = least(a->batch - first, a->block), ahead = a->backwards ? -1 : 1;
        float *h = (float *)worker->scratch, *next = h + rows * row, *c = next + rows * row, *used = c + rows * row;
        const float *scale = a->recurrent_mask ? a->recurrent_mask + first * units : 0;
        lstm_step s = { .panels = a->panels, .rounded = a->rounded, .depth = a->rounded ? pieces(units, 2) : units, .units = units, .c = c, .row = row,
                        .time = time, .table = a->table, .row_gates = time * 4 * units, .row_units = time * units, .row_out = time * units,
                        .activation = a->activation, .recurrent_activation = a->recurrent_activation,
                        .plain = gate_plain(a->activation, a->recurrent_activation, units, a->mask) };
        gate_copy(h, row, a->initial_h ? a->initial_h + first * units : 0, units, rows, units);
        gate_copy(c, row, a->initial_c ? a->initial_c + first * units : 0, units, rows, units);
        gate_run run = { .rows = rows, .time = time, .backwards = a->backwards };
        float *inputs = used + 2 * rows * row;
        for (int64_t step = 0; step < time; step++) {
            if (a->x && step == run.first + run.steps) {
                run.first = step, run.steps = least(gate_run_steps(rows, 4 * units), time - step);
                gate_project(&run, inputs, row_z, a->x + first * time * a->features, a->kernel, a->bias, a->features, 4 * units);
            }
            const int64_t t = a->backwards ? time - 1 - step : step, place = first * time + t, more = step + 1 < time;
            gate_mask_step(&s.mask, a->mask ? a->mask + place : 0, time, rows, a->zero_masked);
            if (a->x) gate_fetch(&run, a->x + first * time * a->features, a->features, step + run.steps);
            if (a->previous && !step) gate_copy(a->previous + place * units, time * units, h, row, rows, units);
            if (scale) gate_scale(used, h, row, scale, rows, units);
            s.used = scale ? used : h, s.h = h, s.next = next;
            if (a->rounded) s.used = gate_round(used + rows * row, s.used, row, rows, units);
            if (!step && !a->initial_h) s.used = 0;
            s.gates = a->gates ? a->gates + place * 4 * units : 0, s.ahead = a->gates ? more * ahead * 4 * units : 0;
            for (int64_t i = 0; i < rows; i++)
                s.inputs[i] = a->tokens ? a->table + a->tokens[place + i * time] * 4 * units :
                              a->x ? inputs + ((step - run.first) * rows + i) * row_z : s.gates + i * s.row_gates;
            s.next_tokens = a->tokens && more ? a->tokens + place + ahead : 0;
            s.cells = a->cells ? a->cells + place * units : 0;
            s.previous = a->previous && more ? a->previous + (place + ahead) * units : 0;
            s.out = a->sequences ? a->out + (first * time + step) * units : 0;
            lstm_rows(&s, rows, 0, pieces(units, GATE_UNITS));
            float *swap = h; h = next; next = swap;
        }
        gate_copy(a->last_h + first * units, units, h, row, rows, units);
        gate_copy(a->last_c + first * units, units, c, row, rows, units);
        if (!a->sequences) gate_last(a->out + first * units, h, row, &s.mask, rows, units);
    }
    if (a->rounded) keep_denormals(state);
}

/* One step of a layer without masks, for few rows.  One item: a panel of 16 units. */
KERNEL(lstm_units, pieces(a->units, GATE_UNITS), 4.0 * GATE_UNITS * a->units * (a->batch / 6.0 + 0.5),
    float *next;          /* (batch, units): h after the step */
    float *c;             /* (batch, units): before; after */
    float *gates;         /* (batch, time, 4, units): before, what the inputs give; after, with cells, the gates */
    OPTIONAL float *out;                 /* (batch, time, units) in the order of the steps; without `sequences` (batch, units), the last */
    OPTIONAL float *previous;            /* (batch, time, units): h before each step */
    OPTIONAL float *cells;               /* (batch, time, units): c after each step */
    const float *h;                      /* (batch, units) */
    const float *panels;                 /* of recurrent_kernel, by pack_gates */
    int64_t batch;        /* at most BLOCK_MOST */
    int64_t time;
    int64_t units;
    int64_t step;
    int64_t sequences;
    int64_t backwards;
    int64_t activation;
    int64_t recurrent_activation;)
{
    const int64_t units = a->units, time = a->time, t = a->backwards ? time - 1 - a->step : a->step, last = a->step == time - 1;
    const int64_t ahead = last ? 0 : a->backwards ? -units : units, first = begin * GATE_UNITS, some = least(end * GATE_UNITS, units) - first;
    lstm_step s = { .panels = a->panels, .depth = units, .units = units, .used = a->h, .h = a->h, .next = a->next, .c = a->c, .row = units,
                    .gates = a->gates + t * 4 * units, .cells = a->cells ? a->cells + t * units : 0, .row_gates = time * 4 * units,
                    .previous = a->previous && !last ? a->previous + t * units + ahead : 0, .row_units = time * units, .ahead = 4 * ahead,
                    .out = a->sequences ? a->out + a->step * units : last ? a->out : 0, .row_out = a->sequences ? time * units : units,
                    .activation = a->activation, .recurrent_activation = a->recurrent_activation,
                    .plain = gate_plain(a->activation, a->recurrent_activation, units, 0) };
    for (int64_t i = 0; i < a->batch; i++) s.inputs[i] = s.gates + i * s.row_gates;
    gate_mask_step(&s.mask, 0, time, a->batch, 0);
    if (a->previous && !a->step) gate_copy(a->previous + t * units + first, time * units, a->h + first, units, a->batch, some);
    lstm_rows(&s, a->batch, begin, end);
}

/* ---- backward ---- */

typedef struct lstm_back {               /* a step of a block, backwards, from the block's first row */
    const float *panels;
    int64_t rounded, depth;              /* as in lstm_step, of panels and late */
    int64_t units, activation, recurrent_activation, plain, final;   /* final: before the first step */
    const float *late, *scale, *d_out;   /* d_z of the step after; h's mask; d_out; or null */
    float *d_h, *d_c, *d_z;              /* d_h: what is to be added (null: nothing); (rows, units), (rows, units), (rows, 4, units) */
    int64_t row, row_z;                  /* floats from row to row of these, and of late */
    const float *gates, *cells, *before; /* of this time; c before it, or null: 0 */
    float *d_bias;                       /* (4, units): added to */
    const float *previous;               /* h before the step after; the mask's gradient, added to; or null */
    float *d_scale;
    int64_t row_gates, row_units, row_before, row_out, ahead;
    gate_copies *copies;                 /* what the products copy */
    gate_mask mask;
} lstm_back;

/* From the products of the gradients of the step after with recurrent_kernel, every `width`-th of z: the gradients of the sums of the gates.
   What a row needs is at hand before the loop, as every store could change s for all that the compiler knows. */
INLINE void lstm_cells_grad(const lstm_back *s, const vf *z, int64_t width, int64_t row, int64_t unit, int64_t rows, const int64_t activation,
                            const int64_t recurrent_activation, const int plain)
{
    const int64_t units = s->units, n = plain ? VL : least(units - unit, VL), ahead = s->ahead, row_gates = s->row_gates;
    const int64_t row_before = s->row_before, row_out = s->row_out, row_z = s->row_z, late = s->late != 0;
    const float *gates = s->gates + row * row_gates + unit, *before = s->before ? s->before + row * row_before + unit : 0;
    const float *d_out = s->d_out ? s->d_out + row * row_out + unit : 0;
    float *d_z = s->d_z + row * row_z + unit, *d_c_row = s->d_c + row * s->row + unit;
    vf sum[4];
    for (int g = 0; g < 4; g++) sum[g] = vload_n(s->d_bias + g * units + unit, n);
    for (int64_t i = row; i < row + rows; i++, z += width) {
        const int64_t at = i * s->row + unit;
        if (ahead) {                                     /* row by row, as in lstm_cells */
            if (units >= MANY_UNITS) {
                gate_prefetch(gates + PANEL, 0, 1, units, 4);
                __builtin_prefetch(before + PANEL), __builtin_prefetch((d_out ? d_out : before) + PANEL);
            }
            gate_prefetch_later(gates + 4 * ahead, units, 4), gate_prefetch_later(before + ahead, units, 1);
            if (d_out) gate_prefetch_later(d_out - units, units, 1);
        }
        vf d_h = late ? *z : vset(0);
        if (s->scale && late) {
            const vf h = vload_n(s->previous + i * s->row_units + unit, n);
            if (s->d_scale) vstore_n(s->d_scale + i * units + unit, vfma(d_h, h, vload_n(s->d_scale + i * units + unit, n)), n);
            d_h = d_h * vload_n(s->scale + i * units + unit, n);
        }
        if (s->d_h) d_h = d_h + vload_n(s->d_h + at, n);
        if (s->final) {
            vstore_n(s->d_h + at, d_h, n);
            continue;
        }
        if (d_out && (plain || s->mask.shown[i])) d_h = d_h + vload_n(d_out, n);
        vf d[4] = { vset(0), vset(0), vset(0), vset(0) };
        if (plain || s->mask.active[i]) {
            const vf input = vload_n(gates, n), forget = vload_n(gates + units, n);
            const vf cell = vload_n(gates + 2 * units, n), output = vload_n(gates + 3 * units, n);
            const vf y = gate_activate(vload_n(s->cells + i * s->row_units + unit, n), activation);
            const vf d_c = vfma(d_h * output, slope(y, activation), vload_n(d_c_row, n));
            d[0] = d_c * cell * slope(input, recurrent_activation);
            d[1] = d_c * (before ? vload_n(before, n) : vset(0)) * slope(forget, recurrent_activation);
            d[2] = d_c * input * slope(cell, activation);
            d[3] = d_h * y * slope(output, recurrent_activation);
            vstore_n(d_c_row, d_c * forget, n);
            d_h = vset(0);                               /* h of a masked step comes from the step before: there d_h stays */
        }
        if (s->d_h) vstore_n(s->d_h + at, d_h, n);
        for (int g = 0; g < 4; g++) {
            vstore_n(d_z + g * units, d[g], n);
            sum[g] = sum[g] + d[g];
        }
        gates += row_gates, before += before ? row_before : 0, d_out += d_out ? row_out : 0, d_z += row_z, d_c_row += s->row;
    }
    for (int g = 0; g < 4 && !s->final; g++) vstore_n(s->d_bias + g * units + unit, sum[g], n);
}

/* One step of `rows` rows for the units of the panels of 32 units first <= q < last. */
static void lstm_rows_grad(const lstm_back *s, int64_t rows, int64_t first, int64_t last)
{
    const int few = rows <= GATE_SUMS / 4 && !s->rounded && !s->copies->left;     /* two panels at once, else too few sums are under way */
    const int64_t units = s->units, tiles = gate_tiles(rows, 2);
    for (int64_t start = first * PANEL, panels; start < least(last * PANEL, units); start = gate_after(start, panels)) {
        panels = few && start / PANEL + 1 < last ? 2 : 1;
        for (int64_t k = 0; k < tiles; k++) {
            const int64_t row = tile_begin(rows, tiles, k), some = tile_begin(rows, tiles, k + 1) - row;
            vf z[GATE_SUMS];
            if (s->late)
                (panels == 2 ? gate_product4 : s->rounded ? rounded_copying_product2 : copying_product2)(
                    z, s->late + row * s->row_z, s->row_z, s->panels + start / PANEL * s->depth * PANEL + start % PANEL, s->depth * PANEL, s->depth,
                    some, s->copies);
            for (int64_t v = 0, n = 2 * panels, unit = start; v < n && unit < units; v++, unit += GATE_UNITS)
                if (s->plain) lstm_cells_grad(s, z + v, n, row, unit, some, ACT_TANH, ACT_SIGMOID, 1);
                else lstm_cells_grad(s, z + v, n, row, unit, some, s->activation, s->recurrent_activation, 0);
        }
    }
}

/* Gradients of the sums of the gates at all times, or all that is made of them.  One item: a block of rows. */
KERNEL(lstm_grad, pieces(a->batch, a->block), a->block * (double)a->time * a->units * (4 * a->units / 6.0 + 40),
    OPTIONAL float *d_gates;             /* (batch, time, 4, units) */
    OPTIONAL float *d_x;                 /* (batch, time, features); not rounded */
    OPTIONAL float *d_kernel;            /* (blocks, features, 4, units): each block's share; not rounded */
    OPTIONAL float *d_recurrent_kernel;  /* (blocks, units, 4, units): each block's share */
    OPTIONAL float *d_initial_h;         /* (batch, units) */
    float *d_initial_c;   /* (batch, units) */
    float *d_bias;        /* (blocks, 4, units): each block's share */
    OPTIONAL float *d_recurrent_mask;    /* (batch, units) */
    const float *d_out;                  /* (batch, time, units) in the order of the steps; without `sequences` (batch, units) */
    const float *d_last_h;               /* (batch, units) */
    const float *d_last_c;               /* (batch, units) */
    const float *gates;                  /* (batch, time, 4, units) */
    const float *previous;               /* (batch, time, units) */
    const float *cells;                  /* (batch, time, units) */
    OPTIONAL const float *x;             /* (batch, time, features): for d_kernel */
    OPTIONAL const float *kernel;        /* transposed, (4 units, features), by pack: for d_x */
    const void *panels;                  /* of recurrent_kernel transposed, (4 units, units), by pack; rounded: by pack_bf16 */
    OPTIONAL const float *initial_c;     /* (batch, units) */
    OPTIONAL const uint8_t *mask;        /* (batch, time) */
    OPTIONAL const float *recurrent_mask;   /* (batch, units) */
    int64_t batch;
    int64_t time;
    int64_t features;     /* of x */
    int64_t units;
    int64_t block;
    int64_t sequences;
    int64_t zero_masked;
    int64_t backwards;
    int64_t activation;
    int64_t recurrent_activation;
    int64_t rounded;)
{
    const uint32_t state = a->rounded ? flush_denormals() : 0;
    const int64_t units = a->units, columns = 4 * units, time = a->time, features = a->features, row = gate_stride(units), row_z = gate_stride(columns);
    const int64_t ahead = a->backwards ? units : -units;     /* from this time of `cells` to the step before */
    const int streamed = a->d_gates && streams(a->d_gates, a->batch * time * columns, units);
    for (int64_t k = begin; k < end; k++) {
        const int64_t first = k * a->block, rows = least(a->batch - first, a->block), steps = gate_run_steps(rows, columns), size = rows * row_z;
        float *d_h = (float *)worker->scratch, *d_c = d_h + rows * row, *d_z = d_c + rows * row, *pairs = d_z + steps * size, *copy = pairs + size;
        const float *scale = a->recurrent_mask ? a->recurrent_mask + first * units : 0;
        lstm_back s = { .panels = a->panels, .rounded = a->rounded, .depth = a->rounded ? 2 * units : columns, .units = units,
                        .d_h = d_h, .d_c = d_c, .row = row, .row_z = row_z, .scale = scale,
                        .d_bias = a->d_bias + k * columns, .row_gates = time * columns, .row_units = time * units,
                        .row_out = time * units, .d_scale = scale && a->d_recurrent_mask ? a->d_recurrent_mask + first * units : 0,
                        .activation = a->activation, .recurrent_activation = a->recurrent_activation,
                        .plain = gate_plain(a->activation, a->recurrent_activation, units, a->mask) };
        gate_mask_start(&s.mask, a->mask ? a->mask + first * time : 0, time, rows, a->backwards);
        memset(s.d_bias, 0, (size_t)columns * sizeof(float));
        if (s.d_scale) memset(s.d_scale, 0, (size_t)(rows * units) * sizeof(float));
        gate_copy(d_h, row, a->d_last_h + first * units, units, rows, units);
        gate_copy(d_c, row, a->d_last_c + first * units, units, rows, units);
        if (!a->sequences) gate_last_grad(d_h, row, a->d_out + first * units, &s.mask, time, rows, units);
        gate_run run = { .first = time, .rows = rows, .time = time, .backwards = a->backwards };
        gate_copies copies = { .from_row = row_z, .to_row = time * columns, .columns = columns, .streamed = streamed };
        s.copies = &copies;
        for (int64_t step = time - 1; step >= (a->d_initial_h || s.d_scale ? -1 : 0); step--) {
            const int64_t t = a->backwards ? time - 1 - step : step, place = first * time + t;
            s.final = step < 0, s.late = step + 1 < time ? d_z + (step + 1) % steps * size : 0;
            if (a->d_gates && s.late) gate_copies_begin(&copies, a->d_gates + place * columns - 4 * ahead, s.late, rows);
            if (a->d_kernel) gate_fetch(&run, a->x + first * time * features, features, step);
            if (a->d_recurrent_kernel) gate_fetch(&run, a->previous + first * time * units, units, step);
            if (a->rounded && s.late) s.late = gate_round(pairs, s.late, row_z, rows, columns);
            if (scale && s.late) s.previous = a->previous + place * units - ahead;
            if (!s.final) {
                gate_mask_back(&s.mask, a->mask ? a->mask + place : 0, time, rows, a->zero_masked, step);
                s.d_out = a->sequences ? a->d_out + (first * time + step) * units : 0;
                s.gates = a->gates + place * columns, s.d_z = d_z + step % steps * size;
                s.cells = a->cells + place * units;
                s.before = step ? s.cells + ahead : a->initial_c ? a->initial_c + first * units : 0;
                s.row_before = step ? time * units : units;
                s.ahead = step > 1 ? ahead : 0;
            } else s.ahead = 0, s.d_h = d_h;
            lstm_rows_grad(&s, rows, 0, pieces(units, PANEL));
            gate_copies_end(&copies);
            if (s.plain) s.d_h = 0;
            if (step < 0 || step % steps) continue;
            run.steps = run.first - step, run.first = step;
            if (a->d_x) gate_project_d_x(&run, a->d_x + first * time * features, d_z, row_z, a->kernel, features, columns);
            if (a->d_kernel)
                gate_weight_grad(&run, a->d_kernel + k * features * columns, a->x + first * time * features, 0, features, d_z, row_z, columns, copy);
            if (a->d_recurrent_kernel)
                (a->rounded ? rounded_weight_grad : gate_weight_grad)(&run, a->d_recurrent_kernel + k * units * columns,
                                                                      a->previous + first * time * units, scale, units, d_z, row_z, columns, copy);
        }
        if (a->d_initial_h) gate_copy(a->d_initial_h + first * units, units, d_h, row, rows, units);
        else if (a->d_gates && time)                     /* those of the first step, which no product has copied */
            gate_copy(a->d_gates + (first * time + (a->backwards ? time - 1 : 0)) * columns, time * columns, d_z, row_z, rows, columns);
        gate_copy(a->d_initial_c + first * units, units, d_c, row, rows, units);
    }
    if (streamed) vstreams_end();
    if (a->rounded) keep_denormals(state);
}

/* One step of lstm_units, backwards; step -1 gives the gradient of the first h.  One item: a panel of 32 units. */
KERNEL(lstm_units_grad, pieces(a->units, PANEL), 4.0 * PANEL * a->units * (a->batch / 6.0 + 0.5),
    float *d_gates;       /* (batch, time, 4, units): those of this step from those of the one after */
    float *d_h;           /* (batch, units): before the last step, what arrives at the last h; after step -1, of the first */
    float *d_c;           /* (batch, units) */
    float *d_bias;        /* (4, units): added to, but at the last step */
    OPTIONAL const float *d_out;         /* (batch, time, units) in the order of the steps */
    const float *gates;                  /* (batch, time, 4, units) */
    const float *cells;                  /* (batch, time, units) */
    const float *panels;                 /* of recurrent_kernel transposed, (4 units, units), by pack */
    OPTIONAL const float *initial_c;     /* (batch, units) */
    int64_t batch;
    int64_t time;
    int64_t units;
    int64_t step;
    int64_t backwards;
    int64_t activation;
    int64_t recurrent_activation;)
{
    const int64_t units = a->units, time = a->time, step = a->step, t = a->backwards ? time - 1 - step : step;
    const int64_t back = a->backwards ? units : -units, last = step == time - 1, first = begin * PANEL, some = least(end * PANEL, units) - first;
    gate_copies none = { .left = 0 };
    lstm_back s = { .panels = a->panels, .depth = 4 * units, .units = units, .copies = &none, .final = step < 0,
                    .late = last ? 0 : a->d_gates + t * 4 * units - 4 * back, .d_h = last || step < 0 ? a->d_h : 0, .d_c = a->d_c, .row = units, .row_z = time * 4 * units, .d_bias = a->d_bias,
                    .row_gates = time * 4 * units, .row_units = time * units, .row_out = time * units,
                    .row_before = step > 0 ? time * units : units, .ahead = step > 1 ? back : 0,
                    .activation = a->activation, .recurrent_activation = a->recurrent_activation,
                    .plain = gate_plain(a->activation, a->recurrent_activation, units, 0) };
    gate_mask_step(&s.mask, 0, time, a->batch, 0);
    for (int64_t g = 0; g < 4 && last; g++) memset(a->d_bias + g * units + first, 0, (size_t)some * sizeof(float));
    if (step >= 0) {
        s.gates = a->gates + t * 4 * units, s.cells = a->cells + t * units, s.d_z = a->d_gates + t * 4 * units;
        s.before = step ? s.cells + back : a->initial_c;
        s.d_out = a->d_out ? a->d_out + step * units : 0;
    }
    lstm_rows_grad(&s, a->batch, begin, end);
}
