"""Recurrent layers."""

import numpy as np

from .. import ops
from ..errors import shape_error
from ..op import Symbol
from ..structure import flatten, map_structure, pack
from .cells import GRUUnits, LSTMUnits, SimpleUnits, StackedRNNCells, Units, initial_state, output_size, step_of
from .layer import Layer
from .serialization import deserialize, serialize

__all__ = ["GRU", "LSTM", "RNN", "SimpleRNN"]


class RNN(Layer):
    """A cell over all steps of a sequence.

    inputs         (batch, time, ...)
    initial_state  a list of the cell's states, each (batch, size); zeros where left out
    mask           (batch, time) bool; False: the state stays, and the output is the one before
    returns        (batch, size), the last output; with return_sequences (batch, time, size), all;
                   with return_state followed by the states after the last step

    cell is called with the inputs of a step and the states, returns the output and the new states, and has a state_size; several
    cells in a list are stacked. stateful: each batch begins with the states after the one before; reset_state() makes them zeros.
    go_backwards goes through time from its end; the outputs are in the order in which they were computed. unroll is Keras', and
    changes nothing. LSTMCell, GRUCell and SimpleRNNCell, stacked or not, are as fast as the layers.
    """

    supports_masking = True

    def __init__(self, cell, return_sequences=False, return_state=False, go_backwards=False, stateful=False, unroll=False,
                 zero_output_for_mask=False, **kwargs):
        super().__init__(**kwargs)
        if isinstance(cell, (list, tuple)):
            cell = StackedRNNCells(cell)
        if not callable(cell) or not hasattr(cell, "state_size"):
            raise ValueError(f"RNN: {cell!r} is no cell\n  a cell is called with inputs and states, and has a state_size")
        self.cell = cell
        self._flags(return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask)

    def _flags(self, return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask):
        self.return_sequences, self.return_state, self.go_backwards = return_sequences, return_state, go_backwards
        self.stateful, self.unroll, self.zero_output_for_mask, self.states = stateful, unroll, zero_output_for_mask, None

    @property
    def state_size(self):
        """The sizes of the states, a list."""
        return self.cell.state_size if isinstance(self.cell.state_size, (list, tuple)) else [self.cell.state_size]

    def build(self, input_shape):
        """Build the cell for inputs (batch, time, ...), and make the states of a stateful layer."""
        if len(input_shape) < 3:
            raise shape_error(self.name, "wants at least three axes", inputs=(input_shape, "batch, time, ..."))
        if isinstance(self.cell, Layer) and not self.cell.built:
            self.cell.build((input_shape[0], *input_shape[2:]))
        self._make_states(input_shape)

    def _make_states(self, input_shape):
        if self.stateful:
            if input_shape[0] is None:
                raise shape_error(self.name, f"a stateful {type(self).__name__} must know the batch size: Input(batch_shape=…)",
                                  inputs=(input_shape, "batch, time, features"))
            names = iter(getattr(self.cell, "state_names", ()))
            self.states = map_structure(lambda size: self.add_weight((input_shape[0], size), "zeros", name=next(names, "state"), trainable=False),
                                        list(self.state_size))

    def _own_weights(self):
        states = {id(state) for state in flatten(self.states or ())}          # no weights, as in Keras: those of a layer without states fit
        return [w for w in super()._own_weights() if id(w) not in states]

    def get_initial_state(self, batch_size=None):
        """The cell's first states, a list."""
        states = initial_state(self.cell, batch_size, self.dtype)
        return list(states) if isinstance(states, (list, tuple)) else [states]

    def _first(self, given):
        """The states before the first step in a list; None: zeros."""
        if given is None:
            return map_structure(lambda state: self.latest(state) * 1.0, self.states) if self.stateful else None     # copies: the states change
        given = list(given) if isinstance(given, (list, tuple)) else [given]
        if len(flatten(given)) != len(flatten(self.state_size)):
            count, names = len(flatten(self.state_size)), getattr(self.cell, "state_names", ())
            what = f"{('one tensor', 'two tensors')[count - 1] if count < 3 else f'{count} tensors'}{', ' if names else ''}{' and '.join(names)}"
            raise ValueError(f"{self.name}: initial_state must be a list of {what}\n  each (batch, size); sizes are {self.state_size}")
        return pack(list(self.state_size), flatten(given))

    def call(self, sequences, initial_state=None, mask=None, training=False):
        """The outputs, and with return_state the states."""
        states = self._first(initial_state)
        if mask is not None and mask.dtype != "bool":
            mask = ops.cast(mask, "bool")
        cells = self.cell.cells if isinstance(self.cell, StackedRNNCells) else [self.cell]
        if all(isinstance(cell, Units) and cell.fused for cell in cells) and (len(cells) == 1 or mask is None or not self.go_backwards):
            output, states = self._at_once(cells, sequences, states, mask, training)
        else:
            output, states = self._step_by_step(sequences, states or self.get_initial_state(sequences.shape[0]), mask, training)
        if self.stateful:
            for state, last in zip(flatten(self.states), flatten(states)):
                self.add_update(state, last)
        return (output, *states) if self.return_state else output

    def _at_once(self, cells, sequences, states, mask, training):
        """Cell after cell, each over all steps."""
        after = []
        each = [states] if len(cells) == 1 and not isinstance(self.cell, StackedRNNCells) else states or [None] * len(cells)
        for i, (cell, first) in enumerate(zip(cells, each)):
            last = i == len(cells) - 1
            sequences, *ends = cell.all_steps(
                sequences, first if first is None or isinstance(first, list) else [first], mask, training,
                return_sequences=self.return_sequences or not last, go_backwards=self.go_backwards and not i,
                zero_output_for_mask=self.zero_output_for_mask and last)
            after.append(ends if len(ends) > 1 else ends[0])
        return sequences, after if isinstance(self.cell, StackedRNNCells) else ends

    def _step_by_step(self, sequences, states, mask, training):
        """Any cell, by one call a step."""
        time = sequences.shape[1]
        if not time:
            raise shape_error(self.name, "wants at least one step", inputs=(sequences.shape, "batch, time, ..."))
        outputs, output, single = [], None, not isinstance(self.cell.state_size, (list, tuple))
        for t in reversed(range(time)) if self.go_backwards else range(time):
            new_output, new = self._step(sequences[:, t], states[0] if single and not isinstance(self.cell, Units) else states, training)
            new = list(new) if isinstance(new, (list, tuple)) else [new]
            if mask is None:
                output, states = new_output, pack(states, flatten(new))
            else:
                on = ops.expand_dims(mask[:, t], -1)
                before = ops.zeros_like(new_output) if output is None or self.zero_output_for_mask and self.return_sequences else output
                output = ops.where(on, new_output, before)
                states = pack(states, [ops.where(on, a, b) for a, b in zip(flatten(new), flatten(states))])
            outputs.append(output)
        for cell in self._flatten_layers():
            if isinstance(cell, Units):
                cell.reset_dropout_mask(), cell.reset_recurrent_dropout_mask()
        return ops.stack(outputs, axis=1) if self.return_sequences else output, states

    def _step(self, inputs, states, training):
        return step_of(self.cell, inputs, states, training)

    def compute_output_shape(self, sequences_shape, initial_state_shape=None):
        """The shape of the output, and with return_state those of the states."""
        batch, size = sequences_shape[0], output_size(self.cell)
        shape = (batch, sequences_shape[1], size) if self.return_sequences else (batch, size)
        return (shape, *map_structure(lambda n: (batch, n), list(self.state_size))) if self.return_state else shape

    def compute_output_spec(self, sequences, initial_state=None, mask=None, training=False):
        """The Symbols that a call on Symbols gives."""
        batch, size = sequences.shape[0], output_size(self.cell)
        if initial_state is not None:
            self._first(initial_state)
        out = Symbol((batch, sequences.shape[1], size) if self.return_sequences else (batch, size), self.dtype)
        return (out, *map_structure(lambda n: Symbol((batch, n), self.dtype), list(self.state_size))) if self.return_state else out

    def compute_mask(self, inputs, previous_mask):
        """The mask of the inputs where the output is a sequence; none for the states."""
        mask = flatten(previous_mask)[0]
        if not self.return_sequences:
            mask = None
        return [mask, *[None] * len(flatten(self.state_size))] if self.return_state else mask

    def reset_state(self):
        """Make the states of a stateful layer zeros."""
        for state in flatten(self.states or ()):
            state.assign(np.zeros(state.shape))

    reset_states = reset_state

    def get_config(self):
        """The constructor's arguments."""
        flags = ("return_sequences", "return_state", "go_backwards", "stateful", "unroll", "zero_output_for_mask")
        return {**super().get_config(), **{name: getattr(self, name) for name in flags}, "cell": serialize(self.cell)}

    @classmethod
    def from_config(cls, config):
        """A new layer, unbuilt, from what get_config returned."""
        return cls(**{**config, "cell": deserialize(config["cell"])}) if "cell" in config else cls(**config)


class RecurrentUnits(RNN):
    """A recurrent layer whose weights are its own: it is its own cell."""

    def __init__(self, given, activity_regularizer, zero_output_for_mask=False, **kwargs):
        Layer.__init__(self, activity_regularizer=activity_regularizer, **kwargs)
        self._keep(given)
        self._flags(self.return_sequences, self.return_state, self.go_backwards, self.stateful, self.unroll, zero_output_for_mask)

    @property
    def cell(self):
        """The layer itself."""
        return self

    @property
    def state_size(self):
        """The sizes of the states, a list."""
        return [self.units] * len(self.state_names)

    def get_initial_state(self, batch_size=None):
        """Zeros, a list."""
        states = Units.get_initial_state(self, batch_size)
        return states if isinstance(states, list) else [states]

    def build(self, input_shape):
        """Make the weights for inputs (batch, time, features), and the states of a stateful layer."""
        if len(input_shape) != 3 or input_shape[-1] is None:
            raise shape_error(self.name, f"{type(self).__name__} wants three axes, the last of known size",
                              inputs=(input_shape, "batch, time, features"))
        self.add_weights(input_shape[-1])
        self._make_states(input_shape)

    def _step(self, inputs, states, training):
        return self.advance(inputs, states, training)

    def get_config(self):
        """The constructor's arguments."""
        from .. import regularizers
        return {**Units.get_config(self), "activity_regularizer": regularizers.serialize(self.activity_regularizer),
                "zero_output_for_mask": self.zero_output_for_mask}


class LSTM(RecurrentUnits, LSTMUnits):
    """Long short-term memory (Hochreiter and Schmidhuber 1997).

    inputs            (batch, time, features)
    initial_state     [h, c], each (batch, units); zeros where left out
    mask              (batch, time) bool; False: the state stays, and the output is the one before
    kernel            (features, 4 * units)   gates in the order input, forget, cell, output
    recurrent_kernel  (units, 4 * units)
    bias              (4 * units)
    returns           (batch, units), the last output; with return_sequences (batch, time, units), all;
                      with return_state followed by h and c after the last step, each (batch, units)

    dropout and recurrent_dropout are shares of the inputs and of h that are dropped in training, the same ones at every step.
    stateful: each batch begins with the states after the one before; reset_state() makes them zeros. go_backwards goes through
    time from its end; the outputs are in the order in which they were computed. unroll and use_cudnn are Keras', and change nothing.
    With activation and recurrent_activation among tanh, sigmoid, relu and linear one kernel does all steps; others go step by step.
    """

    def __init__(self, units, activation="tanh", recurrent_activation="sigmoid", use_bias=True, kernel_initializer="glorot_uniform",
                 recurrent_initializer="orthogonal", bias_initializer="zeros", unit_forget_bias=True, kernel_regularizer=None,
                 recurrent_regularizer=None, bias_regularizer=None, activity_regularizer=None, kernel_constraint=None,
                 recurrent_constraint=None, bias_constraint=None, dropout=0.0, recurrent_dropout=0.0, seed=None, return_sequences=False,
                 return_state=False, go_backwards=False, stateful=False, unroll=False, use_cudnn="auto", **kwargs):
        super().__init__(locals(), activity_regularizer, **kwargs)


class GRU(RecurrentUnits, GRUUnits):
    """Gated recurrent unit (Cho et al. 2014).

    inputs            (batch, time, features)
    initial_state     h (batch, units), alone or in a list; zeros where left out
    mask              (batch, time) bool; False: the state stays, and the output is the one before
    kernel            (features, 3 * units)   gates in the order update, reset, candidate
    recurrent_kernel  (units, 3 * units)
    bias              (2, 3 * units) with reset_after: of the inputs' products, of h's; else (3 * units)
    returns           (batch, units), the last output; with return_sequences (batch, time, units), all;
                      with return_state followed by h after the last step

    reset_after: the reset gate multiplies the product of h, not h before it. The other arguments are as of LSTM; recurrent_dropout
    drops the same of h for all gates.
    """

    def __init__(self, units, activation="tanh", recurrent_activation="sigmoid", use_bias=True, kernel_initializer="glorot_uniform",
                 recurrent_initializer="orthogonal", bias_initializer="zeros", kernel_regularizer=None, recurrent_regularizer=None,
                 bias_regularizer=None, activity_regularizer=None, kernel_constraint=None, recurrent_constraint=None, bias_constraint=None,
                 dropout=0.0, recurrent_dropout=0.0, seed=None, return_sequences=False, return_state=False, go_backwards=False,
                 stateful=False, unroll=False, reset_after=True, use_cudnn="auto", **kwargs):
        super().__init__(locals(), activity_regularizer, **kwargs)


class SimpleRNN(RecurrentUnits, SimpleUnits):
    """h = activation(inputs @ kernel + bias + h @ recurrent_kernel), the output of every step.

    inputs            (batch, time, features)
    initial_state     h (batch, units), alone or in a list; zeros where left out
    mask              (batch, time) bool; False: the state stays, and the output is the one before
    kernel            (features, units)
    recurrent_kernel  (units, units)
    bias              (units)
    returns           (batch, units), the last output; with return_sequences (batch, time, units), all;
                      with return_state followed by h after the last step

    The other arguments are as of LSTM.
    """

    def __init__(self, units, activation="tanh", use_bias=True, kernel_initializer="glorot_uniform", recurrent_initializer="orthogonal",
                 bias_initializer="zeros", kernel_regularizer=None, recurrent_regularizer=None, bias_regularizer=None,
                 activity_regularizer=None, kernel_constraint=None, recurrent_constraint=None, bias_constraint=None, dropout=0.0,
                 recurrent_dropout=0.0, return_sequences=False, return_state=False, go_backwards=False, stateful=False, unroll=False,
                 seed=None, **kwargs):
        super().__init__(locals(), activity_regularizer, **kwargs)
