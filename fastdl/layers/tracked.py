"""Tracked: finds the weights and layers among a layer's attributes."""

import numpy as np

from ..random import SeedGenerator
from ..tensor import Parameter

# Attributes that hold no layers of the user's.
BOOKS = {"_arguments", "_weights", "_fixed", "_own_losses", "_losing", "_made", "_trained_known", "_quick", "_recorded", "_predictor"}


class Tracked:
    """What a layer knows of its weights and of the layers inside it: those that are its attributes, or in lists and dicts there."""

    def __setattr__(self, name, value):
        if isinstance(value, (Tracked, list, tuple, dict)):
            Parameter.changes += 1
        object.__setattr__(self, name, value)

    # Copies and pickles: what is known of weights by their identity is noted by the weights, what was recorded is left behind.

    def __getstate__(self):
        kept = {name: value for name, value in self.__dict__.items() if name not in BOOKS or name in ("_arguments", "_weights")}
        return {**kept, "_fixed": [w for w in self._weights if id(w) in self._fixed]}

    def __setstate__(self, state):
        self.__dict__.update(state, _fixed=set(map(id, state["_fixed"])), _own_losses=[], _losing=[], _made=[])
        if "_dtype" in state:
            self._dtype = np.dtype(state["_dtype"].name)           # the one that arrays have
        Parameter.changes += 1

    def _tracked(self):
        """(name, value) of the layers, Parameters and random generators among the attributes, and in their lists and dicts."""
        for name, value in self.__dict__.items():
            if isinstance(value, (Tracked, Parameter, SeedGenerator)):
                yield name, value
            elif isinstance(value, (list, tuple, dict)) and value and name not in BOOKS:
                yield from _contained(name, value)

    def _children(self):
        """(name, layer) of the layers directly inside, without repetition."""
        seen = set()
        for name, value in self._tracked():
            if isinstance(value, Tracked) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def _own_weights(self):
        own = {id(w): w for w in self._weights}
        own.update((id(w), w) for _, w in self._tracked() if isinstance(w, Parameter))
        return sorted(own.values(), key=lambda w: not self._meant_to_train(w))

    def _meant_to_train(self, weight):
        return id(weight) not in self._fixed

    def _flatten_layers(self, seen=None):
        """This layer and all inside it, depth first."""
        seen = set() if seen is None else seen
        if id(self) not in seen:
            seen.add(id(self))
            yield self
            for _, layer in self._children():
                yield from layer._flatten_layers(seen)

    @property
    def weights(self):
        """The Parameters of the layer and of those inside it."""
        return list({id(w): w for layer in self._flatten_layers() for w in layer._own_weights()}.values())

    @property
    def variables(self):
        """The weights and the states of random generators."""
        return self.weights + self.seed_states()

    def seed_states(self):
        """The states of the random generators of this layer and those inside it."""
        return [value.state for layer in self._flatten_layers() for _, value in layer._tracked() if isinstance(value, SeedGenerator)]

    @property
    def trainable_weights(self):
        """The Parameters that optimisers change."""
        return [w for w in self.weights if w.trainable] if self._trainable else []

    @property
    def non_trainable_weights(self):
        """The Parameters that optimisers leave alone."""
        return [w for w in self.weights if not w.trainable] if self._trainable else self.weights

    trainable_variables = trainable_weights
    non_trainable_variables = non_trainable_weights

    @property
    def trainable(self):
        """Whether optimisers change the weights; setting it sets it for all layers inside."""
        return self._trainable

    @trainable.setter
    def trainable(self, value):
        self._trainable = bool(value)
        for w in self._own_weights():
            w.trainable = self._trainable and self._meant_to_train(w)
        for _, layer in self._children():
            layer.trainable = value

    def get_weights(self):
        """Copies of the weights, as a list of arrays."""
        return [w.array.copy() for w in self.weights]

    def set_weights(self, weights):
        """Overwrite the weights with a list of arrays, in the order of get_weights()."""
        own, weights = self.weights, list(weights)
        if len(own) != len(weights):
            raise ValueError(f"{self.name}.set_weights: {len(weights)} arrays were given; the layer has {len(own)} weights"
                             + ("" if self.built else "\n  It is not built yet: call it on data, or build(input_shape)."))
        for w, value in zip(own, weights):
            if w.shape != np.shape(value):
                raise ValueError(f"{self.name}.set_weights: {w.path} has shape {w.shape}; the array has {np.shape(value)}")
        for w, value in zip(own, weights):
            w.assign(value)

    def count_params(self):
        """How many numbers the weights hold."""
        if not self.built:
            raise ValueError(f"count_params: {self.name} is not built yet; call it on data, or {self.name}.build(input_shape)")
        return sum(w.size for w in self.weights)


def _contained(name, value):
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(item, (Tracked, Parameter)):
            yield f"{name}/{key}", item
        elif isinstance(item, (list, tuple, dict)):
            yield from _contained(f"{name}/{key}", item)
