"""Arrays joined, cut apart, padded and repeated."""

import numpy as np

from ..errors import shape_error
from ..op import Op, case
from .layout import broadcast_strides, grouped, move, strides_of, sum_over
from .shape import axis_of, expand_dims, getitem, ravel, shape_of

__all__ = ["broadcast_to", "concatenate", "pad", "repeat", "split", "stack", "tile", "unstack"]


class Concatenate(Op):
    """Arrays one after another along an axis.

    inputs   of one shape but for that axis, and of one dtype
    returns  their sizes along the axis added
    """

    axis: int = -1

    def shape(self, *inputs):
        first = inputs[0]
        axis = axis_of(self.axis, len(first.shape), "concatenate")
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
    bench = [case(a=(32, 28, 28, 64), b=(32, 28, 28, 64))]
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


class Split(Op):
    """Parts along an axis.

    x        any shape
    returns  a list: x from 0 to cuts[0], from there to cuts[1] … to the end of the axis
    """

    cuts: tuple = ()
    axis: int = 0

    def shape(self, x):
        axis = axis_of(self.axis, len(x.shape), "split")
        bounds = [0, *self.cuts, x.shape[axis]]
        if any(a > b for a, b in zip(bounds, bounds[1:])):
            raise shape_error("split", f"axis {self.axis} cannot be cut at {list(self.cuts)}", x=x.shape)
        return [x.shape[:axis] + (b - a,) + x.shape[axis + 1:] for a, b in zip(bounds, bounds[1:])]

    def result_dtype(self, x):
        return [x.dtype] * (len(self.cuts) + 1)

    def starts(self, strides):
        """Where the parts begin in x."""
        return [cut * strides[self.axis] for cut in (0, *self.cuts)]

    def forward(self, parts, x):
        strides = strides_of(x.shape)
        for y, start in zip(parts, self.starts(strides)):
            move(y, x, y.shape, strides_of(y.shape), strides, x_start=start)

    def backward(self, d_parts, d_x):
        strides = strides_of(d_x.shape)
        for d_y, start in zip(d_parts if isinstance(d_parts, list) else [d_parts], self.starts(strides)):
            move(d_x, d_y, d_y.shape, strides, strides_of(d_y.shape), y_start=start)

    cases = [case(x=(2, 7), cuts=(3, 4), axis=1), case(x=(6, 2, 5), cuts=(1,)), case(x=(3, 2, 17), cuts=(0, 16), axis=-1), case(x=(3,), cuts=())]
    bench = [case(x=(4096, 1024), cuts=(256, 512), axis=1)]
    wrong = [case(x=(3,), cuts=(4,)), case(x=(3,), cuts=(2, 1)), case(x=(3,), axis=1)]


def split(x, indices_or_sections, axis=0):
    """A list of parts along an axis: so many equal ones, or cut at these indices."""
    if isinstance(indices_or_sections, int):
        n = shape_of(x)[axis_of(axis, len(shape_of(x)), "split")]
        if n is None or n % indices_or_sections:
            raise shape_error("split", f"axis {axis} cannot be cut into {indices_or_sections} equal parts", x=shape_of(x))
        each = n // indices_or_sections
        indices_or_sections = [each * k for k in range(1, indices_or_sections)]
    return Split.apply(x, cuts=tuple(int(c) for c in indices_or_sections), axis=axis)


def unstack(x, num=None, axis=0):
    """A list of the parts along an axis, which they lack."""
    n = shape_of(x)[axis_of(axis, len(shape_of(x)), "unstack")] if num is None else num
    before = (slice(None),) * (axis % len(shape_of(x)))
    return [getitem(x, (*before, k)) for k in range(n)]


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
    shape = shape_of(x)
    width = np.broadcast_to(np.asarray(pad_width, "int64"), (len(shape), 2)) if np.ndim(pad_width) < 2 else pad_width
    width = tuple((int(a), int(b)) for a, b in width)
    if mode == "constant":
        return Pad.apply(x, pad_width=width, value=float(constant_values or 0))
    if mode not in ("reflect", "symmetric") or constant_values is not None:
        raise ValueError(f"pad: mode {mode!r} with constant_values {constant_values}; wanted is 'constant', or 'reflect' or 'symmetric' without them")
    edge = int(mode == "reflect")
    for axis, (before, after) in enumerate(width):
        n, whole = shape[axis], (slice(None),) * axis
        if n is not None and max(before, after) > n - edge:
            raise shape_error("pad", f"mode {mode!r} cannot make {max(before, after)} numbers of axis {axis}", x=shape)
        parts = [getitem(x, (*whole, slice(before + edge - 1, edge - 1 if edge else None, -1)))] if before else []
        parts.append(x)
        if after:
            parts.append(getitem(x, (*whole, slice(-1 - edge, -1 - edge - after, -1))))
        x = concatenate(parts, axis) if len(parts) > 1 else x
    return x


class Repeating(Op, abstract=True):
    """Base of the ops that repeat numbers."""

    def apart(self, shape):
        """For x of this shape: the result's sizes, with axes of repetition apart, and x's sizes there, 1 where it is repeated."""
        raise NotImplementedError(f"{type(self).__name__}: define apart(shape)")

    def result_dtype(self, x):
        return x.dtype

    def forward(self, y, x):
        full, own = self.apart(x.shape)
        move(y, x, full, strides_of(full), broadcast_strides(own, full))
        self.groups = grouped(full, [i for i, (m, n) in enumerate(zip(own, full)) if m != n])

    def backward(self, d_y, d_x):
        sum_over(self, d_x, d_y, self.groups)


class BroadcastTo(Repeating):
    """x repeated along axes of size 1, and along new ones in front, by NumPy's rules.

    x        any shape
    returns  newshape
    """

    newshape: tuple = ()

    def shape(self, x):
        short = len(self.newshape) - len(x.shape)
        if short < 0 or any(m not in (1, n) for m, n in zip(x.shape, self.newshape[short:])):
            raise shape_error("broadcast_to", f"the shape cannot be broadcast to {tuple(self.newshape)}", x=x.shape)
        return tuple(self.newshape)

    def apart(self, shape):
        return self.newshape, (1,) * (len(self.newshape) - len(shape)) + shape

    cases = [case(x=(3, 1), newshape=(2, 3, 17)), case(x=(), newshape=(5,)), case(x=(2, 3), newshape=(2, 3)), case(x=(1, 3), newshape=(0, 3))]
    bench = [case(x=(1024, 1), newshape=(1024, 4096))]
    wrong = [case(x=(2, 3), newshape=(3,)), case(x=(2,), newshape=(3,))]


class Tile(Repeating):
    """x repeated repeats[k] times along axis k.

    x        any shape
    returns  its sizes times the repeats, of which there is one for each axis
    """

    repeats: tuple = ()

    def shape(self, x):
        return tuple(r * n for r, n in zip(self.repeats, x.shape))

    def apart(self, shape):
        return tuple(n for r, size in zip(self.repeats, shape) for n in (r, size)), tuple(n for size in shape for n in (1, size))

    cases = [case(x=(2, 3), repeats=(2, 1)), case(x=(2, 1, 5), repeats=(1, 3, 2)), case(x=(3,), repeats=(0,))]
    bench = [case(x=(1024, 512), repeats=(2, 4))]


class Repeat(Repeating):
    """Each part of x along an axis `repeats` times in a row.

    x        any shape
    returns  its size along the axis times `repeats`
    """

    repeats: int = 1
    axis: int = 0

    def shape(self, x):
        axis = axis_of(self.axis, len(x.shape), "repeat")
        return x.shape[:axis] + (x.shape[axis] * self.repeats,) + x.shape[axis + 1:]

    def apart(self, shape):
        before = (self.axis % len(shape)) + 1
        return shape[:before] + (self.repeats,) + shape[before:], shape[:before] + (1,) + shape[before:]

    cases = [case(x=(2, 3), repeats=2), case(x=(2, 3), repeats=3, axis=-1), case(x=(2, 3, 5), repeats=2, axis=1)]
    bench = [case(x=(32, 28, 28, 64), repeats=2, axis=1)]


def broadcast_to(x, shape):
    """x repeated along axes of size 1, and along new ones in front, by NumPy's rules."""
    return BroadcastTo.apply(x, newshape=tuple(shape))


def tile(x, repeats):
    """x repeated so many times along each axis; axes that either lacks are added in front."""
    repeats, n = [repeats] if isinstance(repeats, int) else list(repeats), len(shape_of(x))
    if len(repeats) > n:
        x = expand_dims(x, tuple(range(len(repeats) - n)))
    return Tile.apply(x, repeats=(1,) * (n - len(repeats)) + tuple(repeats))


def repeat(x, repeats, axis=None):
    """Each number, or each part along an axis, so many times in a row; a list of repeats has one for each part."""
    if axis is None:
        x, axis = ravel(x), 0
    if isinstance(repeats, int):
        return Repeat.apply(x, repeats=repeats, axis=axis)
    from .indexing import take
    return take(x, np.repeat(np.arange(shape_of(x)[axis]), repeats).astype("int32"), axis=axis)
