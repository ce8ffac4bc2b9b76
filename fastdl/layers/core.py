"""Dense, and the layers that reshape, mask or pass on."""

import math

import numpy as np

from .. import activations, constraints, initializers, ops, regularizers
from ..errors import shape_error
from ..op import ACTIVATIONS, Made, Symbol
from .layer import Layer

__all__ = ["Activation", "Dense", "Flatten", "Identity", "Input", "InputLayer", "Lambda", "Masking", "Permute", "RepeatVector", "Reshape"]


def fused(activation):
    """The name under which ops compute an activation at their end; None where they do not, and a call must follow."""
    return next((name for name in ACTIVATIONS if name and activation == getattr(activations, name)), None)


def ending(activation):
    """As fused, of those that only linear computes."""
    return next((name for name in ("gelu", "silu") if activation == getattr(activations, name)), None)


class Dense(Layer):
    """activation(inputs @ kernel + bias).

    inputs   (..., features)
    kernel   (features, units)
    bias     (units)
    returns  (..., units)
    """

    input_dtype = "float32"
    supports_masking = True

    def __init__(self, units, activation=None, use_bias=True, kernel_initializer="glorot_uniform", bias_initializer="zeros",
                 kernel_regularizer=None, bias_regularizer=None, activity_regularizer=None, kernel_constraint=None,
                 bias_constraint=None, **kwargs):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.units = positive_integer("Dense", "units", units)
        self.activation, self.use_bias = activations.get(activation), use_bias
        self.kernel_initializer, self.bias_initializer = initializers.get(kernel_initializer), initializers.get(bias_initializer)
        self.kernel_regularizer, self.bias_regularizer = regularizers.get(kernel_regularizer), regularizers.get(bias_regularizer)
        self.kernel_constraint, self.bias_constraint = constraints.get(kernel_constraint), constraints.get(bias_constraint)
        self._fused = fused(self.activation) if self.activation is not activations.sigmoid else None     # sigmoid keeps its logits for the loss
        self._ending = ending(self.activation)

    def build(self, input_shape):
        """Make kernel and bias for inputs (..., features)."""
        if len(input_shape) < 2 or input_shape[-1] is None:
            raise shape_error(self.name, "Dense wants at least two axes, the last of known size", inputs=(input_shape, "batch, ..., features"))
        self.kernel = self.add_weight((input_shape[-1], self.units), self.kernel_initializer, name="kernel",
                                      regularizer=self.kernel_regularizer, constraint=self.kernel_constraint)
        self.bias = self.add_weight((self.units,), self.bias_initializer, name="bias", regularizer=self.bias_regularizer,
                                    constraint=self.bias_constraint) if self.use_bias else None

    def call(self, inputs, residual=None):
        """The product, with bias, a residual of its shape, and activation."""
        y = ops.linear(inputs, self.kernel, self.bias, activation=self._fused or self._ending, residual=residual)
        return y if self._fused or self._ending else self.activation(y)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "units": self.units, "activation": activations.serialize(self.activation), "use_bias": self.use_bias,
                "kernel_initializer": initializers.serialize(self.kernel_initializer),
                "bias_initializer": initializers.serialize(self.bias_initializer),
                "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
                "bias_regularizer": regularizers.serialize(self.bias_regularizer),
                "activity_regularizer": regularizers.serialize(self.activity_regularizer),
                "kernel_constraint": constraints.serialize(self.kernel_constraint),
                "bias_constraint": constraints.serialize(self.bias_constraint)}


class Activation(Layer):
    """An activation by name or function, element by element."""

    supports_masking = True

    def __init__(self, activation, **kwargs):
        super().__init__(**kwargs)
        self.activation = activations.get(activation)

    def call(self, inputs):
        """activation(inputs)."""
        return self.activation(inputs)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "activation": activations.serialize(self.activation)}


class Flatten(Layer):
    """One row of features for each sample.

    inputs   (batch, ...)
    returns  (batch, product of the other sizes)

    data_format "channels_first" moves the channels to the end before.
    """

    def __init__(self, data_format=None, **kwargs):
        super().__init__(**kwargs)
        if data_format not in (None, "channels_last", "channels_first"):
            raise ValueError(f"Flatten: data_format is {data_format!r}; known are 'channels_last' and 'channels_first'")
        self.data_format = data_format or "channels_last"

    def call(self, inputs):
        """Reshape to (batch, features)."""
        if inputs.ndim < 1:
            raise shape_error("Flatten", "wants a batch axis", inputs=inputs.shape)
        if self.data_format == "channels_first" and inputs.ndim > 2:
            inputs = ops.transpose(inputs, (0, *range(2, inputs.ndim), 1))
        if None in inputs.shape[1:]:
            if inputs.shape[0] is None:
                return Symbol((None, None), inputs.dtype)
            return ops.reshape(inputs, (inputs.shape[0], -1))
        features = math.prod(inputs.shape[1:])
        if inputs.shape[0] is None and not features:
            return Symbol((None, 0), inputs.dtype)
        return ops.reshape(inputs, (-1, features) if features else (inputs.shape[0], features))

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "data_format": self.data_format}


class Reshape(Layer):
    """Other axes for the same numbers; target_shape is without the batch axis, and -1 in it stands for what is left."""

    def __init__(self, target_shape, **kwargs):
        super().__init__(**kwargs)
        self.target_shape = tuple(int(n) for n in target_shape)
        if self.target_shape.count(-1) > 1 or any(n < -1 for n in self.target_shape):
            raise ValueError(f"Reshape: target_shape is {self.target_shape}; one size at most may be -1, the others are at least 0")

    def call(self, inputs):
        """Reshape to (batch, *target_shape)."""
        target = self.target_shape
        if -1 in target and None not in inputs.shape[1:]:
            size, known = math.prod(inputs.shape[1:]), -math.prod(target)
            if known == 0 or size % known:
                raise shape_error("Reshape", f"{size} numbers a sample do not fit target_shape {target}", inputs=inputs.shape)
            target = tuple(size // known if n == -1 else n for n in target)
        elif -1 not in target and None not in inputs.shape[1:] and math.prod(target) != math.prod(inputs.shape[1:]):
            raise shape_error("Reshape", f"{math.prod(inputs.shape[1:])} numbers a sample do not fit target_shape {target}", inputs=inputs.shape)
        batch = inputs.shape[0]
        if batch is None and -1 in target:
            return Symbol((None, *(None if n == -1 else n for n in target)), inputs.dtype)
        return ops.reshape(inputs, (-1 if batch is None else batch, *target))

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "target_shape": self.target_shape}


class Permute(Layer):
    """Other order of the axes; dims counts from 1, without the batch axis."""

    def __init__(self, dims, **kwargs):
        super().__init__(**kwargs)
        self.dims = tuple(int(n) for n in dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(f"Permute: dims is {dims}; it must hold the numbers 1 to {len(self.dims)}, each once")

    def call(self, inputs):
        """Transpose."""
        if inputs.ndim != len(self.dims) + 1:
            raise shape_error("Permute", f"dims {self.dims} are for inputs of {len(self.dims) + 1} axes", inputs=inputs.shape)
        return ops.transpose(inputs, (0, *self.dims))

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "dims": self.dims}


class RepeatVector(Layer):
    """The same features n times over.

    inputs   (batch, features)
    returns  (batch, n, features)
    """

    def __init__(self, n, **kwargs):
        super().__init__(**kwargs)
        self.n = positive_integer("RepeatVector", "n", n)

    def call(self, inputs):
        """Repeat along a new axis 1."""
        if inputs.ndim != 2:
            raise shape_error("RepeatVector", "wants two axes", inputs=(inputs.shape, "batch, features"))
        return ops.expand_dims(inputs, 1) * np.ones((1, self.n, 1), inputs.dtype)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "n": self.n}


class Identity(Layer):
    """The inputs themselves."""

    supports_masking = True

    def call(self, inputs):
        """inputs."""
        return inputs


class Masking(Layer):
    """Leaves time steps out whose features all equal mask_value: they become 0, and the output has a mask.

    inputs   (batch, time, ..., features)
    returns  the same shape
    """

    supports_masking = True

    def __init__(self, mask_value=0.0, **kwargs):
        super().__init__(**kwargs)
        self.mask_value = mask_value

    def call(self, inputs):
        """The inputs with steps left out set to 0, and the mask (batch, time)."""
        counts = ops.any(ops.not_equal(inputs, self.mask_value), axis=-1, keepdims=True)
        out = inputs * ops.cast(counts, inputs.dtype)
        out.mask = ops.squeeze(counts, axis=-1)
        return out

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "mask_value": self.mask_value}


class Lambda(Layer):
    """A function as a layer. It cannot be saved: write a Layer subclass for that."""

    def __init__(self, function, output_shape=None, mask=None, arguments=None, **kwargs):
        super().__init__(**kwargs)
        self.function, self.arguments, self._mask = function, dict(arguments or {}), mask
        self.supports_masking = mask is not None

    def call(self, inputs):
        """function(inputs, **arguments)."""
        return self.function(inputs, **self.arguments)

    def compute_mask(self, inputs, previous_mask):
        """mask(inputs, previous_mask), or mask itself."""
        return self._mask(inputs, previous_mask) if callable(self._mask) else self._mask

    @classmethod
    def from_config(cls, config):
        """Not possible."""
        raise ValueError("a Lambda holds Python code, which fastdl neither saves nor loads; write a Layer subclass")

    def get_config(self):
        """Not possible."""
        raise NotImplementedError(f"{self.name}: a Lambda holds Python code, which fastdl neither saves nor loads; write a Layer subclass")


class InputLayer(Layer):
    """Where a functional model begins; Input() makes one."""

    def __init__(self, shape=None, batch_size=None, dtype=None, batch_shape=None, name=None, **kwargs):
        if batch_shape is None:
            if shape is None:
                raise ValueError("Input: shape is missing: the sizes of a sample, without the batch axis; () for a number")
            batch_shape = (batch_size, *((shape,) if isinstance(shape, int) else shape))
        elif shape is not None or batch_size is not None:
            raise ValueError("Input: batch_shape stands for shape and batch_size; give it alone")
        super().__init__(name=name, **kwargs)
        for n in batch_shape:
            if not (n is None or hasattr(n, "__index__") and n >= 0):
                raise ValueError(f"Input: shape is {tuple(batch_shape)[1:]}; sizes are whole numbers, or None where not known")
        self.batch_shape = tuple(None if n is None else int(n) for n in batch_shape)
        self.of_dtype = str(dtype or "float32")
        made = Made(self, (), {})
        made.outputs = Symbol(self.batch_shape, self.of_dtype, made, 0, self.name)
        self._made.append(made)
        self.built, self.path = True, self.name

    @property
    def dtype(self):
        """The dtype of the input."""
        return self.of_dtype

    def call(self):
        """Never called: the model's input takes its place."""
        raise RuntimeError(f"{self.name}: an InputLayer has no call; call the model on data")

    def get_config(self):
        """The constructor's arguments."""
        return {"batch_shape": self.batch_shape, "dtype": self.of_dtype, "name": self.name}


def Input(shape=None, batch_size=None, dtype=None, batch_shape=None, name=None):
    """A Symbol for a model's input: shape without the batch axis, None for sizes that are not known before."""
    return InputLayer(shape=shape, batch_size=batch_size, dtype=dtype, name=name, batch_shape=batch_shape).output


def positive_integer(layer, argument, value):
    """The value as an int; a ValueError naming layer and argument if it is none, or below 1."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise ValueError(f"{layer}: {argument} is {value!r}; it must be a whole number, at least 1")
    return int(value)
