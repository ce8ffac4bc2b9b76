"""What Keras' recurrent layers give for fixed weights and inputs: outputs, states and gradients. Makes keras_recurrent.json:

    KERAS_BACKEND=tensorflow python make_recurrent_record.py > keras_recurrent.json

test_recurrent_parity.py runs the same cases with fastdl.
"""

import json

import numpy as np

MASK = np.array([[1, 1, 0, 1, 0], [0, 0, 1, 1, 1], [0, 0, 0, 0, 0]], bool)
STATES = {"LSTM": 2, "GRU": 1, "SimpleRNN": 1}
FLAGS = {
    "plain": {}, "sequence": dict(return_sequences=True, return_state=True), "backwards": dict(go_backwards=True, return_sequences=True),
    "no bias": dict(use_bias=False), "zero output": dict(return_sequences=True, zero_output_for_mask=True), "relu": dict(activation="relu"),
    "stateful": dict(stateful=True, return_state=True), "elu": dict(activation="elu", return_sequences=True)}


def wave(shape, shift):
    """Reproducible numbers."""
    return (0.6 * np.sin(1.7 * np.arange(int(np.prod(shape))) + shift)).astype("float32").reshape(shape)


def cases(layers):
    """name -> (a function that makes the layer, whether with a mask, number of initial states)."""
    for name, states in STATES.items():
        make = getattr(layers, name)
        for flag, options in FLAGS.items():
            for masked in False, True:
                yield f"{name}, {flag}, {'masked' if masked else 'whole'}", lambda make=make, options=options: make(4, **options), masked, 0
        yield f"{name}, initial state", lambda make=make: make(4, return_state=True), True, states
        yield f"{name}Cell", lambda name=name: layers.RNN(getattr(layers, name + "Cell")(4), return_state=True), True, 0
        for merge in "concat", "sum", "mul", "ave", None:
            for masked in False, True:
                for flag in "plain", "sequence":
                    yield (f"Bidirectional {name}, {merge}, {flag}, {'masked' if masked else 'whole'}",
                           lambda make=make, merge=merge, flag=flag: layers.Bidirectional(make(4, **FLAGS[flag]), merge_mode=merge), masked, 0)
        yield f"Bidirectional {name}, initial state", lambda make=make: layers.Bidirectional(make(4, return_state=True)), False, 2 * states
    for flag in "plain", "sequence", "backwards":
        for masked in False, True:
            yield (f"GRU, reset before, {flag}, {'masked' if masked else 'whole'}",
                   lambda flag=flag: layers.GRU(4, reset_after=False, **FLAGS[flag]), masked, 0)
    yield "GRU, hard_sigmoid", lambda: layers.GRU(4, recurrent_activation="hard_sigmoid"), True, 0
    yield "GRU, reset before, hard_sigmoid", lambda: layers.GRU(4, recurrent_activation="hard_sigmoid", reset_after=False), True, 0
    yield "LSTM, hard_sigmoid", lambda: layers.LSTM(4, recurrent_activation="hard_sigmoid", return_sequences=True), True, 0
    for masked in False, True:
        yield (f"stacked cells, {masked}", lambda: layers.RNN([layers.LSTMCell(4), layers.GRUCell(3), layers.SimpleRNNCell(2)],
                                                              return_sequences=True, return_state=True), masked, 0)
        yield f"stacked cells, step by step, {masked}", lambda: layers.RNN([layers.LSTMCell(4, activation="elu"), layers.GRUCell(3)]), masked, 0
    yield "TimeDistributed", lambda: layers.TimeDistributed(layers.Dense(2)), False, 0


def shapes_of(weights):
    return [list(w.shape) for w in weights]


def run(make, masked, states, call, variables):
    """Outputs and gradients of the sum of outputs times a wave; call(layer, x, options, factors) returns outputs and gradients as arrays."""
    layer = make()
    layer.build((3, 5, 3))
    for i, w in enumerate(variables(layer)):
        w.assign(wave(tuple(w.shape), i))
    options = {"mask": MASK} if masked else {}
    if states:
        options["initial_state"] = [wave((3, 4), 20 + i) for i in range(states)]
    outputs, gradients = call(layer, wave((3, 5, 3), 9), options)
    return {"weights": shapes_of(variables(layer)), "outputs": [np.asarray(o, "float64").round(6).tolist() for o in outputs],
            "gradients": [np.asarray(g, "float64").round(5).tolist() for g in gradients]}


def flat(value):
    return [leaf for v in value for leaf in flat(v)] if isinstance(value, (list, tuple)) else [value]


def main():
    import tensorflow as tf
    from keras import layers

    def call(layer, x, options):
        options = {k: tf.constant(v) if k == "mask" else [tf.constant(s) for s in v] for k, v in options.items()}
        x = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = flat(layer(x, **options))
            total = sum(tf.reduce_sum(o * wave(tuple(o.shape), 5)) for o in outputs)
        return outputs, tape.gradient(total, [x, *[w.value for w in layer.trainable_weights]])

    print(json.dumps({name: run(make, masked, states, call, lambda layer: layer.trainable_weights)
                      for name, make, masked, states in cases(layers)}))


if __name__ == "__main__":
    main()
