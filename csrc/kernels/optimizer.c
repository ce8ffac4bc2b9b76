/* Optimisers: each one pass over the parameters, their gradients and their slots. */
#include "rows.h"

/* What every update does to the gradient and the parameter first: scale, clip by value, decay. */
typedef struct { vf scale, clip, keep; int clips; } before_update;

INLINE before_update before(const float *scale, double clip, double decay, const double *learning_rate)
{
    return (before_update){ vset(scale ? *scale : 1), vset((float)clip), vset((float)(1 - decay * *learning_rate)), isfinite(clip) };
}

INLINE vf clipped(const before_update *b, vf gradient)
{
    const vf g = gradient * b->scale;
    return b->clips ? vpick(g > b->clip, b->clip, vpick(g < -b->clip, -b->clip, g)) : g;
}

/* What a slot decays to: 0 in place of numbers below 2^-126, on which a processor is several times slower. */
INLINE vf decayed(vf x) { return vpick_less(vabs(x), vset(0x1p-126f), vset(0), x); }

/* iterations += 1.  One item. */
KERNEL(advance_iterations, 1, 1,
    int64_t *iterations;)     /* (1) */
{
    *a->iterations += 1;
}

/* Adam (Kingma and Ba, 2014, the formulation before section 2.1): alpha = learning rate sqrt(1 - beta_2^t) / (1 - beta_1^t),
   m += (g - m)(1 - beta_1), v += (g g - v)(1 - beta_2), p -= alpha m / (sqrt(v) + epsilon).  One item: one number. */
KERNEL(adam, a->size, 4,
    float *parameter;         /* (size), and so all the others; in place */
    float *momentum;
    float *velocity;
    OPTIONAL float *velocity_hat;     /* amsgrad: the largest velocity so far */
    const float *gradient;
    const double *learning_rate;      /* (1) */
    const int64_t *iterations;        /* (1), updates done before */
    OPTIONAL const float *scale;      /* (1), of the gradient */
    int64_t size;
    double beta_1;
    double beta_2;
    double epsilon;
    double weight_decay;
    double clip;)             /* the largest absolute value of a gradient; infinity: any */
{
    const double t = (double)(*a->iterations + 1);
    const vf alpha = vset((float)(*a->learning_rate * sqrt(1 - pow(a->beta_2, t)) / (1 - pow(a->beta_1, t))));
    const vf rest_1 = vset((float)(1 - a->beta_1)), rest_2 = vset((float)(1 - a->beta_2)), epsilon = vset((float)a->epsilon);
    const before_update b = before(a->scale, a->clip, a->weight_decay, a->learning_rate);
    const float *gradient = a->gradient + begin;
    float *parameter = a->parameter + begin, *momentum = a->momentum + begin, *velocity = a->velocity + begin;
    float *velocity_hat = a->velocity_hat ? a->velocity_hat + begin : 0;
    EACH_VECTOR(i, n, end - begin, {
        const vf g = clipped(&b, vload_n(gradient + i, n));
        vf m = vload_n(momentum + i, n);
        vf v = vload_n(velocity + i, n);
        m = decayed(vfma(g - m, rest_1, m));
        v = decayed(vfma(g * g - v, rest_2, v));
        vstore_n(momentum + i, m, n);
        vstore_n(velocity + i, v, n);
        if (velocity_hat) {
            v = vmax(vload_n(velocity_hat + i, n), v);
            vstore_n(velocity_hat + i, v, n);
        }
        vstore_n(parameter + i, vload_n(parameter + i, n) * b.keep - m * alpha / (vsqrt(v) + epsilon), n);
    });
}

/* Adam of a table whose gradient is what take_grad makes of these arguments: it never goes to memory. One item: a block of rows. */
KERNEL(adam_of_rows, pieces(a->size, take_block(a->inner)), take_block(a->inner) * a->inner * (4.5 + 1.0 * a->count / most(a->size, 1)),
    float *parameter;         /* (size, inner), and so all its slots; in place */
    float *momentum;
    float *velocity;
    OPTIONAL float *velocity_hat;
    const float *d_out;       /* (count, inner) */
    const int32_t *order;     /* (count) from order_indices */
    const int32_t *first;     /* (size + 1) */
    const double *learning_rate;      /* (1) */
    const int64_t *iterations;        /* (1) */
    int64_t size;
    int64_t inner;            /* at most 16384 */
    int64_t count;
    double beta_1;
    double beta_2;
    double epsilon;
    double weight_decay;
    double clip;)
{
    float *gradient = (float *)worker->scratch;
    for (int64_t k = begin; k < end; k++) {
        const int64_t from = k * take_block(a->inner), stop = least(a->size, from + take_block(a->inner)), at = from * a->inner;
        const adam_args rows = {
            .parameter = a->parameter + at, .momentum = a->momentum + at, .velocity = a->velocity + at,
            .velocity_hat = a->velocity_hat ? a->velocity_hat + at : 0, .gradient = gradient, .learning_rate = a->learning_rate,
            .iterations = a->iterations, .beta_1 = a->beta_1, .beta_2 = a->beta_2, .epsilon = a->epsilon, .weight_decay = a->weight_decay,
            .clip = a->clip,
        };
        sum_by_index(gradient, a->d_out, a->order, a->first, from, stop, a->inner);
        adam_body(&rows, 0, (stop - from) * a->inner, worker);
    }
}

/* Gradient descent; with momentum m = momentum m - rate g, p += m (nesterov: momentum m - rate g).  One item: one number. */
KERNEL(sgd, a->size, 2,
    float *parameter;         /* (size), and so all the others; in place */
    OPTIONAL float *velocity;
    const float *gradient;
    const double *learning_rate;      /* (1) */
    OPTIONAL const float *scale;      /* (1), of the gradient */
    int64_t size;
    int64_t nesterov;
    double momentum;
    double weight_decay;
    double clip;)
{
    const vf rate = vset((float)*a->learning_rate), momentum = vset((float)a->momentum);
    const before_update b = before(a->scale, a->clip, a->weight_decay, a->learning_rate);
    const float *gradient = a->gradient + begin;
    float *parameter = a->parameter + begin, *velocity = a->velocity ? a->velocity + begin : 0;
    EACH_VECTOR(i, n, end - begin, {
        vf step = -(clipped(&b, vload_n(gradient + i, n)) * rate);
        if (velocity) {
            const vf m = decayed(vfma(vload_n(velocity + i, n), momentum, step));
            vstore_n(velocity + i, m, n);
            step = a->nesterov ? vfma(m, momentum, step) : m;
        }
        vstore_n(parameter + i, vfma(vload_n(parameter + i, n), b.keep, step), n);
    });
}

/* RMSprop (Hinton, 2012): v = rho v + (1 - rho) g g, p -= rate g / sqrt(v + epsilon); centred: v less the squared mean of
   the gradients; with momentum: m = momentum m + that step, p -= m.  One item: one number. */
KERNEL(rmsprop, a->size, 4,
    float *parameter;         /* (size), and so all the others; in place */
    float *velocity;
    OPTIONAL float *momentum;
    OPTIONAL float *average;          /* of the gradients */
    const float *gradient;
    const double *learning_rate;      /* (1) */
    OPTIONAL const float *scale;      /* (1), of the gradient */
    int64_t size;
    double rho;
    double momentum_rate;
    double epsilon;
    double weight_decay;
    double clip;)
{
    const vf rate = vset((float)*a->learning_rate), momentum = vset((float)a->momentum_rate), epsilon = vset((float)a->epsilon);
    const vf rho = vset((float)a->rho), rest = vset((float)(1 - a->rho));
    const before_update b = before(a->scale, a->clip, a->weight_decay, a->learning_rate);
    const float *gradient = a->gradient + begin;
    float *parameter = a->parameter + begin, *velocity = a->velocity + begin;
    float *slot = a->momentum ? a->momentum + begin : 0, *average = a->average ? a->average + begin : 0;
    EACH_VECTOR(i, n, end - begin, {
        const vf g = clipped(&b, vload_n(gradient + i, n));
        const vf v = decayed(vfma(rest, g * g, rho * vload_n(velocity + i, n)));
        vf square = v + epsilon;
        vstore_n(velocity + i, v, n);
        if (average) {
            const vf mean = decayed(vfma(rest, g, rho * vload_n(average + i, n)));
            vstore_n(average + i, mean, n);
            square = v - mean * mean + epsilon;
        }
        vf step = rate * g / vsqrt(square);
        if (slot) {
            step = decayed(vfma(vload_n(slot + i, n), momentum, step));
            vstore_n(slot + i, step, n);
        }
        vstore_n(parameter + i, vload_n(parameter + i, n) * b.keep - step, n);
    });
}

/* ---- clipping by norm: squares in pieces, their sum, the factor ---- */

enum { NORM_PIECE = 8192 };

/* Sum of the squares of a piece.  One item: NORM_PIECE numbers. */
KERNEL(sum_squares, pieces(a->size, NORM_PIECE), least(a->size, NORM_PIECE),
    double *sums;             /* (ceil(size / 8192)) */
    const float *x;           /* (size) */
    int64_t size;)
{
    for (int64_t q = begin; q < end; q++) {
        const float *x = a->x + q * NORM_PIECE;
        const int64_t n = least(a->size - q * NORM_PIECE, NORM_PIECE);
        vf sum[SUM16] = {{0}};
        for (int64_t j = 0; j < n; j += 16)
            for (int k = 0; k < SUM16 && j + k * VL < n; k++) {
                const vf v = vload_n(x + j + k * VL, n - j - k * VL);
                sum[k] = vfma(v, v, sum[k]);
            }
        a->sums[q] = vsum16(sum);
    }
}

/* scale = most / norm where the norm is larger than `most`, else 1; NaN where it is not finite.  One item. */
KERNEL(clip_scale, 1, a->pieces,
    float *scale;             /* (1) */
    const double *sums;       /* (pieces) squares */
    int64_t pieces;
    double most;)
{
    double sum = 0;
    for (int64_t q = 0; q < a->pieces; q++) sum += a->sums[q];
    const double norm = sqrt(sum);
    *a->scale = !isfinite(norm) ? NAN : norm > a->most ? (float)(a->most / norm) : 1;
}

/* average = momentum average + (1 - momentum) parameter, momentum being 0 at the first update; at every `every`-th update the
   parameter becomes the average.  One item: one number. */
KERNEL(average_parameters, a->size, 2,
    float *average;           /* (size) */
    float *parameter;         /* (size) */
    const int64_t *iterations;        /* (1), updates done before */
    int64_t size;
    int64_t every;            /* 0: never */
    double momentum;)
{
    const double m = *a->iterations ? a->momentum : 0;
    const int overwrite = a->every && (*a->iterations + 1) % a->every == 0;
    const vf momentum = vset((float)m), rest = vset((float)(1 - m));
    EACH_VECTOR(j, n, end - begin, {
        const int64_t i = begin + j;
        const vf p = vload_n(a->parameter + i, n), average = m ? vfma(vload_n(a->average + i, n), momentum, p * rest) : p;
        vstore_n(a->average + i, average, n);
        if (overwrite) vstore_n(a->parameter + i, average, n);
    });
}

/* ---- learning-rate schedules, in double ---- */

enum { SCHEDULE_EXPONENTIAL, SCHEDULE_COSINE, SCHEDULE_POLYNOMIAL, SCHEDULE_INVERSE_TIME };

/* The learning rate after so many updates; see fastdl/optimizers for the formulas.  One item. */
KERNEL(decayed_learning_rate, 1, 1,
    double *learning_rate;    /* (1) */
    const int64_t *iterations;        /* (1) */
    int64_t kind;
    int64_t staircase;        /* polynomial: cycle */
    double initial;
    double steps;
    double rate;              /* exponential, inverse time; cosine: alpha; polynomial: power */
    double final;             /* polynomial: the rate at the end; cosine: the rate after the warm-up */
    double warmup_steps;)
{
    const double pi = 3.14159265358979323846;
    double t = (double)*a->iterations, steps = a->steps, from = a->initial;
    if (a->kind == SCHEDULE_COSINE) {
        if (a->warmup_steps > 0 && t < a->warmup_steps) {
            *a->learning_rate = from + (a->final - from) * t / a->warmup_steps;
            return;
        }
        if (a->warmup_steps > 0) { from = a->final; t -= a->warmup_steps; }
        const double cosine = 0.5 * (1 + cos(pi * fmin(t, steps) / steps));
        *a->learning_rate = from * ((1 - a->rate) * cosine + a->rate);
    } else if (a->kind == SCHEDULE_POLYNOMIAL) {
        if (a->staircase) steps *= t > 0 ? ceil(t / steps) : 1; else t = fmin(t, steps);
        *a->learning_rate = (from - a->final) * pow(1 - t / steps, a->rate) + a->final;
    } else {
        t = a->staircase ? floor(t / steps) : t / steps;
        *a->learning_rate = a->kind == SCHEDULE_EXPONENTIAL ? from * pow(a->rate, t) : from / (1 + a->rate * t);
    }
}

/* values[k], k the number of boundaries that lie below the iterations.  One item. */
KERNEL(stepped_learning_rate, 1, 1,
    double *learning_rate;    /* (1) */
    const int64_t *iterations;        /* (1) */
    const double *boundaries; /* (count) ascending */
    const double *values;     /* (count + 1) */
    int64_t count;)
{
    int64_t k = 0;
    while (k < a->count && (double)*a->iterations > a->boundaries[k]) k++;
    *a->learning_rate = a->values[k];
}
