"""Attention: what each query sees of the values, weighted by how well its query fits their keys."""

import math

import numpy as np

from ..errors import shape_error
from ..op import Op, Symbol, case, integers, kernels, twin
from ..tensor import Tensor
from .elementwise import not_equal
from .layout import grouped, sum_over
from .random import key as draw_key, philox

__all__ = ["DotProductAttention", "dot_product_attention"]

QUERIES = 32                                   # as in csrc/kernels/attention.c
UNSEEN = float(np.float32(-0.7) * np.finfo("float32").max)
MOST_SIZE = 2048                               # of a head: two panels of queries fit the kernels' scratch


class _Heads:
    """What both twins compute of a call: views with heads before time, and the scores."""

    def __init__(self, query, key, value, mask, bias, draw, *, batch, query_time, key_time, heads, key_heads, size, value_size,
                 causal, threshold, scale, kept, **strides):
        self.group = heads // key_heads
        self.query = self.by_head(query, batch, query_time, heads, size)
        self.key, self.value = (self.by_head(x, batch, key_time, key_heads, n).repeat(self.group, axis=1) for x, n in ((key, size), (value, value_size)))
        full = batch, heads, query_time, key_time
        seen = lambda x, name: np.lib.stride_tricks.as_strided(
            x.reshape(-1), full, [strides[f"{name}_{axis}"] * x.itemsize for axis in ("batch", "head", "query", "key")])
        self.scores = (self.query * scale) @ self.key.swapaxes(2, 3)
        if bias is not None:
            self.scores = self.scores + seen(bias, "bias")
        self.seen = np.ones(full, bool) if mask is None else seen(mask, "mask") != 0
        if causal:
            self.seen = self.seen & np.tri(query_time, key_time, dtype=bool)
        self.scores = np.where(self.seen, self.scores, UNSEEN)
        self.kept = 1.0
        if draw is not None:
            blocks, pairs = -(-query_time // QUERIES), -(-key_time // 2)
            bits = philox(draw, batch * heads * blocks * pairs).reshape(batch, heads, blocks, 2 * pairs, QUERIES)
            bits = bits.swapaxes(3, 4).reshape(batch, heads, blocks * QUERIES, 2 * pairs)[:, :, :query_time, :key_time]
            self.kept = np.where(bits >= threshold, kept, 0)

    @staticmethod
    def by_head(x, batch, time, heads, size):
        return x.reshape(batch, time, heads, size).swapaxes(1, 2)

    def shared(self, d, like):
        """A gradient (batch, heads, key_time, size) summed over the heads that share a key, as the array wants it."""
        batch, heads, time, size = d.shape
        like[...] = d.reshape(batch, heads // self.group, self.group, time, size).sum(2).swapaxes(1, 2).reshape(like.shape)


def _flops(parts):
    return lambda *, batch, query_time, key_time, heads, size, value_size, causal, **_: (
        parts * batch * heads * query_time * key_time * (size + value_size) // (2 if causal else 1))


@twin(flops=_flops(2))
def attention(out, extent, *arrays, **sizes):
    h = _Heads(*arrays, **sizes)
    highest = h.scores.max(-1)
    p = np.exp(h.scores - highest[..., None])
    total = p.sum(-1)
    out[...] = (p / total[..., None] * h.kept @ h.value).swapaxes(1, 2).reshape(out.shape)
    if extent is not None:
        extent[...] = np.stack([highest, total]).reshape(extent.shape)


@twin(flops=_flops(5))
def attention_grad(d_query, d_key, d_value, d_scores, d_out, out, extent, *arrays, **sizes):
    h = _Heads(*arrays, **sizes)
    highest, total = extent.reshape(2, *h.scores.shape[:3], 1)
    d_out, out = (_Heads.by_head(x, sizes["batch"], sizes["query_time"], sizes["heads"], sizes["value_size"]) for x in (d_out, out))
    p = np.exp(h.scores - highest) / total
    d = np.where(h.seen, p * (h.kept * (d_out @ h.value.swapaxes(2, 3)) - (d_out * out).sum(-1, keepdims=True)), 0)
    if d_query is not None:
        d_query[...] = (d @ h.key * sizes["scale"]).swapaxes(1, 2).reshape(d_query.shape)
    if d_key is not None:
        h.shared(d.swapaxes(2, 3) @ h.query * sizes["scale"], d_key)
    if d_value is not None:
        h.shared((p * h.kept).swapaxes(2, 3) @ d_out, d_value)
    if d_scores is not None:
        d_scores[...] = d.reshape(d_scores.shape)


class DotProductAttention(Op):
    """softmax(scale query @ key^T + bias) @ value for each head. (Vaswani et al., 2017; by blocks: Dao et al., 2022.)

    query    (batch, query_time, heads, size)
    key      (batch, key_time, key_heads, size); key_heads divides heads, and neighbouring heads of query share one
    value    (batch, key_time, key_heads, value_size)
    mask     broadcasts to (batch, heads, query_time, key_time); bool, False where a query may not see a key; or None
    bias     broadcasts to the same; or None
    draw     (2) int64, a key of random numbers for dropout of the softmax by `rate`; or None
    returns  (batch, query_time, heads, value_size)

    is_causal: a query sees the keys up to its own place only. A query that sees no key gives the mean of all values, as in
    Keras, and no gradient to queries and keys. NaN in a score or value that a query sees makes its result NaN.
    """
    scale: float = None
    is_causal: bool = False
    rate: float = 0.0

    def shape(self, query, key, value, mask=None, bias=None, draw=None):
        arrays = {"query": (query.shape, "batch, query_time, heads, size"), "key": (key.shape, "batch, key_time, key_heads, size"),
                  "value": (value.shape, "batch, key_time, key_heads, value_size")}
        refuse = lambda what, **more: shape_error(self.name, what, **arrays, **more)
        if not query.ndim == key.ndim == value.ndim == 4:
            raise refuse("wants query, key and value with 4 axes")
        batch, query_time, heads, size = query.shape
        if key.shape[0] != batch or key.shape[:3] != value.shape[:3]:
            raise refuse("batch, key_time or key_heads differ")
        if key.shape[3] != size:
            raise refuse(f"query has size {size}, key has {key.shape[3]}")
        if not heads or not key.shape[2] or heads % key.shape[2]:
            raise refuse(f"{key.shape[2]} heads of key cannot be shared by {heads} heads of query")
        if not key.shape[1] or not size or not value.shape[3]:
            raise refuse("there is no key, or a size is 0")
        if max(size, value.shape[3]) > MOST_SIZE:
            raise refuse(f"the size of a head may be at most {MOST_SIZE}")
        if not 0 <= self.rate <= 1:
            raise refuse(f"the rate of dropout must lie between 0 and 1, not {self.rate}")
        full = batch, heads, query_time, key.shape[1]
        for name, x in ("mask", mask), ("bias", bias):
            if x is not None and (x.ndim > 4 or any(n not in (1, m) for n, m in zip(x.shape[::-1], full[::-1]))):
                raise refuse(f"{name} does not broadcast to (batch, heads, query_time, key_time), {full}", **{name: x.shape})
        return batch, query_time, heads, value.shape[3]

    def forward(self, out, query, key, value, mask=None, bias=None, draw=None):
        batch, query_time, heads, size = query.shape
        strides = {}
        for name, x in ("mask", mask), ("bias", bias):
            own = [0] * 4 if x is None else [0] * (4 - x.ndim) + [s // x.itemsize if n > 1 else 0 for n, s in zip(x.shape, x.strides)]
            strides.update({f"{name}_{axis}": s for axis, s in zip(("batch", "head", "query", "key"), own)})
        self.sizes = {
            "batch": batch, "query_time": query_time, "key_time": key.shape[1], "heads": heads, "key_heads": key.shape[2], "size": size,
            "value_size": value.shape[3], "causal": int(self.is_causal), **strides, "threshold": min(round(self.rate * 2**32), 2**32 - 1),
            "scale": 1 / math.sqrt(size) if self.scale is None else float(self.scale), "kept": 1 / (1 - self.rate) if self.rate < 1 else 0.0}
        self.arrays, self.out = (query, key, value, mask, bias, draw), out
        self.extent = self.empty((2, batch, heads, query_time)) if self.traced else None
        kernels.attention(out, self.extent, *self.arrays, **self.sizes)

    def backward(self, d_out, d_query, d_key, d_value, d_mask=None, d_bias=None, d_draw=None):
        query, key, _, _, bias, _ = self.arrays
        batch, query_time, heads, _ = query.shape
        full = batch, heads, query_time, key.shape[1]
        d_scores = None
        if d_bias is not None:
            axes = {i for i, n in enumerate((1,) * (4 - bias.ndim) + bias.shape) if n == 1}
            groups = grouped(full, axes)
            d_scores = self.empty(full) if any(summed for _, summed in groups) else d_bias
            kernels.fill(d_scores, size=d_scores.size, value=0.0)
        kernels.attention_grad(d_query, d_key, d_value, d_scores, d_out, self.out, self.extent, *self.arrays, **self.sizes)
        if d_scores is not d_bias:
            sum_over(self, d_bias, d_scores, groups)

    def definition(self, query, key, value, mask=None, bias=None, draw=None):
        group = query.shape[2] // key.shape[2]
        scores = np.einsum("btnh,bsnh->bnts", query, np.repeat(key, group, 2)) * (query.shape[3] ** -0.5 if self.scale is None else self.scale)
        scores = scores if bias is None else scores + bias
        seen = np.broadcast_to(True if mask is None else mask.astype(bool), scores.shape)
        seen = np.tril(seen) if self.is_causal else seen
        weights = np.exp(scores - np.where(seen, scores, -np.inf).max(-1, keepdims=True, initial=-1e30)) * seen
        weights = np.where(seen.any(-1, keepdims=True), weights, 1)
        weights = weights / weights.sum(-1, keepdims=True)
        if draw is not None:
            kept = np.empty(scores.shape)
            for b, n, t, s in np.ndindex(scores.shape):
                place = ((b * scores.shape[1] + n) * -(-scores.shape[2] // 32) + t // 32) * (scores.shape[3] + scores.shape[3] % 2) + s
                kept[b, n, t, s] = philox(draw, place // 2 + 1)[place * 32 + t % 32] >= self.rate * 2**32
            weights = weights * kept / (1 - self.rate)
        return np.einsum("bnts,bsnh->btnh", weights, np.repeat(value, group, 2))

    cases = [case(query=(1, 1, 1, 1), key=(1, 1, 1, 1), value=(1, 1, 1, 1)), case(query=(2, 5, 3, 4), key=(2, 7, 3, 4), value=(2, 7, 3, 5)),
             case(query=(1, 33, 2, 17), key=(1, 131, 2, 17), value=(1, 131, 2, 33), is_causal=True),
             case(query=(1, 140, 1, 3), key=(1, 140, 1, 3), value=(1, 140, 1, 2), is_causal=True, scale=0.7),
             case(query=(2, 3, 4, 5), key=(2, 6, 2, 5), value=(2, 6, 2, 5), mask=integers((2, 1, 1, 6), 2, "bool")),
             case(query=(2, 5, 2, 3), key=(2, 4, 1, 3), value=(2, 4, 1, 3), mask=integers((5, 4), 2, "bool"), is_causal=True),
             case(query=(1, 3, 2, 4), key=(1, 5, 2, 4), value=(1, 5, 2, 4), mask=integers((1, 2, 3, 5), 3, "uint8"), bias=(3, 5)),
             case(query=(2, 3, 2, 4), key=(2, 5, 2, 4), value=(2, 5, 2, 4), bias=(2, 2, 3, 5), is_causal=True),
             case(query=(2, 34, 1, 4), key=(2, 5, 1, 4), value=(2, 5, 1, 4), draw=draw_key(3, 4), rate=0.4),
             case(query=(2, 0, 2, 4), key=(2, 5, 2, 4), value=(2, 5, 2, 4)), case(query=(0, 3, 2, 4), key=(0, 5, 2, 4), value=(0, 5, 2, 4))]
    bench = [case(query=(16, 128, 4, 64), key=(16, 128, 4, 64), value=(16, 128, 4, 64), is_causal=True),
             case(query=(2, 1024, 8, 64), key=(2, 1024, 8, 64), value=(2, 1024, 8, 64))]
    wrong = [case(query=(2, 5, 3, 4), key=(2, 7, 3, 5), value=(2, 7, 3, 5)), case(query=(2, 5, 3, 4), key=(2, 7, 2, 4), value=(2, 7, 2, 4)),
             case(query=(2, 5, 3, 4), key=(2, 7, 3, 4), value=(2, 6, 3, 4)), case(query=(2, 5, 3, 4), key=(2, 0, 3, 4), value=(2, 0, 3, 4)),
             case(query=(2, 5, 12), key=(2, 7, 12), value=(2, 7, 12)),
             case(query=(2, 5, 3, 4), key=(2, 7, 3, 4), value=(2, 7, 3, 4), mask=integers((7, 5), 2, "bool")),
             case(query=(1, 5, 1, 4096), key=(1, 7, 1, 4096), value=(1, 7, 1, 4))]


def dot_product_attention(query, key, value, bias=None, mask=None, scale=None, is_causal=False, flash_attention=None, attn_logits_soft_cap=None,
                          *, dropout=0.0, draw=None):
    """softmax(scale query @ key^T + bias) @ value for each head.

    query    (batch, query_time, heads, size)
    key      (batch, key_time, key_heads, size); key_heads divides heads: neighbouring heads of query share one of key
    value    (batch, key_time, key_heads, value_size)
    bias     broadcasts to (batch, heads, query_time, key_time), or None
    mask     the same, bool: False where a query may not see a key; or None
    scale    None: 1 / sqrt(size)
    draw     (2) int64, a key of random numbers: the softmax is dropped out by `dropout` (fastdl's own)
    returns  (batch, query_time, heads, value_size)

    is_causal: a query sees the keys up to its own place. A query that sees none gives the mean of all values. The scores are
    never in memory as a whole, whatever flash_attention says.
    """
    if attn_logits_soft_cap is not None:
        raise ValueError(f"dot_product_attention: attn_logits_soft_cap is {attn_logits_soft_cap}\n  logits are not capped here; leave it None")
    if mask is not None:
        if not isinstance(mask, (Tensor, Symbol)):
            mask = np.asarray(mask)
        if str(mask.dtype) not in ("bool", "uint8"):
            mask = not_equal(mask, 0)
    return DotProductAttention.apply(query, key, value, mask, bias, draw, scale=scale, is_causal=bool(is_causal), rate=float(dropout))
