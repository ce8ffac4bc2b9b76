"""Element by element: arithmetic and comparison with broadcasting, choice, casts."""

import numpy as np

from .. import _core
from ..errors import shape_error
from ..op import Op, case, integers, kernels, twin
from .layout import broadcast, layout, sum_over
from .math import DTYPE_CODES, Abs, Clip, Negative, Reciprocal, Rsqrt, Sign, Sqrt, Square, cast_array

__all__ = ["add", "subtract", "multiply", "divide", "true_divide", "floor_divide", "mod", "power", "maximum", "minimum", "equal",
           "not_equal", "greater", "greater_equal", "less", "less_equal", "logical_and", "logical_or", "logical_xor", "logical_not",
           "where", "cast", "negative", "abs", "absolute", "sign", "square", "clip"]
AXES = "outer", "middle", "inner"


@twin
def check_finite(x, *, size):
    wrong = np.flatnonzero(~np.isfinite(x))
    return int(wrong[0]) if len(wrong) else None


@twin
def fill(y, *, size, value):
    y[...] = value


@twin
def copy(y, x, *, size):
    y.reshape(-1)[...] = x.reshape(-1)


@twin
def accumulate(y, x, *, size):
    y.reshape(-1)[...] += x.reshape(-1)


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


def _power(u, v):
    if u.dtype.kind == "f":
        return np.power(u, v)
    return np.where(v < 0, np.where(u == 1, 1, np.where(u == -1, np.where(v % 2, -1, 1), 0)), np.power(u, np.maximum(v, 0)))


def _where_greater(d, u, v):
    return d * ((u > v) + 0.5 * (u == v))


for _name, _function in {
        "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "maximum": np.maximum, "minimum": np.minimum,
        "floor_divide": np.floor_divide, "mod": np.mod, "power": _power, "equal": np.equal, "not_equal": np.not_equal,
        "greater": np.greater, "greater_equal": np.greater_equal}.items():
    for _type in "", "_int32", "_int64":
        twin_of_two(_name + _type, _function)
for _name, _function in {
        "divide": np.true_divide, "logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor,
        "divide_d_x2": lambda d, u, v: -d * (u / v) / v,
        "mod_d_x2": lambda d, u, v: -d * np.floor_divide(u, v),
        "power_d_x1": lambda d, u, v: np.where(v == 0, 0, d * v * u ** (v - 1)),
        "power_d_x2": lambda d, u, v: np.where((u == 0) & (v >= 0), 0, d * u ** v * np.log(u)),
        "maximum_grad": _where_greater}.items():
    twin_of_two(_name, _function)


FLOATS, INT32, INT64, BOOL = (np.dtype("float32"), np.dtype("float64")), np.dtype("int32"), np.dtype("int64"), np.dtype("bool")


class Binary(Op, abstract=True):
    """Base of the ops of two operands, broadcast as in NumPy.

    x1, x2   float32, int32 or int64; another is cast, two types to the wider
    returns  the broadcast shape
    """

    bench = [case(x1=(1 << 22,), x2=(1 << 22,))]

    def __init_subclass__(cls, **kw):
        super().__init_subclass__(**kw)
        own = getattr(kernels, cls.name, None)
        cls.kernel_of = {**dict.fromkeys(FLOATS, own), INT32: getattr(kernels, cls.name + "_int32", None),
                         INT64: getattr(kernels, cls.name + "_int64", None)}

    def shape(self, x1, x2):
        try:
            self.layout = layout(x1.shape, x2.shape)
        except ValueError:
            raise shape_error(self.name, "the shapes cannot be broadcast to one", x1=x1.shape, x2=x2.shape) from None
        return self.layout.shape

    def result_dtype(self, x1, x2):
        a, b = x1.dtype, x2.dtype
        if a is not b:
            a = a if a.kind == "f" != b.kind else b if b.kind == "f" != a.kind else np.promote_types(a, b)
        self.kernel = self.kernel_of.get(a)
        if self.kernel is None:                      # bool and uint8 count as int32; some ops know floats only
            a = FLOATS[0] if a in (INT32, INT64) else INT32 if self.kernel_of[INT32] else FLOATS[0]
            self.kernel = self.kernel_of[a]
        self.operand_dtype = a
        return self.result or a

    def forward(self, y, x1, x2):
        dtype = self.operand_dtype
        if x1.dtype is not dtype or x2.dtype is not dtype:
            x1, x2 = cast_array(self, x1, dtype), cast_array(self, x2, dtype)
        self.x1, self.x2 = x1, x2
        broadcast(self, self.kernel, y, x1, x2)

    def gradient(self, i, d_x, kernel, x1, x2, before=()):
        """d_x of operand i: the kernel over x1 and x2, summed over the axes that were broadcast."""
        if d_x is None:
            return
        groups = self.layout.reduced[i]
        full = d_x if groups is None else self.empty(self.layout.shape)
        broadcast(self, kernel, full, x1, x2, before=before)
        if groups is not None:
            sum_over(self, d_x, full, groups)


class Add(Binary):
    """x1 + x2."""

    def forward(self, y, x1, x2):
        super().forward(y, x1, x2)
        self.same = self.layout.same

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
        self.same = self.layout.same[:1] if 0 in self.layout.same else ()

    def backward(self, d_y, d_x1, d_x2):
        if d_x1 is not None:
            sum_over(self, d_x1, d_y, self.layout.reduced[0])
        if d_x2 is not None and self.layout.reduced[1]:
            sum_over(self, d_x2, d_y, self.layout.reduced[1], divisor=-1.0)
        elif d_x2 is not None:
            kernels.negative(d_x2, d_y, size=d_y.size)

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
        self.gradient(1, d_x2, kernels.divide_d_x2, self.x1, self.x2, before=(d_y,))

    cases = Add.cases


class FloorDivide(Binary):
    """The greatest whole number not above x1 / x2; 0 for an integer divided by 0. No gradient."""

    differentiable = False
    cases = [case(x1=(3, 5), x2=(5,)), case(x1=integers((7,), 50), x2=integers((7,), 9))]


class Mod(Binary):
    """x1 - x2 * floor(x1 / x2): the remainder, with the sign of x2; 0 for an integer divided by 0."""

    def backward(self, d_y, d_x1, d_x2):
        if d_x1 is not None:
            sum_over(self, d_x1, d_y, self.layout.reduced[0] or [(d_y.size, False)])
        self.gradient(1, d_x2, kernels.mod_d_x2, self.x1, self.x2, before=(d_y,))

    cases = FloorDivide.cases


class Power(Binary):
    """x1 to the power x2. Of integers an integer, 0 where the exponent is negative (and the base not 1 or -1)."""

    def backward(self, d_y, d_x1, d_x2):
        self.gradient(0, d_x1, kernels.power_d_x1, self.x1, self.x2, before=(d_y,))
        self.gradient(1, d_x2, kernels.power_d_x2, self.x1, self.x2, before=(d_y,))

    cases = [case(x1=np.float32([[0.5], [2], [3.7]]), x2=(3, 17)), case(x1=np.float32([0.3, 1.7]), x2=np.float32(2.5)),
             case(x1=integers((5, 1), 9), x2=integers((7,), 4)), case(x1=integers((5,), 9, "int64") - 4, x2=integers((5,), 7, "int64") - 2)]
    bench = [case(x1=(1 << 22,), x2=np.float32(2)), case(x1=(1 << 20,), x2=(1 << 20,))]


class Maximum(Binary):
    """The larger of x1 and x2, NaN where either is; of equal ones each takes half the gradient."""

    def backward(self, d_y, d_x1, d_x2):
        self.gradient(0, d_x1, kernels.maximum_grad, self.x1, self.x2, before=(d_y,))
        self.gradient(1, d_x2, kernels.maximum_grad, self.x2, self.x1, before=(d_y,))

    cases = Add.cases


class Minimum(Binary):
    """The smaller of x1 and x2, NaN where either is; of equal ones each takes half the gradient."""

    def backward(self, d_y, d_x1, d_x2):
        self.gradient(0, d_x1, kernels.maximum_grad, self.x2, self.x1, before=(d_y,))
        self.gradient(1, d_x2, kernels.maximum_grad, self.x1, self.x2, before=(d_y,))

    cases = Add.cases


class Comparison(Binary, abstract=True):
    """Base of the comparisons of two operands, broadcast as in NumPy; they return bool."""

    result, differentiable = "bool", False
    cases = [case(x1=(3, 5), x2=(5,)), case(x1=integers((7,), 3), x2=integers((2, 7), 3)), case(x1=integers((7,), 3, "int64"), x2=integers((), 3, "int64"))]


class Equal(Comparison):
    """Whether x1 == x2."""


class NotEqual(Comparison):
    """Whether x1 != x2."""


class Greater(Comparison):
    """Whether x1 > x2."""


class GreaterEqual(Comparison):
    """Whether x1 >= x2."""


class Logical(Binary, abstract=True):
    """Base of the logical ops of two operands, broadcast; another dtype counts as true where it is not 0; they return bool."""

    result, differentiable = "bool", False
    cases = [case(x1=integers((3, 5), 2, "bool"), x2=integers((5,), 3)), case(x1=(7,), x2=integers((2, 1), 2, "bool"))]

    def result_dtype(self, x1, x2):
        self.operand_dtype, self.kernel = BOOL, getattr(kernels, self.name)
        return BOOL


class LogicalAnd(Logical):
    """Whether both x1 and x2 are true."""


class LogicalOr(Logical):
    """Whether x1 or x2 is true."""


class LogicalXor(Logical):
    """Whether just one of x1 and x2 is true."""


@twin
def where(y, x1, x2, condition, **sizes):
    x1, x2, condition = (seen(x, *(sizes[axis] for axis in AXES), [sizes[f"{name}_{axis}"] for axis in AXES])
                         for x, name in ((x1, "x1"), (x2, "x2"), (condition, "x3")))
    y.reshape(-1)[...] = np.where(condition, x1, x2).reshape(-1)


for _type in "_int32", "_int64":
    _core.twins["where" + _type] = _core.twins["where"]


class Where(Binary):
    """x1 where the condition is true, else x2; the three are broadcast.

    condition   bool; another dtype counts as true where it is not 0
    x1, x2      float32, int32 or int64
    """

    def shape(self, condition, x1, x2):
        try:
            self.layout = layout(x1.shape, x2.shape, condition.shape)
        except ValueError:
            raise shape_error("where", "the shapes cannot be broadcast to one", condition=condition.shape, x1=x1.shape, x2=x2.shape) from None
        return self.layout.shape

    def result_dtype(self, condition, x1, x2):
        return super().result_dtype(x1, x2)

    def forward(self, y, condition, x1, x2):
        x1, x2 = (cast_array(self, x, self.operand_dtype) for x in (x1, x2))
        condition = cast_array(self, condition, BOOL)
        self.condition, self.differentiable = condition, y.dtype.kind == "f"
        broadcast(self, self.kernel, y, x1, x2, condition)

    def backward(self, d_y, d_condition, d_x1, d_x2):
        zero = np.zeros((), d_y.dtype)
        if d_condition is not None:
            kernels.fill(d_condition, size=d_condition.size, value=0.0)
        for i, d_x in enumerate((d_x1, d_x2)):
            if d_x is not None:
                groups = self.layout.reduced[i]
                full = d_x if groups is None else self.empty(d_y.shape)
                broadcast(self, kernels.where, full, *((d_y, zero) if i == 0 else (zero, d_y)), self.condition)
                if groups is not None:
                    sum_over(self, d_x, full, groups)

    cases = [case(condition=integers((3, 5), 2, "bool"), x1=(3, 5), x2=(3, 5)), case(condition=integers((3, 1), 2, "bool"), x1=(17,), x2=()),
             case(condition=integers((3, 1, 5, 1), 2), x1=(2, 1, 3), x2=(3, 1, 1, 1)), case(condition=(4,), x1=integers((4,), 9), x2=integers((4,), 8)),
             case(condition=integers((4,), 2, "bool"), x1=integers((4,), 9, "int64"), x2=integers((), 8, "int64"))]
    bench = [case(condition=integers((2048,), 2, "bool"), x1=(2048, 2048), x2=(2048, 2048))]


class Cast(Op):
    """x with another dtype; floats become integers towards 0, and bool is whether a number is not 0."""

    dtype_name: str = "float32"

    def shape(self, x):
        return x.shape

    def result_dtype(self, x):
        return np.dtype(self.dtype_name)

    def forward(self, y, x):
        kernels.cast(y, x, size=x.size, to=DTYPE_CODES[y.dtype], of=DTYPE_CODES[x.dtype])
        self.differentiable = y.dtype.kind == "f"

    def backward(self, d_y, d_x):
        kernels.cast(d_x, d_y, size=d_y.size, to=DTYPE_CODES[d_x.dtype], of=DTYPE_CODES[d_y.dtype])

    cases = [case(x=x, dtype_name=name) for x in (integers((35,), 300) - 100, integers((7,), 2, "bool"), integers((7,), 256, "uint8"),
                                                  integers((7,), 9, "int64") - 4, (35,)) for name in ("int32", "int64", "bool")]
    cases += [case(x=integers((35,), 300) - 100, dtype_name="float32"), case(x=integers((35,), 200), dtype_name="uint8")]
    bench = [case(x=(1 << 22,), dtype_name="int32")]


@twin
def cast(y, x, *, size, to, of):
    with np.errstate(all="ignore"):
        y.reshape(-1)[...] = x.reshape(-1).astype(y.dtype)


# ---- public functions ----

add, subtract, multiply, divide, floor_divide, mod, maximum, minimum = (
    op.apply for op in (Add, Subtract, Multiply, Divide, FloorDivide, Mod, Maximum, Minimum))
equal, not_equal, greater, greater_equal, logical_and, logical_or, logical_xor = (
    op.apply for op in (Equal, NotEqual, Greater, GreaterEqual, LogicalAnd, LogicalOr, LogicalXor))
true_divide = divide


def less(x1, x2):
    """Whether x1 < x2."""
    return Greater.apply(x2, x1)


def less_equal(x1, x2):
    """Whether x1 <= x2."""
    return GreaterEqual.apply(x2, x1)


def logical_not(x):
    """Whether x is false, or 0."""
    return Equal.apply(x, 0)


def where(condition, x1, x2):
    """x1 where the condition is true, else x2; the three are broadcast."""
    return Where.apply(condition, x1, x2)


def cast(x, dtype):
    """x as dtype: float32, float64, int32, int64, uint8 or bool."""
    if np.dtype(dtype) not in DTYPE_CODES:
        raise TypeError(f"cast: dtype {dtype!r} is not one of {', '.join(d.name for d in DTYPE_CODES)}")
    return Cast.apply(x, dtype_name=np.dtype(dtype).name)


def power(x1, x2):
    """x1 to the power x2."""
    if type(x2) in (int, float) and is_float(x1):
        special = {2: Square, 0.5: Sqrt, -1: Reciprocal, -0.5: Rsqrt}.get(x2)
        if special:
            return special.apply(x1)
    return Power.apply(x1, x2)


def is_float(x):
    """Whether x is a tensor, array or number of floating point."""
    return isinstance(x, float) or str(getattr(x, "dtype", "")).startswith("float")


def negative(x):
    """-x."""
    return Negative.apply(x) if is_float(x) else Subtract.apply(0, x)


def abs(x):
    """|x|; the derivative at 0 is 0."""
    return Abs.apply(x) if is_float(x) else Maximum.apply(x, Subtract.apply(0, x))


def sign(x):
    """-1, 0 or 1 by the sign of x; no gradient."""
    return Sign.apply(x) if is_float(x) else Maximum.apply(Minimum.apply(x, 1), -1)


def square(x):
    """x * x."""
    return Square.apply(x) if is_float(x) else Multiply.apply(x, x)


def clip(x, x_min, x_max):
    """x, but x_min where it is less and x_max where it is greater. The gradient flows where x_min <= x <= x_max."""
    if is_float(x) and isinstance(x_min, (int, float)) and isinstance(x_max, (int, float)):
        return Clip.apply(x, low=x_min, high=x_max)
    return Minimum.apply(Maximum.apply(x, x_min), x_max)


absolute = abs
