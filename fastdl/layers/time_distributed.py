"""A layer on every step of a sequence."""

from .. import ops
from ..errors import shape_error
from .layer import Layer
from .serialization import deserialize, serialize

__all__ = ["TimeDistributed"]


class TimeDistributed(Layer):
    """A layer on every step of a sequence.

    inputs   (batch, time, ...)
    mask     (batch, time, ...)
    returns  (batch, time, ...), what the layer gives for (batch, ...)

    The steps go through the layer as one batch; one after the other where it has weights that are not trained (BatchNormalization).
    """

    supports_masking = True

    def __init__(self, layer, **kwargs):
        if not isinstance(layer, Layer):
            raise ValueError(f"TimeDistributed: layer is {type(layer).__name__}; wanted is a layer")
        super().__init__(**kwargs)
        self.layer = layer

    def _step_shape(self, input_shape):
        if len(input_shape) < 3:
            raise shape_error(self.name, "TimeDistributed wants at least three axes", inputs=(input_shape, "batch, time, ..."))
        return (input_shape[0], *input_shape[2:])

    def build(self, input_shape):
        """Build the layer for (batch, ...)."""
        shape = self._step_shape(input_shape)
        if not self.layer.built:
            self.layer.build(shape)

    def compute_output_shape(self, input_shape):
        """The layer's output shape with the axis of time."""
        shape = self.layer.compute_output_shape(self._step_shape(input_shape))
        return (shape[0], input_shape[1], *shape[1:])

    def call(self, inputs, training=None, mask=None):
        """The layer on every step."""
        batch, time, *rest = inputs.shape
        if mask is not None and tuple(mask.shape[:2]) != (batch, time):
            raise shape_error(self.name, "the mask has other axes than the inputs", inputs=(inputs.shape, "batch, time, ..."),
                              mask=(mask.shape, "batch, time, ..."))

        def step(x, mask):
            given = {"mask": mask} if mask is not None and self.layer._takes_mask else {}
            return self.layer(x, **given, **({"training": training} if training is not None else {}))

        if time and (self.layer.non_trainable_weights or any(getattr(one, "stateful", False) for one in self.layer._flatten_layers())):
            return ops.stack([step(inputs[:, t], mask if mask is None else mask[:, t]) for t in range(time)], axis=1)
        y = step(ops.reshape(inputs, (batch * time, *rest)), mask if mask is None else ops.reshape(mask, (batch * time, *mask.shape[2:])))
        return ops.reshape(y, (batch, time, *y.shape[1:]))

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "layer": serialize(self.layer)}

    @classmethod
    def from_config(cls, config):
        """A new layer, unbuilt, from what get_config returned."""
        return cls(**{**config, "layer": deserialize(config["layer"])})
