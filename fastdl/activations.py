"""Activation functions. Names, arguments and defaults are those of Keras 3."""

from . import ops
from .ops.softmax import log_softmax, softmax  # noqa: F401
from .tensor import Tensor


def linear(x):
    """x itself."""
    return x


def relu(x, negative_slope=0.0, max_value=None, threshold=0.0):
    """max(x, 0); with negative_slope, negative_slope (x - threshold) for x < threshold; with max_value, at most that."""
    if not negative_slope and not threshold:
        return ops.relu(x) if max_value is None else ops.minimum(ops.relu(x), float(max_value))
    if not threshold and max_value is None:
        return ops.leaky_relu(x, negative_slope)
    above = ops.where(ops.greater(x, float(threshold)), x, 0.0)
    if max_value is not None:
        above = ops.minimum(above, float(max_value))
    return above - float(negative_slope) * ops.relu(float(threshold) - x) if negative_slope else above


def sigmoid(x):
    """1 / (1 + exp(-x)); its logits are remembered for binary cross-entropy."""
    y = ops.sigmoid(x)
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        y.logits = x, "sigmoid"
    return y


def _later(name, about, own=None):
    def function(x, *args, **kwargs):
        return getattr(ops, name)(x, *args, **kwargs)
    function.__name__ = function.__qualname__ = own or name
    function.__doc__ = about
    return function


tanh = _later("tanh", "Hyperbolic tangent.")
softplus = _later("softplus", "log(1 + exp(x)).")
softsign = _later("softsign", "x / (1 + |x|).")
relu6 = _later("relu6", "x cut to 0 .. 6.")
selu = _later("selu", "Scaled ELU. (Klambauer et al., 2017.)")
silu = _later("silu", "x sigmoid(x).")
mish = _later("mish", "x tanh(softplus(x)).")
hard_sigmoid = _later("hard_sigmoid", "x / 6 + 1 / 2, cut to 0 .. 1.")
hard_silu = _later("hard_silu", "x hard_sigmoid(x).")
log_sigmoid = _later("log_sigmoid", "log(sigmoid(x)).")
exponential = _later("exp", "exp(x).", "exponential")


def leaky_relu(x, negative_slope=0.2):
    """x where x >= 0, else negative_slope x."""
    return ops.leaky_relu(x, negative_slope)


def elu(x, alpha=1.0):
    """x where x >= 0, else alpha (exp(x) - 1)."""
    return ops.elu(x, alpha)


def gelu(x, approximate=False):
    """x times the normal distribution function of x; approximate: by tanh."""
    return ops.gelu(x, approximate=approximate)


_names = {name: f for name, f in list(globals().items()) if callable(f) and not name.startswith("_") and not isinstance(f, type)}
_names |= {"swish": silu, "hard_swish": hard_silu, "exponential": exponential, "exp": exponential}
_name_of = {id(f): name for name, f in reversed(_names.items())}


def get(identifier):
    """An activation from its name, from None (linear), or itself."""
    if identifier is None:
        return linear
    if isinstance(identifier, str) and identifier in _names:
        return _names[identifier]
    if callable(identifier):
        return identifier
    raise ValueError(f"activation: {identifier!r} is not known\n  wanted: a function, or one of {', '.join(sorted(_names))}")


def serialize(activation):
    """The name of an activation, for saving: of one's own too, which custom_objects must give when it is loaded."""
    if id(activation) in _name_of:
        return _name_of[id(activation)]
    if hasattr(activation, "get_config"):             # a layer
        return {"class_name": type(activation).__name__, "config": activation.get_config()}
    name = getattr(activation, "__name__", "<lambda>")
    if name.isidentifier() and name not in _names:
        return name
    raise ValueError(f"activation: {name!r} has no name in fastdl.activations, so it cannot be saved")


def deserialize(config):
    """The activation of this name."""
    return get(config)
