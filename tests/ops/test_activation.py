"""What test_every_op cannot see of functions of one number: infinities, NaN, far values, Keras' defaults."""

import numpy as np
import pytest

import fastdl
from fastdl import ops

ISAS = fastdl.config.available_isas()
inf, nan = np.inf, np.nan
SHAPED = ["relu", "relu6", "leaky_relu", "elu", "selu", "sigmoid", "tanh", "softplus", "log_sigmoid", "softsign", "silu", "hard_sigmoid", "hard_silu",
          "mish", "gelu", "exp", "expm1", "log1p", "erf", "sin", "cos", "square", "abs", "sqrt", "rsqrt", "reciprocal", "log"]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", SHAPED)
def test_nan_stays(name, isa):
    with fastdl.isa(isa), np.errstate(all="ignore"):
        x = fastdl.tensor(np.full(19, nan, "f"), requires_grad=True)
        assert np.isnan(getattr(ops, name)(x)).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name, at_minus_inf, at_inf, slopes", [
    ("relu", 0, inf, (0, 1)), ("relu6", 0, 6, (0, 0)), ("elu", -1, inf, (0, 1)), ("sigmoid", 0, 1, (0, 0)), ("tanh", -1, 1, (0, 0)),
    ("softplus", 0, inf, (0, 1)), ("log_sigmoid", -inf, 0, (1, 0)), ("silu", 0, inf, (0, 1)), ("hard_sigmoid", 0, 1, (0, 0)), ("hard_silu", 0, inf, (0, 1)),
    ("mish", 0, inf, (0, 1)), ("gelu", 0, inf, (0, 1))])
def test_infinities(name, at_minus_inf, at_inf, slopes, isa):
    for far in (inf, 3e38, 1e30, 200):
        with fastdl.isa(isa), np.errstate(all="ignore"):
            x = fastdl.tensor(np.float32([-far, far]), requires_grad=True)
            y = getattr(ops, name)(x)
            if far == inf:
                np.testing.assert_array_equal(y, np.float32([at_minus_inf, at_inf]))
            assert np.isfinite(y.numpy()).all() or far == inf
            y.backward(np.ones(2, "f"))
        np.testing.assert_allclose(x.grad, slopes, atol=1e-30)


@pytest.mark.parametrize("isa", ISAS)
def test_exact_gelu_at_infinity(isa):
    with fastdl.isa(isa), np.errstate(all="ignore"):
        assert ops.gelu(np.float32([-inf, inf, 0]), approximate=False).tolist() == [0, inf, 0]


def test_softplus_is_accurate_where_it_is_small(c_isa):
    x = np.float32([-20, -60, -87, 1e-3, 30, 80])
    np.testing.assert_allclose(ops.softplus(x), np.log1p(np.exp(x.astype("float64"))), rtol=4e-7)


def test_defaults_are_those_of_keras():
    x = np.float32([-1.0, 2])
    np.testing.assert_allclose(ops.leaky_relu(x), [-0.2, 2])
    np.testing.assert_allclose(ops.elu(x), [np.expm1(-1), 2], rtol=1e-6)
    np.testing.assert_allclose(ops.hard_sigmoid(x), [1 / 3, 5 / 6], rtol=1e-6)
    np.testing.assert_allclose(ops.gelu(x), 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3))), rtol=1e-6)
    np.testing.assert_allclose(ops.gelu(x, approximate=False), [-0.15865525, 1.9544997], rtol=1e-6)
    np.testing.assert_allclose(ops.selu(x), [-1.1113307, 2.101402], rtol=1e-6)


def test_rounding(c_isa):
    x = np.float32([0.5, 1.5, 2.5, -0.5, -1.5, 1e10, -0.2, 7.0])
    for name, wanted in (("round", np.rint(x)), ("floor", np.floor(x)), ("ceil", np.ceil(x)), ("sign", np.sign(x))):
        np.testing.assert_array_equal(getattr(ops, name)(x), wanted)


def test_tests_of_numbers(c_isa):
    x = np.float32([0, inf, -inf, nan, 3e38, 1e-45])
    for name in ("isfinite", "isinf", "isnan"):
        np.testing.assert_array_equal(getattr(ops, name)(x), getattr(np, name)(x))
