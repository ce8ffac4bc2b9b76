"""What weights are forced to after each update. Names, arguments and formulas are those of Keras 3."""

from . import ops

EPSILON = 1e-7


class Constraint:
    """Base of all constraints: a function of a tensor that returns one of the same shape."""

    def __call__(self, w):
        """The constrained weights."""
        raise NotImplementedError(f"{type(self).__name__}: define __call__(w)")

    def get_config(self):
        """The constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config):
        """A constraint of these arguments."""
        return cls(**config)


def _norms(w, axis):
    return ops.sqrt(ops.sum(ops.square(w), axis=axis, keepdims=True))


class MaxNorm(Constraint):
    """The norm along `axis` is at most max_value."""

    def __init__(self, max_value=2, axis=0):
        self.max_value, self.axis = max_value, axis

    def __call__(self, w):
        norms = _norms(w, self.axis)
        return w * (ops.clip(norms, 0.0, self.max_value) / (norms + EPSILON))

    def get_config(self):
        return {"max_value": self.max_value, "axis": self.axis}


class NonNeg(Constraint):
    """No weight is negative."""

    def __call__(self, w):
        return ops.relu(w)


class UnitNorm(Constraint):
    """The norm along `axis` is 1."""

    def __init__(self, axis=0):
        self.axis = axis

    def __call__(self, w):
        return w / (_norms(w, self.axis) + EPSILON)

    def get_config(self):
        return {"axis": self.axis}


class MinMaxNorm(Constraint):
    """The norm along `axis` lies between min_value and max_value; rate: how fast it goes there, 1 at once."""

    def __init__(self, min_value=0.0, max_value=1.0, rate=1.0, axis=0):
        self.min_value, self.max_value, self.rate, self.axis = min_value, max_value, rate, axis

    def __call__(self, w):
        norms = _norms(w, self.axis)
        wanted = ops.clip(norms, self.min_value, self.max_value) * self.rate + norms * (1 - self.rate)
        return w * (wanted / (norms + EPSILON))

    def get_config(self):
        return {"min_value": self.min_value, "max_value": self.max_value, "rate": self.rate, "axis": self.axis}


_known = {"MaxNorm": MaxNorm, "NonNeg": NonNeg, "UnitNorm": UnitNorm, "MinMaxNorm": MinMaxNorm,
          "max_norm": MaxNorm, "non_neg": NonNeg, "unit_norm": UnitNorm, "min_max_norm": MinMaxNorm}


def serialize(constraint):
    """A constraint as plain values; None stays None."""
    if constraint is None:
        return None
    return {"class_name": type(constraint).__name__, "config": constraint.get_config()}


def deserialize(config):
    """A constraint from what serialize returned."""
    return get(config)


def get(identifier):
    """A constraint from its name, its serialised form, a function, or None."""
    if identifier is None or callable(identifier) and not isinstance(identifier, type):
        return identifier
    name, config = (identifier.get("class_name"), identifier.get("config", {})) if isinstance(identifier, dict) else (identifier, {})
    if isinstance(name, str) and name in _known:
        return _known[name](**config)
    raise ValueError(f"constraint: {identifier!r} is not known\n  wanted: a function or one of {', '.join(_known)}")
