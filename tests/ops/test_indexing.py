"""What test_every_op cannot see of indexing: casts, cursors, messages, the order of additions."""

import numpy as np
import pytest

import fastdl
from fastdl import DataError, ShapeError, ops
from fastdl.record import Program

ISAS = fastdl.config.available_isas()


def extremes(dtype):
    if dtype in ("float32", "float64"):
        return np.array([[0, -0.0, 1.75, -1.75], [3e9, -3e9, np.nan, np.inf], [-np.inf, 255, 2147483520, -2147483648]], dtype)
    if dtype == "bool":
        return np.array([[True, False, False, True]] * 3)
    i = np.iinfo(dtype)
    return np.array([[i.min, i.max, 0, 1], [2, 3, 4, 5], [i.max, i.max - 1, i.min, 7]], dtype)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "float32", "float64"])
def test_batches_are_cast(dtype, isa):
    source, order, cursor = extremes(dtype), np.array([2, 0, 1]), np.array([1])
    rows = source[[0, 1, 2, 0]]                                  # from the cursor, and on at the beginning
    with fastdl.isa(isa), np.errstate(all="ignore"):
        got = ops.take_batch(source, order, cursor, 4).numpy()
        assert got.dtype == "float32"
        np.testing.assert_array_equal(got, rows.astype("float32"))
        got = ops.take_batch(source, order, cursor, 4, "int32").numpy()
    wanted = [[min(max(int(v), -2**31), 2**31 - 1) if np.isfinite(v) else 2**31 - 1 if v > 0 else -2**31 for v in row] for row in rows]
    assert got.dtype == "int32" and got.tolist() == wanted


@pytest.mark.parametrize("isa", ISAS)
def test_an_epoch_of_replays(isa, rng):
    """Gather by a shuffled index, double, write back by the cursor, advance: every row once."""
    x, order, cursor, result = rng.integers(0, 256, (10, 3)).astype("uint8"), rng.permutation(10), np.zeros(1, "int64"), np.zeros((10, 3), "float32")
    with fastdl.isa(isa):
        program = Program()
        with program.recorded():
            ops.put_batch(result, ops.relu(ops.take_batch(x, order, cursor, 4)), cursor)
            ops.advance(cursor, 4)
        assert program.run(2) == 2 and cursor == 12
    np.testing.assert_array_equal(result, x[order])


def test_batches_without_order_and_without_rows():
    np.testing.assert_array_equal(ops.take_batch(np.arange(3)).numpy(), [0, 1, 2])
    assert ops.take_batch(np.zeros((0, 4)), batch=0).shape == (0, 4)
    assert ops.take_batch(np.array([True, False]), dtype="bool").numpy().tolist() == [True, False]
    with pytest.raises(ShapeError, match="without rows"):
        ops.take_batch(np.zeros((0, 4)), batch=1)
    with pytest.raises(TypeError, match="float32 cannot be had as uint8"):
        ops.take_batch(np.zeros((2, 4), "float32"), dtype="uint8")
    with pytest.raises(ShapeError, match="order"):
        ops.take_batch(np.zeros((2, 4)), np.arange(3))


@pytest.mark.parametrize("isa", ISAS)
def test_what_is_out_of_range_is_named(isa):
    table, tokens = np.zeros((50, 4), "float32"), np.zeros((4, 20), "int64")
    with fastdl.isa(isa):
        tokens[3, 17] = 51
        with pytest.raises(DataError, match=r"token 51 at \[3, 17\] is out of range for Embedding\(input_dim=50\)\n  allowed are 0 to 49"):
            ops.embedding(tokens, table)
        tokens[2, 0] = -1
        with pytest.raises(DataError, match=r"token -1 at \[2, 0\]"):
            ops.embedding(tokens, table)
        with pytest.raises(DataError, match=r"token 2147483647 or more at \[0\]"):
            ops.embedding(np.array([2**40]), table)
        with pytest.raises(DataError, match=r"token -2147483648, or less, or NaN at \[1\]"):
            ops.embedding(np.array([0, np.nan], "float32"), table)
        with pytest.raises(DataError, match=r"index 4 at \[1\] is out of range for an axis of size 4\n  allowed are 0 to 3"):
            ops.take(table, np.array([0, 4]), axis=1)
        with pytest.raises(DataError, match=r"class 3 is out of range for one_hot\(num_classes=3\)"):
            ops.one_hot(np.array(3), 3)
        with pytest.raises(DataError, match="row 9, number 1 of the batch, is out of range for a data set of 3 rows"):
            ops.take_batch(np.zeros((3, 2)), np.array([0, 9, 1]))
        with pytest.raises(TypeError, match="embedding: indices have dtype uint32"):
            ops.embedding(fastdl.Tensor(np.zeros(3, "uint32")), table)


def test_a_replay_names_what_is_out_of_range():
    table = fastdl.tensor(np.zeros((5, 2)), requires_grad=True)
    step = fastdl.record(lambda tokens: ops.embedding(tokens, table))
    good, bad = np.zeros((2, 3), "int32"), np.full((2, 3), 5, "int32")
    step(good), step(good), step(good)
    with pytest.raises(DataError, match=r"token 5 at \[0, 0\]"):
        step(bad)
    assert step(good).shape == (2, 3, 2)


@pytest.mark.parametrize("size, width, count", [(3000, 33, 700), (5, 7, 300), (70000, 1, 500), (300, 200, 40)])
def test_embedding_gradient_adds_in_the_order_of_positions(size, width, count, rng, c_isa):
    tokens = rng.integers(0, size, count) // rng.integers(1, 50, count)
    d_out = rng.standard_normal((count, width)).astype("float32")
    table = fastdl.tensor(np.zeros((size, width)), requires_grad=True)
    wanted = np.zeros((size, width), "float32")
    for position, token in enumerate(tokens):
        wanted[token] += d_out[position]
    fastdl._core.set_grain(0)
    for threads in 1, 3:
        fastdl.config.set_num_threads(threads)
        ops.embedding(tokens.astype("int32"), table).backward(d_out)
        np.testing.assert_array_equal(table.grad, wanted)


def test_take_of_whole_numbers():
    x = np.array([[1, -2**31, 2**31 - 1], [2143289345, 5, -1]], "int32")      # one of them a NaN's bits
    got = ops.take(fastdl.Tensor(x), np.array([2, 0]), axis=1)
    assert got.dtype == "int32" and got.numpy().tolist() == x[:, [2, 0]].tolist()
