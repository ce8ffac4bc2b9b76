"""Products summed over any number of axes: one matrix product."""

import numpy as np

from ..errors import shape_error
from ..op import Op, case
from .linear import LONG, product
from .shape import transpose

__all__ = ["dot", "tensordot"]


class TensorDot(Op):
    """Sum of products over the last axes of a and as many first axes of b.

    a        (..., *summed)
    b        (*summed, ...)
    returns  (*rest of a, *rest of b)
    """
    axes: int = 2
    bfloat16: bool = False

    def shape(self, a, b):
        n = self.axes
        if not 0 <= n <= min(len(a.shape), len(b.shape)) or tuple(a.shape[len(a.shape) - n:]) != tuple(b.shape[:n]):
            raise shape_error("tensordot", f"the last {n} axes of a must be the first {n} of b", a=a.shape, b=b.shape)
        return (*a.shape[: len(a.shape) - n], *b.shape[n:])

    def _sizes(self):
        n = self.axes
        return [int(np.prod(s)) for s in (self.a.shape[: self.a.ndim - n], self.b.shape[:n], self.b.shape[n:])]

    def forward(self, out, a, b):
        self.a, self.b = a, b
        rows, depth, columns = self._sizes()
        product(self, out, a, b, rows=rows, columns=columns, depth=depth, left_row=depth, left_depth=1, right_depth=columns,
                right_column=1, long=LONG if self.axes == a.ndim == b.ndim else 0)

    def backward(self, d_out, d_a, d_b):
        rows, depth, columns = self._sizes()
        if d_a is not None:
            product(self, d_a, d_out, self.b, rows=rows, columns=depth, depth=columns, left_row=columns, left_depth=1,
                    right_depth=1, right_column=columns)
        if d_b is not None:
            product(self, d_b, self.a, d_out, rows=depth, columns=columns, depth=rows, left_row=1, left_depth=depth,
                    right_depth=columns, right_column=1, long=LONG)

    def definition(self, a, b):
        return np.tensordot(a, b, self.axes)

    cases = [case(a=(2, 3, 4), b=(3, 4, 5)), case(a=(2, 3), b=(4,), axes=0), case(a=(6,), b=(6, 2, 3), axes=1),
             case(a=(2, 3), b=(2, 3), axes=2), case(a=(4099,), b=(4099,), axes=1)]
    wrong = [case(a=(2, 3), b=(3, 2), axes=2), case(a=(2,), b=(2,), axes=2)]
    bench = [case(a=(64, 32, 64), b=(32, 64, 128))]


def tensordot(a, b, axes=2):
    """Sum of products over the last `axes` axes of a and as many first axes of b, or over (axes of a, axes of b).

    a        (..., *summed)
    b        (*summed, ...)
    returns  (*rest of a, *rest of b)
    """
    if isinstance(axes, (list, tuple)):
        of_a, of_b = ([axis % t.ndim for axis in (given if isinstance(given, (list, tuple)) else [given])] for given, t in zip(axes, (a, b)))
        if len(of_a) != len(of_b):
            raise ValueError(f"tensordot: axes {axes} name {len(of_a)} axes of a and {len(of_b)} of b")
        a = transpose(a, [i for i in range(a.ndim) if i not in of_a] + of_a)
        b = transpose(b, of_b + [i for i in range(b.ndim) if i not in of_b])
        axes = len(of_a)
    return TensorDot.apply(a, b, axes=int(axes))


def dot(a, b):
    """Sum of products over the last axis of a and the first of b, which has 1 or 2 axes: NumPy's dot without its rarer cases.

    a        (..., depth)
    b        (depth) or (depth, columns)
    returns  (...) or (..., columns)
    """
    if len(b.shape) > 2:
        raise shape_error("dot", "b has more than 2 axes\n  matmul and tensordot say which axis is meant", a=a.shape, b=b.shape)
    return TensorDot.apply(a, b, axes=1)
