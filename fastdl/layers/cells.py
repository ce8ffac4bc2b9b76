"""Cells: one step of a recurrent layer. RNN makes layers of them; LSTM, GRU and SimpleRNN share their weights and arithmetic."""

import numpy as np

from .. import activations, constraints, initializers, ops, random, regularizers
from ..errors import shape_error
from ..tensor import Tensor
from .core import fused, positive_integer
from .layer import Layer
from .serialization import deserialize, serialize

__all__ = ["GRUCell", "LSTMCell", "SimpleRNNCell", "StackedRNNCells"]

KINDS = {"activation": activations, "initializer": initializers, "regularizer": regularizers, "constraint": constraints}


class Units(Layer):
    """Units with recurrent weights, as cell or layer: arguments, weights, dropout, one step, all steps.

    kernel            (features, gates * units)
    recurrent_kernel  (units, gates * units)
    bias              (gates * units)
    """

    input_dtype = "float32"
    gates, state_names = 1, ("h",)

    def _keep(self, given):
        """Make attributes of the constructor's arguments, given as its locals()."""
        self._names = [name for name in given if name not in ("self", "kwargs", "__class__", "activity_regularizer")]
        for name in self._names:
            value, kind = given[name], KINDS.get(name.rsplit("_", 1)[-1])
            if kind:
                value = kind.get(value)
            elif name == "units":
                value = positive_integer(type(self).__name__, name, value)
            elif name.endswith("dropout"):
                value = min(1.0, max(0.0, value))
            elif name == "use_cudnn" and value not in ("auto", True, False):
                raise ValueError(f"{type(self).__name__}: use_cudnn is {value!r}\n  it may be 'auto', True or False, and changes nothing on a CPU")
            setattr(self, name, value)
        self.seed_generator = random.SeedGenerator(self.seed) if self.dropout or self.recurrent_dropout else None
        self.reset_dropout_mask(), self.reset_recurrent_dropout_mask()

    @property
    def state_size(self):
        """Size of the state; a list where there are several."""
        return [self.units] * len(self.state_names) if len(self.state_names) > 1 else self.units

    @property
    def output_size(self):
        """Size of the output."""
        return self.units

    @property
    def fused(self):
        """Whether one op computes all steps: its activations are among those that kernels have."""
        return all(fused(getattr(self, name)) for name in self._names if name.endswith("activation"))

    def add_weights(self, features):
        """Make kernel, recurrent_kernel and bias."""
        columns = self.gates * self.units
        self.kernel, self.recurrent_kernel = (self.add_weight((rows, columns), getattr(self, f"{of}_initializer"), name=name,
                                                              regularizer=getattr(self, f"{of}_regularizer"),
                                                              constraint=getattr(self, f"{of}_constraint"))
                                              for name, of, rows in (("kernel", "kernel", features), ("recurrent_kernel", "recurrent", self.units)))
        self.bias = self.add_weight(self.bias_shape(columns), self.first_bias(), name="bias", regularizer=self.bias_regularizer,
                                    constraint=self.bias_constraint) if self.use_bias else None

    def bias_shape(self, columns):
        """Shape of the bias."""
        return (columns,)

    def first_bias(self):
        """The initializer of the bias."""
        return self.bias_initializer

    def options(self):
        """What the op is told of the activations."""
        return {name: fused(getattr(self, name)) for name in self._names if name.endswith("activation")}

    # -- dropout: one mask for all steps, until it is reset --

    def _mask(self, name, rate, shape, dtype):
        if getattr(self, name) is None and 0 < rate < 1:
            setattr(self, name, random.dropout(Tensor(np.ones(shape, dtype)), rate, seed=self.seed_generator))
        return getattr(self, name)

    def get_dropout_mask(self, step_input):
        """The factors of the inputs of a step (batch, features), or None."""
        return self._mask("_dropout_mask", self.dropout, tuple(step_input.shape), step_input.dtype)

    def get_recurrent_dropout_mask(self, step_input):
        """The factors of h (batch, units), or None."""
        return self._mask("_recurrent_dropout_mask", self.recurrent_dropout, (step_input.shape[0], self.units), step_input.dtype)

    def reset_dropout_mask(self):
        """Draw anew at the next step."""
        self._dropout_mask = None

    def reset_recurrent_dropout_mask(self):
        """Draw anew at the next step."""
        self._recurrent_dropout_mask = None

    # -- computing --

    def advance(self, inputs, states, training=False):
        """One step: inputs (batch, features) and states, each (batch, units), to the output and the new states."""
        listed = isinstance(states, (list, tuple))
        h, *rest = states if listed else [states]
        used = h
        if training:
            mask, recurrent = self.get_dropout_mask(inputs), self.get_recurrent_dropout_mask(inputs)
            inputs = inputs if mask is None else inputs * mask
            used = h if recurrent is None else h * recurrent
        new = self.step(inputs, used, h, *rest)
        return new[0], list(new) if listed else new[0]

    def all_steps(self, sequences, states, mask, training, **options):
        """All steps at once, by one op: sequences (batch, time, features) to the outputs and the last states."""
        return self.op(*self.op_inputs(sequences, states, mask, training), **options, **self.options())

    def op_inputs(self, sequences, states, mask, training):
        """What the op is given."""
        recurrent_mask = None
        if training:
            batch, _, features = sequences.shape
            if 0 < self.dropout < 1:
                sequences = random.dropout(sequences, self.dropout, noise_shape=(batch, 1, features), seed=self.seed_generator)
            recurrent_mask = self.get_recurrent_dropout_mask(sequences)
            self.reset_recurrent_dropout_mask()
        return (sequences, self.kernel, self.recurrent_kernel, self.bias, *(states or [None] * len(self.state_names)), mask, recurrent_mask)

    def get_initial_state(self, batch_size=None):
        """Zeros: the state, or a list of several."""
        states = [Tensor(np.zeros((batch_size, self.units), self.dtype)) for _ in self.state_names]
        return states if len(states) > 1 else states[0]

    def get_config(self):
        """The constructor's arguments."""
        config = super().get_config()
        for name in self._names:
            kind, value = KINDS.get(name.rsplit("_", 1)[-1]), getattr(self, name)
            config[name] = kind.serialize(value) if kind else value
        return config


class Cell(Units):
    """Units as a cell: call does one step."""

    def build(self, input_shape):
        """Make the weights for inputs (batch, features)."""
        if len(input_shape) != 2 or input_shape[-1] is None:
            raise shape_error(self.name, "a cell wants two axes, the last of known size", inputs=(input_shape, "batch, features"))
        self.add_weights(input_shape[-1])

    def call(self, inputs, states, training=False):
        """The output and the new states."""
        return self.advance(inputs, states, training)


class LSTMUnits(Units):
    """Gates in the order input, forget, cell, output; states h and c."""

    gates, state_names, op = 4, ("h", "c"), staticmethod(ops.lstm)

    def first_bias(self):
        """The initializer of the bias: with unit_forget_bias ones for the forget gate."""
        def forgetting(shape, dtype):
            return np.concatenate([self.bias_initializer((self.units,), dtype=dtype), np.ones(self.units, dtype),
                                   self.bias_initializer((2 * self.units,), dtype=dtype)])

        return forgetting if self.unit_forget_bias else self.bias_initializer

    def step(self, x, used, h, c):
        """h and c after a step; used: h after dropout."""
        z = ops.linear(x, self.kernel, self.bias) + ops.matmul(used, self.recurrent_kernel)
        i, f, g, o = ops.split(z, 4, axis=-1)
        c = self.recurrent_activation(f) * c + self.recurrent_activation(i) * self.activation(g)
        return self.recurrent_activation(o) * self.activation(c), c


class GRUUnits(Units):
    """Gates in the order update, reset, candidate; with reset_after two biases (2, 3 * units), of the inputs and of h."""

    gates, op = 3, staticmethod(ops.gru)

    def bias_shape(self, columns):
        """Shape of the bias."""
        return (2, columns) if self.reset_after else (columns,)

    def options(self):
        """What the op is told of activations and reset gate."""
        return {**super().options(), "reset_after": self.reset_after}

    def step(self, x, used, h):
        """h after a step; used: h after dropout."""
        of_x, of_h = (self.bias[0], self.bias[1]) if self.use_bias and self.reset_after else (self.bias, None)
        kernel = self.recurrent_kernel if self.reset_after else self.recurrent_kernel[:, : 2 * self.units]
        x, inner = ops.split(ops.linear(x, self.kernel, of_x), 3, axis=-1), ops.linear(used, kernel, of_h)
        inner = ops.split(inner, 3 if self.reset_after else 2, axis=-1)
        z, r = (self.recurrent_activation(a + b) for a, b in zip(x[:2], inner[:2]))
        g = self.activation(x[2] + (r * inner[2] if self.reset_after else ops.matmul(r * used, self.recurrent_kernel[:, 2 * self.units:])))
        return (z * h + (1.0 - z) * g,)


class SimpleUnits(Units):
    """h = activation(inputs @ kernel + bias + h @ recurrent_kernel)."""

    op = staticmethod(ops.simple_rnn)

    def step(self, x, used, h):
        """h after a step; used: h after dropout."""
        return (self.activation(ops.linear(x, self.kernel, self.bias) + ops.matmul(used, self.recurrent_kernel)),)


class LSTMCell(LSTMUnits, Cell):
    """One step of LSTM: inputs (batch, features), states [h, c], each (batch, units); returns h, [h, c]."""

    def __init__(self, units, activation="tanh", recurrent_activation="sigmoid", use_bias=True, kernel_initializer="glorot_uniform",
                 recurrent_initializer="orthogonal", bias_initializer="zeros", unit_forget_bias=True, kernel_regularizer=None,
                 recurrent_regularizer=None, bias_regularizer=None, kernel_constraint=None, recurrent_constraint=None, bias_constraint=None,
                 dropout=0.0, recurrent_dropout=0.0, seed=None, **kwargs):
        super().__init__(**kwargs)
        self._keep(locals())


class GRUCell(GRUUnits, Cell):
    """One step of GRU: inputs (batch, features), state h (batch, units), alone or in a list; returns h, and h as it came."""

    def __init__(self, units, activation="tanh", recurrent_activation="sigmoid", use_bias=True, kernel_initializer="glorot_uniform",
                 recurrent_initializer="orthogonal", bias_initializer="zeros", kernel_regularizer=None, recurrent_regularizer=None,
                 bias_regularizer=None, kernel_constraint=None, recurrent_constraint=None, bias_constraint=None, dropout=0.0,
                 recurrent_dropout=0.0, reset_after=True, seed=None, **kwargs):
        super().__init__(**kwargs)
        self._keep(locals())


class SimpleRNNCell(SimpleUnits, Cell):
    """One step of SimpleRNN: inputs (batch, features), state h (batch, units), alone or in a list; returns h, and h as it came."""

    def __init__(self, units, activation="tanh", use_bias=True, kernel_initializer="glorot_uniform", recurrent_initializer="orthogonal",
                 bias_initializer="zeros", kernel_regularizer=None, recurrent_regularizer=None, bias_regularizer=None,
                 kernel_constraint=None, recurrent_constraint=None, bias_constraint=None, dropout=0.0, recurrent_dropout=0.0, seed=None,
                 **kwargs):
        super().__init__(**kwargs)
        self._keep(locals())


class StackedRNNCells(Layer):
    """Cells one upon another: the output of each is the input of the next. The states are a list, one entry a cell."""

    def __init__(self, cells, **kwargs):
        super().__init__(**kwargs)
        for cell in cells:
            if not callable(cell) or not hasattr(cell, "state_size"):
                raise ValueError(f"StackedRNNCells: {cell!r} is no cell\n  a cell is called with inputs and states, and has a state_size")
        self.cells = list(cells)

    @property
    def state_size(self):
        """The state sizes of the cells, a list."""
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self):
        """The size of the last cell's output."""
        return output_size(self.cells[-1])

    def build(self, input_shape):
        """Build the cells."""
        for cell in self.cells:
            if isinstance(cell, Layer) and not cell.built:
                cell.build(input_shape)
            input_shape = (input_shape[0], output_size(cell))

    def call(self, inputs, states, training=False):
        """The output of the last cell, and the new states."""
        new = []
        for cell, state in zip(self.cells, states):
            inputs, state = step_of(cell, inputs, state, training)
            new.append(state)
        return inputs, new

    def get_initial_state(self, batch_size=None):
        """Those of the cells, a list."""
        return [initial_state(cell, batch_size, self.dtype) for cell in self.cells]

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "cells": [serialize(cell) for cell in self.cells]}

    @classmethod
    def from_config(cls, config):
        """New cells, unbuilt, from what get_config returned."""
        return cls(**{**config, "cells": [deserialize(cell) for cell in config["cells"]]})


def output_size(cell):
    """The size of a cell's output: its output_size, or its first state's."""
    size = getattr(cell, "output_size", None)
    if size is None:
        size = cell.state_size
    return size[0] if isinstance(size, (list, tuple)) else size


def initial_state(cell, batch_size, dtype):
    """A cell's first state: what its get_initial_state says, or zeros."""
    if hasattr(cell, "get_initial_state"):
        return cell.get_initial_state(batch_size=batch_size)
    zeros = lambda size: Tensor(np.zeros((batch_size, size), dtype))
    return [zeros(size) for size in cell.state_size] if isinstance(cell.state_size, (list, tuple)) else zeros(cell.state_size)


def step_of(cell, inputs, states, training):
    """One step of any cell; a cell that wants its states in a list gets and returns them so."""
    return cell(inputs, states, training=training) if getattr(cell, "_takes_training", False) else cell(inputs, states)
