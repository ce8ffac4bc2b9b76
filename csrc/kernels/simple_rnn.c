/* The simple recurrent layer (Elman 1990): h = activation(x @ W + b + h @ U). As in lstm.c, `y` holds the projection of
   the inputs when the recurrence starts, and an item is a block of batch rows that goes through all time steps. */
#include "gates.h"

typedef struct simple_step {             /* what a step of a block works on, from the block's first row */
    const float *panels;
    int64_t units, activation, keep;
    const float *used, *h;               /* (rows, units): h times the mask, h */
    float *next;
    int64_t row;                         /* floats from row to row of these */
    const float *inputs;                 /* (rows, units): what the inputs give; may be y */
    float *y, *out, *previous;           /* at this time, previous at the next; or null */
    int64_t row_inputs, row_units, row_out, ahead;   /* from row to row; from these inputs to the next step's */
    gate_mask mask;
} simple_step;

/* One step of `rows` rows for the units of the panels of 32 units first_panel <= q < last_panel. */
static void simple_rows(const simple_step *s, int64_t rows, int64_t first_panel, int64_t last_panel)
{
    const int64_t units = s->units, tiles = gate_tiles(rows, 2);
    for (int64_t first = first_panel * PANEL; first < least(last_panel * PANEL, units); first = gate_after(first, 1))
        for (int64_t k = 0; k < tiles; k++) {
            const int64_t row = tile_begin(rows, tiles, k), some = tile_begin(rows, tiles, k + 1) - row;
            vf z[GATE_SUMS];
            if (s->ahead)
                for (int64_t unit = first; unit < least(first + PANEL, units); unit += GATE_UNITS)
                    gate_prefetch(s->y + s->ahead + row * s->row_units + unit, s->row_units, some, 0, 1);
            gate_product2(z, s->used + row * s->row, s->row, s->panels + first / PANEL * PANEL * units + first % PANEL, 0, units, some, 0);
            for (int64_t v = 0, unit = first; v < 2 && unit < units; v++, unit += GATE_UNITS)
                for (int64_t i = row, n = least(units - unit, VL); i < row + some; i++) {
                    vf h;
                    if (s->mask.active[i]) {
                        h = gate_activate(z[2 * (i - row) + v] + vload_n(s->inputs + i * s->row_inputs + unit, n), s->activation);
                        if (s->keep) vstore_n(s->y + i * s->row_units + unit, h, n);
                    } else {
                        if (s->keep) gate_leave(s->y + i * s->row_units + unit, s->inputs + i * s->row_inputs + unit, units, 1, n);
                        h = vload_n(s->h + i * s->row + unit, n);
                    }
                    vstore_n(s->next + i * s->row + unit, h, n);
                    if (s->previous) vstore_n(s->previous + i * s->row_units + unit, h, n);
                    if (s->out) vstore_n(s->out + i * s->row_out + unit, s->mask.shown[i] ? h : vset(0), n);
                }
        }
}

/* All time steps of a layer.  One item: a block of rows. */
KERNEL(simple_rnn, pieces(a->batch, a->block), a->block * (double)a->time * a->units * (a->units / 6.0 + 12),
    float *out;           /* (batch, time, units) in the order of the steps; without `sequences` (batch, units), the last */
    float *last_h;        /* (batch, units) */
    OPTIONAL float *y;                   /* (batch, time, units): before, but with x, what the inputs give; after, with previous, h where not
                                            masked */
    OPTIONAL float *previous;            /* (batch, time, units): h before each step */
    OPTIONAL const float *x;             /* (batch, time, features): what the inputs give is made here */
    OPTIONAL const float *kernel;        /* (features, units) by pack */
    OPTIONAL const float *bias;          /* (units) */
    const float *panels;                 /* of recurrent_kernel (units, units), by pack */
    OPTIONAL const float *initial_h;     /* (batch, units) */
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
    int64_t activation;)
{
    const int64_t units = a->units, time = a->time, row = gate_stride(units), ahead = a->backwards ? -units : units;
    for (int64_t k = begin; k < end; k++) {
        const int64_t first = k * a->block, rows = least(a->batch - first, a->block);
        float *h = (float *)worker->scratch, *next = h + rows * row, *used = next + rows * row;
        const float *scale = a->recurrent_mask ? a->recurrent_mask + first * units : 0;
        simple_step s = { .panels = a->panels, .units = units, .activation = a->activation, .row = row, .row_units = time * units,
                          .row_inputs = a->x ? row : time * units, .row_out = time * units, .keep = a->previous != 0 };
        gate_copy(h, row, a->initial_h ? a->initial_h + first * units : 0, units, rows, units);
        gate_run run = { .rows = rows, .time = time, .backwards = a->backwards };
        float *inputs = used + rows * row;
        for (int64_t step = 0; step < time; step++) {
            if (a->x && step == run.first + run.steps) {
                run.first = step, run.steps = least(gate_run_steps(rows, units), time - step);
                gate_project(&run, inputs, row, a->x + first * time * a->features, a->kernel, a->bias, a->features, units);
            }
            if (a->x) gate_fetch(&run, a->x + first * time * a->features, a->features, step + run.steps);
            const int64_t t = a->backwards ? time - 1 - step : step, place = first * time + t, more = step + 1 < time;
            gate_mask_step(&s.mask, a->mask ? a->mask + place : 0, time, rows, a->zero_masked);
            if (a->previous && !step) gate_copy(a->previous + place * units, time * units, h, row, rows, units);
            if (scale) gate_scale(used, h, row, scale, rows, units);
            s.used = scale ? used : h, s.h = h, s.next = next, s.y = a->y ? a->y + place * units : 0, s.ahead = a->y ? more * ahead : 0;
            s.inputs = a->x ? inputs + (step - run.first) * rows * row : s.y;
            s.previous = a->previous && more ? a->previous + place * units + ahead : 0;
            s.out = a->sequences ? a->out + (first * time + step) * units : 0;
            simple_rows(&s, rows, 0, pieces(units, PANEL));
            float *swap = h; h = next; next = swap;
        }
        gate_copy(a->last_h + first * units, units, h, row, rows, units);
        if (!a->sequences) gate_last(a->out + first * units, h, row, &s.mask, rows, units);
    }
}

/* One step of a layer without masks, for few rows.  One item: a panel of 32 units. */
KERNEL(simple_rnn_units, pieces(a->units, PANEL), (double)PANEL * a->units * (a->batch / 6.0 + 0.5),
    float *next;          /* (batch, units): h after the step */
    float *y;             /* (batch, time, units): before, what the inputs give; after, with previous, h */
    OPTIONAL float *out;                 /* (batch, time, units) in the order of the steps; without `sequences` (batch, units), the last */
    OPTIONAL float *previous;            /* (batch, time, units): h before each step */
    const float *h;                      /* (batch, units) */
    const float *panels;                 /* of recurrent_kernel (units, units), by pack */
    int64_t batch;        /* at most BLOCK_MOST */
    int64_t time;
    int64_t units;
    int64_t step;
    int64_t sequences;
    int64_t backwards;
    int64_t activation;)
{
    const int64_t units = a->units, time = a->time, t = a->backwards ? time - 1 - a->step : a->step, last = a->step == time - 1;
    const int64_t ahead = last ? 0 : a->backwards ? -units : units, first = begin * PANEL, some = least(end * PANEL, units) - first;
    simple_step s = { .panels = a->panels, .units = units, .activation = a->activation, .keep = a->previous != 0, .used = a->h, .h = a->h,
                      .next = a->next, .row = units, .inputs = a->y + t * units, .y = a->y + t * units, .row_inputs = time * units,
                      .row_units = time * units, .ahead = ahead,
                      .previous = a->previous && !last ? a->previous + t * units + ahead : 0,
                      .out = a->sequences ? a->out + a->step * units : last ? a->out : 0, .row_out = a->sequences ? time * units : units };
    gate_mask_step(&s.mask, 0, time, a->batch, 0);
    if (a->previous && !a->step) gate_copy(a->previous + t * units + first, time * units, a->h + first, units, a->batch, some);
    simple_rows(&s, a->batch, begin, end);
}

/* ---- backward ---- */

typedef struct simple_back {             /* a step of a block, backwards, from the block's first row */
    const float *panels;
    int64_t units, activation, final;    /* final: before the first step */
    const float *late, *scale, *d_out;   /* d_z of the step after; h's mask; d_out; or null */
    float *d_h, *d_z;                    /* (rows, units): what is to be added; of this step */
    int64_t row, row_z;                  /* floats from row to row of d_h; of d_z and late */
    const float *y, *previous;           /* of this time; h before the step after */
    float *d_bias, *d_scale;             /* (units), added to; the mask's gradient, added to, or null */
    int64_t row_units, row_out, ahead;   /* from row to row; from this y to that of the step before, or 0 */
    gate_mask mask;
} simple_back;

INLINE void simple_cells_grad(const simple_back *s, const vf *z, int64_t row, int64_t unit, int64_t rows)
{
    const int64_t units = s->units, n = least(units - unit, VL);
    vf sum = vload_n(s->d_bias + unit, n);
    for (int64_t i = row; i < row + rows; i++, z += 2) {
        float *d_h = s->d_h + i * s->row + unit, *d_scale = s->d_scale + i * units + unit;
        vf d = s->late ? *z : vset(0), d_z = vset(0);
        if (s->scale && s->late) {
            if (s->d_scale) vstore_n(d_scale, vfma(d, vload_n(s->previous + i * s->row_units + unit, n), vload_n(d_scale, n)), n);
            d = d * vload_n(s->scale + i * units + unit, n);
        }
        d = d + vload_n(d_h, n);
        if (!s->final) {
            if (s->d_out && s->mask.shown[i]) d = d + vload_n(s->d_out + i * s->row_out + unit, n);
            if (s->mask.active[i]) d_z = d * slope(vload_n(s->y + i * s->row_units + unit, n), s->activation), d = vset(0);
            sum = sum + d_z;
            vstore_n(s->d_z + i * s->row_z + unit, d_z, n);
        }
        vstore_n(d_h, d, n);                             /* h of a masked step comes from the step before: there d stays */
    }
    vstore_n(s->d_bias + unit, sum, n);
}

/* One step of `rows` rows for the units of the panels of 32 units first <= q < last. */
static void simple_rows_grad(const simple_back *s, int64_t rows, int64_t first, int64_t last)
{
    const int64_t units = s->units, tiles = gate_tiles(rows, 2);
    for (int64_t start = first * PANEL; start < least(last * PANEL, units); start = gate_after(start, 1))
        for (int64_t k = 0; k < tiles; k++) {
            const int64_t row = tile_begin(rows, tiles, k), some = tile_begin(rows, tiles, k + 1) - row;
            vf z[GATE_SUMS];
            for (int64_t unit = start; unit < least(start + PANEL, units) && s->ahead; unit += GATE_UNITS)
                gate_prefetch(s->y + s->ahead + row * s->row_units + unit, s->row_units, some, 0, 1);
            if (s->late)
                gate_product2(z, s->late + row * s->row_z, s->row_z, s->panels + start / PANEL * PANEL * units + start % PANEL, 0, units, some, 0);
            for (int64_t v = 0, unit = start; v < 2 && unit < units; v++, unit += GATE_UNITS) simple_cells_grad(s, z + v, row, unit, some);
        }
}

/* Gradients of the sums at all times, or all that is made of them.  One item: a block of rows. */
KERNEL(simple_rnn_grad, pieces(a->batch, a->block), a->block * (double)a->time * a->units * (a->units / 6.0 + 8),
    OPTIONAL float *d_inputs;            /* (batch, time, units) */
    OPTIONAL float *d_x;                 /* (batch, time, features) */
    OPTIONAL float *d_kernel;            /* (blocks, features, units): each block's share */
    OPTIONAL float *d_recurrent_kernel;  /* (blocks, units, units): each block's share */
    float *d_initial_h;   /* (batch, units) */
    float *d_bias;        /* (blocks, units): each block's share */
    OPTIONAL float *d_recurrent_mask;    /* (batch, units) */
    const float *d_out;                  /* (batch, time, units) in the order of the steps; without `sequences` (batch, units) */
    const float *d_last_h;               /* (batch, units) */
    const float *y;                      /* (batch, time, units): h after each step that is not masked */
    const float *previous;               /* (batch, time, units) */
    OPTIONAL const float *x;             /* (batch, time, features): for d_kernel */
    OPTIONAL const float *kernel;        /* transposed, (units, features), by pack: for d_x */
    const float *panels;                 /* of recurrent_kernel transposed, by pack */
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
    int64_t activation;)
{
    const int64_t units = a->units, time = a->time, features = a->features, row = gate_stride(units), back = a->backwards ? units : -units;
    for (int64_t k = begin; k < end; k++) {
        const int64_t first = k * a->block, rows = least(a->batch - first, a->block), steps = gate_run_steps(rows, units), size = rows * row;
        float *d_h = (float *)worker->scratch, *d_z = d_h + size, *copy = d_z + steps * size;
        const float *scale = a->recurrent_mask ? a->recurrent_mask + first * units : 0;
        simple_back s = { .panels = a->panels, .units = units, .activation = a->activation, .scale = scale, .d_h = d_h, .row = row, .row_z = row,
                          .d_bias = a->d_bias + k * units, .row_units = time * units, .row_out = time * units,
                          .d_scale = scale && a->d_recurrent_mask ? a->d_recurrent_mask + first * units : 0 };
        gate_mask_start(&s.mask, a->mask ? a->mask + first * time : 0, time, rows, a->backwards);
        memset(s.d_bias, 0, (size_t)units * sizeof(float));
        if (s.d_scale) memset(s.d_scale, 0, (size_t)(rows * units) * sizeof(float));
        gate_copy(d_h, row, a->d_last_h + first * units, units, rows, units);
        if (!a->sequences) gate_last_grad(d_h, row, a->d_out + first * units, &s.mask, time, rows, units);
        gate_run run = { .first = time, .rows = rows, .time = time, .backwards = a->backwards };
        for (int64_t step = time - 1; step >= -1; step--) {
            const int64_t t = a->backwards ? time - 1 - step : step, place = first * time + t;
            s.final = step < 0, s.late = step + 1 < time ? d_z + (step + 1) % steps * size : 0, s.ahead = step > 0 ? back : 0;
            s.previous = a->previous + place * units - back;
            if (!s.final) {
                gate_mask_back(&s.mask, a->mask ? a->mask + place : 0, time, rows, a->zero_masked, step);
                s.d_out = a->sequences ? a->d_out + (first * time + step) * units : 0;
                s.y = a->y + place * units, s.d_z = d_z + step % steps * size;
            }
            simple_rows_grad(&s, rows, 0, pieces(units, PANEL));
            if (step < 0 || step % steps) continue;
            run.steps = run.first - step, run.first = step;
            if (a->d_inputs) gate_spill(&run, a->d_inputs + first * time * units, a->batch * time * units, d_z, row, units);
            if (a->d_x) gate_project_d_x(&run, a->d_x + first * time * features, d_z, row, a->kernel, features, units);
            if (a->d_kernel)
                gate_weight_grad(&run, a->d_kernel + k * features * units, a->x + first * time * features, 0, features, d_z, row, units, copy);
            if (a->d_recurrent_kernel)
                gate_weight_grad(&run, a->d_recurrent_kernel + k * units * units, a->previous + first * time * units, scale, units, d_z, row, units, copy);
        }
        gate_copy(a->d_initial_h + first * units, units, d_h, row, rows, units);
    }
}

/* One step of simple_rnn_units, backwards; step -1 gives the gradient of the first h.  One item: a panel of 32 units. */
KERNEL(simple_rnn_units_grad, pieces(a->units, PANEL), (double)PANEL * a->units * (a->batch / 6.0 + 0.5),
    float *d_inputs;      /* (batch, time, units): those of this step from those of the one after */
    float *d_h;           /* (batch, units): before the last step, what arrives at the last h; after step -1, of the first */
    float *d_bias;        /* (units): added to, but at the last step */
    OPTIONAL const float *d_out;         /* (batch, time, units) in the order of the steps */
    const float *y;                      /* (batch, time, units) */
    const float *panels;                 /* of recurrent_kernel transposed, by pack */
    int64_t batch;
    int64_t time;
    int64_t units;
    int64_t step;
    int64_t backwards;
    int64_t activation;)
{
    const int64_t units = a->units, time = a->time, step = a->step, t = a->backwards ? time - 1 - step : step;
    const int64_t back = a->backwards ? units : -units, last = step == time - 1, first = begin * PANEL, some = least(end * PANEL, units) - first;
    simple_back s = { .panels = a->panels, .units = units, .activation = a->activation, .final = step < 0, .row = units, .row_z = time * units,
                      .late = last ? 0 : a->d_inputs + t * units - back, .d_h = a->d_h, .d_bias = a->d_bias, .row_units = time * units,
                      .row_out = time * units, .ahead = step > 0 ? back : 0 };
    gate_mask_step(&s.mask, 0, time, a->batch, 0);
    if (last) memset(a->d_bias + first, 0, (size_t)some * sizeof(float));
    if (step >= 0) s.y = a->y + t * units, s.d_z = a->d_inputs + t * units, s.d_out = a->d_out ? a->d_out + step * units : 0;
    simple_rows_grad(&s, a->batch, begin, end);
}
