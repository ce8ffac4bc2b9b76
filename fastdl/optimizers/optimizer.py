"""Optimizer: what every optimiser shares: the learning rate, the step count, slots, clipping, runs of neighbours."""

import math
import warnings

import numpy as np

from .. import _core
from ..errors import RecordingError
from ..registry import Configured
from ..tensor import Parameter, State, Tensor, kernels
from .schedules import LearningRateSchedule

NORM_PIECE, ROW_MOST = 8192, 16384   # as in csrc/kernels/optimizer.c


class Optimizer(Configured):
    """Base of all optimisers. A subclass names its slots and launches its kernel:

        slots()                                       names of what it keeps beside each parameter
        update_run(parameter, slots, gradient, **k)   updates one run of numbers; k: learning_rate, iterations, scale, size,
                                                      weight_decay, clip, as its kernel has them
        update_rows(parameter, slots, gradient, **k)  updates a table, if there is such a method; gradient: as _core.rows_of gives it

    learning_rate    a number, a LearningRateSchedule, or a function without arguments
    weight_decay     parameters shrink by this times the learning rate before each update
    clipnorm         largest norm of the gradient of one parameter
    clipvalue        largest absolute value in a gradient
    global_clipnorm  largest norm of all gradients together
    use_ema          keep a moving average of the parameters, of ema_momentum; at every ema_overwrite_frequency-th update (None:
                     in finalize_variable_values, after training) the parameters become it
    """

    def __init__(self, learning_rate, weight_decay=None, clipnorm=None, clipvalue=None, global_clipnorm=None, use_ema=False,
                 ema_momentum=0.99, ema_overwrite_frequency=None, name=None):
        if use_ema and not 0 <= ema_momentum <= 1 or ema_overwrite_frequency is not None and not ema_overwrite_frequency >= 1:
            raise ValueError(f"{type(self).__name__}: ema_momentum={ema_momentum} must lie between 0 and 1, "
                             f"ema_overwrite_frequency={ema_overwrite_frequency} must be None or at least 1")
        self.use_ema, self.ema_momentum, self.ema_overwrite_frequency = use_ema, ema_momentum, ema_overwrite_frequency
        if sum(c is not None for c in (clipnorm, clipvalue, global_clipnorm)) > 1:
            raise ValueError(f"{type(self).__name__}: only one of clipnorm, clipvalue and global_clipnorm can be given\n"
                             f"  given: clipnorm={clipnorm}, clipvalue={clipvalue}, global_clipnorm={global_clipnorm}")
        wrong = next((c for c in (clipnorm, clipvalue, global_clipnorm) if c is not None and not c >= 0), None)
        if wrong is not None:
            raise ValueError(f"{type(self).__name__}: clipnorm, clipvalue and global_clipnorm must be at least 0 (0: no clipping), not {wrong}")
        self.name = name or _snake(type(self).__name__)
        self.weight_decay, self.clipnorm, self.clipvalue, self.global_clipnorm = weight_decay, clipnorm, clipvalue, global_clipnorm
        self.iterations = State(_core.empty((), "int64"), "iteration", trainable=False)
        self.iterations.array[...] = 0
        self._rate = State(_core.empty((), "float64"), "learning_rate", trainable=False)
        self.schedule = None
        self._set_rate(learning_rate)
        self.built, self._slots, self._indices, self._undecayed, self._runs = False, [], {}, set(), None

    # -- learning rate --

    def _set_rate(self, rate):
        if isinstance(rate, dict):
            from .schedules import deserialize
            rate = deserialize(rate)
        if isinstance(rate, LearningRateSchedule) or callable(rate) and not isinstance(rate, Tensor):
            self.schedule = rate
            self._rate.array[...] = math.nan
        else:
            try:
                self._rate.array[...] = float(rate)
            except (TypeError, ValueError):
                raise ValueError(f"{self.name}: learning_rate is {rate!r}; wanted is a number, a schedule, or a function without arguments") from None

    @property
    def learning_rate(self):
        """The learning rate of the next update: a Tensor (); can be set to a number at any time, recorded steps heed it."""
        if self.schedule is not None:
            self._refresh()
        return self._rate

    @learning_rate.setter
    def learning_rate(self, rate):
        if self.schedule is not None and not callable(rate):
            raise TypeError(f"{self.name}: its learning rate follows {self.schedule!r} and cannot be set to a number")
        self._set_rate(rate)

    def _refresh(self):
        """Compute the learning rate from the step count."""
        if getattr(self.schedule, "launch", None):
            self.schedule.launch(self._rate.array, self.iterations.array)
        elif _core.recording_now():
            raise RecordingError(f"{self.name}: a learning rate computed in Python would be frozen in a recorded step."
                                 "\n  Use one of fastdl.optimizers.schedules, or set optimizer.learning_rate between steps.")
        elif isinstance(self.schedule, LearningRateSchedule):
            self._rate.array[...] = float(self.schedule(int(self.iterations)))
        else:
            self._rate.array[...] = float(self.schedule())

    # -- slots --

    def slots(self):
        """Names of what is kept beside each parameter."""
        return ()

    def build(self, variables):
        """Make the slots of these parameters; done by the first update otherwise."""
        if self.built:
            return
        variables = list(variables)
        if len({v.dtype for v in variables}) > 1:
            raise ValueError(f"{self.name}: the parameters have several dtypes: {', '.join(sorted({v.dtype for v in variables}))}")
        self._indices = {id(v): i for i, v in enumerate(variables)}
        self._variables, self._slots = variables, [[] for _ in variables]
        for name in [*self.slots(), *["average"] * self.use_ema]:
            block, at = _core.empty((sum(v.size for v in variables),), variables[0].dtype), 0      # in the order of the parameters
            block[...] = 0
            for v, slots in zip(variables, self._slots):
                slot = Parameter(block[at:at + v.size].reshape(v.shape), f"{v.path.replace('/', '_')}_{name}", trainable=False)
                slot.path = f"{self.name}/{slot.name}"
                slots.append(slot)
                at += v.size
        self.built = True

    @property
    def variables(self):
        """All that a checkpoint has to hold: the step count, the learning rate, the slots."""
        rate = [] if self.schedule is not None else [self._rate]
        return [self.iterations, *rate] + [s for slots in self._slots for s in slots]

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """No weight decay for these parameters, or for those whose name contains one of these."""
        if self.built and self._runs:
            raise ValueError(f"{self.name}: exclude_from_weight_decay must be called before the first update")
        self._undecayed |= {id(v) for v in var_list or ()} | set(var_names or ())

    def _decay(self, variable):
        named = [e for e in self._undecayed if isinstance(e, str)]
        excluded = id(variable) in self._undecayed or any(e in variable.name or e in variable.path for e in named)
        return 0.0 if excluded else self.weight_decay or 0.0

    # -- updates --

    def apply_gradients(self, grads_and_vars):
        """One update from pairs (gradient, parameter)."""
        grads, variables = zip(*grads_and_vars)
        self.apply(grads, variables)
        return self.iterations

    def update(self, variables):
        """One update of these parameters by what backward left in their .grad."""
        variables = list(variables)
        self.apply([v.grad for v in variables], variables)

    def apply(self, grads, trainable_variables=None):
        """One update.

        grads                arrays or tensors, of the shapes of the parameters; None: that parameter stays
        trainable_variables  the parameters; None: those of build
        """
        if not len(grads):
            return
        if trainable_variables is None:
            if not self.built:
                raise ValueError(f"{self.name}: apply needs the parameters, or build before it")
            trainable_variables = self._variables
        if len(grads) != len(trainable_variables):
            raise ValueError(f"{self.name}: {len(grads)} gradients were given for {len(trainable_variables)} parameters")
        self.build(trainable_variables)
        grads = [g.array if isinstance(g, Tensor) else g for g in grads]
        tables = self._tables(grads)
        rest = [k for k in range(len(grads)) if k not in tables]
        runs = []
        if not tables or any(grads[k] is not None for k in rest):
            runs = self._plan([grads[k] for k in rest], [trainable_variables[k] for k in rest])
        if self.schedule is not None:
            self._refresh()
        scale = self._scale_of_all([g for _, _, g, _ in runs]) if self.global_clipnorm else None
        clip = float(self.clipvalue or math.inf)
        for parameter, slots, gradient, decay in runs:
            if self.clipnorm:
                scale = self._scale([gradient], self.clipnorm)
            slots, average = (slots[:-1], slots[-1]) if self.use_ema else (slots, None)
            self.update_run(parameter, slots, gradient, learning_rate=self._rate.array, iterations=self.iterations.array, scale=scale,
                            size=parameter.size, weight_decay=decay, clip=clip)
            if average is not None:
                kernels.average_parameters(average, parameter, self.iterations.array, size=parameter.size,
                                           every=self.ema_overwrite_frequency or 0, momentum=float(self.ema_momentum))
        for k, rows in tables.items():
            v = trainable_variables[k]
            v.grad = None                     # there is none
            self.update_rows(v.array, [s.array for s in self._slots[self._indices[id(v)]]], rows, learning_rate=self._rate.array,
                             iterations=self.iterations.array, weight_decay=self._decay(v), clip=clip)
        for v in trainable_variables:
            constraint = getattr(v, "constraint", None)
            if constraint is not None:
                kernels.copy(v.array, constraint(Tensor(v.array)).array, size=v.size)
        kernels.advance_iterations(self.iterations.array)
        _core.weights_changed()

    def finalize_variable_values(self, var_list):
        """With use_ema: the parameters become their averages. To be called after training."""
        for v in var_list if self.use_ema and self.built else ():
            v.assign(self._slots[self._indices[id(v)]][-1].numpy())

    def _tables(self, grads):
        """{index: gradient as rows}, of gradients that need not be in memory."""
        if not hasattr(self, "update_rows") or self.use_ema or self.clipnorm or self.global_clipnorm:
            return {}
        found = ((k, _core.rows_of(g)) for k, g in enumerate(grads) if g is not None and g.ndim == 2 and g.shape[1] <= ROW_MOST)
        return {k: rows for k, rows in found if rows is not None}

    def _plan(self, grads, variables):
        """[(parameter, slots, gradient, weight decay)]: arrays of the runs, neighbours merged."""
        key = [id(v) for v in variables]
        if self._runs is not None and self._runs[0] == key and all(a is b for a, b in zip(self._runs[1], grads)):
            return self._runs[2]
        unknown = [v.name for v in variables if id(v) not in self._indices]
        if unknown:
            raise ValueError(f"{self.name}: it was built for other parameters than {', '.join(unknown)}\n  Make a new optimizer for a new set.")
        missing = [v.path for v, g in zip(variables, grads) if g is None]
        if len(missing) == len(variables):
            raise ValueError(f"{self.name}: none of the parameters has a gradient")
        if missing:
            warnings.warn(f"{self.name}: no gradient for {', '.join(missing)}; they stay as they are", stacklevel=4)
        rows = []
        for v, g in zip(variables, grads):
            if g is None:
                continue
            if g.shape != v.shape:
                raise ValueError(f"{self.name}: the gradient of {v.name} has shape {g.shape}, the parameter {v.shape}")
            slots = [s.array for s in self._slots[self._indices[id(v)]]]
            if g.dtype != v.array.dtype or not g.flags.c_contiguous:
                raise ValueError(f"{self.name}: the gradient of {v.name} is not a C-contiguous array of {v.dtype}")
            rows.append(([v.array, g, *slots], self._decay(v)))
        groups = [[i] for i in range(len(rows))] if self.clipnorm else neighbours([r for r, _ in rows], [d for _, d in rows])
        runs = []
        for group in groups:
            parameter, gradient, *slots = (joined(column) for column in zip(*(rows[i][0] for i in group)))
            runs.append((parameter, slots, gradient, rows[group[0]][1]))
        self._runs = key, grads, runs
        return runs

    def _scale_of_all(self, gradients):
        return self._scale(gradients, self.global_clipnorm)

    def _scale(self, gradients, most):
        """The factor, an array (1), that brings the norm of these gradients to `most`."""
        pieces = [-(-g.size // NORM_PIECE) for g in gradients]
        sums, scale, at = _core.empty((sum(pieces),), "float64"), _core.empty((1,), gradients[0].dtype), 0
        for g, n in zip(gradients, pieces):
            kernels.sum_squares(sums[at:at + n], g, size=g.size)
            at += n
        kernels.clip_scale(scale, sums, pieces=len(sums), most=float(most))
        return scale

    # -- copies and pickles --

    def __getstate__(self):
        return {**self.__dict__, "_runs": None, "_indices": {}, "_undecayed": {e for e in self._undecayed if isinstance(e, str)},
                "_excluded": [v for v in getattr(self, "_variables", ()) if id(v) in self._undecayed]}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._undecayed |= set(map(id, self.__dict__.pop("_excluded")))
        if self.built:
            slots, self._slots, self.built = self._slots, [], False
            self.build(self._variables)                    # lays the slots side by side
            for own, given in zip(self._slots, slots):
                for slot, value in zip(own, given):
                    slot.assign(value)

    # -- configuration --

    def get_config(self):
        """The constructor's arguments."""
        from .schedules import serialize
        rate = self._rate.array.item() if self.schedule is None else serialize(self.schedule)
        return {"name": self.name, "learning_rate": rate, "weight_decay": self.weight_decay, "clipnorm": self.clipnorm,
                "clipvalue": self.clipvalue, "global_clipnorm": self.global_clipnorm, "use_ema": self.use_ema,
                "ema_momentum": self.ema_momentum, "ema_overwrite_frequency": self.ema_overwrite_frequency}

    def __repr__(self):
        rate = repr(self.schedule) if self.schedule is not None else self._rate.array.item()
        return f"<{type(self).__name__} learning_rate={rate}>"


def _snake(name):
    return {"SGD": "SGD", "RMSprop": "rmsprop"}.get(name, name.lower())


def _root(array):
    return array.base if isinstance(array.base, np.ndarray) else array


def _start(array):
    return array.__array_interface__["data"][0]


def neighbours(rows, kinds=None):
    """Groups of indices of rows that can be worked on as one: each row's arrays (at least one) begin where the arrays of the
    row before end, in the same block of memory, and the kinds are equal."""
    order = sorted(range(len(rows)), key=lambda i: _start(rows[i][0]))
    groups = []
    for i in order:
        last = rows[groups[-1][-1]] if groups else None
        if last is not None and (kinds is None or kinds[groups[-1][-1]] == kinds[i]) and all(
                _root(a) is _root(b) and a.dtype == b.dtype and _start(a) + a.nbytes == _start(b) for a, b in zip(last, rows[i])):
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def joined(arrays):
    """One flat array over neighbouring ones."""
    if len(arrays) == 1:
        return arrays[0].reshape(-1)
    flat = _root(arrays[0]).reshape(-1)
    begin = (_start(arrays[0]) - _start(flat)) // flat.itemsize
    return flat[begin:begin + sum(a.size for a in arrays)]
