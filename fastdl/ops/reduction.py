"""Reductions over any axes."""

import numpy as np

from ..op import kernels, twin

__all__ = []
ROWS, NUMBERS = 256, 4096        # lengths of a piece: of rows of several columns, of numbers along memory


def pieced(x, outer, length, inner, piece, fill):
    """x (outer, length, inner) as (outer, pieces, piece, inner), the last piece filled up."""
    n = max(-(-length // piece), 1)
    full = np.full((outer, n * piece, inner), fill, x.dtype)
    full[:, :length] = x.reshape(outer, length, inner)
    return full.reshape(outer, n, piece, inner)


@twin
def sum(y, x, *, outer, length, inner, piece, divisor):
    y.reshape(-1)[...] = (pieced(x, outer, length, inner, piece, 0).sum(axis=2) / divisor).reshape(-1)


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


def reduce(op, kernel, y, x, groups, **options):
    """y = x reduced over the groups marked so, the last first, each in as many calls as its pieces need."""
    groups = list(groups)
    while True:
        reduced = [i for i, g in enumerate(groups) if g[1]]
        i = reduced[-1] if reduced else len(groups)
        size = lambda gs: int(np.prod([n for n, _ in gs], dtype=np.int64))
        outer, length, inner = size(groups[:i]), size(groups[i:i + 1]), size(groups[i + 1:])
        piece = NUMBERS if inner == 1 else ROWS
        last = len(reduced) <= 1 and length <= piece
        n = max(-(-length // piece), 1)
        out = y if last else op.empty((outer, n, inner))
        kernel(out, x, outer=outer, length=length, inner=inner, piece=piece, **(options if last else {k: 1.0 for k in options}))
        if last:
            return
        x = out
        groups[i:i + 1] = [(n, True)] if n > 1 else []
        if n <= 1 and 0 < i < len(groups):
            groups[i - 1:i + 1] = [(groups[i - 1][0] * groups[i][0], False)]


def sum_over(op, y, x, groups, divisor=1.0):
    """y = x summed over the groups, divided by divisor."""
    reduce(op, kernels.sum, y, x, groups, divisor=divisor)
