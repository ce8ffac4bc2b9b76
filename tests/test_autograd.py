"""GradientTape, custom_gradient, gradcheck."""

import numpy as np
import pytest

import fastdl
from fastdl import GradientTape, custom_gradient, gradcheck, ops
from fastdl.autograd import GradientError
from fastdl.op import Op


def test_tape():
    kernel, x = fastdl.Parameter(np.float32([[1, 2], [3, 4]]), "kernel"), np.float32([[1, -1]])
    with GradientTape() as tape:
        loss = ops.sum(ops.square(ops.matmul(x, kernel)))
    gradient = tape.gradient(loss, kernel)
    np.testing.assert_array_equal(gradient, x.T @ (2 * x @ kernel.array))
    assert kernel.grad is None
    with pytest.raises(RuntimeError, match="persistent=True"):
        tape.gradient(loss, kernel)


def test_structures_and_what_is_not_connected():
    a, b, c = (fastdl.tensor([float(k)], requires_grad=True) for k in (2, 3, 4))
    with GradientTape(persistent=True) as tape:
        y, z = a * b, a + b
    assert [g.item() for g in tape.gradient(y, (a, b))] == [3, 2] and type(tape.gradient(y, (a, b))) is tuple
    assert {k: g.item() for k, g in tape.gradient([y, z], {"a": a, "b": b}).items()} == {"a": 4, "b": 3}
    assert tape.gradient(y, [a, a])[1].item() == 3 and tape.gradient(y, y).item() == 1
    assert tape.gradient(y, c) is None and tape.gradient(y, [c], unconnected_gradients="zero")[0].tolist() == [0]
    assert tape.gradient(y, a, output_gradients=np.float32([10])).item() == 30
    assert tape.gradient(fastdl.tensor([1.0]), [a]) == [None]
    with pytest.raises(ValueError, match="'none' or 'zero'"):
        tape.gradient(y, a, unconnected_gradients="one")


def test_watch():
    x, n = fastdl.tensor([3.0]), fastdl.tensor([1, 2], "int32")
    with fastdl.no_grad(), GradientTape() as tape:
        tape.watch([x])
        y = x * x
    assert tape.gradient(y, x).item() == 6 and not x.requires_grad and not (x * x).requires_grad
    with pytest.raises(TypeError, match="int32"), GradientTape() as tape:
        tape.watch(n)


def test_intermediate_results_as_sources():
    x = fastdl.tensor([3.0], requires_grad=True)
    with GradientTape() as tape:
        y = x * x
        z = y * y
    assert [g.item() for g in tape.gradient(z, [y, x])] == [18, 108]


def test_jacobian():
    x = fastdl.tensor([1.0, 2, 3], requires_grad=True)
    with GradientTape() as tape:
        y = ops.square(x[:2])
    np.testing.assert_array_equal(tape.jacobian(y, x), [[2, 0, 0], [0, 4, 0]])


@custom_gradient
def twice(x, scale=1.0):
    return x * scale, lambda d_y: d_y * 2.0


@custom_gradient
def both(a, b):
    return [a + b, a * b], lambda d_sum, d_product: [d_sum, d_product]


def test_custom_gradient():
    x = fastdl.tensor([1.0, 2], requires_grad=True)
    y = twice(x, scale=5.0)
    assert y.tolist() == [5, 10]
    y.backward(np.float32([1, 3]))
    assert x.grad.tolist() == [2, 6]
    a, b = fastdl.tensor([2.0], requires_grad=True), fastdl.tensor([3.0], requires_grad=True)
    total, product = both(a, b)
    (total + product * 10.0).backward()
    assert (total.item(), product.item(), a.grad.item(), b.grad.item()) == (5, 6, 1, 10)
    assert twice(fastdl.op.Symbol((None, 3))).shape == (None, 3)


def test_custom_gradient_is_recorded():
    @fastdl.record
    def step(x, weight):
        y = ops.sum(twice(x * weight))
        with GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = ops.sum(twice(x * weight))
        return y, tape.gradient(y, x)

    for k in range(4):
        y, d_x = step(np.float32([k, 1]) * fastdl.tensor([1.0, 1]), fastdl.tensor([float(k), 2]))
        assert y.item() == k * k + 2 and d_x.tolist() == [2 * k, 4]


def test_mistakes_in_custom_gradient():
    x = fastdl.tensor([1.0, 2], requires_grad=True)
    for gradient, message in ((lambda d: [d, d], "gave 2 gradients"), (lambda d: ops.sum(d), r"has shape \(\); wanted is \(2,\)")):
        with pytest.raises(ValueError, match=message):
            custom_gradient(lambda x: (x + 1.0, gradient))(x).backward(np.ones(2, "f"))


def test_gradcheck_agrees():
    rng, before = np.random.default_rng(0), str(fastdl.isa())
    x, w, b = rng.standard_normal((3, 4)).astype("f"), rng.standard_normal((4, 2)), fastdl.tensor(rng.standard_normal(2))
    assert gradcheck(lambda x, w, b: ops.tanh(ops.matmul(x, w) + b), [x, w, b])
    assert gradcheck(lambda x: [ops.square(x), ops.sum(x, 0), ops.argmax(x, 0)], x)
    assert gradcheck(lambda x, indices: ops.take(x, indices, axis=0), [x, np.int32([2, 0])])
    assert str(fastdl.isa()) == before


class Wrong(Op):
    """An op with a wrong gradient."""

    def shape(self, x, factor):
        return x.shape

    def forward(self, y, x, factor):
        y[...] = x * factor

    def backward(self, d_y, d_x, d_factor):
        d_x[...] = d_y
        d_x[0, 1] += 0.5
        d_factor[...] = (d_y * 1.0).sum()


def test_gradcheck_names_input_and_place():
    with pytest.raises(GradientError, match=r"the gradient of images at \(0, 1\) is wrong\n  gradient +\S+\n  finite differences +\S+"):
        gradcheck(lambda images, factor: Wrong.apply(images, factor), [np.ones((2, 3)), np.float32(1)])


def test_gradcheck_finds_chance():
    rng = np.random.default_rng(0)
    with pytest.raises(GradientError, match="differs when it is computed again"):
        gradcheck(lambda x: x * float(rng.random()), np.ones(2))
