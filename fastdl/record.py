"""Recording: a step that ran once is replayed in C, without Python."""

import threading

import numpy as np

from . import _core
from .config import winograd_enabled
from .errors import RecordingError
from .op import flops_of
from .tensor import DTYPES, Parameter, Tensor, grad_enabled, tensor


_one_at_a_time = threading.RLock()    # programs are recorded one after another, whatever thread records


class Program(_core.Program):
    """Recorded calls. `with program.recorded():` records; run() replays; print(program) lists; profile() times."""

    def recorded(self):
        """Context manager: kernels launched inside are run and recorded."""
        return _Recording(self)

    def __str__(self):
        lines = [f"program of {len(self)} calls, {self.nbytes / 1e6:.2f} MB, {self.isa}"]
        if self.prologue:
            lines[0] += f"; the first {self.prologue}, the prologue, run only when weights have changed"
        for i, (kernel, label, _, sizes) in enumerate(self.about):
            lines.append(f"{i:4d}  {kernel:24} {label:24} " + " ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in sizes.items()))
        return "\n".join(lines)

    __repr__ = lambda self: f"<Program of {len(self)} calls>"

    def profile(self, repeats=20):
        """A Profile: time, GFLOP/s and GB/s of every kernel and layer after the prologue, over `repeats` replays (which do what
        replays do)."""
        seconds = super().profile(repeats)
        return Profile(self, [s / repeats for s in seconds])


class _Recording:
    def __init__(self, program):
        self.program = program

    def __enter__(self):
        _one_at_a_time.acquire()
        try:
            self.program.start()
        except BaseException:
            _one_at_a_time.release()
            raise
        return self.program

    def __exit__(self, *_):
        self.program.stop()
        _one_at_a_time.release()


class Profile:
    """A table: where a program's time goes. rows: (layer, kernel, calls, seconds, GFLOP/s, GB/s), the longest first."""

    def __init__(self, program, seconds):
        found = {}
        for (kernel, label, nbytes, sizes), s in zip(program.about[program.prologue:], seconds):
            row = found.setdefault((label, kernel), [0, 0.0, 0, 0])
            row[0] += 1
            row[1] += s
            row[2] += flops_of[kernel](**sizes) if kernel in flops_of else 0
            row[3] += nbytes
        self.seconds = sum(seconds)
        self.rows = sorted(((label, kernel, n, s, flops / s / 1e9 if s else 0.0, nbytes / s / 1e9 if s else 0.0)
                            for (label, kernel), (n, s, flops, nbytes) in found.items()), key=lambda r: -r[3])

    def __str__(self):
        lines = [f"{'layer':24} {'kernel':24} {'calls':>5} {'us':>10} {'share':>6} {'GFLOP/s':>8} {'GB/s':>7}"]
        for label, kernel, n, s, gflops, gbytes in self.rows:
            share = s / self.seconds if self.seconds else 0
            lines.append(f"{label:24} {kernel:24} {n:5d} {s * 1e6:10.1f} {share:6.1%} {gflops if gflops else '':>8.4} {gbytes:7.1f}"
                         if not gflops else f"{label:24} {kernel:24} {n:5d} {s * 1e6:10.1f} {share:6.1%} {gflops:8.1f} {gbytes:7.1f}")
        lines.append(f"{'total':24} {'':24} {sum(r[2] for r in self.rows):5d} {self.seconds * 1e6:10.1f}")
        return "\n".join(lines)

    __repr__ = __str__


def record(step):
    """A function that runs `step` plainly at the first call, records it at the second and replays it from the third.

    step       takes tensors, arrays and plain values, computes with fastdl, returns tensors (or tuples, lists, dicts of them)
    returns    a function of the same arguments; .programs holds its programs, one for each combination of shapes

    Arrays given at a replay are copied into the recorded inputs, and what is returned is copied out. Plain values (numbers,
    strings, None) are part of the recording: another value is another program, and so is another choice of trainable weights. Python's own side effects happen only in the
    first two calls. A step that reads a value raises RecordingError at its second call.
    """
    return Recorded(step)


class Recorded:
    """See record."""

    most = 16                        # programs kept; the oldest goes first
    last = None                      # (program, inputs, result) of the last replay

    def __init__(self, step, before=None):
        self.step, self.before, self.programs, self.seen = step, before, {}, set()
        self.lock, self.moves = threading.RLock(), Parameter.moves
        self.__name__, self.__doc__ = getattr(step, "__name__", "step"), step.__doc__

    def __call__(self, *args, **kwargs):
        with self.lock:
            return _copy(self.borrow(*args, **kwargs))

    def borrow(self, *args, **kwargs):
        """As a call, but what is returned is the program's own memory, which the next call overwrites. Threads hold .lock."""
        leaves = []
        structure = _flatten((args, kwargs), leaves)
        key = (structure, _core.get_isa(), winograd_enabled(), grad_enabled(), Parameter.flipped)
        if self.moves != Parameter.moves:
            self.programs.clear()
            self.moves = Parameter.moves
        found = self.programs.get(key)
        if found is not None:
            self.last = program, inputs, result = found
            for own, leaf in zip(inputs, leaves):
                np.copyto(own.array, leaf.array if isinstance(leaf, Tensor) else leaf)
            program.run()
            return result
        if key not in self.seen or _core.checking():
            self.seen.add(key)
            args, kwargs = _rebuild(structure, iter([a if isinstance(a, Tensor) else Tensor(a) for a in leaves]))
            return _detached(self.step(*args, **kwargs))
        if self.before is not None:
            self.before()
        program, inputs = Program(), []
        for leaf in leaves:
            array = leaf.array if isinstance(leaf, Tensor) else leaf
            own = _core.empty(array.shape, array.dtype.name)
            own[...] = array
            inputs.append(Tensor(own, isinstance(leaf, Tensor) and leaf.requires_grad))
        args, kwargs = _rebuild(structure, iter(inputs))
        with program.recorded():
            result = self.step(*args, **kwargs)
        result = _detached(result)
        if len(self.programs) >= self.most:
            del self.programs[next(iter(self.programs))]
        self.programs[key] = program, inputs, result
        return result


class _Leaf(tuple):
    """Stands for an array in a structure: its shape and dtype."""


def _flatten(value, leaves):
    if isinstance(value, (Tensor, np.ndarray)):
        if not isinstance(value, Tensor) and value.dtype not in DTYPES:
            value = tensor(value)                  # of a width that tensors have
        leaves.append(value)
        array, learns = (value.array, value.requires_grad) if isinstance(value, Tensor) else (value, False)
        return _Leaf((array.shape, array.dtype, learns))
    if isinstance(value, dict):
        return "dict", tuple((k, _flatten(v, leaves)) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return type(value).__name__, tuple(_flatten(v, leaves) for v in value)
    try:
        hash(value)
    except TypeError:
        raise RecordingError(f"a recorded step takes arrays, tensors and plain values, not {type(value).__name__}") from None
    return "value", value


def _rebuild(structure, arrays):
    if isinstance(structure, _Leaf):
        return next(arrays)
    kind, inner = structure
    if kind == "dict":
        return {k: _rebuild(v, arrays) for k, v in inner}
    if kind == "value":
        return inner
    items = [_rebuild(v, arrays) for v in inner]
    return tuple(items) if kind == "tuple" else items


def _map(function, value):
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {k: _map(function, v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_map(function, v) for v in value)
    return value


def _detached(value):
    return _map(lambda t: Tensor(t.array), value)


def _copied(t):
    out = _core.empty(t.array.shape, t.array.dtype.name)
    out[...] = t.array
    return Tensor(out)


def _copy(value):
    return _map(_copied, value)
