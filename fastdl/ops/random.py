"""Random numbers: Philox 4x32-10 (Salmon et al., 2011), a function of a key and of each number's index.

A key is (2) int64: seed, and how many draws came before. See csrc/kernels/random.c for which number is which.
"""

import math

import numpy as np

from ..errors import shape_error
from ..op import Op, case, kernels, twin

__all__ = ["AddNormal", "Dropout", "RandomIntegers", "RandomNormal", "RandomUniform"]


def philox(key, groups, attempt=0):
    """The random bits (groups * 64) uint32 of a draw, in the order of the numbers that they become."""
    seed, draw = (int(k) & 0xFFFFFFFFFFFFFFFF for k in key.reshape(-1))
    block = np.arange(groups * 16, dtype="uint64")
    low = np.uint64(0xFFFFFFFF)
    c = [block & low, block >> np.uint64(32), np.full_like(block, draw & 0xFFFFFFFF),
         np.full_like(block, ((draw >> 32) << 16 | attempt) & 0xFFFFFFFF)]
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), p1 & low, (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), p0 & low]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([w.reshape(groups, 16) for w in c], axis=1).reshape(-1).astype("uint32")


def _normal(key, groups, attempt, dtype):
    words = philox(key, groups, attempt).reshape(groups, 2, 2, 16)
    radius = np.sqrt(-2 * np.log((words[:, :, 0] + 1.0) * 2.0**-32))
    angle = (words[:, :, 1] >> 8) * (2 * math.pi * 2.0**-24)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2).reshape(-1).astype(dtype)


@twin
def next_key(key, state):
    key[...] = state
    state[1] += 1


@twin
def random_uniform(y, key, *, size, low, high):
    u = (philox(key, -(-size // 64))[:size] >> 8) * 2.0**-24
    y.reshape(-1)[...] = u * (high - low) + low


@twin
def random_integers(y, key, *, size, low, range):
    bits = philox(key, -(-size // 64))[:size].astype("uint64")
    y.reshape(-1)[...] = low + (bits * np.uint64(range) >> np.uint64(32)).astype("int64")


@twin
def random_normal(y, x, key, *, size, mean, deviation, most):
    groups = -(-size // 64)
    n = _normal(key, groups, 0, y.dtype)
    attempt = 1
    while (np.abs(n) > most).any():
        n = np.where(np.abs(n) > most, _normal(key, groups, attempt, y.dtype), n)
        attempt += 1
    found = n[:size] * deviation + mean
    y.reshape(-1)[...] = found if x is None else x.reshape(-1) + found


@twin
def dropout(y, x, key, *, size, threshold, scale):
    kept = philox(key, -(-size // 64))[:size] >= threshold
    y.reshape(-1)[...] = np.where(kept, x.reshape(-1) * scale, 0)


def key(seed, draw=0):
    """For cases: a key."""
    return np.array([seed, draw], "int64")


class Dropout(Op):
    """x / (1 - rate) with a share `rate` of the numbers set to 0. Backward draws the same numbers again: nothing is kept.

    x        any shape
    key      (2) int64, see fastdl.random.SeedGenerator
    returns  the shape of x
    """
    rate: float = 0.5
    overwrites = 0

    def shape(self, x, key):
        if not 0 <= self.rate <= 1:
            raise shape_error(self.name, f"rate must lie between 0 and 1, not {self.rate}", x=x.shape)
        return x.shape

    def forward(self, y, x, key):
        self.key = key
        self.drop(y, x)

    def drop(self, y, x):
        """Launch the kernel: y from x, or the gradients."""
        scale = 1 / (1 - self.rate) if self.rate < 1 else 0.0
        kernels.dropout(y, x, self.key, size=x.size, threshold=min(round(self.rate * 2**32), 2**32 - 1), scale=scale)

    def backward(self, d_y, d_x, _):
        self.drop(d_x, d_y)

    cases = [case(x=(1,), key=key(1)), case(x=(3, 37), key=key(2, 5), rate=0.3), case(x=(5, 13), key=key(-3, 1 << 40), rate=0.0),
             case(x=(64,), key=key(9), rate=1.0), case(x=(0, 3), key=key(9))]
    bench = [case(x=(256, 4096), key=key(1))]


class AddNormal(Op):
    """x plus normal numbers of a standard deviation.

    x        any shape
    key      (2) int64
    returns  the shape of x
    """
    stddev: float = 1.0

    def shape(self, x, key):
        return x.shape

    def forward(self, y, x, key):
        self.same = (0,)
        kernels.random_normal(y, x, key, size=x.size, mean=0.0, deviation=float(self.stddev), most=math.inf)

    def backward(self, d_y, d_x, _):
        """The gradient of x is d_y itself."""

    cases = [case(x=(1,), key=key(1)), case(x=(3, 37), key=key(2, 5), stddev=0.3)]
    bench = [case(x=(1 << 20,), key=key(1))]


class RandomUniform(Op):
    """Numbers uniform in minval to maxval.

    key      (2) int64
    returns  size
    """
    size: tuple = ()
    minval: float = 0.0
    maxval: float = 1.0
    differentiable = False

    def shape(self, key):
        return tuple(self.size)

    def forward(self, y, key):
        kernels.random_uniform(y, key, size=y.size, low=float(self.minval), high=float(self.maxval))

    cases = [case(key=key(1), size=(1,)), case(key=key(1 << 62, 3), size=(3, 43), minval=-2.0, maxval=0.5), case(key=key(5), size=(0,))]
    bench = [case(key=key(1), size=(1 << 20,))]


class RandomNormal(Op):
    """Normal numbers; with `most`, those further than so many standard deviations from the mean are drawn again.

    key      (2) int64
    returns  size
    """
    size: tuple = ()
    mean: float = 0.0
    stddev: float = 1.0
    most: float = math.inf
    differentiable = False

    def shape(self, key):
        return tuple(self.size)

    def forward(self, y, key):
        kernels.random_normal(y, None, key, size=y.size, mean=float(self.mean), deviation=float(self.stddev), most=float(self.most))

    cases = [case(key=key(1), size=(1,)), case(key=key(77, 3), size=(3, 43), mean=-2.0, stddev=0.5), case(key=key(3), size=(700,), most=2.0)]
    bench = [case(key=key(1), size=(1 << 20,))]


class RandomIntegers(Op):
    """Whole numbers from minval to maxval - 1, each as likely.

    key      (2) int64
    returns  size int32
    """
    size: tuple = ()
    minval: int = 0
    maxval: int = 2
    result = "int32"
    differentiable = False

    def shape(self, key):
        if not -2**31 <= self.minval < self.maxval <= 2**31:
            raise ValueError(f"{self.name}: minval must be below maxval, both int32; they are {self.minval} and {self.maxval}")
        return tuple(self.size)

    def forward(self, y, key):
        kernels.random_integers(y, key, size=y.size, low=int(self.minval), range=int(self.maxval) - int(self.minval))

    cases = [case(key=key(1), size=(1,)), case(key=key(8, 3), size=(3, 43), minval=-7, maxval=12)]
    bench = [case(key=key(1), size=(1 << 20,), maxval=10)]
