/* Rows by index: batches of a data set, embeddings, one-hot; and the checks of indices. */
#include "rows.h"

/* ---- batches of a data set ---- */

/* Where row i of a batch lies in its data set of `size` rows; past the end it goes on at the beginning. */
INLINE int64_t batch_row(const int64_t *order, const int64_t *cursor, int64_t i, int64_t size)
{
    const int64_t place = (int64_t)(((uint64_t)(cursor ? *cursor : 0) + (uint64_t)i) % (uint64_t)size);
    return order ? order[place] : place;
}

/* The nearest int32; NaN becomes the lowest, which no range allows. */
INLINE int32_t saturated(double x)
{
    return x >= 2147483647.0 ? INT32_MAX : x > -2147483648.0 ? (int32_t)x : INT32_MIN;
}

INLINE int32_t saturated_integer(int64_t x) { return x > INT32_MAX ? INT32_MAX : x < INT32_MIN ? INT32_MIN : (int32_t)x; }

/* Marks row i of a batch whose place in `order` holds no row of the data set.  One item: one row of the batch. */
KERNEL(check_order, a->batch, 2,
    const int64_t *order;            /* (size) */
    OPTIONAL const int64_t *cursor;  /* (1) */
    int64_t batch;
    int64_t size;)
{
    for (int64_t i = begin; i < end; i++) {
        const int64_t row = batch_row(a->order, a->cursor, i, a->size);
        if (row < 0 || row >= a->size) bad(worker, i);
    }
}

/* out[i] = source[order[cursor + i]], cast; order left out: source[cursor + i].  One item: one row. */
#define GATHER(name, from, to, cast)                                                                                    \
KERNEL(name, a->batch, a->row + 4,                                                                                     \
    to *out;                                                                                                           \
    const from *source;                                                                                                \
    OPTIONAL const int64_t *order;                                                                                     \
    OPTIONAL const int64_t *cursor;                                                                                    \
    int64_t batch;                                                                                                     \
    int64_t row;                                                                                                       \
    int64_t size;)                                                                                                     \
{                                                                                                                      \
    for (int64_t i = begin; i < end; i++) {                                                                            \
        to *out = a->out + i * a->row;                                                                                 \
        const from *source = a->source + batch_row(a->order, a->cursor, i, a->size) * a->row;                          \
        for (int64_t j = 0; j < a->row; j++) out[j] = cast(source[j]);                                                 \
    }                                                                                                                  \
}

GATHER(gather_uint8_to_float32, uint8_t, float, (float))
GATHER(gather_int32_to_float32, int32_t, float, (float))
GATHER(gather_int64_to_float32, int64_t, float, (float))
GATHER(gather_float32_to_float32, float, float, )
GATHER(gather_float64_to_float32, double, float, (float))
GATHER(gather_uint8_to_int32, uint8_t, int32_t, )
GATHER(gather_int32_to_int32, int32_t, int32_t, )
GATHER(gather_int64_to_int32, int64_t, int32_t, saturated_integer)
GATHER(gather_float32_to_int32, float, int32_t, saturated)
GATHER(gather_float64_to_int32, double, int32_t, saturated)
GATHER(gather_uint8_to_uint8, uint8_t, uint8_t, )

/* out[cursor + i] = x[i]; rows past the end are dropped.  One item: one row. */
KERNEL(scatter_rows, a->batch, a->row + 4,
    float *out;                      /* (size, row) */
    const float *x;                  /* (batch, row) */
    OPTIONAL const int64_t *cursor;  /* (1) */
    int64_t batch;
    int64_t row;
    int64_t size;)
{
    const int64_t first = a->cursor ? *a->cursor : 0;
    for (int64_t i = begin; i < end; i++)
        if (first + i >= 0 && first + i < a->size)
            memcpy(a->out + (first + i) * a->row, a->x + i * a->row, (size_t)a->row * sizeof(float));
}

/* cursor += by.  One item. */
KERNEL(advance, 1, 1,
    int64_t *cursor;                 /* (1) */
    int64_t by;)
{
    *a->cursor += a->by;
}

/* ---- ranges ---- */

/* Marks an index outside lowest .. limit - 1. */
INLINE void check_range(const int32_t *indices, int64_t lowest, int64_t limit, int64_t begin, int64_t end, fd_worker *worker)
{
    const uint32_t span = limit <= lowest ? 0 : (uint32_t)(least(limit, INT32_MAX) - lowest);
    for (int64_t i = begin; i < end; i += 256) {
        const int64_t stop = least(i + 256, end);
        int outside = 0;
        for (int64_t j = i; j < stop; j++) outside |= (uint32_t)indices[j] - (uint32_t)lowest >= span;
        if (!outside) continue;
        for (int64_t j = i; j < stop; j++)
            if ((uint32_t)indices[j] - (uint32_t)lowest >= span) { bad(worker, j); return; }
    }
}

/* The same check under the names by which its error is told.  One item: one index. */
#define CHECK(name, lowest)                                                                                             \
KERNEL(name, a->size, 0.3, const int32_t *indices; int64_t size; int64_t limit;)                                       \
{                                                                                                                      \
    check_range(a->indices, lowest, a->limit, begin, end, worker);                                                     \
}

CHECK(check_indices, 0)
CHECK(check_tokens, 0)
CHECK(check_classes, INT32_MIN)

/* ---- take and its gradient ---- */

/* out[o, i] = x[o, indices[i]].  One item: one row of out. */
KERNEL(take, a->outer * a->count, a->inner + 2,
    float *out;                /* (outer, count, inner) */
    const float *x;            /* (outer, size, inner) */
    const int32_t *indices;    /* (count), each below size */
    int64_t outer;
    int64_t size;
    int64_t inner;
    int64_t count;)
{
    const int64_t inner = a->inner;
    for (int64_t k = begin; k < end; ) {
        const int64_t i = k % a->count, n = least(a->count - i, end - k);
        const int32_t *indices = a->indices + i;
        const float *x = a->x + k / a->count * a->size * inner;
        float *out = a->out + k * inner;
        for (int64_t j = 0; j < n; j++, out += inner) {
            if (j + ROWS_AHEAD < n) fetch_row(x + indices[j + ROWS_AHEAD] * inner, inner);
            const float *row = x + indices[j] * inner;
            int64_t c = 0;
            for (; c + VL <= inner; c += VL) vstore(out + c, vload(row + c));
            if (c < inner) vstore_n(out + c, vload_n(row + c, inner - c), inner - c);
        }
        k += n;
    }
}

/* order = the positions of the indices sorted by index, those of one index upwards; from first[r] on are those of index r. (Counting
   sort.)  One item. */
KERNEL(order_indices, 1, 4.0 * a->count + a->size,
    int32_t *order;            /* (count) */
    int32_t *first;            /* (size + 1) */
    const int32_t *indices;    /* (count), each below size */
    int64_t size;
    int64_t count;)
{
    int32_t *first = a->first, sum = 0;
    memset(first, 0, (size_t)(a->size + 1) * sizeof(int32_t));
    for (int64_t i = 0; i < a->count; i++) first[a->indices[i]]++;
    for (int64_t r = 0; r <= a->size; r++) {
        const int32_t n = first[r];
        first[r] = sum;
        sum += n;
    }
    for (int64_t i = 0; i < a->count; i++) a->order[first[a->indices[i]]++] = (int32_t)i;
    for (int64_t r = a->size; r > 0; r--) first[r] = first[r - 1];      /* each had moved on to where the next begins */
    first[0] = 0;
}

/* d_x[o, r] = sum of d_out[o, i] over the i with indices[i] = r, i upwards; 0 where there is none.  One item: a block of rows of d_x. */
KERNEL(take_grad, a->outer * pieces(a->size, take_block(a->inner)),
       take_block(a->inner) * (2 + (double)a->inner * (0.5 + 1.0 * a->count / most(a->size, 1))),
    float *d_x;                /* (outer, size, inner) */
    const float *d_out;        /* (outer, count, inner) */
    const int32_t *order;      /* (count) from order_indices */
    const int32_t *first;      /* (size + 1) */
    int64_t outer;
    int64_t size;
    int64_t inner;
    int64_t count;)
{
    const int64_t block = take_block(a->inner), blocks = pieces(a->size, block), inner = a->inner;
    for (int64_t k = begin; k < end; k++) {
        const int64_t from = k % blocks * block;
        float *d_x = a->d_x + (k / blocks * a->size + from) * inner;
        sum_by_index(d_x, a->d_out + k / blocks * a->count * inner, a->order, a->first, from, least(a->size, from + block), inner);
    }
}

/* ---- one-hot ---- */

/* y[o, c, i] = 1 where c = indices[o, i], else 0.  One item: one o. */
KERNEL(one_hot, a->outer, a->classes * a->inner,
    float *y;                  /* (outer, classes, inner) */
    const int32_t *indices;    /* (outer, inner), each below classes; a negative one gives zeros */
    int64_t outer;
    int64_t classes;
    int64_t inner;)
{
    for (int64_t o = begin; o < end; o++) {
        float *y = a->y + o * a->classes * a->inner;
        memset(y, 0, (size_t)(a->classes * a->inner) * sizeof(float));
        for (int64_t i = 0; i < a->inner; i++) {
            const int32_t index = a->indices[o * a->inner + i];
            if (index >= 0) y[index * a->inner + i] = 1;
        }
    }
}
