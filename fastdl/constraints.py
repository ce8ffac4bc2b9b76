"""Constraints: what weights are brought back to after each update. Names, arguments and defaults are those of Keras 3."""

from . import ops
from .registry import Configured, Registry

EPSILON = 1e-7


class Constraint(Configured):
    """Base of all constraints: a function of a tensor that returns one of the same shape."""

    def __call__(self, w):
        """The nearest allowed weights."""
        return w


class NonNeg(Constraint):
    """Weights of at least 0."""

    def __call__(self, w):
        return ops.maximum(w, 0.0)


def _norms(w, axis):
    return ops.sqrt(ops.sum(ops.square(w), axis=axis, keepdims=True))


class MaxNorm(Constraint):
    """Norms along an axis (or several) of at most max_value."""

    def __init__(self, max_value=2, axis=0):
        self.max_value, self.axis = max_value, axis

    def __call__(self, w):
        norms = _norms(w, self.axis)
        return w * (ops.minimum(norms, float(self.max_value)) / (norms + EPSILON))

    def get_config(self):
        return {"max_value": self.max_value, "axis": self.axis}


class UnitNorm(Constraint):
    """Norms of 1 along an axis, or several."""

    def __init__(self, axis=0):
        self.axis = axis

    def __call__(self, w):
        return w / (_norms(w, self.axis) + EPSILON)

    def get_config(self):
        return {"axis": self.axis}


class MinMaxNorm(Constraint):
    """Norms along an axis between min_value and max_value; rate below 1 goes that part of the way at each update."""

    def __init__(self, min_value=0.0, max_value=1.0, rate=1.0, axis=0):
        self.min_value, self.max_value, self.rate, self.axis = min_value, max_value, rate, axis

    def __call__(self, w):
        norms = _norms(w, self.axis)
        wanted = ops.clip(norms, float(self.min_value), float(self.max_value)) * float(self.rate) + norms * (1.0 - self.rate)
        return w * (wanted / (norms + EPSILON))

    def get_config(self):
        return {"min_value": self.min_value, "max_value": self.max_value, "rate": self.rate, "axis": self.axis}


max_norm, non_neg, unit_norm, min_max_norm = MaxNorm, NonNeg, UnitNorm, MinMaxNorm
_known = Registry("constraint", Constraint, (NonNeg, MaxNorm, UnitNorm, MinMaxNorm), wanted="a Constraint, a function of a tensor")
get, serialize, deserialize = _known.get, _known.serialize, _known.deserialize
