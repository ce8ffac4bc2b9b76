/* Numbers moved to other places. */
#include "kernel.h"

/* y[y_start + sum_k i_k y_k] = x[x_start + sum_k i_k x_k] for i_k < n_k, numbers of `item` bytes; axis 5 is the one along
   which y is contiguous, or nearly, axis 4 the one along which x is.  One item: a tile of axes 4 and 5. */
enum { TILE = 32, LINE = 8192 };

/* n4 rows of n5 numbers: y[p y_row + k] = x[p + k x_row], by squares in registers. */
INLINE void transpose_tile(float *y, int64_t y_row, const float *x, int64_t x_row, int64_t n4, int64_t n5)
{
    for (int64_t p = 0; p < n4; p += VL)
        for (int64_t k = 0; k < n5; k += VL) {
            vf r[VL];
            for (int64_t j = 0; j < VL; j++) r[j] = vload_n(x + p + least(k + j, n5 - 1) * x_row, n4 - p);
            vtranspose(r);
            for (int64_t j = 0; j < VL && p + j < n4; j++) vstore_n(y + (p + j) * y_row + k, r[j], n5 - k);
        }
}

/* Short rows that are copied as they are: many at a time, as each item divides to find its place. */
INLINE int64_t tile_rows(int64_t x5, int64_t n5) { return x5 == 1 || x5 == 0 ? most(1, LINE / 2 / most(1, n5)) : TILE; }
INLINE int64_t tile_columns(int64_t x5) { return x5 == 1 || x5 == 0 ? LINE : TILE; }

KERNEL(rearrange, a->n0 * a->n1 * a->n2 * a->n3 * pieces(a->n4, tile_rows(a->x5, a->n5)) * pieces(a->n5, tile_columns(a->x5)),
       least(a->n4, tile_rows(a->x5, a->n5)) * (2 + least(a->n5, tile_columns(a->x5))),
    void *y;
    const void *x;
    int64_t item;
    int64_t n0; int64_t n1; int64_t n2; int64_t n3; int64_t n4; int64_t n5;
    int64_t y0; int64_t y1; int64_t y2; int64_t y3; int64_t y4; int64_t y5;
    int64_t x0; int64_t x1; int64_t x2; int64_t x3; int64_t x4; int64_t x5;
    int64_t y_start; int64_t x_start;)
{
    const int64_t rows = tile_rows(a->x5, a->n5), columns = tile_columns(a->x5), blocks5 = pieces(a->n5, columns), blocks4 = pieces(a->n4, rows);
    for (int64_t i = begin; i < end; i++) {
        const int64_t b5 = i % blocks5 * columns, b4 = i / blocks5 % blocks4 * rows;
        int64_t r = i / blocks5 / blocks4;
        const int64_t i3 = r % a->n3, i2 = (r /= a->n3) % a->n2, i1 = (r /= a->n2) % a->n1, i0 = r / a->n1;
        const int64_t y_at = a->y_start + i0 * a->y0 + i1 * a->y1 + i2 * a->y2 + i3 * a->y3 + b4 * a->y4 + b5 * a->y5;
        const int64_t x_at = a->x_start + i0 * a->x0 + i1 * a->x1 + i2 * a->x2 + i3 * a->x3 + b4 * a->x4 + b5 * a->x5;
        const int64_t n4 = least(a->n4 - b4, rows), n5 = least(a->n5 - b5, columns);
        #define MOVE(T)                                                                                                \
            {                                                                                                          \
                T *y = (T *)a->y + y_at;                                                                               \
                const T *x = (const T *)a->x + x_at;                                                                   \
                for (int64_t p = 0; p < n4; p++, y += a->y4, x += a->x4) {                                             \
                    if (a->y5 != 1) for (int64_t k = 0; k < n5; k++) y[k * a->y5] = x[k * a->x5];                      \
                    else if (a->x5 == 1) memcpy(y, x, (size_t)n5 * sizeof(T));                                         \
                    else if (a->x5 == 0) for (int64_t k = 0; k < n5; k++) y[k] = *x;                                   \
                    else for (int64_t k = 0; k < n5; k++) y[k] = x[k * a->x5];                                         \
                }                                                                                                      \
            }
        if (a->item == 4 && a->y5 == 1 && a->x4 == 1 && a->x5 > 1)
            transpose_tile((float *)a->y + y_at, a->y4, (const float *)a->x + x_at, a->x5, n4, n5);
        else if (a->item == 4) MOVE(uint32_t)
        else if (a->item == 8) MOVE(uint64_t)
        else MOVE(uint8_t)
        #undef MOVE
    }
}
