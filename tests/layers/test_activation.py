"""Activations as layers."""

import numpy as np
import pytest

import fastdl
from fastdl import layers

X = np.array([[-3.0, -0.5, 0.0, 0.5, 3.0, 9.0]], "float32")


@pytest.mark.parametrize("layer, expected", [
    (layers.ReLU(), np.maximum(X, 0)),
    (layers.ReLU(max_value=6.0), np.clip(X, 0, 6)),
    (layers.ReLU(negative_slope=0.1), np.where(X > 0, X, 0.1 * X)),
    (layers.ReLU(threshold=1.0), np.where(X > 1, X, 0)),
    (layers.ReLU(max_value=6.0, negative_slope=0.1, threshold=1.0), np.where(X < 1, 0.1 * (X - 1), np.minimum(X, 6))),
    (layers.LeakyReLU(), np.where(X > 0, X, 0.3 * X)),
    (layers.ELU(alpha=0.5), np.where(X > 0, X, 0.5 * np.expm1(np.minimum(X, 0)))),
    (layers.Softmax(), np.exp(X) / np.exp(X).sum()),
    (layers.PReLU("ones"), X)], ids=lambda v: getattr(v, "name", ""))
def test_formulas(layer, expected):
    np.testing.assert_allclose(layer(X).array, expected, rtol=1e-5, atol=1e-7)
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()


def test_prelu_weights():
    layer = layers.PReLU(shared_axes=[1])
    layer(np.ones((2, 3, 4)))
    assert layer.alpha.shape == (1, 4)


def test_softmax_with_mask():
    y = layers.Softmax()(X, mask=np.array([[True, True, False, False, False, False]]))
    np.testing.assert_allclose(y.array[0, :2].sum(), 1, rtol=1e-6)
    assert not y.array[0, 2:].any()
    assert not layers.Softmax()(X, mask=np.zeros((1, 6), bool)).array.any()


def test_arguments():
    for wrong in ({"max_value": -1}, {"negative_slope": -1}, {"threshold": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            layers.ReLU(**wrong)
    with pytest.raises(ValueError, match="negative_slope"):
        layers.LeakyReLU(negative_slope=-1)


def test_softmax_over_several_axes(rng):
    x = rng.standard_normal((2, 3, 4)).astype("float32")
    e = np.exp(x)
    layer = layers.Softmax(axis=(1, 2))
    np.testing.assert_allclose(layer(x).array, e / e.sum((1, 2), keepdims=True), rtol=1e-5)
    assert layer.get_config()["axis"] == [1, 2] and layer(fastdl.Input((3, None))).shape == (None, 3, None)
    np.testing.assert_allclose(layers.Softmax(axis=[1])(x).array, layers.Softmax(axis=1)(x).array)
