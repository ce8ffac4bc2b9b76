"""Tensor: an array, its gradient, and the op that made it; and `backward`, which walks the ops back.

Nothing here knows a single op.
"""

import heapq
import threading

import numpy as np

from . import _core
from .errors import RecordingError

kernels = _core.load()
DTYPES = {np.dtype(name): name for name in ("float32", "float64", "int32", "int64", "uint8", "bool", "uint32", "uint64")}
_state = threading.local()          # .grad: whether ops are put on the tape


def grad_enabled():
    """Whether ops note what their gradients need."""
    return getattr(_state, "grad", True)


class no_grad:
    """Context manager and decorator: ops inside leave no trace on the tape."""

    def __enter__(self):
        self.before = grad_enabled()
        _state.grad = False

    def __exit__(self, *_):
        _state.grad = self.before

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

    __slots__ = ("name", "_trainable", "buffer", "regularizer", "constraint", "path")
    changes = 0                     # counts what may change which parameters a model trains; layers add to it too
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

    def mark_changed(self):
        """To be called after writing into .array (or through DLPack) in any other way than assign: recorded predictions keep what
        they computed from the weights alone."""
        _core.weights_changed()

    def __repr__(self):
        return f"Parameter({self.name!r}, shape={self.array.shape}, dtype={self.array.dtype.name})"


class State(Parameter):
    """A Parameter that steps change without a change of weights: a metric's total, a count, the state of a random generator."""

    __slots__ = ()


def tensor(value, dtype=None, requires_grad=False):
    """A tensor with a copy of the value: a number, a list, an array. float64 becomes float32 unless dtype says otherwise."""
    if isinstance(value, Tensor):
        value = value._values("a tensor's array")
    a = np.asarray(value)
    if dtype is None:
        dtype = "float32" if a.dtype.kind == "f" else a.dtype.name
    out = _core.empty(a.shape, dtype)
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


# ---- the tape ---------------------------------------------------------------------------------------------------------

class Gradients:
    """Sums what arrives at each output of each op, during one backward."""

    def __init__(self):
        self.of = {}                # (node or leaf, index) -> (array, whether it may be added to in place)

    def add(self, key, array, owned):
        """One more contribution."""
        before = self.of.get(key)
        if before is None:
            self.of[key] = array, owned
            return
        sum_, mine = before
        if not mine:
            if owned:
                sum_, array = array, sum_
            else:
                copy = _core.empty(sum_.shape, sum_.dtype)
                kernels.copy(copy, sum_, size=sum_.size)
                sum_ = copy
        kernels.accumulate(sum_, array, size=sum_.size)
        self.of[key] = sum_, True

    def take(self, key):
        """The sum, or None; and whether it belongs to the taker, who may overwrite it."""
        return self.of.pop(key, (None, False))


def backward(tensors, seeds, targets=None, retain_graph=False):
    """Walk the ops back from the tensors, whose gradients are `seeds`.

    Without targets, .grad of every leaf is set. With targets (tensors), nothing is set, and their gradients are returned as
    a list of arrays; None for a tensor on which the result does not depend.
    """
    gradients, heap, seen = Gradients(), [], set()
    wanted = {} if targets is None else {(t.node if t.node is not None else t, t.index): i for i, t in enumerate(targets)}
    results = [None] * len(wanted)

    def reach(node):
        if node not in seen:
            if node.sources is None:
                raise RuntimeError(f"backward ran through {type(node).__name__} already; the first time needs retain_graph=True")
            seen.add(node)
            heapq.heappush(heap, (-node.order, node))

    for t, seed in zip(tensors, seeds):
        gradients.add((t.node if t.node is not None else t, t.index), seed, False)
        if t.node is not None:
            reach(t.node)
    while heap:
        node = heapq.heappop(heap)[1]
        d_out, owned = zip(*[gradients.take((node, i)) for i in range(node.outputs)])
        d_out = list(d_out)
        for i in range(node.outputs):
            if (node, i) in wanted:
                results[wanted[node, i]] = d_out[i]
        label = _core.label(node.label)
        try:
            _back(node, d_out, gradients, reach, targets is None, owned[0] and node.outputs == 1 and (node, 0) not in wanted)
        finally:
            _core.label(label)
        if not retain_graph:
            node.release()
        del node, d_out
    for (leaf, _), (array, _) in gradients.of.items():
        if targets is None:
            if isinstance(leaf, Parameter) and leaf.buffer is not None and array is not leaf.buffer:
                kernels.copy(leaf.buffer, array, size=array.size)
                array = leaf.buffer
            leaf.grad = array
        elif (leaf, 0) in wanted:
            results[wanted[leaf, 0]] = array
    return results


def _back(node, d_out, gradients, reach, fill, owned):
    if node.outputs > 1:
        for i, d in enumerate(d_out):
            if d is None:
                shape, dtype = node.out_shapes[i]
                d_out[i] = _core.empty(shape, dtype)
                kernels.fill(d_out[i], size=d_out[i].size, value=0.0)
        d = d_out
    else:
        d = d_out[0]
    d_inputs, keys, work = [], [], False
    for i, source in enumerate(node.sources):
        if source is None:
            d_inputs.append(None)
            continue
        if type(source) is tuple:
            origin, index, shape, dtype = source
            key, buffer = (origin, index), None
            reach(origin)
        else:
            key, shape, dtype = (source, 0), source.array.shape, source.array.dtype
            buffer = source.buffer if fill and isinstance(source, Parameter) and key not in gradients.of else None
        if i in node.same:
            gradients.add(key, d, False)
            d_inputs.append(None)
            continue
        if node.views:
            d_inputs.append(None)
        elif buffer is None and owned and i == node.overwrites and not node.same and d.shape == shape and d.dtype == dtype:
            d_inputs.append(d)
        else:
            d_inputs.append(buffer if buffer is not None else _core.empty(shape, dtype))
        work = True
        keys.append((i, key))
    if not work:
        return
    if node.views:
        gradients.add(keys[0][1], node.backward(d), False)
        return
    node.backward(d, *d_inputs)
    for i, key in keys:
        gradients.add(key, d_inputs[i], True)
