"""Model(inputs, outputs): several inputs and outputs, shared layers, ops between Symbols."""

import numpy as np
import pytest

import fastdl
from fastdl import Input, Model, Sequential, layers, ops


@pytest.fixture
def x(rng):
    return rng.normal(size=(5, 4)).astype("float32")


def test_one_input_one_output(x):
    a = Input((4,))
    hidden = layers.Dense(3, activation="relu", name="h")(a)
    model = Model(a, layers.Dense(2, name="out")(hidden))
    h, out = model.get_layer("h"), model.get_layer("out")
    expected = np.maximum(x @ h.kernel.array + h.bias.array, 0) @ out.kernel.array + out.bias.array
    np.testing.assert_allclose(model(x).array, expected, rtol=1e-5, atol=1e-6)
    assert model.input_shape == (None, 4) and model.output_shape == (None, 2) and model.output_names == ["out"]
    part = Model(model.input, h.output)                      # a model that ends in the middle
    np.testing.assert_allclose(part(x).array, np.maximum(x @ h.kernel.array + h.bias.array, 0), rtol=1e-5, atol=1e-6)
    rest = Model(h.output, model.output)                     # one that begins in the middle
    np.testing.assert_allclose(rest(part(x)).array, expected, rtol=1e-5, atol=1e-6)


def test_lists_and_dicts(x):
    a, b = Input((4,), name="a"), Input((4,), name="b")
    out = layers.Add(name="sum")([a, b]), layers.Subtract(name="difference")([a, b])
    y = 2 * x
    for inputs in ([a, b], {"a": a, "b": b}):
        for given in ([x, y], (x, y), {"a": x, "b": y}, {"b": y, "a": x}):
            found = Model(inputs, list(out))(given)
            assert isinstance(found, list) and np.array_equal(found[0].array, x + y) and np.array_equal(found[1].array, x - y)
    found = Model([a, b], {"s": out[0], "d": out[1]})([x, y])
    assert list(found) == ["s", "d"] and np.array_equal(found["d"].array, x - y)
    model = Model([a, b], list(out))
    assert model.input_names == ["a", "b"] and model.output_names == ["sum", "difference"]
    with pytest.raises(ValueError, match="1 inputs were given; the model has 2 .a, b."):
        model(x)
    with pytest.raises(ValueError, match="the inputs lack 'b'"):
        model({"a": x})


def test_ops_between_symbols(x):
    a, b = Input((4,)), Input((4,))
    y = (2.0 * a + b) / 3.0 - np.ones(4, "float32")
    y = ops.relu(ops.concatenate([y, a], axis=-1))
    assert y.shape == (None, 8)
    model = Model([a, b], y)
    np.testing.assert_allclose(model([x, x]).array, np.maximum(np.concatenate([x - 1, x], -1), 0), rtol=1e-6)


def test_shared_layers(x):
    a, b = Input((4,)), Input((4,))
    shared = layers.Dense(3)
    model = Model([a, b], layers.Subtract()([shared(a), shared(b)]))
    assert len(model.weights) == 2 and len([layer for layer in model.layers if layer is shared]) == 1
    assert not model([x, x]).array.any()
    loss = ops.sum(model([x, 2 * x]))
    loss.backward()
    np.testing.assert_allclose(shared.kernel.grad, np.repeat(-x.sum(0)[:, None], 3, 1), rtol=1e-4, atol=1e-5)
    with pytest.raises(AttributeError, match="2 times"):
        shared.output


def test_nested_models(x):
    inner = Sequential([layers.Dense(3, input_shape=(4,))], name="inner")
    a, b = Input((4,)), Input((4,))
    middle = Model([a, b], [inner(a) + inner(b), inner(a)])
    c = Input((4,))
    s, d = middle([c, 2.0 * c])
    model = Model(c, layers.Concatenate()([s, d]))
    k, bias = inner.layers[0].kernel.array, inner.layers[0].bias.array
    np.testing.assert_allclose(model(x).array, np.concatenate([3 * (x @ k) + 2 * bias, x @ k + bias], 1), rtol=1e-5, atol=1e-5)
    assert len(model.weights) == 2


def test_an_input_that_is_also_an_output(x):
    a = Input((4,))
    found = Model(a, [a, layers.Dense(2)(a)])(x)
    assert np.array_equal(found[0].array, x) and found[1].shape == (5, 2)


def test_an_input_that_is_not_used(x):
    a, b = Input((4,)), Input((4,))
    assert Model([a, b], layers.Dense(2)(a))([x, x]).shape == (5, 2)


def test_a_missing_input_is_named():
    a, b = Input((4,), name="a"), Input((3,), name="left_out")
    y = layers.Concatenate(name="both")([a, b])
    with pytest.raises(ValueError, match=r"both, .* depends on Input 'left_out' of shape \(None, 3\), which is not among the inputs"):
        Model(a, layers.Dense(1)(y))
    with pytest.raises(ValueError, match="an output depends on Input 'left_out'"):
        Model(a, b)


def test_what_is_no_symbol():
    a = Input((4,))
    with pytest.raises(TypeError, match="outputs hold ndarray"):
        Model(a, np.ones(3))
    with pytest.raises(TypeError, match="inputs hold nothing"):
        Model([], layers.Dense(1)(a))
    with pytest.raises(TypeError, match="given together"):
        Model(a)
    with pytest.raises(ValueError, match="twice"):
        Model([a, a], layers.Dense(1)(a))
    with pytest.raises(ValueError, match="two layers have the name 'd'"):
        Model(a, layers.Dense(1, name="d")(layers.Dense(2, name="d")(a)))


def test_wrong_shapes_name_the_input(x):
    a = Input((4,), name="a")
    model = Model(a, layers.Dense(2)(a), name="m")
    with pytest.raises(fastdl.ShapeError, match="m: the shape of input 'a' does not fit"):
        model(x[:, :3])
    with pytest.raises(fastdl.ShapeError, match="linear"):
        model.get_layer(index=1)(Input((7,)))


def test_integers_become_what_the_input_says():
    a, b = Input((2,)), Input((2,), dtype="int32")
    first, second = Model([a, b], [layers.Identity()(a), layers.Identity()(b)])([np.ones((1, 2), "int64"), np.ones((1, 2))])
    assert (first.dtype, second.dtype) == ("float32", "int32")


def test_explicit_arguments_are_kept(x):
    class Scaled(layers.Layer):
        def call(self, x, by=1.0, training=None):
            return x * (0.0 if training else by)

    a = Input((4,))
    always, asked = Scaled()(a, by=3.0, training=True), Scaled()(a, by=3.0)
    first, second = Model(a, [always, asked])(x)
    assert not first.array.any() and np.array_equal(second.array, 3 * x)
    assert not Model(a, asked)(x, training=True).array.any()


def test_layers_stand_in_the_order_of_keras():
    """By their longest way to an output, then as found from the outputs; the lists are those of Keras 3.15."""
    a, b = Input((4,), name="a"), Input((4,), name="b")
    p = layers.Dense(2, name="p")(layers.Dense(3, name="deep")(a))
    q = layers.Dense(2, name="q")(b)
    names = lambda model: [layer.name for layer in model.layers]
    for order, expected in ([q, p], "a b deep q p add end"), ([p, q], "a deep b p q add end"):
        assert names(Model([a, b], layers.Dense(1, name="end")(layers.Add(name="add")(order)))) == expected.split()
    x, unused, shared = Input((4,), name="x"), Input((4,), name="u"), layers.Dense(4, name="s")
    h = shared(x)
    again = shared(layers.Dense(4, name="m")(h))
    out = layers.Dense(1, name="o")(layers.Concatenate(name="c")([again, layers.Dense(2, name="side")(x)]))
    assert names(Model(x, [out, layers.Dense(1, name="aux")(h)])) == "x s m side c o aux".split()
    assert names(Model(x, [layers.Dense(1, name="aux")(h), out])) == "x s m side c aux o".split()
    assert names(Model([x, unused], out)) == "x s m side c u o".split()


def test_many_layers():
    y = a = Input((2,))
    for _ in range(1500):                                    # deeper than Python's recursion
        y = y + 1.0
    assert Model(a, y)(np.zeros((1, 2))).array[0, 0] == 1500


def test_masks_flow():
    class Sees(layers.Layer):
        supports_masking = True

        def call(self, x, mask=None):
            self.seen = mask
            return x * 1.0

    layer, a = Sees(), Input((2, 1))
    model = Model(a, layer(layers.Dense(2)(layers.Masking()(a))))
    assert layer.seen.shape == (None, 2)
    model(np.array([[[1.0], [0.0]]]))
    assert np.array_equal(layer.seen.array, [[True, False]])


def test_config_makes_an_equal_model(x):
    a, b = Input((4,), name="a"), Input((4,), name="b")
    shared = layers.Dense(3)
    h = ops.concatenate([shared(a) * 2.0, shared(b), a - 1.0], axis=-1)
    model = Model({"a": a, "b": b}, {"y": layers.Dense(1)(h), "h": h}, name="m")
    copy = Model.from_config(model.get_config())
    assert copy.get_config() == model.get_config() and copy.name == "m"
    copy.set_weights(model.get_weights())
    given = {"a": x, "b": 2 * x}
    for name in ("y", "h"):
        assert np.array_equal(model(given)[name].array, copy(given)[name].array)
    with pytest.raises(ValueError, match="inside another model"):
        Model(h, h + 1.0).get_config()
