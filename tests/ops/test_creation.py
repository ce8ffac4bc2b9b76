"""Tensors made, converted and overwritten."""

import numpy as np
import pytest

import fastdl
from fastdl import ops
from fastdl.op import Symbol


@pytest.mark.parametrize("got, wanted", [
    (lambda: ops.zeros((2, 3)), np.zeros((2, 3), "f")), (lambda: ops.ones(3, "int64"), np.ones(3, "int64")), (lambda: ops.full((2,), True, "bool"), np.array([True, True])),
    (lambda: ops.zeros_like(np.int32([1, 2])), np.zeros(2, "int32")), (lambda: ops.ones_like(np.int32([1, 2]), "float32"), np.ones(2, "f")),
    (lambda: ops.full_like(np.float32([1]), 2.5), np.float32([2.5])), (lambda: ops.arange(5), np.arange(5, dtype="int32")),
    (lambda: ops.arange(1, 2, 0.25), np.arange(1, 2, 0.25, dtype="f")), (lambda: ops.eye(2, 3, 1), np.eye(2, 3, 1, "f")),
    (lambda: ops.identity(2, "int32"), np.eye(2, dtype="int32")), (lambda: ops.linspace(0, 1, 5), np.linspace(0, 1, 5, dtype="f")),
    (lambda: ops.convert_to_tensor([1, 2]), np.int32([1, 2])), (lambda: ops.convert_to_tensor(1.5), np.float32(1.5)),
    (lambda: ops.convert_to_tensor(np.array([1, 2])), np.array([1, 2])), (lambda: ops.convert_to_tensor(np.zeros(2)), np.zeros(2, "f")),
    (lambda: ops.convert_to_tensor([True]), np.array([True])), (lambda: ops.copy(np.int64([3])), np.int64([3])),
    (lambda: ops.convert_to_tensor(fastdl.tensor([1.5]), "int32"), np.int32([1]))])
def test_as_numpy(got, wanted):
    y = got().numpy()
    assert y.dtype == wanted.dtype and y.shape == wanted.shape
    np.testing.assert_array_equal(y, wanted)


def test_what_is_known_of_a_tensor():
    x, s = fastdl.tensor([[1.0, 2]]), Symbol((None, 3))
    assert ops.shape(x) == (1, 2) and ops.shape(s) == (None, 3) and ops.ndim(s) == 2 and ops.size(x) == 2 and ops.size(s) is None
    assert ops.is_tensor(x) and ops.is_tensor(s) and not ops.is_tensor(x.numpy())
    assert ops.convert_to_tensor(x) is x and ops.convert_to_numpy(x) is x.numpy()
    assert ops.zeros_like(s).shape == (None, 3)


def test_stop_gradient():
    x = fastdl.tensor([1.0, 2], requires_grad=True)
    y = x * ops.stop_gradient(x)
    y.backward(np.ones(2, "f"))
    assert x.grad.tolist() == [1, 2] and np.shares_memory(ops.stop_gradient(x).numpy(), x.numpy())
    assert not ops.stop_gradient(x).requires_grad and ops.stop_gradient(Symbol((None, 2))).shape == (None, 2)


def test_assign_in_a_recorded_step():
    total, count = fastdl.Parameter(np.zeros(2, "f"), "total"), fastdl.Parameter(np.zeros((), "int64"), "count", trainable=False)
    memory = total.array

    @fastdl.record
    def step(x):
        ops.assign_add(total, x)
        ops.assign(count, count + 1)
        return total * 2.0

    for k in range(5):
        doubled = step(np.full(2, k, "f"))
    assert total.array is memory and total.tolist() == [10, 10] and doubled.tolist() == [20, 20] and count.item() == 5
    with pytest.raises(ValueError, match=r"assign: the variable has shape \(2,\), the value \(3,\)"):
        ops.assign(total, np.zeros(3, "f"))


def test_made_tensors_are_made_again_at_replay():
    @fastdl.record
    def step(x):
        y = ops.zeros((3,))
        return ops.assign_add(y, x)

    for k in range(4):
        assert step(np.full(3, k, "f")).tolist() == [k] * 3
