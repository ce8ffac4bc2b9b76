"""Pooling layers: what they compute, their shapes, their arguments."""

import numpy as np
import pytest

import fastdl
from fastdl import layers, ops
from fastdl.op import Symbol

POOLS = [(layers.MaxPooling2D, ops.max_pool2d), (layers.AveragePooling2D, ops.average_pool2d)]


@pytest.mark.parametrize("layer, function", POOLS)
def test_pooling(rng, layer, function):
    x = rng.normal(size=(2, 7, 8, 3)).astype("float32")
    np.testing.assert_array_equal(layer((2, 3))(x).array, function(x, pool_size=(2, 3)).array)
    np.testing.assert_array_equal(layer(3, strides=2, padding="same")(x).array, function(x, pool_size=3, strides=2, padding="same").array)
    first = layer((3, 2), strides=(1, 2), data_format="channels_first")
    np.testing.assert_array_equal(first(np.ascontiguousarray(x.transpose(0, 3, 1, 2))).array,
                                  function(x, pool_size=(3, 2), strides=(1, 2)).array.transpose(0, 3, 1, 2))
    assert layer(2)(Symbol((None, 26, None, 32))).shape == (None, 13, None, 32)
    assert first.compute_output_shape((None, 3, 9, 8)) == (None, 3, 7, 4)


def test_average_of_same_padding_counts_places_inside():
    x = np.ones((1, 3, 3, 1), "float32")
    np.testing.assert_array_equal(layers.AveragePooling2D(2, padding="same")(x).array, np.ones((1, 2, 2, 1)))


@pytest.mark.parametrize("layer, reduced", [(layers.GlobalMaxPooling2D, np.max), (layers.GlobalAveragePooling2D, np.mean)])
def test_global_pooling(rng, layer, reduced):
    x = rng.integers(-4, 5, (2, 4, 8, 3)).astype("float32")
    np.testing.assert_array_equal(layer()(x).array, reduced(x, (1, 2)))
    np.testing.assert_array_equal(layer(keepdims=True)(x).array, reduced(x, (1, 2), keepdims=True))
    np.testing.assert_array_equal(layer("channels_first")(x).array, reduced(x, (2, 3)))
    np.testing.assert_array_equal(layer("channels_first", True)(x).array, reduced(x, (2, 3), keepdims=True))
    assert layer()(Symbol((None, None, None, 5))).shape == (None, 5)
    assert layer(keepdims=True)(Symbol((None, 8, 8, 5))).shape == (None, 1, 1, 5)


def test_zero_padding(rng):
    x = rng.normal(size=(2, 3, 4, 2)).astype("float32")
    for padding, sides in ((1, ((1, 1), (1, 1))), ((1, 2), ((1, 1), (2, 2))), (((1, 0), (2, 3)), ((1, 0), (2, 3)))):
        np.testing.assert_array_equal(layers.ZeroPadding2D(padding)(x).array, np.pad(x, ((0, 0), *sides, (0, 0))))
    np.testing.assert_array_equal(layers.ZeroPadding2D((1, 2), "channels_first")(x).array, np.pad(x, ((0, 0), (0, 0), (1, 1), (2, 2))))


@pytest.mark.parametrize("make", [
    lambda: layers.MaxPooling2D(0), lambda: layers.MaxPooling2D((2, 2, 2)), lambda: layers.AveragePooling2D(2, padding="full"),
    lambda: layers.AveragePooling2D(2, strides=-1), lambda: layers.GlobalMaxPooling2D("NHWC"), lambda: layers.ZeroPadding2D((1, 2, 3)),
    lambda: layers.ZeroPadding2D(-1)])
def test_arguments(make):
    with pytest.raises(ValueError, match="Pooling2D: |ZeroPadding2D: "):
        make()


def test_shapes_that_do_not_fit():
    with pytest.raises(fastdl.ShapeError, match="four axes"):
        layers.MaxPooling2D()(np.zeros((5, 5, 3), "float32"))
    with pytest.raises(fastdl.ShapeError, match="does not fit"):
        layers.AveragePooling2D(6)(np.zeros((1, 5, 5, 3), "float32"))


def test_configs_make_equal_layers():
    for layer in (layers.MaxPooling2D((3, 2), strides=1, padding="same", name="pool"), layers.AveragePooling2D(2, data_format="channels_first"),
                  layers.GlobalMaxPooling2D(keepdims=True), layers.GlobalAveragePooling2D("channels_first"), layers.ZeroPadding2D((1, 2))):
        assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()


def test_other_names():
    assert (layers.MaxPool2D, layers.AvgPool2D) == (layers.MaxPooling2D, layers.AveragePooling2D)
    assert (layers.GlobalMaxPool2D, layers.GlobalAvgPool2D) == (layers.GlobalMaxPooling2D, layers.GlobalAveragePooling2D)
