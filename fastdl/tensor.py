"""Tensor: an array, its gradient, and the op that made it. Nothing here knows a single op."""

import numpy as np

from . import _core
from .errors import RecordingError

kernels = _core.load()
DTYPES = {np.dtype(name): name for name in ("float32", "float64", "int32", "int64", "uint8", "bool", "uint32", "uint64")}
mode, backward = _core.Mode(), _core.backward


def grad_enabled():
    """Whether ops note what their gradients need."""
    return mode.grad


class no_grad:
    """Context manager and decorator: ops inside leave no trace on the tape."""

    def __enter__(self):
        self.before, mode.grad = mode.grad, False

    def __exit__(self, *_):
        mode.grad = self.before

    def __call__(self, function):
        def wrapped(*args, **kwargs):
            with no_grad():
                return function(*args, **kwargs)
        wrapped.__name__, wrapped.__doc__ = function.__name__, function.__doc__
        return wrapped


class Tensor(_core.Value):
    """A NumPy array with a gradient.

    array          the ndarray: C-contiguous, float32 (int32, int64, bool, uint8 for data)
    grad           after backward(): ndarray of the same shape, or None. Overwritten by each backward(), never added to.
    requires_grad  whether gradients flow here
    mask           a bool Tensor of the time steps that count, or None; layers set it
    node, index    the op that made it (None: a leaf) and which of its outputs it is
    """

    __slots__ = ()
    __array_priority__ = 1000       # ndarray + Tensor asks Tensor

    shape = property(lambda self: self.array.shape)
    ndim = property(lambda self: self.array.ndim)
    size = property(lambda self: self.array.size)
    dtype = property(lambda self: DTYPES[self.array.dtype])

    def __len__(self):
        if not self.array.ndim:
            raise TypeError("len() of a tensor without axes")
        return self.array.shape[0]

    def _values(self, what):
        if _core.recording_now():
            raise RecordingError(f"{what} was asked for inside a recorded step: it would be frozen at the value of the recording."
                                 "\n  Return the tensor from the step and read it afterwards.")
        return self.array

    def numpy(self):
        """The array itself, not a copy; of a Parameter a view that cannot be written to: assign() writes."""
        return self._values("the array of a tensor")

    def __array__(self, dtype=None, copy=None):
        a = self.numpy()
        return np.array(a, dtype, copy=copy) if dtype is not None or copy else a

    def __dlpack__(self, **options):
        return self._values("a tensor's memory").__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def item(self):
        """The only value, as a Python number."""
        return self._values("a value").item()

    def tolist(self):
        """The values as nested lists."""
        return self._values("values").tolist()

    def __float__(self):
        return float(self._values("a value").item())

    def __int__(self):
        return int(self._values("a value").item())

    def __bool__(self):
        return bool(self._values("a value"))

    def __index__(self):
        return self._values("a value").__index__()

    def __format__(self, spec):
        return format(self._values("a value").item(), spec) if spec and self.array.size == 1 else format(repr(self), spec)

    def __reduce__(self):             # copies and pickles have the values, and no history
        return _copied, (Tensor, self._values("a copy of a tensor"), {"requires_grad": self.requires_grad and self.node is None, "mask": self.mask})

    def __repr__(self):
        made = f", made by {type(self.node).__name__}" if self.node is not None else ", requires_grad=True" if self.requires_grad else ""
        about = f"shape={self.array.shape}, dtype={self.array.dtype.name}{made}"
        if _core.recording_now():
            return f"Tensor({about}, being recorded)"
        values = np.array2string(self.array, separator=", ", prefix="Tensor(", threshold=50, edgeitems=3, precision=5)
        return f"Tensor({values}, {about})"

    def detach(self):
        """The same array without its history."""
        return Tensor(self.array)

    def backward(self, gradient=None, retain_graph=False):
        """Fill .grad of every leaf tensor with requires_grad that this one was computed from.

        gradient      of some scalar with respect to this tensor; may be left out where this tensor has one element
        retain_graph  keep what the ops saved, so that backward can run again
        """
        if not self.requires_grad:
            raise RuntimeError("backward: this tensor was not computed from anything that requires a gradient")
        backward([self], [self._seed(gradient)], retain_graph=retain_graph)

    def _seed(self, gradient):
        if gradient is None:
            if self.array.size != 1:
                raise RuntimeError(f"backward: the tensor has shape {self.array.shape}; only one of one element needs no `gradient`")
            return _ones(self.array.shape, self.array.dtype)
        array = gradient.array if isinstance(gradient, Tensor) else np.asarray(gradient, self.array.dtype, order="C")
        if array.shape != self.array.shape:
            raise ValueError(f"backward: gradient has shape {array.shape}, the tensor {self.array.shape}")
        return array


_constants = {}


def _ones(shape, dtype):
    key = shape, dtype
    if key not in _constants:
        _constants[key] = np.ones(shape, dtype)
    return _constants[key]


class Parameter(Tensor):
    """A tensor that training changes: a leaf with a name. (Keras: Variable.)

    buffer   where its gradient is to be written: a view into one block shared by the model's parameters, or None
    """

    __slots__ = ("name", "_trainable", "regularizer", "constraint", "path")
    changes = 0                     # counts what may change which parameters a model trains; layers add to it too
    flipped = 0                     # tells apart which parameters are frozen: differs while some are that were not, and the other way round
    moves = 0                       # counts when parameters got other memory: what was recorded before is void

    def __init__(self, array, name="parameter", trainable=True):
        super().__init__(array, requires_grad=trainable)
        self.name, self._trainable, self.buffer, self.path = name, trainable, None, name
        self.regularizer = self.constraint = None
        Parameter.changes += 1

    @property
    def trainable(self):
        """Whether optimisers change it."""
        return self._trainable

    @trainable.setter
    def trainable(self, value):
        if self._trainable != bool(value):
            Parameter.flipped ^= id(self)
        self._trainable = self.requires_grad = bool(value)
        Parameter.changes += 1

    def assign(self, value):
        """Overwrite the values, in place; shape and dtype stay."""
        value = np.asarray(value.array if isinstance(value, Tensor) else value)
        if value.shape != self.array.shape:
            raise ValueError(f"{self.name}: cannot assign an array of shape {value.shape} to shape {self.array.shape}")
        if _core.recording_now():
            raise RecordingError(f"{self.name}.assign inside a recorded step would happen once only; use ops.assign")
        self.array[...] = value
        _core.weights_changed()
        return self

    def numpy(self):
        """The values, in the memory of the Parameter; assign() writes, not this view."""
        view = self._values("the array of a parameter").view()
        view.flags.writeable = False
        return view

    def __reduce__(self):
        given = {"name": self.name, "trainable": self._trainable}
        return _copied, (type(self), self._values("a copy of a parameter"), given), (self.path, self.regularizer, self.constraint)

    def __setstate__(self, state):
        self.path, self.regularizer, self.constraint = state

    def mark_changed(self):
        """To be called after writing into .array (or through DLPack) in any other way than assign: recorded predictions keep what
        they computed from the weights alone."""
        _core.weights_changed()

    def __repr__(self):
        return f"Parameter({self.name!r}, shape={self.array.shape}, dtype={self.array.dtype.name})"


class State(Parameter):
    """A Parameter that steps change without a change of weights: a metric's total, a count, the state of a random generator."""

    __slots__ = ()


def _copied(cls, array, given):
    own = _core.empty(array.shape, array.dtype.name)
    own[...] = array
    mask = given.pop("mask", None)
    made = cls(own, **given)
    made.mask = mask
    return made


def tensor(value, dtype=None, requires_grad=False):
    """A tensor with a copy of the value: a number, a list, an array. Unless dtype says otherwise float64 becomes float32, and whole numbers
    of a width that tensors do not have take the next one."""
    if isinstance(value, Tensor):
        value = value._values("a tensor's array")
    a = np.asarray(value)
    if a.dtype.kind not in "iufb":
        raise TypeError(f"tensor: the value is {type(value).__name__} of dtype {a.dtype}; wanted are numbers")
    if dtype is None:
        narrow = "int32" if a.dtype.itemsize < 4 else "int64"
        dtype = "float32" if a.dtype.kind == "f" else a.dtype.name if a.dtype.name in DTYPES.values() else narrow
    elif np.dtype(dtype if dtype != "bfloat16" else "V2") not in DTYPES:
        raise TypeError(f"tensor: dtype is {dtype!r}; known are {', '.join(DTYPES.values())}")
    out = _core.empty(a.shape, np.dtype(dtype).name)
    out[...] = a
    return Tensor(out, requires_grad)


def from_numpy(array, requires_grad=False):
    """A tensor that shares the array's memory; a TypeError where that is not possible."""
    if not isinstance(array, np.ndarray) or not array.flags.c_contiguous or array.dtype.name not in (
            "float32", "float64", "int32", "int64", "uint8", "bool"):
        about = f"{array.dtype} {'C-contiguous' if array.flags.c_contiguous else 'not C-contiguous'}" if isinstance(array, np.ndarray) else type(array).__name__
        raise TypeError(f"from_numpy: wants a C-contiguous array of float32, float64, int32, int64, uint8 or bool, not {about}; tensor() copies")
    return Tensor(array, requires_grad)


def from_dlpack(other, requires_grad=False):
    """A tensor that shares the memory of an object with __dlpack__ (PyTorch, JAX, NumPy …)."""
    return from_numpy(np.from_dlpack(other), requires_grad)
