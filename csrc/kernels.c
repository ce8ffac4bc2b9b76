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
    ENTRY(relu),
    ENTRY(relu_grad),

    /* reduction */

    /* shape */

    /* indexing */
    ENTRY(check_order),
    ENTRY(gather_uint8_to_float32),
    ENTRY(gather_int32_to_float32),
    ENTRY(gather_int64_to_float32),
    ENTRY(gather_float32_to_float32),
    ENTRY(gather_float64_to_float32),
    ENTRY(gather_uint8_to_int32),
    ENTRY(gather_int32_to_int32),
    ENTRY(gather_int64_to_int32),
    ENTRY(gather_float32_to_int32),
    ENTRY(gather_float64_to_int32),
    ENTRY(gather_uint8_to_uint8),
    ENTRY(scatter_rows),
    ENTRY(advance),
    ENTRY(check_indices),
    ENTRY(check_tokens),
    ENTRY(check_labels),
    ENTRY(check_classes),
    ENTRY(take),
    ENTRY(take_grad),
    ENTRY(one_hot),

    /* convolution */

    /* pooling */

    /* recurrent */
    ENTRY(pack_gates),
    ENTRY(lstm),
    ENTRY(lstm_grad),
    ENTRY(lstm_d_bias),

    /* normalization */

    /* loss */

    /* random */

    /* optimizer */

    0
};
