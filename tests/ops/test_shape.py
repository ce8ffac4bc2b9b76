"""Moving numbers: against NumPy, for what the shared checks cannot see."""

import numpy as np
import pytest

import fastdl
from fastdl import ops
from fastdl.op import Symbol

x = np.random.default_rng(0).standard_normal((3, 4, 5)).astype("f")


@pytest.mark.parametrize("got, wanted", [
    (lambda: ops.expand_dims(x, -1), x[..., None]),
    (lambda: ops.expand_dims(x, (0, 2)), x[None, :, None]),
    (lambda: ops.squeeze(x[:1]), x[0]),
    (lambda: ops.squeeze(x[:, :1], 1), x[:, 0]),
    (lambda: ops.swapaxes(x, 0, -1), x.swapaxes(0, -1)),
    (lambda: ops.moveaxis(x, 0, -1), np.moveaxis(x, 0, -1)),
    (lambda: ops.moveaxis(x, (0, 1), (2, 0)), np.moveaxis(x, (0, 1), (2, 0))),
    (lambda: ops.stack([x, x + 1], 1), np.stack([x, x + 1], 1)),
    (lambda: ops.flip(x), np.flip(x)),
    (lambda: ops.flip(x, (1, 2)), np.flip(x, (1, 2))),
    (lambda: ops.pad(x, 2), np.pad(x, 2)),
    (lambda: ops.pad(x, ((0, 0), (2, 1), (3, 0)), "reflect"), np.pad(x, ((0, 0), (2, 1), (3, 0)), "reflect")),
    (lambda: ops.pad(x, ((0, 3), (2, 1), (3, 0)), "symmetric"), np.pad(x, ((0, 3), (2, 1), (3, 0)), "symmetric")),
    (lambda: ops.tile(x, (2, 1, 1, 3)), np.tile(x, (2, 1, 1, 3))),
    (lambda: ops.tile(x, 2), np.tile(x, 2)),
    (lambda: ops.repeat(x, 2, 1), np.repeat(x, 2, 1)),
    (lambda: ops.repeat(x, [1, 0, 2], 0), np.repeat(x, [1, 0, 2], 0)),
    (lambda: ops.repeat(x, 3), np.repeat(x, 3)),
    (lambda: ops.broadcast_to(x[0], (2, 4, 5)), np.broadcast_to(x[0], (2, 4, 5))),
    (lambda: ops.slice(x, (1, 0, 2), (2, 3, 1)), x[1:3, 0:3, 2:3]),
    (lambda: ops.unstack(x, axis=1)[2], x[:, 2]),
    (lambda: fastdl.tensor(x)[1, ..., ::2], x[1, ..., ::2]),
    (lambda: fastdl.tensor(x)[np.array([2, 0])], x[[2, 0]]),
    (lambda: ops.transpose(np.arange(6).reshape(2, 3)), np.arange(6).reshape(2, 3).T),
    (lambda: ops.concatenate([x > 0, x > 1], 0), np.concatenate([x > 0, x > 1], 0)),
])
def test_as_numpy(got, wanted):
    y = got().numpy()
    assert y.dtype == wanted.dtype
    np.testing.assert_array_equal(y, wanted)


def test_split_as_numpy():
    for cut in (2, [1, 3]):
        for a, b in zip(ops.split(x, cut, 1), np.split(x, cut, 1)):
            np.testing.assert_array_equal(a.numpy(), b)


def test_a_reshape_is_a_view_and_its_gradient_goes_through():
    t = fastdl.tensor(x, requires_grad=True)
    y = ops.reshape(t, (12, -1))
    assert np.shares_memory(y.numpy(), t.numpy())
    (y * 2.0).backward(np.ones((12, 5), "f"))
    np.testing.assert_array_equal(t.grad, np.full(x.shape, 2, "f"))


def test_symbols_keep_what_is_unknown():
    s = Symbol((None, 4, 6))
    assert ops.reshape(s, (-1, 24)).shape == (None, 24)
    assert ops.transpose(s).shape == (6, 4, None)
    assert ops.expand_dims(s, 1).shape == (None, 1, 4, 6)
    assert ops.concatenate([s, s], 1).shape == (None, 8, 6)
    assert s[:, 0].shape == (None, 6)


@pytest.mark.parametrize("call, message", [
    (lambda: ops.reshape(x, (7, -1)), r"reshape: 60 numbers do not fill newshape \(7, -1\)"),
    (lambda: ops.concatenate([]), "concatenate: there are no inputs"),
    (lambda: ops.squeeze(x, 0), "do not all have size 1"),
    (lambda: ops.split(x, 3, 1), "cannot be cut into 3 equal parts"),
    (lambda: ops.pad(x, 1, "wrap"), "mode 'wrap'"),
    (lambda: ops.expand_dims(x, 7), "axis 7 does not exist"),
])
def test_errors_name_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
