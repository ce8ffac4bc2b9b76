"""Activations as layers."""

from .. import activations, constraints, initializers, ops, regularizers
from .layer import Layer

__all__ = ["ELU", "LeakyReLU", "PReLU", "ReLU", "Softmax"]


class ReLU(Layer):
    """max(x, 0), with a slope for x < threshold and a limit."""

    supports_masking = True
    input_dtype = "float32"

    def __init__(self, max_value=None, negative_slope=0.0, threshold=0.0, **kwargs):
        super().__init__(**kwargs)
        for name, value in ("max_value", 0 if max_value is None else max_value), ("negative_slope", negative_slope), ("threshold", threshold):
            if value is None or value < 0:
                raise ValueError(f"ReLU: {name} is {value}; it must be at least 0")
        self.max_value, self.negative_slope, self.threshold = max_value, negative_slope, threshold

    def call(self, inputs):
        """The function."""
        return activations.relu(inputs, negative_slope=self.negative_slope, max_value=self.max_value, threshold=self.threshold)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "max_value": self.max_value, "negative_slope": self.negative_slope, "threshold": self.threshold}


class LeakyReLU(Layer):
    """x where x >= 0, else negative_slope * x."""

    supports_masking = True
    input_dtype = "float32"

    def __init__(self, negative_slope=0.3, **kwargs):
        super().__init__(**kwargs)
        if negative_slope is None or negative_slope < 0:
            raise ValueError(f"LeakyReLU: negative_slope is {negative_slope}; it must be at least 0")
        self.negative_slope = negative_slope

    def call(self, inputs):
        """The function."""
        return activations.leaky_relu(inputs, negative_slope=self.negative_slope)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "negative_slope": self.negative_slope}


class PReLU(Layer):
    """x where x >= 0, else alpha * x with weights alpha of the shape of a sample; equal along shared_axes."""

    supports_masking = True
    input_dtype = "float32"

    def __init__(self, alpha_initializer="Zeros", alpha_regularizer=None, alpha_constraint=None, shared_axes=None, **kwargs):
        super().__init__(**kwargs)
        self.alpha_initializer, self.alpha_regularizer = initializers.get(alpha_initializer), regularizers.get(alpha_regularizer)
        self.alpha_constraint = constraints.get(alpha_constraint)
        self.shared_axes = None if shared_axes is None else [shared_axes] if isinstance(shared_axes, int) else list(shared_axes)

    def build(self, input_shape):
        """Make alpha (...) for inputs (batch, ...)."""
        shape = [1 if i + 1 in (self.shared_axes or ()) else n for i, n in enumerate(input_shape[1:])]
        self.alpha = self.add_weight(shape, self.alpha_initializer, name="alpha", regularizer=self.alpha_regularizer, constraint=self.alpha_constraint)

    def call(self, inputs):
        """The function."""
        return ops.relu(inputs) - self.alpha * ops.relu(-inputs)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "alpha_initializer": initializers.serialize(self.alpha_initializer),
                "alpha_regularizer": regularizers.serialize(self.alpha_regularizer),
                "alpha_constraint": constraints.serialize(self.alpha_constraint), "shared_axes": self.shared_axes}


class ELU(Layer):
    """x where x >= 0, else alpha * (exp(x) - 1)."""

    supports_masking = True
    input_dtype = "float32"

    def __init__(self, alpha=1.0, **kwargs):
        super().__init__(**kwargs)
        self.alpha = alpha

    def call(self, inputs):
        """The function."""
        return activations.elu(inputs, alpha=self.alpha)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "alpha": self.alpha}


class Softmax(Layer):
    """Positive numbers that sum to 1 along an axis, or several in a list; 0 where a mask given to the call is False."""

    supports_masking = True
    input_dtype = "float32"

    def __init__(self, axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.axis = list(axis) if isinstance(axis, (list, tuple)) else axis

    def call(self, inputs, mask=None):
        """softmax(inputs)."""
        if mask is None:
            return activations.softmax(inputs, axis=self.axis)
        out = activations.softmax(ops.where(mask, inputs, -1e9), axis=self.axis)
        return ops.where(mask, out, 0.0)         # where nothing counts, all is 0

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "axis": self.axis}
