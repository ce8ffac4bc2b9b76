"""Rows by index: batches of a data set, take, embeddings, one-hot; and the checks of indices."""

import numpy as np

from .. import _core
from ..errors import explanations, shape_error
from ..op import Op, case, integers, kernels, twin
from ..tensor import Tensor

__all__ = ["advance", "embedding", "one_hot", "put_batch", "take", "take_batch"]


# ---- batches of a data set ----

def _batch_rows(order, cursor, batch, size):
    places = ((0 if cursor is None else int(cursor.reshape(-1)[0])) + np.arange(batch)) % max(size, 1)
    return places if order is None else order.reshape(-1)[places]


@twin
def check_order(order, cursor, *, batch, size):
    rows = _batch_rows(order, cursor, batch, size)
    wrong = np.flatnonzero((rows < 0) | (rows >= size))
    return int(wrong[0]) if len(wrong) else None


def _no_such_row(arrays, sizes, item):
    row = _batch_rows(*arrays, sizes["batch"], sizes["size"])[item]
    return f"row {row}, number {item} of the batch, is out of range for a data set of {sizes['size']} rows"


explanations["check_order"] = _no_such_row


def _gather(name):
    integer = name.endswith("int32")

    def gather(out, source, order, cursor, *, batch, row, size):
        rows = source.reshape(size, row)[_batch_rows(order, cursor, batch, size)]
        if integer:
            if rows.dtype.kind == "f":
                rows = np.where(np.isnan(rows), -2**31, rows.astype("float64"))
            rows = np.clip(rows, -2**31, 2**31 - 1)
        out.reshape(batch, row)[...] = rows.astype(out.dtype)

    gather.__name__ = name
    twin(gather)


for _from in "uint8", "int32", "int64", "float32", "float64":
    _gather(f"gather_{_from}_to_float32")
    _gather(f"gather_{_from}_to_int32")
_gather("gather_uint8_to_uint8")


@twin
def scatter_rows(out, x, cursor, *, batch, row, size):
    first = 0 if cursor is None else int(cursor.reshape(-1)[0])
    n = max(0, min(batch, size - first))
    out.reshape(size, row)[first : first + n] = x.reshape(batch, row)[:n]


@twin
def advance(cursor, *, by):
    cursor += by


def _array(x):
    return x.array if isinstance(x, Tensor) else x


def _kernel_name(source, dtype):
    kind = {"bool": "uint8"}.get(source.dtype.name, source.dtype.name)
    name = f"gather_{kind}_to_{ {'bool': 'uint8', 'float64': 'float32'}.get(dtype, dtype)}"
    if not hasattr(kernels, name):
        raise TypeError(f"take_batch: rows of dtype {source.dtype} cannot be had as {dtype}")
    return name


def take_batch(source, order=None, cursor=None, batch=None, dtype="float32"):
    """The rows order[cursor], order[cursor + 1], … of a data set, cast: one batch of it.

    source   (rows, …)  ndarray or Tensor of uint8, bool, int32, int64, float32 or float64
    order    (rows)     int64: the data set's rows in the order wanted, or None: as they stand
    cursor   (1)        int64: how far the batches have come, or None: 0. Read when the step runs, so that a recorded step
                        finds the next batch at each replay; see advance. Past the end it goes on at the beginning.
    batch               rows wanted; None: all
    dtype               "float32" or "int32" (integers out of its range become the nearest, NaN the lowest), "uint8", "bool"
    returns  (batch, …)  Tensor without a gradient

    DataError where order names a row that is not there.
    """
    source, order, cursor = _array(source), _array(order), _array(cursor)
    size, batch = len(source), len(source) if batch is None else batch
    if batch and not size:
        raise shape_error("take_batch", f"{batch} rows are wanted of a data set without rows", source=source.shape)
    if order is not None and order.shape != (size,):
        raise shape_error("take_batch", f"order must name the data set's {size} rows", source=source.shape, order=(order.shape, "rows"))
    kernel = getattr(kernels, _kernel_name(source, dtype))
    out = _core.empty((batch, *source.shape[1:]), dtype)
    if order is not None:
        kernels.check_order(order, cursor, batch=batch, size=size)
    kernel(out, source, order, cursor, batch=batch, row=int(np.prod(source.shape[1:])), size=size)
    return Tensor(out)


def put_batch(result, x, cursor=None):
    """Write the rows of x into the rows cursor, cursor + 1, … of result, in place; rows past its end are dropped.

    result   (rows, …)   float32 ndarray or Tensor
    x        (batch, …)
    cursor   (1)         int64, or None: 0. Read when the step runs.
    """
    result, x = _array(result), _array(x)
    if result.shape[1:] != x.shape[1:]:
        raise shape_error("put_batch", "rows differ", result=(result.shape, "rows, …"), x=(x.shape, "batch, …"))
    kernels.scatter_rows(result, x, _array(cursor), batch=len(x), row=int(np.prod(x.shape[1:])), size=len(result))


def advance(cursor, by):
    """cursor += by, in place, each time that the step runs.

    cursor   (1)   int64 ndarray or Tensor
    """
    kernels.advance(_array(cursor), by=by)


# ---- ranges ----

def _check(name, lowest, text):
    def check(indices, *, size, limit):
        flat = indices.reshape(-1)
        wrong = np.flatnonzero((flat < lowest) | (flat >= min(limit, 2**31 - 1)))
        return int(wrong[0]) if len(wrong) else None

    def explain(arrays, sizes, item):
        value = int(arrays[0].reshape(-1)[item])
        shown = f"{value} or more" if value == 2**31 - 1 else f"{value}, or less, or NaN" if value == -2**31 else str(value)
        place = [int(i) for i in np.unravel_index(item, arrays[0].shape)]
        at = f" at {place}" if place else ""
        return text.format(value=shown, at=at, limit=sizes["limit"], last=sizes["limit"] - 1)

    check.__name__ = name
    twin(check)
    explanations[name] = explain


_check("check_indices", 0, "index {value}{at} is out of range for an axis of size {limit}\n  allowed are 0 to {last}")
_check("check_tokens", 0, "token {value}{at} is out of range for Embedding(input_dim={limit})\n  allowed are 0 to {last}")
_check("check_classes", -2**31, "class {value}{at} is out of range for one_hot(num_classes={limit})"
                                "\n  allowed are 0 to {last}, and negative ones, which give zeros")


def as_int32(op, indices):
    """The indices as int32, those out of its range as its ends; floats lose their fraction. For ops that index."""
    if indices.dtype == "int32":
        return indices
    name = f"gather_{ {'bool': 'uint8'}.get(indices.dtype.name, indices.dtype.name)}_to_int32"
    if not hasattr(kernels, name):
        raise TypeError(f"{op.name}: indices have dtype {indices.dtype}; int32, int64, uint8, bool, float32 or float64 are wanted")
    out = op.empty(indices.shape, "int32")
    rows = indices.shape[0] if indices.ndim else 1
    getattr(kernels, name)(out, indices, None, None, batch=rows, row=indices.size // max(rows, 1), size=max(rows, 1))
    return out


# ---- take ----

@twin
def take(out, x, indices, *, outer, size, inner, count):
    out.reshape(outer, count, inner)[...] = x.reshape(outer, size, inner)[:, indices.reshape(-1)]


@twin
def order_indices(order, first, indices, *, size, count):
    order[...] = np.argsort(indices.reshape(-1), kind="stable")
    first[...] = np.searchsorted(indices.reshape(-1)[order], np.arange(size + 1))


@twin
def take_grad(d_x, d_out, order, first, *, outer, size, inner, count):
    d_x, d_out = d_x.reshape(outer, size, inner), d_out.reshape(outer, count, inner)
    d_x[...] = 0
    np.add.at(d_x, (slice(None), np.repeat(np.arange(size), np.diff(first))), d_out[:, order])


class Take(Op):
    """The entries of x at the indices along an axis.

    x        any shape, float or int32
    indices  any shape; integers, 0 to the axis' size - 1
    returns  x's shape with the axis replaced by the shape of indices

    axis None takes from the flattened x. DataError for an index out of range.
    """
    axis: int = None

    def shape(self, x, indices):
        if self.axis is None:
            return indices.shape
        if not -x.ndim <= self.axis < x.ndim:
            raise shape_error("take", f"axis {self.axis} does not exist", x=x.shape)
        axis = self.axis % x.ndim
        return x.shape[:axis] + indices.shape + x.shape[axis + 1:]

    def result_dtype(self, x, indices):
        return x.dtype

    def sizes(self, x):
        """outer, size, inner of x around the axis."""
        if self.axis is None:
            return 1, x.size, 1
        axis = self.axis % x.ndim
        return int(np.prod(x.shape[:axis])), x.shape[axis], int(np.prod(x.shape[axis + 1:]))

    def forward(self, out, x, indices):
        self.run(out, x, indices, kernels.check_indices, *self.sizes(x))

    def run(self, out, x, indices, check, outer, size, inner):
        """Check the indices, then gather."""
        self.indices = as_int32(self, indices)
        self.about = {"outer": outer, "size": size, "inner": inner, "count": indices.size}
        check(self.indices, size=indices.size, limit=size)
        if x.dtype == "int32":          # the same four bytes
            out, x = out.view("float32"), x.view("float32")
        kernels.take(out, x, self.indices, **self.about)

    def backward(self, d_out, d_x, d_indices):
        if d_x is not None:
            count, size = self.about["count"], self.about["size"]
            order, first = self.empty((count,), "int32"), self.empty((size + 1,), "int32")
            kernels.order_indices(order, first, self.indices, size=size, count=count)
            kernels.take_grad(d_x, d_out, order, first, **self.about)
        if d_indices is not None:
            kernels.fill(d_indices, size=d_indices.size, value=0.0)

    cases = [case(x=(3, 5), indices=integers((2, 3), 5), axis=1), case(x=(7,), indices=integers((), 7), axis=0),
             case(x=(2, 3, 17), indices=integers((33,), 3), axis=-2), case(x=(2, 5), indices=integers((4,), 10, "int64")),
             case(x=(3, 4), indices=integers((0,), 3), axis=0), case(x=(40, 500), indices=integers((90,), 40, "uint8"), axis=0)]
    bench = [case(x=(256, 1000), indices=integers((128,), 1000), axis=1)]
    wrong = [case(x=(3, 5), indices=integers((2,), 3), axis=2)]

    def definition(self, x, indices):
        return np.take(x, indices, axis=self.axis)


class Embedding(Take):
    """The rows of a table that tokens name.

    indices  any shape; integers, 0 to input_dim - 1 (floats lose their fraction)
    table    (input_dim, output_dim)
    returns  the shape of indices, output_dim

    DataError for a token out of range. The gradient of the table is dense; rows are added in the order of their positions.
    """
    axis: int = 0

    def shape(self, indices, table):
        if table.ndim != 2:
            raise shape_error("embedding", "the table must have 2 axes", table=(table.shape, "input_dim, output_dim"))
        return indices.shape + table.shape[1:]

    def result_dtype(self, indices, table):
        return table.dtype

    def forward(self, out, indices, table):
        self.run(out, table, indices, kernels.check_tokens, 1, *table.shape)

    def backward(self, d_out, d_indices, d_table):
        super().backward(d_out, d_table, d_indices)

    cases = [case(indices=integers((2, 5), 11), table=(11, 3)), case(indices=integers((3,), 1), table=(1, 16)),
             case(indices=integers((4, 9), 300, "int64"), table=(300, 67)), case(indices=integers((0, 4), 5), table=(5, 4)),
             case(indices=np.array([[0.5, 2.75]], "float32"), table=(3, 33))]
    bench = [case(indices=integers((32, 80), 10000), table=(10000, 64)), case(indices=integers((8192,), 10000), table=(10000, 256))]
    wrong = [case(indices=integers((2, 5), 11), table=(11,))]

    def definition(self, indices, table):
        return table[indices.astype("int64")]


take = Take.apply
embedding = Embedding.apply


# ---- one-hot ----

@twin
def one_hot(y, indices, *, outer, classes, inner):
    indices = indices.reshape(outer, 1, inner)
    y.reshape(outer, classes, inner)[...] = np.arange(classes).reshape(1, classes, 1) == indices


class OneHot(Op):
    """1 at the place of each class, 0 elsewhere, along a new axis.

    indices  any shape; integers below num_classes; a negative one gives zeros
    returns  the shape of indices with an axis of num_classes inserted at `axis`

    DataError for a class out of range.
    """
    num_classes: int = 1
    axis: int = -1
    differentiable = False

    def shape(self, indices):
        if not -indices.ndim - 1 <= self.axis <= indices.ndim:
            raise shape_error("one_hot", f"axis {self.axis} does not exist in the result", indices=indices.shape)
        axis = self.axis % (indices.ndim + 1)
        return indices.shape[:axis] + (self.num_classes,) + indices.shape[axis:]

    def forward(self, y, indices):
        axis = self.axis % (indices.ndim + 1)
        indices = as_int32(self, indices)
        kernels.check_classes(indices, size=indices.size, limit=self.num_classes)
        kernels.one_hot(y, indices, outer=int(np.prod(indices.shape[:axis])), classes=self.num_classes,
                        inner=int(np.prod(indices.shape[axis:])))

    cases = [case(indices=integers((2, 5), 7), num_classes=7), case(indices=integers((3, 4), 3, "int64") - 1, num_classes=5, axis=1),
             case(indices=integers((), 2), num_classes=17), case(indices=integers((0,), 2), num_classes=2, axis=0)]
    bench = [case(indices=integers((4096,), 1000), num_classes=1000)]
    wrong = [case(indices=integers((2, 5), 7), num_classes=7, axis=3)]

    def definition(self, indices):
        return np.moveaxis((indices[..., None] == np.arange(self.num_classes)).astype("float64"), -1, self.axis)


def one_hot(x, num_classes, axis=-1):
    """1 at the place of each class, 0 elsewhere, along a new axis: see OneHot.

    x        any shape; integers below num_classes; a negative one gives zeros
    returns  the shape of x with an axis of num_classes inserted at `axis`
    """
    return OneHot.apply(x, num_classes=num_classes, axis=axis)
