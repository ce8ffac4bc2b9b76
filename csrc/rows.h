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

/* d_x[r - from] = sum of the d_out[i] whose index is r, i upwards; 0 where there is none; for from <= r < stop. order, first: by
   order_indices. */
static void sum_by_index(float *d_x, const float *d_out, const int32_t *order, const int32_t *first, int64_t from, int64_t stop, int64_t inner)
{
    const int64_t last = first[stop];
    for (int64_t r = from; r < stop; r++) {
        const int64_t empty = r;
        while (r < stop && first[r] == first[r + 1]) r++;
        memset(d_x + (empty - from) * inner, 0, (size_t)((r - empty) * inner) * sizeof(float));
        if (r == stop) break;
        const int64_t begins = first[r], ends = first[r + 1];
        float *to = d_x + (r - from) * inner;
        for (int64_t i = begins; i < ends; i++) {
            const float *row = d_out + order[i] * inner;
            if (i + ROWS_AHEAD < last) fetch_row(d_out + order[i + ROWS_AHEAD] * inner, inner);
            int64_t c = 0;
            if (i == begins) for (; c + VL <= inner; c += VL) vstore(to + c, vload(row + c));
            else for (; c + VL <= inner; c += VL) vstore(to + c, vload(to + c) + vload(row + c));
            if (c < inner) vstore_n(to + c, i == begins ? vload_n(row + c, inner - c) : vload_n(to + c, inner - c) + vload_n(row + c, inner - c), inner - c);
        }
    }
}

#endif
