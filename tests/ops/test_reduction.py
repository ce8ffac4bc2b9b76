"""What test_every_op cannot see of reductions: long sums, extremes, ties, dtypes, messages."""

import numpy as np
import pytest

import fastdl
from fastdl import ShapeError, ops

ISAS = fastdl.config.available_isas()


@pytest.mark.parametrize("shape, axis", [((1 << 22,), None), ((1 << 18, 3), 0), ((3, 1 << 18), 1), ((1 << 16, 70), 0)])
def test_long_sums_are_accurate(shape, axis, c_isa):
    x = np.full(shape, 0.1, "f")
    got, wanted = ops.sum(x, axis).numpy(), x.sum(axis, dtype="float64")
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_the_same_bits_on_every_set_with_fma(rng):
    x = rng.standard_normal((37, 130, 41)).astype("f")
    for axis in (None, 0, 1, 2, (0, 2)):
        found = set()
        for isa in {"avx2", "avx512"} & set(ISAS):
            with fastdl.isa(isa):
                found.add(b"".join(f(x, axis).numpy().tobytes() for f in (ops.sum, ops.mean, ops.var, ops.std, ops.logsumexp)))
        assert len(found) <= 1


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_extremes_with_nan_and_infinity(isa, axis, rng):
    x = rng.standard_normal((20, 33)).astype("f")
    x[3, 5], x[7, 7], x[9, 9] = np.inf, -np.inf, np.nan
    with fastdl.isa(isa), np.errstate(all="ignore"):
        for name in ("max", "min", "argmax", "argmin", "sum", "prod", "mean"):
            np.testing.assert_allclose(getattr(ops, name)(x, axis).numpy(), getattr(np, name)(x, axis), rtol=1e-4)


@pytest.mark.parametrize("isa", ISAS)
def test_argmax_takes_the_first(isa):
    x = np.zeros((2, 50), "f")
    x[0, [17, 33]], x[1, [49]] = 5, 1
    with fastdl.isa(isa):
        assert ops.argmax(x, 1).tolist() == [17, 49] and ops.argmin(x, -1).tolist() == [0, 0] and ops.argmax(x).tolist() == 17
        assert ops.argmax(x.T.copy(), 0).tolist() == [17, 49] and ops.argmax(x, 1, keepdims=True).shape == (2, 1)
        assert ops.argmax(np.int64([1, 2 ** 60, 2 ** 60 + 1])).tolist() == 2


def test_equal_extremes_share_the_gradient():
    x = fastdl.tensor([[1.0, 3, 3, 0], [2, 2, 2, 2]], requires_grad=True)
    ops.max(x, 1).backward(np.float32([1, 4]))
    assert x.grad.tolist() == [[0, 0.5, 0.5, 0], [1, 1, 1, 1]]


def test_the_gradient_of_a_product_with_zeros():
    x = fastdl.tensor([[2.0, 0, 3], [0, 0, 5]], requires_grad=True)
    ops.prod(x, 1).backward(np.float32([1, 1]))
    assert x.grad.tolist() == [[0, 6, 0], [0, 0, 0]]


@pytest.mark.parametrize("isa", ISAS)
def test_integers_and_bools(isa):
    x = np.int32([[2 ** 30, 2 ** 30 - 1], [-5, 3]])
    with fastdl.isa(isa):
        for f, wanted in ((ops.sum, [2 ** 31 - 1, -2]), (ops.max, [2 ** 30, 3]), (ops.min, [2 ** 30 - 1, -5])):
            y = f(x, 1)
            assert y.dtype == "int32" and y.tolist() == wanted
        assert ops.sum(x > 0).tolist() == 3 and ops.sum(x > 0).dtype == "int32" and ops.mean(x[1]).item() == -1
        assert ops.any(x < 0, 1).tolist() == [False, True] and ops.all(x < 2 ** 30, 1).tolist() == [False, True]
        assert ops.any(np.float32([0, np.nan])).tolist() is True and ops.all(np.zeros((0,), "f")).tolist() is True


@pytest.mark.parametrize("isa", ISAS)
def test_logsumexp_does_not_overflow(isa):
    x = np.float32([[1000, 1000], [-1000, -1001], [-np.inf, -np.inf], [np.inf, 0]])
    with fastdl.isa(isa), np.errstate(all="ignore"):
        np.testing.assert_allclose(ops.logsumexp(x, 1), [1000 + np.log(2), -1000 + np.log1p(np.exp(-1)), -np.inf, np.inf], rtol=1e-6)


def test_nothing_to_reduce():
    x = np.zeros((3, 0), "f")
    assert ops.sum(x, 1).tolist() == [0, 0, 0] and ops.prod(x, 1).tolist() == [1, 1, 1] and ops.sum(np.zeros((0, 4), "f"), 1).shape == (0,)
    for f in (ops.max, ops.argmin, ops.logsumexp):
        with pytest.raises(ShapeError, match="axis of size 0"):
            f(x, 1)
    with pytest.raises(ShapeError, match="sum: there is no axis 2"):
        ops.sum(x, 2)
    assert ops.sum(x[:, :0], ()).shape == (3, 0)


def test_std_is_the_root_of_the_variance(rng):
    x = rng.standard_normal((7, 11, 5)).astype("f") + 100
    for axis in (None, 1, (0, 2)):
        np.testing.assert_allclose(ops.std(x, axis), x.astype("float64").std(axis), rtol=2e-5)
