"""TimeDistributed: one batch of all steps, step by step where a layer keeps statistics, shapes, messages."""

import numpy as np
import pytest

from fastdl import ShapeError, layers
from fastdl.layers import TimeDistributed

X = np.random.default_rng(0).standard_normal((2, 3, 6, 6, 2)).astype("float32")


def test_every_step_goes_through_the_layer():
    layer = TimeDistributed(layers.Conv2D(4, 3))
    out = layer(X)
    assert out.shape == (2, 3, 4, 4, 4) == layer.compute_output_shape(X.shape)
    for t in range(3):
        np.testing.assert_allclose(out.numpy()[:, t], layer.layer(X[:, t]).numpy(), rtol=1e-5, atol=1e-6)
    assert TimeDistributed(layers.Flatten())(layers.Input((None, 4, 5))).shape == (None, None, 20)


def test_statistics_are_those_of_each_step():
    one, other = TimeDistributed(layers.BatchNormalization()), layers.BatchNormalization()
    got = one(X, training=True).numpy()
    for t in range(3):
        np.testing.assert_allclose(got[:, t], other(X[:, t], training=True).numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one.layer.moving_mean.numpy(), other.moving_mean.numpy(), rtol=1e-5)


def test_states_go_on_from_step_to_step():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype("float32")
    layer, alone = TimeDistributed(layers.SimpleRNN(3, stateful=True)), layers.SimpleRNN(3, stateful=True)
    out = layer(x).numpy()
    alone.build((2, 4, 5))
    alone.set_weights(layer.get_weights())
    np.testing.assert_array_equal(out, np.stack([alone(x[:, t]).numpy() for t in range(3)], 1))


def test_messages():
    with pytest.raises(ShapeError, match="at least three axes"):
        TimeDistributed(layers.Dense(2))(X[0, 0, 0])
    with pytest.raises(ShapeError, match="the mask has other axes"):
        TimeDistributed(layers.Dense(2))(X, mask=np.ones((2, 4), bool))
    with pytest.raises(ValueError, match="layer is int; wanted is a layer"):
        TimeDistributed(3)
