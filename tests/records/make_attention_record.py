"""Records what Keras' attention layers and EinsumDense do, for tests/layers. With a Python that has Keras on TensorFlow, in this folder:

    python make_attention_record.py > keras_attention.json

Of each output and gradient: its shape, and its sum weighted by cosines.
"""

import json

import numpy as np

DRAW = np.random.default_rng(0)
normal = lambda *shape: DRAW.standard_normal(shape).astype("float32")
X, Y, Z, U, V, W = normal(2, 5, 6), normal(2, 7, 4), normal(2, 7, 3), normal(2, 3, 4, 5), normal(2, 3, 6, 5), normal(2, 2, 5, 5)
A, B, C = normal(2, 5, 4), normal(2, 7, 3), normal(2, 7, 4)
OF_QUERY = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)
OF_VALUE = np.array([[0, 1, 1, 0, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0]], bool)
NOTHING = np.array([[0] * 7, [1, 1, 1, 1, 0, 0, 0]], bool)          # the first sample sees nothing
SEEN = DRAW.random((2, 5, 7)) > 0.4
CAUSAL, SCORES = {"use_causal_mask": True}, {"return_attention_scores": True}

CASES = {                            # layer, arguments, inputs, arguments of the call
    "self": ("MultiHeadAttention", (3, 4), {}, (X, X), {}),
    "causal": ("MultiHeadAttention", (3, 4), {}, (X, X), CAUSAL),
    "cross": ("MultiHeadAttention", (2, 3), {"value_dim": 5, "output_shape": 8}, (X, Y, Z), {}),
    "no bias": ("MultiHeadAttention", (2, 3), {"use_bias": False, "output_shape": (2, 3)}, (X, Y), {}),
    "mask": ("MultiHeadAttention", (2, 3), {}, (X, Y), {"attention_mask": SEEN}),
    "mask of two axes": ("MultiHeadAttention", (2, 3), {}, (X, Y), {"attention_mask": SEEN[0]}),
    "mask of heads": ("MultiHeadAttention", (2, 3), {}, (X, Y), {"attention_mask": np.stack([SEEN, ~SEEN], 1)}),
    "value mask": ("MultiHeadAttention", (2, 3), {}, (X, Y), {"value_mask": OF_VALUE}),
    "key mask": ("MultiHeadAttention", (2, 3), {}, (X, Y, Z), {"key_mask": OF_VALUE, **CAUSAL}),
    "nothing seen": ("MultiHeadAttention", (2, 3), {}, (X, Y), {"value_mask": NOTHING, **CAUSAL}),
    "nothing seen, scores": ("MultiHeadAttention", (2, 3), {}, (X, Y), {"value_mask": NOTHING, **CAUSAL, **SCORES}),
    "scores": ("MultiHeadAttention", (2, 3), {}, (X, Y), {**CAUSAL, **SCORES}),
    "window": ("MultiHeadAttention", (2, 3), {"sliding_window": 2}, (X, X), CAUSAL),
    "gate": ("MultiHeadAttention", (2, 3), {"use_gate": True}, (X, Y), {}),
    "over axis 2": ("MultiHeadAttention", (2, 3), {"attention_axes": 2}, (U, V), {}),
    "over axis 2, scores": ("MultiHeadAttention", (2, 3), {"attention_axes": 2}, (U, V), SCORES),
    "over axis 1": ("MultiHeadAttention", (2, 3), {"attention_axes": (1,)}, (U, U[:, :2]), {}),
    "over two axes": ("MultiHeadAttention", (2, 3), {}, (U, W), {}),
    "over two axes, scores": ("MultiHeadAttention", (2, 3), {"attention_axes": (1, 2)}, (U, W), SCORES),
    "grouped": ("GroupQueryAttention", (4, 6, 2), {}, (X, Y), {}),
    "grouped, one": ("GroupQueryAttention", (4, 4, 1), {"use_bias": False}, (X, Y, Z), CAUSAL),
    "grouped, scores": ("GroupQueryAttention", (4, 6, 3), {}, (X, Y), {"attention_mask": SEEN, **SCORES}),
    "grouped, gate": ("GroupQueryAttention", (4, 6, 3), {"use_gate": True, "sliding_window": 3}, (X, X), {}),
    "dot": ("Attention", (), {}, ([A, C],), {}),
    "dot, scale": ("Attention", (), {"use_scale": True}, ([A, B, C],), CAUSAL),
    "dot, masks": ("Attention", (), {}, ([A, B, C],), {"mask": [OF_QUERY, OF_VALUE], **CAUSAL}),
    "dot, scores": ("Attention", (), {}, ([A, B, C],), {"mask": [OF_QUERY, OF_VALUE], **CAUSAL, **SCORES}),
    "dot, nothing seen": ("Attention", (), {}, ([A, B, C],), {"mask": [None, NOTHING]}),
    "concat": ("Attention", (), {"score_mode": "concat", "use_scale": True}, ([A, B, C],), {"mask": [OF_QUERY, OF_VALUE]}),
    "additive": ("AdditiveAttention", (), {}, ([A, C],), {"mask": [OF_QUERY, OF_VALUE]}),
    "additive, scores": ("AdditiveAttention", (), {"use_scale": False}, ([A, B, C],), {**CAUSAL, **SCORES}),
    "einsum": ("EinsumDense", ("ab,bc->ac", 5), {"bias_axes": "c"}, (X[0],), {}),
    "einsum, relu": ("EinsumDense", ("abc,cd->abd", (None, 5)), {"bias_axes": "d", "activation": "relu"}, (X,), {}),
    "einsum, rest before": ("EinsumDense", ("...x,xy->...y", 5), {"bias_axes": "y"}, (X,), {}),
    "einsum, rest behind": ("EinsumDense", ("ab...,bc->ac...", 6), {"bias_axes": "c"}, (U,), {}),
    "einsum, heads": ("EinsumDense", ("abc,cde->abde", (None, 2, 3)), {"bias_axes": "de"}, (X,), {}),
    "einsum, from heads": ("EinsumDense", ("abcd,cde->abe", (None, 5)), {"bias_axes": "e"}, (U,), {}),
    "einsum, other order": ("EinsumDense", ("abc,ce->aeb", (4, 5)), {"bias_axes": "e"}, (X,), {}),
    "einsum, middle axis": ("EinsumDense", ("abc,bd->adc", (5, 6)), {"bias_axes": "dc"}, (X,), {}),
}


def cosines(shape):
    return np.cos(np.arange(np.prod(shape, dtype=int), dtype="float32").reshape(shape))


def give_weights(layer):
    """Weights that depend on their shapes and order only."""
    draw = np.random.default_rng(7)
    layer.set_weights([0.4 * draw.standard_normal(w.shape).astype("float32") for w in layer.get_weights()])


def summary(array):
    """Shape and weighted sum; None for a gradient that is not there."""
    return None if array is None else [list(array.shape), float((np.asarray(array, "float64") * cosines(array.shape)).sum())]


def keras_case(name):
    """Outputs, gradients of inputs and weights, and names of the weights, as Keras gives them."""
    import keras
    import tensorflow as tf
    layer, arguments, options, inputs, call = CASES[name]
    layer = getattr(keras.layers, layer)(*arguments, **options)
    inputs, call = tf.nest.map_structure(lambda a: tf.convert_to_tensor(a) if isinstance(a, np.ndarray) else a, (list(inputs), call))
    layer(*inputs, **call)
    give_weights(layer)
    floats = tf.nest.flatten(inputs)
    with tf.GradientTape() as tape:
        tape.watch(floats)
        outs = tf.nest.flatten(layer(*inputs, **call))
        loss = tf.reduce_sum(outs[0] * cosines(outs[0].shape))
    gradients = tape.gradient(loss, floats + [w.value for w in layer.weights])
    return {"outputs": [summary(o.numpy()) for o in outs], "gradients": [g if g is None else summary(g.numpy()) for g in gradients],
            "weights": [w.path.split("/", 1)[-1] for w in layer.weights]}


if __name__ == "__main__":
    rounded = json.loads(json.dumps({name: keras_case(name) for name in CASES}), parse_float=lambda text: float(f"{float(text):.7g}"))
    print("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in rounded.items()) + "\n}")
