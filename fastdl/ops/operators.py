"""Python's operators on Tensor and Symbol, each an op: a + b is ops.add(a, b)."""

import numpy as np

from .. import _core
from ..op import Symbol
from ..tensor import Tensor
from . import elementwise
from .linear import matmul
from .shape import getitem

OPERANDS = (Tensor, Symbol, np.ndarray, np.generic, int, float, list, tuple)

BINARY = {"add": elementwise.add, "sub": elementwise.subtract, "mul": elementwise.multiply, "truediv": elementwise.divide,
          "floordiv": elementwise.floor_divide, "mod": elementwise.mod, "pow": elementwise.power, "and": elementwise.logical_and,
          "or": elementwise.logical_or, "xor": elementwise.logical_xor, "matmul": matmul}
COMPARISONS = {"eq": elementwise.equal, "ne": elementwise.not_equal, "gt": elementwise.greater, "ge": elementwise.greater_equal,
               "lt": elementwise.less, "le": elementwise.less_equal}
UNARY = {"neg": elementwise.negative, "abs": elementwise.abs, "invert": elementwise.logical_not}


for _class in Tensor, Symbol:
    for _name, _op in BINARY.items():
        setattr(_class, f"__{_name}__", _core.operator(_op, OPERANDS))
        setattr(_class, f"__r{_name}__", _core.operator(_op, OPERANDS, reflected=True))
    for _name, _op in COMPARISONS.items():
        if _class is Tensor or _name not in ("eq", "ne"):        # a Symbol is a node of a graph: equal is only itself
            setattr(_class, f"__{_name}__", _core.operator(_op, OPERANDS))
    for _name, _op in UNARY.items():
        setattr(_class, f"__{_name}__", _op)
    _class.__getitem__ = getitem
    _class.__iter__ = lambda self: (self[i] for i in range(len(self)))
