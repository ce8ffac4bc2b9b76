/* Element by element. */
#include "kernel.h"

/* y = value.  One item: one number. */
KERNEL(fill, a->size, 0.5,
    float *y;             /* (size) */
    int64_t size;
    double value;)
{
    const vf x = vset((float)a->value);
    for (int64_t i = begin; i < end; i += VL) vstore_n(a->y + i, x, end - i);
}

/* y = x.  One item: one number. */
KERNEL(copy, a->size, 1,
    float *y;             /* (size) */
    const float *x;       /* (size) */
    int64_t size;)
{
    memcpy(a->y + begin, a->x + begin, (size_t)(end - begin) * sizeof(float));
}

/* y += x, in place.  One item: one number. */
KERNEL(accumulate, a->size, 1.5,
    float *y;             /* (size) */
    const float *x;       /* (size) */
    int64_t size;)
{
    for (int64_t i = begin; i < end; i += VL)
        vstore_n(a->y + i, vload_n(a->y + i, end - i) + vload_n(a->x + i, end - i), end - i);
}

/* y = max(x, 0).  One item: one number. */
KERNEL(relu, a->size, 1,
    float *y;             /* (size) */
    const float *x;       /* (size) */
    int64_t size;)
{
    for (int64_t i = begin; i < end; i += VL) vstore_n(a->y + i, vrelu(vload_n(a->x + i, end - i)), end - i);
}

/* d_x = d_y where y > 0, else 0.  One item: one number. */
KERNEL(relu_grad, a->size, 1.5,
    float *d_x;           /* (size) */
    const float *d_y;     /* (size) */
    const float *y;       /* (size) */
    int64_t size;)
{
    for (int64_t i = begin; i < end; i += VL)
        vstore_n(a->d_x + i, vpick(vload_n(a->y + i, end - i) > vset(0), vload_n(a->d_y + i, end - i), vset(0)), end - i);
}
