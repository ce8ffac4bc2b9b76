"""What test_every_op cannot see of gru and simple_rnn: sizes beyond a block, equal bits, rows alone, messages."""

import numpy as np
import pytest

import fastdl
from fastdl import ShapeError, Tensor, ops
from fastdl.op import ops_by_name
from fastdl.tensor import backward

ISAS = fastdl.config.available_isas()
KINDS = [("GRU", 3, {}), ("GRU", 3, {"reset_after": False}), ("SimpleRNN", 1, {})]


def inputs(rng, gates, options):
    """More rows than a block, units beyond whole vectors and panels, everything optional given."""
    bias = (2, gates * 37) if options.get("reset_after", gates == 3) else (gates * 37,)
    shapes = (19, 7, 5), (5, gates * 37), (37, gates * 37), bias, (19, 37), None, (19, 37)
    arrays = [rng.random((19, 7)) < 0.7 if s is None else (rng.standard_normal(s) * 0.4).astype("float32") for s in shapes]
    return arrays


def everything(name, arrays, **options):
    """Outputs and all gradients."""
    tensors = [Tensor(a, a.dtype.kind == "f") for a in arrays]
    outs = ops_by_name[name].apply(*tensors, **options)
    rng = np.random.default_rng(5)
    seeds = [rng.standard_normal(o.shape).astype("float32") for o in outs]
    return [o.array for o in outs] + backward(outs, seeds, targets=[t for t in tensors if t.requires_grad])


@pytest.mark.parametrize("name, gates, options", KINDS)
def test_agrees_with_the_definition(name, gates, options, rng, c_isa):
    arrays = inputs(rng, gates, options)
    op = ops_by_name[name].__new__(ops_by_name[name])
    op.__dict__.update(options, return_sequences=True)
    wanted = op.definition(*[a.astype("float64") if a.dtype.kind == "f" else a for a in arrays])
    for g, w in zip(ops_by_name[name].apply(*arrays, return_sequences=True, **options), wanted):
        np.testing.assert_allclose(g.numpy(), w, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name, gates, options", KINDS)
def test_gradients_agree_with_those_of_the_twins(name, gates, options, rng, c_isa):
    arrays = inputs(rng, gates, options)
    got = everything(name, arrays, return_sequences=True, **options)
    with fastdl.isa("numpy"):
        wanted = everything(name, [a.astype("float64") if a.dtype.kind == "f" else a for a in arrays], return_sequences=True, **options)
    for g, w in zip(got, wanted):
        np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-5 * max(1, np.abs(w).max()))


@pytest.mark.parametrize("name, gates, options", KINDS)
def test_bits_are_those_of_one_thread_and_of_the_other_instruction_set(name, gates, options, rng):
    arrays = inputs(rng, gates, options)
    fastdl._core.set_grain(0)
    found = set()
    for isa in [i for i in ISAS if i in ("avx2", "avx512")] or ISAS[-1:]:
        for threads in 1, 2, 5:
            with fastdl.isa(isa):
                fastdl.config.set_num_threads(threads)
                found.add(b"".join(a.tobytes() for a in everything(name, arrays, return_sequences=True, **options)))
    assert len(found) == 1


@pytest.mark.parametrize("name, gates, options", KINDS)
def test_a_row_is_the_same_alone_and_in_a_batch(name, gates, options, rng, c_isa):
    arrays = inputs(rng, gates, options)
    alone = [a[11:12] if a.shape[0] == 19 else a for a in arrays]
    for whole, one in zip(ops_by_name[name].apply(*arrays, **options), ops_by_name[name].apply(*alone, **options)):
        np.testing.assert_array_equal(whole.numpy()[11:12], one.numpy())


def test_large_inputs_saturate_and_nan_stays_in_its_row(c_isa):
    x = np.array([[[1e30]], [[-1e30]], [[np.nan]], [[0.5]]], "float32")
    h = ops.gru(x, np.ones((1, 6), "float32"), np.zeros((2, 6), "float32"))[0].numpy()
    assert np.abs(h[:2]).max() <= 1 and np.isnan(h[2]).all() and np.isfinite(h[3]).all()


def test_messages():
    x = np.zeros((4, 5, 3), "float32")
    with pytest.raises(ShapeError, match=r"gru: bias must have shape \(2, 6\)\n  x +\(4, 5, 3\) +batch, time, features"):
        ops.gru(x, np.zeros((3, 6), "float32"), np.zeros((2, 6), "float32"), np.zeros(6, "float32"))
    with pytest.raises(ShapeError, match=r"simple_rnn: kernel must have shape \(3, 2\)"):
        ops.simple_rnn(x, np.zeros((4, 2), "float32"), np.zeros((2, 2), "float32"))
