"""Convolution layers: what they compute, their shapes, their arguments."""

import numpy as np
import pytest

import fastdl
from fastdl import layers, ops
from fastdl.op import Symbol


def whole(rng, shape):
    return rng.integers(-3, 4, shape).astype("float32")


@pytest.mark.parametrize("activation", [None, "relu", "tanh", "softplus"])
def test_conv2d(rng, activation):
    x, layer = whole(rng, (2, 7, 6, 4)), layers.Conv2D(6, 3, strides=2, padding="SAME", groups=2, activation=activation)
    y = layer(x)
    assert layer.kernel.shape == (3, 3, 2, 6) and layer.bias.shape == (6,) and not layer.bias.array.any()
    z = ops.conv2d(x, layer.kernel, layer.bias, strides=2, padding="same", groups=2)
    np.testing.assert_allclose(y.array, fastdl.activations.get(activation)(z).array, rtol=1e-5, atol=1e-6)


def test_depthwise_conv2d(rng):
    x, layer = whole(rng, (2, 7, 6, 4)), layers.DepthwiseConv2D((3, 2), depth_multiplier=2, dilation_rate=2)
    assert layer(x).shape == (2, 3, 4, 8)
    assert layer.kernel.shape == (3, 2, 4, 2) and layer.bias.shape == (8,)
    np.testing.assert_array_equal(layer(x).array, ops.depthwise_conv2d(x, layer.kernel, layer.bias, dilation=2).array)


@pytest.mark.parametrize("make", [lambda **k: layers.Conv2D(5, (2, 3), **k), lambda **k: layers.DepthwiseConv2D((2, 3), depth_multiplier=2, **k)])
def test_channels_first(rng, make):
    x = whole(rng, (2, 3, 6, 7))
    first, last = make(data_format="channels_first"), make()
    y = first(x)
    last(x.transpose(0, 2, 3, 1))
    last.set_weights(first.get_weights())
    np.testing.assert_array_equal(y.array, last(x.transpose(0, 2, 3, 1)).array.transpose(0, 3, 1, 2))
    assert first.compute_output_shape((None, 3, 6, None)) == (None, y.shape[1], 5, None)


def test_shapes_are_known_before_data():
    layer = layers.Conv2D(8, 3, padding="same", strides=(2, 1))
    assert layer(Symbol((None, 28, None, 3))).shape == (None, 14, None, 8)
    assert layers.Conv2D(8, 5)(Symbol((None, 28, 28, 1))).shape == (None, 24, 24, 8)


def test_bytes_become_floats():
    assert layers.Conv2D(2, 3)(np.zeros((1, 5, 5, 1), "uint8")).dtype == "float32"
    assert layers.Conv2D(2, 3)(np.zeros((1, 5, 5, 1), "int64")).dtype == "float32"


@pytest.mark.parametrize("arguments, message", [
    (dict(filters=0), "filters is 0"), (dict(filters=2.5), "filters is 2.5"), (dict(groups=0), "groups is 0"),
    (dict(filters=5, groups=2), "filters 5 cannot be split into groups 2"), (dict(kernel_size=(3, 0)), "kernel_size is"),
    (dict(kernel_size=(3, 3, 3)), "kernel_size is"), (dict(strides=0), "strides is 0"), (dict(padding="causal"), "padding is 'causal'"),
    (dict(data_format="NHWC"), "data_format is 'NHWC'"), (dict(strides=2, dilation_rate=2), "cannot both be more than 1"),
])
def test_arguments(arguments, message):
    with pytest.raises(ValueError, match="Conv2D: .*" + message[:12]) as e:
        layers.Conv2D(**{"filters": 4, "kernel_size": 3, **arguments})
    assert message in str(e.value)


def test_shapes_that_do_not_fit():
    with pytest.raises(fastdl.ShapeError, match="four axes"):
        layers.Conv2D(2, 3)(np.zeros((5, 5, 3), "float32"))
    with pytest.raises(fastdl.ShapeError, match="3 channels cannot be split into 2 groups"):
        layers.Conv2D(2, 3, groups=2)(np.zeros((1, 5, 5, 3), "float32"))
    with pytest.raises(fastdl.ShapeError, match="number of channels must be known"):
        layers.Conv2D(2, 3)(Symbol((None, 5, 5, None)))
    with pytest.raises(fastdl.ShapeError, match="does not fit") as e:
        layers.Conv2D(2, 6, name="first")(np.zeros((1, 5, 5, 3), "float32"))
    assert e.value.__notes__ == ["  in first (Conv2D), called on (1, 5, 5, 3)"]


def test_configs_make_equal_layers(rng):
    x = whole(rng, (2, 6, 6, 4))
    for layer in (layers.Conv2D(4, (3, 2), strides=(2, 1), padding="same", groups=2, activation="tanh", use_bias=False,
                                kernel_initializer="he_normal", kernel_regularizer=fastdl.regularizers.L2(0.1)),
                  layers.DepthwiseConv2D(2, depth_multiplier=3, dilation_rate=(1, 2), bias_initializer="ones", name="deep")):
        again = type(layer).from_config(layer.get_config())
        assert again.get_config() == layer.get_config()
        y = layer(x)
        again(x)
        again.set_weights(layer.get_weights())
        np.testing.assert_array_equal(again(x).array, y.array)


def test_other_names():
    assert layers.Convolution2D is layers.Conv2D
