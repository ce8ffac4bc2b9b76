"""Embedding."""

from .. import constraints, initializers, ops, regularizers
from .core import positive_integer
from .layer import Layer

__all__ = ["Embedding"]


class Embedding(Layer):
    """The row of `embeddings` that each token names.

    inputs      any shape; integers, 0 to input_dim - 1
    embeddings  (input_dim, output_dim)
    returns     the shape of inputs, output_dim

    mask_zero: token 0 is padding, and the output has a mask that leaves it out. weights: the array to begin with.
    DataError for a token out of range.
    """

    input_dtype = "int32"

    def __init__(self, input_dim, output_dim, embeddings_initializer="uniform", embeddings_regularizer=None,
                 embeddings_constraint=None, mask_zero=False, weights=None, **kwargs):
        kwargs.pop("input_length", None)         # Keras 2
        super().__init__(**kwargs)
        self.input_dim = positive_integer("Embedding", "input_dim", input_dim)
        self.output_dim = positive_integer("Embedding", "output_dim", output_dim)
        self.embeddings_initializer = initializers.get(embeddings_initializer)
        self.embeddings_regularizer = regularizers.get(embeddings_regularizer)
        self.embeddings_constraint = constraints.get(embeddings_constraint)
        self.mask_zero = self.supports_masking = bool(mask_zero)
        if weights is not None:
            self.build(None)
            self.set_weights(weights if isinstance(weights, list) and len(weights) == 1 else [weights])

    def build(self, input_shape=None):
        """Make the table."""
        self.embeddings = self.add_weight((self.input_dim, self.output_dim), self.embeddings_initializer, name="embeddings",
                                          regularizer=self.embeddings_regularizer, constraint=self.embeddings_constraint)

    def call(self, inputs):
        """The rows."""
        return ops.embedding(inputs, self.embeddings)

    def compute_mask(self, inputs, previous_mask=None):
        """inputs != 0 with mask_zero, else None."""
        return ops.not_equal(inputs, 0) if self.mask_zero else None

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "input_dim": self.input_dim, "output_dim": self.output_dim,
                "embeddings_initializer": initializers.serialize(self.embeddings_initializer),
                "embeddings_regularizer": regularizers.serialize(self.embeddings_regularizer),
                "activity_regularizer": regularizers.serialize(self.activity_regularizer),
                "embeddings_constraint": constraints.serialize(self.embeddings_constraint), "mask_zero": self.mask_zero}
