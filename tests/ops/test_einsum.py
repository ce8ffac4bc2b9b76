"""einsum against NumPy's, for equations that are not one product of two tensors."""

import numpy as np
import pytest

import fastdl
from fastdl import Tensor, ops

EQUATIONS = [("ij,jk", (2, 3), (3, 4)), ("ba", (2, 3)), ("...ij,...jk->...ik", (2, 1, 2, 3), (5, 3, 4)), ("ij->", (2, 3)), ("abc->cb", (2, 3, 4)),
             ("ij,kl->lkij", (2, 3), (2, 2)), ("ij,jk,kl->il", (2, 3), (3, 4), (4, 2)), ("aij,bjk->ik", (2, 3, 4), (5, 4, 2)), ("...i->...", (2, 3, 4)),
             ("b...,b->...", (2, 3, 4), (2,)), ("i,j,k->kij", (2,), (3,), (4,)), ("ij , jk -> ik", (2, 3), (3, 4)), ("...,...", (2, 3), (3,)),
             ("i,i,i->i", (4,), (4,), (4,)), ("a...c,...cd->a...d", (2, 5, 3), (5, 3, 4)), ("bnth,bsnh->bnts", (2, 3, 4, 5), (2, 6, 3, 5))]


@pytest.mark.parametrize("equation, shapes", [(e, s) for e, *s in EQUATIONS])
def test_as_numpy(equation, shapes):
    arrays = [np.random.default_rng(i).integers(-3, 4, s).astype("float32") for i, s in enumerate(shapes)]
    np.testing.assert_array_equal(ops.einsum(equation, *arrays).numpy(), np.einsum(equation, *arrays))
    tensors = [Tensor(a, True) for a in arrays]
    out = ops.einsum(equation, *tensors)
    ops.sum(out * out).backward()
    for i, t in enumerate(tensors):              # the derivative along the array itself
        at = lambda by: float(np.square(np.einsum(equation, *[a * by if k == i else a for k, a in enumerate(arrays)], dtype="float64")).sum())
        np.testing.assert_allclose(float((t.grad * t.array).sum()), (at(1.001) - at(0.999)) / 0.002, rtol=1e-4, atol=1e-3)


def test_symbols():
    x = fastdl.Input((None, 4))
    assert ops.einsum("abc,cd->adb", x, Tensor(np.zeros((4, 5), "float32"))).shape == (None, 5, None)


@pytest.mark.parametrize("equation, what", [("ij,jk->ik", "names 2 tensors, 1 were given"), ("ii->i", "none twice in one tensor"),
                                            ("ijk->i", "another number of axes"), ("ij->k", "a letter that no tensor has")])
def test_messages(equation, what):
    with pytest.raises(fastdl.ShapeError, match=what):
        ops.einsum(equation, np.zeros((2, 2), "float32"))
