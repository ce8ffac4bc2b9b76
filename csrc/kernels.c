/* Table of contents: every kernel, one line each. This file is built once per instruction set, as FD_TABLE. */
#include "kernel.h"

#include "kernels/linear.c"
#include "kernels/elementwise.c"
#include "kernels/reduction.c"
#include "kernels/shape.c"
#include "kernels/indexing.c"
#include "kernels/convolution.c"
#include "kernels/pooling.c"
#include "kernels/recurrent.c"
#include "kernels/normalization.c"
#include "kernels/loss.c"
#include "kernels/random.c"
#include "kernels/optimizer.c"

#define ENTRY(name) &name##_kernel

const fd_kernel *const FD_TABLE[] = {
    /* linear */
    ENTRY(pack),
    ENTRY(matmul),

    /* elementwise */
    ENTRY(fill),
    ENTRY(copy),
    ENTRY(accumulate),
    ENTRY(add), ENTRY(add_int32), ENTRY(add_int64),
    ENTRY(subtract), ENTRY(subtract_int32), ENTRY(subtract_int64),
    ENTRY(multiply), ENTRY(multiply_int32), ENTRY(multiply_int64),
    ENTRY(divide),
    ENTRY(divide_d_x2),
    ENTRY(relu),
    ENTRY(relu_grad),

    /* reduction */
    ENTRY(sum),

    /* shape */
    ENTRY(rearrange),

    /* indexing */

    /* convolution */

    /* pooling */

    /* recurrent */

    /* normalization */

    /* loss */

    /* random */

    /* optimizer */

    0
};
