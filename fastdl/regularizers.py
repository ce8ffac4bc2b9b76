"""Regularisers: penalties on weights that are added to the loss. Names, arguments and defaults are those of Keras 3."""

from . import ops


class Regularizer:
    """Base of all regularisers: a function of a tensor that returns a Tensor ()."""

    def __call__(self, x):
        """The penalty."""
        raise NotImplementedError(f"{type(self).__name__}: define __call__(x)")

    def get_config(self):
        """The constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config):
        """A regulariser of these arguments."""
        return cls(**config)

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{k}={v}' for k, v in self.get_config().items())})"


class L1L2(Regularizer):
    """l1 times the sum of |x| plus l2 times the sum of x^2."""

    def __init__(self, l1=0.0, l2=0.0):
        self.l1, self.l2 = 0.0 if l1 is None else float(l1), 0.0 if l2 is None else float(l2)
        if not (self.l1 >= 0 and self.l2 >= 0):
            raise ValueError(f"{type(self).__name__}: l1={l1} and l2={l2} must be finite and at least 0")

    def __call__(self, x):
        return ops.Penalty.apply(x, l1=self.l1, l2=self.l2)

    def get_config(self):
        return {"l1": self.l1, "l2": self.l2}


class L1(L1L2):
    """l1 times the sum of |x|."""

    def __init__(self, l1=0.01):
        super().__init__(l1=l1)

    def get_config(self):
        return {"l1": self.l1}


class L2(L1L2):
    """l2 times the sum of x^2."""

    def __init__(self, l2=0.01):
        super().__init__(l2=l2)

    def get_config(self):
        return {"l2": self.l2}


l1, l2, l1_l2 = L1, L2, L1L2
_classes = {"L1": L1, "L2": L2, "L1L2": L1L2}
_names = {"l1": L1, "l2": L2, "l1_l2": L1L2, "l1l2": L1L2}


def get(identifier):
    """A regulariser from its name, its serialised form, a function of a tensor, or itself."""
    if identifier is None or isinstance(identifier, Regularizer):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if isinstance(identifier, str):
        found = _classes.get(identifier) or _names.get(identifier)
        if found:
            return found()
    elif callable(identifier):
        return identifier() if isinstance(identifier, type) and issubclass(identifier, Regularizer) else identifier
    raise ValueError(f"regularizer: {identifier!r} is not known\n  wanted: a Regularizer, a function of a tensor, or one of {', '.join(_names)}")


def serialize(regularizer):
    """{"class_name", "config"}: what deserialize makes an equal regulariser of; None stays None."""
    if regularizer is None:
        return None
    if type(regularizer).__name__ not in _classes:
        raise ValueError(f"{regularizer!r} cannot be saved; only the regularisers of fastdl.regularizers can")
    return {"class_name": type(regularizer).__name__, "config": regularizer.get_config()}


def deserialize(config):
    """The regulariser that serialize described."""
    if config["class_name"] not in _classes:
        raise ValueError(f"regularizer {config['class_name']!r} is not known\n  wanted: one of {', '.join(_classes)}")
    return _classes[config["class_name"]].from_config(config["config"])
