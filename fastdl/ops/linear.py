"""Matrix products."""

import numpy as np

from ..errors import shape_error
from ..op import ACTIVATIONS, Op, case, kernels, twin

PANEL = 32


def activate(x, activation):
    """What csrc/kernel.h's activate does, in NumPy."""
    if activation == 1:
        return np.where(x < 0, 0, x)
    if activation == 2:
        return 1 / (1 + np.exp(-x))
    return np.tanh(x) if activation == 3 else x


def panel_floats(depth, columns):
    """Size of a (depth, columns) matrix in panels."""
    return -(-columns // PANEL) * PANEL * depth


@twin
def pack(panels, b, *, depth, columns, row, column):
    matrix = np.lib.stride_tricks.as_strided(b, (depth, columns), (row * b.itemsize, column * b.itemsize))
    n = -(-columns // PANEL)
    full = np.zeros((depth, n * PANEL), b.dtype)
    full[:, :columns] = matrix
    panels.reshape(-1)[: n * depth * PANEL] = full.reshape(depth, n, PANEL).transpose(1, 0, 2).reshape(-1)


@twin(flops=lambda *, rows, columns, depth, **_: 2 * rows * columns * depth)
def matmul(out, x, panels, bias, *, rows, columns, depth, x_row, x_depth, activation, accumulate):
    left = np.lib.stride_tricks.as_strided(x, (rows, depth), (x_row * x.itemsize, x_depth * x.itemsize))
    n = -(-columns // PANEL)
    right = panels.reshape(-1)[: n * depth * PANEL].reshape(n, depth, PANEL).transpose(1, 0, 2).reshape(depth, -1)[:, :columns]
    y = left @ right
    if accumulate:
        y = out.reshape(rows, columns) + y
    if bias is not None:
        y = y + bias
    out.reshape(rows, columns)[...] = activate(y, activation)
