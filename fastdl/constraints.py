"""Constraints: what weights are brought back to after each update. Names, arguments and defaults are those of Keras 3."""

from . import ops

EPSILON = 1e-7


class Constraint:
    """Base of all constraints: a function of a tensor that returns one of the same shape."""

    def __call__(self, w):
        """The nearest allowed weights."""
        return w

    def get_config(self):
        """The constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config):
        """A constraint of these arguments."""
        return cls(**config)

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{k}={v}' for k, v in self.get_config().items())})"


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
_classes = {"NonNeg": NonNeg, "MaxNorm": MaxNorm, "UnitNorm": UnitNorm, "MinMaxNorm": MinMaxNorm}
_names = {"non_neg": NonNeg, "max_norm": MaxNorm, "unit_norm": UnitNorm, "min_max_norm": MinMaxNorm}


def get(identifier):
    """A constraint from its name, its serialised form, a function of a tensor, or itself."""
    if identifier is None or isinstance(identifier, Constraint):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if isinstance(identifier, str):
        found = _classes.get(identifier) or _names.get(identifier)
        if found:
            return found()
    elif callable(identifier):
        return identifier() if isinstance(identifier, type) and issubclass(identifier, Constraint) else identifier
    raise ValueError(f"constraint: {identifier!r} is not known\n  wanted: a Constraint, a function of a tensor, or one of {', '.join(_names)}")


def serialize(constraint):
    """{"class_name", "config"}: what deserialize makes an equal constraint of; None stays None."""
    if constraint is None:
        return None
    if type(constraint).__name__ not in _classes:
        raise ValueError(f"{constraint!r} cannot be saved; only the constraints of fastdl.constraints can")
    return {"class_name": type(constraint).__name__, "config": constraint.get_config()}


def deserialize(config):
    """The constraint that serialize described."""
    if config["class_name"] not in _classes:
        raise ValueError(f"constraint {config['class_name']!r} is not known\n  wanted: one of {', '.join(_classes)}")
    return _classes[config["class_name"]].from_config(config["config"])
