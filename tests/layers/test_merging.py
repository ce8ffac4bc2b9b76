"""Layers that make one tensor of several."""

import numpy as np
import pytest

import fastdl
from fastdl import layers
from fastdl.op import Symbol

FORMULAS = {"Add": lambda a, b: a + b, "Subtract": lambda a, b: a - b, "Multiply": lambda a, b: a * b, "Average": lambda a, b: (a + b) / 2,
            "Maximum": np.maximum, "Minimum": np.minimum}


@pytest.mark.parametrize("name", FORMULAS)
def test_element_by_element(rng, name):
    a, b = rng.normal(size=(2, 3, 4)).astype("float32"), rng.normal(size=(2, 3, 4)).astype("float32")
    layer = getattr(layers, name)()
    np.testing.assert_allclose(layer([a, b]).array, FORMULAS[name](a, b), rtol=1e-6)
    np.testing.assert_allclose(getattr(layers, name.lower())([a, b]).array, FORMULAS[name](a, b), rtol=1e-6)
    np.testing.assert_allclose(layer([a, b[:, :1]]).array, FORMULAS[name](a, b[:, :1]), rtol=1e-6)
    np.testing.assert_allclose(getattr(layers, name)()([a, b[:, 0]]).array, FORMULAS[name](a, b[:, None, 0]), rtol=1e-6)
    assert getattr(layers, name)()([Symbol((None, 3)), Symbol((None, 3))]).shape == (None, 3)


def test_of_three():
    x = np.ones((1, 2))
    assert layers.Add()([x, x, x]).array[0, 0] == 3 and layers.Average()([x, x, 4 * x]).array[0, 0] == 2
    with pytest.raises(ValueError, match="two tensors"):
        layers.Subtract()([x, x, x])


def test_wrong_inputs():
    with pytest.raises(fastdl.ShapeError, match="Add wants shapes that are equal"):
        layers.Add()([np.ones((2, 3)), np.ones((2, 4))])
    with pytest.raises(fastdl.ShapeError, match="wants a list of tensors"):
        layers.Add()(np.ones((2, 3)))
    with pytest.raises(fastdl.ShapeError, match="same sizes on all axes but 1"):
        layers.Concatenate(axis=1)([np.ones((2, 3, 4)), np.ones((2, 3, 5))])
    with pytest.raises(fastdl.ShapeError, match="no axis 3"):
        layers.Concatenate(axis=3)([np.ones((2, 3)), np.ones((2, 3))])


def test_concatenate(rng):
    a, b = rng.normal(size=(2, 3, 4)).astype("float32"), rng.normal(size=(2, 5, 4)).astype("float32")
    assert np.array_equal(layers.Concatenate(axis=1)([a, b]).array, np.concatenate([a, b], 1))
    assert np.array_equal(layers.concatenate([a, a]).array, np.concatenate([a, a], -1))
    assert layers.Concatenate()([Symbol((None, 3)), Symbol((None, 4))]).shape == (None, 7)


def test_concatenate_takes_an_axis_and_several_dtypes():
    x = np.ones((2, 3), "float32")
    assert layers.concatenate([x, x], 0).shape == (4, 3)
    mixed = layers.Concatenate()([x, np.arange(2)[:, None]])
    assert mixed.dtype == "float32" and np.array_equal(mixed.array[:, 3], [0, 1])
    assert layers.Concatenate()([fastdl.Input((3,)), fastdl.Input((2,), dtype="int32")]).dtype == "float32"


def masked(x, mask):
    t = fastdl.tensor(x)
    t.mask = mask if mask is None else fastdl.tensor(np.array(mask))
    return t


def test_masks():
    x = np.ones((1, 2, 3))
    a, b, c = masked(x, [[True, True]]), masked(x, [[True, False]]), masked(x, None)
    assert np.array_equal(layers.Add()([a, b]).mask.array, [[True, True]])                # Keras: what any lets through,
    assert layers.Add()([a, b, c]).mask is None and layers.Add()([c, c]).mask is None     # and none where one is missing
    assert np.array_equal(layers.Concatenate(axis=1)([b, c]).mask.array, [[True, False, True, True]])
    assert np.array_equal(layers.Concatenate(axis=2)([b, a]).mask.array, [[True, True]])


@pytest.mark.parametrize("first, second, axes, formula", [((2, 3), (2, 3), 1, "bi,bi->b"), ((2, 3, 4), (2, 3, 5), 1, "bij,bik->bjk"),
                                                          ((2, 3, 4), (2, 5, 4), -1, "bij,bkj->bik"), ((2, 3, 4), (2, 4), (2, 1), "bij,bj->bi"),
                                                          ((2, 4), (2, 3, 4), (1, 2), "bj,bij->bi")])
def test_dot(rng, first, second, axes, formula):
    a, b = rng.normal(size=first).astype("float32"), rng.normal(size=second).astype("float32")
    expected = np.einsum(formula, a, b)
    got = layers.Dot(axes)([a, b]).array
    np.testing.assert_allclose(got, expected.reshape(got.shape), rtol=1e-5, atol=1e-6)
    assert got.shape == (2, 1) if formula == "bi,bi->b" else got.shape == expected.shape


def test_dot_normalized(rng):
    a, b = rng.normal(size=(2, 3)).astype("float32"), rng.normal(size=(2, 3)).astype("float32")
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(layers.dot([a, b], axes=1, normalize=True).array[:, 0], cosine, rtol=1e-5)
    with pytest.raises(fastdl.ShapeError, match="equal sizes"):
        layers.Dot(1)([np.ones((2, 3)), np.ones((2, 4))])
