"""Reductions over any axes: sum, mean, variance, maximum and their kin."""

import functools
import math

import numpy as np

from .. import _core
from ..errors import shape_error
from ..op import Op, case, integers, kernels, twin
from .layout import broadcast, expand, grouped, move, reduce, strides_of, sum_over
from .math import DTYPE_CODES, Sqrt, cast_array

__all__ = ["sum", "mean", "max", "min", "amax", "amin", "prod", "var", "std", "any", "all", "argmax", "argmin", "logsumexp"]

# ---- twins ----

def pieced(x, outer, length, inner, piece, fill):
    """x (outer, length, inner) as (outer, pieces, piece, inner), the last piece filled up."""
    n = -(-length // piece) or 1
    full = np.full((outer, n * piece, inner), fill, x.dtype)
    full[:, :length] = x.reshape(outer, length, inner)
    return full.reshape(outer, n, piece, inner)


@twin
def sum(y, x, *, outer, length, inner, piece, divisor):
    with np.errstate(all="ignore"):
        y.reshape(-1)[...] = (pieced(x, outer, length, inner, piece, 0).sum(axis=2) / divisor).reshape(-1)


@twin
def sum_of_squares(y, x, about, *, outer, length, inner, piece, divisor):
    with np.errstate(all="ignore"):
        squares = (x.reshape(outer, length, inner) - about.reshape(outer, 1, inner)) ** 2
        y.reshape(-1)[...] = (pieced(squares, outer, length, inner, piece, 0).sum(axis=2) / divisor).reshape(-1)


@twin
def sum_of_exp(y, x, about, *, outer, length, inner, piece, divisor):
    with np.errstate(all="ignore"):
        powers = np.exp(x.reshape(outer, length, inner) - about.reshape(outer, 1, inner))
        y.reshape(-1)[...] = (pieced(powers, outer, length, inner, piece, 0).sum(axis=2) / divisor).reshape(-1)


def _twin_of_reduction(name, function, start):
    def run(y, x, *, outer, length, inner, piece):
        fill = start(x.dtype) if callable(start) else start
        y.reshape(-1)[...] = function(pieced(x, outer, length, inner, piece, fill), axis=2).reshape(-1)
    _core.twins[name] = run


def _limit(sign):
    return lambda dtype: sign * np.inf if dtype.kind == "f" else np.iinfo(dtype).max if sign > 0 else np.iinfo(dtype).min


def _in_dtype(function):
    return lambda x, axis: function(x, axis=axis, dtype=x.dtype)


for _type in "_int32", "_int64", "":
    _twin_of_reduction("max" + _type, np.max, _limit(-1))
    _twin_of_reduction("min" + _type, np.min, _limit(1))
    _twin_of_reduction("prod" + _type, _in_dtype(np.prod), 1)
    if _type:
        _twin_of_reduction("sum" + _type, _in_dtype(np.sum), 0)
_twin_of_reduction("any", np.any, 0)
_twin_of_reduction("all", np.all, 1)


@twin
def argmax(y, x, *, outer, length, inner):
    y.reshape(outer, inner)[...] = x.reshape(outer, length, inner).argmax(axis=1)


@twin
def argmin(y, x, *, outer, length, inner):
    y.reshape(outer, inner)[...] = x.reshape(outer, length, inner).argmin(axis=1)


for _type in "_int32", "_int64":
    _core.twins["argmax" + _type], _core.twins["argmin" + _type] = argmax, argmin


@twin
def prod_grad(d_x, d_y, x, *, outer, length, inner):
    x = x.reshape(outer, length, inner)
    before, after = np.ones_like(x), np.ones_like(x)
    np.cumprod(x[:, :-1], axis=1, out=before[:, 1:])
    np.cumprod(x[:, :0:-1], axis=1, out=after[:, -2::-1])
    d_x.reshape(x.shape)[...] = d_y.reshape(outer, 1, inner) * before * after


# ---- ops ----

class Plan:
    """How to reduce a shape: axes, shape of the result, the same with axes of size 1 kept, groups, and how many numbers make one."""

    def __init__(self, op, shape, axis):
        wanted = range(len(shape)) if axis is None else [axis] if isinstance(axis, int) else axis
        self.axes = tuple(sorted({a % len(shape) if shape and -len(shape) <= a < len(shape) else _no_axis(op, a, shape) for a in wanted}))
        self.shape = tuple(n for i, n in enumerate(shape) if i not in self.axes)
        self.kept = tuple(1 if i in self.axes else n for i, n in enumerate(shape))
        self.length = math.prod(shape[i] for i in self.axes)
        self.groups = grouped(shape, self.axes)
        whole = [i for i in range(len(shape)) if i not in self.axes] + list(self.axes)
        self.moved, self.moved_strides = tuple(shape[i] for i in whole), tuple(strides_of(shape)[i] for i in whole)


def three(sizes):
    """The groups of an array that is (outer, length, inner)."""
    return [(sizes["outer"], False), (sizes["length"], True), (sizes["inner"], False)]


def _no_axis(op, axis, shape):
    raise shape_error(op, f"there is no axis {axis}", x=shape)


@functools.lru_cache(4096)
def plan_of(op, shape, axis):
    """The Plan for a shape."""
    return Plan(op, shape, axis)


class Reduction(Op, abstract=True):
    """Base of the reductions.

    x        any shape
    returns  x's shape without the axes reduced, or with size 1 there (keepdims)

    axis      an int, a tuple of ints, or None: all axes
    keepdims  whether the reduced axes stay, with size 1
    """

    axis: object = None
    keepdims: bool = False
    identity = True                  # whether an empty axis has a result

    def shape(self, x):
        axis = tuple(self.axis) if isinstance(self.axis, list) else self.axis
        self.plan = plan_of(self.name, x.shape, axis)
        if not self.identity and self.plan.length == 0:
            raise shape_error(self.name, "there is no result over an axis of size 0", x=x.shape)
        return self.plan.kept if self.keepdims else self.plan.shape

    def adjacent(self, x):
        """x with the reduced axes together, and the (outer, length, inner) that it then is."""
        groups = self.plan.groups
        places = [i for i, g in enumerate(groups) if g[1]]
        if len(places) <= 1:
            i = places[0] if places else len(groups)
            sizes = [math.prod(n for n, _ in part) for part in (groups[:i], groups[i:i + 1], groups[i + 1:])]
        else:
            moved = self.empty(self.plan.moved, x.dtype)
            move(moved, x, self.plan.moved, strides_of(self.plan.moved), self.plan.moved_strides)
            x, sizes = moved, [x.size // self.plan.length if self.plan.length else math.prod(self.plan.shape), self.plan.length, 1]
        return x, dict(zip(("outer", "length", "inner"), sizes))

    def kept(self, y):
        """An array of the result with the reduced axes of size 1."""
        return y.reshape(self.plan.kept)

    cases = [case(x=(3, 5)), case(x=(2, 3, 19), axis=1), case(x=(2, 3, 19), axis=-1, keepdims=True), case(x=(3, 4, 2, 5), axis=(0, 2)),
             case(x=(4100,)), case(x=(2, 600, 3), axis=1), case(x=(0, 3), axis=1), case(x=(1, 70, 1))]
    bench = [case(x=(1 << 22,)), case(x=(4096, 1024), axis=0), case(x=(4096, 1024), axis=1)]


class Sum(Reduction):
    """The sum of x over some axes; added pairwise, so that long sums stay accurate."""

    def result_dtype(self, x):
        return x.dtype if x.dtype.kind == "f" or x.dtype.itemsize > 1 else np.dtype("int32")

    def forward(self, y, x):
        if x.dtype.kind == "f":
            reduce(self, y, x, self.plan.groups, kernels.sum, divisor=1.0)
        else:
            x = cast_array(self, x, y.dtype)
            reduce(self, y, x, self.plan.groups, getattr(kernels, f"sum_{y.dtype.name}"))
            self.differentiable = False

    def backward(self, d_y, d_x):
        expand(d_x, self.kept(d_y))

    cases = [*Reduction.cases, case(x=integers((3, 7), 9), axis=0), case(x=integers((3, 7), 2, "bool")), case(x=(0, 3), axis=0)]


class Mean(Reduction):
    """The mean of x over some axes; of integers as float32."""

    def forward(self, y, x):
        reduce(self, y, cast_array(self, x, y.dtype), self.plan.groups, kernels.sum, divisor=float(self.plan.length))

    def backward(self, d_y, d_x):
        part = self.empty(d_y.shape)
        sum_over(self, part, d_y, [(d_y.size, False)], divisor=float(self.plan.length))
        expand(d_x, self.kept(part))


class Extreme(Reduction, abstract=True):
    """Base of max and min: NaN wins; equal extremes share the gradient equally."""

    identity = False

    def result_dtype(self, x):
        return x.dtype if x.dtype.kind == "f" or x.dtype.itemsize > 1 else np.dtype("int32")

    def forward(self, y, x):
        x = cast_array(self, x, y.dtype)
        self.differentiable = y.dtype.kind == "f"
        self.x, self.y = x, y
        reduce(self, y, x, self.plan.groups, getattr(kernels, self.name if self.differentiable else f"{self.name}_{y.dtype.name}"))

    def backward(self, d_y, d_x):
        is_extreme, ones = self.empty(d_x.shape, "bool"), self.empty(d_x.shape)
        count, share = self.empty(self.plan.kept), self.empty(self.plan.kept)
        broadcast(self, kernels.equal, is_extreme, self.x, self.kept(self.y))
        kernels.cast(ones, is_extreme, size=ones.size, to=DTYPE_CODES[ones.dtype], of=DTYPE_CODES[is_extreme.dtype])
        sum_over(self, count, ones, self.plan.groups)
        broadcast(self, kernels.divide, share, self.kept(d_y), count)
        broadcast(self, kernels.where, d_x, share, np.zeros((), d_y.dtype), is_extreme)

    cases = [case(x=(3, 5)), case(x=(2, 3, 19), axis=1), case(x=(3, 4, 2, 5), axis=(0, 2), keepdims=True), case(x=(4100,)),
             case(x=integers((3, 7), 9), axis=0), case(x=integers((3, 7), 9, "int64"), axis=(0, 1)), case(x=integers((7,), 2, "uint8"))]


class Max(Extreme):
    """The largest value of x over some axes; NaN wins; equal ones share the gradient equally."""


class Min(Extreme):
    """The smallest value of x over some axes; NaN wins; equal ones share the gradient equally."""


class Prod(Reduction):
    """The product of x over some axes."""

    result_dtype = Sum.result_dtype

    def forward(self, y, x):
        if y.dtype.kind == "f":
            self.x = x
            reduce(self, y, x, self.plan.groups, kernels.prod)
        else:
            reduce(self, y, cast_array(self, x, y.dtype), self.plan.groups, getattr(kernels, f"prod_{y.dtype.name}"))
            self.differentiable = False

    def backward(self, d_y, d_x):
        x, sizes = self.adjacent(self.x)
        d = d_x if x is self.x else self.empty(x.shape)
        kernels.prod_grad(d, d_y, x, **sizes)
        if d is not d_x:
            move(d_x, d, self.plan.moved, self.plan.moved_strides, strides_of(self.plan.moved))

    cases = Sum.cases


class Var(Reduction):
    """The variance of x over some axes: the mean of the squared distances from the mean."""

    def forward(self, y, x):
        x = cast_array(self, x, y.dtype)
        near, sizes = self.adjacent(x)
        self.x, self.mean, n = x, self.empty(self.plan.kept), float(self.plan.length)
        reduce(self, self.mean, x, self.plan.groups, kernels.sum, divisor=n)
        reduce(self, y, near, three(sizes), kernels.sum_of_squares, again=kernels.sum, about=(self.mean,), divisor=n)

    def backward(self, d_y, d_x):
        scaled, distance = self.empty(self.plan.kept), self.empty(d_x.shape)
        sum_over(self, scaled, d_y, [(d_y.size, False)], divisor=self.plan.length / 2)
        broadcast(self, kernels.subtract, distance, self.x, self.mean)
        broadcast(self, kernels.multiply, d_x, distance, scaled)

    def definition(self, x):
        mean = x.mean(axis=self.axis, keepdims=True)
        return ((x - mean) ** 2).mean(axis=self.axis, keepdims=self.keepdims)

    cases = [*Reduction.cases[:6], case(x=(2, 300, 2, 19), axis=(0, 3))]


class Logsumexp(Reduction):
    """log(sum(exp(x))) over some axes, without overflow."""

    identity = False

    def forward(self, y, x):
        near, sizes = self.adjacent(cast_array(self, x, y.dtype))
        largest, shift, total, logarithm = (self.empty(self.plan.kept) for _ in range(4))
        reduce(self, largest, near, three(sizes), kernels.max)
        kernels.clip(shift, largest, size=shift.size, low=-3e38, high=3e38)        # -inf - -inf is NaN
        reduce(self, total, near, three(sizes), kernels.sum_of_exp, again=kernels.sum, about=(shift,), divisor=1.0)
        kernels.log(logarithm, total, size=total.size)
        broadcast(self, kernels.add, self.kept(y), shift, logarithm)
        self.x, self.y = x, y

    def backward(self, d_y, d_x):
        distance, part = self.empty(d_x.shape), self.empty(d_x.shape)
        broadcast(self, kernels.subtract, distance, self.x, self.kept(self.y))
        kernels.exp(part, distance, size=part.size)
        broadcast(self, kernels.multiply, d_x, part, self.kept(d_y))

    def definition(self, x):
        return np.log(np.exp(x).sum(axis=self.axis, keepdims=self.keepdims))

    cases = [case(x=(3, 5)), case(x=(2, 3, 19), axis=1), case(x=(3, 4, 2, 5), axis=(0, 2)), case(x=(4100,)), case(x=(2, 600, 3), axis=1, keepdims=True)]


class Any(Reduction):
    """Whether any of x is true, or not 0, over some axes; bool."""

    result, differentiable = "bool", False

    def forward(self, y, x):
        reduce(self, y, cast_array(self, x, "bool"), self.plan.groups, getattr(kernels, self.name))

    cases = [case(x=integers((3, 5), 2, "bool"), axis=1), case(x=integers((3, 2, 5), 2, "bool"), axis=(0, 2)), case(x=(4,)), case(x=(0, 3), axis=0)]


class All(Any):
    """Whether all of x is true, or not 0, over some axes; bool."""


class Argmax(Reduction):
    """Where along an axis (None: in the flattened x) the largest value is; the first of equal ones, or of NaN; int32."""

    result, differentiable, identity = "int32", False, False

    def forward(self, y, x):
        x, sizes = self.adjacent(x if x.dtype.kind == "f" or x.dtype.itemsize > 1 else cast_array(self, x, "int32"))
        getattr(kernels, self.name if x.dtype.kind == "f" else f"{self.name}_{x.dtype.name}")(y, x, **sizes)

    cases = [case(x=(3, 5)), case(x=(2, 3, 19), axis=1), case(x=(2, 3, 19), axis=-1, keepdims=True), case(x=integers((30,), 9), axis=0),
             case(x=integers((3, 7), 9, "int64"), axis=1), case(x=integers((7,), 2, "uint8"))]


class Argmin(Argmax):
    """Where along an axis (None: in the flattened x) the smallest value is; the first of equal ones, or of NaN; int32."""


# ---- public functions ----

def sum(x, axis=None, keepdims=False):
    """The sum of x over some axes (None: all); added pairwise, so that long sums stay accurate."""
    return Sum.apply(x, axis=axis, keepdims=keepdims)


def mean(x, axis=None, keepdims=False):
    """The mean of x over some axes (None: all); of integers as float32."""
    return Mean.apply(x, axis=axis, keepdims=keepdims)


def max(x, axis=None, keepdims=False):
    """The largest value of x over some axes (None: all); NaN wins; equal ones share the gradient equally."""
    return Max.apply(x, axis=axis, keepdims=keepdims)


def min(x, axis=None, keepdims=False):
    """The smallest value of x over some axes (None: all); NaN wins; equal ones share the gradient equally."""
    return Min.apply(x, axis=axis, keepdims=keepdims)


def prod(x, axis=None, keepdims=False):
    """The product of x over some axes (None: all)."""
    return Prod.apply(x, axis=axis, keepdims=keepdims)


def var(x, axis=None, keepdims=False):
    """The variance of x over some axes (None: all): the mean of the squared distances from the mean."""
    return Var.apply(x, axis=axis, keepdims=keepdims)


def std(x, axis=None, keepdims=False):
    """The standard deviation of x over some axes (None: all): the root of the variance."""
    return Sqrt.apply(Var.apply(x, axis=axis, keepdims=keepdims))


def any(x, axis=None, keepdims=False):
    """Whether any of x is true, or not 0, over some axes (None: all); bool."""
    return Any.apply(x, axis=axis, keepdims=keepdims)


def all(x, axis=None, keepdims=False):
    """Whether all of x is true, or not 0, over some axes (None: all); bool."""
    return All.apply(x, axis=axis, keepdims=keepdims)


def argmax(x, axis=None, keepdims=False):
    """Where along an axis (None: in the flattened x) the largest value is; the first of equal ones, or of NaN; int32."""
    return Argmax.apply(x, axis=axis, keepdims=keepdims)


def argmin(x, axis=None, keepdims=False):
    """Where along an axis (None: in the flattened x) the smallest value is; the first of equal ones, or of NaN; int32."""
    return Argmin.apply(x, axis=axis, keepdims=keepdims)


def logsumexp(x, axis=None, keepdims=False):
    """log(sum(exp(x))) over some axes (None: all), without overflow."""
    return Logsumexp.apply(x, axis=axis, keepdims=keepdims)


amax, amin = max, min
