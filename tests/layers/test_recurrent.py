"""LSTM and Embedding as layers: masks, states, dropout, configurations."""

import numpy as np
import pytest

import fastdl
from fastdl import ShapeError, Tensor
from fastdl.layers import LSTM, Embedding, Input

X = np.random.default_rng(0).standard_normal((3, 5, 4)).astype("float32")
MASK = np.array([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], bool)


def test_returns_and_weights():
    layer = LSTM(6, return_sequences=True, return_state=True)
    sequence, h, c = layer(X)
    assert (sequence.shape, h.shape, c.shape) == ((3, 5, 6), (3, 6), (3, 6))
    np.testing.assert_array_equal(sequence.numpy()[:, -1], h.numpy())
    assert [w.name for w in layer.weights] == ["kernel", "recurrent_kernel", "bias"]
    np.testing.assert_array_equal(layer.bias.numpy(), np.repeat([0, 1, 0, 0], 6))
    np.testing.assert_allclose(layer.recurrent_kernel.numpy() @ layer.recurrent_kernel.numpy().T, np.eye(6), atol=1e-5)
    assert LSTM(6, use_bias=False)(X).shape == (3, 6)


def test_mask_of_the_inputs_and_as_an_argument():
    layer = LSTM(6, return_sequences=True, return_state=True)
    x = Tensor(X)
    x.mask = Tensor(MASK)
    outs = layer(x)
    assert outs[0].mask is x.mask and outs[1].mask is None and outs[2].mask is None
    for out, other in zip(outs, layer(X, mask=MASK)):
        np.testing.assert_array_equal(out.numpy(), other.numpy())
    assert not outs[0].numpy()[2].any() and (outs[0].numpy()[0, 1] == outs[0].numpy()[0, 4]).all()


def test_stateful_goes_on_where_it_was():
    plain, stateful = LSTM(6, return_state=True), LSTM(6, stateful=True)
    _, h, c = plain(X)
    stateful.build(X.shape)
    stateful.set_weights(plain.get_weights())
    first, second = stateful(X).numpy(), stateful(X).numpy()
    np.testing.assert_array_equal(first, h.numpy())
    np.testing.assert_array_equal(second, plain(X, initial_state=[h, c])[0].numpy())
    stateful.reset_state()
    np.testing.assert_array_equal(stateful(X).numpy(), first)
    assert len(stateful.weights) == 3 and stateful.count_params() == plain.count_params()
    with pytest.raises(ShapeError, match="must know the batch size"):
        LSTM(6, stateful=True)(Input((5, 4)))


def test_weights_of_a_trained_network_fit_one_with_states(tmp_path):
    def network(batch, stateful):
        model = fastdl.Sequential([Input(batch_shape=(batch, 5, 4)), LSTM(6, stateful=stateful), fastdl.layers.Dense(2)])
        model.compile("sgd", "mse")
        return model
    trained = network(None, False)
    trained.fit(X, np.ones((len(X), 2), "float32"), verbose=0)
    one_by_one = network(len(X), True)
    one_by_one.set_weights(trained.get_weights())
    first = one_by_one.predict(X, batch_size=len(X), verbose=0)
    np.testing.assert_array_equal(first, trained.predict(X, batch_size=len(X), verbose=0))
    assert not np.array_equal(one_by_one.predict(X, batch_size=len(X), verbose=0), first)
    one_by_one.save(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(fastdl.load_model(tmp_path / "model.safetensors").predict(X, batch_size=len(X), verbose=0), first)


def test_dropout_is_the_same_at_every_step_and_only_in_training():
    layer = LSTM(64, dropout=0.5, recurrent_dropout=0.5, seed=3)
    plain = layer(X).numpy()
    np.testing.assert_array_equal(plain, layer(X).numpy())
    assert not np.array_equal(plain, layer(X, training=True).numpy())
    inputs_only = LSTM(4, dropout=0.5, seed=3, use_bias=False, return_sequences=True, recurrent_initializer="zeros")
    steps = inputs_only(np.repeat(X[:, :1], 6, axis=1), training=True).numpy()
    first_twice = LSTM(4, dropout=0.5, seed=3, use_bias=False, return_sequences=True, recurrent_initializer="zeros")
    first_twice.build((None, None, 4))
    first_twice.set_weights(inputs_only.get_weights())
    np.testing.assert_array_equal(first_twice(np.repeat(X[:, :1], 2, axis=1), training=True).numpy(), steps[:, :2])


def test_embedding_masks_zeros_and_takes_weights():
    table = np.arange(12, dtype="float32").reshape(4, 3)
    layer = Embedding(4, 3, mask_zero=True, weights=table)
    out = layer(np.array([[1, 0], [3, 2]]))
    np.testing.assert_array_equal(out.numpy(), table[[[1, 0], [3, 2]]])
    assert out.mask.numpy().tolist() == [[True, False], [True, True]]
    np.testing.assert_array_equal(layer(np.array([[1.0, 3.7]])).numpy(), table[[[1, 3]]])
    with pytest.raises(fastdl.DataError, match=r"token 4 at \[0, 1\] is out of range for Embedding\(input_dim=4\)"):
        layer(np.array([[0, 4]]))


def test_configurations_make_the_same_layer():
    for layer in LSTM(3, dropout=0.1, go_backwards=True, seed=5), Embedding(7, 2, mask_zero=True):
        assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()


def test_symbols_and_messages():
    assert LSTM(3, return_sequences=True)(Embedding(10, 4)(Input((None,), dtype="int32"))).shape == (None, None, 3)
    with pytest.raises(ValueError, match="initial_state must be a list of two tensors, h and c"):
        LSTM(3)(X, initial_state=[np.zeros((3, 3))])
    with pytest.raises(ValueError, match="LSTM: units is 0"):
        LSTM(0)
