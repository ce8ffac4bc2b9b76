"""Sequential: one layer after another."""

import numpy as np
import pytest

import fastdl
from fastdl import Input, Sequential, layers


def names(model):
    return [layer.name for layer in model.layers]


@pytest.mark.parametrize("first", [{"input_shape": (4,)}, {"batch_input_shape": (None, 4)}, {"input_dim": 4}])
def test_built_by_the_first_layer(first):
    model = Sequential([layers.Dense(3, **first), layers.Dense(2)])
    assert model.built and model.input_shape == (None, 4) and model.output_shape == (None, 2)
    assert [w.shape for w in model.weights] == [(4, 3), (3,), (3, 2), (2,)]
    assert model(np.ones((5, 4))).shape == (5, 2)


def test_built_by_an_input():
    model = Sequential([Input((4,), name="x"), layers.Dense(3, name="a")])
    assert names(model) == ["a"] and model.input_names == ["x"] and model.output_names == ["a"]
    assert model.layers[0].output.shape == (None, 3)


def test_built_by_data_or_by_hand():
    fastdl.clear_session()
    model = Sequential([layers.Dense(3), layers.Dense(2)])
    assert not model.built and model.weights == [] and model.inputs is None
    assert model(np.ones((5, 4))).shape == (5, 2)
    assert model.built and model.output_shape == (None, 2) and [w.path for w in model.weights][0] == "dense/kernel"
    assert model(np.ones((7, 4))).shape == (7, 2)
    model = Sequential([layers.Dense(3)])
    model.build((None, 4))
    assert model.built and model.count_params() == 15
    with pytest.raises(ValueError, match="one shape"):
        Sequential([layers.Dense(3)]).build([(None, 4), (None, 4)])


def test_add_and_pop():
    model = Sequential(name="s")
    model.add(Input((4,)))
    model.add(layers.Dense(3))
    assert model.output_shape == (None, 3)
    model.add(layers.Dense(2, name="last"))
    assert model.output_shape == (None, 2) and names(model)[-1] == "last"
    last = model.pop()
    assert last.name == "last" and model.output_shape == (None, 3) and model(np.ones((1, 4))).shape == (1, 3)
    model.add(last)
    assert model.output_shape == (None, 2) and last.output.shape == (None, 2)
    model.pop(), model.pop()
    with pytest.raises(ValueError, match="no layers"):
        model.pop()


def test_what_cannot_be_added():
    model = Sequential([layers.Dense(3, name="a")])
    with pytest.raises(TypeError, match="wants a layer, not int"):
        model.add(3)
    with pytest.raises(ValueError, match="'a' already"):
        model.add(layers.Dense(2, name="a"))
    with pytest.raises(ValueError, match="must be the first"):
        model.add(Input((3,)))


def test_add_to_a_model_built_by_data():
    model = Sequential([layers.Dense(3)])
    model(np.ones((2, 4)))
    model.add(layers.Dense(5))
    assert model(np.ones((2, 4))).shape == (2, 5) and len(model.weights) == 4


def test_nested():
    fastdl.clear_session()
    inner = Sequential([layers.Dense(3, name="d")], name="inner")
    model = Sequential([inner, layers.Dense(2, name="d")])
    model(np.ones((1, 4)))
    assert [w.path for w in model.weights] == ["inner/d/kernel", "inner/d/bias", "d/kernel", "d/bias"]
    given = Sequential([Input((4,)), layers.Dense(3)])
    assert Sequential([given, layers.Dense(2)]).input_shape == (None, 4)


def test_wrong_data():
    model = Sequential([Input((4,), name="x"), layers.Dense(3)], name="s")
    with pytest.raises(fastdl.ShapeError, match="s: the shape of input 'x' does not fit\n  given   .2, 5.\n  wanted  .None, 4."):
        model(np.ones((2, 5)))
    assert Sequential([Input((1,)), layers.Dense(3)])(np.ones(5)).shape == (5, 3)         # a number a sample
    assert Sequential([Input((4,)), layers.Dense(3)])(np.ones((2, 4), "int64")).shape == (2, 3)


def test_failed_build_leaves_nothing():
    model = Sequential([layers.Reshape((3, 3)), layers.Dense(2)])
    with pytest.raises(fastdl.ShapeError):
        model(np.ones((2, 8)))
    assert not model.built
    assert model(np.ones((2, 9))).shape == (2, 3, 2)


def test_a_layer_that_looks_at_values():
    class Looks(layers.Layer):
        def call(self, x):
            return x if float(x.array.sum()) > 0 else -x

    class Doubts(layers.Layer):
        def call(self, x):
            return x if x else x

    assert Sequential([layers.Dense(2), Looks()])(np.ones((1, 3))).shape == (1, 2)
    model = Sequential([layers.Dense(1), Doubts()])
    assert model(np.ones((1, 3))).shape == (1, 1) and model.built and len(model.weights) == 2


def test_training_reaches_the_layers():
    class Sees(layers.Layer):
        def call(self, x, training=None):
            self.seen = training
            return x

    layer = Sees()
    model = Sequential([Sequential([layer])])
    model(np.ones((1, 2)), training=True)
    assert layer.seen is True
    model(np.ones((1, 2)))
    assert not layer.seen


def test_trainable():
    model = Sequential([layers.Dense(3, input_shape=(4,)), layers.Dense(2)])
    model.layers[0].trainable = False
    assert [w.shape for w in model.trainable_weights] == [(3, 2), (2,)]
    model.trainable = False
    assert model.trainable_weights == [] and len(model.non_trainable_weights) == 4


def test_masks_reach_later_layers():
    class Sees(layers.Layer):
        supports_masking = True

        def call(self, x, mask=None):
            self.seen = mask
            return x * 1.0

    layer = Sees()
    Sequential([layers.Masking(), layers.Dense(2), layer])(np.array([[[1.0], [0.0]]]))
    assert np.array_equal(layer.seen.array, [[True, False]])


def test_config_makes_an_equal_model():
    for model in (Sequential([layers.Dense(3, input_shape=(4,)), layers.Flatten(), layers.Dense(2)]), Sequential([layers.Dense(2)])):
        copy = Sequential.from_config(model.get_config())
        assert copy.get_config() == model.get_config() and copy.built == model.built
    model(np.ones((1, 4)))
    copy = Sequential.from_config(model.get_config())
    assert copy.built and copy.weights[0].shape == (4, 2)


def test_predictions_and_steps_follow_layers_that_come_and_go():
    x, y = np.ones((4, 3), "float32"), np.ones((4, 2), "float32")
    model = Sequential([Input((3,)), layers.Dense(2, kernel_initializer="ones")])
    model.compile("sgd", "mse")
    calls = (lambda: model.predict(x, verbose=0), lambda: model.predict_on_batch(x), lambda: model.test_on_batch(x, y))
    first = [[call() for call in calls] for _ in range(3)][-1]
    model.add(layers.ReLU(max_value=1.0))
    for _ in range(3):
        capped = [call() for call in calls]
        assert np.all(capped[0] == 1) and np.all(capped[1] == 1) and capped[2] == 0
    model.pop()
    for _ in range(3):
        assert all(np.array_equal(a, b) for a, b in zip(first, [call() for call in calls]))


def test_one_input_by_name_or_in_a_list():
    x = np.ones((4, 3), "float32")
    model = Sequential([Input((3,), name="pixels"), layers.Dense(2)])
    wanted = model.predict(x, verbose=0)
    assert np.array_equal(model.predict({"pixels": x}, verbose=0), wanted) and np.array_equal(model({"pixels": x}), wanted)
    with pytest.raises(ValueError, match="2 inputs were given"):
        model.predict((x, x), verbose=0)
