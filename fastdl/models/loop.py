"""Runs a model's step over a source of batches: the first time plainly, then recorded, then replayed in C."""

import warnings

import numpy as np

from .. import _core
from ..data.batches import Arrays, as_kind
from ..errors import DataError, RecordingError
from ..op import labelled
from ..ops import advance, take_batch
from ..record import Program
from ..structure import leaves, rebuild
from ..tensor import Tensor


class Loop:
    """Steps of a model over a source.

    step        function(x, y, sample_weight) of tensors
    dtypes      function(arrays) -> the dtypes ('float32' or 'int32') in which the step wants x's and y's leaves
    recorder    whether to record, and what to put back when that fails
    recorded    the step as a Recorded function, and
    prepare     what to call with a batch before its step, for sources that yield batches
    """

    def __init__(self, step, source, batch_size, dtypes, recorder, recorded, prepare):
        self.step, self.source, self.batch, self.recorder = step, source, batch_size, recorder
        self.dtypes, self.recorded, self.prepare = dtypes, recorded, prepare
        self.programs, self.seen = {}, set()
        if isinstance(source, Arrays):
            self.steps = -(-source.samples // batch_size)
            self.order, self.cursor = _core.empty((source.samples,), "int64"), _core.empty((1,), "int64")
            self.kinds = dtypes(source)
        else:
            self.steps, self.iterator = source.steps, None

    def begin(self, generator=None):
        """Start a pass; with a NumPy generator, in a new order."""
        if isinstance(self.source, Arrays):
            self.order[...] = np.arange(self.source.samples) if generator is None else generator.permutation(self.source.samples)
            self.cursor[0] = 0
        else:
            self.iterator = iter(self.source)

    def advance(self, most, seconds=0.1):
        """Do up to `most` steps, as many as fit into `seconds` (at least one); returns how many. 0: the pass is over."""
        if not isinstance(self.source, Arrays):
            return self._next_batch()
        left = self.source.samples - int(self.cursor[0])
        if left <= 0:
            return 0
        size = min(self.batch, left)
        program = self.programs.get(size)
        try:
            if program is not None:
                return program.run(min(most, left // size), seconds)
            if self.recorder.eager or size not in self.seen:
                self.seen.add(size)
                self._take(size)
            else:
                self.recorder.attempt(lambda: self._record(size), lambda: self._take(size))
        except DataError as error:
            raise self._located(error) from None
        return 1

    def _record(self, size):
        self.recorder.save()
        program = Program()
        with program.recorded():
            self._take(size)
        self.programs[size] = program

    def _take(self, size):
        """One step on the next `size` samples of the order."""
        with labelled("batch"):
            parts = [take_batch(a, self.order, self.cursor, size, dtype) for a, dtype in zip(self.source.leaves, self.kinds)]
        x, y, w = rebuild(list(self.source.parts), iter(parts))
        self.step(x, y, w)
        advance(self.cursor, size)

    def _located(self, error):
        """Name the sample in the data, not only the row in the batch."""
        position = getattr(error, "position", None)
        if position:
            sample = int(self.order[int(self.cursor[0]) + position[0]])
            return DataError(f"{error}\n  row {position[0]} of the batch is sample {sample} of the data; no weight was changed by this step")
        return error

    def _next_batch(self):
        item = next(self.iterator, None)
        if item is None:
            return 0
        self.prepare(item, item.samples)
        x, y, w = rebuild(list(item.parts), iter([as_kind(a, d) for a, d in zip(item.leaves, self.dtypes(item))]))
        run_step(self.recorded, self.step, self.recorder, x, y, w)
        return 1


def run_step(recorded, plain, recorder, *arguments):
    """One step on arrays from outside: by the recorded function, unless this model is not recorded. Tensors are returned."""
    def eagerly():
        return plain(*rebuild(list(arguments), iter([Tensor(a) for a in leaves(list(arguments))])))

    return eagerly() if recorder.eager else recorder.attempt(lambda: recorded.borrow(*arguments), eagerly)


class Recorder:
    """Whether a model's steps are recorded. When a recording fails, the reason is told once and steps run eagerly.

    state   function that lists the arrays a step changes before its weights: totals of metrics, random counters
    """

    def __init__(self, eager, state):
        self.eager, self.state, self.saved = eager or _core.checking(), state, []

    def save(self):
        """Remember the state; called before a recording."""
        self.saved = [(a, a.copy()) for a in self.state()]

    def attempt(self, record, plain):
        """Run `record`; if a step cannot be recorded, put back what it changed and run `plain`."""
        try:
            return record()
        except RecordingError as error:
            self.eager = True
            warnings.warn(f"this model runs step by step in Python, not recorded: {error}", stacklevel=6)
            for a, old in self.saved:
                a[...] = old
            return plain()
