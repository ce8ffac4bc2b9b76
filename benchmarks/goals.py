"""How many times as fast as the fastest other library fastdl is to be, by workload of the outside harness (see README.md)."""

STEPS = {
    "mlp10_b32": 6, "mlp10_b256": 3.5, "cnn28_b32": 8, "cnn28_b128": 6.5, "lstm64_s80_b32": 2.5, "lstm64_s200_b128": 2.2,
    "charlstm_s64_b64": 1.25, "resnet18_cifar_b32": 1.8, "vgg_small_b64": 2, "transformer_b16": 1.7,
}
INFERENCE = {
    "infer_mlp10_b1": 2.1, "infer_cnn28_b1": 2.1, "infer_cnn28_b256": 1.6, "infer_lstm64_s80_b1": 1.3, "infer_transformer_b1": 1.4,
    "infer_mobilenetv2_b1": 1.15, "infer_resnet50_b1": 1.25, "infer_resnet50_b8": 1.45,
}
KERNELS = {
    "k_gemm_64": 1.9, "k_gemm_128": 1.85, "k_gemm_256": 1.1, "k_gemm_512": 1.05, "k_gemm_1024": 1.3, "k_gemm_2048": 1.4,
    "k_gemm_128x1024x4096": 1.45, "k_gemm_1x1024x1024": 1.1, "k_gemm_32x64x64": 1.85, "k_gemm_4096x27x64": 1.1,
    "k_conv_8x56x64_k64r3s1": 1.85, "k_convbwd_8x56x64_k64r3s1": 3.2, "k_conv_8x28x128_k128r3s1": 2, "k_convbwd_8x28x128_k128r3s1": 1.9,
    "k_conv_8x14x256_k256r3s1": 1.7, "k_convbwd_8x14x256_k256r3s1": 1.7, "k_conv_8x7x512_k512r3s1": 1.5, "k_convbwd_8x7x512_k512r3s1": 2.6,
    "k_conv_8x56x64_k256r1s1": 1.35, "k_convbwd_8x56x64_k256r1s1": 2.05, "k_conv_8x224x3_k64r7s2": 1.15, "k_convbwd_8x224x3_k64r7s2": 4.15,
    "k_conv_32x28x1_k32r3s1": 1.9, "k_convbwd_32x28x1_k32r3s1": 7.25, "k_conv_8x56x144_k144r3s1g144": 2.5,
    "k_convbwd_8x56x144_k144r3s1g144": 2.2, "k_maxpool2x2_fwd": 1.4, "k_maxpool2x2_fwdbwd": 2.7, "k_avgpool2x2_fwdbwd": 2.2,
    "k_softmax_1024x1000": 1.15, "k_layernorm_2048x768_fwd": 1.25, "k_layernorm_2048x768_fwdbwd": 2.05, "k_batchnorm_train_fwdbwd": 1.75,
    "k_gelu_4M": 1.7, "k_tanh_4M": 1.3, "k_sigmoid_4M": 1.45, "k_exp_4M": 1.05, "k_lstm_fwd_t50b64h256": 1.1, "k_lstm_fwdbwd_t50b64h256": 1.3,
    "k_lstm_fwd_t100b32h512": 1.1, "k_lstm_fwdbwd_t100b32h512": 1.2, "k_lstm_fwd_t25b1h128": 1.3, "k_lstm_fwdbwd_t25b1h128": 2.85,
    "k_embedding_gather": 1.05, "k_embedding_scatter_grad": 4.65, "k_adam_10M": 1.1,
}
FIT = {"fit_mnist_b32": 8, "fit_mnist_b128": 14}
GOALS = {**STEPS, **INFERENCE, **KERNELS, **FIT}
