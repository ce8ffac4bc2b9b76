"""Activation functions by Keras' names. Each takes a tensor and returns one of the same shape."""

from . import ops
from .ops import (elu, hard_sigmoid, hard_silu, leaky_relu, log_sigmoid, log_softmax, mish, relu6, selu, sigmoid, silu,  # noqa: F401
                  softmax, softplus, softsign, tanh)


def linear(x):
    """x itself."""
    return x


def relu(x, negative_slope=0.0, max_value=None, threshold=0.0):
    """max(x, 0), or with arguments: x above `threshold` and at most `max_value`, negative_slope * (x - threshold) below it."""
    if negative_slope == 0 and max_value is None and threshold == 0:
        return ops.relu(x)
    above = ops.where(ops.greater(x, threshold), x, 0.0) if threshold else ops.relu(x)
    if max_value is not None:
        above = ops.minimum(above, max_value)
    if negative_slope:
        above = above - negative_slope * ops.relu(threshold - x)
    return above


def gelu(x, approximate=False):
    """x times the normal distribution's probability below x; approximate: by tanh."""
    return ops.gelu(x, approximate)


def exponential(x):
    """exp(x)."""
    return ops.exp(x)


swish, hard_swish = silu, hard_silu
_known = {f: globals()[f] for f in (
    "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "softmax", "log_softmax", "softplus", "softsign", "silu", "swish", "gelu",
    "tanh", "sigmoid", "log_sigmoid", "exponential", "hard_sigmoid", "hard_silu", "hard_swish", "mish")}
_names = {f: name for name, f in reversed(_known.items())}


def get(identifier):
    """The function of this name; a function itself; None gives linear."""
    if identifier is None:
        return linear
    if callable(identifier):
        return identifier
    if identifier in _known:
        return _known[identifier]
    raise ValueError(f"activation: {identifier!r} is not known\n  wanted: a function or one of {', '.join(_known)}")


def serialize(activation):
    """The name of an activation, for saving: of one's own too, which custom_objects must give when it is loaded."""
    if activation in _names:
        return _names[activation]
    from .layers import Layer
    if isinstance(activation, Layer):
        return {"class_name": type(activation).__name__, "config": activation.get_config()}
    name = getattr(activation, "__name__", "<lambda>")
    if name.isidentifier() and name not in _known:
        return name
    raise ValueError(f"activation: {name!r} has no name in fastdl.activations, so it cannot be saved")
