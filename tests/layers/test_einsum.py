"""EinsumDense: shapes, configurations, messages. What it computes: test_attention's record of Keras."""

import numpy as np
import pytest

import fastdl
from fastdl.layers import EinsumDense, Input
from fastdl.layers.serialization import deserialize, serialize


def test_shapes():
    layer = EinsumDense("abc,cde->abde", output_shape=(None, 2, 3), bias_axes="de")
    assert layer(Input((None, 4))).shape == (None, None, 2, 3)
    assert layer.kernel.shape == (4, 2, 3) and layer.bias.shape == (2, 3)
    assert EinsumDense("...x,xy->...y", 5, bias_axes="y")(Input((3, 7, 4))).shape == (None, 3, 7, 5)
    layer = EinsumDense("ab...,bc->ac...", 5, bias_axes="c")
    assert layer(Input((4, 2, 2))).shape == (None, 5, 2, 2) and layer.bias.shape == (5, 1, 1)


def test_initial_weights_spread_as_those_of_a_dense_layer():
    layer = EinsumDense("abc,cde->abde", output_shape=(None, 8, 40))
    layer.build((None, 3, 64))
    limit = np.sqrt(6 / (64 + 8 * 40))
    assert 0.98 * limit < np.abs(layer.kernel.numpy()).max() <= limit


def test_configurations_come_back():
    layer = EinsumDense("abc,cd->abd", output_shape=(None, 5), activation="relu", bias_axes="d", kernel_regularizer="l2")
    again = deserialize(serialize(layer))
    assert again.get_config() == layer.get_config()


def test_messages():
    with pytest.raises(ValueError, match="equation is 'ab,bc'\n  wanted is 'ab,bc->ac'"):
        EinsumDense("ab,bc", 3)
    with pytest.raises(fastdl.ShapeError, match="names another number of axes than inputs have"):
        EinsumDense("abc,cd->abd", (None, 3))(np.zeros((2, 3), "float32"))
    with pytest.raises(fastdl.ShapeError, match="axis b has size 3 in inputs"):
        EinsumDense("ab,bc->abc", (4, 3))(np.zeros((2, 3), "float32"))
    with pytest.raises(fastdl.ShapeError, match="output_shape must have 2 sizes"):
        EinsumDense("abc,cd->abd", 3)(np.zeros((2, 3, 4), "float32"))
    with pytest.raises(fastdl.ShapeError, match="neither inputs nor kernel"):
        EinsumDense("ab,bc->ac", 3, bias_axes="d")(np.zeros((2, 3), "float32"))
