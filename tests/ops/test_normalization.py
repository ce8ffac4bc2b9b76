"""Softmax at the ends of float32; statistics of hard data; moving statistics in and out of training."""

import numpy as np
import pytest

import fastdl
from fastdl import layers, ops
from fastdl.layers.context import deferred_updates


def test_softmax_of_extreme_values(c_isa):
    for shape, axis in ((3, 20), -1), ((20, 3), 0):
        x = np.zeros(shape, "float32")
        rows = x if axis == -1 else x.T
        rows[0], rows[1, 3], rows[2] = 1e38, np.inf, -np.inf
        p, log = ops.softmax(x, axis=axis).numpy(), ops.log_softmax(x, axis=axis).numpy()
        p, log = (p, log) if axis == -1 else (p.T, log.T)
        np.testing.assert_allclose(p[0], 0.05, rtol=1e-6)
        np.testing.assert_allclose(log[0], -np.log(20), rtol=1e-6)
        assert np.isnan(p[1, 3]) and np.isnan(p[2]).all()
    p = ops.softmax(np.float32([[0, -200, -np.inf, 100]])).numpy()
    assert p[0, 3] == 1 and (p[0, 1:3] == 0).all() and 0 < p[0, 0] < 1e-40
    assert ops.log_softmax(np.float32([[0, 200]])).numpy().tolist() == [[-200, 0]]
    with pytest.raises(fastdl.ShapeError, match="no values along axis 2"):
        ops.softmax(np.zeros((2, 3), "float32"), axis=2)


def test_statistics_keep_their_digits_far_from_zero(c_isa, rng):
    x = (rng.standard_normal((5000, 3)) + [1e4, -1e5, 0]).astype("float32")
    op = ops.BatchNormalization.__new__(ops.BatchNormalization)
    op(x)
    np.testing.assert_allclose(op.mean, x.astype("float64").mean(0), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(op.variance, x.astype("float64").var(0), rtol=1e-5)
    y = ops.layer_normalization(np.float32(x.T[:2])).numpy()
    np.testing.assert_allclose(y.std(axis=1), 1, rtol=2e-3)


def test_moving_statistics_wait_for_the_end_of_the_step(rng):
    layer = layers.BatchNormalization(momentum=0.5)
    x = fastdl.tensor(rng.standard_normal((8, 3)))
    layer(x)
    with deferred_updates() as updates:
        layer(x, training=True)
    assert (layer.moving_mean.numpy() == 0).all() and len(updates) == 2
    layer(x, training=True)
    np.testing.assert_allclose(layer.moving_mean.numpy(), x.numpy().mean(0) / 2, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(layer.moving_variance.numpy(), x.numpy().var(0) / 2 + 0.5, rtol=1e-5)


def test_a_frozen_layer_uses_and_keeps_its_moving_statistics(rng):
    layer = layers.BatchNormalization()
    x = fastdl.tensor(rng.standard_normal((8, 3)))
    layer(x, training=True)
    layer.trainable = False
    before = layer.moving_mean.numpy().copy()
    assert (layer(x, training=True).numpy() == layer(x, training=False).numpy()).all() and (layer.moving_mean.numpy() == before).all()


def test_mask_leaves_steps_out_of_the_statistics(rng):
    x, mask = rng.standard_normal((4, 5, 3)).astype("float32"), rng.integers(0, 2, (4, 5)).astype(bool)
    layer = layers.BatchNormalization(momentum=0.0)
    layer(fastdl.tensor(x), training=True, mask=fastdl.tensor(mask))
    np.testing.assert_allclose(layer.moving_mean.numpy(), x[mask].mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance.numpy(), x[mask].var(0), rtol=1e-5)


def test_configuration_and_wrong_shapes():
    for layer in layers.BatchNormalization(axis=1, scale=False, gamma_regularizer="l2"), layers.LayerNormalization(axis=[1, 2]), layers.RMSNormalization():
        assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()
    with pytest.raises(ValueError, match="axis 3 must exist"):
        layers.BatchNormalization(axis=3).build((None, 4))
    with pytest.raises(fastdl.ShapeError, match="gamma needs one number for each of the 3 channels"):
        ops.BatchNormalization.apply(np.zeros((2, 3), "float32"), np.zeros(4, "float32"))
