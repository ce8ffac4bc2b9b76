/* Table of contents: every kernel, one line each. This file and those in kernels/ are built once per instruction set, as FD_ISA. */
#include "kernel.h"

#define KERNELS(_)                                                                                                    \
    /* linear */                                                                                                      \
    _(pack)                                                                                                           \
    _(matrix_product)                                                                                                 \
    _(inner_product)                                                                                                  \
    _(sum_parts)                                                                                                      \
    _(column_sums)                                                                                                    \
    _(activation_grad)                                                                                                \
    _(product_d_z)                                                                                                    \
    _(few_columns_product) _(few_columns_d_x)                                                                         \
                                                                                                                      \
    /* elementwise */                                                                                                 \
    _(check_finite)                                                                                                   \
    _(fill)                                                                                                           \
    _(copy)                                                                                                           \
    _(accumulate)                                                                                                     \
    _(add) _(add_int32) _(add_int64)                                                                                  \
    _(subtract) _(subtract_int32) _(subtract_int64)                                                                   \
    _(multiply) _(multiply_int32) _(multiply_int64)                                                                   \
    _(divide)                                                                                                         \
    _(floor_divide) _(floor_divide_int32) _(floor_divide_int64)                                                       \
    _(mod) _(mod_int32) _(mod_int64)                                                                                  \
    _(power) _(power_int32) _(power_int64)                                                                            \
    _(maximum) _(maximum_int32) _(maximum_int64)                                                                      \
    _(minimum) _(minimum_int32) _(minimum_int64)                                                                      \
    _(equal) _(equal_int32) _(equal_int64)                                                                            \
    _(not_equal) _(not_equal_int32) _(not_equal_int64)                                                                \
    _(greater) _(greater_int32) _(greater_int64)                                                                      \
    _(greater_equal) _(greater_equal_int32) _(greater_equal_int64)                                                    \
    _(logical_and) _(logical_or) _(logical_xor)                                                                       \
    _(divide_d_x2) _(mod_d_x2) _(power_d_x1) _(power_d_x2) _(maximum_grad)                                            \
    _(where) _(where_int32) _(where_int64)                                                                            \
    _(cast)                                                                                                           \
                                                                                                                      \
    /* math */                                                                                                        \
    _(negative) _(abs) _(abs_grad) _(sign) _(square) _(square_grad)                                                   \
    _(sqrt) _(sqrt_grad) _(rsqrt) _(rsqrt_grad) _(reciprocal) _(reciprocal_grad)                                      \
    _(floor) _(ceil) _(round) _(isfinite) _(isinf) _(isnan)                                                           \
    _(exp) _(exp_grad)                                                                                                \
    _(expm1) _(expm1_grad)                                                                                            \
    _(log) _(log_grad)                                                                                                \
    _(log1p) _(log1p_grad)                                                                                            \
    _(sin) _(sin_grad)                                                                                                \
    _(cos) _(cos_grad)                                                                                                \
    _(erf) _(erf_grad)                                                                                                \
    _(clip) _(clip_grad)                                                                                              \
                                                                                                                      \
    /* activation */                                                                                                  \
    _(relu) _(relu_grad)                                                                                              \
    _(relu6) _(relu6_grad) _(activated_sum)                                                                           \
    _(leaky_relu) _(leaky_relu_grad)                                                                                  \
    _(elu) _(elu_grad)                                                                                                \
    _(selu) _(selu_grad)                                                                                              \
    _(sigmoid) _(sigmoid_grad)                                                                                        \
    _(tanh) _(tanh_grad)                                                                                              \
    _(softplus) _(softplus_grad)                                                                                      \
    _(log_sigmoid) _(log_sigmoid_grad)                                                                                \
    _(softsign) _(softsign_grad)                                                                                      \
    _(silu) _(silu_grad)                                                                                              \
    _(hard_sigmoid) _(hard_sigmoid_grad)                                                                              \
    _(hard_silu) _(hard_silu_grad)                                                                                    \
    _(mish) _(mish_grad)                                                                                              \
    _(gelu) _(gelu_grad)                                                                                              \
    _(gelu_approximate) _(gelu_approximate_grad)                                                                      \
                                                                                                                      \
    /* recurrent, without lstm */                                                                                     \
    _(gru) _(gru_grad) _(gru_units) _(gru_units_grad)                                                                 \
    _(simple_rnn) _(simple_rnn_grad) _(simple_rnn_units) _(simple_rnn_units_grad)                                     \
                                                                                                                      \
    /* reduction */                                                                                                   \
    _(sum) _(sum_of_squares) _(sum_of_exp) _(max) _(min) _(prod) _(prod_grad)                                         \
    _(sum_int32) _(max_int32) _(min_int32) _(prod_int32)                                                              \
    _(sum_int64) _(max_int64) _(min_int64) _(prod_int64)                                                              \
    _(any) _(all)                                                                                                     \
    _(argmax) _(argmax_int32) _(argmax_int64) _(argmin) _(argmin_int32) _(argmin_int64)                               \
                                                                                                                      \
    /* shape */                                                                                                       \
    _(rearrange)                                                                                                      \
                                                                                                                      \
    /* indexing */                                                                                                    \
    _(check_order)                                                                                                    \
    _(gather_uint8_to_float32)                                                                                        \
    _(gather_int32_to_float32)                                                                                        \
    _(gather_int64_to_float32)                                                                                        \
    _(gather_float32_to_float32)                                                                                      \
    _(gather_float64_to_float32)                                                                                      \
    _(gather_uint8_to_int32)                                                                                          \
    _(gather_int32_to_int32)                                                                                          \
    _(gather_int64_to_int32)                                                                                          \
    _(gather_float32_to_int32)                                                                                        \
    _(gather_float64_to_int32)                                                                                        \
    _(gather_uint8_to_uint8)                                                                                          \
    _(scatter_rows)                                                                                                   \
    _(advance)                                                                                                        \
    _(check_indices)                                                                                                  \
    _(check_tokens)                                                                                                   \
    _(check_classes)                                                                                                  \
    _(take)                                                                                                           \
    _(order_indices)                                                                                                  \
    _(take_grad)                                                                                                      \
    _(one_hot)                                                                                                        \
                                                                                                                      \
    /* convolution */                                                                                                 \
    _(conv2d)                                                                                                         \
    _(conv2d_pack_flipped)                                                                                            \
    _(conv2d_d_images)                                                                                                \
    _(conv2d_d_kernel)                                                                                                \
    _(im2col)                                                                                                         \
    _(col2im)                                                                                                         \
                                                                                                                      \
    /* few_channels */                                                                                                \
    _(conv2d_few_channels)                                                                                            \
    _(conv2d_d_few_channels)                                                                                          \
    _(conv2d_d_kernel_few_channels)                                                                                   \
                                                                                                                      \
    /* pooled_convolution */                                                                                          \
    _(pooled_conv2d)                                                                                                  \
    _(pooled_conv2d_d_kernel)                                                                                         \
                                                                                                                      \
    /* strided_winograd */                                                                                            \
    _(strided_winograd_kernel)                                                                                        \
    _(strided_winograd)                                                                                               \
    _(strided_winograd_d_kernel)                                                                                      \
    _(strided_winograd_turned) _(strided_winograd_d_images)                                                           \
                                                                                                                      \
    /* phase_winograd */                                                                                              \
    _(phase_winograd_kernel)                                                                                          \
    _(phase_winograd)                                                                                                 \
    _(phase_winograd_d_kernel)                                                                                        \
                                                                                                                      \
    /* winograd */                                                                                                    \
    _(winograd_kernel) _(winograd_images)                                                                             \
    _(winograd)                                                                                                       \
    _(winograd_d_kernel)                                                                                              \
                                                                                                                      \
    /* depthwise */                                                                                                   \
    _(repeat_channels)                                                                                                \
    _(repeat_channels_grad)                                                                                           \
    _(depthwise_conv2d)                                                                                               \
    _(depthwise_conv2d_d_images)                                                                                      \
    _(depthwise_conv2d_d_kernel)                                                                                      \
                                                                                                                      \
    /* pooling */                                                                                                     \
    _(max_pool2d)                                                                                                     \
    _(average_pool2d)                                                                                                 \
    _(pool2d_grad)                                                                                                    \
                                                                                                                      \
    /* softmax */                                                                                                     \
    _(softmax)                                                                                                        \
    _(softmax_grad)                                                                                                   \
                                                                                                                      \
    /* normalization */                                                                                               \
    _(batch_statistics)                                                                                               \
    _(batch_statistics_total)                                                                                         \
    _(batch_normalize)                                                                                                \
    _(batch_normalize_sums)                                                                                           \
    _(sum_norm_pieces)                                                                                                \
    _(batch_normalize_d_x)                                                                                            \
    _(standardize_grad)                                                                                               \
    _(moving_average)                                                                                                 \
                                                                                                                      \
    /* layer_normalization */                                                                                         \
    _(layer_normalize)                                                                                                \
    _(layer_normalize_grad)                                                                                           \
                                                                                                                      \
    /* attention */                                                                                                   \
    _(attention)                                                                                                      \
    _(attention_grad)                                                                                                 \
                                                                                                                      \
    /* loss */                                                                                                        \
    _(check_labels)                                                                                                   \
    _(softmax_cross_entropy)                                                                                          \
    _(softmax_cross_entropy_grad)                                                                                     \
    _(sparse_cross_entropy)                                                                                           \
    _(sparse_cross_entropy_grad)                                                                                      \
    _(distribution_cross_entropy)                                                                                     \
    _(distribution_cross_entropy_grad)                                                                                \
    _(distribution_log_loss)                                                                                          \
    _(distribution_log_loss_grad)                                                                                     \
    _(loss_sums)                                                                                                      \
    _(loss_total)                                                                                                     \
    _(loss_total_grad)                                                                                                \
    _(loss_weights_grad)                                                                                              \
    _(penalty_sums)                                                                                                   \
    _(penalty_total)                                                                                                  \
    _(penalty_grad)                                                                                                   \
                                                                                                                      \
    /* pair_loss */                                                                                                   \
    _(pair_losses)                                                                                                    \
    _(pair_losses_grad)                                                                                               \
                                                                                                                      \
    /* metric */                                                                                                      \
    _(label_matches)                                                                                                  \
    _(pair_matches)                                                                                                   \
    _(add_to_mean)                                                                                                    \
    _(mean_so_far)                                                                                                    \
    _(sorted_matches)                                                                                                 \
    _(add_to_confusion)                                                                                               \
                                                                                                                      \
    /* random */                                                                                                      \
    _(next_key)                                                                                                       \
    _(random_uniform)                                                                                                 \
    _(random_integers)                                                                                                \
    _(random_normal)                                                                                                  \
    _(dropout)                                                                                                        \
                                                                                                                      \
    /* optimizer */                                                                                                   \
    _(advance_iterations)                                                                                             \
    _(adam) _(adam_of_rows)                                                                                           \
    _(sgd)                                                                                                            \
    _(rmsprop)                                                                                                        \
    _(sum_squares)                                                                                                    \
    _(clip_scale)                                                                                                     \
    _(average_parameters)                                                                                             \
    _(decayed_learning_rate)                                                                                          \
    _(stepped_learning_rate)

/* Those of files that include tile_bf16.h themselves. */
#define PAIR_KERNELS(_)                                                                                               \
    /* lstm */                                                                                                        \
    _(pack_gates)                                                                                                     \
    _(pack_gates_bf16)                                                                                                \
    _(lstm)                                                                                                           \
    _(lstm_grad)                                                                                                      \
    _(lstm_units) _(lstm_units_grad)                                                                                  \
                                                                                                                      \
    /* inverted_residual */                                                                                           \
    _(inverted_residual)                                                                                              \
                                                                                                                      \
    /* bfloat16 */                                                                                                    \
    _(pack_bf16)                                                                                                      \
    _(matrix_product_bf16)                                                                                            \
    _(conv2d_bf16)                                                                                                    \
    _(conv2d_pack_flipped_bf16)                                                                                       \
    _(conv2d_d_images_bf16)                                                                                           \
    _(conv2d_d_kernel_bf16)                                                                                           \
    _(winograd_pack_bf16)                                                                                             \
    _(winograd_bf16)                                                                                                  \
    _(winograd4x4_images_bf16) _(winograd4x4_pack_bf16)                                                               \
    _(winograd4x4_bf16)                                                                                               \
    _(winograd4x4_d_kernel_bf16)

#define DECLARED(name) extern const fd_kernel FD_OF_ISA(name);
#define DECLARED_REST(name) extern const fd_kernel FD_OF_REST(name);
#define ENTRY(name) &FD_OF_ISA(name),
#define ENTRY_REST(name) &FD_OF_REST(name),

KERNELS(DECLARED_REST)
PAIR_KERNELS(DECLARED)

const fd_kernel *const FD_OF_ISA(kernels)[] = { KERNELS(ENTRY_REST) PAIR_KERNELS(ENTRY) 0 };
