/* Gated recurrent unit (Cho et al. 2014), gates in the order update, reset, candidate. As in lstm.c, `gates` holds the
   projection of the inputs when the recurrence starts, and an item is a block of batch rows that goes through all time steps.

       update, reset = recurrent_activation(x @ W + h @ U)      h = update h + (1 - update) candidate
       candidate = activation(x @ W + reset (h @ U))            reset after the product: one product for all gates
       candidate = activation(x @ W + (reset h) @ U)            before it, where candidate_panels are given: two */
#include "gates.h"

typedef struct gru_step {                /* what a step of a block works on, from the block's first row */
    const float *panels, *candidate_panels, *bias;
    int64_t units, activation, recurrent_activation, plain;
    const float *used, *h;               /* (rows, units): h times the mask, h */
    float *next, *update, *reset;        /* (rows, units): the update gate, reset times used */
    int64_t row;                         /* floats from row to row of these */
    const float *inputs;                 /* (rows, 3, units): what the inputs give; may be gates */
    float *gates, *inner, *out, *previous;   /* at this time, previous at the next; or null */
    int64_t row_inputs, row_gates, row_units, row_out, ahead;    /* from row to row; from these gates to the next step's */
    gate_mask mask;
} gru_step;

INLINE void gru_store(const gru_step *s, int64_t i, int64_t unit, int64_t n, vf h, const int plain)
{
    vstore_n(s->next + i * s->row + unit, h, n);
    if (s->previous) vstore_n(s->previous + i * s->row_units + unit, h, n);
    if (s->out) vstore_n(s->out + i * s->row_out + unit, plain || s->mask.shown[i] ? h : vset(0), n);
}

/* Reset after: `rows` rows and one vector of units from the three products of h in z. */
INLINE void gru_cells(const gru_step *s, vf *z, int64_t row, int64_t unit, int64_t rows, const int64_t activation,
                      const int64_t recurrent_activation, const int plain)
{
    const int64_t units = s->units, n = plain ? VL : least(units - unit, VL);
    vf bias[3] = { vset(0), vset(0), vset(0) };
    for (int g = 0; g < 3 && s->bias; g++) bias[g] = vload_n(s->bias + g * units + unit, n);
    for (int64_t i = 0; i < rows; i++) {                 /* apart from h, so that many rows are under way at once */
        const float *inputs = s->inputs + (row + i) * s->row_inputs + unit;
        if (!plain && !s->mask.active[row + i]) continue;
        z[3 * i] = gate_activate(z[3 * i] + bias[0] + vload_n(inputs, n), recurrent_activation);
        z[3 * i + 1] = gate_activate(z[3 * i + 1] + bias[1] + vload_n(inputs + units, n), recurrent_activation);
    }
    for (int64_t i = 0; i < rows; i++) {
        const float *inputs = s->inputs + (row + i) * s->row_inputs + unit;
        float *gates = s->gates + (row + i) * s->row_gates + unit;
        vf h = vload_n(s->h + (row + i) * s->row + unit, n);
        if (plain || s->mask.active[row + i]) {
            const vf inner = z[3 * i + 2] + bias[2];
            const vf candidate = gate_activate(vfma(z[3 * i + 1], inner, vload_n(inputs + 2 * units, n)), activation);
            h = vfma(z[3 * i], h - candidate, candidate);
            if (s->inner) {
                vstore_n(gates, z[3 * i], n);
                vstore_n(gates + units, z[3 * i + 1], n);
                vstore_n(gates + 2 * units, candidate, n);
                vstore_n(s->inner + (row + i) * s->row_units + unit, inner, n);
            }
        } else if (s->inner) {
            gate_leave(gates, inputs, units, 3, n);
            vstore_n(s->inner + (row + i) * s->row_units + unit, vset(0), n);
        }
        gru_store(s, row + i, unit, n, h, plain);
    }
}

/* Reset before, first part: update gate and reset times h. */
INLINE void gru_reset(const gru_step *s, const vf *z, int64_t row, int64_t unit, int64_t rows)
{
    const int64_t units = s->units, n = least(units - unit, VL);
    for (int64_t i = row; i < row + rows; i++, z += 2) {
        float *gates = s->gates + i * s->row_gates + unit;
        const int64_t at = i * s->row + unit;
        const vf update = gate_activate(z[0] + vload_n(s->inputs + i * s->row_inputs + unit, n), s->recurrent_activation);
        const vf reset = gate_activate(z[1] + vload_n(s->inputs + i * s->row_inputs + units + unit, n), s->recurrent_activation), inner = reset * vload_n(s->used + at, n);
        vstore_n(s->update + at, update, n);
        vstore_n(s->reset + at, inner, n);
        if (!s->inner) continue;
        vstore_n(s->inner + i * s->row_units + unit, s->mask.active[i] ? inner : vset(0), n);
        if (!s->mask.active[i]) continue;
        vstore_n(gates, update, n);
        vstore_n(gates + units, reset, n);
    }
}

/* Reset before, second part: the candidate, from its product in every second vector of z. */
INLINE void gru_candidate(const gru_step *s, const vf *z, int64_t row, int64_t unit, int64_t rows)
{
    const int64_t n = least(s->units - unit, VL);
    for (int64_t i = row; i < row + rows; i++, z += 2) {
        float *gates = s->gates + i * s->row_gates + 2 * s->units + unit;
        vf h = vload_n(s->h + i * s->row + unit, n);
        if (s->mask.active[i]) {
            const vf candidate = gate_activate(*z + vload_n(s->inputs + i * s->row_inputs + 2 * s->units + unit, n), s->activation);
            h = vfma(vload_n(s->update + i * s->row + unit, n), h - candidate, candidate);
            if (s->inner) vstore_n(gates, candidate, n);
        }
        gru_store(s, i, unit, n, h, 0);
    }
}

/* One step of `rows` rows; reset after, for the units of the panels first_panel <= q < last_panel. */
static void gru_rows(const gru_step *s, int64_t rows, int64_t first_panel, int64_t last_panel)
{
    const int64_t units = s->units, width = s->candidate_panels ? 2 : 3, tiles = gate_tiles(rows, width);
    for (int64_t unit = first_panel * GATE_UNITS; unit < least(last_panel * GATE_UNITS, units); unit += VL)
        for (int64_t k = 0; k < tiles; k++) {
            const int64_t row = tile_begin(rows, tiles, k), some = tile_begin(rows, tiles, k + 1) - row;
            const float *used = s->used + row * s->row, *panel = s->panels + unit / GATE_UNITS * units * width * GATE_UNITS + unit % GATE_UNITS;
            vf z[GATE_SUMS];
            if (s->ahead) gate_prefetch(s->gates + s->ahead + row * s->row_gates + unit, s->row_gates, some, units, 3);
            if (width == 2) {
                gate_product2(z, used, s->row, panel, 0, units, some, 0);
                gru_reset(s, z, row, unit, some);
                continue;
            }
            gate_product3(z, used, s->row, panel, 0, units, some, 0);
            if (s->plain) gru_cells(s, z, row, unit, some, ACT_TANH, ACT_SIGMOID, 1);
            else gru_cells(s, z, row, unit, some, s->activation, s->recurrent_activation, 0);
        }
    for (int64_t first = 0; first < units && s->candidate_panels; first = gate_after(first, 1))
        for (int64_t k = 0; k < tiles; k++) {
            const int64_t row = tile_begin(rows, tiles, k), some = tile_begin(rows, tiles, k + 1) - row;
            vf z[GATE_SUMS];
            gate_product2(z, s->reset + row * s->row, s->row, s->candidate_panels + first / PANEL * PANEL * units + first % PANEL, 0, units, some, 0);
            for (int64_t v = 0, unit = first; v < 2 && unit < units; v++, unit += GATE_UNITS) gru_candidate(s, z + v, row, unit, some);
        }
}

/* All time steps of a layer.  One item: a block of rows. */
KERNEL(gru, pieces(a->batch, a->block), a->block * (double)a->time * a->units * (3 * a->units / 6.0 + 32),
    float *out;           /* (batch, time, units) in the order of the steps; without `sequences` (batch, units), the last */
    float *last_h;        /* (batch, units) */
    OPTIONAL float *gates;               /* (batch, time, 3, units): before, but with x, what the inputs give; after, with inner, the gates
                                            where not masked */
    OPTIONAL float *previous;            /* (batch, time, units): h before each step */
    OPTIONAL float *inner;               /* (batch, time, units): the candidate's h @ U + bias; reset before: reset times h; 0 where masked */
    OPTIONAL const float *x;             /* (batch, time, features): what the inputs give is made here */
    OPTIONAL const float *kernel;        /* (features, 3 units) by pack */
    OPTIONAL const float *input_bias;    /* (3, units) */
    const float *panels;                 /* of recurrent_kernel, by pack_gates: three gates; reset before: two */
    OPTIONAL const float *candidate_panels;   /* reset before: of the candidate's (units, units), by pack */
    OPTIONAL const float *bias;          /* (3, units): of the products of h; reset after only */
    OPTIONAL const float *initial_h;     /* (batch, units) */
    OPTIONAL const uint8_t *mask;        /* (batch, time): 0 keeps the state */
    OPTIONAL const float *recurrent_mask;   /* (batch, units): h is multiplied by it for the products */
    int64_t batch;
    int64_t time;
    int64_t features;     /* of x */
    int64_t units;
    int64_t block;        /* rows of an item, at most BLOCK_MOST; block * units at most 32768 */
    int64_t sequences;
    int64_t zero_masked;  /* the output of a masked step is 0; otherwise the one before */
    int64_t backwards;    /* the last time first */
    int64_t activation;
    int64_t recurrent_activation;)
{
    const int64_t units = a->units, time = a->time, row = gate_stride(units), row_z = gate_stride(3 * units), ahead = a->backwards ? -1 : 1;
    for (int64_t k = begin; k < end; k++) {
        const int64_t first = k * a->block, rows = least(a->batch - first, a->block), size = rows * row;
        float *h = (float *)worker->scratch, *next = h + size, *used = next + size;
        const float *scale = a->recurrent_mask ? a->recurrent_mask + first * units : 0;
        gru_step s = { .panels = a->panels, .candidate_panels = a->candidate_panels, .bias = a->bias, .units = units, .row = row,
                       .update = used + size, .reset = used + 2 * size, .row_inputs = a->x ? row_z : time * 3 * units, .row_gates = time * 3 * units, .row_units = time * units,
                       .row_out = time * units, .activation = a->activation, .recurrent_activation = a->recurrent_activation,
                       .plain = gate_plain(a->activation, a->recurrent_activation, units, a->mask) };
        gate_copy(h, row, a->initial_h ? a->initial_h + first * units : 0, units, rows, units);
        gate_run run = { .rows = rows, .time = time, .backwards = a->backwards };
        float *inputs = used + 3 * size;
        for (int64_t step = 0; step < time; step++) {
            if (a->x && step == run.first + run.steps) {
                run.first = step, run.steps = least(gate_run_steps(rows, 3 * units), time - step);
                gate_project(&run, inputs, row_z, a->x + first * time * a->features, a->kernel, a->input_bias, a->features, 3 * units);
            }
            if (a->x) gate_fetch(&run, a->x + first * time * a->features, a->features, step + run.steps);
            const int64_t t = a->backwards ? time - 1 - step : step, place = first * time + t, more = step + 1 < time;
            gate_mask_step(&s.mask, a->mask ? a->mask + place : 0, time, rows, a->zero_masked);
            if (a->previous && !step) gate_copy(a->previous + place * units, time * units, h, row, rows, units);
            if (scale) gate_scale(used, h, row, scale, rows, units);
            s.used = scale ? used : h, s.h = h, s.next = next;
            s.gates = a->gates ? a->gates + place * 3 * units : 0, s.ahead = a->gates ? more * ahead * 3 * units : 0;
            s.inputs = a->x ? inputs + (step - run.first) * rows * row_z : s.gates;
            s.inner = a->inner ? a->inner + place * units : 0;
            s.previous = a->previous && more ? a->previous + (place + ahead) * units : 0;
            s.out = a->sequences ? a->out + (first * time + step) * units : 0;
            gru_rows(&s, rows, 0, pieces(units, GATE_UNITS));
            float *swap = h; h = next; next = swap;
        }
        gate_copy(a->last_h + first * units, units, h, row, rows, units);
        if (!a->sequences) gate_last(a->out + first * units, h, row, &s.mask, rows, units);
    }
}

/* One step of a layer without masks, reset after, for few rows.  One item: a panel of 16 units. */
KERNEL(gru_units, pieces(a->units, GATE_UNITS), 3.0 * GATE_UNITS * a->units * (a->batch / 6.0 + 0.5),
    float *next;          /* (batch, units): h after the step */
    float *gates;         /* (batch, time, 3, units): before, what the inputs give; after, with inner, the gates */
    OPTIONAL float *out;                 /* (batch, time, units) in the order of the steps; without `sequences` (batch, units), the last */
    OPTIONAL float *previous;            /* (batch, time, units): h before each step */
    OPTIONAL float *inner;               /* (batch, time, units): the candidate's h @ U + bias */
    const float *h;                      /* (batch, units) */
    const float *panels;                 /* of recurrent_kernel, by pack_gates */
    OPTIONAL const float *bias;          /* (3, units): of the products of h */
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
    gru_step s = { .panels = a->panels, .bias = a->bias, .units = units, .used = a->h, .h = a->h, .next = a->next, .row = units,
                   .inputs = a->gates + t * 3 * units, .row_inputs = time * 3 * units,
                   .gates = a->gates + t * 3 * units, .inner = a->inner ? a->inner + t * units : 0, .row_gates = time * 3 * units,
                   .previous = a->previous && !last ? a->previous + t * units + ahead : 0, .row_units = time * units, .ahead = 3 * ahead,
                   .out = a->sequences ? a->out + a->step * units : last ? a->out : 0, .row_out = a->sequences ? time * units : units,
                   .activation = a->activation, .recurrent_activation = a->recurrent_activation,
                   .plain = gate_plain(a->activation, a->recurrent_activation, units, 0) };
    gate_mask_step(&s.mask, 0, time, a->batch, 0);
    if (a->previous && !a->step) gate_copy(a->previous + t * units + first, time * units, a->h + first, units, a->batch, some);
    gru_rows(&s, a->batch, begin, end);
}

/* ---- backward ---- */

typedef struct gru_back {                /* a step of a block, backwards, from the block's first row */
    const float *panels, *candidate_panels;
    int64_t units, activation, recurrent_activation, plain, final;   /* final: before the first step */
    const float *late, *scale, *d_out;   /* d_z of the step after; h's mask; d_out; or null */
    float *d_h, *d_z, *d_gates;          /* (rows, units): what is to be added; (rows, 3, units) of the products of h; of those of x where */
    int64_t row, row_z;                  /* they differ, or null; floats from row to row of these, and of late */
    const float *gates, *inner, *previous;   /* of this time */
    float *d_bias, *d_scale;             /* (2, 3, units), added to; the mask's gradient, added to, or null */
    int64_t row_gates, row_units, row_out, back, ahead;   /* from row to row; to the step before, in units; whether there is one */
    gate_mask mask;
} gru_back;

/* The gradient of used, an addend d of that of h: times the mask. The mask's own gradient is added to at h. */
INLINE vf gru_unscale(const gru_back *s, vf d, const float *h, int64_t i, int64_t unit, int64_t n)
{
    float *d_scale = s->d_scale + i * s->units + unit;
    if (s->d_scale) vstore_n(d_scale, vfma(d, vload_n(h, n), vload_n(d_scale, n)), n);
    return d * vload_n(s->scale + i * s->units + unit, n);
}

/* From the products z of the gradients of the step after with recurrent_kernel: those of the sums of the gates, but not, reset
   before, of the reset gate. */
INLINE void gru_cells_grad(const gru_back *s, const vf *z, int64_t row, int64_t unit, int64_t rows, const int64_t activation,
                           const int64_t recurrent_activation, const int plain)
{
    const int64_t units = s->units, n = plain ? VL : least(units - unit, VL), after_product = !s->candidate_panels;
    vf sum[4];                                           /* update, reset, candidate, the candidate's product of h */
    for (int g = 0; g < 4; g++) sum[g] = vload_n(s->d_bias + (g < 3 ? g : 5) * units + unit, n);
    for (int64_t i = row; i < row + rows; i++, z += 2) {
        const int64_t at = i * s->row + unit, here = i * s->row_units + unit;
        vf d_h = vload_n(s->d_h + at, n);
        if (s->late) d_h = d_h + (s->scale ? gru_unscale(s, *z, s->previous - s->back + here, i, unit, n) : *z);
        if (s->final) {
            vstore_n(s->d_h + at, d_h, n);
            continue;
        }
        if (s->d_out && (plain || s->mask.shown[i])) d_h = d_h + vload_n(s->d_out + i * s->row_out + unit, n);
        const vf h = vload_n(s->previous + here, n);
        vf d[4] = { vset(0), vset(0), vset(0), vset(0) };
        if (plain || s->mask.active[i]) {
            const float *gates = s->gates + i * s->row_gates + unit;
            const vf update = vload_n(gates, n), reset = vload_n(gates + units, n), candidate = vload_n(gates + 2 * units, n);
            d[0] = d_h * (h - candidate) * slope(update, recurrent_activation);
            d[2] = d_h * (vset(1) - update) * slope(candidate, activation);
            if (after_product) {
                d[1] = d[2] * vload_n(s->inner + here, n) * slope(reset, recurrent_activation);
                d[3] = d[2] * reset;
            }
            d_h = d_h * update;
        }
        vstore_n(s->d_h + at, d_h, n);                   /* the rest of it goes through the gates */
        for (int g = 0; g < 3; g++) {
            vstore_n(s->d_z + i * s->row_z + g * units + unit, d[g == 2 && after_product ? 3 : g], n);
            if (after_product) vstore_n(s->d_gates + i * s->row_z + g * units + unit, d[g], n);
        }
        for (int g = 0; g < 4; g++) sum[g] = sum[g] + d[g];
    }
    for (int g = 0; g < 4 && !s->final; g++) vstore_n(s->d_bias + (g < 3 ? g : 5) * units + unit, sum[g], n);
}

/* Reset before: the reset gate, from the product z of the candidate's gradient with its part of recurrent_kernel. */
INLINE void gru_reset_grad(const gru_back *s, const vf *z, int64_t row, int64_t unit, int64_t rows)
{
    const int64_t units = s->units, n = least(units - unit, VL);
    vf sum = vload_n(s->d_bias + units + unit, n);
    for (int64_t i = row; i < row + rows; i++, z += 2) {
        if (!s->mask.active[i]) continue;
        const int64_t at = i * s->row + unit, here = i * s->row_units + unit;
        const vf reset = vload_n(s->gates + i * s->row_gates + units + unit, n);
        vf used = vload_n(s->previous + here, n);
        if (s->scale) used = used * vload_n(s->scale + i * units + unit, n);
        const vf d = *z * used * slope(reset, s->recurrent_activation), d_used = *z * reset;
        vstore_n(s->d_h + at, vload_n(s->d_h + at, n) + (s->scale ? gru_unscale(s, d_used, s->previous + here, i, unit, n) : d_used), n);
        vstore_n(s->d_z + i * s->row_z + units + unit, d, n);
        sum = sum + d;
    }
    vstore_n(s->d_bias + units + unit, sum, n);
}

/* One step of `rows` rows; reset after, for the units of the panels of 32 units first_panel <= q < last_panel. */
static void gru_rows_grad(const gru_back *s, int64_t rows, int64_t first_panel, int64_t last_panel)
{
    const int64_t units = s->units, tiles = gate_tiles(rows, 2), depth = s->candidate_panels ? 2 * units : 3 * units;
    for (int64_t first = first_panel * PANEL; first < least(last_panel * PANEL, units); first = gate_after(first, 1))
        for (int64_t k = 0; k < tiles; k++) {
            const int64_t row = tile_begin(rows, tiles, k), some = tile_begin(rows, tiles, k + 1) - row;
            vf z[GATE_SUMS];
            for (int64_t unit = first; unit < least(first + PANEL, units) && s->ahead; unit += GATE_UNITS) {
                gate_prefetch(s->gates + 3 * s->back + row * s->row_gates + unit, s->row_gates, some, units, 3);
                gate_prefetch(s->inner + s->back + row * s->row_units + unit, s->row_units, some, 0, 1);
                gate_prefetch(s->previous + s->back + row * s->row_units + unit, s->row_units, some, 0, 1);
                if (s->d_out) gate_prefetch(s->d_out - units + row * s->row_out + unit, s->row_out, some, 0, 1);
            }
            if (s->late) gate_product2(z, s->late + row * s->row_z, s->row_z, s->panels + first / PANEL * PANEL * depth + first % PANEL, 0, depth, some, 0);
            for (int64_t v = 0, unit = first; v < 2 && unit < units; v++, unit += GATE_UNITS)
                if (s->plain) gru_cells_grad(s, z + v, row, unit, some, ACT_TANH, ACT_SIGMOID, 1);
                else gru_cells_grad(s, z + v, row, unit, some, s->activation, s->recurrent_activation, 0);
        }
    for (int64_t first = 0; first < units && s->candidate_panels && !s->final; first = gate_after(first, 1))
        for (int64_t k = 0; k < tiles; k++) {
            const int64_t row = tile_begin(rows, tiles, k), some = tile_begin(rows, tiles, k + 1) - row;
            vf z[GATE_SUMS];
            const float *panel = s->candidate_panels + first / PANEL * PANEL * units + first % PANEL;
            gate_product2(z, s->d_z + row * s->row_z + 2 * units, s->row_z, panel, 0, units, some, 0);
            for (int64_t v = 0, unit = first; v < 2 && unit < units; v++, unit += GATE_UNITS) gru_reset_grad(s, z + v, row, unit, some);
        }
}

/* Gradients of the sums of the gates at all times, or all that is made of them.  One item: a block of rows. */
KERNEL(gru_grad, pieces(a->batch, a->block), a->block * (double)a->time * a->units * (3 * a->units / 6.0 + 32),
    OPTIONAL float *d_gates;             /* (batch, time, 3, units): of x @ W + bias */
    OPTIONAL float *d_recurrent;         /* (batch, time, 3, units): of h @ U + bias; reset after only */
    OPTIONAL float *d_x;                 /* (batch, time, features) */
    OPTIONAL float *d_kernel;            /* (blocks, features, 3, units): each block's share */
    OPTIONAL float *d_recurrent_kernel;  /* (blocks, units, 3, units): each block's share; reset after only */
    float *d_initial_h;   /* (batch, units) */
    float *d_bias;        /* (blocks, 2, 3, units): each block's share of the two; reset before, the first */
    OPTIONAL float *d_recurrent_mask;    /* (batch, units) */
    const float *d_out;                  /* (batch, time, units) in the order of the steps; without `sequences` (batch, units) */
    const float *d_last_h;               /* (batch, units) */
    const float *gates;                  /* (batch, time, 3, units) */
    const float *previous;               /* (batch, time, units) */
    const float *inner;                  /* (batch, time, units) */
    OPTIONAL const float *x;             /* (batch, time, features): for d_kernel */
    OPTIONAL const float *kernel;        /* transposed, (3 units, features), by pack: for d_x */
    const float *panels;                 /* of recurrent_kernel transposed, by pack: (3 units, units); reset before: (2 units, units) */
    OPTIONAL const float *candidate_panels;   /* reset before: of the candidate's, transposed, (units, units), by pack */
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
    int64_t recurrent_activation;)
{
    const int64_t units = a->units, columns = 3 * units, time = a->time, features = a->features, row = gate_stride(units), row_z = gate_stride(columns);
    const int64_t back = a->backwards ? units : -units;
    for (int64_t k = begin; k < end; k++) {
        const int64_t first = k * a->block, rows = least(a->batch - first, a->block), steps = gate_run_steps(rows, columns), size = rows * row_z;
        float *d_h = (float *)worker->scratch, *d_z = d_h + rows * row, *d_gates = a->candidate_panels ? d_z : d_z + steps * size;
        float *copy = d_gates + steps * size;
        const float *scale = a->recurrent_mask ? a->recurrent_mask + first * units : 0;
        gru_back s = { .panels = a->panels, .candidate_panels = a->candidate_panels, .units = units, .d_h = d_h, .row = row, .row_z = row_z,
                       .scale = scale, .d_bias = a->d_bias + k * 2 * columns, .row_gates = time * columns, .row_units = time * units,
                       .row_out = time * units, .d_scale = scale && a->d_recurrent_mask ? a->d_recurrent_mask + first * units : 0,
                       .activation = a->activation, .recurrent_activation = a->recurrent_activation,
                       .plain = gate_plain(a->activation, a->recurrent_activation, units, a->mask) };
        gate_mask_start(&s.mask, a->mask ? a->mask + first * time : 0, time, rows, a->backwards);
        memset(s.d_bias, 0, (size_t)(2 * columns) * sizeof(float));
        if (s.d_scale) memset(s.d_scale, 0, (size_t)(rows * units) * sizeof(float));
        gate_copy(d_h, row, a->d_last_h + first * units, units, rows, units);
        if (!a->sequences) gate_last_grad(d_h, row, a->d_out + first * units, &s.mask, time, rows, units);
        gate_run run = { .first = time, .rows = rows, .time = time, .backwards = a->backwards };
        for (int64_t step = time - 1; step >= -1; step--) {
            const int64_t t = a->backwards ? time - 1 - step : step, place = first * time + t;
            s.final = step < 0, s.late = step + 1 < time ? d_z + (step + 1) % steps * size : 0;
            s.previous = a->previous + place * units, s.inner = a->inner + place * units;
            if (!s.final) {
                gate_mask_back(&s.mask, a->mask ? a->mask + place : 0, time, rows, a->zero_masked, step);
                s.d_out = a->sequences ? a->d_out + (first * time + step) * units : 0;
                s.gates = a->gates + place * columns, s.d_z = d_z + step % steps * size, s.d_gates = d_gates + step % steps * size;
            }
            s.back = back, s.ahead = step > 0;
            gru_rows_grad(&s, rows, 0, pieces(units, PANEL));
            if (step < 0 || step % steps) continue;
            run.steps = run.first - step, run.first = step;
            if (a->d_gates) gate_spill(&run, a->d_gates + first * time * columns, a->batch * time * columns, d_gates, row_z, columns);
            if (a->d_recurrent) gate_spill(&run, a->d_recurrent + first * time * columns, a->batch * time * columns, d_z, row_z, columns);
            if (a->d_x) gate_project_d_x(&run, a->d_x + first * time * features, d_gates, row_z, a->kernel, features, columns);
            if (a->d_kernel)
                gate_weight_grad(&run, a->d_kernel + k * features * columns, a->x + first * time * features, 0, features, d_gates, row_z, columns, copy);
            if (a->d_recurrent_kernel)
                gate_weight_grad(&run, a->d_recurrent_kernel + k * units * columns, a->previous + first * time * units, scale, units, d_z, row_z,
                                 columns, copy);
        }
        memcpy(s.d_bias + columns, s.d_bias, (size_t)(2 * units) * sizeof(float));
        gate_copy(a->d_initial_h + first * units, units, d_h, row, rows, units);
    }
}

/* One step of gru_units, backwards; step -1 gives the gradient of the first h.  One item: a panel of 32 units. */
KERNEL(gru_units_grad, pieces(a->units, PANEL), 3.0 * PANEL * a->units * (a->batch / 6.0 + 0.5),
    float *d_gates;       /* (batch, time, 3, units): of x @ W + bias, those of this step */
    float *d_recurrent;   /* (batch, time, 3, units): of h @ U + bias, those of this step from those of the one after */
    float *d_h;           /* (batch, units): before the last step, what arrives at the last h; after step -1, of the first */
    float *d_bias;        /* (2, 3, units): added to, but at the last step; after step -1 the second is whole, too */
    OPTIONAL const float *d_out;         /* (batch, time, units) in the order of the steps */
    const float *gates;                  /* (batch, time, 3, units) */
    const float *previous;               /* (batch, time, units) */
    const float *inner;                  /* (batch, time, units) */
    const float *panels;                 /* of recurrent_kernel transposed, (3 units, units), by pack */
    int64_t batch;
    int64_t time;
    int64_t units;
    int64_t step;
    int64_t backwards;
    int64_t activation;
    int64_t recurrent_activation;)
{
    const int64_t units = a->units, columns = 3 * units, time = a->time, step = a->step, t = a->backwards ? time - 1 - step : step;
    const int64_t back = a->backwards ? units : -units, last = step == time - 1, first = begin * PANEL, some = least(end * PANEL, units) - first;
    gru_back s = { .panels = a->panels, .units = units, .final = step < 0, .late = last ? 0 : a->d_recurrent + t * columns - 3 * back,
                   .d_h = a->d_h, .row = units, .row_z = time * columns, .d_bias = a->d_bias, .row_gates = time * columns,
                   .row_units = time * units, .row_out = time * units, .back = back, .ahead = step > 0,
                   .activation = a->activation, .recurrent_activation = a->recurrent_activation,
                   .plain = gate_plain(a->activation, a->recurrent_activation, units, 0) };
    gate_mask_step(&s.mask, 0, time, a->batch, 0);
    for (int64_t g = 0; g < 6 && last; g++) memset(a->d_bias + g * units + first, 0, (size_t)some * sizeof(float));
    if (step >= 0) {
        s.gates = a->gates + t * columns, s.previous = a->previous + t * units, s.inner = a->inner + t * units;
        s.d_gates = a->d_gates + t * columns, s.d_z = a->d_recurrent + t * columns, s.d_out = a->d_out ? a->d_out + step * units : 0;
    }
    gru_rows_grad(&s, a->batch, begin, end);
    for (int64_t g = 0; g < 2 && step < 0; g++)
        memcpy(a->d_bias + columns + g * units + first, a->d_bias + g * units + first, (size_t)some * sizeof(float));
}
