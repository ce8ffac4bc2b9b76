"""Convolution layers over images."""

from .. import activations, constraints, initializers, ops, regularizers
from ..errors import shape_error
from .core import fused, positive_integer
from .layer import Layer

__all__ = ["Conv2D", "Convolution2D", "DepthwiseConv2D"]

AXES = {"channels_last": "batch, height, width, channels", "channels_first": "batch, channels, height, width"}


def pair(layer, name, value, least=1):
    """A number for both axes or one for each, as a tuple of two integers, each at least `least`."""
    try:
        numbers = (value, value) if isinstance(value, int) else tuple(int(n) if int(n) == n else None for n in value)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != 2 or any(n is None or n < least for n in numbers):
        raise ValueError(f"{layer}: {name} is {value!r}; wanted is an integer or two, each at least {least}")
    return numbers


def one_of(layer, name, value, known):
    """The value in lower case; a ValueError where it is not among the known."""
    if not isinstance(value, str) or value.lower() not in known:
        raise ValueError(f"{layer}: {name} is {value!r}; known are {', '.join(map(repr, known))}")
    return value.lower()


def image_format(layer, data_format):
    """data_format, of which None is "channels_last"."""
    return "channels_last" if data_format is None else one_of(layer, "data_format", data_format, AXES)


def channels_of(layer, input_shape):
    """How many channels images of this shape have."""
    if len(input_shape) != 4:
        raise shape_error(layer.name, f"{type(layer).__name__} wants images with four axes", inputs=(input_shape, AXES[layer.data_format]))
    channels = input_shape[-1 if layer.data_format == "channels_last" else 1]
    if channels is None:
        raise shape_error(layer.name, "the number of channels must be known", inputs=(input_shape, AXES[layer.data_format]))
    return channels


def on_images(layer, function, inputs):
    """function of the inputs with their channels last; its result has them where data_format says."""
    if len(inputs.shape) != 4:
        raise shape_error(layer.name, f"{type(layer).__name__} wants images with four axes", inputs=(inputs.shape, AXES[layer.data_format]))
    if layer.data_format == "channels_last":
        return function(inputs)
    outputs = function(ops.transpose(inputs, (0, 2, 3, 1)))
    return ops.transpose(outputs, (0, 3, 1, 2)) if len(outputs.shape) == 4 else outputs


class Convolution(Layer):
    """What Conv2D and DepthwiseConv2D share."""

    input_dtype = "float32"

    def arguments(self, kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, bias_initializer,
                  bias_regularizer, bias_constraint):
        """Check and keep the constructor's arguments."""
        name = type(self).__name__
        self.kernel_size, self.strides = pair(name, "kernel_size", kernel_size), pair(name, "strides", strides)
        self.dilation_rate = pair(name, "dilation_rate", dilation_rate)
        self.padding, self.data_format = one_of(name, "padding", padding, ("valid", "same")), image_format(name, data_format)
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(f"{name}: strides {self.strides} and dilation_rate {self.dilation_rate} cannot both be more than 1")
        self.activation, self.use_bias, self.bias_initializer = activations.get(activation), use_bias, initializers.get(bias_initializer)
        self.bias_regularizer, self.bias_constraint = regularizers.get(bias_regularizer), constraints.get(bias_constraint)
        self._fused = fused(self.activation)

    def add_weights(self, kernel_shape, filters, initializer, regularizer, constraint):
        """Make kernel and bias."""
        self.kernel = self.add_weight(kernel_shape, initializer, name="kernel", regularizer=regularizer, constraint=constraint)
        self.bias = self.add_weight((filters,), self.bias_initializer, name="bias", regularizer=self.bias_regularizer,
                                    constraint=self.bias_constraint) if self.use_bias else None

    def call(self, inputs):
        """The convolution, with bias and activation."""
        y = on_images(self, self.convolve, inputs)
        return y if self._fused is not None else self.activation(y)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "kernel_size": self.kernel_size, "strides": self.strides, "padding": self.padding,
                "data_format": self.data_format, "dilation_rate": self.dilation_rate, "use_bias": self.use_bias,
                "activation": activations.serialize(self.activation), "bias_initializer": initializers.serialize(self.bias_initializer),
                "bias_regularizer": regularizers.serialize(self.bias_regularizer),
                "activity_regularizer": regularizers.serialize(self.activity_regularizer),
                "bias_constraint": constraints.serialize(self.bias_constraint)}


class Conv2D(Convolution):
    """activation(two-dimensional convolution of the inputs with kernel, plus bias).

    inputs   (batch, height, width, channels), with data_format "channels_first" (batch, channels, height, width)
    kernel   (kernel_height, kernel_width, channels / groups, filters)
    bias     (filters)
    returns  (batch, out_height, out_width, filters), or with the filters after the batch

    kernel_size, strides and dilation_rate are an integer for both axes or one for each; padding is "valid" or "same".
    """

    def __init__(self, filters, kernel_size, strides=(1, 1), padding="valid", data_format=None, dilation_rate=(1, 1), groups=1,
                 activation=None, use_bias=True, kernel_initializer="glorot_uniform", bias_initializer="zeros",
                 kernel_regularizer=None, bias_regularizer=None, activity_regularizer=None, kernel_constraint=None,
                 bias_constraint=None, **kwargs):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.arguments(kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, bias_initializer,
                       bias_regularizer, bias_constraint)
        self.filters, self.groups = positive_integer("Conv2D", "filters", filters), positive_integer("Conv2D", "groups", groups)
        if filters % groups:
            raise ValueError(f"Conv2D: filters {filters} cannot be split into groups {groups}")
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.kernel_regularizer, self.kernel_constraint = regularizers.get(kernel_regularizer), constraints.get(kernel_constraint)

    def build(self, input_shape):
        """Make kernel and bias for images of this shape."""
        channels = channels_of(self, input_shape)
        if channels % self.groups:
            raise shape_error(self.name, f"{channels} channels cannot be split into {self.groups} groups",
                              inputs=(input_shape, AXES[self.data_format]))
        self.add_weights((*self.kernel_size, channels // self.groups, self.filters), self.filters, self.kernel_initializer,
                         self.kernel_regularizer, self.kernel_constraint)

    def convolve(self, images):
        """The convolution of images with channels last."""
        return ops.conv2d(images, self.kernel, self.bias, strides=self.strides, padding=self.padding, dilation=self.dilation_rate,
                          groups=self.groups, activation=self._fused)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "filters": self.filters, "groups": self.groups,
                "kernel_initializer": initializers.serialize(self.kernel_initializer),
                "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
                "kernel_constraint": constraints.serialize(self.kernel_constraint)}


class DepthwiseConv2D(Convolution):
    """activation(convolution of each channel with depth_multiplier kernels of its own, plus bias).

    inputs   (batch, height, width, channels), with data_format "channels_first" (batch, channels, height, width)
    kernel   (kernel_height, kernel_width, channels, depth_multiplier)
    bias     (channels * depth_multiplier)
    returns  (batch, out_height, out_width, channels * depth_multiplier), or with the channels after the batch

    kernel_size, strides and dilation_rate are an integer for both axes or one for each; padding is "valid" or "same".
    """

    def __init__(self, kernel_size, strides=(1, 1), padding="valid", depth_multiplier=1, data_format=None, dilation_rate=(1, 1),
                 activation=None, use_bias=True, depthwise_initializer="glorot_uniform", bias_initializer="zeros",
                 depthwise_regularizer=None, bias_regularizer=None, activity_regularizer=None, depthwise_constraint=None,
                 bias_constraint=None, **kwargs):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.arguments(kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, bias_initializer,
                       bias_regularizer, bias_constraint)
        self.depth_multiplier = positive_integer("DepthwiseConv2D", "depth_multiplier", depth_multiplier)
        self.depthwise_initializer = initializers.get(depthwise_initializer)
        self.depthwise_regularizer = regularizers.get(depthwise_regularizer)
        self.depthwise_constraint = constraints.get(depthwise_constraint)

    def build(self, input_shape):
        """Make kernel and bias for images of this shape."""
        channels = channels_of(self, input_shape)
        self.add_weights((*self.kernel_size, channels, self.depth_multiplier), channels * self.depth_multiplier,
                         self.depthwise_initializer, self.depthwise_regularizer, self.depthwise_constraint)

    def convolve(self, images):
        """The convolution of images with channels last."""
        return ops.depthwise_conv2d(images, self.kernel, self.bias, strides=self.strides, padding=self.padding,
                                    dilation=self.dilation_rate, activation=self._fused)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "depth_multiplier": self.depth_multiplier,
                "depthwise_initializer": initializers.serialize(self.depthwise_initializer),
                "depthwise_regularizer": regularizers.serialize(self.depthwise_regularizer),
                "depthwise_constraint": constraints.serialize(self.depthwise_constraint)}


Convolution2D = Conv2D
