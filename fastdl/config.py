"""What can be set: the number of threads, the instruction set, the dtype policy of layers."""

import contextlib

from . import _core
from .dtype_policies import dtype_policy, set_dtype_policy  # noqa: F401


def set_num_threads(n):
    """Use n threads for kernels from now on; 0 or None: what this process may use (its affinity, its cgroup's quota,
    OMP_NUM_THREADS). Results have the same bits for every n."""
    _core.set_threads(int(n or 0))


def get_num_threads():
    """How many threads the next kernel may use."""
    return _core.get_threads()


_winograd = True


def set_winograd(on):
    """Whether convolutions may use Winograd's algorithm, which takes a fraction of the multiplications.

    It is for kernels of 3 x 3 with stride 1 or 2, and of 5 x 5 to 8 x 8 with stride 2 over a few channels, as first layers have.
    Which layers do depends on their shape only. Outputs and gradients differ from the direct sum's by at most 1e-5 of the largest.
    Where operands are rounded to bfloat16 (kernels of 3 x 3, stride 1) the root mean square of the error is 0.4 % of the outputs' in
    predictions and 1 to 1.4 % in training, which multiplies less; that of the direct sum is 0.24 %.
    """
    global _winograd
    _winograd = bool(on)
    _core.settings_changed()


def winograd_enabled():
    """Whether convolutions may use Winograd's algorithm."""
    return _winograd


class isa(contextlib.AbstractContextManager):
    """The instruction set of the kernels: `fastdl.isa()` prints as its name, `with fastdl.isa("avx2"):` chooses one.

    Known are "numpy" (the NumPy twins), "baseline", "avx2", "avx512" and "avx512_bf16"; a ValueError says what this machine has.
    FASTDL_ISA in the environment chooses the one to begin with; without it, it is the best that the processor has.
    """

    def __init__(self, name=None):
        self.name = name or _core.get_isa()
        self.before = _core.get_isa()
        if self.name != self.before:
            _core.set_isa(self.name)

    def __exit__(self, *_):
        _core.set_isa(self.before)

    def __str__(self):
        return self.name

    def __repr__(self):
        return f"isa({self.name!r})"

    def __eq__(self, other):
        return str(self) == str(other)

    def __hash__(self):
        return hash(self.name)


def available_isas():
    """Names of the instruction sets that this machine and this build have, slowest first."""
    return [name for name, ok in _core.isas().items() if ok]
