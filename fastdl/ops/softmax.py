"""Softmax."""

import math

import numpy as np

from ..errors import shape_error
from ..op import Op, case, kernels, twin
from ..tensor import Tensor

__all__ = ["LogSoftmax", "Softmax", "log_softmax", "softmax"]


@twin
def softmax(y, x, *, outer, columns, inner, logarithm):                     # noqa: F811
    x, y = x.reshape(outer, columns, inner), y.reshape(outer, columns, inner)
    shifted = x - x.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1, keepdims=True)
    y[...] = shifted - np.log(total) if logarithm else np.exp(shifted) / total


@twin
def softmax_grad(d_x, d_y, y, *, outer, columns, inner, logarithm):
    d_x, d_y, y = (a.reshape(outer, columns, inner) for a in (d_x, d_y, y))
    if logarithm:
        d_x[...] = d_y - np.exp(y) * d_y.sum(axis=1, keepdims=True)
    else:
        d_x[...] = y * (d_y - (d_y * y).sum(axis=1, keepdims=True))


def around(shape, axis):
    """(outer, columns, inner): the sizes before, at and after the axis."""
    axis %= len(shape)
    return {"outer": math.prod(shape[:axis]), "columns": shape[axis], "inner": math.prod(shape[axis + 1:])}


class Softmax(Op):
    """exp(x) / sum of exp(x) along an axis.

    x        any shape of at least one axis
    returns  the same shape
    """
    axis: int = -1
    logarithm = 0
    overwrites = 0

    def shape(self, x):
        if not -x.ndim <= self.axis < x.ndim or not x.shape[self.axis]:
            raise shape_error(self.name, f"x has no values along axis {self.axis}", x=x.shape)
        return x.shape

    def forward(self, y, x):
        self.y = y
        kernels.softmax(y, x, **around(x.shape, self.axis), logarithm=self.logarithm)

    def backward(self, d_y, d_x):
        kernels.softmax_grad(d_x, d_y, self.y, **around(d_y.shape, self.axis), logarithm=self.logarithm)

    def definition(self, x):
        e = np.exp(np.float64(x) - np.max(x, axis=self.axis, keepdims=True))
        p = e / e.sum(axis=self.axis, keepdims=True)
        return np.log(p) if self.logarithm else p

    cases = [case(x=(1, 1)), case(x=(3, 17)), case(x=(5, 33)), case(x=(2, 3, 19), axis=1), case(x=(4, 7), axis=0), case(x=(0, 5))]
    bench = [case(x=(32, 10)), case(x=(64, 10000))]


class LogSoftmax(Softmax):
    """log softmax(x) along an axis, without the loss of precision of the logarithm of a small softmax.

    x        any shape of at least one axis
    returns  the same shape
    """
    logarithm = 1


def softmax(x, axis=-1):
    """exp(x) / sum of exp(x) along an axis. Its logits are remembered for a cross-entropy, which goes back to them: it then neither
    clips nor divides by small numbers. (Keras does the same.)

    x        any shape of at least one axis
    axis     a number, or several: the sum over all of them is 1
    returns  the same shape
    """
    if isinstance(axis, (list, tuple)):
        if len(axis) > 1:
            from .creation import stop_gradient
            from .math import exp
            from .reduction import max, sum
            powers = exp(x - stop_gradient(max(x, axis=tuple(axis), keepdims=True)))
            return powers / sum(powers, axis=tuple(axis), keepdims=True)
        axis = axis[0]
    y = Softmax.apply(x, axis=axis)
    if isinstance(x, Tensor) and isinstance(y, Tensor) and axis in (-1, x.ndim - 1):
        y.logits = x, "softmax"
    return y


log_softmax = LogSoftmax.apply
