"""A recurrent layer in both directions."""

from .. import ops
from ..structure import flatten
from .layer import Layer
from .recurrent import GRU, LSTM, SimpleRNN
from .serialization import deserialize, serialize

__all__ = ["Bidirectional"]

MERGE = {"concat": lambda y, z: ops.concatenate([y, z], axis=-1), "sum": lambda y, z: y + z, "mul": lambda y, z: y * z,
         "ave": lambda y, z: (y + z) * 0.5, None: lambda y, z: (y, z)}
AT_ONCE = {LSTM: "lstm", GRU: "gru", SimpleRNN: "simple_rnn"}          # layers of which one op does both directions


class Bidirectional(Layer):
    """A recurrent layer forwards and another backwards through time.

    inputs         (batch, time, ...)
    initial_state  the states of the one, then those of the other
    returns        the outputs of both, those of the second in the order of time: merge_mode "concat" (..., 2 * units), "sum", "mul",
                   "ave" (..., units), None: both, one after the other; with return_state followed by the states of both

    layer          what goes forwards; a layer of its own arguments is made of it
    backward_layer what goes backwards; without it, one of layer's arguments but for go_backwards
    weights        arrays for both, those of the first before those of the second
    """

    supports_masking = True

    def __init__(self, layer, merge_mode="concat", weights=None, backward_layer=None, **kwargs):
        for name, given in ("layer", layer), ("backward_layer", backward_layer):
            if not (isinstance(given, Layer) and hasattr(given, "go_backwards")) and (given is not None or name == "layer"):
                raise ValueError(f"Bidirectional: {name} is {type(given).__name__}; wanted is a recurrent layer")
        if merge_mode not in MERGE:
            raise ValueError(f"Bidirectional: merge_mode is {merge_mode!r}\n  known are concat, sum, mul, ave and None")
        super().__init__(**kwargs)

        def remade(prefix, **changed):
            described = serialize(layer)
            name = f"{prefix}_{layer.name.removeprefix(f'{prefix}_')}"
            return type(layer).from_config({**described["config"], "name": name, **changed})

        self.forward_layer = remade("forward")
        self.backward_layer = backward_layer or remade("backward", go_backwards=not layer.go_backwards)
        one, other = self.forward_layer, self.backward_layer
        if one.go_backwards == other.go_backwards:
            raise ValueError(f"Bidirectional: both layers have go_backwards={one.go_backwards}\n  one must go forwards and one backwards")
        for name in ("stateful", "return_sequences", "return_state"):
            if getattr(one, name) != getattr(other, name):
                raise ValueError(f"Bidirectional: {name} is {getattr(one, name)} in layer and {getattr(other, name)} in backward_layer"
                                 "\n  it must be the same in both")
            setattr(self, name, getattr(one, name))
        for each in one, other:
            each.zero_output_for_mask = each.return_sequences
        self.merge_mode, self._given = merge_mode, weights

    def build(self, input_shape):
        """Build both layers for inputs (batch, time, ...)."""
        for layer in self.forward_layer, self.backward_layer:
            if not layer.built:
                layer.build(input_shape)
        if self._given:
            self.set_weights(self._given)

    def call(self, sequences, initial_state=None, mask=None, training=False):
        """Both layers, merged."""
        half = len(initial_state) // 2 if initial_state is not None else 0
        first, second = (initial_state[:half], initial_state[half:]) if initial_state is not None else (None, None)
        if self._alike():
            y, z = self._at_once(sequences, first, second, mask, training)
        else:
            y = self.forward_layer(sequences, initial_state=first, mask=mask, training=training)
            z = self.backward_layer(sequences, initial_state=second, mask=mask, training=training)
        states = ()
        if self.return_state:
            (y, *of_y), (z, *of_z) = y, z
            states = (*of_y, *of_z)
        if self.return_sequences:
            z = z[:, ::-1]
        out = MERGE[self.merge_mode](y, z)
        if self.return_state:
            return (*out, *states) if self.merge_mode is None else (out, *states)
        return out

    def _alike(self):
        """Whether one op does both layers: of the same kind and options, with nothing around their call."""
        one, other = self.forward_layer, self.backward_layer
        return (type(one) is type(other) and type(one) in AT_ONCE and one.fused and one.options() == other.options() and
                one.zero_output_for_mask == other.zero_output_for_mask and not self.stateful and
                one.activity_regularizer is other.activity_regularizer is None and one.dtype_policy.name == other.dtype_policy.name == self.dtype_policy.name)

    def _at_once(self, sequences, first, second, mask, training):
        """What both layers return, computed side by side."""
        one, other = self.forward_layer, self.backward_layer
        mask = ops.cast(mask, "bool") if mask is not None and mask.dtype != "bool" else mask
        inputs = [layer.op_inputs(sequences, layer._first(states), mask, training) for layer, states in ((one, first), (other, second))]
        results = ops.bidirectional(*inputs[0], *inputs[1], of=AT_ONCE[type(one)], go_backwards=one.go_backwards,
                                    return_sequences=self.return_sequences, zero_output_for_mask=one.zero_output_for_mask, **one.options())
        both = results[: len(results) // 2], results[len(results) // 2:]
        return both if self.return_state else [outputs[0] for outputs in both]

    def compute_output_spec(self, sequences, initial_state=None, mask=None, training=False):
        """The Symbols that a call on Symbols gives."""
        y, z = (layer.compute_output_spec(sequences) for layer in (self.forward_layer, self.backward_layer))
        (y, *of_y), (z, *of_z) = (y, z) if self.return_state else ((y,), (z,))
        out = MERGE[self.merge_mode](y, z)
        if self.return_state:
            return (*out, *of_y, *of_z) if self.merge_mode is None else (out, *of_y, *of_z)
        return out

    def compute_mask(self, inputs, previous_mask):
        """The mask of the inputs where the output is a sequence; none for the states."""
        mask = flatten(previous_mask)[0] if self.return_sequences else None
        masks = [mask, mask] if self.merge_mode is None else [mask]
        if self.return_state:
            masks += [None] * sum(len(flatten(layer.state_size)) for layer in (self.forward_layer, self.backward_layer))
        return masks

    def reset_state(self):
        """Make the states of stateful layers zeros."""
        self.forward_layer.reset_state()
        self.backward_layer.reset_state()

    reset_states = reset_state

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "merge_mode": self.merge_mode, "layer": serialize(self.forward_layer),
                "backward_layer": serialize(self.backward_layer)}

    @classmethod
    def from_config(cls, config):
        """New layers, unbuilt, from what get_config returned."""
        layers = {name: deserialize(config[name]) for name in ("layer", "backward_layer") if config.get(name) is not None}
        return cls(**{**config, **layers})
