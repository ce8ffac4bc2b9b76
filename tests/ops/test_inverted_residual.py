"""The block of MobileNet in one equals its three convolutions: to the bit, but for the order of sums over parts of the channels."""

import numpy as np
import pytest

import fastdl
from fastdl import ops
from fastdl.ops.inverted_residual import InvertedResidual
from fastdl.ops.linear import MatMul
from fastdl.tensor import Tensor


def configurations():
    """images, channels (None: nothing is expanded), filters, window, strides, padding, whether there is a residual."""
    yield (1, 14, 14, 16), 96, 16, (3, 3), (1, 1), "same", True
    yield (2, 28, 29, 8), 40, 24, (3, 3), (2, 2), ((0, 1), (1, 1)), False
    yield (2, 7, 7, 24), 200, 24, (3, 3), (1, 1), "same", True                  # in parts
    yield (3, 5, 6, 7), 33, 3, (3, 3), (1, 1), "valid", False
    yield (2, 15, 21, 33), None, 50, (3, 3), (1, 1), "same", False
    yield (1, 70, 60, 3), 130, 5, (5, 5), (2, 1), "same", False                 # more rows than are multiplied at once
    yield (1, 9, 40, 2), 65, 70, (2, 1), (3, 3), "valid", False                 # rows that no window sees
    yield (1, 6, 17, 2), 8, 4, (8, 9), (1, 2), ((4, 3), (5, 9)), False
    rng = np.random.default_rng(8)
    for _ in range(15):
        window, strides = tuple(map(int, rng.integers(1, 6, 2))), tuple(map(int, rng.integers(1, 4, 2)))
        padding = ["valid", "same", tuple(tuple(map(int, p)) for p in rng.integers(0, 4, (2, 2)))][rng.integers(0, 3)]
        images = int(rng.integers(1, 4)), *(int(n) for n in np.array(window) + rng.integers(0, 20, 2)), int(rng.integers(1, 20))
        yield images, int(rng.integers(1, 150)) if rng.random() < 0.8 else None, int(rng.integers(1, 70)), window, strides, padding, False


def pixelwise(x, kernel, bias, activation, bfloat16):
    """A 1x1 convolution, which rounds its operands however few the channels are."""
    if not bfloat16:
        return ops.conv2d(x, kernel, bias, activation=activation)
    y = MatMul.apply(ops.reshape(x, (-1, x.shape[-1])), kernel[0, 0], bfloat16=True) + bias
    return ops.reshape(ops.relu6(y) if activation else y, (*x.shape[:3], -1))


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("images, channels, filters, window, strides, padding, added", list(configurations()))
def test_equals_three_convolutions(images, channels, filters, window, strides, padding, added, bfloat16):
    for whole in True, False:
        rng = np.random.default_rng(3)
        some = lambda *shape: rng.integers(-3, 4, shape).astype("float32") if whole else rng.standard_normal(shape).astype("float32")
        x, wide = some(*images), channels or images[3]
        expand, expand_bias = (some(1, 1, images[3], wide), some(wide)) if channels else (None, None)
        kernel, bias, project, project_bias = some(*window, wide, 1), some(wide), some(1, 1, wide, filters), some(filters)
        for isa in fastdl.config.available_isas():
            with fastdl.isa(isa), fastdl.no_grad():
                y = x if expand is None else pixelwise(x, expand, expand_bias, "relu6", bfloat16)
                y = ops.depthwise_conv2d(y, kernel, bias, strides=strides, padding=padding, activation="relu")
                wanted = pixelwise(y, project, project_bias, None, bfloat16).numpy()
                residual = some(*wanted.shape) if added else None
                wanted = wanted if residual is None else wanted + residual
                made = InvertedResidual.apply(x, expand, expand_bias, kernel, bias, project, project_bias, residual, strides=strides, padding=padding,
                                              activations=("relu6", "relu", None), bfloat16=bfloat16).numpy()
            parts = InvertedResidual.parts(images, kernel.shape, wanted.shape, strides[0], channels is not None, None, bfloat16)
            if (whole or not parts) and isa != "numpy":
                np.testing.assert_array_equal(made, wanted)
            if not (bfloat16 and isa == "numpy"):                   # whose depthwise sums may fall on the other side of what is rounded
                np.testing.assert_allclose(made, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("bfloat16", [False, True])
def test_an_image_has_the_same_bits_in_any_batch(bfloat16):
    rng = np.random.default_rng(0)
    some = lambda *shape: rng.standard_normal(shape).astype("float32")
    weights = some(1, 1, 16, 256), some(256), some(3, 3, 256, 1), some(256), some(1, 1, 256, 16), some(16)
    for size in 7, 14:
        x = some(5, size, size, 16)
        block = lambda x: InvertedResidual.apply(x, *weights, x, padding="same", bfloat16=bfloat16).numpy()
        together = block(x)
        for i in range(5):
            assert block(x[i:i + 1]).tobytes() == together[i:i + 1].tobytes()


def test_gradients_are_not_asked_for():
    x = Tensor(np.ones((1, 4, 4, 2), "float32"), True)
    y = InvertedResidual.apply(x, None, None, np.ones((3, 3, 2, 1), "float32"), None, np.ones((1, 1, 2, 3), "float32"))
    assert not y.requires_grad


@pytest.mark.parametrize("change, message", [
    ({"expand": (1, 1, 3, 8)}, "the channels do not fit"), ({"kernel": (3, 3, 8, 2)}, "a channel has several filters"),
    ({"kernel": (9, 1, 8, 1)}, "too large"), ({"bias": (7,)}, "bias must have 8 numbers"), ({"residual": (1, 9, 9, 4)}, "residual must have the result's"),
    ({"project": (8, 4)}, "four axes")])
def test_refuses_what_does_not_fit(change, message):
    shapes = {"images": (1, 9, 9, 2), "expand": (1, 1, 2, 8), "expand_bias": (8,), "kernel": (3, 3, 8, 1), "bias": (8,), "project": (1, 1, 8, 4),
              "project_bias": (4,), "residual": (1, 7, 7, 4), **change}
    with pytest.raises(fastdl.ShapeError) as e:
        InvertedResidual.apply(*(np.zeros(shape, "float32") for shape in shapes.values()))
    assert "inverted_residual: " in str(e.value) and message in str(e.value)
