"""Depthwise convolution with small whole numbers, where no sum rounds: it equals a convolution in groups of one channel."""

import numpy as np
import pytest

import fastdl
from fastdl import ops
from fastdl.ops.convolution import Conv2D
from fastdl.record import Program
from fastdl.tensor import Tensor, backward


def whole(rng, shape):
    return rng.integers(-3, 4, shape).astype("float32")


def configurations():
    """Rows at the edges of what is computed at once, kernels wider than the images; then a fixed sample of awkward ones."""
    yield (1, 3, 8, 16), (3, 3), 1, (1, 1), "same", (1, 1)
    yield (2, 2, 3, 5), (4, 5), 1, (1, 1), "same", (1, 1)
    yield (1, 70, 5, 3), (3, 5), 2, (1, 1), "same", (1, 1)
    rng = np.random.default_rng(3)
    for _ in range(25):
        window, dilation, strides = rng.integers(1, 6, 2), rng.integers(1, 4, 2), rng.integers(1, 5, 2)
        padding = ["valid", "same", tuple(map(tuple, rng.integers(0, 4, (2, 2))))][rng.integers(0, 3)]
        images = int(rng.integers(1, 3)), *(int(n) for n in (window - 1) * dilation + 1 + rng.integers(0, 12, 2)), int(rng.integers(1, 40))
        yield images, tuple(map(int, window)), int(rng.choice([1, 1, 3])), tuple(map(int, strides)), padding, tuple(map(int, dilation))


@pytest.mark.parametrize("images, window, times, strides, padding, dilation", list(configurations()))
def test_equals_a_convolution_in_groups(images, window, times, strides, padding, dilation):
    rng, channels = np.random.default_rng(2), images[3]
    images, kernel, bias = whole(rng, images), whole(rng, (*window, channels, times)), whole(rng, channels * times)
    options, found = dict(strides=strides, padding=padding, dilation=dilation), []
    for isa in fastdl.config.available_isas():
        with fastdl.isa(isa):
            for function, k, more in ((ops.depthwise_conv2d, kernel, {}), (Conv2D.apply, kernel.reshape(*window, 1, -1), {"groups": channels})):
                inputs = [Tensor(images, True), Tensor(k, True), Tensor(bias, True)]
                out = function(*inputs, **options, **more)
                d_out = np.random.default_rng(4).integers(-3, 4, out.shape).astype("float32")
                found.append([out.array, *(g.ravel() for g in backward([out], [d_out], targets=inputs))])
    for other in found[1:]:
        for name, a, b in zip(("out", "d_images", "d_kernel", "d_bias"), found[0], other):
            np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.mark.parametrize("shapes, options, message", [
    (((1, 5, 5, 3), (3, 3, 4, 1)), {}, "images have 3 channels, kernel expects 4\n  images  (1, 5, 5, 3)   batch, height, width, channels\n  kernel  "),
    (((5, 5, 3), (3, 3, 3, 1)), {}, "four axes"),
    (((1, 5, 5, 3), (3, 3, 3, 2), (3,)), {}, r"bias has shape (3,), 6 filters want (6,)"),
    (((1, 2, 9, 3), (3, 3, 3, 1)), {}, "does not fit"),
    (((1, 300, 300, 1), (257, 256, 1, 1)), {}, "at most 65536 places"),
])
def test_shapes_that_do_not_fit(shapes, options, message):
    with pytest.raises(fastdl.ShapeError) as e:
        ops.depthwise_conv2d(*(np.zeros(s, "float32") for s in shapes), **options)
    assert "depthwise_conv2d: " in str(e.value) and message in str(e.value)


def test_conv2d_of_single_channels_runs_the_depthwise_kernels():
    x, kernel = fastdl.tensor(np.ones((2, 6, 6, 5))), fastdl.tensor(np.ones((3, 3, 1, 10)))
    program = Program()
    with program.recorded():
        ops.conv2d(x, kernel, groups=5)
    assert "depthwise_conv2d" in {kernel for kernel, *_ in program.about}
