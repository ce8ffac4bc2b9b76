"""Tensors made, converted, copied and overwritten."""

import numpy as np

from .. import _core
from ..op import Op, Symbol, case, kernels
from ..tensor import State, Tensor, from_numpy
from .layout import move, strides_of
from .math import DTYPE_CODES
from .elementwise import Cast, cast
from .shape import shape_of

__all__ = ["arange", "assign", "assign_add", "convert_to_numpy", "convert_to_tensor", "copy", "eye", "full", "full_like", "identity",
           "is_tensor", "linspace", "ndim", "ones", "ones_like", "shape", "size", "stop_gradient", "zeros", "zeros_like"]


class Full(Op):
    """A tensor of one value.

    returns  newshape
    """

    newshape: tuple = ()
    value: float = 0.0
    dtype_name: str = "float32"
    differentiable = False

    def shape(self):
        return self.newshape

    def result_dtype(self):
        return np.dtype(self.dtype_name)

    def forward(self, y):
        move(y, np.array(self.value, y.dtype), y.shape, strides_of(y.shape), (0,) * y.ndim)

    cases = [case(newshape=(2, 3), value=1.5), case(newshape=(), value=7, dtype_name="int64"), case(newshape=(0, 2), value=True, dtype_name="bool")]
    bench = [case(newshape=(1 << 22,), value=1.5)]


class FullLike(Full):
    """A tensor of one value in the shape of x.

    x        any shape
    returns  the same shape
    """

    def shape(self, x):
        return x.shape

    def result_dtype(self, x):
        return np.dtype(self.dtype_name) if self.dtype_name else x.dtype

    def forward(self, y, x):
        super().forward(y)

    cases = [case(x=(2, 3), value=1.5, dtype_name=None), case(x=(2,), value=2, dtype_name="int32")]
    bench = [case(x=(1 << 22,), value=1.5, dtype_name=None)]


class Copy(Op):
    """The same numbers in other memory."""

    same = (0,)

    def shape(self, x):
        return x.shape

    def result_dtype(self, x):
        return x.dtype

    def forward(self, y, x):
        move(y, x, x.shape, strides_of(x.shape), strides_of(x.shape))

    cases = [case(x=(2, 3)), case(x=())]
    bench = [case(x=(1 << 22,))]


class StopGradient(Op):
    """x itself, through which no gradient flows."""

    views, differentiable = True, False

    def shape(self, x):
        return x.shape

    def result_dtype(self, x):
        return x.dtype

    def forward(self, x):
        return x

    cases = [case(x=(2, 3))]


def full(shape, fill_value, dtype=None):
    """A tensor of one value; float32 unless dtype says otherwise."""
    return Full.apply(newshape=(shape,) if isinstance(shape, int) else tuple(shape), value=fill_value, dtype_name=np.dtype(dtype or "float32").name)


def zeros(shape, dtype=None):
    """A tensor of zeros; float32 unless dtype says otherwise."""
    return full(shape, 0, dtype)


def ones(shape, dtype=None):
    """A tensor of ones; float32 unless dtype says otherwise."""
    return full(shape, 1, dtype)


def full_like(x, fill_value, dtype=None):
    """A tensor of one value with the shape, and unless dtype says otherwise the dtype, of x."""
    return FullLike.apply(x, value=fill_value, dtype_name=dtype and np.dtype(dtype).name)


def zeros_like(x, dtype=None):
    """A tensor of zeros with the shape, and unless dtype says otherwise the dtype, of x."""
    return full_like(x, 0, dtype)


def ones_like(x, dtype=None):
    """A tensor of ones with the shape, and unless dtype says otherwise the dtype, of x."""
    return full_like(x, 1, dtype)


def arange(start, stop=None, step=1, dtype=None):
    """start, start + step, … below stop (of one argument: 0 to below it); int32 of ints, else float32."""
    start, stop = (0, start) if stop is None else (start, stop)
    whole = all(isinstance(n, (int, np.integer)) for n in (start, stop, step))
    return from_numpy(np.arange(start, stop, step).astype(dtype or ("int32" if whole else "float32")))


def linspace(start, stop, num=50, endpoint=True, dtype=None):
    """num numbers at equal distances from start to stop, which is the last one if endpoint."""
    return from_numpy(np.linspace(start, stop, num, endpoint).astype(dtype or "float32"))


def eye(N, M=None, k=0, dtype=None):
    """A matrix of N rows and M columns (N) with ones on the k-th diagonal."""
    return from_numpy(np.eye(N, M, k, dtype or "float32"))


def identity(n, dtype=None):
    """The (n, n) matrix with ones on the diagonal."""
    return eye(n, dtype=dtype)


def convert_to_tensor(x, dtype=None):
    """x as a tensor: tensors and symbols stay; float64 arrays and numbers become float32, Python's ints int32, unless dtype says otherwise."""
    if not isinstance(x, (Tensor, Symbol)):
        a = np.asarray(x)
        if dtype is None:
            python = not isinstance(x, (np.ndarray, np.generic))
            dtype = "float32" if a.dtype.kind == "f" else "int32" if python and a.dtype.kind == "i" else a.dtype
        if np.dtype(dtype) not in DTYPE_CODES:
            raise TypeError(f"convert_to_tensor: dtype {np.dtype(dtype)} is not one of {', '.join(d.name for d in DTYPE_CODES)}")
        return from_numpy(np.array(a, dtype, order="C"))
    return x if dtype is None or x.dtype == np.dtype(dtype).name else cast(x, dtype)


def convert_to_numpy(x):
    """The array of a tensor, not a copy; of anything else NumPy's."""
    return x.numpy() if isinstance(x, Tensor) else np.asarray(x)


def is_tensor(x):
    """Whether x is a tensor or a symbol of one."""
    return isinstance(x, (Tensor, Symbol))


def shape(x):
    """The shape of x as a tuple; None where a symbol's size is not known."""
    return shape_of(x)


def ndim(x):
    """How many axes x has."""
    return len(shape_of(x))


def size(x):
    """How many numbers x has; None where a symbol's size is not known."""
    sizes = shape_of(x)
    return None if None in sizes else int(np.prod(sizes, dtype=np.int64))


copy, stop_gradient = Copy.apply, StopGradient.apply


def assign(variable, value):
    """Overwrite the numbers of a variable, in place and unseen by gradients; in a recorded step, at every replay. Returns it."""
    value = _for(variable, value, "assign")
    move(variable.array, value, value.shape, strides_of(value.shape), strides_of(value.shape))
    _changed(variable)
    return variable


def assign_add(variable, value):
    """Add to the numbers of a variable, in place and unseen by gradients; in a recorded step, at every replay. Returns it."""
    kernels.accumulate(variable.array, _for(variable, value, "assign_add"), size=variable.size)
    _changed(variable)
    return variable


def _changed(variable):
    if not isinstance(variable, State):
        _core.weights_changed()


def _for(variable, value, name):
    """The array of a value in the dtype of the variable."""
    value = Cast.apply(value, dtype_name=variable.dtype).array
    if value.shape != variable.shape:
        raise ValueError(f"{name}: the variable has shape {variable.shape}, the value {value.shape}")
    return value
