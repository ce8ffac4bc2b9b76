"""How the shapes of several arrays meet, and kernels of broadcast operands launched."""

import functools

import numpy as np

from .shape import broadcast_strides, expand

__all__ = []


def grouped(shape, axes):
    """Neighbouring axes that are reduced, or kept, together: [(size, reduced)], without axes of size 1."""
    groups = []
    for axis, n in enumerate(shape):
        if n == 1:
            continue
        if groups and groups[-1][1] == (axis in axes):
            groups[-1] = groups[-1][0] * n, groups[-1][1]
        else:
            groups.append((n, axis in axes))
    return groups


class Layout:
    """How arrays of these shapes meet.

    shape     of the result
    sizes     it and its operands' strides, as the kernels want them; None: too mixed for three axes, operands must be expanded
    reduced   for each operand the groups of axes over which its gradient is summed; None: it has the result's shape
    same      the operands that have the result's shape
    """

    def __init__(self, shapes):
        self.shape = np.broadcast_shapes(*shapes)
        padded = [(1,) * (len(self.shape) - len(s)) + s for s in shapes]
        self.reduced = [None if s == self.shape else
                        grouped(self.shape, [i for i, (m, n) in enumerate(zip(s, self.shape)) if m != n]) for s in padded]
        self.same = tuple(k for k, groups in enumerate(self.reduced) if groups is None)
        axes = []                                    # (size, which operands have it)
        for i, n in enumerate(self.shape):
            have = tuple(s[i] == n for s in padded)
            if n != 1 and axes and axes[-1][1] == have:
                axes[-1] = axes[-1][0] * n, have
            elif n != 1:
                axes.append((n, have))
        self.sizes = None
        if len(axes) <= 3:
            axes = [(1, (False,) * len(shapes))] * (3 - len(axes)) + axes
            self.sizes = dict(zip(("outer", "middle", "inner"), (n for n, _ in axes)))
            for k in range(len(shapes)):
                strides = broadcast_strides(tuple(n if have[k] else 1 for n, have in axes), tuple(n for n, _ in axes))
                self.sizes.update({f"x{k + 1}_{axis}": s for axis, s in zip(("outer", "middle", "inner"), strides)})


@functools.lru_cache(16384)
def layout(*shapes):
    """The Layout of these shapes; ValueError where they cannot be broadcast."""
    return Layout(shapes)


def seen(x, outer, middle, inner, strides):
    """An operand as the kernels see it: (outer, middle, inner) by its three strides."""
    return np.lib.stride_tricks.as_strided(x, (outer, middle, inner), [s * x.itemsize for s in strides])


def broadcast(op, kernel, y, *operands, before=()):
    """Launch a kernel that fills y from operands that are broadcast to y's shape, `before` being inputs of that shape."""
    sizes = layout(*(x.shape for x in operands)).sizes
    if sizes is None:
        operands = [expanded(op, x, y.shape) for x in operands]
        sizes = layout(*(x.shape for x in operands)).sizes
    kernel(y, *before, *operands, **sizes)


def expanded(op, x, shape):
    """x at the full shape."""
    if x.shape == shape:
        return x
    full = op.empty(shape, x.dtype)
    expand(full, x)
    return full
