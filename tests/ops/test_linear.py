"""Products of small integers are exact: every shape, every transpose, every instruction set must give error 0."""

import itertools
import sys

import numpy as np
import pytest

import fastdl
from fastdl import _core, ops
from fastdl.tensor import Tensor, kernels

ISAS = [isa for isa in fastdl.config.available_isas() if isa != "numpy"]
TAILS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 14, 15, 16, 17, 19, 23, 28, 29, 31, 32, 33]
family = sys.modules["fastdl.ops.linear"]


@pytest.fixture(params=ISAS)
def isa(request):
    with fastdl.isa(request.param):
        yield request.param


@pytest.fixture(params=["end", "start"])
def guard(request):
    _core.set_guard(request.param)
    yield
    _core.set_guard(None)


def whole(random, *shape):
    out = _core.empty(shape)
    out[...] = random.integers(-8, 9, shape)
    return out


class Workspace:
    empty, bfloat16 = staticmethod(_core.empty), False
    early = staticmethod(lambda *arrays: False)


def multiply(a, b, turn_a, turn_b, bias=None, **options):
    """a @ b, with a or b stored transposed, through family.product."""
    (rows, depth), columns = a.shape, b.shape[1]
    out, left, right = _core.empty((rows, columns)), _core.empty(a.T.shape if turn_a else a.shape), _core.empty(b.T.shape if turn_b else b.shape)
    left[...], right[...] = a.T if turn_a else a, b.T if turn_b else b
    family.product(Workspace, out, left, right, bias, rows=rows, columns=columns, depth=depth, left_row=1 if turn_a else depth,
                   left_depth=rows if turn_a else 1, right_depth=1 if turn_b else columns, right_column=depth if turn_b else 1, **options)
    return out


def test_exact_at_every_tail(isa, guard):
    random = np.random.default_rng(0)
    for rows, columns in itertools.product(TAILS, TAILS):
        depth = int(random.choice(TAILS))
        a, b, bias = whole(random, rows, depth), whole(random, depth, columns), whole(random, columns)
        for turn_a, turn_b in itertools.product((False, True), repeat=2):
            assert np.array_equal(multiply(a, b, turn_a, turn_b), a @ b), (rows, depth, columns, turn_a, turn_b)
        assert np.array_equal(multiply(a, b, False, False, bias, activation=1), np.maximum(a @ b + bias, 0)), (rows, depth, columns)


@pytest.mark.parametrize("rows, depth, columns", [
    (1, 1000, 700), (3, 1025, 129), (57, 300, 65), (85, 257, 513), (225, 513, 257), (450, 40, 10), (449, 256, 1), (16, 600, 5),
    (130, 1, 300), (5, 2048, 3), (1, 9000, 1), (64, 64, 64), (300, 31, 48), (47, 1030, 650), (24, 40, 578), (70, 530, 1100),
    (300, 270, 1030)])
@pytest.mark.parametrize("long", [False, True])
def test_exact_in_blocks(isa, guard, rows, depth, columns, long):
    random = np.random.default_rng(rows)
    a, b = whole(random, rows, depth), whole(random, depth, columns)
    for turn_a, turn_b in itertools.product((False, True), repeat=2):
        assert np.array_equal(multiply(a, b, turn_a, turn_b, long=long), a @ b), (turn_a, turn_b)


def test_panels_from_any_strides(isa, guard):
    random = np.random.default_rng(2)
    for depth, columns in [(3, 5), (17, 31), (300, 70), (20, 9), (64, 96), (40, 33)]:
        b = whole(random, depth, columns)
        panels, turned = (_core.empty((family.panel_floats(depth, columns),)) for _ in range(2))
        kernels.pack(panels, b, depth=depth, columns=columns, row=columns, column=1)
        kernels.pack(turned, np.ascontiguousarray(b.T), depth=depth, columns=columns, row=1, column=depth)
        full = np.zeros((depth, -(-columns // 32) * 32), "f")
        full[:, :columns] = b
        assert np.array_equal(panels, full.reshape(depth, -1, 32).transpose(1, 0, 2).reshape(-1)) and np.array_equal(panels, turned)


@pytest.mark.parametrize("columns", [3, 5, 12, 20])
def test_columns_of_a_matrix_as_wide_as_a_panel(isa, guard, columns):
    a, b, out = np.ones((3, 64), "f"), _core.empty((64, 32)), _core.empty((3, columns))
    b[...] = 1
    kernels.matrix_product(out, a, b.reshape(-1)[32 - columns:], None, None, None, outer=1, inner=1, rows=3, columns=columns, depth=64,
                           split=0, left_outer=0, left_inner=0, left_row=64, left_depth=1, right_outer=0, right_inner=0, right_depth=32,
                           right_column=1, right_panel=0, activation=0, accumulate=0)
    assert np.array_equal(out, np.full((3, columns), 64))


def test_accumulate_with_every_path(isa, guard):
    random = np.random.default_rng(3)
    for rows, depth, columns in [(1, 40, 37), (20, 30, 3), (20, 300, 70), (70, 9, 33)]:
        a, b, bias, out = whole(random, rows, depth), whole(random, depth, columns), whole(random, columns), whole(random, rows, columns)
        expected = np.maximum(out + a @ b + bias, 0)
        kernels.matrix_product(out, a, b, bias, None, None, outer=1, inner=1, rows=rows, columns=columns, depth=depth, split=0, left_outer=0,
                               left_inner=0, left_row=depth, left_depth=1, right_outer=0, right_inner=0, right_depth=columns,
                               right_column=1, right_panel=0, activation=1, accumulate=1)
        assert np.array_equal(out, expected), (rows, depth, columns)


SHAPES = [(3, 70, 40), (64, 300, 40), (5, 1100, 3), (40, 600, 1), (230, 30, 70), (24, 5408, 10), (9, 321, 31)]


def test_same_bits_on_avx2_and_avx512():
    if not {"avx2", "avx512"} <= set(ISAS):
        pytest.skip("needs a processor with AVX-512")
    random = np.random.default_rng(4)
    for rows, depth, columns in SHAPES:
        a, b = (random.standard_normal(s).astype("float32") for s in ((rows, depth), (depth, columns)))
        found = []
        for name in ("avx2", "avx512"):
            with fastdl.isa(name):
                found.append([multiply(a, b, *turned, long=long) for turned in ((False, False), (True, True)) for long in (False, True)]
                             + [ops.linear(Tensor(a), Tensor(b)).array])
        for one, other in zip(*found):
            assert np.array_equal(one, other), (rows, depth, columns)


def test_a_row_has_the_same_bits_in_any_batch(isa):
    random = np.random.default_rng(5)
    for rows, depth, columns in SHAPES:
        x, kernel, bias = (Tensor(random.standard_normal(s).astype("float32")) for s in ((rows, depth), (depth, columns), (columns,)))
        y = ops.linear(x, kernel, bias, activation="tanh").array
        for row in (0, rows - 1):
            alone = ops.linear(Tensor(x.array[row: row + 1].copy()), kernel, bias, activation="tanh").array
            assert np.array_equal(y[row: row + 1], alone), (rows, depth, columns)


def test_nan_and_infinity_stay_in_their_row(isa):
    x = np.zeros((40, 8), "float32")
    x[3, 2], x[17, 0] = np.nan, np.inf
    for columns in (1, 5, 40):
        y = ops.linear(Tensor(x), Tensor(np.ones((8, columns), "float32")), activation="relu").array
        assert np.isnan(y[3]).all() and np.isposinf(y[17]).all() and not np.delete(y, (3, 17), 0).any()


def test_matmul_takes_what_numpy_takes(isa):
    random = np.random.default_rng(6)
    leading = [(), (1,), (3,), (2, 1), (2, 3), (4, 1, 3), (4, 2, 1), (0,)]
    for of_a, of_b in itertools.product(leading, leading):
        try:
            np.broadcast_shapes(of_a, of_b)
        except ValueError:
            with pytest.raises(fastdl.ShapeError, match="do not broadcast"):
                ops.matmul(Tensor(whole(random, *of_a, 2, 3)), Tensor(whole(random, *of_b, 3, 2)))
            continue
        a, b = Tensor(whole(random, *of_a, 2, 5), True), Tensor(whole(random, *of_b, 5, 3), True)
        y = ops.matmul(a, b)
        assert y.shape == np.matmul(a.array, b.array).shape and np.array_equal(y.array, np.matmul(a.array, b.array))
        d_y = whole(random, *y.shape)
        y.backward(Tensor(d_y))
        for grad, full in ((a.grad, d_y @ b.array.swapaxes(-1, -2)), (b.grad, a.array.swapaxes(-1, -2) @ d_y)):
            lead = full.ndim - grad.ndim
            axes = (*range(lead), *(lead + i for i, n in enumerate(grad.shape[:-2]) if n == 1))
            assert np.array_equal(grad, full.sum(axes).reshape(grad.shape)), (of_a, of_b)


def test_dot_and_tensordot():
    random = np.random.default_rng(7)
    a, b, c = whole(random, 4, 3, 5), whole(random, 5), whole(random, 3, 5, 2)
    assert np.array_equal(ops.dot(a, b).array, np.dot(a, b))
    assert np.array_equal(ops.dot(Tensor(b), Tensor(b)).array, np.dot(b, b))
    assert np.array_equal(ops.tensordot(a, c).array, np.tensordot(a, c))
    with pytest.raises(fastdl.ShapeError, match="more than 2 axes"):
        ops.dot(Tensor(a), Tensor(c))


def test_messages():
    x, kernel = Tensor(np.zeros((2, 3), "float32")), Tensor(np.zeros((4, 5), "float32"))
    with pytest.raises(fastdl.ShapeError, match=r"x has depth 3, kernel expects 4\n  x +\(2, 3\)   ..., depth\n  kernel +\(4, 5\)"):
        ops.linear(x, kernel)
    with pytest.raises(fastdl.ShapeError, match="bias must have one number for each of the 5 columns"):
        ops.linear(Tensor(np.zeros((2, 4), "float32")), kernel, Tensor(np.zeros(4, "float32")))
    with pytest.raises(fastdl.ShapeError, match="a has depth 3, b has depth 4"):
        ops.matmul(x, kernel)
    with pytest.raises(ValueError, match="unknown activation 'softmax'"):
        ops.linear(x, Tensor(np.zeros((3, 5), "float32")), activation="softmax")


@pytest.mark.parametrize("axes", [([0, 1], [0, 1]), ((1, 2), (0, 2)), (2, -1), ([-1, 0], [2, 1])])
def test_tensordot_over_named_axes(rng, axes):
    a, b = rng.standard_normal((3, 4, 5)).astype("f"), rng.standard_normal((3, 4, 5)).astype("f")
    sizes = [[x.shape[i] for i in (given if isinstance(given, (list, tuple)) else [given])] for given, x in zip(axes, (a, b))]
    if sizes[0] != sizes[1]:
        b = rng.standard_normal([dict(zip([i % 3 for i in axes[1]], sizes[0])).get(i, n) for i, n in enumerate(b.shape)]).astype("f")
    np.testing.assert_allclose(ops.tensordot(fastdl.tensor(a), fastdl.tensor(b), axes=axes).array, np.tensordot(a, b, axes), rtol=1e-4, atol=1e-5)
