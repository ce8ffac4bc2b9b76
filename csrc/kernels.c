/* Table of contents: every kernel, one line each. This file is built once per instruction set, as FD_TABLE. */
#include "kernel.h"

#include "kernels/linear.c"
#include "kernels/elementwise.c"
#include "kernels/math.c"
#include "kernels/activation.c"
#include "kernels/reduction.c"
#include "kernels/shape.c"
#include "kernels/indexing.c"
#include "kernels/convolution.c"
#include "kernels/few_channels.c"
#include "kernels/winograd.c"
#include "kernels/depthwise.c"
#include "kernels/pooling.c"
#include "kernels/recurrent.c"
#include "kernels/gru.c"
#include "kernels/simple_rnn.c"
#include "kernels/softmax.c"
#include "kernels/normalization.c"
#include "kernels/attention.c"
#include "kernels/loss.c"
#include "kernels/pair_loss.c"
#include "kernels/metric.c"
#include "kernels/random.c"
#include "kernels/optimizer.c"
#include "kernels/bfloat16.c"
#include "kernels/bfloat16_convolution.c"
#include "kernels/bfloat16_winograd.c"

#define ENTRY(name) &name##_kernel

const fd_kernel *const FD_TABLE[] = {
    /* linear */
    ENTRY(pack),
    ENTRY(matrix_product),
    ENTRY(inner_product),
    ENTRY(sum_parts),
    ENTRY(column_sums),
    ENTRY(activation_grad),
    ENTRY(product_d_z),

    /* elementwise */
    ENTRY(check_finite),
    ENTRY(fill),
    ENTRY(copy),
    ENTRY(accumulate),
    ENTRY(add), ENTRY(add_int32), ENTRY(add_int64),
    ENTRY(subtract), ENTRY(subtract_int32), ENTRY(subtract_int64),
    ENTRY(multiply), ENTRY(multiply_int32), ENTRY(multiply_int64),
    ENTRY(divide),
    ENTRY(floor_divide), ENTRY(floor_divide_int32), ENTRY(floor_divide_int64),
    ENTRY(mod), ENTRY(mod_int32), ENTRY(mod_int64),
    ENTRY(power), ENTRY(power_int32), ENTRY(power_int64),
    ENTRY(maximum), ENTRY(maximum_int32), ENTRY(maximum_int64),
    ENTRY(minimum), ENTRY(minimum_int32), ENTRY(minimum_int64),
    ENTRY(equal), ENTRY(equal_int32), ENTRY(equal_int64),
    ENTRY(not_equal), ENTRY(not_equal_int32), ENTRY(not_equal_int64),
    ENTRY(greater), ENTRY(greater_int32), ENTRY(greater_int64),
    ENTRY(greater_equal), ENTRY(greater_equal_int32), ENTRY(greater_equal_int64),
    ENTRY(logical_and), ENTRY(logical_or), ENTRY(logical_xor),
    ENTRY(divide_d_x2), ENTRY(mod_d_x2), ENTRY(power_d_x1), ENTRY(power_d_x2), ENTRY(maximum_grad),
    ENTRY(where), ENTRY(where_int32), ENTRY(where_int64),
    ENTRY(cast),

    /* math */
    ENTRY(negative), ENTRY(abs), ENTRY(abs_grad), ENTRY(sign), ENTRY(square), ENTRY(square_grad),
    ENTRY(sqrt), ENTRY(sqrt_grad), ENTRY(rsqrt), ENTRY(rsqrt_grad), ENTRY(reciprocal), ENTRY(reciprocal_grad),
    ENTRY(floor), ENTRY(ceil), ENTRY(round), ENTRY(isfinite), ENTRY(isinf), ENTRY(isnan),
    ENTRY(exp), ENTRY(exp_grad),
    ENTRY(expm1), ENTRY(expm1_grad),
    ENTRY(log), ENTRY(log_grad),
    ENTRY(log1p), ENTRY(log1p_grad),
    ENTRY(sin), ENTRY(sin_grad),
    ENTRY(cos), ENTRY(cos_grad),
    ENTRY(erf), ENTRY(erf_grad),
    ENTRY(clip), ENTRY(clip_grad),

    /* activation */
    ENTRY(relu), ENTRY(relu_grad),
    ENTRY(relu6), ENTRY(relu6_grad), ENTRY(activated_sum),
    ENTRY(leaky_relu), ENTRY(leaky_relu_grad),
    ENTRY(elu), ENTRY(elu_grad),
    ENTRY(selu), ENTRY(selu_grad),
    ENTRY(sigmoid), ENTRY(sigmoid_grad),
    ENTRY(tanh), ENTRY(tanh_grad),
    ENTRY(softplus), ENTRY(softplus_grad),
    ENTRY(log_sigmoid), ENTRY(log_sigmoid_grad),
    ENTRY(softsign), ENTRY(softsign_grad),
    ENTRY(silu), ENTRY(silu_grad),
    ENTRY(hard_sigmoid), ENTRY(hard_sigmoid_grad),
    ENTRY(hard_silu), ENTRY(hard_silu_grad),
    ENTRY(mish), ENTRY(mish_grad),
    ENTRY(gelu), ENTRY(gelu_grad),
    ENTRY(gelu_approximate), ENTRY(gelu_approximate_grad),

    /* reduction */
    ENTRY(sum), ENTRY(sum_of_squares), ENTRY(sum_of_exp), ENTRY(max), ENTRY(min), ENTRY(prod), ENTRY(prod_grad),
    ENTRY(sum_int32), ENTRY(max_int32), ENTRY(min_int32), ENTRY(prod_int32),
    ENTRY(sum_int64), ENTRY(max_int64), ENTRY(min_int64), ENTRY(prod_int64),
    ENTRY(any), ENTRY(all),
    ENTRY(argmax), ENTRY(argmax_int32), ENTRY(argmax_int64), ENTRY(argmin), ENTRY(argmin_int32), ENTRY(argmin_int64),

    /* shape */
    ENTRY(rearrange),

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
    ENTRY(check_classes),
    ENTRY(take),
    ENTRY(order_indices),
    ENTRY(take_grad),
    ENTRY(one_hot),

    /* convolution */
    ENTRY(conv2d),
    ENTRY(conv2d_pack_flipped),
    ENTRY(conv2d_d_images),
    ENTRY(conv2d_d_kernel),
    ENTRY(im2col),
    ENTRY(col2im),

    /* few_channels */
    ENTRY(conv2d_few_channels),
    ENTRY(conv2d_d_few_channels),
    ENTRY(pooled_conv2d),
    ENTRY(pooled_conv2d_d_kernel),

    /* winograd */
    ENTRY(winograd_images),
    ENTRY(winograd),
    ENTRY(winograd_d_kernel),

    /* depthwise */
    ENTRY(repeat_channels),
    ENTRY(repeat_channels_grad),
    ENTRY(depthwise_conv2d),
    ENTRY(depthwise_conv2d_d_images),
    ENTRY(depthwise_conv2d_d_kernel),

    /* pooling */
    ENTRY(max_pool2d),
    ENTRY(average_pool2d),
    ENTRY(pool2d_grad),

    /* recurrent */
    ENTRY(pack_gates),
    ENTRY(pack_gates_bf16),
    ENTRY(lstm),
    ENTRY(lstm_grad),
    ENTRY(lstm_units), ENTRY(lstm_units_grad),
    ENTRY(gru), ENTRY(gru_grad),
    ENTRY(simple_rnn), ENTRY(simple_rnn_grad),

    /* softmax */
    ENTRY(softmax),
    ENTRY(softmax_grad),

    /* normalization */
    ENTRY(batch_statistics),
    ENTRY(batch_statistics_total),
    ENTRY(batch_normalize),
    ENTRY(batch_normalize_sums),
    ENTRY(sum_norm_pieces),
    ENTRY(batch_normalize_d_x),
    ENTRY(standardize_grad),
    ENTRY(moving_average),
    ENTRY(layer_normalize),
    ENTRY(layer_normalize_grad),

    /* attention */
    ENTRY(attention),
    ENTRY(attention_grad),

    /* loss */
    ENTRY(check_labels),
    ENTRY(softmax_cross_entropy),
    ENTRY(softmax_cross_entropy_grad),
    ENTRY(sparse_cross_entropy),
    ENTRY(sparse_cross_entropy_grad),
    ENTRY(distribution_cross_entropy),
    ENTRY(distribution_cross_entropy_grad),
    ENTRY(distribution_log_loss),
    ENTRY(distribution_log_loss_grad),
    ENTRY(loss_sums),
    ENTRY(loss_total),
    ENTRY(loss_total_grad),
    ENTRY(loss_weights_grad),
    ENTRY(penalty_sums),
    ENTRY(penalty_total),
    ENTRY(penalty_grad),

    /* pair_loss */
    ENTRY(pair_losses),
    ENTRY(pair_losses_grad),

    /* metric */
    ENTRY(label_matches),
    ENTRY(pair_matches),
    ENTRY(add_to_mean),
    ENTRY(mean_so_far),
    ENTRY(sorted_matches),
    ENTRY(add_to_confusion),

    /* random */
    ENTRY(next_key),
    ENTRY(random_uniform),
    ENTRY(random_integers),
    ENTRY(random_normal),
    ENTRY(dropout),

    /* optimizer */
    ENTRY(advance_iterations),
    ENTRY(adam),
    ENTRY(sgd),
    ENTRY(rmsprop),
    ENTRY(sum_squares),
    ENTRY(clip_scale),
    ENTRY(average_parameters),
    ENTRY(decayed_learning_rate),
    ENTRY(stepped_learning_rate),

    /* bfloat16 */
    ENTRY(pack_bf16),
    ENTRY(matrix_product_bf16),
    ENTRY(conv2d_bf16),
    ENTRY(conv2d_pack_flipped_bf16),
    ENTRY(conv2d_d_images_bf16),
    ENTRY(conv2d_d_kernel_bf16),
    ENTRY(winograd_pack_bf16),
    ENTRY(winograd_bf16),

    0
};
