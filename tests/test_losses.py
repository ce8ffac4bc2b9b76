"""Losses, metrics, optimisers and normalisation compute what Keras 3 does (tests/records/keras_learning.json), and the rest of losses."""

import importlib.util
import json
import pathlib

import numpy as np
import pytest

import fastdl
from fastdl import losses, ops

RECORDS = pathlib.Path(__file__).parent / "records"
spec = importlib.util.spec_from_file_location("make_learning_record", RECORDS / "make_learning_record.py")
maker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(maker)
KERAS = json.loads((RECORDS / "keras_learning.json").read_text())


@pytest.mark.parametrize("isa", fastdl.config.available_isas())
@pytest.mark.parametrize("part", maker.PARTS, ids=lambda part: part.__name__)
def test_equal_to_keras(part, isa):
    with fastdl.isa(isa):
        found = part(fastdl)
    expected = KERAS[part.__name__]
    assert list(found) == list(expected)
    for name, value in expected.items():
        got = np.asarray(found[name])
        assert got.shape == np.shape(value), name
        np.testing.assert_allclose(got, value, rtol=1e-5, atol=3e-6 * max(1, np.abs(value).max()), err_msg=name)


def test_a_label_out_of_range_is_named():
    logits = fastdl.tensor(np.zeros((2, 3, 10)))
    with pytest.raises(fastdl.DataError, match=r"label 12 at \[1, 2\] is out of range for 10 classes"):
        losses.sparse_categorical_crossentropy(np.array([[1, 2, 3], [0, 9, 12]]), logits)
    with pytest.raises(fastdl.DataError, match=r"label -1 at \[0, 0\]"):
        losses.sparse_categorical_crossentropy(np.array([[-1, 2, 3], [0, 9, 2]], "float32"), logits, from_logits=True)
    assert losses.sparse_categorical_crossentropy(np.array([[-1, 2, 3], [0, 9, 2]]), logits, from_logits=True, ignore_class=-1).shape == (2, 3)
    with pytest.raises(fastdl.ShapeError, match="each row of y_pred needs one label"):
        losses.sparse_categorical_crossentropy(np.zeros(5, "int32"), logits)


def test_cross_entropy_of_softmax_goes_back_to_the_logits():
    logits = fastdl.tensor([[1000.0, 0.0, -1000.0]], requires_grad=True)
    loss = losses.SparseCategoricalCrossentropy()(np.array([2]), ops.softmax(logits))
    assert float(loss) == 2000                                    # by probabilities it would be -log 1e-7
    loss.backward()
    assert logits.grad.tolist() == [[1, 0, -1]]
    x = fastdl.tensor([[200.0], [-200.0]], requires_grad=True)
    loss = losses.BinaryCrossentropy()(np.float32([[0], [0]]), fastdl.activations.sigmoid(x))
    assert float(loss) == 100
    loss.backward()
    assert x.grad.tolist() == [[0.5], [0.0]]


@pytest.mark.parametrize("name, target, prediction, d_prediction", [
    ("binary_crossentropy", [[1, 0, 1]], [[0, 1, 0.5]], [[0, 0, -2 / 3]]),            # clipped: no gradient
    ("categorical_crossentropy", [[1, 0, 0]], [[0, 0.25, 0.75]], [[0, 0, 0]])])
def test_gradient_of_clipped_probabilities(name, target, prediction, d_prediction):
    p = fastdl.tensor(prediction, requires_grad=True)
    ops.TotalLoss.apply(getattr(losses, name)(np.float32(target), p), None, None, divisor="none").backward()
    np.testing.assert_allclose(p.grad, d_prediction, rtol=1e-6)


def test_targets_of_other_ranks_and_dtypes(rng):
    p = fastdl.tensor(rng.standard_normal((5, 1)))
    y = rng.integers(0, 3, 5)
    expected = float(((p.numpy()[:, 0] - y) ** 2).mean())
    for target in (y, y[:, None], y.astype("float64"), fastdl.tensor(y.astype("float32")), fastdl.tensor(y)):
        np.testing.assert_allclose(float(losses.get("mse")(target, p)), expected, rtol=1e-6)
    with pytest.raises(fastdl.ShapeError, match="targets and predictions differ"):
        losses.get("mse")(np.zeros((4, 1)), p)


def test_masked_steps_do_not_count(rng):
    p = fastdl.tensor(rng.standard_normal((2, 3, 4)))
    y, mask = rng.standard_normal((2, 3, 4)), np.array([[1, 1, 0], [1, 0, 0]], bool)
    p.numpy()[~mask] = np.nan
    p.mask = fastdl.tensor(mask)
    each = ((p.numpy() - y) ** 2).mean(-1)
    np.testing.assert_allclose(float(losses.get("mse")(y, p)), each[mask].mean(), rtol=1e-5)
    weights = np.float32([2, 3])
    np.testing.assert_allclose(float(losses.get("mse")(y, p, sample_weight=weights)), (each * weights[:, None])[mask].sum() / 3, rtol=1e-5)
    p.mask = fastdl.tensor(np.zeros((2, 3), bool))
    assert float(losses.get("mse")(y, p)) == 0


def test_get_and_configuration():
    assert isinstance(losses.get("mse"), losses.MeanSquaredError) and isinstance(losses.get("KLDivergence"), losses.KLDivergence)
    again = losses.deserialize(losses.serialize(losses.Huber(delta=0.3, reduction="sum")))
    assert again.kwargs == {"delta": 0.3} and again.reduction == "sum"
    doubled = losses.get(lambda y_true, y_pred: 2 * losses.mean_squared_error(y_true, y_pred))
    assert float(doubled(np.float32([[1]]), fastdl.tensor([[3.0]]))) == 8
    for wrong in "msee", 3:
        with pytest.raises(ValueError, match="is not known\n  wanted"):
            losses.get(wrong)
    with pytest.raises(ValueError, match="reduction 'average' is not known"):
        losses.MeanSquaredError(reduction="average")


def test_recorded_losses(rng):
    loss = losses.get("sparse_categorical_crossentropy")
    x, y = rng.standard_normal((8, 5)).astype("float32"), rng.integers(0, 5, 8).astype("int32")
    step = fastdl.record(lambda x, y, w: loss(y, ops.softmax(x), sample_weight=w))
    for i in range(4):
        x, w = x + 1 / (i + 1), rng.uniform(0, 1, 8).astype("float32")
        assert float(step(fastdl.tensor(x), fastdl.tensor(y), fastdl.tensor(w))) == float(loss(y, ops.softmax(fastdl.tensor(x)), sample_weight=w))
    with pytest.raises(fastdl.DataError, match="label 7 at"):
        step(fastdl.tensor(x), fastdl.tensor(np.full(8, 7, "int32")), fastdl.tensor(w))


def test_a_number_as_weight(rng):
    y, p = rng.random((6, 4)), rng.random((6, 4)).astype("f")
    for loss in losses.MeanSquaredError(), losses.MeanAbsoluteError(reduction="sum"):
        np.testing.assert_allclose(float(loss(y, p, sample_weight=0.5)), 0.5 * float(loss(y, p)), rtol=1e-6)
        np.testing.assert_allclose(float(loss(y, p, sample_weight=np.float32(0.5))), 0.5 * float(loss(y, p)), rtol=1e-6)
