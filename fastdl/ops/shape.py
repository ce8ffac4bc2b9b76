"""Numbers moved to other places: reshape, transpose, concatenate, slices and their kin."""

import functools

import numpy as np

from ..errors import shape_error
from ..op import Op, case, kernels, twin
from ..tensor import Tensor

__all__ = ["broadcast_to", "concatenate", "expand_dims", "flatten", "flip", "getitem", "moveaxis", "pad", "ravel", "repeat", "reshape",
           "slice", "split", "squeeze", "stack", "swapaxes", "tile", "transpose", "unstack"]


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


# ---- views ----

class Reshape(Op):
    """The same numbers in another shape; one size may be -1: what is left.

    x        any shape
    returns  newshape, a view
    """

    newshape: tuple = ()
    views = True

    def shape(self, x):
        shape, known = list(self.newshape), 1
        for n in shape:
            known *= n if n != -1 else 1
        if shape.count(-1) == 1 and known and x.size % known == 0:
            shape[shape.index(-1)] = x.size // known
            known = x.size
        if -1 in shape or known != x.size or min(shape, default=0) < 0:
            raise shape_error("reshape", f"{x.size} numbers do not fill newshape {tuple(self.newshape)}", x=x.shape)
        return tuple(shape)

    def result_dtype(self, x):
        return x.dtype

    def forward(self, x):
        self.before = x.shape
        return x.reshape(self.shape(x))

    def backward(self, d_y):
        return d_y.reshape(self.before)

    cases = [case(x=(2, 3, 5), newshape=(5, 6)), case(x=(4, 3), newshape=(-1, 2)), case(x=(1,), newshape=())]
    wrong = [case(x=(2, 3), newshape=(4, 2)), case(x=(2, 3), newshape=(-1, 4))]


def reshape(x, newshape):
    """x in another shape; one size may be -1. A view: nothing is copied."""
    return Reshape.apply(x, newshape=(newshape,) if isinstance(newshape, int) else tuple(newshape))


def _shape(x):
    return tuple(x.shape) if hasattr(x, "shape") else np.shape(x)


def _sizes(x):
    """The shape with -1 for the first size that is not known."""
    return tuple(-1 if n is None else n for n in _shape(x))


def ravel(x):
    """All numbers along one axis."""
    return reshape(x, (-1,))


flatten = ravel


def _axis(axis, n, name):
    if not -n <= axis < n:
        raise shape_error(name, f"axis {axis} does not exist among {n} axes")
    return axis % n


def expand_dims(x, axis):
    """A new axis of size 1, or several: `axis` says where in the result."""
    shape = list(_sizes(x))
    axes = [axis] if isinstance(axis, int) else list(axis)
    n = len(shape) + len(axes)
    for a in sorted(_axis(a, n, "expand_dims") for a in axes):
        shape.insert(a, 1)
    return reshape(x, tuple(shape))


def squeeze(x, axis=None):
    """Without axes of size 1: all of them, or those named."""
    shape = _sizes(x)
    axes = [i for i, n in enumerate(shape) if n == 1] if axis is None else [axis] if isinstance(axis, int) else list(axis)
    axes = [_axis(a, len(shape), "squeeze") for a in axes]
    if any(shape[a] != 1 for a in axes):
        raise shape_error("squeeze", f"axes {axes} do not all have size 1", x=shape)
    return reshape(x, tuple(n for i, n in enumerate(shape) if i not in axes))


# ---- copies ----

class Transpose(Op):
    """The axes in another order.

    x        any shape
    returns  axis k is axis axes[k] of x; without axes, all reversed
    """

    axes: tuple = None

    def order(self, x):
        n = len(x.shape)
        if self.axes is None:
            return tuple(reversed(range(n)))
        if sorted(a % n if -n <= a < n else n for a in self.axes) != list(range(n)):
            raise shape_error("transpose", f"axes {tuple(self.axes)} are not an order of the {n} axes", x=x.shape)
        return tuple(a % n for a in self.axes)

    def shape(self, x):
        return tuple(x.shape[a] for a in self.order(x))

    def result_dtype(self, x):
        return x.dtype

    def forward(self, y, x):
        own = strides_of(x.shape)
        self.strides = tuple(own[a] for a in self.order(x))
        move(y, x, y.shape, strides_of(y.shape), self.strides)

    def backward(self, d_y, d_x):
        move(d_x, d_y, d_y.shape, self.strides, strides_of(d_y.shape))

    cases = [case(x=(2, 3, 5)), case(x=(1,)), case(x=(3, 4, 2, 5), axes=(0, 2, 3, 1)), case(x=(33, 17)), case(x=(2, 0, 3), axes=(1, 0, 2)),
             case(x=(3, 4, 2, 5), axes=(0, -1, 1, 2))]
    bench = [case(x=(2048, 2048)), case(x=(32, 56, 56, 64), axes=(0, 3, 1, 2))]
    wrong = [case(x=(2, 3), axes=(0, 0)), case(x=(2, 3), axes=(0,)), case(x=(2, 3), axes=(0, 2))]


def transpose(x, axes=None):
    """x with its axes in another order; without axes, reversed."""
    return Transpose.apply(x, axes=None if axes is None else tuple(axes))


def swapaxes(x, axis1, axis2):
    """x with two axes exchanged."""
    n = len(_shape(x))
    order = list(range(n))
    a, b = _axis(axis1, n, "swapaxes"), _axis(axis2, n, "swapaxes")
    order[a], order[b] = b, a
    return transpose(x, order)


def moveaxis(x, source, destination):
    """x with the axes `source` moved to the places `destination`, the others in their order."""
    n = len(_shape(x))
    source = [_axis(a, n, "moveaxis") for a in ([source] if isinstance(source, int) else source)]
    destination = [_axis(a, n, "moveaxis") for a in ([destination] if isinstance(destination, int) else destination)]
    order = [a for a in range(n) if a not in source]
    for to, a in sorted(zip(destination, source)):
        order.insert(to, a)
    return transpose(x, order)


class Concatenate(Op):
    """Arrays one after another along an axis.

    inputs   of one shape but for that axis, and of one dtype
    returns  their sizes along the axis added
    """

    axis: int = -1

    def shape(self, *inputs):
        first = inputs[0]
        axis = _axis(self.axis, len(first.shape), "concatenate")
        for x in inputs:
            if len(x.shape) != len(first.shape) or any(m != n for k, (m, n) in enumerate(zip(x.shape, first.shape)) if k != axis):
                raise shape_error("concatenate", f"shapes differ beside axis {self.axis}", **{f"input {i}": x.shape for i, x in enumerate(inputs)})
            if x.dtype != first.dtype:
                raise TypeError(f"concatenate: inputs have dtypes {', '.join(str(x.dtype) for x in inputs)}; wanted is one")
        return first.shape[:axis] + (sum(x.shape[axis] for x in inputs),) + first.shape[axis + 1:]

    def result_dtype(self, *inputs):
        return inputs[0].dtype

    def forward(self, y, *inputs):
        strides, axis, at = strides_of(y.shape), self.axis % y.ndim, 0
        for x in inputs:
            move(y, x, x.shape, strides, strides_of(x.shape), y_start=at)
            at += x.shape[axis] * strides[axis]
        self.starts = [x.shape for x in inputs]

    def backward(self, d_y, *d_inputs):
        strides, axis, at = strides_of(d_y.shape), self.axis % d_y.ndim, 0
        for shape, d_x in zip(self.starts, d_inputs):
            if d_x is not None:
                move(d_x, d_y, shape, strides_of(shape), strides, x_start=at)
            at += shape[axis] * strides[axis]

    cases = [case(a=(2, 3), b=(2, 5)), case(a=(1, 3, 2), b=(4, 3, 2), c=(2, 3, 2), axis=0), case(a=(3,), axis=0), case(a=(2, 0), b=(2, 17))]
    wrong = [case(a=(2, 3), b=(3, 3)), case(a=(2, 3), b=(2,)), case(a=(2, 3), b=(2, 3), axis=2)]


def _several(xs, name):
    xs = list(xs)
    if not xs:
        raise ValueError(f"{name}: there are no inputs; at least one is wanted")
    return xs


def concatenate(xs, axis=0):
    """Join arrays along an axis that they have."""
    return Concatenate.apply(*_several(xs, "concatenate"), axis=axis)


def stack(x, axis=0):
    """Join arrays of one shape along a new axis."""
    return concatenate([expand_dims(one, axis) for one in _several(x, "stack")], axis)


class Getitem(Op):
    """x[key] for a key of integers, slices, ... and None.

    x        any shape
    returns  what NumPy's x[key] gives, as a copy
    """

    key: tuple = ()

    def shape(self, x):
        try:
            return np.broadcast_to(np.int8(0), x.shape)[self.index()].shape
        except IndexError as error:
            raise shape_error("getitem", str(error), x=x.shape) from None

    def index(self):
        return tuple(builtin_slice(*k) if isinstance(k, tuple) else k for k in self.key)

    def result_dtype(self, x):
        return x.dtype

    def forward(self, y, x):
        part = x[self.index() if Ellipsis in self.key else self.index() + (Ellipsis,)]      # an array, not a number
        self.strides = tuple(s // x.itemsize for s in part.strides)
        self.start = (part.ctypes.data - x.ctypes.data) // x.itemsize if part.size else 0
        move(y, x, y.shape, strides_of(y.shape), self.strides, x_start=self.start)

    def backward(self, d_y, d_x):
        kernels.fill(d_x, size=d_x.size, value=0.0)
        move(d_x, d_y, d_y.shape, self.strides, strides_of(d_y.shape), y_start=self.start)

    cases = [case(x=(4, 5), key=((1, None, 2),)), case(x=(3, 4, 5), key=(1, Ellipsis, (None, None, -1))), case(x=(3, 4), key=((None, 0, None),)),
             case(x=(5,), key=(-1,)), case(x=(4, 5), key=(None, (None, None, None), 2)), case(x=(7, 3), key=((6, 0, -2), (1, 3, None)))]
    wrong = [case(x=(3,), key=(3,)), case(x=(3,), key=(0, 0))]


builtin_slice = slice


def getitem(x, key):
    """x[key]: integers, slices, ... and None as in NumPy, copied; an array of integers alone takes rows; a list likewise."""
    if isinstance(key, (Tensor, np.ndarray, list)):
        from .indexing import take
        array = key.array if isinstance(key, Tensor) else np.asarray(key)
        if array.dtype.kind not in "iu":
            raise TypeError(f"getitem: the index has dtype {array.dtype}; wanted are integers and slices. ops.where chooses by a mask")
        return take(x, key, axis=0)
    plain = []
    for k in key if isinstance(key, tuple) else (key,):
        if isinstance(k, builtin_slice):
            plain.append((k.start, k.stop, k.step))
        elif k is None or k is Ellipsis:
            plain.append(k)
        elif isinstance(k, (bool, np.bool_)) or not hasattr(k, "__index__"):
            raise TypeError(f"getitem: {type(k).__name__} in the index; wanted are integers, slices, ... and None")
        else:
            plain.append(k.__index__())
    return Getitem.apply(x, key=tuple(plain))


def slice(inputs, start_indices, shape):                                   # noqa: A001
    """The part of this shape that begins at start_indices."""
    return getitem(inputs, tuple(builtin_slice(s, s + n) for s, n in zip(start_indices, shape)))


def split(x, indices_or_sections, axis=0):
    """A list of parts along an axis: so many equal ones, or cut at these indices."""
    n = _shape(x)[_axis(axis, len(_shape(x)), "split")]
    if isinstance(indices_or_sections, int):
        if n is None or n % indices_or_sections:
            raise shape_error("split", f"axis {axis} cannot be cut into {indices_or_sections} equal parts", x=_shape(x))
        each = n // indices_or_sections
        cuts = [each * k for k in range(1, indices_or_sections)]
    else:
        cuts = [int(c) for c in indices_or_sections]
    before = (builtin_slice(None),) * (axis % len(_shape(x)))
    return [getitem(x, (*before, builtin_slice(a, b))) for a, b in zip([0, *cuts], [*cuts, n])]


def unstack(x, num=None, axis=0):
    """A list of the parts along an axis, which they lack."""
    n = _shape(x)[_axis(axis, len(_shape(x)), "unstack")] if num is None else num
    before = (builtin_slice(None),) * (axis % len(_shape(x)))
    return [getitem(x, (*before, k)) for k in range(n)]


def flip(x, axis=None):
    """x with the order reversed along all axes, or those named."""
    n = len(_shape(x))
    axes = range(n) if axis is None else [_axis(a, n, "flip") for a in ([axis] if isinstance(axis, int) else axis)]
    return getitem(x, tuple(builtin_slice(None, None, -1) if k in axes else builtin_slice(None) for k in range(n)))


class Pad(Op):
    """Numbers of one value before and after, along each axis.

    x           any shape
    pad_width   ((before, after), …) for each axis
    """

    pad_width: tuple = ()
    value: float = 0.0

    def shape(self, x):
        if len(self.pad_width) != len(x.shape) or any(len(p) != 2 or min(p) < 0 for p in self.pad_width):
            raise shape_error("pad", f"pad_width {self.pad_width} is not a pair of sizes, at least 0, for each axis", x=x.shape)
        return tuple(n + before + after for n, (before, after) in zip(x.shape, self.pad_width))

    def result_dtype(self, x):
        return x.dtype

    def forward(self, y, x):
        self.strides, self.inner = strides_of(y.shape), x.shape
        self.start = sum(before * s for (before, _), s in zip(self.pad_width, self.strides))
        move(y, np.array([self.value], y.dtype), y.shape, self.strides, (0,) * y.ndim)
        move(y, x, x.shape, self.strides, strides_of(x.shape), y_start=self.start)

    def backward(self, d_y, d_x):
        move(d_x, d_y, self.inner, strides_of(self.inner), self.strides, x_start=self.start)

    cases = [case(x=(2, 3), pad_width=((1, 0), (2, 3))), case(x=(1, 4, 5, 2), pad_width=((0, 0), (1, 1), (2, 1), (0, 0)), value=-1.5),
             case(x=(1,), pad_width=((0, 0),))]
    bench = [case(x=(32, 56, 56, 64), pad_width=((0, 0), (1, 1), (1, 1), (0, 0)))]
    wrong = [case(x=(2, 3), pad_width=((1, 0),)), case(x=(2,), pad_width=((-1, 0),))]


def pad(x, pad_width, mode="constant", constant_values=None):
    """x with borders: mode 'constant' (constant_values, else 0), 'reflect' (without the edge) or 'symmetric' (with it).

    pad_width  one size, one (before, after), or ((before, after), …) for each axis
    """
    shape = _shape(x)
    width = np.broadcast_to(np.asarray(pad_width, "int64"), (len(shape), 2)) if np.ndim(pad_width) < 2 else pad_width
    width = tuple((int(a), int(b)) for a, b in width)
    if mode == "constant":
        return Pad.apply(x, pad_width=width, value=float(constant_values or 0))
    if mode not in ("reflect", "symmetric") or constant_values is not None:
        raise ValueError(f"pad: mode {mode!r} with constant_values {constant_values}; wanted is 'constant', or 'reflect' or 'symmetric' without them")
    edge = int(mode == "reflect")
    for axis, (before, after) in enumerate(width):
        n, whole = shape[axis], (builtin_slice(None),) * axis
        if n is not None and max(before, after) > n - edge:
            raise shape_error("pad", f"mode {mode!r} cannot make {max(before, after)} numbers of axis {axis}", x=shape)
        parts = [getitem(x, (*whole, builtin_slice(before + edge - 1, edge - 1 if edge else None, -1)))] if before else []
        parts.append(x)
        if after:
            parts.append(getitem(x, (*whole, builtin_slice(-1 - edge, -1 - edge - after, -1))))
        x = concatenate(parts, axis) if len(parts) > 1 else x
    return x


def broadcast_to(x, shape):
    """x repeated along axes of size 1, and along new ones in front, by NumPy's rules."""
    from .elementwise import add
    dtype = getattr(x, "dtype", "float32")
    return add(x, np.zeros(shape, dtype))


def tile(x, repeats):
    """x repeated so many times along each axis."""
    repeats = [repeats] if isinstance(repeats, int) else list(repeats)
    shape = list(_shape(x))
    shape, repeats = [1] * (len(repeats) - len(shape)) + shape, [1] * (len(shape) - len(repeats)) + repeats
    apart = broadcast_to(reshape(x, [n for size in shape for n in (1, size)]), [n for r, size in zip(repeats, shape) for n in (r, size)])
    return reshape(apart, [r * n for r, n in zip(repeats, shape)])


def repeat(x, repeats, axis=None):
    """Each number, or each part along an axis, so many times in a row."""
    if axis is None:
        x, axis = ravel(x), 0
    axis = _axis(axis, len(_shape(x)), "repeat")
    if not isinstance(repeats, int):
        from .indexing import take
        return take(x, np.repeat(np.arange(_shape(x)[axis]), repeats).astype("int32"), axis=axis)
    shape = list(_shape(x))
    apart = broadcast_to(expand_dims(x, axis + 1), shape[:axis + 1] + [repeats] + shape[axis + 1:])
    return reshape(apart, shape[:axis] + [shape[axis] * repeats] + shape[axis + 1:])
