"""exp, log, tanh, sigmoid, erf, sin, cos: at most 4 units in the last place from the true value, for every float.

The suite takes every 1009th float and the neighbourhoods of the edges; FASTDL_EXHAUSTIVE=1 takes all 2^32, for an hour.
"""

import os

import numpy as np
import pytest

import fastdl
from fastdl import _core
from fastdl.ops.activation import _sigmoid
from fastdl.ops.math import erf_of
from fastdl.tensor import kernels

EXHAUSTIVE = os.environ.get("FASTDL_EXHAUSTIVE") == "1"
FUNCTIONS = {"exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "tanh": np.tanh, "sigmoid": _sigmoid, "erf": erf_of,
             "sin": np.sin, "cos": np.cos}
EDGES = np.float32([0, 1e-45, 1.1754942e-38, 1.1754944e-38, 1e-8, 6e-8, 1e-4, 0.1054179, 0.34657359, 0.5, 2 / 3, 1, 4 / 3, 3.93, 9.01, 17.3287,
                    18, 87.3365, 88.3762, 88.72284, 89, 102.9, 103.97208, 104.5, 1e5, 3.4028235e38, np.pi / 4, np.pi / 2, np.pi, 100 * np.pi,
                    31415.9265, 88828.28, 93523.39])


def samples():
    """Arrays of floats, by their bits."""
    if EXHAUSTIVE:
        for start in range(0, 1 << 32, 1 << 24):
            yield np.arange(start, start + (1 << 24), dtype=np.uint32).view(np.float32)
        return
    near = (EDGES.view(np.int32)[:, None] + np.arange(-300, 301)).reshape(-1)
    near = near[near >= 0].astype(np.uint32)
    both = np.concatenate([near, near | np.uint32(1 << 31), np.uint32([0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000])])
    yield both.view(np.float32)
    yield np.arange(0, 1 << 32, 1009, dtype=np.uint64).astype(np.uint32).view(np.float32)


def computed(name, x):
    y = _core.empty(x.shape)
    getattr(kernels, name)(y, x, size=x.size)
    return y


def true_values(name, x, known={}):
    if EXHAUSTIVE or (name, x.size) not in known:
        with np.errstate(all="ignore"):
            known[name, x.size] = FUNCTIONS[name](x.astype("float64"))
    return known[name, x.size]


def ulps(got, wanted):
    """The error in units in the last place of the wanted number; inf counts as the float after the largest."""
    largest = 2.0 ** 128
    got, wanted = np.clip(got.astype("float64"), -largest, largest), np.clip(wanted, -largest, largest)
    return np.abs(got - wanted) / np.exp2(np.clip(np.frexp(wanted)[1] - 24.0, -149, 104))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_at_most_four_units(name, c_isa):
    for x in samples():
        y, wanted = computed(name, x), true_values(name, x)
        assert (np.isnan(y) == np.isnan(wanted)).all()
        error = np.nan_to_num(ulps(y, wanted), nan=0.0)
        worst = int(error.argmax())
        assert error[worst] <= 4, f"{name}({x[worst]!r}) is {y[worst]!r}, not {wanted[worst]!r}: {error[worst]:.2f} units"
        if name in ("tanh", "sin", "erf"):
            real = ~np.isnan(y)
            assert y[real].tobytes() == (-computed(name, -x))[real].tobytes(), "not odd"
        if name in ("tanh", "erf"):
            assert np.nanmax(np.abs(y)) <= 1
        if name == "sigmoid":
            assert np.nanmin(y, initial=0) >= 0 and np.nanmax(y, initial=1) <= 1


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_same_bits_on_every_set_with_fma(name):
    for x in samples():
        bits = set()
        for isa in {"avx2", "avx512"} & set(fastdl.config.available_isas()):
            with fastdl.isa(isa):
                y = computed(name, x)
                bits.add(np.where(np.isnan(y), np.float32(np.nan), y).tobytes())
        assert len(bits) <= 1


@pytest.mark.parametrize("name, x, wanted", [
    ("exp", [-np.inf, np.inf, -0.0], [0, np.inf, 1]), ("expm1", [-np.inf, np.inf], [-1, np.inf]), ("log1p", [-1, np.inf, -2], [-np.inf, np.inf, np.nan]),
    ("log", [0, -0.0, np.inf, -1, 1], [-np.inf, -np.inf, np.inf, np.nan, 0]), ("tanh", [np.inf, -np.inf], [1, -1]),
    ("sigmoid", [np.inf, -np.inf, 0], [1, 0, 0.5]), ("erf", [np.inf, -np.inf], [1, -1]), ("sin", [np.inf, 0], [np.nan, 0]), ("cos", [-np.inf, 0], [np.nan, 1])])
def test_exact_values(name, x, wanted, c_isa):
    np.testing.assert_array_equal(computed(name, np.float32(x)), np.float32(wanted))


@pytest.mark.parametrize("name", ["expm1", "log1p", "tanh", "erf", "sin"])
def test_zero_keeps_its_sign(name, c_isa):
    assert np.signbit(computed(name, np.float32([-0.0, 0.0]))).tolist() == [True, False]
