"""Random numbers. Names and arguments are those of keras.random; set_random_seed makes everything after it repeatable."""

import os
import threading

import numpy as np

from . import _core, ops
from .tensor import State, Tensor, kernels

_lock = threading.Lock()
_state = None                        # of the stream of seeds that generators without a seed of their own get
_shared = None                       # the generator of the functions here that are given no seed


def set_random_seed(seed):
    """Seed all that is random in fastdl, and Python's and NumPy's own generators."""
    import random as python_random
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise ValueError(f"set_random_seed: seed must be a whole number, not {seed!r}")
    global _state, _shared
    python_random.seed(seed)
    np.random.seed(seed % 2**32)
    with _lock:
        _state, _shared = int(seed), None


def new_seed():
    """A seed for a generator that was given none: the next of the stream that set_random_seed began (SplitMix64; Steele,
    Lea and Flood, 2014)."""
    global _state
    with _lock:
        if _state is None:
            _state = int.from_bytes(os.urandom(8), "little")
        _state = (_state + 0x9E3779B97F4A7C15) % 2**64
        z = _state
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return (z ^ z >> 31) >> 1


def shuffle_generator():
    """A NumPy generator for the order of samples."""
    return np.random.default_rng(new_seed())


class SeedGenerator:
    """A stream of keys for draws; recorded steps advance it at each replay.

    state   State (2) int64: the seed, and how many keys were given
    """

    def __init__(self, seed=None, name=None):
        if seed is not None and (not isinstance(seed, (int, np.integer)) or isinstance(seed, bool)):
            raise ValueError(f"SeedGenerator: seed must be a whole number or None, not {seed!r}")
        self.name, self.seed = name or "seed_generator", seed
        self.state = State(_core.empty((2,), "int64"), "seed_generator_state", trainable=False)
        self.state.array[...] = new_seed() if seed is None else int(seed), 0

    def next(self):
        """A key: an array (2) int64."""
        key = _core.empty((2,), "int64")
        kernels.next_key(key, self.state.array)
        return key

    def get_config(self):
        """The constructor's arguments."""
        return {"seed": self.seed}

    @classmethod
    def from_config(cls, config):
        """A generator of these arguments."""
        return cls(**config)


def draw_key(seed=None):
    """A key: of a SeedGenerator the next, of a number always the same, of None the next of the shared generator."""
    global _shared
    if seed is None:
        if _shared is None:
            _shared = SeedGenerator()
        seed = _shared
    return seed.next() if isinstance(seed, SeedGenerator) else np.array([seed, 0], "int64")


def _floats(dtype):
    if dtype not in (None, "float32"):
        raise TypeError(f"random numbers are float32, not {dtype}; cast them")


def normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    """Normal numbers: a Tensor of this shape."""
    _floats(dtype)
    return ops.RandomNormal.apply(draw_key(seed), size=tuple(shape), mean=mean, stddev=stddev)


def truncated_normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    """Normal numbers within two standard deviations of the mean: a Tensor of this shape."""
    _floats(dtype)
    return ops.RandomNormal.apply(draw_key(seed), size=tuple(shape), mean=mean, stddev=stddev, most=2.0)


def uniform(shape, minval=0.0, maxval=1.0, dtype=None, seed=None):
    """Numbers uniform in minval to maxval: a Tensor of this shape."""
    _floats(dtype)
    return ops.RandomUniform.apply(draw_key(seed), size=tuple(shape), minval=minval, maxval=maxval)


def randint(shape, minval, maxval, dtype="int32", seed=None):
    """Whole numbers from minval to maxval - 1: an int32 Tensor of this shape."""
    if dtype != "int32":
        raise TypeError(f"randint: numbers are int32, not {dtype}; cast them")
    return ops.RandomIntegers.apply(draw_key(seed), size=tuple(shape), minval=minval, maxval=maxval)


def dropout(inputs, rate, noise_shape=None, seed=None):
    """inputs / (1 - rate) with a share `rate` of them set to 0; noise_shape: axes of size 1 are dropped as one."""
    if rate == 0:
        return inputs
    if noise_shape is None:
        return ops.Dropout.apply(inputs, draw_key(seed), rate=float(rate))
    shape = [n if m is None else m for n, m in zip(inputs.shape, noise_shape)]
    if len(noise_shape) != len(inputs.shape) or any(m not in (1, n) for n, m in zip(inputs.shape, shape)):
        raise ValueError(f"dropout: noise_shape is {tuple(noise_shape)}\n  inputs are {tuple(inputs.shape)}; each axis is its size, 1 or None")
    ones = _core.empty(tuple(shape), "float32")
    kernels.fill(ones, size=ones.size, value=1.0)
    return ops.multiply(inputs, ops.Dropout.apply(Tensor(ones), draw_key(seed), rate=float(rate)))
