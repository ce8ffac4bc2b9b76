/* Softmax. */
#include "softmax.h"

/* y = exp(x) / sum of exp(x) along the middle axis; with `logarithm`, its logarithm.  One item: a vector of that axis where
   inner is 1, else 16 of them. */
KERNEL(softmax, a->outer * pieces(a->inner, 16), a->columns * least(a->inner, 16) * 6,
    float *y;             /* (outer, columns, inner) */
    const float *x;       /* (outer, columns, inner) */
    int64_t outer;
    int64_t columns;
    int64_t inner;
    int64_t logarithm;)
{
    const int64_t n = a->columns, step = a->inner, blocks = pieces(step, 16);
    if (step == 1) {
        const int64_t stride = (n + 15) / 16 * 16, each = rows_at_once(n);
        for (int64_t i = begin; i < end; i += each) {
            float top[ROWS], sum[ROWS], *to = a->y + i * n;
            const float *x = a->x + i * n;
            const int64_t rows = least(end - i, each);
            const int fits = stride * rows * (int64_t)sizeof(float) <= FD_SCRATCH;
            float *terms = fits ? (float *)worker->scratch : to;
            exp_sums(a->logarithm ? 0 : terms, stride, top, sum, x, rows, n, a->outer * n, to);
            for (int64_t r = 0; r < rows; r++, x += n, to += n) {
                const vf scale = vset(1 / sum[r]), high = vset(top[r]), shift = vset(a->logarithm ? (float)log(sum[r]) : 0);
                if (a->logarithm) EACH_VECTOR(j, width, n, { vstore_n(to + j, vload_n(x + j, width) - high - shift, width); });
                else EACH_VECTOR(j, width, n, { vstore_n(to + j, vload_n(terms + r * stride + j, width) * scale, width); });
            }
        }
        return;
    }
    for (int64_t i = begin; i < end; i++) {
        for (int64_t k = i % blocks * 16; k < least(step, i % blocks * 16 + 16); k += VL) {
            const float *x = a->x + i / blocks * n * step + k;
            float *y = a->y + i / blocks * n * step + k;
            const int64_t width = least(step - k, VL);
            vf top = vset(-INFINITY), sum = vset(0);
            for (int64_t j = 0; j < n; j++) top = vmax(top, vload_n(x + j * step, width));
            for (int64_t j = 0; j < n; j++) {
                const vf e = vexp_negative(vload_n(x + j * step, width) - top);
                sum += e;
                if (!a->logarithm) vstore_n(y + j * step, e, width);
            }
            const vf scale = vset(1) / sum;
            vf shift = sum;
            if (a->logarithm) for (int l = 0; l < VL; l++) shift[l] = (float)log(sum[l]);
            for (int64_t j = 0; j < n; j++)
                vstore_n(y + j * step, a->logarithm ? vload_n(x + j * step, width) - top - shift : vload_n(y + j * step, width) * scale, width);
        }
    }
}

/* d_x = y (d_y - sum of d_y y); with `logarithm`, d_y - exp(y) sum of d_y.  Items as softmax. */
KERNEL(softmax_grad, a->outer * pieces(a->inner, 16), a->columns * least(a->inner, 16) * (a->logarithm ? 6 : 3),
    float *d_x;           /* (outer, columns, inner) */
    const float *d_y;     /* (outer, columns, inner) */
    const float *y;       /* (outer, columns, inner) */
    int64_t outer;
    int64_t columns;
    int64_t inner;
    int64_t logarithm;)
{
    const int64_t n = a->columns, step = a->inner, blocks = pieces(step, 16);
    for (int64_t i = begin; i < end; i++) {
        const int64_t width = step == 1 ? 0 : least(step - i % blocks * 16, 16);
        const int64_t at = step == 1 ? i * n : i / blocks * n * step + i % blocks * 16;
        const float *d_y = a->d_y + at, *y = a->y + at;
        float *d_x = a->d_x + at;
        if (step == 1) {
            vf sum[SUM16] = {{0}};
            EACH_OF_SUM16(k, j, here, n, {
                const vf d = vload_n(d_y + j, here);
                sum[k] = a->logarithm ? sum[k] + d : vfma(d, vload_n(y + j, here), sum[k]);
            });
            const vf total = vset(vsum16(sum));
            EACH_VECTOR(j, here, n, {
                const vf d = vload_n(d_y + j, here);
                const vf s = vload_n(y + j, here);
                vstore_n(d_x + j, a->logarithm ? d - vexp(s) * total : s * (d - total), here);
            });
            continue;
        }
        for (int64_t k = 0; k < width; k += VL) {
            vf total = vset(0);
            for (int64_t j = 0; j < n; j++) {
                const vf d = vload_n(d_y + j * step + k, width - k);
                total = a->logarithm ? total + d : vfma(d, vload_n(y + j * step + k, width - k), total);
            }
            for (int64_t j = 0; j < n; j++) {
                const vf d = vload_n(d_y + j * step + k, width - k), s = vload_n(y + j * step + k, width - k);
                vstore_n(d_x + j * step + k, a->logarithm ? d - vexp(s) * total : s * (d - total), width - k);
            }
        }
    }
}
