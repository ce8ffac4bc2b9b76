"""Cells and RNN: own cells, dropout masks, states in structures. The arithmetic: tests/test_recurrent_parity.py."""

import numpy as np
import pytest

import fastdl
from fastdl import ShapeError, Tensor, layers, ops
from fastdl.layers import GRUCell, LSTM, LSTMCell, RNN, SimpleRNN, SimpleRNNCell, StackedRNNCells

X = np.random.default_rng(0).standard_normal((3, 5, 4)).astype("float32")


class Sum(layers.Layer):
    """A cell of one's own: adds up its inputs."""

    state_size = 4

    def call(self, inputs, states):
        total = states + inputs if not isinstance(states, (list, tuple)) else states[0] + inputs
        return total, total


def test_a_cell_of_ones_own():
    layer = RNN(Sum(), return_sequences=True, return_state=True)
    out, state = layer(X)
    np.testing.assert_allclose(out.numpy(), X.cumsum(1), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(state.numpy(), out.numpy()[:, -1])
    backwards = RNN(Sum(), go_backwards=True, return_sequences=True)
    np.testing.assert_allclose(backwards(X).numpy(), X[:, ::-1].cumsum(1), rtol=1e-5, atol=1e-6)
    mask = np.array([[1, 0, 1, 0, 0], [0, 1, 1, 1, 1], [0, 0, 0, 0, 0]], bool)
    np.testing.assert_allclose(RNN(Sum())(X, mask=mask).numpy(), (X * mask[..., None]).sum(1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell, states", [(LSTMCell, 2), (GRUCell, 1), (SimpleRNNCell, 1)])
def test_a_cell_steps_as_its_layer_goes(cell, states):
    cell = cell(6)
    cell.build((3, 4))
    h = cell.get_initial_state(3)
    assert cell.state_size == ([6, 6] if states == 2 else 6) and cell.output_size == 6
    for t in range(5):
        out, h = cell(X[:, t], h)
    np.testing.assert_allclose(out.numpy(), RNN(cell)(X).numpy(), rtol=1e-4, atol=1e-6)


def test_dropout_masks_stay_until_they_are_reset():
    cell = SimpleRNNCell(4, dropout=0.5, seed=1)
    cell.build((3, 4))
    zeros = cell.get_initial_state(3)
    first, again = (cell(X[:, 0], zeros, training=True)[0].numpy() for _ in range(2))
    np.testing.assert_array_equal(first, again)
    cell.reset_dropout_mask()
    assert not np.array_equal(first, cell(X[:, 0], zeros, training=True)[0].numpy())
    layer = LSTM(4, activation="elu", recurrent_dropout=0.5, dropout=0.5, seed=3)        # step by step
    assert not np.array_equal(layer(X, training=True).numpy(), layer(X, training=True).numpy())
    np.testing.assert_array_equal(layer(X).numpy(), layer(X).numpy())


def test_stacked_cells_are_layers_one_upon_another():
    cells = [LSTMCell(6), SimpleRNNCell(2)]
    out, (h, c), last = RNN(cells, return_state=True)(X)
    first = LSTM(6, return_sequences=True, return_state=True)
    first.build(X.shape)
    first.set_weights(cells[0].get_weights())
    second = SimpleRNN(2)
    second.build((3, 5, 6))
    second.set_weights(cells[1].get_weights())
    sequence, h2, c2 = first(X)
    for got, wanted in (out, second(sequence)), (h, h2), (c, c2), (last, out):
        np.testing.assert_array_equal(got.numpy(), wanted.numpy())
    assert StackedRNNCells(cells).state_size == [[6, 6], 2]


def test_stateful_and_recorded():
    layer = RNN(StackedRNNCells([GRUCell(3), LSTMCell(2)]), stateful=True)
    a, b = layer(X).numpy(), layer(X).numpy()
    layer.reset_state()
    np.testing.assert_array_equal(layer(X).numpy(), a)
    assert not np.array_equal(a, b)
    plain = RNN(Sum())
    step = fastdl.record(lambda x: ops.sum(plain(x)))
    for _ in range(3):
        np.testing.assert_allclose(float(step(Tensor(X))), X.sum(), rtol=1e-4)


def test_messages():
    with pytest.raises(ValueError, match="a cell is called with inputs and states, and has a state_size"):
        RNN(lambda x, s: (x, s))
    with pytest.raises(ValueError, match="initial_state must be a list of one tensor, h\n"):
        SimpleRNN(3)(X, initial_state=[np.zeros((3, 3))] * 2)
    with pytest.raises(ShapeError, match="a cell wants two axes"):
        LSTMCell(3)(X, [X, X])
