"""Poisoned memory, and the instruction set and threads as they were after each test."""

import os
import pathlib

import numpy as np
import pytest

import fastdl
from fastdl import _core

_core.set_poison(True)
os.environ["PYTHONSAFEPATH"] = "1"          # Pythons that tests start see the package as installed, not the current folder,
ROOT = pathlib.Path(__file__).parents[1]
if pathlib.Path(fastdl.__file__).parents[1] == ROOT:       # unless it is built among the sources
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]).rstrip(os.pathsep)


@pytest.fixture(autouse=True)
def as_it_was():
    isa = _core.get_isa()
    yield
    _core.set_isa(isa)
    _core.set_threads(0)
    _core.set_grain()
    _core.set_guard(None)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(params=[i for i in fastdl.config.available_isas() if i != "numpy"])
def c_isa(request):
    """Each instruction set in C that this machine has."""
    with fastdl.isa(request.param):
        yield request.param
