"""Layers that make one tensor of several."""

import functools
import operator

import numpy as np

from .. import ops
from ..errors import shape_error
from ..op import Symbol
from ..structure import is_shape
from ..tensor import Tensor
from .layer import Layer

__all__ = ["Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract",
           "add", "average", "concatenate", "dot", "maximum", "minimum", "multiply", "subtract"]


class Merge(Layer):
    """Base of the layers that combine tensors element by element. Fewer axes are filled up after the batch axis."""

    supports_masking = True
    combine = None                   # the op of two tensors

    def build(self, input_shape):
        """No weights; the shapes are checked."""
        name = type(self).__name__
        if not isinstance(input_shape, (list, tuple)) or is_shape(input_shape):
            raise shape_error(self.name, f"{name} wants a list of tensors, not one", inputs=input_shape)
        if not input_shape:
            raise ValueError(f"{self.name}: {name} wants a list of at least one tensor; the list is empty")
        rank = max(map(len, input_shape))
        filled = [(*s[:1], *[1] * (rank - len(s)), *s[1:]) for s in input_shape]
        for sizes in zip(*filled):
            if len({n for n in sizes if n not in (None, 1)}) > 1:
                raise shape_error(self.name, f"{name} wants shapes that are equal, or 1 where they differ",
                                  **{f"input_{i}": s for i, s in enumerate(input_shape)})

    def call(self, inputs):
        """Combine from left to right."""
        rank = max(t.ndim for t in inputs)
        return functools.reduce(type(self).combine, [_fill(t, rank) for t in inputs])

    def compute_mask(self, inputs, previous_mask):
        """What any mask lets through; None where a tensor has none."""
        masks = list(previous_mask or (None,))
        return None if any(m is None for m in masks) else functools.reduce(ops.logical_or, masks)


def _fill(t, rank):
    while t.ndim < rank:
        t = ops.expand_dims(t, 1)
    return t


class Add(Merge):
    """The sum of several tensors."""

    combine = operator.add


class Subtract(Merge):
    """The first tensor minus the second."""

    combine = operator.sub

    def build(self, input_shape):
        """No weights; there must be two inputs."""
        super().build(input_shape)
        if len(input_shape) != 2:
            raise ValueError(f"{self.name}: Subtract wants a list of two tensors; the list has {len(input_shape)}")


class Multiply(Merge):
    """The product of several tensors, element by element."""

    combine = operator.mul


class Average(Add):
    """The mean of several tensors, element by element."""

    def call(self, inputs):
        """The sum divided by the number of tensors."""
        return super().call(inputs) / len(inputs)


class Maximum(Merge):
    """The largest of several tensors, element by element."""

    combine = ops.maximum


class Minimum(Merge):
    """The smallest of several tensors, element by element."""

    combine = ops.minimum


class Concatenate(Layer):
    """Several tensors one after another along an axis; their other sizes are equal."""

    supports_masking = True

    def __init__(self, axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.axis = int(axis)

    def build(self, input_shape):
        """No weights; the shapes are checked."""
        if is_shape(input_shape) or len(input_shape) < 1:
            raise shape_error(self.name, "Concatenate wants a list of tensors, not one", inputs=input_shape)
        rank = len(input_shape[0])
        if not -rank <= self.axis < rank:
            raise shape_error(self.name, f"Concatenate: the inputs have no axis {self.axis}", input_0=input_shape[0])
        others = [s[:self.axis % rank] + s[self.axis % rank + 1:] for s in map(tuple, input_shape)]
        if any(len(s) != rank for s in input_shape) or any(len(set(sizes) - {None}) > 1 for sizes in zip(*others)):
            raise shape_error(self.name, f"Concatenate wants the same sizes on all axes but {self.axis}",
                              **{f"input_{i}": s for i, s in enumerate(input_shape)})

    def call(self, inputs):
        """Concatenate; of several dtypes the widest."""
        dtypes = {t.dtype for t in inputs}
        if len(dtypes) > 1:
            widest = next(d for d in ("float64", "float32", "int64", "int32", "uint8") if d in dtypes)
            inputs = [t if t.dtype == widest else ops.cast(t, widest) for t in inputs]
        return ops.concatenate(list(inputs), axis=self.axis)

    def compute_mask(self, inputs, previous_mask):
        """The masks one after another for the time axis; for a later axis, what any mask lets through."""
        masks = list(previous_mask or ())
        if all(m is None for m in masks):
            return None
        if self.axis % inputs[0].ndim == 1:
            return ops.concatenate([_all_true(t) if m is None else m for t, m in zip(inputs, masks)], axis=1)
        return None if None in masks else functools.reduce(ops.logical_or, masks)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "axis": self.axis}


def _all_true(t):
    shape = t.shape[:2]
    return Symbol(shape, "bool") if None in shape else Tensor(np.ones(shape, bool))


class Dot(Layer):
    """Sums of products of two tensors along one axis of each.

    inputs   (batch, ..., n, ...) twice; axes says which axes have the size n
    returns  (batch, the other axes of the first, those of the second); (batch, 1) for two matrices

    normalize=True divides by the lengths first: the cosine.
    """

    def __init__(self, axes, normalize=False, **kwargs):
        super().__init__(**kwargs)
        self.axes, self.normalize = axes if isinstance(axes, int) else tuple(axes), normalize

    def call(self, inputs):
        """The products, summed."""
        if len(inputs) != 2:
            raise ValueError(f"{self.name}: Dot wants a list of two tensors; the list has {len(inputs)}")
        a, b = inputs
        axes = (self.axes, self.axes) if isinstance(self.axes, int) else self.axes
        along_a, along_b = axes[0] % a.ndim, axes[1] % b.ndim
        if a.shape[along_a] != b.shape[along_b] or not 2 <= a.ndim <= 3 or not 2 <= b.ndim <= 3 or 0 in (along_a, along_b):
            raise shape_error(self.name, f"Dot: axes {axes} must have equal sizes, in tensors of 2 or 3 axes", first=a.shape, second=b.shape)
        if self.normalize:
            a, b = (t / ops.sqrt(ops.maximum(ops.sum(ops.square(t), axis=along, keepdims=True), 1e-12)) for t, along in ((a, along_a), (b, along_b)))
        matrices = a.ndim == b.ndim == 2
        left = ops.expand_dims(a, 1) if a.ndim == 2 else a if along_a == 2 else ops.transpose(a, (0, 2, 1))
        right = ops.expand_dims(b, 2) if b.ndim == 2 else b if along_b == 1 else ops.transpose(b, (0, 2, 1))
        out = ops.matmul(left, right)
        if matrices or b.ndim == 2:
            out = ops.squeeze(out, axis=2)
        return ops.squeeze(out, axis=1) if a.ndim == 2 and not matrices else out

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "axes": self.axes, "normalize": self.normalize}


def _function(layer):
    def merge(inputs, **kwargs):
        return layer(**kwargs)(inputs)
    merge.__name__, merge.__doc__ = layer.__name__.lower(), f"{layer.__name__}(**kwargs)(inputs)."
    return merge


add, subtract, multiply, average = _function(Add), _function(Subtract), _function(Multiply), _function(Average)
maximum, minimum = _function(Maximum), _function(Minimum)


def concatenate(inputs, axis=-1, **kwargs):
    """Concatenate(axis, **kwargs)(inputs)."""
    return Concatenate(axis=axis, **kwargs)(inputs)


def dot(inputs, axes=-1, **kwargs):
    """Dot(axes, **kwargs)(inputs)."""
    return Dot(axes=axes, **kwargs)(inputs)
