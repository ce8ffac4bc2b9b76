"""What test_every_op cannot see of attention: NaN, queries that see nothing, equal bits of instruction sets, long sequences, messages."""

import numpy as np
import pytest

import fastdl
from fastdl import Tensor, ops
from fastdl.ops.attention import DotProductAttention


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def softmax(s):
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("causal", [False, True])
def test_long_sequences(c_isa, causal):
    q, k, v = draw(1, 300, 2, 24), draw(1, 700, 2, 24, seed=1), draw(1, 700, 2, 40, seed=2)
    scores = np.einsum("btnh,bsnh->bnts", q.astype("float64"), k) / np.sqrt(24)
    scores = np.where(np.tri(300, 700, dtype=bool), scores, -np.inf) if causal else scores
    wanted = np.einsum("bnts,bsnh->btnh", softmax(scores), v)
    np.testing.assert_allclose(ops.dot_product_attention(q, k, v, is_causal=causal).numpy(), wanted, atol=2e-6)


def test_scores_of_any_size(c_isa):
    """The highest score is taken off before exp, in whatever block of keys it comes."""
    q, k, v = draw(1, 33, 1, 4), draw(1, 400, 1, 4, seed=1), draw(1, 400, 1, 3, seed=2)
    for scale in 1e4, -1e4, 1e20:
        scores = np.einsum("btnh,bsnh->bnts", (q * np.float32(scale)).astype("float64"), k)
        np.testing.assert_allclose(ops.dot_product_attention(q, k, v, scale=scale).numpy(), np.einsum("bnts,bsnh->btnh", softmax(scores), v), rtol=1e-3, atol=1e-3)


def test_a_query_that_sees_nothing_gets_the_mean_of_all_values(c_isa):
    """Also of the keys beyond its own place; and its gradient goes to the values alone. (Keras does the same.)"""
    q, k, v = (Tensor(draw(1, 70, 1, 4, seed=i), True) for i in range(3))
    mask = np.ones((1, 1, 1, 70), bool)
    mask[..., :3] = False                     # queries 0 to 2 may look at keys 0 to 2 only, which are padding
    out = ops.dot_product_attention(q, k, v, mask=mask, is_causal=True)
    np.testing.assert_allclose(out.numpy()[0, :3], np.broadcast_to(v.numpy().mean(1), (3, 1, 4)), atol=1e-6)
    ops.sum(out[:, :3]).backward()
    assert not q.grad.any() and not k.grad.any()
    np.testing.assert_allclose(v.grad, 3 / 70, rtol=1e-5)


def test_nan_stays_with_the_queries_that_see_it(c_isa):
    q, k, v = draw(1, 40, 1, 4), draw(1, 40, 1, 4, seed=1), draw(1, 40, 1, 4, seed=2)
    q[0, 5] = np.nan
    out = ops.dot_product_attention(q, k, v).numpy()
    assert np.isnan(out[0, 5]).all() and not np.isnan(np.delete(out, 5, 1)).any()
    k[0, 7] = np.nan
    out = ops.dot_product_attention(np.nan_to_num(q), k, v, is_causal=True).numpy()
    assert np.isnan(out[0, 7:]).all() and not np.isnan(out[0, :7]).any()
    out = ops.dot_product_attention(np.nan_to_num(q), k, v, mask=np.arange(40) != 7).numpy()
    assert not np.isnan(out).any()


def test_equal_bits_on_instruction_sets_with_fma():
    wide = [i for i in ("avx2", "avx512") if i in fastdl.config.available_isas()]
    q, k, v = draw(2, 45, 2, 19), draw(2, 150, 2, 19, seed=1), draw(2, 150, 2, 35, seed=2)
    found = []
    for isa in wide:
        with fastdl.isa(isa):
            tensors = [Tensor(x.copy(), True) for x in (q, k, v)]
            out = DotProductAttention.apply(*tensors, np.arange(150) % 3 > 0, None, np.array([1, 2]), is_causal=True, rate=0.2)
            ops.sum(out * draw(*out.shape)).backward()
            found.append([out.array.tobytes()] + [t.grad.tobytes() for t in tensors])
    assert all(f == found[0] for f in found)


def test_arguments_of_keras():
    q, k, v = draw(2, 5, 2, 4), draw(2, 7, 2, 4), draw(2, 7, 2, 4)
    plain = ops.dot_product_attention(q, k, v).numpy()
    for same in {"flash_attention": True}, {"mask": np.ones((2, 1, 5, 7), "int64")}, {"mask": np.ones(7, "float32")}, {"bias": np.zeros(7, "float32")}:
        np.testing.assert_array_equal(ops.dot_product_attention(q, k, v, **same).numpy(), plain)
    with pytest.raises(ValueError, match="attn_logits_soft_cap is 3.0"):
        ops.dot_product_attention(q, k, v, attn_logits_soft_cap=3.0)
    with pytest.raises(fastdl.ShapeError, match=r"mask does not broadcast to \(batch, heads, query_time, key_time\), \(2, 2, 5, 7\)"):
        ops.dot_product_attention(q, k, v, mask=np.ones((5, 6), bool))
    with pytest.raises(fastdl.ShapeError, match="2 heads of key cannot be shared by 3 heads of query"):
        ops.dot_product_attention(draw(2, 5, 3, 4), k, v)
