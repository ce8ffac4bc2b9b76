/* Rows that indices name, and sums of them. */
#ifndef ROWS_H
#define ROWS_H

#include "kernel.h"

enum { ROWS_AHEAD = 6 };        /* rows that are fetched before they are read, because no prefetcher can guess them */

INLINE void fetch_row(const float *row, int64_t inner)
{
    for (int64_t j = 0; j < least(inner, 1024); j += 16) __builtin_prefetch(row + j);
}

enum { TAKE_BLOCK = 16384 };

/* Rows of a gradient that one item owns: about TAKE_BLOCK numbers. */
INLINE int64_t take_block(int64_t inner) { return most(TAKE_BLOCK / most(inner, 1), 1); }

/* to = the sum of `count` of the rows, added to what is there if there is `more`: some columns at a time, which stay in registers. */
INLINE void add_rows(float *to, const float *rows, const int32_t *order, int64_t count, int64_t inner, int more)
{
    enum { COLUMNS = 4 };
    int64_t c = 0;
    for (; c + COLUMNS * VL <= inner; c += COLUMNS * VL) {
        vf sum[COLUMNS];
        const float *row = more ? to : rows + order[0] * inner;
        UNROLL_ALL for (int k = 0; k < COLUMNS; k++) sum[k] = vload(row + c + k * VL);
        for (int64_t i = !more; i < count; i++) {
            row = rows + order[i] * inner + c;
            UNROLL_ALL for (int k = 0; k < COLUMNS; k++) sum[k] += vload(row + k * VL);
        }
        UNROLL_ALL for (int k = 0; k < COLUMNS; k++) vstore(to + c + k * VL, sum[k]);
    }
    for (; c < inner; c += VL) {
        vf sum = vload_n((more ? to : rows + order[0] * inner) + c, inner - c);
        for (int64_t i = !more; i < count; i++) sum += vload_n(rows + order[i] * inner + c, inner - c);
        vstore_n(to + c, sum, inner - c);
    }
}

/* d_x[r - from] = sum of the d_out[i] whose index is r, i upwards; 0 where there is none; for from <= r < stop. order, first: by
   order_indices. */
static void sum_by_index(float *d_x, const float *d_out, const int32_t *order, const int32_t *first, int64_t from, int64_t stop, int64_t inner)
{
    const int64_t last = first[stop];
    for (int64_t r = from; r < stop; r++) {
        const int64_t empty = r;
        while (r < stop && first[r] == first[r + 1]) r++;
        EACH_VECTOR(j, n, (r - empty) * inner, { vstore_n(d_x + (empty - from) * inner + j, vset(0), n); });
        if (r == stop) break;
        const int64_t begins = first[r], ends = first[r + 1];
        float *to = d_x + (r - from) * inner;
        for (int64_t i = begins, n; i < ends; i += n) {
            n = least(ends - i, ROWS_AHEAD);
            for (int64_t k = i + ROWS_AHEAD; k < least(last, i + ROWS_AHEAD + n); k++) fetch_row(d_out + order[k] * inner, inner);
            add_rows(to, d_out, order + i, n, inner, i > begins);
        }
    }
}

#endif
