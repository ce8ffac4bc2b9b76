"""Dense, and the layers that reshape, mask or pass on."""

import numpy as np
import pytest

import fastdl
from fastdl import layers
from fastdl.op import Symbol


def test_dense(rng):
    layer = layers.Dense(4, activation="relu")
    x = rng.normal(size=(2, 5, 3)).astype("float32")
    y = layer(x)
    expected = np.maximum(x @ layer.kernel.array + layer.bias.array, 0)
    np.testing.assert_allclose(y.array, expected, rtol=1e-5, atol=1e-6)
    assert layer.kernel.shape == (3, 4) and layer.bias.shape == (4,)
    assert layers.Dense(2, use_bias=False)(x).shape == (2, 5, 2)


@pytest.mark.parametrize("activation", [None, "relu", "sigmoid", "tanh", "softmax", lambda x: x * 2.0])
def test_dense_activations(rng, activation):
    x = rng.normal(size=(6, 3)).astype("float32")
    plain, layer = layers.Dense(4), layers.Dense(4, activation=activation)
    plain(x), layer(x)
    layer.set_weights(plain.get_weights())
    z = plain(x).array.astype("float64")
    expected = {"relu": np.maximum(z, 0), "sigmoid": 1 / (1 + np.exp(-z)), "tanh": np.tanh(z), None: z,
                "softmax": np.exp(z) / np.exp(z).sum(-1, keepdims=True)}.get(activation, 2 * z)
    np.testing.assert_allclose(layer(x).array, expected, rtol=1e-5, atol=1e-6)


def test_dense_of_integers():
    assert layers.Dense(2)(np.ones((2, 3), "int64")).dtype == "float32"
    assert layers.Dense(2)(fastdl.tensor(np.ones((2, 3), "int32"))).dtype == "float32"
    assert layers.Dense(2)(Symbol((None, 3), "int32")).dtype == "float32"


@pytest.mark.parametrize("units", [0, -1, 2.5, "3", True, None])
def test_dense_units(units):
    with pytest.raises(ValueError, match="units"):
        layers.Dense(units)


def test_dense_shapes():
    with pytest.raises(fastdl.ShapeError, match="at least two axes"):
        layers.Dense(2)(np.ones(3))
    with pytest.raises(fastdl.ShapeError, match="known size"):
        layers.Dense(2)(Symbol((None, None)))
    layer = layers.Dense(2, name="head")
    layer(np.ones((1, 3)))
    with pytest.raises(fastdl.ShapeError) as caught:
        layer(np.ones((1, 4)))
    assert caught.value.__notes__ == ["  in head (Dense), called on (1, 4)"]


def test_configs_make_equal_layers(rng):
    x = rng.normal(size=(2, 3, 4)).astype("float32")
    for layer in (layers.Dense(3, activation="tanh", use_bias=False, kernel_initializer="he_normal", kernel_regularizer=fastdl.regularizers.L2(0.1)),
                  layers.Activation("relu"), layers.Flatten(), layers.Reshape((4, -1)), layers.Permute((2, 1)), layers.Identity(),
                  layers.Masking(2.0)):
        copy = type(layer).from_config(layer.get_config())
        assert copy.get_config() == layer.get_config()
        y = layer(x)
        copy(x)
        copy.set_weights(layer.get_weights())
        assert np.array_equal(copy(x).array, y.array)


def test_flatten():
    x = np.arange(24.0).reshape(2, 3, 4)
    assert np.array_equal(layers.Flatten()(x).array, x.reshape(2, 12))
    assert np.array_equal(layers.Flatten("channels_first")(x).array, x.transpose(0, 2, 1).reshape(2, 12))
    assert layers.Flatten()(np.ones(5)).shape == (5, 1)
    assert layers.Flatten()(np.ones((0, 3, 2))).shape == (0, 6)
    assert layers.Flatten()(np.ones((2, 3), "int32")).dtype == "int32"
    assert layers.Flatten()(Symbol((None, 3, 4))).shape == (None, 12)
    assert layers.Flatten()(Symbol((None, None, 4))).shape == (None, None)
    with pytest.raises(ValueError, match="data_format"):
        layers.Flatten("channels")


def test_reshape():
    x = np.arange(24.0).reshape(2, 12)
    assert np.array_equal(layers.Reshape((3, 4))(x).array, x.reshape(2, 3, 4))
    assert layers.Reshape((-1, 4))(x).shape == (2, 3, 4)
    assert layers.Reshape((-1, 4))(Symbol((None, 12))).shape == (None, 3, 4)
    assert layers.Reshape((-1, 4))(Symbol((None, None))).shape == (None, None, 4)
    with pytest.raises(fastdl.ShapeError, match="12 numbers a sample do not fit"):
        layers.Reshape((5, 2))(x)
    with pytest.raises(fastdl.ShapeError, match="do not fit"):
        layers.Reshape((-1, 5))(x)
    with pytest.raises(ValueError, match="at most"):
        layers.Reshape((-1, -1))


def test_permute_and_repeat():
    x = np.arange(24.0).reshape(2, 3, 4)
    assert np.array_equal(layers.Permute((2, 1))(x).array, x.transpose(0, 2, 1))
    assert np.array_equal(layers.RepeatVector(3)(x[:, 0]).array, np.repeat(x[:, :1], 3, axis=1))
    with pytest.raises(ValueError, match="each once"):
        layers.Permute((2, 3))
    with pytest.raises(fastdl.ShapeError, match="3 axes"):
        layers.Permute((2, 1))(x[0])
    with pytest.raises(fastdl.ShapeError, match="two axes"):
        layers.RepeatVector(2)(x)
    with pytest.raises(ValueError, match="n is 0"):
        layers.RepeatVector(0)


def test_masking():
    x = np.array([[[1, 2], [0, 0], [0, 3]], [[0, 0], [0, 0], [5, 6]]], "float32")
    y = layers.Masking()(x)
    assert np.array_equal(y.mask.array, [[True, False, True], [False, False, True]])
    assert np.array_equal(y.array, x)
    y = layers.Masking(2.0)(np.full((1, 2, 2), 2.0))
    assert not y.mask.array.any() and not y.array.any()
    assert layers.Masking()(Symbol((None, 3, 2))).mask.shape == (None, 3)


def test_lambda():
    layer = layers.Lambda(lambda x, by: x * by, arguments={"by": 3.0})
    assert np.array_equal(layer(np.ones((1, 2))).array, [[3, 3]])
    with pytest.raises(NotImplementedError, match="Python code"):
        layer.get_config()
    with pytest.raises(ValueError, match="Python code"):
        layers.Lambda.from_config({"function": "os.system"})


def test_input():
    x = layers.Input((3,), name="x", dtype="int32")
    assert (x.shape, x.dtype, x.name) == ((None, 3), "int32", "x")
    assert layers.Input((3,), batch_size=5).shape == (5, 3) and layers.Input(batch_shape=(2, None)).shape == (2, None)
    assert layers.Input(()).shape == (None,)
    for wrong in ({}, {"shape": (-1,)}, {"shape": (2.5,)}, {"shape": (2,), "batch_shape": (1, 2)}):
        with pytest.raises(ValueError, match="Input"):
            layers.Input(**wrong)


def test_flatten_nothing():
    assert layers.Flatten()(fastdl.Input((3, 0))).shape == (None, 0)
