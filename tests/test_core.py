"""Memory, the door, threads, instruction sets."""

import gc
import subprocess
import sys

import numpy as np
import pytest

import fastdl
from fastdl import _core
from fastdl.op import empty, kernels


def test_memory_is_aligned_poisoned_and_used_again():
    a = empty((5, 7))
    assert a.ctypes.data % 64 == 0 and np.isnan(a).all()
    where = a.ctypes.data
    del a
    b = empty((7, 5))
    assert b.ctypes.data == where


def test_a_view_keeps_the_memory():
    a = empty((100,))
    a[...] = 3
    view = a[10:20]
    del a
    gc.collect()
    other = [empty((100,)) for _ in range(10)]
    for o in other:
        o[...] = 7
    assert (view == 3).all()


def test_large_blocks_lie_on_huge_pages_boundaries():
    assert empty((1 << 20,)).ctypes.data % (2 << 20) == 0


@pytest.mark.parametrize("shape", [(-1,), (1 << 40, 1 << 40), (1 << 47,)])
def test_impossible_sizes_are_memory_errors(shape):
    with pytest.raises(MemoryError, match="shape"):
        empty(shape)


def test_trim_gives_memory_back():
    a = empty((1 << 22,))
    held = _core.pool().nbytes
    del a
    assert _core.pool().trim() >= 1 << 24 and _core.pool().nbytes < held


@pytest.mark.parametrize("arguments, sizes, message", [
    ((np.zeros(3, "f"),), dict(size=3), "1 arrays were given, 2 are wanted"),
    ((np.zeros(3, "f"), np.zeros(3, "d")), dict(size=3), "x has dtype float64"),
    ((np.zeros(3, "f"), np.zeros((4, 3), "f").T), dict(size=3), "x is not a C-contiguous array"),
    ((np.zeros(3, "f"), np.zeros(3, "f")), dict(sise=3), "size is missing; given are sise"),
    ((np.zeros(3, "f"), np.zeros(3, "f")), dict(), "sizes"),
    ((np.zeros(3, "f"), None), dict(size=3), "x cannot be None"),
    ((np.broadcast_to(np.float32(0), 3), np.zeros(3, "f")), dict(size=3), "writable"),
])
def test_a_wrong_argument_prints_the_struct(arguments, sizes, message, c_isa):
    with pytest.raises(TypeError, match=message) as e:
        kernels.relu(*arguments, **sizes)
    assert "float *y" in str(e.value) and "const float *x" in str(e.value)


def test_every_kernel_stands_on_every_instruction_set():
    for isa in fastdl.config.available_isas():
        with fastdl.isa(isa):
            assert str(fastdl.isa()) == isa
            y = empty((33,))
            kernels.relu(y, np.linspace(-1, 1, 33, dtype="f"), size=33)
            assert (y == np.maximum(np.linspace(-1, 1, 33, dtype="f"), 0)).all()


def test_a_set_that_is_missing_is_named():
    with pytest.raises(ValueError, match="'sparc' is not available.*numpy"):
        fastdl.isa("sparc")


def test_environment_forces_the_instruction_set():
    code = "import fastdl; print(fastdl.isa())"
    import os
    for name in fastdl.config.available_isas():
        out = subprocess.run([sys.executable, "-c", code], env=dict(os.environ, FASTDL_ISA=name), capture_output=True, text=True)
        assert out.stdout.strip() == name, out.stderr
    out = subprocess.run([sys.executable, "-c", code], env=dict(os.environ, FASTDL_ISA="vax"), capture_output=True, text=True)
    assert "'vax' is not available" in out.stderr


def test_number_of_threads():
    fastdl.config.set_num_threads(3)
    assert fastdl.config.get_num_threads() == 3
    fastdl.config.set_num_threads(0)
    assert fastdl.config.get_num_threads() >= 1
    with pytest.raises(ValueError, match="at least 1"):
        fastdl.config.set_num_threads(-1)
