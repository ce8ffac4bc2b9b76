"""Losses of pairs (target, prediction), summed or averaged over the last axis."""

import math

import numpy as np

from ..errors import shape_error
from ..op import Op, case, kernels, twin
from .loss import LEAST, MOST

__all__ = ["AbsolutePercentageLoss", "BinaryCrossEntropy", "BinaryLogitsCrossEntropy", "DivergenceLoss", "HingeLoss", "HuberLoss", "LogCoshLoss",
           "MeanAbsoluteLoss", "MeanSquaredLoss", "PoissonLoss", "SquaredHingeLoss", "SquaredLogarithmicLoss"]


def _clip(p):
    return np.clip(p, LEAST, MOST)


def _smooth(t, smoothing):
    return t * (1 - smoothing) + 0.5 * smoothing


def _sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def _sides(t):
    return np.where(t == 0, -1, t)


def _log_ratio(t, p):
    return np.log(np.clip(t, LEAST, 1) / np.clip(p, LEAST, 1))


def _logs(t, p):
    return np.log(np.maximum(p, LEAST) + 1) - np.log(np.maximum(t, LEAST) + 1)


def _binary(t, p, smoothing):
    t, c = _smooth(t, smoothing), _clip(p)
    return -(t * np.log(c) + (1 - t) * np.log(1 - c))


# (loss, its derivative by the prediction, by the target) of t, p and the parameter; in the order of csrc/kernels/pair_loss.c
FORMULAS = [
    (lambda t, p, _: (p - t) ** 2, lambda t, p, _: 2 * (p - t), lambda t, p, _: 2 * (t - p)),
    (lambda t, p, _: np.abs(p - t), lambda t, p, _: np.sign(p - t), lambda t, p, _: np.sign(t - p)),
    (lambda t, p, delta: np.where(np.abs(p - t) <= delta, 0.5 * (p - t) ** 2, delta * (np.abs(p - t) - 0.5 * delta)),
     lambda t, p, delta: np.clip(p - t, -delta, delta), lambda t, p, delta: np.clip(t - p, -delta, delta)),
    (_binary, lambda t, p, smoothing: np.where(p == _clip(p), (p - _smooth(t, smoothing)) / (_clip(p) * (1 - _clip(p))), 0),
     lambda t, p, smoothing: (1 - smoothing) * (np.log(1 - _clip(p)) - np.log(_clip(p)))),
    (lambda t, x, smoothing: np.maximum(x, 0) - x * _smooth(t, smoothing) + np.log1p(np.exp(-np.abs(x))),
     lambda t, x, smoothing: _sigmoid(x) - _smooth(t, smoothing), lambda t, x, smoothing: (smoothing - 1) * x),
    (lambda t, p, _: _logs(t, p) ** 2, lambda t, p, _: np.where(p > LEAST, 2 * _logs(t, p) / (np.maximum(p, 0) + 1), 0),
     lambda t, p, _: np.where(t > LEAST, -2 * _logs(t, p) / (np.maximum(t, 0) + 1), 0)),
    (lambda t, p, _: 100 * np.abs(p - t) / np.maximum(np.abs(t), LEAST), lambda t, p, _: 100 * np.sign(p - t) / np.maximum(np.abs(t), LEAST),
     lambda t, p, _: 100 * (np.sign(t - p) / np.maximum(np.abs(t), LEAST)
                            - np.where(np.abs(t) > LEAST, np.abs(p - t) * np.sign(t) / np.maximum(np.abs(t), LEAST) ** 2, 0))),
    (lambda t, p, _: np.abs(p - t) + np.log1p(np.exp(-2 * np.abs(p - t))) - math.log(2), lambda t, p, _: np.tanh(p - t),
     lambda t, p, _: np.tanh(t - p)),
    (lambda t, p, _: np.maximum(1 - _sides(t) * p, 0), lambda t, p, _: np.where(_sides(t) * p < 1, -_sides(t), 0),
     lambda t, p, _: np.where(_sides(t) * p < 1, -p, 0)),
    (lambda t, p, _: np.maximum(1 - _sides(t) * p, 0) ** 2, lambda t, p, _: -2 * np.maximum(1 - _sides(t) * p, 0) * _sides(t),
     lambda t, p, _: -2 * np.maximum(1 - _sides(t) * p, 0) * p),
    (lambda t, p, _: p - t * np.log(p + LEAST), lambda t, p, _: 1 - t / (p + LEAST), lambda t, p, _: -np.log(p + LEAST)),
    (lambda t, p, _: np.clip(t, LEAST, 1) * _log_ratio(t, p), lambda t, p, _: np.where(p == np.clip(p, LEAST, 1), -np.clip(t, LEAST, 1) / np.clip(p, LEAST, 1), 0),
     lambda t, p, _: np.where(t == np.clip(t, LEAST, 1), _log_ratio(t, p) + 1, 0)),
]


@twin
def pair_losses(losses, targets, predictions, *, rows, columns, kind, factor, parameter):
    loss = FORMULAS[kind][0](targets.reshape(rows, columns), predictions.reshape(rows, columns), parameter)
    losses.reshape(-1)[...] = factor * loss.sum(axis=1)


@twin
def pair_losses_grad(d_x, d_losses, targets, predictions, *, rows, columns, kind, of_targets, factor, parameter):
    slope = FORMULAS[kind][2 if of_targets else 1](targets.reshape(rows, columns), predictions.reshape(rows, columns), parameter)
    d_x.reshape(rows, columns)[...] = d_losses.reshape(rows, 1) * factor * slope


class PairLoss(Op, abstract=True):
    """What these losses share.

    targets      (..., columns)
    predictions  the same shape
    returns      (...)
    """
    kind = 0
    parameter = 0.0
    mean = True                       # else the sum
    bench = [case(targets=(4096, 256), predictions=(4096, 256))]

    def shape(self, targets, predictions):
        if not predictions.ndim or targets.shape != predictions.shape:
            raise shape_error(self.name, "targets and predictions differ in shape", targets=targets.shape, predictions=predictions.shape)
        return predictions.shape[:-1]

    def forward(self, losses, targets, predictions):
        self.targets, self.predictions, columns = targets, predictions, predictions.shape[-1]
        self.sizes = {"rows": losses.size, "columns": columns, "kind": self.kind, "factor": 1 / columns if self.mean and columns else 1.0,
                      "parameter": float(self.parameter)}
        kernels.pair_losses(losses, targets, predictions, **self.sizes)

    def backward(self, d_losses, d_targets, d_predictions):
        for of_targets, d_x in ((0, d_predictions), (1, d_targets)):
            if d_x is not None:
                kernels.pair_losses_grad(d_x, d_losses, self.targets, self.predictions, of_targets=of_targets, **self.sizes)


def _pairs(*shape):
    p = np.float32(0.05 + 0.9 * np.modf(np.arange(1, 2 * math.prod(shape) + 1) * 0.6180339887)[0]).reshape(2, *shape)
    return case(targets=p[0], predictions=p[1])


_reals = [case(targets=(1, 1), predictions=(1, 1)), case(targets=(19, 1), predictions=(19, 1)), case(targets=(3, 17), predictions=(3, 17)),
          case(targets=(2, 3, 5), predictions=(2, 3, 5)), case(targets=(0, 3), predictions=(0, 3))]
_shares = [_pairs(1, 1), _pairs(19, 1), _pairs(3, 17)]


class MeanSquaredLoss(PairLoss):
    """Mean over the last axis of (prediction - target)^2.

    targets      (..., columns)
    predictions  the same shape
    returns      (...)
    """
    kind = 0
    cases = _reals


class MeanAbsoluteLoss(PairLoss):
    """Mean over the last axis of |prediction - target|."""
    kind = 1
    cases = _reals


class HuberLoss(PairLoss):
    """Mean over the last axis of e^2 / 2 where |e| <= delta, else delta |e| - delta^2 / 2; e = prediction - target."""
    kind = 2
    delta: float = 1.0
    parameter = property(lambda self: self.delta)
    cases = [*_reals, case(targets=(3, 17), predictions=(3, 17), delta=0.7)]


class BinaryCrossEntropy(PairLoss):
    """Mean over the last axis of -(t log p + (1 - t) log(1 - p)), p clipped to 1e-7 .. 1 - 1e-7.

    smoothing   t = target (1 - smoothing) + smoothing / 2
    """
    kind = 3
    smoothing: float = 0.0
    parameter = property(lambda self: self.smoothing)
    cases = [*_shares, case(**_pairs(3, 4).arguments, smoothing=0.2)]


class BinaryLogitsCrossEntropy(PairLoss):
    """Mean over the last axis of -(t log p + (1 - t) log(1 - p)), p = sigmoid(prediction).

    smoothing   t = target (1 - smoothing) + smoothing / 2
    """
    kind = 4
    smoothing: float = 0.0
    parameter = property(lambda self: self.smoothing)
    cases = [*_reals, case(targets=(3, 17), predictions=(3, 17), smoothing=0.2)]


class SquaredLogarithmicLoss(PairLoss):
    """Mean over the last axis of (log(1 + prediction) - log(1 + target))^2, both taken as 1e-7 at least."""
    kind = 5
    cases = [*_reals, *_shares]


class AbsolutePercentageLoss(PairLoss):
    """Mean over the last axis of 100 |prediction - target| / |target|, |target| taken as 1e-7 at least."""
    kind = 6
    cases = _shares


class LogCoshLoss(PairLoss):
    """Mean over the last axis of log cosh(prediction - target)."""
    kind = 7
    cases = _reals


class HingeLoss(PairLoss):
    """Mean over the last axis of max(1 - target prediction, 0); targets are -1 or 1, 0 stands for -1."""
    kind = 8
    cases = [*_reals, case(targets=np.float32([[0, 1, 1]]), predictions=(1, 3))]


class SquaredHingeLoss(PairLoss):
    """Mean over the last axis of max(1 - target prediction, 0)^2; targets are -1 or 1, 0 stands for -1."""
    kind = 9
    cases = [*_reals, case(targets=np.float32([[1, -1, 1]]), predictions=(1, 3))]


class PoissonLoss(PairLoss):
    """Mean over the last axis of prediction - target log(prediction + 1e-7)."""
    kind = 10
    cases = _shares


class DivergenceLoss(PairLoss):
    """Sum over the last axis of target log(target / prediction), both clipped to 1e-7 .. 1. (Kullback and Leibler.)"""
    kind = 11
    mean = False
    cases = [*_shares, _reals[2]]
