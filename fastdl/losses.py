"""Losses: how far predictions are from targets. Names, arguments, defaults and formulas are those of Keras 3.

The functions give one number for each sample (..., columns) -> (...); the classes reduce them to one.
"""

import numpy as np

from . import _core, ops
from .errors import shape_error
from .ops.loss import NONE_IGNORED
from .registry import Configured, Registry, snake_case
from .tensor import Tensor

REDUCTIONS = {"sum_over_batch_size": "count", "mean": "count", "sum": "none", "mean_with_sample_weight": "weights", "none": None, None: None}


# ---- targets ----

def _like(y, dtype):
    """A Tensor of this dtype, without history."""
    if isinstance(y, Tensor):
        return y.detach() if y.dtype == dtype else ops.cast(y, dtype).detach()
    return Tensor(np.asarray(y, dtype, order="C"))


def _reshaped(y, shape):
    """The same memory in another shape."""
    return Tensor(y.array.reshape(shape))


def _pair(y_true, y_pred):
    """Targets and predictions as tensors of the same rank: a last axis of 1 that one of them lacks is added or dropped."""
    if not isinstance(y_pred, Tensor):
        y_pred = Tensor(np.ascontiguousarray(y_pred, "float32"))
    y_true = _like(y_true, y_pred.dtype)
    if y_true.ndim == y_pred.ndim + 1 and y_true.shape[-1] == 1:
        if y_pred.ndim == 1:
            y_pred = ops.reshape(y_pred, (*y_pred.shape, 1))
        else:
            y_true = _reshaped(y_true, y_true.shape[:-1])
    elif y_pred.ndim == y_true.ndim + 1 and y_pred.shape[-1] == 1:
        y_true = _reshaped(y_true, (*y_true.shape, 1))
    return y_true, y_pred


def _logits(y_pred, function, from_logits):
    """(y_pred or the logits it came from, whether it is logits)."""
    logits, by = getattr(y_pred, "logits", None) or (None, None)
    if by == function and not from_logits:
        return logits, True
    return y_pred, from_logits


# ---- losses of each sample ----

def mean_squared_error(y_true, y_pred):
    """Mean over the last axis of (y_pred - y_true)^2."""
    return ops.MeanSquaredLoss.apply(*_pair(y_true, y_pred))


def mean_absolute_error(y_true, y_pred):
    """Mean over the last axis of |y_pred - y_true|."""
    return ops.MeanAbsoluteLoss.apply(*_pair(y_true, y_pred))


def mean_absolute_percentage_error(y_true, y_pred):
    """Mean over the last axis of 100 |y_pred - y_true| / |y_true|."""
    return ops.AbsolutePercentageLoss.apply(*_pair(y_true, y_pred))


def mean_squared_logarithmic_error(y_true, y_pred):
    """Mean over the last axis of (log(1 + y_pred) - log(1 + y_true))^2."""
    return ops.SquaredLogarithmicLoss.apply(*_pair(y_true, y_pred))


def log_cosh(y_true, y_pred):
    """Mean over the last axis of log cosh(y_pred - y_true)."""
    return ops.LogCoshLoss.apply(*_pair(y_true, y_pred))


def hinge(y_true, y_pred):
    """Mean over the last axis of max(1 - y_true y_pred, 0); targets are -1 and 1, or 0 and 1."""
    return ops.HingeLoss.apply(*_pair(y_true, y_pred))


def squared_hinge(y_true, y_pred):
    """Mean over the last axis of max(1 - y_true y_pred, 0)^2; targets are -1 and 1, or 0 and 1."""
    return ops.SquaredHingeLoss.apply(*_pair(y_true, y_pred))


def poisson(y_true, y_pred):
    """Mean over the last axis of y_pred - y_true log(y_pred)."""
    return ops.PoissonLoss.apply(*_pair(y_true, y_pred))


def kl_divergence(y_true, y_pred):
    """Sum over the last axis of y_true log(y_true / y_pred)."""
    return ops.DivergenceLoss.apply(*_pair(y_true, y_pred))


def binary_crossentropy(y_true, y_pred, from_logits=False, label_smoothing=0.0, axis=-1):
    """Mean over the last axis of -log of the probability of the right one of two classes.

    y_true           (..., columns) 0 or 1, or between
    y_pred           (..., columns) probabilities of 1, or logits; of sigmoid's probabilities the logits are used
    label_smoothing  targets are taken as y_true (1 - label_smoothing) + label_smoothing / 2
    """
    y_pred, from_logits = _logits(y_pred, "sigmoid", from_logits)
    _last("binary_crossentropy", y_pred, axis)
    op = ops.BinaryLogitsCrossEntropy if from_logits else ops.BinaryCrossEntropy
    return op.apply(*_pair(y_true, y_pred), smoothing=float(label_smoothing))


def categorical_crossentropy(y_true, y_pred, from_logits=False, label_smoothing=0.0, axis=-1):
    """-sum over the classes of the target by the log of the probability.

    y_true           (..., classes) probabilities, as one-hot
    y_pred           (..., classes) probabilities, or logits; of softmax's probabilities the logits are used
    label_smoothing  targets are taken as y_true (1 - label_smoothing) + label_smoothing / classes
    """
    y_pred, from_logits = _logits(y_pred, "softmax", from_logits)
    _last("categorical_crossentropy", y_pred, axis)
    op = ops.DistributionCrossEntropy if from_logits else ops.DistributionLogLoss
    return op.apply(*_pair(y_true, y_pred), smoothing=float(label_smoothing))


def _last(name, y_pred, axis):
    if axis not in (-1, len(y_pred.shape) - 1):
        raise ValueError(f"{name}: the classes must be the last axis of y_pred, not axis {axis}")


def huber(y_true, y_pred, delta=1.0):
    """Mean over the last axis of e^2 / 2 where |e| <= delta, else delta |e| - delta^2 / 2."""
    return ops.HuberLoss.apply(*_pair(y_true, y_pred), delta=float(delta))


def sparse_categorical_crossentropy(y_true, y_pred, from_logits=False, ignore_class=None, axis=-1):
    """-log of the probability of the right class.

    y_true        (...) or (..., 1) whole numbers: the right classes
    y_pred        (..., classes) probabilities, or logits; of softmax's probabilities the logits are used
    ignore_class  a label whose samples have the loss 0 and do not count
    """
    y_pred, from_logits = _logits(y_pred, "softmax", from_logits)
    if not isinstance(y_pred, Tensor):
        y_pred = Tensor(np.ascontiguousarray(y_pred, "float32"))
    _last("sparse_categorical_crossentropy", y_pred, axis)
    labels = y_true.detach() if isinstance(y_true, Tensor) else Tensor(np.ascontiguousarray(y_true))
    if labels.ndim == y_pred.ndim and labels.shape[-1] == 1:
        labels = _reshaped(labels, labels.shape[:-1])
    if labels.shape != y_pred.shape[:-1]:
        raise shape_error("sparse_categorical_crossentropy", "each row of y_pred needs one label", y_true=labels.shape, y_pred=(y_pred.shape, "..., classes"))
    ignored = NONE_IGNORED if ignore_class is None else int(ignore_class)
    op = ops.SoftmaxCrossEntropy if from_logits else ops.SparseCrossEntropy
    losses = op.apply(y_pred, labels, ignored=ignored)
    if ignore_class is not None:
        losses.mask = ops.not_equal(labels, ignored)
    return losses


# ---- reduction ----

def reduce_weighted(losses, sample_weight=None, mask=None, reduction="sum_over_batch_size"):
    """The losses as one number.

    losses         any shape
    sample_weight  None, or the leading axes of losses (a last axis of 1 may follow): factors
    mask           None, or the leading axes of losses, bool: the others do not count
    """
    weights = None if sample_weight is None else _leading(_like(sample_weight, losses.dtype), losses)
    if mask is not None:
        mask = _leading(_like(mask, "bool"), losses)
    if REDUCTIONS[reduction] is not None and losses.ndim:
        divisor = REDUCTIONS[reduction]
        return ops.TotalLoss.apply(losses, weights, mask, divisor="count" if weights is mask is None and divisor != "none" else divisor)
    for factor in (weights, mask):
        if factor is not None:
            factor = _reshaped(factor, factor.shape + (1,) * (losses.ndim - factor.ndim))
            losses = ops.where(factor, losses, 0.0) if factor is mask else ops.multiply(losses, factor)
    return losses


def _leading(factor, losses):
    shape = factor.shape
    while len(shape) > losses.ndim and shape[-1] == 1 or len(shape) > 1 and shape[-1] == 1 and losses.shape[:len(shape)] != shape:
        shape = shape[:-1]
    return factor if shape == factor.shape else _reshaped(factor, shape)


class Loss(Configured):
    """Base of all losses. A subclass defines call(y_true, y_pred), which returns one number for each sample.

    reduction  "sum_over_batch_size" (the mean over all that the mask, if any, leaves), "sum", "mean", "mean_with_sample_weight",
               "none" or None
    """

    def __init__(self, name=None, reduction="sum_over_batch_size", dtype=None):
        if reduction not in REDUCTIONS:
            raise ValueError(f"{type(self).__name__}: reduction {reduction!r} is not known\n  wanted: one of {', '.join(map(str, REDUCTIONS))}")
        self.name, self.reduction, self.dtype = name or snake_case(type(self).__name__), reduction, dtype or "float32"

    def __call__(self, y_true, y_pred, sample_weight=None):
        """The loss: a Tensor (), or (...) without reduction. A mask of y_pred is heeded."""
        losses = self.call(y_true, y_pred)
        masks = [m for m in (getattr(y_pred, "mask", None), losses.mask) if m is not None]
        mask = ops.logical_and(*masks) if len(masks) == 2 else masks[0] if masks else None
        return reduce_weighted(losses, sample_weight, mask, self.reduction)

    def call(self, y_true, y_pred):
        """One number for each sample."""
        raise NotImplementedError(f"{type(self).__name__}: define call(y_true, y_pred)")

    def get_config(self):
        """The constructor's arguments."""
        return {"name": self.name, "reduction": self.reduction}


class LossFunctionWrapper(Loss):
    """A Loss of a function fn(y_true, y_pred, **kwargs) that returns one number for each sample."""

    def __init__(self, fn, reduction="sum_over_batch_size", name=None, dtype=None, **kwargs):
        super().__init__(name or getattr(fn, "__name__", None), reduction, dtype)
        self.fn, self.kwargs = fn, kwargs

    def call(self, y_true, y_pred):
        """One number for each sample."""
        losses = self.fn(y_true, y_pred, **self.kwargs)
        return losses if isinstance(losses, Tensor) else Tensor(np.asarray(losses, "float32"))

    def get_config(self):
        return {**super().get_config(), **self.kwargs}


class MeanSquaredError(LossFunctionWrapper):
    """Mean of the squared differences."""

    def __init__(self, reduction="sum_over_batch_size", name="mean_squared_error", dtype=None):
        super().__init__(mean_squared_error, reduction, name, dtype)


class MeanAbsoluteError(LossFunctionWrapper):
    """Mean of the absolute differences."""

    def __init__(self, reduction="sum_over_batch_size", name="mean_absolute_error", dtype=None):
        super().__init__(mean_absolute_error, reduction, name, dtype)


class MeanAbsolutePercentageError(LossFunctionWrapper):
    """Mean of the absolute differences in percent of the targets."""

    def __init__(self, reduction="sum_over_batch_size", name="mean_absolute_percentage_error", dtype=None):
        super().__init__(mean_absolute_percentage_error, reduction, name, dtype)


class MeanSquaredLogarithmicError(LossFunctionWrapper):
    """Mean of the squared differences of log(1 + x)."""

    def __init__(self, reduction="sum_over_batch_size", name="mean_squared_logarithmic_error", dtype=None):
        super().__init__(mean_squared_logarithmic_error, reduction, name, dtype)


class LogCosh(LossFunctionWrapper):
    """Mean of log cosh of the differences."""

    def __init__(self, reduction="sum_over_batch_size", name="log_cosh", dtype=None):
        super().__init__(log_cosh, reduction, name, dtype)


class Hinge(LossFunctionWrapper):
    """Mean of max(1 - target prediction, 0)."""

    def __init__(self, reduction="sum_over_batch_size", name="hinge", dtype=None):
        super().__init__(hinge, reduction, name, dtype)


class SquaredHinge(LossFunctionWrapper):
    """Mean of max(1 - target prediction, 0)^2."""

    def __init__(self, reduction="sum_over_batch_size", name="squared_hinge", dtype=None):
        super().__init__(squared_hinge, reduction, name, dtype)


class Poisson(LossFunctionWrapper):
    """Mean of prediction - target log(prediction)."""

    def __init__(self, reduction="sum_over_batch_size", name="poisson", dtype=None):
        super().__init__(poisson, reduction, name, dtype)


class KLDivergence(LossFunctionWrapper):
    """Sum over the classes of target log(target / prediction)."""

    def __init__(self, reduction="sum_over_batch_size", name="kl_divergence", dtype=None):
        super().__init__(kl_divergence, reduction, name, dtype)


class Huber(LossFunctionWrapper):
    """Squared near 0, linear beyond delta; see huber."""

    def __init__(self, delta=1.0, reduction="sum_over_batch_size", name="huber_loss", dtype=None):
        super().__init__(huber, reduction, name, dtype, delta=delta)


class BinaryCrossentropy(LossFunctionWrapper):
    """-log of the probability of the right one of two classes; see binary_crossentropy."""

    def __init__(self, from_logits=False, label_smoothing=0.0, axis=-1, reduction="sum_over_batch_size", name="binary_crossentropy", dtype=None):
        super().__init__(binary_crossentropy, reduction, name, dtype, from_logits=from_logits, label_smoothing=label_smoothing, axis=axis)


class CategoricalCrossentropy(LossFunctionWrapper):
    """-sum over the classes of the target by the log of the probability; see categorical_crossentropy."""

    def __init__(self, from_logits=False, label_smoothing=0.0, axis=-1, reduction="sum_over_batch_size", name="categorical_crossentropy",
                 dtype=None):
        super().__init__(categorical_crossentropy, reduction, name, dtype, from_logits=from_logits, label_smoothing=label_smoothing, axis=axis)


class SparseCategoricalCrossentropy(LossFunctionWrapper):
    """-log of the probability of the right class, given as a whole number; see sparse_categorical_crossentropy."""

    def __init__(self, from_logits=False, ignore_class=None, reduction="sum_over_batch_size", axis=-1,
                 name="sparse_categorical_crossentropy", dtype=None):
        super().__init__(sparse_categorical_crossentropy, reduction, name, dtype, from_logits=from_logits, ignore_class=ignore_class, axis=axis)


_known = Registry("loss", Loss, [c for c in vars().values() if isinstance(c, type) and issubclass(c, LossFunctionWrapper) and c is not LossFunctionWrapper],
                  {"mse": MeanSquaredError, "mae": MeanAbsoluteError, "mape": MeanAbsolutePercentageError, "msle": MeanSquaredLogarithmicError,
                   "bce": BinaryCrossentropy, "huber_loss": Huber, "logcosh": LogCosh, "kl_divergence": KLDivergence, "kld": KLDivergence},
                  wanted="a Loss, a function of y_true and y_pred", wrapped=LossFunctionWrapper)
get, serialize, deserialize = _known.get, _known.serialize, _known.deserialize
