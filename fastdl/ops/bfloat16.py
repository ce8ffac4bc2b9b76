"""Products of operands rounded to bfloat16, with sums in float32: what mixed_bfloat16 computes. NumPy lacks the format, so
kernels round as they pack, and the arrays between them are float32."""

import numpy as np

from ..op import kernels, twin
from . import linear

__all__ = []


def rounded(x):
    """x to the nearest bfloat16, ties to even; denormal numbers become 0."""
    bits = np.ascontiguousarray(x, "float32").view("uint32")
    with np.errstate(over="ignore"):
        near = bits + (bits >> 16 & 1) + np.uint32(0x7FFF)
    near = np.where(bits & 0x7FFFFFFF > 0x7F800000, bits | 0x400000, near) & np.uint32(0xFFFF0000)
    near = np.where(bits & 0x7F800000 == 0, bits & np.uint32(0x80000000), near)
    return near.view("float32").astype(x.dtype)


def rounded_if(wanted, x):
    """rounded(x) if wanted, else x."""
    return rounded(x) if wanted else x


def pairs(x):
    """(…, depth, columns) as pairs along the depth: (…, ceil(depth / 2), columns) of uint32, the first in the lower half."""
    bits = np.ascontiguousarray(rounded(x), "float32").view("uint32") >> 16
    if x.shape[-2] % 2:
        bits = np.concatenate([bits, np.zeros_like(bits[..., :1, :])], -2)
    return bits[..., ::2, :] | bits[..., 1::2, :] << 16


def unpaired(x, depth):
    """The inverse of pairs, in float32."""
    both = np.stack([x << 16, x & np.uint32(0xFFFF0000)], -2).view("float32")
    return both.reshape(*x.shape[:-2], -1, x.shape[-1])[..., :depth, :]


def panel_pairs(depth, columns):
    """Size of a (depth, columns) matrix in panels of pairs."""
    return -(-columns // linear.PANEL) * linear.PANEL * -(-depth // 2)


@twin
def pack_bf16(panels, b, *, outer, inner, depth, columns, b_outer, b_inner, b_depth, b_column):
    n = -(-columns // linear.PANEL)
    full = np.zeros((outer, inner, depth, n * linear.PANEL), b.dtype)
    full[..., :columns] = linear.strided(b, (outer, inner, depth, columns), b_outer, b_inner, b_depth, b_column)
    panels.reshape(-1)[...] = pairs(full).reshape(outer, inner, -1, n, linear.PANEL).swapaxes(2, 3).reshape(-1)


@twin(flops=lambda *, outer, inner, rows, columns, depth, **_: 2 * outer * inner * rows * columns * depth)
def matrix_product_bf16(out, left, panels, bias, residual, *, outer, inner, rows, columns, depth, split, left_outer, left_inner, left_row,
                        left_depth, right_outer, right_inner, activation):
    n = -(-columns // linear.PANEL)
    a = rounded(linear.strided(left, (outer, inner, rows, depth), left_outer, left_inner, left_row, left_depth))
    which = np.arange(outer)[:, None] * right_outer + np.arange(inner) * right_inner
    b = unpaired(panels.reshape(which.max() + 1, n, -(-depth // 2), linear.PANEL), depth)[which]
    b = b.swapaxes(-3, -2).reshape(outer, inner, depth, n * linear.PANEL)[..., :columns].astype(a.dtype)
    starts = range(0, max(depth, 1), split or max(depth, 1))
    y = np.stack([np.matmul(a[..., p: p + split if split else depth], b[:, :, p: p + split if split else depth]) for p in starts], 2)
    y = y if bias is None else y + bias.reshape(-1)
    out.reshape(y.shape)[...] = linear.activate(y if residual is None else y + residual.reshape(y.shape), activation)


def pack(op, b, *, depth, columns, b_depth, b_column, outer=1, inner=1, b_outer=0, b_inner=0):
    """Right operands (outer, inner, depth, columns), by strides, in panels of pairs."""
    size = outer * inner * panel_pairs(depth, columns)
    return op.prepared((size,), lambda panels: kernels.pack_bf16(
        panels, b, outer=outer, inner=inner, depth=depth, columns=columns, b_outer=b_outer, b_inner=b_inner, b_depth=b_depth,
        b_column=b_column), b, dtype="uint32")


def multiply(op, out, left, right, bias, residual, *, outer, inner, columns, depth, right_outer, right_inner, right_depth, right_column, **sizes):
    """kernels.matrix_product, of operands rounded to bfloat16."""
    many = (outer if right_outer else 1), (inner if right_inner else 1)
    panels = pack(op, right, depth=depth, columns=columns, b_depth=right_depth, b_column=right_column, outer=many[0], inner=many[1],
                  b_outer=right_outer, b_inner=right_inner)
    kernels.matrix_product_bf16(out, left, panels, bias, residual, outer=outer, inner=inner, columns=columns, depth=depth,
                                right_outer=many[1] if right_outer else 0, right_inner=1 if right_inner else 0, **sizes)
