"""Element by element: arithmetic with broadcasting, and the usual functions."""

import functools

import numpy as np

from ..errors import shape_error
from ..op import Op, case, kernels, twin
from .reduction import grouped, sum_over
from .shape import broadcast_strides, expand

__all__ = ["add", "subtract", "multiply", "divide", "relu"]


@twin
def fill(y, *, size, value):
    y[...] = value


@twin
def copy(y, x, *, size):
    y.reshape(-1)[...] = x.reshape(-1)


@twin
def accumulate(y, x, *, size):
    y.reshape(-1)[...] += x.reshape(-1)


# ---- broadcasting ----

class Layout:
    """How arrays of these shapes meet.

    shape     of the result
    sizes     it and its operands' strides, as the kernels want them; None: too mixed for three axes, operands must be expanded
    reduced   for each operand the groups of axes over which its gradient is summed; None: it has the result's shape
    """

    def __init__(self, shapes):
        self.shape = np.broadcast_shapes(*shapes)
        padded = [(1,) * (len(self.shape) - len(s)) + s for s in shapes]
        self.reduced = [None if s == self.shape else
                        grouped(self.shape, [i for i, (m, n) in enumerate(zip(s, self.shape)) if m != n]) for s in padded]
        axes = []                                    # (size, which operands have it)
        for i, n in enumerate(self.shape):
            have = tuple(s[i] == n for s in padded)
            if n != 1 and axes and axes[-1][1] == have:
                axes[-1] = axes[-1][0] * n, have
            elif n != 1:
                axes.append((n, have))
        self.sizes = None
        if len(axes) <= 3:
            axes = [(1, (False,) * len(shapes))] * (3 - len(axes)) + axes
            self.sizes = dict(zip(("outer", "middle", "inner"), (n for n, _ in axes)))
            for k in range(len(shapes)):
                strides = broadcast_strides(tuple(n if have[k] else 1 for n, have in axes), tuple(n for n, _ in axes))
                self.sizes.update({f"x{k + 1}_{axis}": s for axis, s in zip(("outer", "middle", "inner"), strides)})


@functools.lru_cache(16384)
def layout(*shapes):
    """The Layout of these shapes; ValueError where they cannot be broadcast."""
    return Layout(shapes)


def seen(x, outer, middle, inner, strides):
    """An operand as the kernels see it: (outer, middle, inner) by its three strides."""
    return np.lib.stride_tricks.as_strided(x, (outer, middle, inner), [s * x.itemsize for s in strides])


def twin_of_two(name, function):
    """The twin of a kernel of two broadcast operands; also where they are integers."""
    def run(y, *arrays, outer, middle, inner, x1_outer, x1_middle, x1_inner, x2_outer, x2_middle, x2_inner):
        *d_y, x1, x2 = arrays
        u = seen(x1, outer, middle, inner, (x1_outer, x1_middle, x1_inner))
        v = seen(x2, outer, middle, inner, (x2_outer, x2_middle, x2_inner))
        with np.errstate(all="ignore"):
            y.reshape(-1)[...] = function(*(d.reshape(outer, middle, inner) for d in d_y), u, v).reshape(-1)
    run.__name__ = name
    twin(run)


for _type in "", "_int32", "_int64":
    twin_of_two("add" + _type, np.add)
    twin_of_two("subtract" + _type, np.subtract)
    twin_of_two("multiply" + _type, np.multiply)
twin_of_two("divide", np.true_divide)
twin_of_two("divide_d_x2", lambda d, u, v: -d * (u / v) / v)

FLOATS, INT32, INT64 = (np.dtype("float32"), np.dtype("float64")), np.dtype("int32"), np.dtype("int64")


class Binary(Op, abstract=True):
    """Base of the ops of two operands, broadcast as in NumPy.

    x1, x2   float32, int32 or int64; another is cast, two types to the wider
    returns  the broadcast shape
    """

    def __init_subclass__(cls, **kw):
        super().__init_subclass__(**kw)
        own = getattr(kernels, cls.name)
        cls.kernel_of = {**dict.fromkeys(FLOATS, own), INT32: getattr(kernels, cls.name + "_int32", None),
                         INT64: getattr(kernels, cls.name + "_int64", None)}

    def shape(self, x1, x2):
        try:
            self.layout = layout(x1.shape, x2.shape)
        except ValueError:
            raise shape_error(self.name, "the shapes cannot be broadcast to one", x1=x1.shape, x2=x2.shape) from None
        return self.layout.shape

    def result_dtype(self, x1, x2):
        return self.result or self.operand_dtype(x1, x2)

    def operand_dtype(self, x1, x2):
        """What both operands are cast to."""
        a, b = x1.dtype, x2.dtype
        found = a if a == b or b.kind != "f" and a.kind == "f" else b if b.kind == "f" and a.kind != "f" else np.promote_types(a, b)
        return found if self.kernel_of.get(found) else FLOATS[0] if found in (INT32, INT64) else INT32

    def forward(self, y, x1, x2):
        if x1.dtype != x2.dtype or not self.kernel_of.get(x1.dtype):
            x1, x2 = (self.cast(x, self.operand_dtype(x1, x2)) for x in (x1, x2))
        if self.layout.sizes is None:
            x1, x2 = self.expanded(x1), self.expanded(x2)
        self.x1, self.x2 = x1, x2
        self.kernel_of[x1.dtype](y, x1, x2, **layout(x1.shape, x2.shape).sizes)

    def expanded(self, x):
        """x at the result's full shape."""
        if x.shape == self.layout.shape:
            return x
        full = self.empty(self.layout.shape, x.dtype)
        expand(full, x)
        return full

    def gradient(self, i, d_x, kernel, *arrays):
        """d_x of operand i: a kernel over the last two arrays, summed over the axes that were broadcast."""
        if d_x is None:
            return
        groups = self.layout.reduced[i]
        full = d_x if groups is None else self.empty(self.layout.shape)
        kernel(full, *arrays, **layout(arrays[-2].shape, arrays[-1].shape).sizes)
        if groups is not None:
            sum_over(self, d_x, full, groups)


class Add(Binary):
    """x1 + x2."""

    def forward(self, y, x1, x2):
        super().forward(y, x1, x2)
        reduced = self.layout.reduced
        self.same = (0, 1) if reduced == [None, None] else (0,) if reduced[0] is None else (1,) if reduced[1] is None else ()

    def backward(self, d_y, d_x1, d_x2):
        for d_x, groups in zip((d_x1, d_x2), self.layout.reduced):
            if d_x is not None:
                sum_over(self, d_x, d_y, groups)

    cases = [case(x1=(3, 5), x2=(3, 5)), case(x1=(1,), x2=(1,)), case(x1=(2, 3, 17), x2=(17,)), case(x1=(5, 1), x2=(5, 33)),
             case(x1=(4, 1, 3), x2=(7, 1)), case(x1=(2, 1, 3, 1, 2), x2=(5, 1, 7, 1)), case(x1=(), x2=(2, 9)), case(x1=(0, 3), x2=(3,)),
             case(x1=(2, 300, 5), x2=(5,)), case(x1=(2, 4099), x2=(2, 1))]
    bench = [case(x1=(1 << 22,), x2=(1 << 22,)), case(x1=(4096, 1024), x2=(1024,))]


class Subtract(Binary):
    """x1 - x2."""

    def forward(self, y, x1, x2):
        super().forward(y, x1, x2)
        self.same = (0,) if self.layout.reduced[0] is None else ()

    def backward(self, d_y, d_x1, d_x2):
        if d_x1 is not None:
            sum_over(self, d_x1, d_y, self.layout.reduced[0])
        if d_x2 is not None:
            sum_over(self, d_x2, d_y, self.layout.reduced[1] or [(d_y.size, False)], divisor=-1.0)

    cases = Add.cases


class Multiply(Binary):
    """x1 * x2."""

    def backward(self, d_y, d_x1, d_x2):
        self.gradient(0, d_x1, kernels.multiply, d_y, self.x2)
        self.gradient(1, d_x2, kernels.multiply, d_y, self.x1)

    cases = Add.cases


class Divide(Binary):
    """x1 / x2; of integers too, as float32."""

    def backward(self, d_y, d_x1, d_x2):
        self.gradient(0, d_x1, kernels.divide, d_y, self.x2)
        self.gradient(1, d_x2, kernels.divide_d_x2, d_y, self.x1, self.x2)

    cases = Add.cases


add, subtract, multiply, divide = Add.apply, Subtract.apply, Multiply.apply, Divide.apply


@twin
def relu(y, x, *, size):
    y[...] = np.where(x < 0, 0, x)


@twin
def relu_grad(d_x, d_y, y, *, size):
    d_x[...] = np.where(y > 0, d_y, 0)


class Relu(Op):
    """max(x, 0); NaN stays NaN.

    x        any shape
    returns  the same shape
    """

    def shape(self, x):
        return x.shape

    def forward(self, y, x):
        self.y = y
        kernels.relu(y, x, size=x.size)

    def backward(self, d_y, d_x):
        kernels.relu_grad(d_x, d_y, self.y, size=d_y.size)

    cases = [case(x=(1,)), case(x=(3, 17)), case(x=(2, 3, 33))]
    bench = [case(x=(1 << 22,))]


relu = Relu.apply
