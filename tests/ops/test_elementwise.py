"""What test_every_op cannot see of arithmetic: NumPy's edges, integers, dtypes, operators, messages."""

import operator

import numpy as np
import pytest

import fastdl
from fastdl import ShapeError, ops
from fastdl.op import Symbol

ISAS = fastdl.config.available_isas()
EDGES = np.float32([0, -0.0, 1, -1, 2.5, -2.5, 7, -7, 1e-40, 3e38, np.inf, -np.inf, np.nan])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "maximum", "minimum", "mod", "floor_divide", "power", "equal", "not_equal",
                                  "greater", "greater_equal", "less", "less_equal", "logical_and", "logical_or", "logical_xor"])
def test_edges_are_those_of_numpy(name, isa):
    x1, x2 = EDGES[:, None], EDGES
    with fastdl.isa(isa), np.errstate(all="ignore"):
        got, wanted = getattr(ops, name)(x1, x2).numpy(), getattr(np, name)(x1, x2)
    assert got.dtype == wanted.dtype
    np.testing.assert_allclose(got, wanted, rtol=2e-7 if name == "power" else 0)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "maximum", "minimum", "floor_divide", "mod"])
def test_integers_are_exact(name, dtype, isa):
    limits = np.iinfo(dtype)
    x1, x2 = np.array([[limits.max], [limits.min + 1], [7], [-7]], dtype), np.array([1, -1, 3, -3, 0, 2 ** 30], dtype)
    with fastdl.isa(isa), np.errstate(all="ignore"):
        got, wanted = getattr(ops, name)(x1, x2).numpy(), getattr(np, name)(x1, x2)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("x1, x2, wanted", [
    ("int32", "int64", "int64"), ("int32", "float32", "float32"), ("bool", "bool", "int32"), ("uint8", "int32", "int32"), ("bool", "float32", "float32")])
def test_dtypes_meet_in_the_wider(x1, x2, wanted):
    a, b = np.ones((2, 3), x1), np.ones(3, x2)
    assert ops.add(a, b).dtype == ops.add(b, a).dtype == wanted
    assert ops.divide(a, b).dtype == "float32"
    assert ops.where([True, False, True], a, b).dtype == wanted


def test_a_number_takes_the_dtype_of_the_tensor():
    assert (fastdl.tensor([1, 2], "int32") + 1).dtype == "int32"
    assert (fastdl.tensor([1, 2], "int64") * 3).dtype == "int64"
    assert (fastdl.tensor([1.0]) + 1).dtype == "float32"
    assert (2 ** 40 + fastdl.tensor([1], "int64")).tolist() == [2 ** 40 + 1]


@pytest.mark.parametrize("symbol", ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "eq", "ne", "lt", "le", "gt", "ge"])
@pytest.mark.parametrize("other", [np.float32([[2.0, 3, -1.5]]), 2.0, 3, np.float64(1.5), [1.0, 2.0, 3.0]], ids=str)
def test_operators(symbol, other):
    a = np.float32([[1, 2, 3], [0.5, 4, 2.5]])
    t, apply = fastdl.tensor(a), getattr(operator, symbol)
    wanted = apply(a, np.float32(other))
    got = apply(t, other)
    np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-6)
    assert got.dtype == wanted.dtype and isinstance(apply(other, t), fastdl.Tensor)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(apply(other, t).numpy(), apply(np.float32(other), a), rtol=1e-6)


def test_the_other_operators():
    a = np.float32([[1, -2], [0.5, 4]])
    t = fastdl.tensor(a)
    np.testing.assert_array_equal(-t, -a)
    np.testing.assert_array_equal(abs(t), abs(a))
    np.testing.assert_array_equal(t @ t, a @ a)
    np.testing.assert_array_equal(~(t > 0), a <= 0)
    np.testing.assert_array_equal((t > 0) & (t < 2) | (t == -2), (a > 0) & (a < 2) | (a == -2))
    assert (t == None) is False and (t != "a") is True                                   # noqa: E711
    with pytest.raises(TypeError):
        t + "a"
    with pytest.raises(TypeError, match="numbers"):
        ops.add(t, "a")


def test_integer_functions_stay_integers():
    a = np.int32([3, -4, 0])
    for f, wanted in ((ops.negative, -a), (ops.abs, abs(a)), (ops.sign, np.sign(a)), (ops.square, a * a)):
        got = f(a)
        assert got.dtype == "int32"
        np.testing.assert_array_equal(got, wanted)
    assert ops.exp(a).dtype == "float32"


def test_operators_on_symbols():
    x, y = Symbol((None, 3)), Symbol((None, 1))
    assert (x + y).shape == (None, 3) and (2 * x).shape == (None, 3) and (x > y).dtype == "bool" and (-x[:, 0]).shape == (None,)
    assert (x == x) is True and (x == y) is False


def test_powers_by_a_number_take_the_short_way():
    x = fastdl.tensor([0.25, 4.0], requires_grad=True)
    for power in (2, 0.5, -1, -0.5, 3, 0):
        y = x ** power
        np.testing.assert_allclose(y.numpy(), x.numpy() ** np.float32(power), rtol=3e-7)
        y.backward(np.ones(2, "f"))
        np.testing.assert_allclose(x.grad, power * x.numpy() ** np.float32(power - 1), rtol=3e-7)


def test_equal_ones_share_the_gradient_of_maximum():
    a, b = fastdl.tensor([1.0, 2, 3], requires_grad=True), fastdl.tensor([1.0, 3, 2], requires_grad=True)
    ops.maximum(a, b).backward(np.ones(3, "f"))
    assert a.grad.tolist() == [0.5, 0, 1] and b.grad.tolist() == [0.5, 1, 0]


def test_clip():
    x = fastdl.tensor([-2.0, 0.5, 3, np.nan], requires_grad=True)
    y = ops.clip(x, -1, 1)
    np.testing.assert_array_equal(y, np.float32([-1, 0.5, 1, np.nan]))
    y.backward(np.ones(4, "f"))
    assert x.grad.tolist() == [0, 1, 0, 0]
    assert ops.clip(np.int64([-5, 5, 1]), 0, 3).tolist() == [0, 3, 1]
    np.testing.assert_array_equal(ops.clip(x, np.float32([0, 0, 5, 0]), 9.0), np.float32([0, 0.5, 5, np.nan]))


@pytest.mark.parametrize("isa", ISAS)
def test_casts(isa):
    x = np.float32([0, -0.0, 1.9, -1.9, 255.5, 2e9, np.nan])
    with fastdl.isa(isa), np.errstate(all="ignore"):
        assert ops.cast(x[:6], "int32").tolist() == [0, 0, 1, -1, 255, 2000000000]
        assert ops.cast(x[:5], "uint8").tolist() == [0, 0, 1, 255, 255]
        assert ops.cast(x, "bool").tolist() == [False, False, True, True, True, True, True]
        assert ops.cast(np.array([2 ** 40 + 1, -1]), "float64").tolist() == [2 ** 40 + 1, -1]
        assert ops.cast(np.array([True, False]), "float32").tolist() == [1, 0]
    with pytest.raises(TypeError, match="complex64"):
        ops.cast(x, "complex64")


def test_shapes_that_do_not_meet():
    with pytest.raises(ShapeError, match=r"add: the shapes cannot be broadcast to one\n  x1  \(2, 3\)\n  x2  \(2,\)"):
        ops.add(np.zeros((2, 3), "f"), np.zeros(2, "f"))
    with pytest.raises(ShapeError, match="where: .*\n  condition"):
        ops.where([True, False], np.zeros((2, 3), "f"), 0.0)


@pytest.mark.parametrize("shapes", [((5, 1, 4, 1, 3), (1, 6, 1, 2, 1)), ((2, 1, 3, 1, 2, 1), (1, 2, 1, 3, 1, 2)), ((1,) * 7, (2, 1, 2, 1, 2, 1, 2))])
def test_shapes_too_mixed_for_one_call(shapes, c_isa):
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype("f") for s in shapes)
    x, y = fastdl.tensor(a, requires_grad=True), fastdl.tensor(b, requires_grad=True)
    z = x * y
    np.testing.assert_array_equal(z, a * b)
    z.backward(np.ones(z.shape, "f"))
    np.testing.assert_allclose(x.grad, np.broadcast_to(b, z.shape).sum(tuple(i for i, n in enumerate(a.shape) if n == 1), keepdims=True).reshape(a.shape), rtol=1e-5)
