"""Convolution with pooling equals convolution and then pooling: with small whole numbers, where no sum rounds, to the bit."""

import numpy as np
import pytest

import fastdl
from fastdl import ops
from fastdl.tensor import Tensor, backward


def whole(rng, shape):
    return rng.integers(-3, 4, shape).astype("float32")


def configurations():
    """Shapes at the edges of tiles, of the rows in scratch and of panels; then a fixed sample of awkward ones."""
    yield (3, 28, 28, 1), (3, 3, 1, 32), (1, 1), "valid"
    yield (1, 7, 300, 1), (2, 3, 1, 16), (1, 1), "same"                     # more windows across than are in scratch
    yield (2, 75, 6, 1), (3, 1, 1, 3), (1, 1), "valid"                      # and down
    yield (1, 60, 50, 25), (2, 2, 25, 3), (3, 2), "same"                    # rows too long for scratch
    yield (1, 9, 8, 3), (5, 6, 3, 65), (1, 2), ((2, 2), (3, 1))
    yield (1, 20, 20, 1), (1, 1, 1, 4), (8, 8), "valid"
    rng = np.random.default_rng(5)
    for _ in range(15):
        kernel, strides = (*rng.integers(1, 5, 2), int(rng.integers(1, 5)), int(rng.integers(1, 70))), rng.integers(1, 4, 2)
        padding = ["valid", "same", tuple(map(tuple, rng.integers(0, 3, (2, 2))))][rng.integers(0, 3)]
        images = int(rng.integers(1, 4)), *(int(n) for n in np.array(kernel[:2]) + strides + rng.integers(0, 12, 2)), kernel[2]
        yield images, tuple(map(int, kernel)), tuple(map(int, strides)), padding


@pytest.mark.parametrize("images, kernel, strides, padding", list(configurations()))
@pytest.mark.parametrize("activation", [None, "relu"])
def test_equals_convolution_and_pooling(images, kernel, strides, padding, activation):
    rng = np.random.default_rng(1)
    images, kernel, bias = whole(rng, images), whole(rng, kernel), whole(rng, kernel[3])
    options, found = dict(strides=strides, padding=padding, activation=activation), []
    for isa in fastdl.config.available_isas():
        with fastdl.isa(isa):
            for function in (ops.pooled_conv2d, lambda *inputs, **options: ops.max_pool2d(ops.conv2d(*inputs, **options))):
                inputs = [Tensor(a.copy(), True) for a in (images, kernel, bias)]
                out = function(*inputs, **options)
                d_out = np.random.default_rng(4).integers(-3, 4, out.shape).astype("float32")
                found.append([out.array, *backward([out], [d_out], targets=inputs)])
    for other in found[1:]:
        for name, a, b in zip(("out", "d_images", "d_kernel", "d_bias"), found[0], other):
            np.testing.assert_array_equal(a, b, err_msg=name)


def test_not_a_number_wins():
    images = np.zeros((1, 4, 8, 1), "float32")
    images[0, 1, 1], images[0, 2, 6], images[0, 0, 4] = np.nan, np.nan, np.inf
    kernel = np.ones((1, 1, 1, 3), "float32")
    for isa in fastdl.config.available_isas():
        with fastdl.isa(isa):
            y = ops.pooled_conv2d(images, kernel, activation="relu").array[0, :, :, 0]
        np.testing.assert_array_equal(y, [[np.nan, 0, np.inf, 0], [0, 0, 0, np.nan]])


def test_the_first_of_equal_ones_learns():
    images, kernel = Tensor(np.ones((1, 2, 2, 1), "float32"), True), np.full((1, 1, 1, 2), 3, "float32")
    out = ops.pooled_conv2d(images, kernel)
    d_images, = backward([out], [np.ones((1, 1, 1, 2), "float32")], targets=[images])
    np.testing.assert_array_equal(d_images[0, :, :, 0], [[6, 0], [0, 0]])


@pytest.mark.parametrize("kernel, options", [((3, 3, 15, 2), {}), ((3, 3, 2, 2), {"strides": 9}), ((3, 3, 2, 2), {"activation": "tanh"})])
def test_refuses_what_it_cannot(kernel, options):
    with pytest.raises(ValueError, match="at most 128 numbers for each filter, strides of at most 8"):
        ops.pooled_conv2d(np.zeros((1, 30, 30, kernel[2]), "float32"), np.zeros(kernel, "float32"), **options)


def test_refuses_a_convolution_of_one_row():
    with pytest.raises(fastdl.errors.ShapeError, match="2 x 2 does not fit into the convolution's 1 x 4"):
        ops.pooled_conv2d(np.zeros((1, 3, 6, 1), "float32"), np.zeros((3, 3, 1, 2), "float32"))
