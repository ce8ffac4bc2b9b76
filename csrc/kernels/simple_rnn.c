/* The simple recurrent layer (Elman 1990): h = activation(x @ W + b + h @ U). As in lstm.c, `inputs` holds the projection of
   the inputs when the recurrence starts, and an item is a block of batch rows that goes through all time steps. */
#include "gates.h"

typedef struct simple_step {             /* what a step of a block works on, from the block's first row */
    const float *panels;
    int64_t units, activation, keep;
    const float *used, *h;               /* (rows, units): h times the mask, h */
    float *next;
    int64_t row;                         /* floats from row to row of these */
    float *inputs, *out, *previous;      /* at this time, previous at the next; or null */
    int64_t row_units, row_out, ahead;   /* from row to row; from these inputs to the next step's */
    gate_mask mask;
} simple_step;

/* One step of `rows` rows. */
static void simple_rows(const simple_step *s, int64_t rows)
{
    const int64_t units = s->units, tiles = gate_tiles(rows, 2);
    for (int64_t first = 0; first < units; first = gate_after(first))
        for (int64_t k = 0; k < tiles; k++) {
            const int64_t row = tile_begin(rows, tiles, k), some = tile_begin(rows, tiles, k + 1) - row;
            vf z[GATE_SUMS];
            if (s->ahead)
                for (int64_t unit = first; unit < least(first + PANEL, units); unit += GATE_UNITS)
                    gate_prefetch(s->inputs + s->ahead + row * s->row_units + unit, s->row_units, some, 0, 1);
            gate_product2(z, s->used + row * s->row, s->row, s->panels + first / PANEL * PANEL * units + first % PANEL, units, some);
            for (int64_t v = 0, unit = first; v < 2 && unit < units; v++, unit += GATE_UNITS)
                for (int64_t i = row, n = least(units - unit, VL); i < row + some; i++) {
                    float *inputs = s->inputs + i * s->row_units + unit;
                    vf h;
                    if (s->mask.active[i]) {
                        h = gate_activate(z[2 * (i - row) + v] + vload_n(inputs, n), s->activation);
                        if (s->keep) vstore_n(inputs, h, n);
                    } else h = vload_n(s->h + i * s->row + unit, n);
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
    float *inputs;        /* (batch, time, units): before, what the inputs give; after, with previous, h where not masked */
    OPTIONAL float *previous;            /* (batch, time, units): h before each step */
    OPTIONAL const float *x;             /* (batch, time, features): what the inputs give is made here; `inputs` is empty before */
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
                          .row_out = time * units, .keep = a->previous != 0 };
        gate_load(h, row, a->initial_h ? a->initial_h + first * units : 0, rows, units);
        gate_run run = { .rows = rows, .time = time, .backwards = a->backwards };
        for (int64_t step = 0; step < time; step++) {
            if (a->x && step == run.first + run.steps) {
                run.first = step, run.steps = least(gate_run_steps(rows, units), time - step);
                gate_project(&run, a->inputs + first * time * units, a->x + first * time * a->features, a->kernel, a->bias, a->features, units);
            }
            const int64_t t = a->backwards ? time - 1 - step : step, place = first * time + t, more = step + 1 < time;
            gate_mask_step(&s.mask, a->mask ? a->mask + place : 0, time, rows, a->zero_masked);
            for (int64_t i = 0; i < rows && a->previous && !step; i++)
                memcpy(a->previous + (place + i * time) * units, h + i * row, (size_t)units * sizeof(float));
            if (scale) gate_scale(used, h, row, scale, rows, units);
            s.used = scale ? used : h, s.h = h, s.next = next, s.inputs = a->inputs + place * units, s.ahead = more * ahead;
            s.previous = a->previous && more ? a->previous + place * units + ahead : 0;
            s.out = a->sequences ? a->out + (first * time + step) * units : 0;
            simple_rows(&s, rows);
            float *swap = h; h = next; next = swap;
        }
        gate_store(a->last_h + first * units, h, row, rows, units);
        for (int64_t i = 0; i < rows && !a->sequences; i++)
            for (int64_t j = 0; j < units; j++) a->out[(first + i) * units + j] = s.mask.seen[i] ? h[i * row + j] : 0;
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
    const int64_t units = a->units, time = a->time, row = gate_stride(units), back = a->backwards ? units : -units;
    for (int64_t k = begin; k < end; k++) {
        const int64_t first = k * a->block, rows = least(a->batch - first, a->block), tiles = gate_tiles(rows, 2);
        const int64_t steps = gate_run_steps(rows, units), size = rows * row, features = a->features;
        float *d_h = (float *)worker->scratch, *run_d = d_h + size, *copy = run_d + steps * size, *d_bias = a->d_bias + k * units;
        const float *scale = a->recurrent_mask ? a->recurrent_mask + first * units : 0;
        float *d_scale = scale && a->d_recurrent_mask ? a->d_recurrent_mask + first * units : 0;
        gate_mask m;
        gate_mask_start(&m, a->mask ? a->mask + first * time : 0, time, rows, a->backwards);
        memset(d_bias, 0, (size_t)units * sizeof(float));
        if (d_scale) memset(d_scale, 0, (size_t)(rows * units) * sizeof(float));
        gate_load(d_h, row, a->d_last_h + first * units, rows, units);
        for (int64_t i = 0; i < rows && !a->sequences; i++)
            for (int64_t j = 0; j < units && m.start[i] < time; j++) d_h[i * row + j] += a->d_out[(first + i) * units + j];
        gate_run run = { .first = time, .rows = rows, .time = time, .backwards = a->backwards };
        for (int64_t step = time - 1; step >= -1; step--) {
            float *d_z = run_d + most(step, 0) % steps * size;
            const float *late = run_d + (step + 1) % steps * size;
            const int64_t t = a->backwards ? time - 1 - step : step, place = first * time + t, has_late = step + 1 < time;
            if (step >= 0) gate_mask_back(&m, a->mask ? a->mask + place : 0, time, rows, a->zero_masked, step);
            for (int64_t start = 0; start < units; start = gate_after(start))
                for (int64_t tile = 0; tile < tiles; tile++) {
                    const int64_t from = tile_begin(rows, tiles, tile), some = tile_begin(rows, tiles, tile + 1) - from;
                    vf z[GATE_SUMS];
                    for (int64_t unit = start; unit < least(start + PANEL, units) && step > 0; unit += GATE_UNITS)
                        gate_prefetch(a->y + (place + from * time) * units + back + unit, time * units, some, 0, 1);
                    if (has_late) gate_product2(z, late + from * row, row, a->panels + start / PANEL * PANEL * units + start % PANEL, units, some);
                    for (int64_t v = 0, unit = start; v < 2 && unit < units; v++, unit += GATE_UNITS) {
                        const int64_t n = least(units - unit, VL);
                        vf sum = vload_n(d_bias + unit, n);
                        for (int64_t i = from; i < from + some; i++) {
                            const int64_t at = i * row + unit, here = (place + i * time) * units + unit;
                            vf d = has_late ? z[2 * (i - from) + v] : vset(0), d_sum = vset(0);
                            if (scale && has_late) {
                                const vf factor = vload_n(scale + i * units + unit, n), h = vload_n(a->previous + here - back, n);
                                if (d_scale) vstore_n(d_scale + i * units + unit, vfma(d, h, vload_n(d_scale + i * units + unit, n)), n);
                                d = d * factor;
                            }
                            d = d + vload_n(d_h + at, n);
                            if (step >= 0) {
                                if (a->sequences && m.shown[i]) d = d + vload_n(a->d_out + ((first + i) * time + step) * units + unit, n);
                                if (m.active[i]) d_sum = d * slope(vload_n(a->y + here, n), a->activation), d = vset(0);
                                sum = sum + d_sum;
                                vstore_n(d_z + at, d_sum, n);
                            }
                            vstore_n(d_h + at, d, n);    /* h of a masked step comes from the step before: there d stays */
                        }
                        vstore_n(d_bias + unit, sum, n);
                    }
                }
            if (step < 0 || step % steps) continue;
            run.steps = run.first - step, run.first = step;
            if (a->d_inputs) gate_spill(&run, a->d_inputs + first * time * units, run_d, row, units);
            if (a->d_x) gate_project_d_x(&run, a->d_x + first * time * features, run_d, row, a->kernel, features, units);
            if (a->d_kernel)
                gate_weight_grad(&run, a->d_kernel + k * features * units, a->x + first * time * features, 0, features, run_d, row, units, copy);
            if (a->d_recurrent_kernel)
                gate_weight_grad(&run, a->d_recurrent_kernel + k * units * units, a->previous + first * time * units, scale, units, run_d, row, units, copy);
        }
        gate_store(a->d_initial_h + first * units, d_h, row, rows, units);
    }
}
