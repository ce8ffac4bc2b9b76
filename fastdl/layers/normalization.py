"""Layers that normalise by the statistics of the batch or of each sample."""

from .. import constraints, initializers, ops, regularizers
from ..op import Symbol
from ..ops.normalization import BatchNormalization as BatchNormalizationOp
from ..tensor import Tensor
from .layer import Layer

__all__ = ["BatchNormalization", "LayerNormalization", "RMSNormalization"]


class _Normalization(Layer):
    """What the layers here share: gamma and beta."""

    supports_masking = True
    input_dtype = "float32"

    def _keep(self, **given):
        """Store the arguments; initialisers, regularisers and constraints by what they name."""
        for name, value in given.items():
            kind = next((k for k in (initializers, regularizers, constraints) if name.endswith(k.__name__.split(".")[-1][:-1])), None)
            setattr(self, name, kind.get(value) if kind else value)
        self._given = tuple(given)

    def _weight(self, name, shape):
        return self.add_weight(shape, initializer=getattr(self, f"{name}_initializer"), name=name, dtype=self.dtype,
                               regularizer=getattr(self, f"{name}_regularizer"), constraint=getattr(self, f"{name}_constraint"))

    def get_config(self):
        """The constructor's arguments."""
        config = super().get_config()
        for name in self._given:
            kind = next((k for k in (initializers, regularizers, constraints) if name.endswith(k.__name__.split(".")[-1][:-1])), None)
            value = getattr(self, name)
            config[name] = kind.serialize(value) if kind else list(value) if isinstance(value, tuple) else value
        return config


class BatchNormalization(_Normalization):
    """(x - mean) / sqrt(variance + epsilon) gamma + beta, per channel. (Ioffe and Szegedy, 2015.)

    In training, and while the layer is trainable, mean and variance are the batch's, and the moving ones go (1 - momentum) of
    the way towards them; else they are the moving ones.
    """

    def __init__(self, axis=-1, momentum=0.99, epsilon=1e-3, center=True, scale=True, beta_initializer="zeros",
                 gamma_initializer="ones", moving_mean_initializer="zeros", moving_variance_initializer="ones", beta_regularizer=None,
                 gamma_regularizer=None, beta_constraint=None, gamma_constraint=None, **kwargs):
        super().__init__(**kwargs)
        self._keep(axis=axis, momentum=momentum, epsilon=epsilon, center=center, scale=scale, beta_initializer=beta_initializer,
                   gamma_initializer=gamma_initializer, moving_mean_initializer=moving_mean_initializer,
                   moving_variance_initializer=moving_variance_initializer, beta_regularizer=beta_regularizer,
                   gamma_regularizer=gamma_regularizer, beta_constraint=beta_constraint, gamma_constraint=gamma_constraint)

    def build(self, input_shape):
        """Make gamma, beta and the moving statistics."""
        if not -len(input_shape) <= self.axis < len(input_shape) or input_shape[self.axis] is None:
            raise ValueError(f"{self.name}: the inputs have shape {tuple(input_shape)}; axis {self.axis} must exist and be known")
        shape = (input_shape[self.axis],)
        self.gamma = self._weight("gamma", shape) if self.scale else None
        self.beta = self._weight("beta", shape) if self.center else None
        self.moving_mean = self.add_weight(shape, initializer=self.moving_mean_initializer, name="moving_mean", trainable=False)
        self.moving_variance = self.add_weight(shape, initializer=self.moving_variance_initializer, name="moving_variance", trainable=False)

    def call(self, inputs, training=None, mask=None):
        """Normalise; mask: the positions that count for the statistics."""
        return self.normalise(inputs, training, mask)

    def normalise(self, inputs, training=None, mask=None, residual=None, activation=None):
        """activation(normalised + residual); the moving statistics take neither."""
        if not training or not self.trainable or isinstance(inputs, Symbol):
            return ops.Standardize.apply(inputs, self.moving_mean, self.moving_variance, self.gamma, self.beta, axis=self.axis, epsilon=self.epsilon)
        op = BatchNormalizationOp.__new__(BatchNormalizationOp)
        op.axis, op.epsilon, op.activation = self.axis, self.epsilon, activation
        if mask is not None and self.axis not in (-1, inputs.ndim - 1):
            raise ValueError(f"{self.name}: with a mask, the channels must be the last axis, not axis {self.axis}")
        out = op(inputs, self.gamma, self.beta, mask, residual)
        for moving, now in ((self.moving_mean, op.mean), (self.moving_variance, op.variance)):
            self.add_update(moving, ops.MovingAverage.apply(self.latest(moving), Tensor(now), momentum=self.momentum))
        return out


class LayerNormalization(_Normalization):
    """(x - mean) / sqrt(variance + epsilon) gamma + beta, the statistics being those of each sample over `axis`. (Ba et al., 2016.)"""

    def __init__(self, axis=-1, epsilon=1e-3, center=True, scale=True, beta_initializer="zeros", gamma_initializer="ones",
                 beta_regularizer=None, gamma_regularizer=None, beta_constraint=None, gamma_constraint=None, **kwargs):
        super().__init__(**kwargs)
        self._keep(axis=tuple(axis) if isinstance(axis, (list, tuple)) else axis, epsilon=epsilon, center=center, scale=scale,
                   beta_initializer=beta_initializer, gamma_initializer=gamma_initializer, beta_regularizer=beta_regularizer,
                   gamma_regularizer=gamma_regularizer, beta_constraint=beta_constraint, gamma_constraint=gamma_constraint)

    centred = True

    def build(self, input_shape):
        """Make gamma and beta."""
        axes = _axes(self, self.axis, len(input_shape))
        shape = tuple(input_shape[a] for a in axes)
        if None in shape:
            raise ValueError(f"{self.name}: the inputs have shape {tuple(input_shape)}; the axes {self.axis} must be known")
        self.gamma = self._weight("gamma", shape) if self.scale else None
        self.beta = self._weight("beta", shape) if self.center else None

    def call(self, inputs):
        """Normalise."""
        axes = _axes(self, self.axis, len(inputs.shape))
        order = [a for a in range(len(inputs.shape)) if a not in axes] + axes
        moved = order != sorted(order)
        x = ops.transpose(inputs, order) if moved else inputs
        y = ops.LayerNormalization.apply(x, self.gamma, self.beta, axes=len(axes), epsilon=self.epsilon, centred=self.centred)
        return ops.transpose(y, [order.index(a) for a in range(len(order))]) if moved else y


class RMSNormalization(LayerNormalization):
    """x / sqrt(mean of x^2 + epsilon) times a weight, over the axis. (Zhang and Sennrich, 2019.)"""

    centred = False

    def __init__(self, axis=-1, epsilon=1e-6, **kwargs):
        super().__init__(axis, epsilon, center=False, **kwargs)
        self._given = "axis", "epsilon"

    def _weight(self, name, shape):
        return self.add_weight(shape, initializer="ones", name="scale")


def _axes(layer, axis, ndim):
    """The axes from 0 up, sorted."""
    axes = sorted(a + ndim if a < 0 else a for a in (axis if isinstance(axis, tuple) else (axis,)))
    if not axes or axes[0] < 0 or axes[-1] >= ndim or len(set(axes)) < len(axes):
        raise ValueError(f"{layer.name}: axis is {axis}; the inputs have {ndim} axes")
    return axes
