"""Numbers moved to other places: reshape, transpose, concatenate, slices and their kin."""

import functools

import numpy as np

from ..op import kernels, twin

__all__ = []


@twin
def rearrange(y, x, *, item, y_start, x_start, **axes):
    shape = [axes[f"n{k}"] for k in range(6)]

    def places(of, start):
        at = start
        for k, n in enumerate(shape):
            at = at + (np.arange(n) * axes[f"{of}{k}"]).reshape([-1 if j == k else 1 for j in range(6)])
        return at
    y.reshape(-1)[places("y", y_start)] = x.reshape(-1)[places("x", x_start)]


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


def expand(y, x):
    """y = x broadcast to y's shape."""
    move(y, x, y.shape, strides_of(y.shape), broadcast_strides(x.shape, y.shape))
