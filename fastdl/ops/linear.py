"""Matrix products."""

import math

import numpy as np

from ..errors import shape_error
from ..op import ACTIVATIONS, Op, case, kernels, twin
from . import bfloat16, few_columns
from .math import erf_of

__all__ = ["linear", "matmul"]

PANEL, LEAST_ROWS = 32, 24           # rows from which it pays that weights lie in panels


def activate(x, activation):
    """What csrc/kernel.h's activate does, in NumPy."""
    if activation in (1, 4):
        return np.where(x < 0, 0, x) if activation == 1 else np.clip(x, 0, 6)
    if activation == 2:
        return 1 / (1 + np.exp(-x))
    if activation in (5, 6):
        return np.where(x == -np.inf, 0, x * (0.5 * (1 + erf_of(x / np.sqrt(2))) if activation == 5 else 1 / (1 + np.exp(-x))))
    return np.tanh(x) if activation == 3 else x


def activate_grad(d, y, activation):
    """What csrc/kernel.h's activate_grad does, in NumPy; for 5 and 6 y is what was activated."""
    if activation == 5:
        return d * (0.5 * (1 + erf_of(y / np.sqrt(2))) + np.where(np.isinf(y), 0, y * np.exp(-0.5 * y * y) / np.sqrt(2 * np.pi)))
    if activation == 6:
        s = 1 / (1 + np.exp(-y))
        return d * (s + np.where(np.isinf(y), 0, y * s * (1 - s)))
    if activation in (1, 4):
        return np.where((y > 0) & (y < 6) if activation == 4 else y > 0, d, 0)
    return d * y * (1 - y) if activation == 2 else d * (1 - y * y) if activation == 3 else d


def panel_floats(depth, columns):
    """Size of a (depth, columns) matrix in panels."""
    return -(-columns // PANEL) * PANEL * depth


def strided(array, shape, *strides):
    """A view of the array's memory by strides counted in elements."""
    return np.lib.stride_tricks.as_strided(array.reshape(-1), shape, [s * array.itemsize for s in strides])


@twin
def pack(panels, b, *, depth, columns, row, column):
    n = -(-columns // PANEL)
    full = np.zeros((depth, n * PANEL), b.dtype)
    full[:, :columns] = strided(b, (depth, columns), row, column)
    panels.reshape(-1)[: n * depth * PANEL] = full.reshape(depth, n, PANEL).transpose(1, 0, 2).reshape(-1)


@twin(flops=lambda *, outer, inner, rows, columns, depth, **_: 2 * outer * inner * rows * columns * depth)
def matrix_product(out, left, right, bias, residual, keep, *, outer, inner, rows, columns, depth, split, left_outer, left_inner, left_row,
                   left_depth, right_outer, right_inner, right_depth, right_column, right_panel, activation, accumulate):
    a = strided(left, (outer, inner, rows, depth), left_outer, left_inner, left_row, left_depth)
    if right_panel:
        b = right.reshape(-1, depth, PANEL).swapaxes(0, 1).reshape(1, 1, depth, -1)[..., :columns]
    else:
        b = strided(right, (outer, inner, depth, columns), right_outer, right_inner, right_depth, right_column)
    starts = range(0, max(depth, 1), split or max(depth, 1))
    y = np.stack([np.matmul(a[..., p: p + split if split else depth], b[:, :, p: p + split if split else depth]) for p in starts], 2)
    out = out.reshape(y.shape)
    if accumulate:
        y = out + y
    y = y if bias is None else y + bias.reshape(-1)
    y = y if residual is None else y + residual.reshape(y.shape)
    if keep is not None:
        keep.reshape(y.shape)[...] = y
    out[...] = activate(y, activation)


@twin(flops=lambda *, size: 2 * size)
def inner_product(out, x, y, *, size):
    products = x.reshape(-1) * y.reshape(-1)
    out.reshape(-1)[...] = [products[i: i + 4096].sum() for i in range(0, size, 4096)]


@twin
def sum_parts(out, parts, *, outer, count, size):
    out.reshape(outer, size)[...] = parts.reshape(outer, count, size).sum(1)


@twin
def column_sums(out, x, *, rows, columns, split):
    x = x.reshape(rows, columns)
    out.reshape(-1, columns)[...] = [x[i: i + split].sum(0) for i in range(0, rows, split)]


@twin
def activation_grad(d_x, d_y, y, *, size, activation):
    d_y, y = d_y.reshape(d_x.shape), y.reshape(d_x.shape)
    d_x[...] = activate_grad(d_y, y, activation)


@twin
def product_d_z(d_z, sums, d_y, s, *, rows, columns, split, activation):
    d = activate_grad(d_y.reshape(rows, columns), s.reshape(rows, columns), activation)
    d_z.reshape(rows, columns)[...] = d
    if sums is not None:
        sums.reshape(-1, columns)[...] = [d[i: i + split].sum(0) for i in range(0, rows, split)]


LONG, OF_SMALL = 1024, 256          # terms from which a sum is cut; a sum over the rows of a small network, whose rows stay with a thread


def split_of(depth, columns, least=LONG):
    """Terms in a piece of a sum of `depth` terms for each of `columns` results, cut from `least` terms on; 0: one piece."""
    if depth < LONG:
        return 128 if depth >= least and columns <= 1 << 13 else 0
    if columns >= 1 << 16:
        return 0
    parts = -(-depth // max(256, -(-depth // 1024) * 64))
    return -(-depth // (16 * parts)) * 16               # of much the same length, for the threads' sake


def product(op, out, left, right, bias=None, *, rows, columns, depth, left_row, left_depth, right_depth, right_column,
            batch=(), activation=0, long=0, residual=None, keep=None):
    """out[n] = activate(left[n] @ right[n] + bias + residual) by strides counted in elements.

    long    terms from which the sum may be cut into pieces, 0: never; their length depends on the sizes, so not for sums whose bits must
            not depend on rows
    batch   axes (size, stride of out, of left, of right), the first the slowest; stride of out 0: summed over
    residual    an array like out, added before the activation; without batch and long only
    keep    for "gelu" and "silu", whose gradient needs it: an array like out for what is activated; without batch only
    """
    if not out.size:
        return
    if batch:
        batch = _merged(batch)
        if any(axis[0] == 0 for axis in batch):
            kernels.fill(out, size=out.size, value=0.0)
            return
    if long and rows == columns == 1 and not batch and depth > 1024 and not op.bfloat16:
        parts = -(-depth // 4096)
        to = out if parts == 1 else op.empty((parts,))
        kernels.inner_product(to, left, right, size=depth)
        if parts > 1:
            kernels.sum_parts(out, to, outer=1, count=parts, size=1)
        return
    if len(batch) == 1:
        size, of_out, of_left, of_right = batch[0]
        if of_out and not of_right and of_left == rows * left_row:                            # one right operand for all
            batch, rows = [], rows * size
        elif not of_out and of_left == depth * left_depth and of_right == depth * right_depth:    # one sum over all
            batch, depth = [], depth * size
    summed = batch and [axis for axis in batch if not axis[1]]
    if summed:
        full = op.empty((*(axis[0] for axis in batch), rows, columns))
        place, axes = rows * columns, []
        for size, _, of_left, of_right in reversed(batch):
            axes.insert(0, (size, place, of_left, of_right))
            place *= size
        product(op, full, left, right, rows=rows, columns=columns, depth=depth, left_row=left_row, left_depth=left_depth,
                right_depth=right_depth, right_column=right_column, batch=axes)
        sizes = [axis[0] for axis in batch]
        for i in reversed([i for i, axis in enumerate(batch) if not axis[1]]):
            before, count = int(np.prod(sizes[:i])), sizes.pop(i)
            size = int(np.prod(sizes[i:])) * rows * columns
            summed_up = out if len(sizes) == len(batch) - len(summed) else op.empty((before * size,))
            kernels.sum_parts(summed_up, full, outer=before, count=count, size=size)
            full = summed_up
        return
    if len(batch) > 2:
        (size, of_out, of_left, of_right), *rest = batch
        out, left, right = out.reshape(-1), left.reshape(-1), right.reshape(-1)
        for i in range(size):
            product(op, out[i * of_out: (i + 1) * of_out], left[i * of_left:], right[i * of_right:], bias, rows=rows, columns=columns,
                    depth=depth, left_row=left_row, left_depth=left_depth, right_depth=right_depth, right_column=right_column,
                    batch=rest, activation=activation)
        return
    outer, inner = [*[(1, 0, 0, 0)] * (2 - len(batch)), *batch]
    split = split_of(depth, rows * columns, long) if long and not batch else 0
    parts = -(-depth // split) if split else 1
    to = out if parts == 1 else op.empty((parts, rows, columns))
    sizes = dict(
        outer=outer[0], inner=inner[0], rows=rows, columns=columns, depth=depth, split=split if parts > 1 else 0,
        left_outer=outer[2], left_inner=inner[2], left_row=left_row, left_depth=left_depth, right_outer=outer[3],
        right_inner=inner[3], right_depth=right_depth, right_column=right_column if columns > 1 else 1, activation=activation)
    if op.bfloat16:
        bfloat16.multiply(op, to, left, right, bias, residual, **sizes)
    else:
        panel = 0
        if rows >= LEAST_ROWS and columns >= 2 * PANEL and right_column == 1 and not batch and op.early(right):
            weights, panel, sizes["right_depth"] = right, depth * PANEL, PANEL
            right = op.prepared((panel_floats(depth, columns),), lambda panels: kernels.pack(
                panels, weights, depth=depth, columns=columns, row=right_depth, column=1), weights)
        kernels.matrix_product(to, left, right, bias, residual, keep, right_panel=panel, accumulate=0, **sizes)
    if parts > 1:
        kernels.sum_parts(out, to, outer=1, count=parts, size=rows * columns)


def _merged(batch):
    """Batch axes with those of size 1 left out and neighbours that are one axis in every array merged."""
    axes = []
    for size, *strides in batch:
        if size == 1:
            continue
        if axes and all(outer == stride * size for outer, stride in zip(axes[-1][1:], strides)):
            axes[-1] = (axes[-1][0] * size, *strides)
        else:
            axes.append((size, *strides))
    return axes


def sum_columns(op, out, x, rows, columns, d_y=None, s=None, activation=0):
    """out (columns) = sum of x (rows, columns) over the rows, in pieces of fixed size; with an activation, x is its gradient, made here."""
    split = 128 if rows <= 1024 else 256 if rows <= 2048 else 512
    if activation and rows < OF_SMALL and columns <= OF_SMALL:      # rows of a small network stay with a thread, which sums then do not
        kernels.product_d_z(x, None, d_y, s, rows=rows, columns=columns, split=16, activation=activation)
        activation = 0
        if out is None:
            return
    if activation:
        split = min(split, max(16, 65536 // max(columns, 1)))       # what a piece reads stays in the second cache
    parts = -(-rows // split)
    to = out if parts == 1 or out is None else op.empty((parts, columns))
    if parts and activation:
        kernels.product_d_z(x, to, d_y, s, rows=rows, columns=columns, split=split, activation=activation)
    elif parts:
        kernels.column_sums(to, x, rows=rows, columns=columns, split=split)
    if parts != 1 and out is not None:
        kernels.sum_parts(out, to, outer=1, count=parts, size=columns)


def activation_of(z, name):
    """For definitions: the textbook formula of a fused activation."""
    return {None: lambda: z, "linear": lambda: z, "relu": lambda: np.maximum(z, 0), "relu6": lambda: np.minimum(np.maximum(z, 0), 6),
            "sigmoid": lambda: 1 / (1 + np.exp(-z)), "tanh": lambda: np.tanh(z), "silu": lambda: z / (1 + np.exp(-z)),
            "gelu": lambda: z * 0.5 * (1 + erf_of(z / np.sqrt(2)))}[name]()


FUSED = {**ACTIVATIONS, "gelu": 5, "silu": 6}        # as in csrc/kernel.h


class Linear(Op):
    """activation(x @ kernel + bias + residual).

    x        (..., depth)
    kernel   (depth, columns)
    bias     (columns), or None
    residual (..., columns), or None
    returns  (..., columns)

    activation is None or "linear", "relu", "relu6", "sigmoid", "tanh", "gelu" or "silu", applied before the result is stored.
    summed: depth is so many axes, the last of x and the first of kernel; the kernel's others are columns.
    """
    activation: str = None
    bfloat16: bool = False
    summed: int = 1
    adds = (0,)

    def shape(self, x, kernel, bias=None, residual=None):
        if self.activation not in FUSED:
            raise ValueError(f"linear: unknown activation {self.activation!r}\n  fused activations are {', '.join(list(FUSED)[1:])}"
                             "\n  apply any other to the result: activations.get(name)(linear(x, kernel, bias))")
        arrays, n = {"x": (x.shape, "..., depth"), "kernel": (kernel.shape, "depth, columns")}, self.summed
        if len(x.shape) < n or len(kernel.shape) <= n:
            raise shape_error("linear", f"wants x with at least {n} {'axis' if n == 1 else 'axes'} and kernel with {n + 1}", **arrays)
        depth, columns = tuple(kernel.shape[:n]), tuple(kernel.shape[n:])
        if tuple(x.shape[-n:]) != depth:
            one = lambda sizes: sizes[0] if n == 1 else tuple(sizes)
            raise shape_error("linear", f"x has depth {one(x.shape[-n:])}, kernel expects {one(depth)}", **arrays)
        if bias is not None and tuple(bias.shape) != columns:
            raise shape_error("linear", f"bias must have one number for each of the {columns[0] if len(columns) == 1 else columns} columns", **arrays,
                              bias=(bias.shape, "columns"))
        shape = (*x.shape[:-n], *columns)
        if residual is not None and tuple(residual.shape) != shape:
            raise shape_error("linear", f"residual must have the result's shape, {shape}", **arrays, residual=(residual.shape, "..., columns"))
        return shape

    def _sizes(self):
        """depth, columns."""
        depth = 1
        for size in self.kernel.shape[:self.summed]:
            depth *= size
        return depth, self.kernel.size // depth if depth else math.prod(self.kernel.shape[self.summed:])

    def forward(self, y, x, kernel, bias=None, residual=None):
        self.kernel = kernel
        depth, columns = self._sizes()
        smooth = self.activation in ("gelu", "silu")
        after = smooth and self.bfloat16                    # whose products do not end so: a kernel of its own does
        keep = self.empty(y.shape) if after or smooth and self.traced else None
        self.x, self.activated = x, y if keep is None else keep
        self.same, self.panels = () if FUSED[self.activation] else (3,), None
        if few_columns.wanted(depth, columns) and residual is None and not smooth:
            self.bfloat16, self.adds = False, ()            # most of the time is reading, in pairs they would be read as 32 columns
            self.panels = few_columns.packed(self, kernel, depth, columns)
            kernels.few_columns_product(y, x, self.panels, bias, rows=_rows(y, columns), columns=columns, depth=depth,
                                        activation=FUSED[self.activation])
            return
        product(self, keep if after else y, x, kernel, bias, rows=_rows(y, columns), columns=columns, depth=depth,
                left_row=depth, left_depth=1, right_depth=columns, right_column=1, activation=0 if after else FUSED[self.activation],
                residual=residual, keep=None if after else keep)
        if after:
            getattr(kernels, self.activation)(y, keep, size=y.size)

    def backward(self, d_y, d_x, d_kernel, d_bias=None, d_residual=None):
        depth, columns = self._sizes()
        rows, activation = _rows(d_y, columns), FUSED[self.activation]
        d_z = d_residual if activation and d_residual is not None else d_y if not activation or self.spare else self.empty(d_y.shape)
        if activation or d_bias is not None:
            sum_columns(self, d_bias, d_z, rows, columns, d_y, self.activated, activation)
        if d_kernel is not None:
            product(self, d_kernel, self.x, d_z, rows=depth, columns=columns, depth=rows, left_row=1, left_depth=depth,
                    right_depth=columns, right_column=1, long=OF_SMALL)
        if d_x is not None and self.panels is not None:
            kernels.few_columns_d_x(d_x, d_z, self.panels, rows=rows, columns=columns, depth=depth)
        elif d_x is not None:
            product(self, d_x, d_z, self.kernel, rows=rows, columns=depth, depth=columns, left_row=columns, left_depth=1,
                    right_depth=1, right_column=columns, residual=self.before.get(0))

    def definition(self, x, kernel, bias=None, residual=None):
        y = np.tensordot(x, kernel, self.summed) + (0 if bias is None else bias) + (0 if residual is None else residual)
        return activation_of(y, self.activation)

    cases = [case(x=(3, 5), kernel=(5, 7), bias=(7,)), case(x=(1, 1), kernel=(1, 1), bias=None, activation="sigmoid"),
             case(x=(2, 3, 17), kernel=(17, 33), bias=(33,), activation="relu"), case(x=(5,), kernel=(5, 4), bias=(4,), activation="tanh"),
             case(x=(3, 9), kernel=(9, 5), bias=np.float32([-3, 0, 3, 6, 9]), activation="relu6"),
             case(x=(5, 9), kernel=(9, 70), bias=(70,), activation="gelu"),
             case(x=(18, 3), kernel=(3, 2), bias=None, activation="silu"),
             case(x=(1, 20), kernel=(20, 19), bias=(19,), activation="gelu"),
             case(x=(515, 2), kernel=(2, 18), bias=(18,), activation="silu"), case(x=(257, 1), kernel=(1, 4096), bias=(4096,), activation="gelu"),
             case(x=(142, 1), kernel=(1, 4103), bias=(4103,), activation="relu"),
             case(x=(0, 4), kernel=(4, 3), bias=(3,)), case(x=(3, 0), kernel=(0, 2), bias=(2,), activation="linear"),
             case(x=(1100, 3), kernel=(3, 2), bias=(2,)), case(x=(31, 6), kernel=(6, 65), bias=None, activation="relu"),
             case(x=(29, 6), kernel=(6, 83), bias=(83,), residual=(29, 83), activation="relu6"),
             case(x=(2, 20, 3), kernel=(3, 5), bias=None, residual=(2, 20, 5)), case(x=(7, 4), kernel=(4, 3, 5), bias=(3, 5), summed=1),
             case(x=(2, 9, 4, 3), kernel=(4, 3, 5), bias=(5,), residual=(2, 9, 5), summed=2), case(x=(3, 257), kernel=(257, 2, 3), bias=(2, 3)),
             case(x=(17, 5), kernel=(5, 2, 3), bias=(2, 3), bfloat16=True),
             case(x=(1, 3), kernel=(3, 18), bias=None, residual=(1, 18), activation="gelu"),
             case(x=(17, 5), kernel=(5, 33), bias=(33,), residual=(17, 33), activation="relu", bfloat16=True),
             case(x=(31, 37), kernel=(37, 65), bias=(65,), activation="relu", bfloat16=True),
             case(x=(3, 7), kernel=(7, 5), bias=(5,), activation="gelu", bfloat16=True),
             case(x=(1031, 5), kernel=(5, 3), bias=(3,), activation="tanh", bfloat16=True),
             case(x=(2, 0), kernel=(0, 3), bias=(3,), bfloat16=True),
             case(x=(1, 257), kernel=(257, 7), bias=None), case(x=(23, 543), kernel=(543, 3), bias=(3,), activation="tanh"),
             case(x=(1, 517), kernel=(517, 2), bias=None, bfloat16=True), case(x=(0, 3), kernel=(3, 2), bias=None, bfloat16=True)]
    wrong = [case(x=(3, 5), kernel=(4, 7)), case(x=(3, 5), kernel=(5,)), case(x=(3, 5), kernel=(5, 7), bias=(5,)),
             case(x=(3, 5), kernel=(5, 7), bias=None, residual=(7,))]
    bench = [case(x=(32, 10), kernel=(10, 64), bias=(64,), activation="relu"), case(x=(32, 5408), kernel=(5408, 10), bias=(10,)),
             case(x=(32, 64), kernel=(64, 64), bias=(64,), activation="relu"),
             case(x=(32, 64), kernel=(64, 1), bias=(1,)), case(x=(1, 1024), kernel=(1024, 1024), bias=(1024,), activation="relu"),
             case(x=(64, 256), kernel=(256, 1024), bias=(1024,), activation="relu"),
             case(x=(128, 1024), kernel=(1024, 4096), bias=(4096,), activation="relu"),
             case(x=(2048, 256), kernel=(256, 1024), bias=(1024,), activation="gelu")]


class MatMul(Op):
    """Matrix product of the last two axes, with NumPy's rules.

    a        (..., rows, depth), with transpose_a (..., depth, rows), or (depth)
    b        (..., depth, columns), with transpose_b (..., columns, depth), or (depth)
    returns  (..., rows, columns), without the axis that a 1-D operand lacks; the leading axes broadcast
    """
    transpose_a: bool = False
    transpose_b: bool = False
    bfloat16: bool = False

    def shape(self, a, b):
        arrays = {"a": (a.shape, "..., depth, rows" if self.transpose_a else "..., rows, depth"),
                  "b": (b.shape, "..., columns, depth" if self.transpose_b else "..., depth, columns")}
        if not len(a.shape) or not len(b.shape):
            raise shape_error("matmul", "wants operands with at least 1 axis; multiply() takes numbers", **arrays)
        rows, depth, other, columns = self._sizes(a.shape, b.shape)
        if depth != other:
            raise shape_error("matmul", f"a has depth {depth}, b has depth {other}", **arrays)
        try:
            batch = broadcast_shapes(a.shape[:-2], b.shape[:-2])
        except ValueError:
            raise shape_error("matmul", "the leading axes do not broadcast", **arrays) from None
        return (*batch, *([rows] if len(a.shape) > 1 else []), *([columns] if len(b.shape) > 1 else []))

    def _sizes(self, a, b):
        """rows, depth of a, depth of b, columns."""
        rows, depth = (1, a[0]) if len(a) == 1 else (a[-1], a[-2]) if self.transpose_a else (a[-2], a[-1])
        other, columns = (b[0], 1) if len(b) == 1 else (b[-1], b[-2]) if self.transpose_b else (b[-2], b[-1])
        return rows, depth, other, columns

    def forward(self, out, a, b):
        self.a, self.b = a, b
        out_, a_, b_ = self._layouts()
        self._product((out, out_), (a, a_), (b, b_), long=LONG if a.size == a_[1][1] and b.ndim < 3 else 0)      # one row: each thread its part of b

    def _layouts(self):
        """Of the result, a and b as matrices: (leading axes, (rows, columns), their strides)."""
        a, b = self.a.shape, self.b.shape
        rows, depth, _, columns = self._sizes(a, b)
        return ((broadcast_shapes(a[:-2], b[:-2]), (rows, columns), (columns, 1)),
                (a[:-2], (rows, depth), (1, rows) if self.transpose_a and len(a) > 1 else (depth, 1)),
                (b[:-2], (depth, columns), (1, depth) if self.transpose_b and len(b) > 1 else (columns, 1)))

    def _product(self, out, left, right, long=0):
        """out = left @ right, each an array and its layout. Axes along which out was broadcast are summed over."""
        (out, (of_out, (rows, columns), stride)), (left, of_left), (right, of_right) = out, left, right
        if stride[1] != 1:                             # out lies transposed: out^T = right^T @ left^T
            left, of_left, right, of_right, rows, columns = right, _turned(of_right), left, _turned(of_left), columns, rows
        batch = broadcast_shapes(of_out, of_left[0], of_right[0])
        axes = batch and zip(batch, *(_leading_strides(leading, size, len(batch)) for leading, size in
                            ((of_out, rows * columns), (of_left[0], rows * of_left[1][1]), (of_right[0], of_right[1][0] * columns))))
        product(self, out, left, right, rows=rows, columns=columns, depth=of_left[1][1], left_row=of_left[2][0],
                left_depth=of_left[2][1], right_depth=of_right[2][0], right_column=of_right[2][1], batch=axes, long=long)

    def backward(self, d_out, d_a, d_b):
        of_out, of_a, of_b = self._layouts()
        if d_a is not None:
            self._product((d_a, of_a), (d_out, of_out), (self.b, _turned(of_b)))
        if d_b is not None:
            self._product((d_b, of_b), (self.a, _turned(of_a)), (d_out, of_out), long=LONG)

    def definition(self, a, b):
        return np.matmul(a.swapaxes(-1, -2) if self.transpose_a and a.ndim > 1 else a,
                         b.swapaxes(-1, -2) if self.transpose_b and b.ndim > 1 else b)

    cases = [case(a=(3, 5), b=(5, 7)), case(a=(5, 3), b=(5, 7), transpose_a=True), case(a=(3, 5), b=(7, 5), transpose_b=True),
             case(a=(17, 33), b=(31, 17), transpose_a=True, transpose_b=True), case(a=(5,), b=(5,)), case(a=(2, 3, 5), b=(5,)),
             case(a=(5,), b=(2, 5, 3)), case(a=(4, 3, 5), b=(5, 2)), case(a=(3, 5), b=(4, 5, 2)), case(a=(1, 1), b=(1, 1)),
             case(a=(2, 1, 3, 4), b=(3, 4, 2)), case(a=(2, 1, 2, 3, 4), b=(2, 1, 4, 2)), case(a=(0, 3), b=(3, 2)),
             case(a=(2, 0), b=(0, 3)), case(a=(2, 3, 4, 5), b=(2, 3, 6, 5), transpose_b=True),
             case(a=(3, 1, 4, 2), b=(1, 2, 4, 3), transpose_a=True), case(a=(3, 1100), b=(1100, 2)),
             case(a=(17, 33), b=(31, 17), transpose_a=True, transpose_b=True, bfloat16=True), case(a=(5,), b=(2, 5, 3), bfloat16=True),
             case(a=(2, 3, 4, 5), b=(2, 3, 6, 5), transpose_b=True, bfloat16=True), case(a=(1100,), b=(1100,), bfloat16=True),
             case(a=(3, 1, 4, 2), b=(1, 2, 4, 3), transpose_a=True, bfloat16=True), case(a=(1, 1), b=(1, 1), bfloat16=True)]
    wrong = [case(a=(3, 5), b=(4, 5)), case(a=(3, 5), b=(3, 5), transpose_a=True, transpose_b=True), case(a=(2, 3, 5), b=(3, 5, 2))]
    bench = [*(case(a=(n, n), b=(n, n)) for n in (64, 128, 256, 512, 1024, 2048)), case(a=(4096, 27), b=(27, 64)),
             case(a=(1, 1024), b=(1024, 1024), transpose_b=True), case(a=(8, 1024), b=(1024, 1024)),
             case(a=(64, 128, 64), b=(64, 64, 128)), case(a=(64, 8, 128, 32), b=(64, 8, 128, 32), transpose_b=True)]


def _rows(array, columns):
    return array.size // columns if columns else int(np.prod(array.shape[:-1]))


def broadcast_shapes(*shapes):
    """NumPy's, without its checks that are not needed here; a ValueError where they do not fit."""
    if not any(shapes):
        return ()
    shape = []
    for i in range(-max(map(len, shapes)), 0):
        sizes = {s[i] for s in shapes if len(s) >= -i} - {1}
        if len(sizes) > 1:
            raise ValueError(f"{shapes} do not broadcast")
        shape.append(sizes.pop() if sizes else 1)
    return tuple(shape)


def _turned(layout):
    leading, sizes, strides = layout
    return leading, sizes[::-1], strides[::-1]


def _leading_strides(leading, size, n):
    """Strides of an array of matrices of `size` numbers over n leading axes; 0 where it is broadcast."""
    strides = []
    for axis in reversed(leading):
        strides.insert(0, size if axis > 1 else 0)
        size *= axis
    return [0] * (n - len(leading)) + strides


def linear(x, kernel, bias=None, activation=None, residual=None, *, summed=1):
    """activation(x @ kernel + bias + residual), computed at once.

    x           (..., depth)
    kernel      (depth, columns)
    bias        (columns), or None
    activation  None or "linear", "relu", "relu6", "sigmoid", "tanh", "gelu", "silu"
    residual    (..., columns), or None
    summed      depth is so many axes, the last of x and the first of kernel; the kernel's others are columns
    returns     (..., columns)
    """
    return Linear.apply(x, kernel, bias, residual, activation=activation, summed=summed)


def matmul(a, b, transpose_a=False, transpose_b=False):
    """Matrix product of the last two axes, with NumPy's rules for 1-D operands and leading axes.

    a            (..., rows, depth), with transpose_a (..., depth, rows), or (depth)
    b            (..., depth, columns), with transpose_b (..., columns, depth), or (depth)
    returns      (..., rows, columns)
    """
    return MatMul.apply(a, b, transpose_a=bool(transpose_a), transpose_b=bool(transpose_b))
