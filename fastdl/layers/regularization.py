"""Layers that disturb their inputs in training, or charge for them."""

from .. import ops, random, regularizers
from ..op import Symbol
from .layer import Layer

__all__ = ["ActivityRegularization", "Dropout", "GaussianNoise", "SpatialDropout1D", "SpatialDropout2D"]


class Dropout(Layer):
    """In training, a share `rate` of the inputs is set to 0, and the others are divided by 1 - rate. (Srivastava et al., 2014.)

    noise_shape   shape of the choice; an axis of 1 is dropped as one, None stands for the size of the inputs
    seed          a number; without it set_random_seed decides
    """

    supports_masking = True
    input_dtype = "float32"

    def __init__(self, rate, noise_shape=None, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate <= 1:
            raise ValueError(f"{type(self).__name__}: rate is {rate}; it must lie between 0 and 1")
        if noise_shape is not None and not all(n is None or isinstance(n, int) and n > 0 for n in noise_shape):
            raise ValueError(f"{type(self).__name__}: noise_shape is {noise_shape}; it holds whole numbers above 0, or None")
        self.rate, self.noise_shape, self.seed = rate, None if noise_shape is None else tuple(noise_shape), seed
        self.seed_generator = random.SeedGenerator(seed) if rate else None

    def call(self, inputs, training=None):
        """Drop, in training."""
        if not training or not self.rate or isinstance(inputs, Symbol):
            return inputs
        return random.dropout(inputs, self.rate, self._noise_shape(inputs), self.seed_generator)

    def _noise_shape(self, inputs):
        return self.noise_shape

    def get_config(self):
        """The constructor's arguments."""
        noise_shape = None if self.noise_shape is None else list(self.noise_shape)
        return {**super().get_config(), "rate": self.rate, "noise_shape": noise_shape, "seed": self.seed}


class _SpatialDropout(Dropout):
    """Dropout of whole channels."""

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(rate, seed=seed, **kwargs)

    def _noise_shape(self, inputs):
        return (inputs.shape[0], *(1,) * (len(inputs.shape) - 2), inputs.shape[-1])

    def get_config(self):
        """The constructor's arguments."""
        return {**Layer.get_config(self), "rate": self.rate, "seed": self.seed}


class SpatialDropout1D(_SpatialDropout):
    """Dropout of whole channels of (batch, time, channels). (Tompson et al., 2015.)"""

    def __init__(self, rate, seed=None, name=None, dtype=None, **kwargs):
        super().__init__(rate, seed, name=name, dtype=dtype, **kwargs)


class SpatialDropout2D(_SpatialDropout):
    """Dropout of whole channels of (batch, height, width, channels). (Tompson et al., 2015.)"""

    def __init__(self, rate, data_format=None, seed=None, name=None, dtype=None, **kwargs):
        if data_format not in (None, "channels_last"):
            raise ValueError(f"SpatialDropout2D: data_format is {data_format!r}; the channels are the last axis")
        super().__init__(rate, seed, name=name, dtype=dtype, **kwargs)


class GaussianNoise(Layer):
    """In training, normal numbers of standard deviation stddev are added."""

    supports_masking = True
    input_dtype = "float32"

    def __init__(self, stddev, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not stddev >= 0:
            raise ValueError(f"GaussianNoise: stddev is {stddev}; it must be at least 0")
        self.stddev, self.seed = stddev, seed
        self.seed_generator = random.SeedGenerator(seed) if stddev else None

    def call(self, inputs, training=None):
        """Add noise, in training."""
        if not training or not self.stddev or isinstance(inputs, Symbol):
            return inputs
        return ops.AddNormal.apply(inputs, self.seed_generator.next(), stddev=float(self.stddev))

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "stddev": self.stddev, "seed": self.seed}


class ActivityRegularization(Layer):
    """The inputs, for which l1 times the sum of |x| and l2 times the sum of x^2, by batch size, are added to the loss."""

    supports_masking = True
    input_dtype = "float32"

    def __init__(self, l1=0.0, l2=0.0, **kwargs):
        super().__init__(activity_regularizer=regularizers.L1L2(l1, l2), **kwargs)
        self.l1, self.l2 = l1, l2

    def call(self, inputs):
        """The inputs."""
        return inputs

    def get_config(self):
        """The constructor's arguments."""
        config = {**super().get_config(), "l1": self.l1, "l2": self.l2}
        del config["activity_regularizer"]
        return config
