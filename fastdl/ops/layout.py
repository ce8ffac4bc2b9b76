"""How arrays lie in memory and meet: kernels launched on numbers that are moved, broadcast or reduced."""

import functools
import math

import numpy as np

from ..op import kernels

__all__ = []

ROWS, NUMBERS = 256, 4096        # lengths of a piece that is reduced: of rows of several columns, of numbers along memory


# ---- moved ----

@functools.lru_cache(4096)
def strides_of(shape):
    """Strides, in numbers, of a contiguous array."""
    strides, n = [], 1
    for size in reversed(shape):
        strides.append(n)
        n *= size
    return tuple(reversed(strides))


@functools.lru_cache(4096)
def broadcast_strides(shape, to):
    """Strides of a contiguous array of `shape` seen as the broadcast shape `to`."""
    own = strides_of(shape)
    return (0,) * (len(to) - len(shape)) + tuple(0 if n == 1 else s for n, s in zip(shape, own))


@functools.lru_cache(4096)
def plan(shape, y_strides, x_strides, y_start=0, x_start=0):
    """Sizes of the calls of `rearrange` that move numbers between two layouts of one shape: axes merged, ordered by stride."""
    axes = sorted(((-abs(y), -abs(x), n, y, x) for n, y, x in zip(shape, y_strides, x_strides) if n != 1))
    merged = []
    for _, _, n, y, x in axes:
        if merged and merged[-1][1] == n * y and merged[-1][2] == n * x:
            merged[-1] = merged[-1][0] * n, y, x
        else:
            merged.append((n, y, x))
    if len(merged) > 1 and merged[-1][2] not in (0, 1):                  # the axis along which x is contiguous: next to last
        nearest = min(range(len(merged) - 1), key=lambda k: abs(merged[k][2]) or 1 << 60)
        merged.insert(len(merged) - 2, merged.pop(nearest))
    merged = [(1, 0, 0)] * (6 - len(merged)) + merged
    starts = [(y_start, x_start)]
    for n, y, x in merged[:-6]:
        starts = [(a + i * y, b + i * x) for a, b in starts for i in range(n)]
    sizes = {f"{of}{k}": merged[k - 6][j] for j, of in enumerate("nyx") for k in range(6)}
    return [{**sizes, "y_start": a, "x_start": b} for a, b in starts]


def move(y, x, shape, y_strides, x_strides, y_start=0, x_start=0):
    """Copy numbers of x to y, both seen as `shape` by strides in numbers."""
    for sizes in plan(shape, y_strides, x_strides, y_start, x_start):
        kernels.rearrange(y, x, item=y.itemsize, **sizes)


def expand(y, x):
    """y = x broadcast to y's shape."""
    move(y, x, y.shape, strides_of(y.shape), broadcast_strides(x.shape, y.shape))


# ---- broadcast ----

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


# ---- reduced ----

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


@functools.lru_cache(4096)
def passes(groups, options):
    """The calls of a reduction: (shape of what the call gives, None for the last, and its sizes)."""
    groups, found = list(groups), []
    while True:
        reduced = [i for i, g in enumerate(groups) if g[1]]
        i = reduced[-1] if reduced else len(groups)
        outer, length, inner = (math.prod(n for n, _ in part) for part in (groups[:i], groups[i:i + 1], groups[i + 1:]))
        piece = NUMBERS if inner == 1 else ROWS
        n = -(-length // piece) or 1
        done = len(reduced) <= 1 and n == 1
        found.append((None if done else (outer, n, inner), dict(outer=outer, length=length, inner=inner, piece=piece, **(
            dict(options) if done else dict.fromkeys(dict(options), 1.0)))))
        if done:
            return found
        groups[i:i + 1] = [(n, True)] if n > 1 else []
        if n == 1 and 0 < i < len(groups):
            groups[i - 1:i + 1] = [(groups[i - 1][0] * groups[i][0], False)]


def reduce(op, y, x, groups, kernel, again=None, about=(), **options):
    """y = x reduced over the groups marked so, the last group first, each in as many calls as its pieces need.

    kernel, about   reduces x, about being its further inputs
    again           reduces what the pieces gave (left out: kernel again)
    options         of the call that completes the reduction; 1.0 in those before
    """
    for shape, sizes in passes(tuple(groups), tuple(options.items())):
        out = y if shape is None else op.empty(shape, y.dtype)
        kernel(out, x, *about, **sizes)
        x, kernel, about = out, again or kernel, ()


def sum_over(op, y, x, groups, divisor=1.0):
    """y = x summed over the groups, divided by divisor."""
    reduce(op, y, x, groups, kernels.sum, divisor=divisor)
