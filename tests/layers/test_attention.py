"""The attention layers: what Keras' do (recorded), masks that travel, dropout, models, saving, messages."""

import importlib.util
import json
import pathlib

import numpy as np
import pytest

import fastdl
from fastdl import Input, Model, Tensor, layers, ops
from fastdl.layers import AdditiveAttention, Attention, Embedding, GroupQueryAttention, MultiHeadAttention
from fastdl.layers.serialization import deserialize, serialize
from fastdl.structure import flatten, map_structure

RECORDS = pathlib.Path(__file__).parents[1] / "records"
spec = importlib.util.spec_from_file_location("make_attention_record", RECORDS / "make_attention_record.py")
maker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(maker)
KERAS = json.loads((RECORDS / "keras_attention.json").read_text())
X = np.random.default_rng(0).standard_normal((2, 5, 6)).astype("float32")


@pytest.mark.parametrize("name", maker.CASES)
def test_outputs_and_gradients_are_those_of_keras(name):
    layer, arguments, options, inputs, call = maker.CASES[name]
    layer = getattr(layers, layer)(*arguments, **options)
    inputs = map_structure(lambda a: fastdl.tensor(a, requires_grad=True), list(inputs))
    call = map_structure(lambda a: Tensor(a) if isinstance(a, np.ndarray) else a, call)
    layer(*inputs, **call)
    maker.give_weights(layer)
    outs = flatten(layer(*inputs, **call))
    ops.sum(outs[0] * maker.cosines(outs[0].shape)).backward()
    gradients = [t.grad for t in flatten(inputs) + layer.weights]
    assert [w.path.split("/", 1)[-1] for w in layer.weights] == KERAS[name]["weights"]
    for got, wanted in zip([o.numpy() for o in outs] + gradients, KERAS[name]["outputs"] + KERAS[name]["gradients"], strict=True):
        if wanted is None:
            assert got is None
            continue
        shape, total = wanted
        assert list(got.shape) == shape
        np.testing.assert_allclose(maker.summary(got)[1], total, rtol=2e-4, atol=2e-5 * np.sqrt(np.square(got).sum() + 1))


def test_masks_travel_with_the_tensors():
    tokens = np.array([[3, 1, 0, 0], [2, 2, 2, 0]], "int32")
    embedded = Embedding(5, 6, mask_zero=True)(tokens)
    layer = MultiHeadAttention(2, 3)
    out = layer(embedded, embedded)
    np.testing.assert_array_equal(out.mask.numpy(), tokens != 0)
    seen = (tokens != 0)[:, :, None] & (tokens != 0)[:, None]
    np.testing.assert_array_equal(out.numpy(), layer(Tensor(embedded.array), Tensor(embedded.array), attention_mask=seen).numpy())
    attention = Attention()([embedded, embedded])
    assert not attention.numpy()[0, 2:].any() and attention.mask is embedded.mask


@pytest.mark.parametrize("layer", [MultiHeadAttention(2, 3, dropout=0.5, seed=1), GroupQueryAttention(3, 2, 1, dropout=0.5, seed=1), Attention(dropout=0.5)])
def test_dropout_only_in_training(layer):
    call = (lambda **kw: layer([X, X], **kw)) if isinstance(layer, Attention) else (lambda **kw: layer(X, X, **kw))
    plain = call().numpy()
    np.testing.assert_array_equal(plain, call(training=False).numpy())
    many = np.stack([call(training=True).numpy() for _ in range(2000)])
    assert (many[0] != many[1]).any()
    np.testing.assert_allclose(many.mean(0), plain, atol=0.2 * np.abs(plain).max())
    scores = call(training=True, return_attention_scores=True)[1].numpy()
    assert scores.shape[-2:] == (5, 5)


def test_a_model_learns_replays_and_comes_back(tmp_path):
    fastdl.set_random_seed(3)
    tokens = Input((None,), dtype="int32")
    x = Embedding(11, 8, mask_zero=True)(tokens)
    x = layers.Add()([x, MultiHeadAttention(2, 4, dropout=0.1)(x, x, use_causal_mask=True)])
    x = GroupQueryAttention(4, 4, 2)(x, value=x)
    x, scores = MultiHeadAttention(2, 4)(x, x, return_attention_scores=True)
    assert x.shape == (None, None, 8) and scores.shape == (None, 2, None, None)
    x = Attention()([x, x])
    x = AdditiveAttention()([x, x])
    model = Model(tokens, layers.Dense(11)(x))
    model.compile("adam", fastdl.losses.SparseCategoricalCrossentropy(from_logits=True))
    draw = np.random.default_rng(0)
    x = draw.integers(1, 11, (64, 7)).astype("int32")
    history = model.fit(x, np.roll(x, 1, 1), epochs=12, batch_size=16, verbose=0).history["loss"]
    assert history[-1] < history[0] - 0.05
    model.save(tmp_path / "model.safetensors")
    again = fastdl.load_model(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(model.predict(x, verbose=0), again.predict(x, verbose=0))


@pytest.mark.parametrize("layer", [
    MultiHeadAttention(2, 3, value_dim=4, output_shape=(2, 3), attention_axes=(1,), kernel_regularizer="l2", dropout=0.2, seed=4, use_gate=True),
    GroupQueryAttention(3, 4, 2, sliding_window=3, use_bias=False), Attention(use_scale=True, score_mode="concat"), AdditiveAttention(use_scale=False)])
def test_configurations_come_back(layer):
    again = deserialize(serialize(layer))
    assert type(again) is type(layer) and again.get_config() == layer.get_config()


@pytest.mark.parametrize("layer", [MultiHeadAttention(2, 4), GroupQueryAttention(4, 4, 2)], ids=lambda layer: layer.name)
def test_of_no_sequences_there_is_no_result(layer):
    x = np.zeros((0, 5, 3), "float32")
    assert layer(x, x).shape == (0, 5, 3)


def test_messages():
    with pytest.raises(ValueError, match="num_heads is 0"):
        MultiHeadAttention(0, 3)
    with pytest.raises(ValueError, match="num_query_heads is 4; it must be a multiple of num_key_value_heads, 3"):
        GroupQueryAttention(3, 4, 3)
    with pytest.raises(ValueError, match="dropout is 0.1 with flash_attention=True"):
        MultiHeadAttention(2, 3, dropout=0.1, flash_attention=True)
    with pytest.raises(ValueError, match="return_attention_scores=True with flash_attention=True"):
        MultiHeadAttention(2, 3, flash_attention=True)(X, X, return_attention_scores=True)
    with pytest.raises(ValueError, match="value and key must have equal sizes"):
        MultiHeadAttention(2, 3)(X, X, X[:, :3])
    with pytest.raises(ValueError, match="must be a list \\[query, value\\]"):
        Attention()(X)
    with pytest.raises(ValueError, match="score_mode is 'cosine'"):
        Attention(score_mode="cosine")
    with pytest.raises(fastdl.ShapeError, match="mask does not broadcast"):
        MultiHeadAttention(2, 3)(X, X, attention_mask=np.ones((2, 5, 4), bool))
    with pytest.raises(ValueError, match="attention over one axis"):
        MultiHeadAttention(2, 3)(X[:, None], X[:, None], use_causal_mask=True)
