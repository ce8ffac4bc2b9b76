"""Python's operators on Tensor and Symbol, each an op: a + b is ops.add(a, b)."""

import numpy as np

from ..op import Symbol
from ..tensor import Tensor
from . import elementwise

OPERANDS = (Tensor, Symbol, np.ndarray, np.generic, int, float, list, tuple)

BINARY = {"add": elementwise.add, "sub": elementwise.subtract, "mul": elementwise.multiply, "truediv": elementwise.divide}


def _bind():
    for name, op in BINARY.items():
        def operator(self, other, op=op):
            return op(self, other) if isinstance(other, OPERANDS) else NotImplemented

        def reflected(self, other, op=op):
            return op(other, self) if isinstance(other, OPERANDS) else NotImplemented
        for cls in Tensor, Symbol:
            setattr(cls, f"__{name}__", operator)
            setattr(cls, f"__r{name}__", reflected)


_bind()
