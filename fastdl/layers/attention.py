"""Attention: layers in which each step of a sequence looks at the steps of another, or of its own."""

import math

import numpy as np

from .. import constraints, initializers, ops, random, regularizers
from ..op import Symbol
from ..ops.attention import MOST_SIZE, UNSEEN
from ..tensor import Tensor
from .context import context
from .core import positive_integer
from .einsum import EinsumDense
from .layer import Layer

__all__ = ["AdditiveAttention", "Attention", "GroupQueryAttention", "GroupedQueryAttention", "MultiHeadAttention"]


class _ProjectedAttention(Layer):
    """What MultiHeadAttention and GroupedQueryAttention share: projections, masks, and attention of heads."""

    supports_masking = True
    input_dtype = "float32"

    def __init__(self, dropout, use_bias, sliding_window, flash_attention, kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer,
                 activity_regularizer, kernel_constraint, bias_constraint, use_gate, seed, **kwargs):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        name = type(self).__name__
        if not 0 <= dropout <= 1:
            raise ValueError(f"{name}: dropout is {dropout}; it must lie between 0 and 1")
        if flash_attention and dropout:
            raise ValueError(f"{name}: dropout is {dropout} with flash_attention=True\n  Keras allows only one of them; leave flash_attention out: "
                             "attention is computed by blocks anyhow")
        self.sliding_window = None if sliding_window is None else positive_integer(name, "sliding_window", sliding_window)
        self.dropout, self.use_bias, self.use_gate, self.seed, self._flash_attention = dropout, use_bias, use_gate, seed, bool(flash_attention)
        self.kernel_initializer, self.bias_initializer = initializers.get(kernel_initializer), initializers.get(bias_initializer)
        self.kernel_regularizer, self.bias_regularizer = regularizers.get(kernel_regularizer), regularizers.get(bias_regularizer)
        self.kernel_constraint, self.bias_constraint = constraints.get(kernel_constraint), constraints.get(bias_constraint)
        self.seed_generator = random.SeedGenerator(seed) if dropout else None

    def _project(self, name, shape, sizes, summed=1, activation=None):
        """A built EinsumDense: the last `summed` axes of inputs of a shape become `sizes`."""
        letters = "abcdefghijklmnopqrstuvwxyz"
        free, n = len(shape) - summed, len(shape)
        before, inner, outer = letters[:free], letters[free:n], letters[n:n + len(sizes)]
        own = lambda initializer: type(initializer).from_config(initializer.get_config())       # draws numbers of its own
        dense = EinsumDense(
            f"{before}{inner},{inner}{outer}->{before}{outer}", output_shape=(*(None,) * (free - 1), *sizes), activation=activation,
            bias_axes=outer if self.use_bias else None, name=name, dtype=self.dtype_policy, kernel_initializer=own(self.kernel_initializer),
            bias_initializer=own(self.bias_initializer), kernel_regularizer=self.kernel_regularizer, bias_regularizer=self.bias_regularizer,
            activity_regularizer=self.activity_regularizer, kernel_constraint=self.kernel_constraint, bias_constraint=self.bias_constraint)
        dense.supports_masking = True            # masks are dealt with here
        dense.build(shape)
        return dense

    def call(self, query, value, key=None, query_mask=None, value_mask=None, key_mask=None, attention_mask=None, return_attention_scores=False,
             training=None, use_causal_mask=False, residual=None):
        """The values that each query sees, weighted; with return_attention_scores also the weights (batch, heads, query_time, key_time).

        residual, of the result's shape, is added to it.
        """
        if self._flash_attention and return_attention_scores:
            raise ValueError(f"{self.name}: return_attention_scores=True with flash_attention=True; only one of them is possible")
        known = lambda x, mask: mask if mask is not None else None if x is None else x.mask
        query_mask, value_mask, key_mask = known(query, query_mask), known(value, value_mask), known(key, key_mask)
        key = value if key is None else key
        axes = self._axes(query.ndim)
        mask = self._mask(query, value, query_mask, value_mask, key_mask, attention_mask, axes)
        gate = self.gate_dense(query) if self.use_gate else None
        query, key, value = self.query_dense(query), self.key_dense(key), self.value_dense(value)
        training = context.training if training is None else training
        found, scores = self._attend(query, key, value, mask, axes, training, return_attention_scores, use_causal_mask)
        out = self.output_dense(found if gate is None else found * gate, residual=residual)
        return (out, scores) if return_attention_scores else out

    def _axes(self, rank):
        return (1,)

    def _mask(self, query, value, query_mask, value_mask, key_mask, attention_mask, axes):
        """All masks as one that broadcasts to (batch axes, query_time, key_time), or None; the causal one is left to the op."""
        masks = [] if attention_mask is None else [_boolean(attention_mask)]
        masks += [] if query_mask is None else [ops.expand_dims(_boolean(query_mask), -1)]
        masks += [ops.expand_dims(_boolean(m), -2) for m in (value_mask, key_mask) if m is not None]
        if self.sliding_window is not None:
            apart = np.abs(np.arange(query.shape[1])[:, None] - np.arange(value.shape[1]))
            masks.append(Tensor((apart < self.sliding_window)[None]))
        return _all(masks)

    def _attend(self, query, key, value, mask, axes, training, return_scores, causal):
        """Attention of heads, over axes of their tensors (batch, …, heads, size): the result, and the scores if they are wanted."""
        if causal and len(axes) > 1:
            raise ValueError(f"{self.name}: use_causal_mask wants attention over one axis, not over {axes}")
        heads, free = query.shape[-2], [i for i in range(query.ndim - 2) if i not in axes]
        order = (*free, *axes, query.ndim - 2, query.ndim - 1)
        shape = tuple(query.shape[i] for i in order)
        batch = shape[:len(free)]
        if mask is not None:
            mask = self._by_head(mask, batch, tuple(query.shape[i] for i in axes), tuple(key.shape[i] for i in axes))
        flat = lambda x: ops.reshape(x if order == tuple(range(x.ndim)) else ops.transpose(x, order),
                                     (math.prod(batch), math.prod(x.shape[i] for i in axes), *x.shape[-2:]))
        keys = tuple(key.shape[i] for i in axes)
        q, k, v = flat(query), flat(key), flat(value)
        if return_scores:
            out, scores = self._weigh(q, k, v, mask, causal, training)
            scores = ops.reshape(scores, (*batch, heads, *shape[len(free):-2], *keys))
        else:
            scores, draw = None, self.seed_generator.next() if training and self.dropout else None
            out = ops.dot_product_attention(q, k, v, mask=mask, is_causal=causal, dropout=self.dropout if draw is not None else 0.0, draw=draw)
        out = ops.reshape(out, (*shape[:-1], out.shape[-1]))
        return (out if order == tuple(range(query.ndim)) else ops.transpose(out, np.argsort(order).tolist())), scores

    def _by_head(self, mask, batch, query, key):
        """A mask as it broadcasts to (batch, heads, query_time, key_time)."""
        rank = len(batch) + 1 + len(query) + len(key)
        while mask.ndim < rank:
            mask = ops.expand_dims(mask, -len(query) - len(key) - 1)
        if len(batch) > 1 or len(query) > 1:
            full = (*batch, mask.shape[len(batch)], *query, *key)
            mask = ops.reshape(ops.broadcast_to(mask, full), (math.prod(batch), full[len(batch)], math.prod(query), math.prod(key)))
        return mask

    def _weigh(self, query, key, value, mask, causal, training):
        """The same as ops.dot_product_attention, by way of the scores; a query that sees nothing gets 0."""
        group = query.shape[2] // key.shape[2]
        if group > 1:
            key, value = ops.repeat(key, group, axis=2), ops.repeat(value, group, axis=2)
        query, key, value = (ops.transpose(x, (0, 2, 1, 3)) for x in (query * (1 / math.sqrt(query.shape[-1])), key, value))
        scores = ops.matmul(query, key, transpose_b=True)
        if causal:
            mask = _all([_causal(*scores.shape[2:]), *([] if mask is None else [mask])])
        scores = ops.softmax(scores if mask is None else ops.where(mask, scores, UNSEEN), axis=-1)
        scores = scores if mask is None else ops.where(mask, scores, 0.0)
        weights = random.dropout(scores, self.dropout, seed=self.seed_generator) if training and self.dropout else scores
        return ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3)), scores

    def compute_output_shape(self, query_shape, value_shape, key_shape=None):
        """The shape of the result."""
        key_shape = value_shape if key_shape is None else key_shape
        if tuple(value_shape[1:-1]) != tuple(key_shape[1:-1]):
            raise ValueError(f"{self.name}: value and key must have equal sizes but for the last; they are {tuple(value_shape)} and {tuple(key_shape)}")
        return tuple(query_shape)

    def compute_output_spec(self, query, value, key=None, query_mask=None, value_mask=None, key_mask=None, attention_mask=None,
                            return_attention_scores=False, training=None, use_causal_mask=False):
        """The Symbols that a call on Symbols gives."""
        out = Symbol(self.compute_output_shape(query.shape, value.shape, None if key is None else key.shape), self.dtype)
        if not return_attention_scores:
            return out
        heads, axes = self.query_dense.kernel.shape[-2], self._axes(query.ndim)
        batch = [n for i, n in enumerate(query.shape[:-1]) if i not in axes]
        return out, Symbol((*batch, heads, *(query.shape[i] for i in axes), *(value.shape[i] for i in axes)), self.dtype)

    def compute_mask(self, query, previous_mask):
        """The mask of query."""
        return previous_mask

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "dropout": self.dropout, "use_bias": self.use_bias, "use_gate": self.use_gate,
                "sliding_window": self.sliding_window, "kernel_initializer": initializers.serialize(self.kernel_initializer),
                "bias_initializer": initializers.serialize(self.bias_initializer),
                "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
                "bias_regularizer": regularizers.serialize(self.bias_regularizer),
                "activity_regularizer": regularizers.serialize(self.activity_regularizer),
                "kernel_constraint": constraints.serialize(self.kernel_constraint),
                "bias_constraint": constraints.serialize(self.bias_constraint), "seed": self.seed}


def _boolean(mask):
    return mask if mask.dtype == "bool" else ops.not_equal(mask, 0)


def _all(masks):
    found = None
    for mask in masks:
        found = mask if found is None else ops.logical_and(found, mask)
    return found


def _causal(query_time, key_time):
    return Tensor(np.tri(query_time, key_time, dtype=bool))


class MultiHeadAttention(_ProjectedAttention):
    """Attention of several heads, each with projections of its own. (Vaswani et al., 2017.)

    query    (batch, …, query_dim); the axes between are those of time and others
    value    (batch, …, value_dim)
    key      (batch, …, key_dim), or None: value
    weights  query, key and value: kernel (dim, num_heads, key_dim or value_dim), bias (num_heads, key_dim or value_dim);
             attention_output: kernel (num_heads, value_dim, *output_shape), bias (*output_shape)
    returns  (batch, …, *output_shape), by default as query

    attention_mask broadcasts to (batch, query_time, key_time), or has heads before these two; False where a query may not see a
    key. The masks of query, value and key (batch, time) join it. A query that sees nothing gets the mean of all values; with
    return_attention_scores its weights are 0. (Keras does the same.)
    attention_axes: the axes over which attention goes; by default all between batch and features. sliding_window: a query
    sees keys less than so many steps away. use_gate: the result is gated by a sigmoid of the query. Without
    return_attention_scores the scores are never in memory as a whole, with flash_attention or not.
    """

    def __init__(self, num_heads, key_dim, value_dim=None, dropout=0.0, use_bias=True, output_shape=None, attention_axes=None, sliding_window=None,
                 flash_attention=None, kernel_initializer="glorot_uniform", bias_initializer="zeros", kernel_regularizer=None, bias_regularizer=None,
                 activity_regularizer=None, kernel_constraint=None, bias_constraint=None, use_gate=False, seed=None, **kwargs):
        super().__init__(dropout, use_bias, sliding_window, flash_attention, kernel_initializer, bias_initializer, kernel_regularizer,
                         bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint, use_gate, seed, **kwargs)
        self.num_heads = positive_integer("MultiHeadAttention", "num_heads", num_heads)
        self.key_dim = positive_integer("MultiHeadAttention", "key_dim", key_dim)
        self.value_dim = self.key_dim if value_dim is None else positive_integer("MultiHeadAttention", "value_dim", value_dim)
        self._output_shape = (output_shape,) if isinstance(output_shape, int) else tuple(output_shape) if output_shape else None
        self.attention_axes = (attention_axes,) if isinstance(attention_axes, int) else None if attention_axes is None else tuple(attention_axes)

    def build(self, query_shape, value_shape, key_shape=None):
        """Make the projections."""
        self.compute_output_shape(query_shape, value_shape, key_shape)
        key_shape = value_shape if key_shape is None else key_shape
        self.query_dense = self._project("query", query_shape, (self.num_heads, self.key_dim))
        self.key_dense = self._project("key", key_shape, (self.num_heads, self.key_dim))
        if self.use_gate:
            self.gate_dense = self._project("gate", query_shape, (self.num_heads, self.value_dim), activation="sigmoid")
        self.value_dense = self._project("value", value_shape, (self.num_heads, self.value_dim))
        self.output_dense = self._project("attention_output", (*query_shape[:-1], self.num_heads, self.value_dim),
                                          self._output_shape or query_shape[-1:], summed=2)

    def _axes(self, rank):
        return tuple(range(1, rank - 1)) if self.attention_axes is None else tuple(a % rank for a in self.attention_axes)

    def compute_output_shape(self, query_shape, value_shape, key_shape=None):
        """The shape of the result."""
        shape = super().compute_output_shape(query_shape, value_shape, key_shape)
        return shape if self._output_shape is None else (*shape[:-1], *self._output_shape)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "num_heads": self.num_heads, "key_dim": self.key_dim, "value_dim": self.value_dim,
                "output_shape": None if self._output_shape is None else list(self._output_shape),
                "attention_axes": None if self.attention_axes is None else list(self.attention_axes)}


class GroupedQueryAttention(_ProjectedAttention):
    """Attention in which several heads of query share one of key and value. (Ainslie et al., 2023.)

    query    (batch, query_time, query_dim)
    value    (batch, key_time, value_dim)
    key      (batch, key_time, key_dim), or None: value
    weights  query: kernel (query_dim, num_query_heads, head_dim), bias (num_query_heads, head_dim); key and value the same with
             num_key_value_heads; attention_output: kernel (num_query_heads, head_dim, query_dim), bias (query_dim)
    returns  (batch, query_time, query_dim)

    Masks and the other arguments are those of MultiHeadAttention.
    """

    def __init__(self, head_dim, num_query_heads, num_key_value_heads, dropout=0.0, use_bias=True, sliding_window=None, flash_attention=None,
                 kernel_initializer="glorot_uniform", bias_initializer="zeros", kernel_regularizer=None, bias_regularizer=None,
                 activity_regularizer=None, kernel_constraint=None, bias_constraint=None, use_gate=False, seed=None, **kwargs):
        super().__init__(dropout, use_bias, sliding_window, flash_attention, kernel_initializer, bias_initializer, kernel_regularizer,
                         bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint, use_gate, seed, **kwargs)
        self.head_dim = positive_integer("GroupedQueryAttention", "head_dim", head_dim)
        self.num_query_heads = positive_integer("GroupedQueryAttention", "num_query_heads", num_query_heads)
        self.num_key_value_heads = positive_integer("GroupedQueryAttention", "num_key_value_heads", num_key_value_heads)
        if num_query_heads % num_key_value_heads:
            raise ValueError(f"GroupedQueryAttention: num_query_heads is {num_query_heads}; it must be a multiple of num_key_value_heads, {num_key_value_heads}")

    def build(self, query_shape, value_shape, key_shape=None):
        """Make the projections."""
        of_query, of_key = (self.num_query_heads, self.head_dim), (self.num_key_value_heads, self.head_dim)
        self.query_dense = self._project("query", query_shape, of_query)
        self.key_dense = self._project("key", value_shape if key_shape is None else key_shape, of_key)
        if self.use_gate:
            self.gate_dense = self._project("gate", query_shape, of_query, activation="sigmoid")
        self.value_dense = self._project("value", value_shape, of_key)
        self.output_dense = self._project("attention_output", (None, None, *of_query), query_shape[-1:], summed=2)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "head_dim": self.head_dim, "num_query_heads": self.num_query_heads,
                "num_key_value_heads": self.num_key_value_heads}


GroupQueryAttention = GroupedQueryAttention          # as Keras exports it


class Attention(Layer):
    """softmax(scores of query and key) @ value, without projections. (Luong et al., 2015.)

    inputs   [query (batch, query_time, dim), value (batch, key_time, value_dim), key (batch, key_time, dim)]; key left out: value
    mask     [of query (batch, query_time), of value (batch, key_time), …], each may be None
    returns  (batch, query_time, value_dim); with return_attention_scores also the weights (batch, query_time, key_time)

    score_mode "dot": query . key, times the weight `scale` () with use_scale; "concat": the weight concat_score_weight () times the
    sum of tanh(query + key), with use_scale of tanh(scale (query + key)). dropout is that of the weights.
    """

    supports_masking = True
    input_dtype = "float32"

    def __init__(self, use_scale=False, score_mode="dot", dropout=0.0, seed=None, **kwargs):
        super().__init__(**kwargs)
        if score_mode not in ("dot", "concat"):
            raise ValueError(f"{type(self).__name__}: score_mode is {score_mode!r}; known are 'dot' and 'concat'")
        self.use_scale, self.score_mode, self.dropout, self.seed = use_scale, score_mode, dropout, seed
        self.seed_generator = random.SeedGenerator(seed) if dropout else None

    def build(self, input_shape):
        """Make the weights."""
        self._check(input_shape)
        self.scale = self.add_weight((), "ones", name="scale") if self.use_scale else None
        self.concat_score_weight = self.add_weight((), "ones", name="concat_score_weight") if self.score_mode == "concat" else None

    def _check(self, inputs, mask=None):
        for what, given in ("inputs", inputs), ("mask", mask):
            if given is not None and not (isinstance(given, (list, tuple)) and len(given) in (2, 3)):
                about = f"a list of {len(given)}" if isinstance(given, (list, tuple)) else type(given).__name__
                raise ValueError(f"{self.name}: {what} must be a list [query, value] or [query, value, key], not {about}")

    def _scores(self, query, key):
        """(batch, query_time, key_time)"""
        if self.score_mode == "dot":
            return ops.matmul(query if self.scale is None else query * self.scale, key, transpose_b=True)
        both = ops.expand_dims(query, -2) + ops.expand_dims(key, -3)
        return self.concat_score_weight * ops.sum(ops.tanh(both if self.scale is None else self.scale * both), axis=-1)

    def call(self, inputs, mask=None, training=False, return_attention_scores=False, use_causal_mask=False):
        """The values that each query sees, weighted; 0 for a query that its mask leaves out."""
        self._check(inputs, mask)
        query, value, key = (*inputs, inputs[1])[:3]
        query_mask, value_mask = (None, None) if mask is None else mask[:2]
        bias = None                            # lowers the scores of what is not seen; gradients flow as if it were not there
        if value_mask is not None:
            seen = ops.expand_dims(_boolean(value_mask), -2)
            seen = ops.logical_and(seen, _causal(query.shape[-2], key.shape[-2])) if use_causal_mask else seen
            bias = ops.where(seen, 0.0, -1e9)
        if type(self)._scores is Attention._scores and self.score_mode == "dot" and not return_attention_scores and query.ndim == 3 and max(
                query.shape[-1], value.shape[-1]) <= MOST_SIZE:
            draw = self.seed_generator.next() if training and self.dropout else None
            one = lambda x: ops.expand_dims(x, 2)
            out = ops.dot_product_attention(
                one(query if self.scale is None else query * self.scale), one(key), one(value), bias=None if bias is None else ops.expand_dims(bias, 1),
                scale=1.0, is_causal=use_causal_mask and bias is None, dropout=self.dropout if draw is not None else 0.0, draw=draw)
            out, weights = ops.squeeze(out, 2), None
        else:
            scores = self._scores(query, key)
            if use_causal_mask and bias is None:
                scores = ops.where(_causal(*scores.shape[-2:]), scores, UNSEEN)
            weights = ops.softmax(scores if bias is None else scores + bias, axis=-1)
            weights = random.dropout(weights, self.dropout, seed=self.seed_generator) if training and self.dropout else weights
            out = ops.matmul(weights, value)
        if query_mask is not None:
            out = ops.where(ops.expand_dims(_boolean(query_mask), -1), out, 0.0)
        return (out, weights) if return_attention_scores else out

    def compute_output_spec(self, inputs, mask=None, return_attention_scores=False, training=None, use_causal_mask=False):
        """The Symbols that a call on Symbols gives."""
        self._check(inputs, mask)
        query, value = inputs[:2]
        out = Symbol((*query.shape[:-1], value.shape[-1]), self.dtype)
        return (out, Symbol((*query.shape[:-1], value.shape[-2]), self.dtype)) if return_attention_scores else out

    def compute_output_shape(self, input_shape):
        """The shape of the result."""
        return (*input_shape[0][:-1], input_shape[1][-1])

    def compute_mask(self, inputs, mask=None):
        """The mask of query."""
        self._check(inputs, mask)
        return None if mask is None else mask[0]

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "use_scale": self.use_scale, "score_mode": self.score_mode, "dropout": self.dropout, "seed": self.seed}


class AdditiveAttention(Attention):
    """softmax(sum of scale tanh(query + key)) @ value. (Bahdanau et al., 2015.)

    inputs   [query (batch, query_time, dim), value (batch, key_time, dim), key (batch, key_time, dim)]; key left out: value
    mask     [of query (batch, query_time), of value (batch, key_time), …], each may be None
    scale    (dim), a weight, with use_scale
    returns  (batch, query_time, dim); with return_attention_scores also the weights (batch, query_time, key_time)
    """

    def __init__(self, use_scale=True, dropout=0.0, **kwargs):
        super().__init__(use_scale=use_scale, dropout=dropout, **kwargs)

    def build(self, input_shape):
        """Make the weight."""
        self._check(input_shape)
        self.scale = self.add_weight((input_shape[0][-1],), "glorot_uniform", name="scale") if self.use_scale else None

    def _scores(self, query, key):
        """(batch, query_time, key_time)"""
        both = ops.tanh(ops.expand_dims(query, -2) + ops.expand_dims(key, -3))
        return ops.sum(both if self.scale is None else self.scale * both, axis=-1)

    def get_config(self):
        """The constructor's arguments."""
        config = super().get_config()
        del config["score_mode"]
        return config
