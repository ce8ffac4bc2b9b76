"""Penalties on weights or outputs, added to the loss. Names, arguments and formulas are those of Keras 3."""

from . import ops


class Regularizer:
    """Base of all regularizers: a function of a tensor that returns a scalar tensor."""

    def __call__(self, x):
        """The penalty, a tensor ()."""
        raise NotImplementedError(f"{type(self).__name__}: define __call__(x)")

    def get_config(self):
        """The constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config):
        """A regularizer of these arguments."""
        return cls(**config)


def _factor(owner, name, value):
    if value is None:
        return 0.0
    value = float(value)
    if not 0 <= value < float("inf"):
        raise ValueError(f"{owner}: {name} is {value}; wanted is a finite number, not negative")
    return value


class L1L2(Regularizer):
    """l1 * sum |x| + l2 * sum x^2."""

    def __init__(self, l1=0.0, l2=0.0):
        self.l1, self.l2 = _factor("L1L2", "l1", l1), _factor("L1L2", "l2", l2)

    def __call__(self, x):
        total = None
        if self.l1:
            total = ops.sum(ops.absolute(x)) * self.l1
        if self.l2:
            squares = ops.sum(ops.square(x)) * self.l2
            total = squares if total is None else total + squares
        return ops.sum(x) * 0.0 if total is None else total

    def get_config(self):
        return {"l1": self.l1, "l2": self.l2}


class L1(Regularizer):
    """l1 * sum |x|."""

    def __init__(self, l1=0.01):
        self.l1 = 0.01 if l1 is None else _factor("L1", "l1", l1)

    def __call__(self, x):
        return ops.sum(ops.absolute(x)) * self.l1

    def get_config(self):
        return {"l1": self.l1}


class L2(Regularizer):
    """l2 * sum x^2."""

    def __init__(self, l2=0.01):
        self.l2 = 0.01 if l2 is None else _factor("L2", "l2", l2)

    def __call__(self, x):
        return ops.sum(ops.square(x)) * self.l2

    def get_config(self):
        return {"l2": self.l2}


_known = {"L1L2": L1L2, "L1": L1, "L2": L2, "l1_l2": L1L2, "l1": L1, "l2": L2}


def serialize(regularizer):
    """A regularizer as plain values; None stays None."""
    if regularizer is None:
        return None
    return {"class_name": type(regularizer).__name__, "config": regularizer.get_config()}


def deserialize(config):
    """A regularizer from what serialize returned."""
    return get(config)


def get(identifier):
    """A regularizer from its name, its serialised form, a function, or None."""
    if identifier is None or callable(identifier) and not isinstance(identifier, type):
        return identifier
    name, config = (identifier.get("class_name"), identifier.get("config", {})) if isinstance(identifier, dict) else (identifier, {})
    if isinstance(name, str) and name in _known:
        return _known[name](**config)
    raise ValueError(f"regularizer: {identifier!r} is not known\n  wanted: a function or one of {', '.join(_known)}")
