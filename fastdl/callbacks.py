"""Callbacks: what happens at the beginnings and ends of training, epochs and batches."""

import collections
import csv
import inspect
import math
import operator
import os
import sys
import time

import numpy as np

from .structure import flatten


class Callback:
    """Base of callbacks: override what you need; self.model and self.params are set by the model.

    A step is replayed without Python unless a callback overrides on_train_batch_begin or on_train_batch_end (for evaluate
    and predict: their own): then Python is asked after every step.
    """

    def __init__(self):
        self.model, self.params = None, {}

    def set_model(self, model):
        """The model that is trained."""
        self.model = model

    def set_params(self, params):
        """A dict of epochs, steps and verbose."""
        self.params = params

    def on_epoch_begin(self, epoch, logs=None):
        """Before an epoch, counted from 0."""

    def on_epoch_end(self, epoch, logs=None):
        """After an epoch; logs holds losses and metrics, validation's with val_ before their names."""

    def on_train_begin(self, logs=None):
        """Before training."""

    def on_train_end(self, logs=None):
        """After training."""

    def on_batch_begin(self, batch, logs=None):
        """Another name of on_train_batch_begin."""

    def on_batch_end(self, batch, logs=None):
        """Another name of on_train_batch_end."""

    def on_train_batch_begin(self, batch, logs=None):
        """Before a training step."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        """After a training step."""
        self.on_batch_end(batch, logs)

    def on_test_begin(self, logs=None):
        """Before an evaluation."""

    def on_test_end(self, logs=None):
        """After an evaluation."""

    def on_test_batch_begin(self, batch, logs=None):
        """Before a batch of an evaluation."""

    def on_test_batch_end(self, batch, logs=None):
        """After a batch of an evaluation."""

    def on_predict_begin(self, logs=None):
        """Before a prediction."""

    def on_predict_end(self, logs=None):
        """After a prediction."""

    def on_predict_batch_begin(self, batch, logs=None):
        """Before a batch of a prediction."""

    def on_predict_batch_end(self, batch, logs=None):
        """After a batch of a prediction."""


class CallbackList:
    """Calls several callbacks as one."""

    def __init__(self, callbacks, model, params):
        self.callbacks = flatten(callbacks)
        wrong = next((c for c in self.callbacks if not isinstance(c, Callback)), None)
        if wrong is not None:
            raise TypeError(f"callbacks: must be a Callback or a list of them; one is {type(wrong).__name__}")
        for c in self.callbacks:
            c.set_model(model)
            c.set_params(params)

    def __getattr__(self, name):
        if not name.startswith("on_"):
            raise AttributeError(name)

        wanted = 2 if "epoch" in name or "batch" in name else 1

        def call(*args):
            args += ({},) * (wanted - len(args))              # the logs
            for c in self.callbacks:
                getattr(c, name)(*args)
        return call

    def by_batch(self, mode):
        """Whether a callback wants to be asked at each batch. mode: train, test or predict."""
        names = f"on_{mode}_batch_begin", f"on_{mode}_batch_end", *["on_batch_begin", "on_batch_end"] * (mode == "train")
        return any(getattr(type(c), n) is not getattr(Callback, n) for c in self.callbacks for n in names)


class History(Callback):
    """What fit returns: .history, a dict of lists by metric, and .epoch."""

    def on_train_begin(self, logs=None):
        self.epoch, self.history = [], {}

    def on_epoch_end(self, epoch, logs=None):
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class ProgressBar:
    """The bar that fit, evaluate and predict show: steps, time left, running losses and metrics."""

    def __init__(self, total, verbose, title=""):
        self.bar, self.total, self.done, self.title, self.verbose = None, total, 0, title, verbose
        self.started = time.monotonic()
        if verbose == 1:
            from tqdm import tqdm
            self.bar = tqdm(total=total, desc=title, unit="step", file=sys.stdout, mininterval=0.05, dynamic_ncols=True,
                            bar_format="{desc} {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}"
                            if total else None)

    def update(self, steps, logs):
        """`steps` more are done."""
        self.done += steps
        if self.bar is not None:
            self.bar.set_postfix_str(_line(logs), refresh=False)
            self.bar.update(steps)

    def close(self, logs):
        """The end: the last figures stay on the screen."""
        if self.bar is not None:
            self.bar.set_postfix_str(_line(logs), refresh=False)
            self.bar.refresh()
            self.bar.close()
        elif self.verbose == 2:
            print(f"{self.title} - {self.done}/{self.total or self.done} - {time.monotonic() - self.started:.1f}s - {_line(logs)}")


def _line(logs):
    number = lambda v: f"{v:.4f}" if abs(v) >= 1e-3 or v == 0 else f"{v:.3e}"
    return " - ".join(f"{k}: {number(v) if np.ndim(v) == 0 else ' '.join(map(number, v))}" for k, v in logs.items())


def _better(mode, monitor):
    """The comparison by which a monitored value improves."""
    if mode not in ("auto", "min", "max"):
        raise ValueError(f"mode must be 'auto', 'min' or 'max', not {mode!r}")
    upward = mode == "max" or mode == "auto" and ("acc" in monitor or "auc" in monitor or monitor.endswith(("precision", "recall", "f1_score")))
    return operator.gt if upward else operator.lt, -math.inf if upward else math.inf


def _monitored(callback, logs):
    if callback.monitor not in (logs or {}):
        raise ValueError(f"{type(callback).__name__}: there is no {callback.monitor!r} to monitor; there are {', '.join(logs or ()) or 'none'}")
    return logs[callback.monitor]


class EarlyStopping(Callback):
    """Stop when the monitored value has not improved by min_delta for `patience` epochs."""

    def __init__(self, monitor="val_loss", min_delta=0, patience=0, verbose=0, mode="auto", baseline=None,
                 restore_best_weights=False, start_from_epoch=0):
        super().__init__()
        self.monitor, self.min_delta, self.patience, self.verbose = monitor, abs(min_delta), patience, verbose
        self.baseline, self.restore_best_weights, self.start_from_epoch = baseline, restore_best_weights, start_from_epoch
        self.better, self.worst = _better(mode, monitor)

    def on_train_begin(self, logs=None):
        self.wait, self.stopped_epoch, self.best_epoch, self.best_weights = 0, 0, 0, None
        self.best = self.worst

    def on_epoch_end(self, epoch, logs=None):
        value = _monitored(self, logs)
        if epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self.best_weights = [w.copy() for w in self.model.get_weights()]
        margin = self.min_delta if self.worst == -math.inf else -self.min_delta
        self.wait += 1
        if self.better(value - margin, self.best):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self.best_weights = [w.copy() for w in self.model.get_weights()]
            if self.baseline is None or self.better(value - margin, self.baseline):
                self.wait = 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch, self.model.stop_training = epoch, True

    def on_train_end(self, logs=None):
        if self.restore_best_weights and self.best_weights is not None:
            self.model.set_weights(self.best_weights)
        if self.stopped_epoch and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping; the best was epoch {self.best_epoch + 1}")


class ModelCheckpoint(Callback):
    """Save the model, or its weights, after epochs; filepath may hold {epoch} and names of metrics."""

    def __init__(self, filepath, monitor="val_loss", verbose=0, save_best_only=False, save_weights_only=False, mode="auto",
                 save_freq="epoch", initial_value_threshold=None):
        super().__init__()
        if save_freq != "epoch":
            raise ValueError(f"ModelCheckpoint: save_freq must be 'epoch', not {save_freq!r}")
        self.filepath, self.monitor, self.verbose = os.fspath(filepath), monitor, verbose
        self.save_best_only, self.save_weights_only = save_best_only, save_weights_only
        self.better, self.best = _better(mode, monitor)
        if initial_value_threshold is not None:
            self.best = initial_value_threshold

    def on_epoch_end(self, epoch, logs=None):
        if self.save_best_only:
            value = _monitored(self, logs)
            if not self.better(value, self.best):
                return
            self.best = value
        path = self.filepath.format(epoch=epoch + 1, **(logs or {}))
        (self.model.save_weights if self.save_weights_only else self.model.save)(path)
        if self.verbose:
            print(f"Epoch {epoch + 1}: saved to {path}")


class LearningRateScheduler(Callback):
    """Set the learning rate before each epoch to schedule(epoch, rate), or schedule(epoch)."""

    def __init__(self, schedule, verbose=0):
        super().__init__()
        self.schedule, self.verbose = schedule, verbose
        try:
            inspect.signature(schedule).bind(0, 0.0)
        except TypeError:
            self.schedule = lambda epoch, rate: schedule(epoch)

    def on_epoch_begin(self, epoch, logs=None):
        rate = float(self.schedule(epoch, float(self.model.optimizer.learning_rate)))
        self.model.optimizer.learning_rate = rate
        if self.verbose:
            print(f"Epoch {epoch + 1}: learning rate {rate:g}")

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)


class ReduceLROnPlateau(Callback):
    """Multiply the learning rate by `factor` when the monitored value has not improved for `patience` epochs."""

    def __init__(self, monitor="val_loss", factor=0.1, patience=10, verbose=0, mode="auto", min_delta=1e-4, cooldown=0, min_lr=0.0):
        super().__init__()
        if factor >= 1:
            raise ValueError(f"ReduceLROnPlateau: factor must be below 1, not {factor}")
        self.monitor, self.factor, self.patience, self.verbose = monitor, factor, patience, verbose
        self.min_delta, self.cooldown, self.min_lr = min_delta, cooldown, min_lr
        self.better, self.worst = _better(mode, monitor)

    def on_train_begin(self, logs=None):
        self.best, self.wait, self.pause = self.worst, 0, 0

    def on_epoch_end(self, epoch, logs=None):
        value, rate = _monitored(self, logs), float(self.model.optimizer.learning_rate)
        logs["learning_rate"] = rate
        if self.pause > 0:
            self.pause, self.wait = self.pause - 1, 0
        margin = self.min_delta if self.worst == -math.inf else -self.min_delta
        if self.better(value - margin, self.best):
            self.best, self.wait = value, 0
        elif self.pause <= 0:
            self.wait += 1
            if self.wait >= self.patience and rate > self.min_lr:
                new = max(rate * self.factor, self.min_lr)
                self.model.optimizer.learning_rate = new
                self.pause, self.wait = self.cooldown, 0
                if self.verbose:
                    print(f"Epoch {epoch + 1}: learning rate {new:g}")


class CSVLogger(Callback):
    """Write each epoch's figures as a line of a CSV file."""

    def __init__(self, filename, separator=",", append=False):
        super().__init__()
        self.filename, self.separator, self.append = os.fspath(filename), separator, append

    def on_train_begin(self, logs=None):
        there = self.append and os.path.exists(self.filename) and os.path.getsize(self.filename) > 0
        self.file, self.writer, self.headed = open(self.filename, "a" if self.append else "w", newline=""), None, there

    def on_epoch_end(self, epoch, logs=None):
        row = collections.OrderedDict(epoch=epoch, **(logs or {}))
        if self.writer is None:
            own = [name for name in row if name != "epoch"]
            later = [] if any(name.startswith("val_") for name in own) else [f"val_{name}" for name in own]     # validation may come in a later epoch
            self.writer = csv.DictWriter(self.file, ["epoch", *own, *later], restval="NA", delimiter=self.separator, extrasaction="ignore")
            if not self.headed:
                self.writer.writeheader()
        self.writer.writerow(row)
        self.file.flush()

    def on_train_end(self, logs=None):
        self.file.close()


class LambdaCallback(Callback):
    """Callbacks from plain functions: LambdaCallback(on_epoch_end=lambda epoch, logs: …)."""

    def __new__(cls, **functions):
        functions = {name: f for name, f in functions.items() if f is not None}
        for name in functions:
            if not name.startswith("on_") or not hasattr(Callback, name):
                raise TypeError(f"LambdaCallback: there is no {name!r}")
        # A class of its own, so that only what is given counts as overridden.
        own = type("LambdaCallback", (LambdaCallback,), {name: staticmethod(f) for name, f in functions.items()})
        return object.__new__(own)

    def __init__(self, **functions):
        super().__init__()


class TerminateOnNaN(Callback):
    """Stop training when the loss is not finite any more; with raise_error by a RuntimeError."""

    def __init__(self, raise_error=False):
        super().__init__()
        self.raise_error = raise_error

    def on_train_batch_end(self, batch, logs=None):
        if logs and not np.isfinite(logs.get("loss", 0.0)):
            if self.raise_error:
                raise RuntimeError(f"TerminateOnNaN: the loss of batch {batch} is {logs['loss']}")
            print(f"Batch {batch}: the loss is {logs['loss']}, training stops")
            self.model.stop_training = True
