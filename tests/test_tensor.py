"""Tensor: memory shared with NumPy and others, values, backward and its rules."""

import gc
import importlib.util

import numpy as np
import pytest

import fastdl
from fastdl import Tensor, _core, from_dlpack, from_numpy, no_grad, ops, tensor
from fastdl.op import ops_by_name


def test_numpy_shares_memory():
    t = tensor([[1.0, 2], [3, 4]])
    for a in (np.asarray(t), t.numpy(), t.detach().numpy(), np.array(t, copy=False)):
        assert np.shares_memory(a, t.array)
    assert not np.shares_memory(np.array(t), t.array) and np.asarray(t, "float64").dtype == "float64"
    a = np.float32([1, 2])
    assert np.shares_memory(from_numpy(a).array, a) and not np.shares_memory(tensor(a).array, a)
    assert np.max(t) == 4 and np.concatenate([t, t]).shape == (4, 2)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8", "bool"])
def test_dlpack_goes_both_ways(dtype):
    a = np.arange(6).reshape(2, 3).astype(dtype)
    t = from_dlpack(a)
    assert np.shares_memory(t.array, a) and t.dtype == dtype
    back = np.from_dlpack(tensor(a, dtype))
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, a)
    t = tensor(a, dtype)
    assert np.shares_memory(np.from_dlpack(t), t.array) and from_dlpack(t).shape == (2, 3) and t.__dlpack_device__() == (1, 0)


if importlib.util.find_spec("torch"):
    def test_dlpack_with_torch():
        import torch
        t = tensor([1.0, 2])
        shared = torch.from_dlpack(t)
        shared += 1
        assert t.tolist() == [2, 3] and from_dlpack(shared).tolist() == [2, 3]


@pytest.mark.parametrize("wrong", [np.zeros((2, 3), "f").T, np.zeros(2, "complex64"), [1.0]], ids=["order", "dtype", "type"])
def test_what_cannot_be_shared_is_refused(wrong):
    with pytest.raises(TypeError, match="from_numpy: wants a C-contiguous array"):
        from_numpy(wrong)


def test_memory_outlives_the_tensor():
    a = ops.relu(np.arange(5, dtype="f")).numpy()
    gc.collect()
    _core.empty((5,))[...] = 9
    assert a.tolist() == [0, 1, 2, 3, 4]


def test_values():
    t = tensor([[1.5]])
    assert float(t) == 1.5 and int(t) == 1 and t.item() == 1.5 and t.tolist() == [[1.5]] and bool(t) and f"{t:.2f}" == "1.50" and len(t) == 1
    assert [10, 20][tensor(1, "int32")] == 20 and (t.shape, t.ndim, t.size, t.dtype) == ((1, 1), 2, 1, "float32")
    assert "1.5" in repr(t) and "shape=(1, 1)" in repr(t) and "made by Multiply" in repr(tensor([1.0], requires_grad=True) * 2.0)
    with pytest.raises(TypeError, match="without axes"):
        len(tensor(1.0))


def test_iteration_and_indexing():
    t = tensor(np.arange(6).reshape(2, 3), "float32")
    assert [row.tolist() for row in t] == [[0, 1, 2], [3, 4, 5]] and t[1, -1].item() == 5 and t[:, ::2].tolist() == [[0, 2], [3, 5]]
    for key in (2, (0, 3), (0, 0, 0)):
        with pytest.raises(IndexError, match=r"getitem: .*\n  x  \(2, 3\)"):
            t[key]
    with pytest.raises(TypeError, match="wanted are integers, slices"):
        t[1.5]


def test_backward_sums_what_comes_by_several_ways():
    x = tensor([2.0], requires_grad=True)
    y = x * x
    (y + y * x + x).backward()
    assert x.grad.tolist() == [2 * 2 + 3 * 4 + 1]


def test_backward_overwrites_and_does_not_add():
    x = tensor([2.0], requires_grad=True)
    for _ in range(2):
        (x * 3.0).backward()
        assert x.grad.tolist() == [3]


def test_one_tensor_as_both_operands():
    x = tensor([[1.0, 2], [3, 4]], requires_grad=True)
    for y, wanted in ((x + x, 2 * np.ones((2, 2))), (x * x, 2 * x.numpy()), (x - x, np.zeros((2, 2))), (x / x, np.zeros((2, 2)))):
        y.backward(np.ones((2, 2), "f"))
        np.testing.assert_allclose(x.grad, wanted, atol=1e-7)


def test_backward_twice_wants_the_graph_kept():
    x = tensor([2.0], requires_grad=True)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [4]
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()


def test_backward_says_what_it_lacks():
    x = tensor([2.0, 3], requires_grad=True)
    with pytest.raises(RuntimeError, match="not computed from anything that requires a gradient"):
        tensor([1.0]).backward()
    with pytest.raises(RuntimeError, match="one element"):
        (x * 2.0).backward()
    with pytest.raises(ValueError, match=r"gradient has shape \(3,\), the tensor \(2,\)"):
        (x * 2.0).backward(np.ones(3, "f"))


def test_no_grad():
    x = tensor([2.0], requires_grad=True)
    with no_grad():
        assert not (x * x).requires_grad
    assert not no_grad()(lambda: x * x)().requires_grad and (x * x).requires_grad


def test_the_graph_dies_with_its_result():
    x = tensor(np.ones(1 << 16, "f"), requires_grad=True)
    y = x
    for _ in range(3000):                    # deep, without recursion
        y = y * 1.0
    held = _core.pool().nbytes
    del y
    gc.collect()
    assert _core.pool().trim() > held / 2
    y = x
    for _ in range(3000):
        y = y * 1.0
    y.backward(np.ones(1 << 16, "f"))
    assert (x.grad == 1).all()


def test_parameters():
    p = fastdl.Parameter(np.zeros((2, 3), "f"), "kernel")
    p.assign(np.ones((2, 3)))
    assert p.trainable and p.requires_grad and p.numpy().sum() == 6 and "kernel" in repr(p) and isinstance(p, Tensor)
    p.trainable = False
    assert not p.requires_grad
    with pytest.raises(ValueError, match=r"kernel: cannot assign an array of shape \(3,\) to shape \(2, 3\)"):
        p.assign(np.ones(3))


PARTS = {
    "relu": lambda x: ops.relu(x), "exp": lambda x: ops.exp(x), "softmax": lambda x: ops.softmax(x), "columns": lambda x: ops.softmax(x, axis=0),
    "log_softmax": lambda x: ops.log_softmax(x), "layer": lambda x: ops.layer_normalization(x, np.linspace(1, 2, 37, dtype="f")),
    "sum": lambda x: ops.activated_sum(x, x * 2.0), "batch": lambda x: ops.BatchNormalization.apply(x, activation="relu"),
    "residual": lambda x: ops.BatchNormalization.apply(x, None, None, None, x * 2.0, activation="relu6"),
    "plain residual": lambda x: ops.BatchNormalization.apply(x, None, None, None, x * 2.0),
}


@pytest.mark.parametrize("name", PARTS)
def test_gradients_written_over_those_they_come_from(name, rng, monkeypatch):
    value, weights = rng.standard_normal((5, 37)).astype("f"), rng.standard_normal((5, 37)).astype("f")

    def gradients():
        x = tensor(value, requires_grad=True)
        inner = x * 1.5
        y = PARTS[name](inner)
        ops.sum((y + inner) * (y * weights)).backward()
        return x.grad
    found = gradients()
    for op in ops_by_name.values():
        monkeypatch.setattr(op, "overwrites", None)
    monkeypatch.setattr(ops.BatchNormalization, "overwrites", property(lambda self: None, lambda self, value: None))
    np.testing.assert_array_equal(found, gradients())


def test_dtypes_that_tensors_lack():
    for given, wanted in ("float16", "float32"), ("int8", "int32"), ("uint16", "int32"), (">f4", "float32"), (">i8", "int64"), ("longdouble", "float32"):
        a = np.array([1, 2, 3], given)
        assert fastdl.tensor(a).dtype == wanted and fastdl.tensor(a).tolist() == [1, 2, 3]
    double = fastdl.record(lambda x: x + x)
    for _ in range(4):
        assert double(np.array([1, 2], "float16")).tolist() == [2.0, 4.0] and double(np.array([1, 2], "int16")).tolist() == [2, 4]
    for value in "x", None, 1j, ["a"]:
        with pytest.raises(TypeError, match="tensor: the value is .* wanted are numbers"):
            fastdl.tensor(value)
    for dtype in "float16", "bfloat16", "complex64":
        with pytest.raises(TypeError, match="tensor: dtype is .*known are float32"):
            fastdl.tensor([1.0], dtype=dtype)
    assert fastdl.tensor([1], dtype=float).dtype == "float64" and fastdl.tensor([1], dtype=np.float32).dtype == "float32"
