"""Training behind compile, fit, evaluate and predict."""

import functools

import numpy as np

from .. import _core, optimizers, random as random_module
from ..callbacks import CallbackList, History, ProgressBar
from ..data.batches import Arrays, as_kind, source_of
from ..errors import explanations
from ..layers.layer import deferred_updates
from ..op import labelled
from ..record import Recorded
from ..structure import leaves, rebuild
from ..tensor import Parameter, Tensor, _ones, backward, kernels, no_grad
from .loop import Loop, Recorder, run_step
from .objectives import Objectives, by_output


def _position(index, shape):
    return [int(i) for i in np.unravel_index(index, shape)]


explanations["check_finite"] = lambda arrays, sizes, item: (
    f"the value {arrays[0].reshape(-1)[item]} at {_position(item, arrays[0].shape)} is not finite; no weight was changed by this step")


class Trainer:
    """What a model inherits: compile, fit, evaluate, predict and their forms for one batch."""

    optimizer = None
    stop_training = False
    _objectives = None
    _quick = {}                      # replaced, see _remember

    def compile(self, optimizer="rmsprop", loss=None, loss_weights=None, metrics=None, weighted_metrics=None,
                run_eagerly=False, steps_per_execution=1, jit_compile="auto", auto_scale_loss=True):
        """Choose how to train.

        optimizer      name or optimizer; None: the model will only be evaluated
        loss           name, function or Loss; a list or dict by output where there are several
        loss_weights   numbers by output
        metrics        names, functions or Metrics; weighted_metrics heed sample weights
        run_eagerly    True: every step runs in Python, nothing is recorded

        steps_per_execution, jit_compile and auto_scale_loss are accepted for Keras' sake: steps are always recorded and
        replayed, and bfloat16 needs no scaled loss.
        """
        self.optimizer = optimizers.get(optimizer)
        self.loss, self.run_eagerly = loss, run_eagerly
        self.compiled = dict(optimizer=optimizer, loss=loss, loss_weights=loss_weights, metrics=metrics, weighted_metrics=weighted_metrics)
        self._objectives = Objectives(loss, loss_weights, metrics, weighted_metrics)
        self._recorded = {}
        for known in "_quick", "_predictor":
            self.__dict__.pop(known, None)

    @property
    def metrics(self):
        """The loss's mean and the metrics."""
        return list(self._objectives.all().values()) if self._objectives else []

    @property
    def metrics_names(self):
        """Their names in the logs."""
        return list(self._objectives.all()) if self._objectives else []

    def reset_metrics(self):
        """Begin their totals anew."""
        if self._objectives:
            self._objectives.reset()

    # ---- steps ----

    def _train(self, x, y, sample_weight, check_finite=False):
        """One training step: forward, loss, backward, totals, update."""
        if check_finite:
            _check_finite("x", x)
            _check_finite("sample_weight", sample_weight)
        parameters = self._trained()[0]
        for p in parameters:
            p.grad = None
        _core.gradients_unseen()
        with deferred_updates() as updates:
            y_pred = self._forward(x, True)
            y_true, predicted, sample_weight = self._targets(y, y_pred, sample_weight)
            with labelled("loss"):
                loss = self._objectives.loss(y_true, predicted, sample_weight, self.losses)
        if check_finite:
            _check_finite("loss", loss)
        if not loss.requires_grad:
            raise ValueError("fit: the loss does not depend on any trainable weight")
        backward([loss], [_ones(loss.array.shape, loss.array.dtype)])
        with labelled("metrics"):
            self._objectives.update(loss.detach(), y_true, [_detached(t) for t in predicted], sample_weight, _rows(x))
        with labelled("optimizer"):
            self.optimizer.apply([p.grad for p in parameters], parameters)
            for parameter, value in updates:
                kernels.copy(parameter.array, value.array, size=value.array.size)
            _core.weights_changed()

    @no_grad()
    def _test(self, x, y, sample_weight, check_finite=False):
        y_pred = self._forward(x, False)
        y_true, predicted, sample_weight = self._targets(y, y_pred, sample_weight)
        with labelled("loss"):
            loss = self._objectives.loss(y_true, predicted, sample_weight, self.losses)
        with labelled("metrics"):
            self._objectives.update(loss, y_true, predicted, sample_weight, _rows(x))

    @no_grad()
    def _predict(self, x):
        return self._forward(x, False)

    def _alone(self, step, x, y, sample_weight):
        self._objectives.reset()
        step(x, y, sample_weight)

    def _forward(self, x, training):
        return self(x, training=training)

    def _targets(self, y, y_pred, sample_weight=None):
        """Lists of targets, predictions and sample weights by output."""
        predicted = leaves(y_pred)
        if isinstance(y, dict):
            names = list(y_pred) if isinstance(y_pred, dict) else self._names(len(predicted))
            missing = [n for n in y if n not in names]
            if missing:
                raise ValueError(f"y: has {missing}; the outputs are {names}")
            predicted = [p for n, p in zip(names, predicted) if n in y]
            y_true, names = [y[n] for n in names if n in y], [n for n in names if n in y]
        else:
            y_true, names = leaves(y), list(y_pred) if isinstance(y_pred, dict) else self._names(len(predicted))
        if len(y_true) not in (0, len(predicted)):
            raise ValueError(f"y: holds {len(y_true)} arrays; the model has {len(predicted)} outputs ({', '.join(names)})")
        if not y_true:
            if self._objectives.wants_targets:
                raise ValueError("y: is missing; the loss and the metrics need targets")
            y_true = [None] * len(predicted)
        if not self._objectives.built:
            self._objectives.build(names, y_true, predicted)
        return y_true, predicted, by_output(sample_weight, names, len(predicted), "sample_weight")

    def _names(self, n):
        names = getattr(self, "output_names", None)
        return list(names) if names and len(names) == n else [f"output_{i + 1}" for i in range(n)]

    # ---- preparation ----

    def _kinds(self, source):
        """The dtypes in which a step wants the leaves of a source: tokens and labels as int32, the rest as float32."""
        wanted = self._input_dtypes(source.x)
        kinds = [d or ("int32" if a.dtype.kind == "i" else "float32") for a, d in zip(leaves(source.x), wanted)]
        kinds += ["int32" if a.dtype.kind in "iu" else "float32" for a in leaves(source.y)]
        return kinds + ["float32"] * len(leaves(source.sample_weight))

    def _input_dtypes(self, x):
        n = len(leaves(x))
        symbols = leaves(getattr(self, "inputs", None) or [])
        if len(symbols) == n:
            return [s.dtype if s.dtype in ("int32", "float32") else "int32" if s.dtype.startswith("int") else "float32" for s in symbols]
        first = next(iter(getattr(self, "layers", [])), None)
        return [getattr(first, "input_dtype", None) if n == 1 else None] * n

    def _prepare(self, source, batch_size):
        """Build the model on the shapes of the data, and lay its weights side by side."""
        if not self.built:
            rows = min(batch_size, source.samples)
            kinds = self._kinds(source)
            x, _, _ = rebuild(list(source.parts), iter([Tensor(np.zeros((rows, *a.shape[1:]), d)) for a, d in zip(source.leaves, kinds)]))
            with no_grad(), deferred_updates():
                self._forward(x, False)
        self._trained()

    def _trained(self):
        """The parameters that training changes, laid side by side, and a key that tells one set of them from another."""
        known = self.__dict__.get("_trained_known")
        if known is None or known[0] != Parameter.changes or not self.built:
            parameters = self.trainable_variables
            pack(parameters)
            known = self.__dict__["_trained_known"] = Parameter.changes, (parameters, tuple(map(id, parameters)))
        return known[1]

    def _recorder(self):
        def state():
            seeds = self.seed_states() if hasattr(self, "seed_states") else []
            return [_array(v) for v in self._objectives.variables()] + [_array(s) for s in seeds]
        return Recorder(self.run_eagerly, state)

    def _compiled(self, what):
        if self._objectives is None:
            raise RuntimeError(f"{what}: call compile() first")
        if self.optimizer is None and what in ("fit", "train_on_batch"):
            raise RuntimeError(f"{what}: compile() was given optimizer=None, with which a model can be evaluated but not trained")

    def _loop(self, mode, source, batch_size, check_finite=False):
        step = {"train": self._train, "test": self._test}[mode]
        recorder = self._recorder()

        def checked(x, y, w):
            step(x, y, w, check_finite)
        return Loop(checked, source, batch_size, self._kinds, recorder, Recorded(checked, recorder.save), self._prepare)

    # ---- fit, evaluate, predict ----

    def fit(self, x=None, y=None, batch_size=None, epochs=1, verbose="auto", callbacks=None, validation_split=0.0,
            validation_data=None, shuffle=True, class_weight=None, sample_weight=None, initial_epoch=0, steps_per_epoch=None,
            validation_steps=None, validation_batch_size=None, validation_freq=1, check_finite=False):
        """Train; returns a History.

        x, y              arrays (samples, ...), or lists or dicts of them for several inputs and outputs; or x alone: a
                          generator or sequence that yields (x, y) or (x, y, sample_weight) batches
        batch_size        32 unless given
        verbose           1 or 'auto': a progress bar; 2: a line per epoch; 0: nothing
        validation_split  fraction of the samples, the last ones, kept for validation; or validation_data=(x, y)
        validation_freq   validation after every so many epochs, or after those of a list, counted from 1
        class_weight      {label: weight}; sample_weight: (samples,) or (samples, steps), of several outputs a list or dict of them
        steps_per_epoch   steps until the epoch counts as over; the data go on where they stood
        check_finite      True: NaN or infinity in data or loss raises NotFiniteError, and the weights are those
                          before that step

        Raises ValueError or TypeError naming the argument for data that do not fit, DataError for a label or token out of
        range; then no weight was changed by the failed step.
        """
        self._compiled("fit")
        _whole_numbers(batch_size=batch_size, steps_per_epoch=steps_per_epoch, validation_steps=validation_steps, validation_batch_size=validation_batch_size)
        _whole_numbers(0, epochs=epochs, initial_epoch=initial_epoch)
        if not hasattr(validation_freq, "__contains__"):
            _whole_numbers(validation_freq=validation_freq)
        source = source_of(x, y, sample_weight, class_weight)
        if validation_split and validation_data is None:
            if not isinstance(source, Arrays):
                raise ValueError("validation_split: wants x and y to be arrays; give validation_data")
            source, held = source.split(validation_split)
        else:
            held = None if validation_data is None else validation_data if isinstance(validation_data, Arrays) else \
                source_of(*validation_data) if isinstance(validation_data, (tuple, list)) else source_of(validation_data)
        batch = batch_size or 32
        if isinstance(source, Arrays):
            self._prepare(source, batch)
        loop = self._loop("train", source, batch, check_finite)
        test = None if held is None else self._loop("test", held, validation_batch_size or batch)
        steps = steps_per_epoch or loop.steps
        verbose = _verbosity(verbose)
        history = History()
        calls = CallbackList([callbacks or [], history], self, {"epochs": epochs, "steps": steps, "verbose": verbose})
        self.history, self.stop_training = history, False
        generator = random_module.shuffle_generator() if shuffle else None
        calls.on_train_begin()
        fresh, logs = True, {}
        for epoch in range(initial_epoch, epochs):
            calls.on_epoch_begin(epoch)
            self._objectives.reset()
            if fresh or not steps_per_epoch:
                loop.begin(generator)
                fresh = False
            bar = ProgressBar(steps, verbose, f"Epoch {epoch + 1}/{epochs}")
            self._pass(loop, steps, calls, "train", bar, (lambda: loop.begin(generator)) if steps_per_epoch else None)
            logs = self._objectives.logs()
            if test is not None and (epoch + 1 in validation_freq if hasattr(validation_freq, "__contains__") else (epoch + 1) % validation_freq == 0):
                self._objectives.reset()
                test.begin()
                calls.on_test_begin()
                self._pass(test, validation_steps or test.steps, calls, "test", ProgressBar(None, 0))
                found = self._objectives.logs()
                calls.on_test_end(found)
                logs.update((f"val_{name}", value) for name, value in found.items())
            bar.close(logs)
            calls.on_epoch_end(epoch, logs)
            if self.stop_training:
                break
        self.optimizer.finalize_variable_values(self.trainable_variables)
        calls.on_train_end(logs)
        return history

    def _pass(self, loop, steps, calls, mode, bar, restart=None):
        """Up to `steps` steps of a loop (None: until it is over), with callbacks and progress."""
        by_batch, done, empty = calls.by_batch(mode), 0, False
        begin, end = getattr(calls, f"on_{mode}_batch_begin"), getattr(calls, f"on_{mode}_batch_end")
        while (steps is None or done < steps) and not (mode == "train" and self.stop_training):
            if by_batch:
                begin(done)
            n = loop.advance(1 if by_batch else (steps - done if steps else 1), 0.1)
            if n == 0:
                if restart is None or empty:
                    break
                restart()
                empty = True
                continue
            empty = False
            done += n
            if by_batch or bar.bar is not None:
                logs = self._objectives.logs()
                bar.update(n, logs)
                if by_batch:
                    end(done - 1, logs)
            else:
                bar.done += n

    def evaluate(self, x=None, y=None, batch_size=None, verbose="auto", sample_weight=None, steps=None, callbacks=None,
                 return_dict=False):
        """Loss and metrics over data: a list of floats (one float if there is only the loss), or with return_dict a dict.

        x, y, sample_weight are as in fit. Nothing is changed but the metrics' totals.
        """
        self._compiled("evaluate")
        _whole_numbers(batch_size=batch_size, steps=steps)
        source = source_of(x, y, sample_weight)
        batch = batch_size or 32
        if isinstance(source, Arrays):
            self._prepare(source, batch)
        loop = self._loop("test", source, batch)
        steps = steps or loop.steps
        calls = CallbackList(callbacks or [], self, {"steps": steps, "verbose": verbose})
        self._objectives.reset()
        loop.begin()
        calls.on_test_begin()
        bar = ProgressBar(steps, _verbosity(verbose), "Evaluate")
        self._pass(loop, steps, calls, "test", bar)
        logs = self._objectives.logs()
        bar.close(logs)
        calls.on_test_end(logs)
        return logs if return_dict else self._objectives.listed()

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        """The outputs for x as NumPy arrays: (samples, ...), in the structure of the model's outputs."""
        _whole_numbers(batch_size=batch_size, steps=steps)
        source = source_of(x)
        batch = batch_size or 32
        batches = self._cut(source, batch) if isinstance(source, Arrays) else iter(source)
        total = steps or (-(-source.samples // batch) if isinstance(source, Arrays) else source.steps)
        calls = CallbackList(callbacks or [], self, {"steps": total, "verbose": verbose})
        bar = ProgressBar(total, (1 if total is None or total > 1 else 0) if verbose == "auto" else _verbosity(verbose), "Predict")
        calls.on_predict_begin()
        results, structure, at = None, None, 0
        for i, item in enumerate(batches):
            if steps is not None and i >= steps:
                break
            calls.on_predict_batch_begin(i)
            with self._predicting()[1].lock:
                structure = self._predict_arrays(item)
                parts = leaves(structure)
                if results is None:
                    n = source.samples if isinstance(source, Arrays) else None
                    results = [np.empty((n, *p.shape[1:]), p.array.dtype) if n and p.ndim and len(p) == item.samples else []
                               for p in parts]
                for result, p in zip(results, parts):
                    if isinstance(result, list):
                        result.append(p.array.copy())
                    else:
                        result[at:at + len(p)] = p.array
            at += item.samples
            calls.on_predict_batch_end(i, {"outputs": structure})
            bar.update(1, {})
        bar.close({})
        calls.on_predict_end()
        if results is None:
            raise ValueError("predict: x yields no batch")
        done = iter([np.concatenate(r) if isinstance(r, list) else r[:at] for r in results])
        return rebuild(structure, done)

    @staticmethod
    def _cut(source, batch):
        for at in range(0, source.samples, batch):
            yield Arrays(rebuild([source.x], iter([a[at:at + batch] for a in leaves(source.x)]))[0])

    def _predict_arrays(self, item):
        """The outputs for a batch, in memory that the next prediction overwrites: to be read under the lock."""
        if not self.built:
            self._prepare(item, item.samples)
        x = rebuild([item.x], iter([as_kind(a, d) for a, d in zip(leaves(item.x), self._kinds(item))]))[0]
        recorder, recorded = self._predicting()
        return run_step(recorded, self._predict, recorder, x)

    def _predicting(self):
        if "_predictor" not in self.__dict__:
            recorder = Recorder(getattr(self, "run_eagerly", False), lambda: [])
            self.__dict__["_predictor"] = recorder, Recorded(self._predict, recorder.save)
        return self._predictor

    # ---- one batch ----

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict=False):
        """One training step on a batch; returns its loss and metrics, in the form of evaluate."""
        if sample_weight is None and class_weight is None and not return_dict and self._again("train", (x, y)):
            return self._objectives.listed()
        return self._on_batch("train", x, y, sample_weight, class_weight, return_dict)

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict=False):
        """Loss and metrics of one batch, in the form of evaluate."""
        return self._on_batch("test", x, y, sample_weight, None, return_dict)

    def _on_batch(self, mode, x, y, sample_weight, class_weight, return_dict):
        plain = sample_weight is None and class_weight is None
        if not (plain and self._again(mode, (x, y))):
            self._compiled(f"{mode}_on_batch")
            item = Arrays(x, y, sample_weight, class_weight)
            self._prepare(item, item.samples)
            trained = mode, self._trained()[1]
            if trained not in self._recorded:
                recorder = self._recorder()
                step = functools.partial(self._alone, self._train if mode == "train" else self._test)
                self._recorded[trained] = recorder, Recorded(step, recorder.save), step
            recorder, recorded, step = self._recorded[trained]
            recorded.last = None
            arguments = rebuild(list(item.parts), iter([as_kind(a, d) for a, d in zip(item.leaves, self._kinds(item))]))
            run_step(recorded, step, recorder, *arguments)
            self._remember(plain and mode, recorded)
        return self._objectives.logs() if return_dict else self._objectives.listed()

    # What a batch of plain arrays was replayed by the last time, so that small models do not wait for Python.

    def _remember(self, mode, recorded):
        if mode and recorded.last:
            program, inputs, result = recorded.last
            self.__dict__.setdefault("_quick", {})[mode] = Parameter.changes, Parameter.moves, program, tuple(t.array for t in inputs), result

    def _again(self, mode, arrays):
        """Replay the last program of this mode, if it takes such arrays and nothing has changed since; what _remember kept, or None."""
        known = self._quick.get(mode)
        if known:
            changes, moves, program, own, _ = known
            if changes == Parameter.changes and moves == Parameter.moves and program.replay(own, arrays):
                return known

    def programs(self):
        """The recorded programs of train_on_batch and test_on_batch, then those of predict, to print or to profile()."""
        recorded = [r for _, r, _ in self.__dict__.get("_recorded", {}).values()] + [self._predicting()[1]]
        return [found[0] for r in recorded for found in r.programs.values()]

    def predict_on_batch(self, x):
        """The outputs for one batch, as NumPy arrays."""
        recorded = (self.__dict__.get("_predictor") or self._predicting())[1]
        with recorded.lock:
            again = self._again("predict", (x,))
            if again:
                structure = again[-1]
            else:
                recorded.last = None
                structure = self._predict_arrays(Arrays(x))
                self._remember("predict", recorded)
            return structure.array.copy() if type(structure) is Tensor else \
                rebuild([structure], iter([p.array.copy() for p in leaves(structure)]))[0]


def _detached(t):
    out = t.detach()
    out.mask = t.mask
    return out


def _whole_numbers(least=1, **numbers):
    for name, number in numbers.items():
        if number is not None and not (isinstance(number, (int, float, np.number)) and number == number // 1 and number >= least):
            raise ValueError(f"{name}: must be a whole number, at least {least}, not {number!r}")


def _verbosity(verbose):
    if verbose not in ("auto", 0, 1, 2):
        raise ValueError(f"verbose: must be 'auto', 0, 1 or 2, not {verbose!r}")
    return 1 if verbose == "auto" else int(verbose)


def _array(v):
    return v.array if isinstance(v, Tensor) else v


def _rows(x):
    return leaves(x)[0].shape[0]


def _check_finite(name, value):
    with labelled(name):
        for t in leaves(value):
            if t.array.dtype == "float32":
                kernels.check_finite(t.array, size=t.array.size)


def pack(parameters):
    """Lay parameters that have no place yet side by side in one block, and their gradients in another.

    An optimiser step or a clipping is then one call over one array. A parameter is moved once in its life.
    """
    new = [p for p in parameters if p.buffer is None]
    if not new:
        return
    total = sum(p.array.size for p in new)
    values, gradients = _core.empty((total,)), _core.empty((total,))
    gradients[...] = 0
    at = 0
    for p in new:
        size, shape = p.array.size, p.array.shape
        place = values[at:at + size].reshape(shape)
        place[...] = p.array
        p.array, p.buffer = place, gradients[at:at + size].reshape(shape)
        at += size
    Parameter.moves += 1
