"""Normalisation by the statistics of a batch or of a sample."""

import math

import numpy as np

from ..errors import shape_error
from ..op import ACTIVATIONS, Op, case, integers, kernels, twin
from .linear import activate, activate_grad, activation_of
from .softmax import around

__all__ = ["BatchNormalization", "LayerNormalization", "MovingAverage", "Standardize", "layer_normalization"]


# ---- batch normalisation ----

BATCH_ROWS = 128                     # as in csrc/kernels/normalization.c


def _batch_pieces(outer, inner):
    return -(-outer // BATCH_ROWS) if inner == 1 else outer


def _in_pieces(x, outer, channels, inner):
    """A list of (channels, numbers): what each piece of the batch holds."""
    x = x.reshape(outer, channels, inner)
    if inner != 1:
        return list(x)
    return [x[r:r + BATCH_ROWS, :, 0].T for r in range(0, outer, BATCH_ROWS)]


@twin
def batch_statistics(means, squares, counts, x, mask, *, outer, channels, inner):
    rows = None if mask is None or inner != 1 else mask.reshape(outer) != 0
    for q, piece in enumerate(_in_pieces(x, outer, channels, inner)):
        if rows is not None:
            piece = piece[:, rows[q * BATCH_ROWS:(q + 1) * BATCH_ROWS]]
        counts[q] = n = piece.shape[1]
        means[q] = piece.mean(axis=1, dtype="float64") if n else 0
        squares[q] = ((piece - means[q][:, None]) ** 2).sum(axis=1)


@twin
def batch_statistics_total(mean, variance, count, means, squares, counts, *, pieces, channels):
    n = counts.sum()
    count[...] = n
    whole = (counts[:, None] * means).sum(axis=0) / n if n else np.zeros(channels)
    mean[...] = whole
    variance[...] = (squares + counts[:, None] * (means - whole) ** 2).sum(axis=0) / n if n else 0


def _per_channel(a):
    return 1 if a is None else a[:, None]


def _normal(x, mean, variance, gamma, beta, outer, channels, inner, epsilon):
    """(outer, channels, inner): x normalised."""
    scale = _per_channel(gamma) / np.sqrt(variance + epsilon)[:, None]
    return (x.reshape(outer, channels, inner) - mean[:, None]) * scale + (0 if beta is None else beta[:, None])


@twin
def batch_normalize(y, x, mean, variance, gamma, beta, residual, *, outer, channels, inner, activation, epsilon):
    z = _normal(x, mean, variance, gamma, beta, outer, channels, inner, epsilon)
    y.reshape(z.shape)[...] = activate(z if residual is None else z + residual.reshape(z.shape), activation)


def _before(d_y, y, activation, *of):
    """(outer, channels, inner): the gradient before the activation."""
    z = _normal(*of)
    d_y = d_y.reshape(z.shape)
    return activate_grad(d_y, activate(z, activation) if y is None else y.reshape(z.shape), activation) if activation else d_y


@twin
def batch_normalize_sums(sums, products, d_z, d_y, x, y, mean, variance, gamma, beta, *, outer, channels, inner, activation, epsilon):
    d = _before(d_y, y, activation, x, mean, variance, gamma, beta, outer, channels, inner, epsilon)
    if d_z is not None:
        d_z.reshape(d.shape)[...] = d
    normal = _normal(x, mean, variance, None, None, outer, channels, inner, epsilon)
    for q, (d, h) in enumerate(zip(_in_pieces(d, outer, channels, inner), _in_pieces(normal, outer, channels, inner))):
        sums[q], products[q] = d.sum(axis=1), (d * h).sum(axis=1)


@twin
def sum_norm_pieces(d_beta, d_gamma, sums, products, *, pieces, columns):
    d_beta[...], d_gamma[...] = sums.sum(axis=0), products.sum(axis=0)


@twin
def batch_normalize_d_x(d_x, d_y, x, mean, variance, gamma, beta, d_beta, d_gamma, count, mask, *, outer, channels, inner, activation,
                        epsilon):
    d = _before(d_y, None, activation, x, mean, variance, gamma, beta, outer, channels, inner, epsilon)
    if count is not None:
        share = 1 / count.item() if count.item() else 0
        normal = _normal(x, mean, variance, None, None, outer, channels, inner, epsilon)
        full = d - d_beta[:, None] * share - normal * d_gamma[:, None] * share
        d = full if mask is None or inner != 1 else np.where(mask.reshape(outer, 1, 1) != 0, full, d)
    d_x.reshape(d.shape)[...] = d / np.sqrt(variance + epsilon)[:, None] * _per_channel(gamma)


@twin
def moving_average(y, old, next, *, size, momentum):
    y[...] = old * momentum + next * (1 - momentum)


class BatchNormalization(Op):
    """activation((x - mean) / sqrt(variance + epsilon) gamma + beta + residual), with the mean and variance of x over all axes but one.

    x         any shape
    gamma     None, or (channels)
    beta      None, or (channels)
    mask      None, or (leading axes of x) bool, where axis is the last: only these make the statistics
    residual  None, or the shape of x
    returns   the shape of x; the call's .mean and .variance (channels) are those used. No gradient flows through them.

    activation is None, "relu", "relu6", "sigmoid" or "tanh".
    """
    axis: int = -1
    epsilon: float = 1e-3
    activation: str = None

    def shape(self, x, gamma=None, beta=None, mask=None, residual=None):
        check_channels(self, x, gamma=gamma, beta=beta)
        if mask is not None and (self.axis % x.ndim != x.ndim - 1 or mask.shape != x.shape[:-1]):
            raise shape_error(self.name, "a mask has the axes of x but the last, and the channels are the last", x=x.shape, mask=mask.shape)
        if residual is not None and residual.shape != x.shape:
            raise shape_error(self.name, "the residual has another shape than x", x=x.shape, residual=residual.shape)
        return x.shape

    def forward(self, y, x, gamma=None, beta=None, mask=None, residual=None):
        self.sizes = sizes = channels_of(x.shape, self.axis)
        n, channels = _batch_pieces(sizes["outer"], sizes["inner"]), sizes["channels"]
        means, squares, counts = self.empty((n, channels), "float64"), self.empty((n, channels)), self.empty((n,), "float64")
        self.mean, self.variance, self.count = self.empty((channels,)), self.empty((channels,)), self.empty((), "float64")
        self.act, self.y = ACTIVATIONS[self.activation], y if self.activation and residual is not None else None
        self.saved = x, gamma, beta, mask
        self.overwrites = 0 if residual is None else 4
        if not self.act and residual is not None:
            self.same = (4,)
        kernels.batch_statistics(means, squares, counts, x, mask, **sizes)
        kernels.batch_statistics_total(self.mean, self.variance, self.count, means, squares, counts, pieces=n, channels=channels)
        kernels.batch_normalize(y, x, self.mean, self.variance, gamma, beta, residual, **sizes, activation=self.act, epsilon=self.epsilon)

    def backward(self, d_y, d_x, d_gamma=None, d_beta=None, _=None, d_residual=None):
        x, gamma, beta, mask = self.saved
        act = self.act
        if self.y is not None:               # the gradient before the activation is what the residual gets; it is written down
            d_residual = self.empty(d_y.shape) if d_residual is None else d_residual
        d_gamma, d_beta = sums_of_gradient(self, d_y, x, d_gamma, d_beta, gamma, beta, d_residual)
        if self.y is not None:
            d_y, act = d_residual, 0
        if d_x is not None:
            kernels.batch_normalize_d_x(d_x, d_y, x, self.mean, self.variance, gamma, beta, d_beta, d_gamma, self.count, mask,
                                        **self.sizes, activation=act, epsilon=self.epsilon)

    def definition(self, x, gamma=None, beta=None, mask=None, residual=None):
        h = np.moveaxis(x, self.axis, -1)
        rows = h.reshape(-1, h.shape[-1])
        if mask is not None:
            rows = rows[mask.reshape(-1)]
        h = (h - rows.mean(axis=0)) / np.sqrt(rows.var(axis=0) + self.epsilon)
        h = h * (1 if gamma is None else gamma) + (0 if beta is None else beta)
        return activation_of(np.moveaxis(h, -1, self.axis) + (0 if residual is None else residual), self.activation)

    cases = [case(x=(1, 1)), case(x=(5, 3), gamma=(3,), beta=(3,)), case(x=(2, 3, 5, 67), gamma=(67,)), case(x=(150, 17), beta=(17,)),
             case(x=(3, 5, 2, 7), gamma=(5,), beta=(5,), axis=1), case(x=(19, 4), gamma=(19,), axis=0),
             case(x=(4, 35, 3), gamma=(3,), beta=(3,), mask=integers((4, 35), 2, "bool"), epsilon=0.1),
             case(x=(7, 67), gamma=(67,), beta=(67,), activation="relu"), case(x=(7, 5), gamma=(5,), residual=(7, 5)),
             case(x=(2, 3, 68), gamma=(68,), beta=(68,), residual=(2, 3, 68), activation="relu"),
             case(x=(3, 2, 21), beta=np.float32([4, 7]), residual=(3, 2, 21), activation="relu6", axis=1),
             case(x=(9, 2), beta=np.float32([4, 7]), activation="relu6"), case(x=(5, 4), mask=integers((5,), 2, "bool"), activation="tanh")]
    bench = [case(x=(32, 28, 28, 64), gamma=(64,), beta=(64,)),
             case(x=(32, 28, 28, 128), gamma=(128,), beta=(128,), residual=(32, 28, 28, 128), activation="relu")]


class Standardize(Op):
    """(x - mean) / sqrt(variance + epsilon) gamma + beta with a mean and a variance that are given.

    x               any shape
    mean, variance  (channels)
    gamma, beta     None, or (channels)
    returns         the shape of x
    """
    axis: int = -1
    epsilon: float = 1e-3
    act = 0                              # no activation
    overwrites = 0

    def shape(self, x, mean, variance, gamma=None, beta=None):
        check_channels(self, x, mean=mean, variance=variance, gamma=gamma, beta=beta)
        return x.shape

    def forward(self, y, x, mean, variance, gamma=None, beta=None):
        self.sizes, self.mean, self.variance, self.saved = channels_of(x.shape, self.axis), mean, variance, (x, gamma)
        kernels.batch_normalize(y, x, mean, variance, gamma, beta, None, **self.sizes, activation=0, epsilon=self.epsilon)

    def backward(self, d_y, d_x, d_mean=None, d_variance=None, d_gamma=None, d_beta=None):
        x, gamma = self.saved
        if any(d is not None for d in (d_mean, d_variance, d_gamma, d_beta)):
            d_gamma, d_beta = sums_of_gradient(self, d_y, x, d_gamma, d_beta)
        if d_mean is not None or d_variance is not None:
            kernels.standardize_grad(d_mean, d_variance, self.variance, gamma, d_beta, d_gamma, channels=self.sizes["channels"],
                                     epsilon=self.epsilon)
        if d_x is not None:
            kernels.batch_normalize_d_x(d_x, d_y, x, self.mean, self.variance, gamma, None, None, None, None, None, **self.sizes,
                                        activation=0, epsilon=self.epsilon)

    cases = [case(x=(5, 3), mean=(3,), variance=np.float32([1, 2, 0.5])),
             case(x=(2, 7, 5), mean=(7,), variance=np.arange(1, 8, dtype="float32"), gamma=(7,), beta=(7,), axis=1)]
    bench = [case(x=(32, 28, 28, 64), mean=(64,), variance=np.ones(64, "float32"), gamma=(64,), beta=(64,))]


@twin
def standardize_grad(d_mean, d_variance, variance, gamma, d_beta, d_gamma, *, channels, epsilon):
    scale = (1 if gamma is None else gamma) / np.sqrt(variance + epsilon)
    if d_mean is not None:
        d_mean[...] = -scale * d_beta
    if d_variance is not None:
        d_variance[...] = -0.5 * scale / np.sqrt(variance + epsilon) * d_gamma


def channels_of(shape, axis):
    """(outer, channels, inner): the sizes before, at and after the axis."""
    sizes = around(shape, axis)
    return {"outer": sizes["outer"], "channels": sizes["columns"], "inner": sizes["inner"]}


def check_channels(op, x, **per_channel):
    """A ShapeError unless the arrays (or None) have one number for each channel of x."""
    if not -x.ndim <= op.axis < x.ndim:
        raise shape_error(op.name, f"axis {op.axis} does not exist", x=x.shape)
    for name, a in per_channel.items():
        if a is not None and a.shape != (x.shape[op.axis],):
            raise shape_error(op.name, f"{name} needs one number for each of the {x.shape[op.axis]} channels", x=x.shape, **{name: a.shape})


def sums_of_gradient(op, d_y, x, d_gamma, d_beta, gamma=None, beta=None, d_z=None):
    """(d_gamma, d_beta), filled: the sums of d by the normalised x, and of d, the gradient before the activation; and d_z with d."""
    channels = op.sizes["channels"]
    n = _batch_pieces(op.sizes["outer"], op.sizes["inner"])
    sums, products = op.empty((n, channels)), op.empty((n, channels))
    d_gamma = op.empty((channels,)) if d_gamma is None else d_gamma
    d_beta = op.empty((channels,)) if d_beta is None else d_beta
    y = op.y if d_z is not None else None
    kernels.batch_normalize_sums(sums, products, d_z, d_y, x, y, op.mean, op.variance, gamma, beta, **op.sizes, activation=op.act,
                                 epsilon=op.epsilon)
    kernels.sum_norm_pieces(d_beta, d_gamma, sums, products, pieces=n, columns=channels)
    return d_gamma, d_beta


class MovingAverage(Op):
    """old momentum + new (1 - momentum).

    old      any shape
    new      the same shape
    returns  the same shape
    """
    momentum: float = 0.99
    differentiable = False

    def shape(self, old, new):
        if old.shape != new.shape:
            raise shape_error(self.name, "old and new differ in shape", old=old.shape, new=new.shape)
        return old.shape

    def forward(self, y, old, new):
        kernels.moving_average(y, old, new, size=old.size, momentum=self.momentum)

    cases = [case(old=(3, 7), new=(3, 7))]
    bench = [case(old=(512,), new=(512,))]


# ---- layer normalisation ----

LAYER_ROWS = 32                      # as in csrc/kernels/normalization.c


@twin
def layer_normalize(y, mean, inverse, x, gamma, beta, *, rows, columns, centred, epsilon):
    y, x = y.reshape(rows, columns), x.reshape(rows, columns)
    m = x.mean(axis=1) if centred else np.zeros(rows, x.dtype)
    mean.reshape(-1)[...] = m
    inverse.reshape(-1)[...] = 1 / np.sqrt(((x - m[:, None]) ** 2).mean(axis=1) + epsilon)
    h = (x - m[:, None]) * inverse.reshape(rows, 1)
    y[...] = h * (1 if gamma is None else gamma.reshape(-1)) + (0 if beta is None else beta.reshape(-1))


@twin
def layer_normalize_grad(d_x, sums, products, d_y, x, mean, inverse, gamma, *, rows, columns, centred):
    d_y, h = d_y.reshape(rows, columns), (x.reshape(rows, columns) - mean.reshape(rows, 1)) * inverse.reshape(rows, 1)
    for q in range(len(sums)):
        some = slice(q * LAYER_ROWS, (q + 1) * LAYER_ROWS)
        sums[q], products[q] = d_y[some].sum(axis=0), (d_y[some] * h[some]).sum(axis=0)
    if d_x is not None:
        d = d_y * (1 if gamma is None else gamma.reshape(-1))
        from_mean = d.mean(axis=1, keepdims=True) if centred else 0
        d_x.reshape(rows, columns)[...] = inverse.reshape(rows, 1) * (d - from_mean - h * (d * h).mean(axis=1, keepdims=True))


class LayerNormalization(Op):
    """(x - mean) / sqrt(variance + epsilon) gamma + beta, with the mean and variance of each row.

    x        (..., the last `axes` axes)
    gamma    None, or (the last axes)
    beta     None, or (the last axes)
    returns  the shape of x

    Not centred: x / sqrt(mean of x^2 + epsilon) gamma. (Zhang and Sennrich, 2019.)
    """
    axes: int = 1
    epsilon: float = 1e-3
    centred: bool = True
    overwrites = 0

    def shape(self, x, gamma=None, beta=None):
        if not 1 <= self.axes <= x.ndim or 0 in x.shape[-self.axes:]:
            raise shape_error(self.name, f"x has no values in its last {self.axes} axes", x=x.shape)
        for name, a in (("gamma", gamma), ("beta", beta)):
            if a is not None and a.shape != x.shape[-self.axes:]:
                raise shape_error(self.name, f"{name} needs the last axes of x", x=x.shape, **{name: a.shape})
        return x.shape

    def forward(self, y, x, gamma=None, beta=None):
        rows = math.prod(x.shape[:-self.axes])
        self.sizes = {"rows": rows, "columns": math.prod(x.shape[-self.axes:]), "centred": int(self.centred)}
        self.mean, self.inverse, self.saved = self.empty((rows,)), self.empty((rows,)), (x, gamma)
        kernels.layer_normalize(y, self.mean, self.inverse, x, gamma, beta, **self.sizes, epsilon=self.epsilon)

    def backward(self, d_y, d_x, d_gamma=None, d_beta=None):
        x, gamma = self.saved
        n, columns = -(-self.sizes["rows"] // LAYER_ROWS), self.sizes["columns"]
        sums, products = self.empty((n, columns)), self.empty((n, columns))
        kernels.layer_normalize_grad(d_x, sums, products, d_y, x, self.mean, self.inverse, gamma, **self.sizes)
        if d_gamma is not None or d_beta is not None:
            d_gamma = self.empty((columns,)) if d_gamma is None else d_gamma.reshape(-1)
            d_beta = self.empty((columns,)) if d_beta is None else d_beta.reshape(-1)
            kernels.sum_norm_pieces(d_beta, d_gamma, sums, products, pieces=n, columns=columns)

    def definition(self, x, gamma=None, beta=None):
        axes = tuple(range(-self.axes, 0))
        mean = x.mean(axis=axes, keepdims=True) if self.centred else 0
        h = (x - mean) / np.sqrt(((x - mean) ** 2).mean(axis=axes, keepdims=True) + self.epsilon)
        return h * (1 if gamma is None else gamma) + (0 if beta is None else beta)

    cases = [case(x=(1, 1)), case(x=(5, 3), gamma=(3,), beta=(3,)), case(x=(2, 35, 17), gamma=(17,)), case(x=(3, 4, 7), beta=(4, 7), gamma=(4, 7), axes=2),
             case(x=(4, 33), gamma=(33,), centred=False), case(x=(0, 3), gamma=(3,))]
    bench = [case(x=(32, 128, 256), gamma=(256,), beta=(256,))]


layer_normalization = LayerNormalization.apply
