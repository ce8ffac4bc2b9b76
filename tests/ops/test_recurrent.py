"""What test_every_op cannot see of the LSTM: sizes beyond a block, equal bits, masks of whole rows, what is kept, messages."""

import numpy as np
import pytest

import fastdl
from fastdl import ShapeError, Tensor, ops
from fastdl.op import ops_by_name
from fastdl.record import Program
from fastdl.tensor import backward

ISAS = fastdl.config.available_isas()


def weights(rng, features, units):
    return [(rng.standard_normal(s) * 0.3).astype("float32") for s in ((features, 4 * units), (units, 4 * units), (4 * units,))]


def everything(arrays, **options):
    """Outputs and all gradients."""
    tensors = [None if a is None else Tensor(a, a.dtype.kind == "f") for a in arrays]
    outs = ops.lstm(*tensors, **options)
    rng = np.random.default_rng(5)
    seeds = [rng.standard_normal(o.shape).astype("float32") for o in outs]
    return [o.array for o in outs] + backward(outs, seeds, targets=[t for t in tensors if t is not None and t.requires_grad])


@pytest.fixture
def large(rng):
    """More rows than a block, units beyond whole vectors and panels, everything optional given."""
    x = rng.standard_normal((19, 7, 5)).astype("float32")
    states = [rng.standard_normal((19, 37)).astype("float32") for _ in range(3)]
    return [x, *weights(rng, 5, 37), *states[:2], rng.random((19, 7)) < 0.7, states[2]]


@pytest.mark.parametrize("options", [dict(return_sequences=True), dict(go_backwards=True), dict(activation="sigmoid", recurrent_activation="tanh")])
def test_agrees_with_the_definition(large, options, c_isa):
    wide = [a.astype("float64") if a.dtype.kind == "f" else a for a in large]
    op = ops_by_name["LSTM"].__new__(ops_by_name["LSTM"])
    op.__dict__.update(options)
    for got, wanted in zip(ops.lstm(*large, **options), op.definition(*wide)):
        np.testing.assert_allclose(got.numpy(), wanted, rtol=2e-4, atol=2e-5)


def test_gradients_agree_with_those_of_the_twins(large, c_isa):
    got = everything(large, return_sequences=True)
    with fastdl.isa("numpy"):
        wanted = everything([a.astype("float64") if a.dtype.kind == "f" else a for a in large], return_sequences=True)
    for g, w in zip(got, wanted):
        np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-5 * max(1, np.abs(w).max()))


def test_bits_are_those_of_one_thread_and_of_the_other_instruction_set(large):
    fastdl._core.set_grain(0)
    found = set()
    for isa in [i for i in ISAS if i in ("avx2", "avx512")] or ISAS[-1:]:
        for threads in 1, 2, 5:
            with fastdl.isa(isa):
                fastdl.config.set_num_threads(threads)
                found.add(b"".join(a.tobytes() for a in everything(large, return_sequences=True)))
    assert len(found) == 1


def test_a_row_is_the_same_alone_and_in_a_batch(large, c_isa):
    for whole, alone in zip(ops.lstm(*large), ops.lstm(*[a[11:12] if a.shape[0] == 19 else a for a in large])):
        np.testing.assert_array_equal(whole.numpy()[11:12], alone.numpy())


@pytest.mark.parametrize("isa", ISAS)
def test_masked_steps_keep_state_and_output(isa, rng):
    """Keras: before the first step that counts the output is 0, even where initial_h is not."""
    x, initial = rng.standard_normal((2, 4, 3)).astype("float32"), np.full((2, 5), 0.5, "float32")
    mask = np.array([[False, True, False, False], [False] * 4])
    with fastdl.isa(isa):
        sequence, h, c = (o.numpy() for o in ops.lstm(x, *weights(rng, 3, 5), initial, initial, mask, return_sequences=True))
        last, h2, _ = (o.numpy() for o in ops.lstm(x, *weights(np.random.default_rng(0), 3, 5), initial, initial, mask))
    assert not sequence[:, 0].any() and not sequence[1].any() and (h[1] == 0.5).all() and (c[1] == 0.5).all()
    assert (sequence[0, 1:] == h[0]).all() and (last[0] == h2[0]).all() and not last[1].any()


def test_only_what_backward_needs_is_kept(rng):
    x, w = rng.standard_normal((4, 6, 3)).astype("float32"), weights(rng, 3, 8)
    sizes = []
    for requires_grad in False, True:
        program = Program()
        with program.recorded():
            ops.lstm(x, *[fastdl.tensor(a, requires_grad=requires_grad) for a in w])
        sizes.append(next(nbytes for kernel, _, nbytes, _ in program.about if kernel == "lstm"))
    assert sizes[1] - sizes[0] == 2 * 4 * 6 * 8 * 4          # h before and c after each step; the gates are kept in place


def test_large_inputs_saturate_and_nan_stays_in_its_row(c_isa):
    x = np.array([[[1e30]], [[-1e30]], [[np.nan]], [[0.5]]], "float32")
    ones = np.ones((1, 8), "float32")
    h = ops.lstm(x, ones, np.zeros((2, 8), "float32"), np.zeros(8, "float32"))[0].numpy()
    assert np.abs(h[0] - np.tanh(1)).max() < 1e-6 and not h[1].any() and np.isnan(h[2]).all() and np.isfinite(h[3]).all()


def test_messages():
    w = weights(np.random.default_rng(0), 3, 2)
    x = np.zeros((4, 5, 3), "float32")
    with pytest.raises(ShapeError, match=r"lstm: kernel must have shape \(7, 8\)\n  x +\(4, 5, 7\) +batch, time, features"):
        ops.lstm(np.zeros((4, 5, 7), "float32"), *w)
    with pytest.raises(ValueError, match="lstm: recurrent_activation is 'softsign'\n  known are linear, relu, sigmoid, tanh"):
        ops.lstm(x, *w, recurrent_activation="softsign")
    with pytest.raises(TypeError, match="lstm: mask has dtype float32; bool is wanted"):
        ops.lstm(x, *w, None, None, np.ones((4, 5), "float32"))


@pytest.mark.parametrize("batch, units", [(1, 128), (3, 130), (15, 256)])
def test_sharing_out_units_gives_the_bits_of_sharing_out_rows(batch, units, c_isa, rng):
    """A mask of ones leaves only the rows to be shared out."""
    x, states = rng.standard_normal((batch, 3, 2)).astype("float32"), [rng.standard_normal((batch, units)).astype("float32") for _ in range(2)]
    given = [x, *weights(rng, 2, units), *states]
    for options in dict(return_sequences=True), dict(go_backwards=True):
        apart = everything([*given, None], **options)
        rows = everything([*given, np.ones((batch, 3), bool)], **options)
        for i, (a, b) in enumerate(zip(apart, rows)):
            if i == 3 + 3:                                   # bias: the rows' gradients are summed in another order
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
            else:
                np.testing.assert_array_equal(a, b)
