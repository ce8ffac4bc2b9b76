"""fastdl: deep learning for the CPU."""

import os as _os

from . import _core, config, ops, tensor as _tensor  # noqa: F401
from .config import isa
from .dtype_policies import DTypePolicy
from .errors import DataError, NotFiniteError, RecordingError, ShapeError
from .op import Op
from .record import record
from .tensor import Parameter, Tensor, from_dlpack, from_numpy, no_grad, tensor

__version__ = "0.1.0"


# Imported when they are asked for, so that `import fastdl` takes no longer than it must: name -> module, attribute
_LATER = {name: (name, None) for name in (
    "activations", "autograd", "callbacks", "constraints", "data", "datasets", "initializers", "layers", "losses", "metrics",
    "mixed_precision", "models", "optimizers", "random", "regularizers", "saving")}
_LATER |= {name: ("autograd", name) for name in ("GradientTape", "custom_gradient", "gradcheck")}
_LATER |= {name: ("models", name) for name in ("Input", "Model", "Sequential")}
_LATER |= {"Layer": ("layers.layer", "Layer"), "clear_session": ("layers.context", "clear_session"), "load_model": ("saving", "load_model"),
           "set_random_seed": ("random", "set_random_seed"),
           "deferred_updates": ("layers.layer", "deferred_updates")}


def __getattr__(name):
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib
    module, attribute = _LATER[name]
    found = importlib.import_module(f"{__name__}.{module}")
    found = globals()[name] = getattr(found, attribute) if attribute else found
    return found


def __dir__():
    return sorted([*globals(), *_LATER])


def _choose():
    known = _core.isas()
    _core.set_isa(_os.environ.get("FASTDL_ISA") or [name for name in known if known[name]][-1])


    if _os.environ.get("FASTDL_CHECK") == "1":
        from .check import start
        start()
    if _os.environ.get("FASTDL_POISON") == "1":
        _core.set_poison(True)


_choose()
