"""Calls that repeat others without Python: what makes a call another, and what they may not change."""

import copy
import inspect
import threading

import numpy as np
import pytest

import fastdl
from fastdl import _core, ops
from fastdl.op import Op
from fastdl.tensor import Parameter

THREE = range(3)                                    # plain, by the pattern that it left, once more


def tensor(*values, **options):
    return fastdl.tensor(np.float32(values), **options)


def test_numbers_and_options_of_other_kinds_are_other_calls():
    x, whole = tensor(1, -2), fastdl.tensor(np.int32([5, -7]))
    for _ in THREE:
        assert np.signbit((x * 0.0).array).tolist() == [False, True] and np.signbit((x * -0.0).array).tolist() == [True, False]
        assert (whole + 1).dtype == "int32" and (whole + 1.0).dtype == "float32" and (x + 1).dtype == "float32"
        assert (whole + 1).tolist() == [6, -6] and (x + 1).tolist() == [2, -1] and (1 - x).tolist() == [0, 3]
        assert ops.sum(x, axis=0).shape == () and ops.sum(x, axis=(0,), keepdims=True).shape == (1,)
        assert np.signbit(ops.clip(tensor(-1.0), -0.0, 1.0).array).tolist() == [True]
        assert np.signbit(ops.clip(tensor(-1.0), 0.0, 1.0).array).tolist() == [False]


def test_the_same_array_twice_is_another_call():
    for _ in THREE:
        for other in None, (5, 7):
            x = tensor(2, 3, requires_grad=True)
            y = x if other is None else tensor(*other, requires_grad=True)
            z = x * y
            z.backward(np.float32([1, 10]))
            assert z.tolist() == (x.array * y.array).tolist()
            assert x.grad.tolist() == ([4, 60] if x is y else [5, 70]) and y.grad.tolist() == ([4, 60] if x is y else [2, 30])


def test_arrays_that_overlap():
    base = np.arange(6, dtype="f")
    for k in THREE:
        base += 1
        x, y = fastdl.from_numpy(base[:4]), fastdl.from_numpy(base[2:])
        assert (x - y).tolist() == [-2] * 4 and (x * y).tolist() == (base[:4] * base[2:]).tolist()


def test_views_share_memory():
    x = tensor(1, 2, 3, 4)
    for k in THREE:
        y = ops.reshape(x, (2, 2))
        assert np.shares_memory(x.array, y.array) and y.shape == (2, 2)
    kept = [ops.reshape(tensor(k, k), (2, 1)) for k in range(9)]            # whose arrays nothing else keeps
    assert [y.tolist() for y in kept] == [[[k], [k]] for k in range(9)]


def test_a_parameter_given_twice_has_one_gradient():
    values = np.float32([[1, 2], [3, 5]])
    wanted = fastdl.tensor(values, requires_grad=True)
    ops.sum(ops.matmul(ops.matmul(wanted, wanted), wanted)).backward()
    p = Parameter(values.copy())
    p.buffer = np.zeros((2, 2), "f")
    for _ in THREE:
        ops.sum(ops.matmul(ops.matmul(p, p), p)).backward()
        assert p.grad is p.buffer and p.grad.tolist() == wanted.grad.tolist()


def test_bad_data_is_explained_every_time():
    table = tensor(1, 2, 3)
    for _ in THREE:
        assert ops.take(table, np.int32([2, 0])).tolist() == [3, 1]
        with pytest.raises(fastdl.DataError, match="5") as e:
            ops.take(table, np.int32([2, 5]))
        assert e.value.position == [1]


def test_an_op_of_ones_own_runs_its_python():
    class Count(Op):
        """x plus how often it was called."""

        calls = 0

        def shape(self, x):
            return x.shape

        def forward(self, y, x):
            Count.calls += 1
            y[...] = x + Count.calls

    assert [Count.apply(tensor(1)).item() for _ in THREE] == [2, 3, 4]
    assert "plus how often" in Count.apply.__doc__ and Count.apply.__name__ == "count"


def test_an_op_is_a_function_like_others():
    assert str(inspect.signature(ops.softmax.__globals__["LogSoftmax"].apply)) == "(x, *, axis=-1)"
    assert copy.deepcopy(ops.relu) is ops.relu and ops.relu.__doc__.startswith("max(x, 0)")
    assert fastdl.autograd.gradcheck(ops.tanh, [[0.5, 2.0]])


def test_settings_and_modes_are_heeded():
    x, kernel = (fastdl.tensor(np.random.default_rng(0).standard_normal(s).astype("f")) for s in ((1, 8, 8, 64), (3, 3, 64, 64)))
    found = []
    for _ in THREE:
        for on in True, False:
            fastdl.config.set_winograd(on)
            found.append(ops.conv2d(x, kernel, padding="same").array.tobytes())
        fastdl.config.set_winograd(True)
    assert len(set(found)) == 2 and found[:2] * 3 == found
    y = tensor(1.001, 2)
    for _ in THREE:
        rounded = ops.matmul(y, y).item()
        with fastdl.op.products(bfloat16=True):
            assert ops.matmul(y, y).item() != rounded
        with fastdl.no_grad():
            assert (tensor(1, requires_grad=True) * y).node is None
        with fastdl.isa("numpy"):
            assert ops.exp(fastdl.Tensor(np.float64([1]))).array.dtype == "float64"
        assert ops.exp(tensor(1)).dtype == "float32"


def test_a_backward_learnt_late_is_used():
    x = tensor(1, 2, requires_grad=True)
    for _ in THREE:
        y = ops.log1p(x)                            # no backward follows
    y.backward(np.ones(2, "f"))
    runs = []
    plain = ops.log1p.op.backward
    ops.log1p.op.backward = lambda *a: runs.append(1) or plain(*a)
    try:
        for _ in THREE:
            ops.log1p(x).backward(np.ones(2, "f"))
    finally:
        ops.log1p.op.backward = plain
    assert not runs and x.grad.tolist() == [0.5, np.float32(1 / 3)]


def test_backward_long_after_and_twice():
    made = []
    for k in range(4):
        x = tensor(k, 2, requires_grad=True)
        made.append((x, ops.sum(ops.exp(x) * x)))
    for x, loss in reversed(made):
        loss.backward(retain_graph=True)
        first = x.grad
        loss.backward()
        assert first.tobytes() == x.grad.tobytes()
        np.testing.assert_allclose(first, np.exp(x.array) * (x.array + 1), rtol=1e-6)
        with pytest.raises(RuntimeError, match="retain_graph"):
            loss.backward()


def test_a_gradient_of_another_dtype_is_refused():
    for _ in THREE:
        y = ops.exp(tensor(1, 2, requires_grad=True))
        with pytest.raises(TypeError, match="float64"):
            y.backward(fastdl.Tensor(np.float64([1, 1])))


def test_what_was_called_before_a_recorded_step_is_not_walked_in_it():
    x = tensor(1, 2, requires_grad=True)
    for _ in THREE:
        ops.sum(ops.exp(x)).backward()
    outside = ops.exp(x)

    @fastdl.record
    def step(y):
        loss = ops.sum(outside * y)
        loss.backward(retain_graph=True)
        return loss

    step(tensor(1, 2))
    with pytest.raises(fastdl.RecordingError, match="Exp, which was called before the step"):
        step(tensor(1, 2))


def test_threads_call_the_same_op():
    fastdl.config.set_num_threads(2)
    _core.set_grain(0)                              # calls release the lock of Python
    wrong = []

    def work(k):
        x = tensor(*[k] * 1000, requires_grad=True)
        for _ in range(200):
            y = ops.exp(x * x) + x
            y.backward(np.ones(1000, "f"))
            if y.array[0] != y.array[-1] or not np.allclose(y.array[0], np.exp(k * k) + k) or not np.allclose(x.grad, 2 * k * np.exp(k * k) + 1):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k / 4,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_memory_does_not_grow():
    x = fastdl.tensor(np.ones((30, 30), "f"), requires_grad=True)

    def step():
        ops.mean(ops.softmax(ops.layer_normalization(ops.matmul(x, x))) * x).backward()

    for _ in range(20):
        step()
    held = _core.pool().nbytes
    for _ in range(200):
        step()
    assert _core.pool().nbytes == held
