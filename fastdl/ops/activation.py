"""Activations."""

import math

import numpy as np

from ..errors import shape_error
from ..op import ACTIVATIONS, Op, case, kernels, twin
from .linear import activate, activation_of
from .math import Unary, erf_of

__all__ = ["relu", "relu6", "leaky_relu", "elu", "selu", "sigmoid", "tanh", "softplus", "log_sigmoid", "softsign", "silu", "swish",
           "hard_sigmoid", "hard_silu", "hard_swish", "mish", "gelu", "activated_sum"]

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805      # Klambauer et al. 2017


def _sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def _softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _times(x, gate):
    return np.where(x == -np.inf, 0, x * gate)


class Relu(Unary):
    """max(x, 0); NaN stays NaN."""

    function = lambda x: np.where(x < 0, 0, x)
    keeps, derivative = "y", lambda y: (y > 0).astype(y.dtype)


class Relu6(Unary):
    """min(max(x, 0), 6)."""

    function = lambda x: np.clip(x, 0, 6)
    keeps, derivative = "y", lambda y: ((y > 0) & (y < 6)).astype(y.dtype)


class LeakyRelu(Unary):
    """x where x >= 0, else negative_slope * x."""

    negative_slope: float = 0.2
    function = lambda x, negative_slope: np.where(x < 0, negative_slope * x, x)
    keeps, derivative = "x", lambda x, negative_slope: np.where(x < 0, negative_slope, 1)
    cases = [*Unary.cases, case(x=(5,), negative_slope=0.5)]


class Elu(Unary):
    """x where x >= 0, else alpha * (exp(x) - 1)."""

    alpha: float = 1.0
    function = lambda x, alpha: np.where(x < 0, alpha * np.expm1(x), x)
    keeps, derivative = "x", lambda x, alpha: np.where(x < 0, alpha * np.exp(x), 1)
    cases = [*Unary.cases, case(x=(5,), alpha=0.7)]


class Selu(Unary):
    """The scaled exponential linear unit of self-normalizing networks."""

    function = lambda x: SELU_SCALE * np.where(x < 0, SELU_ALPHA * np.expm1(x), x)
    keeps, derivative = "y", lambda y: np.where(y < 0, y + SELU_ALPHA * SELU_SCALE, SELU_SCALE)


class Sigmoid(Unary):
    """1 / (1 + exp(-x))."""

    function, keeps, derivative = _sigmoid, "y", lambda y: y * (1 - y)


class Tanh(Unary):
    """The hyperbolic tangent of x."""

    function, keeps, derivative = np.tanh, "y", lambda y: (1 - y) * (1 + y)


class Softplus(Unary):
    """log(1 + exp(x))."""

    function, keeps, derivative = _softplus, "x", _sigmoid


class LogSigmoid(Unary):
    """log(sigmoid(x))."""

    function, keeps, derivative = lambda x: -_softplus(-x), "x", lambda x: _sigmoid(-x)


class Softsign(Unary):
    """x / (1 + |x|)."""

    function, keeps, derivative = lambda x: x / (1 + np.abs(x)), "x", lambda x: (1 + np.abs(x)) ** -2


class Silu(Unary):
    """x * sigmoid(x), also known as swish."""

    function = lambda x: _times(x, _sigmoid(x))
    keeps, derivative = "x", lambda x: _sigmoid(x) + np.where(np.isinf(x), 0, x * _sigmoid(x) * _sigmoid(-x))


class HardSigmoid(Unary):
    """x / 6 + 0.5 between -3 and 3, 0 below, 1 above."""

    function = lambda x: np.clip(x / 6 + 0.5, 0, 1)
    keeps, derivative = "x", lambda x: np.where(np.abs(x) < 3, 1 / 6, 0)


class HardSilu(Unary):
    """x * hard_sigmoid(x), also known as hard swish."""

    function = lambda x: _times(x, np.clip(x / 6 + 0.5, 0, 1))
    keeps, derivative = "x", lambda x: np.where(np.abs(x) < 3, x / 3 + 0.5, x > 0)


class Mish(Unary):
    """x * tanh(softplus(x))."""

    function = lambda x: _times(x, np.tanh(_softplus(x)))
    keeps = "x"

    def derivative(x):
        t = np.tanh(_softplus(x))
        return t + np.where(np.isinf(x), 0, x * (1 - t * t) * _sigmoid(x))


class Gelu(Unary):
    """x times the cumulative distribution of the normal: 0.5 x (1 + erf(x / sqrt(2)))."""

    function = lambda x: _times(x, 0.5 * (1 + erf_of(x / math.sqrt(2))))
    keeps = "x"

    def derivative(x):
        density = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
        return 0.5 * (1 + erf_of(x / math.sqrt(2))) + np.where(np.isinf(x), 0, x * density)


class GeluApproximate(Unary):
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""

    function = lambda x: _times(x, _sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x ** 3)))
    keeps = "x"

    def derivative(x):
        x = np.clip(x, -20, 20)
        s = _sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x ** 3))
        return s + x * s * (1 - s) * math.sqrt(8 / math.pi) * (1 + 3 * 0.044715 * x * x)


@twin
def activated_sum(y, x1, x2, *, size, activation):
    y[...] = activate(x1 + x2, activation)


class ActivatedSum(Op):
    """activation(x1 + x2).

    x1, x2   any shape, the same for both
    returns  that shape

    activation is None, "relu", "relu6", "sigmoid" or "tanh".
    """

    activation: str = "relu"
    overwrites = 0

    def shape(self, x1, x2):
        if x1.shape != x2.shape or x1.dtype != x2.dtype:
            raise shape_error(self.name, "x1 and x2 differ in shape or dtype", x1=x1.shape, x2=x2.shape)
        return x1.shape

    def forward(self, y, x1, x2):
        self.y, self.act = y, ACTIVATIONS[self.activation]
        kernels.activated_sum(y, x1, x2, size=y.size, activation=self.act)

    def backward(self, d_y, d_x1, d_x2):
        first, *others = [d for d in (d_x1, d_x2) if d is not None]
        kernels.activation_grad(first, d_y, self.y, size=d_y.size, activation=self.act)
        for other in others:
            kernels.copy(other, first, size=first.size)

    def definition(self, x1, x2):
        return activation_of(x1 + x2, self.activation)

    cases = [case(x1=(3, 37), x2=(3, 37)), case(x1=(5,), x2=(5,), activation="relu6"), case(x1=(0, 2), x2=(0, 2), activation=None),
             case(x1=(17,), x2=(17,), activation="tanh"), case(x1=(1,), x2=(1,), activation="sigmoid")]
    bench = [case(x1=(32, 28, 28, 64), x2=(32, 28, 28, 64))]


relu, relu6, selu, sigmoid, tanh, softplus, log_sigmoid, softsign, silu, hard_sigmoid, hard_silu, mish = (
    op.apply for op in (Relu, Relu6, Selu, Sigmoid, Tanh, Softplus, LogSigmoid, Softsign, Silu, HardSigmoid, HardSilu, Mish))
swish, hard_swish = silu, hard_silu


def leaky_relu(x, negative_slope=0.2):
    """x where x >= 0, else negative_slope * x."""
    return LeakyRelu.apply(x, negative_slope=negative_slope)


def elu(x, alpha=1.0):
    """x where x >= 0, else alpha * (exp(x) - 1)."""
    return Elu.apply(x, alpha=alpha)


def gelu(x, approximate=True):
    """The Gaussian error linear unit: x times the cumulative distribution of the normal, by tanh or, exactly, by erf."""
    return (GeluApproximate if approximate else Gelu).apply(x)


def activated_sum(x1, x2, activation="relu"):  # noqa: F811
    """activation(x1 + x2), of tensors of the same shape, in one pass; activation: None, "relu", "relu6", "sigmoid" or "tanh"."""
    return ActivatedSum.apply(x1, x2, activation=activation)
