"""Layers that run as one: when they do, and that nobody can tell by the results."""

import numpy as np
import pytest

import fastdl
from fastdl import layers
from fastdl.record import Program


def network(convolution=None, pooling=None, between=None):
    x = fastdl.Input((10, 9, 7))
    y = layers.Conv2D(**{"filters": 5, "kernel_size": 3, "activation": "relu", "bias_initializer": "random_normal", **(convolution or {})})(x)
    z = layers.MaxPooling2D(**(pooling or {}))(y)
    return fastdl.Model(x, [z, y] if between else z)


def kernels_of(model, x):
    model(x)
    program = Program()
    with program.recorded():
        result = model(x)
    return {call[0] for call in program.about}, result


@pytest.mark.parametrize("convolution, pooling, between, together", [
    ({}, {}, False, True), ({"activation": None, "use_bias": False, "strides": (2, 1)}, {}, False, True), ({"padding": "same"}, {}, False, True),
    ({}, {"pool_size": 3}, False, False), ({}, {"strides": 1}, False, False), ({}, {"padding": "same"}, False, False),
    ({"activation": "tanh"}, {}, False, False), ({"activation": "elu"}, {}, False, False), ({"dilation_rate": 2}, {}, False, False),
    ({"activity_regularizer": "l2"}, {}, False, False), ({"data_format": "channels_first"}, {"data_format": "channels_first"}, False, False),
    ({}, {}, True, False)])
def test_when_convolution_and_pooling_run_as_one(rng, convolution, pooling, between, together):
    model, x = network(convolution, pooling, between), rng.standard_normal((3, 10, 9, 7)).astype("float32")
    called, result = kernels_of(model, x)
    assert ("pooled_conv2d" in called) == together != ("max_pool2d" in called)
    y = model.layers[1](x)
    z = model.layers[2](y)
    for got, wanted in zip(result if between else [result], [z, y]):
        np.testing.assert_array_equal(got, wanted)


def test_a_convolution_used_twice_stands_alone(rng):
    x = fastdl.Input((8, 8, 1))
    y = layers.Conv2D(4, 3, activation="relu")(x)
    model = fastdl.Model(x, layers.Flatten()(layers.Add()([layers.MaxPooling2D()(y), layers.AveragePooling2D(2)(y)])))
    called, _ = kernels_of(model, rng.standard_normal((2, 8, 8, 1)).astype("float32"))
    assert "pooled_conv2d" not in called


def test_what_lies_between_can_still_be_asked_for(rng):
    model = fastdl.Sequential([layers.Input((8, 8, 1)), layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(2), layers.Flatten()])
    x = rng.standard_normal((2, 8, 8, 1)).astype("float32")
    assert "pooled_conv2d" in kernels_of(model, x)[0]
    inner = fastdl.Model(model.inputs, model.layers[0].output)
    np.testing.assert_array_equal(inner(x), model.layers[0](x))


def test_training_learns_the_same(rng):
    x, y = rng.standard_normal((24, 10, 10, 1)).astype("float32"), np.arange(24) % 3

    def trained(apart):
        fastdl.random.set_random_seed(0)
        between = [layers.Lambda(lambda t: t)] if apart else []
        model = fastdl.Sequential([layers.Input((10, 10, 1)), layers.Conv2D(6, 3, activation="relu"), *between, layers.MaxPooling2D(2),
                                   layers.Flatten(), layers.Dense(3)])
        model.compile("sgd", fastdl.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0).history["loss"]
    np.testing.assert_allclose(trained(False), trained(True), rtol=1e-5)


def reader(embedding=None, recurrence=None, vocabulary=7):
    tokens = fastdl.Input((9,), dtype="int32")
    y = layers.Embedding(vocabulary, 5, **(embedding or {}))(tokens)
    return fastdl.Model(tokens, layers.LSTM(**{"units": 6, "bias_initializer": "random_normal", **(recurrence or {})})(y))


@pytest.mark.parametrize("embedding, recurrence, vocabulary, together", [
    ({}, {}, 7, True), ({}, {"dtype": "mixed_bfloat16"}, 7, True), ({}, {"return_sequences": True, "go_backwards": True, "use_bias": False}, 7, True), ({}, {"activation": "relu"}, 7, True),
    ({}, {}, 14, False), ({"mask_zero": True}, {}, 7, False), ({}, {"dropout": 0.5}, 7, False), ({}, {"recurrent_dropout": 0.5}, 7, False),
    ({}, {"return_state": True}, 7, False), ({}, {"activation": "elu"}, 7, False), ({}, {"activity_regularizer": "l2"}, 7, False)])
def test_when_embedding_and_lstm_run_as_one(rng, embedding, recurrence, vocabulary, together):
    model, x = reader(embedding, recurrence, vocabulary), rng.integers(0, 7, (3, 9)).astype("int32")
    called, result = kernels_of(model, x)
    assert ("take" in called) != together
    apart = model.layers[2](model.layers[1](x))
    for got, wanted in zip(*[r if type(r) in (list, tuple) else [r] for r in (result, apart)]):
        np.testing.assert_array_equal(got, wanted)


def test_training_on_tokens_learns_the_same(rng):
    x, y = rng.integers(0, 5, (24, 10)).astype("int32"), np.arange(24) % 3

    def trained(apart):
        fastdl.random.set_random_seed(0)
        between = [layers.Lambda(lambda t: t)] if apart else []
        model = fastdl.Sequential([layers.Input((10,), dtype="int32"), layers.Embedding(5, 4), *between, layers.LSTM(6), layers.Dense(3)])
        model.compile("sgd", fastdl.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0).history["loss"]
    np.testing.assert_allclose(trained(False), trained(True), rtol=1e-5)


def test_a_token_out_of_range_is_an_error():
    with pytest.raises(fastdl.DataError, match="token 7 at"):
        reader()(np.full((3, 9), 7, "int32"))


def mobile(stride=1, expanded=True, activation="relu6", project=None, depthwise=None, size=12, between=False):
    """A block as MobileNet has it; with a stride of 1, and the residual."""
    i = layers.Input((size, size, 8))
    x = layers.Conv2D(8, 1, bias_initializer="random_normal")(i)
    y = layers.Activation(activation)(layers.BatchNormalization()(layers.Conv2D(40, 1, use_bias=False)(x))) if expanded else x
    padded = layers.ZeroPadding2D(((0, 1), (0, 1)))(y) if stride == 2 else y
    z = layers.DepthwiseConv2D(3, stride, padding="valid" if stride == 2 else "same", **(depthwise or {}))(padded)
    z = layers.ReLU(6)(layers.BatchNormalization()(z))
    out = layers.BatchNormalization()(layers.Conv2D(8, 1, **(project or {}))(z))
    out = out if stride == 2 else layers.Add()([x, out])
    return fastdl.Model(i, [out, z] if between else out)


@pytest.mark.parametrize("options, together", [
    ({}, 1), ({"stride": 2}, 1), ({"size": 6}, 1), ({"expanded": False}, 1), ({"activation": "relu"}, 1), ({"activation": "elu"}, 1),
    ({"stride": 2, "project": {"activation": "tanh"}}, 0), ({"depthwise": {"dilation_rate": 2}}, 0), ({"depthwise": {"depth_multiplier": 2}}, 0),
    ({"project": {"activity_regularizer": "l2"}}, 0), ({"between": True}, 0), ({"expanded": False, "size": 6}, 0)])
def test_when_the_convolutions_of_a_block_run_as_one(rng, options, together):
    model, x = mobile(**options), rng.standard_normal((3, *[options.get("size", 12)] * 2, 8)).astype("float32")
    for w in model.weights:
        w.assign(rng.uniform(0.5, 2, w.shape) if "variance" in w.name else rng.standard_normal(w.shape) * 0.5)
    first = lambda made: made[0] if isinstance(made, (list, tuple)) else made
    wanted = first(model(x)).numpy()
    for _ in range(3):
        found = first(model.predict_on_batch(x))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    program = model.programs()[-1]
    assert [call[0] for call in program.about].count("inverted_residual") == together
    with fastdl.no_grad():
        np.testing.assert_array_equal(first(model(x)), found)
        with fastdl.isa("numpy"):
            np.testing.assert_allclose(first(model(x)).numpy(), found, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_a_block_in_bfloat16(rng):
    x = rng.standard_normal((1, 12, 12, 8)).astype("float32")
    fastdl.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = mobile()
    finally:
        fastdl.config.set_dtype_policy("float32")
    wanted = model(x).numpy()
    for _ in range(3):
        found = model.predict_on_batch(x)
    assert [call[0] for call in model.programs()[-1].about].count("inverted_residual") == 1
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2 ** -7 * np.abs(wanted).max())


def test_a_block_of_two_policies_stays_apart(rng):
    model = mobile(project={"dtype": "mixed_bfloat16"})
    for _ in range(2):
        model.predict_on_batch(rng.standard_normal((1, 12, 12, 8)).astype("float32"))
    assert "inverted_residual" not in [call[0] for call in model.programs()[-1].about]


def test_a_block_in_training_stays_apart(rng):
    x, model = rng.standard_normal((2, 12, 12, 8)).astype("float32"), mobile()
    model.compile("sgd", "mse")
    for _ in range(2):
        model.train_on_batch(x, np.zeros((2, 12, 12, 8), "float32"))
    assert "inverted_residual" not in [call[0] for call in model.programs()[-1].about]


def block():
    """Attention and dense layers, with what was there before them."""
    x = fastdl.Input((7, 24))
    n = layers.LayerNormalization()(x)
    y = layers.Add()([x, layers.MultiHeadAttention(3, 8)(n, n, use_causal_mask=True)])
    z = layers.Dense(9, activation="gelu")(layers.LayerNormalization()(y))
    return fastdl.Model(x, layers.Add()([layers.Dense(24)(z), y]))


@pytest.mark.parametrize("bfloat16", [False, True])
def test_what_was_there_before_is_added_by_the_layers(rng, monkeypatch, bfloat16):
    fastdl.config.set_dtype_policy("mixed_bfloat16" if bfloat16 else "float32")
    try:
        together = block()
        monkeypatch.setattr("fastdl.models.fusion.with_residual", lambda graph, node: None)
        apart = block()
    finally:
        fastdl.config.set_dtype_policy("float32")
    apart.set_weights(together.get_weights())
    x, y = rng.standard_normal((2, 3, 7, 24)).astype("float32")
    assert "add" not in kernels_of(together, x)[0] and "add" in kernels_of(apart, x)[0]
    for model in together, apart:
        model.compile("sgd", "mse")
        for _ in range(4):
            model.train_on_batch(x, y)
    for a, b in zip(together.get_weights(), apart.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_what_is_made_later_is_added_after(rng):
    x = fastdl.Input((5, 8))
    early = layers.Dense(8)(x)
    model = fastdl.Model(x, layers.Add()([early, layers.Dense(8)(layers.Dense(3)(x))]))
    given = rng.standard_normal((2, 5, 8)).astype("float32")
    by_units = {layer.kernel.shape: layer for layer in model.layers if isinstance(layer, layers.Dense)}
    np.testing.assert_array_equal(model(given), by_units[8, 8](given) + by_units[3, 8](by_units[8, 3](given)))
