"""fastdl: deep learning for the CPU."""

import os as _os

from . import _core, config, ops, tensor as _tensor  # noqa: F401
from .config import isa
from .errors import DataError, NotFiniteError, RecordingError, ShapeError
from .op import Op
from .record import record
from .tensor import Parameter, Tensor, from_dlpack, from_numpy, no_grad, tensor

__version__ = "0.1.0"


def __getattr__(name):
    if name == "datasets":                    # imported when it is asked for
        import importlib
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _choose():
    known = _core.isas()
    _core.set_isa(_os.environ.get("FASTDL_ISA") or [name for name in known if known[name]][-1])


    if _os.environ.get("FASTDL_CHECK") == "1":
        from .check import start
        start()
    if _os.environ.get("FASTDL_POISON") == "1":
        _core.set_poison(True)


_choose()
