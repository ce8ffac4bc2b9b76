"""Sources of batches: arrays in memory, or anything that yields batches."""

import numpy as np

from ..structure import leaves, rebuild
from ..tensor import Tensor

KNOWN = {np.dtype(name) for name in ("float32", "float64", "int32", "int64", "uint8", "bool")}

WIDE = {np.dtype("int64"), np.dtype("float64"), np.dtype("float32")}


def as_numpy(value, name):
    """An ndarray of numbers, whatever came (list, Tensor, pandas, torch); a clear error otherwise."""
    if isinstance(value, Tensor):
        return value.numpy()
    if hasattr(value, "to_numpy"):
        value = value.to_numpy()
    try:
        a = np.asarray(value)
    except ValueError as e:
        raise ValueError(f"{name}: cannot be made one array ({e}); pad its rows to one length") from None
    if a.dtype.kind not in "iufb":
        raise TypeError(f"{name}: has dtype {a.dtype}; wanted are numbers")
    if a.dtype not in KNOWN:
        a = a.astype("float32" if a.dtype.kind == "f" else "int64" if a.dtype.itemsize >= 4 else "int32")
    return np.asarray(a, a.dtype.newbyteorder("="), order="C")


def as_kind(a, dtype):
    """The array as a contiguous float32 or int32 one; integers beyond int32 become the nearest, so that range checks find them."""
    if dtype == "int32" and a.dtype in WIDE:
        a = np.clip(a, -2**31, 2**31 - 1)
    with np.errstate(invalid="ignore"):      # NaN becomes a number out of range
        return np.ascontiguousarray(a, dtype)


class Arrays:
    """x, y and sample_weight as arrays in memory, all of the same length.

    x, y           array, or list, tuple or dict of arrays: (samples, ...)
    sample_weight  (samples,), of several outputs a list or dict of them, or None
    """

    def __init__(self, x, y=None, sample_weight=None, class_weight=None):
        self.x = self._arrays(x, "x")
        self.y = self._arrays(y, "y")
        weights = self._weights(sample_weight)
        if class_weight is not None:
            own = self._by_class(class_weight)
            if isinstance(weights, (list, dict)):
                raise ValueError("sample_weight: must be one array beside class_weight")
            weights = own if weights is None else weights * own.reshape(-1, *(1,) * (weights.ndim - 1))
        self.sample_weight = weights
        self.parts = self.x, self.y, self.sample_weight
        self.leaves = leaves(list(self.parts))
        lengths = {len(a) for a in self.leaves}
        if not self.leaves or lengths == {0}:
            raise ValueError("x: is empty; at least one sample is wanted")
        if len(lengths) > 1:
            about = ", ".join(f"{name} {', '.join(str(len(a)) for a in leaves(part))}"
                              for name, part in zip(("x", "y", "sample_weight"), self.parts) if part is not None)
            raise ValueError(f"x, y and sample_weight must have the same number of samples; they have: {about}")
        self.samples = lengths.pop()

    @staticmethod
    def _arrays(value, name):
        if value is None:
            return None
        if isinstance(value, dict):
            return {k: as_numpy(v, f"{name}[{k!r}]") for k, v in value.items()}
        if isinstance(value, tuple) or isinstance(value, list) and len(value) and hasattr(value[0], "shape") and np.ndim(value[0]) > 0:
            return type(value)(as_numpy(v, f"{name}[{i}]") for i, v in enumerate(value))
        a = as_numpy(value, name)
        if a.ndim == 0:
            raise ValueError(f"{name}: is a single number; wanted is an array whose first axis counts the samples")
        return a

    def _weights(self, given):
        if isinstance(given, dict) or isinstance(given, (list, tuple)) and len(leaves(self.y)) > 1 and any(np.ndim(w) for w in given):
            named = given.items() if isinstance(given, dict) else enumerate(given)
            made = {k: None if w is None else as_numpy(w, f"sample_weight[{k!r}]").astype("float32") for k, w in named}
            return made if isinstance(given, dict) else list(made.values())
        return None if given is None else as_numpy(given, "sample_weight").astype("float32")

    def _by_class(self, class_weight):
        if not isinstance(class_weight, dict) or not all(hasattr(label, "__index__") or isinstance(label, float) for label in class_weight):
            raise ValueError(f"class_weight: must be a dict of weights by label, a whole number, not {class_weight!r}")
        if not isinstance(self.y, np.ndarray):
            raise ValueError("class_weight: wants y to be one array of labels")
        labels = self.y.reshape(len(self.y), -1)
        labels = labels.argmax(1) if labels.shape[1] > 1 else labels[:, 0].astype("int64")
        out = np.ones(len(labels), "float32")
        for label, weight in class_weight.items():
            out[labels == int(label)] = weight
        return out

    def split(self, fraction):
        """The first part for training and the last `fraction` for validation, as in Keras: before any shuffling."""
        if not 0 < fraction < 1:
            raise ValueError(f"validation_split: must lie between 0 and 1, not {fraction}")
        at = int(self.samples * (1 - fraction))
        if at == 0 or at == self.samples:
            raise ValueError(f"validation_split: {fraction} of {self.samples} samples leaves one part empty")
        return self._part(slice(None, at)), self._part(slice(at, None))

    def _part(self, rows):
        cut = iter([a[rows] for a in self.leaves])
        x, y, w = rebuild(list(self.parts), cut)
        return Arrays(x, y, w)


class Batches:
    """Anything that yields batches: x, (x, y) or (x, y, sample_weight); an iterator, or an object with len() and [i]."""

    def __init__(self, source, class_weight=None):
        self.source, self.class_weight = source, class_weight
        self.steps = len(source) if hasattr(source, "__len__") else None
        self.iterator = None

    def __iter__(self):
        """One pass. An endless generator goes on where it stood."""
        if hasattr(self.source, "__getitem__") and self.steps is not None:
            items = (self.source[i] for i in range(self.steps))
        elif hasattr(self.source, "__next__"):
            items = self.source
        else:
            items = iter(self.source)
        for item in items:
            yield self.arrays(item)
        if hasattr(self.source, "on_epoch_end"):
            self.source.on_epoch_end()

    def arrays(self, item):
        """One batch as Arrays."""
        if not isinstance(item, (tuple, list)) or isinstance(item, list) and not 1 <= len(item) <= 3:
            item = (item,)
        if len(item) > 3:
            raise ValueError(f"a batch must be x, (x, y) or (x, y, sample_weight), not a tuple of {len(item)}")
        return Arrays(*item, **({} if self.class_weight is None else {"class_weight": self.class_weight}))


def source_of(x, y=None, sample_weight=None, class_weight=None):
    """Arrays or Batches, by what x is."""
    batched = not isinstance(x, (np.ndarray, Tensor, list, tuple, dict)) and not hasattr(x, "to_numpy") and not hasattr(x, "__array__") \
        and (hasattr(x, "__next__") or hasattr(x, "__iter__") or hasattr(x, "__getitem__"))
    if not batched:
        return Arrays(x, y, sample_weight, class_weight)
    if y is not None or sample_weight is not None:
        raise ValueError("y and sample_weight: must not be given beside a source of batches, which yields them itself")
    return Batches(x, class_weight)
