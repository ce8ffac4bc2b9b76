"""Bidirectional: options that go together, states, masks, saving, training. Its arithmetic: tests/test_recurrent_parity.py."""

import numpy as np
import pytest

import fastdl
from fastdl import Tensor, layers
from fastdl.layers import GRU, LSTM, Bidirectional

X = np.random.default_rng(0).standard_normal((3, 5, 4)).astype("float32")


def test_merges_the_two_layers():
    both = Bidirectional(LSTM(6, return_sequences=True), merge_mode=None, name="both")
    y, z = both(X)
    assert both.forward_layer.name.startswith("forward_lstm") and both.backward_layer.name.startswith("backward_lstm")
    np.testing.assert_array_equal(both.forward_layer(X).numpy(), y.numpy())
    np.testing.assert_array_equal(both.backward_layer(X).numpy()[:, ::-1], z.numpy())
    concat = Bidirectional(LSTM(6, return_sequences=True), weights=both.get_weights())
    np.testing.assert_array_equal(concat(X).numpy(), np.concatenate([y.numpy(), z.numpy()], -1))


def test_masks_go_on_where_the_output_is_a_sequence():
    x = Tensor(X)
    x.mask = Tensor(np.arange(15).reshape(3, 5) % 4 > 0)
    assert Bidirectional(GRU(2, return_sequences=True))(x).mask is x.mask
    assert [o.mask for o in Bidirectional(GRU(2, return_state=True))(x)] == [None] * 3
    assert [o.mask for o in Bidirectional(GRU(2, return_sequences=True), merge_mode=None)(x)] == [x.mask] * 2


def test_a_model_learns_is_saved_and_comes_back(tmp_path):
    model = fastdl.Sequential([layers.Input((5, 4)), Bidirectional(GRU(3, return_sequences=True)), layers.TimeDistributed(layers.Dense(2)),
                               layers.RNN([layers.LSTMCell(3), layers.SimpleRNNCell(2)]), layers.Dense(1)])
    model.compile("adam", "mse")
    before = model.predict(X, verbose=0)
    losses = model.fit(X, X.sum((1, 2))[:, None], epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0] and not np.array_equal(before, model.predict(X, verbose=0))
    model.save(tmp_path / "model.fastdl")
    again = fastdl.models.load_model(tmp_path / "model.fastdl")
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))


def test_messages():
    with pytest.raises(ValueError, match="Bidirectional: both layers have go_backwards=False\n"):
        Bidirectional(LSTM(2), backward_layer=LSTM(2))
    with pytest.raises(ValueError, match="Bidirectional: return_state is False in layer and True in backward_layer"):
        Bidirectional(LSTM(2), backward_layer=LSTM(2, go_backwards=True, return_state=True))
    with pytest.raises(ValueError, match="merge_mode is 'max'\n  known are concat, sum, mul, ave and None"):
        Bidirectional(LSTM(2), merge_mode="max")
    with pytest.raises(ValueError, match="layer is int; wanted is a recurrent layer"):
        Bidirectional(3)


@pytest.mark.parametrize("kind", [LSTM, GRU, layers.SimpleRNN])
@pytest.mark.parametrize("batch, units, other", [(3, 6, 4), (2, 512, 6), (40, 16, 16)])
def test_both_layers_at_once_give_what_each_gives_alone(kind, batch, units, other):
    x = np.random.default_rng(1).standard_normal((batch, 5, 4)).astype("float32")
    both = Bidirectional(kind(units, return_sequences=True), merge_mode=None, backward_layer=kind(other, return_sequences=True, go_backwards=True))
    y, z = both(x)
    assert both._alike()
    np.testing.assert_array_equal(both.forward_layer(x).numpy(), y.numpy())
    np.testing.assert_array_equal(both.backward_layer(x).numpy()[:, ::-1], z.numpy())


def test_what_does_not_recur_is_named():
    for arguments in dict(layer=layers.Dense(2)), dict(layer=layers.GRU(2), backward_layer=layers.Dense(2)):
        with pytest.raises(ValueError, match="layer is Dense; wanted is a recurrent layer"):
            layers.Bidirectional(**arguments)
