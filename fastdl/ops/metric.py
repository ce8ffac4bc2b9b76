"""Whether predictions are right, and running totals in double."""

import math

import numpy as np

from ..errors import shape_error
from ..op import Op, case, integers, kernels, twin
from .indexing import as_int32
from .loss import labels_shape

__all__ = ["LabelMatches", "PairMatches", "SortedMatches", "TargetMatches"]


@twin
def label_matches(matches, scores, labels, targets, *, rows, columns, k):
    scores = scores.reshape(rows, columns)
    labels = targets.reshape(rows, columns).argmax(axis=1) if labels is None else labels.reshape(rows)
    inside = (labels >= 0) & (labels < columns)
    score = scores[np.arange(rows), np.where(inside, labels, 0)][:, None]
    above = (~(scores <= score)).sum(axis=1)
    if not k:
        above += ((scores == score) & (np.arange(columns) < labels[:, None])).sum(axis=1)
    matches.reshape(-1)[...] = inside & (above < max(k, 1))


@twin
def pair_matches(matches, targets, predictions, *, rows, columns, exact, threshold):
    p = predictions.reshape(rows, columns)
    matches.reshape(-1)[...] = (targets.reshape(rows, columns) == (p if exact else p > threshold)).mean(axis=1)


@twin
def add_to_mean(total, count, sums, *, pieces, scale):
    total += scale * sums[:, 0].sum()
    count += scale * sums[:, 2].sum()


@twin
def mean_so_far(mean, total, count, *, root):
    found = total.item() / count.item() if count.item() else 0.0
    mean[...] = math.sqrt(found) if root else found


@twin
def sorted_matches(matches, ids, labels, *, rows, columns, k):
    matches.reshape(-1)[...] = (ids.reshape(rows, columns)[:, :k] == labels.reshape(rows, 1)).any(axis=1)


@twin
def add_to_confusion(true_positives, false_positives, true_negatives, false_negatives, targets, predictions, weights, thresholds, *,
                     rows, columns, class_id, top_k, weight_repeat, count):
    w = np.ones(rows * columns) if weights is None else np.repeat(weights.reshape(-1), weight_repeat).astype("float64")
    p, w, positive = predictions.reshape(rows, columns), w.reshape(rows, columns), targets.reshape(rows, columns) != 0
    chosen = np.ones_like(positive)
    if top_k:
        order = np.argsort(-p, axis=1, kind="stable")
        chosen = np.argsort(order, axis=1) < top_k
    some = slice(None) if class_id < 0 else slice(class_id, class_id + 1)
    predicted = ((p > thresholds[:, None, None]) & chosen)[:, :, some]
    for out, which in ((true_positives, predicted & positive[:, some]), (false_positives, predicted & ~positive[:, some]),
                       (true_negatives, ~predicted & ~positive[:, some]), (false_negatives, ~predicted & positive[:, some])):
        out += (which * w[:, some]).sum(axis=(1, 2))


class LabelMatches(Op):
    """1 where the label's score is the first of the largest in its row (k: among the k largest), else 0.

    scores   (..., classes)
    labels   (...) whole numbers
    returns  (...)
    """
    k: int = 0
    differentiable = False

    def shape(self, scores, labels):
        return labels_shape(self.name, scores, labels)

    def forward(self, matches, scores, labels):
        kernels.label_matches(matches, scores, as_int32(self, labels), None, rows=labels.size, columns=scores.shape[-1], k=self.k)

    def definition(self, scores, labels):
        if self.k:
            order = np.sort(scores, axis=-1)[..., ::-1][..., min(self.k, scores.shape[-1]) - 1]
            return np.float64(np.take_along_axis(scores, labels[..., None], -1)[..., 0] >= order)
        return np.float64(scores.argmax(axis=-1) == labels)

    cases = [case(scores=(1, 1), labels=integers((1,), 1)), case(scores=(5, 17), labels=integers((5,), 17)),
             case(scores=(2, 3, 10), labels=integers((2, 3), 10), k=3), case(scores=(0, 4), labels=integers((0,), 4))]
    bench = [case(scores=(32, 10), labels=integers((32,), 10)), case(scores=(2048, 1000), labels=integers((2048,), 1000))]


class SortedMatches(Op):
    """1 where the label is among the first k of its row of class numbers, else 0.

    ids      (..., columns) class numbers, the best first
    labels   (...) whole numbers
    returns  (...)
    """
    k: int = 5
    differentiable = False

    def shape(self, ids, labels):
        return labels_shape(self.name, ids, labels)

    def forward(self, matches, ids, labels):
        kernels.sorted_matches(matches, ids, as_int32(self, labels), rows=labels.size, columns=ids.shape[-1], k=self.k)

    def definition(self, ids, labels):
        return np.float64((ids[..., :self.k] == labels[..., None]).any(axis=-1))

    cases = [case(ids=integers((5, 7), 9, "float32"), labels=integers((5,), 9), k=3), case(ids=integers((2, 3, 2), 3, "float32"), labels=integers((2, 3), 3))]
    bench = [case(ids=integers((2048, 5), 1000, "float32"), labels=integers((2048,), 1000))]


class TargetMatches(Op):
    """1 where the class of the largest target has the first of the largest scores in its row (k: one of the k largest), else 0.

    targets  (..., classes)
    scores   the same shape
    returns  (...)
    """
    k: int = 0
    differentiable = False

    def shape(self, targets, scores):
        if not scores.ndim or scores.shape != targets.shape or not scores.shape[-1]:
            raise shape_error(self.name, "targets and scores differ in shape", targets=targets.shape, scores=scores.shape)
        return scores.shape[:-1]

    def forward(self, matches, targets, scores):
        kernels.label_matches(matches, scores, None, targets, rows=matches.size, columns=scores.shape[-1], k=self.k)

    def definition(self, targets, scores):
        return LabelMatches.definition(self, scores, targets.argmax(axis=-1))

    cases = [case(targets=(5, 7), scores=(5, 7)), case(targets=(2, 3, 9), scores=(2, 3, 9), k=2)]
    bench = [case(targets=(2048, 1000), scores=(2048, 1000))]


class PairMatches(Op):
    """Share of the last axis where the target equals the prediction, or equals 1 or 0 as the prediction is above the threshold.

    targets      (..., columns)
    predictions  the same shape
    returns      (...)
    """
    threshold: float = None           # None: equal
    differentiable = False

    def shape(self, targets, predictions):
        if not predictions.ndim or targets.shape != predictions.shape or not targets.shape[-1]:
            raise shape_error(self.name, "targets and predictions differ in shape", targets=targets.shape, predictions=predictions.shape)
        return predictions.shape[:-1]

    def forward(self, matches, targets, predictions):
        kernels.pair_matches(matches, targets, predictions, rows=matches.size, columns=targets.shape[-1], exact=int(self.threshold is None),
                             threshold=float(self.threshold or 0))

    def definition(self, targets, predictions):
        return (targets == (predictions if self.threshold is None else predictions > self.threshold)).mean(axis=-1)

    cases = [case(targets=integers((5, 3), 2, "float32"), predictions=(5, 3), threshold=0.5),
             case(targets=integers((7, 1), 3, "float32"), predictions=integers((7, 1), 3, "float32"))]
    bench = [case(targets=integers((256, 100), 2, "float32"), predictions=(256, 100), threshold=0.5)]
