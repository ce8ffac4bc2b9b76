/* Reductions of the middle axis of (outer, length, inner): in pieces of fixed length, which a second call reduces again. */
#include "kernel.h"

enum { STRIP = 64, BLOCK = 16 };           /* columns of an item where inner > 1; rows that are added before the rest */

/* y[o, p, i] = sum over l in piece p of x[o, l, i], divided by divisor. Sums are pairwise: in 64 lanes, or by blocks of rows.
   One item: one piece of a strip of columns. */
KERNEL(sum, a->outer * pieces(most(a->length, 1), a->piece) * pieces(a->inner, STRIP), least(a->length, a->piece) * least(a->inner, STRIP),
    float *y;             /* (outer, ceil(length / piece), inner) */
    const float *x;       /* (outer, length, inner) */
    int64_t outer;
    int64_t length;
    int64_t inner;
    int64_t piece;
    double divisor;)
{
    const int64_t n_pieces = pieces(most(a->length, 1), a->piece), strips = pieces(a->inner, STRIP);
    const float divisor = (float)a->divisor;
    for (int64_t i = begin; i < end; i++) {
        const int64_t strip = i % strips * STRIP, piece = i / strips % n_pieces, o = i / strips / n_pieces;
        const int64_t rows = least(a->length - piece * a->piece, a->piece), columns = least(a->inner - strip, STRIP);
        const float *x = a->x + (o * a->length + piece * a->piece) * a->inner + strip;
        float *y = a->y + (o * n_pieces + piece) * a->inner + strip;
        if (a->inner == 1) {
            vf s[64 / VL] = {0};
            int64_t l = 0;
            for (; l + 64 <= rows; l += 64)
                for (int j = 0; j < 64 / VL; j++) s[j] += vload(x + l + j * VL);
            for (int j = 0; l < rows; l += VL, j++) s[j] += vload_n(x + l, rows - l);
            for (int width = 32 / VL; width >= SUM16; width /= 2)
                for (int j = 0; j < width; j++) s[j] += s[j + width];
            *y = vsum16(s) / divisor;
            continue;
        }
        for (int64_t c = 0; c < columns; c += VL) {
            const int64_t n = columns - c;
            vf s = {0};
            for (int64_t l = 0; l < rows; l += BLOCK) {
                vf t = {0};
                for (int64_t k = l; k < least(l + BLOCK, rows); k++) t += vload_n(x + k * a->inner + c, n);
                s += t;
            }
            vstore_n(y + c, s / vset(divisor), n);
        }
    }
}
