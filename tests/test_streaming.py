"""Results that are stored past the caches, as those of large calls are, have the bits of those that are not."""

import numpy as np

from fastdl import _core, ops
from fastdl.ops.linear import Linear
from fastdl.tensor import kernels

NUMBERS = 6 << 20                   # that a call touches, as in csrc/kernel.h


def uniform(rng, *shape):
    made = _core.empty(shape)
    made[...] = rng.random(shape, dtype="float32") - np.float32(0.5)
    return made


def same_in_parts(function, *arrays):
    """function(*arrays) is that of both halves of the arrays."""
    whole, half = function(*arrays), len(arrays[0]) // 2
    assert whole.size + sum(a.size for a in arrays) >= NUMBERS
    for rows in slice(None, half), slice(half, None):
        assert function(*(a[rows] for a in arrays)).tobytes() == whole[rows].tobytes()


def test_batch_normalize(c_isa, rng):
    x, d_y, residual = (uniform(rng, 384 * 128, 64) for _ in range(3))
    mean, gamma, beta, d_beta, d_gamma = (uniform(rng, 64) for _ in range(5))
    variance, count = uniform(rng, 64) + 1, np.full((), 384.0 * 128)
    sizes = dict(channels=64, inner=1, epsilon=1e-3)

    def normalized(x, *residual, shift=0):
        y = _core.empty((x.size + shift,))[shift:].reshape(x.shape)
        kernels.batch_normalize(y, x, mean, variance, gamma, beta, *(residual or (None,)), outer=len(x), activation=1, **sizes)
        return y

    def gradient(x, d_y):
        d_x = _core.empty(x.shape)
        kernels.batch_normalize_d_x(d_x, d_y, x, mean, variance, gamma, beta, d_beta, d_gamma, count, None, outer=len(x), activation=1, **sizes)
        return d_x

    same_in_parts(normalized, x)
    same_in_parts(normalized, x, residual)
    same_in_parts(gradient, x, d_y)
    assert normalized(x, shift=1).tobytes() == normalized(x).tobytes(), "not aligned"


def test_pooling(c_isa, rng):
    x = uniform(rng, 26, 56, 56, 64)
    same_in_parts(lambda x: ops.max_pool2d(x, pool_size=(2, 2)).numpy(), x)
    same_in_parts(lambda x: ops.average_pool2d(x, pool_size=(2, 2)).numpy(), x)


def test_depthwise_convolution(c_isa, rng):
    x, kernel, bias = uniform(rng, 16, 56, 56, 64), uniform(rng, 3, 3, 64, 1), uniform(rng, 64)
    for activation in None, "relu", "tanh":
        same_in_parts(lambda x: ops.depthwise_conv2d(x, kernel, bias, padding="same", activation=activation).numpy(), x)

    def gradient(d_y):
        d_x = _core.empty(d_y.shape)
        kernels.depthwise_conv2d_d_images(d_x, d_y, kernel.reshape(3, 3, 64), batch=len(d_y), height=56, width=56, channels=64, out_height=56,
                                          out_width=56, kernel_height=3, kernel_width=3, stride_height=1, stride_width=1, dilation_height=1,
                                          dilation_width=1, top=1, left=1)
        return d_x

    same_in_parts(gradient, x)


def test_strided_convolution(c_isa, rng):
    x, kernel, bias = uniform(rng, 10, 200, 200, 3), uniform(rng, 7, 7, 3, 64), uniform(rng, 64)
    for activation in None, "relu":
        same_in_parts(lambda x: ops.conv2d(x, kernel, bias, strides=2, padding="same", activation=activation).numpy(), x)


def test_matrix_product(c_isa, rng):
    x, residual = uniform(rng, 65600, 24), uniform(rng, 65600, 96)
    kernel, bias = uniform(rng, 24, 96), uniform(rng, 96)
    for activation in None, "relu", "gelu":
        same_in_parts(lambda x, *residual: ops.linear(x, kernel, bias, activation, *residual).numpy(), x, residual)
    same_in_parts(lambda x: ops.linear(x, kernel, bias).numpy(), x)


def test_products_in_bfloat16(c_isa, rng):
    x, residual, kernel, bias = uniform(rng, 13184, 64), uniform(rng, 13184, 240), uniform(rng, 64, 240), uniform(rng, 240)
    for activation in "relu", "tanh":
        product = lambda x, residual: Linear.apply(x, kernel, bias, residual, activation=activation, bfloat16=True).numpy()
        same_in_parts(product, x, residual)
