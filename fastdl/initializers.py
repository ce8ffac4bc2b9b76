"""Initialisers: the values that weights begin with. Names, arguments, defaults and formulas are those of Keras 3."""

import math

import numpy as np

from . import random
from .registry import Configured, Registry


class Initializer(Configured):
    """Base of all initialisers: a function of (shape, dtype) that returns an array."""

    def __call__(self, shape, dtype="float32"):
        """An array of this shape and dtype."""
        raise NotImplementedError(f"{type(self).__name__}: define __call__(shape, dtype)")


class Zeros(Initializer):
    """Zeros."""

    def __call__(self, shape, dtype="float32"):
        return np.zeros(shape, dtype or "float32")


class Ones(Initializer):
    """Ones."""

    def __call__(self, shape, dtype="float32"):
        return np.ones(shape, dtype or "float32")


class Constant(Initializer):
    """One value everywhere."""

    def __init__(self, value=0.0):
        self.value = value

    def __call__(self, shape, dtype="float32"):
        return np.full(shape, self.value, dtype or "float32")

    def get_config(self):
        return {"value": self.value}


class Identity(Initializer):
    """`gain` times the identity matrix, for shapes of two axes."""

    def __init__(self, gain=1.0):
        self.gain = gain

    def __call__(self, shape, dtype="float32"):
        if len(shape) != 2:
            raise ValueError(f"Identity: a matrix has two axes, the shape is {tuple(shape)}")
        return self.gain * np.eye(*shape, dtype=dtype or "float32")

    def get_config(self):
        return {"gain": self.gain}


class RandomInitializer(Initializer):
    """Base of those that draw. seed: a number or a fastdl.random.SeedGenerator; with a number, or none, each call gives the same."""

    def __init__(self, seed=None):
        self._given = seed
        self.seed = random.new_seed() if seed is None else seed

    def get_config(self):
        return {"seed": self._given if isinstance(self._given, (int, type(None))) else None}


class RandomNormal(RandomInitializer):
    """Normal numbers."""

    def __init__(self, mean=0.0, stddev=0.05, seed=None):
        super().__init__(seed)
        self.mean, self.stddev = mean, stddev

    def __call__(self, shape, dtype="float32"):
        return random.normal(shape, self.mean, self.stddev, seed=self.seed).array.astype(dtype or "float32", copy=False)

    def get_config(self):
        return {"mean": self.mean, "stddev": self.stddev, **super().get_config()}


class TruncatedNormal(RandomNormal):
    """Normal numbers within two standard deviations of the mean."""

    def __call__(self, shape, dtype="float32"):
        return random.truncated_normal(shape, self.mean, self.stddev, seed=self.seed).array.astype(dtype or "float32", copy=False)


class RandomUniform(RandomInitializer):
    """Numbers uniform in minval to maxval."""

    def __init__(self, minval=-0.05, maxval=0.05, seed=None):
        super().__init__(seed)
        self.minval, self.maxval = minval, maxval

    def __call__(self, shape, dtype="float32"):
        return random.uniform(shape, self.minval, self.maxval, seed=self.seed).array.astype(dtype or "float32", copy=False)

    def get_config(self):
        return {"minval": self.minval, "maxval": self.maxval, **super().get_config()}


def fans(shape, input_axes=None, output_axes=None):
    """(inputs, outputs) of a unit of a weight of this shape; for kernels of convolutions (…, input channels, filters)."""
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[a] for a in input_axes), math.prod(shape[a] for a in output_axes)
    if len(shape) < 2:
        return (shape[0],) * 2 if shape else (1, 1)
    field = math.prod(shape[:-2])
    return shape[-2] * field, shape[-1] * field


class VarianceScaling(RandomInitializer):
    """Numbers of variance scale / n, n being the inputs ("fan_in"), the outputs ("fan_out") or their mean ("fan_avg").

    distribution   "truncated_normal", "untruncated_normal" or "uniform"
    """

    def __init__(self, scale=1.0, mode="fan_in", distribution="truncated_normal", seed=None, input_axes=None, output_axes=None):
        distribution = "truncated_normal" if distribution == "normal" else distribution
        if not scale > 0 or mode not in ("fan_in", "fan_out", "fan_avg") or distribution not in ("truncated_normal", "untruncated_normal", "uniform"):
            raise ValueError(f"{type(self).__name__}: scale={scale}, mode={mode!r}, distribution={distribution!r}\n  wanted: scale above 0; fan_in, "
                             "fan_out or fan_avg; truncated_normal, untruncated_normal or uniform")
        super().__init__(seed)
        self.scale, self.mode, self.distribution, self.input_axes, self.output_axes = scale, mode, distribution, input_axes, output_axes

    def __call__(self, shape, dtype="float32"):
        fan_in, fan_out = fans(shape, self.input_axes, self.output_axes)
        variance = self.scale / max(1.0, {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode])
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            found = random.uniform(shape, -limit, limit, seed=self.seed)
        elif self.distribution == "truncated_normal":      # 0.8796: the deviation of a standard normal number cut at 2
            found = random.truncated_normal(shape, 0.0, math.sqrt(variance) / 0.87962566103423978, seed=self.seed)
        else:
            found = random.normal(shape, 0.0, math.sqrt(variance), seed=self.seed)
        return found.array.astype(dtype or "float32", copy=False)

    def get_config(self):
        own = {} if type(self) is not VarianceScaling else {"scale": self.scale, "mode": self.mode, "distribution": self.distribution}
        return {**own, **super().get_config(), "input_axes": self.input_axes, "output_axes": self.output_axes}


def _scaled(name, about, scale, mode, distribution):
    def __init__(self, seed=None, input_axes=None, output_axes=None):
        VarianceScaling.__init__(self, scale, mode, distribution, seed, input_axes, output_axes)
    return type(name, (VarianceScaling,), {"__init__": __init__, "__doc__": about, "__module__": __name__})


GlorotUniform = _scaled("GlorotUniform", "Uniform within sqrt(6 / (inputs + outputs)). (Glorot and Bengio, 2010.)", 1.0, "fan_avg", "uniform")
GlorotNormal = _scaled("GlorotNormal", "Truncated normal of variance 2 / (inputs + outputs).", 1.0, "fan_avg", "truncated_normal")
HeUniform = _scaled("HeUniform", "Uniform within sqrt(6 / inputs). (He et al., 2015.)", 2.0, "fan_in", "uniform")
HeNormal = _scaled("HeNormal", "Truncated normal of variance 2 / inputs.", 2.0, "fan_in", "truncated_normal")
LecunUniform = _scaled("LecunUniform", "Uniform within sqrt(3 / inputs).", 1.0, "fan_in", "uniform")
LecunNormal = _scaled("LecunNormal", "Truncated normal of variance 1 / inputs.", 1.0, "fan_in", "truncated_normal")


class Orthogonal(RandomInitializer):
    """`gain` times a random orthogonal matrix, the axes before the last taken as one. (Saxe et al., 2014.)"""

    def __init__(self, gain=1.0, seed=None):
        super().__init__(seed)
        self.gain = gain

    def __call__(self, shape, dtype="float32"):
        if len(shape) < 2:
            raise ValueError(f"Orthogonal: a matrix has two axes or more, the shape is {tuple(shape)}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        a = random.normal((max(rows, columns), min(rows, columns)), seed=self.seed).array
        q, r = np.linalg.qr(a)
        q = q * np.sign(np.diag(r))
        return (self.gain * (q.T if rows < columns else q)).reshape(shape).astype(dtype or "float32")

    def get_config(self):
        return {"gain": self.gain, **super().get_config()}


_known = Registry("initializer", Initializer,
                  (Zeros, Ones, Constant, Identity, RandomNormal, TruncatedNormal, RandomUniform, VarianceScaling, GlorotUniform, GlorotNormal,
                   HeUniform, HeNormal, LecunUniform, LecunNormal, Orthogonal),
                  {"normal": RandomNormal, "uniform": RandomUniform, "zero": Zeros, "one": Ones},
                  wanted="an Initializer, an array, a function of shape and dtype")
serialize, deserialize = _known.serialize, _known.deserialize


def get(identifier):
    """An initialiser from its name, its class, its serialised form, an array, a function of (shape, dtype), or itself."""
    if isinstance(identifier, np.ndarray):
        return lambda shape, dtype="float32": identifier.astype(dtype)
    return _known.get(identifier)
