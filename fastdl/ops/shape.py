"""The same numbers in another shape or order: reshape, transpose, slices and their kin."""

import numpy as np

from ..errors import shape_error
from ..op import Op, case, kernels, twin
from ..tensor import Tensor
from .layout import move, strides_of

__all__ = ["expand_dims", "flatten", "flip", "getitem", "moveaxis", "ravel", "reshape", "slice", "squeeze", "swapaxes", "transpose"]


@twin
def rearrange(y, x, *, item, y_start, x_start, **axes):
    shape = [axes[f"n{k}"] for k in range(6)]

    def places(of, start):
        at = start
        for k, n in enumerate(shape):
            at = at + (np.arange(n) * axes[f"{of}{k}"]).reshape([-1 if j == k else 1 for j in range(6)])
        return at
    y.reshape(-1)[places("y", y_start)] = x.reshape(-1)[places("x", x_start)]


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


def shape_of(x):
    """The shape of a tensor, a symbol or whatever NumPy takes; None where a size is not known yet."""
    return tuple(x.shape) if hasattr(x, "shape") else np.shape(x)


def _sizes(x):
    """The shape with -1 for the first size that is not known."""
    return tuple(-1 if n is None else n for n in shape_of(x))


def ravel(x):
    """All numbers along one axis."""
    return reshape(x, (-1,))


flatten = ravel


def axis_of(axis, n, name):
    """The axis among n, counted from the front."""
    if not -n <= axis < n:
        raise shape_error(name, f"axis {axis} does not exist among {n} axes")
    return axis % n


def expand_dims(x, axis):
    """A new axis of size 1, or several: `axis` says where in the result."""
    shape = list(_sizes(x))
    axes = [axis] if isinstance(axis, int) else list(axis)
    n = len(shape) + len(axes)
    for a in sorted(axis_of(a, n, "expand_dims") for a in axes):
        shape.insert(a, 1)
    return reshape(x, tuple(shape))


def squeeze(x, axis=None):
    """Without axes of size 1: all of them, or those named."""
    shape = _sizes(x)
    axes = [i for i, n in enumerate(shape) if n == 1] if axis is None else [axis] if isinstance(axis, int) else list(axis)
    axes = [axis_of(a, len(shape), "squeeze") for a in axes]
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
        """The axes of x in the order of the result's."""
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
    n = len(shape_of(x))
    order = list(range(n))
    a, b = axis_of(axis1, n, "swapaxes"), axis_of(axis2, n, "swapaxes")
    order[a], order[b] = b, a
    return transpose(x, order)


def moveaxis(x, source, destination):
    """x with the axes `source` moved to the places `destination`, the others in their order."""
    n = len(shape_of(x))
    source = [axis_of(a, n, "moveaxis") for a in ([source] if isinstance(source, int) else source)]
    destination = [axis_of(a, n, "moveaxis") for a in ([destination] if isinstance(destination, int) else destination)]
    order = [a for a in range(n) if a not in source]
    for to, a in sorted(zip(destination, source)):
        order.insert(to, a)
    return transpose(x, order)


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
            raise IndexError(f"getitem: {error}\n  x  {tuple(x.shape)}") from None

    def index(self):
        """The key as NumPy takes it."""
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
    bench = [case(x=(512, 64), key=((None, None, None), (3, 40, None)))]


builtin_slice = slice


def getitem(x, key):
    """x[key]: integers, slices, ... and None as in NumPy, copied; an array of integers alone takes rows; a list likewise."""
    if type(key) is int:
        return Getitem.apply(x, key=(key,))
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


def flip(x, axis=None):
    """x with the order reversed along all axes, or those named."""
    n = len(shape_of(x))
    axes = range(n) if axis is None else [axis_of(a, n, "flip") for a in ([axis] if isinstance(axis, int) else axis)]
    return getitem(x, tuple(builtin_slice(None, None, -1) if k in axes else builtin_slice(None) for k in range(n)))
