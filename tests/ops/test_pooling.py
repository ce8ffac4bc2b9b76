"""Pooling: ties, NaN, windows over the edge; with small whole numbers every result must be exact on every instruction set."""

import numpy as np
import pytest

import fastdl
from fastdl import ops
from fastdl.ops.convolution import extent
from fastdl.record import Program
from fastdl.tensor import Tensor, backward, no_grad


def configurations():
    """(images, window, strides, padding): windows of one place, of the whole image, overlapping, apart, over the edge."""
    yield (32, 26, 26, 32), (2, 2), (2, 2), "valid"
    yield (1, 8, 8, 16), (3, 3), (2, 2), "same"
    yield (1, 17, 17, 3), (17, 17), (1, 1), "valid"                       # 289 places: more than a byte can number
    yield (1, 20, 20, 2), (17, 17), (2, 2), "same"
    yield (2, 5, 7, 5), (1, 1), (3, 2), "same"
    yield (1, 2, 3, 4), (5, 6), (1, 1), "same"
    rng = np.random.default_rng(5)
    for _ in range(30):
        window, strides, padding = rng.integers(1, 5, 2), rng.integers(1, 6, 2), ["valid", "same"][rng.integers(0, 2)]
        images = int(rng.integers(1, 4)), *(int(n) for n in window + rng.integers(0, 9, 2)), int(rng.integers(1, 37))
        yield images, tuple(map(int, window)), tuple(map(int, strides)), padding


def textbook(x, d_out, window, strides, padding, largest):
    """out and d_x by the formula, window by window, each sum in the order of the windows."""
    (rows, top), (columns, left) = [extent(*a, 1, padding) for a in zip(x.shape[1:3], window, strides)]
    out, d_x = np.zeros((len(x), rows, columns, x.shape[3]), "float32"), np.zeros_like(x)
    for n, oy, ox, c in np.ndindex(*out.shape):
        y0, x0 = oy * strides[0] - top, ox * strides[1] - left
        ys, xs = slice(max(y0, 0), y0 + window[0]), slice(max(x0, 0), x0 + window[1])
        part, d_part = x[n, ys, xs, c], d_x[n, ys, xs, c]
        d = np.float32(d_out(n, oy, ox, c))
        if largest:
            at = np.unravel_index(part.argmax(), part.shape)
            out[n, oy, ox, c] = part[at]
            d_part[at] += d
        else:
            out[n, oy, ox, c] = part.sum(dtype="float32") / np.float32(part.size)
            d_part += d / np.float32(part.size)
    return out, d_x


@pytest.mark.parametrize("function", [ops.max_pool2d, ops.average_pool2d])
@pytest.mark.parametrize("images, window, strides, padding", list(configurations())[1:])
def test_exact(function, images, window, strides, padding):
    x = np.random.default_rng(6).integers(-2, 3, images).astype("float32")       # with many ties
    d_out = lambda n, y, x, c: (3 * n + 5 * y + 7 * x + 11 * c) % 13 - 6
    expected = textbook(x, d_out, window, strides, padding, function is ops.max_pool2d)
    for isa in fastdl.config.available_isas():
        with fastdl.isa(isa):
            t = Tensor(x, True)
            out = function(t, pool_size=window, strides=strides, padding=padding)
            d = np.fromfunction(d_out, out.shape).astype("float32")
            for got, wanted in zip((out.array, *backward([out], [d], targets=[t])), expected):
                np.testing.assert_array_equal(got, wanted, err_msg=isa)


def test_primer_network_pooling(c_isa, rng):
    x = rng.standard_normal((32, 26, 26, 32)).astype("float32")
    t = Tensor(x, True)
    out = ops.max_pool2d(t)
    d, = backward([out], [out.array], targets=[t])
    windows = x.reshape(32, 13, 2, 13, 2, 32)
    np.testing.assert_array_equal(out.array, windows.max((2, 4)))
    np.testing.assert_array_equal(d.reshape(windows.shape), np.where(windows == out.array[:, :, None, :, None], windows, 0))


def test_first_of_equals_wins_and_nan_before_all(c_isa):
    x = np.array([[0., -0., 1, np.nan, -np.inf, -np.inf], [0, 0, np.nan, 7, -np.inf, -np.inf]], "float32").reshape(1, 2, 6, 1)
    t = Tensor(np.repeat(x, 19, 3), True)
    out = ops.max_pool2d(t)
    np.testing.assert_array_equal(out.array[0, 0, :, 0], [0, np.nan, -np.inf])
    d, = backward([out], [np.ones(out.shape, "float32")], targets=[t])
    for c in range(19):
        np.testing.assert_array_equal(d[0, :, :, c], [[1, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 0]])


def test_minus_infinity_at_the_edge_wins_inside(c_isa):
    t = Tensor(np.full((1, 3, 3, 2), -np.inf, "float32"), True)
    out = ops.max_pool2d(t, pool_size=3, strides=2, padding="same")
    d, = backward([out], [np.ones(out.shape, "float32")], targets=[t])
    assert np.isneginf(out.array).all() and d.sum() == out.size


def test_winners_are_kept_for_backward_only(rng):
    x = Tensor(rng.standard_normal((1, 64, 64, 16)).astype("float32"), True)
    def nbytes():
        program = Program()
        with program.recorded():
            ops.max_pool2d(x)
        return program.about[0][2]
    with_winners = nbytes()
    with no_grad():
        assert nbytes() == with_winners - 32 * 32 * 16


def test_global_pools(c_isa, rng):
    x = rng.integers(-8, 9, (3, 8, 4, 19)).astype("float32")
    np.testing.assert_array_equal(ops.global_average_pool2d(x).array, x.mean((1, 2), keepdims=True))
    np.testing.assert_array_equal(ops.global_max_pool2d(x).array, x.max((1, 2), keepdims=True))


@pytest.mark.parametrize("images, options, error, message", [
    ((1, 2, 5, 3), dict(pool_size=3), fastdl.ShapeError, "max_pool2d: a window of 3 x 3 does not fit into the padded images\n  images  (1, 2, 5, 3)"),
    ((2, 5, 3), {}, fastdl.ShapeError, "max_pool2d: images have 3 axes, four are wanted"),
    ((1, 0, 4, 3), dict(pool_size=None), ValueError, "at least 1"),
    ((1, 5, 5, 3), dict(pool_size=(2, 0)), ValueError, "at least 1"),
    ((1, 5, 5, 3), dict(strides=0), ValueError, "at least 1"),
    ((1, 5, 5, 3), dict(padding="full"), ValueError, "padding must be"),
    ((1, 5, 5, 3), dict(padding=((1, 1), (0, 2))), ValueError, "padding must be less than the pool"),
])
def test_what_does_not_fit(images, options, error, message):
    with pytest.raises(error) as e:
        ops.max_pool2d(np.zeros(images, "float32"), **options)
    assert message in str(e.value)
