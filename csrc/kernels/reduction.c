/* Reductions of the middle axis of (outer, length, inner), in pieces of fixed length, which a second call reduces again; the sums that
   matrix products need. */
#include "kernel.h"

enum { STRIP = 64, BLOCK = 16 };           /* columns of an item where inner > 1; rows that are joined before the rest */

INLINE vf vmultiply(vf a, vf b) { return a * b; }

#define PIECES_OF_LENGTH pieces(most(a->length, 1), a->piece)

/* y[o, p, i] = the join of value(u, m) over l in piece p, u = x[o, l, i], m = about[o, i], then `finish`. Along memory it runs
   in 64 lanes, across rows by blocks: so a long sum is pairwise, and the same on every instruction set.
   One item: one piece of a strip of columns. */
#define REDUCTION(name, cost, fields, scalars, about_one, about_many, start, value, join, finish)                      \
    KERNEL(name, a->outer * PIECES_OF_LENGTH * pieces(a->inner, STRIP),                                                \
           cost * least(a->length, a->piece) * least(a->inner, STRIP),                                                 \
        float *y; const float *x; fields int64_t outer; int64_t length; int64_t inner; int64_t piece; scalars)         \
    {                                                                                                                  \
        const int64_t n_pieces = PIECES_OF_LENGTH, strips = pieces(a->inner, STRIP);                                   \
        for (int64_t i = begin; i < end; i++) {                                                                        \
            const int64_t strip = i % strips * STRIP, piece = i / strips % n_pieces, o = i / strips / n_pieces;        \
            const int64_t rows = least(a->length - piece * a->piece, a->piece), columns = least(a->inner - strip, STRIP); \
            const float *x = a->x + (o * a->length + piece * a->piece) * a->inner + strip;                             \
            float *y = a->y + (o * n_pieces + piece) * a->inner + strip;                                               \
            if (a->inner == 1) {                                                                                       \
                const vf m UNUSED = about_one;                                                                         \
                const int lanes = rows > 16 ? 64 / VL : SUM16;                                                         \
                vf s[64 / VL];                                                                                         \
                for (int j = 0; j < 64 / VL; j++) s[j] = vset(start);                                                  \
                int64_t l = 0;                                                                                         \
                for (; l + 64 <= rows; l += 64)                                                                        \
                    for (int j = 0; j < 64 / VL; j++) { const vf u = vload(x + l + j * VL); s[j] = v##join(s[j], value); } \
                for (int j = 0; l < rows; l += VL, j++) {                                                              \
                    const vf u = vload_n(x + l, rows - l);                                                             \
                    const vi real = vlanes() < viset((int32_t)least(rows - l, VL));                                    \
                    s[j] = v##join(s[j], vpick(real, value, vset(start)));                                             \
                }                                                                                                      \
                for (int width = lanes / 2; width; width /= 2)                                                         \
                    for (int j = 0; j < width; j++) s[j] = v##join(s[j], s[j + width]);                                \
                VFOLD(v##join, s[0]);                                                                                  \
                *y = s[0][0] finish;                                                                                   \
                continue;                                                                                              \
            }                                                                                                          \
            if (columns == STRIP) {                                                                                    \
                vf s[STRIP / VL];                                                                                      \
                for (int j = 0; j < STRIP / VL; j++) s[j] = vset(start);                                               \
                for (int64_t l = 0; l < rows; l += BLOCK) {                                                            \
                    vf t[STRIP / VL];                                                                                  \
                    for (int j = 0; j < STRIP / VL; j++) t[j] = vset(start);                                           \
                    for (int64_t k = l; k < least(l + BLOCK, rows); k++)                                               \
                        for (int c = 0; c < STRIP; c += VL) {                                                          \
                            const int64_t n UNUSED = VL;                                                               \
                            const vf m UNUSED = about_many, u = vload(x + k * a->inner + c);                           \
                            t[c / VL] = v##join(t[c / VL], value);                                                     \
                        }                                                                                              \
                    for (int j = 0; j < STRIP / VL; j++) s[j] = v##join(s[j], t[j]);                                   \
                }                                                                                                      \
                for (int j = 0; j < STRIP / VL; j++) vstore(y + j * VL, s[j] finish);                                  \
                continue;                                                                                              \
            }                                                                                                          \
            for (int64_t c = 0; c < columns; c += VL) {                                                                \
                const int64_t n = columns - c;                                                                         \
                const vf m UNUSED = about_many;                                                                        \
                vf s = vset(start);                                                                                    \
                for (int64_t l = 0; l < rows; l += BLOCK) {                                                            \
                    vf t = vset(start);                                                                                \
                    for (int64_t k = l; k < least(l + BLOCK, rows); k++) {                                             \
                        const vf u = vload_n(x + k * a->inner + c, n);                                                 \
                        t = v##join(t, value);                                                                         \
                    }                                                                                                  \
                    s = v##join(s, t);                                                                                 \
                }                                                                                                      \
                vstore_n(y + c, s finish, n);                                                                          \
            }                                                                                                          \
        }                                                                                                              \
    }

#define PLAIN(name, start, join) REDUCTION(name, 1, , , vset(0), vset(0), start, u, join, )
#define SUM(name, cost, fields, about_one, about_many, value)                                                          \
    REDUCTION(name, cost, fields, double divisor;, about_one, about_many, 0, value, add, / (float)a->divisor)
#define SUM_ABOUT(name, cost, value)                                                                                   \
    SUM(name, cost, const float *about;, vset(a->about[o]), vload_n(a->about + o * a->inner + strip + c, n), value)

SUM(sum, 1, , vset(0), vset(0), u)
SUM_ABOUT(sum_of_squares, 1.5, ((u - m) * (u - m)))
SUM_ABOUT(sum_of_exp, 4, vexp(u - m))
PLAIN(max, -INFINITY, max)
PLAIN(min, INFINITY, min)
PLAIN(prod, 1, multiply)

/* The same of integers, which need no order.  One item: one piece of one column. */
#define INTEGER_REDUCTION(name, T, start, join)                                                                        \
    KERNEL(name, a->outer * PIECES_OF_LENGTH * a->inner, least(a->length, a->piece),                                   \
        T *y; const T *x; int64_t outer; int64_t length; int64_t inner; int64_t piece;)                                \
    {                                                                                                                  \
        const int64_t n_pieces = PIECES_OF_LENGTH;                                                                     \
        for (int64_t i = begin; i < end; i++) {                                                                        \
            const int64_t piece = i / a->inner % n_pieces, o = i / a->inner / n_pieces;                                \
            const int64_t rows = least(a->length - piece * a->piece, a->piece);                                        \
            const T *x = a->x + (o * a->length + piece * a->piece) * a->inner + i % a->inner;                          \
            T s = start;                                                                                               \
            for (int64_t l = 0; l < rows; l++) { const T u = x[l * a->inner]; s = join; }                              \
            a->y[i] = s;                                                                                               \
        }                                                                                                              \
    }
#define INTEGER_REDUCTIONS(T, suffix, least_, most_)                                                                   \
    INTEGER_REDUCTION(sum_##suffix, T, 0, (T)((u##T)s + (u##T)u))                                                      \
    INTEGER_REDUCTION(prod_##suffix, T, 1, (T)((u##T)s * (u##T)u))                                                     \
    INTEGER_REDUCTION(max_##suffix, T, least_, s > u ? s : u)                                                          \
    INTEGER_REDUCTION(min_##suffix, T, most_, s < u ? s : u)

INTEGER_REDUCTIONS(int32_t, int32, INT32_MIN, INT32_MAX)
INTEGER_REDUCTIONS(int64_t, int64, INT64_MIN, INT64_MAX)
INTEGER_REDUCTION(any, uint8_t, 0, s | (u != 0))
INTEGER_REDUCTION(all, uint8_t, 1, s & (u != 0))

/* y[o, i] = the first l for which x[o, l, i] is the best, or is NaN.  One item: one column. */
#define ARGUMENT(name, T, better, BEST_OF_ROW)                                                                         \
    KERNEL(name, a->outer * a->inner, a->length,                                                                       \
        int32_t *y; const T *x; int64_t outer; int64_t length; int64_t inner;)                                         \
    {                                                                                                                  \
        for (int64_t i = begin; i < end; i++) {                                                                        \
            const T *x = a->x + i / a->inner * a->length * a->inner + i % a->inner;                                    \
            int64_t best = 0;                                                                                          \
            T v = x[0];                                                                                                \
            BEST_OF_ROW                                                                                                \
            for (int64_t l = 1; l < a->length && v == v; l++) {                                                        \
                const T u = x[l * a->inner];                                                                           \
                if (u better v || u != u) { v = u; best = l; }                                                         \
            }                                                                                                          \
            a->y[i] = (int32_t)best;                                                                                   \
        }                                                                                                              \
    }
/* Of a long row along memory, the best value first, by vectors; then its place. */
#define ROW(join)                                                                                                      \
    if (a->inner == 1 && a->length >= VL) {                                                                            \
        vf s = vload(x);                                                                                               \
        for (int64_t l = VL; l < a->length; l += VL) s = v##join(s, vload(x + least(l, a->length - VL)));              \
        VFOLD(v##join, s);                                                                                             \
        v = s[0];                                                                                                      \
        while (!(x[best] == v || x[best] != x[best])) best++;                                                          \
        a->y[i] = (int32_t)best;                                                                                       \
        continue;                                                                                                      \
    }
ARGUMENT(argmax, float, >, ROW(max))
ARGUMENT(argmin, float, <, ROW(min))
ARGUMENT(argmax_int32, int32_t, >, )
ARGUMENT(argmin_int32, int32_t, <, )
ARGUMENT(argmax_int64, int64_t, >, )
ARGUMENT(argmin_int64, int64_t, <, )

/* d_x[o, l, i] = d_y[o, i] times the product of the other x[o, :, i]: of those before, then of those after.
   One item: one column. */
KERNEL(prod_grad, a->outer * a->inner, 4 * a->length,
    float *d_x;           /* (outer, length, inner) */
    const float *d_y;     /* (outer, inner) */
    const float *x;       /* (outer, length, inner) */
    int64_t outer;
    int64_t length;
    int64_t inner;)
{
    for (int64_t i = begin; i < end; i++) {
        const int64_t at = i / a->inner * a->length * a->inner + i % a->inner;
        float before = 1, after = a->d_y[i];
        for (int64_t l = 0; l < a->length; l++) {
            a->d_x[at + l * a->inner] = before;
            before *= a->x[at + l * a->inner];
        }
        for (int64_t l = a->length - 1; l >= 0; l--) {
            a->d_x[at + l * a->inner] *= after;
            after *= a->x[at + l * a->inner];
        }
    }
}

enum { INNER_PIECE = 4096 };

/* out[k] = sum of a[i] * b[i] over piece k of 4096 numbers.  One item: one piece. */
KERNEL(inner_product, pieces(a->size, INNER_PIECE), INNER_PIECE / 2,
    float *out;           /* (ceil(size / 4096)) */
    const float *x;       /* (size) */
    const float *y;       /* (size) */
    int64_t size;)
{
    for (int64_t k = begin; k < end; k++) {
        const int64_t stop = least((k + 1) * INNER_PIECE, a->size);
        vf s[SUM16];
        for (int i = 0; i < SUM16; i++) s[i] = vset(0);
        for (int64_t j = k * INNER_PIECE; j < stop; j += 16)
            for (int i = 0; i < SUM16; i++) {
                const int64_t n = most(stop - j - i * VL, 0);
                s[i] = vfma(vload_n(a->x + j + i * VL, n), vload_n(a->y + j + i * VL, n), s[i]);
            }
        a->out[k] = vsum16(s);
    }
}

/* out[n] = sum over k, upwards, of parts[n, k].  One item: one number of out. */
KERNEL(sum_parts, a->outer * a->size, a->count,
    float *out;           /* (outer, size) */
    const float *parts;   /* (outer, count, size) */
    int64_t outer;
    int64_t count;
    int64_t size;)
{
    for (int64_t i = begin; i < end; ) {
        const int64_t n = i / a->size, j = i % a->size, left = least(end - i, a->size - j);
        const float *x = a->parts + n * a->count * a->size + j;
        vf s = vset(0);
        for (int64_t k = 0; k < a->count; k++) s = s + vload_n(x + k * a->size, left);
        vstore_n(a->out + i, s, left);
        i += least(left, VL);
    }
}

/* out[k, j] = sum of x[i, j] over the rows i of piece k.  One item: a piece of `split` rows by 256 columns. */
KERNEL_BY_ROWS(column_sums, pieces(a->rows, a->split) * pieces(a->columns, 256), least(a->rows, a->split) * least(a->columns, 256),
               a->rows, a->split, pieces(a->columns, 256), (4 * a->columns, 4 * a->split * a->columns),
    float *out;           /* (ceil(rows / split), columns) */
    const float *x;       /* (rows, columns) */
    int64_t rows;
    int64_t columns;
    int64_t split;)
{
    const int64_t across = pieces(a->columns, 256);
    for (int64_t i = begin; i < end; i++) {
        const int64_t k = i / across, first = i % across * 256, stop = least(first + 256, a->columns);
        const int64_t rows = least(a->rows - k * a->split, a->split);
        if (a->columns == 1) {
            vf s[SUM16] = { vset(0) };
            EACH_OF_SUM16(v, r, width, rows, s[v] = s[v] + vload_n(a->x + k * a->split + r, width););
            a->out[k] = vsum16(s);
            continue;
        }
        for (int64_t j = first; j < stop; j += 4 * VL) {
            const float *x = a->x + k * a->split * a->columns + j;
            vf s[4] = { vset(0), vset(0), vset(0), vset(0) };
            if (stop - j >= 4 * VL)
                for (int64_t r = 0; r < rows; r++)
                    UNROLL_ALL for (int v = 0; v < 4; v++) s[v] = s[v] + vload(x + r * a->columns + v * VL);
            else
                for (int64_t r = 0; r < rows; r++)
                    UNROLL_ALL for (int v = 0; v < 4; v++) s[v] = s[v] + vload_n(x + r * a->columns + v * VL, most(stop - j - v * VL, 0));
            UNROLL_ALL for (int v = 0; v < 4; v++) vstore_n(a->out + k * a->columns + j + v * VL, s[v], most(stop - j - v * VL, 0));
        }
    }
}
