"""Regularisers: penalties on weights that are added to the loss. Names, arguments and defaults are those of Keras 3."""

from . import ops
from .registry import Configured, Registry


class Regularizer(Configured):
    """Base of all regularisers: a function of a tensor that returns a Tensor ()."""

    def __call__(self, x):
        """The penalty."""
        raise NotImplementedError(f"{type(self).__name__}: define __call__(x)")


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
_known = Registry("regularizer", Regularizer, (L1, L2, L1L2), {"l1_l2": L1L2}, wanted="a Regularizer, a function of a tensor")
get, serialize, deserialize = _known.get, _known.serialize, _known.deserialize
