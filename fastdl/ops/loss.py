"""Losses: one number for each row, and the gradient in one pass; and the sum or mean of them."""

import math

import numpy as np

from ..errors import explanations, shape_error
from ..op import Op, case, integers, kernels, twin
from .indexing import as_int32

__all__ = ["DistributionCrossEntropy", "DistributionLogLoss", "Penalty", "SoftmaxCrossEntropy", "SparseCrossEntropy", "TotalLoss",
           "softmax_cross_entropy"]

NONE_IGNORED = 1 << 40               # a label that an int32 cannot be
EPSILON = 1e-7                       # Keras' backend.epsilon()
LEAST, MOST = float(np.float32(EPSILON)), float(np.float32(1) - np.float32(EPSILON))       # what Keras clips probabilities to


def _chances(*shape):
    p = integers(shape, 1000) / 1000 + 0.05
    return np.float32(p / p.sum(axis=-1, keepdims=True))


@twin
def check_labels(labels, *, size, limit, ignored):
    labels = labels.reshape(-1)
    wrong = np.flatnonzero(((labels < 0) | (labels >= limit)) & (labels != ignored))
    return int(wrong[0]) if len(wrong) else None


def _wrong_label(arrays, sizes, item):
    value, place = int(arrays[0].reshape(-1)[item]), [int(i) for i in np.unravel_index(item, arrays[0].shape)]
    shown = f"{value} or more" if value == 2**31 - 1 else f"{value}, or less, or NaN" if value == -2**31 else str(value)
    also = f", and {sizes['ignored']}, which is ignored" if sizes["ignored"] != NONE_IGNORED else ""
    return (f"label {shown}{f' at {place}' if place else ''} is out of range for {sizes['limit']} classes"
            f"\n  allowed are 0 to {sizes['limit'] - 1}{also}")


explanations["check_labels"] = _wrong_label


def checked_labels(op, labels, classes):
    """The labels as int32; DataError where one is neither a class nor op.ignored."""
    labels = as_int32(op, labels)
    kernels.check_labels(labels, size=labels.size, limit=classes, ignored=op.ignored)
    return labels


@twin
def softmax_cross_entropy(losses, top, scale, x, labels, *, rows, columns, ignored):          # noqa: F811
    x, labels = x.reshape(rows, columns), labels.reshape(rows)
    highest = x.max(axis=1)
    total = np.exp(x - highest[:, None]).sum(axis=1)
    kept = labels != ignored
    top.reshape(-1)[...], scale.reshape(-1)[...] = highest, 1 / total
    of_label = x[np.arange(rows), np.where(kept, labels, 0)]
    losses.reshape(-1)[...] = np.where(kept, np.log(total) + (highest - of_label), 0)


@twin
def softmax_cross_entropy_grad(d_x, d_losses, top, scale, x, labels, *, rows, columns, ignored):
    x, labels, d_x = x.reshape(rows, columns), labels.reshape(rows), d_x.reshape(rows, columns)
    kept = labels != ignored
    d = np.where(kept, d_losses.reshape(-1), 0)
    p = np.exp(x - top.reshape(-1, 1)) * scale.reshape(-1, 1)
    p[np.arange(rows), np.where(kept, labels, 0)] -= 1
    d_x[...] = np.where(kept[:, None], p * d[:, None], 0)


class SoftmaxCrossEntropy(Op):
    """-log softmax(predictions)[label] of each row.

    predictions  (..., classes) logits
    labels       (...) whole numbers, 0 to classes - 1; DataError for another
    returns      (...); 0 where the label is `ignored`
    """
    ignored: int = NONE_IGNORED

    def shape(self, predictions, labels):
        return labels_shape(self.name, predictions, labels)

    def forward(self, losses, predictions, labels):
        rows, columns = labels.size, predictions.shape[-1]
        self.logits, self.labels = predictions, checked_labels(self, labels, columns)
        self.top, self.scale = self.empty(losses.shape), self.empty(losses.shape)
        kernels.softmax_cross_entropy(losses, self.top, self.scale, predictions, self.labels, rows=rows, columns=columns,
                                      ignored=self.ignored)

    def backward(self, d_losses, d_predictions, _):
        kernels.softmax_cross_entropy_grad(d_predictions, d_losses, self.top, self.scale, self.logits, self.labels,
                                           rows=self.labels.size, columns=self.logits.shape[-1], ignored=self.ignored)

    def definition(self, predictions, labels):
        x = np.float64(predictions)
        p = np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)
        found = -np.log(np.take_along_axis(p, np.where(labels == self.ignored, 0, labels)[..., None], -1)[..., 0])
        return np.where(labels == self.ignored, 0, found)

    cases = [case(predictions=(1, 1), labels=integers((1,), 1)), case(predictions=(5, 17), labels=integers((5,), 17)),
             case(predictions=(2, 3, 10), labels=integers((2, 3), 10), ignored=4), case(predictions=(0, 4), labels=integers((0,), 4))]
    bench = [case(predictions=(32, 10), labels=integers((32,), 10)), case(predictions=(2048, 1000), labels=integers((2048,), 1000)),
             case(predictions=(64, 10000), labels=integers((64,), 10000))]


softmax_cross_entropy = SoftmaxCrossEntropy.apply


def labels_shape(name, predictions, labels):
    """The shape rule of losses with integer labels: that of the labels."""
    if not predictions.ndim or predictions.shape[:-1] != labels.shape or not predictions.shape[-1]:
        raise shape_error(name, "each row of the predictions needs one label",
                          predictions=(predictions.shape, "..., classes"), labels=(labels.shape, "..."))
    return labels.shape


@twin
def sparse_cross_entropy(losses, total, p, labels, *, rows, columns, ignored):          # noqa: F811
    c, labels = np.clip(p.reshape(rows, columns), LEAST, MOST), labels.reshape(rows)
    kept = labels != ignored
    total.reshape(-1)[...] = c.sum(axis=1)
    losses.reshape(-1)[...] = np.where(kept, np.log(c.sum(axis=1)) - np.log(c[np.arange(rows), np.where(kept, labels, 0)]), 0)


@twin
def sparse_cross_entropy_grad(d_p, d_losses, total, p, labels, *, rows, columns, ignored):
    p, labels = p.reshape(rows, columns), labels.reshape(rows)
    kept = labels != ignored
    d = np.where(kept, d_losses.reshape(-1), 0)[:, None]
    slope = np.where((p >= LEAST) & (p <= MOST), 1 / total.reshape(rows, 1), 0)
    at = np.arange(rows), np.where(kept, labels, 0)
    slope[at] -= np.where(slope[at] > 0, 1 / p[at], 0)
    d_p.reshape(rows, columns)[...] = np.where(kept[:, None], slope * d, 0)


class SparseCrossEntropy(SoftmaxCrossEntropy):
    """-log of p[label] / sum of p of each row, p being clipped to 1e-7 .. 1 - 1e-7, outside of which its gradient is 0.

    predictions  (..., classes) probabilities
    labels       (...) whole numbers, 0 to classes - 1; DataError for another
    returns      (...); 0 where the label is `ignored`
    """

    def forward(self, losses, predictions, labels):
        self.p, self.total = predictions, self.empty(losses.shape)
        self.labels = checked_labels(self, labels, predictions.shape[-1])
        self.sizes = {"rows": labels.size, "columns": predictions.shape[-1], "ignored": self.ignored}
        kernels.sparse_cross_entropy(losses, self.total, predictions, self.labels, **self.sizes)

    def backward(self, d_losses, d_predictions, _):
        kernels.sparse_cross_entropy_grad(d_predictions, d_losses, self.total, self.p, self.labels, **self.sizes)

    def definition(self, predictions, labels):
        p = np.float64(predictions)
        p = np.maximum(np.minimum(p, MOST), LEAST)
        found = -np.log(np.take_along_axis(p / p.sum(axis=-1, keepdims=True), np.where(labels == self.ignored, 0, labels)[..., None], -1)[..., 0])
        return np.where(labels == self.ignored, 0, found)

    cases = [case(predictions=_chances(5, 17), labels=integers((5,), 17)),
             case(predictions=_chances(6, 4), labels=integers((2, 3), 4).reshape(6), ignored=2)]


# ---- losses with a distribution over the classes as target ----

def _smoothed(targets, rows, columns, smoothing):
    return targets.reshape(rows, columns) * (1 - smoothing) + smoothing / max(columns, 1)


@twin
def distribution_cross_entropy(losses, top, scale, weight, targets, x, *, rows, columns, smoothing):
    x, t = x.reshape(rows, columns), _smoothed(targets, rows, columns, smoothing)
    highest = x.max(axis=1)
    total = np.exp(x - highest[:, None]).sum(axis=1)
    top.reshape(-1)[...], scale.reshape(-1)[...], weight.reshape(-1)[...] = highest, 1 / total, t.sum(axis=1)
    losses.reshape(-1)[...] = (t * (np.log(total)[:, None] + highest[:, None] - x)).sum(axis=1)


@twin
def distribution_cross_entropy_grad(d_x, d_targets, d_losses, top, scale, weight, targets, x, *, rows, columns, smoothing):
    d, top, scale, weight = (a.reshape(rows, 1) for a in (d_losses, top, scale, weight))
    shifted = x.reshape(rows, columns) - top
    if d_x is not None:
        d_x.reshape(rows, columns)[...] = d * (np.exp(shifted) * scale * weight - _smoothed(targets, rows, columns, smoothing))
    if d_targets is not None:
        d_targets.reshape(rows, columns)[...] = -d * (1 - smoothing) * (shifted + np.log(scale))


@twin
def distribution_log_loss(losses, total, targets, p, *, rows, columns, smoothing):
    p = p.reshape(rows, columns)
    total.reshape(-1)[...] = p.sum(axis=1)
    c = np.clip(p / total.reshape(rows, 1), LEAST, MOST)
    losses.reshape(-1)[...] = -(_smoothed(targets, rows, columns, smoothing) * np.log(c)).sum(axis=1)


@twin
def distribution_log_loss_grad(d_p, d_targets, d_losses, total, targets, p, *, rows, columns, smoothing):
    q, d, t = p.reshape(rows, columns) / total.reshape(rows, 1), d_losses.reshape(rows, 1), _smoothed(targets, rows, columns, smoothing)
    c = np.clip(q, LEAST, MOST)
    if d_p is not None:
        g = np.where(q == c, -t / c, 0)
        d_p.reshape(rows, columns)[...] = d * (g - (g * q).sum(axis=1, keepdims=True)) / total.reshape(rows, 1)
    if d_targets is not None:
        d_targets.reshape(rows, columns)[...] = -d * (1 - smoothing) * np.log(c)


class DistributionCrossEntropy(Op):
    """-sum of targets log softmax(predictions) of each row.

    targets      (..., classes) probabilities
    predictions  (..., classes) logits
    returns      (...)

    smoothing    targets are taken as targets (1 - smoothing) + smoothing / classes
    """
    smoothing: float = 0.0

    def shape(self, targets, predictions):
        if not predictions.ndim or targets.shape != predictions.shape or not predictions.shape[-1]:
            raise shape_error(self.name, "targets and predictions differ in shape", targets=targets.shape, predictions=predictions.shape)
        return predictions.shape[:-1]

    def forward(self, losses, targets, predictions):
        self.targets, self.x, shape = targets, predictions, losses.shape
        self.sizes = {"rows": losses.size, "columns": predictions.shape[-1], "smoothing": float(self.smoothing)}
        self.top, self.scale, self.weight = self.empty(shape), self.empty(shape), self.empty(shape)
        kernels.distribution_cross_entropy(losses, self.top, self.scale, self.weight, targets, predictions, **self.sizes)

    def backward(self, d_losses, d_targets, d_predictions):
        kernels.distribution_cross_entropy_grad(d_predictions, d_targets, d_losses, self.top, self.scale, self.weight, self.targets, self.x,
                                                **self.sizes)

    def definition(self, targets, predictions):
        t = targets * (1 - self.smoothing) + self.smoothing / targets.shape[-1]
        return -(t * np.log(np.exp(predictions) / np.exp(predictions).sum(axis=-1, keepdims=True))).sum(axis=-1)

    cases = [case(targets=(1, 1), predictions=(1, 1)), case(targets=(5, 17), predictions=(5, 17), smoothing=0.1),
             case(targets=(2, 3, 10), predictions=(2, 3, 10)), case(targets=(0, 3), predictions=(0, 3))]
    bench = [case(targets=(64, 1000), predictions=(64, 1000))]


class DistributionLogLoss(DistributionCrossEntropy):
    """-sum of targets log p of each row, p being predictions / their sum, clipped to 1e-7 .. 1 - 1e-7.

    targets      (..., classes) probabilities
    predictions  (..., classes) probabilities
    returns      (...)

    smoothing    targets are taken as targets (1 - smoothing) + smoothing / classes
    """

    def forward(self, losses, targets, predictions):
        self.targets, self.p, self.total = targets, predictions, self.empty(losses.shape)
        self.sizes = {"rows": losses.size, "columns": predictions.shape[-1], "smoothing": float(self.smoothing)}
        kernels.distribution_log_loss(losses, self.total, targets, predictions, **self.sizes)

    def backward(self, d_losses, d_targets, d_predictions):
        kernels.distribution_log_loss_grad(d_predictions, d_targets, d_losses, self.total, self.targets, self.p, **self.sizes)

    def definition(self, targets, predictions):
        t, q = targets * (1 - self.smoothing) + self.smoothing / targets.shape[-1], predictions / predictions.sum(axis=-1, keepdims=True)
        return -(t * np.log(np.maximum(LEAST, np.minimum(q, MOST)))).sum(axis=-1)

    cases = [case(targets=_chances(5, 17)[::-1], predictions=_chances(5, 17)), case(targets=(3, 5), predictions=_chances(3, 5) * 2, smoothing=0.2)]


# ---- one number for a batch ----

LOSS_PIECE = 16384                   # as in csrc/kernels/loss.c
DIVISORS = "none", "count", "weights"


@twin
def loss_sums(sums, losses, weights, mask, *, size, weight_repeat, mask_repeat):
    w = np.ones(size) if weights is None else np.repeat(weights.reshape(-1), weight_repeat).astype("float64")
    m = np.ones(size, bool) if mask is None else np.repeat(mask.reshape(-1), mask_repeat).astype(bool)
    of = np.where(m, w * losses.reshape(-1), 0), m, np.where(m, w, 0)
    for q, row in enumerate(sums):
        row[...] = [a[q * LOSS_PIECE:(q + 1) * LOSS_PIECE].sum() for a in of]


@twin
def loss_total(total, factor, sums, *, pieces, divisor):
    s = sums.sum(axis=0)
    d = s[divisor] if divisor else 1.0
    factor[...] = 1 / d if d else 0
    total[...] = s[0] / d if d else 0


@twin
def loss_total_grad(d_losses, d_total, factor, weights, mask, *, size, weight_repeat, mask_repeat, constant):
    w = 1.0 if weights is None else np.repeat(weights.reshape(-1), weight_repeat)
    m = True if mask is None else np.repeat(mask.reshape(-1), mask_repeat) != 0
    d_losses.reshape(-1)[...] = np.where(m, d_total.reshape(-1) * (constant if factor is None else factor.reshape(-1)) * w, 0)


@twin
def loss_weights_grad(d_weights, d_total, total, factor, losses, mask, *, size, weight_repeat, mask_repeat, divisor):
    m = 1.0 if mask is None else np.repeat(mask.reshape(-1), mask_repeat)
    rest = (losses.reshape(-1) - (total.item() if divisor == 2 else 0)) * m
    d_weights.reshape(-1)[...] = rest.reshape(d_weights.size, -1).sum(axis=1) * d_total.item() * factor.item()


class TotalLoss(Op):
    """The losses of a batch as one number: their sum, or their mean.

    losses   any shape
    weights  None, or (leading axes of losses): factors
    mask     None, or (leading axes of losses) bool: the others count as if they were not there
    divisor  "none": the sum; "count": by how many are not masked; "weights": by the sum of their weights. 0 where that is 0.
    returns  ()
    """
    divisor: str = "count"

    def shape(self, losses, weights=None, mask=None):
        for name, a in (("weights", weights), ("mask", mask)):
            if a is not None and (losses.shape[:a.ndim] != a.shape):
                raise shape_error(self.name, f"{name} must have the leading axes of the losses", losses=losses.shape, **{name: a.shape})
        return ()

    def forward(self, total, losses, weights=None, mask=None):
        self.of = total, losses, weights, mask
        self.sizes = {"size": losses.size, "weight_repeat": 1 if weights is None else losses.size // max(weights.size, 1),
                      "mask_repeat": 1 if mask is None else losses.size // max(mask.size, 1)}
        sums = self.empty((-(-losses.size // LOSS_PIECE), 3), "float64")
        self.factor = self.empty(())
        kernels.loss_sums(sums, losses, weights, mask, **self.sizes)
        kernels.loss_total(total, self.factor, sums, pieces=len(sums), divisor=DIVISORS.index(self.divisor))

    def backward(self, d_total, d_losses, d_weights=None, _=None):
        total, losses, weights, mask = self.of
        if d_losses is not None:
            known = weights is None and mask is None        # then no row waits for all losses
            kernels.loss_total_grad(d_losses, d_total, None if known else self.factor, weights, mask, **self.sizes,
                                    constant=1 / max(losses.size, 1) if self.divisor != "none" else 1.0)
        if d_weights is not None:
            kernels.loss_weights_grad(d_weights, d_total, total, self.factor, losses, mask, **self.sizes, divisor=DIVISORS.index(self.divisor))

    def definition(self, losses, weights=None, mask=None):
        along = lambda a: np.reshape(a, a.shape + (1,) * (losses.ndim - a.ndim))
        w = np.ones_like(losses) if weights is None else along(weights) * np.ones_like(losses)
        m = np.ones_like(losses) if mask is None else along(mask) * np.ones_like(losses)
        d = {"none": 1, "count": m.sum(), "weights": (w * m).sum()}[self.divisor]
        return (losses * w * m).sum() / d if d else 0.0

    cases = [case(losses=(1,)), case(losses=(19,), divisor="none"), case(losses=(3, 7), divisor="count"), case(losses=(0,)),
             case(losses=(3, 7), weights=np.float32([0.5, 2, 1]), divisor="weights"),
             case(losses=(3, 7), weights=np.float32([0.5, 2, 1]), mask=integers((3, 7), 2, "bool")), case(losses=(20000,))]
    bench = [case(losses=(32,)), case(losses=(256, 2000))]


# ---- penalties on weights ----

@twin
def penalty_sums(sums, x, *, size, l1, l2):
    terms = l1 * np.abs(x.reshape(-1)) + l2 * x.reshape(-1) ** 2
    for q in range(len(sums)):
        sums[q] = terms[q * LOSS_PIECE:(q + 1) * LOSS_PIECE].sum()


@twin
def penalty_total(y, sums, *, pieces):
    y[...] = sums.sum()


@twin
def penalty_grad(d_x, d_y, x, *, size, l1, l2):
    d_x[...] = d_y * (l1 * np.sign(x) + 2 * l2 * x)


class Penalty(Op):
    """l1 times the sum of |x| plus l2 times the sum of x^2.

    x        any shape
    returns  ()
    """
    l1: float = 0.0
    l2: float = 0.0

    def shape(self, x):
        return ()

    def forward(self, y, x):
        self.x, self.sizes = x, {"size": x.size, "l1": float(self.l1), "l2": float(self.l2)}
        sums = self.empty((-(-x.size // LOSS_PIECE),), "float64")
        kernels.penalty_sums(sums, x, **self.sizes)
        kernels.penalty_total(y, sums, pieces=len(sums))

    def backward(self, d_y, d_x):
        kernels.penalty_grad(d_x, d_y, self.x, **self.sizes)

    def definition(self, x):
        return self.l1 * np.abs(x).sum() + self.l2 * (x * x).sum()

    cases = [case(x=(1,), l1=0.5), case(x=(3, 7), l1=0.1, l2=0.3), case(x=(130, 130), l2=2.0), case(x=(0,), l2=1.0)]
    bench = [case(x=(1 << 20,), l2=0.1)]
