"""Metrics beyond what test_losses.py compares with Keras: names, several batches, masks, recording, configuration."""

import numpy as np
import pytest

import fastdl
from fastdl import metrics


@pytest.mark.parametrize("true, pred, kind", [((8,), (8, 3), "SparseCategoricalAccuracy"), ((8, 1), (8, 3), "SparseCategoricalAccuracy"),
                                              ((8, 3), (8, 3), "CategoricalAccuracy"), ((8,), (8, 1), "BinaryAccuracy"),
                                              ((8, 5), (8, 5, 3), "SparseCategoricalAccuracy")])
def test_accuracy_is_resolved_by_shapes_and_keeps_its_name(true, pred, kind):
    for name in "accuracy", "acc":
        found = metrics.resolve(name, true, pred)
        assert type(found).__name__ == kind and found.name == name
    assert metrics.resolve("mse", true, pred).name == "mse"


def test_means_over_batches(rng):
    mean, all_values, all_weights = metrics.Mean(), [], []
    for n in 3, 20000, 1:
        values, weights = rng.standard_normal(n), rng.uniform(0, 1, n)
        mean.update_state(values, sample_weight=weights)
        all_values, all_weights = [*all_values, *values], [*all_weights, *weights]
    np.testing.assert_allclose(float(mean.result()), np.average(all_values, weights=all_weights), rtol=1e-4)
    mean.reset_state()
    assert float(mean.result()) == 0
    mean.update_state(3.0, sample_weight=4)
    mean.update_state(fastdl.tensor(1.0), sample_weight=12)
    assert float(mean.result()) == 1.5 and [float(v) for v in mean.variables] == [24, 16]


def test_counts_are_exact_far_beyond_float32():
    mean = metrics.Mean()
    for _ in range(3):
        mean.update_state(np.ones(1), sample_weight=2.0**24)
        mean.update_state(np.ones(1))
    assert float(mean.count) == 3 * 2**24 + 3


def test_masked_steps_do_not_count():
    p = fastdl.tensor(np.float32([[[0.9, 0.1], [0.9, 0.1]], [[0.1, 0.9], [0.9, 0.1]]]))
    p.mask = fastdl.tensor(np.array([[True, False], [True, True]]))
    m = metrics.SparseCategoricalAccuracy()
    m.update_state(np.array([[0, 1], [0, 0]]), p)
    assert abs(float(m.result()) - 2 / 3) < 1e-6


def test_ties_and_nan():
    m = metrics.SparseCategoricalAccuracy()
    assert float(m(np.array([1, 0, 0, 5]), np.float32([[1, 1], [1, 1], [np.nan, 1], [0, 1]]))) == 0.25      # the first of equal ones


def test_recorded_totals(rng):
    m = metrics.get("mse")

    def step(y, p):
        m.update_state(y, p)
        return p

    recorded, expected = fastdl.record(step), []
    for _ in range(5):
        y, p = rng.standard_normal((2, 6, 3)).astype("float32")
        recorded(fastdl.tensor(y), fastdl.tensor(p))
        expected.append(((y - p) ** 2).mean())
    np.testing.assert_allclose(float(m.result()), np.mean(expected), rtol=1e-5)


def test_get_and_configuration():
    assert isinstance(metrics.get("RootMeanSquaredError"), metrics.RootMeanSquaredError)
    again = metrics.deserialize(metrics.serialize(metrics.TopKCategoricalAccuracy(k=3, name="top3")))
    assert again.name == "top3" and again.kwargs == {"k": 3}
    assert metrics.deserialize(metrics.serialize(metrics.Recall(top_k=2))).top_k == 2

    def largest(y_true, y_pred):
        return fastdl.ops.maximum(y_true, y_pred)
    m = metrics.get(largest)
    m.update_state(fastdl.tensor([1.0, 4.0]), fastdl.tensor([2.0, 3.0]))
    assert m.name == "largest" and float(m.result()) == 3
    with pytest.raises(ValueError, match="metric: 'acuracy' is not known\n  wanted"):
        metrics.get("acuracy")


def test_a_metric_with_and_without_weights_has_two_names():
    x, y = np.float32([[1, 0], [0, 1], [1, 0], [1, 0]]), np.int32([0, 1, 1, 1])
    model = fastdl.Sequential([fastdl.Input((2,)), fastdl.layers.Activation("linear")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"], weighted_metrics=["accuracy"])
    found = model.evaluate(x, y, sample_weight=np.float32([3, 3, 1, 1]), verbose=0, return_dict=True)
    assert found["accuracy"] == 0.5 and found["weighted_accuracy"] == 0.75
