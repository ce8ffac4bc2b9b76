"""Products with a matrix of few columns and many rows, in vectors along the sum; ops/linear.py chooses them."""

import numpy as np

from ..op import kernels, twin
from . import linear

__all__ = []

MOST_COLUMNS, LEAST_DEPTH = 31, 256


def wanted(depth, columns):
    """Whether a (depth, columns) matrix is such a one: by its shape alone, as the order of the sum depends on it."""
    return 0 < columns <= MOST_COLUMNS and depth >= LEAST_DEPTH


def packed(op, kernel, depth, columns):
    """The panels of the transposed kernel."""
    return op.prepared((linear.panel_floats(columns, depth),),
                       lambda panels: kernels.pack(panels, kernel, depth=columns, columns=depth, row=1, column=columns), kernel)


def _unpacked(panels, columns, depth):
    return panels.reshape(-1, columns, linear.PANEL).swapaxes(1, 2).reshape(-1, columns)[:depth]


@twin(flops=lambda *, rows, columns, depth, **_: 2 * rows * columns * depth)
def few_columns_product(y, x, panels, bias, *, rows, columns, depth, activation):
    z = x.reshape(rows, depth) @ _unpacked(panels, columns, depth)
    y.reshape(z.shape)[...] = linear.activate(z if bias is None else z + bias.reshape(-1), activation)


@twin(flops=lambda *, rows, columns, depth: 2 * rows * columns * depth)
def few_columns_d_x(d_x, d_y, panels, *, rows, columns, depth):
    d_x.reshape(rows, depth)[...] = d_y.reshape(rows, columns) @ _unpacked(panels, columns, depth).T
