"""Functions of one number: roots, exponentials, logarithms, rounding."""

import math

import numpy as np

from ..op import Op, case, kernels, twin

__all__ = ["sqrt", "rsqrt", "reciprocal", "floor", "ceil", "round", "exp", "expm1", "log", "log1p", "sin", "cos", "erf", "isfinite",
           "isinf", "isnan"]

POSITIVE = np.float32([0.3, 1, 2.5, 1e-3, 700]), np.float32(np.linspace(0.1, 9, 35)).reshape(5, 7)


class Unary(Op, abstract=True):
    """Base of the ops that make one number of one number.

    Integers are cast to float32. A subclass names its mathematics once, in NumPy, and the twins are made of it:

        function(x, **options)          the result
        keeps, derivative(s, **options) the derivative from what forward keeps: s is x or y
    """

    keeps = derivative = None
    overwrites = 0

    def __init_subclass__(cls, **kw):
        super().__init_subclass__(**kw)
        function, derivative = cls.__dict__.get("function"), cls.__dict__.get("derivative")
        if function is None:
            return
        cls.kernel = getattr(kernels, cls.name)
        cls.differentiable = derivative is not None or "backward" in cls.__dict__

        def value(y, x, *, size, **options):
            with np.errstate(all="ignore"):
                y.reshape(-1)[...] = function(x.reshape(-1), **options)

        def gradient(d_x, d_y, s, *, size, **options):
            with np.errstate(all="ignore"):
                d_x.reshape(-1)[...] = d_y.reshape(-1) * derivative(s.reshape(-1), **options)
        value.__name__, gradient.__name__ = cls.name, cls.name + "_grad"
        twin(value)
        del cls.function
        if derivative:
            cls.gradient_kernel = getattr(kernels, cls.name + "_grad")
            twin(gradient)
            del cls.derivative

    def shape(self, x):
        return x.shape

    def forward(self, y, x):
        if x.dtype.kind != "f":
            x = cast_array(self, x, self.dtype)
        self.kept = x if self.keeps == "x" else y
        self.kernel(y, x, size=x.size, **self.numbers())

    def backward(self, d_y, d_x):
        self.gradient_kernel(d_x, d_y, self.kept, size=d_y.size, **self.numbers())

    def numbers(self):
        """The options, as the kernels want them."""
        return {name: float(getattr(self, name)) for name in self.options} if self.options else {}

    cases = [case(x=()), case(x=(2, 3, 19)), case(x=(0, 3))]
    bench = [case(x=(1 << 22,))]


DTYPE_CODES = {np.dtype(name): code for code, name in enumerate(("float32", "float64", "int32", "int64", "uint8", "bool"))}


def cast_array(op, x, dtype):
    """x with another dtype, by the cast kernel where it differs."""
    if x.dtype == dtype:
        return x
    y = op.empty(x.shape, dtype)
    kernels.cast(y, x, size=x.size, to=DTYPE_CODES[np.dtype(dtype)], of=DTYPE_CODES[x.dtype])
    return y


class Negative(Unary):
    """-x."""

    function = np.negative

    def backward(self, d_y, d_x):
        kernels.negative(d_x, d_y, size=d_y.size)


class Abs(Unary):
    """|x|; the derivative at 0 is 0."""

    function, keeps, derivative = np.abs, "x", np.sign


class Sign(Unary):
    """-1, 0 or 1 by the sign of x; no gradient."""

    function = np.sign


class Square(Unary):
    """x * x."""

    function, keeps, derivative = np.square, "x", lambda x: 2 * x


class Sqrt(Unary):
    """The square root of x."""

    function, keeps, derivative = np.sqrt, "y", lambda y: 0.5 / y
    cases = [case(x=x) for x in POSITIVE]


class Rsqrt(Unary):
    """1 / sqrt(x)."""

    function, keeps, derivative = lambda x: 1 / np.sqrt(x), "y", lambda y: -0.5 * y ** 3
    cases = [case(x=x) for x in POSITIVE]


class Reciprocal(Unary):
    """1 / x."""

    function, keeps, derivative = np.reciprocal, "y", lambda y: -y * y
    cases = [case(x=x) for x in POSITIVE]


class Floor(Unary):
    """The greatest whole number not above x; no gradient."""

    function = np.floor


class Ceil(Unary):
    """The least whole number not below x; no gradient."""

    function = np.ceil


class Round(Unary):
    """The nearest whole number, of two the even; no gradient."""

    function = np.rint


class Exp(Unary):
    """e to the power x."""

    function, keeps, derivative = np.exp, "y", lambda y: y


class Expm1(Unary):
    """exp(x) - 1, accurate near 0."""

    function, keeps, derivative = np.expm1, "y", lambda y: y + 1


class Log(Unary):
    """The natural logarithm of x."""

    function, keeps, derivative = np.log, "x", np.reciprocal
    cases = [case(x=x) for x in POSITIVE]


class Log1p(Unary):
    """log(1 + x), accurate near 0."""

    function, keeps, derivative = np.log1p, "x", lambda x: 1 / (1 + x)
    cases = [case(x=x) for x in POSITIVE]


class Sin(Unary):
    """The sine of x in radians."""

    function, keeps, derivative = np.sin, "x", np.cos


class Cos(Unary):
    """The cosine of x in radians."""

    function, keeps, derivative = np.cos, "x", lambda x: -np.sin(x)


_erf = np.frompyfunc(math.erf, 1, 1)


def erf_of(x):
    """The error function, in NumPy."""
    return _erf(x).astype(x.dtype)


class Erf(Unary):
    """The error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x."""

    function, keeps, derivative = erf_of, "x", lambda x: 2 / math.sqrt(math.pi) * np.exp(-x * x)


class Clip(Unary):
    """x, but low where it is less and high where it is greater; the gradient flows where low <= x <= high.

    low, high   numbers
    """

    low: float = -math.inf
    high: float = math.inf
    function = lambda x, low, high: np.clip(x, low, high)
    keeps, derivative = "x", lambda x, low, high: ((x >= low) & (x <= high)).astype(x.dtype)
    cases = [case(x=(3, 17), low=-0.4, high=0.6), case(x=(1,), low=0.0)]


class UnaryTest(Unary, abstract=True):
    """Base of the tests of one number; returns bool."""

    result = "bool"


class Isfinite(UnaryTest):
    """Whether x is neither infinite nor NaN."""

    function = np.isfinite


class Isinf(UnaryTest):
    """Whether x is infinite."""

    function = np.isinf


class Isnan(UnaryTest):
    """Whether x is NaN."""

    function = np.isnan


sqrt, rsqrt, reciprocal, floor, ceil, round, exp, expm1, log, log1p, sin, cos, erf = (
    op.apply for op in (Sqrt, Rsqrt, Reciprocal, Floor, Ceil, Round, Exp, Expm1, Log, Log1p, Sin, Cos, Erf))
isfinite, isinf, isnan = Isfinite.apply, Isinf.apply, Isnan.apply
