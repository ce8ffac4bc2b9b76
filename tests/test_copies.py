"""Copies and pickles: of tensors, layers, optimizers and models."""

import copy
import pickle

import numpy as np
import pytest

import fastdl
from fastdl import layers, ops

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((24, 5, 4)).astype("f"), RNG.standard_normal((24, 3)).astype("f")
WAYS = [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))]


class Own(fastdl.Model):
    def __init__(self):
        super().__init__()
        self.norm, self.recurrence = layers.BatchNormalization(), layers.GRU(6)
        self.rest = [layers.Dropout(0.3, seed=3), layers.Dense(3, activation="tanh")]

    def call(self, x, training=None):
        x = self.recurrence(self.norm(x, training=training))
        for layer in self.rest:
            x = layer(x, training=training)
        return x


def plain():
    return fastdl.Sequential([layers.Input((5, 4)), layers.BatchNormalization(), layers.GRU(6), layers.Dropout(0.3, seed=3), layers.Dense(3, activation="tanh")])


def own_loss(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred), axis=-1)


@pytest.mark.parametrize("way", WAYS)
def test_tensors(way):
    t = fastdl.tensor([1.0, 2.0], requires_grad=True)
    for one in t, t * 2, fastdl.tensor([1, 2]):
        again = way(one)
        assert np.array_equal(again.array, one.array) and again.dtype == one.dtype and again.node is None and again.array is not one.array
        assert again.requires_grad == (one is t)
    weight = fastdl.Parameter(np.ones(2, "f"), "w", trainable=False)
    again = way(weight)
    assert (again.name, again.path, again.trainable, again.dtype) == ("w", "w", False, "float32")
    again.assign([3, 4])
    assert np.array_equal(weight.array, [1, 1])


@pytest.mark.parametrize("way", WAYS)
def test_a_copied_layer_knows_which_weights_train(way):
    layer = layers.BatchNormalization(gamma_constraint="non_neg")
    layer(X)
    again = way(layer)
    again.trainable = False
    again.trainable = True
    assert [w.name for w in again.trainable_weights] == ["gamma", "beta"] and [w.name for w in again.non_trainable_weights] == ["moving_mean", "moving_variance"]
    assert type(again.gamma.constraint).__name__ == "NonNeg" and again.gamma is again.weights[0]
    np.testing.assert_array_equal(again(X), layer(X))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [Own, plain])
def test_a_copied_model_goes_on_to_the_same_bits(make, way):
    fastdl.set_random_seed(2)
    model = make()
    model.compile(fastdl.optimizers.Adam(0.01), own_loss, metrics=["mae"])
    model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    model.train_on_batch(X, Y)
    model.predict(X, verbose=0)
    again = way(model)
    before = [w.copy() for w in model.get_weights()]
    found = [(one.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0).history, one.train_on_batch(X, Y), one.predict(X, verbose=0).tobytes())
             for one in (again, model)]
    assert found[0] == found[1]
    again.optimizer.learning_rate = 1.0
    weights = [w.copy() for w in model.get_weights()]
    again.fit(X, Y, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights())) and not np.array_equal(weights[0], before[0])


def test_what_holds_code_is_told():
    inputs = layers.Input((4,))
    with pytest.raises(NotImplementedError, match="Lambda"):
        copy.deepcopy(fastdl.Model(inputs, layers.Lambda(lambda x: x)(inputs)))


def test_callbacks_and_activations_can_be_pickled():
    assert pickle.loads(pickle.dumps(fastdl.callbacks.EarlyStopping())).better(1, 2)
    for name in "exponential", "tanh", "relu6", "gelu":
        assert pickle.loads(pickle.dumps(fastdl.activations.get(name))) is fastdl.activations.get(name)
