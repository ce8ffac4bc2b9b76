"""The errors of fastdl. Each message says what was asked, what was met, and what to do."""

import numpy as np

from . import _core


class ShapeError(ValueError):
    """Arrays whose shapes do not fit an op or a layer."""


class RecordingError(RuntimeError):
    """Something that a recorded step cannot do, such as reading a value."""


class SymbolicError(TypeError, AttributeError):
    """A value asked of a Symbol, which has only a shape."""


class DataError(IndexError):
    """A value in the data that lies outside its range: a token, a label, an index.

    position   its place in the array that was checked, a list of ints, or None
    """

    position = None


class NotFiniteError(ArithmeticError):
    """NaN or infinity where `check_finite=True` was asked for.

    position   its place in the array that was checked, a list of ints, or None
    """

    position = None


def shape_error(op, what, **arrays):
    """A ShapeError with a line for each array: shape_error("conv2d", "…", images=((32, 28, 28, 3), "batch, height, …"))."""
    lines, width = [f"{op}: {what}"], max((len(name) for name in arrays), default=0)
    for name, about in arrays.items():
        shape, axes = about if isinstance(about, tuple) and len(about) == 2 and isinstance(about[1], str) else (about, "")
        lines.append(f"  {name:{width}}  {tuple(shape)}   {axes}".rstrip())
    return ShapeError("\n".join(lines))


explanations = {}      # name of a checking kernel -> function(arrays, sizes, item) that returns the error's text


def _fault(kernel, arrays, sizes, item, label):
    explain = explanations.get(kernel.name)
    text = explain(arrays, sizes, item) if explain else f"{kernel.name}: item {item} is out of range"
    kind = NotFiniteError if kernel.name == "check_finite" else DataError
    error = kind(f"{label}: {text}" if label else text)
    array = next((a for a in arrays if a is not None), None)
    error.position = [int(i) for i in np.unravel_index(item, array.shape)] if array is not None and item < array.size else None
    return error


_core.hooks["fault"], _core.hooks["recording"] = _fault, RecordingError
