"""Pooling layers over images, and the zeros around them."""

from .. import ops
from .convolution import image_format, on_images, one_of, pair
from .layer import Layer

__all__ = ["AveragePooling2D", "AvgPool2D", "GlobalAveragePooling2D", "GlobalAvgPool2D", "GlobalMaxPool2D", "GlobalMaxPooling2D",
           "MaxPool2D", "MaxPooling2D", "ZeroPadding2D"]


class Pooling(Layer):
    """What MaxPooling2D and AveragePooling2D share."""

    input_dtype = "float32"

    def arguments(self, pool_size, strides, padding, data_format):
        """Check and keep the constructor's arguments."""
        about = type(self).__name__
        self.pool_size = pair(about, "pool_size", pool_size)
        self.strides = self.pool_size if strides is None else pair(about, "strides", strides)
        self.padding, self.data_format = one_of(about, "padding", padding, ("valid", "same")), image_format(about, data_format)

    def call(self, inputs):
        """One number for each window and channel."""
        options = dict(pool_size=self.pool_size, strides=self.strides, padding=self.padding)
        return on_images(self, lambda images: self.pool(images, **options), inputs)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "pool_size": self.pool_size, "padding": self.padding, "strides": self.strides,
                "data_format": self.data_format}


class MaxPooling2D(Pooling):
    """The largest value in each window.

    inputs   (batch, height, width, channels), with data_format "channels_first" (batch, channels, height, width)
    returns  the same axes, height and width fewer

    pool_size and strides are an integer for both axes or one for each; strides None: those of the window. padding is "valid" or
    "same".
    """

    pool = staticmethod(ops.max_pool2d)

    def __init__(self, pool_size=(2, 2), strides=None, padding="valid", data_format=None, name=None, **kwargs):
        super().__init__(name=name, **kwargs)
        self.arguments(pool_size, strides, padding, data_format)


class AveragePooling2D(Pooling):
    """The average of each window; with padding "same", of its places inside the images.

    inputs   (batch, height, width, channels), with data_format "channels_first" (batch, channels, height, width)
    returns  the same axes, height and width fewer

    pool_size and strides are an integer for both axes or one for each; strides None: those of the window. padding is "valid" or
    "same".
    """

    pool = staticmethod(ops.average_pool2d)

    def __init__(self, pool_size, strides=None, padding="valid", data_format=None, name=None, **kwargs):
        super().__init__(name=name, **kwargs)
        self.arguments(pool_size, strides, padding, data_format)


class GlobalPooling(Layer):
    """What GlobalMaxPooling2D and GlobalAveragePooling2D share."""

    input_dtype = "float32"

    def __init__(self, data_format=None, keepdims=False, **kwargs):
        super().__init__(**kwargs)
        self.data_format, self.keepdims = image_format(type(self).__name__, data_format), keepdims

    def call(self, inputs):
        """One number for each image and channel."""
        def pool(images):
            y = self.pool(images)
            if self.keepdims:
                return y
            return ops.reshape(y, (-1 if y.shape[0] is None or y.shape[3] else y.shape[0], y.shape[3]))
        return on_images(self, pool, inputs)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "data_format": self.data_format, "keepdims": self.keepdims}


class GlobalMaxPooling2D(GlobalPooling):
    """The largest value of each channel.

    inputs   (batch, height, width, channels), with data_format "channels_first" (batch, channels, height, width)
    returns  (batch, channels), or with keepdims the axes of the inputs, height and width 1
    """

    pool = staticmethod(ops.global_max_pool2d)


class GlobalAveragePooling2D(GlobalPooling):
    """The average of each channel.

    inputs   (batch, height, width, channels), with data_format "channels_first" (batch, channels, height, width)
    returns  (batch, channels), or with keepdims the axes of the inputs, height and width 1
    """

    pool = staticmethod(ops.global_average_pool2d)


class ZeroPadding2D(Layer):
    """Zeros around the images.

    inputs   (batch, height, width, channels), with data_format "channels_first" (batch, channels, height, width)
    returns  the same axes, height and width more

    padding is an integer for all sides, (vertical, horizontal) or ((top, bottom), (left, right)).
    """

    def __init__(self, padding=(1, 1), data_format=None, **kwargs):
        super().__init__(**kwargs)
        sides = (padding, padding) if isinstance(padding, int) else tuple(padding)
        if len(sides) != 2:
            raise ValueError(f"ZeroPadding2D: padding is {padding!r}; wanted is an integer, two, or two pairs of them")
        self.padding = tuple(pair("ZeroPadding2D", "padding", side, least=0) for side in sides)
        self.data_format = image_format("ZeroPadding2D", data_format)

    def call(self, inputs):
        """The inputs with zeros around."""
        return on_images(self, lambda images: ops.pad(images, ((0, 0), *self.padding, (0, 0))), inputs)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "padding": self.padding, "data_format": self.data_format}


MaxPool2D, AvgPool2D, GlobalMaxPool2D, GlobalAvgPool2D = MaxPooling2D, AveragePooling2D, GlobalMaxPooling2D, GlobalAveragePooling2D
