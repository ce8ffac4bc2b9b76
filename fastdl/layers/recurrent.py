"""Recurrent layers."""

import numpy as np

from .. import activations, constraints, initializers, ops, random, regularizers
from ..errors import shape_error
from ..op import ACTIVATIONS, Symbol
from ..tensor import Tensor
from .core import fused, positive_integer
from .layer import Layer

__all__ = ["LSTM"]


class LSTM(Layer):
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
    activation and recurrent_activation are tanh, sigmoid, relu or linear.
    """

    input_dtype = "float32"
    supports_masking = True

    def __init__(self, units, activation="tanh", recurrent_activation="sigmoid", use_bias=True, kernel_initializer="glorot_uniform",
                 recurrent_initializer="orthogonal", bias_initializer="zeros", unit_forget_bias=True, kernel_regularizer=None,
                 recurrent_regularizer=None, bias_regularizer=None, activity_regularizer=None, kernel_constraint=None,
                 recurrent_constraint=None, bias_constraint=None, dropout=0.0, recurrent_dropout=0.0, seed=None, return_sequences=False,
                 return_state=False, go_backwards=False, stateful=False, unroll=False, use_cudnn="auto", zero_output_for_mask=False,
                 **kwargs):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.units = positive_integer("LSTM", "units", units)
        self.activation, self.recurrent_activation = activations.get(activation), activations.get(recurrent_activation)
        for name, given in ("activation", activation), ("recurrent_activation", recurrent_activation):
            if fused(getattr(self, name)) is None:
                raise ValueError(f"LSTM: {name} is {given!r}\n  known are {', '.join(filter(None, ACTIVATIONS))}")
        if use_cudnn not in ("auto", True, False):
            raise ValueError(f"LSTM: use_cudnn is {use_cudnn!r}\n  it may be 'auto', True or False, and changes nothing on a CPU")
        self.use_bias, self.unit_forget_bias = use_bias, unit_forget_bias
        self.kernel_initializer, self.recurrent_initializer = initializers.get(kernel_initializer), initializers.get(recurrent_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer, self.recurrent_regularizer = regularizers.get(kernel_regularizer), regularizers.get(recurrent_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint, self.recurrent_constraint = constraints.get(kernel_constraint), constraints.get(recurrent_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.dropout, self.recurrent_dropout = (min(1.0, max(0.0, rate)) for rate in (dropout, recurrent_dropout))
        self.seed = seed
        self.seed_generator = random.SeedGenerator(seed) if self.dropout or self.recurrent_dropout else None
        self.return_sequences, self.return_state, self.go_backwards = return_sequences, return_state, go_backwards
        self.stateful, self.unroll, self.use_cudnn, self.zero_output_for_mask = stateful, unroll, use_cudnn, zero_output_for_mask
        self.states = None

    def build(self, input_shape):
        """Make the weights for inputs (batch, time, features), and the states of a stateful layer."""
        if len(input_shape) != 3 or input_shape[-1] is None:
            raise shape_error(self.name, "LSTM wants three axes, the last of known size", inputs=(input_shape, "batch, time, features"))
        units = self.units
        self.kernel = self.add_weight((input_shape[-1], 4 * units), self.kernel_initializer, name="kernel",
                                      regularizer=self.kernel_regularizer, constraint=self.kernel_constraint)
        self.recurrent_kernel = self.add_weight((units, 4 * units), self.recurrent_initializer, name="recurrent_kernel",
                                                regularizer=self.recurrent_regularizer, constraint=self.recurrent_constraint)

        def forgetting(shape, dtype):
            return np.concatenate([self.bias_initializer((units,), dtype=dtype), np.ones(units, dtype),
                                   self.bias_initializer((2 * units,), dtype=dtype)])

        self.bias = self.add_weight((4 * units,), forgetting if self.unit_forget_bias else self.bias_initializer, name="bias",
                                    regularizer=self.bias_regularizer, constraint=self.bias_constraint) if self.use_bias else None
        if self.stateful:
            if input_shape[0] is None:
                raise shape_error(self.name, "a stateful LSTM must know the batch size: Input(batch_shape=…)",
                                  inputs=(input_shape, "batch, time, features"))
            self.states = [self.add_weight((input_shape[0], units), "zeros", name=name, trainable=False) for name in ("h", "c")]

    def call(self, inputs, initial_state=None, mask=None, training=False):
        """The outputs, and with return_state the states."""
        if initial_state is None:
            h, c = [state * 1.0 for state in self.states] if self.stateful else (None, None)     # copies: the states change
        elif isinstance(initial_state, (list, tuple)) and len(initial_state) == 2:
            h, c = initial_state
        else:
            raise ValueError(f"{self.name}: initial_state must be a list of two tensors, h and c\n  each (batch, {self.units})")
        if mask is not None and mask.dtype != "bool":
            mask = ops.cast(mask, "bool")
        recurrent_mask = None
        if training and not isinstance(inputs, Symbol):
            batch, _, features = inputs.shape
            if 0 < self.dropout < 1:
                inputs = random.dropout(inputs, self.dropout, noise_shape=(batch, 1, features), seed=self.seed_generator)
            if 0 < self.recurrent_dropout < 1:
                ones = Tensor(np.ones((batch, self.units), inputs.dtype))
                recurrent_mask = random.dropout(ones, self.recurrent_dropout, seed=self.seed_generator)
        outputs = ops.lstm(inputs, self.kernel, self.recurrent_kernel, self.bias, h, c, mask, recurrent_mask,
                           return_sequences=self.return_sequences, go_backwards=self.go_backwards,
                           zero_output_for_mask=self.zero_output_for_mask, activation=fused(self.activation),
                           recurrent_activation=fused(self.recurrent_activation))
        if self.stateful:
            for state, last in zip(self.states, outputs[1:]):
                self.add_update(state, last)
        return tuple(outputs) if self.return_state else outputs[0]

    def compute_mask(self, inputs, previous_mask):
        """The mask of the inputs where the output is a sequence; none for the states."""
        mask = previous_mask[0] if isinstance(previous_mask, (list, tuple)) else previous_mask
        if not self.return_sequences:
            mask = None
        return [mask, None, None] if self.return_state else mask

    def reset_state(self):
        """Make the states of a stateful layer zeros."""
        for state in self.states or ():
            state.assign(np.zeros(state.shape))

    reset_states = reset_state

    def get_config(self):
        """The constructor's arguments."""
        config = {**super().get_config(), "units": self.units, "activation": activations.serialize(self.activation),
                  "recurrent_activation": activations.serialize(self.recurrent_activation)}
        for of, names in (initializers, ("kernel_initializer", "recurrent_initializer", "bias_initializer")), (
                regularizers, ("kernel_regularizer", "recurrent_regularizer", "bias_regularizer", "activity_regularizer")), (
                constraints, ("kernel_constraint", "recurrent_constraint", "bias_constraint")):
            config.update((name, of.serialize(getattr(self, name))) for name in names)
        plain = ("use_bias", "unit_forget_bias", "dropout", "recurrent_dropout", "seed", "return_sequences", "return_state", "go_backwards",
                 "stateful", "unroll", "use_cudnn", "zero_output_for_mask")
        return {**config, **{name: getattr(self, name) for name in plain}}
