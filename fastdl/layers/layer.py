"""Layer: weights, and a computation that uses them. Built at its first call, called on tensors, arrays or Symbols."""

import functools
import inspect
import warnings

import numpy as np

from .. import _core, dtype_policies
from ..op import Made, Symbol, precision
from ..structure import flatten, map_shapes, map_structure, pack
from ..tensor import DTYPES, Parameter, Tensor, kernels
from .context import auto_name, context, deferred_updates, snake_case, tracing  # noqa: F401
from .tracked import Tracked

layers_by_name = {}                  # every Layer that fastdl defines; saved models name layers by these names only
_set_label = _core.label


class Layer(Tracked):
    """What every layer is. A subclass defines

        __init__(units, …, **kwargs)   stores its arguments; super().__init__(**kwargs) takes name, trainable, dtype …
        build(input_shape)             makes its weights with add_weight; not needed where it has none of its own
        call(inputs)                   computes with fastdl.ops; may also take training and mask
        get_config()                   its arguments, for saving; not needed where they are plain values kept by __new__

    A call takes tensors, arrays (floats become the layer's dtype) or Symbols, which give Symbols.
    """

    supports_masking = False         # whether the mask of the input is handed on to the output
    input_dtype = None               # None: integers stay; "float32": they become the layer's dtype; "int32": floats become integers
    built = False
    input_spec = None

    def __new__(cls, *args, **kwargs):
        layer = super().__new__(cls)
        layer.__dict__.update(_arguments=(args, kwargs), _weights=[], _fixed=set(), _own_losses=[], _losing=[], _made=[], path=None)
        return layer

    def __init__(self, *, activity_regularizer=None, trainable=True, dtype=None, autocast=True, name=None, input_shape=None,
                 batch_input_shape=None, input_dim=None, **unknown):
        if unknown:
            raise TypeError(f"{type(self).__name__}: no argument {', '.join(map(repr, unknown))}")
        self.name = auto_name(snake_case(type(self).__name__)) if name is None else name
        if not isinstance(self.name, str) or not self.name or "/" in self.name:
            raise ValueError(f"{type(self).__name__}: name is {name!r}; a name is a string without a slash")
        try:
            self.dtype_policy = dtype_policies.get(dtype)
        except ValueError as error:
            raise ValueError(f"{type(self).__name__}: dtype is {dtype!r}: {error}") from None
        self.autocast, self._trainable = autocast, bool(trainable)
        if activity_regularizer is not None:
            from .. import regularizers
            activity_regularizer = regularizers.get(activity_regularizer)
        self.activity_regularizer = activity_regularizer
        if input_dim is not None:
            input_shape = (input_dim,)
        if input_shape is not None:
            batch_input_shape = (None, *input_shape)
        self._batch_input_shape = batch_input_shape

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if cls.__module__.split(".")[0] == "fastdl":
            layers_by_name[cls.__name__] = cls
        if "build" in cls.__dict__:
            cls.build = _marks_built(cls.build)
        if "call" in cls.__dict__:
            names = _argument_names(cls.call)
            cls._call_arguments, cls._takes_training, cls._takes_mask = names, "training" in names, "mask" in names

    # -- what a subclass defines --

    _call_arguments, _takes_training, _takes_mask = ("inputs",), False, False

    def build(self, input_shape):
        """Make the weights, for inputs of this shape; None stands for a size that is not known."""
        self.built = True

    def call(self, *args, **kwargs):
        """Compute the output."""
        raise NotImplementedError(f"{type(self).__name__} does not define call")

    def compute_mask(self, inputs, previous_mask):
        """The mask of the output; called where supports_masking is True."""
        return previous_mask

    def get_config(self):
        """The arguments that make this layer again, as plain values."""
        config = {"name": self.name, "trainable": self._trainable, "dtype": self.dtype_policy.name}
        if self.activity_regularizer is not None:
            from .. import regularizers
            config["activity_regularizer"] = regularizers.serialize(self.activity_regularizer)
        return {**config, **self._given_arguments()} if type(self).get_config is Layer.get_config else config

    def _given_arguments(self):
        """The arguments of the constructor by name; a NotImplementedError where one is not a plain value."""
        cls, (args, kwargs) = type(self), self._arguments
        if cls.__init__ is Layer.__init__:
            return {}
        given = inspect.signature(cls.__init__).bind(self, *args, **kwargs)
        found = dict(list(given.arguments.items())[1:])
        for name, parameter in given.signature.parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                found.update(found.pop(name, {}))
        for name, value in found.items():
            if not _plain(value):
                raise NotImplementedError(f"{cls.__name__}: its argument {name} is {type(value).__name__}, so it must define get_config()")
        return found

    @classmethod
    def from_config(cls, config):
        """A new layer, unbuilt, from what get_config returned."""
        return cls(**config)

    # -- calling --

    def __call__(self, *args, **kwargs):
        x = args[0] if args else None
        mask = symbolic = None
        if type(x) is Tensor and len(args) == 1 and self.built and (
                x.array.dtype is self._dtype or self.input_dtype != "float32" and x.array.dtype.kind != "f"):
            mask = x.mask
            if kwargs and (len(kwargs) > 1 or "training" not in kwargs):
                args, kwargs, symbolic = self._convert(args, kwargs)
        else:
            args, kwargs, symbolic = self._convert(args, kwargs)
            x = args[0]
            if type(x) is not list and type(x) is not tuple and type(x) is not dict:
                mask = x.mask
            else:
                mask = map_structure(lambda t: getattr(t, "mask", None), x)
                if all(m is None for m in flatten(mask)):
                    mask = None
        if mask is not None and self._takes_mask and kwargs.get("mask") is None:
            kwargs["mask"] = mask
        return self._run(x, mask, args, kwargs) if not symbolic else self._trace(x, mask, args, kwargs)

    def _run(self, x, mask, args, kwargs):
        """Call `call` inside the context of this layer; everything is converted and built."""
        c = context
        training, label, outermost, bfloat16 = c.training, _set_label(self.path), c.outermost, precision.bfloat16
        precision.bfloat16 = self._bfloat16
        if "training" in kwargs:
            if kwargs["training"] is None:
                kwargs["training"] = training
            c.training = kwargs["training"]
            if not self._takes_training:
                del kwargs["training"]
        elif training is not None and self._takes_training and len(args) == 1:
            kwargs["training"] = training
        if outermost is None:
            c.outermost = self
            if self._losing:
                self._forget_losses()
        try:
            out = self.call(*args, **kwargs)
            if self.activity_regularizer is not None:
                self._regularize(out)
            if self.supports_masking:
                if mask is not None or type(self).compute_mask is not Layer.compute_mask:
                    self._set_mask(x, mask, out)
            elif mask is not None and not c.tracing:
                warnings.warn(f"{self}: the inputs have a mask, which this layer does not support; its output has none", stacklevel=3)
            return out
        except Exception as error:
            self._explain(error, x)
            raise
        finally:
            c.training, c.outermost, precision.bfloat16 = training, outermost, bfloat16
            _set_label(label)

    def _convert(self, args, kwargs):
        """Convert arrays to tensors of the right dtype and build; returns args, kwargs and whether there are Symbols."""
        if not hasattr(self, "_dtype"):
            raise RuntimeError(f"{type(self).__name__}: its __init__ does not call super().__init__()")
        kwargs = dict(kwargs)
        if not args:
            first = next((name for name in self._call_arguments if name in kwargs), None)
            if first is None:
                raise TypeError(f"{self}: called without inputs")
            args = (kwargs.pop(first),)
        symbolic = False

        def convert(value):
            nonlocal symbolic
            if isinstance(value, Symbol):
                symbolic = True
            elif isinstance(value, Tensor):
                return self._cast(value)
            elif isinstance(value, (np.ndarray, np.generic)) or hasattr(value, "__array__"):
                return self._cast(Tensor(self._array(np.asarray(value))))
            return value

        args = tuple(map_structure(convert, a) for a in args)
        kwargs = {name: value if name == "training" else map_structure(convert, value) for name, value in kwargs.items()}
        if not any(isinstance(leaf, (Tensor, Symbol)) for leaf in flatten(args[0])):
            about = type(args[0]).__name__
            raise TypeError(f"{self}: inputs are {about}; a layer wants tensors, arrays or Symbols (np.array(…) makes an array)")
        if symbolic:
            args = tuple(map_structure(lambda v: self._cast(v) if isinstance(v, Symbol) else v, a) for a in args)
        if self.input_spec is not None:
            self.input_spec.check(self, args[0])
        if not self.built:
            self._build(args, kwargs)
        return args, kwargs, symbolic

    def _array(self, array):
        """An array of the caller's as one that ops take; bytes, as pictures have them, become the layer's dtype."""
        kind = array.dtype.kind
        if array.dtype == np.uint8:
            array = array.astype(self._dtype)
        elif kind not in "iufb":
            raise TypeError(f"{self}: inputs have dtype {array.dtype}; a layer wants numbers")
        elif array.dtype not in DTYPES:
            array = array.astype("float32" if kind == "f" else "int32" if array.dtype.itemsize < 4 else "int64")
        wanted = self._wanted(DTYPES[array.dtype])
        return np.require(array, wanted, "C")

    def _wanted(self, dtype):
        """The dtype in which the layer takes inputs of a dtype."""
        if dtype in ("float32", "float64"):
            return "int32" if self.input_dtype == "int32" else self.dtype if self.autocast else dtype
        return self.dtype if self.input_dtype == "float32" and dtype != "bool" else dtype

    def _cast(self, value):
        """A Tensor or Symbol in the dtype in which the layer takes it."""
        wanted = self._wanted(value.dtype)
        if wanted == value.dtype:
            return value
        from .. import ops
        cast = ops.cast(value, wanted)
        cast.mask = value.mask
        return cast

    def _explain(self, error, x):
        """Add to an error which layers it went through."""
        shapes = ", ".join(str(tuple(t.shape)) for t in flatten(x) if hasattr(t, "shape"))
        error.add_note(f"  in {self.path or self.name} ({type(self).__name__}), called on {shapes}")

    def _set_mask(self, x, mask, out):
        leaves = flatten(out)
        if any(getattr(t, "mask", None) is None for t in leaves):
            for t, m in zip(leaves, flatten(self.compute_mask(x, mask))):
                if m is not None and t.mask is None:
                    t.mask = m

    # -- building --

    def _build(self, args, kwargs):
        shape_of = functools.partial(map_structure, lambda t: tuple(t.shape) if hasattr(t, "shape") else None)
        wanted = _argument_names(type(self).build)
        shapes = {"input_shape": shape_of(args[0])}
        if len(wanted) > 1:
            given = {**dict(zip(self._call_arguments, args)), **kwargs}
            named = {f"{name}_shape": shape_of(value) for name, value in given.items()}
            shapes = {name: named[name] for name in wanted if name in named}
        try:
            self.build(*shapes.values()) if len(wanted) < 2 else self.build(**shapes)
        except Exception as error:
            self._explain(error, args[0])
            raise
        self._locate()
        self.built = True

    def _locate(self):
        """Set the path: the name, after the path of the layer whose call or build is under way."""
        if self.path is None:
            outer = _core.get_label()
            self.path = f"{outer}/{self.name}" if outer else self.name

    def add_weight(self, shape=(), initializer=None, dtype=None, trainable=True, regularizer=None, constraint=None, name=None):
        """A new Parameter of the layer, filled by the initializer; without one glorot_uniform, for integers zeros."""
        from .. import initializers
        dtype = np.dtype(dtype or self._dtype)
        if isinstance(shape, int):
            shape = (shape,)
        shape = tuple(int(n) for n in shape)
        if initializer is None:
            initializer = "glorot_uniform" if dtype.kind == "f" else "zeros"
        array = self._new_array(shape, dtype.name, initializers.get(initializer))
        names = {w.name for w in self._weights}
        name = name or "variable"
        if name in names:
            name = next(f"{name}_{i}" for i in range(1, len(names) + 1) if f"{name}_{i}" not in names)
        weight = Parameter(array, name, trainable and self._trainable)
        weight.path = f"{self.path or self.name}/{name}"
        if regularizer is not None:
            from .. import regularizers
            weight.regularizer = regularizers.get(regularizer)
        if constraint is not None:
            from .. import constraints
            weight.constraint = constraints.get(constraint)
        self._weights.append(weight)
        if not trainable:
            self._fixed.add(id(weight))
        return weight

    def _new_array(self, shape, dtype, initializer):
        if context.budget is not None:             # a file is being loaded; what it says must fit in what it holds
            context.budget -= int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
            if context.budget < 0:
                raise ValueError(f"{self.path or self.name}: the file describes larger weights than it holds; one has shape {shape}")
            array = _core.empty(shape, dtype)
            array[...] = 0
            return array
        value = np.asarray(initializer(shape, dtype=dtype))
        if value.shape != shape:
            raise ValueError(f"{self.path or self.name}: the initializer returned shape {value.shape}; the weight has {shape}")
        array = _core.empty(shape, dtype)
        array[...] = value
        return array

    def add_update(self, parameter, tensor):
        """Give a weight the value of a tensor: at the end of the step inside deferred_updates(), else at once."""
        if isinstance(tensor, Symbol):
            return
        if context.updates is not None:
            context.updates.append((parameter, tensor))
        else:
            kernels.copy(parameter.array, tensor.array, size=parameter.array.size)
            _core.weights_changed()

    def latest(self, parameter):
        """What a weight is after the updates of this step so far, as a Tensor without history."""
        waiting = next((t for p, t in reversed(context.updates or ()) if p is parameter), parameter)
        return Tensor(waiting.array)

    # -- losses --

    def add_loss(self, loss):
        """Add a scalar tensor to what training minimises, for the call that is under way."""
        for value in flatten(loss):
            if isinstance(value, Symbol):
                continue
            self._own_losses.append(value)
            (context.outermost or self)._losing.append(self)

    def _forget_losses(self):
        for layer in self._losing:
            layer._own_losses.clear()
        self._losing.clear()

    def _regularize(self, out):
        for t in flatten(out):
            if isinstance(t, Tensor):
                self.add_loss(self.activity_regularizer(t) / max(t.shape[0] if t.shape else 1, 1))

    @property
    def losses(self):
        """Scalar tensors: add_loss and activity regularizers of the last call, and the regularizers of the trainable weights."""
        found = [loss for layer in self._flatten_layers() for loss in layer._own_losses]
        return found + [w.regularizer(w) for w in self.trainable_weights if w.regularizer is not None]

    # -- shapes --

    def compute_output_spec(self, *args, **kwargs):
        """The Symbols that a call on Symbols gives."""
        if type(self).compute_output_shape is not Layer.compute_output_shape:
            shapes = self.compute_output_shape(map_structure(lambda t: t.shape, args[0]))
            return map_shapes(lambda shape: Symbol(shape, self.dtype), shapes)
        return self.call(*args, **kwargs)

    def compute_output_shape(self, input_shape):
        """The shape of the output for inputs of a shape (None: a size not known). Builds the layer."""
        symbols = map_shapes(lambda shape: Symbol(shape, self.dtype), input_shape)
        args, kwargs, _ = self._convert((symbols,), {})
        with tracing(self):
            return map_structure(lambda t: tuple(t.shape), self.call(*args, **kwargs))

    def _trace(self, x, mask, args, kwargs):
        """Call on Symbols: returns fresh Symbols that this layer makes."""
        recorded = {name: value for name, value in kwargs.items() if value is not mask}
        label = _set_label(self.path)
        try:
            with tracing(self):
                spec = self.compute_output_spec(*args, **self._without_training(kwargs))
        except Exception as error:
            self._explain(error, x)
            raise
        finally:
            _set_label(label)
        made = Made(self, args, recorded)
        leaves = flatten(spec)
        symbols = [Symbol(t.shape, t.dtype, made, i) for i, t in enumerate(leaves)]
        for symbol, t in zip(symbols, leaves):
            symbol.mask = getattr(t, "mask", None)
        made.outputs = out = pack(spec, symbols)
        if self.supports_masking:
            self._set_mask(x, mask, out)
        if not context.tracing:
            self._made.append(made)
        return out

    def _without_training(self, kwargs):
        if "training" not in kwargs or self._takes_training:
            return kwargs
        return {name: value for name, value in kwargs.items() if name != "training"}

    @property
    def input(self):
        """The Symbols that the layer was called on, in a functional model."""
        return self._single_call("input").args[0]

    @property
    def output(self):
        """The Symbols that the layer gave, in a functional model."""
        return self._single_call("output").outputs

    def _single_call(self, what):
        if len(self._made) != 1:
            raise AttributeError(f"{self.name}.{what}: the layer was called on Symbols {len(self._made)} times; "
                                 f"{what} is defined for a single time")
        return self._made[0]

    # -- about --

    @property
    def dtype(self):
        """Name of the dtype of weights and of tensors."""
        return DTYPES[self._dtype]

    variable_dtype = dtype
    compute_dtype = property(lambda self: self.dtype_policy.compute_dtype, doc="Name of the dtype of products.")

    @property
    def dtype_policy(self):
        """The DTypePolicy of the layer."""
        return self._dtype_policy

    @dtype_policy.setter
    def dtype_policy(self, policy):
        policy = dtype_policies.get(policy)
        Parameter.moves += self.built                   # programs recorded under another policy are void
        self._dtype_policy, self._dtype, self._bfloat16 = policy, np.dtype(policy.variable_dtype), policy.compute_dtype == "bfloat16"

    def __repr__(self):
        return f"<{type(self).__name__} name={self.__dict__.get('name')}, built={self.built}>"


def _argument_names(function):
    """Names of the arguments of a method, without self."""
    code = getattr(function, "__code__", None)
    if code is None or hasattr(function, "__wrapped__"):
        return tuple(inspect.signature(function).parameters)[1:]
    return code.co_varnames[1:code.co_argcount + code.co_kwonlyargcount]


def _marks_built(build):
    @functools.wraps(build)
    def building(self, *args, **kwargs):
        self._locate()
        label = _set_label(self.path)
        try:
            build(self, *args, **kwargs)
        finally:
            _set_label(label)
        self.built = True
    return building


def _plain(value):
    if isinstance(value, dict):
        return all(isinstance(k, str) and _plain(v) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))
