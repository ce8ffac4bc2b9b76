"""Metrics: running figures about predictions. Names, arguments, defaults and formulas are those of Keras 3.

Totals are float64 tensors that kernels add to, so that recorded steps keep them.
"""

import struct

import numpy as np

from . import _core, losses, ops
from .losses import _like, _leading, _pair, _reshaped
from .ops.layout import move, strides_of
from .ops.loss import LOSS_PIECE
from .registry import Configured, Registry, snake_case
from .tensor import State, Tensor, kernels

ZERO = np.zeros((), "float64")
_pack, _unpack = struct.Struct("f").pack, struct.Struct("f").unpack


class Metric(Configured):
    """Base of all metrics. A subclass adds its totals with add_variable and defines update_state(y_true, y_pred, sample_weight)
    and result()."""

    def __init__(self, dtype=None, name=None):
        self.name, self.dtype, self.variables = name or snake_case(type(self).__name__), dtype or "float32", []

    def add_variable(self, shape, name):
        """A total: a float64 State of zeros."""
        found = State(_core.empty(shape, "float64"), name, trainable=False)
        found.array[...] = 0
        found.path = f"{self.name}/{name}"
        self.variables.append(found)
        return found

    def reset_state(self):
        """Begin anew; a recorded step does so at each replay."""
        for v in self.variables:
            move(v.array, ZERO, v.shape, strides_of(v.shape), (0,) * v.ndim)

    def update_state(self, *args, **kwargs):
        """Add a batch."""
        raise NotImplementedError(f"{type(self).__name__}: define update_state")

    def result(self):
        """The figure so far: a Tensor ()."""
        raise NotImplementedError(f"{type(self).__name__}: define result")

    def value(self):
        """The result as a float; as an array where it holds several numbers."""
        result = self.result()
        return np.array(result) if np.size(result) > 1 else float(result)

    def __call__(self, *args, **kwargs):
        """Add a batch; returns the figure so far."""
        self.update_state(*args, **kwargs)
        return self.result()

    def get_config(self):
        """The constructor's arguments."""
        return {"name": self.name}

    def __repr__(self):
        return f"<{type(self).__name__} name={self.name}>"


class Mean(Metric):
    """The weighted mean of values."""

    root, own_result = 0, False

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.own_result = cls.result is not Mean.result

    def __init__(self, name="mean", dtype=None):
        super().__init__(dtype, name)
        self.total, self.count = self.add_variable((), "total"), self.add_variable((), "count")

    def update_state(self, values, sample_weight=None):
        """Add values (any shape), each as often as sample_weight (a number, or the leading axes of values) says."""
        self.add(_like(values, "float32"), sample_weight)

    def add(self, values, sample_weight=None, mask=None, scale=None):
        """Add values; the mask leaves some out. scale: by default 1 / how many values a sample has."""
        weights = None if sample_weight is None else _leading(_like(sample_weight, "float32"), values).array
        mask = None if mask is None else _leading(_like(mask, "bool"), values).array
        n = values.size
        sums = _core.empty((-(-n // LOSS_PIECE), 3), "float64")
        kernels.loss_sums(sums, values.array, weights, mask, size=n, weight_repeat=1 if weights is None else n // max(weights.size, 1),
                          mask_repeat=1 if mask is None else n // max(mask.size, 1))
        scale = scale or (values.shape[0] / n if values.ndim and n else 1.0)
        kernels.add_to_mean(self.total.array, self.count.array, sums, pieces=len(sums), scale=scale)

    def result(self):
        """The mean so far: a Tensor ()."""
        return self._quotient(self.count.array)

    def value(self):
        """The result as a float, without a kernel."""
        if self.root or self.own_result:
            return super().value()
        count = self.count.array.item()
        if not count:
            return 0.0
        mean = self.total.array.item() / count
        try:
            return _unpack(_pack(mean))[0]      # as float32, three times as fast as by NumPy
        except OverflowError:
            return float(np.float32(mean))

    def _quotient(self, count):
        mean = _core.empty((), "float32")
        kernels.mean_so_far(mean, self.total.array, count, root=self.root)
        return Tensor(mean)


class Sum(Mean):
    """The weighted sum of values."""

    def __init__(self, name="sum", dtype=None):
        super().__init__(name, dtype)
        self.variables.pop()              # the count is no part of a sum

    def add(self, values, sample_weight=None, mask=None):
        """Add values; the mask leaves some out."""
        super().add(values, sample_weight, mask, scale=1.0)

    def result(self):
        """The sum so far: a Tensor ()."""
        return self._quotient(np.ones((), "float64"))


class MeanMetricWrapper(Mean):
    """The mean of a function fn(y_true, y_pred, **kwargs) that gives one number for each sample. A mask of y_pred is heeded."""

    def __init__(self, fn, name=None, dtype=None, **kwargs):
        super().__init__(name or getattr(fn, "__name__", "mean").strip("<>"), dtype)
        self.fn, self.kwargs = fn, kwargs

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add a batch."""
        values = self.fn(y_true, y_pred, **self.kwargs)
        mask = getattr(y_pred, "mask", None)
        self.add(_like(values, "float32"), sample_weight, getattr(values, "mask", None) if mask is None else mask)

    def get_config(self):
        return {**super().get_config(), **self.kwargs}


# ---- whether predictions are right ----

def _scores(y_pred):
    return y_pred.detach() if isinstance(y_pred, Tensor) else Tensor(np.ascontiguousarray(y_pred, "float32"))


def _labels(y_true, y_pred):
    labels = y_true.detach() if isinstance(y_true, Tensor) else Tensor(np.ascontiguousarray(y_true))
    return _reshaped(labels, labels.shape[:-1]) if labels.ndim == y_pred.ndim and labels.shape[-1] == 1 else labels


def accuracy(y_true, y_pred):
    """Share of the last axis where targets and predictions are equal."""
    return ops.PairMatches.apply(*_columns(*_pair(y_true, _scores(y_pred))))


def binary_accuracy(y_true, y_pred, threshold=0.5):
    """Share of the last axis where the target is 1 and the prediction above the threshold, or 0 and not."""
    return ops.PairMatches.apply(*_columns(*_pair(y_true, _scores(y_pred))), threshold=float(threshold))


def _columns(y_true, y_pred):
    return (y_true, y_pred) if y_pred.ndim > 1 else (_reshaped(y_true, (*y_true.shape, 1)), _reshaped(y_pred, (*y_pred.shape, 1)))


def categorical_accuracy(y_true, y_pred):
    """1 where the class of the largest target (..., classes) has the largest prediction."""
    return top_k_categorical_accuracy(y_true, y_pred, k=0)


def top_k_categorical_accuracy(y_true, y_pred, k=5):
    """1 where the class of the largest target (..., classes) has one of the k largest predictions."""
    y_pred = _scores(y_pred)
    return ops.TargetMatches.apply(_like(y_true, y_pred.dtype), y_pred, k=int(k))


def sparse_categorical_accuracy(y_true, y_pred):
    """1 where the right class, a whole number, has the largest prediction."""
    return sparse_top_k_categorical_accuracy(y_true, y_pred, k=0)


def sparse_top_k_categorical_accuracy(y_true, y_pred, k=5, from_sorted_ids=False):
    """1 where the right class, a whole number, has one of the k largest predictions.

    from_sorted_ids   y_pred holds class numbers, the best first
    """
    y_pred = _scores(y_pred)
    if from_sorted_ids:
        return ops.SortedMatches.apply(y_pred, _labels(y_true, y_pred), k=int(k))
    return ops.LabelMatches.apply(y_pred, _labels(y_true, y_pred), k=int(k))


class Accuracy(MeanMetricWrapper):
    """How often predictions equal targets."""

    def __init__(self, name="accuracy", dtype=None):
        super().__init__(accuracy, name, dtype)


class BinaryAccuracy(MeanMetricWrapper):
    """How often predictions are on the target's side of the threshold."""

    def __init__(self, name="binary_accuracy", dtype=None, threshold=0.5):
        super().__init__(binary_accuracy, name, dtype, threshold=threshold)


class CategoricalAccuracy(MeanMetricWrapper):
    """How often the largest prediction is at the largest target."""

    def __init__(self, name="categorical_accuracy", dtype=None):
        super().__init__(categorical_accuracy, name, dtype)


class SparseCategoricalAccuracy(MeanMetricWrapper):
    """How often the largest prediction is that of the right class, a whole number."""

    def __init__(self, name="sparse_categorical_accuracy", dtype=None):
        super().__init__(sparse_categorical_accuracy, name, dtype)


class TopKCategoricalAccuracy(MeanMetricWrapper):
    """How often the class of the largest target is among the k largest predictions."""

    def __init__(self, k=5, name="top_k_categorical_accuracy", dtype=None):
        super().__init__(top_k_categorical_accuracy, name, dtype, k=k)


class SparseTopKCategoricalAccuracy(MeanMetricWrapper):
    """How often the right class, a whole number, is among the k largest predictions."""

    def __init__(self, k=5, name="sparse_top_k_categorical_accuracy", dtype=None, from_sorted_ids=False):
        super().__init__(sparse_top_k_categorical_accuracy, name, dtype, k=k, from_sorted_ids=from_sorted_ids)


# ---- means of losses ----

class MeanSquaredError(MeanMetricWrapper):
    """Mean of the squared differences."""

    def __init__(self, name="mean_squared_error", dtype=None):
        super().__init__(losses.mean_squared_error, name, dtype)


class RootMeanSquaredError(MeanMetricWrapper):
    """Square root of the mean of the squared differences."""

    root = 1

    def __init__(self, name="root_mean_squared_error", dtype=None):
        super().__init__(losses.mean_squared_error, name, dtype)


class MeanAbsoluteError(MeanMetricWrapper):
    """Mean of the absolute differences."""

    def __init__(self, name="mean_absolute_error", dtype=None):
        super().__init__(losses.mean_absolute_error, name, dtype)


class MeanAbsolutePercentageError(MeanMetricWrapper):
    """Mean of the absolute differences in percent of the targets."""

    def __init__(self, name="mean_absolute_percentage_error", dtype=None):
        super().__init__(losses.mean_absolute_percentage_error, name, dtype)


class MeanSquaredLogarithmicError(MeanMetricWrapper):
    """Mean of the squared differences of log(1 + x)."""

    def __init__(self, name="mean_squared_logarithmic_error", dtype=None):
        super().__init__(losses.mean_squared_logarithmic_error, name, dtype)


class LogCoshError(MeanMetricWrapper):
    """Mean of log cosh of the differences."""

    def __init__(self, name="logcosh", dtype=None):
        super().__init__(losses.log_cosh, name, dtype)


class Hinge(MeanMetricWrapper):
    """Mean of max(1 - target prediction, 0)."""

    def __init__(self, name="hinge", dtype=None):
        super().__init__(losses.hinge, name, dtype)


class SquaredHinge(MeanMetricWrapper):
    """Mean of max(1 - target prediction, 0)^2."""

    def __init__(self, name="squared_hinge", dtype=None):
        super().__init__(losses.squared_hinge, name, dtype)


class Poisson(MeanMetricWrapper):
    """Mean of prediction - target log(prediction)."""

    def __init__(self, name="poisson", dtype=None):
        super().__init__(losses.poisson, name, dtype)


class KLDivergence(MeanMetricWrapper):
    """Sum over the classes of target log(target / prediction)."""

    def __init__(self, name="kl_divergence", dtype=None):
        super().__init__(losses.kl_divergence, name, dtype)


class BinaryCrossentropy(MeanMetricWrapper):
    """Mean of the loss of this name."""

    def __init__(self, name="binary_crossentropy", dtype=None, from_logits=False, label_smoothing=0):
        super().__init__(losses.binary_crossentropy, name, dtype, from_logits=from_logits, label_smoothing=label_smoothing)


class CategoricalCrossentropy(MeanMetricWrapper):
    """Mean of the loss of this name."""

    def __init__(self, name="categorical_crossentropy", dtype=None, from_logits=False, label_smoothing=0, axis=-1):
        super().__init__(losses.categorical_crossentropy, name, dtype, from_logits=from_logits, label_smoothing=label_smoothing, axis=axis)


class SparseCategoricalCrossentropy(MeanMetricWrapper):
    """Mean of the loss of this name."""

    def __init__(self, name="sparse_categorical_crossentropy", dtype=None, from_logits=False, ignore_class=None, axis=-1):
        super().__init__(losses.sparse_categorical_crossentropy, name, dtype, from_logits=from_logits, ignore_class=ignore_class, axis=axis)


# ---- confusion matrices ----

class Confusion(Metric):
    """Counts of right and wrong predictions of positives at thresholds.

    thresholds   a number or several, 0.5 unless given; a prediction above is positive
    top_k        only the top_k largest predictions of a sample are positive; then there is no threshold unless given
    class_id     the only column that counts
    """

    def __init__(self, thresholds=None, top_k=None, class_id=None, name=None, dtype=None):
        super().__init__(dtype, name)
        default = 0.5 if top_k is None else -np.inf
        self.thresholds, self.top_k, self.class_id = thresholds, top_k, class_id
        self._levels = np.atleast_1d(np.array(default if thresholds is None else thresholds, "float32"))
        self.counts = [self.add_variable(self._levels.shape, kind) for kind in
                       ("true_positives", "false_positives", "true_negatives", "false_negatives")]

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add a batch."""
        y_true, y_pred = _columns(*_pair(y_true, _scores(y_pred)))
        weights = None if sample_weight is None else _leading(_like(sample_weight, "float32"), y_pred).array
        columns = y_pred.shape[-1]
        kernels.add_to_confusion(*[c.array for c in self.counts], y_true.array, y_pred.array, weights, self._levels, rows=y_pred.size // columns,
                                 columns=columns, class_id=-1 if self.class_id is None else self.class_id, top_k=self.top_k or 0,
                                 weight_repeat=1 if weights is None else y_pred.size // weights.size, count=len(self._levels))

    def _share(self, part, rest):
        part, rest = self.counts[part].numpy(), self.counts[rest].numpy()
        found = np.divide(part, part + rest, out=np.zeros_like(part), where=part + rest != 0).astype("float32")
        return Tensor(found if len(found) > 1 else found.reshape(()))

    def get_config(self):
        return {**super().get_config(), "thresholds": self.thresholds, "top_k": self.top_k, "class_id": self.class_id}


class Precision(Confusion):
    """Share of the predicted positives that are positive."""

    def result(self):
        """The share so far: a Tensor (), or (thresholds)."""
        return self._share(0, 1)


class Recall(Confusion):
    """Share of the positives that are predicted."""

    def result(self):
        """The share so far: a Tensor (), or (thresholds)."""
        return self._share(0, 3)


class _Count(Confusion):
    which = 0

    def __init__(self, thresholds=None, name=None, dtype=None):
        super().__init__(thresholds, name=name, dtype=dtype)

    def result(self):
        """The count so far: a Tensor (), or (thresholds)."""
        found = self.counts[self.which].numpy().astype("float32")
        return Tensor(found if len(found) > 1 else found.reshape(()))

    def get_config(self):
        return {"name": self.name, "thresholds": self.thresholds}


class TruePositives(_Count):
    """How many positives are predicted."""

    which = 0


class FalsePositives(_Count):
    """How many negatives are predicted positive."""

    which = 1


class TrueNegatives(_Count):
    """How many negatives are predicted negative."""

    which = 2


class FalseNegatives(_Count):
    """How many positives are predicted negative."""

    which = 3


_known = Registry("metric", Metric, [c for c in vars().values() if isinstance(c, type) and issubclass(c, Metric)
                                     and c not in (Metric, MeanMetricWrapper, Confusion, _Count)],
                  {"mse": MeanSquaredError, "mae": MeanAbsoluteError, "mape": MeanAbsolutePercentageError, "msle": MeanSquaredLogarithmicError,
                   "bce": BinaryCrossentropy, "logcosh": LogCoshError, "kl_divergence": KLDivergence, "acc": Accuracy},
                  wanted="a Metric, a function of y_true and y_pred", wrapped=MeanMetricWrapper)
get, serialize, deserialize = _known.get, _known.serialize, _known.deserialize


def resolve(identifier, true_shape, pred_shape):
    """As get, for compile: "accuracy" becomes the accuracy that fits the shapes of targets and predictions; a metric given by
    its name has this name."""
    if isinstance(identifier, str):
        if identifier.lower() in ("accuracy", "acc"):
            if pred_shape[-1] == 1:
                return BinaryAccuracy(name=identifier)
            sparse = len(true_shape) < len(pred_shape) or true_shape[-1] == 1 and pred_shape[-1] > 1
            return (SparseCategoricalAccuracy if sparse else CategoricalAccuracy)(name=identifier)
        metric = get(identifier)
        metric.name = identifier
        return metric
    return get(identifier)
