"""Op: what every operation is. Shape, forward, backward and cases in one class; an instance is one call and the graph's node."""

import numpy as np

from . import _core
from .errors import RecordingError, SymbolicError
from .tensor import DTYPES, Parameter, State, Tensor, grad_enabled, kernels, mode  # noqa: F401

empty, recorded_calls, of_weights = _core.empty, _core.recorded_calls, _core.of_weights
FLOAT32, FLOAT64 = np.dtype("float32"), np.dtype("float64")
ops_by_name = {}                     # every Op that fastdl defines; saved models name ops by these names only
flops_of = {}                        # kernel -> function of its sizes that gives its floating-point operations

ACTIVATIONS = {None: 0, "linear": 0, "relu": 1, "sigmoid": 2, "tanh": 3, "relu6": 4}      # as in csrc/kernel.h


def twin(function=None, *, flops=None, error=2e-6, pairs=False):
    """Declare a function as the NumPy twin of the kernel of its name: same arguments, outputs filled in place.

    Its arrays may be float64. A kernel that checks data returns the index of the first bad item, or None.
    flops, a function of the kernel's sizes, is what the profiler and the benchmarks count. error is what rounding in the kernel may
    add to an output, in parts of the largest. pairs: whether outputs of uint32 are pairs of bfloat16, which are compared as numbers.
    """
    def register(f):
        _core.twins[f.__name__] = f
        f.error, f.pairs = error, pairs
        if flops:
            flops_of[f.__name__] = flops
        return f
    return register(function) if function else register


precision = mode                     # .bfloat16: products of the ops that this thread calls take operands rounded to bfloat16; else float32


class products:
    """Context manager: products of the ops called inside round their operands to bfloat16, or do not."""

    def __init__(self, bfloat16):
        self.bfloat16 = bfloat16

    def __enter__(self):
        self.before, precision.bfloat16 = precision.bfloat16, self.bfloat16

    def __exit__(self, *_):
        precision.bfloat16 = self.before


class Case:
    """One call of an op: input shapes or arrays by name, options, for tests and benchmarks."""

    def __init__(self, **arguments):
        self.arguments = arguments

    def __repr__(self):
        return ", ".join(f"{k}={v}" for k, v in self.arguments.items())


case = Case


def integers(shape, limit, dtype="int32"):
    """For cases: an array of reproducible integers, 0 to limit - 1."""
    n = np.arange(int(np.prod(shape)), dtype=np.uint64) + np.uint64(limit)         # without np.random, whose import takes 20 ms
    return ((n * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(33)) % np.uint64(limit)).astype(dtype).reshape(shape)


class Symbol:
    """A tensor of the functional API: shape (None: not known yet), dtype, and what computes it."""

    def __init__(self, shape, dtype="float32", made_by=None, index=0, name=None):
        self.shape, self.dtype, self.made_by, self.index, self.name, self.mask = tuple(shape), dtype, made_by, index, name, None

    ndim = property(lambda self: len(self.shape))

    def __len__(self):
        return self.shape[0]

    def __bool__(self):
        raise SymbolicError("a symbolic tensor has no value; conditions need an actual tensor")

    __float__ = __int__ = __bool__

    def __getattr__(self, name):
        if hasattr(Tensor, name):
            raise SymbolicError(f"a symbolic tensor has no {name}; it has only a shape and a dtype")
        raise AttributeError(f"a symbolic tensor has no {name}")

    def __array__(self, *_, **__):
        raise SymbolicError("a symbolic tensor has no values; use layers and fastdl.ops, not NumPy, on it")

    def __repr__(self):
        return f"<Symbol {self.name or ''} shape={self.shape} dtype={self.dtype}>"


class Made:
    """How a Symbol is computed: a layer or an op class, called with arguments that hold Symbols."""

    def __init__(self, operation, args, kwargs):
        self.operation, self.args, self.kwargs = operation, args, kwargs


class Spec:
    """Stands for an array in an op's shape rule: only a shape and a dtype."""

    def __init__(self, shape, dtype):
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: int(np.prod(self.shape, dtype=np.int64)))


class Op(_core.Node):
    """Base of all ops. A subclass declares options as annotated fields with defaults, and

        shape(*inputs)            the shape of the output (a list of shapes: several outputs); looks at .shape and .dtype only
        forward(out, *inputs)     fills out by launching kernels; saves what backward needs as attributes
        backward(d_out, *d_in)    fills the gradients by launching kernels; None for one that nobody asked for
        cases                     calls for the tests; and bench, for the benchmarks
        definition(*inputs)       for ops of several kernels: the textbook formula in NumPy (staticmethod or method)

    Inputs are ndarrays (None for an optional one left out). Floats have the dtype self.dtype in op-made arrays: self.empty().

    Of fastdl's own ops forward and backward run once for each combination of options, shapes and dtypes: other calls only launch
    the kernels that these launched (see _eager.pxi). So they may not look at values, and have no effects but their kernels'.
    """

    views = False                    # the output is a view: forward(x) returns it, backward(d_out) returns the view's gradient
    same = ()                        # inputs whose gradient is d_out itself, unchanged
    adds = ()                        # inputs to whose gradient backward adds what else has arrived there: self.before.get(i), an array or None
    before = {}
    in_place = False                 # whether it does so in the memory of what has arrived, self.before's arrays being those of the gradients
    overwrites = None                # the input whose gradient backward may be told to write into d_out's own memory
    result = None                    # dtype of the output; None: that of the first floating-point input
    outputs = 1
    traced = False                   # whether backward can follow: forward need not save anything where it cannot
    differentiable = True
    bfloat16 = False                 # whether products round their operands to bfloat16; an option of ops that have any
    cases = bench = ()

    def __init_subclass__(cls, abstract=False, **kw):
        super().__init_subclass__(**kw)
        cls.options = {}
        for c in reversed(cls.__mro__):
            for name in c.__dict__.get("__annotations__", ()):
                cls.options[name] = getattr(cls, name, None)
        cls.name = _snake(cls.__name__)
        own = cls.__module__.split(".")[0] == "fastdl"
        cls.apply = _core.Apply(cls, own)                # another's op may compute with NumPy, or heed what it likes
        if own and not abstract:
            ops_by_name[cls.__name__] = cls

    def __call__(self, *inputs):
        if Symbol in map(type, inputs):
            return self.trace(inputs)
        arrays = [x.array if isinstance(x, Tensor) else x if x is None else _as_array(x, inputs) for x in inputs]
        traced = any(isinstance(x, Tensor) and x.requires_grad for x in inputs)
        first = arrays[0] if arrays else None
        self.dtype = first.dtype if first is not None and first.dtype.kind == "f" else _float_of(arrays)
        if precision.bfloat16 or self.bfloat16:
            self.bfloat16 = self.dtype == FLOAT32
        traced = self.traced = traced and grad_enabled()
        before = recorded_calls()
        if before < 0:
            out = self.compute(arrays)
        else:
            out = self.compute_early(arrays) if not grad_enabled() and _of_weights(inputs, arrays) else self.compute(arrays)
            if before == recorded_calls() and not self.views and self.outputs == 1 and out.size:
                raise RecordingError(f"{self.name} computes without kernels, so a recorded step cannot repeat it."
                                     "\n  Compose it of fastdl.ops, or leave it out of the recorded step.")
        if traced and self.differentiable:       # an op may find out in forward
            self.follow(inputs, arrays)
            if self.outputs == 1 and type(out) is not list:
                return Tensor(out, True, self)
            return [Tensor(o, True, self, i) for i, o in enumerate(out)]
        return Tensor(out) if type(out) is not list else [Tensor(o) for o in out]

    def compute(self, arrays):
        """The output, or a list of them, as arrays."""
        if self.views:
            return self.forward(*arrays)
        shape = self.shape(*arrays)
        dtype = self.result_dtype(*arrays)
        if type(shape) is list:
            out = [empty(s, d) for s, d in zip(shape, dtype if type(dtype) is list else [dtype] * len(shape))]
            self.outputs, self.out_shapes = len(out), [(o.shape, o.dtype) for o in out]
        else:
            out = empty(shape, dtype)
        self.forward(out, *arrays)
        return out

    def compute_early(self, arrays):
        """The same of weights alone, in the prologue of the program that is being recorded."""
        with _core.prologue():
            out = self.compute(arrays)
        for o in out if type(out) is list else [out]:
            of_weights(o, True)
        return out

    def empty(self, shape, dtype=None):
        """A workspace array of the op's own floating-point dtype."""
        return empty(shape, dtype or self.dtype)

    def early(self, *sources):
        """Whether what is computed from these arrays alone is computed in the prologue of the program that is being recorded."""
        return recorded_calls() >= 0 and not grad_enabled() and all(map(of_weights, sources))

    def prepared(self, shape, fill, *sources, dtype=None):
        """An array that fill(array) computes by kernels from the sources alone: a weight in the layout that a kernel wants.

        A recorded program without gradients computes it once for each change of its sources, where these are weights.
        """
        if self.early(*sources):
            with _core.prologue():
                out = self.empty(shape, dtype)
                fill(out)
            of_weights(out, True)
            return out
        out = self.empty(shape, dtype)
        fill(out)
        return out

    def result_dtype(self, *inputs):
        """The dtype of the output; a list for several."""
        return self.result or self.dtype

    def release(self):
        """Forget what backward needed."""
        self.__dict__.clear()

    # -- symbolic --

    # Sizes that stand for an unknown axis: a size that differs between the two is unknown in the result. Large, and even
    # as far as layers halve.
    PLACEHOLDERS = 1024 * 3, 1024 * 5

    def trace(self, inputs):
        """Apply the shape rule to Symbols: returns Symbols."""
        shapes = []
        for stand_in in self.PLACEHOLDERS:
            specs = [x if x is None else Spec([stand_in if n is None else n for n in x.shape], x.dtype) if isinstance(x, (Symbol, Tensor))
                     else _as_array(x, inputs) for x in inputs]
            self.dtype = _float_of(specs)
            found = self.shape(*specs)
            shapes.append(found)
        dtype = self.result_dtype(*specs)
        name = lambda d: DTYPES[np.dtype(d)]
        options = {k: v for k, v in self.__dict__.items() if k in self.options}
        made = Made(type(self), inputs, options)
        merge = lambda a, b: tuple(m if m == n else None for m, n in zip(a, b))
        if type(found) is list:
            dtypes = dtype if type(dtype) is list else [dtype] * len(found)
            return [Symbol(merge(a, b), name(d), made, i) for i, (a, b, d) in enumerate(zip(*shapes, dtypes))]
        return Symbol(merge(*shapes), name(dtype), made)


class labelled:
    """Context manager: what runs inside is listed, timed and blamed under this name."""

    def __init__(self, name):
        self.name = name

    def __enter__(self):
        self.before = _core.label(self.name)

    def __exit__(self, *_):
        _core.label(self.before)


def _snake(name):
    out = ""
    for i, c in enumerate(name):
        if c.isupper() and i and not name[i - 1].isupper() and not name[i - 1].isdigit():
            out += "_"
        out += c.lower()
    return out


def _float_of(arrays):
    for a in arrays:
        if a is not None and a.dtype.kind == "f":
            return a.dtype
    return FLOAT32


def _of_weights(inputs, arrays):
    """Whether a call in the step that is being recorded is given weights, or what was computed from them alone, and numbers.

    The weights among the inputs are marked as such.
    """
    found = [of_weights(a, isinstance(x, Parameter) and not isinstance(x, State)) if isinstance(x, Tensor) else None
             for x, a in zip(inputs, arrays)]
    return True in found and all(f or f is None and (x is None or type(x) in (int, float)) for f, x in zip(found, inputs))


def _as_array(x, inputs):
    """A number or array-like as an array; numbers take the dtype of the tensors beside them."""
    dtype = "float32"
    for t in inputs:
        if isinstance(t, (Tensor, Symbol)) and t.dtype in ("float32", "float64"):
            dtype = t.dtype
            break
        if type(x) is int and (isinstance(t, (Tensor, Symbol)) or type(t) is np.ndarray and t.dtype.kind in "iub"):
            dtype = "int64" if t.dtype == "int64" else "int32"
    if type(x) in (float, int):
        return np.array(x, dtype)
    a = np.asarray(x)
    if a.dtype.kind == "f" and a.dtype != dtype:
        a = a.astype(dtype)
    elif a.dtype.name not in ("float32", "float64", "int32", "int64", "uint8", "bool"):
        if a.dtype.kind not in "iufb":
            raise TypeError(f"an op was given {type(x).__name__} of dtype {a.dtype}; it wants numbers")
        a = a.astype("int32" if a.dtype.itemsize < 4 else "int64")
    return a if a.flags.c_contiguous else np.ascontiguousarray(a)     # which would give a scalar an axis


_core.tensors(Tensor, lambda x, inputs: None if Symbol in map(type, inputs) else _as_array(x, inputs))
